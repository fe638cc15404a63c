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

// The tree over a customer's entries is that of RFC 6962. A node of it is complete once the last leaf below it is there, and never changes after. It is kept with that leaf:
// the hashes of leaf i are those of the leaf itself and of the nodes that it completes, one for each trailing zero of i+1, from the bottom up. So every node is found by the
// primary key of a leaf, sealing writes one row for each entry and nothing else, and a proof in a tree of n entries reads about log n rows.

const hashSize = trailproof.HashSize

// hashesOf is how long the hashes of a leaf are, in bytes.
func hashesOf(index int64) int { return hashSize * (1 + bits.TrailingZeros64(uint64(index)+1)) }

// whereIs finds a complete node: the leaf that it is kept with, and its place among the hashes of that.
func whereIs(node compact.NodeID) (leaf int64, offset int) {
	return int64((node.Index+1)<<node.Level - 1), hashSize * int(node.Level)
}

// edge is the tree as far as adding to it needs: the roots of the complete trees that it falls into, the largest first.
type edge struct {
	size  int64
	roots []byte // their hashes, one after the other
}

func hashChildren(left, right []byte) []byte { return rfc6962.DefaultHasher.HashChildren(left, right) }

func (e edge) open() (*compact.Range, error) {
	if len(e.roots) != hashSize*bits.OnesCount64(uint64(e.size)) {
		return nil, errors.New("audit: the head of a trail does not fit its size")
	}
	var roots [][]byte
	for at := 0; at < len(e.roots); at += hashSize {
		roots = append(roots, e.roots[at:at+hashSize:at+hashSize])
	}
	return (&compact.RangeFactory{Hash: hashChildren}).NewRange(0, uint64(e.size), roots)
}

// grow adds leaves and returns the hashes to keep with each.
func (e edge) grow(leaves [][]byte) (hashes [][]byte, after edge, err error) {
	all, err := e.open()
	if err != nil {
		return nil, edge{}, err
	}
	hashes = make([][]byte, len(leaves))
	for i, leaf := range leaves {
		row := make([]byte, 0, hashesOf(e.size+int64(i)))
		if err := all.Append(trailproof.LeafHash(leaf), func(_ compact.NodeID, hash []byte) { row = append(row, hash...) }); err != nil {
			return nil, edge{}, err
		}
		hashes[i] = row
	}
	return hashes, edge{size: int64(all.End()), roots: bytes.Join(all.Hashes(), nil)}, nil
}

// root is the root of the whole tree.
func (e edge) root() ([hashSize]byte, error) {
	all, err := e.open()
	if err != nil {
		return [hashSize]byte{}, err
	}
	if e.size == 0 {
		return [hashSize]byte(rfc6962.DefaultHasher.EmptyRoot()), nil
	}
	root, err := all.GetRootHash(nil)
	if err != nil {
		return [hashSize]byte{}, err
	}
	return [hashSize]byte(root), nil
}

// pathOf makes a proof of nodes that are read with fetch, which returns the hashes of leaves by index.
func pathOf(needed proof.Nodes, err error, fetch func(leaves []int64) (map[int64][]byte, error)) ([][]byte, error) {
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	leaves := make([]int64, len(needed.IDs))
	for i, node := range needed.IDs {
		leaves[i], _ = whereIs(node)
	}
	kept, err := fetch(leaves)
	if err != nil {
		return nil, err
	}
	hashes := make([][]byte, len(needed.IDs))
	for i, node := range needed.IDs {
		leaf, offset := whereIs(node)
		if len(kept[leaf]) < offset+hashSize {
			return nil, fmt.Errorf("audit: the trail lacks a hash at leaf %d", leaf)
		}
		hashes[i] = kept[leaf][offset : offset+hashSize : offset+hashSize]
	}
	return needed.Rehash(hashes, hashChildren)
}
