package devpg

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/fusionspim/steward/internal/infra/pgprograms"
)

const (
	unfinished     = "new-" // begins the name of a cluster that initdb has not finished
	postmasterNote = "postmaster.pid"
)

// clusters returns the major versions of the clusters in a home, newest first.
func clusters(homePath string) ([]int, error) {
	entries, err := os.ReadDir(homePath)
	if err != nil {
		return nil, err
	}
	var majors []int
	for _, entry := range entries {
		if match := regexp.MustCompile(`^pg(\d+)$`).FindStringSubmatch(entry.Name()); match != nil {
			major, err := strconv.Atoi(match[1])
			if err != nil {
				return nil, err
			}
			majors = append(majors, major)
		}
	}
	slices.Sort(majors)
	slices.Reverse(majors)
	return majors, nil
}

func clusterPath(homePath string, major int) string {
	return filepath.Join(homePath, "pg"+strconv.Itoa(major))
}

// chooseCluster decides which version runs: that of the newest data whose programs are still
// installed, so that installing a newer PostgreSQL does not hide anybody's data. Without such data
// it is the programs' own version, with data of its own. No data is converted or removed.
func chooseCluster(
	find pgprograms.Finder,
	first pgprograms.Programs,
	homePath string,
	log *slog.Logger,
) (pgprograms.Programs, string, error) {
	majors, err := clusters(homePath)
	if err != nil {
		return pgprograms.Programs{}, "", err
	}
	for _, major := range majors {
		data := clusterPath(homePath, major)
		version, err := readSmall(filepath.Join(data, "PG_VERSION"))
		if err != nil {
			return pgprograms.Programs{}, "", fmt.Errorf("%s is not a database cluster: %w", data, err)
		}
		if strings.TrimSpace(version) != strconv.Itoa(major) {
			return pgprograms.Programs{}, "", fmt.Errorf(
				"%s holds data of PostgreSQL %s: move it away",
				data,
				strings.TrimSpace(version),
			)
		}
		if major == first.Major {
			return first, data, nil
		}
		if found, ok := find.OfMajor(major); ok {
			return found, data, nil
		}
		log.Warn("data of a PostgreSQL that is not installed is left alone", "version", major, "data", data)
	}
	return first, clusterPath(homePath, first.Major), nil
}

// ensureCluster creates the cluster if there is none. initdb works under another name, and the
// finished cluster gets its name in one step: one that was killed in the middle leaves nothing that
// looks like data.
func (s *Server) ensureCluster(ctx context.Context) error {
	owner, _ := s.who.owner()
	info, err := os.Lstat(s.data)
	switch {
	case err == nil && !info.IsDir():
		return fmt.Errorf("%s is not a directory", s.data)
	case err == nil && ownerOf(info) != owner:
		return fmt.Errorf(
			"%s belongs to user %d, PostgreSQL would run as user %d: change the owner or choose another directory",
			s.data,
			ownerOf(info),
			owner,
		)
	case err == nil:
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}

	began := time.Now()
	fresh, err := os.MkdirTemp(s.home.path, unfinished+filepath.Base(s.data)+"-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(fresh) // finds nothing after the rename
	if err := s.who.give(fresh); err != nil {
		return err
	}
	if err := s.initdb(ctx, fresh); err != nil {
		return err
	}
	if err := os.Rename(fresh, s.data); err != nil {
		return err
	}
	if s.purpose != Test {
		if err := syncDir(s.home.path); err != nil {
			return err
		}
	}
	s.log.InfoContext(ctx, "created a database cluster", "version", s.programs.Major, "data", s.data,
		"took_ms", time.Since(began).Milliseconds())
	return nil
}

func (s *Server) initdb(ctx context.Context, dir string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, initLimit, fmt.Errorf("initdb took longer than %s", initLimit))
	defer cancel()
	attributes, err := s.who.attributes(syscall.SIGTERM) // on which initdb removes what it made
	if err != nil {
		return err
	}
	arguments := []string{
		"-D",
		dir,
		"--username=" + superuser,
		"--auth=trust",
		"--encoding=UTF8",
		"--locale=C",
		"--no-instructions",
	}
	if s.purpose == Test {
		arguments = append(arguments, "--no-sync")
	} else {
		arguments = append(arguments, "--data-checksums")
	}
	command := exec.CommandContext(ctx, s.programs.Path("initdb"), arguments...)
	command.SysProcAttr = attributes
	command.Dir = "/" // the account may not be able to stand where we do
	command.Env = pgprograms.Environment()
	// Its helpers end by themselves when initdb has; killed, they would leave shared memory behind.
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) }
	command.WaitDelay = 5 * time.Second
	var out bytes.Buffer // initdb says a few lines
	command.Stdout, command.Stderr = &out, &out

	runtime.LockOSThread() // see attributes
	defer runtime.UnlockOSThread()
	if err := command.Run(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", errors.Join(err, context.Cause(ctx)), strings.TrimSpace(out.String()))
	}
	return nil
}

// clearRemains makes the home ready after an owner that was killed. The caller holds the lock, so
// whatever runs there has no owner any more: unfinished clusters are removed, and a server that
// still runs, or is still ending, is ended.
//
// What a postmaster.pid says is checked, because after a restart of the machine or the container
// its number may be another process's: PostgreSQL itself would refuse to start then, for ever.
// Numbers that are free are left for PostgreSQL to deal with, which in that case also makes sure
// that no process of the old server is left.
func clearRemains(ctx context.Context, homePath string, log *slog.Logger) error {
	leftovers, err := filepath.Glob(filepath.Join(escapeGlob(homePath), unfinished+"pg*"))
	if err != nil {
		return err
	}
	for _, path := range leftovers {
		log.DebugContext(ctx, "removing an unfinished database cluster", "path", path)
		awaitHelper(ctx, path)
		if err := os.RemoveAll(path); err != nil {
			// A killed initdb's helper may be writing its last file. The name is nobody's, so what
			// is left does no harm.
			log.DebugContext(ctx, "an unfinished database cluster could not be removed yet", "path", path, "error", err)
		}
	}
	majors, err := clusters(homePath)
	if err != nil {
		return err
	}
	for _, major := range majors {
		if err := clearPostmaster(ctx, clusterPath(homePath, major), log); err != nil {
			return err
		}
	}
	return nil
}

// awaitHelper waits, two seconds at most, for the program that a killed initdb left at work on a
// cluster. It ends by itself, but would crash if its files went, and leave shared memory behind.
// While at work it keeps a postmaster.pid.
func awaitHelper(ctx context.Context, path string) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		note, err := readPostmasterNote(path)
		if err != nil || errors.Is(syscall.Kill(note.pid, 0), syscall.ESRCH) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func clearPostmaster(ctx context.Context, data string, log *slog.Logger) error {
	note, err := readPostmasterNote(data)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	switch state, err := stateOf(note.pid, data); {
	case err != nil:
		return err
	case state == gone:
		return nil
	case state == stranger:
		log.InfoContext(ctx, "removing a stale postmaster.pid", "data", data, "pid", note.pid)
		return os.Remove(filepath.Join(data, postmasterNote))
	}
	log.InfoContext(ctx, "ending a PostgreSQL whose owner is gone", "data", data, "pid", note.pid)
	for _, attempt := range endings() {
		if err := syscall.Kill(note.pid, attempt.signal); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("end the PostgreSQL %d: %w", note.pid, err)
		}
		for began := time.Now(); time.Since(began) < attempt.patience; {
			if state, err := stateOf(note.pid, data); err != nil || state != postmaster {
				return err
			}
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
	return fmt.Errorf("the PostgreSQL %d, whose owner is gone, does not end", note.pid)
}

// processState is what has become of the process that a postmaster.pid names.
type processState int

const (
	gone       processState = iota // there is no such process
	postmaster                     // it is the server of that data directory
	// it has got nothing to do with it, or has ended without being waited for
	stranger
)

// stateOf finds out about a process. The error says that it can't be told.
func stateOf(pid int, data string) (processState, error) {
	if err := syscall.Kill(pid, 0); errors.Is(err, syscall.ESRCH) {
		return gone, nil
	}
	line, err := commandLine(pid)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return gone, nil
	}
	if err != nil {
		return gone, fmt.Errorf("look at process %d, which %s names: %w", pid, postmasterNote, err)
	}
	if strings.Contains(line+" ", "postgres -D "+data+" ") {
		return postmaster, nil
	}
	if !strings.Contains(line, "postgres") {
		return stranger, nil
	}
	if at, err := workingDirectory(pid); err == nil && at != data { // some other PostgreSQL
		return stranger, nil
	}
	return gone, fmt.Errorf(
		"process %d seems to be a PostgreSQL that uses %s, and was not started by us: end it",
		pid,
		data,
	)
}

// note is what a running postmaster writes down about itself.
type note struct {
	pid   int
	ready bool // connections are accepted
}

// readPostmasterNote reads a cluster's postmaster.pid. The error matches fs.ErrNotExist if there is
// none.
func readPostmasterNote(data string) (note, error) {
	text, err := readSmall(filepath.Join(data, postmasterNote))
	if err != nil {
		return note{}, err
	}
	lines := strings.Split(text, "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(lines[0]))
	if err != nil || pid == 0 {
		return note{}, fmt.Errorf("no process number in %s", filepath.Join(data, postmasterNote))
	}
	const status = 7 // the eighth line
	return note{
		pid:   max(pid, -pid), // negative if it is a server without postmaster
		ready: len(lines) > status && strings.TrimSpace(lines[status]) == "ready",
	}, nil
}

// readSmall returns a file's first 4 KiB. The server's account could have put anything under the
// name, so root follows no link and waits for no pipe.
func readSmall(path string) (string, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return "", err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, 4096))
	return string(text), err
}

// syncDir makes a rename in a directory survive a crash of the machine.
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// escapeGlob makes a path stand for itself in a pattern.
func escapeGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}
