// Package pgprograms finds the programs of PostgreSQL that are installed on this machine.
//
// Owns: where the programs are looked for and in which order, the oldest version that is accepted,
// the advice on how to install them, and the environment that they run with.
// Does not own: running a server (package devpg), making and restoring backups (package backup).
package pgprograms

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ErrNoPrograms is returned when the machine has no usable PostgreSQL. Its text says how to install
// one.
var ErrNoPrograms = errors.New("no usable PostgreSQL programs found")

// OldestMajor is the oldest major version that is supported.
const OldestMajor = 14

// Programs is one installed PostgreSQL.
type Programs struct {
	Dir   string // holds both postgres and initdb
	Major int    // 15 for 15.18
}

// Path returns the file of one of the programs, such as psql. It does not check that the file
// exists.
func (p Programs) Path(name string) string { return filepath.Join(p.Dir, name) }

// Finder is where to look for the programs. Nothing is cached: programs may be installed meanwhile.
type Finder struct {
	Path      string   // as the environment's PATH; searched first
	Patterns  []string // for filepath.Glob, in this order, the newest match of each first
	OSRelease string   // the file that names the Linux distribution, used for the advice only
}

// Machine returns a Finder for this machine: PATH, then the folders where packages install the
// programs. These are often not on PATH: packages of Debian and Red Hat use a folder per version.
func Machine() Finder {
	return Finder{
		Path: os.Getenv("PATH"),
		Patterns: []string{
			"/usr/lib/postgresql/*/bin",                          // Debian, Ubuntu
			"/usr/pgsql-*/bin",                                   // Red Hat, from postgresql.org
			"/usr/libexec/postgresql*",                           // Alpine
			"/usr/local/pgsql/bin",                               // built from source
			"/opt/homebrew/opt/postgresql*/bin",                  // Homebrew on Apple silicon
			"/usr/local/opt/postgresql*/bin",                     // Homebrew on Intel
			"/Applications/Postgres.app/Contents/Versions/*/bin", // Postgres.app
		},
		OSRelease: "/etc/os-release",
	}
}

// First returns the programs to use for new data. The error is ErrNoPrograms.
func (f Finder) First() (Programs, error) {
	found, tooOld := f.find(func(int) bool { return true })
	if found.Dir == "" {
		return Programs{}, fmt.Errorf("%w: %s%s", ErrNoPrograms, tooOld, advice(runtime.GOOS, f.OSRelease))
	}
	return found, nil
}

// OfMajor returns the programs of one major version, if they are installed.
func (f Finder) OfMajor(major int) (Programs, bool) {
	found, _ := f.find(func(m int) bool { return m == major })
	return found, found.Dir != ""
}

// find returns the first programs whose version is accepted, or none and a sentence about those
// that are too old. It asks as few programs as possible for their version: each takes some
// milliseconds.
func (f Finder) find(accept func(major int) bool) (_ Programs, tooOld string) {
	for _, dir := range f.candidates() {
		major, err := askVersion(filepath.Join(dir, "postgres"))
		switch {
		case err != nil:
		case major < OldestMajor:
			tooOld = fmt.Sprintf("version %d in %s is too old, %d is the minimum; ", major, dir, OldestMajor)
		case accept(major):
			return Programs{Dir: dir, Major: major}, ""
		}
	}
	return Programs{}, tooOld
}

// candidates returns the folders that hold both postgres and initdb, best first, each once, without
// symbolic links.
func (f Finder) candidates() []string {
	// initdb looks for postgres beside the file that it really is. So links are followed first, and
	// a link to either program leads to the folder.
	return f.Folders("postgres", "initdb")
}

// Folders returns the folders that hold all of the named programs, best first, each once, without
// symbolic links.
func (f Finder) Folders(names ...string) []string {
	var dirs []string
	add := func(dir string) {
		if !slices.ContainsFunc(names, func(name string) bool { return !isProgram(filepath.Join(dir, name)) }) {
			if real, err := filepath.EvalSymlinks(dir); err == nil && !slices.Contains(dirs, real) {
				dirs = append(dirs, real)
			}
		}
	}
	for _, dir := range filepath.SplitList(f.Path) {
		if !filepath.IsAbs(dir) {
			continue // would make the choice depend on the working directory
		}
		for _, name := range names {
			if real, err := filepath.EvalSymlinks(filepath.Join(dir, name)); err == nil {
				add(filepath.Dir(real))
			}
		}
		add(dir)
	}
	for _, pattern := range f.Patterns {
		matches, _ := filepath.Glob(pattern) // fails only on a malformed pattern
		fixed, _, _ := strings.Cut(pattern, "*")
		slices.SortStableFunc(matches, func(a, b string) int {
			return cmp.Compare(versionInPath(strings.TrimPrefix(b, fixed)), versionInPath(strings.TrimPrefix(a, fixed)))
		})
		for _, dir := range matches {
			add(dir)
		}
	}
	return dirs
}

func isProgram(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0
}

// versionInPath guesses a version from the end of a path, such as 15/bin. It is for sorting only:
// the programs are asked later.
func versionInPath(path string) int {
	n, _ := strconv.Atoi(regexp.MustCompile(`\d+`).FindString(path))
	return n
}

// askVersion runs "postgres --version", which works as root as well.
func askVersion(postgres string) (int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	command := exec.CommandContext(ctx, postgres, "--version")
	command.Env = Environment()
	command.WaitDelay = time.Second
	out, err := command.Output()
	if err != nil {
		return 0, fmt.Errorf("%s --version: %w", postgres, err)
	}
	return parseVersion(string(out))
}

// parseVersion reads the major version from a line such as
// "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)" or "... 18beta1".
func parseVersion(line string) (int, error) {
	match := regexp.MustCompile(`^postgres \(PostgreSQL\) (\d+)`).FindStringSubmatch(line)
	if match == nil {
		return 0, fmt.Errorf("not a version of PostgreSQL: %q", line)
	}
	return strconv.Atoi(match[1])
}

// advice says how to install PostgreSQL on this kind of machine.
func advice(goos, osRelease string) string {
	how := "install PostgreSQL"
	switch goos {
	case "darwin":
		how = "run: brew install postgresql@17"
	case "freebsd":
		how = "run: pkg install postgresql17-server"
	case "linux":
		family := linuxFamily(osRelease)
		for _, known := range []struct{ id, command string }{
			{"debian", "apt-get install postgresql"},
			{"ubuntu", "apt-get install postgresql"},
			{"alpine", "apk add postgresql"},
			{"fedora", "dnf install postgresql-server"},
			{"rhel", "dnf install postgresql-server"},
			{"arch", "pacman -S postgresql"},
			{"suse", "zypper install postgresql-server"},
		} {
			if slices.Contains(family, known.id) {
				return "as root run: " + known.command
			}
		}
		how = "install the PostgreSQL server, on Debian or Ubuntu with: apt-get install postgresql"
	}
	return how + fmt.Sprintf(" (version %d or newer), or put its bin directory on PATH", OldestMajor)
}

// linuxFamily returns the words of ID and ID_LIKE in an os-release file, or none without such a
// file.
func linuxFamily(osRelease string) []string {
	text, err := os.ReadFile(osRelease)
	if err != nil {
		return nil
	}
	var words []string
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		if key == "ID" || key == "ID_LIKE" {
			words = append(words, strings.Fields(strings.Trim(value, `"'`))...)
		}
	}
	return words
}

// Environment returns all that the programs get of our environment, which may hold secrets and PG*
// variables that would mislead them.
func Environment() []string {
	environment := []string{
		"LC_ALL=C",
		"TZ=UTC", // else initdb compares hundreds of time zones to name the machine's
	}
	// for a PostgreSQL in an unusual place
	for _, name := range []string{"PATH", "TMPDIR", "LD_LIBRARY_PATH"} {
		if value, ok := os.LookupEnv(name); ok {
			environment = append(environment, name+"="+value)
		}
	}
	return environment
}
