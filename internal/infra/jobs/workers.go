package jobs

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverdatabasesql"
	"github.com/riverqueue/river/rivertype"

	"github.com/fusionspim/steward/internal/infra/postgres"
)

// upkeepWorkers is how many maintenance jobs a replica runs at once: they are long, and other jobs
// must not wait for their connections.
const upkeepWorkers = 2

// Workers run jobs on this replica.
type Workers struct {
	connections *postgres.Queue
	river       *river.Client[*sql.Tx]
}

// Work is the handlers and the periodic jobs of a replica.
type Work struct {
	Handlers []Handler
	Periodic []Periodic
}

// Periodic is a job that the leader enqueues at an interval.
type Periodic struct {
	Every     time.Duration
	Arguments Arguments
}

// Start starts the workers of this replica, up to workers jobs of each queue at once. They are
// notified of new jobs, and poll now and then. Each job goes to one replica.
func Start(ctx context.Context, db *postgres.DB, workers int, log *slog.Logger, work Work) (started *Workers, err error) {
	all := river.NewWorkers()
	for _, handler := range work.Handlers {
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
	config := &river.Config{
		Schema: postgres.QueueSchema, Workers: all, Queues: make(map[string]river.QueueConfig),
		JobTimeout: timeout, RescueStuckJobsAfter: rescue, SoftStopTimeout: softStop,
		CompletedJobRetentionPeriod: doneKept,
		CancelledJobRetentionPeriod: deadKept, DiscardedJobRetentionPeriod: deadKept,
		ReindexerIndexNames: []string{}, // only the owner of the tables may reindex
		ErrorHandler:        errorHandler{log}, Logger: slog.New(warnHandler{log.Handler()}),
	}
	for _, queue := range queues() {
		config.Queues[string(queue)] = river.QueueConfig{MaxWorkers: workers}
	}
	config.Queues[string(Upkeep)] = river.QueueConfig{MaxWorkers: min(workers, upkeepWorkers)}
	for _, periodic := range work.Periodic {
		config.PeriodicJobs = append(config.PeriodicJobs, periodic.job())
	}
	client, err := river.NewClient(riverdatabasesql.NewWithPgxListener(connections.SQL, connections.Listener), config)
	if err != nil {
		return nil, err
	}
	// Stop ends the workers, not the caller's context.
	if err := client.Start(context.WithoutCancel(ctx)); err != nil {
		return nil, err
	}
	return &Workers{connections: connections, river: client}, nil
}

// job converts a periodic job to River's. A new leader enqueues it at once: the previous one may
// have ended long ago, and running it too often does no harm.
func (p Periodic) job() *river.PeriodicJob {
	return river.NewPeriodicJob(river.PeriodicInterval(p.Every), func() (river.JobArgs, *river.InsertOpts) {
		return p.Arguments, options(p.Arguments, time.Time{})
	}, &river.PeriodicJobOpts{RunOnStart: true})
}

// connectionsFor returns how many connections workers need besides the listener's: to fetch jobs,
// to complete them, and to maintain the tables.
func connectionsFor(workers int) int { return min(max(workers/2, 2), 4) }

// Stop fetches no more jobs, waits for the running ones, and cancels those that take too long;
// cancelled ones are retried.
func (w *Workers) Stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), softStop+10*time.Second)
	defer cancel()
	err := w.river.Stop(ctx)
	return errors.Join(err, w.connections.Close())
}

// errorHandler logs failed jobs.
type errorHandler struct{ log *slog.Logger }

// HandleError implements river.ErrorHandler.
func (h errorHandler) HandleError(ctx context.Context, job *rivertype.JobRow, err error) *river.ErrorHandlerResult {
	level := slog.LevelWarn
	if job.Attempt >= job.MaxAttempts || errors.Is(err, &river.JobCancelError{}) {
		level = slog.LevelError
	}
	h.log.Log(ctx, level, "a job failed", "job", job.ID, "kind", job.Kind, "attempt", job.Attempt, "error", err)
	return nil
}

// HandlePanic implements river.ErrorHandler.
func (h errorHandler) HandlePanic(ctx context.Context, job *rivertype.JobRow, _ any, trace string) *river.ErrorHandlerResult {
	h.log.Log(ctx, slog.LevelError, "a job panicked", "job", job.ID, "kind", job.Kind, "attempt", job.Attempt, "stack", trace)
	return nil
}

// warnHandler drops River's messages below warnings: River logs every job as information.
type warnHandler struct{ slog.Handler }

// Enabled implements slog.Handler.
func (h warnHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && h.Handler.Enabled(ctx, level)
}

// WithAttrs implements slog.Handler.
func (h warnHandler) WithAttrs(attributes []slog.Attr) slog.Handler {
	return warnHandler{h.Handler.WithAttrs(attributes)}
}

// WithGroup implements slog.Handler.
func (h warnHandler) WithGroup(name string) slog.Handler {
	return warnHandler{h.Handler.WithGroup(name)}
}
