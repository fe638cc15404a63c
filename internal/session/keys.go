package session

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"time"

	"github.com/fusionspim/steward/internal/postgres"
	"github.com/fusionspim/steward/internal/seal"
	"github.com/fusionspim/steward/internal/token"
)

// sealLabel keeps the boxes of signing keys apart from all others.
const sealLabel = "signing key"

// LoadKeys brings the signing keys from the database into the ring: the newest signs, all that are not retired verify. Where there is none yet, it makes
// one; replicas that start at the same moment agree on one. A key that the master key does not open is an error that says so.
func LoadKeys(ctx context.Context, db *postgres.DB, box *seal.Box, ring *token.Keyring) error {
	var keys []token.SigningKey
	err := db.InPlatform(ctx, func(tx *postgres.Tx) error {
		sealed, err := lockSigningKeys(tx)
		if err != nil {
			return err
		}
		if len(sealed) == 0 {
			key := token.NewSigningKey()
			keys = []token.SigningKey{key}
			return insertSigningKey(tx, sealedKey{key.ID(), box.Seal(sealLabel, key.Seed(), []byte(key.ID())), tx.Now})
		}
		keys = keys[:0]
		for _, one := range sealed {
			seed, err := box.Open(sealLabel, one.private, []byte(one.id))
			if err != nil {
				return fmt.Errorf("session: the signing key %s does not open with this master key: %w", one.id, err)
			}
			key, err := token.SigningKeyFromSeed(seed)
			if err != nil {
				return err
			}
			keys = append(keys, key)
		}
		return nil
	})
	if err != nil {
		return err
	}
	older := keys[1:]
	verifying := make([]ed25519.PublicKey, len(older))
	for i, key := range older {
		verifying[i] = key.Public()
	}
	return ring.Replace(keys[0], verifying...)
}

type sealedKey struct {
	id        string
	private   []byte
	createdAt time.Time
}
