package backup

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/inventory"
	"github.com/fusionspim/steward/internal/base/sensitive"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

const columns = `id, state, requested_at, taken_at, expires_at, size, sha256, ledger_number, ledger_hash, server_version, program_version, schema_version, deleted_at`

type row interface{ Scan(into ...any) error }

func scan(from row) (b Backup, err error) {
	var number *int64
	var hash *string
	err = from.Scan(&b.ID, &b.State, &b.RequestedAt, &b.TakenAt, &b.ExpiresAt, &b.Size, &b.SHA256, &number, &hash, &b.ServerVersion, &b.ProgramVersion, &b.SchemaVersion, &b.DeletedAt)
	if number != nil && hash != nil {
		b.Ledger = &Position{Number: *number, Hash: *hash}
	}
	b.RequestedAt, b.TakenAt, b.ExpiresAt = b.RequestedAt.UTC(), b.TakenAt.UTC(), b.ExpiresAt.UTC()
	if b.DeletedAt != nil {
		*b.DeletedAt = b.DeletedAt.UTC()
	}
	return b, err
}

func ledgerColumns(position *Position) (number *int64, hash *string) {
	if position == nil {
		return nil, nil
	}
	return &position.Number, &position.Hash
}

// ask notes that a backup is to be made. Error: ErrUnderWay.
func ask(tx *postgres.Tx, b Backup) error {
	err := tx.ORM().Exec("insert into backups (id, state, requested_at, taken_at, expires_at) values (?, 'creating', ?, ?, ?)", b.ID, b.RequestedAt, b.TakenAt, b.ExpiresAt).Error
	if postgres.Violates(err, "backups_under_way") {
		return ErrUnderWay
	}
	return err
}

// began notes the moment of a backup that is being made.
func began(tx *postgres.Tx, b Backup) error {
	number, hash := ledgerColumns(b.Ledger)
	return one(tx.ORM().Exec(`
		update backups set taken_at = ?, expires_at = ?, ledger_number = ?, ledger_hash = ?, server_version = ?, program_version = ?, schema_version = ?
		where id = ? and state = 'creating'`,
		b.TakenAt, b.ExpiresAt, number, hash, b.ServerVersion, b.ProgramVersion, b.SchemaVersion, b.ID).RowsAffected)
}

// made notes that a backup lies in the store.
func made(tx *postgres.Tx, b Backup) error {
	return one(tx.ORM().Exec("update backups set state = 'available', size = ?, sha256 = ? where id = ? and state = 'creating'", b.Size, b.SHA256, b.ID).RowsAffected)
}

func one(rows int64) error {
	if rows != 1 {
		return errors.New("the backup is not being made any more")
	}
	return nil
}

// found takes a backup that lies in the store into the catalogue, or brings the catalogue's row to what lies there.
func found(tx *postgres.Tx, b Backup) error {
	number, hash := ledgerColumns(b.Ledger)
	return tx.ORM().Exec(`
		insert into backups (id, state, requested_at, taken_at, expires_at, size, sha256, ledger_number, ledger_hash, server_version, program_version, schema_version)
		values (?, 'available', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		on conflict (id) do update set state = 'available', taken_at = excluded.taken_at, expires_at = excluded.expires_at, size = excluded.size, sha256 = excluded.sha256,
			ledger_number = excluded.ledger_number, ledger_hash = excluded.ledger_hash, server_version = excluded.server_version,
			program_version = excluded.program_version, schema_version = excluded.schema_version, deleted_at = null`,
		b.ID, b.TakenAt, b.TakenAt, b.ExpiresAt, b.Size, b.SHA256, number, hash, b.ServerVersion, b.ProgramVersion, b.SchemaVersion).Error
}

// become moves a backup to another state, if it is in one of those before.
func become(tx *postgres.Tx, backup id.Backup, after State, before ...State) error {
	var gone *time.Time
	if after == Expired || after == Deleted {
		gone = &tx.Now
	}
	return tx.ORM().Exec("update backups set state = ?, deleted_at = ? where id = ? and state in ?", after, gone, backup, before).Error
}

func byID(tx *postgres.Tx, backup id.Backup) (Backup, error) {
	b, err := scan(tx.ORM().Raw("select "+columns+" from backups where id = ?", backup).Row())
	if errors.Is(err, sql.ErrNoRows) {
		return Backup{}, fault.New(fault.ResourceNotFound, "There is no such backup.")
	}
	return b, err
}

// list returns backups, newest first: at most limit of those asked for before the one named, or from the newest on.
func list(tx *postgres.Tx, before id.Backup, limit int) ([]Backup, error) {
	if before.IsZero() {
		return all(tx, "order by id desc limit ?", limit)
	}
	return all(tx, "where id < ? order by id desc limit ?", before, limit)
}

// kept returns the backups that lie in the store, or should.
func kept(tx *postgres.Tx) ([]Backup, error) {
	return all(tx, "where state in ('creating', 'available', 'missing', 'damaged') order by id")
}

func all(tx *postgres.Tx, condition string, arguments ...any) (backups []Backup, err error) {
	rows, err := tx.ORM().Raw("select "+columns+" from backups "+condition, arguments...).Rows()
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // read to its end or given up
	for rows.Next() {
		b, err := scan(rows)
		if err != nil {
			return nil, err
		}
		backups = append(backups, b)
	}
	return backups, rows.Err()
}

// newest tells when the newest backup was taken that is there or will be. The zero time means that there is none.
func newest(tx *postgres.Tx) (time.Time, error) {
	var at *time.Time
	err := tx.ORM().Raw("select max(taken_at) from backups where state in ('creating', 'available')").Row().Scan(&at)
	if at == nil {
		return time.Time{}, err
	}
	return *at, err
}

// counts counts the backups by their state.
func counts(tx *postgres.Tx) (map[State]int64, error) {
	rows, err := tx.ORM().Raw("select state, count(*) from backups group by state").Rows()
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // read to its end or given up
	of := make(map[State]int64)
	for rows.Next() {
		var state State
		var n int64
		if err := rows.Scan(&state, &n); err != nil {
			return nil, err
		}
		of[state] = n
	}
	return of, rows.Err()
}

// lastExpiry tells when the last of the backups expires that were taken before a moment. Nil: there is none. One that is missing may only be misplaced.
func lastExpiry(tx *postgres.Tx, before time.Time) (expiry *time.Time, err error) {
	err = tx.Raw("select max(expires_at) from backups where taken_at <= ? and state in ('creating', 'available', 'missing', 'damaged')", before).Row().Scan(&expiry)
	return expiry, err
}

// firstTaken tells when the first of the backups was taken that are not known to be gone. Nil: there is none.
func firstTaken(tx *postgres.Tx) (taken *time.Time, err error) {
	err = tx.Raw("select min(taken_at) from backups where state in ('creating', 'available', 'missing', 'damaged')").Row().Scan(&taken)
	return taken, err
}

// record notes a restore.
func record(tx *postgres.Tx, r Restored) error {
	number, hash := ledgerColumns(r.Backup.Ledger)
	return tx.ORM().Exec("insert into restores (id, backup_id, taken_at, ledger_number, ledger_hash, restored_at) values (?, ?, ?, ?, ?, ?)",
		r.ID, r.Backup.ID, r.Backup.TakenAt, number, hash, r.RestoredAt).Error
}

// LastRestoreTx returns the last restore of this database, outside customers. Nil: it was never restored.
func LastRestoreTx(tx *postgres.Tx) (*Restored, error) {
	var r Restored
	var number *int64
	var hash *string
	err := tx.ORM().Raw("select id, backup_id, taken_at, ledger_number, ledger_hash, restored_at from restores order by restored_at desc, id desc limit 1").Row().
		Scan(&r.ID, &r.Backup.ID, &r.Backup.TakenAt, &number, &hash, &r.RestoredAt)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if number != nil && hash != nil {
		r.Backup.Ledger = &Position{Number: *number, Hash: *hash}
	}
	return &r, err
}

// source is the connection that a backup is taken through. It holds the lock under which one is made at a time, and the snapshot that pg_dump reads.
type source struct {
	conn   *pgx.Conn
	major  int    // version of the server
	server string // the same in full
}

// connect connects past row security.
func connect(ctx context.Context, url sensitive.String, name string) (*source, error) {
	config, err := pgx.ParseConfig(url.Reveal())
	if err != nil {
		return nil, fmt.Errorf("%s is not a connection string, such as postgres://user:password@host:5432/database", name)
	}
	config.RuntimeParams["application_name"] = "steward backup"
	config.RuntimeParams["timezone"] = "UTC"
	config.RuntimeParams["idle_in_transaction_session_timeout"] = "0"
	config.RuntimeParams["statement_timeout"] = "0"
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("%s: cannot connect to the database: %w", name, err)
	}
	s := &source{conn: conn}
	var number int
	if err := conn.QueryRow(ctx, "select current_setting('server_version_num')::int, split_part(current_setting('server_version'), ' ', 1)").Scan(&number, &s.server); err != nil {
		s.close()
		return nil, err
	}
	s.major = number / 10000
	return s, nil
}

func (s *source) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_ = s.conn.Close(ctx) // its end gives up the lock and the snapshot
}

// mayReadAll makes sure that the role sees every row: pg_dump refuses to leave rows out, but only when it comes to the first table.
func (s *source) mayReadAll(ctx context.Context) error {
	var role string
	var passes bool
	if err := s.conn.QueryRow(ctx, "select rolname, rolsuper or rolbypassrls from pg_roles where rolname = current_user").Scan(&role, &passes); err != nil {
		return err
	}
	if !passes {
		return fmt.Errorf("STEWARD_BACKUP_DATABASE_URL: the role %s is bound by row security and would leave rows out; "+
			"a superuser gives it what it needs: alter role %s bypassrls; grant pg_read_all_data to %s", role, role, role)
	}
	return nil
}

// holds makes sure that the database is the one that the catalogue is in.
func (s *source) holds(ctx context.Context, backup id.Backup) error {
	var there bool
	if err := s.conn.QueryRow(ctx, "select exists (select from backups where id = $1)", backup.UUID).Scan(&there); err != nil {
		return fmt.Errorf("STEWARD_BACKUP_DATABASE_URL: %w", err)
	}
	if !there {
		return errors.New("STEWARD_BACKUP_DATABASE_URL is another database than STEWARD_DATABASE_URL")
	}
	return nil
}

// lock takes the lock of whoever makes a backup, if nobody has it. It is given up with the connection.
func (s *source) lock(ctx context.Context) (taken bool, err error) {
	err = s.conn.QueryRow(ctx, "select pg_try_advisory_lock($1)", int64(postgres.LockBackup)).Scan(&taken)
	return taken, err
}

// snapshot begins to see the database as it is now, and names that view for others.
func (s *source) snapshot(ctx context.Context) (name string, schema int64, err error) {
	if _, err = s.conn.Exec(ctx, "begin isolation level repeatable read read only"); err != nil {
		return "", 0, err
	}
	err = s.conn.QueryRow(ctx, "select pg_export_snapshot(), (select max(version_id) from goose_db_version where is_applied)").Scan(&name, &schema)
	return name, schema, err
}

// isEmpty tells whether the database holds nothing of anybody's, and whether that is because a restore was broken off, which leaves its mark.
func (s *source) isEmpty(ctx context.Context) (empty, broken bool, err error) {
	err = s.conn.QueryRow(ctx, `
		select not exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname !~ '^pg_' and n.nspname <> 'information_schema'),
			to_regnamespace($1) is not null`, postgres.RestoringSchema).Scan(&empty, &broken)
	return empty, broken, err
}

// others counts the connections of others to the database.
func (s *source) others(ctx context.Context) (n int, err error) {
	err = s.conn.QueryRow(ctx, "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'").Scan(&n)
	return n, err
}

// clear removes everything from the database.
func (s *source) clear(ctx context.Context) error {
	rows, err := s.conn.Query(ctx, "select nspname from pg_namespace where nspname !~ '^pg_' and nspname <> 'information_schema'")
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
		if _, err := s.conn.Exec(ctx, "drop schema "+pgx.Identifier{schema}.Sanitize()+" cascade"); err != nil {
			return err
		}
	}
	_, err = s.conn.Exec(ctx, "create schema public")
	return err
}

// mark says in the database itself that a restore is under way: until it is taken back, no service opens it.
func (s *source) mark(ctx context.Context) error {
	_, err := s.conn.Exec(ctx, "create schema if not exists "+postgres.RestoringSchema)
	return err
}

func (s *source) unmark(ctx context.Context) error {
	_, err := s.conn.Exec(ctx, "drop schema "+postgres.RestoringSchema)
	return err
}

// forget empties what must not come back. Truncating is the owner's right, whatever row security says. A
// backup of an earlier version lacks tables that are new.
func (s *source) forget(ctx context.Context, stores []postgres.Store) error {
	unsaved, err := unsavedTables(stores)
	if err != nil {
		return err
	}
	rows, err := s.conn.Query(ctx, "select name from unnest($1::text[]) as name where to_regclass(name) is not null", unsaved)
	if err != nil {
		return err
	}
	existing, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	_, err = s.conn.Exec(ctx, "truncate "+strings.Join(existing, ", "))
	return err
}

// unsavedTables lists the tables whose rows are in no backup, with their schema. Without a list of stores
// a backup would have everything in it, so that is an error.
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

// analyze gives the planner its samples, which a dump does not hold.
func (s *source) analyze(ctx context.Context) error {
	_, err := s.conn.Exec(ctx, "analyze")
	return err
}
