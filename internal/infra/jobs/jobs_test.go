package jobs_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/infra/jobs"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/testkit/dbtest"
)

type trial struct {
	Customer id.Customer `json:"customer_id"`
	How      string      `json:"how"`
}

func (trial) Kind() string { return "trial" }

type bench struct {
	*dbtest.Database
	queue *jobs.Queue
}

func newBench(t *testing.T) bench {
	t.Helper()
	queue, err := jobs.NewQueue()
	if err != nil {
		t.Fatal(err)
	}
	return bench{Database: dbtest.New(t), queue: queue}
}

var errUndone = errors.New("undone")

// add enqueues a job; with undo, in a transaction that is not kept.
func (b bench) add(t *testing.T, how string, undo bool) {
	t.Helper()
	of := id.New[id.Customer]()
	err := b.DB.InCustomer(t.Context(), of, func(tx *postgres.Tx) error {
		if err := b.queue.EnqueueTx(tx, trial{Customer: of, How: how}); err != nil || !undo {
			return err
		}
		return errUndone
	})
	if err != nil && !errors.Is(err, errUndone) {
		t.Fatal(err)
	}
}

// states waits until each job is in one of the states and returns them with what is kept of errors.
func (b bench) states(t *testing.T, among string) (states map[string]string, kept string) {
	t.Helper()
	superuser := b.Superuser(t)
	for began := time.Now(); time.Since(began) < time.Minute; time.Sleep(20 * time.Millisecond) {
		states, kept = map[string]string{}, ""
		rows, err := superuser.Query(t.Context(), "select args ->> 'how', state::text, coalesce(errors::text, '') from jobs.river_job")
		if err != nil {
			t.Fatal(err)
		}
		waiting := false
		for rows.Next() {
			var how, state, failures string
			if err := rows.Scan(&how, &state, &failures); err != nil {
				t.Fatal(err)
			}
			states[how] = state
			kept += failures
			waiting = waiting || !strings.Contains(among, state)
		}
		if rows.Close(); !waiting {
			return states, kept
		}
	}
	t.Fatalf("the jobs stand at %v", states)
	return nil, ""
}

func TestWhatBecomesOfJobs(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for _, how := range []string{"well", "badly", "in vain", "in panic"} {
		b.add(t, how, false)
	}
	b.add(t, "undone", true)
	crew, err := jobs.Start(t.Context(), b.DB, 2, b.Log.Logger(), jobs.Work{Handlers: []jobs.Handler{jobs.Handle(func(_ context.Context, job jobs.Job, asked trial) error {
		if job.ID == 0 || job.Attempt == 0 || job.CreatedAt.IsZero() {
			t.Errorf("the job is %+v", job)
		}
		switch asked.How {
		case "badly":
			return errors.New("a reason")
		case "in vain":
			return jobs.Cancel(errors.New("a final reason"))
		case "in panic":
			panic("with a secret")
		}
		return nil
	})}})
	if err != nil {
		t.Fatal(err)
	}
	states, kept := b.states(t, "completed retryable cancelled")
	if err := crew.Stop(); err != nil {
		t.Error(err)
	}
	for how, state := range map[string]string{"well": "completed", "badly": "retryable", "in vain": "cancelled", "in panic": "retryable"} {
		if states[how] != state {
			t.Errorf("%s: %q", how, states[how])
		}
	}
	if len(states) != 4 {
		t.Errorf("%v", states)
	}
	if strings.Contains(kept, "secret") || strings.Contains(b.Log.String(), "secret") {
		t.Errorf("the value of a panic is kept: %s", kept)
	}
	if !strings.Contains(kept, "a reason") || !strings.Contains(kept, "a final reason") || !strings.Contains(kept, "jobs_test.go") {
		t.Errorf("what went wrong is not kept: %s", kept)
	}
	if strings.Contains(kept, "JobCancelError") {
		t.Errorf("the reason has the name of a library's type: %s", kept)
	}
}

// Two crews share the work, and none of it is done twice; a crew that ends lets what is under way
// finish.
func TestCrewsShareAndFinish(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	var done atomic.Int64
	begun := make(chan struct{}, 100)
	handler := jobs.Handle(func(ctx context.Context, _ jobs.Job, asked trial) error {
		begun <- struct{}{}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
		done.Add(1)
		return nil
	})
	first, err := jobs.Start(t.Context(), b.DB, 2, b.Log.Logger(), jobs.Work{Handlers: []jobs.Handler{handler}})
	if err != nil {
		t.Fatal(err)
	}
	second, err := jobs.Start(t.Context(), b.Open(t), 2, b.Log.Logger(), jobs.Work{Handlers: []jobs.Handler{handler}})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		b.add(t, strings.Repeat("x", i+1), false)
	}
	<-begun
	if err := first.Stop(); err != nil {
		t.Error(err)
	}
	b.states(t, "completed")
	if err := second.Stop(); err != nil {
		t.Error(err)
	}
	if n := done.Load(); n != 20 {
		t.Errorf("20 jobs were done %d times", n)
	}
}

func TestJobsNeedATransaction(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	of := id.New[id.Customer]()
	err := b.DB.InCustomerAutocommit(t.Context(), of, func(tx *postgres.Tx) error { return b.queue.EnqueueTx(tx, trial{Customer: of}) })
	if !errors.Is(err, postgres.ErrNoTransaction) {
		t.Errorf("%v", err)
	}
	err = b.DB.InCustomer(t.Context(), of, func(tx *postgres.Tx) error { return b.queue.EnqueueTx(tx, trial{Customer: id.New[id.Customer]()}) })
	if err == nil {
		t.Error("a job for another customer was taken")
	}
}

// polite is a job with a policy of its own.
type polite struct {
	Customer id.Customer `json:"customer_id"`
	How      string      `json:"how"`
}

func (polite) Kind() string { return "polite" }

func (polite) Policy() jobs.Policy {
	return jobs.Policy{Queue: jobs.Outbound, Attempts: 2, Unique: true}
}

// regular is a job that nobody's customer asks for.
type regular struct {
	How string `json:"how"`
}

func (regular) Kind() string { return "regular" }

func (regular) Policy() jobs.Policy { return jobs.Policy{Queue: jobs.Upkeep, Unique: true} }

func TestPolicies(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	of := id.New[id.Customer]()
	err := b.DB.InCustomer(t.Context(), of, func(tx *postgres.Tx) error {
		return errors.Join(
			b.queue.EnqueueManyTx(tx, []jobs.Arguments{polite{of, "once"}, polite{of, "badly"}, trial{of, "plain"}}),
			b.queue.EnqueueManyTx(tx, nil),
			b.queue.EnqueueTx(tx, polite{of, "once"}),
			b.queue.EnqueueAtTx(tx, trial{of, "tomorrow"}, time.Now().Add(24*time.Hour)),
		)
	})
	if err != nil {
		t.Fatal(err)
	}
	var once, early, often atomic.Int64
	crew, err := jobs.Start(t.Context(), b.DB, 2, b.Log.Logger(), jobs.Work{
		Handlers: []jobs.Handler{
			jobs.Handle(func(ctx context.Context, _ jobs.Job, asked polite) error {
				if end, ok := ctx.Deadline(); !ok || time.Until(end) < 30*time.Minute {
					t.Errorf("the attempt ends at %v", end)
				}
				if asked.How == "badly" {
					return errors.New("a reason")
				}
				once.Add(1)
				return nil
			}, jobs.Timeout(time.Hour), jobs.Backoff(func(int) time.Duration { return 0 })),
			jobs.Handle(func(_ context.Context, job jobs.Job, _ trial) error {
				if job.Attempt != 1 {
					t.Errorf("what was too early counts as attempt %d", job.Attempt)
				}
				if early.Add(1) < 3 {
					return jobs.Snooze(0)
				}
				return nil
			}),
			jobs.Handle(func(context.Context, jobs.Job, regular) error { often.Add(1); return nil }),
		},
		Periodic: []jobs.Periodic{{Every: time.Hour, Arguments: regular{"regularly"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for began := time.Now(); (often.Load() == 0 || early.Load() < 3) && time.Since(began) < time.Minute; time.Sleep(10 * time.Millisecond) {
		// The leader is chosen, and asks for what is done again and again; what was too early is
		// called again.
	}
	states, _ := b.states(t, "completed discarded scheduled")
	if err := crew.Stop(); err != nil {
		t.Error(err)
	}
	for how, state := range map[string]string{"once": "completed", "badly": "discarded", "plain": "completed", "tomorrow": "scheduled", "regularly": "completed"} {
		if states[how] != state {
			t.Errorf("%s: %q", how, states[how])
		}
	}
	if once.Load() != 1 || early.Load() != 3 || often.Load() != 1 {
		t.Errorf("done %d, %d and %d times", once.Load(), early.Load(), often.Load())
	}
	if queues := b.queues(t); queues["polite"] != "outbound" || queues["trial"] != "default" || queues["regular"] != "upkeep" {
		t.Errorf("%v", queues)
	}
}

// queues tells for each kind where its jobs wait.
func (b bench) queues(t *testing.T) map[string]string {
	t.Helper()
	rows, err := b.Superuser(t).Query(t.Context(), "select distinct kind, queue from jobs.river_job")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	found := make(map[string]string)
	for rows.Next() {
		var kind, queue string
		if err := rows.Scan(&kind, &queue); err != nil {
			t.Fatal(err)
		}
		found[kind] = queue
	}
	return found
}
