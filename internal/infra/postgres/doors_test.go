package postgres_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/testkit/dbtest"
)

// newCustomer inserts a customer through its own door.
func newCustomer(t *testing.T, db *postgres.DB, slug string) id.Customer {
	t.Helper()
	of := id.New[id.Customer]()
	if err := db.InCustomer(
		t.Context(),
		of,
		func(tx *postgres.Tx) error { return insertCustomer(tx, slug) },
	); err != nil {
		t.Fatal(err)
	}
	return of
}

func insertCustomer(tx *postgres.Tx, slug string) error {
	_, err := tx.Exec(`
		insert into customers (id, slug, name, guidance_text, mail_domain_policy, mail_domains, network_policy, networks,
			login_record_days, second_factor_policy, version, created_at, updated_at)
		values ($1, $2, $2, '', 'off', '{}', 'off', '{}', 90, 'off', 1, $3, $3)`, tx.Customer, slug, tx.Now)
	return err
}

func slugs(tx *postgres.Tx) ([]string, error) {
	return postgres.Column[string](tx, "select slug from customers order by slug")
}

func TestInsideACustomerOnlyItsRowsExist(t *testing.T) {
	t.Parallel()
	db := dbtest.New(t).DB
	acme, other := newCustomer(t, db, "acme"), newCustomer(t, db, "other")
	doors := map[string]func(context.Context, id.Customer, func(*postgres.Tx) error) error{
		"InCustomer": db.InCustomer, "InCustomerAutocommit": db.InCustomerAutocommit,
	}
	for name, door := range doors {
		for range 3 { // connections are used again, for another customer
			for of, slug := range map[id.Customer]string{acme: "acme", other: "other"} {
				err := door(t.Context(), of, func(tx *postgres.Tx) error {
					if found, err := slugs(tx); err != nil || !slices.Equal(found, []string{slug}) {
						t.Errorf("%s of %s sees %q, %v", name, slug, found, err)
					}
					foreign := acme
					if of == acme {
						foreign = other
					}
					if n, err := tx.Exec(
						"update customers set name = 'x' where id = $1",
						foreign,
					); err != nil ||
						n != 0 {
						t.Errorf("%s of %s changes %d rows of another, %v", name, slug, n, err)
					}
					return nil
				})
				if err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		}
		nobody := id.New[id.Customer]()
		err := door(t.Context(), nobody, func(tx *postgres.Tx) error {
			if found, err := slugs(tx); err != nil || len(found) != 0 {
				t.Errorf("%s of nobody sees %q, %v", name, found, err)
			}
			return nil
		})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		err = door(t.Context(), nobody, func(tx *postgres.Tx) error {
			_, err := tx.Exec("update customers set id = $1", nobody)
			return err
		})
		if err == nil {
			t.Errorf("%s lets a customer be renumbered", name)
		}
	}
}

func TestARowOfAnotherCustomerIsRejected(t *testing.T) {
	t.Parallel()
	db := dbtest.New(t).DB
	acme := newCustomer(t, db, "acme")
	err := db.InCustomer(t.Context(), acme, func(tx *postgres.Tx) error {
		foreign := *tx
		foreign.Customer = id.New[id.Customer]() // the argument lies; the connection does not
		return insertCustomer(&foreign, "forged")
	})
	if err == nil || !strings.Contains(err.Error(), "42501") {
		t.Errorf("got %v", err)
	}
}

func TestOutsideCustomersNoPersonIsSeen(t *testing.T) {
	t.Parallel()
	db := dbtest.New(t).DB
	for _, statement := range []string{
		"select first_name from users", "select email from users", "select password_hash from users", "select * from audit_entries",
	} {
		err := db.InPlatform(t.Context(), func(tx *postgres.Tx) error {
			rows, err := tx.Query(statement)
			if err != nil {
				return err
			}
			return errors.Join(rows.Err(), rows.Close())
		})
		if err == nil || !strings.Contains(err.Error(), "42501") {
			t.Errorf("%s: %v", statement, err)
		}
	}
}

func TestWorkThatFailsLeavesNothing(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	of, failure := id.New[id.Customer](), errors.New("a failure")
	count := func() (n int) {
		d.Peek(t, "select count(*) from customers where slug in ('acme', 'other')", &n)
		return n
	}
	err := d.DB.InCustomer(t.Context(), of, func(tx *postgres.Tx) error {
		if err := insertCustomer(tx, "acme"); err != nil {
			return err
		}
		return failure
	})
	if !errors.Is(err, failure) || count() != 0 {
		t.Errorf("after an error: %v, %d rows", err, count())
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		_ = d.DB.InCustomer(t.Context(), of, func(tx *postgres.Tx) error {
			if err := insertCustomer(tx, "acme"); err != nil {
				return err
			}
			panic("a bug")
		})
	}()
	if count() != 0 {
		t.Error("work that panicked left a row")
	}
	err = d.DB.InCustomerAutocommit(t.Context(), of, func(tx *postgres.Tx) error {
		if err := insertCustomer(tx, "acme"); err != nil {
			return err
		}
		return failure
	})
	if !errors.Is(err, failure) || count() != 1 {
		t.Errorf("each statement is a transaction of its own, but there are %d rows: %v", count(), err)
	}
}

// A caller that goes away leaves no half of a change.
func TestACallerThatGoesAwayInterruptsNothing(t *testing.T) {
	t.Parallel()
	db := dbtest.New(t).DB
	ctx, leave := context.WithCancel(t.Context())
	of := id.New[id.Customer]()
	err := db.InCustomer(ctx, of, func(tx *postgres.Tx) error {
		leave()
		return insertCustomer(tx, "acme")
	})
	if err != nil {
		t.Fatal(err)
	}
	found, err := postgres.Read(t.Context(), db, of, slugs)
	if err != nil || len(found) != 1 {
		t.Errorf("%q, %v", found, err)
	}
}

func TestHooksRunOnceBeforeTheCommitInTheirOrder(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	type key struct{ name string }
	var order []string
	hook := func(name string) func(*postgres.Tx, []any) error {
		return func(tx *postgres.Tx, things []any) error {
			text := name
			for _, thing := range things {
				text += " " + thing.(string)
			}
			order = append(order, text)
			return nil
		}
	}
	of := id.New[id.Customer]()
	err := d.DB.InCustomer(t.Context(), of, func(tx *postgres.Tx) error {
		for _, of := range []struct{ key, thing string }{{"b", "1"}, {"a", "2"}, {"b", "3"}, {"a", "4"}, {"b", "5"}} {
			if err := tx.BeforeCommit(key{of.key}, of.thing, hook(of.key)); err != nil {
				return err
			}
		}
		if len(order) > 0 {
			t.Error("a hook ran at once")
		}
		order = append(order, "work")
		return insertCustomer(tx, "acme")
	})
	if err != nil || !slices.Equal(order, []string{"work", "b 1 3 5", "a 2 4"}) {
		t.Errorf("%q, %v", order, err)
	}

	failure := errors.New("a failure")
	err = d.DB.InCustomer(t.Context(), id.New[id.Customer](), func(tx *postgres.Tx) error {
		if err := tx.BeforeCommit(key{"x"}, nil, func(*postgres.Tx, []any) error { return failure }); err != nil {
			return err
		}
		return insertCustomer(tx, "undone")
	})
	var n int
	if d.Peek(t, "select count(*) from customers where slug = 'undone'", &n); !errors.Is(err, failure) || n != 0 {
		t.Errorf("a hook that fails: %v, %d rows", err, n)
	}

	ran := false
	_ = d.DB.InCustomer(t.Context(), id.New[id.Customer](), func(tx *postgres.Tx) error {
		return errors.Join(
			tx.BeforeCommit(key{"x"}, nil, func(*postgres.Tx, []any) error { ran = true; return nil }),
			failure,
		)
	})
	if ran {
		t.Error("a hook of work that failed ran")
	}
	err = d.DB.InCustomerAutocommit(t.Context(), of, func(tx *postgres.Tx) error {
		return tx.BeforeCommit(key{"x"}, nil, hook("x"))
	})
	if !errors.Is(err, postgres.ErrNoTransaction) {
		t.Errorf("without a transaction: %v", err)
	}
}

func TestAPartOfATransactionActsAsAnotherCustomer(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	acme, other := newCustomer(t, d.DB, "acme"), newCustomer(t, d.DB, "other")
	see := func(tx *postgres.Tx, want string) {
		t.Helper()
		if found, err := slugs(tx); err != nil || !slices.Equal(found, []string{want}) {
			t.Errorf("sees %q, %v, want %q", found, err, want)
		}
	}
	rename := func(tx *postgres.Tx) error {
		n, err := tx.Exec("update customers set name = 'renamed'")
		if err == nil && n != 1 {
			t.Errorf("%d rows were renamed", n)
		}
		return err
	}
	err := d.DB.InCustomer(t.Context(), acme, func(tx *postgres.Tx) error {
		see(tx, "acme")
		err := tx.AsCustomer(other, func(part *postgres.Tx) error {
			if part.Customer != other {
				t.Errorf("the part is of %v", part.Customer)
			}
			see(part, "other")
			return rename(part)
		})
		if tx.Customer != acme {
			t.Errorf("afterwards the transaction is of %v", tx.Customer)
		}
		see(tx, "acme")
		return err
	})
	var renamed []string
	if d.Peek(
		t,
		"select array_agg(slug) from customers where name = 'renamed'",
		&renamed,
	); err != nil ||
		!slices.Equal(renamed, []string{"other"}) {
		t.Errorf("renamed %q, %v", renamed, err)
	}
	// Neither stands without the other, and the connection is of acme again.
	failure := errors.New("a failure")
	err = d.DB.InCustomer(t.Context(), acme, func(tx *postgres.Tx) error {
		if err := rename(tx); err != nil {
			return err
		}
		return tx.AsCustomer(other, func(*postgres.Tx) error { return failure })
	})
	if d.Peek(
		t,
		"select array_agg(slug) from customers where name = 'renamed'",
		&renamed,
	); !errors.Is(err, failure) ||
		len(renamed) != 1 {
		t.Errorf("a part that fails: %v, renamed %q", err, renamed)
	}
	for range 4 {
		_ = d.DB.InCustomer(t.Context(), acme, func(tx *postgres.Tx) error { see(tx, "acme"); return nil })
	}
	err = d.DB.InCustomerAutocommit(t.Context(), acme, func(tx *postgres.Tx) error {
		return tx.AsCustomer(other, func(*postgres.Tx) error { t.Error("it ran"); return nil })
	})
	if err == nil {
		t.Error("without a transaction a part acts as another customer")
	}
}

// Two transactions that wait for each other: PostgreSQL aborts one, which is repeated from its
// beginning, so both succeed.
func TestADeadlockIsResolvedByARetry(t *testing.T) {
	t.Parallel()
	db := dbtest.New(t).DB
	acme := newCustomer(t, db, "acme")
	const first, second = postgres.LockBackup, postgres.LockVacuum
	var met sync.WaitGroup // both hold their first lock
	met.Add(2)
	var mutex sync.Mutex
	runs := 0
	work := func(a, b postgres.Lock) error {
		once := sync.OnceFunc(met.Done)
		return db.InCustomer(t.Context(), acme, func(tx *postgres.Tx) error {
			mutex.Lock()
			runs++
			mutex.Unlock()
			if err := tx.Acquire(a); err != nil {
				return err
			}
			once()
			met.Wait()
			return tx.Acquire(b)
		})
	}
	errs := make(chan error, 2)
	go func() { errs <- work(first, second) }()
	go func() { errs <- work(second, first) }()
	for range 2 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if runs < 3 {
		t.Errorf("the work ran %d times: there was no deadlock", runs)
	}
}

func TestWorkThatIsAbortedAgainAndAgainGivesUp(t *testing.T) {
	t.Parallel()
	db := dbtest.New(t).DB
	runs := 0
	err := db.InPlatform(t.Context(), func(tx *postgres.Tx) error {
		runs++
		_, err := tx.Exec("do $$ begin raise exception using errcode = '40001'; end $$")
		return err
	})
	if runs != 4 || !fault.Is(err, fault.ServiceUnavailable) {
		t.Errorf("after %d runs: %v", runs, err)
	}
	runs = 0
	err = db.InPlatform(t.Context(), func(tx *postgres.Tx) error {
		runs++
		_, err := tx.Exec("do $$ begin raise exception using errcode = '23514', message = 'a value'; end $$")
		return err
	})
	if runs != 1 || err == nil || fault.Is(err, fault.ServiceUnavailable) || strings.Contains(err.Error(), "a value") {
		t.Errorf("another error, after %d runs: %v", runs, err)
	}
}

// Errors of the database end in logs, and PostgreSQL's texts repeat the values of the row.
func TestErrorsOfTheDatabaseHoldNoValues(t *testing.T) {
	t.Parallel()
	db := dbtest.New(t).DB
	newCustomer(t, db, "ada-lovelace")
	err := db.InCustomer(
		t.Context(),
		id.New[id.Customer](),
		func(tx *postgres.Tx) error { return insertCustomer(tx, "ada-lovelace") },
	)
	if !postgres.Violates(err, "customers_slug_key") || postgres.Violates(err, "customers_pkey") {
		t.Errorf("the constraint is not recognised: %v", err)
	}
	if strings.Contains(err.Error(), "ada") || !strings.Contains(err.Error(), "23505") {
		t.Errorf("the error is %q", err)
	}
}

func TestADatabaseThatIsAwayIsUnavailable(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	db := d.Open(t)
	of := newCustomer(t, db, "acme")
	var backends []int32
	err := db.InCustomer(t.Context(), of, func(tx *postgres.Tx) error {
		backend, err := postgres.Column[int32](tx, "select pg_backend_pid()")
		if err != nil {
			return err
		}
		backends = backend
		if _, err := d.Superuser(t).Exec(t.Context(), "select pg_terminate_backend($1)", backend[0]); err != nil {
			return err
		}
		_, err = tx.Exec("select 1")
		return err
	})
	if !fault.Is(err, fault.ServiceUnavailable) {
		t.Errorf("a connection that is ended: %v", err)
	}
	if found, err := postgres.Read(t.Context(), db, of, slugs); err != nil || len(found) != 1 {
		t.Errorf("the next connection: %q, %v (ended was %v)", found, err, backends)
	}
}

func TestLocksEndWithTheirTransaction(t *testing.T) {
	t.Parallel()
	db := dbtest.New(t).DB
	try := func() (acquired bool) {
		err := db.InPlatform(t.Context(), func(tx *postgres.Tx) (err error) {
			acquired, err = tx.TryAcquire(postgres.LockBackup)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return acquired
	}
	err := db.InPlatform(t.Context(), func(tx *postgres.Tx) error {
		if err := tx.Acquire(postgres.LockBackup); err != nil {
			return err
		}
		if try() {
			t.Error("the lock is held twice")
		}
		return nil
	})
	if err != nil || !try() {
		t.Errorf("the lock is held after its transaction: %v", err)
	}
}

func TestResultsOfFailedWorkAreNotReturned(t *testing.T) {
	t.Parallel()
	db := dbtest.New(t).DB
	failure := errors.New("a failure")
	of := id.New[id.Customer]()
	fails := func(*postgres.Tx) (string, error) { return "half", failure }
	if got, err := postgres.Write(t.Context(), db, of, fails); got != "" || !errors.Is(err, failure) {
		t.Errorf("Write: %q, %v", got, err)
	}
	if got, err := postgres.Platform(t.Context(), db, fails); got != "" || !errors.Is(err, failure) {
		t.Errorf("Platform: %q, %v", got, err)
	}
}

// The clock of the work is the service's, in one moment for the whole transaction.
func TestATransactionHasOneMoment(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	err := d.DB.InCustomer(t.Context(), id.New[id.Customer](), func(tx *postgres.Tx) error {
		before := tx.Now
		d.Clock.Advance(time.Hour)
		if err := insertCustomer(tx, "acme"); err != nil {
			return err
		}
		created, err := postgres.Column[time.Time](tx, "select created_at from customers")
		if err == nil && (len(created) != 1 || !created[0].Equal(before)) {
			t.Errorf("written at %v, not %v", created, before)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
