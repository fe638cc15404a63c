package idempotency

import (
	"database/sql"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

type storedAnswer struct {
	fingerprint []byte
	answer      []byte // nil once erased
}

// acquire takes the key's lock until the transaction ends, and reads the stored answer. An
// expired one is deleted.
//
// Reading is a statement of its own: a statement sees what was committed when it began, so one
// that also took the lock would miss the answer of whoever released the lock meanwhile.
func acquire(tx *postgres.Tx, credential uuid.UUID, keyHash []byte) (locked bool, stored *storedAnswer, err error) {
	err = tx.QueryRow("select pg_try_advisory_xact_lock($1)", lockNumber(keyHash)).Scan(&locked)
	if err != nil || !locked {
		return locked, nil, err
	}
	row := postgres.Args{"customer": tx.Customer, "credential": credential, "key": keyHash}
	var createdAt time.Time
	var fingerprint, answer []byte
	err = tx.QueryRow(`
		select created_at, fingerprint, answer from idempotency_answers
		where customer_id = @customer and credential_id = @credential and key_hash = @key`, row).
		Scan(&createdAt, &fingerprint, &answer)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return true, nil, nil
	case err != nil:
		return true, nil, err
	case tx.Now.Sub(createdAt) >= Lifetime:
		_, err = tx.Exec(`
			delete from idempotency_answers
			where customer_id = @customer and credential_id = @credential and key_hash = @key`, row)
		return true, nil, err
	case answer != nil && fingerprint == nil:
		return true, nil, errNoAnswer
	}
	return true, &storedAnswer{fingerprint: fingerprint, answer: answer}, nil
}

func insert(tx *postgres.Tx, credential uuid.UUID, keyHash, fingerprint, answer []byte, subject id.User) error {
	var of *id.User
	if !subject.IsZero() {
		of = &subject
	}
	_, err := tx.Exec(`
		insert into idempotency_answers
			(customer_id, credential_id, key_hash, fingerprint, answer, subject_user_id, created_at)
		values (@customer, @credential, @key, @fingerprint, @answer, @subject, @now)`,
		postgres.Args{
			"customer": tx.Customer, "credential": credential, "key": keyHash,
			"fingerprint": fingerprint, "answer": answer, "subject": of, "now": tx.Now,
		})
	return err
}

// erase removes the answers that tell of the people. The hash of each key stays until its time
// is up, so that a late repetition of the request that made the account does not make it again.
func erase(tx *postgres.Tx, people []id.User) (map[id.User]int64, error) {
	return postgres.Counts[id.User](tx.Query(`
		update idempotency_answers a set fingerprint = null, answer = null, subject_user_id = null
		from (
			select customer_id, credential_id, key_hash, subject_user_id from idempotency_answers
			where customer_id = $1 and subject_user_id = any ($2)
		) before
		where a.customer_id = before.customer_id and a.credential_id = before.credential_id and a.key_hash = before.key_hash
		returning before.subject_user_id, 1`, tx.Customer, people))
}

// expire deletes answers that are past their lifetime.
func expire(tx *postgres.Tx, now time.Time, limit int) (int64, error) {
	return tx.Exec(`
		delete from idempotency_answers where (customer_id, credential_id, key_hash) in (
			select customer_id, credential_id, key_hash from idempotency_answers where created_at < $1 limit $2)`,
		now.Add(-Lifetime), limit)
}
