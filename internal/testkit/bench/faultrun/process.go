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
	"runtime/pprof"
	"time"

	"github.com/fusionspim/steward/internal/app"
	"github.com/fusionspim/steward/internal/base/sensitive"
	"github.com/fusionspim/steward/internal/infra/mail"
)

// process is a running service.
type process struct {
	address string
	pid     int
	end     func() error
	kill    func() error // nil: it runs in this process
}

// start starts the service and waits until it is ready.
func (s *scene) start(ctx context.Context, smtp string) (*process, error) {
	if s.profile != "" {
		return s.startHere(ctx, smtp)
	}
	serving, err := s.Serve(ctx, "STEWARD_SMTP_URL="+smtp)
	if err != nil {
		return nil, err
	}
	return &process{address: serving.Address, pid: serving.PID(), end: serving.Stop, kill: serving.Kill}, nil
}

// startHere runs the service in this process, for its profile.
func (s *scene) startHere(ctx context.Context, smtp string) (*process, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	file, err := os.Create(s.profile)
	if err != nil {
		return nil, err
	}
	settings := s.Settings()
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
	return &process{address: listener.Addr().String(), pid: os.Getpid(), end: func() error {
		pprof.StopCPUProfile()
		return errors.Join(file.Close(), server.Close(), service.Close())
	}}, nil
}

// call calls an operation with the key of the customer, and reads its answer into a value that may
// be nil.
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
