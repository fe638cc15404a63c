package idempotency

import (
	"database/sql"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

type keptAnswer struct {
	fingerprint []byte
	answer      []byte // nil once erased
}

// claim takes the lock of the key until the transaction ends and looks for what was remembered. One that is past its time is dropped.
//
// The look is a statement of its own: a statement sees what was committed when it began, and so one that took the lock as well would overlook the
// answer of whoever gave the lock back in the meantime.
func claim(tx *postgres.Tx, credential uuid.UUID, keyHash []byte) (locked bool, kept *keptAnswer, err error) {
	if err = tx.ORM().Raw("select pg_try_advisory_xact_lock(?)", lockNumber(keyHash)).Row().Scan(&locked); err != nil || !locked {
		return locked, nil, err
	}
	var createdAt time.Time
	var fingerprint, answer []byte
	err = tx.ORM().Raw("select created_at, fingerprint, answer from idempotency_answers where customer_id = ? and credential_id = ? and key_hash = ?",
		tx.Customer, credential, keyHash).Row().Scan(&createdAt, &fingerprint, &answer)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return true, nil, nil
	case err != nil:
		return true, nil, err
	case tx.Now.Sub(createdAt) >= Lifetime:
		err = tx.ORM().Exec("delete from idempotency_answers where customer_id = ? and credential_id = ? and key_hash = ?",
			tx.Customer, credential, keyHash).Error
		return true, nil, err
	case answer != nil && fingerprint == nil:
		return true, nil, errNoAnswer
	}
	return true, &keptAnswer{fingerprint: fingerprint, answer: answer}, nil
}

func remember(tx *postgres.Tx, credential uuid.UUID, keyHash, fingerprint, answer []byte, subject id.User) error {
	var of *id.User
	if !subject.IsZero() {
		of = &subject
	}
	return tx.ORM().Exec(`
		insert into idempotency_answers (customer_id, credential_id, key_hash, fingerprint, answer, subject_user_id, created_at)
		values (?, ?, ?, ?, ?, ?, ?)`, tx.Customer, credential, keyHash, fingerprint, answer, of, tx.Now).Error
}

// Answers is what this package holds of a person: the answers that tell of the person. It takes part in every erasure.
type Answers struct{}

// Store names the holding in plans and receipts.
func (Answers) Store() string { return "idempotency_answers" }

// Count counts the answers that tell of the person.
func (Answers) Count(tx *postgres.Tx, user id.User) (count int64, err error) {
	err = tx.ORM().Raw("select count(*) from idempotency_answers where customer_id = ? and subject_user_id = ?", tx.Customer, user).Row().Scan(&count)
	return count, err
}

// Remove erases the answers. The hash of each key stays until its time is up, so that a late repetition of the request that made the account
// does not make it again.
func (Answers) Remove(tx *postgres.Tx, users []id.User) (map[id.User]int64, error) {
	return postgres.Counts[id.User](tx.Raw(`
		update idempotency_answers a set fingerprint = null, answer = null, subject_user_id = null
		from (
			select customer_id, credential_id, key_hash, subject_user_id from idempotency_answers where customer_id = ? and subject_user_id = any (?)
		) before
		where a.customer_id = before.customer_id and a.credential_id = before.credential_id and a.key_hash = before.key_hash
		returning before.subject_user_id, 1`, tx.Customer, users).Rows())
}

// Tables names the table that Remove changes.
func (Answers) Tables() []string { return []string{"idempotency_answers"} }

// Expire drops, for all customers, at most limit answers that were made before the time, and tells how many.
func Expire(tx *postgres.Tx, before time.Time, limit int) (int64, error) {
	done := tx.ORM().Exec(`
		delete from idempotency_answers where (customer_id, credential_id, key_hash) in (
			select customer_id, credential_id, key_hash from idempotency_answers where created_at < ? limit ?)`, before, limit)
	return done.RowsAffected, done.Error
}
