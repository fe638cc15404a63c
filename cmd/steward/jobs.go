package main

import (
	"context"
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/fusionspim/steward/internal/infra/jobs"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

// jobsCommand lists and retries background jobs.
type jobsCommand struct {
	List  jobsList  `cmd:"" help:"List jobs, the dead ones by default."`
	Retry jobsRetry `cmd:"" help:"Retry jobs now."`
}

type jobsList struct {
	databaseSettings `embed:""`
	logSettings      `embed:""`
	State            string `name:"state" enum:"waiting,running,retrying,done,dead" default:"dead" help:"State of the jobs: waiting, running, retrying, done or dead."`
	Kind             string `name:"kind" help:"Only jobs of this kind, such as password_mail."`
	Limit            int    `name:"limit" default:"50" help:"Maximum number of jobs, 1 to 10000; the newest come first."`
	JSON             bool   `name:"json" help:"Print one JSON document."`
}

// Help implements kong.HelpProvider.
func (jobsList) Help() string {
	return `A job that failed too often, or for good, is dead: it is kept for 90 days and runs again only when an
operator retries it. Jobs hold ids and no personal data.`
}

// jobDocument is a job in JSON.
type jobDocument struct {
	ID          int64      `json:"id"`
	Kind        string     `json:"kind"`
	Queue       string     `json:"queue"`
	State       string     `json:"state"`
	CustomerID  *string    `json:"customer_id"`
	Attempt     int        `json:"attempt"`
	MaxAttempts int        `json:"max_attempts"`
	Failure     *string    `json:"failure"`
	CreatedAt   time.Time  `json:"created_at"`
	ScheduledAt time.Time  `json:"scheduled_at"`
	EndedAt     *time.Time `json:"ended_at"`
}

func newJobDocument(one jobs.Record) jobDocument {
	document := jobDocument{
		ID:          one.ID,
		Kind:        one.Kind,
		Queue:       string(one.Queue),
		State:       string(one.State),
		Attempt:     one.Attempt,
		MaxAttempts: one.MaxAttempts,
		Failure:     one.Failure,
		CreatedAt:   one.CreatedAt,
		ScheduledAt: one.ScheduledAt,
		EndedAt:     one.EndedAt,
	}
	if one.Customer != nil {
		of := one.Customer.String()
		document.CustomerID = &of
	}
	return document
}

// Run lists.
func (c jobsList) Run(s surroundings) error {
	if c.Limit < 1 || c.Limit > maxJobs {
		return fmt.Errorf("--limit must be from 1 to %d", maxJobs)
	}
	return c.onJobs(s, c.logSettings, func(ctx context.Context, desk *jobs.Admin) error {
		found, err := desk.List(ctx, jobs.Filter{State: jobs.State(c.State), Kind: c.Kind}, 0, c.Limit)
		if err != nil {
			return plain(err)
		}
		if c.JSON {
			documents := make([]jobDocument, len(found))
			for i, one := range found {
				documents[i] = newJobDocument(one)
			}
			return s.print(map[string]any{"data": documents})
		}
		if len(found) == 0 {
			fmt.Fprintf(s.out, "no job is %s\n", c.State)
			return nil
		}
		table := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "id\tkind\tstate\tattempts\tscheduled\tfailure")
		for _, one := range found {
			failure := ""
			if one.Failure != nil {
				failure = *one.Failure
			}
			fmt.Fprintf(
				table,
				"%d\t%s\t%s\t%d of %d\t%s\t%s\n",
				one.ID,
				one.Kind,
				one.State,
				one.Attempt,
				one.MaxAttempts,
				one.ScheduledAt.Format(time.RFC3339),
				failure,
			)
		}
		return table.Flush()
	})
}

type jobsRetry struct {
	databaseSettings `embed:""`
	logSettings      `embed:""`
	IDs              []int64 `arg:"" optional:"" name:"id" help:"Job numbers, as printed by jobs list."`
	AllDead          bool    `name:"all-dead" help:"Retry every dead job."`
	Kind             string  `name:"kind" help:"With --all-dead: only jobs of this kind."`
	JSON             bool    `name:"json" help:"Print one JSON document."`
}

// maxJobs bounds the list of one command.
const maxJobs = 10000

// Help implements kong.HelpProvider.
func (jobsRetry) Help() string {
	return `Each job runs as soon as a replica is free; a dead job gets one more attempt. Jobs that cannot be
retried are named, and the others are retried all the same.`
}

// Run retries jobs.
func (c jobsRetry) Run(s surroundings) error {
	if c.AllDead == (len(c.IDs) > 0) || !c.AllDead && c.Kind != "" {
		return errors.New("name the jobs, or --all-dead with or without --kind")
	}
	return c.onJobs(s, c.logSettings, func(ctx context.Context, desk *jobs.Admin) error {
		if c.AllDead {
			dead, err := desk.List(ctx, jobs.Filter{State: jobs.Dead, Kind: c.Kind}, 0, maxJobs)
			if err != nil {
				return plain(err)
			}
			for _, one := range dead {
				c.IDs = append(c.IDs, one.ID)
			}
		}
		retried := []jobDocument{}
		var failed error
		for _, job := range c.IDs {
			after, err := desk.Retry(ctx, job)
			if err != nil {
				failed = errors.Join(failed, fmt.Errorf("job %d: %w", job, plain(err)))
				continue
			}
			retried = append(retried, newJobDocument(after))
		}
		if c.JSON {
			return errors.Join(s.print(map[string]any{"data": retried}), failed)
		}
		fmt.Fprintf(s.out, "%d of %d jobs are tried again\n", len(retried), len(c.IDs))
		return failed
	})
}

// onJobs opens the job administration for one command.
func (d databaseSettings) onJobs(
	s surroundings,
	logs logSettings,
	work func(ctx context.Context, desk *jobs.Admin) error,
) error {
	return onDatabase(s, d, logs, func(db *postgres.DB) error {
		desk, err := jobs.OpenAdmin(s.context, db)
		if err != nil {
			return plain(err)
		}
		return errors.Join(work(s.context, desk), desk.Close())
	})
}
