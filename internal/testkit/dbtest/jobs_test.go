package dbtest_test

import (
	"context"
	"log/slog"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river/riverdriver/riverdatabasesql"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/testkit/dbtest"
)

// jobTables are the tables c of jobs. The list of River's own migrations holds nothing of anybody.
const jobTables = ` (select oid, relname, relrowsecurity, relforcerowsecurity from pg_class
	where relnamespace = 'jobs'::regnamespace and relkind in ('r', 'p') and relname <> 'river_migration') as c `

// River makes these tables, so the rules of the house are put upon them afterwards.
func TestTheTablesOfJobsKeepTheRules(t *testing.T) {
	t.Parallel()
	superuser := dbtest.New(t).Superuser(t)
	if tables := query[string](
		t,
		superuser,
		"select relname from"+jobTables+"order by 1",
	); !slices.Contains(
		tables,
		"river_job",
	) {
		t.Fatalf("only %q were found: this test looks in the wrong place", tables)
	}
	none(
		t,
		superuser,
		"row security is not on and forced",
		"select relname from"+jobTables+"where not (relrowsecurity and relforcerowsecurity)",
	)
	none(t, superuser, "a column needs a comment that begins with its class, and none of jobs is personal", `
		select format('%s.%s', c.relname, a.attname) from`+jobTables+`join pg_attribute a on a.attrelid = c.oid
		where a.attnum > 0 and not a.attisdropped
		and split_part(coalesce(col_description(a.attrelid, a.attnum), ''), ':', 1) <> all($1)`, slices.DeleteFunc(slices.Clone(classes), func(class string) bool {
		return class == "personal"
	}))
	none(
		t,
		superuser,
		"a table needs a comment",
		"select relname from"+jobTables+"where coalesce(obj_description(oid, 'pg_class'), '') = ''",
	)
	none(
		t,
		superuser,
		"a function passes row security",
		"select proname from pg_proc where pronamespace = 'jobs'::regnamespace and prosecdef",
	)
}

func TestWhoMayDoWhatWithJobs(t *testing.T) {
	t.Parallel()
	superuser := dbtest.New(t).Superuser(t)
	none(t, superuser, workerRole+" may touch what is not of jobs", `
		select relname from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p')
		and (has_table_privilege($1, oid, 'select, insert, update, delete, truncate, references, trigger')
			or has_any_column_privilege($1, oid, 'select, insert, update, references'))`, workerRole)
	none(t, superuser, platformRole+" may touch jobs", `
		select relname from`+jobTables+`where has_table_privilege($1, oid, 'select, insert, update, delete, truncate, references, trigger')
		or has_any_column_privilege($1, oid, 'select, insert, update, references')`, platformRole)
	none(t, superuser, appRole+" may do more than add", `
		select relname from`+jobTables+`where has_table_privilege($1, oid, 'update, delete, truncate, references, trigger')
		or relname <> 'river_job' and has_table_privilege($1, oid, 'select, insert')`, appRole)
	none(t, superuser, appRole+" may rewrite", `
		select a.attname from`+jobTables+`join pg_attribute a on a.attrelid = c.oid where a.attnum > 0 and not a.attisdropped
		and a.attname <> 'kind' and has_column_privilege($1, a.attrelid, a.attnum, 'update')`, appRole)
	none(t, superuser, workerRole+" may pass row security", `
		select relname from`+jobTables+`where has_table_privilege($1, oid, 'truncate, references, trigger')`, workerRole)
}

// A new River brings its tables' new version; ours is written into a step of the migrations, and a
// later step has to bring it up.
func TestTheTablesOfJobsAreOfTheVersionOfTheLibrary(t *testing.T) {
	t.Parallel()
	migrator, err := rivermigrate.New(
		riverdatabasesql.New(nil),
		&rivermigrate.Config{Logger: slog.New(slog.DiscardHandler)},
	)
	if err != nil {
		t.Fatal(err)
	}
	versions := migrator.AllVersions()
	newest := versions[len(versions)-1].Version
	superuser := dbtest.New(t).Superuser(t)
	if is := query[int](t, superuser, "select max(version) from jobs.river_migration"); is[0] != newest {
		t.Errorf("the tables are of version %d, the library's are of %d: add a migration", is[0], newest)
	}
}

func TestMigratingDownLeavesNoJobs(t *testing.T) {
	t.Parallel()
	url := dbtest.NewEmpty(t)
	for range up(t, url) {
		if _, err := postgres.MigrateDown(t.Context(), url); err != nil {
			t.Fatal(err)
		}
	}
	conn, err := pgx.Connect(t.Context(), url.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background()) //nolint:errcheck // nothing depends on how it ends
	if left := query[string](t, conn, "select nspname from pg_namespace where nspname = 'jobs'"); len(left) > 0 {
		t.Errorf("%q is left", left)
	}
}
