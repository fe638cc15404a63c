// Command faultrun has the service do its work while everything around it fails, and counts.
//
// It starts steward as a process of its own on a private PostgreSQL, beside a mail server that hangs, drops, puts off and refuses as a seed says; raises alerts, kills the service
// with SIGKILL in the middle, and opts people out and redacts them meanwhile. Then it looks whether any delivery was lost, recorded twice, or sent to somebody after
// leaving.
//
// With -kills 0 -faults 0 -leave 0 it measures how fast one large alert goes out: -alerts 1 -recipients 100000.
package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fusionspim/steward/internal/apikey"
	"github.com/fusionspim/steward/internal/app"
	"github.com/fusionspim/steward/internal/bench"
	"github.com/fusionspim/steward/internal/blob"
	"github.com/fusionspim/steward/internal/clock"
	"github.com/fusionspim/steward/internal/customer"
	"github.com/fusionspim/steward/internal/devpg"
	"github.com/fusionspim/steward/internal/id"
	"github.com/fusionspim/steward/internal/password"
	"github.com/fusionspim/steward/internal/postgres"
	"github.com/fusionspim/steward/internal/principal"
	"github.com/fusionspim/steward/internal/sensitive"
)

type options struct {
	alerts, recipients, kills, leave int
	faults                           float64
	seed                             uint64
	deadline                         time.Duration
	json                             bool
	profile                          string
}

func main() {
	var o options
	flag.IntVar(&o.alerts, "alerts", 100, "how many alerts are raised")
	flag.IntVar(&o.recipients, "recipients", 100, "how many people each is for")
	flag.IntVar(&o.kills, "kills", 2, "how often the service is killed")
	flag.IntVar(&o.leave, "leave", 10, "how many people are opted out, and as many redacted, on the way")
	flag.Float64Var(&o.faults, "faults", 0.1, "the share of attempts that the mail server spoils")
	flag.Uint64Var(&o.seed, "seed", 1, "of the faults")
	flag.DurationVar(&o.deadline, "deadline", 20*time.Minute, "of everything")
	flag.BoolVar(&o.json, "json", false, "print one JSON document")
	flag.StringVar(&o.profile, "profile", "", "write a CPU profile of an in-process service to this file, and start no process; needs -kills 0")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, o.deadline)
	defer cancel()
	if err := run(ctx, o, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "faultrun:", err)
		os.Exit(1) //nolint:gocritic // nothing is left to be done by the deferred calls
	}
}

func run(ctx context.Context, o options, out, progress io.Writer) (err error) {
	if o.alerts < 1 || o.recipients < 2*o.leave || o.kills < 0 || o.faults < 0 || o.faults > 0.5 || o.profile != "" && o.kills > 0 {
		return errors.New("the options do not fit together")
	}
	dir, err := os.MkdirTemp("", "steward-faultrun-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	fmt.Fprintln(progress, "building the service, starting a private PostgreSQL and filling it")
	program := filepath.Join(dir, "steward")
	if output, err := exec.CommandContext(ctx, "go", "build", "-o", program, "github.com/fusionspim/steward/cmd/steward").CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, output)
	}
	server, err := devpg.Start(ctx, devpg.Options{Dir: filepath.Join(dir, "postgres"), Ephemeral: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Stop(context.WithoutCancel(ctx))) }()
	blobURL := "file://" + filepath.ToSlash(filepath.Join(dir, "blobs"))
	blobs, err := blob.Open(blob.Settings{URL: blobURL})
	if err != nil {
		return err
	}
	s := &scene{
		blobURL: blobURL, blobs: blobs,
		options: o, program: program, progress: progress, url: sensitive.New(server.URL("postgres")),
		masterKey: sensitive.New(base64.StdEncoding.EncodeToString([]byte(rand.Text() + rand.Text())[:32])),
	}
	if err := s.fill(ctx); err != nil {
		return err
	}
	if s.conn, err = pgx.Connect(ctx, s.url.Reveal()); err != nil {
		return errors.New("the superuser cannot connect")
	}
	defer func() { err = errors.Join(err, s.conn.Close(context.WithoutCancel(ctx))) }()
	figures, err := s.alertRun(ctx)
	if err != nil {
		return err
	}
	if o.json {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		return errors.Join(encoder.Encode(figures), figures.verdict())
	}
	figures.print(out)
	return figures.verdict()
}

// scene is what a run plays in.
type scene struct {
	options
	program   string
	progress  io.Writer
	url       sensitive.String // a superuser's
	blobURL   string
	blobs     blob.Store
	masterKey sensitive.String
	conn      *pgx.Conn
	customer  id.Customer
	apiKey    string
	people    []id.User // whom alerts are for
}

const publicURL = "http://steward.test"

func (s *scene) settings() app.Settings {
	return app.Settings{
		Blobs:       s.blobs,
		DatabaseURL: s.url, MasterKey: s.masterKey, PublicURL: publicURL, Password: password.DefaultParameters(), Clock: clock.System(),
		Log: slog.New(slog.NewJSONHandler(io.Discard, nil)),
	}
}

// fill makes a customer with people and a key.
func (s *scene) fill(ctx context.Context) (err error) {
	if _, err := postgres.MigrateUp(ctx, s.url); err != nil {
		return err
	}
	service, err := app.Open(ctx, s.settings())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, service.Close()) }()
	made, err := service.Customers.Create(ctx, customer.New{Slug: "acme", Name: "Acme Tools"}, func(tx *postgres.Tx) error {
		key, err := apikey.CreateTx(tx, principal.Principal{Customer: tx.Customer}, apikey.New{Name: "faultrun", Scopes: principal.Scopes()})
		s.apiKey = key.Secret.Reveal()
		return err
	})
	if err != nil {
		return err
	}
	s.customer = made.ID
	// One in fifty is disabled.
	all, err := bench.Seed(ctx, s.url, made.ID, bench.Population{Users: s.recipients + s.recipients/49 + 1})
	if err != nil {
		return err
	}
	for i, one := range all {
		if i%50 != 0 {
			s.people = append(s.people, one)
		}
	}
	return nil
}
