package dbtest_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/testkit/dbtest"
)

// The roles that the service takes.
const (
	appRole      = "steward_app"
	platformRole = "steward_platform"
	workerRole   = "steward_worker"
	offboardRole = "steward_offboarder"
)

// classes are the first words of the comments of columns. The first migration says what each means.
var classes = []string{"id", "state", "time", "setting", "personal", "secret"}

// ourTables are the tables c. The list of migrations is goose's, and holds nothing of anybody.
const ourTables = ` (select oid, relname, relrowsecurity, relforcerowsecurity, relacl from pg_class
	where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') and relname <> 'goose_db_version') as c `

// ourColumns are the columns a of those tables.
const ourColumns = ` (select a.*, c.relname, description, coalesce(description ~ '^personal(:|$)', false) as personal
	from` + ourTables + `join pg_attribute a on a.attrelid = c.oid, col_description(a.attrelid, a.attnum) as description
	where a.attnum > 0 and not a.attisdropped) as a `

// none fails with every row that the statement finds, each a text that says what is wrong.
func none(t *testing.T, conn *pgx.Conn, rule, statement string, args ...any) {
	t.Helper()
	for _, culprit := range query[string](t, conn, statement, args...) {
		t.Errorf("%s: %s", rule, culprit)
	}
}

func TestRowSecurityIsOnAndForced(t *testing.T) {
	t.Parallel()
	superuser := dbtest.New(t).Superuser(t)
	if tables := query[string](t, superuser, "select relname from"+ourTables); len(tables) < 5 {
		t.Fatalf("only %q were found: this test looks in the wrong place", tables)
	}
	none(
		t,
		superuser,
		"a table needs: alter table .. enable row level security; alter table .. force row level security",
		"select relname from"+ourTables+"where not (relrowsecurity and relforcerowsecurity)",
	)
	none(t, superuser, "a view shows what its owner sees, past row security",
		"select relname from pg_class where relnamespace = 'public'::regnamespace and relkind in ('v', 'm')")
	none(t, superuser, "a security definer function sees what its owner sees, past row security",
		"select proname from pg_proc where pronamespace = 'public'::regnamespace and prosecdef")
}

func TestTheRolesOwnNothingAndPassNothing(t *testing.T) {
	t.Parallel()
	superuser := dbtest.New(t).Superuser(t)
	roles := []string{appRole, platformRole, workerRole, offboardRole}
	if found := query[string](
		t,
		superuser,
		"select rolname from pg_roles where rolname = any($1)",
		roles,
	); len(
		found,
	) != len(
		roles,
	) {
		t.Fatalf("there are only the roles %q", found)
	}
	none(t, superuser, "the role is superuser, passes row security, signs in or makes roles or databases", `
		select rolname from pg_roles where rolname = any($1)
		and (rolsuper or rolbypassrls or rolcanlogin or rolcreaterole or rolcreatedb or rolreplication)`, roles)
	none(t, superuser, "the role has another role's rights", `
		select format('%s is in %s', member::regrole, roleid::regrole) from pg_auth_members
		where member in (select oid from pg_roles where rolname = any($1))`, roles)
	none(t, superuser, "the role owns", `
		select format('%s owns %s', refobjid::regrole, pg_describe_object(classid, objid, objsubid)) from pg_shdepend
		where refclassid = 'pg_authid'::regclass and deptype = 'o' and refobjid in (select oid from pg_roles where rolname = any($1))`, roles)
	none(t, superuser, "the role may create in schema public", `
		select rolname from pg_roles where rolname = any($1) and has_schema_privilege(rolname, 'public', 'create')`, roles)
}

func TestEveryColumnIsClassed(t *testing.T) {
	t.Parallel()
	superuser := dbtest.New(t).Superuser(t)
	none(t, superuser, "a column needs a comment that begins with its class, one of "+strings.Join(classes, ", "), `
		select format('%s.%s, whose comment is %s', relname, attname, coalesce(quote_literal(description), 'missing'))
		from`+ourColumns+`where split_part(coalesce(description, ''), ':', 1) <> all($1) order by 1`, classes)
	none(t, superuser, "a table needs a comment: what its rows are",
		"select relname from"+ourTables+"where coalesce(obj_description(oid, 'pg_class'), '') = ''")
}

// Foreign keys pass row security, so a key without the customer could point at, and tell of,
// another customer's row.
func TestKeysBeginWithTheCustomer(t *testing.T) {
	t.Parallel()
	superuser := dbtest.New(t).Superuser(t)
	// The tables of tenants with the number of their column customer_id, and the keys that concern
	// them.
	const keys = `with tenants as (select attrelid as oid, relname, attnum, attnotnull from` + ourColumns + `where attname = 'customer_id'),
		keys as (select k.*, k.conrelid::regclass as holder, pg_get_constraintdef(k.oid) as definition,
			h.attnum as customer_here, r.attnum as customer_there
			from pg_constraint k left join tenants h on h.oid = k.conrelid left join tenants r on r.oid = k.confrelid) `
	none(
		t,
		superuser,
		"a table with customer_id needs a primary key that begins with it",
		keys+"select relname from tenants where oid not in (select conrelid from keys where contype = 'p' and conkey[1] = customer_here)",
	)
	none(t, superuser, "customer_id has to be filled always", keys+"select relname from tenants where not attnotnull")
	none(t, superuser, "a foreign key to or from rows of customers has to begin with customer_id on both sides",
		keys+`select format('%s of %s: %s', conname, holder, definition) from keys
		where contype = 'f' and confrelid <> 'customers'::regclass and (customer_here is not null or customer_there is not null)
		-- The operator who acts on a customer is a user of Fusions, which a column of its own names.
		and definition not like 'FOREIGN KEY (actor_operator_customer_id, actor_operator_id) REFERENCES users(customer_id, id)%'
		and not coalesce(conkey[1] = customer_here and confkey[1] = customer_there, false)`)
	none(t, superuser, "customer_id and nothing else points at customers",
		keys+`select format('%s of %s: %s', conname, holder, definition) from keys
		where contype = 'f' and confrelid = 'customers'::regclass
		and definition not like 'FOREIGN KEY (customer_id) REFERENCES customers(id)%'`)
}

func TestNoRoleRewritesAnIdentifierOrReadsPeopleOutsideCustomers(t *testing.T) {
	t.Parallel()
	superuser := dbtest.New(t).Superuser(t)
	roles := []string{appRole, platformRole, offboardRole}
	none(t, superuser, "no role may move a row to another identifier or another customer", `
		select format('%s: %s.%s', role, relname, attname) from unnest($1::text[]) as role,`+ourColumns+`
		where attname in ('id', 'customer_id') and has_column_privilege(role, attrelid, attnum, 'update')`, roles)
	none(t, superuser, platformRole+" may not read a personal column", `
		select format('%s.%s', relname, attname) from`+ourColumns+`where personal and has_column_privilege($1, attrelid, attnum, 'select')`,
		platformRole)
	none(t, superuser, "no role may truncate a table, refer to it or put triggers on it: that passes row security", `
		select format('%s: %s', role, relname) from unnest($1::text[]) as role,`+ourTables+`
		where has_table_privilege(role, oid, 'truncate, references, trigger')`, roles)
}

func TestTheTrailIsAppendOnly(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	superuser := d.Superuser(t)
	const rights = `select p from unnest(array['select', 'insert', 'update', 'delete', 'truncate', 'references', 'trigger']) p
		where has_table_privilege($1, 'audit_entries', p)
		or p in ('select', 'insert', 'update', 'references') and has_any_column_privilege($1, 'audit_entries', p) order by p`
	if got := query[string](t, superuser, rights, appRole); !slices.Equal(got, []string{"insert", "select"}) {
		t.Errorf("%s may %q", appRole, got)
	}
	if got := query[string](t, superuser, rights, platformRole); len(got) > 0 {
		t.Errorf("%s may %q", platformRole, got)
	}

	relax(t, superuser)
	fill(t, superuser, "audit_entries", id.New[id.Customer]())
	for _, role := range []string{"origin", "replica", "local"} {
		execute(t, superuser, "set session_replication_role = "+role)
		for _, statement := range []string{
			"update audit_entries set action = 'something.else'",
			"delete from audit_entries",
			"truncate audit_entries",
			"truncate audit_entries cascade",
			"merge into audit_entries a using (values (1)) v on true when matched then delete",
		} {
			_, err := superuser.Exec(t.Context(), statement)
			if code, text := refusal(err); code == "42601" && strings.HasPrefix(statement, "merge") {
				continue // PostgreSQL 14 does not know it
			} else if code != "23000" || !strings.Contains(text, "append-only") {
				t.Errorf("under session_replication_role = %s, %q gave %v", role, statement, err)
			}
		}
	}
	if n := query[int](t, superuser, "select count(*) from audit_entries"); n[0] != 1 {
		t.Errorf("there are %d entries left", n[0])
	}
}

// Samples of the planner are copies of values that outlive an erasure.
func TestThePlannerKeepsNoPersonalValues(t *testing.T) {
	t.Parallel()
	superuser := dbtest.New(t).Superuser(t)
	none(
		t,
		superuser,
		"a personal column needs: alter column .. set statistics 0",
		"select format('%s.%s', relname, attname) from"+ourColumns+"where personal and coalesce(attstattarget, -1) <> 0",
	)
	// An index over an expression has samples of its own. (Its dependencies tell which columns the
	// expression takes.)
	const dependent = " join pg_depend d on d.refclassid = 'pg_class'::regclass and d.refobjid = a.attrelid and d.refobjsubid = a.attnum "
	none(t, superuser, "no index over an expression of a personal column", `
		select distinct format('%s: %s.%s', i.indexrelid::regclass, a.relname, a.attname) from`+ourColumns+dependent+`
		join pg_index i on d.classid = 'pg_class'::regclass and i.indexrelid = d.objid and i.indexprs is not null where a.personal`)
	none(t, superuser, "no extended statistics over a personal column", `
		select distinct format('%s: %s.%s', s.stxname, a.relname, a.attname) from`+ourColumns+dependent+`
		join pg_statistic_ext s on d.classid = 'pg_statistic_ext'::regclass and s.oid = d.objid where a.personal`)

	// And that this is enough:
	relax(t, superuser)
	for range 20 {
		customer := id.New[id.Customer]()
		for _, table := range tenantTables(t, superuser) {
			fill(t, superuser, table, customer)
		}
	}
	execute(t, superuser, "analyze")
	if n := query[int](
		t,
		superuser,
		"select count(*) from pg_stats where schemaname = 'public' and tablename = 'users'",
	); n[0] == 0 {
		t.Error("there are no samples at all: this test proves nothing")
	}
	none(t, superuser, "after ANALYZE there are samples of", `
		select format('%s.%s', a.relname, a.attname) from`+ourColumns+`
		join pg_statistic s on s.starelid = a.attrelid and s.staattnum = a.attnum where a.personal`)
}

// Each customer has one row in every table. What one customer's work sees, changes and adds is
// looked at table by table, whichever tables there are.
func TestACustomerSeesItsRowsAlone(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	superuser := d.Superuser(t)
	relax(t, superuser)
	ours, theirs := id.New[id.Customer](), id.New[id.Customer]()
	tables := tenantTables(t, superuser)
	for _, table := range tables {
		fill(t, superuser, table, ours)
		fill(t, superuser, table, theirs)
	}
	// so that all use the same connection, one after the other
	db := d.Open(t, func(s *postgres.Settings) { s.MaxConnections = 1 })

	// seen returns the customers whose rows of a table are visible through a door.
	type door func(func(*postgres.Tx) error) error
	seen := func(door door, table string) (customers []string, err error) {
		err = door(func(tx *postgres.Tx) (err error) {
			customers, err = postgres.Column[string](tx, "select "+customerColumn(table)+" from "+table)
			return err
		})
		return customers, err
	}
	for _, table := range tables {
		t.Run(table, func(t *testing.T) {
			doors := func(customer id.Customer) map[string]door {
				return map[string]door{
					"InCustomer":           func(work func(*postgres.Tx) error) error { return db.InCustomer(t.Context(), customer, work) },
					"InCustomerAutocommit": func(work func(*postgres.Tx) error) error { return db.InCustomerAutocommit(t.Context(), customer, work) },
				}
			}
			for _, customer := range []id.Customer{ours, theirs, ours} {
				for name, door := range doors(customer) {
					if got, err := seen(door, table); err != nil || !slices.Equal(got, []string{customer.String()}) {
						t.Errorf("%s of %s sees the rows of %q (%v)", name, customer, got, err)
					}
				}
			}
			// a door that did not open for nobody would be as good
			for name, door := range doors(id.Customer{}) {
				if got, err := seen(door, table); len(got) > 0 {
					t.Errorf("%s of no customer, after one of %s, sees the rows of %q (%v)", name, ours, got, err)
				}
			}

			may := func(privilege string) bool {
				return query[bool](t, superuser, "select has_table_privilege($1, $2, $3)", appRole, table, privilege)[0]
			}
			if may("insert") {
				err := db.InCustomer(t.Context(), ours, func(tx *postgres.Tx) error {
					_, err := tx.Exec(insertion(t, superuser, table, theirs))
					return err
				})
				if code, text := refusal(err); code != "42501" || !strings.Contains(text, "row-level security") {
					t.Errorf("a row for another customer was not refused by row security: %v", err)
				}
			}
			if may("delete") {
				err := db.InCustomer(t.Context(), ours, func(tx *postgres.Tx) error {
					deleted, err := tx.Exec("delete from "+table+" where "+customerColumn(table)+" = $1", theirs)
					if deleted != 0 {
						t.Errorf("rows of another customer were deleted: %d", deleted)
					}
					return err
				})
				if err != nil {
					t.Errorf("deleting nothing: %v", err)
				}
			}
			if n := query[int](t, superuser, "select count(*) from "+table); n[0] != 2 {
				t.Errorf("in the end there are %d rows instead of 2", n[0])
			}
		})
	}
}

// The policies themselves, without a door before them: as when a door is forgotten.
func TestWithoutACustomerNothingIsSeen(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	superuser := d.Superuser(t)
	relax(t, superuser)
	tables := tenantTables(t, superuser)
	for _, table := range tables {
		fill(t, superuser, table, id.New[id.Customer]())
	}
	unset := d.Superuser(t)
	execute(t, unset, "set role "+appRole)
	empty := d.Superuser(t)
	execute(t, empty, "set role "+appRole)
	// leaves '' behind
	execute(t, empty, "begin; select set_config('app.customer_id', gen_random_uuid()::text, true); commit")
	for _, table := range tables {
		for name, conn := range map[string]*pgx.Conn{"never set": unset, "empty": empty} {
			if n := query[int](t, conn, "select count(*) from "+table); n[0] != 0 {
				t.Errorf("with app.customer_id %s, %d rows of %s are seen", name, n[0], table)
			}
		}
	}
}
