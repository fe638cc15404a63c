package audit

import (
	"bytes"
	"errors"
	"fmt"
	"math/bits"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/fusionspim/steward/pkg/trailproof"
)

// The tree over the entries of a customer is that of RFC 6962. A node is complete once its last
// leaf is added, and never changes afterwards. It is stored with that leaf: the hashes of leaf i
// are those of the leaf itself and of the nodes that it completes, one for each trailing zero of
// i+1, from the bottom up. So every node is found by the primary key of a leaf, sequencing writes
// exactly one row for each entry, and a proof in a tree of n entries reads about log n rows.

const hashSize = trailproof.HashSize

// hashesLength returns the length of the hashes that are stored with a leaf, in bytes.
func hashesLength(index int64) int { return hashSize * (1 + bits.TrailingZeros64(uint64(index)+1)) }

// locate returns the leaf with which a complete node is stored, and its offset in the hashes there.
func locate(node compact.NodeID) (leaf int64, offset int) {
	return int64((node.Index+1)<<node.Level - 1), hashSize * int(node.Level)
}

// frontier is what adding to the tree needs of it: the roots of the maximal complete subtrees, the
// largest first.
type frontier struct {
	size  int64
	roots []byte // their hashes, concatenated
}

func hashChildren(left, right []byte) []byte { return rfc6962.DefaultHasher.HashChildren(left, right) }

// open returns the range of the library.
func (f frontier) open() (*compact.Range, error) {
	if len(f.roots) != hashSize*bits.OnesCount64(uint64(f.size)) {
		return nil, errors.New("audit: the head of a trail has the wrong number of roots for its size")
	}
	var roots [][]byte
	for at := 0; at < len(f.roots); at += hashSize {
		roots = append(roots, f.roots[at:at+hashSize:at+hashSize])
	}
	return (&compact.RangeFactory{Hash: hashChildren}).NewRange(0, uint64(f.size), roots)
}

// grow adds leaves, and returns the hashes to store with each and the new tree.
func (f frontier) grow(leaves [][]byte) (hashes [][]byte, after frontier, err error) {
	all, err := f.open()
	if err != nil {
		return nil, frontier{}, err
	}
	hashes = make([][]byte, len(leaves))
	for i, leaf := range leaves {
		row := make([]byte, 0, hashesLength(f.size+int64(i)))
		if err := all.Append(
			trailproof.LeafHash(leaf),
			func(_ compact.NodeID, hash []byte) { row = append(row, hash...) },
		); err != nil {
			return nil, frontier{}, err
		}
		hashes[i] = row
	}
	return hashes, frontier{size: int64(all.End()), roots: bytes.Join(all.Hashes(), nil)}, nil
}

// root returns the root hash of the whole tree.
func (f frontier) root() ([hashSize]byte, error) {
	all, err := f.open()
	if err != nil {
		return [hashSize]byte{}, err
	}
	if f.size == 0 {
		return [hashSize]byte(rfc6962.DefaultHasher.EmptyRoot()), nil
	}
	root, err := all.GetRootHash(nil)
	if err != nil {
		return [hashSize]byte{}, err
	}
	return [hashSize]byte(root), nil
}

// buildProof returns the hashes of a proof. It reads its nodes with fetch, which returns the hashes
// of leaves by index.
func buildProof(
	needed proof.Nodes, err error, fetch func(leaves []int64) (map[int64][]byte, error),
) ([][]byte, error) {
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	leaves := make([]int64, len(needed.IDs))
	for i, node := range needed.IDs {
		leaves[i], _ = locate(node)
	}
	stored, err := fetch(leaves)
	if err != nil {
		return nil, err
	}
	hashes := make([][]byte, len(needed.IDs))
	for i, node := range needed.IDs {
		leaf, offset := locate(node)
		if len(stored[leaf]) < offset+hashSize {
			return nil, fmt.Errorf("audit: the trail lacks a hash at leaf %d", leaf)
		}
		hashes[i] = stored[leaf][offset : offset+hashSize : offset+hashSize]
	}
	return needed.Rehash(hashes, hashChildren)
}
