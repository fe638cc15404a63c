// Package replay replays entries of the ledger that a restore of the database has lost, or that a
// crash has left unapplied.
//
// Owns: the order of the entries, what is dropped after a restore, the list of replays, and
// notifying a customer's administrators of corrections that are lost.
// Does not own: which entries are missing (ledger), how each is applied (the features), and keeping
// the service closed meanwhile (app).
//
// A replay can be interrupted and started again at any time: each entry is applied in the
// transaction that records it as applied.
package replay

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/fusionspim/steward/internal/account/apikey"
	"github.com/fusionspim/steward/internal/account/customer"
	"github.com/fusionspim/steward/internal/account/passwordlink"
	"github.com/fusionspim/steward/internal/account/secondfactor"
	"github.com/fusionspim/steward/internal/account/user"
	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/inventory"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/compliance/offboarding"
	"github.com/fusionspim/steward/internal/compliance/subjectrequest"
	"github.com/fusionspim/steward/internal/infra/jobs"
	"github.com/fusionspim/steward/internal/infra/mailjob"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/record/audit"
	"github.com/fusionspim/steward/internal/record/ledger"
)

const (
	batch     = 200 // entries of one customer in one transaction
	workers   = 4   // customers at once
	dropBatch = 5000
)

// Runner replays entries. Safe for concurrent use.
type Runner struct {
	db           *postgres.DB
	customers    *customer.Service
	users        *user.Service
	links        *passwordlink.Service
	offboardings *offboarding.Service
	queue        *jobs.Queue
	mailing      mailjob.Mailing
	stores       []postgres.Store
}

// New returns a runner. The stores are those of the whole service: after a restore, rows are
// dropped as their declarations say.
func New(
	db *postgres.DB, customers *customer.Service, users *user.Service, links *passwordlink.Service,
	offboardings *offboarding.Service, queue *jobs.Queue, mailing mailjob.Mailing, stores []postgres.Store,
) *Runner {
	return &Runner{
		db: db, customers: customers, users: users, links: links, offboardings: offboardings, queue: queue,
		mailing: mailing, stores: stores,
	}
}

// Replay is one run over missing entries, by one replica.
type Replay struct {
	ID         id.Replay
	StartedAt  time.Time
	FinishedAt *time.Time // nil: it is running, or was interrupted and another one continued
	Restored   bool       // the database was restored; otherwise a crash had left entries unapplied
	From, To   int64      // the numbers of the entries: after From, up to and including To
	Outcomes   map[ledger.Kind]map[ledger.Outcome]int
	Dropped    map[string]int64 // rows that were dropped, by store
}

// Entries returns how many entries were replayed, whatever their outcome.
func (r Replay) Entries() (count int) {
	for _, outcomes := range r.Outcomes {
		for _, n := range outcomes {
			count += n
		}
	}
	return count
}

// LostCorrections returns how many users were marked because a correction of theirs is lost.
func (r Replay) LostCorrections() int { return r.Outcomes[ledger.Correction][ledger.Done] }

// LogValue implements slog.LogValuer.
func (r Replay) LogValue() slog.Value {
	attributes := []slog.Attr{
		slog.String("id", r.ID.String()), slog.Int("entries", r.Entries()), slog.Bool("restored", r.Restored),
	}
	if r.FinishedAt != nil {
		attributes = append(attributes, slog.Float64("seconds", r.FinishedAt.Sub(r.StartedAt).Seconds()))
	}
	for _, kind := range slices.Sorted(maps.Keys(r.Outcomes)) {
		for _, outcome := range slices.Sorted(maps.Keys(r.Outcomes[kind])) {
			attributes = append(attributes, slog.Int(string(kind)+"."+string(outcome), r.Outcomes[kind][outcome]))
		}
	}
	for _, store := range slices.Sorted(maps.Keys(r.Dropped)) {
		attributes = append(attributes, slog.Int64("dropped."+store, r.Dropped[store]))
	}
	return slog.GroupValue(attributes...)
}

// List returns the replays, newest first: at most limit of those older than before, or of all where
// before is zero.
func (r *Runner) List(ctx context.Context, before id.Replay, limit int) ([]Replay, error) {
	return postgres.Platform(ctx, r.db, func(tx *postgres.Tx) ([]Replay, error) { return list(tx, before, limit) })
}

// Run replays the entries that a survey found missing. After a restore, it first drops what was
// valid for a short time before it: sessions, mailed links, idempotency answers, unfinished jobs,
// and unsent mails about alerts. The progress is stored, and at the end the trail of Fusions
// records the replay.
func (r *Runner) Run(ctx context.Context, survey *ledger.Survey) (made Replay, err error) {
	made = Replay{
		ID: id.New[id.Replay](), StartedAt: r.db.Now(), Restored: survey.Restored,
		From: survey.AppliedThrough(), To: survey.Head.Number,
		Outcomes: make(outcomes), Dropped: map[string]int64{},
	}
	// It is first saved after some progress: what fails at once is retried again and again.
	saveProgress := func() error {
		return r.db.InPlatform(ctx, func(tx *postgres.Tx) error { return save(tx, made) })
	}
	if survey.Restored {
		if made.Dropped, err = r.drop(ctx); err != nil {
			return made, err
		}
		// From here on, an interruption does not drop rows again that were added since.
		if err := survey.RecordOrigin(ctx, r.db); err != nil {
			return made, err
		}
		if err := saveProgress(); err != nil {
			return made, err
		}
	}
	for chunk, err := range survey.Chunks(ctx) {
		if err != nil {
			return made, err
		}
		if err := r.replayChunk(ctx, chunk, &made); err != nil {
			if made.Entries() > 0 {
				err = errors.Join(err, saveProgress())
			}
			return made, err
		}
		if err := survey.AdvancePast(ctx, r.db, chunk); err != nil {
			return made, err
		}
		if err := saveProgress(); err != nil {
			return made, err
		}
	}
	if err := r.record(ctx, made); err != nil {
		return made, err
	}
	made.FinishedAt = new(r.db.Now())
	if made.FinishedAt.Before(made.StartedAt) { // the clock was set back meanwhile
		made.FinishedAt = &made.StartedAt
	}
	return made, saveProgress()
}

// record records a replay in the trail of Fusions. Each entry is also recorded in the trail of its
// customer.
func (r *Runner) record(ctx context.Context, made Replay) error {
	operators, exists, err := r.customers.Find(ctx, customer.OperatorsSlug)
	if err != nil || !exists {
		return err
	}
	cause := "crash"
	if made.Restored {
		cause = "restore"
	}
	return r.db.InCustomer(ctx, operators.ID, func(tx *postgres.Tx) error {
		return audit.AppendTx(tx, audit.Act{
			Caller: principal.Principal{Customer: operators.ID},
			Action: audit.LedgerReplayed, Target: audit.OnReplay(made.ID),
			Details: map[string]any{
				"cause": cause, "entries": made.Entries(), "lost_corrections": made.LostCorrections(),
				"ledger_from": made.From, "ledger_to": made.To,
			},
		})
	})
}

// replayChunk replays the entries of each customer in their order, and several customers at once.
func (r *Runner) replayChunk(ctx context.Context, chunk ledger.Chunk, made *Replay) error {
	type work struct {
		of      id.Customer
		entries []ledger.NumberedEntry
	}
	queue := make(chan work, len(chunk.Customers))
	for of, entries := range chunk.Customers {
		queue <- work{of, entries}
	}
	close(queue)
	var mu sync.Mutex
	var failed error
	var group sync.WaitGroup
	for range min(workers, len(chunk.Customers)) {
		group.Go(func() {
			for w := range queue {
				for entries := range slices.Chunk(w.entries, batch) {
					outcomes, err := r.replayBatch(ctx, w.of, entries)
					mu.Lock()
					if err != nil && failed == nil {
						failed = err
					}
					stop := failed != nil
					if err == nil {
						made.add(outcomes)
					}
					mu.Unlock()
					if stop {
						return
					}
				}
			}
		})
	}
	group.Wait()
	if failed == nil {
		failed = ctx.Err()
	}
	return failed
}

// outcome is the outcome of one entry.
type outcome struct {
	kind ledger.Kind
	is   ledger.Outcome
}

func (r *Replay) add(outcomes []outcome) {
	for _, o := range outcomes {
		if r.Outcomes[o.kind] == nil {
			r.Outcomes[o.kind] = make(map[ledger.Outcome]int)
		}
		r.Outcomes[o.kind][o.is]++
	}
}

// replayBatch replays some entries of one customer in one transaction. Where one of them is the
// deletion of the customer, only that one is replayed, in as many transactions as it takes: what
// the others are about is deleted with it.
func (r *Runner) replayBatch(
	ctx context.Context, of id.Customer, entries []ledger.NumberedEntry,
) (outcomes []outcome, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	deletions := make(map[int64]ledger.Outcome)
	for _, entry := range entries {
		if entry.Kind == ledger.Offboarding {
			if deletions[entry.Number], err = r.offboardings.Replay(ctx, entry.Entry); err != nil {
				return nil, err
			}
		}
	}
	return postgres.Write(ctx, r.db, of, func(tx *postgres.Tx) ([]outcome, error) {
		if err := customer.LockTx(tx); err != nil {
			return nil, err
		}
		open, err := ledger.UnappliedTx(tx, entries)
		if err != nil {
			return nil, err
		}
		_, err = customer.GetTx(tx)
		// or the database is older than the customer
		absent := fault.Is(err, fault.ResourceNotFound)
		if err != nil && !absent {
			return nil, err
		}
		var outcomes []outcome
		if len(deletions) > 0 || absent {
			outcomes = outcomesWithout(open, deletions)
		} else if outcomes, err = r.replayInWaves(tx, open); err != nil {
			return nil, err
		}
		return outcomes, ledger.MarkAppliedTx(tx, open)
	})
}

// outcomesWithout returns the outcomes of entries of a customer that does not exist, or of which
// deletions were replayed.
func outcomesWithout(entries []ledger.NumberedEntry, deletions map[int64]ledger.Outcome) (outcomes []outcome) {
	for _, entry := range entries {
		is, ok := deletions[entry.Number]
		switch {
		case ok:
		case len(deletions) == 0:
			is = ledger.Absent
		default:
			is = ledger.Superseded
		}
		outcomes = append(outcomes, outcome{entry.Kind, is})
	}
	return outcomes
}

// replayInWaves replays entries, and notifies the customer's administrators of corrections that are
// lost.
func (r *Runner) replayInWaves(tx *postgres.Tx, entries []ledger.NumberedEntry) (outcomes []outcome, err error) {
	lost := false
	for _, wave := range waves(entries) {
		ofWave, err := r.replay(tx, wave)
		if err != nil {
			return nil, err
		}
		for i, entry := range wave {
			outcomes = append(outcomes, outcome{entry.Kind, ofWave[i]})
			lost = lost || entry.Kind == ledger.Correction && ofWave[i] == ledger.Done
		}
	}
	if lost {
		err = r.notify(tx)
	}
	return outcomes, err
}

// waves splits the entries of a customer into parts that are replayed one after the other. The
// first part has the first entry on each subject, the second part the next, and so on: entries on
// different subjects are independent, and a part takes few round trips whatever its size.
func waves(entries []ledger.NumberedEntry) (parts [][]ledger.NumberedEntry) {
	depth := make(map[uuid.UUID]int)
	for _, entry := range entries {
		at := depth[entry.Subject]
		depth[entry.Subject]++
		if at == len(parts) {
			parts = append(parts, nil)
		}
		parts[at] = append(parts[at], entry)
	}
	return parts
}

// replay replays entries on different subjects.
func (r *Runner) replay(tx *postgres.Tx, entries []ledger.NumberedEntry) ([]ledger.Outcome, error) {
	outcomes := make([]ledger.Outcome, len(entries))
	var people []ledger.Entry
	var places []int
	for i, entry := range entries {
		switch {
		case entry.Superseded:
			outcomes[i] = ledger.Superseded
		case entry.Kind == ledger.APIKeyRevoked || entry.Kind == ledger.APIKeyEnds:
			var err error
			if outcomes[i], err = apikey.ReplayTx(tx, entry.Entry); err != nil {
				return nil, err
			}
		case entry.Kind == ledger.BundleCollected:
			var err error
			if outcomes[i], err = subjectrequest.ReplayTx(tx, entry.Entry); err != nil {
				return nil, err
			}
		default:
			people, places = append(people, entry.Entry), append(places, i)
		}
	}
	if len(people) == 0 {
		return outcomes, nil
	}
	ofPeople, err := r.users.ReplayTx(tx, people)
	if err != nil {
		return nil, err
	}
	for i, entry := range people {
		outcomes[places[i]] = ofPeople[i]
		if entry.Kind != ledger.CredentialsChanged || ofPeople[i] != ledger.Done {
			continue
		}
		// The newer credentials are lost and the older ones must not be valid again. The owner of
		// the mailbox sets new ones.
		if _, err := secondfactor.RemoveTx(tx, entry.User()); err != nil {
			return nil, err
		}
		if err := r.links.ResetTx(tx, entry.User()); err != nil {
			return nil, err
		}
	}
	return outcomes, nil
}

// drop drops what was valid for a short time before the restore. It returns how many rows, by
// store.
func (r *Runner) drop(ctx context.Context) (dropped map[string]int64, err error) {
	dropped = make(map[string]int64)
	for _, store := range inventory.ForDropping(r.stores) {
		drop := store.Restore.Drop
		if drop == nil {
			drop = func(ctx context.Context, db *postgres.DB) (int64, error) { return dropAll(ctx, db, store) }
		}
		if dropped[store.DroppedAs()], err = drop(ctx, r.db); err != nil {
			return dropped, err
		}
	}
	return dropped, nil
}

// dropAll sweeps a store as if every row had expired, and returns how many there were.
func dropAll(ctx context.Context, db *postgres.DB, store postgres.Store) (dropped int64, err error) {
	end := time.Unix(math.MaxInt32*100, 0).UTC() // the year 8775
	for _, sweep := range store.Keep.Sweeps {
		for count := int64(dropBatch); count >= dropBatch; dropped += count {
			count, err = postgres.Platform(ctx, db, func(tx *postgres.Tx) (int64, error) {
				return sweep(tx, end, dropBatch)
			})
			if err != nil {
				return dropped, err
			}
		}
	}
	return dropped, nil
}
