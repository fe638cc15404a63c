// Command people runs the main job on a file of people, through the Go SDK: it creates everyone,
// corrects some, opts some out of alerts, records what some did, and erases every third: by
// deleting where the audit trail stays complete, by redacting where it would not.
//
//	go run ./examples/people --base-url http://127.0.0.1:8080 --api-key stw_... examples/people/testdata/people.ndjson
//
// It can be run again: who is there already is recognised, and what was done is not done twice. The
// people of the file are invented.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/fusionspim/steward/pkg/client"
	"github.com/fusionspim/steward/pkg/client/api"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := start(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "people:", err)
		os.Exit(1)
	}
}

func start(ctx context.Context, arguments []string, out io.Writer) error {
	flags := flag.NewFlagSet("people", flag.ContinueOnError)
	baseURL := flags.String("base-url", "http://127.0.0.1:8080", "where the service is")
	apiKey := flags.String(
		"api-key",
		os.Getenv("STEWARD_API_KEY"),
		"an `API key` with the scopes users:read, users:write, users:erase and audit:write; STEWARD_API_KEY by default",
	)
	parallel := flags.Int("parallel", 8, "how many people to work on at a time")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	file := "examples/people/testdata/people.ndjson"
	if flags.NArg() > 0 {
		file = flags.Arg(0)
	}
	people, err := readPeople(file)
	if err != nil {
		return err
	}
	steward, err := client.New(*baseURL, client.WithAPIKey(*apiKey), client.WithUserAgent("steward-people"))
	if err != nil {
		return err
	}
	began := time.Now()
	outcomes, err := run(ctx, steward, people, max(1, *parallel))
	if err != nil {
		return err
	}
	return summarise(out, outcomes, time.Since(began))
}

// person is one line of the file.
type person struct {
	Script    string          `json:"script"` // of the name, by ISO 15924
	FirstName string          `json:"first_name"`
	LastName  string          `json:"last_name"`
	Email     string          `json:"email"`
	Role      client.UserRole `json:"role"`
}

func readPeople(path string) ([]person, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // it is only read
	var people []person
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		var one person
		if err := json.Unmarshal(lines.Bytes(), &one); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", path, len(people)+1, err)
		}
		people = append(people, one)
	}
	return people, lines.Err()
}

// fate is how somebody's account ended.
type fate string

const (
	alive    fate = "alive"
	deleted  fate = "deleted"
	redacted fate = "redacted"
)

// outcome is what became of one person.
type outcome struct {
	person
	id       client.ID
	since    time.Time
	created  bool // in this run
	corrects string
	optedOut bool
	entries  int // stored in this run
	fate     fate
}

// Who gets what goes by the place in the file, so that every run does the same.
func isCorrected(i int) bool { return i%5 == 1 }
func isOptedOut(i int) bool  { return i%4 == 2 }
func hasEntries(i int) bool  { return i%2 == 0 }
func isErased(i int) bool    { return i%3 == 0 }

// correctedName is the last name that somebody takes: that of the next person who writes in the
// same script.
func correctedName(people []person, i int) string {
	for offset := 1; offset < len(people); offset++ {
		if other := people[(i+offset)%len(people)]; other.Script == people[i].Script {
			return other.LastName
		}
	}
	return people[i].LastName
}

// run does the job. The first thing that goes wrong ends it.
func run(ctx context.Context, steward *client.Client, people []person, parallel int) ([]outcome, error) {
	outcomes := make([]outcome, len(people))
	each := func(work func(ctx context.Context, i int, one *outcome) error) error {
		return inParallel(ctx, parallel, len(people), func(ctx context.Context, i int) error {
			if err := work(ctx, i, &outcomes[i]); err != nil {
				// the line, not the name: errors end up in logs
				return fmt.Errorf("line %d: %w", i+1, err)
			}
			return nil
		})
	}

	err := each(func(ctx context.Context, i int, one *outcome) error {
		one.person, one.fate = people[i], alive
		if err := enter(ctx, steward, one); err != nil {
			return err
		}
		if isCorrected(i) {
			one.corrects = correctedName(people, i)
			if err := correct(ctx, steward, one); err != nil {
				return err
			}
		}
		if isOptedOut(i) {
			one.optedOut = true
			if _, err := steward.SetUserAlerts(ctx, one.id, false); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := record(ctx, steward, outcomes); err != nil {
		return nil, err
	}
	err = each(func(ctx context.Context, i int, one *outcome) error {
		if !isErased(i) {
			return nil
		}
		return erase(ctx, steward, one)
	})
	return outcomes, err
}

// enter creates somebody, or finds who is there already.
func enter(ctx context.Context, steward *client.Client, one *outcome) error {
	user, err := steward.CreateUser(
		ctx,
		client.NewUser{FirstName: one.FirstName, LastName: one.LastName, Email: one.Email, Role: one.Role},
	)
	switch {
	case err == nil:
		one.created = true
	case client.IsProblem(err, client.ProblemEmailTaken):
		found := false
		if user, found, err = steward.FindUser(ctx, one.Email); err != nil {
			return err
		} else if !found {
			return fmt.Errorf("the address is taken, and nobody has it")
		}
	default:
		return err
	}
	one.id, one.since = user.ID, user.CreatedAt
	return nil
}

// correct changes the last name of the version that it saw. Should somebody else change the user in
// between, it looks again.
func correct(ctx context.Context, steward *client.Client, one *outcome) error {
	for {
		var etag string
		if _, err := steward.GetUser(ctx, one.id, client.StoreETag(&etag)); err != nil {
			return err
		}
		_, err := steward.UpdateUser(ctx, one.id, client.UserPatch{LastName: &one.corrects}, client.IfMatch(etag))
		if !client.IsProblem(err, client.ProblemPreconditionFailed) {
			return err
		}
	}
}

// record writes what people did into the audit trail. The source ids make it safe to do so again.
func record(ctx context.Context, steward *client.Client, outcomes []outcome) error {
	var entries []client.NewAuditEntry
	var actors []int
	for i, one := range outcomes {
		if !hasEntries(i) {
			continue
		}
		for n := range 1 + i%5 {
			entries = append(entries, client.NewAuditEntry{
				ActorUserID: one.id,
				Action:      "product.updated",
				Target:      client.AuditTarget{Type: "product", ID: fmt.Sprintf("%d", 48151600+n)},
				OccurredAt:  one.since.Truncate(time.Second).UTC(),
				SourceID:    fmt.Sprintf("people-%s-%d", one.id, n),
				Details:     map[string]any{"changed": []string{"price", "stock"}, "revision": n},
			})
			actors = append(actors, i)
		}
	}
	results, err := steward.RecordAuditEntries(ctx, entries)
	if err != nil {
		return err
	}
	for row, result := range results.Data {
		switch result.Status {
		case api.AuditEntryResultStatusRefused:
			return fmt.Errorf("an audit entry was refused: %s", result.Problem.Detail)
		case api.AuditEntryResultStatusCreated:
			outcomes[actors[row]].entries++
		}
	}
	return nil
}

// erase deletes somebody if the audit trail stays complete, and redacts otherwise.
func erase(ctx context.Context, steward *client.Client, one *outcome) error {
	plan, err := steward.ErasurePlan(ctx, one.id)
	if err != nil {
		return err
	}
	_, err = steward.DeleteUser(ctx, one.id)
	switch {
	case err == nil:
		one.fate = deleted
	case client.IsProblem(err, client.ProblemAuditTrailIncomplete):
		if _, err := steward.RedactUser(ctx, one.id, client.ReasonLeftEmployment); err != nil {
			return err
		}
		one.fate = redacted
	default:
		return err
	}
	if plan.CanDelete != (one.fate == deleted) {
		return fmt.Errorf(
			"the plan said that deleting is possible: %t; in truth the user is %s",
			plan.CanDelete,
			one.fate,
		)
	}
	return nil
}

// inParallel calls work for 0 to n-1, so many at a time, until one fails.
func inParallel(ctx context.Context, parallel, n int, work func(ctx context.Context, i int) error) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	next := make(chan int)
	var group sync.WaitGroup
	for range parallel {
		group.Go(func() {
			for i := range next {
				if err := work(ctx, i); err != nil {
					fail(err) // the first one counts
				}
			}
		})
	}
	for i := range n {
		select {
		case next <- i:
		case <-ctx.Done():
		}
	}
	close(next)
	group.Wait()
	return context.Cause(ctx)
}

// tally counts what became of people.
type tally struct {
	people, created, found, corrected, optedOut, entries, deleted, redacted, alive int
}

func (t *tally) add(one outcome) {
	t.people++
	t.entries += one.entries
	for count, happened := range map[*int]bool{
		&t.created: one.created, &t.found: !one.created, &t.corrected: one.corrects != "", &t.optedOut: one.optedOut,
		&t.deleted: one.fate == deleted, &t.redacted: one.fate == redacted, &t.alive: one.fate == alive,
	} {
		if happened {
			*count++
		}
	}
}

// summarise prints a table with a row for each script.
func summarise(out io.Writer, outcomes []outcome, took time.Duration) error {
	scripts := map[string]*tally{}
	var names []string
	var all tally
	for _, one := range outcomes {
		if scripts[one.Script] == nil {
			scripts[one.Script] = &tally{}
			names = append(names, one.Script)
		}
		scripts[one.Script].add(one)
		all.add(one)
	}
	slices.Sort(names)
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	row := func(name string, t tally) {
		fmt.Fprintf(
			table,
			"%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t\n",
			name,
			t.people,
			t.created,
			t.found,
			t.corrected,
			t.optedOut,
			t.entries,
			t.deleted,
			t.redacted,
			t.alive,
		)
	}
	fmt.Fprintln(
		table,
		"script\tpeople\tcreated\talready there\tcorrected\topted out\tentries\tdeleted\tredacted\talive\t",
	)
	for _, name := range names {
		row(name, *scripts[name])
	}
	row("all", all)
	if err := table.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "\ndone in %s\n", took.Round(time.Millisecond))
	return err
}
