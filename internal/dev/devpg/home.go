package devpg

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"syscall"

	"github.com/fusionspim/steward/internal/infra/pgprograms"
)

// home is the directory that holds one server's data, and the lock on it.
type home struct {
	path string // absolute, without symbolic links
	// Options.Dir, absolute; the same directory as path, or the closed one that path stands in for
	given string
	made  []string // directories made for it, outermost first
	file  *os.File // holds the lock; nil while not locked
}

// shelters are the directories, shared by everybody, in which place for a server's files is found
// when Options.Dir can't hold them.
type shelters struct {
	lasting []string // survive a restart of the machine where possible
	short   []string // have names short enough for a socket
}

func machineShelters() shelters {
	return shelters{
		lasting: []string{"/var/tmp", os.TempDir()},
		// TMPDIR may be a long name; /tmp exists on every Unix
		short: []string{os.TempDir(), "/tmp"},
	}
}

// place makes the home for a server started with the given Options.Dir.
//
// Run by an ordinary user, that is Dir itself. Run by root, the server's account must be able to
// pass through Dir and everything above, while no other account than root may change anything on
// that way, because root works there by name. Directories that are made here, and Dir if it is
// found empty, are opened to the account's group (mode 0710). What was there before keeps its mode:
// if it bars the way (/root is 0700), or belongs to somebody else, the home is a directory of
// root's in /var/tmp instead, named by a hash of Dir, so that the next start finds it.
func place(ctx context.Context, dir string, who identity, p pgprograms.Programs, shelter shelters) (*home, error) {
	given, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	made, err := makeDirs(given)
	if err != nil {
		return nil, err
	}
	real, err := filepath.EvalSymlinks(given)
	if err != nil {
		return nil, err
	}
	if who.manner != dropped {
		return &home{path: real, given: given, made: made}, nil
	}

	_, group := who.owner()
	var reasons []error
	if err := belongsToRoot(real); err != nil {
		reasons = append(reasons, err)
	} else {
		toOpen := made
		if len(made) == 0 && isEmpty(real) {
			toOpen = []string{real}
		}
		for _, dir := range toOpen {
			if err := letPass(dir, group); err != nil {
				return nil, err
			}
		}
		err := who.try(ctx, p, real)
		if err == nil {
			return &home{path: real, given: given, made: made}, nil
		}
		// the context's end, a slow machine: no reason to look for the data elsewhere
		if !errors.Is(err, syscall.EACCES) {
			return nil, err
		}
		reasons = append(reasons, fmt.Errorf("in %s: %w", real, err))
	}
	for _, parent := range shelter.lasting {
		path, err := shelterIn(parent, real, who)
		if err == nil {
			if err = who.try(ctx, p, path); err == nil {
				return &home{path: path, given: given, made: append(made, path)}, nil
			}
			_ = os.Remove(path) // if it is empty
			if !errors.Is(err, syscall.EACCES) {
				return nil, err
			}
		}
		reasons = append(reasons, fmt.Errorf("in %s: %w", parent, err))
	}
	removeEmpty(made)
	return nil, fmt.Errorf(
		"no directory that the account %s can reach, for the data of %s: %w",
		who.name,
		given,
		errors.Join(reasons...),
	)
}

// lock takes the home for this process. The kernel gives it up when the process ends, however that
// happens. Error: ErrInUse.
func (h *home) lock() error {
	path := filepath.Join(h.path, "lock")
	for {
		file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
		if err != nil {
			return err
		}
		if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
			_ = file.Close()
			if errors.Is(err, syscall.EWOULDBLOCK) {
				return fmt.Errorf("%s: %w", h.given, ErrInUse)
			}
			return fmt.Errorf("lock %s: %w", path, err)
		}
		// An ephemeral server removes its lock file before it gives up the lock: a lock on a
		// removed file holds nobody off.
		held, errHeld := file.Stat()
		named, errNamed := os.Lstat(path)
		if errHeld == nil && errNamed == nil && os.SameFile(held, named) {
			h.file = file
			return nil
		}
		_ = file.Close()
	}
}

func (h *home) locked() bool { return h.file != nil }

func (h *home) unlock() {
	if h.file != nil {
		_ = h.file.Close()
		h.file = nil
	}
}

// removeAndUnlock removes the lock's file, the directories made for the home and Dir itself, each
// only if nothing else is in it.
func (h *home) removeAndUnlock() {
	if h.file == nil {
		return
	}
	_ = os.Remove(h.file.Name())
	dirs := h.made
	if !slices.Contains(dirs, h.given) {
		dirs = append(dirs, h.given)
	}
	removeEmpty(dirs)
	h.unlock()
}

// socketDir is the directory of the server's socket.
type socketDir struct {
	path string
	base string // directory in a shelter that holds it; empty if it lies in the home
}

// makeSocketDir makes the directory, readable by nobody but the server's account, and clears a dead
// server's socket from it: the caller holds the lock. The directory lies in the home unless its
// name would be too long for a socket or would need quoting.
func makeSocketDir(homePath string, who identity, shelter shelters) (socketDir, error) {
	sockets := socketDir{path: filepath.Join(homePath, "run")}
	reasons := []error{checkSocketPath(sockets.path)}
	if reasons[0] == nil {
		return sockets, takeSocketDir(sockets.path, who)
	}
	for _, parent := range shelter.short {
		base, err := shelterIn(parent, homePath, who)
		if err == nil {
			sockets = socketDir{path: filepath.Join(base, "run"), base: base}
			err = checkSocketPath(sockets.path)
			if err == nil {
				return sockets, takeSocketDir(sockets.path, who)
			}
			_ = os.Remove(base)
		}
		reasons = append(reasons, err)
	}
	return socketDir{}, fmt.Errorf("no directory for the socket: %w", errors.Join(reasons...))
}

// remove removes what the server left, if it is gone. Errors don't matter: the next start takes the
// directory as it is.
func (d socketDir) remove() {
	if d.path != "" {
		_ = os.Remove(d.path)
	}
	if d.base != "" {
		_ = os.Remove(d.base)
	}
}

// checkSocketPath refuses a directory whose socket's name would exceed what the systems allow
// (Linux 107 bytes, macOS 103), or that would need quoting in the server's settings or in a URL: a
// comma in a host begins another host.
func checkSocketPath(dir string) error {
	const most = 103
	if length := len(dir) + len("/.s.PGSQL."+port); length > most {
		return fmt.Errorf("the socket's name in %s would have %d bytes, %d are allowed", dir, length, most)
	}
	if !regexp.MustCompile(`^[A-Za-z0-9/._@+-]+$`).MatchString(dir) {
		return fmt.Errorf("the name of %s holds unusual characters", dir)
	}
	return nil
}

func takeSocketDir(path string, who identity) error {
	owner, _ := who.owner()
	// One that is still root's was made by a process that was killed before it gave the directory
	// away.
	if err := makeOwn(path, 0, owner, os.Geteuid()); err != nil {
		return err
	}
	for _, name := range []string{".s.PGSQL." + port, ".s.PGSQL." + port + ".lock"} {
		if err := os.Remove(filepath.Join(path, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return who.give(path)
}

// shelterIn makes a directory of ours in one that everybody shares, through which the server's
// account, and nobody else, can pass.
func shelterIn(parent, purpose string, who identity) (string, error) {
	info, err := os.Stat(parent)
	if err != nil {
		return "", err
	}
	if info.Mode().Perm()&0o022 != 0 && info.Mode()&fs.ModeSticky == 0 {
		return "", fmt.Errorf("anybody may rename what is in %s", parent)
	}
	hash := sha256.Sum256([]byte(purpose))
	path := filepath.Join(parent, "steward-pg-"+strconv.Itoa(os.Geteuid())+"-"+hex.EncodeToString(hash[:6]))
	if err := makeOwn(path, 0o010, os.Geteuid()); err != nil {
		return "", err
	}
	if who.manner != dropped {
		return path, nil
	}
	_, group := who.owner()
	return path, letPass(path, group)
}

// makeOwn makes a directory with mode 0700, or accepts one that is there: no link, owned by one of
// the owners, and without rights for others except those tolerated.
func makeOwn(path string, tolerated fs.FileMode, owners ...int) error {
	err := os.Mkdir(path, 0o700)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if !info.IsDir() || !slices.Contains(owners, ownerOf(info)) || info.Mode().Perm()&0o077&^tolerated != 0 {
		return fmt.Errorf("%s is there, but is not a directory of our own that is closed to others: remove it", path)
	}
	return nil
}

// letPass lets a group pass through a directory, and keeps everybody else but the owner out.
func letPass(dir string, group int) error {
	if err := os.Lchown(dir, -1, group); err != nil {
		return err
	}
	return os.Chmod(dir, 0o710)
}

// belongsToRoot says whether nobody but root can change what a name in the directory means. A
// sticky directory on the way (/tmp) is fine.
func belongsToRoot(dir string) error {
	for at := dir; ; at = filepath.Dir(at) {
		info, err := os.Lstat(at)
		if err != nil {
			return err
		}
		sticky := info.Mode()&fs.ModeSticky != 0 && at != dir
		if !info.IsDir() || ownerOf(info) != 0 || (info.Mode().Perm()&0o022 != 0 && !sticky) {
			return fmt.Errorf("%s may be changed by others than root", at)
		}
		if at == filepath.Dir(at) {
			return nil
		}
	}
}

// ownerOf returns the number of the user that a file belongs to.
func ownerOf(info fs.FileInfo) int {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return -1 // nobody's: not on a Unix file system
	}
	return int(stat.Uid)
}

func isEmpty(dir string) bool {
	entries, err := os.ReadDir(dir)
	return err == nil && len(entries) == 0
}

// makeDirs is os.MkdirAll with mode 0700. It returns the directories that it made, outermost first.
func makeDirs(dir string) ([]string, error) {
	info, err := os.Stat(dir)
	if err == nil {
		if !info.IsDir() {
			return nil, fmt.Errorf("%s is not a directory", dir)
		}
		return nil, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	made, err := makeDirs(filepath.Dir(dir))
	if err != nil {
		return nil, err
	}
	switch err := os.Mkdir(dir, 0o700); {
	case err == nil:
		return append(made, dir), nil
	case errors.Is(err, fs.ErrExist): // somebody else was quicker
		return made, nil
	default:
		removeEmpty(made)
		return nil, err
	}
}

// removeEmpty removes directories, the last first, as long as they are empty.
func removeEmpty(dirs []string) {
	for _, dir := range slices.Backward(dirs) {
		_ = os.Remove(dir)
	}
}
