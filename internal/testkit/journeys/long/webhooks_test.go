package long

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/fusionspim/steward/internal/account/user"
	"github.com/fusionspim/steward/internal/app"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/base/version"
	"github.com/fusionspim/steward/internal/testkit/apptest"
	"github.com/fusionspim/steward/internal/testkit/journeys/steps"
)

// event is an event as the API shows one and as a webhook carries it.
type event struct {
	ID   string `json:"id"`
	Type string `json:"type"`
	Data struct {
		UserID string `json:"user_id"`
	} `json:"data"`
}

// inbox is a customer's endpoint. It saves what comes, and answers after two milliseconds.
type inbox struct {
	*httptest.Server
	mutex sync.Mutex
	came  []event
}

func newInbox(t testing.TB) *inbox {
	t.Helper()
	i := &inbox{}
	i.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, request *http.Request) {
		var one event
		// A body that ends too early is of a sender that was killed.
		if err := json.NewDecoder(request.Body).Decode(&one); err != nil || request.Header.Get("Webhook-Id") != one.ID {
			return
		}
		i.mutex.Lock()
		i.came = append(i.came, one)
		i.mutex.Unlock()
		time.Sleep(2 * time.Millisecond)
	}))
	t.Cleanup(i.Close)
	return i
}

// all returns what has come by now, in order.
func (i *inbox) all() []event {
	i.mutex.Lock()
	defer i.mutex.Unlock()
	return slices.Clone(i.came)
}

// TestKillInTheMiddleOfWebhooks kills the program while it sends. None is lost, those of one person
// keep their order, and what comes again has the same id.
func TestKillInTheMiddleOfWebhooks(t *testing.T) {
	t.Parallel()
	service := apptest.StartWith(t, func(settings *app.Settings) { settings.Workers = 0 }) // the program alone sends
	acme := service.Customer(t, "acme")
	key := apptest.As(acme.APIKey)
	inbox := newInbox(t)
	var endpoint struct{ ID string }
	service.Call(t, "POST", "/v1/webhook-endpoints", key, apptest.JSON(map[string]any{"url": inbox.URL, "events": []string{}})).Want(t, 201).Into(t, &endpoint)
	const each = 150
	admin := principal.Principal{Customer: acme.ID, Role: principal.Administrator}
	for range each {
		for _, person := range []id.User{acme.User.ID, acme.Admin.ID} {
			name := apptest.Unique("Name")
			if _, err := service.Users.Update(t.Context(), admin, person, user.Patch{FirstName: &name}, version.Condition{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	program := steps.BuildSteward(t)
	first := steps.Serve(t, program, service)
	steps.Eventually(t, "some of them", func() bool { return len(inbox.all()) > each/3 })
	first.Kill(t)
	// Its lease runs out by the clock of the machine, by which the program goes.
	conn := service.Database.Superuser(t)
	steps.Execute(t, conn, "update webhook_endpoints set lease_until = lease_until - interval '1 minute'")
	second := steps.Serve(t, program, service)
	steps.Eventually(t, "all of them", func() bool {
		return steps.Number(t, conn, "select count(*) from webhook_deliveries where endpoint_id = $1 and state = 'succeeded'", endpoint.ID) == each*2+steps.Number(t, conn,
			"select count(*) from events e join webhook_deliveries d using (customer_id, number) where e.type <> 'user.corrected'") &&
			steps.Number(t, conn, "select count(*) from audit_unsealed") == 0
	})
	second.Kill(t)
	place, newest, came := make(map[string]int), make(map[string]int), make(map[string]bool)
	var early struct{ Data []event }
	service.Call(t, "GET", "/v1/events?limit=200&type=user.corrected", key).Want(t, 200).Into(t, &early)
	for i, one := range early.Data {
		place[one.ID] = i
	}
	for i, one := range inbox.all() {
		at, listed := place[one.ID]
		if !listed || came[one.ID] {
			continue // of the later ones the counts below tell
		}
		came[one.ID] = true
		if last, known := newest[one.Data.UserID]; known && at < last {
			t.Errorf("at %d came the event %d of a person after the event %d", i, at, last)
		}
		newest[one.Data.UserID] = at
	}
	all := make(map[string]bool)
	for _, one := range inbox.all() {
		if one.Type == "user.corrected" {
			all[one.ID] = true
		}
	}
	if len(all) != each*2 {
		t.Errorf("%d of %d events came", len(all), each*2)
	}
}
