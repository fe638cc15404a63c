package apikey

import (
	"database/sql"
	"errors"
	"net/netip"
	"time"

	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

// stored is what must be known of a key to judge its use. The zero value stands for a key that is
// not there.
type stored struct {
	customer  id.Customer
	hash      []byte
	scopes    []principal.Scope
	networks  []netip.Prefix
	expiresAt *time.Time
	usedAt    *time.Time
	revoked   bool
}

func insert(tx *postgres.Tx, key Key, hash []byte) error {
	scopes := make(postgres.Strings, len(key.Scopes))
	for i, scope := range key.Scopes {
		scopes[i] = string(scope)
	}
	networks := make(postgres.Strings, len(key.AllowedNetworks))
	for i, network := range key.AllowedNetworks {
		networks[i] = network.String()
	}
	var lifetime *int64
	if key.lifetime > 0 {
		lifetime = &key.lifetime
	}
	return tx.ORM().Exec(`
		insert into api_keys (customer_id, id, name, secret_hash, scopes, allowed_networks, created_at, expires_at, lifetime_seconds)
		values (?, ?, ?, ?, ?::text[], ?::text[]::cidr[], ?, ?, ?)`,
		tx.Customer, key.ID, key.Name, hash, scopes, networks, key.CreatedAt, key.ExpiresAt, lifetime).Error
}

const columns = "id, name, to_jsonb(scopes), to_jsonb(allowed_networks::text[]), created_at, expires_at, last_used_at, revoked_at, coalesce(lifetime_seconds, 0)"

func scan(row interface{ Scan(into ...any) error }) (key Key, err error) {
	var scopes postgres.JSON[[]principal.Scope]
	var networks postgres.JSON[[]netip.Prefix]
	err = row.Scan(
		&key.ID,
		&key.Name,
		&scopes,
		&networks,
		&key.CreatedAt,
		&key.ExpiresAt,
		&key.LastUsedAt,
		&key.RevokedAt,
		&key.lifetime,
	)
	key.Scopes, key.AllowedNetworks = scopes.Of, networks.Of
	return key, err
}

func list(tx *postgres.Tx, unusedForDays int, before id.APIKey, limit int) (keys []Key, err error) {
	statement, arguments := "where customer_id = ?", []any{tx.Customer}
	if unusedForDays > 0 {
		since := tx.Now.AddDate(0, 0, -unusedForDays)
		// The moment of creation stands in for the use that never was.
		statement += " and revoked_at is null and (expires_at is null or expires_at > ?) and greatest(created_at, last_used_at) < ?"
		arguments = append(arguments, tx.Now, since)
	}
	if !before.IsZero() {
		statement, arguments = statement+" and id < ?", append(arguments, before)
	}
	rows, err := tx.ORM().
		Raw("select "+columns+" from api_keys "+statement+" order by id desc limit ?", append(arguments, limit)...).
		Rows()
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // read to its end or given up
	for rows.Next() {
		key, err := scan(rows)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return keys, rows.Err()
}

// lock reads a key and holds it against changes until the transaction ends.
func lock(tx *postgres.Tx, key id.APIKey) (found Key, there bool, err error) {
	found, err = scan(
		tx.ORM().
			Raw("select "+columns+" from api_keys where customer_id = ? and id = ? for no key update", tx.Customer, key).
			Row(),
	)
	if errors.Is(err, sql.ErrNoRows) {
		return Key{}, false, nil
	}
	return found, err == nil, err
}

func expireAt(tx *postgres.Tx, key id.APIKey, at time.Time) error {
	return tx.ORM().
		Exec("update api_keys set expires_at = ? where customer_id = ? and id = ?", at, tx.Customer, key).
		Error
}

func revoke(tx *postgres.Tx, key id.APIKey) (there, revoked bool, err error) {
	done := tx.ORM().
		Exec("update api_keys set revoked_at = ? where customer_id = ? and id = ? and revoked_at is null", tx.Now, tx.Customer, key)
	if done.Error != nil || done.RowsAffected == 1 {
		return true, true, done.Error
	}
	err = tx.ORM().
		Raw("select exists (select from api_keys where customer_id = ? and id = ?)", tx.Customer, key).
		Row().
		Scan(&there)
	return there, false, err
}

// ownerOf is asked outside any customer, under a role that sees nothing of a key but whose it is.
func ownerOf(tx *postgres.Tx, key id.APIKey) (owner id.Customer, err error) {
	err = tx.ORM().Raw("select customer_id from api_keys where id = ?", key).Row().Scan(&owner)
	if errors.Is(err, sql.ErrNoRows) {
		return owner, nil
	}
	return owner, err
}

func read(tx *postgres.Tx, key id.APIKey) (found stored, err error) {
	var scopes postgres.JSON[[]principal.Scope]
	var networks postgres.JSON[[]netip.Prefix]
	err = tx.ORM().Raw(`
		select customer_id, secret_hash, to_jsonb(scopes), to_jsonb(allowed_networks::text[]), expires_at, last_used_at, revoked_at is not null
		from api_keys where customer_id = ? and id = ?`, tx.Customer, key).Row().
		Scan(&found.customer, &found.hash, &scopes, &networks, &found.expiresAt, &found.usedAt, &found.revoked)
	if errors.Is(err, sql.ErrNoRows) {
		return stored{}, nil
	}
	found.scopes, found.networks = scopes.Of, networks.Of
	return found, err
}

func noteUse(tx *postgres.Tx, key id.APIKey) error {
	return tx.ORM().
		Exec("update api_keys set last_used_at = ? where customer_id = ? and id = ?", tx.Now.Truncate(time.Minute), tx.Customer, key).
		Error
}
