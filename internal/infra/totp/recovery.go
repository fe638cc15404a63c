package totp

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"strings"

	"github.com/fusionspim/steward/internal/base/sensitive"
)

// RecoveryCodes is how many recovery codes a user gets at once.
const RecoveryCodes = 10

const (
	// recoverySize is in bytes: 80 bits, so that a fast hash is enough and guessing is infeasible
	// even with the hashes.
	recoverySize  = 10
	recoveryWidth = 16 // characters of base32, without loss
	recoveryGroup = 4  // characters between two hyphens
	maxRecovery   = 64 // bytes of a recovery code as typed
	// recoveryAlphabet is Crockford's base32: no I, L, O, which are read as 1, 1 and 0, and no U.
	recoveryAlphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	// recoveryLabel separates these hashes from all others.
	recoveryLabel = "steward/v1/recovery-code/"
)

// ErrRecoveryCode is returned for a text that is not a recovery code. It never holds the text.
var ErrRecoveryCode = errors.New("totp: not a recovery code")

// NewRecoveryCodes makes n codes that each replace the second factor once: 16 characters in groups
// of four, such as 7KQ2-M0XB-95TD-HR3W. Show them once, and store the hashes, which are in the same
// order and have 32 bytes each.
func NewRecoveryCodes(n int) (codes []sensitive.String, hashes [][]byte) {
	for range n {
		var raw [recoverySize]byte
		_, _ = rand.Read(raw[:]) // never fails: the program ends instead, since Go 1.24
		text := recoveryEncoding().EncodeToString(raw[:])
		codes = append(codes, sensitive.New(grouped(text)))
		hashes = append(hashes, recoveryHash(text))
	}
	return codes, hashes
}

// HashRecoveryCode returns the hash under which a recovery code is stored. It ignores case, spaces
// and hyphens, and reads letters that look like digits as these. A text that NewRecoveryCodes
// cannot have made is ErrRecoveryCode, in particular a code of an authenticator.
func HashRecoveryCode(text string) ([]byte, error) {
	if len(text) > maxRecovery {
		return nil, ErrRecoveryCode
	}
	text = strings.NewReplacer(" ", "", "-", "", "O", "0", "I", "1", "L", "1").Replace(upper(text))
	// Every text of this length in this alphabet is a code: 16 characters of 5 bits are 80 bits.
	outside := func(r rune) bool { return !strings.ContainsRune(recoveryAlphabet, r) }
	if len(text) != recoveryWidth || strings.ContainsFunc(text, outside) {
		return nil, ErrRecoveryCode
	}
	return recoveryHash(text), nil
}

func recoveryEncoding() *base32.Encoding {
	return base32.NewEncoding(recoveryAlphabet).WithPadding(base32.NoPadding)
}

func recoveryHash(text string) []byte {
	sum := sha256.Sum256([]byte(recoveryLabel + text))
	return sum[:]
}

func grouped(text string) string {
	var groups []string
	for ; text != ""; text = text[recoveryGroup:] {
		groups = append(groups, text[:recoveryGroup])
	}
	return strings.Join(groups, "-")
}

// upper is strings.ToUpper for ASCII alone, so that a dotless ı does not become I.
func upper(text string) string {
	return strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' {
			return r - 'a' + 'A'
		}
		return r
	}, text)
}
