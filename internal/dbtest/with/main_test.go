package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fusionspim/steward/internal/dbtest"
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

// An interrupt reaches the command; when that has ended, its server is gone, and so are the server's files.
func TestTheServerEndsWithTheCommand(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a PostgreSQL")
	}
	t.Setenv(dbtest.Variable, "")
	before, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	_ = before
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	wrapper := exec.CommandContext(ctx, self)
	wrapper.Env = append(os.Environ(), beTheCommand+"=1")
	var complaints bytes.Buffer
	wrapper.Stderr = &complaints
	out, err := wrapper.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := wrapper.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 1024)
	n, err := out.Read(line)
	if err != nil {
		t.Fatalf("the command said nothing: %v\n%s", err, complaints.String())
	}
	found, _, _ := strings.Cut(strings.TrimSpace(string(line[:n])), "?")
	if !strings.HasPrefix(found, "postgres://") {
		t.Fatalf("the command found no server but %q", line[:n])
	}
	if err := wrapper.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = wrapper.Wait()
	if code := wrapper.ProcessState.ExitCode(); code != 5 {
		t.Errorf("the exit code is %d instead of the command's 5\n%s", code, complaints.String())
	}
}
