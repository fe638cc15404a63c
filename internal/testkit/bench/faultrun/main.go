// Command faultrun has the service do its work while everything around it fails, and counts.
//
// It starts steward as a process of its own on a private PostgreSQL, beside a mail server that
// hangs, drops, puts off and refuses as a seed says; raises alerts, kills the service with SIGKILL
// in the middle, and opts people out and redacts them meanwhile. Then it looks whether any delivery
// was lost, recorded twice, or sent to somebody after leaving.
//
// With -kills 0 -faults 0 -leave 0 it measures how fast one large alert goes out: -alerts 1
// -recipients 100000.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fusionspim/steward/internal/account/apikey"
	"github.com/fusionspim/steward/internal/account/customer"
	"github.com/fusionspim/steward/internal/app"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/testkit/bench"
	"github.com/fusionspim/steward/internal/testkit/bench/stage"
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
	flag.StringVar(
		&o.profile,
		"profile",
		"",
		"write a CPU profile of an in-process service to this file, and start no process; needs -kills 0",
	)
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
	if o.alerts < 1 || o.recipients < 2*o.leave || o.kills < 0 || o.faults < 0 || o.faults > 0.5 ||
		o.profile != "" && o.kills > 0 {
		return errors.New("the options do not fit together")
	}
	fmt.Fprintln(progress, "building the service, starting a private PostgreSQL and filling it")
	set, err := stage.Open(ctx, "")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, set.Close()) }()
	s := &scene{Stage: set, options: o, progress: progress}
	if err := s.fill(ctx); err != nil {
		return err
	}
	if s.conn, err = pgx.Connect(ctx, s.URL.Reveal()); err != nil {
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
	*stage.Stage
	options
	progress io.Writer
	conn     *pgx.Conn
	customer id.Customer
	apiKey   string
	people   []id.User // whom alerts are for
}

// fill makes a customer with people and a key.
func (s *scene) fill(ctx context.Context) (err error) {
	service, err := app.Open(ctx, s.Settings())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, service.Close()) }()
	made, err := service.Customers.Create(
		ctx,
		customer.New{Slug: "acme", Name: "Acme Tools"},
		func(tx *postgres.Tx) error {
			key, err := apikey.CreateTx(
				tx,
				principal.Principal{Customer: tx.Customer},
				apikey.New{Name: "faultrun", Scopes: principal.Scopes()},
			)
			s.apiKey = key.Secret.Reveal()
			return err
		},
	)
	if err != nil {
		return err
	}
	s.customer = made.ID
	// One in fifty is disabled.
	all, err := bench.Seed(ctx, s.URL, made.ID, bench.Population{Users: s.recipients + s.recipients/49 + 1})
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
