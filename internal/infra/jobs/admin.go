package jobs

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverdatabasesql"
	"github.com/riverqueue/river/rivertype"

	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

// State is a job's state. The set is closed, and coarser than River's.
type State string

// The states.
const (
	Waiting  State = "waiting"  // its turn or its time has not come
	Running  State = "running"  // a replica runs it
	Retrying State = "retrying" // it failed and will be retried
	Done     State = "done"
	Dead     State = "dead" // discarded or cancelled; it stays so unless an operator retries it
)

// states maps each state to River's.
var states = map[State][]rivertype.JobState{
	Waiting:  {rivertype.JobStateAvailable, rivertype.JobStatePending, rivertype.JobStateScheduled},
	Running:  {rivertype.JobStateRunning},
	Retrying: {rivertype.JobStateRetryable},
	Done:     {rivertype.JobStateCompleted},
	Dead:     {rivertype.JobStateDiscarded, rivertype.JobStateCancelled},
}

// States lists every state.
func States() []State { return []State{Waiting, Running, Retrying, Done, Dead} }

// Record is a job as operators see it. It holds no personal data.
type Record struct {
	ID          int64
	Kind        string
	Queue       QueueName
	State       State
	Customer    *id.Customer // nil: a job of the service itself
	Attempt     int          // how many attempts began
	MaxAttempts int
	Failure     *string // why the last attempt failed, in one line
	CreatedAt   time.Time
	ScheduledAt time.Time // when it was or will be attempted
	EndedAt     *time.Time
}

// Filter selects jobs; zero members select all.
type Filter struct {
	State State
	Kind  string
}

// Depth is the number of jobs in one state and queue.
type Depth struct {
	Queue  string
	State  State
	Count  int64
	Oldest time.Duration // how long the oldest has been due; 0 if none is
}

// Admin lists and retries jobs, whether or not this replica runs any. Safe for concurrent use.
type Admin struct {
	connections *postgres.Queue
	river       *river.Client[*sql.Tx]
	now         func() time.Time
}

// OpenAdmin returns an Admin that takes one connection, and only while it is used.
func OpenAdmin(ctx context.Context, db *postgres.DB) (*Admin, error) {
	connections, err := db.OpenQueue(ctx, 1)
	if err != nil {
		return nil, err
	}
	client, err := river.NewClient(riverdatabasesql.New(connections.SQL),
		&river.Config{Schema: postgres.QueueSchema, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, errors.Join(err, connections.Close())
	}
	return &Admin{connections: connections, river: client, now: time.Now}, nil
}

// Close closes the connection.
func (a *Admin) Close() error { return a.connections.Close() }

// List returns at most limit jobs, newest first, that are older than the job named by before, or
// from the newest on if that is 0.
func (a *Admin) List(ctx context.Context, filter Filter, before int64, limit int) ([]Record, error) {
	params := river.NewJobListParams().First(limit).OrderBy(river.JobListOrderByID, river.SortOrderDesc)
	if filter.State != "" {
		params = params.States(states[filter.State]...)
	} else {
		params = params.States(rivertype.JobStates()...)
	}
	if filter.Kind != "" {
		params = params.Kinds(filter.Kind)
	}
	if before > 0 {
		params = params.Where("id < @before", river.NamedArgs{"before": before})
	}
	found, err := a.river.JobList(ctx, params)
	if err != nil {
		return nil, postgres.Translated(err)
	}
	records := make([]Record, len(found.Jobs))
	for i, row := range found.Jobs {
		records[i] = toRecord(row)
	}
	return records, nil
}

// Get returns one job. Fault: ResourceNotFound.
func (a *Admin) Get(ctx context.Context, job int64) (Record, error) {
	row, err := a.river.JobGet(ctx, job)
	if err != nil {
		return Record{}, known(err)
	}
	return toRecord(row), nil
}

// Retry makes a dead, retrying or waiting job run at once; a dead one gets one more attempt.
// Faults: ResourceNotFound, JobNotRetryable.
func (a *Admin) Retry(ctx context.Context, job int64) (Record, error) {
	before, err := a.Get(ctx, job)
	if err != nil {
		return Record{}, err
	}
	if before.State == Running || before.State == Done {
		return Record{}, fault.New(fault.JobNotRetryable, "The job is "+string(before.State)+".")
	}
	row, err := a.river.JobRetry(ctx, job)
	if err != nil {
		return Record{}, known(err)
	}
	return toRecord(row), nil
}

func known(err error) error {
	if errors.Is(err, river.ErrNotFound) {
		return fault.New(fault.ResourceNotFound, "The job does not exist.")
	}
	return postgres.Translated(err)
}

// Depths counts the jobs that are not done, by queue and state.
func (a *Admin) Depths(ctx context.Context) ([]Depth, error) {
	depths, err := depths(ctx, a.connections.SQL)
	return depths, postgres.Translated(err)
}

func toRecord(row *rivertype.JobRow) Record {
	record := Record{
		ID: row.ID, Kind: row.Kind, Queue: QueueName(row.Queue), State: stateOf(row.State),
		Attempt: row.Attempt, MaxAttempts: row.MaxAttempts,
		CreatedAt: row.CreatedAt.UTC(), ScheduledAt: row.ScheduledAt.UTC(),
	}
	if row.FinalizedAt != nil {
		ended := row.FinalizedAt.UTC()
		record.EndedAt = &ended
	}
	var of struct {
		Customer *id.Customer `json:"customer_id"`
	}
	if json.Unmarshal(row.EncodedArgs, &of) == nil {
		record.Customer = of.Customer
	}
	if last := len(row.Errors) - 1; last >= 0 {
		line, _, _ := strings.Cut(row.Errors[last].Error, "\n") // the lines after it are where a panic was
		line = strings.ToValidUTF8(line[:min(len(line), longestFailure)], "")
		record.Failure = &line
	}
	return record
}

// longestFailure is how much of an error is shown, in bytes.
const longestFailure = 300

func stateOf(state rivertype.JobState) State {
	for ours, theirs := range states {
		if slices.Contains(theirs, state) {
			return ours
		}
	}
	return Waiting
}
