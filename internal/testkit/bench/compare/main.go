// Command compare measures the service beside an ideal server (package bench) on the same database,
// in one run.
//
// Ratios within one run are what it is for: the machine, its neighbours and the client's own share
// of the processors are the same for both. The figures of two runs are not comparable.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/fusionspim/steward/internal/account/apikey"
	"github.com/fusionspim/steward/internal/account/customer"
	"github.com/fusionspim/steward/internal/account/user"
	"github.com/fusionspim/steward/internal/app"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/base/sensitive"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/testkit/bench"
	"github.com/fusionspim/steward/internal/testkit/bench/stage"
)

const (
	deadline = 3 * time.Minute // of everything
	// to the database, for each server: what steward serve has when nothing is said
	connections = 16
	secret      = "plum lantern quietly orbits nine harbours"
)

// The data: one customer of some size, and a few beside it.
const (
	users         = 10_000
	entries       = 20_000
	neighbours    = 4
	neighbourSize = 500
)

type options struct {
	seconds float64
	rounds  int
	clients int
	only    string
	json    bool
	profile string
	sync    string
}

func main() {
	var o options
	flag.Float64Var(&o.seconds, "seconds", 6, "how long to measure each operation on each of the two servers")
	flag.IntVar(&o.rounds, "rounds", 20, "in how many turns to do so; the medians count")
	flag.IntVar(
		&o.clients,
		"clients",
		8,
		"how many clients there are, each with one connection and one request at a time",
	)
	flag.StringVar(&o.only, "only", "", "measure only the operations whose name holds this text, and no start-up")
	flag.BoolVar(&o.json, "json", false, "print one JSON document")
	flag.StringVar(
		&o.profile,
		"profile",
		"",
		"write a CPU profile of the first turn of the service to this file (with -only and -rounds 1)",
	)
	flag.StringVar(
		&o.sync,
		"sync",
		"on",
		"whether what is acknowledged, in the ledger and in the database, was written through to the disk: on or off",
	)
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeoutCause(
		ctx,
		deadline,
		fmt.Errorf("not done within %s; try a smaller -seconds", deadline),
	)
	defer cancel()
	if err := run(ctx, o, os.Stdout, os.Stderr); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = errors.Join(cause, err)
		}
		fmt.Fprintln(os.Stderr, "compare:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, o options, out, progress io.Writer) (err error) {
	if o.seconds <= 0 || o.rounds < 1 || o.clients < 1 {
		return errors.New("-seconds, -rounds and -clients must be above 0")
	}
	fmt.Fprintln(progress, "building the service, starting a private PostgreSQL and filling it")
	set, err := stage.Open(ctx, "sync="+o.sync)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, set.Close()) }()
	// What is acknowledged is durable, on both sides, as it is in production: the servers for
	// development do not wait for the disk.
	if err := set.Execute(ctx, "alter database postgres set synchronous_commit = "+o.sync); err != nil {
		return err
	}
	settings := set.Settings()
	settings.MaxConnections = connections
	service, err := app.Open(ctx, settings)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, service.Close()) }()
	data, err := fill(ctx, service, set.URL)
	if err != nil {
		return err
	}
	ideal, err := bench.NewIdeal(ctx, set.URL, connections, data.customer, data.admin)
	if err != nil {
		return err
	}
	defer ideal.Close()

	idealAddress, stopIdeal, err := listen(ideal)
	if err != nil {
		return err
	}
	defer stopIdeal()
	ourAddress, stopOurs, err := listen(service.API)
	if err != nil {
		return err
	}
	defer stopOurs()
	if data.token, err = signIn(ctx, ourAddress, data); err != nil {
		return err
	}

	result := result{Clients: o.clients, Rounds: o.rounds, Seconds: o.seconds, Users: users}
	for _, operation := range operations(data) {
		if !operation.matches(o.only) {
			continue
		}
		fmt.Fprintf(progress, "measuring %s\n", operation.name)
		measured, err := compare(ctx, o, operation, idealAddress, ourAddress)
		if err != nil {
			return err
		}
		result.Operations = append(result.Operations, measured)
	}
	if o.only == "" {
		fmt.Fprintln(progress, "starting steward serve, again and again")
		if result.Process, err = measureProcess(ctx, set, data, o); err != nil {
			return err
		}
	}
	if o.json {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(result)
	}
	result.print(out)
	return nil
}

// listen serves on a free port of the loopback, with the limits of steward serve.
func listen(handler http.Handler) (address string, stop func(), err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       15 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(listener) // ends with ErrServerClosed
	}()
	return listener.Addr().String(), func() {
		_ = server.Close() // no request is under way
		<-ended
	}, nil
}

// dataset is what the operations work on.
type dataset struct {
	customer id.Customer
	slug     string
	admin    id.User
	email    string
	users    []id.User
	apiKey   string
	token    string
}

// fill makes the customers with their people.
func fill(ctx context.Context, service *app.App, url sensitive.String) (data dataset, err error) {
	hash, err := service.Hasher.Hash(ctx, sensitive.New(secret))
	if err != nil {
		return dataset{}, err
	}
	data.slug, data.email = "acme", "admin@acme.example"
	made, err := service.Customers.Create(ctx, customer.New{
		Slug:        data.slug,
		Name:        "Acme Tools",
		MailDomains: customer.MailDomains{Policy: customer.Flag, Domains: []string{"acme.example", "people.example"}},
	}, func(tx *postgres.Tx) error {
		nobody := principal.Principal{Customer: tx.Customer}
		admin, err := user.CreateTx(
			tx,
			nobody,
			user.New{
				FirstName:    "Ada",
				LastName:     "Park",
				Email:        data.email,
				Role:         principal.Administrator,
				PasswordHash: hash,
			},
		)
		if err != nil {
			return err
		}
		key, err := apikey.CreateTx(tx, nobody, apikey.New{Name: "bench", Scopes: principal.Scopes()})
		data.admin, data.apiKey = admin.ID, key.Secret.Reveal()
		return err
	})
	if err != nil {
		return dataset{}, err
	}
	data.customer = made.ID
	for i := range neighbours {
		of, err := service.Customers.Create(
			ctx,
			customer.New{Slug: fmt.Sprint("neighbour-", i), Name: "Neighbour"},
			func(*postgres.Tx) error { return nil },
		)
		if err != nil {
			return dataset{}, err
		}
		if _, err := bench.Seed(
			ctx,
			url,
			of.ID,
			bench.Population{Users: neighbourSize, Entries: neighbourSize},
		); err != nil {
			return dataset{}, err
		}
	}
	data.users, err = bench.Seed(ctx, url, data.customer, bench.Population{Users: users, Entries: entries})
	return data, err
}
