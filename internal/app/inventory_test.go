package app_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/fusionspim/steward/internal/app"
	"github.com/fusionspim/steward/internal/base/inventory"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/testkit/dbtest"
)

// bookkeeping are the tables of the libraries that migrate the schema. They hold nothing of anyone.
var bookkeeping = []string{"goose_db_version", "jobs.river_migration"}

// catalogue asks the database about itself.
type catalogue struct {
	t    *testing.T
	conn *pgx.Conn
}

func (c catalogue) ask(statement string, args ...any) []string {
	c.t.Helper()
	rows, err := c.conn.Query(c.t.Context(), statement, args...)
	if err != nil {
		c.t.Fatalf("%v\n%s", err, statement)
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		c.t.Fatalf("%v\n%s", err, statement)
	}
	return found
}

// same fails unless what a table has is what its declaration says.
func (c catalogue) same(of, what string, has, declared []string) {
	c.t.Helper()
	if !slices.Equal(has, declared) {
		c.t.Errorf("%s of %s: the database has\n%q, and the declaration\n%q", what, of, has, declared)
	}
}

// Each table is declared, and each declaration is what the database has: columns with their classes, the
// key, foreign keys, policies and rights.
func TestTheInventoryIsTheCatalogue(t *testing.T) {
	t.Parallel()
	c := catalogue{t, dbtest.New(t).Superuser(t)}
	tables := slices.DeleteFunc(c.ask(`
		select oid::regclass::text from pg_class
		where relnamespace in ('public'::regnamespace, 'jobs'::regnamespace) and relkind in ('r', 'p') and not relispartition`),
		func(table string) bool { return slices.Contains(bookkeeping, table) })
	var declared []string
	for _, store := range app.Stores() {
		if store.Table == "" {
			continue
		}
		declared = append(declared, store.Table)
		if slices.Contains(tables, store.Table) {
			c.compare(store)
		}
	}
	slices.Sort(tables)
	slices.Sort(declared)
	c.same("all packages", "tables", tables, declared)
}

func (c catalogue) compare(store postgres.Store) {
	c.t.Helper()
	const columns = " from pg_attribute where attrelid = $1::regclass and attnum > 0 and not attisdropped"
	var declared []string
	for _, group := range store.Columns {
		for _, name := range group.Names {
			declared = append(declared, name+" "+string(group.Class))
		}
	}
	slices.Sort(declared)
	has := c.ask("select attname || ' ' || split_part(coalesce(col_description(attrelid, attnum), ''), ':', 1)"+columns, store.Table)
	slices.Sort(has)
	c.same(store.Table, "columns", has, declared)

	ofCustomers := slices.Contains(has, "customer_id id") || store.Table == "customers"
	if ofCustomers && store.Whose == inventory.OfService {
		c.t.Errorf("%s has rows of customers", store.Table)
	}
	key := c.ask(`
		select a.attname from pg_constraint c, unnest(c.conkey) with ordinality as k(attnum, at) join pg_attribute a on a.attnum = k.attnum
		where c.contype = 'p' and c.conrelid = $1::regclass and a.attrelid = c.conrelid order by k.at`, store.Table)
	if ofCustomers {
		key = key[1:]
	}
	c.same(store.Table, "the key", key, append([]string{}, store.Key...))
	c.same(store.Table, "what the foreign keys point at", c.ask(`
		select distinct confrelid::regclass::text from pg_constraint
		where contype = 'f' and conrelid = $1::regclass and confrelid <> conrelid order by 1`, store.Table), append([]string{}, store.Refers...))
	c.compareAccess(store)

	// What is personal belongs to a person, and to nobody whom an erasure passes over.
	if store.IsPersonal() && (store.Whose != inventory.OfPeople || store.Erase.How == inventory.Untouched) {
		c.t.Errorf("%s has a personal column: it is of people, and an erasure does something to it", store.Table)
	}
	if store.IsPersonal() && !slices.Contains(inventory.Vacuumed(app.Stores()), store.Table) {
		c.t.Errorf("%s has a personal column and is not vacuumed", store.Table)
	}
	sampled := c.ask("select attname"+columns+" and col_description(attrelid, attnum) ~ '^personal(:|$)' and coalesce(attstattarget, -1) <> 0", store.Table)
	c.same(store.Table, "personal columns that the planner samples", sampled, []string{})
}

// compareAccess compares the rights of the roles, and the policies that these rights need.
func (c catalogue) compareAccess(store postgres.Store) {
	c.t.Helper()
	offboarder := store.Access.Offboarder
	if store.Deletes() {
		offboarder = "select delete"
	}
	want := []string{}
	for _, role := range []struct{ name, verbs string }{
		{"steward_app", store.Access.App},
		{"steward_platform", store.Access.Platform},
		{"steward_worker", store.Access.Worker},
		{"steward_offboarder", offboarder},
	} {
		c.same(store.Table, "rights of "+role.name, c.ask(`
			select p from unnest(array['select', 'insert', 'update', 'delete', 'truncate', 'references', 'trigger']) with ordinality as v(p, at)
			where has_table_privilege($2, $1, p)
				or p in ('select', 'insert', 'update') and has_any_column_privilege($2, $1, p) order by at`, store.Table, role.name),
			strings.Fields(role.verbs))
		if role.verbs != "" {
			want = append(want, "true "+role.name)
		}
	}
	if store.Deletes() {
		want = append(want, "false steward_app")
		if !strings.Contains(store.Table, ".") {
			want = append(want, "false steward_platform")
		}
	}
	slices.Sort(want)
	has := c.ask(`
		select distinct polpermissive::text || ' ' || r::regrole::text from pg_policy, unnest(polroles) as r where polrelid = $1::regclass order by 1`,
		store.Table)
	slices.Sort(has)
	c.same(store.Table, "kinds of policies (permissive or not)", has, want)
	if !store.Deletes() {
		return
	}
	named := c.ask("select polname::text from pg_policy where polrelid = $1::regclass", store.Table)
	policies := []string{"own_customer", "not_offboarded", "offboard"}
	if !strings.Contains(store.Table, ".") {
		policies = append(policies, "not_offboarded_outside")
	}
	for _, policy := range policies {
		if !slices.Contains(named, policy) {
			c.t.Errorf("%s lacks the policy %s: it has %q", store.Table, policy, named)
		}
	}
}

func TestEachStoreIsDeclaredWhole(t *testing.T) {
	t.Parallel()
	names := make(map[string]bool)
	stores := app.Stores()
	for _, store := range stores {
		name := store.Name()
		if names[name] {
			t.Errorf("%s is declared twice", name)
		}
		names[name] = true
		if store.Title == "" || store.Purpose == "" || store.Keep.Words == "" || store.Owner == "" ||
			!slices.Contains([]inventory.Whose{inventory.OfPeople, inventory.OfCustomers, inventory.OfService}, store.Whose) {
			t.Errorf("%s is not explained", name)
		}
		if text, err := os.ReadFile("../" + store.Owner + "/inventory.go"); err != nil {
			t.Error(err)
		} else if store.Table != "" && !regexp.MustCompile(`Table:\s+"`+store.Table+`"`).Match(text) {
			t.Errorf("%s is declared elsewhere than in %s", name, store.Owner)
		}
		switch erase := store.Erase; {
		case erase.How == inventory.Delete && erase.Remove == nil && (store.Person.Where == "" || store.Person.Owner == ""):
			t.Errorf("%s: an erasure cannot find the rows", name)
		case erase.How == inventory.Null && erase.Remove == nil && erase.With == "" && store.Table != "users":
			t.Errorf("%s: an erasure does not know what to empty", name)
		case erase.How == inventory.Kept && erase.Why == "":
			t.Errorf("%s is kept for no reason", name)
		case erase.With != "" && inventory.Find(stores, erase.With).Erase.Remove == nil:
			t.Errorf("%s: %s erases nothing for it", name, erase.With)
		}
		if store.Restore.Dropped && store.Restore.Drop == nil && len(store.Keep.Sweeps) == 0 {
			t.Errorf("%s: a restore does not know what to drop", name)
		}
		if store.Table != "" && store.Whose == inventory.OfService && store.Leave != (inventory.Leaving{}) {
			t.Errorf("%s is nobody's and is left nevertheless", name)
		}
	}
}

// What lets anyone in does not go into a bundle.
func TestNoSecretIsHandedOver(t *testing.T) {
	t.Parallel()
	c := catalogue{t, dbtest.New(t).Superuser(t)}
	for _, store := range slices.Concat(inventory.ForPeople(app.Stores()), inventory.ForLeaving(app.Stores())) {
		secrets := c.ask(`
			select attname from pg_attribute, col_description(attrelid, attnum) as comment
			where attrelid = $1::regclass and attnum > 0 and not attisdropped
				and (comment ~ '^secret' or comment ~ '^personal: credential' or comment ~ '(keyed hash|sealed|encrypted)' and comment !~ '^setting')`, store.Table)
		for _, secret := range secrets {
			if store.Whose == inventory.OfPeople && slices.Contains(store.ShownToPerson(), secret) {
				t.Errorf("%s.%s is a secret and is handed over to the person", store.Table, secret)
			}
			if !store.Leave.NoCopy && slices.Contains(store.ShownToCustomer(), secret) {
				t.Errorf("%s.%s is a secret and is handed over to the customer", store.Table, secret)
			}
		}
	}
}

// What points at another table is emptied before it.
func TestStoresCanBeEmptiedInTheirOrder(t *testing.T) {
	t.Parallel()
	stores := app.Stores()
	order := func(of []postgres.Store, parent func(postgres.Store) bool) {
		t.Helper()
		var done []string
		for _, child := range of {
			for _, table := range child.Refers {
				if slices.Contains(done, table) && parent(inventory.Find(stores, table)) {
					t.Errorf("%s points at %s and has to be emptied before it", child.Table, table)
				}
			}
			done = append(done, child.Table)
		}
	}
	always := func(postgres.Store) bool { return true }
	order(inventory.ForLeaving(stores), always)
	order(inventory.ForSweeping(stores), always)
	order(inventory.ForErasure(stores), func(store postgres.Store) bool { return store.Erase.How == inventory.Delete })
	leaving := inventory.ForLeaving(stores)
	if len(leaving) < 20 || leaving[0].Table != "jobs.river_job" || leaving[len(leaving)-1].Table != "customers" {
		t.Errorf("jobs go first and the customer goes last: %d stores", len(leaving))
	}
}
