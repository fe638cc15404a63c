// Package trailproof checks, offline, that an entry stands in an audit trail of Steward and that the trail was only added to.
//
// The trail of each customer is a Merkle tree (RFC 6962, section 2.1, with SHA-256). Its leaves are the entries, in the order in which they were sealed, each in the one form
// that ParseLeaf reads. Steward signs the size and the root of the tree now and then: a checkpoint (C2SP tlog-checkpoint, a signed note with an Ed25519 key). Whoever keeps a
// checkpoint can later hold Steward to it:
//
//   - Proof.Verify: this entry stands in the tree that this checkpoint is about (GET /v1/audit-entries/{id}/proof).
//   - VerifyConsistency: the tree of this checkpoint holds all of that earlier one, unchanged and in the same order (GET /v1/audit-checkpoints/latest?since_size=).
//
// Take the verifier key from a source that you trust and keep it: a key that comes with what it is to check proves little.
package trailproof

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/transparency-dev/formats/log"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/note"
)

// HashSize is the size of every hash, in bytes.
const HashSize = 32

// Checkpoint is what Steward signed: how many entries the trail of a customer had, and the root of their tree.
type Checkpoint struct {
	Origin string // names the trail: <host>/customers/<customer id>/trail
	Size   uint64
	Root   [HashSize]byte
	At     time.Time // when it was signed, to the microsecond; zero: an older one, which does not say
}

// VerifierKey writes a public key in the form of signed notes, as the key of a trail.
func VerifierKey(origin string, public ed25519.PublicKey) (string, error) {
	if len(public) != ed25519.PublicKeySize {
		return "", errors.New("trailproof: not an Ed25519 key")
	}
	return note.NewEd25519VerifierKey(origin, public)
}

// OpenCheckpoint reads a checkpoint that one of these keys signed. It returns an error for every other text: a changed one, one of another trail, one of an unknown key.
func OpenCheckpoint(text string, verifierKeys ...string) (Checkpoint, error) {
	var known []note.Verifier
	for _, key := range verifierKeys {
		verifier, err := note.NewVerifier(key)
		if err != nil {
			return Checkpoint{}, fmt.Errorf("trailproof: %q is not a verifier key: %w", key, err)
		}
		if !slices.ContainsFunc(known, func(one note.Verifier) bool {
			return one.Name() == verifier.Name() && one.KeyHash() == verifier.KeyHash()
		}) {
			known = append(known, verifier)
		}
	}
	opened, err := note.Open([]byte(text), note.VerifierList(known...))
	if err != nil {
		return Checkpoint{}, fmt.Errorf("trailproof: the checkpoint is not signed by a known key, or was changed: %w", err)
	}
	checkpoint, err := readCheckpoint(opened.Text)
	if err != nil {
		return Checkpoint{}, err
	}
	if opened.Sigs[0].Name != checkpoint.Origin {
		return Checkpoint{}, fmt.Errorf("trailproof: the key of %q signed a checkpoint of %q", opened.Sigs[0].Name, checkpoint.Origin)
	}
	// What is said once is said in one way only, so that no byte of a checkpoint can be changed unnoticed, those that are not signed included.
	if len(opened.Sigs) != 1 || text != opened.Text+"\n\u2014 "+opened.Sigs[0].Name+" "+opened.Sigs[0].Base64+"\n" || !canonicalBase64(opened.Sigs[0].Base64) {
		return Checkpoint{}, errors.New("trailproof: the checkpoint holds more than a signed tree head")
	}
	return checkpoint, nil
}

// canonicalBase64 tells whether a text is base64 without stray bits, which the usual decoders pass over.
func canonicalBase64(text string) bool {
	_, err := base64.StdEncoding.Strict().DecodeString(text)
	return err == nil
}

// ReadCheckpoint reads a checkpoint without looking at who signed it, to find out whose key is needed.
func ReadCheckpoint(text string) (Checkpoint, error) {
	body, _, found := strings.Cut(text, "\n\n")
	if !found {
		return Checkpoint{}, errors.New("trailproof: not a checkpoint")
	}
	return readCheckpoint(body + "\n")
}

func readCheckpoint(body string) (Checkpoint, error) {
	var head log.Checkpoint
	rest, err := head.Unmarshal([]byte(body))
	if err != nil {
		return Checkpoint{}, fmt.Errorf("trailproof: not a checkpoint: %w", err)
	}
	if len(head.Hash) != HashSize || head.Size > math.MaxInt64 {
		return Checkpoint{}, errors.New("trailproof: not a checkpoint of a trail")
	}
	checkpoint := Checkpoint{Origin: head.Origin, Size: head.Size, Root: [HashSize]byte(head.Hash)}
	if at, says := strings.CutPrefix(string(rest), timePrefix); says {
		if checkpoint.At, err = time.Parse(timeForm, strings.TrimSuffix(at, "\n")); err != nil || checkpoint.At.IsZero() {
			return Checkpoint{}, errors.New("trailproof: the checkpoint does not say when it was signed in the way that checkpoints do")
		}
	}
	if checkpoint.Body() != body {
		return Checkpoint{}, errors.New("trailproof: not a checkpoint of a trail")
	}
	return checkpoint, nil
}

// The time stands in a line of its own behind the root, where the format of checkpoints lets each log add lines.
const (
	timePrefix = "time "
	timeForm   = "2006-01-02T15:04:05.000000Z"
)

// Body is what is signed of a checkpoint.
func (c Checkpoint) Body() string {
	body := string(log.Checkpoint{Origin: c.Origin, Size: c.Size, Hash: c.Root[:]}.Marshal())
	if c.At.IsZero() {
		return body
	}
	return body + timePrefix + c.At.UTC().Format(timeForm) + "\n"
}

// Proof is the answer of GET /v1/audit-entries/{id}/proof, which unmarshals into it.
type Proof struct {
	LeafIndex     uint64   `json:"leaf_index"`
	TreeSize      uint64   `json:"tree_size"`
	Leaf          []byte   `json:"leaf"`
	LeafHash      []byte   `json:"leaf_hash"`
	InclusionPath [][]byte `json:"inclusion_path"`
	Checkpoint    string   `json:"checkpoint"`
}

// Verify checks that the entry stands in the tree of the checkpoint, and that one of these keys signed that. It returns the entry and the checkpoint.
func (p Proof) Verify(verifierKeys ...string) (Entry, Checkpoint, error) {
	checkpoint, err := OpenCheckpoint(p.Checkpoint, verifierKeys...)
	if err != nil {
		return Entry{}, Checkpoint{}, err
	}
	entry, err := ParseLeaf(p.Leaf)
	if err != nil {
		return Entry{}, Checkpoint{}, err
	}
	hash := LeafHash(p.Leaf)
	switch {
	case checkpoint.Size != p.TreeSize:
		return Entry{}, Checkpoint{}, fmt.Errorf("trailproof: the proof is for a tree of %d entries, the checkpoint for one of %d", p.TreeSize, checkpoint.Size)
	case !bytes.Equal(hash, p.LeafHash):
		return Entry{}, Checkpoint{}, errors.New("trailproof: the leaf has another hash than the proof says")
	case !strings.HasSuffix(checkpoint.Origin, originOf(entry.CustomerID.String())):
		return Entry{}, Checkpoint{}, errors.New("trailproof: the entry is of another customer than the checkpoint")
	}
	if err := proof.VerifyInclusion(rfc6962.DefaultHasher, p.LeafIndex, checkpoint.Size, hash, p.InclusionPath, checkpoint.Root[:]); err != nil {
		return Entry{}, Checkpoint{}, fmt.Errorf("trailproof: the entry does not stand in the trail: %w", err)
	}
	return entry, checkpoint, nil
}

// VerifyConsistency checks that the trail of the newer checkpoint begins with the whole trail of the older one.
func VerifyConsistency(older, newer Checkpoint, path [][]byte) error {
	if older.Origin != newer.Origin {
		return errors.New("trailproof: the checkpoints are of different trails")
	}
	if older.Size > newer.Size {
		return fmt.Errorf("trailproof: the trail had %d entries and has %d", older.Size, newer.Size)
	}
	if err := proof.VerifyConsistency(rfc6962.DefaultHasher, older.Size, newer.Size, path, older.Root[:], newer.Root[:]); err != nil {
		return fmt.Errorf("trailproof: what was in the trail before is not what is in it now: %w", err)
	}
	return nil
}

// LeafHash is the hash of a leaf.
func LeafHash(leaf []byte) []byte { return rfc6962.DefaultHasher.HashLeaf(leaf) }

// Origin names the trail of a customer at the service with this host.
func Origin(host, customerID string) string { return host + originOf(customerID) }

// IsOriginOf tells whether an origin is one of the customer's trail, at whatever host.
func IsOriginOf(origin, customerID string) bool {
	host, found := strings.CutSuffix(origin, originOf(customerID))
	return found && host != ""
}

func originOf(customerID string) string { return "/customers/" + customerID + "/trail" }
