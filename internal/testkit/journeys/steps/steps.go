// Package steps holds what the packages of journeys have in common.
//
// Owns: waiting, asking and changing the database past the service, people in bulk, and running the
// real program as a process. Does not own: starting a service (apptest), and what is tested.
package steps

import (
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fusionspim/steward/internal/app"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/inventory"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/testkit/apptest"
)

// Patience is how long a condition that is about to come true is waited for. It is a bound for a
// machine in trouble: the usual is a few milliseconds.
const Patience = 2 * time.Minute

// Execute executes a statement as superuser. An error ends the test.
func Execute(t testing.TB, conn *pgx.Conn, statement string, arguments ...any) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), statement, arguments...); err != nil {
		t.Fatalf("%v, of: %s", err, statement)
	}
}

// Number asks the database for one number.
func Number(t testing.TB, conn *pgx.Conn, question string, arguments ...any) (answer int) {
	t.Helper()
	if err := conn.QueryRow(t.Context(), question, arguments...).Scan(&answer); err != nil {
		t.Fatalf("%v, of: %s", err, question)
	}
	return answer
}

// Texts returns the rows of a query with one column of text.
func Texts(t *testing.T, conn *pgx.Conn, query string) []string {
	t.Helper()
	rows, err := conn.Query(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// Await waits until a condition holds.
func Await(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for began := time.Now(); !holds(); time.Sleep(time.Millisecond) {
		if time.Since(began) > Patience {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// Eventually polls until something holds, for Patience at most. What takes longest is a kill -9:
// within a quarter of a minute the replicas elect another leader of the jobs, which alone looks for
// what is due.
func Eventually(t *testing.T, what string, true func() bool) {
	t.Helper()
	for began := time.Now(); !true(); time.Sleep(20 * time.Millisecond) {
		if time.Since(began) > Patience {
			t.Fatalf("in vain waited for %s", what)
		}
	}
}

// AwaitBlocked waits until so many connections of the service wait for a lock.
func AwaitBlocked(t testing.TB, watcher *pgx.Conn, count int) {
	t.Helper()
	Await(t, fmt.Sprintf("%d connections of the service wait for a lock", count), func() bool {
		return Number(t, watcher, `select count(*) from pg_stat_activity
			where datname = current_database() and application_name in ('steward', 'steward-served') and cardinality(pg_blocking_pids(pid)) > 0`) == count
	})
}

// Settled waits until no job is to be done now.
func Settled(t *testing.T, s *apptest.Service) {
	t.Helper()
	Eventually(t, "the jobs to be done", func() bool {
		var left int
		s.Database.Peek(t, "select count(*) from jobs.river_job where state in ('available', 'running', 'scheduled')", &left)
		return left == 0
	})
}

// Begin runs a function in the background and returns the channel of its result.
func Begin[T any](do func() T) <-chan T {
	result := make(chan T, 1)
	go func() { result <- do() }()
	return result
}

// Spread calls a function for each number below count, in concurrent workers.
func Spread(count, workers int, do func(i int)) {
	var next atomic.Int64
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for i := next.Add(1) - 1; i < int64(count); i = next.Add(1) - 1 {
				do(int(i))
			}
		})
	}
	all.Wait()
}

// At calls an operation in a goroutine of a test, checks the answer against the contract, and fails
// the test for every answer of 500 and above. A machine that has too much to do answers 503, and
// then the call is made again, as clients do.
func At(t testing.TB, service *apptest.Service, method, path string, options ...apptest.Option) apptest.Answer {
	t.Helper()
	for began := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		answer, err := service.Try(t.Context(), method, path, options...)
		if err != nil {
			t.Errorf("%s %s: %v", method, path, err)
			return answer
		}
		service.Check(t, method, path, answer)
		if answer.Status == http.StatusServiceUnavailable && time.Since(began) < Patience {
			continue
		}
		if answer.Status >= http.StatusInternalServerError {
			t.Errorf("%s %s: %d %s", method, path, answer.Status, answer.Body)
		}
		return answer
	}
}

// Is reports whether an answer is the problem.
func Is(t testing.TB, answer apptest.Answer, status int, slug string) bool {
	t.Helper()
	if answer.Status != status {
		return false
	}
	var problem struct{ Type string }
	answer.Into(t, &problem)
	return problem.Type == "/problems/"+slug
}

// Orphans counts the entries of the trail whose actor is gone.
func Orphans(t testing.TB, conn *pgx.Conn) int {
	t.Helper()
	return Number(t, conn, `
		select count(*) from audit_entries e
		where actor_user_id is not null and not exists (select from users u where u.customer_id = e.customer_id and u.id = e.actor_user_id)`)
}

// CustomerStores are the tables that a customer's bundle has a copy of.
func CustomerStores() []postgres.Store {
	return slices.DeleteFunc(inventory.ForLeaving(app.Stores()), func(store postgres.Store) bool { return store.Leave.NoCopy })
}

// RowsOf counts the rows that each table has of a customer.
func RowsOf(t *testing.T, conn *pgx.Conn, of id.Customer) map[string]int64 {
	t.Helper()
	counts := make(map[string]int64)
	for _, store := range CustomerStores() {
		column := "customer_id"
		if store.Table == "customers" {
			column = "id"
		}
		var count int64
		if err := conn.QueryRow(t.Context(), "select count(*) from "+store.Table+" where "+column+" = $1", of.String()).Scan(&count); err != nil {
			t.Fatal(err)
		}
		if count > 0 {
			counts[store.Table] = count
		}
	}
	return counts
}
