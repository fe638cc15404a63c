package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"filippo.io/age"

	"github.com/fusionspim/steward/internal/base/clock"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/sensitive"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

// RestoreSettings say how to restore, and into which database.
type RestoreSettings struct {
	Vault      Vault
	Identities Identities
	Into       sensitive.String // the database, as the user who is to own its tables
	Replace    bool             // drop what is in it
	Programs   string           // the folder of pg_restore; empty: it is searched for
	Stores     []postgres.Store // of the whole service: some are emptied
	Clock      clock.Clock
	Log        *slog.Logger
}

// Restored is one restore.
type Restored struct {
	ID         id.Restore
	Backup     Backup
	RestoredAt time.Time
}

// Restore restores a backup into a database, migrates its schema to the version of this program,
// and records the restore there. The whole backup is checked before the database is changed. The
// database is marked until the restore is complete: no service opens it before, so an interrupted
// restore is noticed and repeated. By then the tables that must not be restored are empty.
//
// Errors: ErrUnknown, ErrEntry, ErrIdentity, ErrNotEmpty.
func Restore(ctx context.Context, settings RestoreSettings, backup id.Backup) (done Restored, err error) {
	b, err := settings.Vault.Get(ctx, backup)
	if err != nil {
		return done, err
	}
	known, err := postgres.SchemaVersion()
	if err != nil {
		return done, err
	}
	if *b.SchemaVersion > known {
		return done, fmt.Errorf("the backup has the schema of version %d, and this program knows %d; "+
			"restore with a newer steward", *b.SchemaVersion, known)
	}
	on, err := targetOf(settings.Into, "the database to restore into")
	if err != nil {
		return done, err
	}
	into, err := connect(ctx, settings.Into, "the database to restore into")
	if err != nil {
		return done, err
	}
	defer into.close()
	found, err := findPrograms(ctx, settings.Programs, into.major, *b.ProgramVersion)
	if err != nil {
		return done, err
	}
	empty, interrupted, err := into.isEmpty(ctx)
	switch {
	case err != nil:
		return done, err
	case !empty && !interrupted && !settings.Replace:
		return done, fmt.Errorf("%w; restore into a new one, or give --replace to lose what is in it", ErrNotEmpty)
	}
	if others, err := into.countOthers(ctx); err != nil {
		return done, err
	} else if others > 0 {
		return done, fmt.Errorf("the database has %d other connections; end what uses it first", others)
	}
	settings.Log.InfoContext(ctx, "checking the whole backup before the database is changed",
		"backup", backup, "bytes", *b.Size)
	if err := settings.Vault.check(ctx, b); err != nil {
		return done, err
	}
	if err := settings.Vault.checkIdentities(ctx, b, settings.Identities); err != nil {
		return done, err
	}
	if err := postgres.EnsureRoles(ctx, settings.Into); err != nil {
		return done, err
	}
	if err := into.mark(ctx); err != nil {
		return done, fmt.Errorf("the user of the database to restore into may not create schemas in it: %w", err)
	}
	if !empty {
		if err := into.clear(ctx); err != nil {
			return done, err
		}
	}
	settings.Log.InfoContext(ctx, "restoring", "backup", backup, "taken_at", b.TakenAt)
	err = settings.Vault.decrypted(ctx, b, settings.Identities, func(dump io.Reader) error {
		return found.run(ctx, "pg_restore", on, dump, io.Discard,
			"--no-owner", "--single-transaction", "--exit-on-error")
	})
	if err != nil {
		return done, err
	}
	if err := into.truncateUnsaved(ctx, settings.Stores); err != nil {
		return done, err
	}
	if _, err := postgres.MigrateUp(ctx, settings.Into); err != nil {
		return done, err
	}
	done = Restored{
		ID: id.New[id.Restore](), Backup: b, RestoredAt: settings.Clock().UTC().Truncate(time.Microsecond),
	}
	if err := recordRestore(ctx, settings, done); err != nil {
		return done, err
	}
	return done, errors.Join(into.analyze(ctx), into.unmark(ctx))
}

// recordRestore records the restore in the database, and updates the restored catalogue from the
// store.
func recordRestore(ctx context.Context, settings RestoreSettings, done Restored) error {
	db, err := postgres.Open(postgres.Settings{
		URL: settings.Into, MaxConnections: 1, PlatformConnections: 1,
	}, settings.Clock, settings.Log)
	if err != nil {
		return err
	}
	err = db.InPlatform(ctx, func(tx *postgres.Tx) error {
		// In the restored catalogue, the backup itself is still being made.
		if err := upsert(tx, done.Backup); err != nil {
			return err
		}
		return insertRestore(tx, done)
	})
	if err == nil {
		_, err = NewService(db, settings.Vault, nil, nil, Settings{}, settings.Log).Compare(ctx)
	}
	return errors.Join(err, db.Close())
}

// checkIdentities returns an error where none of the identities decrypts a backup.
func (v Vault) checkIdentities(ctx context.Context, b Backup, identities Identities) error {
	reader, err := v.openData(ctx, b.ID)
	if err != nil {
		return err
	}
	_, err = age.Decrypt(reader, identities...)
	var none *age.NoIdentityMatchError
	if errors.As(err, &none) {
		err = fmt.Errorf("%s: %w", dataName(b.ID), ErrIdentity)
	}
	return errors.Join(err, reader.Close())
}
