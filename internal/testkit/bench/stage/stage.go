// Package stage sets up what the measuring programs play on: the program as it is built, a private
// PostgreSQL, a folder for objects, and the service as a process of its own.
//
// Owns: building, starting, ending and killing these.
// Does not own: what is played (the programs in internal/testkit/bench), and the people in the
// database (bench.Seed).
package stage

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fusionspim/steward/internal/app"
	"github.com/fusionspim/steward/internal/base/clock"
	"github.com/fusionspim/steward/internal/base/sensitive"
	"github.com/fusionspim/steward/internal/dev/devpg"
	"github.com/fusionspim/steward/internal/infra/blob"
	"github.com/fusionspim/steward/internal/infra/password"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

// PublicURL is the address that the services believe to have.
const PublicURL = "https://steward.example"

const (
	readyWait = time.Minute
	saidMost  = 64 << 10
)

// Stage is a database with the schema and nothing in it, and what a service on it needs.
type Stage struct {
	Dir       string           // a folder of its own, which goes with the stage
	Program   string           // steward, built of this source
	URL       sensitive.String // a superuser's
	BlobURL   string
	Blobs     blob.Store
	MasterKey sensitive.String

	server *devpg.Server
}

// Open sets up a stage. The options are those of the folder for objects, such as sync=none; they
// may be empty.
func Open(ctx context.Context, options string) (s *Stage, err error) {
	s = &Stage{MasterKey: sensitive.New(base64.StdEncoding.EncodeToString([]byte(rand.Text() + rand.Text())[:32]))}
	if s.Dir, err = os.MkdirTemp("", "steward-stage-*"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	s.BlobURL = "file://" + filepath.ToSlash(filepath.Join(s.Dir, "blobs"))
	if options != "" {
		s.BlobURL += "?" + options
	}
	if s.Blobs, err = blob.Open(blob.Settings{URL: s.BlobURL}); err != nil {
		return s, err
	}
	if s.Program, err = Build(ctx, s.Dir); err != nil {
		return s, err
	}
	if s.server, err = devpg.Start(
		ctx,
		devpg.Options{Dir: filepath.Join(s.Dir, "postgres"), Ephemeral: true},
	); err != nil {
		return s, err
	}
	s.URL = sensitive.New(s.server.URL("postgres"))
	_, err = postgres.MigrateUp(ctx, s.URL)
	return s, err
}

// Execute runs a statement as a superuser. What it sets for the database holds for connections that
// are made afterwards.
func (s *Stage) Execute(ctx context.Context, statement string) error {
	conn, err := pgx.Connect(ctx, s.URL.Reveal())
	if err != nil {
		// the library's error repeats the string
		return errors.New("stage: the superuser cannot connect")
	}
	_, err = conn.Exec(ctx, statement)
	return errors.Join(err, conn.Close(ctx))
}

// Build builds the program into a folder.
func Build(ctx context.Context, dir string) (program string, err error) {
	program = filepath.Join(dir, "steward")
	if output, err := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", program, "github.com/fusionspim/steward/cmd/steward").
		CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, output)
	}
	return program, nil
}

// Close ends the database and removes the folder.
func (s *Stage) Close() (err error) {
	if s.server != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		err = s.server.Stop(ctx)
	}
	return errors.Join(err, os.RemoveAll(s.Dir))
}

// Settings are those of a service in this process.
func (s *Stage) Settings() app.Settings {
	return app.Settings{
		Blobs:       s.Blobs,
		DatabaseURL: s.URL,
		MasterKey:   s.MasterKey,
		PublicURL:   PublicURL,
		Password:    password.DefaultParameters(),
		Clock:       clock.System(),
		Log:         slog.New(slog.NewJSONHandler(io.Discard, nil)),
	}
}

// Serving is a service as a process of its own.
type Serving struct {
	Address string        // where it listens
	Took    time.Duration // from its start until it was ready

	command *exec.Cmd
	said    beginning
	ended   chan error
}

// Serve starts the service and waits until it is ready. It sends no mail unless the environment, of
// lines such as STEWARD_SMTP_URL=smtp://…, says where to.
func (s *Stage) Serve(ctx context.Context, environment ...string) (*Serving, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Serving{Address: listener.Addr().String(), ended: make(chan error, 1)}
	if err := listener.Close(); err != nil {
		return nil, err
	}
	p.command = exec.Command(
		s.Program,
		"serve",
		"--http-addr",
		p.Address,
		"--metrics-addr",
		"127.0.0.1:0",
		"--public-url",
		PublicURL,
	)
	p.command.Env = append(
		append(
			os.Environ(),
			"STEWARD_DATABASE_URL="+s.URL.Reveal(),
			"STEWARD_MASTER_KEY="+s.MasterKey.Reveal(),
			"STEWARD_SMTP_URL=none",
			"STEWARD_BLOB_URL="+s.BlobURL,
		),
		environment...)
	p.command.Stderr = &p.said
	began := time.Now()
	if err := p.command.Start(); err != nil {
		return nil, err
	}
	go func() { p.ended <- p.command.Wait() }()
	for {
		if answer, err := http.Get("http://" + p.Address + "/readyz"); err == nil { //nolint:noctx // of the loopback
			_ = answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				p.Took = time.Since(began)
				return p, nil
			}
		}
		switch {
		case ctx.Err() != nil:
			return nil, errors.Join(ctx.Err(), p.Kill())
		case time.Since(began) > readyWait:
			return nil, errors.Join(
				fmt.Errorf("the service was not ready after %s", readyWait),
				p.Kill(),
				errors.New(p.said.String()),
			)
		}
		select {
		case err := <-p.ended:
			return nil, errors.Join(
				errors.New("the service ended before it was ready"),
				err,
				errors.New(p.said.String()),
			)
		case <-time.After(time.Millisecond):
		}
	}
}

// PID is the id of the process.
func (p *Serving) PID() int { return p.command.Process.Pid }

// Stop ends the service as an operator does, and waits until it has ended.
func (p *Serving) Stop() error {
	if err := p.command.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	return <-p.ended
}

// Kill ends the service as a failing machine does.
func (p *Serving) Kill() error {
	if err := p.command.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-p.ended // says that it was killed
	return nil
}

// beginning keeps the beginning of a log.
type beginning struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *beginning) Write(text []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.text.Write(text[:min(len(text), saidMost-b.text.Len())])
	return len(text), nil
}

func (b *beginning) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
