package bench_test

import (
	"fmt"
	"testing"
	"time"
	"os"
	"github.com/jackc/pgx/v5"
	"github.com/fusionspim/steward/internal/bench"
	"github.com/fusionspim/steward/internal/customer"
	"github.com/fusionspim/steward/internal/dbtest"
	"github.com/fusionspim/steward/internal/postgres"
)

func cpuOf(pid uint32) time.Duration {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", pid))
	var ns int64
	fmt.Sscan(string(text), &ns)
	return time.Duration(ns)
}

func TestZZ(t *testing.T) {
	d := dbtest.New(t)
	made, err := customer.NewService(d.DB).Create(t.Context(), customer.New{Slug: "acme", Name: "x"}, func(*postgres.Tx) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	users, err := bench.Seed(t.Context(), d.URL, made.ID, bench.Population{Users: 10000, Entries: 1000})
	if err != nil {
		t.Fatal(err)
	}
	cols := `u.id, u.role, u.status, u.first_name, u.last_name, u.email,
	coalesce(c.mail_domain_policy = 'flag' and not split_part(u.email_key, '@', 2) = any (c.mail_domains), false),
	u.password_hash is not null, u.alerts_opted_in, u.alerts_set_by, u.alerts_set_at, u.label, u.redacted_at, u.receipt_id, u.version, u.created_at, u.updated_at`
	get := "select " + cols + " from users u join customers c on c.id = u.customer_id where u.customer_id = $1 and u.id = $2"
	list := "select " + cols + " from users u join customers c on c.id = u.customer_id where u.customer_id = $1 and u.id <> $2 order by u.id desc limit 51"
	plain := "select u.id, u.role, u.status, u.first_name from users u where u.customer_id = $1 and u.id = $2"
	conn := d.Superuser(t)
	for _, role := range []string{"postgres", "steward_app"} {
		conn.Exec(t.Context(), "set role "+role)
		conn.Exec(t.Context(), "select set_config('app.customer_id', $1, false)", made.ID.String())
		for name, q := range map[string]string{"get": get, "list": list, "plain": plain, "one": "select 1 where $1::uuid <> $2::uuid"} {
			n := 5000
			if name == "list" { n = 2000 }
			run := func(n int) {
				for i := range n {
					rows, err := conn.Query(t.Context(), q, [16]byte(made.ID.UUID), [16]byte(users[i].UUID))
					if err != nil {
						t.Fatal(err)
					}
					for rows.Next() {}
					if rows.Err() != nil { t.Fatal(rows.Err()) }
				}
			}
			run(50)
			b, w := cpuOf(conn.PgConn().PID()), time.Now()
			run(n)
			t.Logf("%s %s: backend cpu %v wall %v", role, name, (cpuOf(conn.PgConn().PID())-b)/time.Duration(n), time.Since(w)/time.Duration(n))
			if name == "list" || name == "get" {
				conn.Exec(t.Context(), "deallocate all")
				rows, err := conn.Query(t.Context(), "set plan_cache_mode=force_generic_plan; prepare x as "+q+"; explain (analyze,timing off) execute x('"+made.ID.String()+"','"+users[5].String()+"'); deallocate x; reset plan_cache_mode", pgx.QueryExecModeSimpleProtocol)
				_ = err
				for rows.Next() {}
				r, err := conn.PgConn().Exec(t.Context(), "set plan_cache_mode=force_generic_plan; prepare x as "+q+"; explain (analyze,timing off) execute x('"+made.ID.String()+"','"+users[5].String()+"'); deallocate x; reset plan_cache_mode").ReadAll()
				for _, x := range r { for _, row := range x.Rows { t.Log(string(row[0])) } }
				_ = err
				conn.DeallocateAll(t.Context())
			}
		}
	}
}
