// Package password checks, hashes and verifies passwords.
//
// Owns: the rules for a new password, the list of common passwords, the hash (Argon2id, RFC 9106)
// and its text, and the limit on concurrent hashing.
// Does not own: whose password it is, whether there is a second factor (the caller passes Rules),
// the rate limit of attempts (httpapi), and where the hash is stored (user).
//
// A password is text, not bytes: it is normalised to NFKC whenever it is set or compared, because
// one keyboard sends an é as one character and another as two. Nothing else is changed, and every
// character is significant.
package password

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"runtime"
	"time"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
	"golang.org/x/text/unicode/norm"

	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/sensitive"
)

const (
	// MinLength is the minimum length of a new password in characters: Unicode code points after
	// normalisation. NIST SP 800-63B-4, section 3.1.1.2, requires it where a password may be the
	// only factor.
	MinLength = 15
	// MinLengthWithSecondFactor is the minimum length in characters where a second factor is
	// required too (the same section). No rule may allow less.
	MinLengthWithSecondFactor = 8
	// MaxLength is the maximum length in characters.
	MaxLength = 128
	// maxBytes bounds the cost of normalising. No text of MaxLength characters has more, however it
	// is spelt: the longest canonical spelling of one character has 12 bytes.
	maxBytes = 2048

	queuePerWorker = 16              // at most some 1.6 seconds with the default parameters
	retryAfter     = 2 * time.Second // enough, with the default parameters, to drain the queue
)

// ErrUnusable is returned by Hash for a text that cannot be a password: empty, too long, or not
// UTF-8. Check reports that to users beforehand.
var ErrUnusable = errors.New("password: empty, too long, or not UTF-8")

// Options limit concurrent hashing.
type Options struct {
	// Workers is how many hashes are computed at once; zero means one per core. More only slow all
	// of them down.
	Workers int
	// Queue is how many callers may wait for a worker; zero means 16 per worker. Further callers
	// get the fault ServiceUnavailable.
	Queue int
}

// Hasher hashes and verifies passwords. Safe for concurrent use.
//
// Every hash needs its memory and a core for up to a tenth of a second. Without a limit, 64
// concurrent sign-ins took 3 GiB and all of them timed out; therefore the limit is part of the
// hasher and not left to callers.
type Hasher struct {
	parameters Parameters
	inside     chan struct{} // an element for each caller, working or waiting
	working    chan struct{} // an element for each caller that is working
}

// NewHasher makes a hasher. It returns an error for parameters that do not validate and for
// negative options.
func NewHasher(parameters Parameters, options Options) (*Hasher, error) {
	if err := parameters.Validate(); err != nil {
		return nil, err
	}
	return newHasher(parameters, options)
}

func newHasher(parameters Parameters, options Options) (*Hasher, error) {
	if options.Workers < 0 || options.Queue < 0 {
		return nil, errors.New("password: the numbers of workers and of waiting callers cannot be negative")
	}
	if options.Workers == 0 {
		// The cores that this container may use, not those of the machine.
		options.Workers = runtime.GOMAXPROCS(0)
	}
	if options.Queue == 0 {
		options.Queue = queuePerWorker * options.Workers
	}
	return &Hasher{
		parameters: parameters,
		inside:     make(chan struct{}, options.Workers+options.Queue),
		working:    make(chan struct{}, options.Workers),
	}, nil
}

// Hash returns the text to store for a password: a PHC string with a fresh salt, at most maxEncoded
// bytes. Errors: ErrUnusable; the fault ServiceUnavailable when the queue is full; and the
// context's error when the context ends while waiting.
func (h *Hasher) Hash(ctx context.Context, password sensitive.String) (encoded string, err error) {
	normal, ok := normalise(password)
	if !ok {
		return "", ErrUnusable
	}
	made := phc{parameters: h.parameters, salt: make([]byte, saltSize)}
	_, _ = rand.Read(made.salt) // never fails: the program ends instead, since Go 1.24
	if made.key, err = h.work(ctx, normal, made.parameters, made.salt, keySize); err != nil {
		return "", err
	}
	return made.encode(), nil
}

// Verify reports whether the password is the one that was hashed, and, if so, whether it should be
// rehashed because the parameters have changed since. An empty encoded is an account without a
// password: the time is spent, and ok is false.
//
// A text that cannot be a password gives false at once, for every account alike. Errors are those
// of Hash but for ErrUnusable, and ErrEncoded for a text that Hash has not made.
func (h *Hasher) Verify(ctx context.Context, encoded string, password sensitive.String) (ok, rehash bool, err error) {
	if encoded == "" {
		return false, false, h.VerifyNothing(ctx, password)
	}
	stored, err := decode(encoded)
	if err != nil {
		return false, false, err
	}
	normal, usable := normalise(password)
	if !usable {
		return false, false, nil
	}
	key, err := h.work(ctx, normal, stored.parameters, stored.salt, uint32(len(stored.key)))
	if err != nil {
		return false, false, err
	}
	if subtle.ConstantTimeCompare(key, stored.key) != 1 {
		return false, false, nil
	}
	return true, stored.parameters != h.parameters || len(stored.salt) != saltSize || len(stored.key) != keySize, nil
}

// VerifyNothing takes as long as Verify for a wrong password. It is for a sign-in to an account
// that does not exist, so that the response time does not reveal whether it does. It waits in the
// same queue and returns the same errors.
func (h *Hasher) VerifyNothing(ctx context.Context, password sensitive.String) error {
	normal, usable := normalise(password)
	if !usable {
		return nil
	}
	_, err := h.work(ctx, normal, h.parameters, make([]byte, saltSize), keySize)
	return err
}

// work waits for a worker and runs Argon2id, which cannot be interrupted.
func (h *Hasher) work(
	ctx context.Context, password []byte, parameters Parameters, salt []byte, size uint32,
) ([]byte, error) {
	select {
	case h.inside <- struct{}{}:
		defer func() { <-h.inside }()
	default:
		full := fault.New(
			fault.ServiceUnavailable,
			"Too many sign-ins are being worked on. Try again in a few seconds.",
		)
		full.RetryAfter = retryAfter
		return nil, full
	}
	select {
	case h.working <- struct{}{}:
		defer func() { <-h.working }()
	case <-ctx.Done():
	}
	if ctx.Err() != nil { // also when both channels were ready: no caller waits for the result
		return nil, fmt.Errorf("password: waiting for a worker: %w", context.Cause(ctx))
	}
	return argon2.IDKey(password, salt, parameters.Iterations, parameters.MemoryKiB, parameters.Parallelism, size), nil
}

// normalise returns the bytes of a password that are hashed: NFKC (UAX #15), as NIST SP 800-63B-4
// requires; ok is false when the text cannot be a password.
func normalise(password sensitive.String) (normal []byte, ok bool) {
	text := password.Reveal()
	if text == "" || len(text) > maxBytes || !utf8.ValidString(text) {
		return nil, false
	}
	normal = norm.NFKC.Bytes([]byte(text))
	return normal, utf8.RuneCount(normal) <= MaxLength
}
