package signingkey

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/fusionspim/steward/internal/infra/blob"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

// longestObject is far more than a key needs, in bytes.
const longestObject = 4096

// object is a key in the object store. The seed is sealed; opening it verifies the other members.
type object struct {
	ID        string    `json:"id"`
	Public    []byte    `json:"public"`
	Sealed    []byte    `json:"sealed"`
	CreatedAt time.Time `json:"created_at"`
}

func (k *Store) folder() string { return "keys/" + string(k.purpose) + "/" }

// name returns the name of the object of a key. Names have no upper-case letters, but ids do.
func (k *Store) name(public ed25519.PublicKey) string {
	return k.folder() + hex.EncodeToString(public)
}

// bringBack inserts the keys that only the object store has: a restored database may be older than
// they are. It reads the store once.
func (k *Store) bringBack(ctx context.Context) error {
	if k.store == nil || k.stored != nil {
		return nil
	}
	there := make(map[string]Key)
	for info, err := range k.store.List(ctx, k.folder(), "") {
		if err != nil {
			return fmt.Errorf("proofkey: listing the keys in the store of objects: %w", err)
		}
		key, err := k.read(ctx, info.Name)
		if err != nil {
			return err
		}
		there[key.ID] = key
	}
	stored := make(map[string]bool, len(there))
	for name := range there {
		stored[name] = true
	}
	err := k.db.InPlatform(ctx, func(tx *postgres.Tx) error {
		known, err := KeysTx(tx, k.purpose)
		if err != nil {
			return err
		}
		for _, key := range known {
			delete(there, key.ID)
		}
		if len(there) == 0 {
			return nil
		}
		for _, key := range there {
			if err := insertIfMissing(tx, key); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		k.stored = stored
	}
	return err
}

// read reads a key from the object store, and verifies that the master key opens it.
func (k *Store) read(ctx context.Context, name string) (key Key, err error) {
	content, err := k.store.Open(ctx, name)
	if err != nil {
		return Key{}, fmt.Errorf("proofkey: %s: %w", name, err)
	}
	defer func() { err = errors.Join(err, content.Close()) }()
	text, err := io.ReadAll(io.LimitReader(content, longestObject))
	if err != nil {
		return Key{}, fmt.Errorf("proofkey: %s: %w", name, err)
	}
	var kept object
	if err := json.Unmarshal(text, &kept); err != nil || len(kept.Public) != ed25519.PublicKeySize || name != k.name(kept.Public) {
		return Key{}, fmt.Errorf("proofkey: the object %s is not the key that was written", name)
	}
	key = Key{ID: kept.ID, Public: kept.Public, CreatedAt: kept.CreatedAt, purpose: k.purpose, sealed: kept.Sealed}
	if _, err = key.Open(k.box); err != nil {
		err = fmt.Errorf("proofkey: %s: %w", name, err)
	}
	return key, err
}

// save writes keys to the object store that it does not have yet.
func (k *Store) save(ctx context.Context, keys []Key) error {
	if k.store == nil {
		return nil
	}
	for _, key := range keys {
		if k.stored[key.ID] {
			continue
		}
		text, err := json.Marshal(object{ID: key.ID, Public: key.Public, Sealed: key.sealed, CreatedAt: key.CreatedAt.UTC()})
		if err != nil {
			return err
		}
		if err := k.store.Create(ctx, k.name(key.Public), bytes.NewReader(text)); err != nil && !errors.Is(err, blob.ErrExists) {
			return fmt.Errorf("proofkey: a key cannot be put into the store of objects, and so does not sign: %w", err)
		}
		k.stored[key.ID] = true
	}
	return nil
}
