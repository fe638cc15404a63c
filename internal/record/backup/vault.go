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
	"slices"
	"strings"
	"time"

	"filippo.io/age"

	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/infra/blob"
	"github.com/fusionspim/steward/internal/infra/seal"
)

// Vault reads and writes backups in the blob store. What the store has is authoritative; the
// catalogue follows.
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

// entry is the content of the object that describes a backup.
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

// sealedEntry is an entry as it is stored. The code authenticates the bytes of the entry as they
// are.
type sealedEntry struct {
	Entry json.RawMessage `json:"entry"`
	Code  string          `json:"code"`
}

// ErrEntry is the error for an entry that is not authentic.
var ErrEntry = errors.New("the entry of the catalogue is damaged or was not written under this master key")

func (v Vault) sealEntry(b Backup) ([]byte, error) {
	content, err := json.Marshal(entry{
		Format:         entryFormat,
		ID:             b.ID,
		TakenAt:        b.TakenAt,
		ExpiresAt:      b.ExpiresAt,
		Size:           *b.Size,
		SHA256:         hex.EncodeToString(b.SHA256),
		Ledger:         b.Ledger,
		ServerVersion:  *b.ServerVersion,
		ProgramVersion: *b.ProgramVersion,
		SchemaVersion:  *b.SchemaVersion,
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
	// A decoder accepts variants, such as names in another case. Only what encodes to the same
	// bytes is accepted.
	if encoded, err := json.Marshal(sealed); err != nil || !bytes.Equal(encoded, text) {
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
		ID:             e.ID,
		State:          Available,
		RequestedAt:    e.TakenAt,
		TakenAt:        e.TakenAt,
		ExpiresAt:      e.ExpiresAt,
		Size:           &e.Size,
		SHA256:         sum,
		Ledger:         e.Ledger,
		ServerVersion:  &e.ServerVersion,
		ProgramVersion: &e.ProgramVersion,
		SchemaVersion:  &e.SchemaVersion,
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

// objects are the objects of one backup in the store.
type objects struct {
	size  *int64 // of the data in bytes; nil: it is missing
	entry bool
}

// scan lists the backups in the store, and the names of objects that belong to none.
func (v Vault) scan(ctx context.Context) (of map[id.Backup]objects, foreign []string, err error) {
	of = make(map[id.Backup]objects)
	for info, err := range v.Store.List(ctx, prefix, "") {
		if err != nil {
			return nil, nil, err
		}
		base := strings.TrimPrefix(info.Name, prefix)
		name, isData := strings.CutSuffix(base, dataSuffix)
		name, isEntry := strings.CutSuffix(name, entrySuffix)
		backup, err := id.Parse[id.Backup](name)
		if err != nil || isData == isEntry || backup.String() != name {
			foreign = append(foreign, info.Name)
			continue
		}
		stored := of[backup]
		if isData {
			stored.size = &info.Size
		} else {
			stored.entry = true
		}
		of[backup] = stored
	}
	return of, foreign, nil
}

// List returns the backups in the store, newest first. One without its data is Missing, one with
// another size or without an authentic entry is Damaged.
func (v Vault) List(ctx context.Context) (backups []Backup, err error) {
	all, _, err := v.scan(ctx)
	if err != nil {
		return nil, err
	}
	for backup, stored := range all {
		b, err := v.Get(ctx, backup)
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case err != nil:
			b = Backup{ID: backup, State: Damaged, Size: stored.size}
		case stored.size == nil:
			b.State = Missing
		case *stored.size != *b.Size:
			b.State = Damaged
		}
		backups = append(backups, b)
	}
	slices.SortFunc(backups, func(a, b Backup) int { return strings.Compare(b.ID.String(), a.ID.String()) })
	return backups, nil
}

// delete deletes a backup and checks that it can no longer be read. The entry goes last, so that a
// backup that could not be deleted is still listed.
func (v Vault) delete(ctx context.Context, backup id.Backup) error {
	for _, name := range []string{dataName(backup), entryName(backup)} {
		if err := v.Store.Delete(ctx, name); err != nil {
			return err
		}
		reader, err := v.Store.Open(ctx, name)
		if err == nil {
			return errors.Join(fmt.Errorf("%s was deleted and can still be read", name), reader.Close())
		}
		if !errors.Is(err, blob.ErrNotFound) {
			return err
		}
	}
	return nil
}

// sum counts and hashes the bytes of an object.
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

// matches returns an error that says how the object differs from its entry, or nil.
func (s *sum) matches(b Backup) error {
	switch {
	case s.size != *b.Size:
		return fmt.Errorf("%s is damaged: it has %d bytes, the catalogue says %d", dataName(b.ID), s.size, *b.Size)
	case !bytes.Equal(s.hash.Sum(nil), b.SHA256):
		return fmt.Errorf(
			"%s is damaged: its SHA-256 is %x, the catalogue says %x",
			dataName(b.ID),
			s.hash.Sum(nil),
			b.SHA256,
		)
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

// decrypted decrypts the dump of a backup for use. The object has been checked before: an error of
// decryption means other recipients.
func (v Vault) decrypted(
	ctx context.Context, b Backup, identities Identities, use func(dump io.Reader) error,
) (err error) {
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
	// A program may stop reading before the end, and only the last chunk proves that nothing was
	// cut off.
	if _, err := io.Copy(io.Discard, plain); err != nil {
		return fmt.Errorf("%s: it cannot be decrypted: %w", dataName(b.ID), err)
	}
	return got.matches(b)
}

// Verified is the result of verifying a backup.
type Verified struct {
	Backup  Backup `json:"backup"`
	Objects int    `json:"objects"` // in the dump: tables, their rows, indexes, …
}

// Verify reads a whole backup and checks that its entry is authentic, its object matches the entry
// and can be decrypted, and pg_restore reads it to its end. The folder is that of pg_restore;
// empty: it is searched for. An error says what is wrong.
func (v Vault) Verify(
	ctx context.Context, backup id.Backup, identities Identities, folder string,
) (done Verified, err error) {
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
	// The table of contents is at the beginning; converting the dump to statements reads every row
	// as well.
	contents := &objectCounter{}
	err = v.decrypted(ctx, done.Backup, identities, func(dump io.Reader) error {
		return found.run(ctx, "pg_restore", target{}, dump, contents, "--file=-")
	})
	done.Objects = contents.n
	return done, err
}

// objectCounter counts the objects in the output of pg_restore: a comment names each.
type objectCounter struct {
	n    int
	line []byte // the beginning of the current line
}

// Write implements io.Writer. It never fails.
func (e *objectCounter) Write(text []byte) (int, error) {
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
