package journeys

import (
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/testkit/apptest"
	"github.com/fusionspim/steward/internal/testkit/journeys/steps"
)

// Both orders of the race, arranged step by step on the service as it is and without the foreign key. The step in the middle is arranged by a lock
// on a table that a delete reaches after it has counted the references.
func TestServiceStandsOnTheForeignKey(t *testing.T) {
	t.Parallel()
	for _, whole := range []bool{true, false} {
		t.Run(fmt.Sprintf("foreign key %v", whole), func(t *testing.T) {
			t.Parallel()
			service := apptest.Start(t)
			watcher, other := service.Database.Superuser(t), service.Database.Superuser(t)
			of := service.Customer(t, "acme")
			people := steps.SeedPeople(t, service, watcher, of, principal.User, "one", 2)
			if !whole {
				steps.Execute(t, watcher, "alter table audit_entries drop constraint audit_entries_actor_user")
			}

			// An entry is under way when the delete arrives.
			steps.Execute(t, other, "begin")
			steps.InsertEntry(t, other, of, people[0])
			deletion := steps.Begin(func() apptest.Answer {
				return steps.At(t, service, "DELETE", "/v1/users/"+people[0], apptest.As(of.APIKey))
			})
			if whole {
				steps.AwaitBlocked(t, watcher, 1)
				steps.Execute(t, other, "commit")
				if steps.JudgeDelete(t, people[0], <-deletion) {
					t.Error("deleted in spite of the entry under way")
				}
			} else {
				(<-deletion).Want(t, http.StatusOK)
				steps.Execute(t, other, "commit")
			}

			// A delete has counted and found nothing when the entry arrives.
			steps.Execute(t, other, "begin; lock table refresh_tokens in share mode")
			deletion = steps.Begin(func() apptest.Answer {
				return steps.At(t, service, "DELETE", "/v1/users/"+people[1], apptest.As(of.APIKey))
			})
			steps.AwaitBlocked(t, watcher, 1)
			recording := steps.Begin(func() apptest.Answer {
				return steps.At(t, service, "POST", "/v1/audit-entries", apptest.As(of.APIKey), apptest.JSON(steps.Entry(people[1], "second")))
			})
			if whole {
				steps.AwaitBlocked(t, watcher, 2)
				steps.Execute(t, other, "commit")
				(<-deletion).Want(t, http.StatusOK)
				(<-recording).WantProblem(t, http.StatusUnprocessableEntity, "unknown-actor")
			} else {
				(<-recording).Want(t, http.StatusCreated)
				steps.Execute(t, other, "commit")
				(<-deletion).Want(t, http.StatusOK)
			}

			want := 0
			if !whole {
				want = 2
			}
			if got := steps.Orphans(t, watcher); got != want {
				t.Errorf("%d entries have lost their actor, want %d", got, want)
			}
		})
	}
}

// removal is a way to take an administrator away.
type removal struct {
	name    string
	request func(person string) (method, path string, body apptest.Option)
}

var removals = []removal{
	{"delete", func(person string) (string, string, apptest.Option) {
		return "DELETE", "/v1/users/" + person, func(*http.Request) {}
	}},
	{"redact", func(person string) (string, string, apptest.Option) {
		return "POST", "/v1/users/" + person + "/redaction", apptest.JSON(struct{}{})
	}},
	{"demote", func(person string) (string, string, apptest.Option) {
		return "PATCH", "/v1/users/" + person, apptest.JSON(map[string]string{"role": "user"})
	}},
	{"disable", func(person string) (string, string, apptest.Option) {
		return "PATCH", "/v1/users/" + person, apptest.JSON(map[string]string{"status": "disabled"})
	}},
}

// Two administrators are all that a customer has, and both are taken away at the same moment, in every combination of ways: one goes, one stays.
func TestLastAdministratorStays(t *testing.T) {
	t.Parallel()
	const rounds = 4
	service := apptest.Start(t)
	conn := service.Database.Superuser(t)
	type game struct {
		of            apptest.Customer
		left, right   string
		first, second removal
	}
	var games []game
	for round := range rounds {
		for _, first := range removals {
			for _, second := range removals {
				of := service.Customer(t, fmt.Sprintf("%s-%s-%d", first.name, second.name, round))
				games = append(games, game{
					of: of, left: of.Admin.ID.String(), right: steps.SeedPeople(t, service, conn, of, principal.Administrator, "second", 1)[0], first: first, second: second,
				})
			}
		}
	}
	var meet steps.Chase
	steps.Spread(len(games), 4, func(i int) {
		one := games[i]
		var left, right apptest.Answer
		send := func(way removal, person string) apptest.Answer {
			method, path, body := way.request(person)
			return steps.At(t, service, method, path, apptest.As(one.of.APIKey), body)
		}
		meet.Run(func() { left = send(one.first, one.left) }, func() { right = send(one.second, one.right) })
		meet.FirstWon(left.Status == http.StatusOK)
		answers := []apptest.Answer{left, right}
		if left.Status != http.StatusOK {
			slices.Reverse(answers)
		}
		if answers[0].Status != http.StatusOK || !steps.Is(t, answers[1], http.StatusConflict, "last-administrator") {
			t.Errorf("%s and %s: %d %s and %d %s", one.first.name, one.second.name, left.Status, left.Body, right.Status, right.Body)
		}
	})
	without := steps.Number(t, conn, `select count(*) from customers c where 1 <> (
		select count(*) from users u where u.customer_id = c.id and role = 'customer' and status = 'active' and password_hash is not null)`)
	if without != 0 {
		t.Errorf("%d of %d customers have another number of administrators than one", without, len(games))
	}
}

// An administrator who was deleted a moment ago is remembered as good for half a second. Whatever is asked in that time is 401 and not done: no act
// without its entry, and no entry without its actor.
func TestDeletedCallerCanDoNothing(t *testing.T) {
	t.Parallel()
	service := apptest.Start(t)
	conn := service.Database.Superuser(t)
	of := service.Customer(t, "acme")
	gone := steps.SeedPeople(t, service, conn, of, principal.Administrator, "gone", 1)[0]
	victim := "/v1/users/" + of.User.ID.String()
	token := apptest.As(service.SignIn(t, of.Slug, apptest.Person{Email: "gone-0@acme.example"}))
	service.Call(t, "GET", "/v1/me", token).Want(t, http.StatusOK) // remembered from here on: the clock stands still
	var keys struct{ Data []struct{ ID string } }
	service.Call(t, "GET", "/v1/api-keys", token).Into(t, &keys)
	service.Call(t, "DELETE", "/v1/users/"+gone, apptest.As(of.APIKey)).Want(t, http.StatusOK)
	const state = `select md5(coalesce((select string_agg(u::text, ';' order by id) from users u), '') || (select string_agg(c::text, ';') from customers c)
		|| (select string_agg(k::text, ';' order by id) from api_keys k) || (select string_agg(e::text, ';' order by id) from audit_entries e))`
	var before, after string
	if err := conn.QueryRow(t.Context(), state).Scan(&before); err != nil {
		t.Fatal(err)
	}

	for _, try := range []struct {
		method, path string
		body         any
	}{
		{"DELETE", victim, nil},
		{"POST", victim + "/redaction", struct{}{}},
		{"PATCH", victim, map[string]string{"first_name": "Other"}},
		{"PATCH", victim, map[string]string{"status": "disabled"}},
		{"PUT", victim + "/alerts", map[string]bool{"opted_in": false}},
		{"POST", "/v1/users", map[string]string{"first_name": "New", "last_name": "Person", "email": "new@acme.example"}},
		{"POST", "/v1/api-keys", map[string]any{"name": "one more", "scopes": []string{"users:read"}}},
		{"DELETE", "/v1/api-keys/" + keys.Data[0].ID, nil},
		{"PATCH", "/v1/customer", map[string]string{"guidance_text": "Ask somebody else."}},
		{"PUT", "/v1/me/alerts", map[string]bool{"opted_in": false}},
		{"PUT", "/v1/me/password", map[string]string{"current_password": apptest.Password, "new_password": "eleven brass kettles under a slow moon"}},
		{"GET", "/v1/me", nil},
	} {
		options := []apptest.Option{token}
		if try.body != nil {
			options = append(options, apptest.JSON(try.body))
		}
		if answer := service.Call(t, try.method, try.path, options...); answer.Status != http.StatusUnauthorized {
			t.Errorf("%s %s: got %d, want 401: %s", try.method, try.path, answer.Status, answer.Body)
		}
	}

	if err := conn.QueryRow(t.Context(), state).Scan(&after); err != nil {
		t.Fatal(err)
	}
	if before != after {
		t.Error("something was changed")
	}
}

const heldOfPerson = `select (select count(*) from sessions where user_id = $1) + (select count(*) from login_records where user_id = $1)
	+ (select count(*) from refresh_tokens where session_id in (select id from sessions where user_id = $1))`

// Both orders of the same, arranged by a lock on the table that both reach in the middle of their transactions.
func TestSignInAndRedactionWaitForEachOther(t *testing.T) {
	t.Parallel()
	service := apptest.Start(t)
	watcher, other := service.Database.Superuser(t), service.Database.Superuser(t)
	of := service.Customer(t, "acme")
	people := steps.SeedPeople(t, service, watcher, of, principal.User, "guest", 2)
	redact := func(i int) func() apptest.Answer {
		return func() apptest.Answer {
			return steps.At(t, service, "POST", "/v1/users/"+people[i]+"/redaction", apptest.As(of.APIKey))
		}
	}
	signIn := func(i int) func() apptest.Answer {
		return func() apptest.Answer { return steps.SignInAs(t, service, of, fmt.Sprintf("guest-%d@acme.example", i)) }
	}
	for i, order := range [][2]func() apptest.Answer{{signIn(0), redact(0)}, {redact(1), signIn(1)}} {
		steps.Execute(t, other, "begin; lock table refresh_tokens in share mode")
		first := steps.Begin(order[0])
		steps.AwaitBlocked(t, watcher, 1)
		second := steps.Begin(order[1])
		steps.AwaitBlocked(t, watcher, 2)
		steps.Execute(t, other, "commit")
		one, two := <-first, <-second
		if i == 0 {
			one.Want(t, http.StatusCreated)
			two.Want(t, http.StatusOK)
		} else {
			one.Want(t, http.StatusOK)
			two.WantProblem(t, http.StatusUnauthorized, "invalid-credentials")
		}
		if left := steps.Number(t, watcher, heldOfPerson, people[i]); left != 0 {
			t.Errorf("order %d: %d rows are left of somebody who is redacted", i, left)
		}
	}
}

// The same request with the same Idempotency-Key, twice at the same moment, makes one person.
func TestSameKeyTwiceAtOnce(t *testing.T) {
	t.Parallel()
	const rounds = 100
	service := apptest.Start(t)
	conn := service.Database.Superuser(t)
	of := service.Customer(t, "acme")
	var meet steps.Chase
	var replayed, inUse atomic.Int64
	steps.Spread(rounds, 4, func(i int) {
		answers := make([]apptest.Answer, 2)
		send := func(which int) func() {
			return func() {
				answers[which] = steps.At(t, service, "POST", "/v1/users", apptest.As(of.APIKey), apptest.Header("Idempotency-Key", fmt.Sprint("round-", i)),
					apptest.JSON(map[string]string{"first_name": "Only", "last_name": "One", "email": fmt.Sprintf("only-%d@acme.example", i)}))
			}
		}
		meet.Run(send(0), send(1))
		first := answers[0].Status == http.StatusCreated && answers[0].Header.Get("Idempotency-Replayed") == ""
		meet.FirstWon(first)
		if !first {
			slices.Reverse(answers)
		}
		made, other := answers[0], answers[1]
		switch {
		case made.Status != http.StatusCreated || made.Header.Get("Idempotency-Replayed") != "":
			t.Errorf("nobody was made: %s and %s", made.Body, other.Body)
		case other.Status == http.StatusCreated && other.Header.Get("Idempotency-Replayed") == "true" && string(other.Body) == string(made.Body):
			replayed.Add(1)
		case steps.Is(t, other, http.StatusConflict, "idempotency-key-in-use") && other.Header.Get("Retry-After") != "":
			inUse.Add(1)
		default:
			t.Errorf("the second: %d %s", other.Status, other.Body)
		}
	})
	t.Logf("%d replayed, %d turned away as in use", replayed.Load(), inUse.Load())
	if made := steps.Number(t, conn, "select count(*) from users where first_name = 'Only'"); made != rounds {
		t.Errorf("%d people were made, want %d", made, rounds)
	}
	if entries := steps.Number(t, conn, "select count(*) from audit_entries where action = 'user.created' and actor_type = 'api_key'"); entries != rounds {
		t.Errorf("%d entries tell of it, want %d", entries, rounds)
	}
}

// Two requests for the same address at the same moment, spelt differently: one person.
func TestSameAddressTwiceAtOnce(t *testing.T) {
	t.Parallel()
	const rounds = 150
	service := apptest.Start(t)
	conn := service.Database.Superuser(t)
	of := service.Customer(t, "acme")
	var meet steps.Chase
	steps.Spread(rounds, 4, func(i int) {
		answers := make([]apptest.Answer, 2)
		send := func(which int, spelling string) func() {
			return func() {
				answers[which] = steps.At(t, service, "POST", "/v1/users", apptest.As(of.APIKey),
					apptest.JSON(map[string]string{"first_name": "Only", "last_name": "One", "email": fmt.Sprintf(spelling, i)}))
			}
		}
		meet.Run(send(0, "only-%d@acme.example"), send(1, "ONLY-%d@Acme.Example"))
		meet.FirstWon(answers[0].Status == http.StatusCreated)
		if answers[0].Status != http.StatusCreated {
			slices.Reverse(answers)
		}
		if answers[0].Status != http.StatusCreated || !steps.Is(t, answers[1], http.StatusConflict, "email-taken") {
			t.Errorf("%d %s and %d %s", answers[0].Status, answers[0].Body, answers[1].Status, answers[1].Body)
		}
	})
	if made := steps.Number(t, conn, "select count(*) from users where first_name = 'Only'"); made != rounds {
		t.Errorf("%d people were made, want %d", made, rounds)
	}
}
