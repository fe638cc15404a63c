package secondfactor

import (
	"database/sql"
	"errors"

	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

// Required is the condition under which a user u of a customer c must have a second factor. The
// argument @operators_must says whether operators must.
const Required = `(u.role = 'operator' and @operators_must::boolean or c.second_factor_policy = 'everybody'
	or c.second_factor_policy = 'administrators' and u.role = 'customer')`

// Confirmed is the condition under which a user u has a confirmed second factor.
const Confirmed = `exists (
	select from second_factors f
	where f.customer_id = u.customer_id and f.user_id = u.id and f.confirmed_at is not null
)`

// authenticator is a user's authenticator as it is stored.
type authenticator struct {
	sealed    []byte
	lastStep  int64 // of the last code that was used
	confirmed bool
}

func read(tx *postgres.Tx, user id.User, operatorsMust bool) (state State, err error) {
	err = tx.QueryRow(`
		select `+Required+`, f.confirmed_at, (
			select count(*) from recovery_codes r
			where r.customer_id = u.customer_id and r.user_id = u.id and r.used_at is null
		)
		from users u join customers c on c.id = u.customer_id
		left join second_factors f on f.customer_id = u.customer_id and f.user_id = u.id
		where u.customer_id = @customer and u.id = @user`,
		postgres.Args{"operators_must": operatorsMust, "customer": tx.Customer, "user": user}).
		Scan(&state.Required, &state.ConfirmedAt, &state.RecoveryCodesLeft)
	if errors.Is(err, sql.ErrNoRows) { // erased a moment ago, alone or with the customer
		return State{}, fault.New(fault.Unauthorized, "The session has ended. Sign in again.")
	}
	state.Enrolled = state.ConfirmedAt != nil
	return state, err
}

// lock reads and locks the user's authenticator, so that of two concurrent uses of one code only
// one succeeds. It returns nil if there is none.
func lock(tx *postgres.Tx, user id.User) (*authenticator, error) {
	var locked authenticator
	err := tx.QueryRow(`
		select sealed_secret, last_step, confirmed_at is not null from second_factors
		where customer_id = $1 and user_id = $2 for update`, tx.Customer, user).
		Scan(&locked.sealed, &locked.lastStep, &locked.confirmed)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return &locked, err
}

// enrolled reports whether the user has a confirmed authenticator.
func enrolled(tx *postgres.Tx, user id.User) (found bool, err error) {
	err = tx.QueryRow(`
		select exists (
			select from second_factors
			where customer_id = $1 and user_id = $2 and confirmed_at is not null
		)`, tx.Customer, user).Scan(&found)
	return found, err
}

// begin stores an unconfirmed authenticator in place of an earlier unconfirmed one, and reports
// whether it did: a confirmed one stays.
func begin(tx *postgres.Tx, user id.User, sealed []byte) (begun bool, err error) {
	n, err := tx.Exec(`
		insert into second_factors (customer_id, user_id, sealed_secret, last_step, created_at)
		select customer_id, id, @sealed::bytea, 0, @now::timestamptz from users
		where customer_id = @customer and id = @user and status = 'active' for share
		on conflict (customer_id, user_id) do update
		set sealed_secret = excluded.sealed_secret, last_step = 0, created_at = excluded.created_at
		where second_factors.confirmed_at is null`,
		postgres.Args{"sealed": sealed, "now": tx.Now, "customer": tx.Customer, "user": user})
	return n == 1, err
}

// advance records the step of the last code that was used.
func advance(tx *postgres.Tx, user id.User, step int64) error {
	_, err := tx.Exec("update second_factors set last_step = $1 where customer_id = $2 and user_id = $3",
		step, tx.Customer, user)
	return err
}

func confirm(tx *postgres.Tx, user id.User) error {
	_, err := tx.Exec("update second_factors set confirmed_at = $1 where customer_id = $2 and user_id = $3",
		tx.Now, tx.Customer, user)
	return err
}

// useRecoveryCode uses a recovery code up, and reports whether there was an unused one.
func useRecoveryCode(tx *postgres.Tx, user id.User, hash []byte) (used bool, err error) {
	n, err := tx.Exec(`
		update recovery_codes set used_at = @now
		where customer_id = @customer and user_id = @user and hash = @hash and used_at is null`,
		postgres.Args{"now": tx.Now, "customer": tx.Customer, "user": user, "hash": hash})
	return n == 1, err
}

func replaceRecoveryCodes(tx *postgres.Tx, user id.User, hashes [][]byte) error {
	if err := deleteRecoveryCodes(tx, user); err != nil {
		return err
	}
	_, err := tx.Exec(`
		insert into recovery_codes (customer_id, user_id, hash, created_at)
		select @customer, @user, hash, @now from unnest(@hashes::bytea[]) as hash`,
		postgres.Args{"customer": tx.Customer, "user": user, "hashes": hashes, "now": tx.Now})
	return err
}

// remove deletes the authenticator and its recovery codes, and reports whether there was one.
func remove(tx *postgres.Tx, user id.User) (removed bool, err error) {
	if err := deleteRecoveryCodes(tx, user); err != nil {
		return false, err
	}
	n, err := tx.Exec("delete from second_factors where customer_id = $1 and user_id = $2", tx.Customer, user)
	return n > 0, err
}

func deleteRecoveryCodes(tx *postgres.Tx, user id.User) error {
	_, err := tx.Exec("delete from recovery_codes where customer_id = $1 and user_id = $2", tx.Customer, user)
	return err
}
