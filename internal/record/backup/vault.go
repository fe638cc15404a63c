package backup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"
	"time"

	"filippo.io/age"

	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/infra/blob"
	"github.com/fusionspim/steward/internal/infra/seal"
)

// Vault is the backups as they lie in the store: the truth about them.
type Vault struct {
	Store blob.Store
	Box   *seal.Box // authenticates the entries
}

const (
	prefix       = "backups/"
	dataSuffix   = ".age"
	entrySuffix  = ".json"
	entryLabel   = "backup entry"
	entryFormat  = 1
	longestEntry = 64 << 10
)

func dataName(backup id.Backup) string  { return prefix + backup.String() + dataSuffix }
func entryName(backup id.Backup) string { return prefix + backup.String() + entrySuffix }

// entry is what the catalogue beside a backup says of it.
type entry struct {
	Format         int       `json:"format"`
	ID             id.Backup `json:"id"`
	TakenAt        time.Time `json:"taken_at"`
	ExpiresAt      time.Time `json:"expires_at"`
	Size           int64     `json:"size"`
	SHA256         string    `json:"sha256"`
	Ledger         *Position `json:"ledger"`
	ServerVersion  string    `json:"server_version"`
	ProgramVersion int       `json:"program_version"`
	SchemaVersion  int64     `json:"schema_version"`
}

// sealedEntry is an entry as it is stored. The code is over the very bytes of the entry.
type sealedEntry struct {
	Entry json.RawMessage `json:"entry"`
	Code  string          `json:"code"`
}

// ErrEntry is wrapped where an entry of the catalogue is not authentic.
var ErrEntry = errors.New("the entry of the catalogue is damaged or was not written under this master key")

func (v Vault) sealEntry(b Backup) ([]byte, error) {
	content, err := json.Marshal(entry{
		Format: entryFormat, ID: b.ID, TakenAt: b.TakenAt, ExpiresAt: b.ExpiresAt, Size: *b.Size, SHA256: hex.EncodeToString(b.SHA256), Ledger: b.Ledger,
		ServerVersion: *b.ServerVersion, ProgramVersion: *b.ProgramVersion, SchemaVersion: *b.SchemaVersion,
	})
	if err != nil {
		return nil, err
	}
	return json.Marshal(sealedEntry{Entry: content, Code: hex.EncodeToString(v.Box.MAC(entryLabel, content))})
}

func (v Vault) openEntry(backup id.Backup, text []byte) (Backup, error) {
	damaged := fmt.Errorf("%s: %w", entryName(backup), ErrEntry)
	var sealed sealedEntry
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&sealed); err != nil {
		return Backup{}, damaged
	}
	if again, err := json.Marshal(sealed); err != nil || !bytes.Equal(again, text) { // a decoder overlooks much, such as the case of names
		return Backup{}, damaged
	}
	code, err := hex.DecodeString(sealed.Code)
	if err != nil || sealed.Code != hex.EncodeToString(code) || !v.Box.ValidMAC(entryLabel, code, sealed.Entry) {
		return Backup{}, damaged
	}
	var e entry
	if err := json.Unmarshal(sealed.Entry, &e); err != nil || e.ID != backup {
		return Backup{}, damaged
	}
	if e.Format != entryFormat {
		return Backup{}, fmt.Errorf("%s: the format %d is not known to this program", entryName(backup), e.Format)
	}
	sum, err := hex.DecodeString(e.SHA256)
	if err != nil || len(sum) != sha256.Size {
		return Backup{}, damaged
	}
	return Backup{
		ID: e.ID, State: Available, RequestedAt: e.TakenAt, TakenAt: e.TakenAt, ExpiresAt: e.ExpiresAt, Size: &e.Size, SHA256: sum, Ledger: e.Ledger,
		ServerVersion: &e.ServerVersion, ProgramVersion: &e.ProgramVersion, SchemaVersion: &e.SchemaVersion,
	}, nil
}

// Get reads the entry of a backup. Errors: ErrUnknown, ErrEntry.
func (v Vault) Get(ctx context.Context, backup id.Backup) (Backup, error) {
	reader, err := v.Store.Open(ctx, entryName(backup))
	if errors.Is(err, blob.ErrNotFound) {
		if _, err := v.Store.Stat(ctx, dataName(backup)); err == nil {
			return Backup{}, fmt.Errorf("%s: the entry of the catalogue is missing", entryName(backup))
		}
		return Backup{}, fmt.Errorf("%s: %w", backup, ErrUnknown)
	}
	if err != nil {
		return Backup{}, err
	}
	text, err := io.ReadAll(io.LimitReader(reader, longestEntry))
	if err := errors.Join(err, reader.Close()); err != nil {
		return Backup{}, err
	}
	return v.openEntry(backup, text)
}

// lying is what the store holds of one backup.
type lying struct {
	size  *int64 // of the data; nil: it is not there
	entry bool
}

// look lists what lies in the store, and the names that belong to no backup.
func (v Vault) look(ctx context.Context) (of map[id.Backup]lying, strange []string, err error) {
	of = make(map[id.Backup]lying)
	for info, err := range v.Store.List(ctx, prefix, "") {
		if err != nil {
			return nil, nil, err
		}
		base := strings.TrimPrefix(info.Name, prefix)
		name, isData := strings.CutSuffix(base, dataSuffix)
		name, isEntry := strings.CutSuffix(name, entrySuffix)
		backup, err := id.Parse[id.Backup](name)
		if err != nil || isData == isEntry || backup.String() != name {
			strange = append(strange, info.Name)
			continue
		}
		there := of[backup]
		if isData {
			there.size = &info.Size
		} else {
			there.entry = true
		}
		of[backup] = there
	}
	return of, strange, nil
}

// List returns the backups that lie in the store, newest first. One without its data is missing, one with another size or without an authentic entry is damaged.
func (v Vault) List(ctx context.Context) (backups []Backup, err error) {
	there, _, err := v.look(ctx)
	if err != nil {
		return nil, err
	}
	for backup, lies := range there {
		b, err := v.Get(ctx, backup)
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case err != nil:
			b = Backup{ID: backup, State: Damaged, Size: lies.size}
		case lies.size == nil:
			b.State = Missing
		case *lies.size != *b.Size:
			b.State = Damaged
		}
		backups = append(backups, b)
	}
	sortNewestFirst(backups)
	return backups, nil
}

// delete removes a backup and makes sure that it can be read no more. The entry goes last: what is left after a failure is still known.
func (v Vault) delete(ctx context.Context, backup id.Backup) error {
	for _, name := range []string{dataName(backup), entryName(backup)} {
		if err := v.Store.Delete(ctx, name); err != nil {
			return err
		}
		reader, err := v.Store.Open(ctx, name)
		if err == nil {
			return errors.Join(fmt.Errorf("%s was deleted and can be read still", name), reader.Close())
		}
		if !errors.Is(err, blob.ErrNotFound) {
			return err
		}
	}
	return nil
}

// sum counts and hashes what passes.
type sum struct {
	size int64
	hash hash.Hash
}

func newSum() *sum { return &sum{hash: sha256.New()} }

// Write implements io.Writer. It never fails.
func (s *sum) Write(content []byte) (int, error) {
	s.size += int64(len(content))
	return s.hash.Write(content)
}

// matches says how the object differs from its entry.
func (s *sum) matches(b Backup) error {
	switch {
	case s.size != *b.Size:
		return fmt.Errorf("%s is damaged: it has %d bytes, the catalogue says %d", dataName(b.ID), s.size, *b.Size)
	case !bytes.Equal(s.hash.Sum(nil), b.SHA256):
		return fmt.Errorf("%s is damaged: its SHA-256 is %x, the catalogue says %x", dataName(b.ID), s.hash.Sum(nil), b.SHA256)
	}
	return nil
}

// openData opens the object of a backup.
func (v Vault) openData(ctx context.Context, backup id.Backup) (io.ReadCloser, error) {
	reader, err := v.Store.Open(ctx, dataName(backup))
	if errors.Is(err, blob.ErrNotFound) {
		return nil, fmt.Errorf("%s is missing from the store", dataName(backup))
	}
	return reader, err
}

// check reads the whole object and compares it with the entry.
func (v Vault) check(ctx context.Context, b Backup) error {
	reader, err := v.openData(ctx, b.ID)
	if err != nil {
		return err
	}
	got := newSum()
	_, err = io.Copy(got, reader)
	if err := errors.Join(err, reader.Close()); err != nil {
		return fmt.Errorf("reading %s: %w", dataName(b.ID), err)
	}
	return got.matches(b)
}

// decrypted hands the dump within a backup to a program. The object has been checked before, so what does not open was not made for these identities.
func (v Vault) decrypted(ctx context.Context, b Backup, identities Identities, use func(dump io.Reader) error) (err error) {
	reader, err := v.openData(ctx, b.ID)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, reader.Close()) }()
	got := newSum()
	plain, err := age.Decrypt(io.TeeReader(reader, got), identities...)
	var none *age.NoIdentityMatchError
	if errors.As(err, &none) {
		return fmt.Errorf("%s: %w", dataName(b.ID), ErrIdentity)
	}
	if err != nil {
		return fmt.Errorf("%s: it cannot be decrypted: %w", dataName(b.ID), err)
	}
	if err := use(plain); err != nil {
		return err
	}
	// A program may stop reading before the end, and only the last piece proves that nothing was cut off.
	if _, err := io.Copy(io.Discard, plain); err != nil {
		return fmt.Errorf("%s: it cannot be decrypted: %w", dataName(b.ID), err)
	}
	return got.matches(b)
}

// Verified is what a check of a backup found.
type Verified struct {
	Backup  Backup `json:"backup"`
	Objects int    `json:"objects"` // that the dump holds: tables, their rows, indexes, …
}

// Verify reads a backup whole: the entry is authentic, the object is the one that it tells of, it decrypts, and pg_restore understands it to its end. An error names what is wrong.
func (v Vault) Verify(ctx context.Context, backup id.Backup, identities Identities, folder string) (done Verified, err error) {
	if done.Backup, err = v.Get(ctx, backup); err != nil {
		return done, err
	}
	if err := v.check(ctx, done.Backup); err != nil {
		return done, err
	}
	found, err := findPrograms(ctx, folder, 0, *done.Backup.ProgramVersion)
	if err != nil {
		return done, err
	}
	// The table of contents stands at the beginning; turning the whole into statements reads every row as well.
	contents := &entries{}
	err = v.decrypted(ctx, done.Backup, identities, func(dump io.Reader) error {
		return found.run(ctx, "pg_restore", target{}, dump, contents, "--file=-")
	})
	done.Objects = contents.n
	return done, err
}

// entries counts the objects in what pg_restore writes: a comment names each.
type entries struct {
	n    int
	line []byte // the beginning of the present line, as far as it matters
}

// Write implements io.Writer. It never fails.
func (e *entries) Write(text []byte) (int, error) {
	const named = "-- Name: "
	for _, char := range text {
		switch {
		case char == '\n':
			e.line = e.line[:0]
		case len(e.line) < len(named):
			if e.line = append(e.line, char); string(e.line) == named {
				e.n++
			}
		}
	}
	return len(text), nil
}
