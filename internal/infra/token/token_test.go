package token_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/fusionspim/steward/internal/base/clock"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/infra/token"
)

const (
	issuer   = "https://steward.example"
	audience = "https://steward.example/v1"
)

// bench is an authority with one known key, on a fixed clock.
type bench struct {
	clock     *clock.Manual
	keys      *token.Keyring
	key       token.SigningKey
	authority *token.Authority
}

func newBench(t testing.TB) *bench {
	t.Helper()
	key, err := token.SigningKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{
		clock: clock.NewManual(time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)),
		keys:  token.NewKeyring(),
		key:   key,
	}
	if err := b.keys.Replace(key); err != nil {
		t.Fatal(err)
	}
	b.authority = b.authorityOn(t)
	return b
}

// authorityOn makes another authority with the same keys and an empty cache.
func (b *bench) authorityOn(t testing.TB) *token.Authority {
	t.Helper()
	authority, err := token.New(token.Settings{Issuer: issuer, Audience: audience}, b.keys, b.clock.Now)
	if err != nil {
		t.Fatal(err)
	}
	return authority
}

func (b *bench) issue(t testing.TB) string {
	t.Helper()
	text, err := b.authority.Issue(someClaims())
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func someClaims() token.Claims {
	return token.Claims{
		Customer: id.New[id.Customer](),
		User:     id.New[id.User](),
		Session:  id.New[id.Session](),
		Role:     principal.Administrator,
	}
}

func encode(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }

// sign signs any header and payload with the known key, as an attacker could who had the key.
func (b *bench) sign(header, payload string) string {
	signed := encode(header) + "." + encode(payload)
	return signed + "." + encode(string(ed25519.Sign(ed25519.NewKeyFromSeed(b.key.Seed()), []byte(signed))))
}

func (b *bench) header() string {
	return fmt.Sprintf(`{"alg":"EdDSA","typ":"at+jwt","kid":%q}`, b.key.ID())
}

const (
	someUser     = "01939d2a-7c00-7000-8000-000000000001"
	someCustomer = "01939d2a-7c00-7000-8000-000000000002"
	someSession  = "01939d2a-7c00-7000-8000-000000000003"
	someToken    = "3f0c5f0e-6f1c-4d5e-9a4b-000000000004"
)

// payload is a valid payload at the bench's time.
func (b *bench) payload() string {
	now := b.clock.Now().Unix()
	return fmt.Sprintf(
		`{"iss":%q,"aud":%q,"sub":%q,"iat":%d,"exp":%d,"jti":%q,"customer_id":%q,"role":"customer","sid":%q}`,
		issuer,
		audience,
		someUser,
		now,
		now+600,
		someToken,
		someCustomer,
		someSession,
	)
}

func TestIssueAndVerify(t *testing.T) {
	b := newBench(t)
	rapid.Check(t, func(t *rapid.T) {
		claims := someClaims()
		claims.Role = rapid.SampledFrom([]principal.Role{principal.Operator, principal.Administrator, principal.User}).
			Draw(t, "role")
		claims.ClientID = rapid.StringMatching(`[!-~]{0,64}`).Draw(t, "client_id")
		b.clock.Advance(time.Duration(rapid.IntRange(0, 5_000_000).Draw(t, "microseconds")) * time.Microsecond)
		text, err := b.authority.Issue(claims)
		if err != nil {
			t.Fatal(err)
		}
		got, err := b.authority.Verify(text)
		if err != nil {
			t.Fatal(err)
		}
		again, err := b.authority.Verify(text)
		if err != nil || again != got {
			t.Fatalf("remembered %+v, %v; verified %+v", again, err, got)
		}
		if got.ID == "" || got.IssuedAt != b.clock.Now().Truncate(time.Second) ||
			got.ExpiresAt != got.IssuedAt.Add(10*time.Minute) {
			t.Fatalf("got %+v", got)
		}
		claims.ID, claims.IssuedAt, claims.ExpiresAt = got.ID, got.IssuedAt, got.ExpiresAt
		if got != claims {
			t.Fatalf("issued %+v, got %+v", claims, got)
		}
	})
}

func TestFormOfAToken(t *testing.T) {
	b := newBench(t)
	text := b.issue(t)
	parts := strings.Split(text, ".")
	header, err := base64.RawURLEncoding.DecodeString(parts[0])
	if err != nil || string(header) != b.header() {
		t.Fatalf("header %s, %v", header, err)
	}
	// Another library, with its checks on, accepts the token too.
	var claims jwt.MapClaims
	_, err = jwt.NewParser(jwt.WithValidMethods([]string{"EdDSA"}), jwt.WithStrictDecoding(), jwt.WithIssuer(issuer), jwt.WithAudience(audience),
		jwt.WithExpirationRequired(), jwt.WithIssuedAt(), jwt.WithTimeFunc(b.clock.Now)).
		ParseWithClaims(text, &claims, func(*jwt.Token) (any, error) { return b.key.Public(), nil })
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"iss", "aud", "sub", "iat", "exp", "jti", "customer_id", "role", "sid"} {
		if claims[name] == nil {
			t.Errorf("no %s", name)
		}
	}
	if len(claims) != 9 {
		t.Errorf("%d claims", len(claims))
	}
}

// TestAttacks has a row for each known way to forge or respell a JWT.
func TestAttacks(t *testing.T) {
	b := newBench(t)
	good := b.sign(b.header(), b.payload())
	if _, err := b.authorityOn(t).Verify(good); err != nil {
		t.Fatalf("the token that the attacks start from: %v", err)
	}
	parts := strings.Split(good, ".")
	stranger := token.NewSigningKey()
	strangersSignature := func(header, payload string) string {
		signed := encode(header) + "." + encode(payload)
		return signed + "." + encode(string(ed25519.Sign(ed25519.NewKeyFromSeed(stranger.Seed()), []byte(signed))))
	}
	hs256 := func(header string, secret []byte) string {
		signed := encode(header) + "." + encode(b.payload())
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(signed))
		return signed + "." + encode(string(mac.Sum(nil)))
	}
	header := func(old, replacement string) string {
		return b.sign(replaced(t, b.header(), old, replacement), b.payload())
	}
	claims := func(old, replacement string) string {
		return b.sign(b.header(), replaced(t, b.payload(), old, replacement))
	}
	now := b.clock.Now().Unix()
	times := func(issuedAt, expiresAt any) string {
		text := replaced(t, b.payload(), fmt.Sprintf(`"iat":%d`, now), fmt.Sprintf(`"iat":%v`, issuedAt))
		return b.sign(
			b.header(),
			replaced(t, text, fmt.Sprintf(`"exp":%d`, now+600), fmt.Sprintf(`"exp":%v`, expiresAt)),
		)
	}
	// The last character of a signature carries four bits that must be zero: another character
	// there is another spelling of the same bytes.
	last := strings.IndexByte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", good[len(good)-1])
	sloppy := good[:len(good)-1] + string("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[last+1])
	// S + L is a second valid scalar for naive verifiers (RFC 8032, section 8.4).
	malleable := parts[0] + "." + parts[1] + "." + encode(string(addOrder(t, parts[2])))

	tests := []struct{ name, text string }{
		{"empty", ""},
		{"dots alone", ".."},
		{
			"alg none, no signature",
			encode(`{"alg":"none","typ":"at+jwt","kid":"`+b.key.ID()+`"}`) + "." + parts[1] + ".",
		},
		{"alg none, old signature", encode(`{"alg":"none"}`) + "." + parts[1] + "." + parts[2]},
		{"alg None, signed", header(`"EdDSA"`, `"None"`)},
		{"good header, no signature", parts[0] + "." + parts[1] + "."},
		{
			"HS256 with the public key as secret",
			hs256(`{"alg":"HS256","typ":"at+jwt","kid":"`+b.key.ID()+`"}`, b.key.Public()),
		},
		{
			"HS256 with its text as secret",
			hs256(`{"alg":"HS256","typ":"at+jwt","kid":"`+b.key.ID()+`"}`, []byte(b.keys.JWKS().Keys[0].X)),
		},
		{"HS256 with an empty secret", hs256(`{"alg":"HS256","typ":"at+jwt","kid":"`+b.key.ID()+`"}`, nil)},
		{"HS256 under a good header", hs256(b.header(), b.key.Public())},
		{"alg Ed25519, the new name", header(`"EdDSA"`, `"Ed25519"`)},
		{"crit", header(`}`, `,"crit":["exp"]}`)},
		{"crit, empty", header(`}`, `,"crit":[]}`)},
		{"b64 false", header(`}`, `,"b64":false,"crit":["b64"]}`)},
		{
			"embedded key",
			strangersSignature(
				replaced(
					t,
					b.header(),
					`}`,
					`,"jwk":{"kty":"OKP","crv":"Ed25519","x":"`+encode(string(stranger.Public()))+
						`"}}`,
				),
				b.payload(),
			),
		},
		{"address of a key", header(`}`, `,"jku":"https://attacker.example/jwks.json"}`)},
		{"typ JWT", header(`"at+jwt"`, `"JWT"`)},
		{"typ application/at+jwt", header(`"at+jwt"`, `"application/at+jwt"`)},
		{"typ in capitals", header(`"at+jwt"`, `"AT+JWT"`)},
		{"no typ", header(`"typ":"at+jwt",`, ``)},
		{"no kid", header(`,"kid":"`+b.key.ID()+`"`, ``)},
		{"kid twice", header(`}`, `,"kid":"`+b.key.ID()+`"}`)},
		{"kid of a path", header(b.key.ID(), `../../../../dev/null`)},
		{"kid of a query", header(b.key.ID(), `' or 1=1 --`)},
		{"kid empty", header(b.key.ID(), ``)},
		{"ALG", header(`"alg"`, `"ALG"`)},
		{"header with white space", header(`,"typ"`, `, "typ"`)},
		{
			"header in another order",
			b.sign(fmt.Sprintf(`{"typ":"at+jwt","alg":"EdDSA","kid":%q}`, b.key.ID()), b.payload()),
		},
		{"header not JSON", b.sign(`x`, b.payload())},
		{"header with trailing data", b.sign(b.header()+`{}`, b.payload())},
		{
			"unknown key",
			strangersSignature(fmt.Sprintf(`{"alg":"EdDSA","typ":"at+jwt","kid":%q}`, stranger.ID()), b.payload()),
		},
		{"another key under a known id", strangersSignature(b.header(), b.payload())},
		{"signature of another token", parts[0] + "." + parts[1] + "." + strings.Split(b.issue(t), ".")[2]},
		{"signature of zeros", parts[0] + "." + parts[1] + "." + encode(string(make([]byte, 64)))},
		{"signature with S + L", malleable},
		{
			"claims changed",
			parts[0] + "." + encode(replaced(t, b.payload(), `"customer"`, `"operator"`)) + "." + parts[2],
		},
		{"two parts", parts[0] + "." + parts[1]},
		{"four parts", good + ".x"},
		{"five parts, as an encrypted token", good + ".x.y"},
		{"a dot too many", good + "."},
		{"white space in front", " " + good},
		{"trailing data", good + "x"},
		{"trailing line break", good + "\n"},
		{"line break in the header", parts[0][:8] + "\n" + parts[0][8:] + "." + parts[1] + "." + parts[2]},
		{"line break in the claims", parts[0] + "." + parts[1][:8] + "\n" + parts[1][8:] + "." + parts[2]},
		{"line break in the signature", parts[0] + "." + parts[1] + "." + parts[2][:8] + "\r\n" + parts[2][8:]},
		{"line break instead of a letter", parts[0] + "." + parts[1] + "." + parts[2][:85] + "\n"},
		{"padding", parts[0] + "." + parts[1] + "." + parts[2] + "=="},
		{"left-over bits", sloppy},
		{
			"standard alphabet",
			parts[0] + "." + parts[1] + "." + strings.NewReplacer("-", "+", "_", "/").Replace(parts[2]) + "+",
		},
		{"Bearer in front", "Bearer " + good},
		{"huge", good + strings.Repeat("A", token.MaxLength)},
		{"huge claims, signed", claims(`"role"`, `"padding":"`+strings.Repeat("A", token.MaxLength)+`","role"`)},
		{"ROLE instead of role", claims(`"role"`, `"ROLE"`)},
		{"ROLE beside role", claims(`"role":"customer"`, `"role":"customer","ROLE":"operator"`)},
		{"role with a Kelvin sign of sorts", claims(`"sid"`, `"\u017fid"`)},
		{"role twice", claims(`"role":"customer"`, `"role":"customer","role":"operator"`)},
		{"role twice, the same", claims(`"role":"customer"`, `"role":"customer","role":"customer"`)},
		{"role unknown", claims(`"customer"`, `"root"`)},
		{"role empty", claims(`"role":"customer"`, `"role":""`)},
		{"role a list", claims(`"role":"customer"`, `"role":["customer"]`)},
		{"role escaped", claims(`"role":"customer"`, `"role":"\u0063ustomer"`)},
		{"no role", claims(`"role":"customer",`, ``)},
		{"unknown claim", claims(`"role"`, `"admin":true,"role"`)},
		{"no exp", claims(fmt.Sprintf(`"exp":%d,`, now+600), ``)},
		{"exp null", times(now, "null")},
		{"exp zero", times(now, 0)},
		{"exp a text", times(now, fmt.Sprintf(`"%d"`, now+600))},
		{"exp a fraction", times(now, fmt.Sprintf(`%d.5`, now+599))},
		{"exp an exponent", times(now, "1e12")},
		{"exp beyond int64", times(now, "9223372036854775808")},
		{"exp the largest int64", times(now, "9223372036854775807")},
		{"exp far away", times(now, now+601)},
		{"exp now", times(now-600, now)},
		{"expired", times(now-601, now-1)},
		{"exp before iat", times(now+4, now+3)},
		{"iat in the future", times(now+6, now+600)},
		{"no iat", claims(fmt.Sprintf(`"iat":%d,`, now), ``)},
		{"iat negative", times(-1, now+600)},
		{"iat zero", times(0, now+600)},
		{"nbf", claims(`"jti"`, fmt.Sprintf(`"nbf":%d,"jti"`, now))},
		{"no iss", claims(fmt.Sprintf(`"iss":%q,`, issuer), ``)},
		{"iss empty", claims(fmt.Sprintf(`"iss":%q`, issuer), `"iss":""`)},
		{"iss another", claims(fmt.Sprintf(`"iss":%q`, issuer), `"iss":"https://steward.example.attacker.example"`)},
		{"no aud", claims(fmt.Sprintf(`"aud":%q,`, audience), ``)},
		{"aud empty", claims(fmt.Sprintf(`"aud":%q`, audience), `"aud":""`)},
		{"aud a list", claims(fmt.Sprintf(`"aud":%q`, audience), fmt.Sprintf(`"aud":[%q]`, audience))},
		{"aud another", claims(fmt.Sprintf(`"aud":%q`, audience), `"aud":"https://elsewhere.example"`)},
		{"no sub", claims(fmt.Sprintf(`"sub":%q,`, someUser), ``)},
		{"sub not a UUID", claims(someUser, "admin")},
		{"sub in capitals", claims(someUser, strings.ToUpper(someUser))},
		{"sub in braces", claims(someUser, "{"+someUser+"}")},
		{"sub without hyphens", claims(someUser, strings.ReplaceAll(someUser, "-", ""))},
		{"sub zero", claims(someUser, uuid.Nil.String())},
		{"customer zero", claims(someCustomer, uuid.Nil.String())},
		{"no customer", claims(fmt.Sprintf(`"customer_id":%q,`, someCustomer), ``)},
		{"session zero", claims(someSession, uuid.Nil.String())},
		{"no session", claims(fmt.Sprintf(`,"sid":%q`, someSession), ``)},
		{"no jti", claims(fmt.Sprintf(`"jti":%q,`, someToken), ``)},
		{"jti not a UUID", claims(someToken, "1")},
		{"jti in capitals", claims(someToken, strings.ToUpper(someToken))},
		{"client_id empty", claims(`"iat"`, `"client_id":"","iat"`)},
		{"client_id with a line break", claims(`"iat"`, `"client_id":"a\nb","iat"`)},
		{"client_id too long", claims(`"iat"`, `"client_id":"`+strings.Repeat("a", 65)+`","iat"`)},
		{"claims with white space", claims(`"role"`, ` "role"`)},
		{
			"claims in another order",
			claims(`"role":"customer",`+fmt.Sprintf(`"sid":%q`, someSession), fmt.Sprintf(`"sid":%q`, someSession)+
				`,"role":"customer"`),
		},
		{"claims with trailing data", b.sign(b.header(), b.payload()+`{}`)},
		{"claims with a trailing space", b.sign(b.header(), b.payload()+` `)},
		{"claims with bytes that are no text", claims(`"iat"`, "\"client_id\":\"\xff\",\"iat\"")},
		{"claims a list", b.sign(b.header(), `[`+b.payload()+`]`)},
		{"claims null", b.sign(b.header(), `null`)},
		{"claims empty", b.sign(b.header(), ``)},
		{"claims nested deeply", b.sign(b.header(), strings.Repeat("[", 1500))},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			authority := b.authorityOn(t)
			for range 2 { // the second time would be answered from memory
				claims, err := authority.Verify(test.text)
				if !errors.Is(err, token.ErrInvalid) {
					t.Fatalf("got %v", err)
				}
				if claims != (token.Claims{}) {
					t.Fatalf("claims of a refused token: %+v", claims)
				}
			}
		})
	}
}

// addOrder adds the order of the group to the scalar of a signature: numerically another signature,
// congruent to the first.
func addOrder(t testing.TB, text string) []byte {
	t.Helper()
	signature, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	// little-endian
	order := []byte{
		0xed,
		0xd3,
		0xf5,
		0x5c,
		0x1a,
		0x63,
		0x12,
		0x58,
		0xd6,
		0x9c,
		0xf7,
		0xa2,
		0xde,
		0xf9,
		0xde,
		0x14,
		31: 0x10,
	}
	carry := 0
	for i := range order {
		sum := int(signature[32+i]) + int(order[i]) + carry
		signature[32+i], carry = byte(sum), sum>>8
	}
	return signature
}

func replaced(t testing.TB, text, old, replacement string) string {
	t.Helper()
	if strings.Count(text, old) < 1 {
		t.Fatalf("nothing to replace: %s in %s", old, text)
	}
	at := strings.LastIndex(text, old)
	return text[:at] + replacement + text[at+len(old):]
}

func TestTheReasonHoldsNothingOfTheToken(t *testing.T) {
	b := newBench(t)
	text := b.sign(b.header(), replaced(t, b.payload(), `"customer"`, `"swordfish"`))
	_, err := b.authority.Verify(text)
	if err == nil || strings.Contains(err.Error(), "swordfish") || strings.Contains(err.Error(), someUser) {
		t.Fatalf("got %v", err)
	}
}

func TestSkewOfAnotherReplica(t *testing.T) {
	b := newBench(t)
	b.clock.Advance(5 * time.Second)
	text := b.issue(t)
	b.clock.Advance(-5 * time.Second)
	if _, err := b.authority.Verify(text); err != nil {
		t.Fatalf("five seconds ahead: %v", err)
	}
}

func TestExpiryOfARememberedToken(t *testing.T) {
	b := newBench(t)
	text := b.issue(t)
	if _, err := b.authority.Verify(text); err != nil {
		t.Fatal(err)
	}
	b.clock.Advance(10*time.Minute - time.Microsecond)
	if _, err := b.authority.Verify(text); err != nil {
		t.Fatalf("just before the expiry: %v", err)
	}
	b.clock.Advance(time.Microsecond)
	if _, err := b.authority.Verify(text); !errors.Is(err, token.ErrInvalid) {
		t.Fatalf("at the expiry: %v", err)
	}
}

func TestAWithdrawnKeyTakesItsTokensWithIt(t *testing.T) {
	b := newBench(t)
	next := token.NewSigningKey()
	text := b.issue(t)
	verify := func() error { _, err := b.authority.Verify(text); return err }
	replace := func(signing token.SigningKey, others ...ed25519.PublicKey) {
		t.Helper()
		if err := b.keys.Replace(signing, others...); err != nil {
			t.Fatal(err)
		}
	}
	if err := verify(); err != nil {
		t.Fatal(err)
	}
	replace(next, b.key.Public())
	if err := verify(); err != nil {
		t.Fatalf("while the old key still verifies: %v", err)
	}
	if keyID, ok := b.keys.Signing(); !ok || keyID != next.ID() {
		t.Fatalf("signing with %s", keyID)
	}
	replace(next)
	if err := verify(); !errors.Is(err, token.ErrInvalid) {
		t.Fatalf("after the old key was withdrawn: %v", err)
	}
	replace(next, b.key.Public())
	if err := verify(); err != nil {
		t.Fatalf("after it came back: %v", err)
	}
	replace(token.SigningKey{})
	if err := verify(); !errors.Is(err, token.ErrInvalid) {
		t.Fatalf("with no keys: %v", err)
	}
	if _, err := b.authority.Issue(someClaims()); !errors.Is(err, token.ErrNoSigningKey) {
		t.Fatalf("issuing without a key: %v", err)
	}
}

func TestABadKeyLeavesTheRingAsItWas(t *testing.T) {
	b := newBench(t)
	text := b.issue(t)
	for _, bad := range []ed25519.PublicKey{nil, {}, make([]byte, 31), make([]byte, 33)} {
		if err := b.keys.Replace(token.NewSigningKey(), bad); !errors.Is(err, token.ErrKey) {
			t.Fatalf("got %v", err)
		}
	}
	if keyID, ok := b.keys.Signing(); !ok || keyID != b.key.ID() {
		t.Fatal("the signing key changed")
	}
	if _, err := b.authority.Verify(text); err != nil {
		t.Fatal(err)
	}
}

func TestSettings(t *testing.T) {
	good := token.Settings{Issuer: issuer, Audience: audience}
	tests := []struct {
		name string
		with func(*token.Settings)
	}{
		{"empty issuer", func(s *token.Settings) { s.Issuer = "" }},
		{"empty audience", func(s *token.Settings) { s.Audience = "" }},
		{"long issuer", func(s *token.Settings) { s.Issuer = strings.Repeat("a", 257) }},
		{"long audience", func(s *token.Settings) { s.Audience = strings.Repeat("a", 257) }},
		{"negative lifetime", func(s *token.Settings) { s.Lifetime = -time.Minute }},
		{"long lifetime", func(s *token.Settings) { s.Lifetime = token.MaxLifetime + time.Second }},
		{"half seconds", func(s *token.Settings) { s.Lifetime = 1500 * time.Millisecond }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			settings := good
			test.with(&settings)
			if _, err := token.New(settings, token.NewKeyring(), clock.System()); !errors.Is(err, token.ErrSettings) {
				t.Fatalf("got %v", err)
			}
		})
	}
	if _, err := token.New(good, nil, clock.System()); !errors.Is(err, token.ErrSettings) {
		t.Fatalf("no keyring: %v", err)
	}
	authority, err := token.New(good, token.NewKeyring(), clock.System())
	if err != nil || authority.Lifetime() != 10*time.Minute {
		t.Fatalf("got %v, %v", authority, err)
	}
}

func TestIssueRefuses(t *testing.T) {
	b := newBench(t)
	for name, spoil := range map[string]func(*token.Claims){
		"no user":      func(c *token.Claims) { c.User = id.User{} },
		"no customer":  func(c *token.Claims) { c.Customer = id.Customer{} },
		"no session":   func(c *token.Claims) { c.Session = id.Session{} },
		"no role":      func(c *token.Claims) { c.Role = "" },
		"unknown role": func(c *token.Claims) { c.Role = "root" },
		"client_id":    func(c *token.Claims) { c.ClientID = "a b" },
	} {
		t.Run(name, func(t *testing.T) {
			claims := someClaims()
			spoil(&claims)
			if _, err := b.authority.Issue(claims); !errors.Is(err, token.ErrClaims) {
				t.Fatalf("got %v", err)
			}
		})
	}
}

// TestKeyID is the example of RFC 8037, appendix A.3.
func TestKeyID(t *testing.T) {
	public, err := base64.RawURLEncoding.DecodeString("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
	if err != nil {
		t.Fatal(err)
	}
	if got := token.KeyID(public); got != "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k" {
		t.Fatalf("got %s", got)
	}
}

func TestJWKS(t *testing.T) {
	empty, err := json.Marshal(token.NewKeyring().JWKS())
	if err != nil || string(empty) != `{"keys":[]}` {
		t.Fatalf("an empty ring gives %s, %v", empty, err)
	}
	b := newBench(t)
	other := token.NewSigningKey()
	if err := b.keys.Replace(b.key, other.Public(), other.Public(), b.key.Public()); err != nil {
		t.Fatal(err)
	}
	set := b.keys.JWKS()
	if len(set.Keys) != 2 || set.Keys[0].KeyID >= set.Keys[1].KeyID {
		t.Fatalf("got %+v", set)
	}
	if err := b.keys.Replace(b.key); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(b.keys.JWKS())
	want := fmt.Sprintf(`{"keys":[{"kty":"OKP","crv":"Ed25519","x":%q,"kid":%q,"alg":"EdDSA","use":"sig"}]}`,
		base64.RawURLEncoding.EncodeToString(b.key.Public()), b.key.ID())
	if err != nil || string(text) != want {
		t.Fatalf("got %s, %v", text, err)
	}
}

func TestASigningKeySurvivesStorageAndNeverPrints(t *testing.T) {
	key := token.NewSigningKey()
	restored, err := token.SigningKeyFromSeed(key.Seed())
	if err != nil || restored.ID() != key.ID() || !restored.Public().Equal(key.Public()) {
		t.Fatalf("got %v, %v", restored, err)
	}
	for _, size := range []int{0, 31, 33, 64} {
		if _, err := token.SigningKeyFromSeed(make([]byte, size)); !errors.Is(err, token.ErrKey) {
			t.Fatalf("%d bytes: %v", size, err)
		}
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		if text := fmt.Sprintf(verb, key); text != "signing key "+key.ID() {
			t.Errorf("%s prints %q", verb, text)
		}
	}
	//lint:ignore SA9005 that nothing is encoded is what is tested
	if text, err := json.Marshal(key); err != nil || string(text) != "{}" {
		t.Errorf("JSON gives %s, %v", text, err)
	}
	none := token.SigningKey{}
	if !none.IsZero() || none.ID() != "" || none.Public() != nil || none.Seed() != nil {
		t.Error("the zero key is something")
	}
}

func TestConcurrentUse(t *testing.T) {
	b := newBench(t)
	texts := make([]string, 20)
	for i := range texts {
		texts[i] = b.issue(t)
	}
	other := token.NewSigningKey()
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for i := range 100 {
				if _, err := b.authority.Verify(texts[i%len(texts)]); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Go(func() {
		for range 100 {
			if err := b.keys.Replace(b.key, other.Public()); err != nil {
				t.Error(err)
			}
			if err := b.keys.Replace(other, b.key.Public()); err != nil {
				t.Error(err)
			}
			b.keys.JWKS()
		}
	})
	group.Wait()
}

func FuzzVerify(f *testing.F) {
	b := newBench(f)
	good := b.sign(b.header(), b.payload())
	parts := strings.Split(good, ".")
	f.Add(good)
	f.Add(parts[0] + "." + parts[1] + ".")
	f.Add(good + "=")
	f.Add("..")
	f.Fuzz(func(t *testing.T, text string) {
		claims, err := b.authority.Verify(text)
		if err == nil && text != good {
			t.Fatalf("took %q", text)
		}
		if err != nil && (!errors.Is(err, token.ErrInvalid) || claims != (token.Claims{})) {
			t.Fatalf("got %+v, %v", claims, err)
		}
	})
}

// FuzzVerifyClaims signs its input, so that the claims are reached, and checks that only one
// spelling is accepted.
func FuzzVerifyClaims(f *testing.F) {
	b := newBench(f)
	f.Add(b.payload())
	f.Add(strings.Replace(b.payload(), `"role"`, `"ROLE"`, 1))
	f.Add(`{"iss":1}`)
	f.Fuzz(func(t *testing.T, payload string) {
		claims, err := b.authority.Verify(b.sign(b.header(), payload))
		if err != nil {
			return
		}
		var members map[string]any
		err = json.Unmarshal([]byte(payload), &members)
		if err != nil || !claims.Role.Valid() || members["role"] != string(claims.Role) ||
			members["sub"] != claims.User.String() ||
			members["iss"] != issuer ||
			members["aud"] != audience {
			t.Fatalf("took %s as %+v", payload, claims)
		}
	})
}

func BenchmarkIssue(b *testing.B) {
	on := newBench(b)
	claims := someClaims()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := on.authority.Issue(claims); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkVerify verifies tokens that were never seen before.
func BenchmarkVerify(b *testing.B) {
	on := newBench(b)
	texts := make([]string, 256)
	for i := range texts {
		texts[i] = on.issue(b)
	}
	b.ReportAllocs()
	authority, i := on.authorityOn(b), 0
	for b.Loop() {
		if i++; i%len(texts) == 0 {
			authority = on.authorityOn(b)
		}
		if _, err := authority.Verify(texts[i%len(texts)]); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerifyRemembered(b *testing.B) {
	keys := token.NewKeyring()
	if err := keys.Replace(token.NewSigningKey()); err != nil {
		b.Fatal(err)
	}
	authority, err := token.New(token.Settings{Issuer: issuer, Audience: audience}, keys, clock.System())
	if err != nil {
		b.Fatal(err)
	}
	text, err := authority.Issue(someClaims())
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := authority.Verify(text); err != nil {
			b.Fatal(err)
		}
	}
}
