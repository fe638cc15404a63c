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

// stored is what judging the use of a key needs. The zero value stands for a key that does not
// exist.
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
	networks := make([]string, len(key.AllowedNetworks))
	for i, network := range key.AllowedNetworks {
		networks[i] = network.String()
	}
	var lifetime *int64
	if key.lifetime > 0 {
		lifetime = &key.lifetime
	}
	_, err := tx.Exec(`
		insert into api_keys (
			customer_id, id, name, secret_hash, scopes, allowed_networks, created_at, expires_at, lifetime_seconds
		) values (
			@customer, @id, @name, @hash, @scopes, @networks::text[]::cidr[], @created_at, @expires_at, @lifetime
		)`,
		postgres.Args{
			"customer": tx.Customer, "id": key.ID, "name": key.Name, "hash": hash, "scopes": key.Scopes,
			"networks": networks, "created_at": key.CreatedAt, "expires_at": key.ExpiresAt, "lifetime": lifetime,
		})
	return err
}

const columns = `id, name, to_jsonb(scopes), to_jsonb(allowed_networks::text[]), created_at, expires_at,
	last_used_at, revoked_at, coalesce(lifetime_seconds, 0)`

func scan(row postgres.Row) (key Key, err error) {
	var scopes postgres.JSON[[]principal.Scope]
	var networks postgres.JSON[[]netip.Prefix]
	err = row.Scan(&key.ID, &key.Name, &scopes, &networks, &key.CreatedAt, &key.ExpiresAt,
		&key.LastUsedAt, &key.RevokedAt, &key.lifetime)
	key.Scopes, key.AllowedNetworks = scopes.Of, networks.Of
	return key, err
}

func list(tx *postgres.Tx, unusedForDays int, before id.APIKey, limit int) ([]Key, error) {
	condition := "where customer_id = @customer"
	arguments := postgres.Args{"customer": tx.Customer, "limit": limit}
	if unusedForDays > 0 {
		// A key that was never used counts from its creation.
		condition += ` and revoked_at is null and (expires_at is null or expires_at > @now)
			and greatest(created_at, last_used_at) < @since`
		arguments["now"], arguments["since"] = tx.Now, tx.Now.AddDate(0, 0, -unusedForDays)
	}
	if !before.IsZero() {
		condition += " and id < @before"
		arguments["before"] = before
	}
	return postgres.Collect(tx, scan,
		"select "+columns+" from api_keys "+condition+" order by id desc limit @limit", arguments)
}

// lock reads a key and locks it against changes until the transaction ends.
func lock(tx *postgres.Tx, key id.APIKey) (found Key, exists bool, err error) {
	found, err = scan(tx.QueryRow(
		"select "+columns+" from api_keys where customer_id = $1 and id = $2 for no key update", tx.Customer, key))
	if errors.Is(err, sql.ErrNoRows) {
		return Key{}, false, nil
	}
	return found, err == nil, err
}

func expireAt(tx *postgres.Tx, key id.APIKey, at time.Time) error {
	_, err := tx.Exec("update api_keys set expires_at = $1 where customer_id = $2 and id = $3", at, tx.Customer, key)
	return err
}

func revoke(tx *postgres.Tx, key id.APIKey) (exists, revoked bool, err error) {
	n, err := tx.Exec(`
		update api_keys set revoked_at = $1
		where customer_id = $2 and id = $3 and revoked_at is null`, tx.Now, tx.Customer, key)
	if err != nil || n == 1 {
		return true, true, err
	}
	err = tx.QueryRow("select exists (select from api_keys where customer_id = $1 and id = $2)", tx.Customer, key).
		Scan(&exists)
	return exists, false, err
}

// ownerOf returns the customer of a key; zero: no such key. It runs outside any customer, under a
// role that sees nothing else of a key.
func ownerOf(tx *postgres.Tx, key id.APIKey) (owner id.Customer, err error) {
	err = tx.QueryRow("select customer_id from api_keys where id = $1", key).Scan(&owner)
	if errors.Is(err, sql.ErrNoRows) {
		return owner, nil
	}
	return owner, err
}

func read(tx *postgres.Tx, key id.APIKey) (found stored, err error) {
	var scopes postgres.JSON[[]principal.Scope]
	var networks postgres.JSON[[]netip.Prefix]
	err = tx.QueryRow(`
		select customer_id, secret_hash, to_jsonb(scopes), to_jsonb(allowed_networks::text[]), expires_at,
			last_used_at, revoked_at is not null
		from api_keys where customer_id = $1 and id = $2`, tx.Customer, key).
		Scan(&found.customer, &found.hash, &scopes, &networks, &found.expiresAt, &found.usedAt, &found.revoked)
	if errors.Is(err, sql.ErrNoRows) {
		return stored{}, nil
	}
	found.scopes, found.networks = scopes.Of, networks.Of
	return found, err
}

// recordUse records the last use of a key, to the minute.
func recordUse(tx *postgres.Tx, key id.APIKey) error {
	_, err := tx.Exec("update api_keys set last_used_at = $1 where customer_id = $2 and id = $3",
		tx.Now.Truncate(time.Minute), tx.Customer, key)
	return err
}
