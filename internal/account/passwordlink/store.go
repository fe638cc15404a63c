package passwordlink

import (
	"database/sql"
	"errors"
	"time"

	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

// find returns a link that is valid.
func find(tx *postgres.Tx, user id.User, hash []byte) (found link, valid bool, err error) {
	found.user = user
	err = tx.QueryRow(`
		select l.links_since
		from password_links l join users u on u.customer_id = l.customer_id and u.id = l.user_id
		where l.customer_id = @customer and l.hash = @hash and l.user_id = @user
			and l.used_at is null and l.expires_at > @now
			and u.status = 'active' and l.links_since = u.links_since`,
		postgres.Args{"customer": tx.Customer, "hash": hash, "user": user, "now": tx.Now}).Scan(&found.linksSince)
	if errors.Is(err, sql.ErrNoRows) {
		return link{}, false, nil
	}
	return found, err == nil, err
}

func insert(tx *postgres.Tx, of link, hash []byte, purpose Purpose) error {
	_, err := tx.Exec(`
		insert into password_links (customer_id, hash, user_id, purpose, created_at, expires_at, links_since)
		values (@customer, @hash, @user, @purpose, @now, @expires_at, @links_since)`,
		postgres.Args{
			"customer": tx.Customer, "hash": hash, "user": of.user, "purpose": purpose, "now": tx.Now,
			"expires_at": tx.Now.Add(purpose.Lifetime()), "links_since": of.linksSince,
		})
	return err
}

// use marks a link as used, and reports whether it was unused.
func use(tx *postgres.Tx, hash []byte) (used bool, err error) {
	n, err := tx.Exec(`
		update password_links set used_at = $1
		where customer_id = $2 and hash = $3 and used_at is null`, tx.Now, tx.Customer, hash)
	return n == 1, err
}

// expire deletes links that are past their time.
func expire(tx *postgres.Tx, now time.Time, limit int) (int64, error) {
	return tx.Exec(`
		delete from password_links where (customer_id, hash) in (
			select customer_id, hash from password_links where expires_at < $1 limit $2)`, now, limit)
}
