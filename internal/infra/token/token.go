// Package token issues and verifies credentials: access tokens, and the opaque texts of refresh
// tokens, cookies, mailed links and API keys.
//
// Owns: the format of each, the key ring that signs access tokens, and the cache of verified
// tokens.
// Does not own: where signing keys are stored (session loads them into a Keyring), whether a
// session, a user or an API key is still valid (session, user, apikey: the token of an ended
// session is still valid here), the purpose and expiry of a link (passwordlink), and the HTTP
// header, the cookie or the mail that carries them.
//
// An access token is a JWT (RFC 7519, RFC 9068) signed with Ed25519. Only Steward issues and reads
// them, so Steward accepts one form, to the byte, rather than everything that the standards
// allow: the header is compared with the headers of the known keys and never interpreted, and the
// claims must be spelt as Issue spells them. This closes the family of attacks on JWT that live in
// the freedom of the format (RFC 8725): a chosen algorithm, a critical extension, a second spelling
// of a member, a missing one.
package token

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	"github.com/fusionspim/steward/internal/base/clock"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/principal"
)

const (
	// MaxLength is the length limit of an access token, in bytes. Verify refuses longer ones
	// unread.
	MaxLength = 4096
	// DefaultLifetime is how long an access token is valid.
	DefaultLifetime = 10 * time.Minute
	// MaxLifetime is the longest lifetime that can be set. A single token cannot be revoked, so its
	// lifetime must be short.
	MaxLifetime = time.Hour
	// skew is how far the clock of the replica that issued a token may be ahead of ours. The expiry
	// has no tolerance.
	skew = 5 * time.Second

	maxSetting     = 256 // bytes of an issuer or an audience
	maxClientID    = 64  // bytes
	signatureWidth = 86  // characters of an Ed25519 signature, base64url
)

var (
	// ErrInvalid is returned for every access token that is not valid. The error's text gives the
	// reason, for the log, and holds nothing of the token. Clients get the same 401 for every
	// reason.
	ErrInvalid = errors.New("token: not a valid access token")
	// ErrNoSigningKey is returned by Issue while the ring has no signing key.
	ErrNoSigningKey = errors.New("token: no signing key")
	// ErrSettings is returned by New.
	ErrSettings = errors.New("token: invalid settings")
	// ErrClaims is returned by Issue for claims that no token may carry.
	ErrClaims = errors.New("token: incomplete or invalid claims")
)

// Claims are the contents of an access token.
type Claims struct {
	Customer id.Customer    // customer_id
	User     id.User        // sub
	Session  id.Session     // sid
	Role     principal.Role // role
	// client_id: the application that signed in; optional, printable ASCII of at most 64 bytes
	ClientID string

	// Issue sets the fields that follow and ignores their previous values.
	IssuedAt  time.Time // iat, UTC, whole seconds
	ExpiresAt time.Time // exp, UTC, whole seconds: from then on the token is not valid
	ID        string    // jti, a UUID
}

// Settings of an Authority.
type Settings struct {
	Issuer   string        // iss: the public URL of this service; not empty, at most 256 bytes
	Audience string        // aud: the service that accepts the tokens; not empty, at most 256 bytes
	Lifetime time.Duration // whole seconds, at most MaxLifetime; zero means DefaultLifetime
}

// Authority issues and verifies access tokens. Safe for concurrent use.
type Authority struct {
	settings Settings
	keys     *Keyring
	now      clock.Clock
	memory   *memory
}

// New makes an authority, or returns ErrSettings. An empty issuer or audience is an error, because
// it would disable their check.
func New(settings Settings, keys *Keyring, now clock.Clock) (*Authority, error) {
	if settings.Lifetime == 0 {
		settings.Lifetime = DefaultLifetime
	}
	switch {
	case settings.Issuer == "" || len(settings.Issuer) > maxSetting:
		return nil, fmt.Errorf("%w: the issuer must have 1 to %d bytes", ErrSettings, maxSetting)
	case settings.Audience == "" || len(settings.Audience) > maxSetting:
		return nil, fmt.Errorf("%w: the audience must have 1 to %d bytes", ErrSettings, maxSetting)
	case settings.Lifetime < time.Second || settings.Lifetime > MaxLifetime || settings.Lifetime%time.Second != 0:
		return nil, fmt.Errorf("%w: the lifetime must be whole seconds, at most %v", ErrSettings, MaxLifetime)
	case keys == nil || now == nil:
		return nil, fmt.Errorf("%w: a keyring and a clock are needed", ErrSettings)
	}
	return &Authority{settings: settings, keys: keys, now: now, memory: newMemory(memorySize, settings.Lifetime)}, nil
}

// Lifetime is how long a new token is valid: the expires_in of RFC 6749, section 5.1.
func (a *Authority) Lifetime() time.Duration { return a.settings.Lifetime }

// Issue makes a token for the user and the session in the claims, valid from now. It returns
// ErrClaims for claims without a user, a customer, a session or a known role, and ErrNoSigningKey.
func (a *Authority) Issue(claims Claims) (string, error) {
	if claims.Customer.IsZero() || claims.User.IsZero() || claims.Session.IsZero() || !claims.Role.Valid() ||
		!validClientID(claims.ClientID) {
		return "", ErrClaims
	}
	set := a.keys.set.Load()
	if set.signing.IsZero() {
		return "", ErrNoSigningKey
	}
	tokenID, err := uuid.NewRandom()
	if err != nil {
		return "", fmt.Errorf("token: an id: %w", err)
	}
	claims.ID = tokenID.String()
	claims.IssuedAt = a.now().UTC().Truncate(time.Second)
	claims.ExpiresAt = claims.IssuedAt.Add(a.settings.Lifetime)

	payload, err := a.encode(claims)
	if err != nil {
		return "", fmt.Errorf("token: encoding: %w", err)
	}
	signed := set.byID[set.signing.id].header + "." + encoding.EncodeToString(payload)
	signature, err := jwt.SigningMethodEdDSA.Sign(signed, set.signing.private)
	if err != nil {
		return "", fmt.Errorf("token: signing: %w", err)
	}
	return signed + "." + encoding.EncodeToString(signature), nil
}

// Verify returns the claims of a token that is valid now, and otherwise ErrInvalid. A verified
// token is cached by its hash until it expires or its key leaves the ring.
func (a *Authority) Verify(token string) (Claims, error) {
	if token == "" || len(token) > MaxLength {
		return Claims{}, refuse("empty or too long")
	}
	now := a.now()
	fingerprint := fingerprintOf(token)
	if claims, ok := a.memory.recall(fingerprint, now); ok {
		return claims, nil
	}
	claims, key, err := a.verify(token, now)
	if err != nil {
		return Claims{}, err
	}
	a.memory.remember(fingerprint, claims, key, now)
	return claims, nil
}

// verify checks a token in full: the signature first, so that nothing unsigned is interpreted.
func (a *Authority) verify(token string, now time.Time) (Claims, *verificationKey, error) {
	header, rest, _ := strings.Cut(token, ".")
	payload, mac, ok := strings.Cut(rest, ".")
	if !ok {
		return Claims{}, nil, refuse("not three parts")
	}
	// A header is valid when it is exactly the header that a known key puts on its tokens. It is
	// not decoded, so it cannot choose anything.
	key := a.keys.set.Load().byHeader[header]
	if key == nil {
		return Claims{}, nil, refuse("the header is of no known key")
	}
	if len(mac) != signatureWidth {
		return Claims{}, nil, refuse("the signature has the wrong length")
	}
	signatureBytes, ok := decode(mac)
	if !ok {
		return Claims{}, nil, refuse("the signature is not base64url")
	}
	signed := token[:len(header)+1+len(payload)]
	if err := jwt.SigningMethodEdDSA.Verify(signed, signatureBytes, key.public); err != nil {
		return Claims{}, nil, refuse("the signature does not match")
	}
	text, ok := decode(payload)
	if !ok {
		return Claims{}, nil, refuse("the claims are not base64url")
	}
	claims, err := a.decodeClaims(text)
	if err != nil {
		return Claims{}, nil, err
	}
	return claims, key, a.checkTimes(claims, now)
}

func (a *Authority) checkTimes(claims Claims, now time.Time) error {
	switch lifetime := claims.ExpiresAt.Sub(claims.IssuedAt); {
	case lifetime <= 0 || lifetime > a.settings.Lifetime:
		return refuse("the lifetime is not ours")
	case claims.IssuedAt.After(now.Add(skew)):
		return refuse("issued in the future")
	case !now.Before(claims.ExpiresAt):
		return refuse("expired")
	}
	return nil
}

// wire is the JSON of the claims: every member, in the order in which it is written.
type wire struct {
	Issuer    string         `json:"iss"`
	Audience  string         `json:"aud"`
	Subject   string         `json:"sub"`
	ClientID  string         `json:"client_id,omitempty"`
	IssuedAt  int64          `json:"iat"`
	ExpiresAt int64          `json:"exp"`
	ID        string         `json:"jti"`
	Customer  string         `json:"customer_id"`
	Role      principal.Role `json:"role"`
	Session   string         `json:"sid"`
}

func (a *Authority) encode(claims Claims) ([]byte, error) {
	return json.Marshal(wire{
		Issuer: a.settings.Issuer, Audience: a.settings.Audience,
		Subject: claims.User.String(), ClientID: claims.ClientID,
		IssuedAt: claims.IssuedAt.Unix(), ExpiresAt: claims.ExpiresAt.Unix(),
		ID: claims.ID, Customer: claims.Customer.String(), Role: claims.Role, Session: claims.Session.String(),
	})
}

// decodeClaims decodes claims and checks all of them but the times. Go's decoder accepts members in
// any case, duplicate, unknown or missing; so the result is encoded again and must give the same
// text.
func (a *Authority) decodeClaims(text []byte) (Claims, error) {
	var from wire
	if json.Unmarshal(text, &from) != nil { // its error may quote a value
		return Claims{}, refuse("the claims are not JSON")
	}
	switch {
	case from.Issuer != a.settings.Issuer:
		return Claims{}, refuse("another issuer")
	case from.Audience != a.settings.Audience:
		return Claims{}, refuse("another audience")
	case !from.Role.Valid():
		return Claims{}, refuse("an unknown role")
	case !validClientID(from.ClientID):
		return Claims{}, refuse("a malformed client_id")
	case from.IssuedAt <= 0 || from.ExpiresAt <= 0 || from.ExpiresAt > maxUnix:
		return Claims{}, refuse("no time, or an impossible one")
	}
	claims := Claims{
		Role:      from.Role,
		ClientID:  from.ClientID,
		IssuedAt:  time.Unix(from.IssuedAt, 0).UTC(),
		ExpiresAt: time.Unix(from.ExpiresAt, 0).UTC(),
	}
	tokenID, err := uuid.Parse(from.ID)
	if err != nil || tokenID == uuid.Nil {
		return Claims{}, refuse("a malformed jti")
	}
	claims.ID = tokenID.String()
	if claims.User, err = id.Parse[id.User](from.Subject); err != nil || claims.User.IsZero() {
		return Claims{}, refuse("a malformed sub")
	}
	if claims.Customer, err = id.Parse[id.Customer](from.Customer); err != nil || claims.Customer.IsZero() {
		return Claims{}, refuse("a malformed customer_id")
	}
	if claims.Session, err = id.Parse[id.Session](from.Session); err != nil || claims.Session.IsZero() {
		return Claims{}, refuse("a malformed sid")
	}
	encoded, err := a.encode(claims)
	if err != nil || !bytes.Equal(encoded, text) {
		return Claims{}, refuse("the claims are spelt differently")
	}
	return claims, nil
}

// maxUnix is the end of the year 9999, in seconds: beyond it, sums of times could overflow.
const maxUnix = 253402300799

func validClientID(clientID string) bool {
	return len(clientID) <= maxClientID &&
		!strings.ContainsFunc(clientID, func(r rune) bool { return r <= ' ' || r > '~' })
}

// decode decodes base64url without padding, in its canonical spelling only.
func decode(text string) ([]byte, bool) {
	// The decoder would skip them, which gives one token many spellings.
	if strings.ContainsAny(text, "\r\n") {
		return nil, false
	}
	decoded, err := encoding.DecodeString(text)
	return decoded, err == nil
}

func refuse(reason string) error { return fmt.Errorf("%w: %s", ErrInvalid, reason) }
