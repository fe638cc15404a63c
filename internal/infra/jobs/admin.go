package jobs

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverdatabasesql"
	"github.com/riverqueue/river/rivertype"

	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

// State is how far a job has come. The set is closed, and coarser than River's.
type State string

// The states.
const (
	Waiting  State = "waiting"  // its turn or its time has not come
	Running  State = "running"  // a replica is at it
	Retrying State = "retrying" // it failed and is tried again
	Done     State = "done"
	Dead     State = "dead" // tried too often, or in vain; nothing happens unless somebody has it tried again
)

// states are River's states of each of ours.
var states = map[State][]rivertype.JobState{
	Waiting:  {rivertype.JobStateAvailable, rivertype.JobStatePending, rivertype.JobStateScheduled},
	Running:  {rivertype.JobStateRunning},
	Retrying: {rivertype.JobStateRetryable},
	Done:     {rivertype.JobStateCompleted},
	Dead:     {rivertype.JobStateDiscarded, rivertype.JobStateCancelled},
}

// States lists every state.
func States() []State { return []State{Waiting, Running, Retrying, Done, Dead} }

// Record is a job as those see it who look after the queue. It holds nothing of a person.
type Record struct {
	ID          int64
	Kind        string
	Queue       QueueName
	State       State
	Customer    *id.Customer // nil: a job of the service's own
	Attempt     int          // how often it was tried
	MaxAttempts int
	Failure     *string // why the last attempt failed, in one line
	CreatedAt   time.Time
	ScheduledAt time.Time // when it was or will be tried
	EndedAt     *time.Time
}

// Filter chooses jobs; zero members choose all.
type Filter struct {
	State State
	Kind  string
}

// Depth is how much there is of one state in one queue.
type Depth struct {
	Queue  string
	State  State
	Count  int64
	Oldest time.Duration // for how long the oldest has been due; 0 where none is
}

// Admin lists and retries jobs, whether or not this replica runs any. Safe for concurrent use.
type Admin struct {
	connections *postgres.Queue
	river       *river.Client[*sql.Tx]
	now         func() time.Time
}

// OpenAdmin opens an Admin, which takes one connection, and only while it is used.
func OpenAdmin(ctx context.Context, db *postgres.DB) (*Admin, error) {
	connections, err := db.OpenQueue(ctx, 1)
	if err != nil {
		return nil, err
	}
	client, err := river.NewClient(riverdatabasesql.New(connections.SQL), &river.Config{Schema: postgres.QueueSchema, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, errors.Join(err, connections.Close())
	}
	return &Admin{connections: connections, river: client, now: time.Now}, nil
}

// Close gives the connection back.
func (d *Admin) Close() error { return d.connections.Close() }

// List returns jobs, newest first: at most limit of those asked for before the one named, or from the newest on.
func (d *Admin) List(ctx context.Context, filter Filter, before int64, limit int) ([]Record, error) {
	wanted := river.NewJobListParams().First(limit).OrderBy(river.JobListOrderByID, river.SortOrderDesc)
	if filter.State != "" {
		wanted = wanted.States(states[filter.State]...)
	} else {
		wanted = wanted.States(rivertype.JobStates()...)
	}
	if filter.Kind != "" {
		wanted = wanted.Kinds(filter.Kind)
	}
	if before > 0 {
		wanted = wanted.Where("id < @before", river.NamedArgs{"before": before})
	}
	found, err := d.river.JobList(ctx, wanted)
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
func (d *Admin) Get(ctx context.Context, job int64) (Record, error) {
	row, err := d.river.JobGet(ctx, job)
	if err != nil {
		return Record{}, known(err)
	}
	return toRecord(row), nil
}

// Retry has a job tried at once that is dead, waits to be tried again, or waits for its time. A dead one gets one attempt more. Faults: ResourceNotFound, JobNotRetryable.
func (d *Admin) Retry(ctx context.Context, job int64) (Record, error) {
	before, err := d.Get(ctx, job)
	if err != nil {
		return Record{}, err
	}
	if before.State == Running || before.State == Done {
		return Record{}, fault.New(fault.JobNotRetryable, "The job is "+string(before.State)+".")
	}
	row, err := d.river.JobRetry(ctx, job)
	if err != nil {
		return Record{}, known(err)
	}
	return toRecord(row), nil
}

func known(err error) error {
	if errors.Is(err, river.ErrNotFound) {
		return fault.New(fault.ResourceNotFound, "There is no such job.")
	}
	return postgres.Translated(err)
}

// Depths counts the jobs that are not done, by queue and state.
func (d *Admin) Depths(ctx context.Context) ([]Depth, error) {
	depths, err := depths(ctx, d.connections.SQL)
	return depths, postgres.Translated(err)
}

func toRecord(row *rivertype.JobRow) Record {
	record := Record{
		ID: row.ID, Kind: row.Kind, Queue: QueueName(row.Queue), State: stateOf(row.State), Attempt: row.Attempt, MaxAttempts: row.MaxAttempts,
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

// longestFailure is how much of a reason is shown, in bytes.
const longestFailure = 300

func stateOf(state rivertype.JobState) State {
	for ours, theirs := range states {
		for _, one := range theirs {
			if one == state {
				return ours
			}
		}
	}
	return Waiting
}
