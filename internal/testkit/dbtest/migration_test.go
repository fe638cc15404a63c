package dbtest_test

import (
	"context"
	"log/slog"
	neturl "net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/fusionspim/steward/internal/base/clock"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/sensitive"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/testkit/dbtest"
)

func TestMigratingAnEmptyDatabaseUpAndUpAgain(t *testing.T) {
	t.Parallel()
	url := dbtest.NewEmpty(t)
	if err := schemaError(t, url); err == nil || !strings.Contains(err.Error(), "steward migrate up") {
		t.Errorf("of an empty database it is said: %v", err)
	}
	applied := up(t, url)
	if len(applied) == 0 {
		t.Error("nothing was applied")
	}
	if err := schemaError(t, url); err != nil {
		t.Errorf("after migrating up: %v", err)
	}
	if again := up(t, url); len(again) > 0 {
		t.Errorf("the second time applied %v", again)
	}
	status, err := postgres.MigrationStatus(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	if len(status) != len(applied) {
		t.Errorf("the status lists %d steps, %d were applied", len(status), len(applied))
	}
	for _, step := range status {
		if step.AppliedAt == nil {
			t.Errorf("%s counts as not applied", step.Name)
		}
	}
}

func TestMigratingAtOnceWorksOnce(t *testing.T) {
	t.Parallel()
	url := dbtest.NewEmpty(t)
	var replicas sync.WaitGroup
	applied := make([][]postgres.Migration, 5)
	for i := range applied {
		replicas.Go(func() {
			var err error
			if applied[i], err = postgres.MigrateUp(t.Context(), url); err != nil {
				t.Errorf("replica %d: %v", i, err)
			}
		})
	}
	replicas.Wait()
	all := slices.Concat(applied...)
	for i, step := range all {
		if slices.ContainsFunc(all[:i], func(other postgres.Migration) bool { return other.Version == step.Version }) {
			t.Errorf("%s was applied twice", step.Name)
		}
	}
	if err := schemaError(t, url); err != nil {
		t.Error(err)
	}
}

// Databases of one server share its roles, which the migrations of each make.
func TestMigratingSeveralDatabasesOfOneServerAtOnce(t *testing.T) {
	t.Parallel()
	var databases sync.WaitGroup
	for range 4 {
		url := dbtest.NewEmpty(t)
		databases.Go(func() {
			if _, err := postgres.MigrateUp(t.Context(), url); err != nil {
				t.Error(err)
			}
		})
	}
	databases.Wait()
}

func TestMigratingDownAndUpGivesTheSameSchema(t *testing.T) {
	t.Parallel()
	url := dbtest.NewEmpty(t)
	steps := len(up(t, url))
	before := schema(t, url)
	for range steps {
		undone, err := postgres.MigrateDown(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		if len(undone) != 1 {
			t.Errorf("a step down undid %v", undone)
		}
		if err := schemaError(t, url); err == nil || !strings.Contains(err.Error(), "steward migrate up") {
			t.Errorf("of an older schema it is said: %v", err)
		}
	}
	if left := schema(t, url); len(left) > 0 {
		t.Errorf("migrating down leaves %q", left)
	}
	if undone, err := postgres.MigrateDown(t.Context(), url); err != nil || len(undone) > 0 {
		t.Errorf("a step down from the bottom undid %v and gave %v", undone, err)
	}
	up(t, url)
	after := schema(t, url)
	for _, line := range before {
		if !slices.Contains(after, line) {
			t.Errorf("the second time lacks %s", line)
		}
	}
	for _, line := range after {
		if !slices.Contains(before, line) {
			t.Errorf("the second time has on top %s", line)
		}
	}
	if err := schemaError(t, url); err != nil {
		t.Error(err)
	}
}

func TestASchemaOfTheFutureIsRefused(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	if err := d.DB.CheckSchema(t.Context()); err != nil {
		t.Errorf("of the schema as it is: %v", err)
	}
	execute(t, d.Superuser(t), "insert into goose_db_version (version_id, is_applied) values (99999, true)")
	if err := d.DB.CheckSchema(t.Context()); err == nil || !strings.Contains(err.Error(), "newer") {
		t.Errorf("of a newer schema it is said: %v", err)
	}
}

func TestTheRolesPassTheirCheck(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	if err := d.DB.CheckRoles(t.Context()); err != nil {
		t.Error(err)
	}
}

func up(t *testing.T, url sensitive.String) []postgres.Migration {
	t.Helper()
	applied, err := postgres.MigrateUp(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	return applied
}

// schemaError is what CheckSchema says.
func schemaError(t *testing.T, url sensitive.String) error {
	t.Helper()
	db, err := postgres.Open(
		postgres.Settings{URL: url, MaxConnections: 1, PlatformConnections: 1},
		clock.System(),
		slog.New(slog.DiscardHandler),
	)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	return db.CheckSchema(t.Context())
}

// schema describes what the migrations have made, a line for each thing.
func schema(t *testing.T, url sensitive.String) []string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background()) //nolint:errcheck // nothing depends on how it ends
	return query[string](t, conn, `
		select format('table %s, row security %s, forced %s, rights %s', relname, relrowsecurity, relforcerowsecurity, relacl) from`+ourTables+`
		union all
		select format('column %s.%s %s, not null %s, rights %s, statistics %s, comment %s', relname, attname,
			format_type(atttypid, atttypmod), attnotnull, attacl, attstattarget, description)
		from`+ourColumns+`
		union all
		select format('constraint %s of %s: %s', conname, conrelid::regclass, pg_get_constraintdef(oid)) from pg_constraint
		where connamespace = 'public'::regnamespace and conrelid <> coalesce(to_regclass('goose_db_version'), 0)
		union all
		select format('index %s', indexdef) from pg_indexes where schemaname = 'public' and tablename <> 'goose_db_version'
		union all
		select format('trigger %s, %s', pg_get_triggerdef(oid), tgenabled) from pg_trigger where not tgisinternal
		union all
		select format('policy %s', p) from pg_policies p where schemaname = 'public'
		union all
		select format('function %s', proname) from pg_proc where pronamespace = 'public'::regnamespace
		union all
		select format('type %s', typname) from pg_type where typnamespace = 'public'::regnamespace and typtype in ('e', 'd')`)
}

// Where the roles are there, a user who may not make any migrates: an administrator has made the
// roles, and the user a member of them.
func TestMigratingWithoutTheRightToMakeRoles(t *testing.T) {
	t.Parallel()
	superuser := dbtest.New(t).Superuser(t) // whose migrations have made the roles
	user := "steward_migrator_" + strings.ReplaceAll(id.New[id.Request]().String(), "-", "")
	url := dbtest.NewEmpty(t)
	config, err := pgx.ParseConfig(url.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	execute(t, superuser, "create role "+user+" login nocreaterole nocreatedb nosuperuser")
	t.Cleanup(func() {
		conn, err := pgx.Connect(context.Background(), url.Reveal())
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close(context.Background()) //nolint:errcheck // nothing depends on how it ends
		if _, err := conn.Exec(
			context.Background(),
			"reassign owned by "+user+" to current_user; drop owned by "+user+"; drop role "+user,
		); err != nil {
			t.Error(err)
		}
	})
	execute(t, superuser, "grant "+appRole+", "+platformRole+", "+workerRole+", "+offboardRole+" to "+user)
	execute(t, superuser, "alter database "+pgx.Identifier{config.Database}.Sanitize()+" owner to "+user)
	parsed, err := neturl.Parse(url.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	// The user has no password, so it is taken by a superuser's connection.
	parameters := parsed.Query()
	parameters.Set("role", user)
	parsed.RawQuery = parameters.Encode()
	as := sensitive.New(parsed.String())
	if applied := up(t, as); len(applied) == 0 {
		t.Error("nothing was applied")
	}

	// Row security binds the owner too; a step that fills rows of all customers has to reach them
	// nevertheless.
	for {
		undone, err := postgres.MigrateDown(t.Context(), as)
		if err != nil || len(undone) != 1 {
			t.Fatalf("%v %v", undone, err)
		}
		if undone[0].Version == 16 {
			break
		}
	}
	conn := connected(t, url)
	execute(t, conn, "set session_replication_role = replica")
	execute(
		t,
		conn,
		`insert into erasure_receipts (customer_id, id, kind, user_id, authority, completed_at, removed, kept)
		values (gen_random_uuid(), gen_random_uuid(), 'deletion', gen_random_uuid(), 'system', '2026-01-05T08:00:00Z', '[]', '[]')`,
	)
	execute(
		t,
		conn,
		"insert into trail_keys (id, public_key, sealed_private, created_at) values ('x', decode(repeat('00', 32), 'hex'), '', now())",
	)
	up(t, as)
	if filled := query[bool](
		t,
		conn,
		`select state = 'pending' and erased_at = completed_at and erased_in > 0 and jws is null from erasure_receipts
		union all select purpose = 'trail' from proof_keys`,
	); !slices.Equal(
		filled,
		[]bool{true, true},
	) {
		t.Errorf("rows of before are filled: %v", filled)
	}
	if err := schemaError(t, url); err != nil {
		t.Error(err)
	}
	if owners := query[string](
		t,
		conn,
		"select distinct tableowner::text from pg_tables where schemaname = 'public'",
	); !slices.Equal(
		owners,
		[]string{user},
	) {
		t.Errorf("the tables belong to %q", owners)
	}
}

func connected(t *testing.T, url sensitive.String) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) }) //nolint:errcheck // nothing depends on how it ends
	return conn
}
