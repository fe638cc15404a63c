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

// The opaque secrets and their forms. All of them are letters and digits with underscores between
// the parts, so that a double click selects the whole, and begin with a fixed word, so that
// scanners for leaked secrets find them.
//
//	API key        stw_<32 hexadecimal digits: key id>_<43: secret of 32 bytes><6: checksum>                   86 characters
//	refresh token  str_<86: customer id of 16 bytes, session id of 16, secret of 32><6: checksum>              96 characters
//	cookie         stc_<the same>                                                                              96 characters
//	mailed link    stl_<the same, with a user id in place of the session id>                                   96 characters
//
// Everything but the hexadecimal digits is base62 of fixed width. The checksum is the CRC-32 (IEEE)
// of everything before it: it proves nothing, but a mistyped or invented text is turned away
// without asking the database. What is stored is the SHA-256 of the whole text; the secret has 256
// random bits, so a slow hash would add nothing.
const (
	apiKeyPrefix  = "stw_"
	refreshPrefix = "str_"
	cookiePrefix  = "stc_"
	linkPrefix    = "stl_"

	secretSize = 32 // bytes
	// characters: 62^43 > 256^32
	secretWidth = 43
	bearerSize  = 16 + 16 + secretSize // bytes
	// characters: 62^86 > 256^64
	bearerWidth = 86
	// characters: 62^6 > 2^32
	checksumWidth = 6
	keyIDWidth    = 32                                                               // characters
	apiKeyLength  = len(apiKeyPrefix) + keyIDWidth + 1 + secretWidth + checksumWidth // characters
	// characters; all prefixes are of one length
	bearerLength   = len(refreshPrefix) + bearerWidth + checksumWidth
	base62Alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)

// ErrMalformed is returned for a text that cannot be an opaque secret of ours, or not of the kind
// asked for. It never holds the text.
var ErrMalformed = errors.New("token: not a secret of ours")

// NewAPIKey makes the text of an API key, which is shown once, and the hash under which it is
// stored.
func NewAPIKey(keyID id.APIKey) (text sensitive.String, hash []byte) {
	return finish(
		apiKeyPrefix + hex.EncodeToString(keyID.UUID[:]) + "_" + toBase62(randomBytes(secretSize), secretWidth),
	)
}

// ParseAPIKey reads the text of an API key: the key that it claims to be, and the hash to compare
// with the stored one by SameHash. Anything that NewAPIKey cannot have made is ErrMalformed.
func ParseAPIKey(text string) (keyID id.APIKey, hash []byte, err error) {
	if !wellFormed(text, apiKeyPrefix, apiKeyLength) {
		return id.APIKey{}, nil, ErrMalformed
	}
	digits, secret := text[len(apiKeyPrefix):len(apiKeyPrefix)+keyIDWidth], text[len(apiKeyPrefix)+keyIDWidth:]
	var raw [16]byte
	if _, err := hex.Decode(
		raw[:],
		[]byte(digits),
	); err != nil || digits != strings.ToLower(digits) ||
		secret[0] != '_' {
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

// NewRefresh makes a refresh token of a session, and the hash under which it is stored. The text
// names the customer, so that the session can be looked up where only that customer's rows are
// seen, and the session, so that a token used twice ends the right one.
func NewRefresh(customer id.Customer, session id.Session) (text sensitive.String, hash []byte) {
	return newBearer(refreshPrefix, customer.UUID, session.UUID)
}

// ParseRefresh reads a refresh token: whose it claims to be, and the hash to compare with the
// stored one by SameHash. Anything that NewRefresh cannot have made is ErrMalformed.
func ParseRefresh(text string) (customer id.Customer, session id.Session, hash []byte, err error) {
	customer.UUID, session.UUID, hash, err = parseBearer(refreshPrefix, text)
	return customer, session, hash, err
}

// NewCookie makes the value of the cookie that carries a session in a browser, and the hash under
// which it is stored. It needs no quoting in a cookie (RFC 6265, section 4.1.1).
func NewCookie(customer id.Customer, session id.Session) (text sensitive.String, hash []byte) {
	return newBearer(cookiePrefix, customer.UUID, session.UUID)
}

// ParseCookie reads the value of a cookie: whose session it claims to be, and the hash to compare
// with the stored one by SameHash. Anything that NewCookie cannot have made is ErrMalformed.
func ParseCookie(text string) (customer id.Customer, session id.Session, hash []byte, err error) {
	customer.UUID, session.UUID, hash, err = parseBearer(cookiePrefix, text)
	return customer, session, hash, err
}

// NewLink makes the token of a link that is mailed to somebody, and the hash under which it is
// stored. It needs no escaping anywhere in a URL. What it is for, until when, and that it is used
// once only is kept with the hash, not in the text, so that no holder can change it.
func NewLink(customer id.Customer, user id.User) (text sensitive.String, hash []byte) {
	return newBearer(linkPrefix, customer.UUID, user.UUID)
}

// ParseLink reads the token of a mailed link: whom it claims to be for, and the hash to compare
// with the stored one by SameHash. Anything that NewLink cannot have made is ErrMalformed.
func ParseLink(text string) (customer id.Customer, user id.User, hash []byte, err error) {
	customer.UUID, user.UUID, hash, err = parseBearer(linkPrefix, text)
	return customer, user, hash, err
}

// newBearer makes a secret that names a customer and something of that customer's. The prefix says
// what, and is under the checksum and the hash: a text of one kind is none of another.
func newBearer(prefix string, customer, of uuid.UUID) (text sensitive.String, hash []byte) {
	content := make([]byte, 0, bearerSize)
	content = append(content, customer[:]...)
	content = append(content, of[:]...)
	content = append(content, randomBytes(secretSize)...)
	return finish(prefix + toBase62(content, bearerWidth))
}

// parseBearer reads what newBearer made with the same prefix.
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

// SameHash compares a stored hash with a presented one in constant time. Two empty ones are not the
// same: a row without a hash lets nobody in.
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

// As many digits of base62 as fit into 64 bits are a chunk: big numbers are reckoned with once for
// each chunk, not for each digit.
const (
	base62      = uint64(len(base62Alphabet))
	chunkDigits = 10
	chunkBase   = base62 * base62 * base62 * base62 * base62 * base62 * base62 * base62 * base62 * base62
)

// toBase62 writes a big-endian number with the given number of digits; width must be enough for
// every number of that many bytes.
func toBase62(number []byte, width int) string {
	digits := bytes.Repeat([]byte{base62Alphabet[0]}, width)
	rest, base, remainder := new(big.Int).SetBytes(number), new(big.Int).SetUint64(chunkBase), new(big.Int)
	for end := width; rest.Sign() > 0; end -= chunkDigits {
		rest.DivMod(rest, base, remainder)
		for chunk, at := remainder.Uint64(), end-1; chunk > 0; at-- {
			digits[at] = base62Alphabet[chunk%base62]
			chunk /= base62
		}
	}
	return string(digits)
}

// fromBase62 reads what toBase62 wrote for a number of size bytes. Digits beyond that size are
// refused: one number has one text.
func fromBase62(digits string, size int) ([]byte, bool) {
	number, base, summand := new(big.Int), new(big.Int).SetUint64(chunkBase), new(big.Int)
	for len(digits) > 0 {
		// the first chunk may be shorter, the others are whole
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
