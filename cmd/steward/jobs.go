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

// jobsCommand looks after the work in the background.
type jobsCommand struct {
	List  jobsList  `cmd:"" help:"List jobs; the dead ones unless another state is named."`
	Retry jobsRetry `cmd:"" help:"Have jobs tried at once."`
}

type jobsList struct {
	databaseSettings `embed:""`
	logSettings      `embed:""`
	State            string `name:"state" enum:"waiting,running,retrying,done,dead" default:"dead" help:"Which jobs: waiting, running, retrying, done or dead."`
	Kind             string `name:"kind" help:"Only jobs of this kind, such as password_mail."`
	Limit            int    `name:"limit" default:"50" help:"How many at most, 1 to 10000; the newest."`
	JSON             bool   `name:"json" help:"Print one JSON document."`
}

// Help implements kong.HelpProvider.
func (jobsList) Help() string {
	return `A job that was tried too often, or in vain, is dead: it is kept for 90 days, and nothing happens unless somebody has it tried again. Jobs hold identifiers and
nothing of a person.`
}

// jobDocument is one job as programs read it.
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
	return c.atDesk(s, c.logSettings, func(ctx context.Context, desk *jobs.Admin) error {
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
	IDs              []int64 `arg:"" optional:"" name:"id" help:"The numbers of the jobs, as jobs list prints them."`
	AllDead          bool    `name:"all-dead" help:"Every dead job instead."`
	Kind             string  `name:"kind" help:"With --all-dead: only jobs of this kind."`
	JSON             bool    `name:"json" help:"Print one JSON document."`
}

// maxJobs is how many jobs a command lists at once.
const maxJobs = 10000

// Help implements kong.HelpProvider.
func (jobsRetry) Help() string {
	return `Each job is tried as soon as a replica is free for it; a dead one gets one attempt more. Jobs that cannot be tried are named, the others are tried nevertheless.`
}

// Run has jobs tried.
func (c jobsRetry) Run(s surroundings) error {
	if c.AllDead == (len(c.IDs) > 0) || !c.AllDead && c.Kind != "" {
		return errors.New("name the jobs, or --all-dead with or without --kind")
	}
	return c.atDesk(s, c.logSettings, func(ctx context.Context, desk *jobs.Admin) error {
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

// atDesk opens the queue for the work of one command.
func (d databaseSettings) atDesk(
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
