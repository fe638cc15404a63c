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

// RestoreSettings say what to restore with and where to.
type RestoreSettings struct {
	Vault      Vault
	Identities Identities
	Into       sensitive.String // the database, as the user who is to own what is in it
	Replace    bool             // what is in it goes
	Programs   string           // the folder of pg_restore; empty: it is looked for
	Stores     []postgres.Store // all that there are: some are emptied
	Clock      clock.Clock
	Log        *slog.Logger
}

// Restored is one restore.
type Restored struct {
	ID         id.Restore
	Backup     Backup // of what LastRestoreTx returns: the id, the moment and the position of the ledger
	RestoredAt time.Time
}

// Restore brings a backup into a database. The backup is checked whole before the database is touched. What must not come back is gone before a service can open the
// database, and the database knows that it was restored: until the mark is taken back at the end, no service opens it, so a restore that was broken off is seen and done again.
// The schema is brought to the version of this program. Errors: ErrUnknown, ErrEntry, ErrIdentity, ErrNotEmpty.
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
		return done, fmt.Errorf("the backup has the schema of version %d, and this program knows %d; restore with a newer steward", *b.SchemaVersion, known)
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
	empty, broken, err := into.isEmpty(ctx)
	switch {
	case err != nil:
		return done, err
	case !empty && !broken && !settings.Replace:
		return done, fmt.Errorf("%w; restore into a new one, or give --replace to lose what is in it", ErrNotEmpty)
	}
	if others, err := into.others(ctx); err != nil {
		return done, err
	} else if others > 0 {
		return done, fmt.Errorf("the database has %d other connections; end what uses it first", others)
	}
	settings.Log.InfoContext(ctx, "reading the backup whole, before the database is touched", "backup", backup, "bytes", *b.Size)
	if err := settings.Vault.check(ctx, b); err != nil {
		return done, err
	}
	if err := settings.Vault.opens(ctx, b, settings.Identities); err != nil {
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
		return found.run(ctx, "pg_restore", on, dump, io.Discard, "--no-owner", "--single-transaction", "--exit-on-error")
	})
	if err != nil {
		return done, err
	}
	if err := into.forget(ctx, settings.Stores); err != nil {
		return done, err
	}
	if _, err := postgres.MigrateUp(ctx, settings.Into); err != nil {
		return done, err
	}
	done = Restored{ID: id.New[id.Restore](), Backup: b, RestoredAt: settings.Clock().UTC().Truncate(time.Microsecond)}
	if err := bookkeep(ctx, settings, done); err != nil {
		return done, err
	}
	return done, errors.Join(into.analyze(ctx), into.unmark(ctx))
}

// bookkeep notes the restore in the database, and brings its catalogue, which is the one of then, to what lies in the store.
func bookkeep(ctx context.Context, settings RestoreSettings, done Restored) error {
	db, err := postgres.Open(postgres.Settings{URL: settings.Into, MaxConnections: 1, PlatformConnections: 1}, settings.Clock, settings.Log)
	if err != nil {
		return err
	}
	err = db.InPlatform(ctx, func(tx *postgres.Tx) error {
		// The backup itself was being made when it was taken.
		if err := found(tx, done.Backup); err != nil {
			return err
		}
		return record(tx, done)
	})
	if err == nil {
		_, err = NewService(db, settings.Vault, nil, nil, Settings{}, settings.Log).Compare(ctx)
	}
	return errors.Join(err, db.Close())
}

// opens makes sure that one of the identities opens a backup.
func (v Vault) opens(ctx context.Context, b Backup, identities Identities) error {
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
