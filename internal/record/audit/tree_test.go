package audit

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"pgregory.net/rapid"

	"github.com/fusionspim/steward/pkg/trailproof"
)

// However the leaves are batched, the stored hashes give the same tree as the library, and proofs
// in every earlier tree that the library verifies.
func TestTheTreeGrowsInBatches(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var stored [][]byte
		var leaves [][]byte
		roots := [][hashSize]byte{[hashSize]byte(rfc6962.DefaultHasher.EmptyRoot())}
		reference := (&compact.RangeFactory{Hash: hashChildren}).NewEmptyRange(0)
		var head frontier
		for _, batch := range rapid.SliceOfN(rapid.IntRange(0, 40), 1, 5).Draw(t, "batches") {
			var more [][]byte
			for range batch {
				more = append(more, fmt.Appendf(nil, "leaf %d", len(leaves)+len(more)))
			}
			hashes, after, err := head.grow(more)
			if err != nil {
				t.Fatal(err)
			}
			for i := range more {
				if want := hashesLength(int64(len(leaves) + i)); len(hashes[i]) != want {
					t.Fatalf("leaf %d has %d bytes of hashes, want %d", len(leaves)+i, len(hashes[i]), want)
				}
				if err := reference.Append(trailproof.LeafHash(more[i]), nil); err != nil {
					t.Fatal(err)
				}
				root, err := reference.GetRootHash(nil)
				if err != nil {
					t.Fatal(err)
				}
				roots = append(roots, [hashSize]byte(root))
			}
			head, stored, leaves = after, append(stored, hashes...), append(leaves, more...)
			if root, err := head.root(); err != nil || root != roots[len(leaves)] {
				t.Fatalf("after %d leaves: wrong root (%v)", len(leaves), err)
			}
		}
		if len(leaves) == 0 {
			return
		}
		size := uint64(rapid.IntRange(1, len(leaves)).Draw(t, "size"))
		fetch := func(wanted []int64) (map[int64][]byte, error) {
			found := map[int64][]byte{}
			for _, index := range wanted {
				if index >= int64(size) {
					t.Fatalf("a proof in a tree of size %d reads leaf %d", size, index)
				}
				found[index] = stored[index]
			}
			return found, nil
		}
		index := rapid.Uint64Range(0, size-1).Draw(t, "index")
		needed, err := proof.Inclusion(index, size)
		path, err := buildProof(needed, err, fetch)
		if err != nil {
			t.Fatal(err)
		}
		if err := proof.VerifyInclusion(
			rfc6962.DefaultHasher,
			index,
			size,
			trailproof.LeafHash(leaves[index]),
			path,
			roots[size][:],
		); err != nil {
			t.Fatal(err)
		}
		older := rapid.Uint64Range(0, size).Draw(t, "older")
		needed, err = proof.Consistency(older, size)
		if path, err = buildProof(needed, err, fetch); err != nil {
			t.Fatal(err)
		}
		if err := proof.VerifyConsistency(
			rfc6962.DefaultHasher,
			older,
			size,
			path,
			roots[older][:],
			roots[size][:],
		); err != nil {
			t.Fatal(err)
		}
	})
}

func TestInvalidHeadIsRefused(t *testing.T) {
	t.Parallel()
	for _, bad := range []frontier{{size: 3}, {size: 3, roots: make([]byte, hashSize)}, {size: 2, roots: bytes.Repeat([]byte{1}, 2*hashSize)}, {size: 1, roots: make([]byte, hashSize-1)}} {
		if _, _, err := bad.grow([][]byte{{1}}); err == nil {
			t.Errorf("%d leaves with %d bytes of roots grew", bad.size, len(bad.roots))
		}
		if _, err := bad.root(); err == nil {
			t.Errorf("%d leaves with %d bytes of roots had a root", bad.size, len(bad.roots))
		}
	}
}
