// Command webhookrun sends many events to receivers that fail, kills the service while it does, and
// counts what came.
//
// One receiver takes everything: there the events of each person must come in their order. The
// other answers 500 and 429, drops connections and hangs, is away altogether for a while, and takes
// each event at the third attempt at the latest. Of none may an event be lost, and whatever comes
// again must carry the same webhook-id and the same body.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fusionspim/steward/internal/account/apikey"
	"github.com/fusionspim/steward/internal/account/customer"
	"github.com/fusionspim/steward/internal/app"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/infra/egress"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/integration/webhook"
	"github.com/fusionspim/steward/internal/testkit/bench"
	"github.com/fusionspim/steward/internal/testkit/bench/stage"
	"github.com/fusionspim/steward/pkg/webhooksig"
)

const clients = 8

type options struct {
	events   int
	people   int
	kills    int
	latency  time.Duration
	deadline time.Duration
}

func main() {
	var o options
	flag.IntVar(&o.events, "events", 10_000, "how many events")
	flag.IntVar(&o.people, "people", 500, "of how many people")
	flag.IntVar(&o.kills, "kills", 1, "how often the service is killed")
	flag.DurationVar(&o.latency, "latency", 5*time.Millisecond, "how long the receivers take to answer")
	flag.DurationVar(&o.deadline, "deadline", 15*time.Minute, "of everything")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeoutCause(ctx, o.deadline, fmt.Errorf("not done within %s", o.deadline))
	defer cancel()
	if err := run(ctx, o, os.Stdout, os.Stderr); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = errors.Join(cause, err)
		}
		fmt.Fprintln(os.Stderr, "webhookrun:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, o options, out, progress io.Writer) (err error) {
	if o.events < 1 || o.people < 1 || o.kills < 0 {
		return errors.New("-events and -people must be above 0, -kills not below")
	}
	fmt.Fprintln(progress, "building the service and starting a private PostgreSQL")
	set, err := stage.Open(ctx, "")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, set.Close()) }()
	w := &world{Stage: set, options: o, steady: newReceiver(o.latency, func(int, string) failure { return none })}
	w.faulty = newReceiver(o.latency, w.trouble)
	defer w.steady.close()
	defer w.faulty.close()
	if err := w.fill(ctx); err != nil {
		return err
	}
	return w.fail(ctx, out, progress)
}

// world is everything that takes part.
type world struct {
	*stage.Stage
	options
	of             id.Customer
	people         []id.User
	apiKey         string
	steady, faulty *receiver
	away           atomic.Bool // the faulty receiver takes nothing at all
	serving        *stage.Serving
	serveAt        atomic.Value // string: where it listens
}

// fill makes the customer, the people and the endpoints.
func (w *world) fill(ctx context.Context) (err error) {
	settings := w.Settings()
	settings.Outbound = egress.Loopback()
	service, err := app.Open(ctx, settings)
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
				apikey.New{Name: "run", Scopes: principal.Scopes()},
			)
			w.apiKey = key.Secret.Reveal()
			return err
		},
	)
	if err != nil {
		return err
	}
	w.of = made.ID
	if w.people, err = bench.Seed(ctx, w.URL, w.of, bench.Population{Users: w.options.people}); err != nil {
		return err
	}
	for _, one := range []*receiver{w.steady, w.faulty} {
		endpoint, err := service.Webhooks.Create(
			ctx,
			principal.Principal{Customer: w.of, Role: principal.Administrator},
			webhook.New{URL: one.address},
			nil,
		)
		if err != nil {
			return err
		}
		if one.secret, err = webhooksig.ParseSecret(endpoint.Secret.Reveal()); err != nil {
			return err
		}
	}
	return nil
}

// trouble is what the faulty receiver does with an event, by its last digits: the first attempt or
// the first two go wrong.
func (w *world) trouble(before int, event string) failure {
	number := 0
	_, _ = fmt.Sscanf(event[len(event)-4:], "%x", &number) // it is a UUID
	switch {
	case w.away.Load():
		return status500
	case before >= 2:
		return none
	case number%1000 < 100:
		return status500
	case before >= 1:
		return none
	case number%1000 < 150:
		return dropped
	case number%1000 < 152:
		return status429
	case number%4000 == 160:
		return hanging
	}
	return none
}

// fail makes the events, kills the service meanwhile, and waits until everything came.
func (w *world) fail(ctx context.Context, out, progress io.Writer) (err error) {
	fmt.Fprintf(progress, "making %d events\n", w.events)
	if err := w.start(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.serving.Kill()) }()
	began := time.Now()
	making := make(chan error, 1)
	go func() { making <- w.make(ctx) }()
	for killed := range w.kills {
		if err := w.until(
			ctx,
			func() bool { return w.steady.distinct() >= (killed+1)*w.events/(w.kills+2) },
		); err != nil {
			return err
		}
		fmt.Fprintf(progress, "killing the service after %d events came\n", w.steady.distinct())
		if err := w.serving.Kill(); err != nil {
			return err
		}
		if err := w.start(ctx); err != nil {
			return err
		}
	}
	w.away.Store(true)
	time.AfterFunc(5*time.Second, func() { w.away.Store(false) })
	if err := <-making; err != nil {
		return err
	}
	made := time.Since(began)
	if err := w.sealed(ctx); err != nil {
		return err
	}
	order, err := w.order(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(progress, "%d events are made; waiting for them\n", len(order))
	if err := w.until(ctx, func() bool { return w.steady.distinct() >= len(order) }); err != nil {
		return err
	}
	steadyTook := time.Since(began)
	if err := w.until(ctx, func() bool { return w.faulty.distinct() >= len(order) }); err != nil {
		return errors.Join(err, fmt.Errorf("%d of %d came to the faulty receiver", w.faulty.distinct(), len(order)))
	}
	_, peak := bench.Memory(w.serving.PID())
	fmt.Fprintf(
		out,
		"events made            %d in %.1f s, service killed %d times\n",
		len(order),
		made.Seconds(),
		w.kills,
	)
	fmt.Fprintf(out, "steady receiver        all after %.1f s; %s\n", steadyTook.Seconds(), w.steady.report(order))
	fmt.Fprintf(
		out,
		"faulty receiver        all after %.1f s; %s\n",
		time.Since(began).Seconds(),
		w.faulty.report(order),
	)
	fmt.Fprintf(out, "memory of the service  %.0f MiB at most since it was started last\n", peak)
	return errors.Join(w.steady.judge(order, true), w.faulty.judge(order, false))
}

func (w *world) until(ctx context.Context, true func() bool) error {
	for !true() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil
}

// make renames people until there were as many answers as there are to be events. A request that
// gets no answer is repeated.
func (w *world) make(ctx context.Context) error {
	var next atomic.Int64
	failures := make([]error, clients)
	var group sync.WaitGroup
	for i := range clients {
		group.Go(func() {
			for {
				number := int(next.Add(1)) - 1
				if number >= w.events || ctx.Err() != nil {
					return
				}
				if err := w.rename(ctx, w.people[number%len(w.people)], number); err != nil {
					failures[i] = err
					return
				}
			}
		})
	}
	group.Wait()
	return errors.Join(failures...)
}

func (w *world) rename(ctx context.Context, person id.User, number int) error {
	for ctx.Err() == nil {
		request, err := http.NewRequestWithContext(
			ctx,
			http.MethodPatch,
			"http://"+w.address()+"/v1/users/"+person.String(),
			strings.NewReader(fmt.Sprintf(`{"first_name":"Name %d"}`, number)),
		)
		if err != nil {
			return err
		}
		request.Header.Set("Authorization", "Bearer "+w.apiKey)
		request.Header.Set("Content-Type", "application/json")
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			time.Sleep(50 * time.Millisecond) // it was killed
			continue
		}
		_, _ = io.Copy(io.Discard, answer.Body)
		_ = answer.Body.Close()
		switch answer.StatusCode {
		case http.StatusOK:
			return nil
		case http.StatusServiceUnavailable:
			time.Sleep(50 * time.Millisecond)
		default:
			return fmt.Errorf("a correction was answered with %d", answer.StatusCode)
		}
	}
	return ctx.Err()
}

// sealed waits until every entry of the trail has its place, and with it its event.
func (w *world) sealed(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, w.URL.Reveal())
	if err != nil {
		return errors.New("the superuser cannot connect")
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // nothing is left to be written
	return w.until(ctx, func() bool {
		left := 1
		return conn.QueryRow(ctx, "select count(*) from audit_unsealed").Scan(&left) == nil && left == 0
	})
}

// order is the events in their order, and whom each is about.
func (w *world) order(ctx context.Context) (events []told, err error) {
	conn, err := pgx.Connect(ctx, w.URL.Reveal())
	if err != nil {
		return nil, errors.New("the superuser cannot connect")
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // nothing is left to be written
	var entries int
	if err := conn.QueryRow(ctx, "select count(*) from audit_entries where action = 'user.corrected'").
		Scan(&entries); err != nil {
		return nil, err
	}
	rows, err := conn.Query(
		ctx,
		"select id::text, subject_id::text from events where type = 'user.corrected' order by number",
	)
	if err != nil {
		return nil, err
	}
	events, err = pgx.CollectRows(
		rows,
		func(row pgx.CollectableRow) (one told, err error) { return one, row.Scan(&one.event, &one.person) },
	)
	if err == nil && (len(events) != entries || entries < w.events) {
		err = fmt.Errorf(
			"%d corrections were answered, %d entries are in the trail, and %d events were made of them",
			w.events,
			entries,
			len(events),
		)
	}
	return events, err
}

type told struct{ event, person string }

func (w *world) address() string { return w.serveAt.Load().(string) }

// start runs the service and waits until it is ready.
func (w *world) start(ctx context.Context) (err error) {
	if w.serving, err = w.Serve(ctx, "STEWARD_OUTBOUND_NETWORKS=127.0.0.0/8"); err == nil {
		w.serveAt.Store(w.serving.Address)
	}
	return err
}

// failure is what a receiver does in place of taking an event.
type failure int

const (
	none failure = iota
	status500
	status429
	dropped
	hanging
)

// receiver is an endpoint.
type receiver struct {
	address string
	secret  webhooksig.Secret
	server  *http.Server
	trouble func(before int, event string) failure
	latency time.Duration

	mu       sync.Mutex
	attempts map[string]int    // by event
	bodies   map[string]string // the first of each event
	taken    []told            // as they came, the first time that each was taken
	has      map[string]bool
	repeats  int // attempts after one that was taken
	failures map[failure]int
	wrong    []string
}

func newReceiver(latency time.Duration, trouble func(before int, event string) failure) *receiver {
	r := &receiver{
		trouble:  trouble,
		latency:  latency,
		attempts: make(map[string]int),
		bodies:   make(map[string]string),
		has:      make(map[string]bool),
		failures: make(map[failure]int),
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err) // the machine itself has no address
	}
	r.address = "http://" + listener.Addr().String() + "/"
	r.server = &http.Server{
		Handler:           r,
		ReadHeaderTimeout: 5 * time.Second,
		ErrorLog:          slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
	}
	go func() { _ = r.server.Serve(listener) }() // ends with close
	return r
}

func (r *receiver) close() { _ = r.server.Close() }

// ServeHTTP implements http.Handler.
func (r *receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, request.Body, webhooksig.MaxBodyBytes))
	if err != nil {
		return // the service was killed
	}
	message, err := webhooksig.Verify(
		[]webhooksig.Secret{r.secret},
		request.Header,
		body,
		time.Now(),
		webhooksig.DefaultTolerance,
	)
	var event struct {
		ID   string `json:"id"`
		Data struct {
			UserID string `json:"user_id"`
		} `json:"data"`
	}
	if err == nil {
		err = json.Unmarshal(body, &event)
	}
	if err == nil && event.ID != message.ID {
		err = errors.New("the id of the webhook is not the event's")
	}
	r.mu.Lock()
	if first, known := r.bodies[message.ID]; err == nil && known && first != string(body) {
		err = errors.New("the body is another than the first time")
	}
	if err != nil {
		r.wrong = append(r.wrong, err.Error())
	}
	before := r.attempts[message.ID]
	r.attempts[message.ID]++
	r.bodies[message.ID] = string(body)
	what := r.trouble(before, event.ID)
	r.failures[what]++
	r.mu.Unlock()
	time.Sleep(r.latency)
	switch what {
	case status500:
		w.WriteHeader(http.StatusInternalServerError)
		return
	case status429:
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusTooManyRequests)
		return
	case dropped:
		panic(http.ErrAbortHandler)
	case hanging:
		<-request.Context().Done()
		return
	case none:
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.has[message.ID] {
		r.repeats++
	} else {
		r.has[message.ID] = true
		r.taken = append(r.taken, told{event.ID, event.Data.UserID})
	}
	w.WriteHeader(http.StatusNoContent)
}

// distinct is how many events were taken.
func (r *receiver) distinct() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.taken)
}

// disorder counts the events that came after a later one about the same person.
func (r *receiver) disorder(order []told) (count int) {
	place := make(map[string]int, len(order))
	for i, one := range order {
		place[one.event] = i
	}
	newest := make(map[string]int)
	for _, one := range r.taken {
		at := place[one.event]
		if last, known := newest[one.person]; known && at < last {
			count++
			continue
		}
		newest[one.person] = at
	}
	return count
}

func (r *receiver) report(order []told) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	attempts := 0
	for _, count := range r.attempts {
		attempts += count
	}
	return fmt.Sprintf(
		"%d attempts (500: %d, 429: %d, dropped: %d, hung: %d), %d taken, %d again after they were taken, %d behind a later one of the same person",
		attempts,
		r.failures[status500],
		r.failures[status429],
		r.failures[dropped],
		r.failures[hanging],
		len(r.taken),
		r.repeats,
		r.disorder(order),
	)
}

// judge tells what must not be.
func (r *receiver) judge(order []told, inOrder bool) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var failures []error
	for _, one := range order {
		if !r.has[one.event] {
			failures = append(failures, fmt.Errorf("the event %s is lost", one.event))
		}
	}
	if len(r.taken) != len(order) {
		failures = append(failures, fmt.Errorf("%d events came that never were", len(r.taken)-len(order)))
	}
	for _, one := range r.wrong {
		failures = append(failures, errors.New(one))
	}
	if count := r.disorder(order); inOrder && count > 0 {
		failures = append(failures, fmt.Errorf("%d events came behind a later one of the same person", count))
	}
	return errors.Join(failures[:min(len(failures), 10)]...)
}
