package dbtest_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/testkit/dbtest"
)

func TestTwoDatabasesAreApart(t *testing.T) {
	t.Parallel()
	one, other := dbtest.New(t), dbtest.New(t)
	if one.URL.Reveal() == other.URL.Reveal() {
		t.Fatal("both have the same address")
	}
	execute(
		t,
		one.Superuser(t),
		"insert into signing_keys (id, sealed_private, created_at, signs_from) values ('key', 'secret', now(), now())",
	)
	if n := query[int](t, one.Superuser(t), "select count(*) from signing_keys"); n[0] != 1 {
		t.Errorf("the row is not where it was put: %d", n[0])
	}
	if n := query[int](t, other.Superuser(t), "select count(*) from signing_keys"); n[0] != 0 {
		t.Errorf("the row is seen in the other database")
	}
}

func insertKey(tx *postgres.Tx, key string) error {
	_, err := tx.Exec(`
		insert into signing_keys (id, sealed_private, created_at, signs_from) values (@key, 'secret', @now, @now)`,
		postgres.Args{"key": key, "now": tx.Now})
	return err
}

func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	for i := range 20 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			d := dbtest.New(t)
			key := fmt.Sprintf("key %d", i)
			err := d.DB.InPlatform(t.Context(), func(tx *postgres.Tx) error {
				return insertKey(tx, key)
			})
			if err != nil {
				t.Fatal(err)
			}
			if keys := query[string](
				t,
				d.Superuser(t),
				"select id from signing_keys",
			); len(keys) != 1 ||
				keys[0] != key {
				t.Errorf("the database holds %q", keys)
			}
		})
	}
}

func TestAnotherReplicaSeesTheSame(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	replica := d.Open(t, func(s *postgres.Settings) { s.PlatformConnections = 1 })
	work := func(tx *postgres.Tx) error { return insertKey(tx, "key") }
	if err := d.DB.InPlatform(t.Context(), work); err != nil {
		t.Fatal(err)
	}
	if err := replica.InPlatform(t.Context(), work); !postgres.Violates(err, "signing_keys_pkey") {
		t.Errorf("the second insert gave %v", err)
	}
	if _, platform := replica.Stats(); platform.MaxOpenConnections != 1 {
		t.Errorf("the changed setting was not taken: %d", platform.MaxOpenConnections)
	}
}

func TestTheClockIsTheTests(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	start := time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)
	if now := d.DB.Now(); !now.Equal(start) {
		t.Errorf("it starts at %v", now)
	}
	d.Clock.Advance(36 * time.Hour)
	err := d.DB.InPlatform(t.Context(), func(tx *postgres.Tx) error {
		if want := start.Add(36 * time.Hour); !tx.Now.Equal(want) {
			t.Errorf("the work sees %v, not %v", tx.Now, want)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestTheLogIsCaught(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	err := d.DB.InPlatform(t.Context(), func(tx *postgres.Tx) error {
		_, err := tx.Exec("do $$ begin raise notice 'a text with a value'; end $$")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	records := d.Log.Records()
	if len(records) != 1 || records[0]["msg"] != "the database sent a notice" || records[0]["level"] != "WARN" {
		t.Errorf("the notice gave %v", records)
	}
	if strings.Contains(d.Log.String(), "a text with a value") {
		t.Error("the log repeats the text of the database")
	}
	d.Log.Logger().Debug("one more", "n", 1)
	if messages := d.Log.Messages(); len(messages) != 2 || messages[1] != "one more" {
		t.Errorf("the messages are %q", messages)
	}
	d.Log.Forget()
	if d.Log.String() != "" {
		t.Error("the log forgets nothing")
	}
}

func TestWithoutAServerATestFailsAndSaysHowToStartOne(t *testing.T) {
	t.Setenv(dbtest.Variable, "")
	said := failureOf(func(t testing.TB) { dbtest.New(t) })
	for _, want := range []string{"make test", "go run ./internal/testkit/dbtest/with go test ./...", dbtest.Variable} {
		if !strings.Contains(said, want) {
			t.Errorf("it says nothing of %s: %q", want, said)
		}
	}
}

func TestWhatIsLeftOpenIsReported(t *testing.T) {
	t.Parallel()
	var conn *pgx.Conn
	said := failureOf(func(inner testing.TB) {
		d := dbtest.New(inner)
		var err error
		if conn, err = pgx.Connect(t.Context(), d.URL.Reveal()); err != nil {
			t.Fatal(err)
		}
	})
	if !strings.Contains(said, "1 connections to the test's database were left open") {
		t.Errorf("it says %q", said)
	}
	if err := conn.Ping(t.Context()); err == nil {
		t.Error("the database was not dropped")
	}
}

func TestWorkLeftUndoneIsReported(t *testing.T) {
	t.Parallel()
	finish, finished := make(chan struct{}), make(chan struct{})
	said := failureOf(func(inner testing.TB) {
		d := dbtest.New(inner)
		begun := make(chan struct{})
		go func() {
			defer close(finished)
			// its database goes away
			_ = d.DB.InPlatform(t.Context(), func(*postgres.Tx) error { close(begun); <-finish; return nil })
		}()
		<-begun
	})
	close(finish)
	<-finished
	if !strings.Contains(said, "1 connections of this test were still at work") {
		t.Errorf("it says %q", said)
	}
}

// failureOf runs a test and its cleanups and returns what it failed with.
func failureOf(test func(testing.TB)) string {
	inner := &recorder{}
	done := make(chan struct{})
	go func() { // Fatal ends the goroutine
		defer close(done)
		defer inner.end()
		test(inner)
	}()
	<-done
	return inner.said.String()
}
