package long

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/testkit/apptest"
	"github.com/fusionspim/steward/internal/testkit/journeys/steps"
)

// tally counts what became of racing pairs.
type tally struct{ pairs, deleted, refused, recorded, unknown, both int }

// raceDeletes lets deletes and entries of the trail meet, each pair on a person of its own, and
// counts. Every answer must be one of the two that its operation may give, and a refusal to delete
// must be true.
func raceDeletes(t *testing.T, service *apptest.Service, conn *pgx.Conn, of apptest.Customer, prefix string, pairs int) tally {
	t.Helper()
	const workers = 4
	people := steps.SeedPeople(t, service, conn, of, principal.User, prefix, pairs)
	var meet steps.Chase
	var mutex sync.Mutex
	found := tally{pairs: pairs}
	steps.Spread(pairs, workers, func(i int) {
		var deletion, recording apptest.Answer
		var body any = steps.Entry(people[i], prefix+"-"+people[i])
		options := []apptest.Option{apptest.As(of.APIKey)}
		switch i % 3 {
		case 1: // among others
			body = []any{body, steps.Entry(of.User.ID.String(), prefix+"-beside-"+people[i])}
		case 2: // in one transaction with a remembered answer
			options = append(options, apptest.Header("Idempotency-Key", people[i]))
		}
		meet.Run(
			func() { deletion = steps.At(t, service, "DELETE", "/v1/users/"+people[i], apptest.As(of.APIKey)) },
			func() {
				recording = steps.At(t, service, "POST", "/v1/audit-entries", append(options, apptest.JSON(body))...)
			},
		)
		deleted, recorded := steps.JudgeDelete(t, people[i], deletion), judgeEntry(t, i%3 == 1, recording)
		meet.FirstWon(deleted)
		mutex.Lock()
		defer mutex.Unlock()
		count(&found.deleted, &found.refused, deleted)
		count(&found.recorded, &found.unknown, recorded)
		if deleted && recorded {
			found.both++
		}
		if !deleted && !recorded {
			t.Errorf("neither was done: %s and %s", deletion.Body, recording.Body)
		}
	})
	return found
}

func count(yes, no *int, which bool) {
	if which {
		*yes++
	} else {
		*no++
	}
}

// judgeEntry reports whether the entry was stored.
func judgeEntry(t *testing.T, batch bool, answer apptest.Answer) bool {
	t.Helper()
	if !batch {
		if answer.Status != http.StatusCreated && !steps.Is(t, answer, http.StatusUnprocessableEntity, "unknown-actor") {
			t.Errorf("not an answer to an entry: %d %s", answer.Status, answer.Body)
		}
		return answer.Status == http.StatusCreated
	}
	var results struct {
		Data []struct {
			Status  string
			Problem struct{ Type string }
		}
	}
	answer.Into(t, &results)
	if len(results.Data) != 2 || results.Data[1].Status != "created" ||
		results.Data[0].Status != "created" && results.Data[0].Problem.Type != "/problems/unknown-actor" {
		t.Errorf("not an answer to a batch: %d %s", answer.Status, answer.Body)
		return false
	}
	return results.Data[0].Status == "created"
}

// The promise of the trail: a delete and a reference that meet never leave an entry whose actor is
// gone, and each is answered truthfully.
func TestDeleteAndReferenceMeet(t *testing.T) {
	t.Parallel()
	const pairs = 600
	service := apptest.Start(t)
	conn := service.Database.Superuser(t)
	of := service.Customer(t, "acme")
	found := raceDeletes(t, service, conn, of, "met", pairs)
	t.Logf("%+v", found)

	if found.both != 0 {
		t.Errorf("%d people were deleted although an entry that names them was stored", found.both)
	}
	if left := steps.Orphans(t, conn); left != 0 {
		t.Errorf("%d entries have lost their actor", left)
	}
	if found.deleted == 0 || found.refused == 0 {
		t.Errorf("the two never met: %+v", found)
	}
	if there := steps.Number(t, conn, "select count(*) from users where email like 'met-%'"); there != found.refused {
		t.Errorf("%d people are there, but %d deletes were refused", there, found.refused)
	}
	if there := steps.Number(t, conn, "select count(*) from audit_entries where actor_user_id <> $1", of.User.ID.String()); there != found.recorded {
		t.Errorf("%d entries are there, but %d were acknowledged", there, found.recorded)
	}
	for question, want := range map[string]int{
		"select count(*) from erasure_receipts":                              found.deleted,
		"select count(*) from audit_entries where action = 'user.deleted'":   found.deleted,
		"select count(*) from audit_entries where source_id like '%beside%'": pairs / 3,
	} {
		if got := steps.Number(t, conn, question); got != want {
			t.Errorf("%s: %d, want %d", question, got, want)
		}
	}
}

// The same race on the same service finds lost actors as soon as the foreign key is gone: the proof
// above is one.
func TestDeleteAndReferenceMeetWithoutForeignKey(t *testing.T) {
	t.Parallel()
	service := apptest.Start(t)
	conn := service.Database.Superuser(t)
	of := service.Customer(t, "acme")
	steps.Execute(t, conn, "alter table audit_entries drop constraint audit_entries_actor_user")
	for round := range 20 {
		found := raceDeletes(t, service, conn, of, fmt.Sprint("bare", round), 120)
		left := steps.Orphans(t, conn)
		t.Logf("%+v: %d orphans", found, left)
		if left > 0 {
			return
		}
	}
	t.Error("without the foreign key no entry lost its actor: the race proves nothing")
}

// protection is what stands between a delete and a reference.
type protection struct{ foreignKey, lock bool }

func (p protection) String() string {
	return fmt.Sprintf("foreign key %v, lock %v", p.foreignKey, p.lock)
}

// verdict is what became of a delete.
type verdict string

const (
	done        verdict = "deleted"
	explained   verdict = "refused with the references counted"
	unexplained verdict = "refused by the foreign key although none was counted"
)

// check is the first half of a delete as the service does it: hold the row, if that is on, and
// count in a statement of its own.
func (p protection) check(ctx context.Context, conn *pgx.Conn, customer, person string) (references int, err error) {
	if _, err := conn.Exec(ctx, "begin"); err != nil {
		return 0, err
	}
	if p.lock {
		if _, err := conn.Exec(ctx, "select from users where customer_id = $1 and id = $2 for update", customer, person); err != nil {
			return 0, err
		}
	}
	err = conn.QueryRow(ctx, "select count(*) from audit_entries where customer_id = $1 and actor_user_id = $2", customer, person).Scan(&references)
	return references, err
}

// finish is the second half.
func (p protection) finish(ctx context.Context, conn *pgx.Conn, customer, person string, references int) (verdict, error) {
	if references > 0 {
		_, err := conn.Exec(ctx, "rollback")
		return explained, err
	}
	_, err := conn.Exec(ctx, "delete from users where customer_id = $1 and id = $2", customer, person)
	if violatesForeignKey(err) {
		_, err := conn.Exec(ctx, "rollback")
		return unexplained, err
	}
	if err != nil {
		return "", err
	}
	_, err = conn.Exec(ctx, "commit")
	return done, err
}

func violatesForeignKey(err error) bool {
	var reported *pgconn.PgError
	return errors.As(err, &reported) && reported.Code == "23503" && reported.ConstraintName == "audit_entries_actor_user"
}

// What the foreign key does and what the lock does, statement by statement: the key alone loses no
// actor but refuses what it cannot explain, the lock alone holds nothing up, since a plain insert
// asks for no lock unless a foreign key makes it. The service has both.
func TestForeignKeyAndLockAreBothNeeded(t *testing.T) {
	t.Parallel()
	type outcome struct {
		deletion verdict
		recorded bool
		orphans  int
	}
	for _, c := range []struct {
		protection
		entryFirst, deleteFirst outcome
	}{
		{protection{true, true}, outcome{explained, true, 0}, outcome{done, false, 0}},
		{protection{true, false}, outcome{unexplained, true, 0}, outcome{unexplained, true, 0}},
		{protection{false, true}, outcome{done, true, 1}, outcome{done, true, 1}},
		{protection{false, false}, outcome{done, true, 1}, outcome{done, true, 1}},
	} {
		t.Run(c.String(), func(t *testing.T) {
			t.Parallel()
			service := apptest.Start(t)
			deleter, recorder, watcher := service.Database.Superuser(t), service.Database.Superuser(t), service.Database.Superuser(t)
			of := service.Customer(t, "acme")
			customer := of.ID.String()
			people := steps.SeedPeople(t, service, watcher, of, principal.User, "one", 2)
			if !c.foreignKey {
				steps.Execute(t, watcher, "alter table audit_entries drop constraint audit_entries_actor_user")
			}

			// The entry is stored but not committed when the delete begins; it commits when the
			// delete waits for it or is through.
			steps.Execute(t, recorder, "begin")
			steps.InsertEntry(t, recorder, of, people[0])
			deletion := steps.Begin(func() verdict {
				references, err := c.check(t.Context(), deleter, customer, people[0])
				if err != nil {
					t.Error(err)
				}
				reached, err := c.finish(t.Context(), deleter, customer, people[0], references)
				if err != nil {
					t.Error(err)
				}
				return reached
			})
			endedOrBlocked(t, watcher, deleter, deletion)
			steps.Execute(t, recorder, "commit")
			got := outcome{deletion: <-deletion, recorded: true, orphans: steps.Orphans(t, watcher)}
			if got != c.entryFirst {
				t.Errorf("the entry first: %+v, want %+v", got, c.entryFirst)
			}

			// The delete has counted when the entry arrives; it goes on when the entry waits for it
			// or is through.
			before := steps.Orphans(t, watcher)
			references, err := c.check(t.Context(), deleter, customer, people[1])
			if err != nil {
				t.Fatal(err)
			}
			recording := steps.Begin(func() bool {
				err := steps.TryEntry(t.Context(), recorder, customer, people[1])
				if err != nil && !violatesForeignKey(err) {
					t.Error(err)
				}
				return err == nil
			})
			endedOrBlocked(t, watcher, recorder, recording)
			got = outcome{}
			if got.deletion, err = c.finish(t.Context(), deleter, customer, people[1], references); err != nil {
				t.Fatal(err)
			}
			got.recorded, got.orphans = <-recording, steps.Orphans(t, watcher)-before
			if got != c.deleteFirst {
				t.Errorf("the delete first: %+v, want %+v", got, c.deleteFirst)
			}
		})
	}
}

// endedOrBlocked waits until the work of a connection has ended or waits for another connection.
func endedOrBlocked[T any](t testing.TB, watcher, worker *pgx.Conn, work <-chan T) {
	t.Helper()
	steps.Await(t, "the other connection ends or waits", func() bool {
		return len(work) > 0 || steps.Number(t, watcher, "select cardinality(pg_blocking_pids($1))", int(worker.PgConn().PID())) > 0
	})
}

// The four protections again, in a race without any arrangement.
func TestRaceAgainstEachProtection(t *testing.T) {
	t.Parallel()
	const pairs, rounds = 150, 20
	for _, p := range []protection{{true, true}, {true, false}, {false, true}, {false, false}} {
		t.Run(p.String(), func(t *testing.T) {
			t.Parallel()
			service := apptest.Start(t)
			deleter, recorder, watcher := service.Database.Superuser(t), service.Database.Superuser(t), service.Database.Superuser(t)
			of := service.Customer(t, "acme")
			customer := of.ID.String()
			if !p.foreignKey {
				steps.Execute(t, watcher, "alter table audit_entries drop constraint audit_entries_actor_user")
			}
			found := make(map[verdict]int)
			var meet steps.Chase
			for round := range rounds {
				for _, person := range steps.SeedPeople(t, service, watcher, of, principal.User, fmt.Sprint("pair", round), pairs) {
					var reached verdict
					meet.Run(
						func() {
							references, err := p.check(t.Context(), deleter, customer, person)
							if err == nil {
								reached, err = p.finish(t.Context(), deleter, customer, person, references)
							}
							if err != nil {
								t.Error(err)
							}
						},
						func() {
							if err := steps.TryEntry(t.Context(), recorder, customer, person); err != nil && !violatesForeignKey(err) {
								t.Error(err)
							}
						},
					)
					found[reached]++
					meet.FirstWon(reached == done)
				}
				// A protection that lacks something shows it sooner or later; usually in the first
				// round.
				if p == (protection{true, true}) || steps.Orphans(t, watcher)+found[unexplained] > 0 {
					break
				}
			}
			left := steps.Orphans(t, watcher)
			t.Logf("%v: %d orphans, %v", p, left, found)
			switch p {
			case protection{true, true}:
				if left != 0 || found[unexplained] != 0 || found[done] == 0 || found[explained] == 0 {
					t.Errorf("%d orphans, %v", left, found)
				}
			case protection{true, false}:
				if left != 0 || found[unexplained] == 0 {
					t.Errorf("%d orphans, want none, and refusals that nobody can explain: %v", left, found)
				}
			default:
				if left == 0 {
					t.Error("no orphans: the race proves nothing")
				}
			}
		})
	}
}

// Two administrators delete each other. Neither may end up gone by the hand of somebody who was not
// there any more.
func TestAdministratorsDeleteEachOther(t *testing.T) {
	t.Parallel()
	const rounds = 25
	service := apptest.Start(t)
	conn := service.Database.Superuser(t)
	var meet steps.Chase
	for round := range rounds {
		of := service.Customer(t, fmt.Sprint("duel-", round))
		people := steps.SeedPeople(t, service, conn, of, principal.Administrator, "admin", 3) // with the one of the customer: neither is the last
		tokens := make([]apptest.Credential, 2)
		for i := range tokens {
			tokens[i] = service.SignIn(t, of.Slug, apptest.Person{Email: fmt.Sprintf("admin-%d@%s.example", i, of.Slug)})
		}
		var left, right apptest.Answer
		meet.Run(
			func() { left = steps.At(t, service, "DELETE", "/v1/users/"+people[1], apptest.As(tokens[0])) },
			func() { right = steps.At(t, service, "DELETE", "/v1/users/"+people[0], apptest.As(tokens[1])) },
		)
		meet.FirstWon(left.Status == http.StatusOK)
		answers := []apptest.Answer{left, right}
		if left.Status != http.StatusOK {
			slices.Reverse(answers)
		}
		// The one who lost is gone and so not good any more, or finds that the winner has acted and
		// is named in the trail by now.
		lost := answers[1]
		if answers[0].Status != http.StatusOK || lost.Status != http.StatusUnauthorized && !steps.Is(t, lost, http.StatusConflict, "audit-trail-incomplete") {
			t.Errorf("%d %s and %d %s", left.Status, left.Body, right.Status, right.Body)
		}
	}
	if left := steps.Orphans(t, conn); left != 0 {
		t.Errorf("%d entries have lost their actor", left)
	}
}

// A sign-in and a redaction at the same moment: whoever comes first, nothing of the account is left
// behind.
func TestSignInMeetsRedaction(t *testing.T) {
	t.Parallel()
	const rounds = 120
	service := apptest.Start(t)
	conn := service.Database.Superuser(t)
	of := service.Customer(t, "acme")
	people := steps.SeedPeople(t, service, conn, of, principal.User, "guest", rounds)
	var signedIn atomic.Int64
	var meet steps.Chase
	steps.Spread(rounds, 4, func(i int) {
		var redaction, session apptest.Answer
		meet.Run(
			func() {
				redaction = steps.At(t, service, "POST", "/v1/users/"+people[i]+"/redaction", apptest.As(of.APIKey))
			},
			func() { session = steps.SignInAs(t, service, of, fmt.Sprintf("guest-%d@acme.example", i)) },
		)
		refused := steps.Is(t, session, http.StatusUnauthorized, "invalid-credentials")
		meet.FirstWon(refused)
		if redaction.Status != http.StatusOK || !refused && session.Status != http.StatusCreated {
			t.Errorf("%d %s and %d %s", redaction.Status, redaction.Body, session.Status, session.Body)
		}
		if !refused {
			signedIn.Add(1)
		}
	})
	t.Logf("%d of %d signed in before they were redacted", signedIn.Load(), rounds)
	for _, store := range []string{"sessions", "login_records", "refresh_tokens"} {
		if left := steps.Number(t, conn, "select count(*) from "+store); left != 0 {
			t.Errorf("%d rows of %s are left of people who are redacted", left, store)
		}
	}
	if got := steps.Number(t, conn, "select count(*) from users where status = 'redacted'"); got != rounds {
		t.Errorf("%d are redacted, want %d", got, rounds)
	}
}

// A refresh and a redaction at the same moment leave nothing behind either, and do not wait for
// each other in a circle.
func TestRefreshMeetsRedaction(t *testing.T) {
	t.Parallel()
	const rounds = 100
	service := apptest.Start(t)
	conn := service.Database.Superuser(t)
	of := service.Customer(t, "acme")
	people := steps.SeedPeople(t, service, conn, of, principal.User, "guest", rounds)
	var meet steps.Chase
	steps.Spread(rounds, 4, func(i int) {
		session := steps.SignInAs(t, service, of, fmt.Sprintf("guest-%d@acme.example", i))
		if session.Status != http.StatusCreated {
			t.Errorf("no session: %s", session.Body)
			return
		}
		token := map[string]string{"refresh_token": session.Text(t, "refresh_token")}
		var redaction, refresh apptest.Answer
		meet.Run(
			func() {
				redaction = steps.At(t, service, "POST", "/v1/users/"+people[i]+"/redaction", apptest.As(of.APIKey))
			},
			func() { refresh = steps.At(t, service, "POST", "/v1/sessions/refresh", apptest.JSON(token)) },
		)
		refused := steps.Is(t, refresh, http.StatusUnauthorized, "unauthorized")
		meet.FirstWon(refused)
		if redaction.Status != http.StatusOK || !refused && refresh.Status != http.StatusOK {
			t.Errorf("%d %s and %d %s", redaction.Status, redaction.Body, refresh.Status, refresh.Body)
		}
	})
	for _, store := range []string{"sessions", "login_records", "refresh_tokens"} {
		if left := steps.Number(t, conn, "select count(*) from "+store); left != 0 {
			t.Errorf("%d rows of %s are left of people who are redacted", left, store)
		}
	}
}

// A correction and a redaction at the same moment: the correction is carried out before or refused
// after, and nobody comes back.
func TestCorrectionMeetsRedaction(t *testing.T) {
	t.Parallel()
	const rounds = 200
	service := apptest.Start(t)
	conn := service.Database.Superuser(t)
	of := service.Customer(t, "acme")
	people := steps.SeedPeople(t, service, conn, of, principal.User, "guest", rounds)
	corrections := []struct {
		method, path string
		body         any
	}{
		{"PATCH", "", map[string]string{"first_name": "Late", "email": "late-%d@acme.example"}},
		{"PATCH", "", map[string]string{"status": "disabled", "last_name": "Late"}},
		{"PUT", "/alerts", map[string]bool{"opted_in": true}},
	}
	var meet steps.Chase
	steps.Spread(rounds, 4, func(i int) {
		late := corrections[i%len(corrections)]
		if words, ok := late.body.(map[string]string); ok && words["email"] != "" {
			late.body = map[string]string{"first_name": "Late", "email": strings.Replace(words["email"], "%d", fmt.Sprint(i), 1)}
		}
		path := "/v1/users/" + people[i]
		var redaction, correction apptest.Answer
		meet.Run(
			func() { redaction = steps.At(t, service, "POST", path+"/redaction", apptest.As(of.APIKey)) },
			func() {
				correction = steps.At(t, service, late.method, path+late.path, apptest.As(of.APIKey), apptest.JSON(late.body))
			},
		)
		refused := steps.Is(t, correction, http.StatusConflict, "user-redacted")
		meet.FirstWon(refused)
		if redaction.Status != http.StatusOK || !refused && correction.Status != http.StatusOK {
			t.Errorf("%d %s and %d %s", redaction.Status, redaction.Body, correction.Status, correction.Body)
		}
		if refused && !strings.HasPrefix(correction.Text(t, "receipt"), "/v1/erasure-receipts/") {
			t.Errorf("the refusal names no receipt: %s", correction.Body)
		}
	})
	whole := steps.Number(t, conn, `select count(*) from users where email like 'guest-%' or email like 'late-%' or first_name = 'Late' or last_name = 'Late'`)
	gone := steps.Number(t, conn, "select count(*) from users where status = 'redacted' and not alerts_opted_in and label is not null")
	if whole != 0 || gone != rounds {
		t.Errorf("%d have come back and %d are redacted, want %d", whole, gone, rounds)
	}
}
