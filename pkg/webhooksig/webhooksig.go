// Package webhooksig verifies that a webhook came from Steward, and reads its event.
//
// Steward signs as Standard Webhooks requires (https://www.standardwebhooks.com): the headers
// webhook-id, webhook-timestamp and webhook-signature, the latter with one HMAC-SHA256 for each
// live secret. While a secret is being rotated there are two, so a receiver may change over at any
// moment of the overlap.
//
// [NewHandler] is a whole receiver. A receiver of its own kind reads the body and calls [VerifyNow]
// and [ParseEvent]:
//
//	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, webhooksig.MaxBodyBytes))
//	...
//	if _, err := webhooksig.VerifyNow(secrets, r.Header, body); err != nil {
//		http.Error(w, "not from Steward", http.StatusUnauthorized)
//		return
//	}
//	event, err := webhooksig.ParseEvent(body)
//
// A webhook arrives at least once. Its ID is the same every time, and is the id of the event in GET
// /v1/events: store it, and ignore an event that was processed before. Verify the body as it
// arrived, byte by byte, before anything parses it.
//
// # Stability
//
// The module follows semantic versioning. Until v1, a minor version may change the API, and the
// changelog says how; the form of signatures and headers does not change with it. More event types
// may be added in any version: treat an unknown [EventType] as one to ignore.
//
// The module needs Go 1.22 and the standard library only.
package webhooksig

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// The headers of a webhook.
const (
	HeaderID        = "Webhook-Id"
	HeaderTimestamp = "Webhook-Timestamp"
	HeaderSignature = "Webhook-Signature"
)

const (
	// DefaultTolerance is how far the time of a webhook may lie from the receiver's.
	DefaultTolerance = 5 * time.Minute
	// MaxBodyBytes is longer than any webhook of Steward's.
	MaxBodyBytes = 16 << 10

	prefix        = "whsec_"
	scheme        = "v1,"
	minSecret     = 24 // bytes, as the standard has it
	maxSecret     = 64
	newSecret     = 32
	maxID         = 256 // characters
	maxSignatures = 16  // that are looked at
	lastSecond    = 1 << 40
)

var (
	// ErrSecret is returned for a text that is not a secret: whsec_ and 24 to 64 bytes in base64.
	// It never holds the text.
	ErrSecret = errors.New("webhooksig: not a secret, which is whsec_ and base64")
	// ErrHeaders is returned when a header is missing, repeated or malformed.
	ErrHeaders = errors.New("webhooksig: a header of the webhook is missing or malformed")
	// ErrTooOld is returned when the webhook was signed too long ago. It may be a recorded one that
	// is replayed.
	ErrTooOld = errors.New("webhooksig: the webhook is too old")
	// ErrTooNew is returned when the webhook was signed in the future. Check the clock of the
	// receiver.
	ErrTooNew = errors.New("webhooksig: the webhook lies in the future")
	// ErrSignature is returned when no secret made any of the signatures.
	ErrSignature = errors.New("webhooksig: the signature is of none of the secrets")
	// ErrEvent is returned when a body is not the JSON of an event.
	ErrEvent = errors.New("webhooksig: the body is not an event")
)

// Secret is the secret of an endpoint. Printing one shows nothing of it.
type Secret struct{ key []byte }

// ParseSecret reads a secret as Steward shows it when an endpoint is made or its secret is rotated.
func ParseSecret(text string) (Secret, error) {
	encoded, ok := strings.CutPrefix(text, prefix)
	if !ok {
		return Secret{}, ErrSecret
	}
	key, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil || len(key) < minSecret || len(key) > maxSecret || strings.ContainsAny(encoded, "\r\n") {
		return Secret{}, ErrSecret
	}
	return Secret{key}, nil
}

// ParseSecrets reads several secrets.
func ParseSecrets(texts ...string) ([]Secret, error) {
	secrets := make([]Secret, len(texts))
	for i, text := range texts {
		var err error
		if secrets[i], err = ParseSecret(text); err != nil {
			return nil, err
		}
	}
	return secrets, nil
}

// NewSecret makes a secret. Steward makes those of its endpoints; a receiver needs one for its
// tests.
func NewSecret() Secret {
	key := make([]byte, newSecret)
	if _, err := rand.Read(key); err != nil {
		panic("webhooksig: the system has no random numbers: " + err.Error()) // not since Go 1.24
	}
	return Secret{key}
}

// SecretFromBytes makes a secret of its 24 to 64 bytes, as [Secret.Bytes] returns them. The only
// error is [ErrSecret].
func SecretFromBytes(key []byte) (Secret, error) {
	if len(key) < minSecret || len(key) > maxSecret {
		return Secret{}, ErrSecret
	}
	return Secret{append([]byte(nil), key...)}, nil
}

// Reveal returns the secret as a text, the one that ParseSecret reads.
func (s Secret) Reveal() string { return prefix + base64.StdEncoding.EncodeToString(s.key) }

// Bytes returns the bytes of the secret.
func (s Secret) Bytes() []byte { return append([]byte(nil), s.key...) }

// String implements fmt.Stringer.
func (Secret) String() string { return "***" }

// GoString implements fmt.GoStringer.
func (Secret) GoString() string { return "***" }

// Message is what the headers of a webhook say.
type Message struct {
	ID       string    // the same whenever the webhook is sent again
	SignedAt time.Time // when this attempt was made
}

// Sign sets the headers of a webhook, with one signature for each of the secrets, in their order.
func Sign(secrets []Secret, header http.Header, message Message, body []byte) {
	seconds := strconv.FormatInt(message.SignedAt.Unix(), 10)
	signatures := make([]string, len(secrets))
	for i, secret := range secrets {
		signatures[i] = scheme + base64.StdEncoding.EncodeToString(secret.mac(message.ID, seconds, body))
	}
	header.Set(HeaderID, message.ID)
	header.Set(HeaderTimestamp, seconds)
	header.Set(HeaderSignature, strings.Join(signatures, " "))
}

func (s Secret) mac(id, seconds string, body []byte) []byte {
	mac := hmac.New(sha256.New, s.key)
	mac.Write([]byte(id + "." + seconds + "."))
	mac.Write(body)
	return mac.Sum(nil)
}

// VerifyNow is [Verify] by the clock of this machine, with [DefaultTolerance].
func VerifyNow(secrets []Secret, header http.Header, body []byte) (Message, error) {
	return Verify(secrets, header, body, time.Now(), DefaultTolerance)
}

// Verify returns the id and the time of a webhook whose body one of the secrets signed, at most the
// tolerance before or after now. The comparison takes the same time whatever is wrong with a
// signature.
//
// Errors: [ErrHeaders], [ErrTooOld], [ErrTooNew], [ErrSignature]; [ErrSecret] when there is no
// secret at all.
func Verify(secrets []Secret, header http.Header, body []byte, now time.Time, tolerance time.Duration) (Message, error) {
	for _, secret := range secrets {
		if len(secret.key) < minSecret {
			return Message{}, ErrSecret // the zero Secret: everyone knows its key
		}
	}
	if len(secrets) == 0 {
		return Message{}, ErrSecret
	}
	id, okID := single(header, HeaderID)
	text, okTime := single(header, HeaderTimestamp)
	signatures, okSignature := single(header, HeaderSignature)
	seconds, err := strconv.ParseInt(text, 10, 64)
	wellFormed := okID && okTime && okSignature && err == nil && strconv.FormatInt(seconds, 10) == text
	if !wellFormed || seconds < 0 || seconds > lastSecond || len(id) > maxID || strings.Contains(id, ".") {
		return Message{}, ErrHeaders
	}
	message := Message{ID: id, SignedAt: time.Unix(seconds, 0).UTC()}
	switch age := now.Sub(message.SignedAt); {
	case age > tolerance:
		return Message{}, ErrTooOld
	case age < -tolerance:
		return Message{}, ErrTooNew
	}
	good, looked := false, 0
	for _, signature := range strings.Fields(signatures) {
		encoded, ours := strings.CutPrefix(signature, scheme)
		if !ours {
			continue // of a scheme that is yet to come
		}
		if looked++; looked > maxSignatures {
			return Message{}, ErrHeaders
		}
		given, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil {
			continue
		}
		for _, secret := range secrets {
			good = hmac.Equal(given, secret.mac(id, text, body)) || good
		}
	}
	if !good {
		return Message{}, ErrSignature
	}
	return message, nil
}

// single returns a header that occurs exactly once.
func single(header http.Header, name string) (string, bool) {
	values := header.Values(name)
	if len(values) != 1 || values[0] == "" {
		return "", false
	}
	return values[0], true
}
