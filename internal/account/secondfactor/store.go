package secondfactor

import (
	"database/sql"
	"errors"

	"github.com/fusionspim/steward/internal/account/user"
	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

// Required is the condition under which a user u of a customer c must have a second factor. Its
// argument says whether operators must.
const Required = `(u.role = 'operator' and ?::boolean or c.second_factor_policy = 'everybody'
	or c.second_factor_policy = 'administrators' and u.role = 'customer')`

// Confirmed is the condition under which a user u has a second factor that counts.
const Confirmed = `exists (select from second_factors f where f.customer_id = u.customer_id and f.user_id = u.id and f.confirmed_at is not null)`

type authenticator struct {
	sealed    []byte
	lastStep  int64
	confirmed bool
}

func read(tx *postgres.Tx, person id.User, operatorsMust bool) (state State, err error) {
	err = tx.Raw(`
		select `+Required+`, f.confirmed_at,
			(select count(*) from recovery_codes r where r.customer_id = u.customer_id and r.user_id = u.id and r.used_at is null)
		from users u join customers c on c.id = u.customer_id
		left join second_factors f on f.customer_id = u.customer_id and f.user_id = u.id
		where u.customer_id = ? and u.id = ?`, operatorsMust, tx.Customer, person).Row().Scan(&state.Required, &state.ConfirmedAt, &state.RecoveryCodesLeft)
	if errors.Is(err, sql.ErrNoRows) { // erased a moment ago, or the whole customer is
		return State{}, fault.New(fault.Unauthorized, "The session has ended. Sign in again.")
	}
	state.Enrolled = state.ConfirmedAt != nil
	return state, err
}

// lock reads the authenticator of a person and holds it, so that of two uses of one code at once
// only one is right. Nil: there is none.
func lock(tx *postgres.Tx, person id.User) (*authenticator, error) {
	var held authenticator
	err := tx.Raw("select sealed_secret, last_step, confirmed_at is not null from second_factors where customer_id = ? and user_id = ? for update",
		tx.Customer, person).
		Row().
		Scan(&held.sealed, &held.lastStep, &held.confirmed)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return &held, err
}

func enrolled(tx *postgres.Tx, person id.User) (found bool, err error) {
	err = tx.Raw("select exists (select from second_factors where customer_id = ? and user_id = ? and confirmed_at is not null)", tx.Customer, person).
		Row().
		Scan(&found)
	return found, err
}

// begin stores an authenticator that does not count yet, in place of an earlier one that does not
// either.
func begin(tx *postgres.Tx, person id.User, sealed []byte) (begun bool, err error) {
	done := tx.ORM().Exec(`
		insert into second_factors (customer_id, user_id, sealed_secret, last_step, created_at)
		select customer_id, id, ?::bytea, 0, ?::timestamptz from users where customer_id = ? and id = ? and status = 'active' for share
		on conflict (customer_id, user_id) do update set sealed_secret = excluded.sealed_secret, last_step = 0, created_at = excluded.created_at
		where second_factors.confirmed_at is null`, sealed, tx.Now, tx.Customer, person)
	return done.RowsAffected == 1, done.Error
}

func advance(tx *postgres.Tx, person id.User, step int64) error {
	return tx.ORM().
		Exec("update second_factors set last_step = ? where customer_id = ? and user_id = ?", step, tx.Customer, person).
		Error
}

func confirm(tx *postgres.Tx, person id.User) error {
	return tx.ORM().
		Exec("update second_factors set confirmed_at = ? where customer_id = ? and user_id = ?", tx.Now, tx.Customer, person).
		Error
}

func useRecoveryCode(tx *postgres.Tx, person id.User, hash []byte) (bool, error) {
	done := tx.ORM().
		Exec("update recovery_codes set used_at = ? where customer_id = ? and user_id = ? and hash = ? and used_at is null",
			tx.Now, tx.Customer, person, hash)
	return done.RowsAffected == 1, done.Error
}

func replaceRecoveryCodes(tx *postgres.Tx, person id.User, hashes [][]byte) error {
	if err := tx.ORM().
		Exec("delete from recovery_codes where customer_id = ? and user_id = ?", tx.Customer, person).
		Error; err != nil {
		return err
	}
	for _, hash := range hashes {
		err := tx.ORM().
			Exec("insert into recovery_codes (customer_id, user_id, hash, created_at) values (?, ?, ?, ?)", tx.Customer, person, hash, tx.Now).
			Error
		if err != nil {
			return err
		}
	}
	return nil
}

func remove(tx *postgres.Tx, person id.User) (removed bool, err error) {
	if err := tx.ORM().
		Exec("delete from recovery_codes where customer_id = ? and user_id = ?", tx.Customer, person).
		Error; err != nil {
		return false, err
	}
	done := tx.ORM().Exec("delete from second_factors where customer_id = ? and user_id = ?", tx.Customer, person)
	return done.RowsAffected > 0, done.Error
}

// Holdings are what this package holds of a person.
func Holdings() []user.Holding {
	return []user.Holding{
		user.Rows{Name: "recovery_codes", Of: "recovery_codes where customer_id = ? and user_id = any (?)"},
		user.Rows{Name: "second_factors", Of: "second_factors where customer_id = ? and user_id = any (?)"},
	}
}
