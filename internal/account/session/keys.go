package session

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"time"

	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/infra/seal"
	"github.com/fusionspim/steward/internal/infra/token"
)

// sealLabel separates these sealed keys from all other sealed values.
const sealLabel = "signing key"

// published is how long a new key is published before it signs, so that every replica and every
// cache of the key set knows it by then. The old key verifies for token.MaxLifetime after it last
// signed, until the last token that it signed has expired.
const published = 2 * time.Minute

// LoadKeys loads the signing keys from the database into the key ring: the newest key that may sign
// already signs, and all keys that are not retired verify. Without any key it creates one; replicas
// that start at the same moment agree on one. It is an error if the master key does not open a key.
func LoadKeys(ctx context.Context, db *postgres.DB, box *seal.Box, ring *token.Keyring) error {
	var signing token.SigningKey
	var verifying []ed25519.PublicKey
	err := db.InPlatform(ctx, func(tx *postgres.Tx) error {
		signing, verifying = token.SigningKey{}, nil
		kept, err := lockSigningKeys(tx)
		if err != nil {
			return err
		}
		if len(kept) == 0 {
			signing = token.NewSigningKey()
			return insertSigningKey(tx, sealKey(box, signing, tx.Now, tx.Now))
		}
		for _, one := range kept {
			seed, err := box.Open(sealLabel, one.private, []byte(one.id))
			if err != nil {
				return fmt.Errorf("session: the signing key %s does not open with this master key: %w", one.id, err)
			}
			key, err := token.SigningKeyFromSeed(seed)
			if err != nil {
				return err
			}
			if signing.IsZero() && !one.signsFrom.After(tx.Now) {
				signing = key
			} else {
				verifying = append(verifying, key.Public())
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return ring.Replace(signing, verifying...)
}

// Rotation is the result of RotateKeys.
type Rotation struct {
	Key       string    `json:"key"`        // id of the new key
	SignsFrom time.Time `json:"signs_from"` // when it starts to sign
	Retired   []string  `json:"retired"`    // ids of the keys that sign until then
	RetiredAt time.Time `json:"retired_at"` // until when their tokens are accepted
}

// RotateKeys creates a new signing key and retires the others. Every replica follows by itself.
func RotateKeys(ctx context.Context, db *postgres.DB, box *seal.Box) (done Rotation, err error) {
	key := token.NewSigningKey()
	err = db.InPlatform(ctx, func(tx *postgres.Tx) error {
		kept, err := lockSigningKeys(tx)
		if err != nil {
			return err
		}
		done = Rotation{Key: key.ID(), SignsFrom: tx.Now.Add(published), Retired: []string{}}
		done.RetiredAt = done.SignsFrom.Add(published + token.MaxLifetime)
		for _, one := range kept {
			done.Retired = append(done.Retired, one.id)
		}
		if err := retireSigningKeys(tx, done.RetiredAt); err != nil {
			return err
		}
		return insertSigningKey(tx, sealKey(box, key, tx.Now, done.SignsFrom))
	})
	return done, err
}

func sealKey(box *seal.Box, key token.SigningKey, now, signsFrom time.Time) sealedKey {
	return sealedKey{
		id:        key.ID(),
		private:   box.Seal(sealLabel, key.Seed(), []byte(key.ID())),
		createdAt: now,
		signsFrom: signsFrom,
	}
}

type sealedKey struct {
	id        string
	private   []byte
	createdAt time.Time
	signsFrom time.Time
}
