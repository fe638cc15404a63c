package audit

import (
	"github.com/google/uuid"
	"github.com/transparency-dev/merkle/proof"

	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/pkg/trailproof"
)

// Head is the size and the root hash of the sequenced audit trail of a customer.
type Head struct {
	Size int64
	Root [trailproof.HashSize]byte
}

// HeadTx returns the head of the audit trail of the customer.
func HeadTx(tx *postgres.Tx) (Head, error) {
	head, err := readHead(tx)
	if err != nil {
		return Head{}, err
	}
	root, err := head.root()
	return Head{Size: head.size, Root: root}, err
}

// Place is the place of an entry in the audit trail.
type Place struct {
	Index int64  // -1 while it is not sequenced, which takes about a second
	Leaf  []byte // the canonical form of the entry
}

// PlaceTx returns the place of an entry; ok reports whether the entry exists.
func PlaceTx(tx *postgres.Tx, entry id.Entry) (place Place, ok bool, err error) {
	found, index, ok, err := find(tx, entry)
	if err != nil || !ok {
		return Place{}, false, err
	}
	place.Index = -1
	if index != nil {
		place.Index = *index
	}
	place.Leaf, err = found.leaf(tx.Customer)
	return place, true, err
}

// InclusionTx returns the proof that a leaf is in the tree of the first size leaves.
func InclusionTx(tx *postgres.Tx, index, size int64) ([][]byte, error) {
	needed, err := proof.Inclusion(uint64(index), uint64(size))
	return buildProof(needed, err, func(leaves []int64) (map[int64][]byte, error) { return hashesAt(tx, leaves) })
}

// ConsistencyTx returns the proof that the tree of the first newer leaves extends the tree of the
// first older leaves.
func ConsistencyTx(tx *postgres.Tx, older, newer int64) ([][]byte, error) {
	needed, err := proof.Consistency(uint64(older), uint64(newer))
	return buildProof(needed, err, func(leaves []int64) (map[int64][]byte, error) { return hashesAt(tx, leaves) })
}

// leaf returns the canonical form of the entry. It has every stored member of the entry and no
// personal data, so redaction does not change it.
func (e Entry) leaf(customer id.Customer) ([]byte, error) {
	plain := trailproof.Entry{
		CustomerID: customer.UUID, ID: e.ID.UUID, Source: string(e.Source), SourceID: e.SourceID,
		ActorType: string(e.ActorType), ActorUserID: uuidOf(e.ActorUserID), ActorAPIKeyID: uuidOf(e.ActorAPIKeyID),
		ActorOperatorCustomerID: uuidOf(e.OperatorCustomerID), ActorOperatorID: uuidOf(e.OperatorID),
		Action: e.Action, TargetType: e.Target.Type, TargetID: e.Target.ID, Changed: e.Changed, Details: e.Details,
		OccurredAt: e.OccurredAt, RecordedAt: e.RecordedAt,
	}
	return trailproof.AppendLeaf(make([]byte, 0, 700), &plain)
}

func uuidOf[K any](typed *id.ID[K]) *uuid.UUID {
	if typed == nil {
		return nil
	}
	return &typed.UUID
}
