package long

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fusionspim/steward/internal/app"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/base/version"
	"github.com/fusionspim/steward/internal/compliance/offboarding"
	"github.com/fusionspim/steward/internal/testkit/apptest"
	"github.com/fusionspim/steward/internal/testkit/journeys/steps"
)

// The program is killed in the middle of deleting a large customer. Another goes on, nothing is
// left, everything is counted once, and the customer beside it has what it had. Memory stays small
// however much there is to be put into the bundle and to be deleted.
func TestKillInTheMiddleOfADeletion(t *testing.T) {
	t.Parallel()
	const people, entries, most = 20_000, 100_000, 256 << 10 // KiB
	program := steps.BuildSteward(t)
	e := apptest.StartWith(t, func(settings *app.Settings) {
		settings.Workers, settings.Mail, settings.OffboardingWait = 0, nil, time.Second
	})
	conn := e.Database.Superuser(t)
	fusions := apptest.Customer{Slug: "fusions", Admin: e.Operators(t)}
	e.Database.Peek(t, "select id from customers where slug = 'fusions'", &fusions.ID)
	first := principal.Principal{Customer: fusions.ID, User: fusions.Admin.ID, Role: principal.Operator}
	second := first
	second.User = e.Person(t, fusions, principal.Operator, "second@fusions.example").ID
	leaving, staying := e.Customer(t, "leaving"), e.Customer(t, "staying")
	e.Database.Clock.Advance(time.Since(e.Database.Clock.Now())) // that of the program
	for _, of := range []apptest.Customer{leaving, staying} {
		count, acts := people, entries
		if of.ID == staying.ID {
			count, acts = 500, 1000
		}
		steps.Execute(t, conn, `
			insert into users (customer_id, id, role, status, first_name, last_name, email, first_name_key, last_name_key, email_key, alerts_opted_in, alerts_set_by, alerts_set_at,
				sessions_since, links_since, version, created_at, updated_at)
			select $1, gen_random_uuid(), 'user', 'active', 'Many', 'People', i || '@many.example', 'many', 'people', i || '@many.example', true, 'creation', now(), now(), now(), 1, now(), now()
			from generate_series(1, $2::int) i`, of.ID.String(), count)
		steps.Execute(t, conn, `
			insert into audit_entries (customer_id, id, source, actor_type, actor_user_id, action, target_type, target_id, changed, occurred_at, recorded_at)
			select $1, gen_random_uuid(), 'integration', 'user', u.id, 'product.updated', 'product', i::text, '{}', now(), now()
			from generate_series(1, $2::int) i join (select id, row_number() over () as at from users where customer_id = $1) u on u.at = i % $3 + 1`, of.ID.String(), acts, count)
	}
	e.Seal(t)
	for _, step := range []func() (offboarding.Offboarding, error){
		func() (offboarding.Offboarding, error) {
			return e.Offboardings.Begin(t.Context(), first, leaving.ID, nil)
		},
		func() (offboarding.Offboarding, error) {
			return e.Offboardings.Approve(t.Context(), second, leaving.ID, version.Condition{}, nil)
		},
	} {
		if _, err := step(); err != nil {
			t.Fatal(err)
		}
	}
	e.Seal(t)
	// The program publishes a checkpoint of each trail in between.
	before, stayed := steps.RowsOf(t, conn, leaving.ID), steps.Number(t, conn, "select count(*) from users where customer_id = $1", staying.ID.String())
	process := steps.Serve(t, program, e)
	steps.Eventually(t, "a deletion in the middle", func() bool {
		return steps.Number(t, conn, "select count(*) from offboardings where coalesce((removed ->> 'audit_entries')::bigint, 0) > 0") == 1
	})
	peak := peakMemory(t, process.Process.Pid)
	process.Kill(t)
	if half := steps.Number(t, conn, "select count(*) from audit_entries where customer_id = $1", leaving.ID.String()); half == 0 || half == entries {
		t.Errorf("it was killed with %d entries left", half)
	}
	steps.Execute(t, conn, "update offboardings set wake_at = now()") // when its lease is over, which is half a minute later
	process = steps.Serve(t, program, e)
	steps.Eventually(t, "the end", func() bool {
		return steps.Number(t, conn, "select count(*) from offboardings where state = 'deleted'") == 1
	})
	peak = max(peak, peakMemory(t, process.Process.Pid))
	t.Logf("at most %d MiB", peak>>10)
	if peak > most {
		t.Errorf("it took %d KiB of memory", peak)
	}
	if left := steps.RowsOf(t, conn, leaving.ID); len(left) > 0 {
		t.Errorf("left is %v", left)
	}
	if after := steps.Number(t, conn, "select count(*) from users where customer_id = $1", staying.ID.String()); after != stayed {
		t.Errorf("another customer had %d people and has %d", stayed, after)
	}
	done, err := e.Offboardings.Newest(t.Context(), leaving.ID)
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range done.Removed {
		if want := before[one.Store]; slices.Contains([]string{"users", "api_keys", "customers", "events"}, one.Store) && one.Count != want || one.Count < want {
			t.Errorf("%s counts %d, and there were %d", one.Store, one.Count, want)
		}
	}
	for info, err := range apptest.BlobsOf(t, e.Database).List(t.Context(), "offboardings/", "") {
		t.Errorf("the store has %q: %v", info.Name, err)
	}
}

// peakMemory is how much memory a process has had at once, in KiB.
func peakMemory(t *testing.T, process int) (kib int) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", process))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		t.Fatal(err)
	}
	return kib
}
