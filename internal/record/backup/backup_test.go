package backup_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fusionspim/steward/internal/account/customer"
	"github.com/fusionspim/steward/internal/app"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/sensitive"
	"github.com/fusionspim/steward/internal/infra/blob"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/infra/seal"
	"github.com/fusionspim/steward/internal/record/backup"
	"github.com/fusionspim/steward/internal/testkit/dbtest"
)

const kept = 35 * 24 * time.Hour

// fixture is a database with a store for its backups.
type fixture struct {
	*backup.Service
	*dbtest.Database
	folder     string // of the store
	vault      backup.Vault
	settings   backup.Settings
	identities backup.Identities
}

// ledgerAt is a ledger that ends at a number.
type ledgerAt int64

func (l ledgerAt) Position(context.Context) (int64, string, error) { return int64(l), "hash", nil }

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{Database: dbtest.New(t), folder: t.TempDir()}
	store, err := blob.Open(blob.Settings{URL: "file://" + f.folder + "?sync=off"})
	if err != nil {
		t.Fatal(err)
	}
	f.vault = backup.Vault{Store: store, Box: box(t, 1)}
	recipient, identity, err := backup.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	if f.settings.Recipients, err = backup.ParseRecipients([]string{recipient}); err != nil {
		t.Fatal(err)
	}
	if f.identities, err = backup.ParseIdentities(identity.Reveal()); err != nil {
		t.Fatal(err)
	}
	f.settings.Kept, f.settings.DatabaseURL, f.settings.Stores = kept, f.URL, app.Stores()
	f.Service = f.service(f.settings)
	return f
}

func (f *fixture) service(settings backup.Settings) *backup.Service {
	return backup.NewService(f.DB, f.vault, nil, ledgerAt(7), settings, f.Log.Logger())
}

func box(t *testing.T, fill byte) *seal.Box {
	t.Helper()
	key := make([]byte, 32)
	for i := range key {
		key[i] = byte(i) * fill
	}
	made, err := seal.ParseMasterKey(sensitive.New(base64.StdEncoding.EncodeToString(key)))
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// make makes a backup.
func (f *fixture) make(t *testing.T) backup.Backup {
	t.Helper()
	made, err := f.Create(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func (f *fixture) state(t *testing.T, of id.Backup) backup.State {
	t.Helper()
	found, err := f.Get(t.Context(), of)
	if err != nil {
		t.Fatal(err)
	}
	return found.State
}

func (f *fixture) file(of id.Backup, suffix string) string {
	return filepath.Join(f.folder, "backups", of.String()+suffix)
}

func (f *fixture) verify(t *testing.T, of id.Backup) error {
	t.Helper()
	_, err := f.vault.Verify(t.Context(), of, f.identities, "")
	return err
}

func (f *fixture) restore(
	t *testing.T,
	of id.Backup,
	into sensitive.String,
	change ...func(*backup.RestoreSettings),
) (backup.Restored, error) {
	t.Helper()
	settings := backup.RestoreSettings{
		Vault:      f.vault,
		Identities: f.identities,
		Into:       into,
		Stores:     app.Stores(),
		Clock:      f.Clock.Now,
		Log:        f.Log.Logger(),
	}
	for _, apply := range change {
		apply(&settings)
	}
	return backup.Restore(t.Context(), settings, of)
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func writeFile(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("the error does not name %q: %v", part, err)
		}
	}
}

// marker is something personal that would stand out anywhere.
const marker = "Zyxwvu-Marker"

func (f *fixture) mark(t *testing.T) {
	t.Helper()
	acme := customer.New{Slug: "acme", Name: marker}
	_, err := customer.NewService(f.DB).Create(t.Context(), acme, func(*postgres.Tx) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
}

func TestABackupIsEncryptedAndCatalogued(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.mark(t)
	made := f.make(t)
	if made.State != backup.Available || !made.ExpiresAt.Equal(made.TakenAt.Add(kept)) || made.Ledger == nil ||
		made.Ledger.Number != 7 ||
		!made.TakenAt.Equal(f.Clock.Now()) {
		t.Errorf("%+v", made)
	}
	listed, err := f.List(t.Context(), id.Backup{}, 10)
	if err != nil || len(listed) != 1 || listed[0].ID != made.ID || *listed[0].Size != *made.Size ||
		!bytes.Equal(listed[0].SHA256, made.SHA256) {
		t.Errorf("%+v, %v", listed, err)
	}
	lying, err := f.vault.List(t.Context())
	if err != nil || len(lying) != 1 || lying[0].ID != made.ID || lying[0].State != backup.Available {
		t.Errorf("%+v, %v", lying, err)
	}
	if info, err := os.Stat(f.file(made.ID, ".age")); err != nil || info.Size() != *made.Size {
		t.Errorf("%v, %v", info, err)
	}
	err = filepath.WalkDir(f.folder, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && bytes.Contains(readFile(t, path), []byte(marker)) {
			t.Errorf("%s holds it in the clear", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	done, err := f.vault.Verify(t.Context(), made.ID, f.identities, "")
	if err != nil || done.Objects < 50 {
		t.Errorf("%d objects, %v", done.Objects, err)
	}
}

func TestTamperingIsNamed(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	made := f.make(t)
	data, entry := f.file(made.ID, ".age"), f.file(made.ID, ".json")
	whole, catalogue := readFile(t, data), readFile(t, entry)

	var positions []int
	for at := range whole {
		if at < 20 || at >= len(whole)-10 || at%(len(whole)/30) == 0 {
			positions = append(positions, at)
		}
	}
	for _, at := range positions {
		changed := bytes.Clone(whole)
		changed[at] ^= 0x20
		writeFile(t, data, changed)
		if err := f.verify(
			t,
			made.ID,
		); err == nil ||
			!strings.Contains(err.Error(), made.ID.String()+".age is damaged") {
			t.Fatalf("byte %d: %v", at, err)
		}
	}
	for name, changed := range map[string][]byte{
		"cut": whole[:len(whole)-1], "empty": {}, "longer": append(bytes.Clone(whole), 0),
	} {
		writeFile(t, data, changed)
		if err := f.verify(
			t,
			made.ID,
		); err == nil ||
			!strings.Contains(err.Error(), made.ID.String()+".age is damaged") {
			t.Errorf("%s: %v", name, err)
		}
	}
	into := dbtest.NewEmpty(t)
	_, err := f.restore(t, made.ID, into)
	wantError(t, err, made.ID.String()+".age is damaged")
	writeFile(t, data, whole)

	for at := range catalogue {
		changed := bytes.Clone(catalogue)
		changed[at] ^= 0x20 // the other case of a letter, which is what a decoder would overlook
		writeFile(t, entry, changed)
		if _, err := f.vault.Get(t.Context(), made.ID); !errors.Is(err, backup.ErrEntry) {
			t.Fatalf("byte %d of the entry: %v", at, err)
		}
	}
	writeFile(t, entry, catalogue)
	if _, err := (backup.Vault{Store: f.vault.Store, Box: box(t, 2)}).Get(
		t.Context(),
		made.ID,
	); !errors.Is(
		err,
		backup.ErrEntry,
	) {
		t.Errorf("another master key: %v", err)
	}
	// One backup's objects under the name of another.
	other := f.make(t)
	writeFile(t, f.file(other.ID, ".json"), catalogue)
	wantError(t, f.verify(t, other.ID), other.ID.String()+".json")

	_, strange, err := backup.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	wrong, err := backup.ParseIdentities(strange.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.vault.Verify(t.Context(), made.ID, wrong, ""); !errors.Is(err, backup.ErrIdentity) {
		t.Errorf("another identity: %v", err)
	}
	if _, err := f.restore(
		t,
		made.ID,
		into,
		func(s *backup.RestoreSettings) { s.Identities = wrong },
	); !errors.Is(
		err,
		backup.ErrIdentity,
	) {
		t.Errorf("restoring with another identity: %v", err)
	}
	if err := f.verify(t, id.New[id.Backup]()); !errors.Is(err, backup.ErrUnknown) {
		t.Errorf("a backup that never was: %v", err)
	}
	if err := os.Remove(data); err != nil {
		t.Fatal(err)
	}
	wantError(t, f.verify(t, made.ID), made.ID.String()+".age is missing")
	// After all of it the database to restore into is untouched.
	if _, err := f.restore(t, made.ID, into); err == nil || errors.Is(err, backup.ErrNotEmpty) {
		t.Errorf("%v", err)
	}
}

func TestOneIsMadeAtATime(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	const makers = 4
	errs := make([]error, makers)
	var all sync.WaitGroup
	for i := range makers {
		all.Go(func() { _, errs[i] = f.Create(t.Context()) })
	}
	all.Wait()
	made := 0
	for _, err := range errs {
		switch {
		case err == nil:
			made++
		case !errors.Is(err, backup.ErrUnderWay):
			t.Error(err)
		}
	}
	if made == 0 {
		t.Error("none succeeded")
	}
	counts, err := f.Counts(t.Context())
	if err != nil || counts[backup.Available] != int64(made) || counts[backup.Creating]+counts[backup.Failed] != 0 {
		t.Errorf("%v, %v", counts, err)
	}
}

func TestWhatCannotBeMadeLeavesNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	superuser := f.Superuser(t)
	role := "bound_" + strings.ToLower(strings.ReplaceAll(id.New[id.Backup]().String(), "-", ""))
	for _, statement := range []string{
		"create role " + role + " login in role pg_read_all_data", "grant steward_platform to " + role,
	} {
		if _, err := superuser.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	defer func() {
		if _, err := superuser.Exec(t.Context(), "drop owned by "+role+"; drop role "+role); err != nil {
			t.Error(err)
		}
	}()
	bound := f.settings
	bound.DatabaseURL = as(t, f.URL, role)
	_, err := f.service(bound).Create(t.Context())
	wantError(t, err, "STEWARD_BACKUP_DATABASE_URL", "row security", role)

	other := f.settings
	other.DatabaseURL = dbtest.New(t).URL
	_, err = f.service(other).Create(t.Context())
	wantError(t, err, "another database")

	gone := f.settings
	gone.DatabaseURL = as(t, f.URL, "nobody_of_that_name")
	_, err = f.service(gone).Create(t.Context())
	wantError(t, err, "STEWARD_BACKUP_DATABASE_URL")

	programs := func(folder string) *backup.Settings {
		return &backup.Settings{
			Kept: kept, Recipients: f.settings.Recipients, DatabaseURL: f.URL, Stores: app.Stores(), Programs: folder,
		}
	}
	for settings, part := range map[*backup.Settings]string{
		{Kept: kept, Recipients: f.settings.Recipients}:        "STEWARD_BACKUP_DATABASE_URL",
		{Kept: kept, DatabaseURL: f.URL, Stores: app.Stores()}: "STEWARD_BACKUP_RECIPIENTS",
		programs(t.TempDir()):                                  "STEWARD_PG_BIN",
		programs("testdata/old"):                               "version 9",
		programs("testdata/unlucky"):                           "out of luck",
	} {
		_, err := f.service(*settings).Create(t.Context())
		wantError(t, err, part)
	}
	counts, err := f.Counts(t.Context())
	if err != nil || counts[backup.Creating] != 0 || counts[backup.Available] != 0 || counts[backup.Failed] == 0 {
		t.Errorf("%v, %v", counts, err)
	}
	if left, _ := filepath.Glob(filepath.Join(f.folder, "backups", "*")); len(left) > 0 {
		t.Errorf("there is %v", left)
	}
	if left, _ := filepath.Glob(filepath.Join(f.folder, ".partial", "*")); len(left) > 0 {
		t.Errorf("there is %v", left)
	}
	f.make(t)
}

// as is the URL of a database for another user.
func as(t *testing.T, address sensitive.String, role string) sensitive.String {
	t.Helper()
	parsed, err := url.Parse(address.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	parsed.User = url.User(role)
	return sensitive.New(parsed.String())
}

func TestExpiryDeletesForGood(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	first := f.make(t)
	f.Clock.Advance(24 * time.Hour)
	second := f.make(t)
	f.Clock.Advance(kept - 26*time.Hour)
	if expired, err := f.Expire(t.Context()); err != nil || len(expired) != 0 {
		t.Errorf("before its time: %v, %v", expired, err)
	}
	f.Clock.Advance(time.Hour)
	if expired, err := f.Expire(t.Context()); err != nil || !slices.Equal(expired, []id.Backup{first.ID}) {
		t.Errorf("%v, %v", expired, err)
	}
	for _, suffix := range []string{".age", ".json"} {
		if _, err := os.Stat(f.file(first.ID, suffix)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", suffix, err)
		}
	}
	gone, err := f.Get(t.Context(), first.ID)
	if err != nil || gone.State != backup.Expired || gone.DeletedAt == nil || gone.DeletedAt.After(gone.ExpiresAt) {
		t.Errorf("%+v, %v", gone, err)
	}
	if err := f.Delete(t.Context(), second.ID); err != nil || f.state(t, second.ID) != backup.Deleted {
		t.Errorf("%v", err)
	}
	if differences, err := f.Compare(t.Context()); err != nil || len(differences) != 0 {
		t.Errorf("%v, %v", differences, err)
	}
	if err := f.verify(t, first.ID); !errors.Is(err, backup.ErrUnknown) {
		t.Errorf("%v", err)
	}
}

func TestTheCatalogueIsComparedWithTheStore(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	compare := func(want ...backup.Difference) {
		t.Helper()
		got, err := f.Compare(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
		if !slices.Equal(f.Differences(), want) {
			t.Errorf("the monitoring is told %v, want %v", f.Differences(), want)
		}
	}
	made := f.make(t)
	name := "backups/" + made.ID.String()
	data, whole := f.file(made.ID, ".age"), readFile(t, f.file(made.ID, ".age"))
	compare()

	if err := os.Remove(data); err != nil {
		t.Fatal(err)
	}
	compare(backup.Difference{Kind: backup.ObjectMissing, Object: name + ".age"})
	if f.state(t, made.ID) != backup.Missing {
		t.Error(f.state(t, made.ID))
	}
	writeFile(t, data, whole[1:])
	compare(backup.Difference{Kind: backup.ObjectDamaged, Object: name + ".age"})
	if f.state(t, made.ID) != backup.Damaged {
		t.Error(f.state(t, made.ID))
	}
	writeFile(t, data, whole)
	compare()
	if f.state(t, made.ID) != backup.Available {
		t.Error(f.state(t, made.ID))
	}

	writeFile(t, filepath.Join(f.folder, "backups", "something"), nil)
	unknown := id.New[id.Backup]().String()
	writeFile(t, filepath.Join(f.folder, "backups", unknown+".age"), whole)
	compare(
		backup.Difference{Kind: backup.ObjectUnknown, Object: "backups/" + unknown + ".age"},
		backup.Difference{Kind: backup.ObjectUnknown, Object: "backups/something"},
	)
	for _, name := range []string{"something", unknown + ".age"} {
		if err := os.Remove(filepath.Join(f.folder, "backups", name)); err != nil {
			t.Fatal(err)
		}
	}

	// The catalogue was lost with the database: the store has it.
	superuser := f.Superuser(t)
	if _, err := superuser.Exec(t.Context(), "delete from backups"); err != nil {
		t.Fatal(err)
	}
	compare()
	again, err := f.Get(t.Context(), made.ID)
	if err != nil || again.State != backup.Available || !bytes.Equal(again.SHA256, made.SHA256) ||
		!again.ExpiresAt.Equal(made.ExpiresAt) ||
		again.Ledger == nil ||
		*again.Ledger != *made.Ledger {
		t.Errorf("%+v, %v", again, err)
	}
	// A restored catalogue knows backups that have expired since.
	if err := errors.Join(os.Remove(data), os.Remove(f.file(made.ID, ".json"))); err != nil {
		t.Fatal(err)
	}
	f.Clock.Advance(kept)
	compare()
	if f.state(t, made.ID) != backup.Expired {
		t.Error(f.state(t, made.ID))
	}
}

func TestABackupWhoseMakerDiedIsGivenUp(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	left := id.New[id.Backup]()
	_, err := f.Superuser(t).
		Exec(t.Context(), "insert into backups (id, state, requested_at, taken_at, expires_at) "+
			"values ($1, 'creating', $2, $2, $3)",
			left.UUID, f.Clock.Now(), f.Clock.Now().Add(kept))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Create(t.Context()); !errors.Is(err, backup.ErrUnderWay) {
		t.Errorf("beside one that may be alive: %v", err)
	}
	f.Clock.Advance(time.Hour)
	f.make(t)
	if f.state(t, left) != backup.Failed {
		t.Error(f.state(t, left))
	}
	// One whose maker died when everything was written is good.
	whole := f.make(t)
	if _, err := f.Superuser(t).
		Exec(t.Context(), "update backups set state = 'creating' where id = $1", whole.ID.UUID); err != nil {
		t.Fatal(err)
	}
	f.Clock.Advance(time.Hour)
	f.make(t)
	if f.state(t, whole.ID) != backup.Available {
		t.Error(f.state(t, whole.ID))
	}
}

func TestUpkeepMakesWhatIsDue(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	settings := f.settings
	settings.Every = 24 * time.Hour
	daily := f.service(settings)
	count := func(want int64) {
		t.Helper()
		if err := daily.Upkeep(t.Context()); err != nil {
			t.Fatal(err)
		}
		if counts, err := daily.Counts(t.Context()); err != nil || counts[backup.Available] != want {
			t.Errorf("%v, %v, want %d", counts, err, want)
		}
	}
	count(1)
	count(1)
	f.Clock.Advance(23 * time.Hour)
	count(1)
	f.Clock.Advance(time.Hour)
	count(2)
	f.Clock.Advance(kept)
	count(1)
}

func TestTheHorizonOfAnErasure(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	horizon := func(of *backup.Service) (at *time.Time) {
		t.Helper()
		err := f.DB.InCustomer(t.Context(), id.New[id.Customer](), func(tx *postgres.Tx) (err error) {
			at, err = of.ExpireBy(tx, tx.Now)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	without := backup.NewService(f.DB, backup.Vault{}, nil, nil, backup.Settings{Kept: kept}, f.Log.Logger())
	if at := horizon(without); at != nil {
		t.Errorf("without backups: %v", at)
	}
	made := f.make(t)
	f.Clock.Advance(24 * time.Hour)
	if at := horizon(without); at == nil || !at.Equal(made.ExpiresAt) {
		t.Errorf("backups are made no more: %v, want %v", at, made.ExpiresAt)
	}
	at := horizon(f.Service)
	if at == nil || at.Before(f.Clock.Now().Add(kept)) || at.After(f.Clock.Now().Add(kept+time.Hour)) {
		t.Errorf("one may be taken at this moment: %v", at)
	}
	// Whatever is taken until the erasure is committed expires by then.
	f.Clock.Advance(30 * time.Second)
	if next := f.make(t); next.ExpiresAt.After(*at) {
		t.Errorf("promised %v, and a backup that may hold the person expires %v", at, next.ExpiresAt)
	}
	f.Clock.Advance(kept)
	if _, err := f.Expire(t.Context()); err != nil {
		t.Fatal(err)
	}
	if at := horizon(without); at != nil {
		t.Errorf("after all expired: %v", at)
	}
}

func TestRestoring(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.mark(t)
	made := f.make(t)
	later := f.make(t)
	into := dbtest.NewEmpty(t)
	done, err := f.restore(t, made.ID, into)
	if err != nil || done.Backup.ID != made.ID {
		t.Fatalf("%+v, %v", done, err)
	}
	if _, err := f.restore(t, made.ID, into); !errors.Is(err, backup.ErrNotEmpty) {
		t.Errorf("into what is not empty: %v", err)
	}
	open := func() *postgres.DB {
		return f.Open(t, func(s *postgres.Settings) { s.URL = into })
	}
	check := func(of id.Backup) {
		t.Helper()
		db := open()
		if err := errors.Join(db.CheckSchema(t.Context()), db.CheckRoles(t.Context())); err != nil {
			t.Error(err)
		}
		err := db.InPlatform(t.Context(), func(tx *postgres.Tx) error {
			last, err := backup.LastRestoreTx(tx)
			if err != nil || last == nil || last.Backup.ID != of || last.Backup.Ledger == nil ||
				last.Backup.Ledger.Number != 7 {
				t.Errorf("%+v, %v", last, err)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
		// The catalogue is the store's, not the one of then.
		listed, err := backup.NewService(db, f.vault, nil, nil, f.settings, f.Log.Logger()).
			List(t.Context(), id.Backup{}, 10)
		if err != nil || len(listed) != 2 || listed[0].ID != later.ID || listed[0].State != backup.Available ||
			listed[1].State != backup.Available {
			t.Errorf("%+v, %v", listed, err)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
	check(made.ID)
	if _, err := f.restore(t, later.ID, into, func(s *backup.RestoreSettings) { s.Replace = true }); err != nil {
		t.Fatal(err)
	}
	check(later.ID)
	_, err = f.restore(t, made.ID, f.URL, func(s *backup.RestoreSettings) { s.Replace = true })
	wantError(t, err, "other connections")

	// A restore that was interrupted is noticed, and can be repeated without Replace.
	_, err = f.restore(t, made.ID, into, func(s *backup.RestoreSettings) {
		s.Replace, s.Programs = true, "testdata/failing"
	})
	wantError(t, err, "pg_restore")
	db := open()
	wantError(t, db.CheckSchema(t.Context()), "interrupted")
	if err := db.Close(); err != nil {
		t.Error(err)
	}
	if _, err := f.restore(t, made.ID, into); err != nil {
		t.Fatal(err)
	}
	check(made.ID)
}

// An owner whom row security binds restores as well: it comes into force when the rows are there.
func TestRestoringTakesNoSuperuser(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.mark(t)
	made := f.make(t)
	server, err := pgx.Connect(t.Context(), os.Getenv(dbtest.Variable))
	if err != nil {
		t.Fatal(err)
	}
	role := "owner_" + strings.ReplaceAll(made.ID.String(), "-", "")
	t.Cleanup(func() { // when its database is gone, which is made after this
		_, err := server.Exec(context.Background(), "drop role "+role)
		if err := errors.Join(err, server.Close(context.Background())); err != nil {
			t.Error(err)
		}
	})
	if _, err := server.Exec(
		t.Context(),
		"create role "+role+" login in role steward_app, steward_platform, steward_worker, steward_offboarder",
	); err != nil {
		t.Fatal(err)
	}
	into := dbtest.NewEmpty(t)
	address, err := url.Parse(into.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := server.Exec(
		t.Context(),
		"alter database "+strings.TrimPrefix(address.Path, "/")+" owner to "+role,
	); err != nil {
		t.Fatal(err)
	}
	for range 2 { // into an empty one, and in place of what is there
		if _, err := f.restore(
			t,
			made.ID,
			as(t, into, role),
			func(s *backup.RestoreSettings) { s.Replace = true },
		); err != nil {
			t.Fatal(err)
		}
	}
	db := f.Open(t, func(s *postgres.Settings) { s.URL = into })
	if err := errors.Join(db.CheckSchema(t.Context()), db.CheckRoles(t.Context())); err != nil {
		t.Error(err)
	}
	if _, exists, err := customer.NewService(db).Find(t.Context(), "acme"); err != nil || !exists {
		t.Errorf("the customer exists: %t, %v", exists, err)
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	recipient, identity, err := backup.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	if of, err := backup.RecipientOf(identity.Reveal() + "\n"); err != nil || of != recipient {
		t.Errorf("%s, %v", of, err)
	}
	for _, text := range []string{"", "age1", recipient + "x", identity.Reveal()} {
		if _, err := backup.ParseRecipients([]string{text}); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
	for _, text := range []string{"", recipient, strings.ToLower(identity.Reveal()) + "hidden"} {
		if _, err := backup.ParseIdentities(text); err == nil || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%v", err)
		}
	}
}
