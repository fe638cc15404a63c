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

// newCustomer makes a customer, which has one entry in its trail by that.
func newCustomer(t *testing.T, d *dbtest.Database, slug string) id.Customer {
	t.Helper()
	made, err := customer.NewService(d.DB).Create(t.Context(), customer.New{Slug: slug, Name: slug}, func(*postgres.Tx) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	return made.ID
}

func act(of id.Customer, action audit.Action) audit.Act {
	return audit.Act{Caller: principal.Principal{Customer: of}, Action: action, Target: audit.OnCustomer(of)}
}

// A follower that keeps what it is told, which must be every entry once and in the order of the numbers.
type witness struct {
	mu   sync.Mutex
	seen map[id.Customer][]audit.Sequenced
}

func (w *witness) follow(tx *postgres.Tx, sequenced []audit.Sequenced) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.seen == nil {
		w.seen = make(map[id.Customer][]audit.Sequenced)
	}
	w.seen[tx.Customer] = append(w.seen[tx.Customer], sequenced...)
	return nil
}

func TestEveryEntryGetsItsNumberOnce(t *testing.T) {
	t.Parallel()
	const writers, each = 4, 60
	d := dbtest.New(t)
	customers := []id.Customer{newCustomer(t, d, "acme"), newCustomer(t, d, "globex")}
	var seen witness
	sealers := []*audit.Sequencer{audit.NewSequencer(d.DB, seen.follow), audit.NewSequencer(d.Open(t), seen.follow)}

	writing, done := context.WithCancel(t.Context())
	var sealing, appending sync.WaitGroup
	for _, sealer := range sealers {
		sealing.Go(func() {
			for writing.Err() == nil {
				if err := sealer.Sequence(t.Context()); err != nil {
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
					return errors.Join(audit.AppendTx(tx, act(of, audit.CustomerChanged)), audit.AppendTx(tx, act(of, audit.CustomerChanged)))
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	appending.Wait()
	done()
	sealing.Wait()
	if err := sealers[0].Sequence(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, of := range customers {
		if n := len(seen.seen[of]); n != 1+writers/len(customers)*each*2 {
			t.Errorf("%d entries were numbered", n)
		}
		once := make(map[id.Entry]bool)
		for i, one := range seen.seen[of] {
			if one.Index != int64(i) || once[one.Entry.ID] {
				t.Fatalf("the entry %s has the number %d at the place %d", one.Entry.ID, one.Index, i)
			}
			once[one.Entry.ID] = true
		}
	}
	superuser := d.Superuser(t)
	var wrong int
	err := superuser.QueryRow(t.Context(), `
		select (select count(*) from audit_unsealed)
			+ (select count(*) from audit_heads h where size <> (select count(*) from audit_leaves l where l.customer_id = h.customer_id))
			+ (select count(*) from audit_entries e where not exists (select from audit_leaves l where l.customer_id = e.customer_id and l.entry_id = e.id))`).Scan(&wrong)
	if err != nil || wrong != 0 {
		t.Errorf("%d things are not as they should be (%v)", wrong, err)
	}
}

// An entry that is kept late comes in behind those that were made after it.
func TestALateEntryComesInBehind(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	of := newCustomer(t, d, "acme")
	var seen witness
	sealer := audit.NewSequencer(d.DB, seen.follow)
	err := d.DB.InCustomer(t.Context(), of, func(late *postgres.Tx) error {
		if err := audit.AppendTx(late, act(of, audit.CustomerChanged)); err != nil {
			return err
		}
		err := d.DB.InCustomer(t.Context(), of, func(tx *postgres.Tx) error { return audit.AppendTx(tx, act(of, audit.APIKeyCreated)) })
		return errors.Join(err, sealer.Sequence(t.Context()))
	})
	if err := errors.Join(err, sealer.Sequence(t.Context())); err != nil {
		t.Fatal(err)
	}
	var order []string
	for _, one := range seen.seen[of] {
		order = append(order, one.Entry.Action)
	}
	if got, want := fmt.Sprint(order), "[customer.created api_key.created customer.changed]"; got != want {
		t.Errorf("the order is %s, not %s", got, want)
	}
}

// What a follower refuses is not numbered, and is offered again.
func TestAFollowerThatFailsIsAskedAgain(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	first, second := newCustomer(t, d, "acme"), newCustomer(t, d, "globex")
	refusal := errors.New("not now")
	failing := audit.NewSequencer(d.DB, func(tx *postgres.Tx, _ []audit.Sequenced) error {
		if tx.Customer == first {
			return refusal
		}
		return nil
	})
	if err := failing.Sequence(t.Context()); !errors.Is(err, refusal) {
		t.Errorf("%v", err)
	}
	var seen witness
	if err := audit.NewSequencer(d.DB, seen.follow).Sequence(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(seen.seen[first]) != 1 || len(seen.seen[second]) != 0 {
		t.Errorf("%v", seen.seen)
	}
}
