package seal_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/fusionspim/steward/internal/base/sensitive"
	"github.com/fusionspim/steward/internal/infra/seal"
)

func masterKey() []byte {
	key := make([]byte, seal.MasterKeySize)
	for i := range key {
		key[i] = byte(i*7 + 1)
	}
	return key
}

func box(t testing.TB) *seal.Box {
	t.Helper()
	made, err := seal.New(masterKey())
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func TestParseMasterKey(t *testing.T) {
	text := base64.StdEncoding.EncodeToString(masterKey())
	tests := []struct {
		name string
		text string
		good bool
	}{
		{"padded", text, true},
		{"raw", strings.TrimRight(text, "="), true},
		{"ends in a line break, as from a file", text + "\n", true},
		{"empty", "", false},
		{"31 bytes", base64.StdEncoding.EncodeToString(masterKey()[:31]), false},
		{"33 bytes", base64.StdEncoding.EncodeToString(append(masterKey(), 1)), false},
		{"64 bytes", base64.StdEncoding.EncodeToString(append(masterKey(), masterKey()...)), false},
		{"not base64", strings.Repeat("!", 44), false},
		{"a line break inside", text[:20] + "\n" + text[20:], false},
		{"a line break instead of a letter", text[:20] + "\n" + text[21:], false},
		{"bits left over", strings.TrimRight(text, "=")[:42] + "9", false},
		{"a placeholder of zeros", base64.StdEncoding.EncodeToString(make([]byte, 32)), false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			made, err := seal.ParseMasterKey(sensitive.New(test.text))
			if test.good != (err == nil) || test.good != (made != nil) {
				t.Fatalf("got %v, %v", made != nil, err)
			}
			if err != nil && !errors.Is(err, seal.ErrMasterKey) {
				t.Fatalf("unexpected error %v", err)
			}
		})
	}
}

func TestPaddedAndRawAreTheSameKey(t *testing.T) {
	text := base64.StdEncoding.EncodeToString(masterKey())
	one, err := seal.ParseMasterKey(sensitive.New(text))
	if err != nil {
		t.Fatal(err)
	}
	sealed := one.Seal("a", []byte("x"), nil)
	if opened, err := box(t).Open("a", sealed, nil); err != nil || string(opened) != "x" {
		t.Fatalf("got %q, %v", opened, err)
	}
}

func TestRoundTrip(t *testing.T) {
	sealer := box(t)
	rapid.Check(t, func(t *rapid.T) {
		label := rapid.String().Draw(t, "label")
		plaintext := rapid.SliceOf(rapid.Byte()).Draw(t, "plaintext")
		additional := rapid.SliceOf(rapid.Byte()).Draw(t, "additional")
		sealed := sealer.Seal(label, plaintext, additional)
		if len(sealed) != len(plaintext)+seal.Overhead {
			t.Fatalf("the box has %d bytes for %d", len(sealed), len(plaintext))
		}
		opened, err := sealer.Open(label, sealed, additional)
		if err != nil || !bytes.Equal(opened, plaintext) {
			t.Fatalf("got %x, %v", opened, err)
		}

		spoilt := bytes.Clone(sealed)
		spoilt[rapid.IntRange(0, len(spoilt)-1).Draw(t, "at")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		if _, err := sealer.Open(label, spoilt, additional); !errors.Is(err, seal.ErrOpen) {
			t.Fatalf("a changed box gave %v", err)
		}
		if _, err := sealer.Open(label+"x", sealed, additional); !errors.Is(err, seal.ErrOpen) {
			t.Fatalf("another label gave %v", err)
		}
		if _, err := sealer.Open(label, sealed, append(additional, 0)); !errors.Is(err, seal.ErrOpen) {
			t.Fatalf("other additional data gave %v", err)
		}
		short := rapid.IntRange(0, len(sealed)-1).Draw(t, "short")
		if _, err := sealer.Open(label, sealed[:short], additional); !errors.Is(err, seal.ErrOpen) {
			t.Fatalf("a cut box gave %v", err)
		}
	})
}

func TestBoxesOfOnePlaintextDiffer(t *testing.T) {
	sealer := box(t)
	if bytes.Equal(sealer.Seal("a", []byte("x"), nil), sealer.Seal("a", []byte("x"), nil)) {
		t.Fatal("two boxes are equal")
	}
}

func TestAnotherMasterKeyOpensNothing(t *testing.T) {
	other := masterKey()
	other[31] ^= 1
	stranger, err := seal.New(other)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stranger.Open("a", box(t).Seal("a", []byte("x"), nil), nil); !errors.Is(err, seal.ErrOpen) {
		t.Fatalf("got %v", err)
	}
	if stranger.ValidMAC("a", box(t).MAC("a", []byte("x")), []byte("x")) {
		t.Fatal("another key's code was taken")
	}
}

func TestMACIsUnambiguous(t *testing.T) {
	sealer := box(t)
	variants := [][][]byte{
		{}, {{}}, {{}, {}}, {[]byte("ab"), []byte("c")}, {[]byte("a"), []byte("bc")}, {[]byte("abc")}, {[]byte("abc"), {}}, {{}, []byte("abc")},
	}
	seen := map[string]int{}
	for i, parts := range variants {
		for _, label := range []string{"x", "y"} {
			mac := sealer.MAC(label, parts...)
			if len(mac) != seal.MACSize {
				t.Fatalf("a code of %d bytes", len(mac))
			}
			if before, ok := seen[string(mac)]; ok {
				t.Fatalf("variants %d and %d have the same code", before, i)
			}
			seen[string(mac)] = i
			if !sealer.ValidMAC(label, mac, parts...) || sealer.ValidMAC(label, mac[:31], parts...) || sealer.ValidMAC(label, nil, parts...) {
				t.Fatalf("variant %d: checking went wrong", i)
			}
		}
	}
}

func TestConcurrentUse(t *testing.T) {
	sealer := box(t)
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			for range 50 {
				label := fmt.Sprint("label ", i%3)
				if _, err := sealer.Open(label, sealer.Seal(label, []byte("x"), nil), nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
}

func TestABoxPrintsNothing(t *testing.T) {
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		if text := fmt.Sprintf(verb, box(t)); text != "***" {
			t.Errorf("%s prints %q", verb, text)
		}
	}
}

func BenchmarkSeal(b *testing.B) {
	sealer := box(b)
	plaintext := make([]byte, 256)
	for b.Loop() {
		sealer.Seal("bench", plaintext, nil)
	}
}

func BenchmarkMAC(b *testing.B) {
	sealer := box(b)
	part := make([]byte, 64)
	for b.Loop() {
		sealer.MAC("bench", part)
	}
}
