package password

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/nbutton23/zxcvbn-go/frequency"
	"pgregory.net/rapid"

	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/sensitive"
)

func TestTheListIsWhatItsPageSays(t *testing.T) {
	page, err := os.ReadFile("common/README.md")
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(commonList))
	if !bytes.Contains(page, []byte(hex.EncodeToString(sum[:]))) {
		t.Error("common/README.md speaks of another file")
	}
	if len(commonList) == 0 || len(commonList)%commonSize != 0 || len(commonList) > 1<<20 {
		t.Fatalf("the list has %d bytes", len(commonList))
	}
	hashes := slices.Collect(slices.Chunk([]byte(commonList), commonSize))
	if !slices.IsSortedFunc(hashes, bytes.Compare) ||
		len(slices.CompactFunc(slices.Clone(hashes), bytes.Equal)) != len(hashes) {
		t.Error("the list is not sorted, or holds something twice")
	}
	if probability := float64(len(hashes)) / (1 << 40); probability > 1e-6/(commonTail+1) {
		t.Errorf("a false positive has a probability of %g", probability)
	}
}

func TestEveryCommonPasswordIsRefused(t *testing.T) {
	refused := 0
	for _, word := range frequency.Lists["Passwords"].List {
		if utf8.RuneCountInString(word) < MinLengthWithSecondFactor {
			continue
		}
		for _, variant := range []string{word, strings.ToUpper(word), word + "1", word + "2026!"} {
			if !isCommon(commonList, variant) {
				t.Errorf("%q is not on the list", variant)
			}
		}
		refused++
	}
	if refused < 1000 {
		t.Fatalf("the source has %d words only", refused)
	}
}

func TestCommonIsNotTooMuch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`[a-z]{4}[0-9][a-z]{6,20}[0-9!?]{0,9}[a-z]`).Draw(t, "text")
		if isCommon(commonList, text) {
			t.Fatalf("%q is on the list", text)
		}
	})
}

func TestIsCommon(t *testing.T) {
	list := string(EncodeCommon([]string{"Sunshine", "12345678", "geheimniß", "short", "ｆｕｌｌｗｉｄｅ", "sunshine"}))
	if len(list) != 4*commonSize {
		t.Fatalf("the list has %d bytes", len(list))
	}
	tests := []struct {
		password string
		common   bool
	}{
		{"sunshine", true},
		{"SunShine", true},
		{"ｓｕｎｓｈｉｎｅ", true},
		{"sunshine1", true},
		{"Sunshine2026", true},
		{"sunshine 2026!!", true},
		{"sunshine12345678", true},
		{"sunshine123456789", false}, // a longer tail is judged by score
		{"sunshine①", true},          // becomes sunshine1
		{"sunshine_x", false},
		{"xsunshine", false},
		{"1sunshine", false},
		{"12345678", true},
		{"12345678!", true},
		{"1234567", false},
		{"GEHEIMNISS", true},
		{"geheimniß!", true},
		{"fullwide", true},
		{"short", false},
		{"short2026", false},
		{"", false},
		{"!!!!!!!!!!!!!!!", false},
	}
	for _, test := range tests {
		if got := isCommon(list, test.password); got != test.common {
			t.Errorf("%q: %v", test.password, got)
		}
	}
	if isCommon("", "sunshine") {
		t.Error("an empty list holds something")
	}
}

func TestEncodeCommonKeepsEveryWord(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		words := rapid.SliceOfN(rapid.StringMatching(`[a-zA-Zäß①Ω0-9!]{8,20}`), 0, 50).Draw(t, "words")
		list := string(EncodeCommon(words))
		for _, word := range words {
			if folded := foldCase(word); !listed(list, folded) || !isCommon(list, word) {
				t.Fatalf("%q is lost", word)
			}
		}
		if list != string(EncodeCommon(append(words, words...))) {
			t.Fatal("the same words gave another list")
		}
	})
}

func TestRules(t *testing.T) {
	tests := []struct {
		name, password string
		rules          Rules
		detail         string // how it begins; empty where the password is taken
	}{
		{"eight of chance, with a second factor", "xkqzjvwp", Rules{MinLength: 8}, ""},
		{"seven", "xkqzjvw", Rules{MinLength: 8}, "The password is too short: use at least 8 characters."},
		{"eight, without", "xkqzjvwp", Rules{}, "The password is too short: use at least 15 characters."},
		{
			"no rule asks for less than 8",
			"xkqzjvw",
			Rules{MinLength: 1},
			"The password is too short: use at least 8 characters.",
		},
		{
			"nor for a negative number",
			"xkqzjvw",
			Rules{MinLength: -1},
			"The password is too short: use at least 8 characters.",
		},
		{
			"a rule may ask for more",
			"xkqzjvwpdhytbng",
			Rules{MinLength: 20},
			"The password is too short: use at least 20 characters.",
		},
		{"a common one", "Trustno1", Rules{MinLength: 8}, "The password is one that many people use"},
		{"a common one with a year", "trustno1-2026", Rules{MinLength: 8}, "The password is one that many people use"},
		{"a common one made long enough", "trustno12026!?!", Rules{}, "The password is one that many people use"},
		{"easy, though on no list", "aaaabbbbcccc", Rules{MinLength: 8}, "The password is easy to guess."},
		{"the person's own name", "mariecurie1867", Rules{MinLength: 8}, "The password is easy to guess."},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := CheckWith(
				sensitive.New(test.password),
				Person{FirstName: "Marie", LastName: "Curie"},
				"/password",
				test.rules,
			)
			var weak *fault.Fault
			switch {
			case test.detail == "" && err != nil:
				t.Fatalf("refused: %v", err)
			case test.detail == "":
			case !errors.As(err, &weak) || weak.Code != fault.WeakPassword || !strings.HasPrefix(weak.Detail, test.detail):
				t.Fatalf("got %v", err)
			case strings.Contains(weak.Detail, test.password):
				t.Fatal("the fault holds the password")
			}
		})
	}
}

func BenchmarkIsCommon(b *testing.B) {
	for name, text := range map[string]string{
		"four words": "correct horse battery staple", "listed": "trustno1", "with a tail": "correcthorsestaple12345678",
		"longest": strings.Repeat("é", MaxLength),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				isCommon(commonList, text)
			}
		})
	}
}
