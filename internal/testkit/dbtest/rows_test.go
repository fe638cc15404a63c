package dbtest_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/fusionspim/steward/internal/base/id"
)

// Rows for any table. The tests of the catalogue hold for tables that are yet to come, so they have
// to fill tables that they do not know: each column gets some value of its type. Such rows mean
// nothing to the features, and what would refuse them is taken away first.

// someValue holds an expression for each type, different at each call where the type has room for
// it.
var someValue = map[string]string{
	"uuid":                     "gen_random_uuid()",
	"text":                     "md5(random()::text)",
	"character varying":        "left(md5(random()::text), 8)",
	"bytea":                    "decode(md5(random()::text), 'hex')",
	"boolean":                  "false",
	"smallint":                 "(random() * 30000)::smallint",
	"integer":                  "(random() * 2000000000)::integer",
	"bigint":                   "(random() * 1e15)::bigint",
	"numeric":                  "random()::numeric",
	"double precision":         "random()",
	"timestamp with time zone": "now() + random() * interval '1 day'",
	"date":                     "current_date + (random() * 1000)::integer",
	"interval":                 "random() * interval '1 day'",
	"inet":                     "'192.0.2.0'::inet + (random() * 255)::integer",
	"cidr":                     "'192.0.2.0/24'",
	"jsonb":                    "jsonb_build_object('number', random())",
	"json":                     "'{}'",
	"text[]":                   "array[md5(random()::text)]",
	"uuid[]":                   "array[gen_random_uuid()]",
	"cidr[]":                   "array['192.0.2.0/24'::cidr]",
	"inet[]":                   "array['192.0.2.1'::inet]",
	"integer[]":                "array[1]",
	"bigint[]":                 "array[1]",
}

// relax takes away, in this test's database and on this connection, what would refuse rows without
// meaning: checks, foreign keys and triggers that are not ENABLE ALWAYS.
func relax(t *testing.T, superuser *pgx.Conn) {
	t.Helper()
	for _, statement := range query[string](t, superuser, `
		select format('alter table %s drop constraint %I', conrelid::regclass, conname) from pg_constraint
		where connamespace = 'public'::regnamespace and contype = 'c' and conrelid <> 0`) {
		execute(t, superuser, statement)
	}
	execute(t, superuser, "set session_replication_role = replica")
}

// tenantTables returns the tables whose rows belong to a customer, and customers itself.
func tenantTables(t *testing.T, superuser *pgx.Conn) []string {
	t.Helper()
	tables := query[string](t, superuser, `select relname from`+ourColumns+`
		where attname = 'customer_id' or relname = 'customers' and attname = 'id' order by 1`)
	if len(tables) < 2 {
		t.Fatalf("only %q were found: this test looks in the wrong place", tables)
	}
	return tables
}

func customerColumn(table string) string {
	if table == "customers" {
		return "id"
	}
	return "customer_id"
}

// fill adds one row to a table.
func fill(t *testing.T, superuser *pgx.Conn, table string, customer id.Customer) {
	t.Helper()
	execute(t, superuser, insertion(t, superuser, table, customer))
}

// insertion returns the statement that adds one row to a table.
func insertion(t *testing.T, superuser *pgx.Conn, table string, customer id.Customer) string {
	t.Helper()
	rows, err := superuser.Query(t.Context(), "select attname, format_type(atttypid, null) from"+ourColumns+
		"where relname = $1 and attgenerated = '' and attidentity = '' order by attnum", table)
	if err != nil {
		t.Fatal(err)
	}
	type column struct{ Name, Type string }
	columns, err := pgx.CollectRows(rows, pgx.RowToStructByPos[column])
	if err != nil {
		t.Fatal(err)
	}
	var names, values []string
	for _, c := range columns {
		value, ok := someValue[c.Type]
		switch {
		case c.Name == customerColumn(table):
			value = "'" + customer.String() + "'"
		case !ok:
			t.Fatalf("%s.%s is of type %s, for which the map someValue has to get an expression", table, c.Name, c.Type)
		}
		names, values = append(names, pgx.Identifier{c.Name}.Sanitize()), append(values, value)
	}
	return fmt.Sprintf("insert into %s (%s) values (%s)", table, strings.Join(names, ", "), strings.Join(values, ", "))
}
