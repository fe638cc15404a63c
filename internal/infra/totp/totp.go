// Package totp is the second factor: one-time codes from an authenticator (RFC 6238), and recovery
// codes for when it is lost.
//
// Owns: the form of the secret and of the address that an authenticator reads, which code counts at
// which moment, and the form and the hash of recovery codes.
// Does not own: where the sealed secret, the last step and the hashes are kept, who needs a second
// factor, how often somebody may try (session), and the drawing of a QR code (the frontend draws
// the address).
//
// The parameters are those that every authenticator knows, and many know no others: HMAC-SHA-1, 30
// seconds, 6 digits. A code of 6 digits is guessed by one try in 333,000, with three steps open at
// once, so the caller must count the failures.
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
	// steps before and after the present one: clocks differ, and people type slowly
	window      = 1
	secretSize  = 20 // bytes, as many as SHA-1 gives (RFC 4226, section 4, R6)
	secretWidth = 32 // characters of base32
	maxCode     = 16 // bytes of a code as somebody types it, with spaces
	maxLabel    = 64 // characters
)

var (
	// ErrSecret is returned for a secret that NewSecret has not made. It never holds the secret.
	ErrSecret = errors.New("totp: not a secret of ours")
	// ErrLabel is returned by URI.
	ErrLabel = errors.New(
		"totp: issuer and account must have 1 to 64 characters that can be shown, and no colon, slash or space at an end",
	)
)

// NewSecret makes the secret that an authenticator and Steward share: 160 random bits as 32 letters
// and digits in base32 (RFC 4648, section 6), which is what people type where they cannot scan.
// Whoever has it has every code, so it is kept sealed and shown once.
func NewSecret() sensitive.String {
	var raw [secretSize]byte
	_, _ = rand.Read(raw[:]) // never fails: the program ends instead, since Go 1.24
	return sensitive.New(base32.StdEncoding.EncodeToString(raw[:]))
}

// URI returns the address by which an authenticator takes over the secret (otpauth://totp/...), to
// be shown as a QR code. It holds the secret. An authenticator shows issuer and account to tell its
// entries apart and may copy them to somebody's cloud: the account should be a name that means
// nothing to others, such as the customer's slug and a few characters of the user's id, never an
// e-mail address.
func URI(secret sensitive.String, issuer, account string) (sensitive.String, error) {
	if !isSecret(secret) {
		return sensitive.String{}, ErrSecret
	}
	if !goodLabel(issuer) || !goodLabel(account) {
		return sensitive.String{}, ErrLabel
	}
	// Not by the library, which lets an ampersand in a name begin another parameter.
	query := url.Values{
		"secret": {
			secret.Reveal(),
		},
		"issuer":    {issuer},
		"algorithm": {"SHA1"},
		"digits":    {strconv.Itoa(digits)},
		"period":    {strconv.Itoa(period)},
	}
	text := "otpauth://totp/" + url.QueryEscape(issuer) + ":" + url.QueryEscape(account) + "?" + query.Encode()
	// authenticators show a plus for what it is; a real one is escaped by now
	return sensitive.New(strings.ReplaceAll(text, "+", "%20")), nil
}

// Verify tells whether a code is the one of the present step of 30 seconds, the one before or the
// one after, and which step it belongs to. The caller keeps that step and hands it in as lastStep
// at the next time, zero at the first: a code counts once, and none before it counts any more (RFC
// 6238, section 5.2). Keep it by an update that fails if another request has kept the same step in
// the meantime.
//
// The code is 6 digits; spaces are passed over, for authenticators show them in two groups. A
// secret that NewSecret has not made gives false.
func Verify(secret sensitive.String, code string, now time.Time, lastStep int64) (step int64, ok bool) {
	typed, wellFormed := parseCode(code)
	// the library takes an empty secret, for which everybody knows the codes
	if !wellFormed || !isSecret(secret) {
		return 0, false
	}
	present := stepAt(now)
	// All steps are compared, and the latest that fits is taken: if neighbouring steps should have
	// the same code, it still counts once only.
	for candidate := present - window; candidate <= present+window; candidate++ {
		expected, err := codeOf(secret, candidate)
		if err == nil && subtle.ConstantTimeCompare([]byte(expected), []byte(typed)) == 1 && candidate > lastStep {
			step, ok = candidate, true
		}
	}
	return step, ok
}

// Code returns what an authenticator shows at a moment. It is for tests and demonstrations; Steward
// itself never needs it.
func Code(secret sensitive.String, at time.Time) (string, error) {
	if !isSecret(secret) {
		return "", ErrSecret
	}
	return codeOf(secret, stepAt(at))
}

func codeOf(secret sensitive.String, step int64) (string, error) {
	if step < 0 {
		return "", ErrSecret // before 1970 there are no codes
	}
	code, err := hotp.GenerateCodeCustom(
		secret.Reveal(),
		uint64(step),
		hotp.ValidateOpts{Digits: otp.DigitsSix, Algorithm: otp.AlgorithmSHA1},
	)
	if err != nil {
		return "", ErrSecret
	}
	return code, nil
}

func stepAt(moment time.Time) int64 {
	seconds := moment.Unix()
	if seconds < 0 {
		return -1 - window // so that no step of the window is one
	}
	return seconds / period
}

// isSecret is stricter than the library: one secret has one text.
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

func goodLabel(label string) bool {
	unfit := func(r rune) bool { return r == ':' || r == '/' || r == utf8.RuneError || !unicode.IsPrint(r) }
	return label != "" && utf8.RuneCountInString(label) <= maxLabel && !strings.ContainsFunc(label, unfit) &&
		strings.TrimSpace(label) == label
}
