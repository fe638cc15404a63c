package trail

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/fusionspim/steward/internal/postgres"
	"github.com/fusionspim/steward/internal/seal"
	"github.com/fusionspim/steward/internal/token"
	"github.com/fusionspim/steward/pkg/trailproof"
)

// sealLabel keeps the boxes of these keys apart from all others.
const sealLabel = "trail key"

// storedKey is a key as it is kept.
type storedKey struct {
	id        string
	public    ed25519.PublicKey
	sealed    []byte
	createdAt time.Time
}

// ring is every key that ever signed, the newest first, which signs.
type ring struct {
	keys    []storedKey
	signing token.SigningKey
}

// keyring returns the keys as they were within the last half minute. A rotation is known everywhere that soon; what the old key signs until then is as good.
func (s *Service) keyring(ctx context.Context) (ring, error) {
	return s.keys.Get(struct{}{}, func() (ring, error) {
		var found ring
		err := s.db.InPlatform(ctx, func(tx *postgres.Tx) (err error) {
			found, err = loadKeys(tx, s.box)
			return err
		})
		return found, err
	})
}

// loadKeys reads the keys, and makes the first one where there is none: replicas that look at the same moment agree on one.
func loadKeys(tx *postgres.Tx, box *seal.Box) (ring, error) {
	kept, err := storedKeys(tx)
	if err == nil && len(kept) == 0 {
		if err = lockKeys(tx); err == nil {
			kept, err = storedKeys(tx)
		}
		if err == nil && len(kept) == 0 {
			if err = insertKey(tx, newKey(tx.Now, box)); err == nil {
				kept, err = storedKeys(tx)
			}
		}
	}
	if err != nil {
		return ring{}, err
	}
	signing, err := openKey(kept[0], box)
	return ring{keys: kept, signing: signing}, err
}

func newKey(now time.Time, box *seal.Box) storedKey {
	key := token.NewSigningKey()
	return storedKey{id: key.ID(), public: key.Public(), sealed: box.Seal(sealLabel, key.Seed(), []byte(key.ID())), createdAt: now}
}

// openKey opens a key with the master key, and makes sure that it is the one that was published.
func openKey(kept storedKey, box *seal.Box) (token.SigningKey, error) {
	seed, err := box.Open(sealLabel, kept.sealed, []byte(kept.id))
	if err != nil {
		return token.SigningKey{}, fmt.Errorf("trail: the key %s does not open with this master key: %w", kept.id, err)
	}
	key, err := token.SigningKeyFromSeed(seed)
	if err == nil && (key.ID() != kept.id || !key.Public().Equal(kept.public)) {
		err = fmt.Errorf("trail: the key %s was replaced", kept.id)
	}
	return key, err
}

// RotateKey makes a new key that signs from now on. The others go on being published.
func RotateKey(ctx context.Context, db *postgres.DB, box *seal.Box) (keyID string, err error) {
	err = db.InPlatform(ctx, func(tx *postgres.Tx) error {
		if err := lockKeys(tx); err != nil {
			return err
		}
		key := newKey(tx.Now, box)
		keyID = key.id
		return insertKey(tx, key)
	})
	return keyID, err
}

// verifierKeys writes every key as the key of a trail.
func (r ring) verifierKeys(origin string) ([]string, error) {
	texts := make([]string, len(r.keys))
	for i, key := range r.keys {
		text, err := trailproof.VerifierKey(origin, key.public)
		if err != nil {
			return nil, err
		}
		texts[i] = text
	}
	return texts, nil
}

// open reads a stored checkpoint and finds out which key signed it.
func (r ring) open(kept storedCheckpoint) (Checkpoint, error) {
	read, err := trailproof.ReadCheckpoint(kept.note)
	if err != nil {
		return Checkpoint{}, err
	}
	keys, err := r.verifierKeys(read.Origin)
	if err != nil {
		return Checkpoint{}, err
	}
	for _, key := range keys {
		if opened, err := trailproof.OpenCheckpoint(kept.note, key); err == nil {
			return Checkpoint{Checkpoint: opened, Note: kept.note, CreatedAt: kept.createdAt, VerifierKey: key}, nil
		}
	}
	return Checkpoint{}, errors.New("trail: a checkpoint is not signed by any of the keys")
}

// sign makes a checkpoint.
func (r ring) sign(checkpoint trailproof.Checkpoint) (string, error) {
	text, err := trailproof.VerifierKey(checkpoint.Origin, r.signing.Public())
	if err != nil {
		return "", err
	}
	verifier, err := note.NewVerifier(text)
	if err != nil {
		return "", err
	}
	signed, err := note.Sign(&note.Note{Text: checkpoint.Body()}, signer{verifier, ed25519.NewKeyFromSeed(r.signing.Seed())})
	return string(signed), err
}

// signer is the private half to a verifier.
type signer struct {
	note.Verifier
	private ed25519.PrivateKey
}

// Sign implements note.Signer.
func (s signer) Sign(text []byte) ([]byte, error) { return ed25519.Sign(s.private, text), nil }
