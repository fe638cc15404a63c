package offboarding_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/fusionspim/steward/internal/compliance/offboarding"
	"github.com/fusionspim/steward/internal/testkit/dbtest"
)

func query(t *testing.T, conn *pgx.Conn, statement string, args ...any) []string {
	t.Helper()
	rows, err := conn.Query(t.Context(), statement, args...)
	if err != nil {
		t.Fatalf("%v\n%s", err, statement)
	}
	values, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatalf("%v\n%s", err, statement)
	}
	return values
}

// A table that is new and holds something of customers has to be decided about: it is deleted with its customer, or outlives it for a reason.
func TestEveryTableOfCustomersIsAStore(t *testing.T) {
	t.Parallel()
	superuser := dbtest.New(t).Superuser(t)
	tables := query(t, superuser, `
		select c.relname from pg_class c join pg_attribute a on a.attrelid = c.oid
		where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
			and (a.attname = 'customer_id' or c.relname = 'customers' and a.attname = 'id') and not a.attisdropped order by 1`)
	if len(tables) < 20 {
		t.Fatalf("only %q were found: this test looks in the wrong place", tables)
	}
	var stores []string
	for _, store := range offboarding.Stores() {
		stores = append(stores, store.Table)
	}
	staying := slices.Sorted(maps.Keys(offboarding.Staying()))
	for _, table := range tables {
		if slices.Contains(stores, table) == slices.Contains(staying, table) {
			t.Errorf("%s has rows of customers: it belongs either into offboarding.Stores, with the policies and rights of migration 00017, or into offboarding.Staying", table)
		}
	}
	for _, table := range slices.Concat(stores, staying) {
		if !slices.Contains(tables, table) {
			t.Errorf("%s is no table with rows of customers", table)
		}
	}
}

func TestStoresCanBeEmptiedInTheirOrder(t *testing.T) {
	t.Parallel()
	superuser := dbtest.New(t).Superuser(t)
	emptied := make(map[string]bool)
	for _, store := range offboarding.Stores() {
		emptied[store.Table] = true
		for _, pointing := range query(t, superuser, `
			select distinct conrelid::regclass::text from pg_constraint where contype = 'f' and confrelid = $1::regclass and conrelid <> confrelid`, store.Table) {
			if !emptied[pointing] {
				t.Errorf("%s points at %s and has to be emptied before it", pointing, store.Table)
			}
		}
	}
}

func TestStoresSayTheirKeys(t *testing.T) {
	t.Parallel()
	superuser := dbtest.New(t).Superuser(t)
	for _, store := range offboarding.Stores() {
		want := query(t, superuser, `
			select a.attname from pg_constraint c, unnest(c.conkey) with ordinality as k(attnum, at) join pg_attribute a on a.attnum = k.attnum
			where c.contype = 'p' and c.conrelid = $1::regclass and a.attrelid = c.conrelid order by k.at`, store.Table)
		if got := append([]string{want[0]}, store.Key...); !slices.Equal(got, want) {
			t.Errorf("the key of %s is %q, not %q", store.Table, want, got)
		}
	}
}

// What lets somebody in does not go into a bundle.
func TestNoSecretIsHandedOver(t *testing.T) {
	t.Parallel()
	superuser := dbtest.New(t).Superuser(t)
	for _, store := range offboarding.Stores() {
		columns := query(t, superuser, "select attname from pg_attribute where attrelid = $1::regclass and attnum > 0 and not attisdropped", store.Table)
		secrets := query(t, superuser, `
			select attname from pg_attribute, col_description(attrelid, attnum) as comment
			where attrelid = $1::regclass and attnum > 0 and not attisdropped
				and (comment ~ '^secret' or comment ~ '^personal: credential' or comment ~ '(keyed hash|sealed|encrypted)' and comment !~ '^setting')`, store.Table)
		var withheld []string
		for _, one := range store.Withheld {
			withheld = append(withheld, one.Column)
			if !slices.Contains(columns, one.Column) {
				t.Errorf("%s has no column %s to be withheld", store.Table, one.Column)
			}
		}
		for _, secret := range secrets {
			if !slices.Contains(withheld, secret) {
				t.Errorf("%s.%s is a secret and is handed over", store.Table, secret)
			}
		}
	}
}

// The ordinary roles see nothing of a customer that is being deleted, and one role deletes it. For every table alike.
func TestEveryStoreIsClosedAndCanBeEmptied(t *testing.T) {
	t.Parallel()
	superuser := dbtest.New(t).Superuser(t)
	for _, store := range offboarding.Stores() {
		policies := query(t, superuser, `
			select format('%s %s %s %s', polname, polpermissive, polcmd, (select string_agg(r::regrole::text, ',') from unnest(polroles) r))
			from pg_policy where polrelid = $1::regclass`, store.Table)
		for _, want := range []string{"not_offboarded f * steward_app", "not_offboarded_outside f * steward_platform", "offboard t * steward_offboarder"} {
			if !slices.Contains(policies, want) {
				t.Errorf("%s lacks the policy %q: it has %q", store.Table, want, policies)
			}
		}
		rights := query(t, superuser, `
			select p from unnest(array['select', 'insert', 'update', 'delete', 'truncate', 'references', 'trigger']) p
			where has_table_privilege('steward_offboarder', $1, p) order by p`, store.Table)
		if fmt.Sprint(rights) != "[delete select]" {
			t.Errorf("steward_offboarder may %s on %s", strings.Join(rights, ", "), store.Table)
		}
	}
	others := query(t, superuser, `
		select relname from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') and relname not in ('offboardings')
			and has_any_column_privilege('steward_offboarder', oid, 'select, insert, update') order by 1`)
	for _, table := range others {
		if !slices.ContainsFunc(offboarding.Stores(), func(store offboarding.Store) bool { return store.Table == table }) {
			t.Errorf("steward_offboarder has rights on %s", table)
		}
	}
}
