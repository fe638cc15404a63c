package steps

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fusionspim/steward/internal/testkit/apptest"
)

// BuildSteward builds the program and returns its path.
func BuildSteward(t testing.TB) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "steward")
	if output, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "github.com/fusionspim/steward/cmd/steward").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	return program
}

// Serving is "steward serve" as a process of its own.
type Serving struct {
	*exec.Cmd
	URL   string
	ended chan struct{}
}

// Serve starts the program on the database of a service, and returns when it serves. It sends no
// mails.
func Serve(t testing.TB, program string, service *apptest.Service) *Serving {
	t.Helper()
	return ServeMailing(t, program, service, "none")
}

// ServeMailing is Serve for a program that sends mails to an SMTP URL.
func ServeMailing(t testing.TB, program string, service *apptest.Service, smtp string) *Serving {
	t.Helper()
	process := &Serving{Cmd: exec.CommandContext(t.Context(), program, "serve"), ended: make(chan struct{})}
	process.Env = []string{
		"STEWARD_DATABASE_URL=" + service.Database.URL.Reveal() + "&application_name=steward-served", "STEWARD_MASTER_KEY=" + apptest.MasterKey().Reveal(),
		"STEWARD_PUBLIC_URL=http://steward.test", "STEWARD_HTTP_ADDR=127.0.0.1:0", "STEWARD_METRICS_ADDR=127.0.0.1:0", "STEWARD_SMTP_URL=" + smtp, "HOME=" + os.TempDir(),
		"STEWARD_BLOB_URL=" + apptest.BlobURL(t, service.Database), "STEWARD_OUTBOUND_NETWORKS=127.0.0.0/8",
	}
	log, err := process.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { <-process.ended }) // the context of the test has ended by then, and with it the process
	address := make(chan string, 1)
	go func() {
		defer close(process.ended)
		var said bytes.Buffer
		started := false
		for lines := bufio.NewScanner(io.TeeReader(log, &said)); lines.Scan(); {
			var line struct{ Msg, Address, Level string }
			if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "serving" {
				started = true
				address <- line.Address
			} else if line.Level == "ERROR" {
				t.Errorf("the program logged: %s", lines.Bytes())
			}
		}
		_ = process.Wait() // it was killed
		if !started {
			t.Errorf("the program did not start: %s", said.String())
			close(address)
		}
	}()
	select {
	case host := <-address:
		process.URL = "http://" + host
	case <-time.After(Patience):
		t.Fatal("the program did not start in time")
	}
	return process
}

// Kill ends the program as a crash would, and returns when it has ended.
func (s *Serving) Kill(t testing.TB) {
	t.Helper()
	if err := s.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Error(err)
	}
	select {
	case <-s.ended:
	case <-time.After(Patience):
		t.Fatal("the program did not end")
	}
	if status, ok := s.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
		t.Errorf("the program ended by itself: %v", s.ProcessState)
	}
}

// AwaitNoticed waits until the connections of a program that was killed have ended: by then the
// database has rolled back what they had not committed. They have a name of their own, for the
// service of the test has connections as well.
func AwaitNoticed(t testing.TB, conn *pgx.Conn) {
	t.Helper()
	Await(t, "the database has noticed", func() bool {
		return Number(t, conn, "select count(*) from pg_stat_activity where datname = current_database() and application_name = 'steward-served'") == 0
	})
}
