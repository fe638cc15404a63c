// Package dbtest gives each test a real, migrated PostgreSQL database of its own.
//
// Owns: the databases on the server for tests (one per test, and the template that they are copies
// of), what a test needs beside its database (a clock that it moves, a log that it reads), and the
// tests of the schema as a whole: its rules about row security, privileges, classes of columns and
// keys hold for every table, whichever feature it belongs to.
// Does not own: the server, which command with in the folder below starts, or whoever set
// STEWARD_TEST_DATABASE_URL; any fixture of a feature.
//
// Nothing here is mocked: a test sees the database through the doors and the roles that the service
// uses. A copy costs some ten milliseconds, so no two tests need to share one, and all may run in
// parallel. A test without a server fails; it never skips.
package dbtest

import (
	"context"
	"database/sql"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fusionspim/steward/internal/base/clock"
	"github.com/fusionspim/steward/internal/base/sensitive"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

// Variable names the environment variable with the URL of the server for tests: a superuser's, to
// its database postgres.
const Variable = "STEWARD_TEST_DATABASE_URL"

// The pools are small, because tests run in parallel and the server's connections are all tests'
// together.
const (
	maxConnections      = 8
	platformConnections = 2
)

// Database is the database of one test. Safe for concurrent use.
type Database struct {
	URL sensitive.String // of this database, as superuser
	DB  *postgres.DB     // as the service sees it
	// the clock of DB; stands at 2026-03-01T12:00:00Z until the test moves it
	Clock *clock.Manual
	Log   *Log // what DB logged, and whatever else the test gives Log.Logger to

	mutex sync.Mutex
	looks *pgx.Conn // Peek's connection, made when it is needed
}

// New makes a migrated database, empty but for what the migrations put there. It is gone when the
// test has ended, and the test fails if it has left connections at work by then. Parallel subtests
// may share their parent's.
func New(t testing.TB) *Database {
	t.Helper()
	d := &Database{
		Clock: clock.NewManual(time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)),
		Log:   &Log{},
	}
	url, err := create(t, migrated)
	if err != nil {
		t.Fatal(err)
	}
	d.URL = url
	t.Cleanup(func() { d.lookAway(t) })
	t.Cleanup(func() {
		if text := d.Log.tail(); t.Failed() && text != "" {
			t.Logf("the log of this test, its end:\n%s", text)
		}
	})
	d.DB = d.Open(t)
	return d
}

// Copy makes a database that holds what another one holds at this moment, as one that was restored
// from a backup does. Nothing may be connected to the other one but its DB. The clock is the same.
func (d *Database) Copy(t testing.TB) *Database {
	t.Helper()
	d.lookAway(t)
	if err := d.DB.Close(); err != nil {
		t.Fatal(err)
	}
	out := &Database{Clock: d.Clock, Log: &Log{}}
	url, err := copyOf(t, d.URL)
	if err != nil {
		t.Fatal(err)
	}
	out.URL = url
	t.Cleanup(func() { out.lookAway(t) })
	t.Cleanup(func() {
		if text := out.Log.tail(); t.Failed() && text != "" {
			t.Logf("the log of a copy in this test, its end:\n%s", text)
		}
	})
	d.DB, out.DB = d.Open(t), out.Open(t)
	return out
}

// NewEmpty makes a database without any schema, for the tests of migrations, and returns its URL as
// superuser. It is gone when the test has ended.
func NewEmpty(t testing.TB) sensitive.String {
	t.Helper()
	url, err := create(t, empty)
	if err != nil {
		t.Fatal(err)
	}
	return url
}

// Open opens the database again, as another replica of the service would. It shares clock and
// log with DB. The settings can be changed.
func (d *Database) Open(t testing.TB, change ...func(*postgres.Settings)) *postgres.DB {
	t.Helper()
	settings := postgres.Settings{URL: d.URL, MaxConnections: maxConnections, PlatformConnections: platformConnections}
	for _, apply := range change {
		apply(&settings)
	}
	db, err := postgres.Open(settings, d.Clock.Now, d.Log.Logger())
	if err != nil {
		t.Fatalf("dbtest: %v", err)
	}
	t.Cleanup(func() {
		if n := stillAtWork(db); n > 0 {
			t.Errorf(
				"dbtest: %d connections of this test were still at work when it ended: it has to close its rows, end its transactions "+
					"and wait for its goroutines",
				n,
			)
		}
		if err := db.Close(); err != nil {
			t.Errorf("dbtest: closing the connections: %v", err)
		}
	})
	return db
}

// Peek asks for one row past the doors. However often it is called, it takes one connection, which
// another one follows when the server has ended it: for questions that are asked until the answer
// is the right one.
func (d *Database) Peek(t testing.TB, question string, into any, arguments ...any) {
	t.Helper()
	d.mutex.Lock()
	defer d.mutex.Unlock()
	for tries := 1; ; tries++ {
		if d.looks == nil || d.looks.IsClosed() {
			conn, err := connect(t.Context(), d.URL)
			if err != nil {
				t.Fatalf("dbtest: %v", err)
			}
			d.looks = conn
		}
		err := d.looks.QueryRow(t.Context(), question, arguments...).Scan(into)
		if err == nil {
			return
		}
		if !d.looks.IsClosed() || tries > 1 {
			t.Fatalf("%v, of: %s", err, question)
		}
	}
}

// lookAway ends Peek's connection.
func (d *Database) lookAway(t testing.TB) {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	if d.looks == nil {
		return
	}
	if err := d.looks.Close(context.Background()); err != nil {
		t.Errorf("dbtest: closing the connection that looked in: %v", err)
	}
	d.looks = nil
}

// Superuser connects past the doors: the connection sees the rows of every customer and may change
// all of them. It is the caller's own: for arranging, and for transactions.
func (d *Database) Superuser(t testing.TB) *pgx.Conn {
	t.Helper()
	conn, err := connect(t.Context(), d.URL)
	if err != nil {
		t.Fatalf("dbtest: %v", err)
	}
	t.Cleanup(func() {
		if err := conn.Close(context.Background()); err != nil {
			t.Errorf("dbtest: closing the superuser's connection: %v", err)
		}
	})
	return conn
}

// stillAtWork counts the connections in use. It gives what is just ending a moment.
func stillAtWork(db *postgres.DB) int {
	inUse := func(app, platform sql.DBStats) int { return app.InUse + platform.InUse }
	for began := time.Now(); inUse(db.Stats()) > 0 && time.Since(began) < patience; {
		time.Sleep(glance)
	}
	return inUse(db.Stats())
}
