// Package jobs does work in the background, at least once, after the transaction that asked for it.
//
// Owns: putting jobs into the queue within the transaction of whoever asks, working them off on every replica, trying again, and what is dead.
// Does not own: what a job does and what it needs to know (the features), the tables (River makes them, package postgres has it do so).
//
// The arguments of a job hold ids and closed words and are kept in the database as they are; a job reads what it needs about a person when it runs. It may run
// more than once: a replica that dies half way has not said that it was done.
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

	"github.com/fusionspim/steward/internal/postgres"
)

const (
	attempts = 16 // River waits attempt⁴ seconds after each, more or less: two days altogether
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
	ctx, begun, err := tx.Transaction()
	if err != nil {
		return err
	}
	_, err = q.river.InsertTx(ctx, begun, arguments, &river.InsertOpts{MaxAttempts: attempts})
	return err
}

// Handler is how jobs of one kind are done.
type Handler struct{ add func(*river.Workers) error }

// Handle says how the jobs are done whose arguments are of the type A. The work is given two minutes; it returns nil when the job is done, InVain when it never
// will be, and any other error to be called again later. Its errors are kept with the job: they must not hold anything of a person.
func Handle[A Arguments](work func(ctx context.Context, job Job, arguments A) error) Handler {
	return Handler{add: func(all *river.Workers) error {
		return river.AddWorkerSafely(all, river.WorkFunc(func(ctx context.Context, job *river.Job[A]) error {
			err := recovered(func() error {
				return work(ctx, Job{ID: job.ID, Attempt: job.Attempt, CreatedAt: job.CreatedAt}, job.Args)
			})
			var vain *inVain
			if errors.As(err, &vain) {
				return river.JobCancel(vain.cause)
			}
			return err
		}))
	}}
}

type inVain struct{ cause error }

func (e *inVain) Error() string { return e.cause.Error() }
func (e *inVain) Unwrap() error { return e.cause }

// InVain marks an error that comes again however often the job is tried: the job is dead at once.
func InVain(cause error) error { return &inVain{cause: cause} }

// recovered turns a panic into an error. The value of a panic may hold anything, and River would keep it; so only its type and the place go on.
func recovered(work func() error) (err error) {
	defer func() {
		if reason := recover(); reason != nil {
			err = fmt.Errorf("jobs: a panic of a %T at\n%s", reason, debug.Stack())
		}
	}()
	return work()
}

// Crew works jobs off.
type Crew struct {
	connections *postgres.Queue
	river       *river.Client[*sql.Tx]
}

// Start begins to work jobs off, as many at once as there are workers. It hears of new ones at once and looks by itself now and then. Every replica of the service has a
// crew; a job is given to one of them.
func Start(ctx context.Context, db *postgres.DB, workers int, log *slog.Logger, handlers ...Handler) (crew *Crew, err error) {
	all := river.NewWorkers()
	for _, handler := range handlers {
		if err := handler.add(all); err != nil {
			return nil, fmt.Errorf("jobs: %w", err)
		}
	}
	connections, err := db.OpenQueue(ctx, connectionsFor(workers))
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("jobs: %w", err), connections.Close())
		}
	}()
	client, err := river.NewClient(riverdatabasesql.NewWithPgxListener(connections.SQL, connections.Listener), &river.Config{
		Schema: postgres.QueueSchema, Workers: all, Queues: map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: workers}},
		JobTimeout: timeout, RescueStuckJobsAfter: rescue, SoftStopTimeout: patience,
		CompletedJobRetentionPeriod: doneKept, CancelledJobRetentionPeriod: deadKept, DiscardedJobRetentionPeriod: deadKept,
		ReindexerIndexNames: []string{}, // to reindex takes the owner of the tables
		ErrorHandler:        failures{log}, Logger: slog.New(quiet{log.Handler()}),
	})
	if err != nil {
		return nil, err
	}
	// The crew ends by Stop, not with the context of whoever starts it.
	if err := client.Start(context.WithoutCancel(ctx)); err != nil {
		return nil, err
	}
	return &Crew{connections: connections, river: client}, nil
}

// connectionsFor says how many connections a crew needs besides the one that listens: to fetch jobs, to tell what became of them, and to look after the tables.
func connectionsFor(workers int) int { return min(max(workers/2, 2), 4) }

// Stop takes no more jobs, waits a while for those under way, and breaks off what takes longer; what was broken off is tried again.
func (c *Crew) Stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience+10*time.Second)
	defer cancel()
	err := c.river.Stop(ctx)
	return errors.Join(err, c.connections.Close())
}

// failures tells the log of what failed.
type failures struct{ log *slog.Logger }

// HandleError implements river.ErrorHandler.
func (f failures) HandleError(ctx context.Context, job *rivertype.JobRow, err error) *river.ErrorHandlerResult {
	level := slog.LevelWarn
	if job.Attempt >= job.MaxAttempts || errors.Is(err, &river.JobCancelError{}) {
		level = slog.LevelError
	}
	f.log.Log(ctx, level, "a job failed", "job", job.ID, "kind", job.Kind, "attempt", job.Attempt, "error", err)
	return nil
}

// HandlePanic implements river.ErrorHandler.
func (f failures) HandlePanic(ctx context.Context, job *rivertype.JobRow, _ any, trace string) *river.ErrorHandlerResult {
	f.log.Log(ctx, slog.LevelError, "a job panicked", "job", job.ID, "kind", job.Kind, "attempt", job.Attempt, "stack", trace)
	return nil
}

// quiet passes on what River says from warnings on: every job that it does is information to River.
type quiet struct{ slog.Handler }

// Enabled implements slog.Handler.
func (q quiet) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && q.Handler.Enabled(ctx, level)
}

// WithAttrs implements slog.Handler.
func (q quiet) WithAttrs(attributes []slog.Attr) slog.Handler {
	return quiet{q.Handler.WithAttrs(attributes)}
}

// WithGroup implements slog.Handler.
func (q quiet) WithGroup(name string) slog.Handler { return quiet{q.Handler.WithGroup(name)} }
