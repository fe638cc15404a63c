package trail

import (
	"context"
	"crypto/ed25519"
	"errors"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/fusionspim/steward/internal/record/signingkey"
	"github.com/fusionspim/steward/pkg/trailproof"
)

// ring holds every key that has signed checkpoints, and the one that signs.
type ring struct{ signingkey.Ring }

func (s *Service) keyring(ctx context.Context) (ring, error) {
	all, err := s.keys.Ring(ctx)
	return ring{all}, err
}

// verifierKeys formats every key as a verifier key of the trail.
func (r ring) verifierKeys(origin string) ([]string, error) {
	texts := make([]string, len(r.Keys))
	for i, key := range r.Keys {
		text, err := trailproof.VerifierKey(origin, key.Public)
		if err != nil {
			return nil, err
		}
		texts[i] = text
	}
	return texts, nil
}

// open opens a stored checkpoint and finds the key that signed it.
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
			return Checkpoint{
				Checkpoint:  opened,
				Note:        kept.note,
				CreatedAt:   signedAt(opened, kept),
				VerifierKey: key,
			}, nil
		}
	}
	return Checkpoint{}, errors.New("trail: a checkpoint is not signed by any of the keys")
}

// signedAt returns when a checkpoint was signed: as it says itself, or, for an older one that does
// not, as stored beside it.
func signedAt(opened trailproof.Checkpoint, kept storedCheckpoint) time.Time {
	if opened.At.IsZero() {
		return kept.createdAt
	}
	return opened.At
}

// sign signs a checkpoint.
func (r ring) sign(checkpoint trailproof.Checkpoint) (string, error) {
	text, err := trailproof.VerifierKey(checkpoint.Origin, r.Signing.Public())
	if err != nil {
		return "", err
	}
	verifier, err := note.NewVerifier(text)
	if err != nil {
		return "", err
	}
	signed, err := note.Sign(
		&note.Note{Text: checkpoint.Body()},
		signer{verifier, ed25519.NewKeyFromSeed(r.Signing.Seed())},
	)
	return string(signed), err
}

// signer is the private half of a verifier key.
type signer struct {
	note.Verifier
	private ed25519.PrivateKey
}

// Sign implements note.Signer.
func (s signer) Sign(text []byte) ([]byte, error) { return ed25519.Sign(s.private, text), nil }
