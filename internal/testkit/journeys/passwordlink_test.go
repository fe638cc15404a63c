package journeys

import (
	"context"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fusionspim/steward/internal/app"
	"github.com/fusionspim/steward/internal/dev/devmail"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/testkit/apptest"
	"github.com/fusionspim/steward/internal/testkit/journeys/steps"
)

const nextPassword = "seven violet umbrellas hum at dusk"

func reset(t *testing.T, s *apptest.Service, slug, email string, options ...apptest.Option) apptest.Answer {
	t.Helper()
	return s.Call(t, "POST", "/v1/password-resets", append(options, apptest.JSON(members{"customer": slug, "email": email}))...)
}

func confirm(t *testing.T, s *apptest.Service, token, password string, options ...apptest.Option) apptest.Answer {
	t.Helper()
	return s.Call(t, "POST", "/v1/password-resets/confirm", append(options, apptest.JSON(members{"token": token, "new_password": password}))...)
}

// linkFor has a link mailed and returns its token.
func linkFor(t *testing.T, s *apptest.Service, slug, email string) string {
	t.Helper()
	before := len(s.Mailbox.To(t, email))
	reset(t, s, slug, email).Want(t, 202)
	steps.Eventually(t, "a mail to "+email, func() bool { return len(s.Mailbox.To(t, email)) > before })
	return s.Mailbox.To(t, email)[0].Token(t)
}

// Somebody who gets an account is invited, chooses a password, and signs in.
func TestInvitation(t *testing.T) {
	t.Parallel()
	service := apptest.Start(t)
	acme := service.Customer(t, "acme")
	admin := apptest.As(service.SignIn(t, "acme", acme.Admin))
	const email = "noor.haddad@acme.example"
	made := service.Call(t, "POST", "/v1/users", admin, apptest.JSON(members{"first_name": "Noor", "last_name": "Haddad", "email": email})).Want(t, 201)

	invitation := service.MailTo(t, email, "Choose a password")
	if !strings.Contains(invitation.Text, "http://steward.test/set-password#token=") || !strings.Contains(invitation.Text, "Noor Haddad") {
		t.Errorf("the invitation: %s", invitation.Text)
	}
	key := apptest.Header("Idempotency-Key", "0190f1c2-invite-noor")
	confirm(t, service, invitation.Token(t), nextPassword, key).Want(t, 204)
	if again := confirm(t, service, invitation.Token(t), nextPassword, key).Want(t, 204); again.Header.Get("Idempotency-Replayed") == "" {
		t.Error("the repetition was not answered from memory")
	}
	confirm(t, service, invitation.Token(t), nextPassword).WantProblem(t, 410, "link-used-up")
	service.Call(t, "POST", "/v1/sessions", credentials("acme", email, nextPassword)).Want(t, 201)
	service.MailTo(t, email, "was changed")

	// The act is the person's own: it does not stand in the way of deleting.
	var actor string
	peek(t, service, "select actor_type from audit_entries where action = 'user.password_changed' and target_id = $1", &actor, made.Text(t, "id"))
	if actor != "self" {
		t.Errorf("the actor is %q", actor)
	}
	service.Call(t, "DELETE", "/v1/users/"+made.Text(t, "id"), admin).Want(t, 200)
}

// People who were given a password are not invited.
func TestNobodyIsInvitedTwice(t *testing.T) {
	t.Parallel()
	service := apptest.Start(t)
	acme := service.Customer(t, "acme")
	linkFor(t, service, "acme", acme.User.Email)
	steps.Settled(t, service)
	if mails := service.Mailbox.To(t, ""); len(mails) != 1 {
		t.Errorf("%d mails", len(mails))
	}
}

// A reset ends every session and every other link.
func TestPasswordReset(t *testing.T) {
	t.Parallel()
	service := apptest.Start(t)
	beside := apptest.Replica(t, service.Database)
	acme := service.Customer(t, "acme")
	session := apptest.As(service.SignIn(t, "acme", acme.User))
	for _, replica := range []*apptest.Service{service, beside} {
		replica.Call(t, "GET", "/v1/me", session).Want(t, 200)
	}
	first, second := linkFor(t, service, "acme", acme.User.Email), linkFor(t, beside, "acme", strings.ToUpper(acme.User.Email))

	// What is weak is refused, and the link stays good.
	confirm(t, service, second, "short").WantProblem(t, 422, "weak-password")
	confirm(t, service, second, acme.User.Email+acme.User.Email).WantProblem(t, 422, "weak-password")
	service.Database.Clock.Advance(time.Second)
	confirm(t, service, second, nextPassword).Want(t, 204)
	service.Database.Clock.Advance(time.Second)
	for _, replica := range []*apptest.Service{service, beside} {
		replica.Call(t, "GET", "/v1/me", session).Want(t, 401)
		confirm(t, replica, first, "eleven amber lanterns drift past noon").WantProblem(t, 410, "link-used-up")
		confirm(t, replica, second, "eleven amber lanterns drift past noon").WantProblem(t, 410, "link-used-up")
	}
	service.Call(t, "POST", "/v1/sessions", credentials("acme", acme.User.Email, apptest.Password)).Want(t, 401)
	service.Call(t, "POST", "/v1/sessions", credentials("acme", acme.User.Email, nextPassword)).Want(t, 201)
	service.MailTo(t, acme.User.Email, "was changed")
}

// Whoever amends a password signed in is told so by mail.
func TestPasswordChangedIsTold(t *testing.T) {
	t.Parallel()
	service := apptest.Start(t)
	acme := service.Customer(t, "acme")
	service.Call(t, "PUT", "/v1/me/password", apptest.As(service.SignIn(t, "acme", acme.User)),
		apptest.JSON(members{"current_password": apptest.Password, "new_password": nextPassword})).Want(t, 204)
	service.MailTo(t, acme.User.Email, "was changed")
}

func TestLinksExpire(t *testing.T) {
	t.Parallel()
	service := apptest.Start(t)
	acme := service.Customer(t, "acme")
	token := linkFor(t, service, "acme", acme.User.Email)
	service.Database.Clock.Advance(time.Hour)
	confirm(t, service, token, nextPassword).WantProblem(t, 410, "link-used-up")
	service.Database.Clock.Advance(time.Minute)
	if err := service.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	var left int
	if peek(t, service, "select count(*) from password_links", &left); left != 0 {
		t.Errorf("%d links are left", left)
	}
}

// The answer to all that is no good link is one and the same.
func TestLinksThatNeverWere(t *testing.T) {
	t.Parallel()
	service := apptest.Start(t)
	acme := service.Customer(t, "acme")
	token := linkFor(t, service, "acme", acme.User.Email)
	replace := map[byte]string{'a': "b"}[token[10]]
	if replace == "" {
		replace = "a"
	}
	for _, wrong := range []string{"x", token[:len(token)-1], token + "0", token[:10] + replace + token[11:], strings.Repeat("a", 512)} {
		confirm(t, service, wrong, nextPassword).WantProblem(t, 410, "link-used-up")
	}
	confirm(t, service, token, nextPassword).Want(t, 204)
}

// Nothing tells whether there is such an account: not the answer, not a mail.
func TestResetTellsNothing(t *testing.T) {
	t.Parallel()
	service := apptest.Start(t)
	acme := service.Customer(t, "acme")
	admin := apptest.As(service.SignIn(t, "acme", acme.Admin))
	off := service.Person(t, acme, "user", "off@acme.example")
	service.Call(t, "PATCH", "/v1/users/"+off.ID.String(), admin, apptest.JSON(members{"status": "disabled"})).Want(t, 200)
	known := reset(t, service, "acme", acme.User.Email).Want(t, 202)
	for _, one := range [][2]string{{"acme", "nobody@acme.example"}, {"nowhere", acme.User.Email}, {"acme", off.Email}, {"acme", "not an address"}} {
		answer := reset(t, service, one[0], one[1], apptest.Header("Idempotency-Key", "0190f1c2-reset"))
		if one[1] == "not an address" && answer.Status == 400 {
			continue // the contract says so of everybody's
		}
		answer.Want(t, 202)
		if string(answer.Body) != string(known.Body) || len(answer.Header) != len(known.Header) {
			t.Errorf("%v is answered otherwise: %v", one, answer.Header)
		}
	}
	steps.Settled(t, service)
	if mails := service.Mailbox.To(t, ""); len(mails) != 1 || mails[0].To != acme.User.Email {
		t.Errorf("mails: %v", mails)
	}
	var count int
	if peek(t, service, "select count(distinct args::text) from jobs.river_job", &count); count < 4 {
		t.Errorf("%d jobs: nobody's were left out", count)
	}
}

// One account gets three at once, without the asker hearing of it; a network that asks for many is told.
func TestResetsAreLimited(t *testing.T) {
	t.Parallel()
	service := apptest.Start(t)
	acme := service.Customer(t, "acme")
	var all sync.WaitGroup
	for i := range 8 { // each from a network of its own, on which nothing else counts
		all.Go(func() {
			answer, err := service.Try(context.Background(), "POST", "/v1/password-resets", apptest.Header("X-Forwarded-For", "198.51.100."+strconv.Itoa(i)),
				apptest.JSON(members{"customer": "acme", "email": acme.User.Email}))
			if err != nil || answer.Status != 202 {
				t.Errorf("%d %v", answer.Status, err)
			}
		})
	}
	all.Wait()
	steps.Settled(t, service)
	if n := len(service.Mailbox.To(t, acme.User.Email)); n != 3 {
		t.Errorf("%d mails", n)
	}
	statuses := map[int]int{}
	for i := range 25 {
		answer := reset(t, service, "acme", fresh("nobody")+strconv.Itoa(i)+"@acme.example", apptest.Header("X-Forwarded-For", "203.0.113.5"))
		if statuses[answer.Status]++; answer.Status == 429 && answer.Header.Get("Retry-After") == "" {
			t.Error("429 without Retry-After")
		}
	}
	if statuses[202] != 20 || statuses[429] != 5 {
		t.Errorf("%v", statuses)
	}
	service.Database.Clock.Advance(time.Hour)
	linkFor(t, service, "acme", acme.User.Email)
}

// What happens to an account ends its links.
func TestWhatEndsLinks(t *testing.T) {
	t.Parallel()
	service := apptest.Start(t)
	acme := service.Customer(t, "acme")
	admin := apptest.As(service.SignIn(t, "acme", acme.Admin))
	patch := func(p apptest.Person, change members) {
		t.Helper()
		service.Call(t, "PATCH", "/v1/users/"+p.ID.String(), admin, apptest.JSON(change)).Want(t, 200)
	}
	for name, end := range map[string]func(p apptest.Person){
		"address": func(p apptest.Person) { patch(p, members{"email": "new-" + p.Email}) },
		"disable": func(p apptest.Person) { patch(p, members{"status": "disabled"}) },
		"disable-and-enable": func(p apptest.Person) {
			patch(p, members{"status": "disabled"})
			patch(p, members{"status": "active"})
		},
		"redact": func(p apptest.Person) {
			service.Call(t, "POST", "/v1/users/"+p.ID.String()+"/redaction", admin).Want(t, 200)
		},
		"delete": func(p apptest.Person) { service.Call(t, "DELETE", "/v1/users/"+p.ID.String(), admin).Want(t, 200) },
	} {
		person := service.Person(t, acme, "user", name+"@acme.example")
		token := linkFor(t, service, "acme", person.Email)
		end(person)
		if answer := confirm(t, service, token, nextPassword); answer.Status != 410 {
			t.Errorf("after %s: %d", name, answer.Status)
		}
		var left int
		if peek(t, service, "select count(*) from password_links where user_id = $1", &left, person.ID); left != 0 && (name == "redact" || name == "delete") {
			t.Errorf("after %s %d links are left", name, left)
		}
	}
	// Another name does not.
	person := service.Person(t, acme, "user", "name@acme.example")
	token := linkFor(t, service, "acme", person.Email)
	patch(person, members{"last_name": "Haddad-Lind"})
	confirm(t, service, token, nextPassword).Want(t, 204)
}

// Of many at once with one link, or with several of one person, one succeeds.
func TestConfirmAtOnce(t *testing.T) {
	t.Parallel()
	service := apptest.Start(t)
	acme := service.Customer(t, "acme")
	tokens := []string{linkFor(t, service, "acme", acme.User.Email), linkFor(t, service, "acme", acme.User.Email)}
	statuses := make(chan int, 8)
	var all sync.WaitGroup
	for i := range cap(statuses) {
		all.Go(func() {
			answer, err := service.Try(context.Background(), "POST", "/v1/password-resets/confirm",
				apptest.JSON(members{"token": tokens[i%2], "new_password": nextPassword + strconv.Itoa(i)}))
			if err != nil {
				t.Error(err)
			}
			statuses <- answer.Status
		})
	}
	all.Wait()
	close(statuses)
	count := map[int]int{}
	for status := range statuses {
		count[status]++
	}
	if count[http.StatusNoContent] != 1 || count[http.StatusGone] != 7 {
		t.Errorf("%v", count)
	}
}

// The queue knows nobody and no link, whatever became of its jobs.
func TestQueueHoldsNothingPersonal(t *testing.T) {
	t.Parallel()
	service := apptest.Start(t)
	acme := service.Customer(t, "acme")
	admin := apptest.As(service.SignIn(t, "acme", acme.Admin))
	const email = "canary.xq7@acme.example"
	service.Call(t, "POST", "/v1/users", admin, apptest.JSON(members{"first_name": "Canaryxq7", "last_name": "Songbirdxq7", "email": email})).Want(t, 201)
	invitation := service.MailTo(t, email, "Choose a password").Token(t)
	token := linkFor(t, service, "acme", email)
	confirm(t, service, token, nextPassword).Want(t, 204)
	service.MailTo(t, email, "was changed")
	steps.Settled(t, service)
	superuser := service.Database.Superuser(t)
	for _, table := range steps.Texts(t, superuser, "select relname from pg_class where relnamespace = 'jobs'::regnamespace and relkind = 'r'") {
		for _, row := range steps.Texts(t, superuser, "select t::text from jobs."+pgx.Identifier{table}.Sanitize()+" t") {
			for _, secret := range []string{"xq7", invitation, token, invitation[10:40], token[10:40]} {
				if strings.Contains(strings.ToLower(row), strings.ToLower(secret)) {
					t.Errorf("%s holds %s", table, row)
				}
			}
		}
	}
	for _, secret := range []string{"xq7", invitation[10:40], token[10:40]} {
		if strings.Contains(service.Database.Log.String(), secret) {
			t.Errorf("the log holds %q", secret)
		}
	}
}

// What was enqueued is sent after a restart, as the person is then: to another address, or to nobody.
func TestMailsSurviveARestart(t *testing.T) {
	t.Parallel()
	idle := apptest.StartWith(t, func(settings *app.Settings) { settings.Workers = 0 })
	acme := idle.Customer(t, "acme")
	admin := apptest.As(idle.SignIn(t, "acme", acme.Admin))
	create := func(name string) string {
		return idle.Call(t, "POST", "/v1/users", admin,
			apptest.JSON(members{"first_name": "Noor", "last_name": "Haddad", "email": name + "@acme.example"})).Want(t, 201).Text(t, "id")
	}
	create("stays")
	moves, goes := create("moves"), create("goes")
	idle.Call(t, "PATCH", "/v1/users/"+moves, admin, apptest.JSON(members{"email": "moved@acme.example"})).Want(t, 200)
	idle.Call(t, "POST", "/v1/users/"+goes+"/redaction", admin).Want(t, 200)

	awake := apptest.Replica(t, idle.Database)
	awake.MailTo(t, "stays@acme.example", "Choose a password")
	confirm(t, awake, awake.MailTo(t, "moved@acme.example", "Choose a password").Token(t), nextPassword).Want(t, 204)
	steps.Settled(t, awake)
	for _, address := range []string{"moves@acme.example", "goes@acme.example"} {
		if mails := awake.Mailbox.To(t, address); len(mails) > 0 {
			t.Errorf("%d mails to %s", len(mails), address)
		}
	}
}

// A mail server that is away is tried again.
func TestMailServerAway(t *testing.T) {
	t.Parallel()
	port, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free := port.Addr().(*net.TCPAddr).Port
	if err := port.Close(); err != nil {
		t.Fatal(err)
	}
	service := apptest.StartWith(t, func(settings *app.Settings) { settings.Mail.Port = free })
	acme := service.Customer(t, "acme")
	reset(t, service, "acme", acme.User.Email).Want(t, 202)
	superuser := service.Database.Superuser(t)
	steps.Eventually(t, "the first attempt to fail", func() bool {
		return steps.Texts(t, superuser, "select count(*)::text from jobs.river_job where state = 'retryable' or attempt > 1")[0] == "1"
	})
	back, err := devmail.Start(t.Context(), service.Database.Log.Logger())
	if err != nil {
		t.Fatal(err)
	}
	defer back.Close() //nolint:errcheck // it only forgets
	relay(t, free, strings.TrimPrefix(back.SMTPURL(), "smtp://"))
	steps.Eventually(t, "the mail to be sent", func() bool {
		return steps.Texts(t, superuser, "select count(*)::text from jobs.river_job where state = 'completed' and attempt > 1")[0] == "1"
	})
}

// A job may be added within one's own customer's transaction alone.
func TestJobsBelongToTheCustomer(t *testing.T) {
	t.Parallel()
	service := apptest.StartWith(t, func(settings *app.Settings) { settings.Workers = 0 })
	acme, other := service.Customer(t, "acme"), service.Customer(t, "umbrella")
	reset(t, service, "acme", acme.User.Email).Want(t, 202)
	seen := func(of apptest.Customer) (count int) {
		err := service.DB.InCustomer(t.Context(), of.ID, func(tx *postgres.Tx) error {
			return tx.QueryRow("select count(*) from jobs.river_job").Scan(&count)
		})
		if err != nil {
			t.Fatal(err)
		}
		return count
	}
	if seen(acme) != 1 || seen(other) != 0 {
		t.Errorf("acme sees %d jobs, another customer %d", seen(acme), seen(other))
	}
	err := service.DB.InCustomer(t.Context(), other.ID, func(tx *postgres.Tx) error {
		_, err := tx.Exec(`
			insert into jobs.river_job (args, kind, max_attempts)
			values (jsonb_build_object('customer_id', $1::text), 'x', 1)`, acme.ID.String())
		return err
	})
	if err == nil {
		t.Error("a job for another customer was taken")
	}
}

// relay passes connections on from a port of this machine until the test ends.
func relay(t *testing.T, port int, to string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
	if err != nil {
		t.Fatal(err)
	}
	var open sync.WaitGroup
	t.Cleanup(func() {
		_ = listener.Close()
		open.Wait()
	})
	open.Go(func() {
		for {
			from, err := listener.Accept()
			if err != nil {
				return
			}
			open.Go(func() {
				onward, err := net.Dial("tcp", to)
				if err != nil {
					_ = from.Close()
					return
				}
				open.Go(func() {
					_, _ = io.Copy(onward, from)
					_ = onward.Close()
				})
				_, _ = io.Copy(from, onward)
				_ = from.Close()
			})
		}
	})
}
