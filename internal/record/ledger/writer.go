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
	// for entries to be durable: the transaction that waits holds locks
	appendTimeout = 3 * time.Second
	writeTimeout  = 15 * time.Second       // of one attempt to write an object
	retryAfter    = 200 * time.Millisecond // after a failed attempt
	flushEvery    = time.Second            // for entries of AppendLater
	// while several append at once: an object costs more than the wait
	batchDelay = 300 * time.Microsecond
	queueSize  = 1024 // appends; more are refused
	// entries; a batch that has as many accepts no further append
	batchSize   = 2048
	appendLimit = 20_000 // entries of one append
	laterLimit  = 4096   // entries of AppendLater; more are dropped
)

// Ledger appends to one ledger and reads it. Safe for concurrent use.
type Ledger struct {
	store blob.Store
	box   *seal.Box
	now   clock.Clock
	log   *slog.Logger

	queue   chan *request
	stuck   atomic.Bool // the store does not accept writes now, so appends fail without waiting
	started chan struct{}
	stop    context.CancelFunc
	ended   chan struct{}

	mu     sync.Mutex
	head   Position // as far as this replica knows
	known  bool     // head is set
	broken error
	later  []Entry
}

// request is one append. Its entries stay together.
type request struct {
	entries   []Entry
	done      chan result
	abandoned atomic.Bool
}

type result struct {
	positions []Position
	err       error
}

// New opens the ledger in a store. It writes as soon as Survey has found the end of the ledger;
// until then appends wait. The caller calls Close.
func New(store blob.Store, box *seal.Box, now clock.Clock, log *slog.Logger) *Ledger {
	ctx, stop := context.WithCancel(context.Background())
	l := &Ledger{
		store: store, box: box, now: now, log: log, queue: make(chan *request, queueSize),
		started: make(chan struct{}), stop: stop, ended: make(chan struct{}),
	}
	go l.run(ctx)
	return l
}

// Close writes the remaining entries of AppendLater and stops. No append may be under way.
func (l *Ledger) Close() {
	l.stop()
	<-l.ended
}

// advanceHead records a position that the ledger has reached. The first call starts the writer.
func (l *Ledger) advanceHead(head Position) {
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
	f := fault.Because(cause, fault.ServiceUnavailable,
		"The ledger that survives a restore of the database cannot be written at the moment, so nothing was changed. "+
			"If it was written after all, the change follows within minutes. Try again in a moment.")
	f.RetryAfter = 5 * time.Second
	return f
}

// Append makes entries durable, at consecutive positions, and returns the positions. Concurrent
// appends share one object. It accepts at most 20,000 entries. After the fault ServiceUnavailable
// the entries may or may not have been written.
func (l *Ledger) Append(ctx context.Context, entries ...Entry) ([]Position, error) {
	if len(entries) > appendLimit {
		return nil, fmt.Errorf("ledger: %d entries in one append; the limit is %d", len(entries), appendLimit)
	}
	for _, entry := range entries {
		if err := entry.check(); err != nil {
			return nil, err
		}
	}
	if l.stuck.Load() {
		return nil, unavailable(errors.New("ledger: the store accepts no writes"))
	}
	r := &request{entries: entries, done: make(chan result, 1)}
	select {
	case l.queue <- r:
	default:
		return nil, unavailable(errors.New("ledger: the queue of appends is full"))
	}
	timeout := time.NewTimer(appendTimeout)
	defer timeout.Stop()
	select {
	case done := <-r.done:
		return done.positions, done.err
	case <-timeout.C:
		r.abandoned.Store(true)
		return nil, unavailable(errors.New("ledger: the store takes too long"))
	case <-ctx.Done():
		r.abandoned.Store(true)
		return nil, unavailable(ctx.Err())
	case <-l.ended:
		return nil, unavailable(errors.New("ledger: closed"))
	}
}

// AppendTx makes an entry durable just before the transaction commits, after all its other work,
// and records it as applied. It sets the time and the customer to those of the transaction. The
// entries of one transaction are written together.
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

// AppendLater writes an entry with the next append, or within about a second. Failures are not
// reported and at most 4,096 entries wait, so it is for entries that the ledger can do without.
func (l *Ledger) AppendLater(entry Entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.later) < laterLimit {
		l.later = append(l.later, entry)
	}
}

func (l *Ledger) drainLater() []Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	entries := l.later
	l.later = nil
	return entries
}

// run writes batch after batch. While one is written, the appends of the next one queue up.
func (l *Ledger) run(ctx context.Context) {
	defer close(l.ended)
	select {
	case <-l.started:
	case <-ctx.Done():
		return
	}
	ticker := time.NewTicker(flushEvery)
	defer ticker.Stop()
	concurrent := false // the previous batch had several appends
	for {
		var batch []*request
		select {
		case <-ctx.Done():
			flushing, cancel := context.WithTimeout(context.WithoutCancel(ctx), appendTimeout)
			defer cancel()
			l.write(flushing, nil, l.drainLater())
			return
		case first := <-l.queue:
			if concurrent {
				time.Sleep(batchDelay)
			}
			batch = l.collectBatch(first)
			concurrent = len(batch) > 1
		case <-ticker.C:
		}
		l.write(ctx, batch, l.drainLater())
	}
}

// collectBatch adds the queued appends to the first one, up to batchSize entries.
func (l *Ledger) collectBatch(first *request) []*request {
	batch, size := []*request{first}, len(first.entries)
	for size < batchSize {
		select {
		case next := <-l.queue:
			batch, size = append(batch, next), size+len(next.entries)
		default:
			return batch
		}
	}
	return batch
}

// write makes a batch durable. While it is unknown whether an attempt succeeded, the same object is
// retried: nothing else may take its place.
func (l *Ledger) write(ctx context.Context, batch []*request, later []Entry) {
	defer l.stuck.Store(false)
	for {
		batch = slices.DeleteFunc(batch, func(r *request) bool { return r.abandoned.Load() })
		if len(batch) == 0 && len(later) == 0 {
			return
		}
		l.mu.Lock()
		head, broken := l.head, l.broken
		l.mu.Unlock()
		if broken != nil {
			reply(batch, nil, unavailable(broken))
			return
		}
		var entries []Entry
		for _, r := range batch {
			entries = append(entries, r.entries...)
		}
		content, positions, err := encodeSegment(l.box, uuid.New(), head, append(entries, later...))
		if err != nil {
			reply(batch, nil, err)
			return
		}
		written, err := l.writeAfter(ctx, head, content)
		if err != nil {
			reply(batch, nil, unavailable(err))
			return
		}
		if written {
			l.advanceHead(positions[len(positions)-1])
			l.stuck.Store(false) // before a caller that gets its reply appends again
			reply(batch, positions, nil)
			return
		}
	}
}

func reply(batch []*request, positions []Position, err error) {
	for _, r := range batch {
		if err != nil {
			r.done <- result{err: err}
			continue
		}
		count := len(r.entries)
		r.done <- result{positions: positions[:count:count]}
		positions = positions[count:]
	}
}

// writeAfter creates the segment that follows the head, and retries until it knows the result. It
// reports false if another replica wrote that segment; the head is then advanced to the new end.
func (l *Ledger) writeAfter(ctx context.Context, head Position, content []byte) (written bool, err error) {
	name := segmentName(head.Number + 1)
	for first := true; ; first = false {
		attempt, cancel := context.WithTimeout(ctx, writeTimeout)
		stuck := time.AfterFunc(appendTimeout, func() { l.stuck.Store(true) })
		err := l.store.Create(attempt, name, bytes.NewReader(content))
		stuck.Stop()
		cancel()
		switch {
		case err == nil:
			return true, nil
		case errors.Is(err, blob.ErrExists):
			return l.resolveConflict(ctx, head, name, content)
		case ctx.Err() != nil:
			return false, err
		}
		l.stuck.Store(true)
		if first {
			l.log.Error(
				"the ledger cannot be written; erasures, corrections and revocations fail until it can",
				"error",
				err,
			)
		}
		select {
		case <-time.After(retryAfter):
		case <-ctx.Done():
			return false, err
		}
	}
}

// resolveConflict reads the segment that exists where ours was to be written. It may be ours, from
// an attempt whose success was not reported; otherwise the head is advanced to the end of the
// ledger.
func (l *Ledger) resolveConflict(
	ctx context.Context,
	head Position,
	name string,
	content []byte,
) (ours bool, err error) {
	existing, err := readObject(ctx, l.store, name)
	if err != nil {
		return false, err
	}
	if bytes.Equal(existing, content) {
		return true, nil
	}
	for s, err := range segmentsAfter(ctx, l.store, l.box, head) {
		var broken *Broken
		if errors.As(err, &broken) {
			l.mu.Lock()
			l.broken = err
			l.mu.Unlock()
			l.log.Error("the ledger was altered; review it with steward ledger verify", "error", err)
		}
		if err != nil {
			return false, err
		}
		l.advanceHead(s.end())
	}
	return false, nil
}
