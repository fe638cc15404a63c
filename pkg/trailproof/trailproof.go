// Package trailproof verifies offline that an entry is part of an audit trail of Steward, and that
// the trail was only ever appended to.
//
// The trail of each customer is a Merkle tree (RFC 6962, section 2.1, with SHA-256). Its leaves are
// the entries, in the order in which they were sealed, each in the one form that [ParseLeaf] reads.
// From time to time Steward signs the size and the root of the tree: a checkpoint (C2SP
// tlog-checkpoint, a signed note with an Ed25519 key). Whoever keeps a checkpoint can later hold
// Steward to it:
//
//   - [Proof.Verify]: this entry is in the tree of this checkpoint
//     (GET /v1/audit-entries/{id}/proof).
//   - [VerifyConsistency]: the tree of this checkpoint contains all of that earlier one, unchanged
//     and in the same order (GET /v1/audit-checkpoints/latest?since_size=).
//
// Take the verifier key from a source that you trust and keep it: a key that comes with what it
// verifies proves little.
//
// # Errors
//
// Each error is one of the Err values of this package by errors.Is; its text says what is wrong.
//
// # Stability
//
// The module follows semantic versioning. Until v1, a minor version may change the API, and the
// changelog says how. The form of a leaf ([LeafVersion]) and of a checkpoint does not change with
// it: proofs that were kept verify with every later version. Closed words, such as sources, may get
// new values.
//
// The module needs Go 1.22.
package trailproof

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
)

// The errors of this package, for errors.Is.
var (
	// ErrKey: a text is not a verifier key of Ed25519.
	ErrKey = errors.New("trailproof: not a verifier key")
	// ErrCheckpoint: a text is not a checkpoint of a trail in its one form.
	ErrCheckpoint = errors.New("trailproof: not a checkpoint of a trail")
	// ErrSignature: none of the keys signed the checkpoint, or it was changed since.
	ErrSignature = errors.New("trailproof: the checkpoint was not signed by a known key, or was changed")
	// ErrLeaf: bytes are not the leaf of an entry in its one form, or an entry has no leaf.
	ErrLeaf = errors.New("trailproof: not a leaf")
	// ErrProof: a proof does not belong to its checkpoint and leaf. The entry is not shown to be in
	// the trail.
	ErrProof = errors.New("trailproof: the proof does not show that the entry is in the trail")
	// ErrOtherTrail: two things that were to be compared are of different customers or services.
	ErrOtherTrail = errors.New("trailproof: these are of different trails")
	// ErrShorter: the newer trail has fewer entries than the older one, so entries were removed.
	ErrShorter = errors.New("trailproof: the trail has fewer entries than before")
	// ErrRewritten: the newer trail is not shown to begin with the older one.
	ErrRewritten = errors.New("trailproof: the trail does not begin with what it was before")
)

// HashSize is the size of every hash, in bytes.
const HashSize = 32

// Checkpoint is what Steward signed: how many entries the trail of a customer had, and the root of
// their tree.
type Checkpoint struct {
	Origin string // names the trail: <host>/customers/<customer id>/trail
	Size   uint64
	Root   [HashSize]byte
	// when it was signed, to the microsecond; zero: an older one, which does not say
	At time.Time
}

// ReadCheckpoint reads a checkpoint without verifying who signed it, to find out which key is
// needed. The only error is [ErrCheckpoint].
func ReadCheckpoint(text string) (Checkpoint, error) {
	body, _, found := strings.Cut(text, "\n\n")
	if !found {
		return Checkpoint{}, ErrCheckpoint
	}
	return readCheckpoint(body + "\n")
}

func readCheckpoint(body string) (Checkpoint, error) {
	// the format of C2SP tlog-checkpoint: origin, size, root, and lines of one's own
	lines := strings.SplitN(body, "\n", 4)
	if len(lines) < 4 || lines[0] == "" {
		return Checkpoint{}, fmt.Errorf("%w: it has not three lines", ErrCheckpoint)
	}
	size, err := strconv.ParseUint(lines[1], 10, 64)
	if err != nil || size > math.MaxInt64 {
		return Checkpoint{}, fmt.Errorf("%w: its second line is not a size", ErrCheckpoint)
	}
	root, err := base64.StdEncoding.Strict().DecodeString(lines[2])
	if err != nil || len(root) != HashSize {
		return Checkpoint{}, fmt.Errorf("%w: its third line is not a root", ErrCheckpoint)
	}
	checkpoint := Checkpoint{Origin: lines[0], Size: size, Root: [HashSize]byte(root)}
	if at, timed := strings.CutPrefix(lines[3], timePrefix); timed {
		checkpoint.At, err = time.Parse(timeForm, strings.TrimSuffix(at, "\n"))
		if err != nil || checkpoint.At.IsZero() {
			return Checkpoint{}, fmt.Errorf("%w: its fourth line is not a time", ErrCheckpoint)
		}
	}
	// What has one meaning has one form, so that no byte can be changed unnoticed.
	if checkpoint.Body() != body {
		return Checkpoint{}, fmt.Errorf("%w: it is not in its one form", ErrCheckpoint)
	}
	return checkpoint, nil
}

// The time is in a line of its own after the root, where the format lets each log add lines.
const (
	timePrefix = "time "
	timeForm   = "2006-01-02T15:04:05.000000Z"
)

// Body is what is signed of a checkpoint.
func (c Checkpoint) Body() string {
	body := c.Origin + "\n" + strconv.FormatUint(c.Size, 10) + "\n" + base64.StdEncoding.EncodeToString(c.Root[:]) + "\n"
	if c.At.IsZero() {
		return body
	}
	return body + timePrefix + c.At.UTC().Format(timeForm) + "\n"
}

// Proof is the answer of GET /v1/audit-entries/{id}/proof, which unmarshals into it with
// encoding/json.
type Proof struct {
	LeafIndex     uint64   `json:"leaf_index"`
	TreeSize      uint64   `json:"tree_size"`
	Leaf          []byte   `json:"leaf"`
	LeafHash      []byte   `json:"leaf_hash"`
	InclusionPath [][]byte `json:"inclusion_path"`
	Checkpoint    string   `json:"checkpoint"`
}

// Verify verifies that the entry is in the tree of the checkpoint, and that one of these keys
// signed the checkpoint. It returns both.
//
// Errors: those of [OpenCheckpoint], [ErrLeaf], [ErrOtherTrail] when the entry is of another
// customer than the checkpoint, and [ErrProof].
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
		return Entry{}, Checkpoint{}, fmt.Errorf("%w: it is for a tree of %d entries, the checkpoint for one of %d", ErrProof, p.TreeSize, checkpoint.Size)
	case !bytes.Equal(hash, p.LeafHash):
		return Entry{}, Checkpoint{}, fmt.Errorf("%w: the leaf has another hash than the proof says", ErrProof)
	case !strings.HasSuffix(checkpoint.Origin, originOf(entry.CustomerID)):
		return Entry{}, Checkpoint{}, fmt.Errorf("%w: the entry is of another customer than the checkpoint", ErrOtherTrail)
	}
	if err := proof.VerifyInclusion(rfc6962.DefaultHasher, p.LeafIndex, checkpoint.Size, hash, p.InclusionPath, checkpoint.Root[:]); err != nil {
		return Entry{}, Checkpoint{}, fmt.Errorf("%w: %w", ErrProof, err)
	}
	return entry, checkpoint, nil
}

// VerifyConsistency verifies that the trail of the newer checkpoint begins with the whole trail of
// the older one. Both checkpoints must have been opened with [OpenCheckpoint], else they prove
// nothing.
//
// Errors: [ErrOtherTrail], [ErrShorter], [ErrRewritten].
func VerifyConsistency(older, newer Checkpoint, path [][]byte) error {
	if older.Origin != newer.Origin {
		return fmt.Errorf("%w: %q and %q", ErrOtherTrail, older.Origin, newer.Origin)
	}
	if older.Size > newer.Size {
		return fmt.Errorf("%w: it had %d and has %d", ErrShorter, older.Size, newer.Size)
	}
	if err := proof.VerifyConsistency(rfc6962.DefaultHasher, older.Size, newer.Size, path, older.Root[:], newer.Root[:]); err != nil {
		return fmt.Errorf("%w: %w", ErrRewritten, err)
	}
	return nil
}

// LeafHash is the hash of a leaf.
func LeafHash(leaf []byte) []byte { return rfc6962.DefaultHasher.HashLeaf(leaf) }

// Origin names the trail of a customer at the service with this host, as a verifier key and a
// checkpoint name it.
func Origin(host string, customerID uuid.UUID) string { return host + originOf(customerID) }

// IsOriginOf reports whether an origin names the trail of the customer, at any host.
func IsOriginOf(origin string, customerID uuid.UUID) bool {
	host, found := strings.CutSuffix(origin, originOf(customerID))
	return found && host != ""
}

func originOf(customerID uuid.UUID) string { return "/customers/" + customerID.String() + "/trail" }
