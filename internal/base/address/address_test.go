package address_test

import (
	"strings"
	"testing"

	"github.com/fusionspim/steward/internal/base/address"
)

func TestParse(t *testing.T) {
	t.Parallel()
	long := func(n int) string { return strings.Repeat("a", n) }
	labels := strings.Repeat(long(61)+".", 3) // 186 octets
	for text, want := range map[string]string{
		"ada@acme.example":                  "ada@acme.example",
		"Ada.O'Neil+x@ACME.example.":        "Ada.O'Neil+x@acme.example",
		"jürgen@bücher.example":             "jürgen@xn--bcher-kva.example",
		"ju\u0308rgen@bu\u0308cher.example": "jürgen@xn--bcher-kva.example",
		"用户@例え。テスト。":                        "用户@xn--r8jz45g.xn--zckzah",
		long(64) + "@acme.example":          long(64) + "@acme.example",
		"a@" + long(63) + ".example":        "a@" + long(63) + ".example",
		long(60) + "@" + labels + "example": long(60) + "@" + labels + "example", // 254

		"": "", "a": "", "@acme.example": "", "a@": "", "a@localhost": "", "a@acme.": "", "a@b@acme.example": "",
		".a@acme.example": "", "a.@acme.example": "", "a..b@acme.example": "", `"a"@acme.example`: "",
		"a b@acme.example": "", "a@ac me.example": "", "a@[192.0.2.1]": "", "a@ac_me.example": "", "a@-a.example": "",
		"Ada <a@acme.example>": "", "a😀@acme.example": "", "a\u200b@acme.example": "", "a\xff@acme.example": "",
		"a\n@acme.example": "", "a@acme.example\n": "", "a@acme..example": "", "\u037a@acme.example": "",
		long(65) + "@acme.example":                                     "",
		strings.Repeat("ü", 33) + "@a.test":                            "", // 66 octets
		"a@" + long(64) + ".example":                                   "",
		long(61) + "@" + labels + "example":                            "", // 255
		"aaaaaaaaaaaaaaaaaaaa@" + strings.Repeat("ü.", 30) + "example": "", // 268 in ASCII
	} {
		got, ok := address.Parse(text)
		if ok != (want != "") || ok && got.ASCII() != want {
			t.Errorf("%q: %q, %t, want %q", text, got.ASCII(), ok, want)
		}
	}
}

func TestParseStoredCountsOnlyWhatIsWritten(t *testing.T) {
	t.Parallel()
	text := "aaaaaaaaaaaaaaaaaaaa@" + strings.Repeat("ü.", 30) + "example"
	got, ok := address.ParseStored(text)
	if !ok || got.Text() != text || len(got.ASCII()) != 268 {
		t.Errorf("%q, %t, %d octets in ASCII", got.Text(), ok, len(got.ASCII()))
	}
}
