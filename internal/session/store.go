package session

import (
	"database/sql"
	"errors"
	"net/netip"
	"time"

	"github.com/fusionspim/steward/internal/id"
	"github.com/fusionspim/steward/internal/postgres"
	"github.com/fusionspim/steward/internal/principal"
	"github.com/fusionspim/steward/internal/user"
)

type login struct {
	id      id.Login
	user    id.User
	address netip.Addr
	inside  bool
	outcome Outcome
}

// record keeps an attempt to sign in, unless the person was redacted in the meantime: the lock makes an erasure wait for it or it for the erasure.
func record(tx *postgres.Tx, attempt login) error {
	return tx.ORM().Exec(`
		insert into login_records (customer_id, id, user_id, occurred_at, address, outcome, inside_networks)
		select customer_id, ?::uuid, id, ?::timestamptz, ?::inet, ?, ?::boolean from users where customer_id = ? and id = ? and status <> 'redacted' for share`,
		attempt.id, tx.Now, attempt.address.String(), attempt.outcome, attempt.inside, tx.Customer, attempt.user).Error
}

func insert(tx *postgres.Tx, session id.Session, person id.User, until time.Time) error {
	return tx.ORM().Exec("insert into sessions (customer_id, id, user_id, created_at, refreshed_at, expires_at) values (?, ?, ?, ?, ?, ?)",
		tx.Customer, session, person, tx.Now, tx.Now, until).Error
}

func insertRefreshToken(tx *postgres.Tx, session id.Session, hash []byte) error {
	return tx.ORM().Exec("insert into refresh_tokens (customer_id, session_id, hash, created_at) values (?, ?, ?, ?)",
		tx.Customer, session, hash, tx.Now).Error
}

// good is the condition under which a session s of a user u holds.
const good = "s.ended_at is null and s.expires_at > ? and u.status = 'active' and s.created_at >= u.sessions_since"

// refreshable is a session as a refresh token finds it.
type refreshable struct {
	user      id.User
	role      principal.Role
	createdAt time.Time
	live      bool // the token belongs to the session, and the session is good
	used      bool // the token was exchanged before
}

// lockRefreshable looks a refresh token up and holds its person and then its session, the order in which an erasure and a change of the password
// take them as well. Of two exchanges at once the second sees what the first did.
func lockRefreshable(tx *postgres.Tx, session id.Session, hash []byte) (found refreshable, err error) {
	for _, hold := range []string{
		"select s.id from sessions s join users u on u.customer_id = s.customer_id and u.id = s.user_id where s.customer_id = ? and s.id = ? for share of u",
		"select id from sessions where customer_id = ? and id = ? for no key update",
	} {
		var held id.Session
		err = tx.ORM().Raw(hold, tx.Customer, session).Row().Scan(&held)
		if errors.Is(err, sql.ErrNoRows) {
			return refreshable{}, nil
		}
		if err != nil {
			return refreshable{}, err
		}
	}
	err = tx.ORM().Raw(`
		select u.id, u.role, s.created_at, `+good+`, t.used_at is not null
		from sessions s
		join users u on u.customer_id = s.customer_id and u.id = s.user_id
		join refresh_tokens t on t.customer_id = s.customer_id and t.session_id = s.id and t.hash = ?
		where s.customer_id = ? and s.id = ?`, tx.Now, hash, tx.Customer, session).Row().Scan(&found.user, &found.role, &found.createdAt, &found.live, &found.used)
	if errors.Is(err, sql.ErrNoRows) {
		return refreshable{}, nil
	}
	return found, err
}

func exchange(tx *postgres.Tx, session id.Session, hash []byte, until time.Time) error {
	err := tx.ORM().Exec("update refresh_tokens set used_at = ? where customer_id = ? and session_id = ? and hash = ?", tx.Now, tx.Customer, session, hash).Error
	if err != nil {
		return err
	}
	return tx.ORM().Exec("update sessions set refreshed_at = ?, expires_at = ? where customer_id = ? and id = ?", tx.Now, until, tx.Customer, session).Error
}

func end(tx *postgres.Tx, session id.Session) error {
	return tx.ORM().Exec("update sessions set ended_at = ? where customer_id = ? and id = ? and ended_at is null", tx.Now, tx.Customer, session).Error
}

func endOthers(tx *postgres.Tx, person id.User, keep id.Session) error {
	return tx.ORM().Exec("update sessions set ended_at = ? where customer_id = ? and user_id = ? and id <> ? and ended_at is null",
		tx.Now, tx.Customer, person, keep).Error
}

func look(tx *postgres.Tx, session id.Session) (found standing, err error) {
	err = tx.ORM().Raw(`
		select u.id, u.role, `+good+`
		from sessions s join users u on u.customer_id = s.customer_id and u.id = s.user_id
		where s.customer_id = ? and s.id = ?`, tx.Now, tx.Customer, session).Row().Scan(&found.user, &found.role, &found.live)
	found.customer = tx.Customer
	if errors.Is(err, sql.ErrNoRows) {
		return standing{}, nil
	}
	return found, err
}

// holding is one of this package's stores as erasure sees it.
type holding struct {
	store string
	from  string // the rows of a person
}

// Holdings are what this package holds of a person, in the order in which it can be removed.
func Holdings() []user.Holding {
	return []user.Holding{
		holding{"refresh_tokens", "refresh_tokens where (customer_id, session_id) in (select customer_id, id from sessions where customer_id = ? and user_id = ?)"},
		holding{"sessions", "sessions where customer_id = ? and user_id = ?"},
		holding{"login_records", "login_records where customer_id = ? and user_id = ?"},
	}
}

// Store names the holding in plans and receipts.
func (h holding) Store() string { return h.store }

// Count counts what is held of the user.
func (h holding) Count(tx *postgres.Tx, person id.User) (count int64, err error) {
	err = tx.ORM().Raw("select count(*) from "+h.from, tx.Customer, person).Row().Scan(&count)
	return count, err
}

// Remove removes it and tells how much there was.
func (h holding) Remove(tx *postgres.Tx, person id.User) (int64, error) {
	done := tx.ORM().Exec("delete from "+h.from, tx.Customer, person)
	return done.RowsAffected, done.Error
}

// lockSigningKeys returns the keys that are not retired, newest first, while no other replica looks or makes one.
func lockSigningKeys(tx *postgres.Tx) (keys []sealedKey, err error) {
	// The number is arbitrary; it names this lock in the database.
	if err := tx.ORM().Exec("select pg_advisory_xact_lock(7238160053)").Error; err != nil {
		return nil, err
	}
	rows, err := tx.ORM().Raw("select id, sealed_private, created_at from signing_keys where retired_at is null order by created_at desc, id").Rows()
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // read to its end or given up
	for rows.Next() {
		var key sealedKey
		if err := rows.Scan(&key.id, &key.private, &key.createdAt); err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return keys, rows.Err()
}

func insertSigningKey(tx *postgres.Tx, key sealedKey) error {
	return tx.ORM().Exec("insert into signing_keys (id, sealed_private, created_at) values (?, ?, ?)", key.id, key.private, key.createdAt).Error
}

// loginsKept is how long login records are kept.
const loginsKept = 90 * 24 * time.Hour

// ExpireLogins drops, for all customers, at most limit login records that are past their time, and tells how many.
func ExpireLogins(tx *postgres.Tx, now time.Time, limit int) (int64, error) {
	done := tx.ORM().Exec("delete from login_records where (customer_id, id) in (select customer_id, id from login_records where occurred_at < ? limit ?)",
		now.Add(-loginsKept), limit)
	return done.RowsAffected, done.Error
}

// ExpireSessions drops, for all customers, at most limit sessions that can never be used again, with their tokens, and tells how many.
func ExpireSessions(tx *postgres.Tx, now time.Time, limit int) (int64, error) {
	done := tx.ORM().Exec(`
		with gone as (
			select customer_id, id from sessions where expires_at < ? limit ?
		), tokens as (
			delete from refresh_tokens t using gone where t.customer_id = gone.customer_id and t.session_id = gone.id
		)
		delete from sessions s using gone where s.customer_id = gone.customer_id and s.id = gone.id`, now, limit)
	return done.RowsAffected, done.Error
}
