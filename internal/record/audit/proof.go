package audit

import (
	"github.com/google/uuid"
	"github.com/transparency-dev/merkle/proof"

	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/pkg/trailproof"
)

// Head is how far the trail of a customer is sequenced.
type Head struct {
	Size int64
	Root [trailproof.HashSize]byte
}

// HeadTx reads how far the trail of the customer is sequenced.
func HeadTx(tx *postgres.Tx) (Head, error) {
	found, err := head(tx)
	if err != nil {
		return Head{}, err
	}
	root, err := found.root()
	return Head{Size: found.size, Root: root}, err
}

// Place is where an entry stands in the trail.
type Place struct {
	Index int64  // -1 while it is not sequenced, which takes about a second
	Leaf  []byte // the entry in its one form
}

// PlaceTx finds an entry; ok tells whether there is one.
func PlaceTx(tx *postgres.Tx, entry id.Entry) (place Place, ok bool, err error) {
	found, index, ok, err := placeOf(tx, entry)
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

// InclusionTx proves that a leaf stands in the tree of the first size leaves.
func InclusionTx(tx *postgres.Tx, index, size int64) ([][]byte, error) {
	needed, err := proof.Inclusion(uint64(index), uint64(size))
	return pathOf(needed, err, func(leaves []int64) (map[int64][]byte, error) { return hashesAt(tx, leaves) })
}

// ConsistencyTx proves that the tree of the first newer leaves begins with that of the first older ones.
func ConsistencyTx(tx *postgres.Tx, older, newer int64) ([][]byte, error) {
	needed, err := proof.Consistency(uint64(older), uint64(newer))
	return pathOf(needed, err, func(leaves []int64) (map[int64][]byte, error) { return hashesAt(tx, leaves) })
}

// leaf is the entry in its one form. It holds everything that is stored of the entry and nothing of a person, so redaction does not change it.
func (e Entry) leaf(of id.Customer) ([]byte, error) {
	plain := trailproof.Entry{
		CustomerID: of.UUID, ID: e.ID.UUID, Source: string(e.Source), SourceID: e.SourceID, ActorType: string(e.ActorType), ActorUserID: bare(e.ActorUserID),
		ActorAPIKeyID: bare(e.ActorAPIKeyID), ActorOperatorCustomerID: bare(e.OperatorCustomerID), ActorOperatorID: bare(e.OperatorID), Action: e.Action,
		TargetType: e.Target.Type, TargetID: e.Target.ID, Changed: e.Changed, Details: e.Details, OccurredAt: e.OccurredAt, RecordedAt: e.RecordedAt,
	}
	return trailproof.AppendLeaf(make([]byte, 0, 700), &plain)
}

func bare[K any](one *id.ID[K]) *uuid.UUID {
	if one == nil {
		return nil
	}
	return &one.UUID
}
