package user

import (
	"database/sql"
	"errors"

	"github.com/fusionspim/steward/internal/id"
	"github.com/fusionspim/steward/internal/postgres"
	"github.com/fusionspim/steward/internal/principal"
)

// Credentials is what signing in and amending a password need to know of a person.
type Credentials struct {
	ID           id.User
	Role         principal.Role
	Status       Status
	FirstName    string
	LastName     string
	Email        string
	PasswordHash string // empty: none is set
}

// CredentialsByEmailTx looks a person up by the key of an address. A redacted person has no address and so is not found.
func CredentialsByEmailTx(tx *postgres.Tx, emailKey string) (found Credentials, ok bool, err error) {
	return credentials(tx, "email_key = ?", emailKey)
}

// CredentialsTx looks a person up who is not redacted.
func CredentialsTx(tx *postgres.Tx, user id.User) (found Credentials, ok bool, err error) {
	return credentials(tx, "id = ?", user)
}

func credentials(tx *postgres.Tx, condition string, argument any) (found Credentials, ok bool, err error) {
	err = tx.ORM().Raw(`
		select id, role, status, first_name, last_name, email, coalesce(password_hash, '') from users
		where customer_id = ? and status <> 'redacted' and `+condition, tx.Customer, argument).Row().
		Scan(&found.ID, &found.Role, &found.Status, &found.FirstName, &found.LastName, &found.Email, &found.PasswordHash)
	if errors.Is(err, sql.ErrNoRows) {
		return Credentials{}, false, nil
	}
	return found, err == nil, err
}

// HoldActiveTx makes sure that the person is active and still has the password that was verified, and keeps it so until the transaction ends.
// It is what stands between a sign-in and an erasure at the same moment: whichever comes first, nothing of the account is left behind.
func HoldActiveTx(tx *postgres.Tx, user id.User, passwordHash string) (role principal.Role, ok bool, err error) {
	err = tx.ORM().Raw("select role from users where customer_id = ? and id = ? and status = 'active' and password_hash = ? for share",
		tx.Customer, user, passwordHash).Row().Scan(&role)
	if errors.Is(err, sql.ErrNoRows) {
		return "", false, nil
	}
	return role, err == nil, err
}

// ReplacePasswordTx sets a password hash in place of another. It tells false when the person is not active or the other is not there any more.
func ReplacePasswordTx(tx *postgres.Tx, user id.User, before, after string) (bool, error) {
	done := tx.ORM().Exec(`
		update users set password_hash = ?, version = version + 1, updated_at = ?
		where customer_id = ? and id = ? and status = 'active' and coalesce(password_hash, '') = ?`, after, tx.Now, tx.Customer, user, before)
	return done.RowsAffected == 1, done.Error
}
