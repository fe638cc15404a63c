// Package jobs does work in the background, at least once, after the transaction that asked for it.
//
// Owns: putting jobs into the queue within the transaction of whoever asks, working them off on every replica, trying again, and what is dead.
// Does not own: what a job does and what it needs to know (the features), the tables (River makes them, package postgres has it do so).
//
// The arguments of a job hold ids and closed words and are kept in the database as they are; a job reads what it needs about a person when it runs. It may run
// more than once: a replica that dies half way has not said that it was done.
//
// Each queue has workers of its own on every replica, so that receivers of webhooks that are slow hold up no mail. What is done again and again has no customer and is
// asked for by one replica, the leader, which the replicas choose among themselves.
//
//	available ──▶ running ──▶ completed              (kept for a day)
//	    ▲            ├──────▶ retryable ──▶ available (later each time, for two days)
//	    └────────────┤
//	                 ├──────▶ discarded              (tried too often; dead, kept for 90 days)
//	                 └──────▶ cancelled              (in vain however often it is tried; dead, kept for 90 days)
package jobs

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverdatabasesql"
	"github.com/riverqueue/river/rivertype"

	"github.com/fusionspim/steward/internal/infra/postgres"
)

const (
	attempts = 16 // where a job's policy names no other number; River waits attempt⁴ seconds after each, more or less: two days altogether
	doneKept = 24 * time.Hour
	deadKept = 90 * 24 * time.Hour
	timeout  = 2 * time.Minute  // of one attempt
	rescue   = 10 * time.Minute // after which a job of a replica that died is tried again
	patience = 20 * time.Second // for the jobs under way when a replica ends; River gives up waiting for them then and breaks them off
)

// Arguments are what a job is done with. They become JSON, in which customer_id names the customer for whom the job is done: the database takes no other customer's
// than that of the transaction.
type Arguments interface {
	// Kind names what is to be done. It is kept with the job, so it stays as it is.
	Kind() string
}

// QueueName is where a job waits. The set is closed.
type QueueName string

// The queues.
const (
	Default  QueueName = river.QueueDefault
	Mail     QueueName = "mail"     // talks to the mail server
	Alerts   QueueName = "alerts"   // does so for many people at once, behind whom an invitation must not wait
	Outbound QueueName = "outbound" // talks to other people's servers
	Upkeep   QueueName = "upkeep"   // looks after what there is, again and again or for long
)

// queues lists every queue.
func queues() []QueueName { return []QueueName{Default, Mail, Alerts, Outbound, Upkeep} }

// Policy is how jobs of one kind are handled. The zero value is what arguments without a policy get.
type Policy struct {
	Queue    QueueName // empty: Default
	Attempts int       // how often it is tried at most; 0: sixteen times, in two days
	// Unique adds no second job with the same arguments while the first waits or is under way. What comes up while it is under way may be overlooked by it, so it suits work
	// that is asked for again and again, and work that looks once more before it ends.
	Unique bool
}

// withPolicy is what arguments with a policy implement.
type withPolicy interface{ Policy() Policy }

// options are a policy in River's words.
func options(arguments Arguments, at time.Time) *river.InsertOpts {
	chosen := &river.InsertOpts{MaxAttempts: attempts, ScheduledAt: at}
	with, ok := arguments.(withPolicy)
	if !ok {
		return chosen
	}
	policy := with.Policy()
	chosen.Queue = string(policy.Queue)
	if policy.Attempts > 0 {
		chosen.MaxAttempts = policy.Attempts
	}
	if policy.Unique {
		chosen.UniqueOpts = river.UniqueOpts{ByArgs: true, ByState: []rivertype.JobState{
			rivertype.JobStateAvailable, rivertype.JobStatePending, rivertype.JobStateRunning, rivertype.JobStateRetryable, rivertype.JobStateScheduled,
		}}
	}
	return chosen
}

// Job is what its work may know of a job besides the arguments.
type Job struct {
	ID        int64
	Attempt   int // the first is 1
	CreatedAt time.Time
}

// Queue takes jobs. Safe for concurrent use.
type Queue struct{ river *river.Client[*sql.Tx] }

// NewQueue makes a queue that takes jobs and works none off.
func NewQueue() (*Queue, error) {
	client, err := river.NewClient(riverdatabasesql.New(nil), &river.Config{Schema: postgres.QueueSchema, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, fmt.Errorf("jobs: %w", err)
	}
	return &Queue{river: client}, nil
}

// EnqueueTx adds a job within a transaction: it is done if the transaction is kept, and never otherwise.
func (q *Queue) EnqueueTx(tx *postgres.Tx, arguments Arguments) error {
	return q.EnqueueAtTx(tx, arguments, time.Time{})
}

// EnqueueAtTx is EnqueueTx for a job that is not done before a time.
func (q *Queue) EnqueueAtTx(tx *postgres.Tx, arguments Arguments, at time.Time) error {
	ctx, begun, err := tx.Transaction()
	if err != nil {
		return err
	}
	_, err = q.river.InsertTx(ctx, begun, arguments, options(arguments, at))
	return err
}

// EnqueueManyTx is EnqueueTx for many jobs in one round trip.
func (q *Queue) EnqueueManyTx(tx *postgres.Tx, all []Arguments) error {
	if len(all) == 0 {
		return nil
	}
	ctx, begun, err := tx.Transaction()
	if err != nil {
		return err
	}
	many := make([]river.InsertManyParams, len(all))
	for i, arguments := range all {
		many[i] = river.InsertManyParams{Args: arguments, InsertOpts: options(arguments, time.Time{})}
	}
	_, err = q.river.InsertManyTx(ctx, begun, many)
	return err
}

// Handler is how jobs of one kind are done.
type Handler struct{ add func(*river.Workers) error }

// Option changes how jobs of one kind are done.
type Option func(*handlerOptions)

// handlerOptions is what a handler may choose.
type handlerOptions struct {
	within  time.Duration
	backoff func(attempt int) time.Duration
}

// Timeout bounds each attempt at another time than two minutes.
func Timeout(d time.Duration) Option { return func(m *handlerOptions) { m.within = d } }

// Backoff says how long to wait after a failed attempt, of which the first is 1, in place of attempt⁴ seconds.
func Backoff(wait func(attempt int) time.Duration) Option {
	return func(m *handlerOptions) { m.backoff = wait }
}

// Handle says how the jobs are done whose arguments are of the type A. The work is given two minutes; it returns nil when the job is done, Cancel when it never
// will be, Snooze when it is too early, and any other error to be called again later. Its errors are kept with the job: they must not hold anything of a person.
func Handle[A Arguments](work func(ctx context.Context, job Job, arguments A) error, options ...Option) Handler {
	hand := worker[A]{work: work}
	for _, choose := range options {
		choose(&hand.handlerOptions)
	}
	return Handler{add: func(all *river.Workers) error { return river.AddWorkerSafely(all, hand) }}
}

// worker does the jobs of one kind for River.
type worker[A Arguments] struct {
	river.WorkerDefaults[A]
	handlerOptions
	work func(ctx context.Context, job Job, arguments A) error
}

// Timeout implements river.Worker.
func (w worker[A]) Timeout(*river.Job[A]) time.Duration { return w.within }

// NextRetry implements river.Worker. The time that it returns is of the machine's clock, by which River goes.
func (w worker[A]) NextRetry(job *river.Job[A]) time.Time {
	if w.backoff == nil {
		return time.Time{}
	}
	return time.Now().Add(w.backoff(job.Attempt))
}

// Work implements river.Worker.
func (w worker[A]) Work(ctx context.Context, job *river.Job[A]) error {
	err := recovered(func() error {
		return w.work(ctx, Job{ID: job.ID, Attempt: job.Attempt, CreatedAt: job.CreatedAt}, job.Args)
	})
	if early, ok := errors.AsType[*snoozed](err); ok {
		return river.JobSnooze(max(early.wait, 0))
	}
	return err
}

// cancelled is River's own error of that meaning, without the name of its type in front of the text, which operators read.
type cancelled struct{ cause error }

func (e *cancelled) Error() string { return e.cause.Error() }
func (e *cancelled) Unwrap() error { return river.JobCancel(e.cause) }

// Cancel marks an error that no retry will mend: the job is dead at once.
func Cancel(cause error) error { return &cancelled{cause: cause} }

type snoozed struct{ wait time.Duration }

func (e *snoozed) Error() string { return "jobs: to be done in " + e.wait.String() }

// Snooze runs the job again after the wait. It does not count as an attempt: it was too early, or
// there is more to do.
func Snooze(wait time.Duration) error { return &snoozed{wait: wait} }

// recovered turns a panic into an error. The value of a panic may hold anything, and River would keep it; so only its type and the place go on.
func recovered(work func() error) (err error) {
	defer func() {
		if reason := recover(); reason != nil {
			err = fmt.Errorf("jobs: a panic of a %T at\n%s", reason, debug.Stack())
		}
	}()
	return work()
}
