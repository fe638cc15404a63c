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

	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/sensitive"
	"github.com/fusionspim/steward/internal/infra/token"
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
		for _, kind := range bearers() {
			if _, _, _, err := kind.parse(text.Reveal()); !errors.Is(err, token.ErrMalformed) {
				t.Fatalf("as a %s it gave %v", kind.name, err)
			}
		}
	})
}

// bearer is a kind of secret that holds the ids of a customer and of one of its users or sessions,
// without the types of the ids.
type bearer struct {
	name, prefix string
	create       func(customer, of uuid.UUID) (sensitive.String, []byte)
	parse        func(text string) (customer, of uuid.UUID, hash []byte, err error)
}

func bearers() []bearer {
	return []bearer{
		kindOf("refresh token", "str_", token.NewRefresh, token.ParseRefresh),
		kindOf("cookie", "stc_", token.NewCookie, token.ParseCookie),
		kindOf("link", "stl_", token.NewLink, token.ParseLink),
	}
}

func kindOf[K any](
	name, prefix string,
	create func(id.Customer, id.ID[K]) (sensitive.String, []byte),
	parse func(string) (id.Customer, id.ID[K], []byte, error),
) bearer {
	return bearer{
		name: name, prefix: prefix,
		create: func(customer, of uuid.UUID) (sensitive.String, []byte) {
			return create(id.Customer{UUID: customer}, id.ID[K]{UUID: of})
		},
		parse: func(text string) (uuid.UUID, uuid.UUID, []byte, error) {
			customer, of, hash, err := parse(text)
			return customer.UUID, of.UUID, hash, err
		},
	}
}

func TestBearerRoundTrip(t *testing.T) {
	for _, kind := range bearers() {
		t.Run(kind.name, func(t *testing.T) {
			form := regexp.MustCompile(`^` + kind.prefix + `[0-9A-Za-z]{92}$`)
			rapid.Check(t, func(t *rapid.T) {
				customer, of := drawID[id.Customer](t).UUID, drawID[id.Session](t).UUID
				text, hash := kind.create(customer, of)
				if !form.MatchString(text.Reveal()) {
					t.Fatal("another form")
				}
				gotCustomer, gotOf, gotHash, err := kind.parse(text.Reveal())
				if err != nil || gotCustomer != customer || gotOf != of || !token.SameHash(hash, gotHash) ||
					len(hash) != sha256.Size {
					t.Fatalf("got %v, %v, %v", gotCustomer, gotOf, err)
				}
				if _, other := kind.create(customer, of); token.SameHash(hash, other) {
					t.Fatal("two of them have one hash")
				}
				if _, _, _, err := kind.parse(spoil(t, text.Reveal())); !errors.Is(err, token.ErrMalformed) {
					t.Fatalf("a changed text gave %v", err)
				}
				for _, other := range bearers() {
					_, _, _, err := other.parse(text.Reveal())
					if other.name != kind.name && !errors.Is(err, token.ErrMalformed) {
						t.Fatalf("as a %s it gave %v", other.name, err)
					}
					_, _, _, err = other.parse(other.prefix + text.Reveal()[4:])
					if other.name != kind.name && !errors.Is(err, token.ErrMalformed) {
						t.Fatalf("with the prefix of a %s it gave %v", other.name, err)
					}
				}
				if _, _, err := token.ParseAPIKey(text.Reveal()); !errors.Is(err, token.ErrMalformed) {
					t.Fatalf("as an API key it gave %v", err)
				}
			})
		})
	}
}

func drawID[T id.ID[K], K any](t *rapid.T) T {
	raw := rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id")
	if bytes.Equal(raw, make([]byte, 16)) {
		raw[0] = 1
	}
	return T{UUID: uuid.UUID(raw)}
}

// spoil changes, adds or drops one character. A changed character is a burst of at most eight bits,
// which a CRC-32 always detects.
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
	zeroKey, _ := token.NewAPIKey(id.APIKey{})
	texts := []string{
		"",
		"stw_",
		"stw_" + strings.Repeat("0", 82),
		zeroKey.Reveal(),
		apiKey.Reveal() + "\n",
		" " + apiKey.Reveal(),
		strings.ToUpper(apiKey.Reveal()),
		"STW_" + apiKey.Reveal()[4:],
		strings.Repeat("stw_", 10000),
	}
	for _, kind := range bearers() {
		good, _ := kind.create(uuid.New(), uuid.New())
		zeroCustomer, _ := kind.create(uuid.Nil, uuid.New())
		zeroOf, _ := kind.create(uuid.New(), uuid.Nil)
		texts = append(
			texts,
			kind.prefix,
			kind.prefix+strings.Repeat("0", 92),
			kind.prefix+strings.Repeat("z", 92),
			zeroCustomer.Reveal(),
			zeroOf.Reveal(),
			strings.ToLower(
				good.Reveal(),
			),
			strings.ToUpper(kind.prefix)+good.Reveal()[4:],
			good.Reveal()+"=",
			good.Reveal()+"\n",
			`"`+good.Reveal()+`"`,
		)
	}
	for _, text := range texts {
		if _, hash, err := token.ParseAPIKey(text); !errors.Is(err, token.ErrMalformed) || hash != nil {
			t.Errorf("as an API key %.20q gave %v", text, err)
		}
		for _, kind := range bearers() {
			if _, _, hash, err := kind.parse(text); !errors.Is(err, token.ErrMalformed) || hash != nil {
				t.Errorf("as a %s %.20q gave %v", kind.name, text, err)
			}
		}
	}
}

func TestSameHash(t *testing.T) {
	one, two := sha256.Sum256([]byte("1")), sha256.Sum256([]byte("2"))
	if !token.SameHash(one[:], one[:]) || token.SameHash(one[:], two[:]) || token.SameHash(nil, nil) ||
		token.SameHash(one[:31], one[:31]) ||
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
		want := "stw_" + strings.ReplaceAll(keyID.String(), "-", "") + "_"
		if !strings.HasPrefix(text, want) || len(hash) != sha256.Size {
			t.Fatalf("took %q as %v", text, keyID)
		}
	})
}

func FuzzParseBearer(f *testing.F) {
	for _, kind := range bearers() {
		text, _ := kind.create(uuid.New(), uuid.New())
		f.Add(text.Reveal())
		f.Add(kind.prefix + strings.Repeat("0", 92))
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, kind := range bearers() {
			customer, of, hash, err := kind.parse(text)
			if err != nil {
				if !errors.Is(err, token.ErrMalformed) || customer != uuid.Nil || of != uuid.Nil || hash != nil {
					t.Fatalf("refused %q with %v and something beside", text, err)
				}
				continue
			}
			if !strings.HasPrefix(text, kind.prefix) || customer == uuid.Nil || of == uuid.Nil ||
				len(hash) != sha256.Size {
				t.Fatalf("took %q as a %s", text, kind.name)
			}
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

func BenchmarkParseCookie(b *testing.B) {
	text, _ := token.NewCookie(id.New[id.Customer](), id.New[id.Session]())
	b.ReportAllocs()
	for b.Loop() {
		if _, _, _, err := token.ParseCookie(text.Reveal()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkNewCookie(b *testing.B) {
	customer, session := id.New[id.Customer](), id.New[id.Session]()
	b.ReportAllocs()
	for b.Loop() {
		token.NewCookie(customer, session)
	}
}
