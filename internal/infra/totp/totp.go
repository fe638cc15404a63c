// Package totp implements the second factor: one-time codes of an authenticator (RFC 6238), and
// recovery codes for a lost authenticator.
//
// Owns: the format of the secret and of the URI for authenticators, the verification of codes, and
// the format and the hash of recovery codes.
// Does not own: where the sealed secret, the last step and the hashes are stored, who needs a
// second factor (secondfactor), the rate limit of attempts (session), and the QR code (the frontend
// draws the URI).
//
// The parameters are those that every authenticator supports, and many support no others:
// HMAC-SHA-1, 30 seconds, 6 digits. With three steps valid at once, a guess succeeds once in
// 333,000 attempts, so the caller must limit failures.
package totp

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base32"
	"errors"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"

	"github.com/fusionspim/steward/internal/base/sensitive"
)

const (
	digits = 6
	period = 30 // seconds
	// steps before and after the current one: clocks differ, and people type slowly
	window      = 1
	secretSize  = 20 // bytes, the size of SHA-1 (RFC 4226, section 4, R6)
	secretWidth = 32 // characters of base32
	maxCode     = 16 // bytes of a code as typed, with spaces
	maxLabel    = 64 // characters
)

var (
	// ErrSecret is returned for a secret that NewSecret has not made. It never holds the secret.
	ErrSecret = errors.New("totp: not a valid secret")
	// ErrLabel is returned by URI.
	ErrLabel = errors.New("totp: issuer and account must have 1 to 64 printable characters, " +
		"without a colon or a slash, and without a space at either end")
)

// NewSecret makes the secret that an authenticator and Steward share: 160 random bits as 32 letters
// and digits in base32 (RFC 4648, section 6), which users type where they cannot scan. It yields
// every code, so store it sealed and show it once.
func NewSecret() sensitive.String {
	var raw [secretSize]byte
	_, _ = rand.Read(raw[:]) // never fails: the program ends instead, since Go 1.24
	return sensitive.New(base32.StdEncoding.EncodeToString(raw[:]))
}

// URI returns the URI from which an authenticator imports the secret (otpauth://totp/...), to be
// shown as a QR code. It holds the secret. An authenticator displays issuer and account and may
// back them up to a third party's cloud: the account should be a pseudonym, such as the customer's
// slug and a few characters of the user's id, never an e-mail address. Errors: ErrSecret, ErrLabel.
func URI(secret sensitive.String, issuer, account string) (sensitive.String, error) {
	if !isSecret(secret) {
		return sensitive.String{}, ErrSecret
	}
	if !validLabel(issuer) || !validLabel(account) {
		return sensitive.String{}, ErrLabel
	}
	// Not by the library, which does not escape an ampersand in a name.
	query := url.Values{
		"secret":    {secret.Reveal()},
		"issuer":    {issuer},
		"algorithm": {"SHA1"},
		"digits":    {strconv.Itoa(digits)},
		"period":    {strconv.Itoa(period)},
	}
	text := "otpauth://totp/" + url.QueryEscape(issuer) + ":" + url.QueryEscape(account) + "?" + query.Encode()
	// Authenticators do not decode a plus to a space; a literal plus is escaped by now.
	return sensitive.New(strings.ReplaceAll(text, "+", "%20")), nil
}

// Verify reports whether a code is that of the current step of 30 seconds, the previous or the
// next, and which step it is. The caller stores that step and passes it as lastStep the next time,
// zero the first time: a code is valid once, and no earlier one is valid after it (RFC 6238,
// section 5.2). Store it by an update that fails if another request has stored the same step
// meanwhile.
//
// The code is 6 digits; spaces are ignored, for authenticators show two groups. A secret that
// NewSecret has not made gives false.
func Verify(secret sensitive.String, code string, now time.Time, lastStep int64) (step int64, ok bool) {
	typed, wellFormed := parseCode(code)
	// The library accepts an empty secret, whose codes anyone can compute.
	if !wellFormed || !isSecret(secret) {
		return 0, false
	}
	current := stepAt(now)
	// All steps are compared, and the last match is returned: if adjacent steps have the same code,
	// it is still valid only once.
	for candidate := current - window; candidate <= current+window; candidate++ {
		expected, err := codeOf(secret, candidate)
		if err == nil && subtle.ConstantTimeCompare([]byte(expected), []byte(typed)) == 1 && candidate > lastStep {
			step, ok = candidate, true
		}
	}
	return step, ok
}

// Code returns the code that an authenticator shows at a time. It is for tests and demonstrations.
func Code(secret sensitive.String, at time.Time) (string, error) {
	if !isSecret(secret) {
		return "", ErrSecret
	}
	return codeOf(secret, stepAt(at))
}

func codeOf(secret sensitive.String, step int64) (string, error) {
	if step < 0 {
		return "", ErrSecret // before 1970
	}
	code, err := hotp.GenerateCodeCustom(secret.Reveal(), uint64(step),
		hotp.ValidateOpts{Digits: otp.DigitsSix, Algorithm: otp.AlgorithmSHA1})
	if err != nil {
		return "", ErrSecret
	}
	return code, nil
}

func stepAt(moment time.Time) int64 {
	seconds := moment.Unix()
	if seconds < 0 {
		return -1 - window // so that the whole window is negative
	}
	return seconds / period
}

// isSecret is stricter than the library: a secret has one spelling.
func isSecret(secret sensitive.String) bool {
	raw, err := base32.StdEncoding.DecodeString(secret.Reveal())
	return len(secret.Reveal()) == secretWidth && err == nil && len(raw) == secretSize
}

func parseCode(code string) (string, bool) {
	if len(code) > maxCode {
		return "", false
	}
	code = strings.ReplaceAll(code, " ", "")
	notDigit := func(r rune) bool { return r < '0' || r > '9' }
	return code, len(code) == digits && !strings.ContainsFunc(code, notDigit)
}

func validLabel(label string) bool {
	invalid := func(r rune) bool { return r == ':' || r == '/' || r == utf8.RuneError || !unicode.IsPrint(r) }
	return label != "" && utf8.RuneCountInString(label) <= maxLabel && !strings.ContainsFunc(label, invalid) &&
		strings.TrimSpace(label) == label
}
