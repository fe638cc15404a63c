package ledger

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/fusionspim/steward/internal/infra/blob"
	"github.com/fusionspim/steward/internal/infra/seal"
)

const (
	root         = "ledger/"
	genesisName  = root + "genesis"
	segmentsName = root + "segments/"
	perFolder    = 10_000 // numbers; a folder with very many objects is slow to list

	objectLimit = 32 << 20 // bytes
	format      = 1

	genesisLabel = "ledger genesis"
	segmentLabel = "ledger segment"
)

// segmentName returns the name of the object whose first entry has the number. Names sort like
// numbers.
func segmentName(first int64) string {
	return fmt.Sprintf("%s%012d/%016d", segmentsName, first/perFolder, first)
}

// segmentNumber returns the number in a name; ok is false for a name that no segment has.
func segmentNumber(name string) (first int64, ok bool) {
	_, digits, found := strings.Cut(strings.TrimPrefix(name, segmentsName), "/")
	first, err := strconv.ParseInt(digits, 10, 64)
	return first, found && err == nil && first > 0 && segmentName(first) == name
}

// genesis is the first object. It identifies the ledger, and its hash is the predecessor of the
// first entry.
type genesis struct {
	Ledger    uuid.UUID `json:"ledger"`
	Format    int       `json:"format"`
	CreatedAt time.Time `json:"created_at"`
	MAC       string    `json:"mac,omitempty"`
}

func (g genesis) bytes(box *seal.Box) []byte {
	g.MAC = ""
	plain, _ := json.Marshal(g) // cannot fail for these types
	g.MAC = base64.StdEncoding.EncodeToString(box.MAC(genesisLabel, plain))
	sealed, _ := json.Marshal(g)
	return append(sealed, '\n')
}

// footer is the last line of a segment. Its authentication code covers all lines of the segment.
type footer struct {
	First int64 `json:"first"`
	Count int   `json:"count"`
	// unique for each batch, so that a writer recognises its own object
	Writer uuid.UUID `json:"writer"`
	MAC    string    `json:"mac,omitempty"`
}

// segment is a number of entries that were written together.
type segment struct {
	first   int64
	entries []Entry
	hashes  []Hash
}

func (s segment) end() Position {
	last := len(s.entries) - 1
	return Position{s.entries[last].Number, s.hashes[last]}
}

// encodeSegment numbers and chains entries after a position, and encodes the object that holds
// them.
func encodeSegment(
	box *seal.Box, writer uuid.UUID, head Position, entries []Entry,
) (content []byte, positions []Position, err error) {
	var text bytes.Buffer
	positions = make([]Position, len(entries))
	first := head.Number + 1
	for i := range entries {
		entries[i].Number, entries[i].Previous = head.Number+1, head.Hash
		line, err := entries[i].encode()
		if err != nil {
			return nil, nil, fmt.Errorf("ledger: %w", err)
		}
		head = Position{entries[i].Number, sha256.Sum256(line)}
		positions[i] = head
		text.Write(line)
		text.WriteByte('\n')
	}
	last := footer{First: first, Count: len(entries), Writer: writer}
	last.MAC = segmentMAC(box, text.Bytes(), last)
	line, err := json.Marshal(last)
	if err != nil {
		return nil, nil, fmt.Errorf("ledger: %w", err)
	}
	text.Write(line)
	text.WriteByte('\n')
	return text.Bytes(), positions, nil
}

func segmentMAC(box *seal.Box, lines []byte, last footer) string {
	last.MAC = ""
	plain, _ := json.Marshal(last) // cannot fail for these types
	return base64.StdEncoding.EncodeToString(box.MAC(segmentLabel, lines, plain))
}

// parseSegment decodes a segment that follows a position, and verifies every byte of it. The error
// is a *Broken. Without a box the authentication code is not verified.
func parseSegment(box *seal.Box, content []byte, first int64, before Position) (segment, error) {
	broken := func(entry int64, why string) error { return &Broken{Segment: first, Entry: entry, Why: why} }
	lines := bytes.SplitAfter(content, []byte("\n"))
	if len(lines) < 3 || len(lines[len(lines)-1]) != 0 {
		return segment{}, broken(0, "its end is missing")
	}
	lines = lines[:len(lines)-1]
	parsed := segment{first: first}
	head := before
	for i, text := range lines[:len(lines)-1] {
		line := text[:len(text)-1]
		number := first + int64(i)
		entry, err := parseEntry(line)
		switch {
		case err != nil:
			return segment{}, broken(number, err.Error())
		case entry.Number != number:
			return segment{}, broken(number, fmt.Sprintf("entry %d is in its place", entry.Number))
		case entry.Previous != head.Hash && i > 0:
			return segment{}, broken(number-1, "its hash is not the one that the next entry names")
		case entry.Previous != head.Hash:
			return segment{}, broken(number,
				fmt.Sprintf("it does not follow entry %d as stored; one of the two was altered", head.Number))
		}
		head = Position{number, sha256.Sum256(line)}
		parsed.entries, parsed.hashes = append(parsed.entries, entry), append(parsed.hashes, head.Hash)
	}
	text := lines[len(lines)-1]
	var last footer
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if decoder.Decode(&last) != nil {
		return segment{}, broken(0, "its last line is not readable")
	}
	encoded, err := json.Marshal(last)
	if err != nil || !bytes.Equal(append(encoded, '\n'), text) || last.First != first ||
		last.Count != len(parsed.entries) {
		return segment{}, broken(0, "its last line does not match its entries")
	}
	if box != nil && last.MAC != segmentMAC(box, content[:len(content)-len(text)], last) {
		return segment{}, broken(
			0,
			"its authentication code does not match: it was altered, or the master key is a different one",
		)
	}
	return parsed, nil
}

// readObject returns the content of an object.
func readObject(ctx context.Context, store blob.Store, name string) (content []byte, err error) {
	reader, err := store.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, reader.Close()) }()
	content, err = io.ReadAll(io.LimitReader(reader, objectLimit+1))
	if err == nil && len(content) > objectLimit {
		err = fmt.Errorf("ledger: %s is larger than a ledger object can be", name)
	}
	return content, err
}

var errGenesis = errors.New(
	"ledger: " + genesisName + " is not valid: it was altered, the master key is a different one, " +
		"or a newer version wrote it",
)

// readGenesis returns the identity of the ledger and the position that the first entry follows.
// Errors: blob.ErrNotFound if there is no ledger, errGenesis.
func readGenesis(ctx context.Context, store blob.Store, box *seal.Box) (uuid.UUID, Position, error) {
	content, err := readObject(ctx, store, genesisName)
	if err != nil {
		return uuid.UUID{}, Position{}, err
	}
	var found genesis
	if json.Unmarshal(content, &found) != nil || found.Format != format ||
		box != nil && !bytes.Equal(found.bytes(box), content) {
		return uuid.UUID{}, Position{}, errGenesis
	}
	return found.Ledger, Position{0, sha256.Sum256(content)}, nil
}

// concurrentReads is the number of objects fetched ahead, to hide the latency of a bucket.
const concurrentReads = 16

// fetched is the content of a segment, or the error of fetching it.
type fetched struct {
	first   int64
	content []byte
	err     error
}

// segmentsAfter yields the segments after a position up to the newest, in order and each verified.
// The first error ends the sequence; it is a *Broken if the ledger was altered.
func segmentsAfter(ctx context.Context, store blob.Store, box *seal.Box, from Position) iter.Seq2[segment, error] {
	return func(yield func(segment, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		head := from
		process := func(f fetched) (more bool) {
			if f.err != nil {
				yield(segment{}, f.err)
				return false
			}
			if f.first != head.Number+1 {
				why := fmt.Sprintf("it is missing, but segment %d exists", f.first)
				yield(segment{}, &Broken{Segment: head.Number + 1, Why: why})
				return false
			}
			parsed, err := parseSegment(box, f.content, f.first, head)
			if err != nil {
				yield(segment{}, err)
				return false
			}
			head = parsed.end()
			return yield(parsed, nil)
		}
		for f := range fetchAll(ctx, store, from.Number) {
			if !process(f) {
				return
			}
		}
		// Segments that were appended while the names were listed.
		for {
			content, err := readObject(ctx, store, segmentName(head.Number+1))
			if errors.Is(err, blob.ErrNotFound) {
				return
			}
			if !process(fetched{head.Number + 1, content, err}) {
				return
			}
		}
	}
}

// fetchAll yields the segments whose first entries come after a number, in the order of their
// names. It fetches several of them ahead.
func fetchAll(ctx context.Context, store blob.Store, after int64) iter.Seq[fetched] {
	return func(yield func(fetched) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		ahead := make(chan chan fetched, concurrentReads)
		go func() {
			defer close(ahead)
			for info, err := range store.List(ctx, segmentsName, segmentName(after)) {
				result := make(chan fetched, 1)
				first, ok := segmentNumber(info.Name)
				if err == nil && !ok {
					continue // not a segment
				}
				select {
				case ahead <- result:
				case <-ctx.Done():
					return
				}
				if err != nil {
					result <- fetched{err: err}
					return
				}
				go func() {
					content, err := readObject(ctx, store, info.Name)
					result <- fetched{first, content, err}
				}()
			}
		}()
		for result := range ahead {
			if !yield(<-result) {
				return
			}
		}
	}
}

// Check is the result of verifying a whole ledger.
type Check struct {
	Ledger      uuid.UUID
	Segments    int64
	Entries     int64 // up to the segment that was altered
	Head        Position
	LastSegment int64   // number of its first entry; 0: there is no segment
	Fault       *Broken // nil: nothing was altered
}

// Verify reads and verifies the whole ledger. Without a box it verifies the chain, but cannot
// detect a ledger that was forged as a whole. Error: blob.ErrNotFound if there is no ledger.
func Verify(ctx context.Context, store blob.Store, box *seal.Box) (found Check, err error) {
	if found.Ledger, found.Head, err = readGenesis(ctx, store, box); err != nil {
		return found, err
	}
	for segment, err := range segmentsAfter(ctx, store, box, found.Head) {
		var broken *Broken
		if errors.As(err, &broken) {
			found.Fault = broken
			return found, nil
		}
		if err != nil {
			return found, err
		}
		found.Segments++
		found.Entries += int64(len(segment.entries))
		found.Head, found.LastSegment = segment.end(), segment.first
	}
	return found, nil
}
