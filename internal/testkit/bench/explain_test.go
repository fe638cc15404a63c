package bench_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/fusionspim/steward/internal/account/customer"
	"github.com/fusionspim/steward/internal/account/user"
	"github.com/fusionspim/steward/internal/app"
	"github.com/fusionspim/steward/internal/base/clock"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/base/version"
	"github.com/fusionspim/steward/internal/infra/blob"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/infra/seal"
	"github.com/fusionspim/steward/internal/record/audit"
	"github.com/fusionspim/steward/internal/record/backup"
	"github.com/fusionspim/steward/internal/record/ledger"
	"github.com/fusionspim/steward/internal/testkit/apptest"
	"github.com/fusionspim/steward/internal/testkit/bench"
	"github.com/fusionspim/steward/internal/testkit/dbtest"
)

// TestQueriesUseIndexes asks PostgreSQL how it would run what the service really sends, as the role
// that the service has, with the rows of a customer of some size. A statement that was prepared is
// planned for its arguments the first times, and after that perhaps for any: neither plan may read
// a whole table.
//
// Not among them are users by role or by alert setting alone, and entries by target id without its
// type: no index fits those, so they read the rows of the customer until the page is full, and
// where one customer has nearly all rows that is done by reading the table.
func TestQueriesUseIndexes(t *testing.T) {
	t.Parallel()
	database := dbtest.New(t)
	recording := &recorder{}
	db := database.Open(t, func(settings *postgres.Settings) { settings.Tracer = recording })
	customers := customer.NewService(db)
	nothing := func(*postgres.Tx) error { return nil }
	of, err := customers.Create(t.Context(), customer.New{Slug: "acme", Name: "Acme Tools"}, nothing)
	if err != nil {
		t.Fatal(err)
	}
	small, err := customers.Create(t.Context(), customer.New{Slug: "globex", Name: "Globex Foods"}, nothing)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bench.Seed(
		t.Context(),
		database.URL,
		small.ID,
		bench.Population{Users: 500, Entries: 500},
	); err != nil {
		t.Fatal(err)
	}
	people, err := bench.Seed(t.Context(), database.URL, of.ID, bench.Population{Users: 10_000, Entries: 100_000})
	if err != nil {
		t.Fatal(err)
	}

	book := newLedger(t, db)
	backups := backup.NewService(db, backup.Vault{}, nil, nil, backup.Settings{}, slog.New(slog.DiscardHandler))
	// no user is created or erased here
	users := user.NewService(user.Dependencies{DB: db, Ledger: book, Backups: backups, Stores: app.Stores()})
	trail := audit.NewService(db)
	caller := principal.Principal{Customer: of.ID, User: people[1], Role: principal.Administrator}
	somebody, optedOut, name := people[4321], false, "Noor"
	now := database.Clock.Now()
	listUsers := func(filter user.Filter, before id.User) func() error {
		return func() error {
			_, err := users.List(t.Context(), caller, filter, before, 51)
			return err
		}
	}
	listEntries := func(filter audit.Filter, before id.Entry) func() error {
		return func() error {
			_, err := trail.List(t.Context(), caller, filter, before, 51)
			return err
		}
	}
	for _, test := range []struct {
		name string
		do   func() error
	}{
		{"users", listUsers(user.Filter{}, id.User{})},
		{"users, next page", listUsers(user.Filter{}, somebody)},
		{"users by prefix", listUsers(user.Filter{Prefix: "noo"}, id.User{})},
		{"users by prefix, next page", listUsers(user.Filter{Prefix: "haddad77"}, somebody)},
		{"users by address", listUsers(user.Filter{Email: "person4321@people.example"}, id.User{})},
		{"users by status", listUsers(user.Filter{Status: user.Disabled}, id.User{})},
		{"users by everything", listUsers(user.Filter{Prefix: "noo", Status: user.Active, Role: principal.User, AlertsOptedIn: &optedOut}, somebody)},
		{"user", func() error { _, err := users.Get(t.Context(), caller, somebody); return err }},
		{"me", func() error { _, err := users.Me(t.Context(), caller); return err }},
		{"correction", func() error {
			_, err := users.Update(t.Context(), caller, somebody, user.Patch{FirstName: &name}, version.Condition{})
			return err
		}},
		{"alerts", func() error {
			_, err := users.SetAlerts(t.Context(), caller, somebody, false, version.Condition{})
			return err
		}},
		{"entries", listEntries(audit.Filter{}, id.Entry{})},
		{"entries, next page", listEntries(audit.Filter{}, id.New[id.Entry]())},
		{"entries by actor", listEntries(audit.Filter{ActorUserID: &somebody}, id.Entry{})},
		{"entries by action", listEntries(audit.Filter{Action: "asset.uploaded"}, id.Entry{})},
		{"entries by frequent action", listEntries(audit.Filter{Action: "product.updated"}, id.Entry{})},
		{"entries by target type", listEntries(audit.Filter{TargetType: "product"}, id.Entry{})},
		{"entries by target", listEntries(audit.Filter{TargetType: "product", TargetID: "48000777"}, id.Entry{})},
		{"entries from", listEntries(audit.Filter{From: &now}, id.Entry{})},
		{"entries to", listEntries(audit.Filter{To: &now}, id.Entry{})},
		{"entries by everything", listEntries(audit.Filter{
			ActorUserID: &somebody, Action: "product.updated", TargetType: "product", TargetID: "48000777", From: &now, To: &now,
		}, id.New[id.Entry]())},
		{"what refers to a user", func() error { _, err := users.Plan(t.Context(), caller, somebody); return err }},
		{"batch of entries", func() error {
			entries := make([]audit.NewEntry, 1000)
			for i := range entries {
				entries[i] = audit.NewEntry{
					ActorUserID: people[i], Action: "product.updated", Target: audit.Target{Type: "product", ID: "1"}, OccurredAt: now,
					SourceID: "pim-" + id.New[id.Entry]().String(),
				}
			}
			_, err := trail.Record(t.Context(), caller, entries, nil)
			return err
		}},
	} {
		t.Run(
			test.name,
			func(t *testing.T) { //nolint:paralleltest // the statements of one test are told from another's by their order
				sent := recording.of(t, test.do)
				if len(sent) == 0 {
					t.Fatal("nothing was sent")
				}
				for _, statement := range sent {
					for kind, plan := range statement.plans(t, db, of.ID) {
						for _, table := range []string{"users", "audit_entries"} {
							if strings.Contains(plan, "Seq Scan on "+table) {
								t.Errorf("the %s plan reads all of %s:\n%s\n%s", kind, table, statement.text, plan)
							}
						}
					}
				}
			},
		)
	}
}

// recorder records the statements of its database that run while work is recorded. It implements
// pgx.QueryTracer.
type recorder struct {
	mutex   sync.Mutex
	running bool
	sent    []statement
}

type statement struct {
	text      string
	arguments []any
}

// TraceQueryStart implements pgx.QueryTracer.
func (r *recorder) TraceQueryStart(ctx context.Context, _ *pgx.Conn, query pgx.TraceQueryStartData) context.Context {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	switch word, _, _ := strings.Cut(strings.TrimSpace(query.SQL), " "); strings.ToLower(word) {
	case "select", "with", "insert", "update", "delete":
		if r.running && !strings.Contains(query.SQL, "set_config(") {
			arguments := slices.DeleteFunc(slices.Clone(query.Args), isOption)
			r.sent = append(r.sent, statement{query.SQL, arguments})
		}
	}
	return ctx
}

// isOption reports whether an argument tells pgx how to run a statement, and is not one of it.
func isOption(argument any) bool {
	switch argument.(type) {
	case pgx.QueryResultFormats, pgx.QueryResultFormatsByOID, pgx.QueryExecMode:
		return true
	}
	return false
}

// TraceQueryEnd implements pgx.QueryTracer.
func (*recorder) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (r *recorder) record(running bool) (sent []statement) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.running = running
	sent, r.sent = r.sent, nil
	return sent
}

// of returns what some work sends.
func (r *recorder) of(t *testing.T, work func() error) []statement {
	t.Helper()
	r.record(true)
	defer r.record(false)
	if err := work(); err != nil {
		t.Fatal(err)
	}
	return r.record(false)
}

// plans returns the plan for the arguments at hand, and the one for any arguments.
func (s statement) plans(t *testing.T, db *postgres.DB, of id.Customer) map[string]string {
	t.Helper()
	plans := make(map[string]string)
	explain := func(tx *postgres.Tx, kind, text string, arguments ...any) error {
		lines, err := postgres.Column[string](tx, text, arguments...)
		plans[kind] = strings.Join(lines, "\n")
		return err
	}
	run := func(tx *postgres.Tx, text string) error {
		_, err := tx.Exec(text)
		return err
	}
	err := db.InCustomer(t.Context(), of, func(tx *postgres.Tx) error {
		anything := ""
		if len(s.arguments) > 0 {
			anything = "(null" + strings.Repeat(", null", len(s.arguments)-1) + ")"
		}
		return errors.Join(
			explain(tx, "custom", "explain "+s.text, s.arguments...),
			run(tx, "set local plan_cache_mode = force_generic_plan"),
			run(tx, "prepare looked_at as "+s.text),
			explain(tx, "generic", "explain execute looked_at"+anything),
			run(tx, "deallocate looked_at"),
		)
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, s.text)
	}
	return plans
}

// newLedger is a ledger that begins with the test.
func newLedger(t *testing.T, db *postgres.DB) *ledger.Ledger {
	t.Helper()
	store, err := blob.Open(blob.Settings{URL: "file://" + t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	box, err := seal.ParseMasterKey(apptest.MasterKey())
	if err != nil {
		t.Fatal(err)
	}
	book := ledger.New(store, box, clock.System(), slog.New(slog.DiscardHandler))
	t.Cleanup(book.Close)
	if _, err := book.Survey(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	return book
}
