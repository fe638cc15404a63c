// Package idempotency makes a write happen at most once for an Idempotency-Key.
//
// Owns: the remembered answers, their sealing, their lifetime, and their end when the person whom they tell of is erased.
// Does not own: how an answer looks (httpapi renders it) and what is written (the features).
//
// The answer is remembered in the transaction of the write itself, so there is no moment, not even across a crash, at which one exists
// without the other. It is sealed with a key made from the service's master key and the caller's Idempotency-Key, which is kept only as a hash:
// the database alone gives neither a person's data nor a secret that was shown once.
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

// Answer is what the caller got the first time.
type Answer struct {
	Status int               `json:"status"`
	Header map[string]string `json:"header,omitempty"`
	Body   json.RawMessage   `json:"body,omitempty"`
}

// Replay is returned in place of an error when the write was done before. It carries the first answer up to the edge.
type Replay struct{ Answer Answer }

// Error implements error.
func (*Replay) Error() string { return "idempotency: answered before" }

// Once is one request that carries an Idempotency-Key, and how to render the answer to it. The nil Once stands for a request without a key.
type Once[T any] struct {
	Box        *seal.Box
	Credential uuid.UUID // the API key or the user; two credentials never meet in one key
	Key        string    // as the caller sent it
	Operation  string    // the operation and its path
	Request    []byte    // the request, without any password
	Render     func(T) (Answer, error)
}

// Do runs the write inside the transaction, unless it was done before. The write also says which person its answer tells of, if any.
//
// It returns a *Replay when the same request was answered before, and the faults IdempotencyKeyInUse while another is at it,
// IdempotencyKeyReused for a different request, and IdempotencyErased when the answer went with its person.
func (o *Once[T]) Do(tx *postgres.Tx, write func() (result T, subject id.User, err error)) (T, error) {
	var none T
	if o == nil {
		result, _, err := write()
		return result, err
	}
	keyHash := o.Box.MAC("idempotency key", o.Credential[:], []byte(o.Key))
	fingerprint := o.Box.MAC("idempotency fingerprint", o.Credential[:], []byte(o.Key), []byte(o.Operation), o.Request)
	locked, kept, err := claim(tx, o.Credential, keyHash)
	switch {
	case err != nil:
		return none, err
	case !locked:
		return none, inUse()
	case kept != nil && kept.answer == nil:
		return none, fault.New(fault.IdempotencyErased, "The answer to this key was erased with the person whom it told of. Use a new key for a new account.")
	case kept != nil && !bytes.Equal(kept.fingerprint, fingerprint):
		return none, fault.New(fault.IdempotencyKeyReused, "Another request was made with this key. Make a new key for each new request.").
			At("header Idempotency-Key", "stands for another request")
	case kept != nil:
		return none, o.replay(kept.answer, keyHash)
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
	err = remember(tx, o.Credential, keyHash, fingerprint, box.Seal("answer", plain, keyHash), subject)
	if postgres.Violates(err, "idempotency_answers_pkey") {
		return none, inUse()
	}
	return result, err
}

// Write runs a write in one transaction inside a customer, at most once for the request's key. It is
// Do for answers that tell of no person.
func Write[T any](
	ctx context.Context, db *postgres.DB, customer id.Customer, once *Once[T], write func(tx *postgres.Tx) (T, error),
) (T, error) {
	return WriteAbout(ctx, db, customer, once, func(tx *postgres.Tx) (T, id.User, error) {
		result, err := write(tx)
		return result, id.User{}, err
	})
}

// WriteAbout is Write for answers that tell of a person: write also returns whom, and the remembered
// answer is erased with that person.
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

// answerBox seals with a key that needs both the master key and the caller's Idempotency-Key.
func (o *Once[T]) answerBox() (*seal.Box, error) {
	return seal.New(o.Box.MAC("idempotency answer", o.Credential[:], []byte(o.Key)))
}

func inUse() error {
	f := fault.New(fault.IdempotencyKeyInUse, "The first request with this key is still under way. Send it again in a moment.")
	f.RetryAfter = time.Second
	return f
}

// lockNumber names the advisory lock of a key.
func lockNumber(keyHash []byte) int64 { return int64(binary.BigEndian.Uint64(keyHash)) }

// errNoAnswer tells that a row came without a column that its constraint promises.
var errNoAnswer = errors.New("idempotency: a remembered answer without a fingerprint")
