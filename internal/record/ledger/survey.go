package ledger

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/google/uuid"

	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/infra/blob"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

const (
	// Grace is how long an entry may be unapplied while other replicas are at work: longer than any
	// transaction takes.
	Grace = 30 * time.Second
	// crashWindow is how far the newest entry may be ahead of the last sign of life in the database
	// for that to be a crash and not a restore.
	crashWindow = 90 * time.Second
	chunkSize   = 2000 // entries of one chunk to replay
	// unappliedLimit is the number of unapplied entries after which a survey stops looking for a
	// later place to which the position can advance.
	unappliedLimit = 1000
)

// NumberedEntry is an entry of the ledger with its hash.
type NumberedEntry struct {
	Entry
	Hash       Hash
	Superseded bool // a later entry on the same subject is applied: there is nothing to replay
}

// Discrepancy is the error for a ledger and a database that do not belong together, in a way that
// needs a manual review.
type Discrepancy struct {
	Why   string
	Cause error // a *Broken if the ledger was altered, else nil
}

// Error implements error.
func (d *Discrepancy) Error() string {
	if d.Cause != nil {
		return "ledger: " + d.Why + ": " + d.Cause.Error()
	}
	return "ledger: " + d.Why
}

// Unwrap returns the cause.
func (d *Discrepancy) Unwrap() error { return d.Cause }

// Survey is the result of comparing the database with the ledger.
type Survey struct {
	Missing  map[Kind]int // entries that have to be replayed
	InFlight int          // entries whose transactions may be under way at another replica
	// an earlier state of the database was restored, so a crash is not the cause
	Restored bool
	Head     Position // the end of the ledger

	ledger *Ledger
	state  databaseState
	from   Position  // every entry up to here is applied
	cutoff time.Time // later entries may be in flight; zero: none may
	voided map[int64]bool
	newest map[string]int64 // the newest applied entry for each value of Entry.replaces

	advanceTo        Position // the last end of a segment up to which no entry is open
	advanceToSegment int64
}

// MissingCount returns the number of entries that have to be replayed.
func (s *Survey) MissingCount() (total int) {
	for _, count := range s.Missing {
		total += count
	}
	return total
}

// AppliedThrough returns the number of the entry up to which the database had everything when the
// survey began.
func (s *Survey) AppliedThrough() int64 { return s.from.Number }

// Survey compares the database with the ledger, and finds the end of the ledger. A database that
// has no ledger yet is assigned this one. Errors: a *Discrepancy, or the fault ServiceUnavailable
// if the store or the database does not respond.
func (l *Ledger) Survey(ctx context.Context, db *postgres.DB) (*Survey, error) {
	state, err := postgres.Platform(ctx, db, readState)
	if err != nil {
		return nil, err
	}
	s := &Survey{
		Missing: make(
			map[Kind]int,
		),
		ledger: l,
		state:  state,
		voided: make(map[int64]bool),
		newest: make(map[string]int64),
	}
	genesis, err := s.matchLedger(ctx, db)
	if err != nil {
		return nil, err
	}
	lastSign, err := s.findStart(ctx, genesis)
	if err != nil {
		return nil, err
	}
	if !s.state.alone {
		s.cutoff = l.now().Add(-Grace)
	}
	if err := s.walk(ctx, lastSign); err != nil {
		return nil, err
	}
	l.advanceHead(s.Head)
	return s, nil
}

// storeError returns a broken ledger as a *Discrepancy, and any other error of the store as the
// fault ServiceUnavailable.
func storeError(err error) error {
	var broken *Broken
	var known *fault.Fault
	switch {
	case errors.As(err, &broken):
		return &Discrepancy{Why: "the ledger was altered", Cause: broken}
	case errors.As(err, &known):
		return err
	}
	f := fault.Because(
		err,
		fault.ServiceUnavailable,
		"The store of the ledger does not respond at the moment. Try again in a moment.",
	)
	f.RetryAfter = 5 * time.Second
	return f
}

// matchLedger verifies that the database and the ledger belong together, creates the ledger if
// there is none, and returns the position of the genesis.
func (s *Survey) matchLedger(ctx context.Context, db *postgres.DB) (Position, error) {
	own := s.state.ledger
	ledger, origin, err := readGenesis(ctx, s.ledger.store, s.ledger.box)
	if errors.Is(err, blob.ErrNotFound) {
		if own.Valid {
			return Position{}, &Discrepancy{Why: fmt.Sprintf(
				"the store has no ledger, but the database belongs to the ledger %s, of which it has applied at least %d entries",
				own.UUID,
				s.newestApplied(),
			)}
		}
		if err := s.ledger.create(ctx); err != nil {
			return Position{}, storeError(err)
		}
		ledger, origin, err = readGenesis(ctx, s.ledger.store, s.ledger.box)
	}
	switch {
	case errors.Is(err, errGenesis):
		return Position{}, &Discrepancy{Why: "the genesis of the ledger is not readable", Cause: err}
	case err != nil:
		return Position{}, storeError(err)
	case own.Valid && own.UUID != ledger:
		return Position{}, &Discrepancy{
			Why: fmt.Sprintf("the store has the ledger %s, but the database belongs to %s", ledger, own.UUID),
		}
	case own.Valid:
		return origin, nil
	}
	// A populated database without a ledger is older than its ledger, and all of that is replayed.
	if !s.state.populated {
		for info, err := range s.ledger.store.List(ctx, segmentsName, "") {
			if err != nil {
				return Position{}, storeError(err)
			}
			if _, ok := segmentNumber(info.Name); ok {
				return Position{}, errEmptyDatabase()
			}
		}
	}
	return origin, db.InPlatform(ctx, func(tx *postgres.Tx) error { return setLedger(tx, ledger) })
}

func errEmptyDatabase() error {
	return &Discrepancy{
		Why: "the database is empty, but the ledger has entries: nothing was restored, or this is the wrong database",
	}
}

// create writes the genesis of a new ledger, unless another replica does at this moment.
func (l *Ledger) create(ctx context.Context) error {
	g := genesis{Ledger: uuid.New(), Format: format, CreatedAt: l.now()}
	err := l.store.Create(ctx, genesisName, bytes.NewReader(g.bytes(l.box)))
	if errors.Is(err, blob.ErrExists) {
		return nil
	}
	return err
}

func (s *Survey) newestApplied() int64 {
	newest := s.state.through.Number
	for number := range s.state.applied {
		newest = max(newest, number)
	}
	return newest
}

// findStart verifies the segment up to which the database has applied everything, and returns the
// last sign of life of the database.
func (s *Survey) findStart(ctx context.Context, genesis Position) (lastSign time.Time, err error) {
	if s.state.comparedAt != nil {
		lastSign = *s.state.comparedAt
	}
	if s.state.through.Number == 0 {
		s.from = genesis
		return lastSign, nil
	}
	s.from, s.advanceTo, s.advanceToSegment = s.state.through, s.state.through, s.state.segment
	content, err := readObject(ctx, s.ledger.store, segmentName(s.state.segment))
	if errors.Is(err, blob.ErrNotFound) {
		return time.Time{}, s.ledgerBehind(fmt.Sprintf("segment %d does not exist", s.state.segment))
	}
	if err != nil {
		return time.Time{}, storeError(err)
	}
	var first Entry
	line, _, _ := bytes.Cut(content, []byte("\n"))
	_ = json.Unmarshal(line, &first) // parseSegment reports what is not readable
	found, err := parseSegment(s.ledger.box, content, s.state.segment, Position{s.state.segment - 1, first.Previous})
	if err != nil {
		return time.Time{}, storeError(err)
	}
	if found.end() != s.state.through {
		return time.Time{}, otherEntryApplied(s.state.through.Number)
	}
	return later(lastSign, found.entries[len(found.entries)-1].At), nil
}

func (s *Survey) ledgerBehind(how string) error {
	return &Discrepancy{Why: fmt.Sprintf(
		"the ledger is behind the database, which has applied entry %d: %s. An older state of the store may have been restored",
		s.newestApplied(),
		how,
	)}
}

func otherEntryApplied(number int64) error {
	return &Discrepancy{
		Why: fmt.Sprintf("entry %d of the ledger is not the entry %d that the database has applied", number, number),
	}
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// walked is what reading the ledger to its end has found.
type walked struct {
	unapplied []unapplied
	ends      []segmentEnd
	newest    time.Time // of the entries read
	lastSign  time.Time // of life in the database
}

type unapplied struct {
	number int64
	kind   Kind
	recent bool
}

type segmentEnd struct {
	Position
	segment int64
}

// walk reads the ledger from the start of the survey to its end, and evaluates what it finds.
func (s *Survey) walk(ctx context.Context, lastSign time.Time) error {
	found := walked{lastSign: lastSign}
	s.Head = s.from
	for segment, err := range segmentsAfter(ctx, s.ledger.store, s.ledger.box, s.from) {
		if err != nil {
			return storeError(err)
		}
		if err := s.addSegment(&found, segment); err != nil {
			return err
		}
	}
	if newest := s.newestApplied(); newest > s.Head.Number {
		return s.ledgerBehind(fmt.Sprintf("it ends with entry %d", s.Head.Number))
	}
	if !s.state.populated && s.Head.Number > s.from.Number {
		return errEmptyDatabase()
	}
	s.countUnapplied(found)
	s.Restored = s.wasRestored(found)
	return nil
}

// addSegment sorts the entries of a segment into applied, voided and unapplied ones.
func (s *Survey) addSegment(found *walked, segment segment) error {
	for i, entry := range segment.entries {
		found.newest = later(found.newest, entry.At)
		hash, applied := s.state.applied[entry.Number]
		switch {
		case applied && hash != segment.hashes[i]:
			return otherEntryApplied(entry.Number)
		case entry.Kind == Void:
			s.voided[entry.Of] = true
		case applied:
			found.lastSign = later(found.lastSign, entry.At)
			if value := entry.replaces(); value != "" {
				s.newest[value] = entry.Number
			}
		default:
			found.unapplied = append(found.unapplied, unapplied{entry.Number, entry.Kind, s.recent(entry)})
		}
	}
	s.Head = segment.end()
	if len(found.unapplied) <= unappliedLimit {
		found.ends = append(found.ends, segmentEnd{s.Head, segment.first})
	}
	return nil
}

// countUnapplied counts the entries to replay and those in flight, and finds how far the position
// can advance.
func (s *Survey) countUnapplied(found walked) {
	firstOpen := s.Head.Number + 1
	for _, entry := range found.unapplied {
		if s.voided[entry.number] {
			continue
		}
		firstOpen = min(firstOpen, entry.number)
		if entry.recent {
			s.InFlight++
		} else {
			s.Missing[entry.kind]++
		}
	}
	for _, end := range found.ends {
		if end.Number < firstOpen {
			s.advanceTo, s.advanceToSegment = end.Position, end.segment
		}
	}
}

// wasRestored reports whether the database is an earlier state that was restored: either it is in
// another place and a backup was restored into it since the last comparison, or entries are missing
// and it is in another place or more than a crash behind the ledger.
func (s *Survey) wasRestored(found walked) bool {
	moved := s.state.origin != "" && s.state.origin != s.state.current
	sinceCompared := s.state.restoredAt != nil &&
		(s.state.comparedAt == nil || s.state.restoredAt.After(*s.state.comparedAt))
	missing := len(s.Missing) > 0
	return moved && sinceCompared || missing && (moved || found.newest.Sub(found.lastSign) > crashWindow)
}

// recent reports whether the transaction of an entry may still be under way.
func (s *Survey) recent(entry Entry) bool { return !s.cutoff.IsZero() && entry.At.After(s.cutoff) }

// Chunk is a number of entries to replay, those of each customer in their order.
type Chunk struct {
	Customers map[id.Customer][]NumberedEntry
	Count     int

	end     Position
	segment int64
	whole   bool // no entry up to the end is left unapplied
}

// Chunks yields the entries to replay, in their order. The errors are those of Survey; the first
// one ends the sequence.
func (s *Survey) Chunks(ctx context.Context) iter.Seq2[Chunk, error] {
	return func(yield func(Chunk, error) bool) {
		chunk := newChunk(true)
		for segment, err := range segmentsAfter(ctx, s.ledger.store, s.ledger.box, s.from) {
			if err != nil {
				yield(Chunk{}, storeError(err))
				return
			}
			if segment.first > s.Head.Number {
				break // appended since the survey
			}
			s.addToReplay(&chunk, segment)
			if chunk.Count >= chunkSize {
				if !yield(chunk, nil) {
					return
				}
				chunk = newChunk(chunk.whole)
			}
		}
		if chunk.Count > 0 {
			yield(chunk, nil)
		}
	}
}

func newChunk(whole bool) Chunk {
	return Chunk{Customers: make(map[id.Customer][]NumberedEntry), whole: whole}
}

// addToReplay adds the entries of a segment that have to be replayed.
func (s *Survey) addToReplay(chunk *Chunk, segment segment) {
	for i, entry := range segment.entries {
		if _, applied := s.state.applied[entry.Number]; applied || !entry.needsReplay() || s.voided[entry.Number] {
			continue
		}
		if s.recent(entry) {
			chunk.whole = false
			continue
		}
		numbered := NumberedEntry{
			Entry: entry, Hash: segment.hashes[i], Superseded: s.newest[entry.replaces()] > entry.Number,
		}
		chunk.Customers[entry.Customer] = append(chunk.Customers[entry.Customer], numbered)
		chunk.Count++
	}
	chunk.end, chunk.segment = segment.end(), segment.first
}

// AdvancePast moves the position of the database past a chunk that was replayed, unless entries
// before its end are still in flight.
func (s *Survey) AdvancePast(ctx context.Context, db *postgres.DB, chunk Chunk) error {
	if !chunk.whole {
		return nil
	}
	return db.InPlatform(ctx, func(tx *postgres.Tx) error { return advancePosition(tx, chunk.end, chunk.segment) })
}

// AdvancePosition moves the position of the database to the last segment before any unapplied
// entry, and records that the two were compared here and now. It is for a survey without missing
// entries.
func (s *Survey) AdvancePosition(ctx context.Context, db *postgres.DB) error {
	return db.InPlatform(ctx, func(tx *postgres.Tx) error {
		if err := recordOrigin(tx); err != nil || s.advanceTo.Number == s.state.through.Number {
			return err
		}
		return advancePosition(tx, s.advanceTo, s.advanceToSegment)
	})
}

// RecordOrigin records that the database was compared with the ledger here and now.
func (s *Survey) RecordOrigin(ctx context.Context, db *postgres.DB) error {
	return db.InPlatform(ctx, recordOrigin)
}

// Accept makes the current ledger the baseline of the database, with every entry applied, after
// manual review of a discrepancy. Acts that the database has and the ledger lacks will not be
// replayed after another restore. It refuses a ledger that is broken, and a database that is merely
// behind.
func (l *Ledger) Accept(ctx context.Context, db *postgres.DB) (Check, error) {
	_, err := l.Survey(ctx, db)
	var discrepancy *Discrepancy
	if err == nil {
		return Check{}, errors.New("ledger: there is nothing to accept: the ledger and the database belong together, " +
			"and steward serve replays what is missing")
	}
	if !errors.As(err, &discrepancy) {
		return Check{}, err
	}
	if err := l.create(ctx); err != nil {
		return Check{}, err
	}
	found, err := Verify(ctx, l.store, l.box)
	if err != nil {
		return Check{}, err
	}
	if found.Fault != nil {
		return Check{}, fmt.Errorf(
			"ledger: a broken ledger cannot be accepted. Move the segments from %d on elsewhere, "+
				"or restore the original objects: %w",
			found.Fault.Segment,
			found.Fault,
		)
	}
	return found, db.InPlatform(ctx, func(tx *postgres.Tx) error {
		return accept(tx, found.Ledger, found.Head, found.LastSegment)
	})
}

// Position returns the end of the ledger without waiting for appends that are under way. It is 0
// for a ledger without genesis, since no service was open then.
func (l *Ledger) Position(ctx context.Context) (number int64, hash string, err error) {
	l.mu.Lock()
	head, known := l.head, l.known
	l.mu.Unlock()
	if !known {
		_, head, err = readGenesis(ctx, l.store, l.box)
		if errors.Is(err, blob.ErrNotFound) {
			return 0, Position{}.Hash.String(), nil
		}
		if err != nil {
			return 0, "", err
		}
	}
	for segment, err := range segmentsAfter(ctx, l.store, l.box, head) {
		if err != nil {
			return 0, "", err
		}
		head = segment.end()
	}
	return head.Number, head.Hash.String(), nil
}
