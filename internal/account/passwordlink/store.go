package passwordlink

import (
	"database/sql"
	"errors"
	"time"

	"github.com/fusionspim/steward/internal/account/user"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

// find looks for a link that is good.
func find(tx *postgres.Tx, person id.User, hash []byte) (found link, good bool, err error) {
	found.user = person
	err = tx.Raw(`
		select l.links_since from password_links l join users u on u.customer_id = l.customer_id and u.id = l.user_id
		where l.customer_id = ? and l.hash = ? and l.user_id = ? and l.used_at is null and l.expires_at > ? and u.status = 'active'
			and l.links_since = u.links_since`, tx.Customer, hash, person, tx.Now).Row().Scan(&found.linksSince)
	if errors.Is(err, sql.ErrNoRows) {
		return link{}, false, nil
	}
	return found, err == nil, err
}

func insert(tx *postgres.Tx, of link, hash []byte, purpose Purpose) error {
	return tx.ORM().
		Exec("insert into password_links (customer_id, hash, user_id, purpose, created_at, expires_at, links_since) values (?, ?, ?, ?, ?, ?, ?)",
			tx.Customer, hash, of.user, purpose, tx.Now, tx.Now.Add(purpose.Lifetime()), of.linksSince).
		Error
}

// use marks a link as used, once.
func use(tx *postgres.Tx, hash []byte) (bool, error) {
	done := tx.ORM().
		Exec("update password_links set used_at = ? where customer_id = ? and hash = ? and used_at is null", tx.Now, tx.Customer, hash)
	return done.RowsAffected == 1, done.Error
}

// Expire drops at most limit links that are past their time, and tells how many.
func Expire(tx *postgres.Tx, now time.Time, limit int) (int64, error) {
	done := tx.ORM().Exec(`
		delete from password_links where (customer_id, hash) in (select customer_id, hash from password_links where expires_at < ? limit ?)`, now, limit)
	return done.RowsAffected, done.Error
}

// Holdings are what this package holds of a person.
func Holdings() []user.Holding {
	return []user.Holding{
		user.Rows{Name: "password_links", Of: "password_links where customer_id = ? and user_id = any (?)"},
	}
}
