package journeys

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/crypto/argon2"

	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/testkit/apptest"
)

// How long a condition that is about to come true is waited for. It is a bound for a machine in trouble; the usual is a few milliseconds.
const patience = 2 * time.Minute

// cheapHash is a hash of the password that costs nearly nothing to verify, for tests in which many sign in. The service never makes one like it.
func cheapHash(password string) string {
	salt := []byte("salt for tests.." /* 16 bytes */)
	key := argon2.IDKey([]byte(password), salt, 1, 8, 1, 32)
	return "$argon2id$v=19$m=8,t=1,p=1$" + base64.RawStdEncoding.EncodeToString(salt) + "$" + base64.RawStdEncoding.EncodeToString(key)
}

// seedPeople makes many people at once, past the service, and returns their ids. Their password is apptest.Password.
func seedPeople(t testing.TB, service *apptest.Service, conn *pgx.Conn, of apptest.Customer, role principal.Role, prefix string, count int) []string {
	t.Helper()
	ids, emails := make([]string, count), make([]string, count)
	for i := range ids {
		ids[i], emails[i] = id.New[id.User]().String(), fmt.Sprintf("%s-%d@%s.example", prefix, i, of.Slug)
	}
	execute(t, conn, `
		insert into users (customer_id, id, role, status, first_name, last_name, email, first_name_key, last_name_key, email_key, password_hash,
			alerts_opted_in, alerts_set_by, alerts_set_at, sessions_since, links_since, version, created_at, updated_at)
		select $1, one.id, $2, 'active', 'First', 'Last', one.email, 'first', 'last', one.email, $3, true, 'creation', $4, $4, $4, 1, $4, $4
		from unnest($5::uuid[], $6::text[]) as one (id, email)`,
		of.ID.String(), string(role), cheapHash(apptest.Password), service.Database.Clock.Now(), ids, emails)
	return ids
}

func execute(t testing.TB, conn *pgx.Conn, statement string, arguments ...any) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), statement, arguments...); err != nil {
		t.Fatalf("%v, of: %s", err, statement)
	}
}

// number asks the database for one number.
func number(t testing.TB, conn *pgx.Conn, question string, arguments ...any) (answer int) {
	t.Helper()
	if err := conn.QueryRow(t.Context(), question, arguments...).Scan(&answer); err != nil {
		t.Fatalf("%v, of: %s", err, question)
	}
	return answer
}

// orphans counts the entries of the trail whose actor is gone.
func orphans(t testing.TB, conn *pgx.Conn) int {
	t.Helper()
	return number(t, conn, `
		select count(*) from audit_entries e
		where actor_user_id is not null and not exists (select from users u where u.customer_id = e.customer_id and u.id = e.actor_user_id)`)
}

// await waits until a condition holds.
func await(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for began := time.Now(); !holds(); time.Sleep(time.Millisecond) {
		if time.Since(began) > patience {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// awaitBlocked waits until so many connections of the service wait for a lock.
func awaitBlocked(t testing.TB, watcher *pgx.Conn, count int) {
	t.Helper()
	await(t, fmt.Sprintf("%d connections of the service wait for a lock", count), func() bool {
		return number(t, watcher, `select count(*) from pg_stat_activity
			where datname = current_database() and application_name in ('steward', 'steward-served') and cardinality(pg_blocking_pids(pid)) > 0`) == count
	})
}

// chase makes two things meet. Whichever won the last time starts a little later the next time, so that the two are kept at the moment at which
// either may win, on a fast machine as on a slow one.
type chase struct {
	mutex sync.Mutex
	lead  time.Duration // how much later the second one starts; negative: how much earlier
}

// run does both at about the same moment and waits for both.
func (c *chase) run(first, second func()) {
	c.mutex.Lock()
	lead := c.lead + rand.N(300*time.Microsecond) - 150*time.Microsecond
	c.mutex.Unlock()
	var both sync.WaitGroup
	gate := make(chan struct{})
	both.Go(func() { <-gate; time.Sleep(-lead); first() })
	both.Go(func() { <-gate; time.Sleep(lead); second() })
	close(gate)
	both.Wait()
}

func (c *chase) firstWon(won bool) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	step := 60 * time.Microsecond
	if won {
		step = -step
	}
	c.lead = min(max(c.lead+step, -20*time.Millisecond), 20*time.Millisecond)
}

// spread does something count times with some workers.
func spread(count, workers int, do func(i int)) {
	var next atomic.Int64
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for i := next.Add(1) - 1; i < int64(count); i = next.Add(1) - 1 {
				do(int(i))
			}
		})
	}
	all.Wait()
}

// at calls an operation in a goroutine of a test, holds the answer against the contract, and fails the test for every answer of 500 and above. A machine that has too much to do makes
// the service ask for patience (503), and then the call is made again, as clients do.
func at(t testing.TB, service *apptest.Service, method, path string, options ...apptest.Option) apptest.Answer {
	t.Helper()
	for began := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		answer, err := service.Try(t.Context(), method, path, options...)
		if err != nil {
			t.Errorf("%s %s: %v", method, path, err)
			return answer
		}
		service.Check(t, method, path, answer)
		if answer.Status == http.StatusServiceUnavailable && time.Since(began) < patience {
			continue
		}
		if answer.Status >= http.StatusInternalServerError {
			t.Errorf("%s %s: %d %s", method, path, answer.Status, answer.Body)
		}
		return answer
	}
}

// is tells whether the answer is the problem.
func is(t testing.TB, answer apptest.Answer, status int, slug string) bool {
	t.Helper()
	if answer.Status != status {
		return false
	}
	var problem struct{ Type string }
	answer.Into(t, &problem)
	return problem.Type == "/problems/"+slug
}

func entry(actor, sourceID string) map[string]any {
	return map[string]any{
		"actor_user_id": actor, "action": "product.updated", "target": map[string]string{"type": "product", "id": "4711"},
		"occurred_at": "2026-03-01T11:00:00Z", "source_id": sourceID, "details": map[string]any{"revision": 7},
	}
}

// tally counts what became of racing pairs.
type tally struct{ pairs, deleted, refused, recorded, unknown, both int }

// raceDeletes lets deletes and entries of the trail meet, each pair on a person of its own, and counts. Every answer must be one of the two
// that its operation may give, and a refusal to delete must be true.
func raceDeletes(t *testing.T, service *apptest.Service, conn *pgx.Conn, of apptest.Customer, prefix string, pairs int) tally {
	t.Helper()
	const workers = 4
	people := seedPeople(t, service, conn, of, principal.User, prefix, pairs)
	var meet chase
	var mutex sync.Mutex
	found := tally{pairs: pairs}
	spread(pairs, workers, func(i int) {
		var deletion, recording apptest.Answer
		var body any = entry(people[i], prefix+"-"+people[i])
		options := []apptest.Option{apptest.As(of.APIKey)}
		switch i % 3 {
		case 1: // among others
			body = []any{body, entry(of.User.ID.String(), prefix+"-beside-"+people[i])}
		case 2: // in one transaction with a remembered answer
			options = append(options, apptest.Header("Idempotency-Key", people[i]))
		}
		meet.run(
			func() { deletion = at(t, service, "DELETE", "/v1/users/"+people[i], apptest.As(of.APIKey)) },
			func() {
				recording = at(t, service, "POST", "/v1/audit-entries", append(options, apptest.JSON(body))...)
			},
		)
		deleted, recorded := judgeDelete(t, people[i], deletion), judgeEntry(t, i%3 == 1, recording)
		meet.firstWon(deleted)
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

// judgeDelete tells whether the person was deleted. A refusal must say how many entries there are, from when to when, and what to do instead.
func judgeDelete(t *testing.T, person string, answer apptest.Answer) bool {
	t.Helper()
	if answer.Status == http.StatusOK {
		return true
	}
	var problem struct {
		References []struct {
			Source  string
			Count   int
			FirstAt time.Time `json:"first_at"`
			LastAt  time.Time `json:"last_at"`
		}
		Redaction string
	}
	answer.Into(t, &problem)
	occurred := time.Date(2026, time.March, 1, 11, 0, 0, 0, time.UTC)
	if !is(t, answer, http.StatusConflict, "audit-trail-incomplete") || len(problem.References) != 1 || problem.References[0].Source != "integration" ||
		problem.References[0].Count != 1 || !problem.References[0].FirstAt.Equal(occurred) || !problem.References[0].LastAt.Equal(occurred) ||
		problem.Redaction != "/v1/users/"+person+"/redaction" {
		t.Errorf("not an answer to a delete, or not a true one: %d %s", answer.Status, answer.Body)
	}
	return false
}

// judgeEntry tells whether the entry was stored.
func judgeEntry(t *testing.T, batch bool, answer apptest.Answer) bool {
	t.Helper()
	if !batch {
		if answer.Status != http.StatusCreated && !is(t, answer, http.StatusUnprocessableEntity, "unknown-actor") {
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

// The promise of the trail: a delete and a reference that meet never leave an entry whose actor is gone, and each is answered truthfully.
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
	if left := orphans(t, conn); left != 0 {
		t.Errorf("%d entries have lost their actor", left)
	}
	if found.deleted == 0 || found.refused == 0 {
		t.Errorf("the two never met: %+v", found)
	}
	if there := number(t, conn, "select count(*) from users where email like 'met-%'"); there != found.refused {
		t.Errorf("%d people are there, but %d deletes were refused", there, found.refused)
	}
	if there := number(t, conn, "select count(*) from audit_entries where actor_user_id <> $1", of.User.ID.String()); there != found.recorded {
		t.Errorf("%d entries are there, but %d were acknowledged", there, found.recorded)
	}
	for question, want := range map[string]int{
		"select count(*) from erasure_receipts":                              found.deleted,
		"select count(*) from audit_entries where action = 'user.deleted'":   found.deleted,
		"select count(*) from audit_entries where source_id like '%beside%'": pairs / 3,
	} {
		if got := number(t, conn, question); got != want {
			t.Errorf("%s: %d, want %d", question, got, want)
		}
	}
}

// The same race on the same service finds lost actors as soon as the foreign key is gone: the proof above is one.
func TestDeleteAndReferenceMeetWithoutForeignKey(t *testing.T) {
	t.Parallel()
	service := apptest.Start(t)
	conn := service.Database.Superuser(t)
	of := service.Customer(t, "acme")
	execute(t, conn, "alter table audit_entries drop constraint audit_entries_actor_user")
	for round := range 20 {
		found := raceDeletes(t, service, conn, of, fmt.Sprint("bare", round), 120)
		left := orphans(t, conn)
		t.Logf("%+v: %d orphans", found, left)
		if left > 0 {
			return
		}
	}
	t.Error("without the foreign key no entry lost its actor: the race proves nothing")
}

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
			people := seedPeople(t, service, watcher, of, principal.User, "one", 2)
			if !whole {
				execute(t, watcher, "alter table audit_entries drop constraint audit_entries_actor_user")
			}

			// An entry is under way when the delete arrives.
			execute(t, other, "begin")
			insertEntry(t, other, of, people[0])
			deletion := begin(func() apptest.Answer { return at(t, service, "DELETE", "/v1/users/"+people[0], apptest.As(of.APIKey)) })
			if whole {
				awaitBlocked(t, watcher, 1)
				execute(t, other, "commit")
				if judgeDelete(t, people[0], <-deletion) {
					t.Error("deleted in spite of the entry under way")
				}
			} else {
				(<-deletion).Want(t, http.StatusOK)
				execute(t, other, "commit")
			}

			// A delete has counted and found nothing when the entry arrives.
			execute(t, other, "begin; lock table refresh_tokens in share mode")
			deletion = begin(func() apptest.Answer { return at(t, service, "DELETE", "/v1/users/"+people[1], apptest.As(of.APIKey)) })
			awaitBlocked(t, watcher, 1)
			recording := begin(func() apptest.Answer {
				return at(t, service, "POST", "/v1/audit-entries", apptest.As(of.APIKey), apptest.JSON(entry(people[1], "second")))
			})
			if whole {
				awaitBlocked(t, watcher, 2)
				execute(t, other, "commit")
				(<-deletion).Want(t, http.StatusOK)
				(<-recording).WantProblem(t, http.StatusUnprocessableEntity, "unknown-actor")
			} else {
				(<-recording).Want(t, http.StatusCreated)
				execute(t, other, "commit")
				(<-deletion).Want(t, http.StatusOK)
			}

			want := 0
			if !whole {
				want = 2
			}
			if got := orphans(t, watcher); got != want {
				t.Errorf("%d entries have lost their actor, want %d", got, want)
			}
		})
	}
}

// begin does something in the background; its result can be waited for.
func begin[T any](do func() T) <-chan T {
	result := make(chan T, 1)
	go func() { result <- do() }()
	return result
}

func insertEntry(t testing.TB, conn *pgx.Conn, of apptest.Customer, actor string) {
	t.Helper()
	if err := tryEntry(t.Context(), conn, of.ID.String(), actor); err != nil {
		t.Fatal(err)
	}
}

func tryEntry(ctx context.Context, conn *pgx.Conn, customer, actor string) error {
	_, err := conn.Exec(ctx, `
		insert into audit_entries (customer_id, id, source, actor_type, actor_user_id, action, target_type, target_id, changed, occurred_at, recorded_at)
		values ($1, $2, 'integration', 'user', $3, 'product.updated', 'product', '4711', '{}', '2026-03-01T11:00:00Z', now())`,
		customer, id.New[id.Entry]().String(), actor)
	return err
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

// check is the first half of a delete as the service does it: hold the row, if that is on, and count in a statement of its own.
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

// What the foreign key does and what the lock does, statement by statement: the key alone loses no actor but refuses what it cannot explain, the
// lock alone holds nothing up, since a plain insert asks for no lock unless a foreign key makes it. The service has both.
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
			people := seedPeople(t, service, watcher, of, principal.User, "one", 2)
			if !c.foreignKey {
				execute(t, watcher, "alter table audit_entries drop constraint audit_entries_actor_user")
			}

			// The entry is stored but not committed when the delete begins; it commits when the delete waits for it or is through.
			execute(t, recorder, "begin")
			insertEntry(t, recorder, of, people[0])
			deletion := begin(func() verdict {
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
			execute(t, recorder, "commit")
			got := outcome{deletion: <-deletion, recorded: true, orphans: orphans(t, watcher)}
			if got != c.entryFirst {
				t.Errorf("the entry first: %+v, want %+v", got, c.entryFirst)
			}

			// The delete has counted when the entry arrives; it goes on when the entry waits for it or is through.
			before := orphans(t, watcher)
			references, err := c.check(t.Context(), deleter, customer, people[1])
			if err != nil {
				t.Fatal(err)
			}
			recording := begin(func() bool {
				err := tryEntry(t.Context(), recorder, customer, people[1])
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
			got.recorded, got.orphans = <-recording, orphans(t, watcher)-before
			if got != c.deleteFirst {
				t.Errorf("the delete first: %+v, want %+v", got, c.deleteFirst)
			}
		})
	}
}

// endedOrBlocked waits until the work of a connection has ended or waits for another connection.
func endedOrBlocked[T any](t testing.TB, watcher, worker *pgx.Conn, work <-chan T) {
	t.Helper()
	await(t, "the other connection ends or waits", func() bool {
		return len(work) > 0 || number(t, watcher, "select cardinality(pg_blocking_pids($1))", int(worker.PgConn().PID())) > 0
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
				execute(t, watcher, "alter table audit_entries drop constraint audit_entries_actor_user")
			}
			found := make(map[verdict]int)
			var meet chase
			for round := range rounds {
				for _, person := range seedPeople(t, service, watcher, of, principal.User, fmt.Sprint("pair", round), pairs) {
					var reached verdict
					meet.run(
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
							if err := tryEntry(t.Context(), recorder, customer, person); err != nil && !violatesForeignKey(err) {
								t.Error(err)
							}
						},
					)
					found[reached]++
					meet.firstWon(reached == done)
				}
				// A protection that lacks something shows it sooner or later; usually in the first round.
				if p == (protection{true, true}) || orphans(t, watcher)+found[unexplained] > 0 {
					break
				}
			}
			left := orphans(t, watcher)
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
					of: of, left: of.Admin.ID.String(), right: seedPeople(t, service, conn, of, principal.Administrator, "second", 1)[0], first: first, second: second,
				})
			}
		}
	}
	var meet chase
	spread(len(games), 4, func(i int) {
		one := games[i]
		var left, right apptest.Answer
		send := func(way removal, person string) apptest.Answer {
			method, path, body := way.request(person)
			return at(t, service, method, path, apptest.As(one.of.APIKey), body)
		}
		meet.run(func() { left = send(one.first, one.left) }, func() { right = send(one.second, one.right) })
		meet.firstWon(left.Status == http.StatusOK)
		answers := []apptest.Answer{left, right}
		if left.Status != http.StatusOK {
			slices.Reverse(answers)
		}
		if answers[0].Status != http.StatusOK || !is(t, answers[1], http.StatusConflict, "last-administrator") {
			t.Errorf("%s and %s: %d %s and %d %s", one.first.name, one.second.name, left.Status, left.Body, right.Status, right.Body)
		}
	})
	without := number(t, conn, `select count(*) from customers c where 1 <> (
		select count(*) from users u where u.customer_id = c.id and role = 'customer' and status = 'active' and password_hash is not null)`)
	if without != 0 {
		t.Errorf("%d of %d customers have another number of administrators than one", without, len(games))
	}
}

// Two administrators delete each other. Neither may end up gone by the hand of somebody who was not there any more.
func TestAdministratorsDeleteEachOther(t *testing.T) {
	t.Parallel()
	const rounds = 25
	service := apptest.Start(t)
	conn := service.Database.Superuser(t)
	var meet chase
	for round := range rounds {
		of := service.Customer(t, fmt.Sprint("duel-", round))
		people := seedPeople(t, service, conn, of, principal.Administrator, "admin", 3) // with the one of the customer: nobody is the last
		tokens := make([]apptest.Credential, 2)
		for i := range tokens {
			tokens[i] = service.SignIn(t, of.Slug, apptest.Person{Email: fmt.Sprintf("admin-%d@%s.example", i, of.Slug)})
		}
		var left, right apptest.Answer
		meet.run(
			func() { left = at(t, service, "DELETE", "/v1/users/"+people[1], apptest.As(tokens[0])) },
			func() { right = at(t, service, "DELETE", "/v1/users/"+people[0], apptest.As(tokens[1])) },
		)
		meet.firstWon(left.Status == http.StatusOK)
		answers := []apptest.Answer{left, right}
		if left.Status != http.StatusOK {
			slices.Reverse(answers)
		}
		// The one who lost is gone and so not good any more, or finds that the winner has acted and is named in the trail by now.
		lost := answers[1]
		if answers[0].Status != http.StatusOK || lost.Status != http.StatusUnauthorized && !is(t, lost, http.StatusConflict, "audit-trail-incomplete") {
			t.Errorf("%d %s and %d %s", left.Status, left.Body, right.Status, right.Body)
		}
	}
	if left := orphans(t, conn); left != 0 {
		t.Errorf("%d entries have lost their actor", left)
	}
}

// An administrator who was deleted a moment ago is remembered as good for half a second. Whatever is asked in that time is 401 and not done: no act
// without its entry, and no entry without its actor.
func TestDeletedCallerCanDoNothing(t *testing.T) {
	t.Parallel()
	service := apptest.Start(t)
	conn := service.Database.Superuser(t)
	of := service.Customer(t, "acme")
	gone := seedPeople(t, service, conn, of, principal.Administrator, "gone", 1)[0]
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

// signInAs tries to sign one of the seeded people in.
func signInAs(t testing.TB, service *apptest.Service, of apptest.Customer, email string) apptest.Answer {
	t.Helper()
	return at(t, service, "POST", "/v1/sessions",
		apptest.JSON(map[string]string{"customer": of.Slug, "email": email, "password": apptest.Password}))
}

// A sign-in and a redaction at the same moment: whoever comes first, nothing of the account is left behind.
func TestSignInMeetsRedaction(t *testing.T) {
	t.Parallel()
	const rounds = 120
	service := apptest.Start(t)
	conn := service.Database.Superuser(t)
	of := service.Customer(t, "acme")
	people := seedPeople(t, service, conn, of, principal.User, "guest", rounds)
	var signedIn atomic.Int64
	var meet chase
	spread(rounds, 4, func(i int) {
		var redaction, session apptest.Answer
		meet.run(
			func() { redaction = at(t, service, "POST", "/v1/users/"+people[i]+"/redaction", apptest.As(of.APIKey)) },
			func() { session = signInAs(t, service, of, fmt.Sprintf("guest-%d@acme.example", i)) },
		)
		refused := is(t, session, http.StatusUnauthorized, "invalid-credentials")
		meet.firstWon(refused)
		if redaction.Status != http.StatusOK || !refused && session.Status != http.StatusCreated {
			t.Errorf("%d %s and %d %s", redaction.Status, redaction.Body, session.Status, session.Body)
		}
		if !refused {
			signedIn.Add(1)
		}
	})
	t.Logf("%d of %d signed in before they were redacted", signedIn.Load(), rounds)
	for _, store := range []string{"sessions", "login_records", "refresh_tokens"} {
		if left := number(t, conn, "select count(*) from "+store); left != 0 {
			t.Errorf("%d rows of %s are left of people who are redacted", left, store)
		}
	}
	if got := number(t, conn, "select count(*) from users where status = 'redacted'"); got != rounds {
		t.Errorf("%d are redacted, want %d", got, rounds)
	}
}

// Both orders of the same, arranged by a lock on the table that both reach in the middle of their transactions.
func TestSignInAndRedactionWaitForEachOther(t *testing.T) {
	t.Parallel()
	service := apptest.Start(t)
	watcher, other := service.Database.Superuser(t), service.Database.Superuser(t)
	of := service.Customer(t, "acme")
	people := seedPeople(t, service, watcher, of, principal.User, "guest", 2)
	redact := func(i int) func() apptest.Answer {
		return func() apptest.Answer {
			return at(t, service, "POST", "/v1/users/"+people[i]+"/redaction", apptest.As(of.APIKey))
		}
	}
	signIn := func(i int) func() apptest.Answer {
		return func() apptest.Answer { return signInAs(t, service, of, fmt.Sprintf("guest-%d@acme.example", i)) }
	}
	for i, order := range [][2]func() apptest.Answer{{signIn(0), redact(0)}, {redact(1), signIn(1)}} {
		execute(t, other, "begin; lock table refresh_tokens in share mode")
		first := begin(order[0])
		awaitBlocked(t, watcher, 1)
		second := begin(order[1])
		awaitBlocked(t, watcher, 2)
		execute(t, other, "commit")
		one, two := <-first, <-second
		if i == 0 {
			one.Want(t, http.StatusCreated)
			two.Want(t, http.StatusOK)
		} else {
			one.Want(t, http.StatusOK)
			two.WantProblem(t, http.StatusUnauthorized, "invalid-credentials")
		}
		if left := number(t, watcher, heldOfPerson, people[i]); left != 0 {
			t.Errorf("order %d: %d rows are left of somebody who is redacted", i, left)
		}
	}
}

// A refresh and a redaction at the same moment leave nothing behind either, and do not wait for each other in a circle.
func TestRefreshMeetsRedaction(t *testing.T) {
	t.Parallel()
	const rounds = 100
	service := apptest.Start(t)
	conn := service.Database.Superuser(t)
	of := service.Customer(t, "acme")
	people := seedPeople(t, service, conn, of, principal.User, "guest", rounds)
	var meet chase
	spread(rounds, 4, func(i int) {
		session := signInAs(t, service, of, fmt.Sprintf("guest-%d@acme.example", i))
		if session.Status != http.StatusCreated {
			t.Errorf("no session: %s", session.Body)
			return
		}
		token := map[string]string{"refresh_token": session.Text(t, "refresh_token")}
		var redaction, refresh apptest.Answer
		meet.run(
			func() { redaction = at(t, service, "POST", "/v1/users/"+people[i]+"/redaction", apptest.As(of.APIKey)) },
			func() { refresh = at(t, service, "POST", "/v1/sessions/refresh", apptest.JSON(token)) },
		)
		refused := is(t, refresh, http.StatusUnauthorized, "unauthorized")
		meet.firstWon(refused)
		if redaction.Status != http.StatusOK || !refused && refresh.Status != http.StatusOK {
			t.Errorf("%d %s and %d %s", redaction.Status, redaction.Body, refresh.Status, refresh.Body)
		}
	})
	for _, store := range []string{"sessions", "login_records", "refresh_tokens"} {
		if left := number(t, conn, "select count(*) from "+store); left != 0 {
			t.Errorf("%d rows of %s are left of people who are redacted", left, store)
		}
	}
}

// A correction and a redaction at the same moment: the correction is carried out before or refused after, and nobody comes back.
func TestCorrectionMeetsRedaction(t *testing.T) {
	t.Parallel()
	const rounds = 200
	service := apptest.Start(t)
	conn := service.Database.Superuser(t)
	of := service.Customer(t, "acme")
	people := seedPeople(t, service, conn, of, principal.User, "guest", rounds)
	corrections := []struct {
		method, path string
		body         any
	}{
		{"PATCH", "", map[string]string{"first_name": "Late", "email": "late-%d@acme.example"}},
		{"PATCH", "", map[string]string{"status": "disabled", "last_name": "Late"}},
		{"PUT", "/alerts", map[string]bool{"opted_in": true}},
	}
	var meet chase
	spread(rounds, 4, func(i int) {
		late := corrections[i%len(corrections)]
		if words, ok := late.body.(map[string]string); ok && words["email"] != "" {
			late.body = map[string]string{"first_name": "Late", "email": strings.Replace(words["email"], "%d", fmt.Sprint(i), 1)}
		}
		path := "/v1/users/" + people[i]
		var redaction, correction apptest.Answer
		meet.run(
			func() { redaction = at(t, service, "POST", path+"/redaction", apptest.As(of.APIKey)) },
			func() {
				correction = at(t, service, late.method, path+late.path, apptest.As(of.APIKey), apptest.JSON(late.body))
			},
		)
		refused := is(t, correction, http.StatusConflict, "user-redacted")
		meet.firstWon(refused)
		if redaction.Status != http.StatusOK || !refused && correction.Status != http.StatusOK {
			t.Errorf("%d %s and %d %s", redaction.Status, redaction.Body, correction.Status, correction.Body)
		}
		if refused && !strings.HasPrefix(correction.Text(t, "receipt"), "/v1/erasure-receipts/") {
			t.Errorf("the refusal names no receipt: %s", correction.Body)
		}
	})
	whole := number(t, conn, `select count(*) from users where email like 'guest-%' or email like 'late-%' or first_name = 'Late' or last_name = 'Late'`)
	gone := number(t, conn, "select count(*) from users where status = 'redacted' and not alerts_opted_in and label is not null")
	if whole != 0 || gone != rounds {
		t.Errorf("%d have come back and %d are redacted, want %d", whole, gone, rounds)
	}
}

// The same request with the same Idempotency-Key, twice at the same moment, makes one person.
func TestSameKeyTwiceAtOnce(t *testing.T) {
	t.Parallel()
	const rounds = 100
	service := apptest.Start(t)
	conn := service.Database.Superuser(t)
	of := service.Customer(t, "acme")
	var meet chase
	var replayed, inUse atomic.Int64
	spread(rounds, 4, func(i int) {
		answers := make([]apptest.Answer, 2)
		send := func(which int) func() {
			return func() {
				answers[which] = at(t, service, "POST", "/v1/users", apptest.As(of.APIKey), apptest.Header("Idempotency-Key", fmt.Sprint("round-", i)),
					apptest.JSON(map[string]string{"first_name": "Only", "last_name": "One", "email": fmt.Sprintf("only-%d@acme.example", i)}))
			}
		}
		meet.run(send(0), send(1))
		first := answers[0].Status == http.StatusCreated && answers[0].Header.Get("Idempotency-Replayed") == ""
		meet.firstWon(first)
		if !first {
			slices.Reverse(answers)
		}
		made, other := answers[0], answers[1]
		switch {
		case made.Status != http.StatusCreated || made.Header.Get("Idempotency-Replayed") != "":
			t.Errorf("nobody was made: %s and %s", made.Body, other.Body)
		case other.Status == http.StatusCreated && other.Header.Get("Idempotency-Replayed") == "true" && string(other.Body) == string(made.Body):
			replayed.Add(1)
		case is(t, other, http.StatusConflict, "idempotency-key-in-use") && other.Header.Get("Retry-After") != "":
			inUse.Add(1)
		default:
			t.Errorf("the second: %d %s", other.Status, other.Body)
		}
	})
	t.Logf("%d replayed, %d turned away as in use", replayed.Load(), inUse.Load())
	if made := number(t, conn, "select count(*) from users where first_name = 'Only'"); made != rounds {
		t.Errorf("%d people were made, want %d", made, rounds)
	}
	if entries := number(t, conn, "select count(*) from audit_entries where action = 'user.created' and actor_type = 'api_key'"); entries != rounds {
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
	var meet chase
	spread(rounds, 4, func(i int) {
		answers := make([]apptest.Answer, 2)
		send := func(which int, spelling string) func() {
			return func() {
				answers[which] = at(t, service, "POST", "/v1/users", apptest.As(of.APIKey),
					apptest.JSON(map[string]string{"first_name": "Only", "last_name": "One", "email": fmt.Sprintf(spelling, i)}))
			}
		}
		meet.run(send(0, "only-%d@acme.example"), send(1, "ONLY-%d@Acme.Example"))
		meet.firstWon(answers[0].Status == http.StatusCreated)
		if answers[0].Status != http.StatusCreated {
			slices.Reverse(answers)
		}
		if answers[0].Status != http.StatusCreated || !is(t, answers[1], http.StatusConflict, "email-taken") {
			t.Errorf("%d %s and %d %s", answers[0].Status, answers[0].Body, answers[1].Status, answers[1].Body)
		}
	})
	if made := number(t, conn, "select count(*) from users where first_name = 'Only'"); made != rounds {
		t.Errorf("%d people were made, want %d", made, rounds)
	}
}
