package devpg

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/fusionspim/steward/internal/infra/pgprograms"
)

func TestStartWithoutPrograms(t *testing.T) {
	t.Parallel()
	dir := temporaryDir(t)
	find := pgprograms.Finder{Path: filepath.Join(dir, "empty")}
	_, err := start(t.Context(), Options{Dir: filepath.Join(dir, "data")}, find, machineShelters())
	if !errors.Is(err, pgprograms.ErrNoPrograms) {
		t.Fatalf("got %v, want ErrNoPrograms", err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "data")); err == nil {
		t.Error("a directory was made for nothing")
	}
}

func TestChooseCluster(t *testing.T) {
	t.Parallel()
	dir, log := temporaryDir(t), slog.New(slog.DiscardHandler)
	for _, major := range []int{15, 16} {
		install(t, filepath.Join(dir, "lib", fmt.Sprint(major)), major)
	}
	find := pgprograms.Finder{Patterns: []string{filepath.Join(dir, "lib", "*")}}
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
		if err != nil || got.Major != c.want || data != clusterPath(homePath, c.want) {
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

func mustFind(t *testing.T, find pgprograms.Finder) pgprograms.Programs {
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
