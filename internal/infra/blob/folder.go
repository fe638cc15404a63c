package blob

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// partial is the folder, beside the objects, of what is being written. No object can have a name
// that begins with a dot.
const partial = ".partial"

// folder is a store in a folder, which may lie on a network's file system that knows hard links.
type folder struct {
	root     string
	sync     bool
	nameless func(root string) (*os.File, naming, error)
}

func openFolder(root string, sync bool) (*folder, error) {
	f := &folder{root: root, sync: sync, nameless: nameless}
	if err := f.makeFolders(filepath.Join(root, partial)); err != nil {
		return nil, fmt.Errorf("blob: %w", err)
	}
	return f, nil
}

func (f *folder) path(name string) string { return filepath.Join(f.root, filepath.FromSlash(name)) }

// Create implements Store. The object is written as a file without a name where the system knows
// such, and beside the others otherwise. It is made durable, and then given its name, which fails
// if the name is taken.
func (f *folder) Create(ctx context.Context, name string, content io.Reader) (err error) {
	if err := checkName(name); err != nil {
		return err
	}
	target := f.path(name)
	if _, err := os.Lstat(target); err == nil {
		return fmt.Errorf("blob: %s: %w", name, ErrExists)
	}
	file, give, err := f.nameless(f.root)
	if errors.Is(err, errors.ErrUnsupported) {
		file, give, err = f.beside()
	}
	if err != nil {
		return fmt.Errorf("blob: %w", err)
	}
	defer func() { err = errors.Join(err, give.up()) }()
	if _, err = io.Copy(file, &source{ctx: ctx, reader: content}); err == nil && f.sync {
		err = file.Sync()
	}
	if err != nil {
		return fmt.Errorf("blob: %s: %w", name, err)
	}
	err = give.name(target)
	if errors.Is(err, fs.ErrNotExist) { // the first object of its folder
		if err = f.makeFolders(filepath.Dir(target)); err == nil {
			err = give.name(target)
		}
	}
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("blob: %s: %w", name, ErrExists)
	}
	if err != nil {
		return fmt.Errorf("blob: %w", err)
	}
	return f.syncFolder(filepath.Dir(target))
}

// naming is what becomes of a file that was written: it gets a name, once, or is given up.
type naming struct {
	name func(target string) error
	up   func() error
}

// beside opens a file in the folder of what is being written.
func (f *folder) beside() (*os.File, naming, error) {
	path := filepath.Join(f.root, partial, rand.Text())
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	return file, naming{
		name: func(target string) error { return os.Link(path, target) },
		up:   func() error { return errors.Join(file.Close(), os.Remove(path)) },
	}, err
}

// makeFolders is os.MkdirAll that makes the new entries durable.
func (f *folder) makeFolders(path string) error {
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir():
		return nil
	case err == nil:
		return fmt.Errorf("%s is not a folder", path)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := f.makeFolders(filepath.Dir(path)); err != nil {
		return err
	}
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return f.syncFolder(filepath.Dir(path))
}

func (f *folder) syncFolder(path string) error {
	if !f.sync {
		return nil
	}
	opened, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(opened.Sync(), opened.Close())
}

// Open implements Store.
func (f *folder) Open(_ context.Context, name string) (io.ReadCloser, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	if _, err := f.stat(name); err != nil {
		return nil, err
	}
	file, err := os.Open(f.path(name))
	if err != nil {
		return nil, f.translate(name, err)
	}
	return file, nil
}

// Stat implements Store.
func (f *folder) Stat(_ context.Context, name string) (Info, error) {
	if err := checkName(name); err != nil {
		return Info{}, err
	}
	return f.stat(name)
}

func (f *folder) stat(name string) (Info, error) {
	info, err := os.Lstat(f.path(name))
	if err != nil {
		return Info{}, f.translate(name, err)
	}
	if !info.Mode().IsRegular() {
		return Info{}, fmt.Errorf("blob: %s: %w", name, ErrNotFound)
	}
	return Info{Name: name, Size: info.Size(), Modified: info.ModTime()}, nil
}

func (f *folder) translate(name string, err error) error {
	if missing(err) {
		return fmt.Errorf("blob: %s: %w", name, ErrNotFound)
	}
	return fmt.Errorf("blob: %w", err)
}

// missing tells whether a file is not there, also because what should be a folder above it is a
// file.
func missing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// List implements Store. The entries of one folder are held in memory at a time, so whoever writes
// very many objects spreads them over folders.
func (f *folder) List(ctx context.Context, prefix, after string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		if err := checkPrefix(prefix); err != nil {
			yield(Info{}, err)
			return
		}
		within := "" // the deepest folder that holds every name with the prefix
		if i := strings.LastIndexByte(prefix, '/'); i >= 0 {
			within = prefix[:i+1]
		}
		f.walk(ctx, within, prefix, after, yield)
	}
}

// walk gives the objects below a folder, whose name is empty or ends with a slash. It returns false
// when the receiver wants no more.
func (f *folder) walk(ctx context.Context, within, prefix, after string, yield func(Info, error) bool) bool {
	if err := ctx.Err(); err != nil {
		yield(Info{}, err)
		return false
	}
	entries, err := os.ReadDir(filepath.Join(f.root, filepath.FromSlash(within)))
	if missing(err) {
		return true
	}
	if err != nil {
		yield(Info{}, fmt.Errorf("blob: %w", err))
		return false
	}
	key := func(entry fs.DirEntry) string {
		if entry.IsDir() {
			return entry.Name() + "/" // as its contents sort among the names
		}
		return entry.Name()
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return cmp.Compare(key(a), key(b)) })
	for _, entry := range entries {
		name := within + key(entry)
		if checkName(strings.TrimSuffix(name, "/")) != nil {
			continue // not of this store
		}
		if entry.IsDir() {
			reachable := strings.HasPrefix(name, prefix) || strings.HasPrefix(prefix, name)
			past := name <= after && !strings.HasPrefix(after, name)
			if reachable && !past && !f.walk(ctx, name, prefix, after, yield) {
				return false
			}
			continue
		}
		if !strings.HasPrefix(name, prefix) || name <= after {
			continue
		}
		info, err := f.stat(name)
		if errors.Is(err, ErrNotFound) {
			continue // deleted meanwhile
		}
		if !yield(info, err) || err != nil {
			return false
		}
	}
	return true
}

// Delete implements Store.
func (f *folder) Delete(_ context.Context, name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	if err := os.Remove(f.path(name)); missing(err) {
		return nil
	} else if err != nil {
		return fmt.Errorf("blob: %w", err)
	}
	return f.syncFolder(filepath.Dir(f.path(name)))
}

// Tidy implements Store.
func (f *folder) Tidy(ctx context.Context, before time.Time) (removed int, err error) {
	entries, err := os.ReadDir(filepath.Join(f.root, partial))
	if err != nil {
		return 0, fmt.Errorf("blob: %w", err)
	}
	for _, entry := range entries {
		info, err := entry.Info()
		if missing(err) {
			continue
		}
		if err != nil {
			return removed, fmt.Errorf("blob: %w", err)
		}
		if ctx.Err() != nil {
			return removed, ctx.Err()
		}
		if info.Mode().IsRegular() && info.ModTime().Before(before) {
			if err := os.Remove(filepath.Join(f.root, partial, entry.Name())); err != nil && !missing(err) {
				return removed, fmt.Errorf("blob: %w", err)
			}
			removed++
		}
	}
	return removed, nil
}
