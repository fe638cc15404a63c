package postgres

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/sensitive"
)

//go:embed migrations/*.sql
var migrations embed.FS

// MinimumVersion is the oldest PostgreSQL that the schema supports, as server_version_num.
const MinimumVersion = 140000

// RestoringSchema marks a database into which a backup is being restored: while the schema exists,
// the database is incomplete, and no service opens it.
const RestoringSchema = "steward_restoring"

// Migration is one step of the schema; AppliedAt is nil until it is applied.
type Migration struct {
	Version   int64      `json:"version"`
	Name      string     `json:"name"`
	AppliedAt *time.Time `json:"applied_at"`
}

// MigrateUp brings the schema to this program's version and returns what it applied. Several
// replicas may do so at once: one works, the others wait. The connection's role must be able to
// create schemas, and to create roles unless the service's roles were granted to it beforehand.
func MigrateUp(ctx context.Context, url sensitive.String) (applied []Migration, err error) {
	err = withMigrations(ctx, url, func(provider *goose.Provider) error {
		results, err := provider.Up(ctx)
		for _, result := range results {
			applied = append(applied, Migration{Version: result.Source.Version, Name: name(result.Source.Path)})
		}
		return err
	})
	return applied, err
}

// MigrateDown reverts the last step, including the data that only its tables held.
func MigrateDown(ctx context.Context, url sensitive.String) (undone []Migration, err error) {
	err = withMigrations(ctx, url, func(provider *goose.Provider) error {
		result, err := provider.Down(ctx)
		if errors.Is(err, goose.ErrNoNextVersion) {
			return nil
		}
		if err == nil {
			undone = append(undone, Migration{Version: result.Source.Version, Name: name(result.Source.Path)})
		}
		return err
	})
	return undone, err
}

// MigrationStatus lists all steps, applied or not.
func MigrationStatus(ctx context.Context, url sensitive.String) (all []Migration, err error) {
	err = withMigrations(ctx, url, func(provider *goose.Provider) error {
		steps, err := provider.Status(ctx)
		for _, step := range steps {
			migration := Migration{Version: step.Source.Version, Name: name(step.Source.Path)}
			if step.State == goose.StateApplied {
				at := step.AppliedAt.UTC()
				migration.AppliedAt = &at
			}
			all = append(all, migration)
		}
		return err
	})
	return all, err
}

// name returns a step's name; the one without a file is named after what it does.
func name(path string) string {
	if path == "" {
		return queueStep
	}
	return path
}

func withMigrations(ctx context.Context, url sensitive.String, use func(*goose.Provider) error) (err error) {
	config, err := pgx.ParseConfig(url.Reveal())
	if err != nil {
		return errors.New("postgres: the database URL is not a connection string, such as postgres://user:password@host:5432/database")
	}
	config.ConnectTimeout = connectTimeout
	handle := stdlib.OpenDB(*config)
	defer func() { err = errors.Join(err, handle.Close()) }()
	if err := checkServer(ctx, handle); err != nil {
		return err
	}
	steps, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	// A minute of attempts, a second apart: a replica that starts while another migrates goes on as
	// soon as that is done.
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 60))
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, handle, steps,
		goose.WithSessionLocker(locker), goose.WithGoMigrations(queueMigration()))
	if err != nil {
		return err
	}
	if err := use(provider); err != nil {
		return fmt.Errorf("postgres: migrating: %w", translate(err))
	}
	return nil
}

func checkServer(ctx context.Context, handle *sql.DB) error {
	var version int
	if err := handle.QueryRowContext(ctx, "select current_setting('server_version_num')::int").Scan(&version); err != nil {
		return fmt.Errorf("postgres: cannot reach the database: %w", translate(err))
	}
	if version < MinimumVersion {
		return fmt.Errorf("postgres: the server is PostgreSQL %d; at least %d is needed", version/10000, MinimumVersion/10000)
	}
	return nil
}

// SchemaVersion returns the newest step that this program knows.
func SchemaVersion() (newest int64, err error) {
	entries, err := migrations.ReadDir("migrations")
	if err != nil {
		return 0, err
	}
	for _, entry := range entries {
		version, err := goose.NumericComponent(entry.Name())
		if err != nil {
			return 0, err
		}
		newest = max(newest, version)
	}
	return newest, nil
}

// EnsureRoles creates the missing roles of the service and makes the URL's user a member of them,
// as the first migrations do: roles belong to a server and are in no backup of a database.
func EnsureRoles(ctx context.Context, url sensitive.String) (err error) {
	config, err := pgx.ParseConfig(url.Reveal())
	if err != nil {
		return errors.New("postgres: the database URL is not a connection string, such as postgres://user:password@host:5432/database")
	}
	config.ConnectTimeout = connectTimeout
	handle := stdlib.OpenDB(*config)
	defer func() { err = errors.Join(err, handle.Close()) }()
	if err := checkServer(ctx, handle); err != nil {
		return err
	}
	for _, role := range []string{appRole, platformRole, workerRole, offboardRole} {
		_, err := handle.ExecContext(ctx, `
			do $$
			begin
				if not exists (select from pg_roles where rolname = '`+role+`') then -- to try would take the right to make roles
					begin
						create role `+role+` nologin nosuperuser nobypassrls nocreatedb nocreaterole noinherit;
					exception when duplicate_object or unique_violation then
						null;
					end;
				end if;
				if not pg_has_role(current_user, '`+role+`', 'member') then
					begin
						grant `+role+` to current_user;
					exception when unique_violation then
						null;
					end;
				end if;
			end
			$$`)
		if err != nil {
			return fmt.Errorf("postgres: the role %s: %w", role, translate(err))
		}
	}
	return nil
}

// CheckSchema returns an error that says what to do unless the schema is this program's version.
func (db *DB) CheckSchema(ctx context.Context) error {
	newest, err := SchemaVersion()
	if err != nil {
		return err
	}
	var applied int64
	var restoring bool
	err = db.InPlatform(ctx, func(tx *Tx) error {
		err := tx.QueryRow("select to_regnamespace($1) is not null", RestoringSchema).Scan(&restoring)
		if err != nil || restoring {
			return err
		}
		return tx.QueryRow("select max(version_id) from goose_db_version where is_applied").Scan(&applied)
	})
	if fault.Is(err, fault.ServiceUnavailable) {
		return err
	}
	switch {
	case restoring:
		return errors.New("postgres: a restore into this database is running or was interrupted; " +
			"let it finish, or run it again: steward backup restore")
	case err != nil:
		return fmt.Errorf("postgres: the database has no schema yet; run: steward migrate up (%w)", err)
	case applied < newest:
		return fmt.Errorf("postgres: the schema is at version %d and this program needs %d; run: steward migrate up",
			applied, newest)
	case applied > newest:
		return fmt.Errorf("postgres: the schema is at version %d, newer than this program, which knows %d; "+
			"run a newer steward", applied, newest)
	}
	return nil
}

// CheckRoles checks that row security applies to the service: its roles must own nothing and bypass
// nothing.
func (db *DB) CheckRoles(ctx context.Context) error {
	for _, p := range []*pool{db.app, db.platform, db.offboard} {
		if err := checkRole(ctx, p.sql); err != nil {
			return err
		}
	}
	return nil
}

func checkRole(ctx context.Context, handle *sql.DB) error {
	var role string
	var unsafe bool
	err := handle.QueryRowContext(ctx, `
		select current_user, r.rolsuper or r.rolbypassrls or exists (select from pg_class c where c.relowner = r.oid)
		from pg_roles r where r.rolname = current_user`).Scan(&role, &unsafe)
	if err != nil {
		return fmt.Errorf("postgres: looking up the role: %w", translate(err))
	}
	if unsafe {
		return fmt.Errorf("postgres: the role %s owns tables or bypasses row security; the service refuses to run", role)
	}
	return nil
}
