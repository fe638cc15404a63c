package session

import (
	"database/sql"
	"errors"
	"net/netip"
	"time"

	"github.com/fusionspim/steward/internal/account/secondfactor"
	"github.com/fusionspim/steward/internal/account/user"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

type login struct {
	id      id.Login
	user    id.User
	address netip.Addr
	inside  bool
	outcome Outcome
}

// record keeps an attempt to sign in, unless the person was redacted in the meantime: the lock
// makes an erasure wait for it or it for the erasure.
func record(tx *postgres.Tx, attempt login) error {
	return tx.ORM().Exec(`
		insert into login_records (customer_id, id, user_id, occurred_at, address, outcome, inside_networks)
		select customer_id, ?::uuid, id, ?::timestamptz, ?::inet, ?, ?::boolean from users where customer_id = ? and id = ? and status <> 'redacted' for share`,
		attempt.id, tx.Now, attempt.address.String(), attempt.outcome, attempt.inside, tx.Customer, attempt.user).Error
}

func insert(
	tx *postgres.Tx,
	session id.Session,
	person id.User,
	transport Transport,
	cookieHash []byte,
	until time.Time,
) error {
	return tx.ORM().Exec(`
		insert into sessions (customer_id, id, user_id, transport, cookie_hash, created_at, refreshed_at, expires_at) values (?, ?, ?, ?, ?, ?, ?, ?)`,
		tx.Customer, session, person, transport, cookieHash, tx.Now, tx.Now, until).Error
}

// knowsAddress tells whether the person signed in from the address before.
func knowsAddress(tx *postgres.Tx, person id.User, address netip.Addr) (known bool, err error) {
	err = tx.Raw("select exists (select from login_records where customer_id = ? and user_id = ? and address = ?::inet and outcome = 'succeeded')",
		tx.Customer, person, address.Unmap().String()).
		Row().
		Scan(&known)
	return known, err
}

// extend notes the use of a session.
func extend(tx *postgres.Tx, session id.Session, until time.Time) error {
	return tx.ORM().
		Exec("update sessions set refreshed_at = ?, expires_at = ? where customer_id = ? and id = ? and ended_at is null",
			tx.Now, until, tx.Customer, session).
		Error
}

func list(tx *postgres.Tx, person id.User, before id.Session, limit int) (sessions []Session, err error) {
	statement := `
		select s.id, s.transport, s.created_at, s.refreshed_at, s.expires_at
		from sessions s join users u on u.customer_id = s.customer_id and u.id = s.user_id
		where ` + good + " and s.customer_id = ? and s.user_id = ?"
	arguments := []any{tx.Now, tx.Customer, person}
	if !before.IsZero() {
		statement, arguments = statement+" and s.id < ?", append(arguments, before)
	}
	rows, err := tx.Raw(statement+" order by s.id desc limit ?", append(arguments, limit)...).Rows()
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // read to its end or given up
	for rows.Next() {
		var one Session
		if err := rows.Scan(&one.ID, &one.Transport, &one.CreatedAt, &one.RefreshedAt, &one.ExpiresAt); err != nil {
			return nil, err
		}
		sessions = append(sessions, one)
	}
	return sessions, rows.Err()
}

func endOf(tx *postgres.Tx, person id.User, session id.Session) (there bool, err error) {
	done := tx.ORM().
		Exec("update sessions set ended_at = ? where customer_id = ? and user_id = ? and id = ? and ended_at is null",
			tx.Now, tx.Customer, person, session)
	return done.RowsAffected == 1, done.Error
}

func listLogins(tx *postgres.Tx, person id.User, before id.Login, limit int) (logins []Login, err error) {
	statement := "select id, occurred_at, host(address), outcome, inside_networks from login_records where customer_id = ? and user_id = ?"
	arguments := []any{tx.Customer, person}
	if !before.IsZero() {
		statement, arguments = statement+" and id < ?", append(arguments, before)
	}
	rows, err := tx.Raw(statement+" order by id desc limit ?", append(arguments, limit)...).Rows()
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // read to its end or given up
	for rows.Next() {
		var one Login
		var address string
		if err := rows.Scan(&one.ID, &one.OccurredAt, &address, &one.Outcome, &one.InsideNetworks); err != nil {
			return nil, err
		}
		if one.Address, err = netip.ParseAddr(address); err != nil {
			return nil, err
		}
		logins = append(logins, one)
	}
	return logins, rows.Err()
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

// lockRefreshable looks a refresh token up and holds its person and then its session, the order in
// which an erasure and a change of the password take them as well. Of two exchanges at once the
// second sees what the first did.
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
	err := tx.ORM().
		Exec("update refresh_tokens set used_at = ? where customer_id = ? and session_id = ? and hash = ?", tx.Now, tx.Customer, session, hash).
		Error
	if err != nil {
		return err
	}
	return tx.ORM().
		Exec("update sessions set refreshed_at = ?, expires_at = ? where customer_id = ? and id = ?", tx.Now, until, tx.Customer, session).
		Error
}

func end(tx *postgres.Tx, session id.Session) error {
	return tx.ORM().
		Exec("update sessions set ended_at = ? where customer_id = ? and id = ? and ended_at is null", tx.Now, tx.Customer, session).
		Error
}

func endOthers(tx *postgres.Tx, person id.User, keep id.Session) error {
	return tx.ORM().
		Exec("update sessions set ended_at = ? where customer_id = ? and user_id = ? and id <> ? and ended_at is null",
			tx.Now, tx.Customer, person, keep).
		Error
}

func look(tx *postgres.Tx, session id.Session, operatorsMust bool) (found standing, err error) {
	err = tx.Raw(`
		select u.id, u.role, s.cookie_hash, s.created_at, s.refreshed_at, `+good+`, `+secondfactor.Required+` and not `+secondfactor.Confirmed+`
		from sessions s join users u on u.customer_id = s.customer_id and u.id = s.user_id join customers c on c.id = u.customer_id
		where s.customer_id = ? and s.id = ?`, tx.Now, operatorsMust, tx.Customer, session).Row().
		Scan(&found.user, &found.role, &found.cookieHash, &found.createdAt, &found.refreshedAt, &found.live, &found.mustEnrol)
	found.customer = tx.Customer
	if errors.Is(err, sql.ErrNoRows) {
		return standing{}, nil
	}
	return found, err
}

// Holdings are what this package holds of a person, in the order in which it can be removed.
func Holdings() []user.Holding {
	return []user.Holding{
		user.Rows{
			Name:  "refresh_tokens",
			Of:    "refresh_tokens t where (customer_id, session_id) in (select customer_id, id from sessions where customer_id = ? and user_id = any (?))",
			Owner: "(select s.user_id from sessions s where s.customer_id = t.customer_id and s.id = t.session_id)",
		},
		user.Rows{Name: "sessions", Of: "sessions where customer_id = ? and user_id = any (?)"},
		user.Rows{Name: "login_records", Of: "login_records where customer_id = ? and user_id = any (?)"},
	}
}

// lockSigningKeys returns the keys that are not retired, newest first, while no other replica looks
// or makes one.
func lockSigningKeys(tx *postgres.Tx) (keys []sealedKey, err error) {
	if err := tx.Acquire(postgres.LockTokenKeys); err != nil {
		return nil, err
	}
	rows, err := tx.ORM().
		Raw("select id, sealed_private, created_at, signs_from from signing_keys where retired_at is null or retired_at > ? order by signs_from desc, id", tx.Now).
		Rows()
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // read to its end or given up
	for rows.Next() {
		var key sealedKey
		if err := rows.Scan(&key.id, &key.private, &key.createdAt, &key.signsFrom); err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return keys, rows.Err()
}

func insertSigningKey(tx *postgres.Tx, key sealedKey) error {
	return tx.ORM().Exec("insert into signing_keys (id, sealed_private, created_at, signs_from) values (?, ?, ?, ?)",
		key.id, key.private, key.createdAt, key.signsFrom).Error
}

// retireSigningKeys sets an end to the keys that have none.
func retireSigningKeys(tx *postgres.Tx, at time.Time) error {
	return tx.ORM().Exec("update signing_keys set retired_at = ? where retired_at is null", at).Error
}

// ExpireLogins drops, for all customers, at most limit login records that are older than their
// customer keeps them, and tells how many.
func ExpireLogins(tx *postgres.Tx, now time.Time, limit int) (int64, error) {
	done := tx.ORM().Exec(`
		delete from login_records where (customer_id, id) in (
			select l.customer_id, l.id from login_records l join customers c on c.id = l.customer_id
			where l.occurred_at < ?::timestamptz - c.login_record_days * interval '1 day' limit ?)`, now, limit)
	return done.RowsAffected, done.Error
}

// ExpireSessions drops, for all customers, at most limit sessions that can never be used again,
// with their tokens, and tells how many.
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
