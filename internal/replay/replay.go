// Package replay carries out once more what a restore of the database has lost, or a crash has left open.
//
// Owns: the order in which that is done, what of before a restore is dropped, the report, and telling a customer's administrators of corrections that are lost.
// Does not own: what is to be carried out (ledger), how each act is (the features, by the code that did it the first time), and keeping the service closed (app).
//
// Everything here may be broken off and begun anew: each entry is carried out in the transaction that remembers it as applied.
package replay

import (
	"context"
	"log/slog"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/fusionspim/steward/internal/apikey"
	"github.com/fusionspim/steward/internal/customer"
	"github.com/fusionspim/steward/internal/fault"
	"github.com/fusionspim/steward/internal/id"
	"github.com/fusionspim/steward/internal/idempotency"
	"github.com/fusionspim/steward/internal/jobs"
	"github.com/fusionspim/steward/internal/ledger"
	"github.com/fusionspim/steward/internal/offboarding"
	"github.com/fusionspim/steward/internal/passwordlink"
	"github.com/fusionspim/steward/internal/postgres"
	"github.com/fusionspim/steward/internal/secondfactor"
	"github.com/fusionspim/steward/internal/session"
	"github.com/fusionspim/steward/internal/user"
)

const (
	batch     = 200 // entries of one customer in one transaction
	workers   = 4   // customers at once
	dropBatch = 5000
)

// Conductor carries entries out once more. Safe for concurrent use.
type Conductor struct {
	db           *postgres.DB
	users        *user.Service
	links        *passwordlink.Service
	offboardings *offboarding.Service
	queue        *jobs.Queue
	mailing      passwordlink.Mailing
	log          *slog.Logger
}

// New makes a conductor.
func New(db *postgres.DB, users *user.Service, links *passwordlink.Service, offboardings *offboarding.Service, queue *jobs.Queue, mailing passwordlink.Mailing, log *slog.Logger,
) *Conductor {
	return &Conductor{db: db, users: users, links: links, offboardings: offboardings, queue: queue, mailing: mailing, log: log}
}

// Report tells what was done.
type Report struct {
	Entries  int                                    `json:"entries"`
	Restored bool                                   `json:"restored"`
	Outcomes map[ledger.Kind]map[ledger.Outcome]int `json:"outcomes"`
	Dropped  map[string]int64                       `json:"dropped,omitempty"` // of before the restore, by store
	Seconds  float64                                `json:"seconds"`
}

// LogValue implements slog.LogValuer.
func (r Report) LogValue() slog.Value {
	attributes := []slog.Attr{slog.Int("entries", r.Entries), slog.Bool("restored", r.Restored), slog.Float64("seconds", r.Seconds)}
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

// Run carries out what a survey found missing. After a restore, everything that stood for a moment of before is dropped first: sessions, mailed links, remembered answers and
// jobs that are not done.
func (c *Conductor) Run(ctx context.Context, survey *ledger.Survey) (report Report, err error) {
	began := time.Now() // a duration, not a time
	report = Report{Restored: survey.Restored, Outcomes: make(map[ledger.Kind]map[ledger.Outcome]int)}
	if survey.Restored {
		if report.Dropped, err = c.drop(ctx); err != nil {
			return report, err
		}
		if err := survey.Attend(ctx, c.db); err != nil { // so that what follows is not dropped again, should this be broken off
			return report, err
		}
	}
	for chunk, err := range survey.Chunks(ctx) {
		if err != nil {
			return report, err
		}
		if err := c.carryOut(ctx, chunk, &report); err != nil {
			return report, err
		}
		if err := survey.Done(ctx, c.db, chunk); err != nil {
			return report, err
		}
	}
	report.Seconds = time.Since(began).Seconds()
	return report, nil
}

// carryOut does the entries of each customer in their order, and several customers at once.
func (c *Conductor) carryOut(ctx context.Context, chunk ledger.Chunk, report *Report) error {
	type work struct {
		of      id.Customer
		entries []ledger.Placed
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
						report.add(outcomes)
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

func (r *Report) add(outcomes []outcome) {
	for _, one := range outcomes {
		r.Entries++
		if r.Outcomes[one.kind] == nil {
			r.Outcomes[one.kind] = make(map[ledger.Outcome]int)
		}
		r.Outcomes[one.kind][one.is]++
	}
}

// carryOutFor does some entries of one customer in one transaction. Where one of them is the end of the customer, it alone is carried out, in as many transactions as it takes: what the others
// are about is deleted with everything else.
func (c *Conductor) carryOutFor(ctx context.Context, of id.Customer, entries []ledger.Placed) (outcomes []outcome, err error) {
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
		open, err := ledger.OpenTx(tx, entries)
		if err != nil {
			return err
		}
		_, missing := customer.GetTx(tx)
		gone := fault.Is(missing, fault.ResourceNotFound) // or not there yet
		if missing != nil && !gone {
			return missing
		}
		lost := false
		for _, entry := range open {
			is, ended := ends[entry.Number]
			switch {
			case ended:
			case len(ends) > 0:
				is = ledger.Overtaken
			case gone:
				is = ledger.Absent
			default:
				is, err = c.replay(tx, entry)
			}
			if err != nil {
				return err
			}
			outcomes = append(outcomes, outcome{entry.Kind, is})
			lost = lost || entry.Kind == ledger.Correction && is == ledger.Done
		}
		if lost {
			if err := c.tell(tx); err != nil {
				return err
			}
		}
		return ledger.AppliedTx(tx, open)
	})
	return outcomes, err
}

func (c *Conductor) replay(tx *postgres.Tx, entry ledger.Placed) (ledger.Outcome, error) {
	if entry.Superseded {
		return ledger.Overtaken, nil
	}
	switch entry.Kind {
	case ledger.APIKeyRevoked, ledger.APIKeyEnds:
		return apikey.ReplayTx(tx, entry.Entry)
	case ledger.CredentialsChanged:
		// The newer ones are lost and the older ones must not be good again. Whoever reads the mailbox sets new ones.
		is, err := c.users.ReplayTx(tx, entry.Entry)
		if err != nil || is != ledger.Done {
			return is, err
		}
		if _, err := secondfactor.RemoveTx(tx, entry.User()); err != nil {
			return "", err
		}
		return is, c.links.ResetTx(tx, entry.User())
	case ledger.Redaction, ledger.Deletion, ledger.AlertsSet, ledger.StatusSet, ledger.RoleSet, ledger.Correction, ledger.Offboarding, ledger.Void:
	}
	return c.users.ReplayTx(tx, entry.Entry)
}

// drop removes what stood for a moment of before the restore.
func (c *Conductor) drop(ctx context.Context) (dropped map[string]int64, err error) {
	dropped = make(map[string]int64)
	end := time.Unix(math.MaxInt32*100, 0).UTC() // the year 8775: everything is past its time by then
	for store, expire := range map[string]func(tx *postgres.Tx, now time.Time, limit int) (int64, error){
		"sessions": session.ExpireSessions, "password_links": passwordlink.Expire, "idempotency_answers": idempotency.Expire,
	} {
		for count := int64(dropBatch); count >= dropBatch; dropped[store] += count {
			err := c.db.InPlatform(ctx, func(tx *postgres.Tx) (err error) {
				count, err = expire(tx, end, dropBatch)
				return err
			})
			if err != nil {
				return dropped, err
			}
		}
	}
	dropped["jobs"], err = jobs.DropOpen(ctx, c.db)
	return dropped, err
}
