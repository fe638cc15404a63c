// Package idempotency performs a write at most once per Idempotency-Key.
//
// Owns: the stored answers, their encryption, their lifetime, and their erasure with the person
// they are about.
// Does not own: what an answer looks like (httpapi renders it) and what is written (the features).
//
// The answer is stored in the transaction of the write itself, so that neither exists without the
// other, not even after a crash. It is sealed with a key derived from the service's master key and
// the caller's Idempotency-Key, of which only a hash is stored: the database alone reveals neither
// personal data nor a secret that was shown once.
package idempotency

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/infra/seal"
)

// Lifetime is how long a key stands for its first request.
const Lifetime = 24 * time.Hour

// Answer is the response to the first request.
type Answer struct {
	Status int               `json:"status"`
	Header map[string]string `json:"header,omitempty"`
	Body   json.RawMessage   `json:"body,omitempty"`
}

// Replay is returned as an error when the write was done before. It carries the first answer up to
// the edge.
type Replay struct{ Answer Answer }

// Error implements error.
func (*Replay) Error() string { return "idempotency: already answered" }

// Once is one request with an Idempotency-Key, and how to render its answer. A nil Once is a
// request without a key.
type Once[T any] struct {
	Box        *seal.Box
	Credential uuid.UUID // the API key or the user; keys of two credentials never collide
	Key        string    // as the caller sent it
	Operation  string    // the operation and its path
	Request    []byte    // the request, without any password
	Render     func(T) (Answer, error)
}

// Do runs the write inside the transaction, unless it was done before. The write also returns the
// person whom its answer is about, if any.
//
// It returns a *Replay when the same request was answered before, and the faults
// IdempotencyKeyInUse while another request with the key is running, IdempotencyKeyReused for a
// different request, and IdempotencyErased when the answer was erased with its person.
func (o *Once[T]) Do(tx *postgres.Tx, write func() (result T, subject id.User, err error)) (T, error) {
	var none T
	if o == nil {
		result, _, err := write()
		return result, err
	}
	keyHash := o.Box.MAC("idempotency key", o.Credential[:], []byte(o.Key))
	fingerprint := o.Box.MAC("idempotency fingerprint", o.Credential[:], []byte(o.Key), []byte(o.Operation), o.Request)
	locked, stored, err := acquire(tx, o.Credential, keyHash)
	switch {
	case err != nil:
		return none, err
	case !locked:
		return none, inUse()
	case stored != nil && stored.answer == nil:
		return none, fault.New(fault.IdempotencyErased,
			"The answer to this key was erased together with the person it was about. Use a new key for a new account.")
	case stored != nil && !bytes.Equal(stored.fingerprint, fingerprint):
		return none, fault.New(fault.IdempotencyKeyReused,
			"This key was used for a different request. Use a new key for each new request.").
			At("header Idempotency-Key", "was used for a different request")
	case stored != nil:
		return none, o.replay(stored.answer, keyHash)
	}
	result, subject, err := write()
	if err != nil {
		return none, err
	}
	answer, err := o.Render(result)
	if err != nil {
		return none, err
	}
	plain, err := json.Marshal(answer)
	if err != nil {
		return none, err
	}
	box, err := o.answerBox()
	if err != nil {
		return none, err
	}
	err = insert(tx, o.Credential, keyHash, fingerprint, box.Seal("answer", plain, keyHash), subject)
	if postgres.Violates(err, "idempotency_answers_pkey") {
		return none, inUse()
	}
	return result, err
}

// Write runs a write in one transaction inside a customer, at most once for the request's key. It
// is Do for answers that are about no person.
func Write[T any](
	ctx context.Context, db *postgres.DB, customer id.Customer, once *Once[T], write func(tx *postgres.Tx) (T, error),
) (T, error) {
	return WriteAbout(ctx, db, customer, once, func(tx *postgres.Tx) (T, id.User, error) {
		result, err := write(tx)
		return result, id.User{}, err
	})
}

// WriteAbout is Write for answers about a person: write also returns whom, and the stored answer is
// erased with that person.
func WriteAbout[T any](
	ctx context.Context, db *postgres.DB, customer id.Customer, once *Once[T],
	write func(tx *postgres.Tx) (result T, subject id.User, err error),
) (T, error) {
	return postgres.Write(ctx, db, customer, func(tx *postgres.Tx) (T, error) {
		return once.Do(tx, func() (T, id.User, error) { return write(tx) })
	})
}

func (o *Once[T]) replay(sealed, keyHash []byte) error {
	box, err := o.answerBox()
	if err != nil {
		return err
	}
	plain, err := box.Open("answer", sealed, keyHash)
	if err != nil {
		return err
	}
	var replay Replay
	if err := json.Unmarshal(plain, &replay.Answer); err != nil {
		return err
	}
	return &replay
}

// answerBox returns a box whose key needs both the master key and the caller's Idempotency-Key.
func (o *Once[T]) answerBox() (*seal.Box, error) {
	return seal.New(o.Box.MAC("idempotency answer", o.Credential[:], []byte(o.Key)))
}

func inUse() error {
	f := fault.New(fault.IdempotencyKeyInUse, "The first request with this key is still running. Retry in a moment.")
	f.RetryAfter = time.Second
	return f
}

// lockNumber returns the number of a key's advisory lock.
func lockNumber(keyHash []byte) int64 { return int64(binary.BigEndian.Uint64(keyHash)) }

// errNoAnswer is returned for a row without a column that a constraint requires.
var errNoAnswer = errors.New("idempotency: a stored answer has no fingerprint")
