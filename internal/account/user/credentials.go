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
	return credentials(tx, "email_key = $2", emailKey)
}

// CredentialsTx looks a person up who is not redacted.
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

// HoldActiveTx makes sure that the person is active and still has the password that was verified, and keeps it so until the transaction ends.
// It is what stands between a sign-in and an erasure at the same moment: whichever comes first, nothing of the account is left behind.
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

// ReplacePasswordTx sets a password hash in place of another. It tells false when the person is not active or the other is not there any more.
func ReplacePasswordTx(tx *postgres.Tx, user id.User, before, after string) (bool, error) {
	changed, err := tx.Exec(`
		update users set password_hash = @after, version = version + 1, updated_at = @now
		where customer_id = @customer and id = @user and status = 'active' and coalesce(password_hash, '') = @before`,
		postgres.Args{"customer": tx.Customer, "user": user, "before": before, "after": after, "now": tx.Now})
	return changed == 1, err
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
	_, err := tx.Exec("update users set sessions_since = @now where customer_id = @customer and id = @user",
		postgres.Args{"customer": tx.Customer, "user": user, "now": tx.Now})
	return err
}

// RehashPasswordTx sets another hash of the same password. The person sees no change.
func RehashPasswordTx(tx *postgres.Tx, user id.User, before, after string) error {
	_, err := tx.Exec(`
		update users set password_hash = @after
		where customer_id = @customer and id = @user and password_hash = @before`,
		postgres.Args{"customer": tx.Customer, "user": user, "before": before, "after": after})
	return err
}

// SetPasswordTx sets a password by a mailed link: it ends every session, and every link that there is. It tells false, and changes nothing, when the person is not active
// or the links have ended since, so that of two at once only one succeeds.
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
	err = tx.QueryRow(`
		select first_name, last_name, email, password_hash is not null, links_since, role from users
		where customer_id = $1 and id = $2 and status = 'active' for share`, tx.Customer, user).
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
func administrators(tx *postgres.Tx, limit int) ([]id.User, error) {
	return postgres.Column[id.User](tx, `
		select id from users
		where customer_id = $1 and role = 'customer' and status = 'active' order by id limit $2`, tx.Customer, limit)
}
