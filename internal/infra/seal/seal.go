// Package seal encrypts and authenticates what leaves Steward's hands for a while: pages' cursors,
// remembered answers, signing keys at rest.
//
// Owns: the master key, the keys derived from it, and the two forms made with them: a sealed box
// and an authentication code.
// Does not own: where the master key comes from (settings) and what is sealed (the callers).
//
// One master key of 32 bytes serves every purpose. Each purpose has a label and, through
// HKDF-SHA256 (RFC 5869), keys of its own, so that a box of one purpose never opens as another, and
// a code of one purpose is never taken for another's.
package seal

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"

	"github.com/fusionspim/steward/internal/base/sensitive"
)

const (
	// MasterKeySize is the size of a master key, in bytes.
	MasterKeySize = 32
	// MACSize is the size of an authentication code, in bytes.
	MACSize = sha256.Size

	keySize  = 32 // AES-256 and HMAC-SHA256
	saltSize = 16 // drawn for each message, see Seal
	gcmSize  = 12 + 16

	// version is the first byte of every box, so that another construction can follow this one.
	version = 1
	// Overhead is how many bytes a box is longer than what it holds.
	Overhead = 1 + saltSize + gcmSize
)

var (
	// ErrMasterKey is returned for a text that is not a master key. It never holds the text.
	ErrMasterKey = errors.New(
		"seal: the master key must be 32 random bytes in base64, as `openssl rand -base64 32` prints them",
	)
	// ErrOpen is returned for anything that Open does not open: another key, label or additional
	// data, a changed byte, or no box at all. The cases are not told apart, because only an
	// attacker would want to know.
	ErrOpen = errors.New("seal: does not open")
)

// Box seals and opens with keys derived from one master key. Safe for concurrent use. Printing one
// shows nothing of the key.
type Box struct {
	secret []byte   // the pseudorandom key of HKDF's extraction
	keys   sync.Map // purpose -> []byte; as many entries as the code has labels
}

// New makes a box from a master key of exactly MasterKeySize bytes. A key whose bytes are all alike
// is a placeholder and refused.
func New(masterKey []byte) (*Box, error) {
	if len(masterKey) != MasterKeySize || bytes.Count(masterKey, masterKey[:1]) == MasterKeySize {
		return nil, ErrMasterKey
	}
	secret, err := hkdf.Extract(sha256.New, masterKey, []byte("steward"))
	if err != nil {
		return nil, fmt.Errorf("seal: extracting: %w", err)
	}
	return &Box{secret: secret}, nil
}

// ParseMasterKey makes a box from the text of a master key: 32 bytes in standard base64 (RFC 4648,
// section 4), with or without padding.
func ParseMasterKey(text sensitive.String) (*Box, error) {
	// The decoder skips line breaks, and a secret read from a file usually ends in one; those
	// inside the text are refused by the length.
	trimmed := strings.TrimRight(strings.TrimSpace(text.Reveal()), "=")
	if len(trimmed) != base64.RawStdEncoding.EncodedLen(MasterKeySize) {
		return nil, ErrMasterKey
	}
	key, err := base64.RawStdEncoding.Strict().DecodeString(trimmed)
	if err != nil {
		return nil, ErrMasterKey // not the decoder's error, which shows a position in the secret
	}
	return New(key)
}

// Seal encrypts and authenticates plaintext, and authenticates additional with it without storing
// it: what is opened must be opened with the same label and the same additional data (a row's id,
// say, so that a box cannot be moved to another row). The label is a constant of the calling code,
// never a value from outside. The box is Overhead bytes longer than the plaintext, and two boxes of
// one plaintext differ.
//
// AES-256-GCM with a random nonce, under a key derived for this one message from a random salt: a
// single key would be worn out after 2^32 messages (NIST SP 800-38D, section 8.3), which remembered
// answers reach within weeks under load.
func (b *Box) Seal(label string, plaintext, additional []byte) []byte {
	box := make([]byte, 1+saltSize, Overhead+len(plaintext))
	box[0] = version
	_, _ = rand.Read(box[1:]) // never fails: the program ends instead, since Go 1.24
	return b.cipher(label, box[1:]).Seal(box, nil, plaintext, additional)
}

// Open returns what Seal was given, or ErrOpen.
func (b *Box) Open(label string, box, additional []byte) ([]byte, error) {
	if len(box) < Overhead || box[0] != version {
		return nil, ErrOpen
	}
	plaintext, err := b.cipher(label, box[1:1+saltSize]).Open(nil, nil, box[1+saltSize:], additional)
	if err != nil {
		return nil, ErrOpen
	}
	return plaintext, nil
}

// MAC returns the authentication code of the parts, in their order: HMAC-SHA256 (RFC 2104) over the
// number of parts and each part behind its length, so that moving a byte from one part to the next
// gives another code. The label is a constant of the calling code.
func (b *Box) MAC(label string, parts ...[]byte) []byte {
	mac := hmac.New(sha256.New, b.key("mac", label))
	var number [8]byte
	count := func(n int) {
		binary.BigEndian.PutUint64(number[:], uint64(n))
		mac.Write(number[:])
	}
	count(len(parts))
	for _, part := range parts {
		count(len(part))
		mac.Write(part)
	}
	return mac.Sum(nil)
}

// ValidMAC tells in constant time whether mac is the code that MAC returns for the same label and
// parts.
func (b *Box) ValidMAC(label string, mac []byte, parts ...[]byte) bool {
	return hmac.Equal(mac, b.MAC(label, parts...))
}

// String implements fmt.Stringer.
func (*Box) String() string { return "***" }

// Format implements fmt.Formatter, so that no verb reaches the keys.
func (*Box) Format(state fmt.State, _ rune) { _, _ = state.Write([]byte("***")) }

// LogValue implements slog.LogValuer.
func (*Box) LogValue() slog.Value { return slog.StringValue("***") }

// cipher returns the cipher of one message. It panics only where this file contradicts itself about
// sizes.
func (b *Box) cipher(label string, salt []byte) cipher.AEAD {
	key, err := hkdf.Expand(sha256.New, b.key("seal", label), string(salt), keySize)
	if err != nil {
		panic(fmt.Sprintf("seal: expanding: %v", err))
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(fmt.Sprintf("seal: cipher: %v", err))
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(fmt.Sprintf("seal: mode: %v", err))
	}
	return aead
}

// key returns the key of one purpose, derived once. The use comes first and holds no slash, so that
// no label runs into another use.
func (b *Box) key(use, label string) []byte {
	purpose := "steward/v1/" + use + "/" + label
	if known, ok := b.keys.Load(purpose); ok {
		return known.([]byte)
	}
	key, err := hkdf.Expand(sha256.New, b.secret, purpose, keySize)
	if err != nil {
		panic(fmt.Sprintf("seal: expanding: %v", err)) // only for a size above 8,160 bytes
	}
	known, _ := b.keys.LoadOrStore(purpose, key)
	return known.([]byte)
}
