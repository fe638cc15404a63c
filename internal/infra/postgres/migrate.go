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

// MinimumVersion is the oldest PostgreSQL that the schema works on, in the form of server_version_num.
const MinimumVersion = 140000

// RestoringSchema marks a database into which a backup is being restored: as long as the schema is there, the database is not whole, and no service opens it.
const RestoringSchema = "steward_restoring"

// Migration is one step of the schema and whether it is applied.
type Migration struct {
	Version   int64      `json:"version"`
	Name      string     `json:"name"`
	AppliedAt *time.Time `json:"applied_at"`
}

// MigrateUp brings the schema to the version of this program and returns what it applied. Several replicas may do so at once: one works, the
// others wait for it. The connection must belong to a role that may create roles, or to which the service's roles were granted beforehand, and which may create schemas.
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

// MigrateDown takes back the last step, and with it the data that only that step's tables held.
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

// MigrationStatus lists all steps.
func MigrationStatus(ctx context.Context, url sensitive.String) (all []Migration, err error) {
	err = withMigrations(ctx, url, func(provider *goose.Provider) error {
		steps, err := provider.Status(ctx)
		for _, step := range steps {
			one := Migration{Version: step.Source.Version, Name: name(step.Source.Path)}
			if step.State == goose.StateApplied {
				at := step.AppliedAt.UTC()
				one.AppliedAt = &at
			}
			all = append(all, one)
		}
		return err
	})
	return all, err
}

// name of a step; the one that is no file of ours goes by what it does.
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
	// A minute of tries a second apart: a replica that starts beside the one that migrates goes on as soon as that is done.
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 60))
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, handle, steps, goose.WithSessionLocker(locker), goose.WithGoMigrations(queueMigration()))
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

// SchemaVersion is the newest step that this program knows.
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

// EnsureRoles makes the roles that the service takes, where they are missing, and the user of the URL a member of them, as the first steps of the schema do: roles belong to a
// whole server and are in no backup of a database.
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

// CheckSchema tells whether the schema is the one that this program knows, and says what to do if it is not.
func (db *DB) CheckSchema(ctx context.Context) error {
	newest, err := SchemaVersion()
	if err != nil {
		return err
	}
	var applied int64
	var restoring bool
	err = db.InPlatform(ctx, func(tx *Tx) error {
		if err := tx.ORM().Raw("select to_regnamespace(?) is not null", RestoringSchema).Row().Scan(&restoring); err != nil || restoring {
			return err
		}
		return tx.ORM().Raw("select max(version_id) from goose_db_version where is_applied").Row().Scan(&applied)
	})
	if fault.Is(err, fault.ServiceUnavailable) {
		return err
	}
	switch {
	case restoring:
		return errors.New("postgres: a restore into this database is under way or was broken off; let it finish, or run it again: steward backup restore")
	case err != nil:
		return fmt.Errorf("postgres: the database has no schema yet; run: steward migrate up (%w)", err)
	case applied < newest:
		return fmt.Errorf("postgres: the schema is at version %d and this program needs %d; run: steward migrate up", applied, newest)
	case applied > newest:
		return fmt.Errorf("postgres: the schema is at version %d, newer than this program, which knows %d; run a newer steward", applied, newest)
	}
	return nil
}

// CheckRoles makes sure that the service stands behind row security: the roles that it takes must own nothing and bypass nothing.
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
		return fmt.Errorf("postgres: the role %s owns tables or bypasses row security; the service will not run like that", role)
	}
	return nil
}
