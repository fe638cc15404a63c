package token_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/fusionspim/steward/internal/id"
	"github.com/fusionspim/steward/internal/token"
)

func TestAPIKeyRoundTrip(t *testing.T) {
	form := regexp.MustCompile(`^stw_[0-9a-f]{32}_[0-9A-Za-z]{49}$`)
	rapid.Check(t, func(t *rapid.T) {
		keyID := drawID[id.APIKey](t)
		text, hash := token.NewAPIKey(keyID)
		if !form.MatchString(text.Reveal()) {
			t.Fatal("another form")
		}
		gotID, gotHash, err := token.ParseAPIKey(text.Reveal())
		if err != nil || gotID != keyID || !token.SameHash(hash, gotHash) || len(hash) != sha256.Size {
			t.Fatalf("got %v, %v", gotID, err)
		}
		if _, other := token.NewAPIKey(keyID); token.SameHash(hash, other) {
			t.Fatal("two keys have one hash")
		}
		spoilt := spoil(t, text.Reveal())
		if _, _, err := token.ParseAPIKey(spoilt); !errors.Is(err, token.ErrMalformed) {
			t.Fatalf("a changed text gave %v", err)
		}
		if _, _, _, err := token.ParseRefresh(text.Reveal()); !errors.Is(err, token.ErrMalformed) {
			t.Fatalf("as a refresh token it gave %v", err)
		}
	})
}

func TestRefreshRoundTrip(t *testing.T) {
	form := regexp.MustCompile(`^str_[0-9A-Za-z]{92}$`)
	rapid.Check(t, func(t *rapid.T) {
		customer, session := drawID[id.Customer](t), drawID[id.Session](t)
		text, hash := token.NewRefresh(customer, session)
		if !form.MatchString(text.Reveal()) {
			t.Fatal("another form")
		}
		gotCustomer, gotSession, gotHash, err := token.ParseRefresh(text.Reveal())
		if err != nil || gotCustomer != customer || gotSession != session || !token.SameHash(hash, gotHash) {
			t.Fatalf("got %v, %v, %v", gotCustomer, gotSession, err)
		}
		if _, other := token.NewRefresh(customer, session); token.SameHash(hash, other) {
			t.Fatal("two tokens have one hash")
		}
		spoilt := spoil(t, text.Reveal())
		if _, _, _, err := token.ParseRefresh(spoilt); !errors.Is(err, token.ErrMalformed) {
			t.Fatalf("a changed text gave %v", err)
		}
		if _, _, err := token.ParseAPIKey(text.Reveal()); !errors.Is(err, token.ErrMalformed) {
			t.Fatalf("as an API key it gave %v", err)
		}
	})
}

func drawID[T id.ID[K], K any](t *rapid.T) T {
	raw := rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id")
	if bytes.Equal(raw, make([]byte, 16)) {
		raw[0] = 1
	}
	return T{UUID: uuid.UUID(raw)}
}

// spoil changes, adds or drops one character. One changed character is one burst of at most eight bits, which a CRC-32 always sees.
func spoil(t *rapid.T, text string) string {
	at := rapid.IntRange(0, len(text)-1).Draw(t, "at")
	switch rapid.SampledFrom([]string{"change", "add", "drop"}).Draw(t, "how") {
	case "change":
		other := rapid.Byte().Filter(func(b byte) bool { return b != text[at] }).Draw(t, "other")
		return text[:at] + string([]byte{other}) + text[at+1:]
	case "add":
		return text[:at] + "A" + text[at:]
	default:
		return text[:at] + text[at+1:]
	}
}

func TestParseRefuses(t *testing.T) {
	apiKey, _ := token.NewAPIKey(id.New[id.APIKey]())
	refresh, _ := token.NewRefresh(id.New[id.Customer](), id.New[id.Session]())
	zeroKey, _ := token.NewAPIKey(id.APIKey{})
	zeroRefresh, _ := token.NewRefresh(id.Customer{}, id.New[id.Session]())
	for _, text := range []string{
		"", "stw_", "str_", "stw_" + strings.Repeat("0", 82), "str_" + strings.Repeat("0", 92), zeroKey.Reveal(), zeroRefresh.Reveal(),
		apiKey.Reveal() + "\n", " " + apiKey.Reveal(), strings.ToUpper(apiKey.Reveal()), strings.ToLower(refresh.Reveal()),
		"STW_" + apiKey.Reveal()[4:], refresh.Reveal() + "=", strings.Repeat("stw_", 10000),
	} {
		if _, hash, err := token.ParseAPIKey(text); !errors.Is(err, token.ErrMalformed) || hash != nil {
			t.Errorf("as an API key %.20q gave %v", text, err)
		}
		if _, _, hash, err := token.ParseRefresh(text); !errors.Is(err, token.ErrMalformed) || hash != nil {
			t.Errorf("as a refresh token %.20q gave %v", text, err)
		}
	}
}

func TestSameHash(t *testing.T) {
	one, two := sha256.Sum256([]byte("1")), sha256.Sum256([]byte("2"))
	if !token.SameHash(one[:], one[:]) || token.SameHash(one[:], two[:]) || token.SameHash(nil, nil) || token.SameHash(one[:31], one[:31]) ||
		token.SameHash(one[:], nil) {
		t.Fatal("wrong")
	}
}

func FuzzParseAPIKey(f *testing.F) {
	text, _ := token.NewAPIKey(id.New[id.APIKey]())
	f.Add(text.Reveal())
	f.Add("stw_" + strings.Repeat("0", 82))
	f.Fuzz(func(t *testing.T, text string) {
		keyID, hash, err := token.ParseAPIKey(text)
		if err != nil {
			return
		}
		if want := "stw_" + strings.ReplaceAll(keyID.String(), "-", "") + "_"; !strings.HasPrefix(text, want) || len(hash) != sha256.Size {
			t.Fatalf("took %q as %v", text, keyID)
		}
	})
}

func FuzzParseRefresh(f *testing.F) {
	text, _ := token.NewRefresh(id.New[id.Customer](), id.New[id.Session]())
	f.Add(text.Reveal())
	f.Fuzz(func(t *testing.T, text string) {
		if customer, session, hash, err := token.ParseRefresh(text); err == nil && (customer.IsZero() || session.IsZero() || len(hash) != sha256.Size) {
			t.Fatalf("took %q", text)
		}
	})
}

func BenchmarkParseAPIKey(b *testing.B) {
	text, _ := token.NewAPIKey(id.New[id.APIKey]())
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := token.ParseAPIKey(text.Reveal()); err != nil {
			b.Fatal(err)
		}
	}
}
