package user

import (
	"database/sql"
	"errors"
	"time"

	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

// Credentials are what signing in and changing a password need of a user.
type Credentials struct {
	ID           id.User
	Role         principal.Role
	Status       Status
	FirstName    string
	LastName     string
	Email        string
	PasswordHash string // empty if none is set
}

// CredentialsByEmailTx finds a user by the key of an address. A redacted user has none and so is
// not found.
func CredentialsByEmailTx(tx *postgres.Tx, emailKey string) (found Credentials, ok bool, err error) {
	return credentials(tx, "email_key = $2", emailKey)
}

// CredentialsTx finds a user who is not redacted.
func CredentialsTx(tx *postgres.Tx, user id.User) (found Credentials, ok bool, err error) {
	return credentials(tx, "id = $2", user)
}

func credentials(tx *postgres.Tx, condition string, argument any) (found Credentials, ok bool, err error) {
	err = tx.QueryRow(`
		select id, role, status, first_name, last_name, email, coalesce(password_hash, '') from users
		where customer_id = $1 and status <> 'redacted' and `+condition, tx.Customer, argument).
		Scan(&found.ID, &found.Role, &found.Status, &found.FirstName, &found.LastName, &found.Email, &found.PasswordHash)
	if errors.Is(err, sql.ErrNoRows) {
		return Credentials{}, false, nil
	}
	return found, err == nil, err
}

// HoldActiveTx locks an active user who still has the password that was verified, until the end of
// the transaction; ok is false for any other. The lock serialises a sign-in with an erasure:
// whichever comes first, nothing of the account remains.
func HoldActiveTx(tx *postgres.Tx, user id.User, passwordHash string) (role principal.Role, ok bool, err error) {
	err = tx.QueryRow(`
		select role from users
		where customer_id = @customer and id = @user and status = 'active' and password_hash = @hash for share`,
		postgres.Args{"customer": tx.Customer, "user": user, "hash": passwordHash}).Scan(&role)
	if errors.Is(err, sql.ErrNoRows) {
		return "", false, nil
	}
	return role, err == nil, err
}

// ReplacePasswordTx replaces a password hash, empty for none, by another. It returns false if the
// user is not active or has another hash by now.
func ReplacePasswordTx(tx *postgres.Tx, user id.User, before, after string) (bool, error) {
	changed, err := tx.Exec(`
		update users set password_hash = @after, version = version + 1, updated_at = @now
		where customer_id = @customer and id = @user and status = 'active' and coalesce(password_hash, '') = @before`,
		postgres.Args{"customer": tx.Customer, "user": user, "before": before, "after": after, "now": tx.Now})
	return changed == 1, err
}

// HoldLivingTx locks a user who is not redacted until the end of the transaction. Faults:
// ResourceNotFound, UserRedacted.
func HoldLivingTx(tx *postgres.Tx, user id.User) error {
	found, err := lock(tx, user)
	if err == nil && found.Status == Redacted {
		return redacted(found.ReceiptID)
	}
	return err
}

// EndSessionsTx ends all present sessions of a user.
func EndSessionsTx(tx *postgres.Tx, user id.User) error {
	_, err := tx.Exec("update users set sessions_since = @now where customer_id = @customer and id = @user",
		postgres.Args{"customer": tx.Customer, "user": user, "now": tx.Now})
	return err
}

// RehashPasswordTx replaces the hash by another of the same password. The version stays.
func RehashPasswordTx(tx *postgres.Tx, user id.User, before, after string) error {
	_, err := tx.Exec(`
		update users set password_hash = @after
		where customer_id = @customer and id = @user and password_hash = @before`,
		postgres.Args{"customer": tx.Customer, "user": user, "before": before, "after": after})
	return err
}

// SetPasswordTx sets a password by a mailed link, and ends all sessions and links of the user. It
// returns false and changes nothing if the user is not active or the links have ended since, so
// that only one of two concurrent calls succeeds.
func SetPasswordTx(tx *postgres.Tx, user id.User, hash string, linksSince time.Time) (bool, error) {
	changed, err := tx.Exec(`
		update users set password_hash = @hash, sessions_since = @now, `+endLinks+`, version = version + 1,
			updated_at = @now
		where customer_id = @customer and id = @user and status = 'active' and links_since = @links_since`,
		postgres.Args{
			"customer": tx.Customer, "user": user, "hash": hash, "links_since": linksSince, "now": tx.Now,
		})
	return changed == 1, err
}

// Addressee is what a mail to a user needs.
type Addressee struct {
	FirstName   string
	LastName    string
	Email       string
	PasswordSet bool
	LinksSince  time.Time // mailed links are valid while this is unchanged
	Role        principal.Role
}

// HoldAddresseeTx reads an active user and locks the row until the end of the transaction, so that
// an erasure waits; ok is false if there is no such user.
func HoldAddresseeTx(tx *postgres.Tx, user id.User) (found Addressee, ok bool, err error) {
	err = tx.QueryRow(`
		select first_name, last_name, email, password_hash is not null, links_since, role from users
		where customer_id = $1 and id = $2 and status = 'active' for share`, tx.Customer, user).
		Scan(&found.FirstName, &found.LastName, &found.Email, &found.PasswordSet, &found.LinksSince, &found.Role)
	if errors.Is(err, sql.ErrNoRows) {
		return Addressee{}, false, nil
	}
	return found, err == nil, err
}

// ExistsTx returns the fault ResourceNotFound if there is no such user.
func ExistsTx(tx *postgres.Tx, user id.User) error {
	_, err := get(tx, user)
	return err
}

// administrators returns at most limit of the customer's active administrators, oldest accounts
// first.
func administrators(tx *postgres.Tx, limit int) ([]id.User, error) {
	return postgres.Column[id.User](tx, `
		select id from users
		where customer_id = $1 and role = 'customer' and status = 'active' order by id limit $2`, tx.Customer, limit)
}
