package devpg

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestProgramsAreMissing(t *testing.T) {
	t.Parallel()
	dir := temporaryDir(t)
	release := filepath.Join(dir, "os-release")
	if err := os.WriteFile(release, []byte("NAME=\"Mint\"\nID=linuxmint\nID_LIKE=\"ubuntu debian\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	install(t, filepath.Join(dir, "old"), 13)
	find := finder{path: filepath.Join(dir, "empty"), patterns: []string{filepath.Join(dir, "*")}, osRelease: release}
	_, err := start(t.Context(), Options{Dir: filepath.Join(dir, "data")}, find, machineShelters())
	if !errors.Is(err, ErrNoPrograms) {
		t.Fatalf("got %v, want ErrNoPrograms", err)
	}
	if !strings.Contains(err.Error(), "version 13") {
		t.Errorf("the error does not tell of the old version: %v", err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "data")); err == nil {
		t.Error("a directory was made for nothing")
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

func TestFindPrograms(t *testing.T) {
	t.Parallel()
	dir, version, err := FindPrograms()
	if err != nil {
		t.Fatal(err)
	}
	if version < oldestMajor || !filepath.IsAbs(dir) {
		t.Errorf("found version %d in %s", version, dir)
	}
}

func TestFinderOrder(t *testing.T) {
	t.Parallel()
	dir := temporaryDir(t)
	at := func(name string) string { return filepath.Join(dir, name) }
	for name, major := range map[string]int{"lib/9/bin": 9, "lib/15/bin": 15, "lib/16/bin": 16, "cellar/17/bin": 17} {
		install(t, at(name), major)
	}
	find := finder{patterns: []string{at("lib/*/bin")}}
	if got := mustFind(t, find); got.major != 16 || got.dir != at("lib/16/bin") {
		t.Errorf("found %+v, want the newest", got)
	}
	if got, ok := find.ofMajor(15); !ok || got.dir != at("lib/15/bin") {
		t.Errorf("version 15: %+v, %t", got, ok)
	}
	if got, ok := find.ofMajor(9); ok {
		t.Errorf("version 9 is too old, but was found: %+v", got)
	}

	// PATH comes first, and a link on it leads to where initdb is.
	if err := errors.Join(os.Mkdir(at("path"), 0o700), os.Symlink(at("cellar/17/bin/postgres"), at("path/postgres"))); err != nil {
		t.Fatal(err)
	}
	find.path = "relative" + string(filepath.ListSeparator) + at("none") + string(filepath.ListSeparator) + at("path")
	if got := mustFind(t, find); got.major != 17 || got.dir != at("cellar/17/bin") {
		t.Errorf("found %+v, want what PATH leads to", got)
	}
	// postgres without initdb is of no use.
	if err := os.Remove(at("cellar/17/bin/initdb")); err != nil {
		t.Fatal(err)
	}
	if got := mustFind(t, find); got.major != 16 {
		t.Errorf("found %+v, want 16", got)
	}
	if got := find.candidates(); !slices.Equal(got, []string{at("lib/16/bin"), at("lib/15/bin"), at("lib/9/bin")}) {
		t.Errorf("candidates are %v", got)
	}
}

func TestChooseCluster(t *testing.T) {
	t.Parallel()
	dir, log := temporaryDir(t), slog.New(slog.DiscardHandler)
	for _, major := range []int{15, 16} {
		install(t, filepath.Join(dir, "lib", fmt.Sprint(major)), major)
	}
	find := finder{patterns: []string{filepath.Join(dir, "lib", "*")}}
	first := mustFind(t, find)
	for _, c := range []struct {
		data []int
		want int
	}{
		{nil, 16},
		{[]int{16}, 16},
		{[]int{15}, 15}, // 16 was installed later
		{[]int{15, 16}, 16},
		{[]int{14}, 16}, // 14 was removed
		{[]int{15, 17}, 15},
	} {
		homePath := temporaryDir(t)
		for _, major := range c.data {
			data := clusterPath(homePath, major)
			if err := errors.Join(os.Mkdir(data, 0o700),
				os.WriteFile(filepath.Join(data, "PG_VERSION"), fmt.Appendln(nil, major), 0o600)); err != nil {
				t.Fatal(err)
			}
		}
		got, data, err := chooseCluster(find, first, homePath, log)
		if err != nil || got.major != c.want || data != clusterPath(homePath, c.want) {
			t.Errorf("data of %v: %+v, %s, %v; want version %d", c.data, got, data, err, c.want)
		}
	}

	homePath := temporaryDir(t)
	if err := os.Mkdir(clusterPath(homePath, 16), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, _, err := chooseCluster(find, first, homePath, log); err == nil {
		t.Error("an empty directory was taken for a cluster")
	}
	if err := os.WriteFile(filepath.Join(clusterPath(homePath, 16), "PG_VERSION"), []byte("15\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := chooseCluster(find, first, homePath, log); err == nil {
		t.Error("a cluster of another version than its name says was accepted")
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

func mustFind(t *testing.T, find finder) programs {
	t.Helper()
	found, err := find.first()
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
