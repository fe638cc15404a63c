package address_test

import (
	"strings"
	"testing"

	"github.com/fusionspim/steward/internal/base/address"
)

func TestParseDomain(t *testing.T) {
	t.Parallel()
	label63 := strings.Repeat("a", 63)
	longest := strings.Repeat("a", 61) + "." + label63 + "." + label63 + "." + label63 // 253 octets
	for text, want := range map[string]string{
		"example.com": "example.com", "EXAMPLE.com": "example.com", "example.com.": "example.com",
		"sub.example.co.uk": "sub.example.co.uk", "bücher.example": "xn--bcher-kva.example",
		"BÜCHER.example": "xn--bcher-kva.example", "bu\u0308cher.example": "xn--bcher-kva.example",
		"xn--bcher-kva.example": "xn--bcher-kva.example", "例え。テスト": "xn--r8jz45g.xn--zckzah",
		label63 + ".example": label63 + ".example", longest: longest,
		"a\u200bb.example": "ab.example", // what no one sees does not count (UTS 46)
		// Refused.
		"": "", ".": "", "localhost": "", "example": "", ".example.com": "", "example..com": "", "example.com..": "",
		"exam ple.com": "", "a@example.com": "", "example.com:25": "", "[192.0.2.1]": "", "a_b.example": "", "example.com/x": "",
		"-a.example": "", "a-.example": "", "xn--\u00fc.example": "", "exam\x00ple.com": "", "a\u202eb.example": "",
		label63 + "a.example": "", "a" + longest: "",
	} {
		got, ok := address.ParseDomain(text)
		if ok != (want != "") || ok && got != want {
			t.Errorf("%q: %q, %t, want %q", text, got, ok, want)
		}
	}
}

// A domain in its normal form is its own normal form, and has no room for a second address.
func FuzzParseDomain(f *testing.F) {
	for _, seed := range []string{"example.com", "bücher.example", "例え。テスト", "xn--bcher-kva.example.", "a..b", "ⓔxample.com"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		domain, ok := address.ParseDomain(text)
		if !ok {
			return
		}
		if again, ok := address.ParseDomain(domain); !ok || again != domain {
			t.Errorf("%q → %q → %q, %t", text, domain, again, ok)
		}
		if len(domain) > 253 || !strings.Contains(domain, ".") || strings.ContainsAny(domain, "@ \x00\r\n,;<>\"") {
			t.Errorf("%q → %q", text, domain)
		}
		for _, char := range domain {
			if char >= 0x80 || 'A' <= char && char <= 'Z' {
				t.Errorf("%q → %q is not in lower-case ASCII", text, domain)
			}
		}
	})
}
