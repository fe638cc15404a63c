package main

import (
	"bytes"
	"errors"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/fusionspim/steward/internal/testkit/dbtest"
)

func TestTheExitCodeIsTheCommands(t *testing.T) {
	t.Setenv(dbtest.Variable, "postgres://somewhere/postgres")
	for _, c := range []struct {
		name string
		args []string
		code int
		out  string
	}{
		{"no arguments", nil, 2, "usage:"},
		{"help", []string{"--help"}, 0, "usage:"},
		{"an option instead of a command", []string{"-race"}, 2, "first argument"},
		{"nothing after the dashes", []string{"--"}, 2, "first argument"},
		{"success", []string{"sh", "-c", "echo $" + dbtest.Variable}, 0, "postgres://somewhere/postgres\n"},
		{"after dashes", []string{"--", "sh", "-c", "exit 3"}, 3, ""},
		{"failure", []string{"sh", "-c", "exit 7"}, 7, ""},
		{"a signal", []string{"sh", "-c", "kill -KILL $$"}, 128 + 9, ""},
		{"no such command", []string{"/nowhere/to-be-found"}, 127, "no such file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out bytes.Buffer
			if code := run(c.args, &out, &out); code != c.code || !strings.Contains(out.String(), c.out) {
				t.Errorf("got code %d and\n%s\nwant code %d and %q", code, out.String(), c.code, c.out)
			}
		})
	}
}

// A signal reaches the command; when that has ended, its server is gone, and so are the server's
// files.
func TestTheServerEndsWithTheCommand(t *testing.T) {
	t.Setenv(dbtest.Variable, "")
	const script = `trap 'exit 5' TERM; echo "$` + dbtest.Variable + `"; kill -TERM $PPID; while :; do sleep 0.05; done`
	var out, complaints bytes.Buffer
	code := run([]string{"sh", "-c", script}, &out, &complaints)
	if code != 5 || complaints.Len() > 0 {
		t.Errorf("got code %d and complaints %q, want the command's 5 and none", code, complaints.String())
	}
	address, err := url.Parse(strings.TrimSpace(out.String()))
	if err != nil || address.Scheme != "postgres" {
		t.Fatalf("the command found no server, but %q (%v)", out.String(), err)
	}
	if _, err := os.Stat(address.Query().Get("host")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory of the socket is still there: %v", err)
	}
}
