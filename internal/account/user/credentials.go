package user

import (
	"database/sql"
	"errors"
	"time"

	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/infra/postgres"
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

// HoldLivingTx makes sure that there is such a person, not redacted, and keeps it so until the transaction ends. Faults: ResourceNotFound, UserRedacted.
func HoldLivingTx(tx *postgres.Tx, user id.User) error {
	found, err := lock(tx, user)
	if err == nil && found.Status == Redacted {
		return redacted(found.ReceiptID)
	}
	return err
}

// EndSessionsTx makes every session that the person has now count no more.
func EndSessionsTx(tx *postgres.Tx, user id.User) error {
	return tx.ORM().Exec("update users set sessions_since = ? where customer_id = ? and id = ?", tx.Now, tx.Customer, user).Error
}

// RehashPasswordTx sets another hash of the same password. The person sees no change.
func RehashPasswordTx(tx *postgres.Tx, user id.User, before, after string) error {
	return tx.ORM().Exec("update users set password_hash = ? where customer_id = ? and id = ? and password_hash = ?", after, tx.Customer, user, before).Error
}

// SetPasswordTx sets a password by a mailed link: it ends every session, and every link that there is. It tells false, and changes nothing, when the person is not active
// or the links have ended since, so that of two at once only one succeeds.
func SetPasswordTx(tx *postgres.Tx, user id.User, hash string, linksSince time.Time) (bool, error) {
	done := tx.ORM().Exec(`
		update users set password_hash = ?, sessions_since = ?, `+endLinks+`, version = version + 1, updated_at = ?
		where customer_id = ? and id = ? and status = 'active' and links_since = ?`, hash, tx.Now, tx.Now, tx.Now, tx.Customer, user, linksSince)
	return done.RowsAffected == 1, done.Error
}

// Addressee is what a mail to a person needs to know.
type Addressee struct {
	FirstName   string
	LastName    string
	Email       string
	PasswordSet bool
	LinksSince  time.Time // mailed links are good while this is the same
	Role        principal.Role
}

// HoldAddresseeTx reads somebody who is active and keeps the person so until the transaction ends: an erasure waits, or came before and nobody is found.
func HoldAddresseeTx(tx *postgres.Tx, user id.User) (found Addressee, ok bool, err error) {
	err = tx.ORM().Raw(`
		select first_name, last_name, email, password_hash is not null, links_since, role from users
		where customer_id = ? and id = ? and status = 'active' for share`, tx.Customer, user).Row().
		Scan(&found.FirstName, &found.LastName, &found.Email, &found.PasswordSet, &found.LinksSince, &found.Role)
	if errors.Is(err, sql.ErrNoRows) {
		return Addressee{}, false, nil
	}
	return found, err == nil, err
}

// ExistsTx gives the fault ResourceNotFound when there is no such person.
func ExistsTx(tx *postgres.Tx, user id.User) error {
	_, err := get(tx, user)
	return err
}

// administrators returns at most limit of the customer's active administrators, the oldest accounts first.
func administrators(tx *postgres.Tx, limit int) (found []id.User, err error) {
	rows, err := tx.Raw("select id from users where customer_id = ? and role = 'customer' and status = 'active' order by id limit ?", tx.Customer, limit).Rows()
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // read to its end or given up
	for rows.Next() {
		var one id.User
		if err := rows.Scan(&one); err != nil {
			return nil, err
		}
		found = append(found, one)
	}
	return found, rows.Err()
}
