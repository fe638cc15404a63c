package audit_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/fusionspim/steward/internal/account/customer"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/record/audit"
	"github.com/fusionspim/steward/internal/testkit/dbtest"
)

// newCustomer creates a customer, and with it the first entry of its trail.
func newCustomer(t *testing.T, d *dbtest.Database, slug string) id.Customer {
	t.Helper()
	made, err := customer.NewService(d.DB).
		Create(t.Context(), customer.New{Slug: slug, Name: slug}, func(*postgres.Tx) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	return made.ID
}

func act(of id.Customer, action audit.Action) audit.Act {
	return audit.Act{Caller: principal.Principal{Customer: of}, Action: action, Target: audit.OnCustomer(of)}
}

// recorder is a follower that records the entries, each of which it must get once and in order.
type recorder struct {
	mu   sync.Mutex
	seen map[id.Customer][]audit.Sequenced
}

func (r *recorder) follow(tx *postgres.Tx, sequenced []audit.Sequenced) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.seen == nil {
		r.seen = make(map[id.Customer][]audit.Sequenced)
	}
	r.seen[tx.Customer] = append(r.seen[tx.Customer], sequenced...)
	return nil
}

func TestEveryEntryIsSequencedOnce(t *testing.T) {
	t.Parallel()
	const writers, each = 4, 60
	d := dbtest.New(t)
	customers := []id.Customer{newCustomer(t, d, "acme"), newCustomer(t, d, "globex")}
	var seen recorder
	sequencers := []*audit.Sequencer{audit.NewSequencer(d.DB, seen.follow), audit.NewSequencer(d.Open(t), seen.follow)}

	writing, done := context.WithCancel(t.Context())
	var sequencing, appending sync.WaitGroup
	for _, sequencer := range sequencers {
		sequencing.Go(func() {
			for writing.Err() == nil {
				if err := sequencer.Sequence(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for writer := range writers {
		appending.Go(func() {
			of := customers[writer%len(customers)]
			for range each {
				err := d.DB.InCustomer(t.Context(), of, func(tx *postgres.Tx) error {
					return errors.Join(
						audit.AppendTx(tx, act(of, audit.CustomerChanged)),
						audit.AppendTx(tx, act(of, audit.CustomerChanged)),
					)
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	appending.Wait()
	done()
	sequencing.Wait()
	if err := sequencers[0].Sequence(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, of := range customers {
		if n := len(seen.seen[of]); n != 1+writers/len(customers)*each*2 {
			t.Errorf("%d entries were sequenced", n)
		}
		once := make(map[id.Entry]bool)
		for i, entry := range seen.seen[of] {
			if entry.Index != int64(i) || once[entry.Entry.ID] {
				t.Fatalf("entry %s has the index %d at position %d", entry.Entry.ID, entry.Index, i)
			}
			once[entry.Entry.ID] = true
		}
	}
	superuser := d.Superuser(t)
	var wrong int
	err := superuser.QueryRow(t.Context(), `
		select (select count(*) from audit_unsealed)
			+ (select count(*) from audit_heads h where size <> (select count(*) from audit_leaves l where l.customer_id = h.customer_id))
			+ (select count(*) from audit_entries e where not exists (select from audit_leaves l where l.customer_id = e.customer_id and l.entry_id = e.id))`).Scan(&wrong)
	if err != nil || wrong != 0 {
		t.Errorf("%d rows are inconsistent (%v)", wrong, err)
	}
}

// An entry that commits late gets an index after entries that were created after it.
func TestLateEntryIsSequencedLast(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	of := newCustomer(t, d, "acme")
	var seen recorder
	sequencer := audit.NewSequencer(d.DB, seen.follow)
	err := d.DB.InCustomer(t.Context(), of, func(late *postgres.Tx) error {
		if err := audit.AppendTx(late, act(of, audit.CustomerChanged)); err != nil {
			return err
		}
		err := d.DB.InCustomer(
			t.Context(),
			of,
			func(tx *postgres.Tx) error { return audit.AppendTx(tx, act(of, audit.APIKeyCreated)) },
		)
		return errors.Join(err, sequencer.Sequence(t.Context()))
	})
	if err := errors.Join(err, sequencer.Sequence(t.Context())); err != nil {
		t.Fatal(err)
	}
	var order []string
	for _, entry := range seen.seen[of] {
		order = append(order, entry.Entry.Action)
	}
	if got, want := fmt.Sprint(order), "[customer.created api_key.created customer.changed]"; got != want {
		t.Errorf("the order is %s, not %s", got, want)
	}
}

// Entries for which a follower fails are not sequenced, and are retried.
func TestFailedFollowerIsRetried(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	first, second := newCustomer(t, d, "acme"), newCustomer(t, d, "globex")
	failure := errors.New("not now")
	failing := audit.NewSequencer(d.DB, func(tx *postgres.Tx, _ []audit.Sequenced) error {
		if tx.Customer == first {
			return failure
		}
		return nil
	})
	if err := failing.Sequence(t.Context()); !errors.Is(err, failure) {
		t.Errorf("%v", err)
	}
	var seen recorder
	if err := audit.NewSequencer(d.DB, seen.follow).Sequence(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(seen.seen[first]) != 1 || len(seen.seen[second]) != 0 {
		t.Errorf("%v", seen.seen)
	}
}
