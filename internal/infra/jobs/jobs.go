// Package jobs runs background jobs, enqueued transactionally, at least once. It is a thin layer
// over River.
//
// Owns: enqueueing within the caller's transaction, running jobs on every replica, retries, and
// dead jobs.
// Does not own: what a job does and what it needs to know (the features), the tables (River creates
// them, through package postgres).
//
// A job's arguments hold ids and closed words and are stored as they are; a job reads what it needs
// about a person when it runs. It may run more than once: a replica that dies half way has not
// reported it as completed.
//
// Each queue has its own workers on every replica, so that slow receivers of webhooks do not delay
// mail. Periodic jobs have no customer and are enqueued by one replica, the leader, which the
// replicas elect.
//
//	available ──▶ running ──▶ completed              (kept for a day)
//	    ▲            ├──────▶ retryable ──▶ available (with growing delays, for two days)
//	    └────────────┤ snoozed
//	                 ├──────▶ discarded              (out of attempts; dead, kept for 90 days)
//	                 └──────▶ cancelled              (no retry can succeed; dead, kept for 90 days)
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
	// The default number; River waits about attempt⁴ seconds after each: two days in all.
	attempts = 16
	doneKept = 24 * time.Hour
	deadKept = 90 * 24 * time.Hour
	timeout  = 2 * time.Minute  // of one attempt, unless a handler sets another
	rescue   = 10 * time.Minute // after which a dead replica's job is retried
	softStop = 20 * time.Second // how long running jobs may take when a replica stops, before River cancels them
)

// Arguments are a job's input. They become JSON, in which customer_id names the job's customer: the
// database accepts no other than the transaction's.
type Arguments interface {
	// Kind returns the job's kind. It is stored with the job, so it must not change.
	Kind() string
}

// QueueName names a queue. The set is closed.
type QueueName string

// The queues.
const (
	Default  QueueName = river.QueueDefault
	Mail     QueueName = "mail"     // talks to the mail server
	Alerts   QueueName = "alerts"   // does so for many people at once; invitations must not wait behind them
	Outbound QueueName = "outbound" // talks to customers' servers
	Upkeep   QueueName = "upkeep"   // maintenance: periodic or long
)

// queues returns every queue.
func queues() []QueueName { return []QueueName{Default, Mail, Alerts, Outbound, Upkeep} }

// Policy says how jobs of one kind are enqueued. The zero value is that of arguments without a
// policy.
type Policy struct {
	Queue    QueueName // empty: Default
	Attempts int       // at most; 0 means 16, over two days
	// Unique skips a job while one with the same arguments is waiting or running. The running one
	// may miss what happened after it began, so this suits work that is enqueued periodically, or
	// that checks again before it ends.
	Unique bool
}

// withPolicy is implemented by arguments with a policy.
type withPolicy interface{ Policy() Policy }

// options converts a policy to River's.
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

// Job is what a handler knows of its job besides the arguments.
type Job struct {
	ID        int64
	Attempt   int // the first is 1
	CreatedAt time.Time
}

// Queue enqueues jobs. Safe for concurrent use.
type Queue struct{ river *river.Client[*sql.Tx] }

// NewQueue returns a queue that enqueues jobs and runs none.
func NewQueue() (*Queue, error) {
	client, err := river.NewClient(riverdatabasesql.New(nil),
		&river.Config{Schema: postgres.QueueSchema, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, fmt.Errorf("jobs: %w", err)
	}
	return &Queue{river: client}, nil
}

// EnqueueTx enqueues a job within a transaction: it runs if the transaction commits, and never
// otherwise.
func (q *Queue) EnqueueTx(tx *postgres.Tx, arguments Arguments) error {
	return q.EnqueueAtTx(tx, arguments, time.Time{})
}

// EnqueueAtTx is EnqueueTx for a job that does not run before a time.
func (q *Queue) EnqueueAtTx(tx *postgres.Tx, arguments Arguments, at time.Time) error {
	ctx, begun, err := tx.Transaction()
	if err != nil {
		return err
	}
	_, err = q.river.InsertTx(ctx, begun, arguments, options(arguments, at))
	return err
}

// EnqueueManyTx is EnqueueTx for many jobs, in one round trip.
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

// Handler runs the jobs of one kind.
type Handler struct{ add func(*river.Workers) error }

// Option configures a handler.
type Option func(*handlerOptions)

// handlerOptions is what the options of a handler set.
type handlerOptions struct {
	timeout time.Duration
	backoff func(attempt int) time.Duration
}

// Timeout bounds each attempt, in place of two minutes.
func Timeout(d time.Duration) Option { return func(m *handlerOptions) { m.timeout = d } }

// Backoff sets the wait after each failed attempt, of which the first is 1, in place of attempt⁴
// seconds.
func Backoff(wait func(attempt int) time.Duration) Option {
	return func(m *handlerOptions) { m.backoff = wait }
}

// Handle returns the handler of jobs with arguments of the type A. Work returns nil when the job is
// done, Cancel when it can never succeed, Snooze when it is too early, and any other error to be
// retried. Its errors are stored with the job: they must hold no personal data.
func Handle[A Arguments](work func(ctx context.Context, job Job, arguments A) error, options ...Option) Handler {
	handler := worker[A]{work: work}
	for _, choose := range options {
		choose(&handler.handlerOptions)
	}
	return Handler{add: func(all *river.Workers) error { return river.AddWorkerSafely(all, handler) }}
}

// worker runs the jobs of one kind for River.
type worker[A Arguments] struct {
	river.WorkerDefaults[A]
	handlerOptions
	work func(ctx context.Context, job Job, arguments A) error
}

// Timeout implements river.Worker.
func (w worker[A]) Timeout(*river.Job[A]) time.Duration { return w.timeout }

// NextRetry implements river.Worker. It uses the machine's clock, as River does.
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

// cancelled is River's cancel error without its type's name in front of the text, which operators
// read.
type cancelled struct{ cause error }

func (e *cancelled) Error() string { return e.cause.Error() }
func (e *cancelled) Unwrap() error { return river.JobCancel(e.cause) }

// Cancel marks an error that no retry can fix: the job is dead at once.
func Cancel(cause error) error { return &cancelled{cause: cause} }

type snoozed struct{ wait time.Duration }

func (e *snoozed) Error() string { return "jobs: snoozed for " + e.wait.String() }

// Snooze runs the job again after the wait. It does not count as an attempt: it was too early, or
// there is more to do.
func Snooze(wait time.Duration) error { return &snoozed{wait: wait} }

// recovered turns a panic into an error. The value of a panic may hold anything, and River would
// store it; only its type and the stack are kept.
func recovered(work func() error) (err error) {
	defer func() {
		if reason := recover(); reason != nil {
			err = fmt.Errorf("jobs: a panic of a %T at\n%s", reason, debug.Stack())
		}
	}()
	return work()
}
