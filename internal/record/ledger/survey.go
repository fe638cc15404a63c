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
	// Grace is how long an entry may be without its act while other replicas are at work: longer than any transaction takes.
	Grace = 30 * time.Second
	// crashWithin is how far the newest entry may be ahead of the last sign of life in the database, for that to be a crash and not a restore.
	crashWithin = 90 * time.Second
	chunkSize   = 2000 // entries that are handed over at once to be carried out
	mostOpen    = 1000 // entries still open, from which on a survey looks for no further place to settle
)

// Placed is an entry where it lies.
type Placed struct {
	Entry
	Hash       Hash
	Superseded bool // a later entry on the same is applied: nothing is left to carry out
}

// Discrepancy is a ledger and a database that do not go together, in a way that a person has to look at.
type Discrepancy struct {
	Why   string
	Cause error // a *Broken, where the ledger is at fault
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

// Survey is what a comparison of the database with the ledger found.
type Survey struct {
	Missing  map[Kind]int // entries whose acts are not in the database and have to be carried out
	InFlight int          // entries whose acts may be under way at another replica
	Restored bool         // an earlier state of the database was brought back; what is missing, if anything is, is not just what a crash left open
	Head     Position

	ledger *Ledger
	known  remembered
	from   Position
	cutoff time.Time // entries from then on may be in flight; zero: none
	voided map[int64]bool
	newest map[string]int64 // of what applied entries settle, the newest

	settled        Position
	settledSegment int64
}

// Behind counts the entries that have to be carried out.
func (s *Survey) Behind() (count int) {
	for _, one := range s.Missing {
		count += one
	}
	return count
}

// From is the number of the entry up to which the database had everything before.
func (s *Survey) From() int64 { return s.from.Number }

// Survey compares the database with the ledger, and finds out where the ledger ends. A database that meets its first ledger is told so. Errors: a *Discrepancy, or the fault
// ServiceUnavailable when the store or the database is away.
func (l *Ledger) Survey(ctx context.Context, db *postgres.DB) (*Survey, error) {
	s := &Survey{Missing: make(map[Kind]int), ledger: l, voided: make(map[int64]bool), newest: make(map[string]int64)}
	err := db.InPlatform(ctx, func(tx *postgres.Tx) (err error) {
		s.known, err = recall(tx)
		return err
	})
	if err != nil {
		return nil, err
	}
	origin, err := s.origin(ctx, db)
	if err != nil {
		return nil, err
	}
	evidence, err := s.start(ctx, origin)
	if err != nil {
		return nil, err
	}
	if !s.known.alone {
		s.cutoff = l.now().Add(-Grace)
	}
	if err := s.walk(ctx, evidence); err != nil {
		return nil, err
	}
	l.reached(s.Head)
	return s, nil
}

// away gives an error of the store its meaning.
func away(err error) error {
	var broken *Broken
	var known *fault.Fault
	switch {
	case errors.As(err, &broken):
		return &Discrepancy{Why: "the ledger is not as it was written", Cause: broken}
	case errors.As(err, &known):
		return err
	}
	f := fault.Because(err, fault.ServiceUnavailable, "The store of the ledger does not answer just now. Try again in a moment.")
	f.RetryAfter = 5 * time.Second
	return f
}

// origin makes sure that the database and the ledger belong together, and returns what the first entry follows.
func (s *Survey) origin(ctx context.Context, db *postgres.DB) (Position, error) {
	ledger, origin, err := begin(ctx, s.ledger.store, s.ledger.box)
	if errors.Is(err, blob.ErrNotFound) {
		if s.known.ledger.Valid {
			return Position{}, &Discrepancy{Why: fmt.Sprintf("the store has no ledger, and the database goes with the ledger %s, of which it has at least %d entries",
				s.known.ledger.UUID, s.newestApplied())}
		}
		if err := s.ledger.create(ctx); err != nil {
			return Position{}, away(err)
		}
		ledger, origin, err = begin(ctx, s.ledger.store, s.ledger.box)
	}
	switch {
	case errors.Is(err, errGenesis):
		return Position{}, &Discrepancy{Why: "the beginning of the ledger is not readable", Cause: err}
	case err != nil:
		return Position{}, away(err)
	case s.known.ledger.Valid && s.known.ledger.UUID != ledger:
		return Position{}, &Discrepancy{Why: fmt.Sprintf("the store has the ledger %s, and the database goes with %s", ledger, s.known.ledger.UUID)}
	case s.known.ledger.Valid:
		return origin, nil
	}
	if !s.known.populated { // or else it is older than its ledger, and all of it is to be carried out
		for info, err := range s.ledger.store.List(ctx, segmentsName, "") {
			if err != nil {
				return Position{}, away(err)
			}
			if _, ok := firstOf(info.Name); ok {
				return Position{}, empty()
			}
		}
	}
	return origin, db.InPlatform(ctx, func(tx *postgres.Tx) error { return meet(tx, ledger) })
}

func empty() error {
	return &Discrepancy{Why: "the database is empty, and the ledger tells of acts: nothing was restored, or this is not the database that is meant"}
}

// create writes the beginning of a new ledger, unless another replica does at this moment.
func (l *Ledger) create(ctx context.Context) error {
	made := genesis{Ledger: uuid.New(), Format: format, CreatedAt: l.now()}
	if err := l.store.Create(ctx, genesisName, bytes.NewReader(made.bytes(l.box))); err != nil && !errors.Is(err, blob.ErrExists) {
		return err
	}
	return nil
}

func (s *Survey) newestApplied() int64 {
	newest := s.known.through.Number
	for number := range s.known.applied {
		newest = max(newest, number)
	}
	return newest
}

// start finds the place in the ledger up to which the database has everything, and returns the last sign of life of the database.
func (s *Survey) start(ctx context.Context, origin Position) (evidence time.Time, err error) {
	if s.known.seenAt != nil {
		evidence = *s.known.seenAt
	}
	if s.known.through.Number == 0 {
		s.from = origin
		return evidence, nil
	}
	s.from, s.settled, s.settledSegment = s.known.through, s.known.through, s.known.segment
	content, err := read(ctx, s.ledger.store, segmentName(s.known.segment))
	if errors.Is(err, blob.ErrNotFound) {
		return time.Time{}, s.ledgerBehind(fmt.Sprintf("segment %d is not there", s.known.segment))
	}
	if err != nil {
		return time.Time{}, away(err)
	}
	var first Entry
	line, _, _ := bytes.Cut(content, []byte("\n"))
	_ = json.Unmarshal(line, &first) // what is not readable, parse says
	found, err := parse(s.ledger.box, content, s.known.segment, Position{s.known.segment - 1, first.Previous})
	if err != nil {
		return time.Time{}, away(err)
	}
	if found.end() != s.known.through {
		return time.Time{}, &Discrepancy{Why: fmt.Sprintf("entry %d is not the one that the database has applied", s.known.through.Number)}
	}
	return later(evidence, found.entries[len(found.entries)-1].At), nil
}

func (s *Survey) ledgerBehind(how string) error {
	return &Discrepancy{Why: fmt.Sprintf("the ledger is behind the database, which has applied entry %d: %s. An older state of the store may have been restored",
		s.newestApplied(), how)}
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// walk reads on from there to the end of the ledger.
func (s *Survey) walk(ctx context.Context, evidence time.Time) error {
	type open struct {
		number int64
		kind   Kind
		young  bool
	}
	type end struct {
		Position
		segment int64
	}
	var opened []open
	var ends []end
	var newest time.Time
	s.Head = s.from
	for one, err := range follow(ctx, s.ledger.store, s.ledger.box, s.from) {
		if err != nil {
			return away(err)
		}
		for i, entry := range one.entries {
			newest = later(newest, entry.At)
			hash, applied := s.known.applied[entry.Number]
			switch {
			case applied && hash != one.hashes[i]:
				return &Discrepancy{Why: fmt.Sprintf("entry %d is not the one that the database has applied", entry.Number)}
			case entry.Kind == Void:
				s.voided[entry.Of] = true
			case applied:
				evidence = later(evidence, entry.At)
				if what := entry.settles(); what != "" {
					s.newest[what] = entry.Number
				}
			default:
				opened = append(opened, open{entry.Number, entry.Kind, s.young(entry)})
			}
		}
		s.Head = one.end()
		if len(opened) <= mostOpen {
			ends = append(ends, end{s.Head, one.first})
		}
	}
	if newest := s.newestApplied(); newest > s.Head.Number {
		return s.ledgerBehind(fmt.Sprintf("it ends with entry %d", s.Head.Number))
	}
	if !s.known.populated && s.Head.Number > s.from.Number {
		return empty()
	}
	unsettled := s.Head.Number + 1
	for _, one := range opened {
		if s.voided[one.number] {
			continue
		}
		unsettled = min(unsettled, one.number)
		if one.young {
			s.InFlight++
		} else {
			s.Missing[one.kind]++
		}
	}
	for _, one := range ends {
		if one.Number < unsettled {
			s.settled, s.settledSegment = one.Position, one.segment
		}
	}
	moved := s.known.home != "" && s.known.home != s.known.here
	brought := s.known.restored != nil && (s.known.seenAt == nil || s.known.restored.After(*s.known.seenAt)) // from a backup, since a replica was at work here
	s.Restored = moved && brought || len(s.Missing) > 0 && (moved || newest.Sub(evidence) > crashWithin)
	return nil
}

// young tells whether the act of an entry may be under way.
func (s *Survey) young(entry Entry) bool { return !s.cutoff.IsZero() && entry.At.After(s.cutoff) }

// Chunk is some entries that are to be carried out, those of each customer in their order.
type Chunk struct {
	Customers map[id.Customer][]Placed
	Count     int

	end     Position
	segment int64
	whole   bool // nothing up to its end is left open
}

// Chunks gives what has to be carried out, in order.
func (s *Survey) Chunks(ctx context.Context) iter.Seq2[Chunk, error] {
	return func(yield func(Chunk, error) bool) {
		next := func(whole bool) Chunk { return Chunk{Customers: make(map[id.Customer][]Placed), whole: whole} }
		chunk := next(true)
		for one, err := range follow(ctx, s.ledger.store, s.ledger.box, s.from) {
			if err != nil {
				yield(Chunk{}, away(err))
				return
			}
			if one.first > s.Head.Number {
				break // appended since
			}
			for i, entry := range one.entries {
				if _, applied := s.known.applied[entry.Number]; applied || !entry.hasEffect() || s.voided[entry.Number] {
					continue
				}
				if s.young(entry) {
					chunk.whole = false
					continue
				}
				placed := Placed{Entry: entry, Hash: one.hashes[i], Superseded: s.newest[entry.settles()] > entry.Number}
				chunk.Customers[entry.Customer] = append(chunk.Customers[entry.Customer], placed)
				chunk.Count++
			}
			chunk.end, chunk.segment = one.end(), one.first
			if chunk.Count >= chunkSize {
				if !yield(chunk, nil) {
					return
				}
				chunk = next(chunk.whole)
			}
		}
		if chunk.Count > 0 {
			yield(chunk, nil)
		}
	}
}

// Done brings the position forward behind a chunk that was carried out.
func (s *Survey) Done(ctx context.Context, db *postgres.DB, chunk Chunk) error {
	if !chunk.whole {
		return nil
	}
	return db.InPlatform(ctx, func(tx *postgres.Tx) error { return settle(tx, chunk.end, chunk.segment) })
}

// Settle brings the position forward as far as nothing is open, and writes down that the two were compared here and now. It is for a database that is not behind.
func (s *Survey) Settle(ctx context.Context, db *postgres.DB) error {
	return db.InPlatform(ctx, func(tx *postgres.Tx) error {
		if err := attend(tx); err != nil || s.settled.Number == s.known.through.Number {
			return err
		}
		return settle(tx, s.settled, s.settledSegment)
	})
}

// Accept takes the ledger as it is for the one that the database goes with, with everything applied, after a person has looked at a discrepancy. What the database has and the
// ledger lacks would not be carried out after another restore. It refuses a ledger that is broken, and a database that is merely behind.
func (l *Ledger) Accept(ctx context.Context, db *postgres.DB) (Check, error) {
	_, err := l.Survey(ctx, db)
	var wrong *Discrepancy
	if err == nil {
		return Check{}, errors.New("ledger: there is nothing to accept: the ledger and the database go together, and what is missing is carried out by steward serve")
	}
	if !errors.As(err, &wrong) {
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
		return Check{}, fmt.Errorf("ledger: a broken ledger is not accepted. Take the segments from %d on away and keep them elsewhere, or bring back what was there: %w", found.Fault.Segment, found.Fault)
	}
	return found, db.InPlatform(ctx, func(tx *postgres.Tx) error { return accept(tx, found.Ledger, found.Head, found.LastSegment) })
}

// Attend writes down that the database is at home where it is now, and alive.
func (s *Survey) Attend(ctx context.Context, db *postgres.DB) error {
	return db.InPlatform(ctx, attend)
}

// Position is the end of the ledger, as far as it is known without waiting for what is being appended. A ledger that was not begun is at 0: no service has been open.
func (l *Ledger) Position(ctx context.Context) (number int64, hash string, err error) {
	l.mu.Lock()
	head, known := l.head, l.known
	l.mu.Unlock()
	if !known {
		_, head, err = begin(ctx, l.store, l.box)
		if errors.Is(err, blob.ErrNotFound) {
			return 0, Position{}.Hash.String(), nil
		}
		if err != nil {
			return 0, "", err
		}
	}
	for one, err := range follow(ctx, l.store, l.box, head) {
		if err != nil {
			return 0, "", err
		}
		head = one.end()
	}
	return head.Number, head.Hash.String(), nil
}
