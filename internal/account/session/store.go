package session

import (
	"database/sql"
	"errors"
	"net/netip"
	"time"

	"github.com/fusionspim/steward/internal/account/secondfactor"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

// login is an attempt to sign in as it is recorded.
type login struct {
	id      id.Login
	user    id.User
	address netip.Addr
	inside  bool
	outcome Outcome
}

// record stores an attempt to sign in, unless the user was redacted in the meantime. The lock of
// the user's row orders it before or after an erasure.
func record(tx *postgres.Tx, attempt login) error {
	_, err := tx.Exec(`
		insert into login_records (customer_id, id, user_id, occurred_at, address, outcome, inside_networks)
		select customer_id, @id::uuid, id, @now::timestamptz, @address::inet, @outcome, @inside::boolean
		from users where customer_id = @customer and id = @user and status <> 'redacted' for share`,
		postgres.Args{
			"id": attempt.id, "now": tx.Now, "address": attempt.address.String(), "outcome": attempt.outcome,
			"inside": attempt.inside, "customer": tx.Customer, "user": attempt.user,
		})
	return err
}

// row is a session as it is stored.
type row struct {
	id         id.Session
	user       id.User
	transport  Transport
	cookieHash []byte // nil unless the transport is a cookie
	expiresAt  time.Time
}

func insert(tx *postgres.Tx, session row) error {
	_, err := tx.Exec(`
		insert into sessions (customer_id, id, user_id, transport, cookie_hash, created_at, refreshed_at, expires_at)
		values (@customer, @id, @user, @transport, @cookie_hash, @now, @now, @expires_at)`,
		postgres.Args{
			"customer": tx.Customer, "id": session.id, "user": session.user, "transport": session.transport,
			"cookie_hash": session.cookieHash, "now": tx.Now, "expires_at": session.expiresAt,
		})
	return err
}

// knowsAddress reports whether the user signed in from the address before.
func knowsAddress(tx *postgres.Tx, user id.User, address netip.Addr) (known bool, err error) {
	err = tx.QueryRow(`
		select exists (
			select from login_records
			where customer_id = $1 and user_id = $2 and address = $3::inet and outcome = 'succeeded'
		)`, tx.Customer, user, address.Unmap().String()).Scan(&known)
	return known, err
}

// extend records the use of a session that has not ended.
func extend(tx *postgres.Tx, session id.Session, until time.Time) error {
	_, err := tx.Exec(`
		update sessions set refreshed_at = @now, expires_at = @until
		where customer_id = @customer and id = @session and ended_at is null`,
		postgres.Args{"now": tx.Now, "until": until, "customer": tx.Customer, "session": session})
	return err
}

// list returns the valid sessions of a user that began before one of them; zero: from the newest
// on.
func list(tx *postgres.Tx, user id.User, before id.Session, limit int) ([]Session, error) {
	scan := func(row postgres.Row) (s Session, err error) {
		err = row.Scan(&s.ID, &s.Transport, &s.CreatedAt, &s.RefreshedAt, &s.ExpiresAt)
		return s, err
	}
	statement := `
		select s.id, s.transport, s.created_at, s.refreshed_at, s.expires_at
		from sessions s join users u on u.customer_id = s.customer_id and u.id = s.user_id
		where ` + valid + " and s.customer_id = @customer and s.user_id = @user"
	arguments := postgres.Args{"now": tx.Now, "customer": tx.Customer, "user": user, "limit": limit}
	if !before.IsZero() {
		statement += " and s.id < @before"
		arguments["before"] = before
	}
	return postgres.Collect(tx, scan, statement+" order by s.id desc limit @limit", arguments)
}

// endOf ends a session of the user, and reports whether it was one that had not ended.
func endOf(tx *postgres.Tx, user id.User, session id.Session) (ended bool, err error) {
	n, err := tx.Exec(`
		update sessions set ended_at = @now
		where customer_id = @customer and user_id = @user and id = @session and ended_at is null`,
		postgres.Args{"now": tx.Now, "customer": tx.Customer, "user": user, "session": session})
	return n == 1, err
}

// listLogins returns the attempts to sign in to an account before one of them; zero: from the
// newest on.
func listLogins(tx *postgres.Tx, user id.User, before id.Login, limit int) ([]Login, error) {
	scan := func(row postgres.Row) (l Login, err error) {
		var address string
		if err = row.Scan(&l.ID, &l.OccurredAt, &address, &l.Outcome, &l.InsideNetworks); err == nil {
			l.Address, err = netip.ParseAddr(address)
		}
		return l, err
	}
	statement := `
		select id, occurred_at, host(address), outcome, inside_networks
		from login_records where customer_id = @customer and user_id = @user`
	arguments := postgres.Args{"customer": tx.Customer, "user": user, "limit": limit}
	if !before.IsZero() {
		statement += " and id < @before"
		arguments["before"] = before
	}
	return postgres.Collect(tx, scan, statement+" order by id desc limit @limit", arguments)
}

func insertRefreshToken(tx *postgres.Tx, session id.Session, hash []byte) error {
	_, err := tx.Exec(`
		insert into refresh_tokens (customer_id, session_id, hash, created_at)
		values ($1, $2, $3, $4)`, tx.Customer, session, hash, tx.Now)
	return err
}

// valid is the condition under which a session s of a user u is valid at @now.
const valid = "s.ended_at is null and s.expires_at > @now and u.status = 'active' and s.created_at >= u.sessions_since"

// refreshable is the session of a refresh token.
type refreshable struct {
	user      id.User
	role      principal.Role
	createdAt time.Time
	live      bool // the token is the session's, and the session is valid
	used      bool // the token was exchanged before
}

// lockRefreshable looks a refresh token up and locks its user and then its session, in the order in
// which erasures and password changes do. Of two concurrent exchanges the second sees the first.
func lockRefreshable(tx *postgres.Tx, session id.Session, hash []byte) (found refreshable, err error) {
	for _, lock := range []string{
		`select s.id from sessions s join users u on u.customer_id = s.customer_id and u.id = s.user_id
		where s.customer_id = $1 and s.id = $2 for share of u`,
		"select id from sessions where customer_id = $1 and id = $2 for no key update",
	} {
		var locked id.Session
		err = tx.QueryRow(lock, tx.Customer, session).Scan(&locked)
		if errors.Is(err, sql.ErrNoRows) {
			return refreshable{}, nil
		}
		if err != nil {
			return refreshable{}, err
		}
	}
	err = tx.QueryRow(`
		select u.id, u.role, s.created_at, `+valid+`, t.used_at is not null
		from sessions s
		join users u on u.customer_id = s.customer_id and u.id = s.user_id
		join refresh_tokens t on t.customer_id = s.customer_id and t.session_id = s.id and t.hash = @hash
		where s.customer_id = @customer and s.id = @session`,
		postgres.Args{"now": tx.Now, "hash": hash, "customer": tx.Customer, "session": session}).
		Scan(&found.user, &found.role, &found.createdAt, &found.live, &found.used)
	if errors.Is(err, sql.ErrNoRows) {
		return refreshable{}, nil
	}
	return found, err
}

// exchange marks a refresh token as used and extends its session.
func exchange(tx *postgres.Tx, session id.Session, hash []byte, until time.Time) error {
	_, err := tx.Exec(`
		update refresh_tokens set used_at = @now
		where customer_id = @customer and session_id = @session and hash = @hash`,
		postgres.Args{"now": tx.Now, "customer": tx.Customer, "session": session, "hash": hash})
	if err != nil {
		return err
	}
	_, err = tx.Exec(`
		update sessions set refreshed_at = @now, expires_at = @until
		where customer_id = @customer and id = @session`,
		postgres.Args{"now": tx.Now, "until": until, "customer": tx.Customer, "session": session})
	return err
}

func end(tx *postgres.Tx, session id.Session) error {
	_, err := tx.Exec(`
		update sessions set ended_at = $1
		where customer_id = $2 and id = $3 and ended_at is null`, tx.Now, tx.Customer, session)
	return err
}

func endOthers(tx *postgres.Tx, user id.User, except id.Session) error {
	_, err := tx.Exec(`
		update sessions set ended_at = @now
		where customer_id = @customer and user_id = @user and id <> @except and ended_at is null`,
		postgres.Args{"now": tx.Now, "customer": tx.Customer, "user": user, "except": except})
	return err
}

// find reads the standing of a session; a session that does not exist gives the zero value.
func find(tx *postgres.Tx, session id.Session, operatorsMust bool) (found standing, err error) {
	err = tx.QueryRow(`
		select u.id, u.role, s.cookie_hash, s.created_at, s.refreshed_at, `+valid+`,
			`+secondfactor.Required+` and not `+secondfactor.Confirmed+`
		from sessions s
		join users u on u.customer_id = s.customer_id and u.id = s.user_id
		join customers c on c.id = u.customer_id
		where s.customer_id = @customer and s.id = @session`,
		postgres.Args{
			"now": tx.Now, "operators_must": operatorsMust, "customer": tx.Customer, "session": session,
		}).Scan(&found.user, &found.role, &found.cookieHash, &found.createdAt, &found.refreshedAt,
		&found.live, &found.mustEnrol)
	found.customer = tx.Customer
	if errors.Is(err, sql.ErrNoRows) {
		return standing{}, nil
	}
	return found, err
}

// lockSigningKeys returns the keys that are not retired, newest first, and locks out other replicas
// that read or create keys.
func lockSigningKeys(tx *postgres.Tx) (keys []sealedKey, err error) {
	if err := tx.Acquire(postgres.LockTokenKeys); err != nil {
		return nil, err
	}
	scan := func(row postgres.Row) (key sealedKey, err error) {
		err = row.Scan(&key.id, &key.private, &key.createdAt, &key.signsFrom)
		return key, err
	}
	return postgres.Collect(tx, scan, `
		select id, sealed_private, created_at, signs_from from signing_keys
		where retired_at is null or retired_at > $1 order by signs_from desc, id`, tx.Now)
}

func insertSigningKey(tx *postgres.Tx, key sealedKey) error {
	_, err := tx.Exec(`
		insert into signing_keys (id, sealed_private, created_at, signs_from)
		values ($1, $2, $3, $4)`, key.id, key.private, key.createdAt, key.signsFrom)
	return err
}

// retireSigningKeys retires, at a time, the keys that have none.
func retireSigningKeys(tx *postgres.Tx, at time.Time) error {
	_, err := tx.Exec("update signing_keys set retired_at = $1 where retired_at is null", at)
	return err
}

// expireLogins deletes login records that are older than their customer keeps them.
func expireLogins(tx *postgres.Tx, now time.Time, limit int) (int64, error) {
	return tx.Exec(`
		delete from login_records where (customer_id, id) in (
			select l.customer_id, l.id from login_records l join customers c on c.id = l.customer_id
			where l.occurred_at < $1::timestamptz - c.login_record_days * interval '1 day' limit $2)`, now, limit)
}

// expireSessions deletes sessions that can never be used again, with their tokens.
func expireSessions(tx *postgres.Tx, now time.Time, limit int) (int64, error) {
	return tx.Exec(`
		with gone as (
			select customer_id, id from sessions where expires_at < $1 limit $2
		), tokens as (
			delete from refresh_tokens t using gone where t.customer_id = gone.customer_id and t.session_id = gone.id
		)
		delete from sessions s using gone where s.customer_id = gone.customer_id and s.id = gone.id`, now, limit)
}
