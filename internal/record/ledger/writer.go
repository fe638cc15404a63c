package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/fusionspim/steward/internal/base/clock"
	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/infra/blob"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/infra/seal"
)

const (
	patience    = 3 * time.Second        // of a transaction that waits for its entries to be durable, holding its locks
	writeWithin = 15 * time.Second       // of one attempt to write an object
	retryAfter  = 200 * time.Millisecond // when an attempt failed
	linger      = time.Second            // of entries that nobody waits for
	gathering   = 300 * time.Microsecond // of a batch, while several append at once: an object costs more than the wait
	mostWaiting = 1024                   // appends; more are refused
	batchSize   = 2048                   // entries, from which on a batch takes no further append
	largest     = 20_000                 // entries of one append
	mostLater   = 4096                   // entries that nobody waits for
)

// Ledger appends to one ledger and reads it. Safe for concurrent use.
type Ledger struct {
	store blob.Store
	box   *seal.Box
	now   clock.Clock
	log   *slog.Logger

	waiting chan *request
	stuck   atomic.Bool // the store takes nothing just now, so nobody needs to wait to find out
	started chan struct{}
	stop    context.CancelFunc
	ended   chan struct{}

	mu     sync.Mutex
	head   Position // as far as this replica knows
	known  bool
	broken error
	later  []Entry
}

// request is the entries of one append, which stay together.
type request struct {
	entries   []Entry
	done      chan outcome
	abandoned atomic.Bool
}

type outcome struct {
	positions []Position
	err       error
}

// New makes a ledger in a store. It appends once Survey has found out where the ledger ends. Close ends it.
func New(store blob.Store, box *seal.Box, now clock.Clock, log *slog.Logger) *Ledger {
	ctx, stop := context.WithCancel(context.Background())
	l := &Ledger{
		store: store, box: box, now: now, log: log, waiting: make(chan *request, mostWaiting), started: make(chan struct{}), stop: stop, ended: make(chan struct{}),
	}
	go l.run(ctx)
	return l
}

// Close writes what nobody waited for and ends. Nobody may be appending any more.
func (l *Ledger) Close() {
	l.stop()
	<-l.ended
}

// reached notes a position that the ledger has at least.
func (l *Ledger) reached(head Position) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.known || head.Number > l.head.Number {
		l.head = head
	}
	if !l.known {
		l.known = true
		close(l.started)
	}
}

// Head is the newest position that this replica knows of.
func (l *Ledger) Head() Position {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.head
}

func unavailable(cause error) error {
	f := fault.Because(cause, fault.ServiceUnavailable, "The record that outlives a restore of the database cannot be written just now, so nothing was changed. "+
		"If it was written after all, what was ordered is carried out within minutes. Try again in a moment.")
	f.RetryAfter = 5 * time.Second
	return f
}

// Append makes entries durable, next to each other, and returns where they are. Many appends at once share one object. The fault ServiceUnavailable leaves it open whether
// the entries are there.
func (l *Ledger) Append(ctx context.Context, entries ...Entry) ([]Position, error) {
	if len(entries) > largest {
		return nil, fmt.Errorf("ledger: %d entries at once; %d is the most", len(entries), largest)
	}
	for _, entry := range entries {
		if err := entry.check(); err != nil {
			return nil, err
		}
	}
	if l.stuck.Load() {
		return nil, unavailable(errors.New("ledger: the store takes nothing"))
	}
	asked := &request{entries: entries, done: make(chan outcome, 1)}
	select {
	case l.waiting <- asked:
	default:
		return nil, unavailable(errors.New("ledger: too many are waiting"))
	}
	patient := time.NewTimer(patience)
	defer patient.Stop()
	select {
	case done := <-asked.done:
		return done.positions, done.err
	case <-patient.C:
		asked.abandoned.Store(true)
		return nil, unavailable(errors.New("ledger: the store takes too long"))
	case <-ctx.Done():
		asked.abandoned.Store(true)
		return nil, unavailable(ctx.Err())
	case <-l.ended:
		return nil, unavailable(errors.New("ledger: closed"))
	}
}

// AppendTx makes an entry durable at the end of a transaction, when everything else of it is done, and has the database remember it as applied. Time and customer are the
// transaction's. Entries of one transaction are written together.
func (l *Ledger) AppendTx(tx *postgres.Tx, entry Entry) error {
	entry.At, entry.Customer = tx.Now, tx.Customer
	if err := entry.check(); err != nil {
		return err
	}
	return tx.BeforeCommit(l, entry, func(tx *postgres.Tx, things []any) error {
		entries := make([]Entry, len(things))
		for i, thing := range things {
			entries[i] = thing.(Entry)
		}
		positions, err := l.Append(context.Background(), entries...)
		if err != nil {
			return err
		}
		return insertApplied(tx, positions)
	})
}

// AppendLater has an entry written with the next ones, or soon. Nobody learns whether it was, so it is for what is only good to know.
func (l *Ledger) AppendLater(entry Entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.later) < mostLater {
		l.later = append(l.later, entry)
	}
}

func (l *Ledger) takeLater() []Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	taken := l.later
	l.later = nil
	return taken
}

// run writes batch after batch. While one is being written, the next one gathers.
func (l *Ledger) run(ctx context.Context) {
	defer close(l.ended)
	select {
	case <-l.started:
	case <-ctx.Done():
		return
	}
	ticker := time.NewTicker(linger)
	defer ticker.Stop()
	crowded := false // several were in the batch before
	for {
		var batch []*request
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
			defer cancel()
			l.write(last, nil, l.takeLater())
			return
		case first := <-l.waiting:
			if crowded {
				time.Sleep(gathering)
			}
			batch = l.gather(first)
			crowded = len(batch) > 1
		case <-ticker.C:
		}
		l.write(ctx, batch, l.takeLater())
	}
}

func (l *Ledger) gather(first *request) []*request {
	batch, size := []*request{first}, len(first.entries)
	for size < batchSize {
		select {
		case next := <-l.waiting:
			batch, size = append(batch, next), size+len(next.entries)
		default:
			return batch
		}
	}
	return batch
}

// write makes a batch durable. As long as it is unknown whether an attempt succeeded, the very same object is tried again: nothing else may come in its place.
func (l *Ledger) write(ctx context.Context, batch []*request, later []Entry) {
	defer l.stuck.Store(false)
	for {
		batch = slices.DeleteFunc(batch, func(one *request) bool { return one.abandoned.Load() })
		if len(batch) == 0 && len(later) == 0 {
			return
		}
		l.mu.Lock()
		head, failed := l.head, l.broken
		l.mu.Unlock()
		if failed != nil {
			answer(batch, nil, unavailable(failed))
			return
		}
		var entries []Entry
		for _, one := range batch {
			entries = append(entries, one.entries...)
		}
		content, positions, err := compose(l.box, uuid.New(), head, append(entries, later...))
		if err != nil {
			answer(batch, nil, err)
			return
		}
		won, err := l.put(ctx, head, content)
		if err != nil {
			answer(batch, nil, unavailable(err))
			return
		}
		if won {
			l.reached(positions[len(positions)-1])
			l.stuck.Store(false) // before whoever is answered appends again
			answer(batch, positions, nil)
			return
		}
	}
}

func answer(batch []*request, positions []Position, err error) {
	for _, one := range batch {
		if err != nil {
			one.done <- outcome{err: err}
			continue
		}
		count := len(one.entries)
		one.done <- outcome{positions: positions[:count:count]}
		positions = positions[count:]
	}
}

// put creates the object behind the head. It tells false when another replica's is there, and then the head is behind that one.
func (l *Ledger) put(ctx context.Context, head Position, content []byte) (won bool, err error) {
	name := segmentName(head.Number + 1)
	for first := true; ; first = false {
		attempt, cancel := context.WithTimeout(ctx, writeWithin)
		stuck := time.AfterFunc(patience, func() { l.stuck.Store(true) })
		err := l.store.Create(attempt, name, bytes.NewReader(content))
		stuck.Stop()
		cancel()
		switch {
		case err == nil:
			return true, nil
		case errors.Is(err, blob.ErrExists):
			return l.meet(ctx, head, name, content)
		case ctx.Err() != nil:
			return false, err
		}
		l.stuck.Store(true)
		if first {
			l.log.Error("the ledger cannot be written; nothing is erased, corrected or revoked until it can", "error", err)
		}
		select {
		case <-time.After(retryAfter):
		case <-ctx.Done():
			return false, err
		}
	}
}

// meet looks at an object that is where ours was to be: it may be ours, from an attempt whose success did not become known.
func (l *Ledger) meet(ctx context.Context, head Position, name string, content []byte) (won bool, err error) {
	there, err := read(ctx, l.store, name)
	if err != nil {
		return false, err
	}
	if bytes.Equal(there, content) {
		return true, nil
	}
	for one, err := range follow(ctx, l.store, l.box, head) {
		var broken *Broken
		if errors.As(err, &broken) {
			l.mu.Lock()
			l.broken = err
			l.mu.Unlock()
			l.log.Error("the ledger is not as it was written; a person has to look: steward ledger verify", "error", err)
		}
		if err != nil {
			return false, err
		}
		l.reached(one.end())
	}
	return false, nil
}
