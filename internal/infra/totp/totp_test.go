package totp_test

import (
	"bytes"
	"encoding/base32"
	"errors"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/fusionspim/steward/internal/base/sensitive"
	"github.com/fusionspim/steward/internal/infra/totp"
)

// vectors is the secret of the examples in RFC 4226, appendix D, and RFC 6238, appendix B.
func vectors() sensitive.String {
	return sensitive.New(base32.StdEncoding.EncodeToString([]byte("12345678901234567890")))
}

func TestVectors(t *testing.T) {
	tests := []struct {
		seconds int64
		code    string
	}{
		// RFC 4226, appendix D: the first ten steps
		{0, "755224"},
		{30, "287082"},
		{60, "359152"},
		{90, "969429"},
		{120, "338314"},
		{150, "254676"},
		{180, "287922"},
		{210, "162583"},
		{240, "399871"},
		{270, "520489"},
		// RFC 6238, appendix B: the last six of eight digits
		{
			59,
			"287082",
		},
		{1111111109, "081804"},
		{1111111111, "050471"},
		{1234567890, "005924"},
		{2000000000, "279037"},
		{20000000000, "353130"},
	}
	for _, test := range tests {
		now := time.Unix(test.seconds, 0)
		if code, err := totp.Code(vectors(), now); code != test.code || err != nil {
			t.Errorf("at %d the code is %s, %v", test.seconds, code, err)
		}
		if step, ok := totp.Verify(vectors(), test.code, now, -1); !ok || step != test.seconds/30 {
			t.Errorf("at %d: %d, %v", test.seconds, step, ok)
		}
	}
}

func TestWindowAndReplay(t *testing.T) {
	const present = 1_800_000_000 / 30
	now := time.Unix(present*30+29, 999)
	code := func(step int64) string {
		text, err := totp.Code(vectors(), time.Unix(step*30, 0))
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	tests := []struct {
		name       string
		step, last int64
		ok         bool
	}{
		{"two steps ago", present - 2, 0, false},
		{"the step before", present - 1, 0, true},
		{"the present step", present, 0, true},
		{"the step after", present + 1, 0, true},
		{"two steps ahead", present + 2, 0, false},
		{"the same again", present, present, false},
		{"the one before a used one", present - 1, present, false},
		{"the one after a used one", present + 1, present, true},
		{"the present one, after the one before", present, present - 1, true},
		{"after a step that is far ahead", present + 1, present + 1000, false},
	}
	for _, test := range tests {
		step, ok := totp.Verify(vectors(), code(test.step), now, test.last)
		if ok != test.ok || ok && step != test.step || !ok && step != 0 {
			t.Errorf("%s: %d, %v", test.name, step-present, ok)
		}
	}
}

// Two adjacent steps have the same code now and then, such as these. It must not be valid twice.
func TestACodeThatTwoStepsHaveCountsOnce(t *testing.T) {
	const step = 910737
	now := time.Unix(step*30, 0)
	code, err := totp.Code(vectors(), now)
	if next, _ := totp.Code(vectors(), now.Add(30*time.Second)); err != nil || next != code {
		t.Fatalf("the codes are %s and %s, %v", code, next, err)
	}
	used, ok := totp.Verify(vectors(), code, now, 0)
	if !ok || used != step+1 {
		t.Fatalf("took step %d, %v", used, ok)
	}
	if _, again := totp.Verify(vectors(), code, now, used); again {
		t.Fatal("it counted twice")
	}
}

func TestCodesAsTyped(t *testing.T) {
	now := time.Unix(59, 0)
	for text, good := range map[string]bool{
		"287082": true, "287 082": true, " 287082 ": true, "2 8 7 0 8 2": true, "": false, "      ": false, "28708": false, "0287082": false,
		"2870820": false, "287082\n": false, "287-082": false, "287\u00a0082": false, "２８７０８２": false, "+87082": false, "-87082": false,
		"28708a": false, "0x2870": false, "287082\x00": false, "287082 28708": false, "287082" + strings.Repeat(" ", 11): false,
		strings.Repeat(" ", 1<<20): false,
	} {
		if _, ok := totp.Verify(vectors(), text, now, 0); ok != good {
			t.Errorf("%.20q: %v", text, ok)
		}
	}
}

func TestSecretsThatAreNotOursLetNobodyIn(t *testing.T) {
	good := vectors().Reveal()
	for _, text := range []string{
		"", "A", good[:31], good + "A", strings.ToLower(good), good[:31] + "=", good[:31] + "1", " " + good[:31], good[:16], good[:31] + "\n",
		"\n" + strings.Repeat("\n", 31), strings.Repeat("=", 32),
	} {
		secret := sensitive.New(text)
		// The last two are the first codes of an empty secret.
		for _, code := range []string{"287082", "755224", "328482", "812658"} {
			if _, ok := totp.Verify(secret, code, time.Unix(59, 0), -1); ok {
				t.Errorf("%q lets in", text)
			}
		}
		if _, err := totp.Code(secret, time.Unix(59, 0)); !errors.Is(err, totp.ErrSecret) {
			t.Errorf("%q gives a code, %v", text, err)
		}
		if _, err := totp.URI(secret, "Steward", "acme"); !errors.Is(err, totp.ErrSecret) {
			t.Errorf("%q gives an address, %v", text, err)
		}
	}
}

func TestMomentsWithoutCodes(t *testing.T) {
	for _, seconds := range []int64{-1, -30, -31, -1 << 40, -1 << 62} {
		if _, ok := totp.Verify(vectors(), "755224", time.Unix(seconds, 0), -10); ok {
			t.Errorf("a code counted at %d", seconds)
		}
	}
	if _, err := totp.Code(vectors(), time.Time{}); err == nil {
		t.Error("there is a code for the zero time")
	}
	if step, ok := totp.Verify(vectors(), "755224", time.Unix(0, 0), -1); !ok || step != 0 {
		t.Error("the first step of all has a code")
	}
}

func TestVerifyRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		secret := totp.NewSecret()
		shown := time.Unix(rapid.Int64Range(60, 1<<35).Draw(t, "shown"), 0)
		typed := shown.Add(time.Duration(rapid.IntRange(-29, 29).Draw(t, "late")) * time.Second)
		last := rapid.Int64Range(0, shown.Unix()/30+3).Draw(t, "last")
		code, err := totp.Code(secret, shown)
		if err != nil || !regexp.MustCompile(`^[0-9]{6}$`).MatchString(code) {
			t.Fatalf("got %q, %v", code, err)
		}
		step, ok := totp.Verify(secret, code[:3]+" "+code[3:], typed, last)
		switch own := shown.Unix() / 30; {
		case ok && (step <= last || step < typed.Unix()/30-1 || step > typed.Unix()/30+1):
			t.Fatalf("step %d after %d", step, last)
		case !ok && own > last:
			t.Fatal("a good code was refused")
		case ok:
			if _, again := totp.Verify(secret, code, typed, step); again {
				t.Fatal("a code counted twice")
			}
		}
	})
}

func TestNewSecret(t *testing.T) {
	one, two := totp.NewSecret(), totp.NewSecret()
	if !regexp.MustCompile(`^[A-Z2-7]{32}$`).MatchString(one.Reveal()) || one.Reveal() == two.Reveal() {
		t.Fatal("not a secret, or the same twice")
	}
}

func TestURI(t *testing.T) {
	tests := []struct {
		name, issuer, account string
		good                  bool
	}{
		{"plain", "Steward", "acme-corp 1f3a", true},
		{"signs that an address must escape", "Füsions + Söhne & Co=?", "acme#1+2%20&a=b;c", true},
		{"sixty-four", strings.Repeat("é", 64), "a", true},
		{"no issuer", "", "acme", false},
		{"no account", "Steward", "", false},
		{"a colon", "Steward", "acme:1", false},
		{"a slash", "Steward", "acme/1", false},
		{"a line break", "Steward", "acme\n1", false},
		{"no text", "Steward", "acme\xff", false},
		{"a space at an end", "Steward ", "acme", false},
		{"sixty-five", strings.Repeat("é", 65), "a", false},
	}
	secret := totp.NewSecret()
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			uri, err := totp.URI(secret, test.issuer, test.account)
			if !test.good {
				if !errors.Is(err, totp.ErrLabel) || !uri.IsEmpty() {
					t.Fatalf("got %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			read, err := url.Parse(uri.Reveal())
			if err != nil {
				t.Fatal(err)
			}
			want := url.Values{
				"secret": {
					secret.Reveal(),
				},
				"issuer":    {test.issuer},
				"algorithm": {"SHA1"},
				"digits":    {"6"},
				"period":    {"30"},
			}
			got, err := url.ParseQuery(read.RawQuery)
			if err != nil || got.Encode() != want.Encode() || strings.Contains(uri.Reveal(), "+") {
				t.Errorf("the query is %v, %v", got, err)
			}
			if read.Scheme != "otpauth" || read.Host != "totp" || read.Path != "/"+test.issuer+":"+test.account {
				t.Errorf("the address is of %s %s %s", read.Scheme, read.Host, read.Path)
			}
		})
	}
}

func TestRecoveryCodes(t *testing.T) {
	codes, hashes := totp.NewRecoveryCodes(totp.RecoveryCodes)
	if len(codes) != 10 || len(hashes) != 10 {
		t.Fatalf("%d codes, %d hashes", len(codes), len(hashes))
	}
	form, seen := regexp.MustCompile(`^([0-9A-HJKMNP-TV-Z]{4}-){3}[0-9A-HJKMNP-TV-Z]{4}$`), map[string]bool{}
	for i, code := range codes {
		hash, err := totp.HashRecoveryCode(code.Reveal())
		if err != nil || !bytes.Equal(hash, hashes[i]) || len(hash) != 32 || seen[string(hash)] ||
			!form.MatchString(code.Reveal()) {
			t.Errorf("code %d went wrong: %v", i, err)
		}
		seen[string(hash)] = true
	}
	for _, n := range []int{0, -1} {
		if codes, hashes := totp.NewRecoveryCodes(n); len(codes) != 0 || len(hashes) != 0 {
			t.Errorf("%d gave %d codes", n, len(codes))
		}
	}
}

func TestRecoveryCodesAsTyped(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		codes, hashes := totp.NewRecoveryCodes(1)
		var typed strings.Builder
		for _, r := range strings.ReplaceAll(codes[0].Reveal(), "-", "") {
			typed.WriteString(
				strings.Repeat(
					rapid.SampledFrom([]string{"", "", "-", " "}).Draw(t, "between"),
					rapid.IntRange(0, 2).Draw(t, "times"),
				),
			)
			variants := []string{string(r), strings.ToLower(string(r))}
			switch r {
			case '0':
				variants = append(variants, "O", "o")
			case '1':
				variants = append(variants, "I", "i", "L", "l")
			}
			typed.WriteString(rapid.SampledFrom(variants).Draw(t, "letter"))
		}
		if hash, err := totp.HashRecoveryCode(typed.String()); err != nil || !bytes.Equal(hash, hashes[0]) {
			t.Fatalf("%q is not taken for %s: %v", typed.String(), codes[0].Reveal(), err)
		}
	})
}

func TestNoRecoveryCode(t *testing.T) {
	for _, text := range []string{
		"", "-", "287082", "287 082", "7KQ2-M0XB-95TD-HR3", "7KQ2-M0XB-95TD-HR3WW", "7KQ2-M0XB-95TD-HR3U", "7KQ2-M0XB-95TD-HR3é", "7KQ2-M0XB-95TD-HR3W\n",
		"7KQ2_M0XB_95TD_HR3W", "7KQ2–M0XB–95TD–HR3W", "7KQ2M0XB95TDHR3ı", "7KQ2M0XB95TDHR3\u212a", "7KQ2M0XB95TDHR3\x00",
		strings.Repeat("-", 1<<20) + "7KQ2M0XB95TDHR3W",
	} {
		if hash, err := totp.HashRecoveryCode(text); !errors.Is(err, totp.ErrRecoveryCode) || hash != nil {
			t.Errorf("%.20q gave %v", text, err)
		}
	}
}

func FuzzVerify(f *testing.F) {
	f.Add("287 082", int64(59), int64(0))
	f.Add("755224", int64(0), int64(-1))
	f.Add("28７082", int64(-1), int64(-1<<63))
	f.Fuzz(func(t *testing.T, code string, seconds, last int64) {
		step, ok := totp.Verify(vectors(), code, time.Unix(seconds, 0), last)
		if !ok {
			return
		}
		expected, err := totp.Code(vectors(), time.Unix(step*30, 0))
		if err != nil || strings.ReplaceAll(code, " ", "") != expected || step <= last || step < seconds/30-1 ||
			step > seconds/30+1 {
			t.Fatalf("took %q at %d after %d for step %d", code, seconds, last, step)
		}
	})
}

func FuzzHashRecoveryCode(f *testing.F) {
	f.Add("7KQ2-M0XB-95TD-HR3W")
	f.Add("ilo0 ILO1 uuuu ---")
	f.Fuzz(func(t *testing.T, text string) {
		hash, err := totp.HashRecoveryCode(text)
		if err != nil {
			if !errors.Is(err, totp.ErrRecoveryCode) || hash != nil {
				t.Fatalf("got %v", err)
			}
			return
		}
		again, err := totp.HashRecoveryCode(strings.ToLower(strings.ReplaceAll(text, "-", "")))
		if err != nil || !bytes.Equal(hash, again) || len(hash) != 32 {
			t.Fatalf("%q is not the same in small letters: %v", text, err)
		}
		if _, ok := totp.Verify(vectors(), text, time.Unix(59, 0), 0); ok {
			t.Fatalf("%q is also a code", text)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	now := time.Unix(1_800_000_000, 0)
	b.ReportAllocs()
	for b.Loop() {
		totp.Verify(vectors(), "000000", now, 0)
	}
}
