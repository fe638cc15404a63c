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

	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/sensitive"
)

// The opaque secrets and their formats. All of them are letters and digits with underscores between
// the parts, so that a double click selects the whole, and begin with a fixed prefix, so that
// scanners for leaked secrets find them.
//
//	API key (86 characters)        stw_<id, 32 hexadecimal digits>_<secret, 43><checksum, 6>
//	refresh token (96 characters)  str_<customer id, session id and secret, 86><checksum, 6>
//	cookie (96 characters)         stc_<the same>
//	mailed link (96 characters)    stl_<the same, with a user id in place of the session id>
//
// Everything but the hexadecimal digits is base62 of fixed width; an id has 16 bytes and a secret
// 32. The checksum is the CRC-32 (IEEE) of everything before it: it authenticates nothing, but
// refuses a mistyped or invented text without a query. The database stores the SHA-256 of the whole
// text; the secret has 256 random bits, so a slow hash would add nothing.
const (
	apiKeyPrefix  = "stw_"
	refreshPrefix = "str_"
	cookiePrefix  = "stc_"
	linkPrefix    = "stl_"

	secretSize = 32                   // bytes
	bearerSize = 16 + 16 + secretSize // bytes

	// Widths and lengths are in characters.
	secretWidth   = 43 // 62^43 > 256^32
	bearerWidth   = 86 // 62^86 > 256^64
	checksumWidth = 6  // 62^6 > 2^32
	keyIDWidth    = 32
	apiKeyLength  = len(apiKeyPrefix) + keyIDWidth + 1 + secretWidth + checksumWidth
	bearerLength  = len(refreshPrefix) + bearerWidth + checksumWidth // of every prefix

	base62Alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)

// ErrMalformed is returned for a text that is not an opaque secret of the expected kind. It never
// holds the text.
var ErrMalformed = errors.New("token: not a secret of ours")

// NewAPIKey makes an API key: the text, which is shown once, and the hash to store.
func NewAPIKey(keyID id.APIKey) (text sensitive.String, hash []byte) {
	return finish(
		apiKeyPrefix + hex.EncodeToString(keyID.UUID[:]) + "_" + toBase62(randomBytes(secretSize), secretWidth),
	)
}

// ParseAPIKey parses the text of an API key. It returns the id that the text claims, and the hash
// to compare with the stored one by SameHash. Any text that NewAPIKey cannot have made is
// ErrMalformed.
func ParseAPIKey(text string) (keyID id.APIKey, hash []byte, err error) {
	if !wellFormed(text, apiKeyPrefix, apiKeyLength) {
		return id.APIKey{}, nil, ErrMalformed
	}
	digits, secret := text[len(apiKeyPrefix):len(apiKeyPrefix)+keyIDWidth], text[len(apiKeyPrefix)+keyIDWidth:]
	var raw [16]byte
	_, err = hex.Decode(raw[:], []byte(digits))
	if err != nil || digits != strings.ToLower(digits) || secret[0] != '_' {
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

// NewRefresh makes a refresh token of a session, and the hash to store. The text holds the
// customer, so that the session can be looked up under row security, and the session, so that reuse
// of a token ends the right session.
func NewRefresh(customer id.Customer, session id.Session) (text sensitive.String, hash []byte) {
	return newBearer(refreshPrefix, customer.UUID, session.UUID)
}

// ParseRefresh parses a refresh token. It returns the session that it claims, and the hash to
// compare with the stored one by SameHash. Any text that NewRefresh cannot have made is
// ErrMalformed.
func ParseRefresh(text string) (customer id.Customer, session id.Session, hash []byte, err error) {
	customer.UUID, session.UUID, hash, err = parseBearer(refreshPrefix, text)
	return customer, session, hash, err
}

// NewCookie makes the value of a session cookie, and the hash to store. The value needs no quoting
// in a cookie (RFC 6265, section 4.1.1).
func NewCookie(customer id.Customer, session id.Session) (text sensitive.String, hash []byte) {
	return newBearer(cookiePrefix, customer.UUID, session.UUID)
}

// ParseCookie parses the value of a session cookie. It returns the session that it claims, and the
// hash to compare with the stored one by SameHash. Any text that NewCookie cannot have made is
// ErrMalformed.
func ParseCookie(text string) (customer id.Customer, session id.Session, hash []byte, err error) {
	customer.UUID, session.UUID, hash, err = parseBearer(cookiePrefix, text)
	return customer, session, hash, err
}

// NewLink makes the token of a mailed link, and the hash to store. It needs no escaping in a URL.
// Its purpose, its expiry and its use are stored with the hash, not in the text, so that no holder
// can change them.
func NewLink(customer id.Customer, user id.User) (text sensitive.String, hash []byte) {
	return newBearer(linkPrefix, customer.UUID, user.UUID)
}

// ParseLink parses the token of a mailed link. It returns the user that it claims, and the hash to
// compare with the stored one by SameHash. Any text that NewLink cannot have made is ErrMalformed.
func ParseLink(text string) (customer id.Customer, user id.User, hash []byte, err error) {
	customer.UUID, user.UUID, hash, err = parseBearer(linkPrefix, text)
	return customer, user, hash, err
}

// newBearer makes a secret that holds the ids of a customer and of one of its users or sessions.
// The checksum and the hash cover the prefix, so a text of one kind is not valid as another.
func newBearer(prefix string, customer, of uuid.UUID) (text sensitive.String, hash []byte) {
	content := make([]byte, 0, bearerSize)
	content = append(content, customer[:]...)
	content = append(content, of[:]...)
	content = append(content, randomBytes(secretSize)...)
	return finish(prefix + toBase62(content, bearerWidth))
}

// parseBearer parses a text that newBearer made with the same prefix.
func parseBearer(prefix, text string) (customer, of uuid.UUID, hash []byte, err error) {
	if !wellFormed(text, prefix, bearerLength) {
		return uuid.Nil, uuid.Nil, nil, ErrMalformed
	}
	content, ok := fromBase62(text[len(prefix):len(prefix)+bearerWidth], bearerSize)
	if !ok {
		return uuid.Nil, uuid.Nil, nil, ErrMalformed
	}
	customer, of = uuid.UUID(content[:16]), uuid.UUID(content[16:32])
	if customer == uuid.Nil || of == uuid.Nil {
		return uuid.Nil, uuid.Nil, nil, ErrMalformed
	}
	return customer, of, hashOf(text), nil
}

// SameHash reports, in constant time, whether a stored hash equals a presented one. It is false for
// two empty ones: a row without a hash authenticates no caller.
func SameHash(stored, presented []byte) bool {
	return len(stored) == sha256.Size && subtle.ConstantTimeCompare(stored, presented) == 1
}

func finish(body string) (sensitive.String, []byte) {
	text := body + checksum(body)
	return sensitive.New(text), hashOf(text)
}

// wellFormed reports whether prefix, length and checksum are valid, which no mistyped text passes.
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

// A chunk is as many digits of base62 as fit into 64 bits: big numbers are computed with once per
// chunk, not per digit.
const (
	base62      = uint64(len(base62Alphabet))
	chunkDigits = 10
	chunkBase   = base62 * base62 * base62 * base62 * base62 * base62 * base62 * base62 * base62 * base62
)

// toBase62 encodes a big-endian number with width digits, which must be enough for every number of
// that many bytes.
func toBase62(number []byte, width int) string {
	digits := bytes.Repeat([]byte{base62Alphabet[0]}, width)
	left, base, remainder := new(big.Int).SetBytes(number), new(big.Int).SetUint64(chunkBase), new(big.Int)
	for end := width; left.Sign() > 0; end -= chunkDigits {
		left.DivMod(left, base, remainder)
		for chunk, at := remainder.Uint64(), end-1; chunk > 0; at-- {
			digits[at] = base62Alphabet[chunk%base62]
			chunk /= base62
		}
	}
	return string(digits)
}

// fromBase62 decodes a number of size bytes that toBase62 encoded. It refuses larger numbers: each
// number has one text.
func fromBase62(digits string, size int) ([]byte, bool) {
	number, base, summand := new(big.Int), new(big.Int).SetUint64(chunkBase), new(big.Int)
	for len(digits) > 0 {
		// The first chunk may be shorter.
		width := (len(digits)-1)%chunkDigits + 1
		chunk := uint64(0)
		for i := range width {
			digit := strings.IndexByte(base62Alphabet, digits[i])
			if digit < 0 {
				return nil, false
			}
			chunk = chunk*base62 + uint64(digit)
		}
		number.Mul(number, base).Add(number, summand.SetUint64(chunk))
		digits = digits[width:]
	}
	if number.BitLen() > size*8 {
		return nil, false
	}
	return number.FillBytes(make([]byte, size)), true
}
