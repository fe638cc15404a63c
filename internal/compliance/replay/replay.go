// Package replay carries out once more what a restore of the database has lost, or a crash has left open.
//
// Owns: the order in which that is done, what of before a restore is dropped, the list of what was done, and telling a customer's administrators of corrections that are lost.
// Does not own: what is to be carried out (ledger), how each act is (the features, by the code that did it the first time), and keeping the service closed (app).
//
// Everything here may be broken off and begun anew: each entry is carried out in the transaction that remembers it as applied.
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

// Runner carries entries out once more. Safe for concurrent use.
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

// New makes a conductor. The stores are all that there are; some are dropped after a restore.
func New(db *postgres.DB, customers *customer.Service, users *user.Service, links *passwordlink.Service, offboardings *offboarding.Service, queue *jobs.Queue, mailing mailjob.Mailing,
	stores []postgres.Store,
) *Runner {
	return &Runner{db: db, customers: customers, users: users, links: links, offboardings: offboardings, queue: queue, mailing: mailing, stores: stores}
}

// Replay is one time that entries were carried out again, by one replica.
type Replay struct {
	ID         id.Replay
	StartedAt  time.Time
	FinishedAt *time.Time // nil: it goes on, or was broken off and another one went on
	Restored   bool       // an earlier state of the database had been brought back; otherwise a crash had left something open
	From, To   int64      // what was looked at: the entries behind the first number, up to the second
	Outcomes   map[ledger.Kind]map[ledger.Outcome]int
	Dropped    map[string]int64 // of before the restore, by store
}

// Entries is how many were carried out, or found to be carried out.
func (r Replay) Entries() (count int) {
	for _, of := range r.Outcomes {
		for _, one := range of {
			count += one
		}
	}
	return count
}

// LostCorrections is how many people were marked because a correction of them is lost.
func (r Replay) LostCorrections() int { return r.Outcomes[ledger.Correction][ledger.Done] }

// LogValue implements slog.LogValuer.
func (r Replay) LogValue() slog.Value {
	attributes := []slog.Attr{slog.String("id", r.ID.String()), slog.Int("entries", r.Entries()), slog.Bool("restored", r.Restored)}
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

// List returns what was carried out again, newest first: at most limit of those before the one named, or from the newest on.
func (c *Runner) List(ctx context.Context, before id.Replay, limit int) (replays []Replay, err error) {
	err = c.db.InPlatform(ctx, func(tx *postgres.Tx) error {
		replays, err = list(tx, before, limit)
		return err
	})
	return replays, err
}

// Run carries out what a survey found missing. After a restore, everything that stood for a moment of before is dropped first: sessions, mailed links, remembered answers,
// jobs that are not done, and mails about alerts that are not sent. What is done is written down as it goes, and at its end in the trail of Fusions.
func (c *Runner) Run(ctx context.Context, survey *ledger.Survey) (made Replay, err error) {
	made = Replay{
		ID: id.New[id.Replay](), StartedAt: c.db.Now(), Restored: survey.Restored, From: survey.AppliedThrough(), To: survey.Head.Number, Outcomes: make(outcomes), Dropped: map[string]int64{},
	}
	noted := func() error { // only once there is something to tell, for what fails at once is tried again and again
		return c.db.InPlatform(ctx, func(tx *postgres.Tx) error { return keep(tx, made) })
	}
	if survey.Restored {
		if made.Dropped, err = c.drop(ctx); err != nil {
			return made, err
		}
		if err := survey.RecordOrigin(ctx, c.db); err != nil { // so that what follows is not dropped again, should this be broken off
			return made, err
		}
		if err := noted(); err != nil {
			return made, err
		}
	}
	for chunk, err := range survey.Chunks(ctx) {
		if err != nil {
			return made, err
		}
		if err := c.carryOut(ctx, chunk, &made); err != nil {
			if made.Entries() > 0 {
				err = errors.Join(err, noted())
			}
			return made, err
		}
		if err := survey.AdvancePast(ctx, c.db, chunk); err != nil {
			return made, err
		}
		if err := noted(); err != nil {
			return made, err
		}
	}
	if err := c.record(ctx, made); err != nil {
		return made, err
	}
	made.FinishedAt = new(c.db.Now())
	if made.FinishedAt.Before(made.StartedAt) { // the clock was set back meanwhile
		made.FinishedAt = &made.StartedAt
	}
	return made, noted()
}

// record has the trail of Fusions tell of a replay. Each act is in the trail of its customer besides.
func (c *Runner) record(ctx context.Context, made Replay) error {
	operators, known, err := c.customers.Find(ctx, customer.OperatorsSlug)
	if err != nil || !known {
		return err
	}
	cause := "crash"
	if made.Restored {
		cause = "restore"
	}
	return c.db.InCustomer(ctx, operators.ID, func(tx *postgres.Tx) error {
		return audit.AppendTx(tx, audit.Act{
			Caller: principal.Principal{Customer: operators.ID}, Action: audit.LedgerReplayed, Target: audit.OnReplay(made.ID),
			Details: map[string]any{"cause": cause, "entries": made.Entries(), "lost_corrections": made.LostCorrections(), "ledger_from": made.From, "ledger_to": made.To},
		})
	})
}

// carryOut does the entries of each customer in their order, and several customers at once.
func (c *Runner) carryOut(ctx context.Context, chunk ledger.Chunk, made *Replay) error {
	type work struct {
		of      id.Customer
		entries []ledger.NumberedEntry
	}
	todo := make(chan work, len(chunk.Customers))
	for of, entries := range chunk.Customers {
		todo <- work{of, entries}
	}
	close(todo)
	var mu sync.Mutex
	var failed error
	var group sync.WaitGroup
	for range min(workers, len(chunk.Customers)) {
		group.Go(func() {
			for one := range todo {
				for entries := range slices.Chunk(one.entries, batch) {
					outcomes, err := c.carryOutFor(ctx, one.of, entries)
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

// outcome is what became of one entry.
type outcome struct {
	kind ledger.Kind
	is   ledger.Outcome
}

func (r *Replay) add(outcomes []outcome) {
	for _, one := range outcomes {
		if r.Outcomes[one.kind] == nil {
			r.Outcomes[one.kind] = make(map[ledger.Outcome]int)
		}
		r.Outcomes[one.kind][one.is]++
	}
}

// carryOutFor does some entries of one customer in one transaction. Where one of them is the end of the customer, it alone is carried out, in as many transactions as it takes: what the others
// are about is deleted with everything else.
func (c *Runner) carryOutFor(ctx context.Context, of id.Customer, entries []ledger.NumberedEntry) (outcomes []outcome, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	ends := make(map[int64]ledger.Outcome)
	for _, entry := range entries {
		if entry.Kind == ledger.Offboarding {
			if ends[entry.Number], err = c.offboardings.Again(ctx, entry.Entry); err != nil {
				return nil, err
			}
		}
	}
	err = c.db.InCustomer(ctx, of, func(tx *postgres.Tx) error {
		outcomes = outcomes[:0]
		if err := customer.LockTx(tx); err != nil {
			return err
		}
		open, err := ledger.UnappliedTx(tx, entries)
		if err != nil {
			return err
		}
		_, missing := customer.GetTx(tx)
		gone := fault.Is(missing, fault.ResourceNotFound) // or not there yet
		if missing != nil && !gone {
			return missing
		}
		lost := false
		if len(ends) > 0 || gone {
			for _, entry := range open {
				is, ended := ends[entry.Number]
				switch {
				case ended:
				case gone && len(ends) == 0:
					is = ledger.Absent
				default:
					is = ledger.Superseded
				}
				outcomes = append(outcomes, outcome{entry.Kind, is})
			}
			return ledger.MarkAppliedTx(tx, open)
		}
		for _, wave := range waves(open) {
			became, err := c.replay(tx, wave)
			if err != nil {
				return err
			}
			for i, entry := range wave {
				outcomes = append(outcomes, outcome{entry.Kind, became[i]})
				lost = lost || entry.Kind == ledger.Correction && became[i] == ledger.Done
			}
		}
		if lost {
			if err := c.tell(tx); err != nil {
				return err
			}
		}
		return ledger.MarkAppliedTx(tx, open)
	})
	return outcomes, err
}

// waves splits the entries of a customer into parts that are carried out one after the other. The first has the first entry on each subject, the second what is next on
// it, and so on: what is to be done to one does not depend on what is done to another, and a part takes few round trips however much is in it.
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

// replay carries out entries of which each is on somebody, or on something, of its own.
func (c *Runner) replay(tx *postgres.Tx, entries []ledger.NumberedEntry) ([]ledger.Outcome, error) {
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
	became, err := c.users.ReplayTx(tx, people)
	if err != nil {
		return nil, err
	}
	for i, entry := range people {
		outcomes[places[i]] = became[i]
		if entry.Kind != ledger.CredentialsChanged || became[i] != ledger.Done {
			continue
		}
		// The newer ones are lost and the older ones must not be good again. Whoever reads the mailbox sets new ones.
		if _, err := secondfactor.RemoveTx(tx, entry.User()); err != nil {
			return nil, err
		}
		if err := c.links.ResetTx(tx, entry.User()); err != nil {
			return nil, err
		}
	}
	return outcomes, nil
}

// drop removes what stood for a moment of before the restore.
func (c *Runner) drop(ctx context.Context) (dropped map[string]int64, err error) {
	dropped = make(map[string]int64)
	for _, store := range inventory.ForDropping(c.stores) {
		drop := store.Restore.Drop
		if drop == nil {
			drop = func(ctx context.Context, db *postgres.DB) (int64, error) { return dropAll(ctx, db, store) }
		}
		if dropped[store.DroppedAs()], err = drop(ctx, c.db); err != nil {
			return dropped, err
		}
	}
	return dropped, nil
}

// dropAll sweeps a store as if everything were past its time, and returns how much it was.
func dropAll(ctx context.Context, db *postgres.DB, store postgres.Store) (dropped int64, err error) {
	end := time.Unix(math.MaxInt32*100, 0).UTC() // the year 8775
	for _, sweep := range store.Keep.Sweeps {
		for count := int64(dropBatch); count >= dropBatch; dropped += count {
			if count, err = postgres.Platform(ctx, db, func(tx *postgres.Tx) (int64, error) { return sweep(tx, end, dropBatch) }); err != nil {
				return dropped, err
			}
		}
	}
	return dropped, nil
}
