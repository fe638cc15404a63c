// Package signingkey keeps the keys that sign what others are to verify for good: checkpoints of trails, and erasure receipts.
//
// Owns: making, sealing, rotating and publishing these keys, each purpose apart, and the signatures in the form of a JWS.
// Does not own: what is signed (trail, user), and the keys of access tokens, which come and go (session).
//
// A key is kept sealed with the master key, under its purpose: a row that somebody moved to another purpose does not open. None is ever taken out. A new one is published
// for a minute before it signs, so that nobody meets a signature whose key is not to be had. Before it signs it lies in the store of objects too, from where it comes back into
// a database that was restored to a time before the key.
package signingkey

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fusionspim/steward/internal/infra/blob"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/infra/seal"
	"github.com/fusionspim/steward/internal/infra/token"
)

// Purpose is what a key signs. The set is closed.
type Purpose string

// The purposes.
const (
	Trail   Purpose = "trail"   // checkpoints of audit trails
	Receipt Purpose = "receipt" // erasure receipts
)

// sealLabel keeps the boxes of the keys of one purpose apart from all others.
func (p Purpose) sealLabel() string { return string(p) + " key" }

const (
	published = time.Minute      // before a new key signs
	kept      = 30 * time.Second // for how long a ring is taken as it was
)

// Key is a key as it is kept.
type Key struct {
	ID        string
	Public    ed25519.PublicKey
	CreatedAt time.Time
	purpose   Purpose
	sealed    []byte
}

// Open opens a key with the master key, and makes sure that it is the one that was published.
func (k Key) Open(box *seal.Box) (token.SigningKey, error) {
	seed, err := box.Open(k.purpose.sealLabel(), k.sealed, []byte(k.ID))
	if err != nil {
		return token.SigningKey{}, fmt.Errorf("proofkey: the key %s does not open with this master key: %w", k.ID, err)
	}
	key, err := token.SigningKeyFromSeed(seed)
	if err == nil && (key.ID() != k.ID || !key.Public().Equal(k.Public)) {
		err = fmt.Errorf("proofkey: the key %s was replaced", k.ID)
	}
	return key, err
}

// Check makes sure, without the master key, that a key has the name that belongs to it.
func (k Key) Check() error {
	if token.KeyID(k.Public) != k.ID {
		return fmt.Errorf("proofkey: the key %s was replaced", k.ID)
	}
	return nil
}

// Ring is every key of a purpose, the newest first, and the one among them that signs. The zero value signs nothing.
type Ring struct {
	Keys    []Key
	Signing token.SigningKey
}

// JWKs writes the public halves.
func (r Ring) JWKs() []token.JWK {
	keys := make([]token.JWK, len(r.Keys))
	for i, key := range r.Keys {
		keys[i] = token.NewJWK(key.Public)
	}
	return keys
}

// JWS signs a payload in the compact form of RFC 7515 with Ed25519 (RFC 8037). The type says what the signature is for (RFC 8725, section 3.11). The members of the
// header, their order and their spelling are fixed.
func (r Ring) JWS(typ string, payload []byte) (string, error) {
	if r.Signing.IsZero() {
		return "", errors.New("proofkey: there is no key to sign with yet")
	}
	encode := base64.RawURLEncoding.EncodeToString
	// Base64url needs no escaping in JSON, and types are words of this program.
	header := `{"alg":"` + token.Algorithm + `","kid":"` + r.Signing.ID() + `","typ":"` + typ + `"}`
	signed := encode([]byte(header)) + "." + encode(payload)
	return signed + "." + encode(ed25519.Sign(ed25519.NewKeyFromSeed(r.Signing.Seed()), []byte(signed))), nil
}

// Store has the keys of one purpose at hand. Safe for concurrent use.
type Store struct {
	db      *postgres.DB
	box     *seal.Box
	purpose Purpose
	store   blob.Store // nil: there is none
	loading sync.Mutex
	stored  map[string]bool // ids of keys that are in the store; nil: it was not looked at yet. Under loading
	last    atomic.Pointer[loaded]
}

type loaded struct {
	ring Ring
	at   time.Time
}

// NewStore makes a keeper, which has loaded nothing yet. Without a store of objects, keys live in the database alone.
func NewStore(db *postgres.DB, box *seal.Box, purpose Purpose, store blob.Store) *Store {
	return &Store{db: db, box: box, purpose: purpose, store: store}
}

// Ring returns the keys as they were within the last half minute. What a key signs that another one is about to follow is as good.
func (k *Store) Ring(ctx context.Context) (Ring, error) {
	if last := k.last.Load(); last != nil && k.db.Now().Sub(last.at) < kept {
		return last.ring, nil
	}
	return k.Load(ctx)
}

// Load brings the keys from the database, and makes the first one where there is none: replicas that look at the same moment agree on one. The first time, keys come back that
// the store of objects has and the database has not.
func (k *Store) Load(ctx context.Context) (Ring, error) {
	k.loading.Lock()
	defer k.loading.Unlock()
	if err := k.bringBack(ctx); err != nil {
		return Ring{}, err
	}
	var ring Ring
	at := k.db.Now()
	err := k.db.InPlatform(ctx, func(tx *postgres.Tx) (err error) {
		ring, err = k.loadTx(tx)
		return err
	})
	if err != nil {
		return Ring{}, err
	}
	if err := k.save(ctx, ring.Keys); err != nil {
		return Ring{}, err
	}
	k.last.Store(&loaded{ring, at})
	return ring, nil
}

// Loaded returns the keys as they were loaded last, without asking the database, for use within a transaction.
func (k *Store) Loaded() Ring {
	if last := k.last.Load(); last != nil {
		return last.ring
	}
	return Ring{}
}

func (k *Store) loadTx(tx *postgres.Tx) (Ring, error) {
	keys, err := KeysTx(tx, k.purpose)
	if err == nil && len(keys) == 0 {
		if err = tx.Acquire(postgres.LockSigningKeys); err == nil {
			keys, err = KeysTx(tx, k.purpose)
		}
		if err == nil && len(keys) == 0 {
			if err = insert(tx, newKey(tx.Now, k.box, k.purpose)); err == nil {
				keys, err = KeysTx(tx, k.purpose)
			}
		}
	}
	if err != nil {
		return Ring{}, err
	}
	signing, err := keys[signs(keys, tx.Now)].Open(k.box)
	return Ring{Keys: keys, Signing: signing}, err
}

// signs picks the key that signs: the newest that was published for long enough, or the oldest where all are new.
func signs(keys []Key, now time.Time) int {
	for i, key := range keys {
		if now.Sub(key.CreatedAt) >= published {
			return i
		}
	}
	return len(keys) - 1
}

func newKey(now time.Time, box *seal.Box, purpose Purpose) Key {
	key := token.NewSigningKey()
	return Key{ID: key.ID(), Public: key.Public(), CreatedAt: now, purpose: purpose, sealed: box.Seal(purpose.sealLabel(), key.Seed(), []byte(key.ID()))}
}

// Rotation is what Rotate did.
type Rotation struct {
	Key       string    `json:"key"`        // the id of the new key
	SignsFrom time.Time `json:"signs_from"` // on each replica within half a minute of that
}

// Rotate makes a new key, which is published at once and signs a minute later. The others go on being published.
func Rotate(ctx context.Context, db *postgres.DB, box *seal.Box, purpose Purpose) (done Rotation, err error) {
	err = db.InPlatform(ctx, func(tx *postgres.Tx) error {
		if err := tx.Acquire(postgres.LockSigningKeys); err != nil {
			return err
		}
		keys, err := KeysTx(tx, purpose)
		if err != nil {
			return err
		}
		at := tx.Now
		if len(keys) > 0 && !at.After(keys[0].CreatedAt) { // the order of the keys is that of their times
			at = keys[0].CreatedAt.Add(time.Microsecond)
		}
		key := newKey(at, box, purpose)
		done = Rotation{Key: key.ID, SignsFrom: at.Add(published)}
		return insert(tx, key)
	})
	return done, err
}
