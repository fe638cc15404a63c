package devpg

import (
	"cmp"
	"context"
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

// oldestMajor is the oldest major version that knows every setting and initdb option used here.
const oldestMajor = 14

// programs is one installed PostgreSQL.
type programs struct {
	dir   string // holds both postgres and initdb
	major int    // 15 for 15.18
}

func (p programs) program(name string) string { return filepath.Join(p.dir, name) }

// finder says where to look for the programs.
type finder struct {
	path      string   // as the environment's PATH
	patterns  []string // for filepath.Glob, looked at in this order, the newest match of each first
	osRelease string   // file that names the Linux distribution, for the advice only
}

// machineFinder looks where the machine's packages put the programs. They are often not on PATH: Debian's and Red Hat's packages keep one
// directory for each version.
func machineFinder() finder {
	return finder{
		path: os.Getenv("PATH"),
		patterns: []string{
			"/usr/lib/postgresql/*/bin",                          // Debian, Ubuntu
			"/usr/pgsql-*/bin",                                   // Red Hat, from postgresql.org
			"/usr/libexec/postgresql*",                           // Alpine
			"/usr/local/pgsql/bin",                               // built from source
			"/opt/homebrew/opt/postgresql*/bin",                  // Homebrew on Apple silicon
			"/usr/local/opt/postgresql*/bin",                     // Homebrew on Intel
			"/Applications/Postgres.app/Contents/Versions/*/bin", // Postgres.app
		},
		osRelease: "/etc/os-release",
	}
}

// first returns the programs to take for new data.
func (f finder) first() (programs, error) {
	found, tooOld := f.find(func(int) bool { return true })
	if found.dir == "" {
		return programs{}, fmt.Errorf("%w: %s%s", ErrNoPrograms, tooOld, advice(runtime.GOOS, f.osRelease))
	}
	return found, nil
}

// ofMajor returns the programs of one major version, if there are any.
func (f finder) ofMajor(major int) (programs, bool) {
	found, _ := f.find(func(m int) bool { return m == major })
	return found, found.dir != ""
}

// find returns the first programs whose version is accepted, or none and a sentence about those that are too old. Nothing is remembered, and
// only as many programs are asked for their version as needed: each costs some milliseconds.
func (f finder) find(accept func(major int) bool) (_ programs, tooOld string) {
	for _, dir := range f.candidates() {
		major, err := askVersion(filepath.Join(dir, "postgres"))
		switch {
		case err != nil:
		case major < oldestMajor:
			tooOld = fmt.Sprintf("version %d in %s is too old, %d is the least; ", major, dir, oldestMajor)
		case accept(major):
			return programs{dir: dir, major: major}, ""
		}
	}
	return programs{}, tooOld
}

// Folders returns the folders that hold all of the named programs of PostgreSQL, where Start would look for its own, best first.
func Folders(names ...string) []string { return machineFinder().folders(names...) }

// candidates returns the directories that hold both postgres and initdb, best first, each once, without symbolic links.
func (f finder) candidates() []string {
	// initdb looks for postgres beside the file that it really is. So a link is followed first, and either program may show the way.
	return f.folders("postgres", "initdb")
}

func (f finder) folders(names ...string) []string {
	var dirs []string
	add := func(dir string) {
		if !slices.ContainsFunc(names, func(name string) bool { return !isProgram(filepath.Join(dir, name)) }) {
			if real, err := filepath.EvalSymlinks(dir); err == nil && !slices.Contains(dirs, real) {
				dirs = append(dirs, real)
			}
		}
	}
	for _, dir := range filepath.SplitList(f.path) {
		if !filepath.IsAbs(dir) {
			continue // a relative entry would make the choice depend on where the caller stands
		}
		for _, name := range names {
			if real, err := filepath.EvalSymlinks(filepath.Join(dir, name)); err == nil {
				add(filepath.Dir(real))
			}
		}
		add(dir)
	}
	for _, pattern := range f.patterns {
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

// versionInPath guesses a version from the end of a path, such as 15/bin, for sorting only: the programs are asked later.
func versionInPath(path string) int {
	n, _ := strconv.Atoi(regexp.MustCompile(`\d+`).FindString(path))
	return n
}

// askVersion runs "postgres --version", which works as root as well.
func askVersion(postgres string) (int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	command := exec.CommandContext(ctx, postgres, "--version")
	command.Env = childEnvironment()
	command.WaitDelay = time.Second
	out, err := command.Output()
	if err != nil {
		return 0, fmt.Errorf("%s --version: %w", postgres, err)
	}
	return parseVersion(string(out))
}

// parseVersion reads the major version from a line such as "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)" or "... 18beta1".
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
	return how + fmt.Sprintf(" (version %d or newer), or put its bin directory on PATH", oldestMajor)
}

// linuxFamily returns the words of ID and ID_LIKE in an os-release file, none if there is no such file.
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
