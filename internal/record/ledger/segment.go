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

	largestObject = 32 << 20
	format        = 1

	genesisLabel = "ledger genesis"
	segmentLabel = "ledger segment"
)

// segmentName is the name of the object whose first entry has the number. Names sort like numbers.
func segmentName(first int64) string {
	return fmt.Sprintf("%s%012d/%016d", segmentsName, first/perFolder, first)
}

// firstOf is the number in a name; ok is false for a name that no segment has.
func firstOf(name string) (first int64, ok bool) {
	_, digits, found := strings.Cut(strings.TrimPrefix(name, segmentsName), "/")
	first, err := strconv.ParseInt(digits, 10, 64)
	return first, found && err == nil && first > 0 && segmentName(first) == name
}

// genesis is the first object: it tells one ledger from another, and its hash is what the first entry follows.
type genesis struct {
	Ledger    uuid.UUID `json:"ledger"`
	Format    int       `json:"format"`
	CreatedAt time.Time `json:"created_at"`
	MAC       string    `json:"mac,omitempty"`
}

func (g genesis) bytes(box *seal.Box) []byte {
	g.MAC = ""
	plain, _ := json.Marshal(g) // of these types: does not fail
	g.MAC = base64.StdEncoding.EncodeToString(box.MAC(genesisLabel, plain))
	sealed, _ := json.Marshal(g)
	return append(sealed, '\n')
}

// foot is the last line of a segment. The code covers everything before it.
type foot struct {
	First  int64     `json:"first"`
	Count  int       `json:"count"`
	Writer uuid.UUID `json:"writer"` // made for each batch, so that a writer knows its own object again
	MAC    string    `json:"mac,omitempty"`
}

// segment is some entries that were made durable together.
type segment struct {
	first   int64
	writer  uuid.UUID
	entries []Entry
	hashes  []Hash
}

func (s segment) end() Position {
	last := len(s.entries) - 1
	return Position{s.entries[last].Number, s.hashes[last]}
}

// compose numbers and chains entries behind a position, and writes the object that holds them.
func compose(box *seal.Box, writer uuid.UUID, head Position, entries []Entry) (content []byte, positions []Position, err error) {
	var text bytes.Buffer
	positions = make([]Position, len(entries))
	first := head.Number + 1
	for i := range entries {
		entries[i].Number, entries[i].Previous = head.Number+1, head.Hash
		line, err := entries[i].line()
		if err != nil {
			return nil, nil, fmt.Errorf("ledger: %w", err)
		}
		head = Position{entries[i].Number, sha256.Sum256(line)}
		positions[i] = head
		text.Write(line)
		text.WriteByte('\n')
	}
	last := foot{First: first, Count: len(entries), Writer: writer}
	last.MAC = segmentMAC(box, text.Bytes(), last)
	line, err := json.Marshal(last)
	if err != nil {
		return nil, nil, fmt.Errorf("ledger: %w", err)
	}
	text.Write(line)
	text.WriteByte('\n')
	return text.Bytes(), positions, nil
}

func segmentMAC(box *seal.Box, lines []byte, last foot) string {
	last.MAC = ""
	plain, _ := json.Marshal(last) // of these types: does not fail
	return base64.StdEncoding.EncodeToString(box.MAC(segmentLabel, lines, plain))
}

// parse reads a segment that is to follow a position, and makes sure of every byte of it. Without a box the authentication code is not checked.
func parse(box *seal.Box, content []byte, first int64, before Position) (segment, error) {
	broken := func(entry int64, why string) error { return &Broken{Segment: first, Entry: entry, Why: why} }
	lines := bytes.SplitAfter(content, []byte("\n"))
	if len(lines) < 3 || len(lines[len(lines)-1]) != 0 {
		return segment{}, broken(0, "it does not end as segments do")
	}
	lines = lines[:len(lines)-1]
	out := segment{first: first}
	head := before
	for i, text := range lines[:len(lines)-1] {
		line := text[:len(text)-1]
		number := first + int64(i)
		entry, err := parseEntry(line)
		switch {
		case err != nil:
			return segment{}, broken(number, err.Error())
		case entry.Number != number:
			return segment{}, broken(number, fmt.Sprintf("in its place is entry %d", entry.Number))
		case entry.Previous != head.Hash && i > 0:
			return segment{}, broken(number-1, "it is not the entry that the next one follows")
		case entry.Previous != head.Hash:
			return segment{}, broken(number, fmt.Sprintf("it does not follow entry %d as it is here; one of the two was changed", head.Number))
		}
		head = Position{number, sha256.Sum256(line)}
		out.entries, out.hashes = append(out.entries, entry), append(out.hashes, head.Hash)
	}
	text := lines[len(lines)-1]
	var last foot
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if decoder.Decode(&last) != nil {
		return segment{}, broken(0, "its last line is not readable")
	}
	again, err := json.Marshal(last)
	if err != nil || !bytes.Equal(append(again, '\n'), text) || last.First != first || last.Count != len(out.entries) {
		return segment{}, broken(0, "its last line is not that of these entries")
	}
	if box != nil && last.MAC != segmentMAC(box, content[:len(content)-len(text)], last) {
		return segment{}, broken(0, "its authentication code does not fit: it was changed, or the master key is another")
	}
	out.writer = last.Writer
	return out, nil
}

// read returns the content of an object.
func read(ctx context.Context, store blob.Store, name string) (content []byte, err error) {
	reader, err := store.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, reader.Close()) }()
	content, err = io.ReadAll(io.LimitReader(reader, largestObject+1))
	if err == nil && len(content) > largestObject {
		err = fmt.Errorf("ledger: %s is larger than any object of a ledger", name)
	}
	return content, err
}

var errGenesis = errors.New("ledger: " + genesisName + " is not what this service wrote: it was changed, the master key is another, or a newer version wrote it")

// begin returns the genesis, with the position that the first entry follows. Error: blob.ErrNotFound.
func begin(ctx context.Context, store blob.Store, box *seal.Box) (uuid.UUID, Position, error) {
	content, err := read(ctx, store, genesisName)
	if err != nil {
		return uuid.UUID{}, Position{}, err
	}
	var found genesis
	if json.Unmarshal(content, &found) != nil || found.Format != format || box != nil && !bytes.Equal(found.bytes(box), content) {
		return uuid.UUID{}, Position{}, errGenesis
	}
	return found.Ledger, Position{0, sha256.Sum256(content)}, nil
}

// readers is how many objects are fetched at once: a bucket takes its time for each.
const readers = 16

// fetched is an object on its way.
type fetched struct {
	first   int64
	content []byte
	err     error
}

// follow gives the segments behind a position, in order and each checked, up to the newest. It ends with the first error, which is a *Broken where the ledger is at fault.
func follow(ctx context.Context, store blob.Store, box *seal.Box, from Position) iter.Seq2[segment, error] {
	return func(yield func(segment, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		head := from
		take := func(one fetched) (on bool) {
			if one.err != nil {
				yield(segment{}, one.err)
				return false
			}
			if one.first != head.Number+1 {
				yield(segment{}, &Broken{Segment: head.Number + 1, Why: fmt.Sprintf("it is missing, and segment %d is there", one.first)})
				return false
			}
			found, err := parse(box, one.content, one.first, head)
			if err != nil {
				yield(segment{}, err)
				return false
			}
			head = found.end()
			return yield(found, nil)
		}
		for one := range fetchAll(ctx, store, from.Number) {
			if !take(one) {
				return
			}
		}
		// What was appended while the names were listed.
		for {
			content, err := read(ctx, store, segmentName(head.Number+1))
			if errors.Is(err, blob.ErrNotFound) {
				return
			}
			if !take(fetched{head.Number + 1, content, err}) {
				return
			}
		}
	}
}

// fetchAll gives the objects whose entries come after a number in the order of their names, several of them being fetched ahead.
func fetchAll(ctx context.Context, store blob.Store, after int64) iter.Seq[fetched] {
	return func(yield func(fetched) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		ahead := make(chan chan fetched, readers)
		go func() {
			defer close(ahead)
			for info, err := range store.List(ctx, segmentsName, segmentName(after)) {
				one := make(chan fetched, 1)
				first, ok := firstOf(info.Name)
				if err == nil && !ok {
					continue // nothing of ours
				}
				select {
				case ahead <- one:
				case <-ctx.Done():
					return
				}
				if err != nil {
					one <- fetched{err: err}
					return
				}
				go func() {
					content, err := read(ctx, store, info.Name)
					one <- fetched{first, content, err}
				}()
			}
		}()
		for one := range ahead {
			if !yield(<-one) {
				return
			}
		}
	}
}

// Check is what looking through a whole ledger found.
type Check struct {
	Ledger      uuid.UUID
	Segments    int64
	Entries     int64 // up to the segment that is at fault
	Head        Position
	LastSegment int64   // 0: there is none
	Fault       *Broken // nil: everything is as it was written
}

// Verify looks through the whole ledger, from its beginning on. Without a box it can tell whether the chain holds, but not whether somebody made another one.
func Verify(ctx context.Context, store blob.Store, box *seal.Box) (found Check, err error) {
	if found.Ledger, found.Head, err = begin(ctx, store, box); err != nil {
		return found, err
	}
	for one, err := range follow(ctx, store, box, found.Head) {
		var broken *Broken
		if errors.As(err, &broken) {
			found.Fault = broken
			return found, nil
		}
		if err != nil {
			return found, err
		}
		found.Segments++
		found.Entries += int64(len(one.entries))
		found.Head, found.LastSegment = one.end(), one.first
	}
	return found, nil
}
