package id_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/fusionspim/steward/internal/base/id"
)

func TestNewIsVersion7AndGrows(t *testing.T) {
	t.Parallel()
	before := id.New[id.User]()
	for range 1000 {
		next := id.New[id.User]()
		if next.Version() != 7 || next.Variant().String() != "RFC4122" {
			t.Fatalf("%v is version %d, variant %v", next, next.Version(), next.Variant())
		}
		if bytes.Compare(before.UUID[:], next.UUID[:]) >= 0 {
			t.Fatalf("%v does not come after %v", next, before)
		}
		before = next
	}
}

func TestParseTakesTheCanonicalFormOnly(t *testing.T) {
	t.Parallel()
	const canonical = "0195503a-4000-7abc-8def-0123456789ab"
	for _, text := range []string{canonical, strings.ToUpper(canonical)} {
		if got, err := id.Parse[id.User](text); err != nil || got.String() != canonical {
			t.Errorf("%q: got %v, %v", text, got, err)
		}
	}
	for name, text := range map[string]string{
		"empty":              "",
		"braces":             "{" + canonical + "}",
		"URN":                "urn:uuid:" + canonical,
		"no hyphens":         strings.ReplaceAll(canonical, "-", ""),
		"one too short":      canonical[:35],
		"one too long":       canonical + "0",
		"not hexadecimal":    "g" + canonical[1:],
		"hyphens misplaced":  "0195503a4-000-7abc-8def-0123456789ab",
		"space in front":     " " + canonical[:35],
		"line break behind":  canonical[:35] + "\n",
		"36 bytes, no UTF-8": strings.Repeat("\xff", 36),
		"lower-case sign":    "\u212A" + canonical[3:], // the Kelvin sign, which lower-cases to k
	} {
		if got, err := id.Parse[id.User](text); !errors.Is(err, id.ErrMalformed) || !got.IsZero() {
			t.Errorf("%s: got %v, %v", name, got, err)
		}
	}
}

func TestIsZero(t *testing.T) {
	t.Parallel()
	if !(id.User{}).IsZero() || id.New[id.User]().IsZero() {
		t.Error("IsZero does not report whether the identifier was set")
	}
}

func TestJSONIsTheCanonicalText(t *testing.T) {
	t.Parallel()
	want := id.New[id.APIKey]()
	text, err := json.Marshal(want)
	if err != nil || string(text) != `"`+want.String()+`"` {
		t.Fatalf("encoded as %s, %v", text, err)
	}
	var got id.APIKey
	if err := json.Unmarshal(text, &got); err != nil || got != want {
		t.Errorf("decoded as %v, %v", got, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("0195503a-4000-7abc-8def-0123456789ab")
	f.Add("0195503A-4000-7ABC-8DEF-0123456789AB")
	f.Add("00000000-0000-0000-0000-000000000000")
	f.Add("{0195503a-4000-7abc-8def-0123456789ab")
	f.Fuzz(func(t *testing.T, text string) {
		parsed, err := id.Parse[id.User](text)
		if err == nil && parsed.String() != strings.ToLower(text) {
			t.Errorf("%q is an identifier that prints as %q: one thing has two addresses", text, parsed)
		}
	})
}
