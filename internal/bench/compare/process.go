package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/fusionspim/steward/internal/bench"
	"github.com/fusionspim/steward/internal/sensitive"
)

const (
	starts    = 5
	readyWait = 30 * time.Second
)

// measureProcess builds the program, starts it several times, and then puts the last one under load.
func measureProcess(ctx context.Context, dir string, url, masterKey sensitive.String, data dataset, o options) (*process, error) {
	program := filepath.Join(dir, "steward")
	if output, err := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", program, "github.com/fusionspim/steward/cmd/steward").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go build: %w\n%s", err, output)
	}
	var p process
	for i := range starts {
		one, took, err := startServe(ctx, program, url, masterKey)
		if err != nil {
			return nil, err
		}
		p.Starts = append(p.Starts, milliseconds(took))
		if i == starts-1 {
			err = p.load(ctx, one, data, o)
		}
		if err = errors.Join(err, one.stop()); err != nil {
			return nil, err
		}
	}
	p.StartMS = median(p.Starts)
	return &p, nil
}

// load drives every operation for a moment and then lets all clients sign in at once, and looks at the memory after each.
func (p *process) load(ctx context.Context, s *served, data dataset, o options) error {
	p.RSSStarted, _ = bench.Memory(s.command.Process.Pid)
	for _, what := range operations(data) {
		clients, closeAll, err := dialAll(ctx, s.address, o.clients)
		if err != nil {
			return err
		}
		_, err = drive(ctx, what, clients, time.Duration(o.seconds/6*float64(time.Second)))
		closeAll()
		if err != nil {
			return err
		}
	}
	p.RSSLoaded, p.PeakLoaded = bench.Memory(s.command.Process.Pid)
	failures := make([]error, o.clients)
	var group sync.WaitGroup
	for i := range failures {
		group.Go(func() { _, failures[i] = signIn(ctx, s.address, data) })
	}
	group.Wait()
	_, p.PeakSignedIn = bench.Memory(s.command.Process.Pid)
	return errors.Join(failures...)
}

// served is a running steward serve.
type served struct {
	command *exec.Cmd
	address string
	said    bytes.Buffer
}

// startServe starts the program and waits until it is ready.
func startServe(ctx context.Context, program string, url, masterKey sensitive.String) (*served, time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, readyWait)
	defer cancel()
	address, err := freeAddress()
	if err != nil {
		return nil, 0, err
	}
	s := &served{command: exec.Command(program, "serve", "--http-addr", address, "--metrics-addr", "127.0.0.1:0", "--public-url", publicURL), address: address}
	s.command.Env = append(os.Environ(), "STEWARD_DATABASE_URL="+url.Reveal(), "STEWARD_MASTER_KEY="+masterKey.Reveal(), "STEWARD_SMTP_URL=none", "STEWARD_BLOB_URL=file://"+filepath.Join(os.TempDir(), "steward-bench-blobs"))
	s.command.Stderr = &discardAfter{to: &s.said, left: 64 << 10}
	began := time.Now()
	if err := s.command.Start(); err != nil {
		return nil, 0, err
	}
	for {
		c, err := dial(ctx, address)
		if err == nil {
			write(&c.request, "GET", "/readyz", "none", "")
			err = c.exchange(nil)
			c.close()
		}
		if err == nil {
			return s, time.Since(began), nil
		}
		select {
		case <-ctx.Done():
			return nil, 0, errors.Join(fmt.Errorf("steward serve was not ready after %s: %w", readyWait, err), s.stop(), errors.New(s.said.String()))
		case <-time.After(time.Millisecond):
		}
	}
}

func (s *served) stop() error {
	if err := s.command.Process.Signal(syscall.SIGTERM); err != nil {
		return errors.Join(err, s.command.Wait())
	}
	return s.command.Wait()
}

func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}

// discardAfter keeps the beginning of a log.
type discardAfter struct {
	to   *bytes.Buffer
	left int
}

func (d *discardAfter) Write(text []byte) (int, error) {
	kept := text[:min(len(text), d.left)]
	d.left -= len(kept)
	d.to.Write(kept)
	return len(text), nil
}
