// Package password keeps passwords: what may be one, how it is stored, how it is compared.
//
// Owns: the rules for a new password, the list of common ones, the hash (Argon2id, RFC 9106) and
// its text, and how many hashes are worked on at once.
// Does not own: whose password it is, whether there is a second factor (the caller says so by
// Rules), how often somebody may try (httpapi's limits), and where the hash is stored (user).
//
// A password is text, not bytes: it is normalised to NFKC whenever it is set or compared, because
// one keyboard sends an é as one character and another as two. Nothing else is changed, and every
// character counts.
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
	// MinLength is the least number of characters of a new password: Unicode code points after
	// normalisation. It is what NIST SP 800-63B-4, section 3.1.1.2, asks where a password may be
	// the only factor.
	MinLength = 15
	// MinLengthWithSecondFactor is the least number of characters where a second factor is asked
	// for as well (the same section). No rule may ask for less.
	MinLengthWithSecondFactor = 8
	// MaxLength is the greatest number of characters.
	MaxLength = 128
	// maxBytes bounds the work of normalising. No text of MaxLength characters has more, however it
	// is spelt: the longest canonical spelling of one character has 12 bytes.
	maxBytes = 2048

	queuePerWorker = 16 // with the default parameters, at most some 1.6 seconds
	// by then, with the default parameters, the whole queue has been worked off
	retryAfter = 2 * time.Second
)

// ErrUnusable is returned by Hash for what cannot be a password at all: nothing, too much, or no
// text. Check says so to people beforehand.
var ErrUnusable = errors.New("password: empty, too long, or not UTF-8")

// Options say how much is hashed at once.
type Options struct {
	// hashes worked on at once; zero means one for each core, and more only makes all of them
	// slower
	Workers int
	// callers that may wait for a worker; zero means 16 for each worker. Beyond it, callers are
	// sent away with a 503
	Queue int
}

// Hasher hashes and compares. Safe for concurrent use.
//
// Every hash takes its share of memory and a core for up to a tenth of a second. Without a limit,
// 64 sign-ins at once took 3 GiB and nobody was done in time; therefore the limit is part of the
// hash and not left to the callers.
type Hasher struct {
	parameters Parameters
	inside     chan struct{} // one element for each caller inside, working or waiting
	working    chan struct{} // one element for each caller working
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
		// the cores that this container may use, not those that the machine has
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
// bytes. It returns ErrUnusable; a fault ServiceUnavailable when too many are waiting; and the
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

// Verify tells whether the password is the one that was hashed, and whether it should be hashed
// anew because it was hashed with other parameters than today's (only ever when ok). An empty text
// is an account that has no password yet: the work is done, and ok is false.
//
// What cannot be a password is never the right one and gives false without any work, for every
// account alike. Other errors are those of Hash, and ErrEncoded for a text that Hash has not made.
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

// VerifyNothing takes as long as Verify takes for a wrong password, for the sign-in to an account
// that does not exist: the time of the answer then does not tell whether it does. It waits in the
// same queue and returns the same errors.
func (h *Hasher) VerifyNothing(ctx context.Context, password sensitive.String) error {
	normal, usable := normalise(password)
	if !usable {
		return nil
	}
	_, err := h.work(ctx, normal, h.parameters, make([]byte, saltSize), keySize)
	return err
}

// work waits for a worker and runs Argon2id. Once begun, the work cannot be interrupted.
func (h *Hasher) work(
	ctx context.Context,
	password []byte,
	parameters Parameters,
	salt []byte,
	size uint32,
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
	if ctx.Err() != nil { // also when both were ready: nobody is waiting for the answer
		return nil, fmt.Errorf("password: waiting for a worker: %w", context.Cause(ctx))
	}
	return argon2.IDKey(password, salt, parameters.Iterations, parameters.MemoryKiB, parameters.Parallelism, size), nil
}

// normalise returns the bytes that are hashed for a password: NFKC (UAX #15), as NIST SP 800-63B-4
// asks; ok is false when it cannot be one.
func normalise(password sensitive.String) (normal []byte, ok bool) {
	text := password.Reveal()
	if text == "" || len(text) > maxBytes || !utf8.ValidString(text) {
		return nil, false
	}
	normal = norm.NFKC.Bytes([]byte(text))
	return normal, utf8.RuneCount(normal) <= MaxLength
}
