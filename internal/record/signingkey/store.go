package signingkey

import "github.com/fusionspim/steward/internal/infra/postgres"

// KeysTx returns every key of a purpose, the newest first.
func KeysTx(tx *postgres.Tx, purpose Purpose) ([]Key, error) {
	return postgres.Collect(tx, func(row postgres.Row) (Key, error) {
		key := Key{purpose: purpose}
		err := row.Scan(&key.ID, (*[]byte)(&key.Public), &key.sealed, &key.CreatedAt)
		return key, err
	}, `select id, public_key, sealed_private, created_at from proof_keys where purpose = $1
		order by created_at desc, id`, purpose)
}

const insertKey = `insert into proof_keys (id, purpose, public_key, sealed_private, created_at)
	values (@id, @purpose, @public, @sealed, @created_at)`

func (k Key) arguments() postgres.Args {
	return postgres.Args{
		"id": k.ID, "purpose": k.purpose, "public": []byte(k.Public), "sealed": k.sealed, "created_at": k.CreatedAt,
	}
}

func insert(tx *postgres.Tx, key Key) error {
	_, err := tx.Exec(insertKey, key.arguments())
	return err
}

// insertIfMissing restores a key, unless another replica did.
func insertIfMissing(tx *postgres.Tx, key Key) error {
	_, err := tx.Exec(insertKey+" on conflict (id) do nothing", key.arguments())
	return err
}
