package publictest_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/note"
	"pgregory.net/rapid"

	"github.com/fusionspim/steward/pkg/trailproof"
)

var (
	customerID = uuid.MustParse("019ab3c4-5d6e-7f80-9a1b-2c3d4e5f6071")
	origin     = trailproof.Origin("steward.example", customerID)
)

// key is a key made from a number, so that every run has the same.
func key(number byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{number}, ed25519.SeedSize))
}

type signer struct {
	name    string
	private ed25519.PrivateKey
}

func (s signer) Name() string                     { return s.name }
func (s signer) Sign(text []byte) ([]byte, error) { return ed25519.Sign(s.private, text), nil }
func (s signer) KeyHash() uint32 {
	verifier, err := note.NewVerifier(s.verifierKey())
	if err != nil {
		panic(err) // a mistake in the test
	}
	return verifier.KeyHash()
}

func (s signer) verifierKey() string {
	text, err := trailproof.VerifierKey(s.name, s.private.Public().(ed25519.PublicKey))
	if err != nil {
		panic(err) // a mistake in the test
	}
	return text
}

func sign(t rapid.TB, by signer, checkpoint trailproof.Checkpoint) string {
	t.Helper()
	signed, err := note.Sign(&note.Note{Text: checkpoint.Body()}, by)
	if err != nil {
		t.Fatal(err)
	}
	return string(signed)
}

func entry(number int) trailproof.Entry {
	user, sourceID := uuid.UUID{15: 7}, fmt.Sprintf("pim-%d", number)
	return trailproof.Entry{
		CustomerID:  customerID,
		ID:          uuid.UUID{15: byte(number), 14: byte(number >> 8)},
		Source:      "integration",
		SourceID:    &sourceID,
		ActorType:   "user",
		ActorUserID: &user,
		Action:      "product.updated",
		TargetType:  "product",
		TargetID:    "48151623",
		Changed:     []string{},
		Details:     json.RawMessage(`{"revision": 7, "changed": ["price", "stock"]}`),
		OccurredAt: time.Date(
			2026,
			3,
			1,
			12,
			0,
			0,
			120_000,
			time.UTC,
		),
		RecordedAt: time.Date(2026, 3, 1, 12, 0, 1, 0, time.UTC),
	}
}

func leafOf(t rapid.TB, e trailproof.Entry) []byte {
	t.Helper()
	leaf, err := trailproof.AppendLeaf(nil, &e)
	if err != nil {
		t.Fatal(err)
	}
	return leaf
}

// texts draws any text, with much of what needs an escape.
func texts() *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		return strings.Join(
			rapid.SliceOfN(rapid.OneOf(rapid.SampledFrom([]string{`"`, `\`, "\x00", "\x1f", "\x7f", "\n", ",", "{", "null", "é", "e\u0301", "\u2028", "😀"}),
				rapid.StringN(0, 3, -1)), 0, 5).
				Draw(t, "parts"),
			"",
		)
	}).Filter(utf8.ValidString)
}

func ids() *rapid.Generator[*uuid.UUID] {
	return rapid.Ptr(rapid.Custom(func(t *rapid.T) uuid.UUID {
		return uuid.UUID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
	}), true)
}

func details(depth int) *rapid.Generator[any] {
	plain := rapid.OneOf(
		rapid.Map(texts(), func(text string) any { return text }),
		rapid.Map(rapid.Int64(), func(n int64) any { return json.Number(fmt.Sprint(n)) }),
		rapid.SampledFrom([]any{nil, true, false, json.Number("1.10"), json.Number("1.1"), json.Number("-0.5")}),
	)
	if depth == 0 {
		return plain
	}
	inner := details(depth - 1)
	return rapid.OneOf(plain, rapid.Map(rapid.SliceOfN(inner, 0, 3), func(list []any) any { return list }),
		rapid.Map(rapid.MapOfN(texts(), inner, 0, 3), func(members map[string]any) any { return members }))
}

func entries() *rapid.Generator[trailproof.Entry] {
	return rapid.Custom(func(t *rapid.T) trailproof.Entry {
		moment := rapid.Custom(func(t *rapid.T) time.Time {
			return time.UnixMicro(rapid.Int64Range(-62_000_000_000_000_000, 250_000_000_000_000_000).Draw(t, "µs")).
				UTC()
		})
		e := trailproof.Entry{
			CustomerID:              *ids().Filter(func(id *uuid.UUID) bool { return id != nil }).Draw(t, "customer"),
			ID:                      *ids().Filter(func(id *uuid.UUID) bool { return id != nil }).Draw(t, "id"),
			Source:                  texts().Draw(t, "source"),
			SourceID:                rapid.Ptr(texts(), true).Draw(t, "source id"),
			ActorType:               texts().Draw(t, "actor type"),
			ActorUserID:             ids().Draw(t, "user"),
			ActorAPIKeyID:           ids().Draw(t, "key"),
			ActorOperatorCustomerID: ids().Draw(t, "operators"),
			ActorOperatorID:         ids().Draw(t, "operator"),
			Action:                  texts().Draw(t, "action"),
			TargetType:              texts().Draw(t, "type"),
			TargetID:                texts().Draw(t, "target"),
			Changed:                 rapid.SliceOfN(texts(), 0, 3).Draw(t, "changed"),
			OccurredAt:              moment.Draw(t, "occurred"),
			RecordedAt:              moment.Draw(t, "recorded"),
		}
		if rapid.Bool().Draw(t, "with details") {
			text, err := json.Marshal(details(2).Draw(t, "details"))
			if err != nil {
				t.Fatal(err)
			}
			e.Details = text
		}
		return e
	})
}

// What a leaf was made of can be read from it again, so two different entries cannot have the same.
func TestALeafTellsItsEntry(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		sent := entries().Draw(t, "entry")
		leaf := leafOf(t, sent)
		read, err := trailproof.ParseLeaf(leaf)
		if err != nil {
			t.Fatalf("%s: %v", leaf, err)
		}
		if !sameJSON(t, read.Details, sent.Details) {
			t.Fatalf("the details %s came back as %s", sent.Details, read.Details)
		}
		read.Details, sent.Details = nil, nil
		if !reflect.DeepEqual(read, sent) {
			t.Fatalf("came back as another entry:\n%+v\n%+v", sent, read)
		}
	})
}

func sameJSON(t rapid.TB, a, b json.RawMessage) bool {
	t.Helper()
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	read := func(text json.RawMessage) (value any) {
		decoder := json.NewDecoder(bytes.NewReader(text))
		decoder.UseNumber()
		if err := decoder.Decode(&value); err != nil {
			t.Fatal(err)
		}
		return value
	}
	return reflect.DeepEqual(read(a), read(b))
}

// tree is a whole trail in memory, with everything that a service would need to prove something.
type tree struct {
	leaves [][]byte
	nodes  map[compact.NodeID][]byte
	roots  [][trailproof.HashSize]byte // by size
}

func plant(t rapid.TB, size int) *tree {
	t.Helper()
	grown := &tree{
		nodes: map[compact.NodeID][]byte{},
		roots: [][trailproof.HashSize]byte{[trailproof.HashSize]byte(rfc6962.DefaultHasher.EmptyRoot())},
	}
	factory := compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}
	all := factory.NewEmptyRange(0)
	for i := range size {
		grown.leaves = append(grown.leaves, leafOf(t, entry(i)))
		if err := all.Append(
			trailproof.LeafHash(grown.leaves[i]),
			func(id compact.NodeID, hash []byte) { grown.nodes[id] = hash },
		); err != nil {
			t.Fatal(err)
		}
		root, err := all.GetRootHash(nil)
		if err != nil {
			t.Fatal(err)
		}
		grown.roots = append(grown.roots, [trailproof.HashSize]byte(root))
	}
	return grown
}

func (g *tree) path(t rapid.TB, needed proof.Nodes, err error) [][]byte {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	var hashes [][]byte
	for _, one := range needed.IDs {
		hashes = append(hashes, g.nodes[one])
	}
	path, err := needed.Rehash(hashes, rfc6962.DefaultHasher.HashChildren)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func (g *tree) checkpoint(size int) trailproof.Checkpoint {
	made := trailproof.Checkpoint{Origin: origin, Size: uint64(size), Root: g.roots[size]}
	if size%4 != 0 { // the old ones do not say when they were signed
		made.At = time.Date(2026, 11, 27, 9, 30, 0, 120_000, time.UTC)
	}
	return made
}

func (g *tree) proof(t rapid.TB, by signer, index, size int) trailproof.Proof {
	t.Helper()
	needed, err := proof.Inclusion(uint64(index), uint64(size))
	return trailproof.Proof{
		LeafIndex: uint64(
			index,
		),
		TreeSize:      uint64(size),
		Leaf:          g.leaves[index],
		LeafHash:      trailproof.LeafHash(g.leaves[index]),
		InclusionPath: g.path(t, needed, err),
		Checkpoint:    sign(t, by, g.checkpoint(size)),
	}
}

func TestProofsHoldForWhatIsThereAndForNothingElse(t *testing.T) {
	t.Parallel()
	by := signer{origin, key(1)}
	grown := plant(t, 40)
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(1, len(grown.leaves)).Draw(t, "size")
		index := rapid.IntRange(0, size-1).Draw(t, "index")
		good := grown.proof(t, by, index, size)
		if read, checkpoint, err := good.Verify(
			by.verifierKey(),
		); err != nil || read.ID != entry(index).ID ||
			checkpoint != grown.checkpoint(size) {
			t.Fatalf("entry %d of %d: %v", index, size, err)
		}
		other := good
		switch rapid.IntRange(0, 5).Draw(t, "change") {
		case 0:
			other.LeafIndex = rapid.Uint64().
				Filter(func(n uint64) bool { return n != good.LeafIndex }).
				Draw(t, "other index")
		case 1:
			other.TreeSize++
		case 2:
			at := rapid.IntRange(0, len(good.Leaf)-1).Draw(t, "byte")
			other.Leaf = bytes.Clone(good.Leaf)
			other.Leaf[at] ^= 1
		case 3:
			other.LeafHash = bytes.Repeat([]byte{1}, trailproof.HashSize)
		case 4:
			other.InclusionPath = append(
				other.InclusionPath[:len(other.InclusionPath):len(other.InclusionPath)],
				good.LeafHash,
			)
		case 5:
			at := rapid.IntRange(0, len(good.Checkpoint)-1).Draw(t, "byte")
			changed := []byte(good.Checkpoint)
			changed[at] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
			other.Checkpoint = string(changed)
		}
		if _, _, err := other.Verify(by.verifierKey()); err == nil {
			t.Fatalf("a false proof was taken: %+v", other)
		}
	})
}

func TestConsistency(t *testing.T) {
	t.Parallel()
	grown := plant(t, 20)
	for newer := range grown.roots {
		for older := range newer + 1 {
			needed, err := proof.Consistency(uint64(older), uint64(newer))
			path := grown.path(t, needed, err)
			if err := trailproof.VerifyConsistency(grown.checkpoint(older), grown.checkpoint(newer), path); err != nil {
				t.Errorf("%d in %d: %v", older, newer, err)
			}
			if older == 0 {
				continue // everything begins with nothing
			}
			forged := grown.checkpoint(older)
			forged.Root[0] ^= 1
			if trailproof.VerifyConsistency(forged, grown.checkpoint(newer), path) == nil {
				t.Errorf("%d in %d: another past was taken", older, newer)
			}
			if newer > older &&
				trailproof.VerifyConsistency(grown.checkpoint(newer), grown.checkpoint(older), path) == nil {
				t.Errorf("%d in %d: a shorter trail was taken", newer, older)
			}
		}
	}
	elsewhere := grown.checkpoint(3)
	elsewhere.Origin = trailproof.Origin("steward.example", uuid.UUID{1})
	if trailproof.VerifyConsistency(elsewhere, grown.checkpoint(3), nil) == nil {
		t.Error("another customer's trail was taken")
	}
}

func TestCheckpointsOfOthersAreRefused(t *testing.T) {
	t.Parallel()
	grown := plant(t, 3)
	by, stranger := signer{origin, key(1)}, signer{origin, key(2)}
	text := sign(t, by, grown.checkpoint(3))
	if got, err := trailproof.OpenCheckpoint(
		text,
		stranger.verifierKey(),
		by.verifierKey(),
	); err != nil ||
		got != grown.checkpoint(3) {
		t.Errorf("%v %v", got, err)
	}
	named := signer{"steward.example/elsewhere", key(1)}
	both, err := note.Sign(&note.Note{Text: grown.checkpoint(3).Body()}, by, stranger)
	if err != nil {
		t.Fatal(err)
	}
	written := func(body string) string {
		t.Helper()
		text, err := note.Sign(&note.Note{Text: body}, by)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	old := grown.checkpoint(3)
	old.At = time.Time{}
	if got, err := trailproof.OpenCheckpoint(sign(t, by, old), by.verifierKey()); err != nil || got != old {
		t.Errorf("one without a time: %v %v", got, err)
	}
	for what, bad := range map[string]struct {
		text string
		keys []string
		want error
	}{
		"no key":               {text, nil, trailproof.ErrSignature},
		"another key":          {text, []string{stranger.verifierKey()}, trailproof.ErrSignature},
		"no verifier key":      {text, []string{"nonsense"}, trailproof.ErrKey},
		"another name":         {sign(t, named, grown.checkpoint(3)), []string{named.verifierKey()}, trailproof.ErrOtherTrail},
		"two signatures":       {string(both), []string{by.verifierKey()}, trailproof.ErrCheckpoint},
		"two known signatures": {string(both), []string{by.verifierKey(), stranger.verifierKey()}, trailproof.ErrCheckpoint},
		"more lines":           {written(grown.checkpoint(3).Body() + "more\n"), []string{by.verifierKey()}, trailproof.ErrCheckpoint},
		"a line that is none":  {written(old.Body() + "more\n"), []string{by.verifierKey()}, trailproof.ErrCheckpoint},
		"two times":            {written(old.Body() + "time 2026-11-27T09:30:00.000120Z\ntime 2026-11-27T09:30:00.000120Z\n"), []string{by.verifierKey()}, trailproof.ErrCheckpoint},
		"a short time":         {written(old.Body() + "time 2026-11-27T09:30:00Z\n"), []string{by.verifierKey()}, trailproof.ErrCheckpoint},
		"a time elsewhere":     {written(old.Body() + "time 2026-11-27T09:30:00.000120+01:00\n"), []string{by.verifierKey()}, trailproof.ErrCheckpoint},
		"no time":              {written(old.Body() + "time \n"), []string{by.verifierKey()}, trailproof.ErrCheckpoint},
		"the beginning":        {written(old.Body() + "time 0001-01-01T00:00:00.000000Z\n"), []string{by.verifierKey()}, trailproof.ErrCheckpoint},
		"nothing":              {"", []string{by.verifierKey()}, trailproof.ErrCheckpoint},
		"no signature":         {grown.checkpoint(3).Body(), []string{by.verifierKey()}, trailproof.ErrCheckpoint},
	} {
		if _, err := trailproof.OpenCheckpoint(bad.text, bad.keys...); !errors.Is(err, bad.want) {
			t.Errorf("%s: got %v, want %v", what, err, bad.want)
		}
	}
	for at := range text {
		for bit := range 8 {
			changed := []byte(text)
			changed[at] ^= 1 << bit
			if _, err := trailproof.OpenCheckpoint(string(changed), by.verifierKey()); err == nil {
				t.Errorf("byte %d, bit %d: a changed checkpoint was taken", at, bit)
			}
		}
	}
}
