// Command with runs a command, usually go test, beside a private PostgreSQL that is there for this
// one run.
//
// Owns: where that server's files lie, the variable by which package dbtest finds the server, and
// that the server ends with the command.
// Does not own: how a server is started (package devpg) and the databases inside (package dbtest).
//
// It is a wrapper around go test and not something that the tests start themselves, because go test
// runs each package as a process of its own: the packages would start a server each.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"github.com/fusionspim/steward/internal/dev/devpg"
	"github.com/fusionspim/steward/internal/testkit/dbtest"
)

const usage = `Runs a command beside a private PostgreSQL for tests.

usage: go run ./internal/testkit/dbtest/with COMMAND [ARGUMENT...]

    go run ./internal/testkit/dbtest/with go test ./...
    go run ./internal/testkit/dbtest/with go test -race -run TestDoors ./internal/testkit/dbtest

The command finds the server by the variable ` + dbtest.Variable + `. Where that is already set, the command is just run,
so that a server of your own, of CI for instance, can be used: a URL such as postgres://postgres:secret@localhost:5432/postgres
of a superuser. PostgreSQL 14 or newer has to be installed; nothing of it has to run.

The exit code is the command's. (go run itself makes a 1 of every code but 0.)
`

// enough is the free memory below which tests would rather be slow on a disk than fill a small
// /dev/shm, such as a container's 64 MiB.
const enough = 1 << 30

const stopTimeout = 15 * time.Second

// Exit codes of our own, as shells use them.
const (
	failed     = 1
	misused    = 2
	notStarted = 127
	bySignal   = 128 // and the signal's number
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run does everything and returns the exit code.
func run(args []string, stdout, stderr io.Writer) (code int) {
	if len(args) == 0 {
		fmt.Fprint(stderr, usage)
		return misused
	}
	if args[0] == "-h" || args[0] == "-help" || args[0] == "--help" {
		fmt.Fprint(stdout, usage)
		return 0
	}
	if args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 || args[0] == "" || args[0][0] == '-' {
		fmt.Fprintf(stderr, "with: the first argument has to be the command to run\n\n%s", usage)
		return misused
	}

	// From here on no signal ends this process: it has a server to stop.
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)

	environment := os.Environ()
	if os.Getenv(dbtest.Variable) == "" {
		server, remove, err := start(signals)
		if err != nil {
			fmt.Fprintln(stderr, err)
			return failed
		}
		defer func() {
			ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
			defer cancel()
			if err := errors.Join(server.Stop(ctx), remove()); err != nil {
				fmt.Fprintln(stderr, err)
				code = max(code, failed)
			}
		}()
		environment = append(environment, dbtest.Variable+"="+server.URL("postgres"))
	}
	return command(args, environment, signals, stdout, stderr)
}

// start starts the server in a directory of its own. The returned function removes what a server
// that was stopped leaves behind: nothing, unless stopping failed.
func start(signals <-chan os.Signal) (_ *devpg.Server, remove func() error, err error) {
	dir, err := directory()
	if err != nil {
		return nil, nil, err
	}
	remove = func() error { return os.RemoveAll(dir) }
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	started := make(chan struct{})
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case received := <-signals:
			cancel(fmt.Errorf("with: %v while PostgreSQL was starting", received))
		case <-started:
		}
	}()
	server, err := devpg.Start(ctx, devpg.Options{Dir: dir, Purpose: devpg.Test, Ephemeral: true})
	close(started)
	<-watched // so that it takes no signal away from the command
	switch cause := context.Cause(ctx); {
	case err == nil && cause == nil:
		return server, remove, nil
	case err == nil:
		stopping, stopped := context.WithTimeout(context.Background(), stopTimeout)
		defer stopped()
		return nil, nil, errors.Join(cause, server.Stop(stopping), remove())
	case cause != nil:
		return nil, nil, errors.Join(cause, remove())
	default:
		return nil, nil, errors.Join(err, remove())
	}
}

// directory makes an empty directory: in memory where there is enough of it, for making and
// dropping a database per test is mostly work on files. It is removed at the end; only kill -9
// leaves it behind.
func directory() (string, error) {
	const pattern = "steward-test-*"
	if memory, free := inMemory(); free >= enough {
		if dir, err := os.MkdirTemp(memory, pattern); err == nil {
			return dir, nil
		} // it is not ours to write to
	}
	return os.MkdirTemp("", pattern)
}

// command runs the command to its end and returns its exit code.
func command(args, environment []string, signals <-chan os.Signal, stdout, stderr io.Writer) int {
	child := exec.Command(args[0], args[1:]...)
	child.Env = environment
	child.Stdin, child.Stdout, child.Stderr = os.Stdin, stdout, stderr
	if err := child.Start(); err != nil {
		fmt.Fprintf(stderr, "with: %v\n", err)
		return notStarted
	}
	ended := make(chan error, 1)
	go func() { ended <- child.Wait() }()
	for {
		select {
		case received := <-signals:
			// A terminal has sent an interrupt to the command as well; a second one does no harm.
			_ = child.Process.Signal(received) // fails only when it has just ended
		case err := <-ended:
			return exitCode(err, stderr)
		}
	}
}

func exitCode(err error, stderr io.Writer) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case !errors.As(err, &exit):
		fmt.Fprintf(stderr, "with: %v\n", err)
		return failed
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return bySignal + int(status.Signal())
	}
	return exit.ExitCode()
}
