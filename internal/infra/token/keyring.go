package token

import (
	"cmp"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
)

// Algorithm is the only signature algorithm: Ed25519 under its JOSE name (RFC 8037, section 3.1).
const Algorithm = "EdDSA"

// Type is the only type of token: an access token (RFC 9068, section 2.1).
const Type = "at+jwt"

// ErrKey is returned for a key that is not an Ed25519 key. It never holds the key.
var ErrKey = errors.New("token: not an Ed25519 key")

// SigningKey is a private key that signs access tokens. The zero value is no key. It prints as its
// id.
type SigningKey struct {
	id      string
	private ed25519.PrivateKey
}

// NewSigningKey makes a random key.
func NewSigningKey() SigningKey {
	seed := make([]byte, ed25519.SeedSize)
	_, _ = rand.Read(seed) // never fails: the program ends instead, since Go 1.24
	key, _ := SigningKeyFromSeed(seed)
	return key
}

// SigningKeyFromSeed restores a key from the 32 bytes that Seed returned (RFC 8032, section 5.1.5).
// Any other size is ErrKey.
func SigningKeyFromSeed(seed []byte) (SigningKey, error) {
	if len(seed) != ed25519.SeedSize {
		return SigningKey{}, ErrKey
	}
	private := ed25519.NewKeyFromSeed(seed)
	return SigningKey{id: KeyID(private.Public().(ed25519.PublicKey)), private: private}, nil
}

// ID returns the key's id: KeyID of its public half, and empty for no key.
func (k SigningKey) ID() string { return k.id }

// IsZero reports whether k is no key.
func (k SigningKey) IsZero() bool { return k.private == nil }

// Public returns the public half, and nil for no key.
func (k SigningKey) Public() ed25519.PublicKey {
	if k.IsZero() {
		return nil
	}
	return k.private.Public().(ed25519.PublicKey)
}

// Seed returns the 32 bytes from which the key can be restored, nil for no key. They are the
// secret: seal them before they are stored.
func (k SigningKey) Seed() []byte {
	if k.IsZero() {
		return nil
	}
	return k.private.Seed()
}

// String implements fmt.Stringer.
func (k SigningKey) String() string { return "signing key " + k.id }

// Format implements fmt.Formatter, so that no verb reaches the private half.
func (k SigningKey) Format(state fmt.State, _ rune) { _, _ = state.Write([]byte(k.String())) }

// LogValue implements slog.LogValuer.
func (k SigningKey) LogValue() slog.Value { return slog.StringValue(k.String()) }

// KeyID returns the id of a public key: the base64url SHA-256 thumbprint of its JWK (RFC 7638, and
// RFC 8037 section 2 for the members). A key therefore has the same id everywhere, and no two keys
// share an id.
func KeyID(public ed25519.PublicKey) string {
	// RFC 7638, section 3: the required members, sorted, without white space. Base64url needs no
	// escaping in JSON.
	thumbprint := sha256.Sum256([]byte(`{"crv":"Ed25519","kty":"OKP","x":"` + encoding.EncodeToString(public) + `"}`))
	return encoding.EncodeToString(thumbprint[:])
}

// JWK is a public key in the format of RFC 7517 and RFC 8037.
type JWK struct {
	KeyType   string `json:"kty"` // "OKP"
	Curve     string `json:"crv"` // "Ed25519"
	X         string `json:"x"`   // the public key, base64url
	KeyID     string `json:"kid"`
	Algorithm string `json:"alg"` // Algorithm
	Use       string `json:"use"` // "sig"
}

// JWKS is the document under /.well-known/jwks.json (RFC 7517, section 5).
type JWKS struct {
	Keys []JWK `json:"keys"`
}

// NewJWK returns the JWK of a public key.
func NewJWK(public ed25519.PublicKey) JWK { return jwkOf(KeyID(public), public) }

func jwkOf(keyID string, public ed25519.PublicKey) JWK {
	return JWK{
		KeyType:   "OKP",
		Curve:     "Ed25519",
		X:         encoding.EncodeToString(public),
		KeyID:     keyID,
		Algorithm: Algorithm,
		Use:       "sig",
	}
}

// Keyring is the set of keys whose tokens are valid, and the one among them that signs. Its owner
// loads keys from the database and replaces the whole set periodically; every Authority of the ring
// sees the new set at once. Safe for concurrent use.
//
// To rotate: publish the new key as a verification key until every replica has loaded it, then sign
// with it, and keep the old key for verification until the last token that it signed has expired.
type Keyring struct {
	replacing sync.Mutex // held while a new set is made; readers never wait
	set       atomic.Pointer[keySet]
}

// keySet is a state of the ring. It never changes after it is published.
type keySet struct {
	byHeader map[string]*verificationKey // by the first part of the tokens that the key signs
	byID     map[string]*verificationKey
	signing  SigningKey // zero while nothing signs
}

// verificationKey is one public key for as long as it is in the ring. A key that leaves and comes
// back is another verificationKey.
type verificationKey struct {
	id     string
	public ed25519.PublicKey
	header string // the only first part that a token of this key may have, base64url
	// withdrawn becomes true when the key leaves the ring, and stays true. Cached verifications
	// refer to it, so that withdrawing a key invalidates all of them, those included that are being
	// cached at that moment.
	withdrawn atomic.Bool
}

// NewKeyring returns a ring without keys: until Replace, nothing is issued and nothing verifies.
func NewKeyring() *Keyring {
	ring := &Keyring{}
	ring.set.Store(&keySet{})
	return ring
}

// Replace replaces the whole set atomically. The signing key verifies too; it may be the zero value
// in a process that only verifies. A key that is not an Ed25519 key is ErrKey and leaves the set
// unchanged.
func (k *Keyring) Replace(signing SigningKey, verifying ...ed25519.PublicKey) error {
	k.replacing.Lock()
	defer k.replacing.Unlock()

	before := k.set.Load()
	after := &keySet{
		byHeader: make(map[string]*verificationKey, len(verifying)+1),
		byID:     make(map[string]*verificationKey, len(verifying)+1),
		signing:  signing,
	}
	if !signing.IsZero() {
		verifying = append(slices.Clone(verifying), signing.Public())
	}
	for _, public := range verifying {
		if len(public) != ed25519.PublicKeySize {
			return ErrKey
		}
		keyID := KeyID(public)
		key, ok := before.byID[keyID] // reused, so that its verifications stay cached
		if !ok {
			key = &verificationKey{id: keyID, public: slices.Clone(public), header: headerOf(keyID)}
		}
		after.byID[keyID], after.byHeader[key.header] = key, key
	}

	k.set.Store(after)
	for keyID, key := range before.byID {
		if after.byID[keyID] == nil {
			key.withdrawn.Store(true)
		}
	}
	return nil
}

// Signing returns the id of the signing key; ok is false if there is none.
func (k *Keyring) Signing() (keyID string, ok bool) {
	signing := k.set.Load().signing
	return signing.ID(), !signing.IsZero()
}

// JWKS returns the public keys of the ring, ordered by id, so that the same set gives the same
// document.
func (k *Keyring) JWKS() JWKS {
	set := k.set.Load()
	keys := make([]JWK, 0, len(set.byID))
	for keyID, key := range set.byID {
		keys = append(keys, jwkOf(keyID, key.public))
	}
	slices.SortFunc(keys, func(a, b JWK) int { return cmp.Compare(a.KeyID, b.KeyID) })
	return JWKS{Keys: keys}
}

// headerOf returns the first part of the tokens of a key: its members, their order and their
// spelling are fixed.
func headerOf(keyID string) string {
	header, err := json.Marshal(struct {
		Algorithm string `json:"alg"`
		Type      string `json:"typ"`
		KeyID     string `json:"kid"`
	}{Algorithm, Type, keyID})
	if err != nil {
		panic(fmt.Sprintf("token: header: %v", err)) // three strings always encode
	}
	return encoding.EncodeToString(header)
}

// encoding is base64url without padding (RFC 7515, section 2), with left-over bits refused. It
// skips line breaks; decode does not.
var encoding = base64.RawURLEncoding.Strict()
