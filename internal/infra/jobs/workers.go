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

// upkeepWorkers is how many jobs of the queue for upkeep a replica works on at once: they are long, and others must not wait for their connections.
const upkeepWorkers = 2

// Workers run jobs on this replica.
type Workers struct {
	connections *postgres.Queue
	river       *river.Client[*sql.Tx]
}

// Work is what workers have to do.
type Work struct {
	Handlers []Handler
	Periodic []Periodic
}

// Periodic is a job that is asked for again and again by the leader of the replicas.
type Periodic struct {
	Every     time.Duration
	Arguments Arguments
}

// Start starts the workers of this replica, which run as many jobs of each queue at once as workers says.
// They are notified of new jobs, and poll now and then as well. Each job goes to one replica.
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
		JobTimeout: timeout, RescueStuckJobsAfter: rescue, SoftStopTimeout: patience,
		CompletedJobRetentionPeriod: doneKept, CancelledJobRetentionPeriod: deadKept, DiscardedJobRetentionPeriod: deadKept,
		ReindexerIndexNames: []string{}, // to reindex takes the owner of the tables
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
	// Stop ends the workers, not the context of whoever starts them.
	if err := client.Start(context.WithoutCancel(ctx)); err != nil {
		return nil, err
	}
	return &Workers{connections: connections, river: client}, nil
}

// job is a periodic job in River's words. A new leader asks for it at once: the one before may have ended long ago, and what is done too often does no harm.
func (p Periodic) job() *river.PeriodicJob {
	return river.NewPeriodicJob(river.PeriodicInterval(p.Every), func() (river.JobArgs, *river.InsertOpts) {
		return p.Arguments, options(p.Arguments, time.Time{})
	}, &river.PeriodicJobOpts{RunOnStart: true})
}

// connectionsFor says how many connections workers need besides the one that listens: to fetch jobs, to tell what became of them, and to look after the tables.
func connectionsFor(workers int) int { return min(max(workers/2, 2), 4) }

// Stop takes no more jobs, waits a while for those under way, and breaks off what takes longer; what was broken off is tried again.
func (c *Workers) Stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience+10*time.Second)
	defer cancel()
	err := c.river.Stop(ctx)
	return errors.Join(err, c.connections.Close())
}

// errorHandler tells the log of what failed.
type errorHandler struct{ log *slog.Logger }

// HandleError implements river.ErrorHandler.
func (f errorHandler) HandleError(ctx context.Context, job *rivertype.JobRow, err error) *river.ErrorHandlerResult {
	level := slog.LevelWarn
	if job.Attempt >= job.MaxAttempts || errors.Is(err, &river.JobCancelError{}) {
		level = slog.LevelError
	}
	f.log.Log(ctx, level, "a job failed", "job", job.ID, "kind", job.Kind, "attempt", job.Attempt, "error", err)
	return nil
}

// HandlePanic implements river.ErrorHandler.
func (f errorHandler) HandlePanic(ctx context.Context, job *rivertype.JobRow, _ any, trace string) *river.ErrorHandlerResult {
	f.log.Log(ctx, slog.LevelError, "a job panicked", "job", job.ID, "kind", job.Kind, "attempt", job.Attempt, "stack", trace)
	return nil
}

// warnHandler passes on what River says from warnings on: every job that it does is information to River.
type warnHandler struct{ slog.Handler }

// Enabled implements slog.Handler.
func (q warnHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && q.Handler.Enabled(ctx, level)
}

// WithAttrs implements slog.Handler.
func (q warnHandler) WithAttrs(attributes []slog.Attr) slog.Handler {
	return warnHandler{q.Handler.WithAttrs(attributes)}
}

// WithGroup implements slog.Handler.
func (q warnHandler) WithGroup(name string) slog.Handler {
	return warnHandler{q.Handler.WithGroup(name)}
}
