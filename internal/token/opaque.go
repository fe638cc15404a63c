package token

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"math/big"
	"strings"

	"github.com/google/uuid"

	"github.com/fusionspim/steward/internal/id"
	"github.com/fusionspim/steward/internal/sensitive"
)

// The opaque secrets and their forms. All of them are letters and digits with underscores between the parts, so that a double click selects
// the whole, and begin with a fixed word, so that scanners for leaked secrets find them.
//
//	API key        stw_<32 hexadecimal digits: key id>_<43: secret of 32 bytes><6: checksum>                   86 characters
//	refresh token  str_<86: customer id of 16 bytes, session id of 16, secret of 32><6: checksum>              96 characters
//
// Everything but the hexadecimal digits is base62 of fixed width. The checksum is the CRC-32 (IEEE) of everything before it: it proves
// nothing, but a mistyped or invented text is turned away without asking the database. What is stored is the SHA-256 of the whole text; the
// secret has 256 random bits, so a slow hash would add nothing.
const (
	apiKeyPrefix  = "stw_"
	refreshPrefix = "str_"

	secretSize     = 32                                                               // bytes
	secretWidth    = 43                                                               // characters: 62^43 > 256^32
	refreshSize    = 16 + 16 + secretSize                                             // bytes
	refreshWidth   = 86                                                               // characters: 62^86 > 256^64
	checksumWidth  = 6                                                                // characters: 62^6 > 2^32
	keyIDWidth     = 32                                                               // characters
	apiKeyLength   = len(apiKeyPrefix) + keyIDWidth + 1 + secretWidth + checksumWidth // characters
	refreshLength  = len(refreshPrefix) + refreshWidth + checksumWidth                // characters
	base62Alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)

// ErrMalformed is returned for a text that cannot be an API key or a refresh token of ours. It never holds the text.
var ErrMalformed = errors.New("token: not a secret of ours")

// NewAPIKey makes the text of an API key, which is shown once, and the hash under which it is stored.
func NewAPIKey(keyID id.APIKey) (text sensitive.String, hash []byte) {
	return finish(apiKeyPrefix + hex.EncodeToString(keyID.UUID[:]) + "_" + toBase62(randomBytes(secretSize), secretWidth))
}

// ParseAPIKey reads the text of an API key: the key that it claims to be, and the hash to compare with the stored one by SameHash. Anything
// that NewAPIKey cannot have made is ErrMalformed.
func ParseAPIKey(text string) (keyID id.APIKey, hash []byte, err error) {
	if !wellFormed(text, apiKeyPrefix, apiKeyLength) {
		return id.APIKey{}, nil, ErrMalformed
	}
	digits, secret := text[len(apiKeyPrefix):len(apiKeyPrefix)+keyIDWidth], text[len(apiKeyPrefix)+keyIDWidth:]
	var raw [16]byte
	if _, err := hex.Decode(raw[:], []byte(digits)); err != nil || digits != strings.ToLower(digits) || secret[0] != '_' {
		return id.APIKey{}, nil, ErrMalformed
	}
	if _, ok := fromBase62(secret[1:1+secretWidth], secretSize); !ok {
		return id.APIKey{}, nil, ErrMalformed
	}
	keyID = id.APIKey{UUID: uuid.UUID(raw)}
	if keyID.IsZero() {
		return id.APIKey{}, nil, ErrMalformed
	}
	return keyID, hashOf(text), nil
}

// NewRefresh makes a refresh token of a session, and the hash under which it is stored. The text names the customer, so that the session can
// be looked up where only that customer's rows are seen, and the session, so that a token used twice ends the right one.
func NewRefresh(customer id.Customer, session id.Session) (text sensitive.String, hash []byte) {
	content := make([]byte, 0, refreshSize)
	content = append(content, customer.UUID[:]...)
	content = append(content, session.UUID[:]...)
	content = append(content, randomBytes(secretSize)...)
	return finish(refreshPrefix + toBase62(content, refreshWidth))
}

// ParseRefresh reads a refresh token: whose it claims to be, and the hash to compare with the stored one by SameHash. Anything that
// NewRefresh cannot have made is ErrMalformed.
func ParseRefresh(text string) (customer id.Customer, session id.Session, hash []byte, err error) {
	if !wellFormed(text, refreshPrefix, refreshLength) {
		return id.Customer{}, id.Session{}, nil, ErrMalformed
	}
	content, ok := fromBase62(text[len(refreshPrefix):len(refreshPrefix)+refreshWidth], refreshSize)
	if !ok {
		return id.Customer{}, id.Session{}, nil, ErrMalformed
	}
	customer, session = id.Customer{UUID: uuid.UUID(content[:16])}, id.Session{UUID: uuid.UUID(content[16:32])}
	if customer.IsZero() || session.IsZero() {
		return id.Customer{}, id.Session{}, nil, ErrMalformed
	}
	return customer, session, hashOf(text), nil
}

// SameHash compares a stored hash with a presented one in constant time. Two empty ones are not the same: a row without a hash lets nobody in.
func SameHash(stored, presented []byte) bool {
	return len(stored) == sha256.Size && subtle.ConstantTimeCompare(stored, presented) == 1
}

func finish(body string) (sensitive.String, []byte) {
	text := body + checksum(body)
	return sensitive.New(text), hashOf(text)
}

// wellFormed checks prefix, length and checksum, which is all that a mistyped text fails.
func wellFormed(text, prefix string, length int) bool {
	if len(text) != length || !strings.HasPrefix(text, prefix) {
		return false
	}
	body := text[:length-checksumWidth]
	return text[length-checksumWidth:] == checksum(body)
}

func checksum(body string) string {
	sum := crc32.ChecksumIEEE([]byte(body))
	return toBase62([]byte{byte(sum >> 24), byte(sum >> 16), byte(sum >> 8), byte(sum)}, checksumWidth)
}

func hashOf(text string) []byte {
	sum := sha256.Sum256([]byte(text))
	return sum[:]
}

func randomBytes(n int) []byte {
	drawn := make([]byte, n)
	_, _ = rand.Read(drawn) // never fails: the program ends instead, since Go 1.24
	return drawn
}

// toBase62 writes a big-endian number with the given number of digits; width must be enough for every number of that many bytes.
func toBase62(number []byte, width int) string {
	digits := bytes.Repeat([]byte{base62Alphabet[0]}, width)
	rest, base, digit := new(big.Int).SetBytes(number), big.NewInt(int64(len(base62Alphabet))), new(big.Int)
	for at := width - 1; rest.Sign() > 0; at-- {
		rest.DivMod(rest, base, digit)
		digits[at] = base62Alphabet[digit.Int64()]
	}
	return string(digits)
}

// fromBase62 reads what toBase62 wrote for a number of size bytes. Digits beyond that size are refused: one number has one text.
func fromBase62(digits string, size int) ([]byte, bool) {
	number, base := new(big.Int), big.NewInt(int64(len(base62Alphabet)))
	for i := range len(digits) {
		digit := strings.IndexByte(base62Alphabet, digits[i])
		if digit < 0 {
			return nil, false
		}
		number.Mul(number, base).Add(number, big.NewInt(int64(digit)))
	}
	if number.BitLen() > size*8 {
		return nil, false
	}
	return number.FillBytes(make([]byte, size)), true
}
