package apikey

import (
	"database/sql"
	"errors"
	"net/netip"
	"time"

	"github.com/fusionspim/steward/internal/id"
	"github.com/fusionspim/steward/internal/postgres"
	"github.com/fusionspim/steward/internal/principal"
)

// stored is what must be known of a key to judge its use. The zero value stands for a key that is not there.
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
	return tx.ORM().Exec(`
		insert into api_keys (customer_id, id, name, secret_hash, scopes, allowed_networks, created_at, expires_at)
		values (?, ?, ?, ?, ?::text[], ?::text[]::cidr[], ?, ?)`,
		tx.Customer, key.ID, key.Name, hash, scopes, networks, key.CreatedAt, key.ExpiresAt).Error
}

func list(tx *postgres.Tx, before id.APIKey, limit int) (keys []Key, err error) {
	statement, arguments := "where customer_id = ?", []any{tx.Customer}
	if !before.IsZero() {
		statement, arguments = statement+" and id < ?", append(arguments, before)
	}
	rows, err := tx.ORM().Raw(`
		select id, name, to_jsonb(scopes), to_jsonb(allowed_networks::text[]), created_at, expires_at, last_used_at, revoked_at
		from api_keys `+statement+" order by id desc limit ?", append(arguments, limit)...).Rows()
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // read to its end or given up
	for rows.Next() {
		var key Key
		var scopes postgres.JSON[[]principal.Scope]
		var networks postgres.JSON[[]netip.Prefix]
		if err := rows.Scan(&key.ID, &key.Name, &scopes, &networks, &key.CreatedAt, &key.ExpiresAt, &key.LastUsedAt, &key.RevokedAt); err != nil {
			return nil, err
		}
		key.Scopes, key.AllowedNetworks = scopes.Of, networks.Of
		keys = append(keys, key)
	}
	return keys, rows.Err()
}

func revoke(tx *postgres.Tx, key id.APIKey) (there, revoked bool, err error) {
	done := tx.ORM().Exec("update api_keys set revoked_at = ? where customer_id = ? and id = ? and revoked_at is null", tx.Now, tx.Customer, key)
	if done.Error != nil || done.RowsAffected == 1 {
		return true, true, done.Error
	}
	err = tx.ORM().Raw("select exists (select from api_keys where customer_id = ? and id = ?)", tx.Customer, key).Row().Scan(&there)
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
	return tx.ORM().Exec("update api_keys set last_used_at = ? where customer_id = ? and id = ?", tx.Now.Truncate(time.Minute), tx.Customer, key).Error
}
