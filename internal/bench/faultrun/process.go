package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime/pprof"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/fusionspim/steward/internal/app"
	"github.com/fusionspim/steward/internal/mail"
	"github.com/fusionspim/steward/internal/sensitive"
)

// process is a running service.
type process struct {
	address string
	command *exec.Cmd // nil: it runs in this process
	end     func() error
}

// start starts the service and waits until it is ready.
func (s *scene) start(ctx context.Context, smtp string) (*process, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	if s.profile != "" {
		return s.startHere(ctx, smtp, listener)
	}
	p := &process{address: listener.Addr().String()}
	if err := listener.Close(); err != nil {
		return nil, err
	}
	p.command = exec.Command(s.program, "serve", "--http-addr", p.address, "--metrics-addr", "127.0.0.1:0", "--public-url", publicURL)
	p.command.Env = append(os.Environ(), "STEWARD_DATABASE_URL="+s.url.Reveal(), "STEWARD_MASTER_KEY="+s.masterKey.Reveal(), "STEWARD_SMTP_URL="+smtp,
		"STEWARD_BLOB_URL="+s.blobURL)
	var said bytes.Buffer
	p.command.Stderr = &firstOf{to: &said, left: 64 << 10}
	if err := p.command.Start(); err != nil {
		return nil, err
	}
	p.end = func() error {
		return errors.Join(p.command.Process.Signal(syscall.SIGTERM), p.command.Wait())
	}
	for waited := time.Duration(0); ; waited += 20 * time.Millisecond {
		if answer, err := http.Get("http://" + p.address + "/readyz"); err == nil {
			_ = answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return p, nil
			}
		}
		if ctx.Err() != nil || waited > time.Minute {
			return nil, errors.Join(errors.New("the service was not ready in time"), errors.New(said.String()), p.kill())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// startHere runs the service in this process, for its profile.
func (s *scene) startHere(ctx context.Context, smtp string, listener net.Listener) (*process, error) {
	file, err := os.Create(s.profile)
	if err != nil {
		return nil, err
	}
	settings := s.settings()
	mailing, err := mail.ParseURL(sensitive.New(smtp))
	if err != nil {
		return nil, err
	}
	settings.Mail, settings.Workers = &mailing, 8
	service, err := app.Open(ctx, settings)
	if err != nil {
		return nil, err
	}
	server := &http.Server{Handler: service.API, ReadHeaderTimeout: time.Second}
	go func() { _ = server.Serve(listener) }() // ends with Close
	if err := pprof.StartCPUProfile(file); err != nil {
		return nil, err
	}
	return &process{address: listener.Addr().String(), end: func() error {
		pprof.StopCPUProfile()
		return errors.Join(file.Close(), server.Close(), service.Close())
	}}, nil
}

// kill ends the process as a failing machine does.
func (p *process) kill() error {
	if err := p.command.Process.Kill(); err != nil {
		return err
	}
	_ = p.command.Wait() // says that it was killed
	return nil
}

// peak is what the process had resident at most, in MiB; 0 where that cannot be told.
func (p *process) peak() float64 {
	pid := os.Getpid()
	if p.command != nil {
		pid = p.command.Process.Pid
	}
	status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if value, found := strings.CutPrefix(line, "VmHWM:"); found {
			kibibytes, _ := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 64)
			return kibibytes / 1024
		}
	}
	return 0
}

// call calls an operation with the key of the customer, and reads its answer into a value that may be nil.
func (s *scene) call(ctx context.Context, p *process, method, path string, body, into any, want int) error {
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			return err
		}
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://"+p.address+path, bytes.NewReader(text))
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+s.apiKey)
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close() //nolint:errcheck // read to its end
	content, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	if answer.StatusCode != want {
		return fmt.Errorf("%s %s answered %d: %s", method, path, answer.StatusCode, content)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(content, into)
}

// firstOf keeps the beginning of a log.
type firstOf struct {
	to   *bytes.Buffer
	left int
}

func (f *firstOf) Write(text []byte) (int, error) {
	kept := text[:min(len(text), f.left)]
	f.left -= len(kept)
	f.to.Write(kept)
	return len(text), nil
}
