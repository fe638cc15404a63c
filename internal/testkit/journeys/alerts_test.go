package journeys

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/testkit/apptest"
	"github.com/fusionspim/steward/internal/testkit/bench/smtpsink"
	"github.com/fusionspim/steward/internal/testkit/journeys/steps"
)

// alarm is a service whose mails go to a sink, and a customer with people.
type alarm struct {
	*apptest.Service
	sink *smtpsink.Sink
	acme apptest.Customer
	key  apptest.Option
	conn *pgx.Conn
}

type raised struct {
	ID         string           `json:"id"`
	State      string           `json:"state"`
	Times      int              `json:"times"`
	SentAt     *time.Time       `json:"sent_at"`
	Deliveries map[string]int64 `json:"deliveries"`
}

func newAlarm(t *testing.T, faults func(recipient string, earlier int) smtpsink.Fault) *alarm {
	t.Helper()
	sink := steps.NewSink(t, smtpsink.Settings{Fault: faults, Keep: true})
	a := &alarm{Service: apptest.StartWith(t, steps.MailInto(t, sink)), sink: sink}
	a.acme = a.Customer(t, "acme")
	a.key, a.conn = apptest.As(a.acme.APIKey), a.Database.Superuser(t)
	return a
}

func (a *alarm) raise(t testing.TB, severity, subject string, options ...apptest.Option) raised {
	t.Helper()
	return a.raiseWith(t, members{"severity": severity, "subject": subject, "body": "It broke.\n  Twice."}, options...)
}

func (a *alarm) raiseWith(t testing.TB, body members, options ...apptest.Option) (out raised) {
	t.Helper()
	a.Call(t, "POST", "/v1/alerts", append([]apptest.Option{a.key, apptest.JSON(body)}, options...)...).Want(t, 202).Into(t, &out)
	return out
}

func (a *alarm) look(t testing.TB, alert string) (out raised) {
	t.Helper()
	a.Call(t, "GET", "/v1/alerts/"+alert, a.key).Want(t, 200).Into(t, &out)
	return out
}

// sent waits until every delivery of an alert is settled.
func (a *alarm) sent(t *testing.T, alert string) (out raised) {
	t.Helper()
	steps.Eventually(t, "the alert to be sent", func() bool {
		out = a.look(t, alert)
		return out.State == "sent"
	})
	return out
}

// lookAfter moves the clock and has taken up what is due then.
func (a *alarm) lookAfter(t *testing.T, later time.Duration) {
	t.Helper()
	a.Database.Clock.Advance(later)
	if err := a.Alerts.PickUpDue(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func counts(pending, sent, digested, failed, skipped int64) map[string]int64 {
	return map[string]int64{"pending": pending, "sent": sent, "digested": digested, "failed": failed, "skipped": skipped}
}

func (r raised) want(t *testing.T, state string, deliveries map[string]int64) {
	t.Helper()
	if r.State != state || fmt.Sprint(r.Deliveries) != fmt.Sprint(deliveries) || (r.SentAt != nil) != (state == "sent") {
		t.Errorf("got %+v, want %s %v", r, state, deliveries)
	}
}

// entries counts the entries of the trail about an alert.
func (a *alarm) entries(t *testing.T, action, alert string) int {
	t.Helper()
	var list struct {
		Data []struct {
			Actor struct {
				Type string `json:"type"`
			} `json:"actor"`
		} `json:"data"`
	}
	a.Call(t, "GET", "/v1/audit-entries?action="+action+"&target_id="+alert, a.key).Want(t, 200).Into(t, &list)
	return len(list.Data)
}

// Everybody who wants alerts and can have them gets one mail, and nobody else does.
func TestAnAlertReachesWhoWantsIt(t *testing.T) {
	t.Parallel()
	a := newAlarm(t, nil)
	out := a.Person(t, a.acme, principal.User, "out@acme.example")
	disabled := a.Person(t, a.acme, principal.User, "disabled@acme.example")
	redacted := a.Person(t, a.acme, principal.User, "redacted@acme.example")
	other := a.Customer(t, "other")
	a.Call(t, "PUT", "/v1/users/"+out.ID.String()+"/alerts", a.key, apptest.JSON(members{"opted_in": false})).Want(t, 200)
	a.Call(t, "PATCH", "/v1/users/"+disabled.ID.String(), a.key, apptest.JSON(members{"status": "disabled"})).Want(t, 200)
	a.Call(t, "POST", "/v1/users/"+redacted.ID.String()+"/redaction", a.key).Want(t, 200)

	answer := a.Call(t, "POST", "/v1/alerts", a.key, apptest.JSON(members{"severity": "critical", "subject": "  The shop \t is down ", "body": "It broke.\n  Twice."})).Want(t, 202)
	alert := answer.Text(t, "id")
	if answer.Header.Get("Location") != "/v1/alerts/"+alert || answer.Text(t, "state") != "queued" || answer.Text(t, "subject") != "The shop is down" {
		t.Errorf("got %v %s", answer.Header, answer.Body)
	}
	a.sent(t, alert).want(t, "sent", counts(0, 2, 0, 0, 0))
	if got := a.sink.Count(); got != 2 {
		t.Errorf("%d mails were sent", got)
	}
	for _, person := range []apptest.Person{a.acme.Admin, a.acme.User} {
		mails := a.sink.To(person.Email)
		if len(mails) != 1 {
			t.Fatalf("%s got %d mails", person.Email, len(mails))
		}
		content := string(mails[0].Content)
		for _, wanted := range []string{
			"Subject: Critical: The shop is down", "List-Unsubscribe: <http://steward.test/unsubscribe/", "List-Unsubscribe-Post: List-Unsubscribe=One-Click",
			"You get this mail because", "The acme company", "  Twice.",
		} {
			if !strings.Contains(strings.ReplaceAll(strings.ReplaceAll(content, "=\r\n", ""), "\r\n ", " "), wanted) {
				t.Errorf("the mail lacks %q:\n%s", wanted, content)
			}
		}
	}
	if a.entries(t, "alert.raised", alert) != 1 || a.entries(t, "alert.sent", alert) != 1 {
		t.Error("the trail does not tell once of raising and once of sending")
	}
	a.Call(t, "GET", "/v1/alerts/"+alert, apptest.As(other.APIKey)).WantProblem(t, 404, "not-found")
	for _, text := range []string{"acme.example", a.acme.User.ID.String()} {
		if body := a.Call(t, "GET", "/v1/alerts/"+alert, a.key).Body; strings.Contains(string(body), text) {
			t.Errorf("the alert tells %s: %s", text, body)
		}
	}
}

func TestRepeatsJoinAnAlert(t *testing.T) {
	t.Parallel()
	a := newAlarm(t, nil)
	body := members{"severity": "error", "subject": "Export failed", "body": "x", "dedupe_key": "export/web"}
	const times = 12
	var all sync.WaitGroup
	ids := make([]string, times)
	for i := range times {
		all.Go(func() {
			answer, err := a.Try(t.Context(), "POST", "/v1/alerts", a.key, apptest.JSON(body))
			if err != nil || answer.Status != 202 {
				t.Errorf("%v %d %s", err, answer.Status, answer.Body)
				return
			}
			ids[i] = answer.Text(t, "id")
		})
	}
	all.Wait()
	for _, one := range ids {
		if one != ids[0] {
			t.Fatalf("repeats made alerts of their own: %v", ids)
		}
	}
	if got := a.sent(t, ids[0]); got.Times != times {
		t.Errorf("it was raised %d times", got.Times)
	}
	if a.sink.Count() != 2 || a.entries(t, "alert.raised", ids[0]) != 1 || a.entries(t, "alert.repeated", ids[0]) != times-1 {
		t.Errorf("%d mails", a.sink.Count())
	}
	// What is worse than before is no repeat, and neither is what comes later.
	worse := a.raiseWith(t, members{"severity": "critical", "subject": "Export failed", "body": "x", "dedupe_key": "export/web"})
	a.Database.Clock.Advance(time.Hour)
	later := a.raiseWith(t, body)
	again := a.raiseWith(t, body)
	if worse.ID == ids[0] || later.ID == ids[0] || later.ID == worse.ID || again.ID != later.ID || again.Times != 2 {
		t.Errorf("got %v, %v and %v", worse, later, again)
	}
	// A repetition with an Idempotency-Key is none.
	once := apptest.Header("Idempotency-Key", "k")
	first, second := a.raiseWith(t, body, once), a.raiseWith(t, body, once)
	if first.Times != 3 || second.Times != 3 || a.look(t, later.ID).Times != 3 {
		t.Errorf("got %v and %v", first, second)
	}
	steps.Settled(t, a.Service)
}

// A mail that is put off, lost or not answered is tried again, with the same id; one that is refused is not.
func TestFaultsOfTheMailServer(t *testing.T) {
	t.Parallel()
	var faults sync.Map
	a := newAlarm(t, func(recipient string, earlier int) smtpsink.Fault {
		fault, _ := faults.Load(recipient)
		if of, ok := fault.(smtpsink.Fault); ok && (earlier == 0 || of == smtpsink.Refuse) {
			return of
		}
		return smtpsink.None
	})
	for name, fault := range map[string]smtpsink.Fault{
		"greylisted": smtpsink.Greylist, "refused": smtpsink.Refuse, "unwanted": smtpsink.RefuseContent, "silent": smtpsink.Hang, "dropped": smtpsink.Drop,
	} {
		person := a.Person(t, a.acme, principal.User, name+"@acme.example")
		faults.Store(person.Email, fault)
	}
	alert := a.raise(t, "error", "It broke").ID
	steps.Eventually(t, "the first attempts", func() bool {
		return fmt.Sprint(a.look(t, alert).Deliveries) == fmt.Sprint(counts(3, 2, 0, 2, 0))
	})
	steps.Settled(t, a.Service)
	if a.entries(t, "alert.sent", alert) != 0 {
		t.Error("an alert counts as sent that is not")
	}
	a.lookAfter(t, time.Minute)
	a.sent(t, alert).want(t, "sent", counts(0, 5, 0, 2, 0))
	dropped := a.sink.To("dropped@acme.example")
	if len(dropped) != 2 || dropped[0].MessageID != dropped[1].MessageID || dropped[0].MessageID == "" {
		t.Errorf("the mail that was lost came as %v", dropped)
	}
	for address, want := range map[string]int{"greylisted": 1, "refused": 0, "unwanted": 0, "silent": 1, "user": 1, "admin": 1} {
		if got := len(a.sink.To(address + "@acme.example")); got != want {
			t.Errorf("%s got %d mails, want %d", address, got, want)
		}
	}
	reasons := steps.Texts(t, a.conn, "select state || ' ' || reason from alert_deliveries where reason is not null order by 1")
	if fmt.Sprint(reasons) != "[failed content_refused failed recipient_refused]" {
		t.Errorf("got %v", reasons)
	}
	if a.entries(t, "alert.sent", alert) != 1 {
		t.Error("the trail does not say once that it was sent")
	}
}

// What cannot be delivered for two days is given up.
func TestAMailIsTriedForTwoDays(t *testing.T) {
	t.Parallel()
	a := newAlarm(t, func(string, int) smtpsink.Fault { return smtpsink.Greylist })
	alert := a.raise(t, "error", "It broke").ID
	attempts := func() int {
		return steps.Number(t, a.conn, "select coalesce(min(attempts), 0) from alert_deliveries")
	}
	for wanted, step := range []time.Duration{0, time.Hour, 46 * time.Hour, 2 * time.Hour} {
		a.lookAfter(t, step)
		steps.Eventually(t, "an attempt", func() bool { return attempts() == wanted+1 })
		steps.Settled(t, a.Service)
	}
	a.look(t, alert).want(t, "sent", counts(0, 0, 0, 2, 0))
	if reasons := steps.Texts(t, a.conn, "select distinct reason from alert_deliveries"); fmt.Sprint(reasons) != "[expired]" {
		t.Errorf("got %v", reasons)
	}
}

// Whoever opts out, is disabled, redacted or deleted between two attempts gets nothing at the next.
func TestWhoLeavesMeanwhileGetsNothing(t *testing.T) {
	t.Parallel()
	a := newAlarm(t, func(_ string, earlier int) smtpsink.Fault {
		if earlier == 0 {
			return smtpsink.Greylist
		}
		return smtpsink.None
	})
	out := a.Person(t, a.acme, principal.User, "out@acme.example")
	disabled := a.Person(t, a.acme, principal.User, "disabled@acme.example")
	redacted := a.Person(t, a.acme, principal.User, "redacted@acme.example")
	deleted := a.Person(t, a.acme, principal.User, "deleted@acme.example")
	moved := a.Person(t, a.acme, principal.User, "moved@acme.example")
	alert := a.raise(t, "error", "It broke").ID
	steps.Eventually(t, "the first attempts", func() bool {
		return steps.Number(t, a.conn, "select count(*) from alert_deliveries where attempts = 1 and due_at > $1", a.Database.Clock.Now()) == 7
	})
	steps.Settled(t, a.Service)
	a.Call(t, "PUT", "/v1/users/"+out.ID.String()+"/alerts", a.key, apptest.JSON(members{"opted_in": false})).Want(t, 200)
	a.Call(t, "PATCH", "/v1/users/"+disabled.ID.String(), a.key, apptest.JSON(members{"status": "disabled"})).Want(t, 200)
	a.Call(t, "POST", "/v1/users/"+redacted.ID.String()+"/redaction", a.key).Want(t, 200)
	a.Call(t, "DELETE", "/v1/users/"+deleted.ID.String(), a.key).Want(t, 200)
	a.Call(t, "PATCH", "/v1/users/"+moved.ID.String(), a.key, apptest.JSON(members{"email": "elsewhere@acme.example"})).Want(t, 200)
	a.look(t, alert).want(t, "sending", counts(5, 0, 0, 0, 2))
	// A new address is greylisted once more.
	a.lookAfter(t, time.Minute)
	steps.Eventually(t, "the second attempts", func() bool { return a.look(t, alert).Deliveries["pending"] == 1 })
	steps.Settled(t, a.Service)
	a.lookAfter(t, 2*time.Minute)
	a.sent(t, alert).want(t, "sent", counts(0, 3, 0, 0, 4))
	for _, person := range []apptest.Person{out, disabled, redacted, deleted, moved} {
		if got := a.sink.To(person.Email); len(got) != 0 {
			t.Errorf("%s got %v", person.Email, got)
		}
	}
	if len(a.sink.To("elsewhere@acme.example")) != 1 {
		t.Error("who has another address got nothing there")
	}
	if left := steps.Number(t, a.conn, "select count(*) from alert_deliveries where user_id in ($1, $2)", redacted.ID, deleted.ID); left != 0 {
		t.Errorf("%d deliveries are left of who was erased", left)
	}
}

// The last one who is erased settles an alert.
func TestErasureSettlesAnAlert(t *testing.T) {
	t.Parallel()
	a := newAlarm(t, func(recipient string, _ int) smtpsink.Fault {
		if strings.HasPrefix(recipient, "user@") {
			return smtpsink.Greylist
		}
		return smtpsink.None
	})
	alert := a.raise(t, "error", "It broke").ID
	steps.Eventually(t, "the first attempts", func() bool { return a.look(t, alert).Deliveries["sent"] == 1 })
	steps.Settled(t, a.Service)
	plan := a.Call(t, "GET", "/v1/users/"+a.acme.User.ID.String()+"/erasure-plan", a.key).Want(t, 200)
	if !strings.Contains(string(plan.Body), `{"store":"alert_deliveries","count":1}`) && !strings.Contains(string(plan.Body), `{"count":1,"store":"alert_deliveries"}`) {
		t.Errorf("the plan does not tell of the delivery: %s", plan.Body)
	}
	a.Call(t, "POST", "/v1/users/"+a.acme.User.ID.String()+"/redaction", a.key).Want(t, 200)
	a.look(t, alert).want(t, "sent", counts(0, 1, 0, 0, 1))
	if a.entries(t, "alert.sent", alert) != 1 {
		t.Error("the trail does not say that it was sent")
	}
}

// More than ten mails about errors in an hour are gathered in one; what is critical is not.
func TestTooManyErrorsAreGathered(t *testing.T) {
	t.Parallel()
	a := newAlarm(t, nil)
	var last string
	for i := range 13 {
		last = a.raise(t, "error", fmt.Sprint("Error ", i)).ID
		steps.Settled(t, a.Service)
	}
	critical := a.raise(t, "critical", "It burns").ID
	a.sent(t, critical)
	if got := len(a.sink.To(a.acme.User.Email)); got != 11 {
		t.Errorf("%d mails, want ten and a critical one", got)
	}
	a.look(t, last).want(t, "sending", counts(2, 0, 0, 0, 0))
	a.lookAfter(t, 59*time.Minute)
	steps.Settled(t, a.Service)
	if got := len(a.sink.To(a.acme.User.Email)); got != 11 {
		t.Errorf("%d mails before the hour was over", got)
	}
	// One of the two does not want to hear of it any more.
	a.Call(t, "PUT", "/v1/users/"+a.acme.Admin.ID.String()+"/alerts", a.key, apptest.JSON(members{"opted_in": false})).Want(t, 200)
	a.lookAfter(t, 3*time.Minute)
	a.sent(t, last).want(t, "sent", counts(0, 0, 1, 0, 1))
	mails := a.sink.To(a.acme.User.Email)
	if len(mails) != 12 || len(a.sink.To(a.acme.Admin.Email)) != 11 {
		t.Fatalf("%d and %d mails", len(mails), len(a.sink.To(a.acme.Admin.Email)))
	}
	for _, wanted := range []string{"Subject: 3 more alerts at The acme company", "Error 10", "Error 11", "Error 12"} {
		if !strings.Contains(string(mails[11].Content), wanted) {
			t.Errorf("the mail lacks %q:\n%s", wanted, mails[11].Content)
		}
	}
	// The next hour begins anew.
	next := a.raise(t, "error", "Another hour").ID
	a.sent(t, next).want(t, "sent", counts(0, 1, 0, 0, 0))
}

// Every alert's mail has a link that opts its reader out, by looking and pressing a button or by one request of the mail program.
func TestTheLinkAtTheFootOfAnAlert(t *testing.T) {
	t.Parallel()
	a := newAlarm(t, nil)
	a.sent(t, a.raise(t, "error", "It broke").ID)
	path := func(email string) string {
		link := a.sink.To(email)[0].Unsubscribe
		return strings.TrimSuffix(strings.TrimPrefix(link, "<http://steward.test"), ">")
	}
	mine, admins := path(a.acme.User.Email), path(a.acme.Admin.Email)
	optedIn := func(person apptest.Person) bool {
		return strings.Contains(string(a.Call(t, "GET", "/v1/users/"+person.ID.String()+"/alerts", a.key).Want(t, 200).Body), `"opted_in":true`)
	}
	page := a.Call(t, "GET", mine).Want(t, 200)
	if body := string(page.Body); !strings.Contains(body, "The acme company") || !strings.Contains(body, "<button") || strings.Contains(body, "user@") || strings.Contains(body, "First") {
		t.Errorf("the page: %s", body)
	}
	if !strings.Contains(page.Header.Get("Content-Security-Policy"), "form-action 'self'") || page.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("the page's headers: %v", page.Header)
	}
	if !optedIn(a.acme.User) {
		t.Fatal("looking at the page opted out")
	}
	lost := a.Call(t, "GET", "/unsubscribe/nonsense").Want(t, 404)
	forged := []byte(mine)
	forged[len(forged)-1] ^= 1
	for _, method := range []string{"GET", "POST"} {
		if got := a.Call(t, method, string(forged)).Want(t, 404); string(got.Body) != string(lost.Body) {
			t.Errorf("a forged link answers %s", got.Body)
		}
	}
	// A mail program, from another site, with a body of its own.
	for range 2 {
		a.Call(t, "POST", mine, apptest.Raw("application/x-www-form-urlencoded", "List-Unsubscribe=One-Click"),
			apptest.Header("Origin", "https://mail.example"), apptest.Header("Sec-Fetch-Site", "cross-site")).Want(t, 200)
	}
	if optedIn(a.acme.User) || !optedIn(a.acme.Admin) {
		t.Error("the link did not opt out its reader alone")
	}
	setting := a.Call(t, "GET", "/v1/users/"+a.acme.User.ID.String()+"/alerts", a.key).Want(t, 200)
	if setting.Text(t, "set_by") != "user" || a.entries(t, "user.alerts_changed", a.acme.User.ID.String()) != 1 {
		t.Errorf("opting out twice: %s, %d entries", setting.Body, a.entries(t, "user.alerts_changed", a.acme.User.ID.String()))
	}
	if body := string(a.Call(t, "GET", mine).Want(t, 200).Body); strings.Contains(body, "<button") {
		t.Errorf("the page of who is opted out: %s", body)
	}
	if answer := a.Call(t, "POST", mine, apptest.Raw("", "")).Want(t, 200); answer.Header.Get("Location") != "" {
		t.Error("a request without a body is sent elsewhere")
	}
	a.Call(t, "POST", "/v1/users/"+a.acme.User.ID.String()+"/redaction", a.key).Want(t, 200)
	for _, method := range []string{"GET", "POST"} {
		if got := a.Call(t, method, mine).Want(t, 404); string(got.Body) != string(lost.Body) {
			t.Errorf("the link of somebody redacted answers %s", got.Body)
		}
	}
	a.Call(t, "POST", admins).Want(t, 200)
	if optedIn(a.acme.Admin) {
		t.Error("the button did not opt out")
	}
}

// Mails that belong to having an account are sent whatever the setting.
func TestTransactionalMailIgnoresTheSetting(t *testing.T) {
	t.Parallel()
	a := newAlarm(t, nil)
	for _, person := range []apptest.Person{a.acme.User, a.acme.Admin} {
		a.Call(t, "PUT", "/v1/users/"+person.ID.String()+"/alerts", a.key, apptest.JSON(members{"opted_in": false})).Want(t, 200)
	}
	a.sent(t, a.raise(t, "critical", "It broke").ID).want(t, "sent", counts(0, 0, 0, 0, 0))
	reset(t, a.Service, a.acme.Slug, a.acme.User.Email).Want(t, 202)
	steps.Eventually(t, "the mail to reset a password", func() bool { return len(a.sink.To(a.acme.User.Email)) == 1 })
	if a.sink.Count() != 1 {
		t.Errorf("%d mails were sent", a.sink.Count())
	}
}

// What a replica was at that died is taken up by another.
func TestAnAlertIsTakenUpAgain(t *testing.T) {
	t.Parallel()
	a := newAlarm(t, nil)
	alert := a.raise(t, "error", "It broke").ID
	a.sent(t, alert)
	steps.Settled(t, a.Service)
	// As if the replica had died after it took the deliveries, and before with the fan-out half done.
	for _, died := range []string{
		`update alert_deliveries set state = 'pending', settled_at = null, due_at = $1::timestamptz + interval '90 seconds'`,
		`delete from alert_deliveries where $1::timestamptz is not null`,
	} {
		now := a.Database.Clock.Now()
		steps.Execute(t, a.conn, `update alerts set sent = 0, finished_at = null, wake_at = $1::timestamptz + interval '90 seconds'`, now)
		steps.Execute(t, a.conn, died, now)
		if strings.HasPrefix(died, "delete") {
			steps.Execute(t, a.conn, `update alerts set fanned_out_at = null, fanned_to = null, recipients = 0`)
		}
		before := a.sink.Count()
		a.lookAfter(t, 89*time.Second)
		steps.Settled(t, a.Service)
		if a.sink.Count() != before {
			t.Error("somebody else's mails were sent")
		}
		a.lookAfter(t, 2*time.Second)
		a.sent(t, alert).want(t, "sent", counts(0, 2, 0, 0, 0))
		steps.Settled(t, a.Service)
	}
	ids := make(map[string]int)
	for _, one := range a.sink.Mails() {
		ids[one.MessageID]++
	}
	if len(ids) != 2 {
		t.Errorf("the mails to two people have the ids %v", ids)
	}
}

func TestAlertsArePastTheirTime(t *testing.T) {
	t.Parallel()
	a := newAlarm(t, nil)
	for i := range 12 {
		a.raise(t, "error", fmt.Sprint("Error ", i))
		steps.Settled(t, a.Service)
	}
	a.Database.Clock.Advance(2 * time.Hour)
	a.lookAfter(t, 0)
	steps.Settled(t, a.Service)
	rows := func() string {
		return fmt.Sprint(steps.Texts(t, a.conn, "select 'alerts ' || count(*) from alerts union all select 'deliveries ' || count(*) from alert_deliveries union all select 'digests ' || count(*) from alert_digests"))
	}
	for _, step := range []struct {
		after time.Duration
		want  string
	}{{89 * 24 * time.Hour, "[alerts 12 deliveries 24 digests 2]"}, {24 * time.Hour, "[alerts 0 deliveries 0 digests 0]"}} {
		a.Database.Clock.Advance(step.after)
		if err := a.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := rows(); got != step.want {
			t.Errorf("after %v: %s", step.after, got)
		}
	}
}

func TestAlertsAreListedNewestFirst(t *testing.T) {
	t.Parallel()
	a := newAlarm(t, nil)
	var made []string
	for i := range 5 {
		made = append([]string{a.raise(t, "critical", fmt.Sprint("Alert ", i)).ID}, made...)
	}
	var listed []string
	for path := "/v1/alerts?limit=2"; path != ""; {
		var page struct {
			Data       []raised `json:"data"`
			NextCursor *string  `json:"next_cursor"`
		}
		a.Call(t, "GET", path, a.key).Want(t, 200).Into(t, &page)
		for _, one := range page.Data {
			listed = append(listed, one.ID)
		}
		path = ""
		if page.NextCursor != nil {
			path = "/v1/alerts?limit=2&cursor=" + *page.NextCursor
		}
	}
	if fmt.Sprint(listed) != fmt.Sprint(made) {
		t.Errorf("got %v, want %v", listed, made)
	}
	a.Call(t, "GET", "/v1/alerts/"+id.New[id.Alert]().String(), a.key).WantProblem(t, http.StatusNotFound, "not-found")
}

func TestAlertsThatCannotBeTaken(t *testing.T) {
	t.Parallel()
	a := newAlarm(t, nil)
	for what, change := range map[string]members{
		"a severity that is none": {"severity": "warning"}, "a blank subject": {"subject": " \t "}, "a subject of nothing": {"subject": "\u200b"},
		"a subject that turns round": {"subject": "a\u202eb"}, "a subject with a control character": {"subject": "a\u0007b"}, "a blank body": {"body": "\n \n"},
		"a long subject": {"subject": strings.Repeat("x", 201)}, "a long body": {"body": strings.Repeat("x", 10_001)}, "a key with an address": {"dedupe_key": "a@b.example"},
		"no key": {"dedupe_key": ""},
	} {
		body := members{"severity": "error", "subject": "s", "body": "b"}
		for member, value := range change {
			body[member] = value
		}
		if answer := a.Call(t, "POST", "/v1/alerts", a.key, apptest.JSON(body)); answer.Status != 400 || answer.Text(t, "type") != "/problems/malformed-request" {
			t.Errorf("%s: %d %s", what, answer.Status, answer.Body)
		}
	}
	if rows := steps.Number(t, a.conn, "select count(*) from alerts"); rows != 0 {
		t.Errorf("%d alerts were made", rows)
	}
	// What looks odd and is not wrong.
	long := a.raiseWith(t, members{"severity": "error", "subject": strings.Repeat("𝔵", 200), "body": strings.Repeat("𝔶\n", 5000), "dedupe_key": strings.Repeat("k", 128)})
	a.sent(t, long.ID).want(t, "sent", counts(0, 2, 0, 0, 0))
}
