package user_test

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/fusionspim/steward/internal/account/user"
	"github.com/fusionspim/steward/internal/base/fault"
)

func TestCleanName(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"Ada": "Ada", "  Ada \t": "Ada", "van der Berg": "van der Berg", "O'Brien-Smith": "O'Brien-Smith", "李": "李",
		"Zoe\u0308": "Zo\u00eb", "Ægir Þór": "Ægir Þór", "محمد": "محمد", "X Æ A-12": "X Æ A-12", "=1+1": "=1+1",
		"نیما\u200cزاده": "نیما\u200cزاده", "श\u094dर\u0940": "श\u094dर\u0940", "क\u094d\u200dष": "क\u094d\u200dष",
		strings.Repeat("é", 100):       strings.Repeat("é", 100),
		strings.Repeat("e\u0301", 100): strings.Repeat("é", 100), // counted as it is kept
		"<script>":                     "<script>",               // escaping is the page's business
		// Refused.
		"": "", " ": "", "\u00a0": "", "\u3000": "", "\u200c": "", "\u200d\u200c": "", "a\x00b": "", "a\nb": "", "a\tb": "", "a\u007fb": "",
		"a\u202eb": "", "a\u2066b": "", "a\u200eb": "", "a\u200bb": "", "a\ufeffb": "", "a\u00adb": "", "a\u2028b": "", "a\u2029b": "",
		"a\ufffdb": "", "a\xffb": "", "a\ue000b": "", "a\U000e0041b": "", strings.Repeat("a", 101): "",
	} {
		got, err := user.CleanName(text, "/first_name")
		if want == "" {
			var f *fault.Fault
			if !errors.As(err, &f) || f.Code != fault.InvalidName || len(f.Members) != 1 ||
				f.Members[0].Pointer != "/first_name" {
				t.Errorf("%q is taken: %q, %v", text, got, err)
			}
		} else if err != nil || got != want {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
}

func TestParseAddress(t *testing.T) {
	t.Parallel()
	local64 := strings.Repeat("a", 64)
	for text, want := range map[string]user.Address{
		"ada@example.com":           {Text: "ada@example.com", Key: "ada@example.com"},
		"Ada.Lovelace@Example.COM":  {Text: "Ada.Lovelace@example.com", Key: "ada.lovelace@example.com"},
		"ada@example.com.":          {Text: "ada@example.com", Key: "ada@example.com"},
		"ada+tag@example.com":       {Text: "ada+tag@example.com", Key: "ada+tag@example.com"},
		"o'brien@example.com":       {Text: "o'brien@example.com", Key: "o'brien@example.com"},
		"!#$%&'*+-/=?^_`{|}~@a.b":   {Text: "!#$%&'*+-/=?^_`{|}~@a.b", Key: "!#$%&'*+-/=?^_`{|}~@a.b"},
		"ada@bücher.example":        {Text: "ada@bücher.example", Key: "ada@xn--bcher-kva.example"},
		"ada@BÜCHER.example":        {Text: "ada@bücher.example", Key: "ada@xn--bcher-kva.example"},
		"ada@xn--bcher-kva.example": {Text: "ada@xn--bcher-kva.example", Key: "ada@xn--bcher-kva.example"},
		"zoe\u0308@example.com":     {Text: "zo\u00eb@example.com", Key: "zo\u00eb@example.com"},
		"STRASSE@example.com":       {Text: "STRASSE@example.com", Key: "strasse@example.com"},
		"straße@example.com":        {Text: "straße@example.com", Key: "strasse@example.com"},
		"李@example.com":             {Text: "李@example.com", Key: "李@example.com"},
		local64 + "@example.com":    {Text: local64 + "@example.com", Key: local64 + "@example.com"},
		"1@2.example":               {Text: "1@2.example", Key: "1@2.example"},
	} {
		if got, err := user.ParseAddress(text, "/email"); err != nil || got != want {
			t.Errorf("%q: %+v, %v, want %+v", text, got, err, want)
		}
	}
	for name, text := range map[string]string{
		"empty": "", "no at sign": "ada.example.com", "two at signs": "ada@b@example.com", "no local part": "@example.com",
		"no domain": "ada@", "one label": "ada@localhost", "display name": "Ada <ada@example.com>", "angle brackets": "<ada@example.com>",
		"comment": "ada(x)@example.com", "quoted local part": `"ada"@example.com`, "address literal": "ada@[192.0.2.1]",
		"dot in front": ".ada@example.com", "dot behind": "ada.@example.com", "two dots": "ada..b@example.com",
		"space": "a da@example.com", "space in front": " ada@example.com", "space behind": "ada@example.com ",
		"line break": "ada@example.com\n", "header injection": "ada@example.com\r\nBcc: b@example.com", "NUL": "ada\x00@example.com",
		"comma": "ada,b@example.com", "semicolon": "ada;b@example.com", "two addresses": "ada@example.com,b@example.com",
		"zero-width space": "ada\u200b@example.com", "direction": "ada\u202e@example.com", "soft hyphen": "a\u00adda@example.com",
		"no-break space": "a\u00a0da@example.com", "full-width at sign": "ada\uff20example.com", "emoji": "a😀@example.com",
		"not UTF-8": "ada\xff@example.com", "local part of 65": local64 + "a@example.com", "hyphen in front of a label": "ada@-a.example",
		"empty label": "ada@a..example", "underscore in the domain": "ada@a_b.example", "port": "ada@example.com:25",
		"255 octets": "a@" + strings.Repeat("a", 63) + "." + strings.Repeat("a", 63) + "." + strings.Repeat("a", 63) + "." + strings.Repeat("a", 61),
	} {
		_, err := user.ParseAddress(text, "/email")
		var f *fault.Fault
		if !errors.As(err, &f) || f.Code != fault.InvalidEmail || len(f.Members) != 1 ||
			f.Members[0].Pointer != "/email" {
			t.Errorf("%s: %q is taken: %v", name, text, err)
		} else if shown := f.Detail + f.Members[0].Detail; name != "no local part" && text != "" &&
			strings.Contains(shown, text) {
			t.Errorf("%s: the fault repeats the address: %s", name, shown)
		}
	}
}

// Spellings of an address share an account; dots and tags do not.
func TestAddressesAreComparedByTheirKeys(t *testing.T) {
	t.Parallel()
	key := func(text string) string {
		address, err := user.ParseAddress(text, "/email")
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		return address.Key
	}
	for _, same := range [][2]string{
		{"ada@example.com", "ADA@EXAMPLE.COM"}, {"zo\u00eb@example.com", "zoe\u0308@example.com"}, {"straße@example.com", "STRASSE@example.com"},
		{"ada@bücher.example", "ada@xn--bcher-kva.example"}, {"ﬁ@example.com", "fi@example.com"}, {"ΣΑΣ@example.com", "σας@example.com"},
	} {
		if key(same[0]) != key(same[1]) {
			t.Errorf("%q and %q are two people's", same[0], same[1])
		}
	}
	for _, other := range [][2]string{
		{"ada@example.com", "a.da@example.com"}, {"ada@example.com", "ada+x@example.com"}, {"ada@example.com", "ada@example.org"},
		{"ada@example.com", "\u0430da@example.com"}, // a Cyrillic letter
		{"I@example.com", "ı@example.com"},          // whatever the language of the machine
	} {
		if key(other[0]) == key(other[1]) {
			t.Errorf("%q and %q are one person's", other[0], other[1])
		}
	}
}

func FuzzParseAddress(f *testing.F) {
	for _, seed := range []string{
		"ada@example.com", "Zoe\u0308@BÜCHER.example.", "straße@xn--bcher-kva.example", "李@例え。テスト", "\"a\"@b.c", "a@b@c.d", "\uff41@a.b", "ﷺ@a.b",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		address, err := user.ParseAddress(text, "/email")
		if err != nil {
			return
		}
		again, err := user.ParseAddress(address.Text, "/email")
		if err != nil || again != address {
			t.Errorf("%q → %+v → %+v, %v", text, address, again, err)
		}
		for _, form := range []string{address.Text, address.Key} {
			if strings.Count(form, "@") != 1 || strings.ContainsAny(form, " \x00\r\n,;<>()[]\"\\:") ||
				!utf8.ValidString(form) {
				t.Errorf("%q → %q", text, form)
			}
		}
		if !norm.NFC.IsNormalString(address.Text) {
			t.Errorf("%q → %q is not NFC", text, address.Text)
		}
	})
}

func FuzzCleanName(f *testing.F) {
	for _, seed := range []string{"Ada", " Zoe\u0308 ", "نیما\u200cزاده", "a\u202eb", "\u200d", "\u1160"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		name, err := user.CleanName(text, "/first_name")
		if err != nil {
			return
		}
		if again, err := user.CleanName(name, "/first_name"); err != nil || again != name {
			t.Errorf("%q → %q → %q, %v", text, name, again, err)
		}
		if n := utf8.RuneCountInString(name); n < 1 || n > 100 || strings.ContainsAny(name, "\x00\r\n\u202e\u2066") {
			t.Errorf("%q → %q", text, name)
		}
	})
}
