package signingkey

import "github.com/fusionspim/steward/internal/infra/postgres"

// KeysTx returns every key of a purpose, the newest first.
func KeysTx(tx *postgres.Tx, purpose Purpose) (keys []Key, err error) {
	rows, err := tx.Raw("select id, public_key, sealed_private, created_at from proof_keys where purpose = ? order by created_at desc, id", purpose).Rows()
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // read to its end or given up
	for rows.Next() {
		key := Key{purpose: purpose}
		if err := rows.Scan(&key.ID, (*[]byte)(&key.Public), &key.sealed, &key.CreatedAt); err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return keys, rows.Err()
}

func insert(tx *postgres.Tx, key Key) error {
	return tx.ORM().Exec("insert into proof_keys (id, purpose, public_key, sealed_private, created_at) values (?, ?, ?, ?, ?)",
		key.ID, key.purpose, []byte(key.Public), key.sealed, key.CreatedAt).Error
}

// insertAgain brings a key back, unless another replica did.
func insertAgain(tx *postgres.Tx, key Key) error {
	return tx.ORM().Exec("insert into proof_keys (id, purpose, public_key, sealed_private, created_at) values (?, ?, ?, ?, ?) on conflict (id) do nothing",
		key.ID, key.purpose, []byte(key.Public), key.sealed, key.CreatedAt).Error
}
