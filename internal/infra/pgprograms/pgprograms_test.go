package pgprograms

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestProgramsAreMissing(t *testing.T) {
	t.Parallel()
	dir := realDir(t)
	release := filepath.Join(dir, "os-release")
	if err := os.WriteFile(release, []byte("NAME=\"Mint\"\nID=linuxmint\nID_LIKE=\"ubuntu debian\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	install(t, filepath.Join(dir, "old"), 13)
	find := Finder{Path: filepath.Join(dir, "empty"), Patterns: []string{filepath.Join(dir, "*")}, OSRelease: release}
	_, err := find.First()
	if !errors.Is(err, ErrNoPrograms) {
		t.Fatalf("got %v, want ErrNoPrograms", err)
	}
	if !strings.Contains(err.Error(), "version 13") {
		t.Errorf("the error does not tell of the old version: %v", err)
	}
	for system, want := range map[string]string{"linux": "apt-get install postgresql", "darwin": "brew install", "plan9": "install PostgreSQL"} {
		if got := advice(system, release); !strings.Contains(got, want) {
			t.Errorf("%s: advice is %q, want %q in it", system, got, want)
		}
	}
	if got := advice("linux", filepath.Join(dir, "none")); !strings.Contains(got, "apt-get install postgresql") {
		t.Errorf("unknown Linux: %q", got)
	}
}

func TestThisMachine(t *testing.T) {
	t.Parallel()
	found, err := Machine().First()
	if err != nil {
		t.Fatal(err)
	}
	if found.Major < OldestMajor || !filepath.IsAbs(found.Dir) {
		t.Errorf("found version %d in %s", found.Major, found.Dir)
	}
	if again, ok := Machine().OfMajor(found.Major); !ok || again != found {
		t.Errorf("found %+v first and %+v by its version", found, again)
	}
}

func TestFinderOrder(t *testing.T) {
	t.Parallel()
	dir := realDir(t)
	at := func(name string) string { return filepath.Join(dir, name) }
	for name, major := range map[string]int{"lib/9/bin": 9, "lib/15/bin": 15, "lib/16/bin": 16, "cellar/17/bin": 17} {
		install(t, at(name), major)
	}
	find := Finder{Patterns: []string{at("lib/*/bin")}}
	if got := mustFind(t, find); got.Major != 16 || got.Dir != at("lib/16/bin") {
		t.Errorf("found %+v, want the newest", got)
	}
	if got, ok := find.OfMajor(15); !ok || got.Dir != at("lib/15/bin") {
		t.Errorf("version 15: %+v, %t", got, ok)
	}
	if got, ok := find.OfMajor(9); ok {
		t.Errorf("version 9 is too old, but was found: %+v", got)
	}

	// PATH comes first, and a link on it leads to where initdb is.
	if err := errors.Join(os.Mkdir(at("path"), 0o700), os.Symlink(at("cellar/17/bin/postgres"), at("path/postgres"))); err != nil {
		t.Fatal(err)
	}
	find.Path = "relative" + string(filepath.ListSeparator) + at("none") + string(filepath.ListSeparator) + at("path")
	if got := mustFind(t, find); got.Major != 17 || got.Dir != at("cellar/17/bin") {
		t.Errorf("found %+v, want what PATH leads to", got)
	}
	// postgres without initdb is of no use.
	if err := os.Remove(at("cellar/17/bin/initdb")); err != nil {
		t.Fatal(err)
	}
	if got := mustFind(t, find); got.Major != 16 {
		t.Errorf("found %+v, want 16", got)
	}
	if got := find.candidates(); !slices.Equal(got, []string{at("lib/16/bin"), at("lib/15/bin"), at("lib/9/bin")}) {
		t.Errorf("candidates are %v", got)
	}
}

func TestParseVersion(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]int{
		"postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n": 15,
		"postgres (PostgreSQL) 18beta1\n":                        18,
		"postgres (PostgreSQL) 9.6.24":                           9,
		"psql (PostgreSQL) 15.18":                                0,
		"":                                                       0,
	} {
		if got, err := parseVersion(line); got != want || (err == nil) != (want != 0) {
			t.Errorf("%q: %d, %v; want %d", line, got, err, want)
		}
	}
}

func mustFind(t *testing.T, find Finder) Programs {
	t.Helper()
	found, err := find.First()
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// install puts programs in a directory that claim to be a version of PostgreSQL.
func install(t *testing.T, dir string, major int) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf("#!/bin/sh\necho 'postgres (PostgreSQL) %d.1'\n", major)
	for _, name := range []string{"postgres", "initdb"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o700); err != nil {
			t.Fatal(err)
		}
	}
}

// realDir is a temporary folder without symbolic links in its name, as the finder returns folders.
func realDir(t *testing.T) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return dir
}
