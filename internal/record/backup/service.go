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

// Service is the backups of one database, as callers use it. Safe for concurrent use.
type Service struct {
	db       *postgres.DB
	vault    Vault
	queue    *jobs.Queue
	ledger   Ledger // nil: there is none
	settings Settings
	log      *slog.Logger

	mu          sync.Mutex
	differences []Difference // that this replica found when it looked last
}

// NewService makes the service. Without a store of objects there are no backups; without a queue nobody can ask for one in the background.
func NewService(db *postgres.DB, vault Vault, queue *jobs.Queue, ledger Ledger, settings Settings, log *slog.Logger) *Service {
	return &Service{db: db, vault: vault, queue: queue, ledger: ledger, settings: settings, log: log}
}

// MissingConfig says what is missing for making backups here; nil: nothing is.
func (s *Service) MissingConfig() error {
	switch {
	case s.vault.Store == nil:
		return errors.New("STEWARD_BLOB_URL is not set")
	case len(s.settings.Recipients) == 0:
		return errors.New("STEWARD_BACKUP_RECIPIENTS is not set; steward backup keygen makes a key pair")
	case s.settings.DatabaseURL.IsEmpty():
		return errors.New("STEWARD_BACKUP_DATABASE_URL is not set")
	}
	return haveSome(s.settings.Programs)
}

// on tells whether backups are made here, by settings alone.
func (s *Service) on() bool {
	return s.vault.Store != nil && len(s.settings.Recipients) > 0 && !s.settings.DatabaseURL.IsEmpty()
}

// MayHold tells whether a backup that was taken at a moment may hold somebody who was erased at another.
func MayHold(taken, erased time.Time) bool { return !taken.After(erased.Add(slack)) }

// ExpireBy returns when the last backup expires that may hold data erased at a time: the last expiry of the
// backups that exist, and of one that may be taken before the erasure is committed. Nil: no backup holds
// the data, and none will. It works inside customers and outside.
func (s *Service) ExpireBy(tx *postgres.Tx, erased time.Time) (*time.Time, error) {
	last, err := lastExpiry(tx, erased.Add(slack))
	if err != nil || !s.on() {
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
	in := at.UTC().Truncate(time.Microsecond) // as the database keeps it
	return &in
}

// List returns the backups in the catalogue, newest first: at most limit of those asked for before the one named, or from the newest on.
func (s *Service) List(ctx context.Context, before id.Backup, limit int) (backups []Backup, err error) {
	err = s.db.InPlatform(ctx, func(tx *postgres.Tx) error {
		backups, err = list(tx, before, limit)
		return err
	})
	return backups, err
}

// Get returns one backup of the catalogue. Fault: ResourceNotFound.
func (s *Service) Get(ctx context.Context, backup id.Backup) (found Backup, err error) {
	err = s.db.InPlatform(ctx, func(tx *postgres.Tx) error {
		found, err = byID(tx, backup)
		return err
	})
	return found, err
}

// Counts counts the backups by their state.
func (s *Service) Counts(ctx context.Context) (of map[State]int64, err error) {
	err = s.db.InPlatform(ctx, func(tx *postgres.Tx) error {
		of, err = counts(tx)
		return err
	})
	return of, err
}

// Differences are what this replica found in the store that was not as in the catalogue, when it looked last.
func (s *Service) Differences() []Difference {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.differences)
}

func (s *Service) newBackup(now time.Time) Backup {
	return Backup{ID: id.New[id.Backup](), State: Creating, RequestedAt: now, TakenAt: now, ExpiresAt: now.Add(s.settings.Kept)}
}

// Order has a backup made in the background, on an operator's order. The order stands in the trail of Fusions, whose users operators are: a backup is of all customers and
// in the trail of none. Faults: BackupUnderWay, BackupsNotSetUp.
func (s *Service) Order(ctx context.Context, caller principal.Principal, once *idempotency.Once[Backup]) (ordered Backup, err error) {
	if lacking := s.MissingConfig(); lacking != nil || s.queue == nil {
		return Backup{}, fault.Because(lacking, fault.BackupsNotSetUp, "This service was not given what making backups takes.")
	}
	if err := s.giveUp(ctx); err != nil {
		return Backup{}, err
	}
	err = s.db.InCustomer(ctx, caller.Customer, func(tx *postgres.Tx) error {
		ordered, err = once.Do(tx, func() (Backup, id.User, error) {
			b := s.newBackup(tx.Now)
			if err := ask(tx, b); err != nil {
				return Backup{}, id.User{}, err
			}
			if err := s.queue.EnqueueTx(tx, making{CustomerID: caller.Customer, BackupID: b.ID}); err != nil {
				return Backup{}, id.User{}, err
			}
			return b, id.User{}, audit.AppendTx(tx, audit.Act{Caller: caller, Action: audit.BackupOrdered, Target: audit.OnBackup(b.ID)})
		})
		return err
	})
	if errors.Is(err, ErrUnderWay) {
		return Backup{}, fault.New(fault.BackupUnderWay, "One backup is made at a time.")
	}
	return ordered, err
}

// Create makes a backup. Error: ErrUnderWay.
func (s *Service) Create(ctx context.Context) (Backup, error) {
	if err := s.MissingConfig(); err != nil {
		return Backup{}, err
	}
	if err := s.giveUp(ctx); err != nil {
		return Backup{}, err
	}
	b := s.newBackup(s.db.Now())
	if err := s.db.InPlatform(ctx, func(tx *postgres.Tx) error { return ask(tx, b) }); err != nil {
		return Backup{}, err
	}
	return s.make(ctx, b.ID)
}

// make makes a backup that was asked for, and notes what became of it. Error: ErrUnderWay, which leaves it to whoever makes it.
func (s *Service) make(ctx context.Context, backup id.Backup) (done Backup, err error) {
	from, err := connect(ctx, s.settings.DatabaseURL, "STEWARD_BACKUP_DATABASE_URL")
	if err != nil {
		return Backup{}, errors.Join(err, s.failed(ctx, backup))
	}
	defer from.close()
	if taken, err := from.lock(ctx); err != nil {
		return Backup{}, errors.Join(err, s.failed(ctx, backup))
	} else if !taken {
		return Backup{}, ErrUnderWay
	}
	if done, err = s.Get(ctx, backup); err != nil {
		return Backup{}, err
	}
	if done.State != Creating {
		return done, fmt.Errorf("the backup %s is %s", backup, done.State)
	}
	if err := s.take(ctx, from, &done); err != nil {
		return Backup{}, errors.Join(err, s.failed(ctx, backup))
	}
	done.State = Available
	if err := s.db.InPlatform(ctx, func(tx *postgres.Tx) error { return made(tx, done) }); err != nil {
		return Backup{}, err // the store has it whole, which giveUp sees
	}
	s.log.InfoContext(ctx, "a backup was made", "backup", backup, "bytes", *done.Size, "expires_at", done.ExpiresAt)
	return done, nil
}

// failed notes that a backup came to nothing, and removes what there is of it, also when that is because the caller has gone.
func (s *Service) failed(ctx context.Context, backup id.Backup) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	if err := s.vault.delete(ctx, backup); err != nil {
		return err // the row stays, and the next look tries again
	}
	return s.db.InPlatform(ctx, func(tx *postgres.Tx) error { return become(tx, backup, Failed, Creating) })
}

// take writes the dump and its entry.
func (s *Service) take(ctx context.Context, from *source, b *Backup) error {
	if err := from.mayReadAll(ctx); err != nil {
		return err
	}
	if err := from.holds(ctx, b.ID); err != nil {
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
	if err := s.vault.delete(ctx, b.ID); err != nil { // of an attempt that was broken off
		return err
	}
	// The ledger's position comes before the snapshot: what the ledger has after it may be in the snapshot or not, and is done again either way.
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
	if err := s.db.InPlatform(ctx, func(tx *postgres.Tx) error { return began(tx, *b) }); err != nil {
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

// write streams the dump through the encryption into the store: nothing of it is on a disk in the clear, and little of it is in memory at a time.
func (s *Service) write(ctx context.Context, b Backup, got *sum, with programs, on target, snapshot string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	reader, writer := io.Pipe()
	dumped := make(chan error, 1)
	go func() {
		err := s.dump(ctx, writer, with, on, snapshot)
		writer.CloseWithError(err) // without an error the end of the object; with one there will be no object
		dumped <- err
	}()
	stored := s.vault.Store.Create(ctx, dataName(b.ID), io.TeeReader(reader, got))
	_ = reader.CloseWithError(stored) // never fails; a dump whose store failed ends
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
	arguments := []string{"--format=custom", "--compress=6", "--lock-wait-timeout=60s", "--no-unlogged-table-data", "--snapshot=" + snapshot}
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

// giveUp notes backups as failed whose maker has died, or that nobody came to make, unless the store has them whole. Whoever makes one holds a lock that ends with the
// connection.
func (s *Service) giveUp(ctx context.Context) error {
	var stale []Backup
	err := s.db.InPlatform(ctx, func(tx *postgres.Tx) (err error) {
		stale, err = all(tx, "where state = 'creating' and requested_at <= ?", tx.Now.Add(-abandoned))
		return err
	})
	if err != nil || len(stale) == 0 || s.settings.DatabaseURL.IsEmpty() {
		return err
	}
	from, err := connect(ctx, s.settings.DatabaseURL, "STEWARD_BACKUP_DATABASE_URL")
	if err != nil {
		return err
	}
	defer from.close()
	if taken, err := from.lock(ctx); err != nil || !taken {
		return err
	}
	for _, b := range stale {
		if stored, err := s.vault.Get(ctx, b.ID); err == nil && s.vault.check(ctx, stored) == nil {
			if err := s.db.InPlatform(ctx, func(tx *postgres.Tx) error { return found(tx, stored) }); err != nil {
				return err
			}
			continue
		}
		s.log.ErrorContext(ctx, "a backup was given up: whoever made it has gone", "backup", b.ID)
		if err := s.failed(ctx, b.ID); err != nil {
			return err
		}
	}
	return nil
}

// Compare compares the catalogue with what lies in the store, brings the catalogue to it, and returns what is not as it should be. A backup that only the store knows is
// taken into the catalogue: after a restore the catalogue is the one of then.
func (s *Service) Compare(ctx context.Context) (differences []Difference, err error) {
	differences = []Difference{}
	if s.vault.Store == nil {
		return differences, nil
	}
	var rows []Backup
	// The rows are read before the store: what is made meanwhile is unknown to both, or its row says that it is being made.
	err = s.db.InPlatform(ctx, func(tx *postgres.Tx) error {
		rows, err = kept(tx)
		return err
	})
	if err != nil {
		return nil, err
	}
	there, strange, err := s.vault.look(ctx)
	if err != nil {
		return nil, err
	}
	for _, name := range strange {
		differences = append(differences, Difference{ObjectUnknown, name})
	}
	for _, b := range rows {
		lies := there[b.ID]
		delete(there, b.ID)
		if b.State == Creating && !lies.entry {
			continue // being made
		}
		after, kind, object := s.judge(ctx, b, lies)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if kind != "" {
			differences = append(differences, Difference{kind, object})
		}
		if after.State == Available && b.State != Available {
			if b.State == Creating { // with its entry written; its maker may be about to say so, or has died
				continue
			}
			if err := s.db.InPlatform(ctx, func(tx *postgres.Tx) error { return found(tx, after) }); err != nil {
				return nil, err
			}
		} else if after.State != b.State {
			if err := s.db.InPlatform(ctx, func(tx *postgres.Tx) error { return become(tx, b.ID, after.State, b.State) }); err != nil {
				return nil, err
			}
		}
	}
	for backup, lies := range there {
		if !lies.entry {
			if s.beingMade(ctx, backup) {
				continue
			}
			differences = append(differences, Difference{ObjectUnknown, dataName(backup)})
			continue
		}
		b, err := s.vault.Get(ctx, backup)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			differences = append(differences, Difference{ObjectDamaged, entryName(backup)})
			continue
		}
		if lies.size == nil {
			differences = append(differences, Difference{ObjectMissing, dataName(backup)})
			continue
		}
		if s.beingMade(ctx, backup) {
			continue
		}
		if err := s.db.InPlatform(ctx, func(tx *postgres.Tx) error { return found(tx, b) }); err != nil {
			return nil, err
		}
		s.log.WarnContext(ctx, "a backup that only the store knew is in the catalogue again", "backup", backup)
	}
	slices.SortFunc(differences, func(a, b Difference) int { return strings.Compare(a.Object, b.Object) })
	for _, one := range differences {
		s.log.ErrorContext(ctx, "the store of backups is not as in the catalogue", "kind", string(one.Kind), "object", one.Object)
	}
	s.mu.Lock()
	s.differences = differences
	s.mu.Unlock()
	return differences, nil
}

// Earliest tells when the earliest backup was taken, or before, of all that may hold anybody: of what lies in the store, whatever the catalogue says, and of what the catalogue
// does not know to be gone. Nil: there is none. Where something lies in the store that nobody can tell the age of, that is an error.
func (s *Service) Earliest(ctx context.Context) (earliest *time.Time, err error) {
	err = s.db.InPlatform(ctx, func(tx *postgres.Tx) error {
		earliest, err = firstTaken(tx)
		return err
	})
	if err != nil || s.vault.Store == nil {
		return utc(earliest), err
	}
	there, strange, err := s.vault.look(ctx)
	if err != nil {
		return nil, err
	}
	if len(strange) > 0 {
		return nil, fmt.Errorf("%s lies among the backups and is none of them; nobody can tell whom it holds", strange[0])
	}
	for backup := range there {
		b, err := s.vault.Get(ctx, backup)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil { // without an entry that counts, the name tells: it was made before the backup was taken
			b.TakenAt = time.Unix(backup.Time().UnixTime())
		}
		if earliest == nil || b.TakenAt.Before(*earliest) {
			earliest = &b.TakenAt
		}
	}
	return utc(earliest), nil
}

// beingMade tells whether a backup is in the catalogue after all: it was asked for after the catalogue was read.
func (s *Service) beingMade(ctx context.Context, backup id.Backup) bool {
	b, err := s.Get(ctx, backup)
	return err == nil && (b.State == Creating || b.State == Available)
}

// judge says what state a backup of the catalogue is in by what lies in the store, and what of it is wrong.
func (s *Service) judge(ctx context.Context, b Backup, lies lying) (after Backup, kind DifferenceKind, object string) {
	over := !b.ExpiresAt.After(s.db.Now().Add(lead))
	after = b
	switch {
	case lies.size == nil && !lies.entry && over:
		after.State = Expired // a restored catalogue knows backups that have expired since
		return after, "", ""
	case lies.size == nil:
		after.State = Missing
		return after, ObjectMissing, dataName(b.ID)
	case !lies.entry:
		after.State = Missing
		return after, ObjectMissing, entryName(b.ID)
	}
	stored, err := s.vault.Get(ctx, b.ID)
	switch {
	case err != nil:
		after.State = Damaged
		return after, ObjectDamaged, entryName(b.ID)
	case *lies.size != *stored.Size || b.Size != nil && *lies.size != *b.Size:
		after.State = Damaged
		return after, ObjectDamaged, dataName(b.ID)
	}
	return stored, "", ""
}

// Expire deletes the backups whose time has come, and makes sure that they can be read no more.
func (s *Service) Expire(ctx context.Context) (expired []id.Backup, err error) {
	expired = []id.Backup{}
	if s.vault.Store == nil {
		return expired, nil
	}
	var due []Backup
	err = s.db.InPlatform(ctx, func(tx *postgres.Tx) error {
		due, err = all(tx, "where state in ('available', 'missing', 'damaged') and expires_at <= ? order by id", tx.Now.Add(lead))
		return err
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

// Delete deletes a backup before its time. Fault: ResourceNotFound.
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
	s.log.InfoContext(ctx, "a backup was deleted and can be read no more", "backup", backup, "state", string(as))
	return s.db.InPlatform(ctx, func(tx *postgres.Tx) error { return become(tx, backup, as, Available, Missing, Damaged) })
}

// Upkeep does what is to be done regularly: compares, expires, tidies the store up, and makes a backup if one is due.
func (s *Service) Upkeep(ctx context.Context) error {
	if s.vault.Store == nil {
		return nil
	}
	failures := []error{s.giveUp(ctx)}
	if _, err := s.Compare(ctx); err != nil {
		failures = append(failures, err)
	}
	if _, err := s.Expire(ctx); err != nil {
		failures = append(failures, err)
	}
	if _, err := s.vault.Store.Tidy(ctx, time.Now().Add(-2*longest)); err != nil { // by the clock of the store, not by ours
		failures = append(failures, err)
	}
	if s.settings.Every > 0 && s.MissingConfig() == nil {
		var last time.Time
		err := s.db.InPlatform(ctx, func(tx *postgres.Tx) (err error) {
			last, err = newest(tx)
			return err
		})
		if err == nil && !last.Add(s.settings.Every).After(s.db.Now().Add(upkeepEvery/2)) {
			_, err = s.Create(ctx)
		}
		if !errors.Is(err, ErrUnderWay) {
			failures = append(failures, err)
		}
	}
	return errors.Join(failures...)
}

func sortNewestFirst(backups []Backup) {
	slices.SortFunc(backups, func(a, b Backup) int { return strings.Compare(b.ID.String(), a.ID.String()) })
}
