package receipt

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fusionspim/steward/internal/base/sensitive"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

// owner is a connection of the role that the tables belong to.
type owner struct {
	conn *pgx.Conn
	name string // by which the service finds the connection
}

func connect(ctx context.Context, url sensitive.String) (*owner, error) {
	config, err := pgx.ParseConfig(url.Reveal())
	if err != nil {
		return nil, errors.New("STEWARD_MAINTENANCE_DATABASE_URL is not a connection string, " +
			"such as postgres://user:password@host:5432/database")
	}
	mark := make([]byte, 8)
	_, _ = rand.Read(mark) // never fails: the program ends instead, since Go 1.24
	o := &owner{name: "steward maintenance " + hex.EncodeToString(mark)}
	config.ConnectTimeout = 10 * time.Second
	config.RuntimeParams["application_name"] = o.name
	config.RuntimeParams["statement_timeout"] = fmt.Sprint(vacuumLimit.Milliseconds())
	config.RuntimeParams["lock_timeout"] = "10000"
	if o.conn, err = pgx.ConnectConfig(ctx, config); err != nil {
		return nil, fmt.Errorf("STEWARD_MAINTENANCE_DATABASE_URL: cannot connect to the database: %w", err)
	}
	return o, nil
}

func (o *owner) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_ = o.conn.Close(ctx) // which releases the lock
}

// lock acquires the lock for vacuuming, if it is free. Closing the connection releases it.
func (o *owner) lock(ctx context.Context) (acquired bool, err error) {
	err = o.conn.QueryRow(ctx, "select pg_try_advisory_lock($1)", int64(postgres.LockVacuum)).Scan(&acquired)
	return acquired, err
}

// sameDatabase makes sure that what is vacuumed is what the service works on: the service looks for
// the connection in its own database.
func (s *Service) sameDatabase(ctx context.Context, o *owner) error {
	found, err := postgres.Platform(ctx, s.DB, func(tx *postgres.Tx) (bool, error) {
		return connected(tx, o.conn.PgConn().PID(), o.name)
	})
	if err == nil && !found {
		err = errors.New("STEWARD_MAINTENANCE_DATABASE_URL is another database than STEWARD_DATABASE_URL, " +
			"or is reached through a pooler")
	}
	return err
}

// horizon is how much of the past can still be seen.
type horizon struct {
	// nothing sees, now or later, what was before a transaction that is older than this one
	oldest int64
	next   int64 // no transaction has had this number yet
}

// behind returns those of the erasures that nothing can see behind any more.
func (h horizon) behind(erasures []Unsettled) (ready []Unsettled) {
	for _, e := range erasures {
		if h.past(e.ErasedIn) {
			ready = append(ready, e)
		}
	}
	return ready
}

// past reports whether nothing can see any more what was before a transaction. A number that this
// server has not come to yet is another server's: since then a restore has written all rows again,
// without those that were erased.
func (h horizon) past(transaction int64) bool { return transaction < h.oldest || transaction >= h.next }

// horizon reads how far back anything can see. A snapshot that is taken from now on begins no
// earlier than the oldest transaction that is running anywhere on the server; those that were taken
// before are listed, as are prepared transactions (they count as running), standbys and replication
// slots. A VACUUM holds nothing back.
func (o *owner) horizon(ctx context.Context) (found horizon, err error) {
	err = o.conn.QueryRow(ctx, `
		with now as materialized (
			select pg_snapshot_xmin(pg_current_snapshot())::text::bigint as oldest,
				pg_snapshot_xmax(pg_current_snapshot())::text::bigint as next
		)
		select least(oldest, next - coalesce((
			select max(age(a.backend_xmin)) from pg_stat_activity a
			where a.backend_xmin is not null and a.pid <> pg_backend_pid()
				and (a.datname = current_database() or a.datid is null or a.datid = 0)
				and not exists (select from pg_stat_progress_vacuum v where v.pid = a.pid)
		), 0), next - coalesce((
			select max(age(s.xmin)) from pg_replication_slots s where s.xmin is not null
		), 0)), next
		from now`).Scan(&found.oldest, &found.next)
	return found, err
}

// vacuum removes the dead rows of tables for good. It waits for pages that are in use, which a
// plain VACUUM would leave out (FREEZE), and always goes through the indexes.
func (o *owner) vacuum(ctx context.Context, tables []string) error {
	var version int
	if err := o.conn.QueryRow(ctx, "select current_setting('server_version_num')::int").Scan(&version); err != nil {
		return err
	}
	right := "pg_has_role(current_user, c.relowner, 'usage')"
	if version >= 170000 {
		right += " or has_table_privilege(c.oid, 'maintain')"
	}
	// PostgreSQL only warns of tables that the user may not vacuum.
	var refused []string
	err := o.conn.QueryRow(ctx, `
		select coalesce(array_agg(t order by t), '{}') from unnest($1::text[]) t
		where not exists (select from pg_class c where c.oid = t::regclass and (`+right+`))`, tables).Scan(&refused)
	if err != nil {
		return fmt.Errorf("STEWARD_MAINTENANCE_DATABASE_URL: %w", err)
	}
	if len(refused) > 0 {
		return fmt.Errorf("STEWARD_MAINTENANCE_DATABASE_URL: the user may not vacuum %s; "+
			"it must be the owner of the tables, or a member of the owner", strings.Join(refused, ", "))
	}
	_, err = o.conn.Exec(ctx,
		"vacuum (freeze, index_cleanup on, process_toast, truncate off) "+strings.Join(tables, ", "))
	return err
}
