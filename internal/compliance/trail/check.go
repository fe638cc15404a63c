package trail

import (
	"bytes"
	"cmp"
	"fmt"
	"math/bits"
	"slices"

	"github.com/google/uuid"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/fusionspim/steward/pkg/trailproof"
)

// Kinds of problems of a trail. The set is closed.
const (
	badEntry    = "entry"     // the entry was altered
	badLeafHash = "leaf_hash" // the hash of the entry was altered
	badNode     = "node"      // a hash above the leaves was altered
	badOrder    = "order"     // leaves are missing
	badHead     = "head"      // the head does not match the leaves
	// a checkpoint is malformed, or the trail has changed since it was signed
	badCheckpoint = "checkpoint"
	badUnsealed   = "unsealed" // an entry has no number
	badExport     = "export"   // the export is malformed
)

// mostProblems bounds the problems that are listed for one trail. The first is what matters; those
// after it often follow from it.
const mostProblems = 20

// Problem is something wrong with a trail.
type Problem struct {
	Kind      string `json:"kind"`
	LeafIndex *int64 `json:"leaf_index,omitempty"`
	EntryID   string `json:"entry_id,omitempty"`
	Detail    string `json:"detail"`
}

// row is a leaf as it is stored, with its entry.
type row struct {
	index  int64
	entry  uuid.UUID
	hashes []byte                    // as stored
	hash   [trailproof.HashSize]byte // of the entry as it is now
	leaf   []byte                    // the canonical form of the entry, if requested
	fault  string                    // why there is no hash
}

// claim is a checkpoint with a valid signature.
type claim struct {
	size uint64
	root [trailproof.HashSize]byte
	what string // where it comes from
}

// checker walks a trail from its first leaf. It recomputes every hash and compares it with the
// stored one, so that it finds the first difference where it is. It holds only the right edge of
// the tree.
type checker struct {
	next int64
	// roots of the complete subtrees by level: those whose bit in next is set
	edge     [64][trailproof.HashSize]byte
	claims   []claim // those of a size still to come
	problems []Problem
	more     int // problems that are not listed
	broken   bool
	// An altered entry or an altered hash of it: the hash above will tell which.
	open *row
}

func newChecker(claims []claim) *checker {
	c := &checker{claims: slices.Clone(claims)}
	slices.SortStableFunc(c.claims, func(a, b claim) int { return cmp.Compare(a.size, b.size) })
	c.compare()
	return c
}

func (c *checker) fail(kind string, at *row, detail string) {
	if len(c.problems) == mostProblems {
		c.more++
		return
	}
	one := Problem{Kind: kind, Detail: detail}
	if at != nil {
		if at.index >= 0 {
			one.LeafIndex = new(at.index)
		}
		if at.entry != uuid.Nil {
			one.EntryID = at.entry.String()
		}
	}
	c.problems = append(c.problems, one)
}

// add takes the next leaf.
func (c *checker) add(leaf row) {
	switch {
	case c.broken:
		return
	case leaf.index != c.next:
		c.settle(true)
		c.fail(badOrder, &row{index: c.next}, fmt.Sprintf("the leaf is missing; the next one is %d", leaf.index))
		c.broken = true
		return
	case leaf.hashes == nil: // a line of an export that cannot be parsed
		c.settle(true)
		c.fail(badExport, &leaf, leaf.fault)
		c.broken = true
		return
	case len(leaf.hashes) != trailproof.HashSize*(1+bits.TrailingZeros64(uint64(leaf.index)+1)):
		c.settle(true)
		c.fail(badLeafHash, &leaf, "there are not as many hashes as belong to the leaf")
		c.broken = true
		return
	}
	hashAt := func(level int) []byte { return leaf.hashes[level*trailproof.HashSize:][:trailproof.HashSize] }
	differs := leaf.fault != "" || !bytes.Equal(leaf.hash[:], hashAt(0))
	level := 0
	for ; c.next>>level&1 == 1; level++ {
		fits := bytes.Equal(rfc6962.DefaultHasher.HashChildren(c.edge[level][:], hashAt(level)), hashAt(level+1))
		if level == 0 && (differs || c.open != nil) {
			// Either the hash above the pair matches the stored hashes below, or one of those was
			// altered.
			if c.open != nil {
				c.blame(c.open, fits)
			}
			if differs {
				c.blame(&leaf, fits)
			}
			continue
		}
		if !fits {
			c.fail(
				badNode,
				&leaf,
				fmt.Sprintf("the hash of the %d leaves up to this one is not that of its halves", int64(2)<<level),
			)
		}
	}
	c.open = nil
	if differs && c.next&1 == 0 {
		kept := leaf
		c.open = &kept
	}
	copy(c.edge[level][:], hashAt(level))
	c.next++
	c.compare()
}

// blame decides, for a leaf whose hash is not that of its entry, which of the two was altered. The
// stored hash is right if it matches the tree above.
func (c *checker) blame(leaf *row, fits bool) {
	switch {
	case leaf.fault != "":
		c.fail(badEntry, leaf, leaf.fault)
	case fits:
		c.fail(badEntry, leaf, "the entry is not what was sealed")
	default:
		c.fail(badLeafHash, leaf, "the hash of the leaf was changed")
	}
}

// root returns the root of the tree over the leaves so far.
func (c *checker) root() (root [trailproof.HashSize]byte) {
	if c.next == 0 {
		return [trailproof.HashSize]byte(rfc6962.DefaultHasher.EmptyRoot())
	}
	level := bits.TrailingZeros64(uint64(c.next))
	root = c.edge[level]
	for level++; level < 64; level++ {
		if c.next>>level&1 == 1 {
			root = [trailproof.HashSize]byte(rfc6962.DefaultHasher.HashChildren(c.edge[level][:], root[:]))
		}
	}
	return root
}

// compare compares the tree with the checkpoints of its current size.
func (c *checker) compare() {
	for len(c.claims) > 0 && c.claims[0].size == uint64(c.next) {
		if root := c.root(); root != c.claims[0].root {
			c.settle(false)
			c.fail(
				badCheckpoint,
				nil,
				fmt.Sprintf("the first %d entries are not those of the checkpoint %s", c.next, c.claims[0].what),
			)
		}
		c.claims = c.claims[1:]
	}
}

// settle decides for the last leaf, if that is open, which of the two was altered.
func (c *checker) settle(fits bool) {
	if c.open != nil {
		c.blame(c.open, fits)
		c.open = nil
	}
}

// end compares the stored right edge of the tree: its size and the roots of the complete subtrees,
// largest first.
func (c *checker) end(size int64, roots []byte) {
	if c.broken {
		return
	}
	if size != c.next {
		c.settle(true)
		c.fail(badHead, nil, fmt.Sprintf("there are %d leaves and not %d", c.next, size))
	} else if roots != nil {
		var edge []byte
		for level := 63; level >= 0; level-- {
			if c.next>>level&1 == 1 {
				edge = append(edge, c.edge[level][:]...)
			}
		}
		fits := bytes.Equal(edge, roots)
		whose := c.open != nil
		c.settle(fits)
		if !fits && !whose {
			c.fail(badHead, nil, "the roots at the head are not those of the leaves")
		}
	}
	c.settle(true)
	for _, one := range c.claims {
		c.fail(
			badCheckpoint,
			nil,
			fmt.Sprintf(
				"entries are missing: the trail has %d, and the checkpoint %s is about %d",
				c.next,
				one.what,
				one.size,
			),
		)
	}
}
