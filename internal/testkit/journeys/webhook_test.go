package journeys

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/fusionspim/steward/internal/account/user"
	"github.com/fusionspim/steward/internal/app"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/infra/egress"
	"github.com/fusionspim/steward/internal/integration/webhook"
	"github.com/fusionspim/steward/internal/testkit/apptest"
	"github.com/fusionspim/steward/internal/testkit/journeys/steps"
	"github.com/fusionspim/steward/pkg/webhooksig"
)

// webhookOf makes an endpoint of a customer with one delivery that succeeded.
func webhookOf(t testing.TB, s *apptest.Service, of apptest.Customer, url string) (endpoint, delivery string) {
	t.Helper()
	conn := s.Database.Superuser(t)
	steps.Execute(t, conn, "update webhook_endpoints set status = 'deleted', paused_reason = null, paused_at = null, due_at = null where customer_id = $1", of.ID.String())
	made, err := s.Webhooks.Create(t.Context(), principal.Principal{Customer: of.ID, Role: principal.Administrator}, webhook.New{URL: url}, nil)
	if err != nil {
		t.Fatal(err)
	}
	delivery = id.New[id.Entry]().String()
	now := s.Database.Clock.Now()
	steps.Execute(t, conn, `insert into events (customer_id, number, id, type, subject_type, subject_id, occurred_at, created_at)
		select $1, 1000000 + count(*), $2, 'user.created', 'user', $3, $4, $4 from events where customer_id = $1`, of.ID.String(), delivery, of.User.ID.String(), now)
	steps.Execute(t, conn, `insert into webhook_deliveries (customer_id, endpoint_id, id, number, state, attempts, step, last_attempt_at, last_outcome, last_status, created_at)
		select customer_id, $1, id, number, 'succeeded', 1, 1, $3, 'delivered', 200, $3 from events where id = $2`, made.ID.String(), delivery, now)
	return made.ID.String(), delivery
}

// eventView is an event as the API shows one and as a webhook carries it.
type eventView struct {
	ID        string    `json:"id"`
	Type      string    `json:"type"`
	Timestamp time.Time `json:"timestamp"`
	Data      struct {
		UserID string `json:"user_id"`
	} `json:"data"`
}

// receiver is an endpoint of a customer: it keeps what it gets and answers as the test says.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	got    []received
	answer func(w http.ResponseWriter, one received)
}

type received struct {
	eventView
	header http.Header
	body   []byte
	before int // how often it had come before
}

func newReceiver(t testing.TB, answer func(w http.ResponseWriter, one received)) *receiver {
	t.Helper()
	r := &receiver{answer: answer}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		body, err := io.ReadAll(request.Body)
		one := received{header: request.Header.Clone(), body: body}
		if err != nil || json.Unmarshal(body, &one.eventView) != nil || request.Header.Get("Webhook-Id") != one.ID || request.Header.Get("Content-Type") != "application/json" {
			t.Errorf("not a webhook: %v %s", request.Header, body)
		}
		r.mu.Lock()
		for _, other := range r.got {
			if other.ID == one.ID {
				one.before++
			}
		}
		r.got = append(r.got, one)
		r.mu.Unlock()
		if r.answer != nil {
			r.answer(w, one)
		}
	}))
	t.Cleanup(r.Close)
	return r
}

// all is what has come by now.
func (r *receiver) all() []received {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

// endpointView is an endpoint as the API shows one.
type endpointView struct {
	ID           string   `json:"id"`
	URL          string   `json:"url"`
	Events       []string `json:"events"`
	Status       string   `json:"status"`
	PausedReason string   `json:"paused_reason"`
	FailingSince string   `json:"failing_since"`
	Secret       string   `json:"secret"`
}

// hookHouse is a service with the customer acme, which has an API key that never expires.
type hookHouse struct {
	*apptest.Service
	acme apptest.Customer
}

func newHookHouse(t *testing.T) *hookHouse {
	t.Helper()
	h := &hookHouse{Service: apptest.Start(t)}
	h.acme = h.Customer(t, "acme")
	// What happened until now is in the list of events before an endpoint is made.
	steps.Eventually(t, "the first events", func() bool { return len(h.events(t, "")) == 2 })
	return h
}

func (h *hookHouse) call(t testing.TB, method, path string, options ...apptest.Option) apptest.Answer {
	t.Helper()
	return call(t, h.Service, method, path, append([]apptest.Option{apptest.As(h.acme.APIKey)}, options...)...)
}

func (h *hookHouse) endpoint(t testing.TB, url string, types ...string) (made endpointView) {
	t.Helper()
	h.call(t, "POST", "/v1/webhook-endpoints", apptest.JSON(members{"url": url, "events": append([]string{}, types...)})).Want(t, 201).Into(t, &made)
	return made
}

func (h *hookHouse) standing(t testing.TB, endpoint string) (now endpointView) {
	t.Helper()
	h.call(t, "GET", "/v1/webhook-endpoints/"+endpoint).Want(t, 200).Into(t, &now)
	return now
}

func (h *hookHouse) events(t testing.TB, query string) []eventView {
	t.Helper()
	var page struct{ Data []eventView }
	h.call(t, "GET", "/v1/events?limit=200"+query).Want(t, 200).Into(t, &page)
	return page.Data
}

// deliveryView is a delivery as the API shows one.
type deliveryView struct {
	ID          string
	State       string
	Attempts    int
	LastOutcome string     `json:"last_outcome"`
	LastStatus  int        `json:"last_status"`
	Next        *time.Time `json:"next_attempt_at"`
	Event       eventView
}

func (h *hookHouse) deliveries(t testing.TB, endpoint, query string) []deliveryView {
	t.Helper()
	var page struct{ Data []deliveryView }
	h.call(t, "GET", "/v1/webhook-endpoints/"+endpoint+"/deliveries?limit=200"+query).Want(t, 200).Into(t, &page)
	return page.Data
}

// rename makes one event about somebody.
func (h *hookHouse) rename(t testing.TB, person id.User) {
	t.Helper()
	name := fresh("Name")
	if _, err := h.Users.Update(t.Context(), principal.Principal{Customer: h.acme.ID, Role: principal.Administrator}, person, user.Patch{FirstName: &name}, anyVersion); err != nil {
		t.Fatal(err)
	}
}

// What happens to people arrives, in order, signed, and holds ids alone.
func TestWebhooksArrive(t *testing.T) {
	t.Parallel()
	h := newHookHouse(t)
	inbox, picky := newReceiver(t, nil), newReceiver(t, nil)
	endpoint := h.endpoint(t, inbox.URL+"/hook?of=acme")
	h.endpoint(t, picky.URL, "user.deleted", "user.redacted")
	last := h.events(t, "")[1].ID

	const email = "noor.haddad@acme.example"
	person := h.call(t, "POST", "/v1/users", apptest.JSON(members{"first_name": "Noor", "last_name": "Haddad", "email": email})).Want(t, 201).Text(t, "id")
	path := "/v1/users/" + person
	h.call(t, "PATCH", path, apptest.JSON(members{"last_name": "Lind"})).Want(t, 200)
	h.call(t, "PATCH", path, apptest.JSON(members{"last_name": "Haddad-Lind", "status": "disabled"})).Want(t, 200)
	h.call(t, "PATCH", path, apptest.JSON(members{"status": "active"})).Want(t, 200)
	h.call(t, "PUT", path+"/alerts", apptest.JSON(members{"opted_in": false})).Want(t, 200)
	h.call(t, "POST", "/v1/users/"+h.acme.User.ID.String()+"/redaction").Want(t, 200)
	h.call(t, "DELETE", path).Want(t, 200)
	// And what is no event: an entry of an integration's, and a customer's setting.
	h.call(t, "POST", "/v1/audit-entries", apptest.JSON(entryBy(h.acme.Admin.ID, members{"action": "user.deleted"}))).Want(t, 201)

	want := []string{"user.created", "user.corrected", "user.disabled", "user.corrected", "user.alerts_changed", "user.redacted", "user.deleted"}
	steps.Eventually(t, "the webhooks", func() bool { return len(inbox.all()) >= len(want) && len(picky.all()) >= 2 })
	theirs, err := standardwebhooks.NewWebhook(endpoint.Secret)
	if err != nil {
		t.Fatal(err)
	}
	secrets, err := webhooksig.ParseSecrets(endpoint.Secret)
	if err != nil {
		t.Fatal(err)
	}
	listed := h.events(t, "&after="+last)
	got := inbox.all()
	slices.SortStableFunc(got, func(a, b received) int { return cmp.Compare(a.ID, b.ID) }) // two people, who need not wait for each other
	for i, one := range got {
		if i >= len(want) || one.Type != want[i] || listed[i] != one.eventView {
			t.Fatalf("the webhook at %d is %s; the list has %+v", i, one.body, listed)
		}
		if _, err := webhooksig.Verify(secrets, one.header, one.body, h.Database.Clock.Now(), time.Minute); err != nil {
			t.Error(err)
		}
		if err := theirs.VerifyIgnoringTimestamp(one.body, one.header); err != nil {
			t.Error(err)
		}
		var whole map[string]any
		if err := json.Unmarshal(one.body, &whole); err != nil || len(whole) != 4 || len(whole["data"].(map[string]any)) != 1 {
			t.Errorf("a webhook holds more than it should: %s", one.body)
		}
		if bytes.Contains(bytes.ToLower(one.body), []byte("haddad")) || one.header.Get("User-Agent") != "Steward-Webhooks" {
			t.Errorf("%v %s", one.header, one.body)
		}
	}
	if few := picky.all(); few[0].Type == few[1].Type || len(few) != 2 || few[0].ID == few[1].ID {
		t.Errorf("the endpoint that wants two types got %+v", few)
	}
	steps.Eventually(t, "the deliveries to be noted", func() bool { return len(h.deliveries(t, endpoint.ID, "&state=succeeded")) == len(want) })
	for _, one := range h.deliveries(t, endpoint.ID, "") {
		if one.Attempts != 1 || one.LastOutcome != "delivered" || one.LastStatus != 200 || one.ID != one.Event.ID {
			t.Errorf("a delivery is %+v", one)
		}
	}

	// Two secrets while one is being rotated, and then the new one alone.
	var rotated endpointView
	once := apptest.Header("Idempotency-Key", "rotate")
	for range 2 { // the second time replayed
		h.call(t, "POST", "/v1/webhook-endpoints/"+endpoint.ID+"/rotation", once, apptest.JSON(members{"overlap_seconds": 60})).Want(t, 200).Into(t, &rotated)
	}
	signedBy := func(name string, wantOld, wantNew bool) {
		t.Helper()
		before := len(inbox.all())
		h.call(t, "PATCH", "/v1/users/"+h.acme.Admin.ID.String(), apptest.JSON(members{"first_name": name})).Want(t, 200)
		steps.Eventually(t, "the webhook", func() bool { return len(inbox.all()) > before })
		one := inbox.all()[before]
		for secret, want := range map[string]bool{endpoint.Secret: wantOld, rotated.Secret: wantNew} {
			parsed, err := webhooksig.ParseSecrets(secret)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := webhooksig.Verify(parsed, one.header, one.body, h.Database.Clock.Now(), time.Minute); (err == nil) != want {
				t.Errorf("%s: good is %v", name, err == nil)
			}
		}
	}
	signedBy("Ida", true, true)
	h.Database.Clock.Advance(time.Minute)
	signedBy("Ada", false, true)
	if shown := h.call(t, "GET", "/v1/webhook-endpoints").Want(t, 200); bytes.Contains(shown.Body, []byte("whsec")) {
		t.Errorf("a secret is shown again: %s", shown.Body)
	}
	for _, secret := range []string{endpoint.Secret, rotated.Secret} {
		if strings.Contains(h.Database.Log.String(), secret[10:30]) || strings.Contains(h.Database.Log.String(), "of=acme") {
			t.Error("the log tells a secret or a URL")
		}
	}
}

// What fails is tried again for three days. Then it is given up, the endpoint is paused, and the administrators are told; and nothing is lost by that.
func TestWebhooksThatFail(t *testing.T) {
	t.Parallel()
	h := newHookHouse(t)
	var broken sync.Map // when set, the receiver fails
	broken.Store("status", http.StatusInternalServerError)
	inbox := newReceiver(t, func(w http.ResponseWriter, _ received) {
		if status, ok := broken.Load("status"); ok {
			w.WriteHeader(status.(int))
		}
	})
	endpoint := h.endpoint(t, inbox.URL)
	h.rename(t, h.acme.User.ID)
	for attempt := 1; attempt <= 13; attempt++ {
		steps.Eventually(t, "the next attempt", func() bool {
			got := h.deliveries(t, endpoint.ID, "")
			return len(got) == 1 && got[0].Attempts == attempt
		})
		one := h.deliveries(t, endpoint.ID, "")[0]
		if now := h.Database.Clock.Now(); attempt < 13 && (one.State != "waiting" || one.LastStatus != 500 || one.LastOutcome != "status" || !one.Next.After(now)) {
			t.Fatalf("after attempt %d: %+v", attempt, one)
		}
		if attempt < 13 {
			h.Database.Clock.Advance(one.Next.Sub(h.Database.Clock.Now()))
		}
	}
	if one := h.deliveries(t, endpoint.ID, "&state=failed"); len(one) != 1 || one[0].Next != nil {
		t.Errorf("in the end: %+v", one)
	}
	if len(inbox.all()) != 13 {
		t.Errorf("%d attempts", len(inbox.all()))
	}
	now := h.standing(t, endpoint.ID)
	if now.Status != "paused" || now.PausedReason != "failing" || now.FailingSince == "" {
		t.Errorf("the endpoint is %+v", now)
	}
	mail := h.MailTo(t, h.acme.Admin.Email, "webhook endpoint is paused")
	if !strings.Contains(mail.Text, endpoint.ID) || strings.Contains(mail.Text, "http://") {
		t.Errorf("the mail says %s", mail.Text)
	}
	if mails := h.Mailbox.To(t, h.acme.User.Email); len(mails) != 0 {
		t.Errorf("somebody who is no administrator is told: %v", mails)
	}
	if n := steps.Number(t, h.Database.Superuser(t), "select count(*) from audit_entries where action = 'webhook_endpoint.paused' and actor_type = 'system' and target_id = $1", endpoint.ID); n != 1 {
		t.Errorf("%d entries say that it was paused", n)
	}
	retry := "/v1/webhook-endpoints/" + endpoint.ID + "/deliveries/" + h.deliveries(t, endpoint.ID, "")[0].ID + "/retry"
	h.call(t, "POST", retry).WantProblem(t, 409, "webhook-endpoint-paused")

	// While it is paused nothing is sent; afterwards everything is.
	h.rename(t, h.acme.User.ID)
	steps.Eventually(t, "the event", func() bool { return len(h.events(t, "")) == 4 })
	broken.Delete("status")
	h.call(t, "PATCH", "/v1/webhook-endpoints/"+endpoint.ID, apptest.JSON(members{"status": "active"})).Want(t, 200)
	steps.Eventually(t, "what was missed", func() bool { return len(inbox.all()) == 14 })
	for range 2 { // with a key it is once
		h.call(t, "POST", retry, apptest.Header("Idempotency-Key", "again")).Want(t, 202)
	}
	steps.Eventually(t, "what is sent again", func() bool { return len(h.deliveries(t, endpoint.ID, "&state=succeeded")) == 2 })
	if again := inbox.all()[14]; again.before != 13 {
		t.Errorf("what was sent again is %s", again.body)
	}
	if now := h.standing(t, endpoint.ID); now.Status != "active" || now.PausedReason != "" || now.FailingSince != "" {
		t.Errorf("the endpoint is %+v", now)
	}
}

// What a receiver answers is heeded.
func TestWebhookAnswers(t *testing.T) {
	t.Parallel()
	h := newHookHouse(t)
	for name, test := range map[string]struct {
		answer       func(w http.ResponseWriter, one received)
		status       int
		outcome      string
		least, most  time.Duration // until the next attempt
		pausedReason string
	}{
		"gone":         {func(w http.ResponseWriter, _ received) { w.WriteHeader(http.StatusGone) }, 410, "status", 5 * time.Second, 6 * time.Second, "gone"},
		"elsewhere":    {func(w http.ResponseWriter, _ received) { w.Header().Set("Location", "/"); w.WriteHeader(307) }, 307, "status", 5 * time.Second, 6 * time.Second, ""},
		"not modified": {func(w http.ResponseWriter, _ received) { w.WriteHeader(http.StatusNotModified) }, 304, "status", 5 * time.Second, 6 * time.Second, ""},
		"too many": {func(w http.ResponseWriter, _ received) {
			w.Header().Set("Retry-After", "600")
			w.WriteHeader(http.StatusTooManyRequests)
		}, 429, "status", 10 * time.Minute, 10 * time.Minute, ""},
		"until a time": {func(w http.ResponseWriter, _ received) {
			w.Header().Set("Retry-After", h.Database.Clock.Now().Add(time.Hour).Format(http.TimeFormat))
			w.WriteHeader(http.StatusServiceUnavailable)
		}, 503, "status", 59 * time.Minute, time.Hour, ""},
		"for ever": {func(w http.ResponseWriter, _ received) {
			w.Header().Set("Retry-After", "999999999")
			w.WriteHeader(http.StatusServiceUnavailable)
		}, 503, "status", 24 * time.Hour, 24 * time.Hour, ""},
		"at once": {func(w http.ResponseWriter, _ received) {
			w.Header().Set("Retry-After", "0")
			w.WriteHeader(http.StatusServiceUnavailable)
		}, 503, "status", 5 * time.Second, 6 * time.Second, ""},
		"nonsense": {func(w http.ResponseWriter, _ received) {
			w.Header().Set("Retry-After", "-5")
			w.WriteHeader(http.StatusTooManyRequests)
		}, 429, "status", 5 * time.Second, 6 * time.Second, ""},
		"dropped": {func(http.ResponseWriter, received) { panic(http.ErrAbortHandler) }, 0, "broken_off", 5 * time.Second, 6 * time.Second, ""},
		"long": {func(w http.ResponseWriter, _ received) {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = w.Write(bytes.Repeat([]byte("x"), 1<<20))
		}, 400, "status", 5 * time.Second, 6 * time.Second, ""},
	} {
		t.Run(name, func(t *testing.T) {
			inbox := newReceiver(t, test.answer)
			inbox.Config.ErrorLog = nil
			endpoint := h.endpoint(t, inbox.URL)
			h.rename(t, h.acme.User.ID)
			var one deliveryView
			steps.Eventually(t, "the attempt to be noted", func() bool {
				got := h.deliveries(t, endpoint.ID, "&state=waiting")
				if len(got) == 1 {
					one = got[0]
				}
				return len(got) == 1
			})
			wait := one.Next.Sub(h.Database.Clock.Now())
			if one.LastStatus != test.status || one.LastOutcome != test.outcome || wait < test.least || wait > test.most {
				t.Errorf("noted as %+v, waits for %s", one, wait)
			}
			if now := h.standing(t, endpoint.ID); now.PausedReason != test.pausedReason || (now.Status == "paused") != (test.pausedReason != "") {
				t.Errorf("the endpoint is %+v", now)
			}
			h.call(t, "DELETE", "/v1/webhook-endpoints/"+endpoint.ID).Want(t, 204)
		})
	}
}

// An endpoint that hangs holds up nobody else, and events of one person keep their order.
func TestWebhooksKeepTheirOrderBesideOneThatHangs(t *testing.T) {
	t.Parallel()
	h := newHookHouse(t)
	released := make(chan struct{})
	hanging := newReceiver(t, func(http.ResponseWriter, received) { <-released })
	t.Cleanup(func() { close(released) })
	globex := h.Customer(t, "globex")
	call(t, h.Service, "POST", "/v1/webhook-endpoints", apptest.As(globex.APIKey), apptest.JSON(members{"url": hanging.URL})).Want(t, 201)
	for range 3 {
		h.endpoint(t, hanging.URL)
	}
	inbox := newReceiver(t, nil)
	endpoint := h.endpoint(t, inbox.URL)
	people := []id.User{h.acme.Admin.ID, h.acme.User.ID, h.Person(t, h.acme, principal.User, "third@acme.example").ID}
	const each = 40
	var renaming sync.WaitGroup
	for _, person := range people {
		renaming.Go(func() {
			for range each {
				h.rename(t, person)
			}
		})
	}
	renaming.Wait()
	steps.Eventually(t, "all of them", func() bool { return len(inbox.all()) >= len(people)*each+1 })
	inOrder := make(map[string][]string)
	for _, one := range h.events(t, "") {
		if one.Type == "user.corrected" {
			inOrder[one.Data.UserID] = append(inOrder[one.Data.UserID], one.ID)
		}
	}
	came := make(map[string][]string)
	for _, one := range inbox.all() {
		if one.Type == "user.corrected" {
			came[one.Data.UserID] = append(came[one.Data.UserID], one.ID)
		}
	}
	for _, person := range people {
		if got := came[person.String()]; len(got) != each || !slices.Equal(got, inOrder[person.String()]) {
			t.Errorf("of %s %d came, in order is %v", person, len(got), slices.Equal(got, inOrder[person.String()]))
		}
	}
	// Deleted, nothing more is sent, nor is anything shown.
	h.call(t, "DELETE", "/v1/webhook-endpoints/"+endpoint.ID).Want(t, 204)
	for _, try := range []struct{ method, below string }{
		{"GET", ""}, {"DELETE", ""}, {"GET", "/deliveries"}, {"POST", "/rotation"}, {"POST", "/test"}, {"POST", "/deliveries/" + inbox.all()[0].ID + "/retry"},
	} {
		h.call(t, try.method, "/v1/webhook-endpoints/"+endpoint.ID+try.below).WantProblem(t, 404, "not-found")
	}
}

// A replica that ends in the middle of its work leaves nothing undone, and one that dies is stood in for.
func TestWebhooksAcrossReplicas(t *testing.T) {
	t.Parallel()
	var settings app.Settings
	service := apptest.StartWith(t, func(chosen *app.Settings) {
		settings = *chosen
		chosen.Workers = 0 // it only takes requests
	})
	h := &hookHouse{Service: service, acme: service.Customer(t, "acme")}
	inbox := newReceiver(t, func(w http.ResponseWriter, one received) {
		if one.before == 0 && one.ID[35] < '8' {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	endpoint := h.endpoint(t, inbox.URL)
	const events = 200
	for range events / 2 {
		h.rename(t, h.acme.User.ID)
		h.rename(t, h.acme.Admin.ID)
	}
	open := func() *app.App {
		replica, err := app.Open(t.Context(), settings)
		if err != nil {
			t.Fatal(err)
		}
		return replica
	}
	first := open()
	steps.Eventually(t, "some of them", func() bool { return len(inbox.all()) > 20 })
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	// What a replica leaves that was killed: a lease that runs out.
	conn := h.Database.Superuser(t)
	steps.Execute(t, conn, "update webhook_endpoints set due_at = $1, lease_id = gen_random_uuid(), lease_until = $1::timestamptz + interval '1 minute'", h.Database.Clock.Now())
	survivor := open()
	defer func() {
		if err := survivor.Close(); err != nil {
			t.Error(err)
		}
	}()
	steps.Eventually(t, "all of them", func() bool {
		h.Database.Clock.Advance(6 * time.Second)
		return steps.Number(t, conn, "select count(*) from webhook_deliveries where state = 'succeeded' and endpoint_id = $1", endpoint.ID) >= events
	})
	came := make(map[string]bool)
	for _, one := range inbox.all() {
		came[one.ID] = true
	}
	if n := steps.Number(t, conn, "select count(*) from events e join webhook_deliveries d using (customer_id, number)"); n != len(came) || n < events {
		t.Errorf("%d of %d events came", len(came), n)
	}
}

func TestWebhookEndpoints(t *testing.T) {
	t.Parallel()
	h := newHookHouse(t)
	const endpoints = "/v1/webhook-endpoints"
	for _, url := range []string{
		"http://example.com/", "ftp://example.com/", "https://", "https:///path", "example.com", "https:example.com", "https://ada:secret@example.com/", "https://example.com/#top",
		"https://example.com/#", "https://example.com:0/", "https://example.com:/", "https://example.com:65536/", "https://exämple.com/", "https://example.com/ü", "https://example.com/a b",
		"https://10.0.0.1/", "https://169.254.169.254/latest", "https://[fd00::1]/", "https://[::ffff:10.0.0.1]/", "https://[64:ff9b::1]/", "https://192.168.1.1:8443/", "javascript:alert(1)", "//example.com/",
		"https://" + strings.Repeat("a", 254) + ".example/", "https://[fe80::1%25eth0]/", "http://127.0.0.1.example.com/",
	} {
		h.call(t, "POST", endpoints, apptest.JSON(members{"url": url})).WantProblem(t, 422, "invalid-webhook-url")
	}
	h.call(t, "POST", endpoints, apptest.JSON(members{"url": "https://example.com/" + strings.Repeat("a", 2000)})).WantProblem(t, 400, "malformed-request")
	h.call(t, "POST", endpoints, apptest.JSON(members{"url": "https://example.com/", "description": "a\u202db\u0007"})).WantProblem(t, 422, "invalid-name")
	h.call(t, "POST", endpoints, apptest.JSON(members{"url": "https://example.com/", "events": []string{"user.created", "user.created"}})).WantProblem(t, 400, "malformed-request")
	h.call(t, "POST", endpoints, apptest.JSON(members{"url": "https://example.com/", "events": []string{"user.enabled"}})).WantProblem(t, 400, "malformed-request")

	// The same key, the same endpoint and secret.
	once := apptest.Header("Idempotency-Key", "make")
	body := apptest.JSON(members{"url": "https://Example.com:8443/hook?a=b", "description": "  e\u0301quipe  ", "events": []string{"user.deleted", "user.created"}, "status": "paused"})
	first := h.call(t, "POST", endpoints, once, body).Want(t, 201)
	again := h.call(t, "POST", endpoints, once, body).Want(t, 201)
	if !bytes.Equal(first.Body, again.Body) || again.Header.Get("Idempotency-Replayed") != "true" || first.Header.Get("ETag") != `"1"` {
		t.Errorf("%s and %s", first.Body, again.Body)
	}
	if steps.Number(t, h.Database.Superuser(t), "select count(*) from webhook_endpoints where position($1 in encode(sealed_secret, 'escape')) > 0", first.Text(t, "secret")[6:20]) != 0 {
		t.Error("the secret is kept in the clear")
	}
	path := endpoints + "/" + first.Text(t, "id")
	if first.Header.Get("Location") != path || first.Text(t, "description") != "équipe" || first.Text(t, "paused_reason") != "by_customer" {
		t.Errorf("made as %s", first.Body)
	}
	patch := func(body string, options ...apptest.Option) apptest.Answer {
		t.Helper()
		return h.call(t, "PATCH", path, append(options, apptest.Raw("application/merge-patch+json", body))...)
	}
	patch(`{"status":"active"}`, apptest.Header("If-Match", `"2"`)).WantProblem(t, 412, "precondition-failed")
	if got := patch(`{"status":"active","events":[]}`, apptest.Header("If-Match", `"1"`)).Want(t, 200); got.Header.Get("ETag") != `"2"` || got.Text(t, "status") != "active" {
		t.Errorf("%s", got.Body)
	}
	if got := patch(`{"status":"active"}`).Want(t, 200); got.Header.Get("ETag") != `"2"` {
		t.Error("what is so already changed the version")
	}
	patch(`{"url":"http://10.0.0.1/"}`).WantProblem(t, 422, "invalid-webhook-url")
	patch(`{"url":null}`).WantProblem(t, 400, "malformed-request")
	patch(`{}`).WantProblem(t, 400, "malformed-request")
	h.call(t, "DELETE", path, apptest.Header("If-Match", `"1"`)).WantProblem(t, 412, "precondition-failed")

	// Twenty and no more, also when many come at once.
	var making sync.WaitGroup
	var mu sync.Mutex
	statuses := make(map[int]int)
	for range 24 {
		making.Go(func() {
			answer, err := h.Try(t.Context(), "POST", endpoints, apptest.As(h.acme.APIKey), apptest.JSON(members{"url": "https://example.com/"}))
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			statuses[answer.Status]++
		})
	}
	making.Wait()
	if statuses[201] != 19 || statuses[409] != 5 {
		t.Errorf("made: %v", statuses)
	}
	h.call(t, "POST", endpoints, apptest.JSON(members{"url": "https://example.com/"})).WantProblem(t, 409, "webhook-endpoint-limit")
	seen := make(map[string]bool)
	for cursor := ""; ; {
		var page struct {
			Data []endpointView
			Next *string `json:"next_cursor"`
		}
		h.call(t, "GET", endpoints+"?limit=7"+cursor).Want(t, 200).Into(t, &page)
		for _, one := range page.Data {
			seen[one.ID] = true
		}
		if page.Next == nil {
			break
		}
		cursor = "&cursor=" + *page.Next
	}
	if len(seen) != 20 {
		t.Errorf("the list has %d endpoints", len(seen))
	}
	h.call(t, "DELETE", path).Want(t, 204)
	h.call(t, "GET", path).WantProblem(t, 404, "not-found")

	// The acts are in the trail.
	for action, want := range map[string]int{"webhook_endpoint.created": 20, "webhook_endpoint.changed": 1, "webhook_endpoint.deleted": 1} {
		if got := steps.Number(t, h.Database.Superuser(t), "select count(*) from audit_entries where action = $1", action); got != want {
			t.Errorf("%s: %d entries, want %d", action, got, want)
		}
	}
}

func TestWebhookPing(t *testing.T) {
	t.Parallel()
	h := newHookHouse(t)
	inbox := newReceiver(t, func(w http.ResponseWriter, _ received) { w.WriteHeader(http.StatusAccepted) })
	endpoint := h.endpoint(t, inbox.URL)
	answer := h.call(t, "POST", "/v1/webhook-endpoints/"+endpoint.ID+"/test").Want(t, 200)
	secrets, err := webhooksig.ParseSecrets(endpoint.Secret)
	if err != nil {
		t.Fatal(err)
	}
	one := inbox.all()[0]
	if _, err := webhooksig.Verify(secrets, one.header, one.body, h.Database.Clock.Now(), time.Minute); err != nil || one.Type != "ping" || answer.Text(t, "outcome") != "delivered" {
		t.Errorf("%v: %s, answered %s", err, one.body, answer.Body)
	}
	inbox.Close()
	if answer := h.call(t, "POST", "/v1/webhook-endpoints/"+endpoint.ID+"/test").Want(t, 200); answer.Text(t, "outcome") != "unreachable" || !bytes.Contains(answer.Body, []byte(`"status":null`)) {
		t.Errorf("%s", answer.Body)
	}
	var limited apptest.Answer
	for range 20 {
		limited = h.call(t, "POST", "/v1/webhook-endpoints/"+endpoint.ID+"/test")
	}
	limited.WantProblem(t, 429, "too-many-attempts")
}

// Without a setting, webhooks do not go to this machine, whatever an endpoint's name resolves to.
func TestWebhooksDoNotGoToPrivateAddresses(t *testing.T) {
	t.Parallel()
	service := apptest.StartWith(t, func(settings *app.Settings) { settings.Outbound = egress.Policy{} })
	h := &hookHouse{Service: service, acme: service.Customer(t, "acme")}
	inbox := newReceiver(t, nil)
	_, port, _ := strings.Cut(strings.TrimPrefix(inbox.URL, "http://"), ":")
	h.call(t, "POST", "/v1/webhook-endpoints", apptest.JSON(members{"url": inbox.URL})).WantProblem(t, 422, "invalid-webhook-url")
	endpoint := h.endpoint(t, "https://localhost:"+port+"/")
	if answer := h.call(t, "POST", "/v1/webhook-endpoints/"+endpoint.ID+"/test").Want(t, 200); answer.Text(t, "outcome") != "address_refused" {
		t.Errorf("%s", answer.Body)
	}
	h.rename(t, h.acme.User.ID)
	steps.Eventually(t, "the attempt", func() bool {
		got := h.deliveries(t, endpoint.ID, "&state=waiting")
		return len(got) > 0 && got[0].LastOutcome == "address_refused"
	})
}

// The list of events can be gone through page by page, and gone on with at any later time.
func TestEvents(t *testing.T) {
	t.Parallel()
	h := newHookHouse(t)
	for range 10 {
		h.rename(t, h.acme.User.ID)
		h.rename(t, h.acme.Admin.ID)
	}
	h.call(t, "PUT", "/v1/users/"+h.acme.User.ID.String()+"/alerts", apptest.JSON(members{"opted_in": false})).Want(t, 200)
	steps.Eventually(t, "the events", func() bool { return len(h.events(t, "")) == 23 })
	all := h.events(t, "")
	if !slices.IsSortedFunc(all, func(a, b eventView) int { return a.Timestamp.Compare(b.Timestamp) }) || all[22].Type != "user.alerts_changed" {
		t.Errorf("the order is %+v", all)
	}
	if only := h.events(t, "&type=user.alerts_changed"); len(only) != 1 || only[0] != all[22] {
		t.Errorf("of one type: %+v", only)
	}
	var walked []eventView
	address := "/v1/events?limit=5&after=" + all[2].ID
	for pages := 0; address != ""; pages++ {
		answer := h.call(t, "GET", address).Want(t, 200)
		var page struct {
			Data []eventView
			Next *string `json:"next_cursor"`
		}
		answer.Into(t, &page)
		walked = append(walked, page.Data...)
		address = ""
		if page.Next != nil {
			address = "/v1/events?limit=5&cursor=" + *page.Next
			if link := answer.Header.Get("Link"); !strings.Contains(link, *page.Next) || strings.Contains(link, "after") || pages > 4 {
				t.Fatalf("page %d links to %s", pages, link)
			}
		}
	}
	if !slices.Equal(walked, all[3:]) {
		t.Errorf("walked through %+v", walked)
	}
	last := all[22].ID
	if more := h.events(t, "&after="+last); len(more) != 0 {
		t.Errorf("after the last: %+v", more)
	}
	h.rename(t, h.acme.User.ID)
	steps.Eventually(t, "the next", func() bool { return len(h.events(t, "&after="+last)) == 1 })

	globex := h.Customer(t, "globex")
	for _, stranger := range []string{id.New[id.Entry]().String(), all[0].ID} {
		call(t, h.Service, "GET", "/v1/events?after="+stranger, apptest.As(globex.APIKey)).WantProblem(t, 410, "event-gone")
	}
	h.call(t, "GET", "/v1/events?after=x").WantProblem(t, 400, "malformed-request")
	var page struct {
		Next string `json:"next_cursor"`
	}
	h.call(t, "GET", "/v1/events?limit=1").Want(t, 200).Into(t, &page)
	h.call(t, "GET", "/v1/events?cursor="+page.Next+"&after="+last).WantProblem(t, 400, "malformed-request")
	call(t, h.Service, "GET", "/v1/events?cursor="+page.Next, apptest.As(globex.APIKey)).WantProblem(t, 400, "malformed-cursor")

	// After 90 days they go, with what became of them, and not before.
	inbox := newReceiver(t, nil)
	endpoint, paused := h.endpoint(t, inbox.URL), h.endpoint(t, inbox.URL)
	h.rename(t, h.acme.User.ID)
	steps.Eventually(t, "the deliveries", func() bool {
		return len(h.deliveries(t, endpoint.ID, "&state=succeeded")) == 1 && len(h.deliveries(t, paused.ID, "&state=succeeded")) == 1
	})
	conn := h.Database.Superuser(t)
	steps.Execute(t, conn, "update webhook_deliveries set state = 'pending' where endpoint_id = $1", paused.ID)
	h.call(t, "DELETE", "/v1/webhook-endpoints/"+paused.ID).Want(t, 204)
	left := func() string {
		if err := h.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(steps.Number(t, conn, "select count(*) from events where customer_id = $1", h.acme.ID.String()), steps.Number(t, conn, "select count(*) from webhook_deliveries"),
			steps.Number(t, conn, "select count(*) from webhook_endpoints"))
	}
	if got := left(); got != "25 1 1" { // what is deleted is gone at once
		t.Errorf("left before their time: %s", got)
	}
	h.Database.Clock.Advance(31 * 24 * time.Hour)
	if got := left(); got != "25 0 1" {
		t.Errorf("left after 31 days: %s", got)
	}
	h.Database.Clock.Advance(60 * 24 * time.Hour)
	if got := left(); got != "0 0 1" {
		t.Errorf("left after 91 days: %s", got)
	}
	h.call(t, "GET", "/v1/events?after="+last).WantProblem(t, 410, "event-gone")
}
