package webhook

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fusionspim/steward/internal/account/customer"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/testkit/dbtest"
)

// A worker that has found nothing to send makes its endpoint due no more. An event that is
// committed between its look and its commit must make the endpoint due all the same, or else it
// waits until the next event.
func TestAnEventBesideAWorkersLastLookIsNotForgotten(t *testing.T) {
	t.Parallel()
	database := dbtest.New(t)
	acme, endpoint := id.New[id.Customer](), id.New[id.WebhookEndpoint]()
	write := func(work func(tx *postgres.Tx) error) error {
		return database.DB.InCustomer(t.Context(), acme, work)
	}
	err := write(func(tx *postgres.Tx) error {
		if _, err := customer.CreateTx(tx, principal.Principal{}, customer.New{Slug: "acme", Name: "Acme"}); err != nil {
			return err
		}
		made := Endpoint{
			ID: endpoint, URL: "https://acme.example/hook", Status: Active, Version: 1, CreatedAt: tx.Now, UpdatedAt: tx.Now,
		}
		if err := insert(tx, made, []byte("sealed"), -1); err != nil {
			return err
		}
		return wake(tx) // by an event before
	})
	if err != nil {
		t.Fatal(err)
	}

	added := make(chan error, 1)
	err = write(func(worker *postgres.Tx) error {
		now, exists, err := lock(worker, endpoint)
		if err != nil || !exists {
			return err
		}
		reached, _, err := fanOut(worker, endpoint, now.types, now.position, spreadAtOnce)
		if err != nil {
			return err
		}
		go func() {
			added <- write(func(tx *postgres.Tx) error {
				_, err := tx.Exec(`
					insert into events (customer_id, number, id, type, subject_type, subject_id, occurred_at, created_at)
					values (@customer, 1, @id, 'user.created', 'user', @id, @now, @now)`,
					postgres.Args{"customer": acme, "id": uuid.New(), "now": tx.Now})
				if err != nil {
					return err
				}
				return wake(tx)
			})
		}()
		// The event is in the same transaction as the call, which ends or waits for the worker.
		for waiting := 0; waiting == 0 && len(added) == 0; time.Sleep(time.Millisecond) {
			database.Peek(t, `select count(*) from pg_stat_activity
				where datname = current_database() and cardinality(pg_blocking_pids(pid)) > 0`, &waiting)
		}
		return releaseUntil(worker, endpoint, reached, nil)
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := <-added; err != nil {
		t.Fatal(err)
	}

	var places []place
	err = database.DB.InPlatform(t.Context(), func(tx *postgres.Tx) (err error) {
		places, err = due(tx, uuid.New(), 10)
		return err
	})
	if err != nil || len(places) != 1 || places[0] != (place{acme, endpoint}) {
		t.Errorf("due is %v, %v", places, err)
	}
}
