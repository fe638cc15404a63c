// Package signingkey manages the keys whose signatures others verify for ever: those of checkpoints
// of audit trails, and of erasure receipts.
//
// Owns: creating, sealing, rotating and publishing these keys, separately for each purpose, and
// signing in the form of a JWS.
// Does not own: what is signed (trail, user), and the keys of access tokens, which expire
// (session).
//
// A key is sealed with the master key and its purpose: a row that is moved to another purpose
// cannot be opened. Keys are never deleted. A new key is published for a minute before it signs, so
// that every signature can be verified at once. Before it signs it is also saved in the object
// store, from which it is brought back into a database that was restored to a time before the key.
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

// sealLabel separates the sealed keys of one purpose from everything else that is sealed.
func (p Purpose) sealLabel() string { return string(p) + " key" }

const (
	published = time.Minute      // the time before a new key signs
	kept      = 30 * time.Second // the time for which a ring is cached
)

// Key is a stored key. Its private half is sealed.
type Key struct {
	ID        string
	Public    ed25519.PublicKey
	CreatedAt time.Time
	purpose   Purpose
	sealed    []byte
}

// Open opens the private half with the master key, and verifies that it belongs to the public half.
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

// Check verifies, without the master key, that the id of a key is derived from its public half.
func (k Key) Check() error {
	if token.KeyID(k.Public) != k.ID {
		return fmt.Errorf("proofkey: the key %s was replaced", k.ID)
	}
	return nil
}

// Ring is every key of a purpose, the newest first, and the one of them that signs. The zero value
// cannot sign.
type Ring struct {
	Keys    []Key
	Signing token.SigningKey
}

// JWKs returns the public halves.
func (r Ring) JWKs() []token.JWK {
	keys := make([]token.JWK, len(r.Keys))
	for i, key := range r.Keys {
		keys[i] = token.NewJWK(key.Public)
	}
	return keys
}

// JWS signs a payload in the compact form of RFC 7515 with Ed25519 (RFC 8037). The type says what
// the signature is for (RFC 8725, section 3.11). The members of the header, their order and their
// spelling are fixed.
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

// Store caches the keys of one purpose. Safe for concurrent use.
type Store struct {
	db      *postgres.DB
	box     *seal.Box
	purpose Purpose
	store   blob.Store // nil: keys are in the database only
	loading sync.Mutex
	// ids of keys in the object store; nil: not read yet. Guarded by loading
	stored map[string]bool
	last   atomic.Pointer[loaded]
}

type loaded struct {
	ring Ring
	at   time.Time
}

// NewStore returns a store that has loaded nothing yet. Without an object store, keys are in the
// database only.
func NewStore(db *postgres.DB, box *seal.Box, purpose Purpose, store blob.Store) *Store {
	return &Store{db: db, box: box, purpose: purpose, store: store}
}

// Ring returns the keys as they were at most half a minute ago. Signatures of a key that was
// replaced in the meantime stay valid.
func (k *Store) Ring(ctx context.Context) (Ring, error) {
	if last := k.last.Load(); last != nil && k.db.Now().Sub(last.at) < kept {
		return last.ring, nil
	}
	return k.Load(ctx)
}

// Load reads the keys from the database, and creates the first one if there is none: concurrent
// replicas agree on one. The first call restores keys that only the object store has.
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

// Loaded returns the keys of the last load without a query, for use within a transaction.
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

// signs returns the key that signs: the newest that was published for long enough, or the oldest if
// all are too new.
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

// Rotation is the result of Rotate.
type Rotation struct {
	Key       string    `json:"key"`        // id of the new key
	SignsFrom time.Time `json:"signs_from"` // on each replica within half a minute of it
}

// Rotate creates a key, which is published at once and signs a minute later. The others stay
// published.
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
		if len(keys) > 0 && !at.After(keys[0].CreatedAt) { // keys are ordered by their times
			at = keys[0].CreatedAt.Add(time.Microsecond)
		}
		key := newKey(at, box, purpose)
		done = Rotation{Key: key.ID, SignsFrom: at.Add(published)}
		return insert(tx, key)
	})
	return done, err
}
