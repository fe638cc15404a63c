package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"filippo.io/age"

	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/infra/idempotency"
	"github.com/fusionspim/steward/internal/infra/jobs"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/record/audit"
)

// Service implements the use cases of the backups of one database. Safe for concurrent use.
type Service struct {
	db       *postgres.DB
	vault    Vault
	queue    *jobs.Queue
	ledger   Ledger // nil: there is none
	settings Settings
	log      *slog.Logger

	mu          sync.Mutex
	differences []Difference // that this replica found in its last comparison
}

// NewService returns the service. Without a blob store there are no backups; without a queue none
// can be ordered in the background.
func NewService(
	db *postgres.DB, vault Vault, queue *jobs.Queue, ledger Ledger, settings Settings, log *slog.Logger,
) *Service {
	return &Service{db: db, vault: vault, queue: queue, ledger: ledger, settings: settings, log: log}
}

// MissingConfig returns an error that says what is missing for making backups here, or nil.
func (s *Service) MissingConfig() error {
	switch {
	case s.vault.Store == nil:
		return errors.New("STEWARD_BLOB_URL is not set")
	case len(s.settings.Recipients) == 0:
		return errors.New("STEWARD_BACKUP_RECIPIENTS is not set; steward backup keygen makes a key pair")
	case s.settings.DatabaseURL.IsEmpty():
		return errors.New("STEWARD_BACKUP_DATABASE_URL is not set")
	}
	return checkPrograms(s.settings.Programs)
}

// configured reports whether the settings allow for making backups here.
func (s *Service) configured() bool {
	return s.vault.Store != nil && len(s.settings.Recipients) > 0 && !s.settings.DatabaseURL.IsEmpty()
}

// MayHold reports whether a backup that was taken at a time may contain a person who was erased at
// another.
func MayHold(taken, erased time.Time) bool { return !taken.After(erased.Add(slack)) }

// ExpireBy returns when the last backup expires that may hold data erased at a time: the last
// expiry of the backups that exist, and of one that may be taken before the erasure is committed.
// Nil: no backup holds the data, and none will. It works inside customers and outside.
func (s *Service) ExpireBy(tx *postgres.Tx, erased time.Time) (*time.Time, error) {
	last, err := lastExpiry(tx, erased.Add(slack))
	if err != nil || !s.configured() {
		return utc(last), err
	}
	if next := erased.Add(slack + s.settings.Kept); last == nil || next.After(*last) {
		last = &next
	}
	return utc(last), nil
}

func utc(at *time.Time) *time.Time {
	if at == nil {
		return nil
	}
	in := at.UTC().Truncate(time.Microsecond) // the precision of the database
	return &in
}

// List returns the backups in the catalogue, newest first: at most limit of those older than
// before, or of all where before is zero.
func (s *Service) List(ctx context.Context, before id.Backup, limit int) ([]Backup, error) {
	return postgres.Platform(ctx, s.db, func(tx *postgres.Tx) ([]Backup, error) { return list(tx, before, limit) })
}

// Get returns one backup of the catalogue. Fault: ResourceNotFound.
func (s *Service) Get(ctx context.Context, backup id.Backup) (Backup, error) {
	return postgres.Platform(ctx, s.db, func(tx *postgres.Tx) (Backup, error) { return byID(tx, backup) })
}

// Counts returns the number of backups by their state.
func (s *Service) Counts(ctx context.Context) (map[State]int64, error) {
	return postgres.Platform(ctx, s.db, countByState)
}

// Differences returns what this replica found in its last comparison.
func (s *Service) Differences() []Difference {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.differences)
}

func (s *Service) newBackup(now time.Time) Backup {
	return Backup{
		ID: id.New[id.Backup](), State: Creating, RequestedAt: now, TakenAt: now, ExpiresAt: now.Add(s.settings.Kept),
	}
}

// Order enqueues the making of a backup, on an operator's order. The order is recorded in the trail
// of Fusions, whose users operators are: a backup contains all customers and is in the trail of
// none. Faults: BackupUnderWay, BackupsNotSetUp.
func (s *Service) Order(
	ctx context.Context, caller principal.Principal, once *idempotency.Once[Backup],
) (Backup, error) {
	if missing := s.MissingConfig(); missing != nil || s.queue == nil {
		return Backup{}, fault.Because(missing, fault.BackupsNotSetUp,
			"This service is not configured for making backups.")
	}
	if err := s.failAbandoned(ctx); err != nil {
		return Backup{}, err
	}
	ordered, err := idempotency.Write(ctx, s.db, caller.Customer, once, func(tx *postgres.Tx) (Backup, error) {
		b := s.newBackup(tx.Now)
		if err := insert(tx, b); err != nil {
			return Backup{}, err
		}
		if err := s.queue.EnqueueTx(tx, making{CustomerID: caller.Customer, BackupID: b.ID}); err != nil {
			return Backup{}, err
		}
		return b, audit.AppendTx(tx, audit.Act{
			Caller: caller, Action: audit.BackupOrdered, Target: audit.OnBackup(b.ID),
		})
	})
	if errors.Is(err, ErrUnderWay) {
		return Backup{}, fault.New(fault.BackupUnderWay, "One backup is made at a time.")
	}
	return ordered, err
}

// Create makes a backup. It returns when the backup is complete. Error: ErrUnderWay.
func (s *Service) Create(ctx context.Context) (Backup, error) {
	if err := s.MissingConfig(); err != nil {
		return Backup{}, err
	}
	if err := s.failAbandoned(ctx); err != nil {
		return Backup{}, err
	}
	b := s.newBackup(s.db.Now())
	if err := s.db.InPlatform(ctx, func(tx *postgres.Tx) error { return insert(tx, b) }); err != nil {
		return Backup{}, err
	}
	return s.make(ctx, b.ID)
}

// make makes a backup that was requested, and records its outcome. Error: ErrUnderWay where another
// process is making one; the backup stays requested.
func (s *Service) make(ctx context.Context, backup id.Backup) (done Backup, err error) {
	from, err := connect(ctx, s.settings.DatabaseURL, "STEWARD_BACKUP_DATABASE_URL")
	if err != nil {
		return Backup{}, errors.Join(err, s.fail(ctx, backup))
	}
	defer from.close()
	if acquired, err := from.lock(ctx); err != nil {
		return Backup{}, errors.Join(err, s.fail(ctx, backup))
	} else if !acquired {
		return Backup{}, ErrUnderWay
	}
	if done, err = s.Get(ctx, backup); err != nil {
		return Backup{}, err
	}
	if done.State != Creating {
		return done, fmt.Errorf("the backup %s is %s", backup, done.State)
	}
	if err := s.store(ctx, from, &done); err != nil {
		return Backup{}, errors.Join(err, s.fail(ctx, backup))
	}
	done.State = Available
	if err := s.db.InPlatform(ctx, func(tx *postgres.Tx) error { return markAvailable(tx, done) }); err != nil {
		return Backup{}, err // the store has it whole, which failAbandoned sees
	}
	s.log.InfoContext(ctx, "a backup was made", "backup", backup, "bytes", *done.Size, "expires_at", done.ExpiresAt)
	return done, nil
}

// fail records that a backup failed, and deletes its objects, also when the context is cancelled.
func (s *Service) fail(ctx context.Context, backup id.Backup) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	if err := s.vault.delete(ctx, backup); err != nil {
		return err // the row stays, and failAbandoned retries
	}
	return s.db.InPlatform(ctx, func(tx *postgres.Tx) error { return setState(tx, backup, Failed, Creating) })
}

// store stores the dump and its entry.
func (s *Service) store(ctx context.Context, from *connection, b *Backup) error {
	if err := from.checkRole(ctx); err != nil {
		return err
	}
	if err := from.checkDatabase(ctx, b.ID); err != nil {
		return err
	}
	found, err := findPrograms(ctx, s.settings.Programs, from.major, 0)
	if err != nil {
		return err
	}
	on, err := targetOf(s.settings.DatabaseURL, "STEWARD_BACKUP_DATABASE_URL")
	if err != nil {
		return err
	}
	if err := s.vault.delete(ctx, b.ID); err != nil { // of an attempt that was interrupted
		return err
	}
	// The ledger's position is read before the snapshot is taken: entries after it may be applied
	// in the snapshot or not, and are replayed either way.
	if s.ledger != nil {
		number, hash, err := s.ledger.Position(ctx)
		if err != nil {
			return fmt.Errorf("the position of the ledger: %w", err)
		}
		b.Ledger = &Position{Number: number, Hash: hash}
	}
	b.TakenAt = s.db.Now().UTC().Truncate(time.Microsecond)
	b.ExpiresAt = b.TakenAt.Add(s.settings.Kept)
	snapshot, schema, err := from.snapshot(ctx)
	if err != nil {
		return err
	}
	b.ServerVersion, b.ProgramVersion, b.SchemaVersion = &from.server, &found.major, &schema
	if err := s.db.InPlatform(ctx, func(tx *postgres.Tx) error { return recordSnapshot(tx, *b) }); err != nil {
		return err
	}
	got := newSum()
	if err := s.write(ctx, *b, got, found, on, snapshot); err != nil {
		return err
	}
	b.Size, b.SHA256 = &got.size, got.hash.Sum(nil)
	content, err := s.vault.sealEntry(*b)
	if err != nil {
		return err
	}
	return s.vault.Store.Create(ctx, entryName(b.ID), strings.NewReader(string(content)))
}

// write streams the dump through the encryption into the store: no plain text is written to a disk,
// and memory is bounded.
func (s *Service) write(ctx context.Context, b Backup, got *sum, with programs, on target, snapshot string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	reader, writer := io.Pipe()
	dumped := make(chan error, 1)
	go func() {
		err := s.dump(ctx, writer, with, on, snapshot)
		writer.CloseWithError(err) // an error keeps the object from being created
		dumped <- err
	}()
	stored := s.vault.Store.Create(ctx, dataName(b.ID), io.TeeReader(reader, got))
	_ = reader.CloseWithError(stored) // never fails; ends a dump that cannot be stored
	if stored != nil {
		cancel()
	}
	err := <-dumped
	if err != nil && !errors.Is(err, context.Canceled) && (stored == nil || errors.Is(stored, err)) {
		return err
	}
	return stored
}

func (s *Service) dump(ctx context.Context, to io.Writer, with programs, on target, snapshot string) error {
	encrypted, err := age.Encrypt(to, s.settings.Recipients...)
	if err != nil {
		return err
	}
	arguments := []string{
		"--format=custom", "--compress=6", "--lock-wait-timeout=60s", "--no-unlogged-table-data",
		"--snapshot=" + snapshot,
	}
	unsaved, err := unsavedTables(s.settings.Stores)
	if err != nil {
		return err
	}
	for _, table := range unsaved {
		arguments = append(arguments, "--exclude-table-data="+table)
	}
	if err := with.run(ctx, "pg_dump", on, nil, encrypted, arguments...); err != nil {
		return err
	}
	return encrypted.Close()
}

// failAbandoned records requested backups as failed that no process has completed in time, or as
// available where the store has them whole. The process that makes a backup holds a lock until its
// connection ends.
func (s *Service) failAbandoned(ctx context.Context) error {
	stale, err := postgres.Platform(ctx, s.db, func(tx *postgres.Tx) ([]Backup, error) {
		return listAbandoned(tx, tx.Now.Add(-abandoned))
	})
	if err != nil || len(stale) == 0 || s.settings.DatabaseURL.IsEmpty() {
		return err
	}
	from, err := connect(ctx, s.settings.DatabaseURL, "STEWARD_BACKUP_DATABASE_URL")
	if err != nil {
		return err
	}
	defer from.close()
	if acquired, err := from.lock(ctx); err != nil || !acquired {
		return err
	}
	for _, b := range stale {
		if stored, err := s.vault.Get(ctx, b.ID); err == nil && s.vault.check(ctx, stored) == nil {
			if err := s.db.InPlatform(ctx, func(tx *postgres.Tx) error { return upsert(tx, stored) }); err != nil {
				return err
			}
			continue
		}
		s.log.ErrorContext(ctx, "a backup was abandoned: the process that made it has ended", "backup", b.ID)
		if err := s.fail(ctx, b.ID); err != nil {
			return err
		}
	}
	return nil
}

// Earliest returns when the earliest backup was taken, or a time before that, of all that exist: in
// the store, whatever the catalogue says, or in the catalogue unless they are known to be gone.
// Nil: none exists. An object of unknown age in the store is an error.
func (s *Service) Earliest(ctx context.Context) (*time.Time, error) {
	earliest, err := postgres.Platform(ctx, s.db, firstTaken)
	if err != nil || s.vault.Store == nil {
		return utc(earliest), err
	}
	stored, foreign, err := s.vault.scan(ctx)
	if err != nil {
		return nil, err
	}
	if len(foreign) > 0 {
		return nil, fmt.Errorf("%s is stored among the backups and is none of them; what it contains is unknown", foreign[0])
	}
	for backup := range stored {
		b, err := s.vault.Get(ctx, backup)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil { // without an authentic entry: the id was made before the backup was taken
			b.TakenAt = time.Unix(backup.Time().UnixTime())
		}
		if earliest == nil || b.TakenAt.Before(*earliest) {
			earliest = &b.TakenAt
		}
	}
	return utc(earliest), nil
}

// Expire deletes the backups that expire soon, and checks that they can no longer be read. It
// returns those it deleted; the error joins the failures of others.
func (s *Service) Expire(ctx context.Context) (expired []id.Backup, err error) {
	expired = []id.Backup{}
	if s.vault.Store == nil {
		return expired, nil
	}
	due, err := postgres.Platform(ctx, s.db, func(tx *postgres.Tx) ([]Backup, error) {
		return listExpiring(tx, tx.Now.Add(lead))
	})
	if err != nil {
		return nil, err
	}
	var failures []error
	for _, b := range due {
		if err := s.remove(ctx, b.ID, Expired); err != nil {
			s.log.ErrorContext(ctx, "an expired backup could not be deleted", "backup", b.ID, "error", err)
			failures = append(failures, fmt.Errorf("the backup %s: %w", b.ID, err))
			continue
		}
		expired = append(expired, b.ID)
	}
	return expired, errors.Join(failures...)
}

// Delete deletes a backup before it expires. Fault: ResourceNotFound. Error: ErrUnderWay.
func (s *Service) Delete(ctx context.Context, backup id.Backup) error {
	b, err := s.Get(ctx, backup)
	if err != nil {
		return err
	}
	if b.State == Creating {
		return ErrUnderWay
	}
	return s.remove(ctx, backup, Deleted)
}

func (s *Service) remove(ctx context.Context, backup id.Backup, as State) error {
	if err := s.vault.delete(ctx, backup); err != nil {
		return err
	}
	s.log.InfoContext(ctx, "a backup was deleted and can no longer be read", "backup", backup, "state", string(as))
	return s.db.InPlatform(ctx, func(tx *postgres.Tx) error {
		return setState(tx, backup, as, Available, Missing, Damaged)
	})
}

// Upkeep does the regular work: it compares, expires, tidies the store, and makes a backup if one
// is due. The error joins all failures.
func (s *Service) Upkeep(ctx context.Context) error {
	if s.vault.Store == nil {
		return nil
	}
	failures := []error{s.failAbandoned(ctx)}
	if _, err := s.Compare(ctx); err != nil {
		failures = append(failures, err)
	}
	if _, err := s.Expire(ctx); err != nil {
		failures = append(failures, err)
	}
	// by the clock of the store
	if _, err := s.vault.Store.Tidy(ctx, time.Now().Add(-2*longest)); err != nil {
		failures = append(failures, err)
	}
	if s.settings.Every > 0 && s.MissingConfig() == nil {
		last, err := postgres.Platform(ctx, s.db, newest)
		if err == nil && !last.Add(s.settings.Every).After(s.db.Now().Add(upkeepEvery/2)) {
			_, err = s.Create(ctx)
		}
		if !errors.Is(err, ErrUnderWay) {
			failures = append(failures, err)
		}
	}
	return errors.Join(failures...)
}
