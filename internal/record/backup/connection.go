package backup

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/inventory"
	"github.com/fusionspim/steward/internal/base/sensitive"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

// connection is a connection outside the pools, to the database that a backup is taken of or
// restored into. For a backup, it holds the lock and the snapshot that pg_dump reads.
type connection struct {
	conn   *pgx.Conn
	major  int    // version of the server
	server string // the same in full
}

// connect connects to a database. The name is what errors call the URL.
func connect(ctx context.Context, url sensitive.String, name string) (*connection, error) {
	config, err := pgx.ParseConfig(url.Reveal())
	if err != nil {
		return nil, fmt.Errorf(
			"%s is not a connection string, such as postgres://user:password@host:5432/database",
			name,
		)
	}
	config.RuntimeParams["application_name"] = "steward backup"
	config.RuntimeParams["timezone"] = "UTC"
	config.RuntimeParams["idle_in_transaction_session_timeout"] = "0"
	config.RuntimeParams["statement_timeout"] = "0"
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("%s: cannot connect to the database: %w", name, err)
	}
	c := &connection{conn: conn}
	var number int
	err = conn.QueryRow(ctx, `
		select current_setting('server_version_num')::int, split_part(current_setting('server_version'), ' ', 1)`).
		Scan(&number, &c.server)
	if err != nil {
		c.close()
		return nil, err
	}
	c.major = number / 10000
	return c, nil
}

func (c *connection) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_ = c.conn.Close(ctx) // which releases the lock and the snapshot
}

// checkRole returns an error where row security binds the role: pg_dump refuses to leave rows out,
// but only once it reads the first table.
func (c *connection) checkRole(ctx context.Context) error {
	var role string
	var bypasses bool
	err := c.conn.QueryRow(ctx, "select rolname, rolsuper or rolbypassrls from pg_roles where rolname = current_user").
		Scan(&role, &bypasses)
	if err != nil {
		return err
	}
	if !bypasses {
		return fmt.Errorf(
			"STEWARD_BACKUP_DATABASE_URL: row security applies to the role %s, which would leave rows out; "+
				"a superuser can grant what it needs: alter role %s bypassrls; grant pg_read_all_data to %s",
			role,
			role,
			role,
		)
	}
	return nil
}

// checkDatabase returns an error where the database is not the one whose catalogue has a backup.
func (c *connection) checkDatabase(ctx context.Context, backup id.Backup) error {
	var exists bool
	err := c.conn.QueryRow(ctx, "select exists (select from backups where id = $1)", backup.UUID).Scan(&exists)
	if err != nil {
		return fmt.Errorf("STEWARD_BACKUP_DATABASE_URL: %w", err)
	}
	if !exists {
		return errors.New("STEWARD_BACKUP_DATABASE_URL is another database than STEWARD_DATABASE_URL")
	}
	return nil
}

// lock acquires the lock for making a backup, unless another process holds it. It is released with
// the connection.
func (c *connection) lock(ctx context.Context) (acquired bool, err error) {
	err = c.conn.QueryRow(ctx, "select pg_try_advisory_lock($1)", int64(postgres.LockBackup)).Scan(&acquired)
	return acquired, err
}

// snapshot takes a snapshot, and returns its name for pg_dump and the version of the schema.
func (c *connection) snapshot(ctx context.Context) (name string, schema int64, err error) {
	if _, err = c.conn.Exec(ctx, "begin isolation level repeatable read read only"); err != nil {
		return "", 0, err
	}
	err = c.conn.QueryRow(ctx, `
		select pg_export_snapshot(), (select max(version_id) from goose_db_version where is_applied)`).
		Scan(&name, &schema)
	return name, schema, err
}

// isEmpty reports whether the database has no relations, and whether it has the mark of a restore
// that was interrupted.
func (c *connection) isEmpty(ctx context.Context) (empty, interrupted bool, err error) {
	err = c.conn.QueryRow(ctx, `
		select not exists (
				select from pg_class c join pg_namespace n on n.oid = c.relnamespace
				where n.nspname !~ '^pg_' and n.nspname <> 'information_schema'),
			to_regnamespace($1) is not null`, postgres.RestoringSchema).Scan(&empty, &interrupted)
	return empty, interrupted, err
}

// countOthers counts the other connections to the database.
func (c *connection) countOthers(ctx context.Context) (n int, err error) {
	err = c.conn.QueryRow(ctx, `
		select count(*) from pg_stat_activity
		where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'`).Scan(&n)
	return n, err
}

// clear drops every schema but the mark of a restore.
func (c *connection) clear(ctx context.Context) error {
	rows, err := c.conn.Query(ctx, `
		select nspname from pg_namespace where nspname !~ '^pg_' and nspname <> 'information_schema'`)
	if err != nil {
		return err
	}
	schemas, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, schema := range schemas {
		if schema == postgres.RestoringSchema {
			continue
		}
		if _, err := c.conn.Exec(ctx, "drop schema "+pgx.Identifier{schema}.Sanitize()+" cascade"); err != nil {
			return err
		}
	}
	_, err = c.conn.Exec(ctx, "create schema public")
	return err
}

// mark marks the database as being restored: until unmark, no service opens it.
func (c *connection) mark(ctx context.Context) error {
	_, err := c.conn.Exec(ctx, "create schema if not exists "+postgres.RestoringSchema)
	return err
}

func (c *connection) unmark(ctx context.Context) error {
	_, err := c.conn.Exec(ctx, "drop schema "+postgres.RestoringSchema)
	return err
}

// truncateUnsaved empties the tables whose rows must not be restored. Truncating is the owner's
// right, whatever row security says. A backup of an earlier version lacks new tables.
func (c *connection) truncateUnsaved(ctx context.Context, stores []postgres.Store) error {
	unsaved, err := unsavedTables(stores)
	if err != nil {
		return err
	}
	rows, err := c.conn.Query(ctx,
		"select name from unnest($1::text[]) as name where to_regclass(name) is not null", unsaved)
	if err != nil {
		return err
	}
	existing, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	_, err = c.conn.Exec(ctx, "truncate "+strings.Join(existing, ", "))
	return err
}

// unsavedTables returns the tables whose rows are in no backup, with their schema. Without a list
// of stores a backup would contain all rows, so that is an error.
func unsavedTables(stores []postgres.Store) ([]string, error) {
	tables := inventory.Unsaved(stores)
	if len(tables) == 0 {
		return nil, errors.New("backup: the settings name no stores")
	}
	for i, table := range tables {
		if !strings.Contains(table, ".") {
			tables[i] = "public." + table
		}
	}
	return tables, nil
}

// analyze collects the planner's statistics, which a dump does not contain.
func (c *connection) analyze(ctx context.Context) error {
	_, err := c.conn.Exec(ctx, "analyze")
	return err
}
