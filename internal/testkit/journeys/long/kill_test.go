package long

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fusionspim/steward/internal/app"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/testkit/apptest"
	"github.com/fusionspim/steward/internal/testkit/bench/smtpsink"
	"github.com/fusionspim/steward/internal/testkit/journeys/steps"
)

// The program is killed while alerts go out through a mail server that loses and puts off. Another
// goes on: no delivery is lost, none recorded twice, a repeated mail has the id of the first, and
// who left after the crash gets nothing.
func TestKillWhileAlertsAreSent(t *testing.T) {
	t.Parallel()
	const people, alerts = 40, 6
	program := steps.BuildSteward(t)
	sink := steps.NewSink(t, smtpsink.Settings{Fault: func(recipient string, earlier int) smtpsink.Fault {
		switch number := recipient[len("alarmed-")]; {
		case earlier%3 == 1 && number%3 == 0:
			return smtpsink.Drop
		case earlier%3 == 1 && number%3 == 1:
			return smtpsink.Greylist
		}
		return smtpsink.None
	}})
	service := apptest.StartWith(t, func(settings *app.Settings) { settings.Workers = 0 })
	service.Database.Clock.Advance(time.Since(service.Database.Clock.Now())) // that of the program
	conn := service.Database.Superuser(t)
	of := service.Customer(t, "acme")
	all := steps.SeedPeople(t, service, conn, of, principal.User, "alarmed", people)
	steps.Execute(t, conn, "update users set alerts_opted_in = false where role = 'customer' or email = $1", of.User.Email)
	for range alerts {
		service.Call(t, "POST", "/v1/alerts", apptest.As(of.APIKey), apptest.JSON(map[string]any{"severity": "critical", "subject": "It broke", "body": "Twice."})).Want(t, 202)
	}
	process := steps.ServeMailing(t, program, service, "smtp://"+sink.Address()+"?from=steward@steward.test")
	steps.Eventually(t, "every recipient and some mails", func() bool {
		return sink.Count() >= people && steps.Number(t, conn, "select count(*) from alerts where fanned_out_at is null") == 0
	})
	process.Kill(t)
	service.Call(t, "PUT", "/v1/users/"+all[0]+"/alerts", apptest.As(of.APIKey), apptest.JSON(map[string]any{"opted_in": false})).Want(t, 200)
	service.Call(t, "POST", "/v1/users/"+all[1]+"/redaction", apptest.As(of.APIKey)).Want(t, 200)
	before := sink.Count()

	// What the dead program was at is given to others after ten minutes, which is now.
	steps.Execute(t, conn, "update jobs.river_job set state = 'available' where state = 'running'")
	other := apptest.ReplicaWith(t, service.Database, steps.MailInto(t, sink))
	for range 12 {
		other.Database.Clock.Advance(3 * time.Minute)
		if err := other.Alerts.PickUpDue(t.Context()); err != nil {
			t.Fatal(err)
		}
		steps.Settled(t, other)
	}
	if open := steps.Number(t, conn, "select count(*) from alerts where finished_at is null"); open != 0 {
		t.Errorf("%d alerts are not sent", open)
	}
	ids := make(map[string]string) // of messages → who got them
	for _, one := range sink.Mails() {
		if to, known := ids[one.MessageID]; known && to != one.To {
			t.Errorf("one id for %s and %s", to, one.To)
		}
		ids[one.MessageID] = one.To
	}
	perPerson := make(map[string]int)
	for _, to := range ids {
		perPerson[to]++
	}
	sent := steps.Number(t, conn, "select sum(sent) from alerts")
	if wrong := steps.Number(t, conn, "select count(*) from alerts where recipients <> $1 or sent + skipped <> recipients", people); wrong != 0 {
		t.Errorf("%d alerts have lost somebody: %v", wrong, steps.Texts(t, conn, "select concat_ws(' ', recipients, sent, failed, skipped) from alerts"))
	}
	if rows := steps.Number(t, conn, "select count(*) from alert_deliveries where state = 'sent'"); rows > sent || len(ids) < sent {
		t.Errorf("%d deliveries are recorded as sent, %d counted, %d mails came", rows, sent, len(ids))
	}
	if full := steps.Number(t, conn, "select count(*) from audit_entries where action = 'alert.sent'"); full != alerts {
		t.Errorf("%d alerts are told to be sent, of %d", full, alerts)
	}
	left := map[string]bool{"alarmed-0@acme.example": true, "alarmed-1@acme.example": true}
	for to, count := range perPerson {
		if count > alerts {
			t.Errorf("%s got %d different mails", to, count)
		}
	}
	for _, one := range sink.Mails()[before:] {
		if left[one.To] {
			t.Errorf("%s got a mail after opting out", one.To)
		}
	}
}

// account is what the database holds of somebody: whole or redacted, with nothing in between.
type account struct {
	Status                                                             string
	Members, Marks                                                     int // of what only a whole or only a redacted person has
	Sessions, Tokens, Logins, Answers, Entries, Receipts, RedactedActs int
}

var (
	wholeAccount    = account{Status: "active", Members: 7, Sessions: 2, Tokens: 2, Logins: 3, Answers: 1, Entries: 2}
	redactedAccount = account{Status: "redacted", Marks: 3, Entries: 2, Receipts: 1, RedactedActs: 1}
)

// allRemoved is what a receipt counts when it was all done at once: whatever an attempt before it
// had removed already would be missing.
const allRemoved = `[{"store": "profile", "count": 1}, {"store": "login_records", "count": 3}, {"store": "refresh_tokens", "count": 2},
	{"store": "sessions", "count": 2}, {"store": "second_factors", "count": 0}, {"store": "recovery_codes", "count": 0},
	{"store": "password_links", "count": 0}, {"store": "data_subject_requests", "count": 0}, {"store": "request_bundles", "count": 0},
	{"store": "alert_deliveries", "count": 0}, {"store": "alert_digests", "count": 0}, {"store": "user_import_rows", "count": 0},
	{"store": "idempotency_answers", "count": 1}, {"store": "offboarding_bundles", "count": 0}]`

// checkAccounts fails for everybody who is half redacted, and returns who is redacted.
func checkAccounts(t testing.TB, conn *pgx.Conn, people []string) (redacted map[string]bool) {
	t.Helper()
	rows, err := conn.Query(t.Context(), `
		select u.id::text, u.status,
			num_nonnulls(first_name, last_name, email, first_name_key, last_name_key, email_key, password_hash),
			num_nonnulls(u.label, redacted_at, receipt_id),
			(select count(*) from sessions s where s.user_id = u.id),
			(select count(*) from refresh_tokens r join sessions s on s.id = r.session_id where s.user_id = u.id),
			(select count(*) from login_records l where l.user_id = u.id),
			(select count(*) from idempotency_answers i where i.subject_user_id = u.id),
			(select count(*) from audit_entries e where e.actor_user_id = u.id),
			(select count(*) from erasure_receipts r where r.user_id = u.id and r.id = u.receipt_id and r.label = u.label and r.completed_at = u.redacted_at
				and r.removed = $2 and r.kept = '[{"store": "audit_entries", "count": 2, "why": "audit_trail"}, {"store": "suppressed_addresses", "count": 1, "why": "suppression"}]'
				and r.jws is not null),
			(select count(*) from audit_entries e where e.target_id = u.id::text and e.action = 'user.redacted')
		from users u where u.id = any ($1::uuid[])`, people, allRemoved)
	if err != nil {
		t.Fatal(err)
	}
	redacted = make(map[string]bool)
	found := 0
	for rows.Next() {
		var person string
		var a account
		if err := rows.Scan(&person, &a.Status, &a.Members, &a.Marks, &a.Sessions, &a.Tokens, &a.Logins, &a.Answers, &a.Entries, &a.Receipts,
			&a.RedactedActs); err != nil {
			t.Fatal(err)
		}
		found++
		redacted[person] = a == redactedAccount
		if a != wholeAccount && a != redactedAccount {
			t.Errorf("%s is half redacted: %+v", person, a)
		}
	}
	if rows.Err() != nil || found != len(people) {
		t.Fatalf("%d of %d people are there: %v", found, len(people), rows.Err())
	}
	// Nothing without its person either: no receipt, entry or token that is left from an attempt.
	done := 0
	for _, one := range redacted {
		if one {
			done++
		}
	}
	for question, want := range map[string]int{
		"select count(*) from erasure_receipts":                                                 done,
		"select count(*) from audit_entries where action = 'user.redacted'":                     done,
		"select count(*) from refresh_tokens where session_id not in (select id from sessions)": 0,
	} {
		if got := steps.Number(t, conn, question); got != want {
			t.Errorf("%s: %d, want %d", question, got, want)
		}
	}
	return redacted
}

// redaction orders the redaction of somebody, of every second person with an Idempotency-Key.
func redaction(ctx context.Context, base string, of apptest.Customer, person string) (status int, receipt string, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/v1/users/"+person+"/redaction", http.NoBody)
	if err != nil {
		return 0, "", err
	}
	apptest.As(of.APIKey)(request)
	if person[len(person)-1]%2 == 0 {
		request.Header.Set("Idempotency-Key", "redaction-of-"+person)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close() //nolint:errcheck // read to its end or given up
	var body struct{ ID string }
	if err := json.NewDecoder(response.Body).Decode(&body); err != nil {
		return 0, "", err
	}
	return response.StatusCode, body.ID, nil
}

// ledger is what was acknowledged.
type ledger struct {
	mutex    sync.Mutex
	receipts map[string]string
}

// note keeps a receipt, and reports whether another one was given before.
func (l *ledger) note(person, receipt string) (another bool) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	before, known := l.receipts[person]
	l.receipts[person] = receipt
	return known && before != receipt
}

// The program is killed in the middle of redactions, again and again. After each crash everybody is
// whole or redacted, and whatever was acknowledged is there.
func TestKillInTheMiddleOfRedactions(t *testing.T) {
	t.Parallel()
	const people, crashes, workers = 240, 6, 6
	program := steps.BuildSteward(t)
	service := apptest.StartWith(t, func(settings *app.Settings) { settings.Workers = 0 }) // which opens no connections of its own later
	conn := service.Database.Superuser(t)
	of := service.Customer(t, "acme")
	all := steps.SeedAccounts(t, service, conn, of, people)
	killHalfWay(t, program, service, conn, of, all)
	acknowledged := ledger{receipts: make(map[string]string)}
	var cut atomic.Int64 // requests that got no answer: those that a crash hit
	left := slices.Clone(all)
	for round := range crashes + 1 {
		process := steps.Serve(t, program, service)
		last := round == crashes
		killAfter := int64(1 + rand.N(2*people/(crashes+2)))
		killed := make(chan struct{})
		var answered atomic.Int64
		steps.Spread(len(left), workers, func(i int) {
			select {
			case <-killed:
				return
			default:
			}
			status, receipt, err := redaction(t.Context(), process.URL, of, left[i])
			// All of them wait for the lock of one customer, on a slow machine longer than the
			// service lets them.
			for began := time.Now(); err == nil && status == http.StatusServiceUnavailable && time.Since(began) < steps.Patience; {
				status, receipt, err = redaction(t.Context(), process.URL, of, left[i])
			}
			switch {
			case err != nil && last:
				t.Errorf("no answer: %v", err)
			case err != nil:
				cut.Add(1)
			case status != http.StatusOK:
				t.Errorf("redacting answered %d", status)
			default:
				if acknowledged.note(left[i], receipt) {
					t.Errorf("%s has two receipts", left[i])
				}
				if answered.Add(1) == killAfter && !last {
					time.Sleep(rand.N(4 * time.Millisecond)) // so that the others are at any point of their way
					if err := process.Process.Kill(); err != nil {
						t.Error(err)
					}
					close(killed)
				}
			}
		})
		process.Kill(t)
		steps.AwaitNoticed(t, conn)
		redacted := checkAccounts(t, conn, all)
		for person := range acknowledged.receipts {
			if !redacted[person] {
				t.Errorf("%s was acknowledged as redacted and is not", person)
			}
		}
		// Who was acknowledged is done. Who was not is tried again, redacted or not: a repeated
		// order gets the one receipt.
		left = slices.DeleteFunc(left, func(person string) bool { return acknowledged.receipts[person] != "" })
		t.Logf("crash %d after %d answers: %d acknowledged, %d redacted", round, answered.Load(), len(acknowledged.receipts),
			people-countFalse(redacted))
	}
	t.Logf("%d requests were cut off", cut.Load())
	if len(left) != 0 || len(acknowledged.receipts) != people {
		t.Errorf("%d people are left", len(left))
	}
	if cut.Load() == 0 {
		t.Error("no crash hit anything: the test proves nothing")
	}
}

// killHalfWay kills the program when it has removed the sessions of somebody and is about to remove
// the login records, for certain.
func killHalfWay(t *testing.T, program string, service *apptest.Service, conn *pgx.Conn, of apptest.Customer, all []string) {
	t.Helper()
	other := service.Database.Superuser(t)
	process := steps.Serve(t, program, service)
	steps.Execute(t, other, "begin; lock table login_records in share mode")
	answer := steps.Begin(func() error {
		_, _, err := redaction(t.Context(), process.URL, of, all[0])
		return err
	})
	steps.AwaitBlocked(t, conn, 1)
	process.Kill(t)
	if err := <-answer; err == nil {
		t.Error("a redaction was answered that cannot have been done")
	}
	steps.Execute(t, other, "commit")
	steps.AwaitNoticed(t, conn)
	if redacted := countFalse(checkAccounts(t, conn, all)); redacted != len(all) {
		t.Errorf("%d people are redacted after a crash before the end of the first redaction", len(all)-redacted)
	}
}

func countFalse(of map[string]bool) (count int) {
	for _, yes := range of {
		if !yes {
			count++
		}
	}
	return count
}

// The database throws the service out in the middle of redactions, again and again. The service
// says that it cannot answer just now, never that it made a mistake, goes on by itself, and nothing
// is half done.
func TestConnectionsEndInTheMiddleOfRedactions(t *testing.T) {
	t.Parallel()
	const people, workers = 150, 6
	service := apptest.Start(t)
	conn, terminator := service.Database.Superuser(t), service.Database.Superuser(t)
	of := service.Customer(t, "acme")
	all := steps.SeedAccounts(t, service, conn, of, people)
	acknowledged := ledger{receipts: make(map[string]string)}
	var unavailable, terminated atomic.Int64
	progress := make(chan struct{}, people) // the fault comes after every few redactions, so that a slow machine gets on as well
	var ending sync.WaitGroup
	ending.Go(func() {
		for range progress {
			if rand.N(4) > 0 {
				continue
			}
			time.Sleep(rand.N(5 * time.Millisecond)) // so that the others are at any point of their way
			var ended int64
			err := terminator.QueryRow(t.Context(), `select count(pg_terminate_backend(pid)) from pg_stat_activity
				where datname = current_database() and application_name = 'steward'`).Scan(&ended)
			if err != nil {
				t.Error(err)
				return
			}
			terminated.Add(ended)
		}
	})
	steps.Spread(people, workers, func(i int) {
		for began := time.Now(); ; {
			options := []apptest.Option{apptest.As(of.APIKey)}
			if i%2 == 0 {
				options = append(options, apptest.Header("Idempotency-Key", fmt.Sprint("redaction-", i)))
			}
			path := "/v1/users/" + all[i] + "/redaction"
			answer, err := service.Try(t.Context(), "POST", path, options...)
			if err != nil {
				t.Errorf("no answer: %v", err)
				return
			}
			service.Check(t, "POST", path, answer)
			switch {
			case answer.Status == http.StatusOK:
				if acknowledged.note(all[i], answer.Text(t, "id")) {
					t.Errorf("%s has two receipts", all[i])
				}
				progress <- struct{}{}
				return
			case steps.Is(t, answer, http.StatusServiceUnavailable, "service-unavailable") && answer.Header.Get("Retry-After") != "":
				unavailable.Add(1)
			case steps.Is(t, answer, http.StatusConflict, "idempotency-key-in-use") && i%2 == 0:
				// The database has told the service that the connection ends, but has not yet let
				// go of what it held.
			default:
				t.Errorf("redacting answered %d %s", answer.Status, answer.Body)
				return
			}
			if time.Since(began) > steps.Patience {
				t.Errorf("%s could not be redacted in time", all[i])
				return
			}
		}
	})
	close(progress)
	ending.Wait()
	t.Logf("%d connections ended, %d answers of 503", terminated.Load(), unavailable.Load())
	redacted := checkAccounts(t, conn, all)
	if missing := countFalse(redacted); missing != 0 || len(acknowledged.receipts) != people {
		t.Errorf("%d people are not redacted, %d were acknowledged", missing, len(acknowledged.receipts))
	}
	if unavailable.Load() == 0 {
		t.Error("no fault hit anything: the test proves nothing")
	}
}
