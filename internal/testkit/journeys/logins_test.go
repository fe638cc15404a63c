package journeys

import (
	"strings"
	"testing"
	"time"

	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/testkit/apptest"
)

// loginPage is a page of login records as it is answered.
type loginPage struct {
	Data []struct {
		ID             string    `json:"id"`
		OccurredAt     time.Time `json:"occurred_at"`
		Address        string    `json:"address"`
		Outcome        string    `json:"outcome"`
		InsideNetworks bool      `json:"inside_networks"`
	} `json:"data"`
	Next *string `json:"next_cursor"`
}

func (p loginPage) outcomes() string {
	var outcomes []string
	for _, one := range p.Data {
		inside := ""
		if one.InsideNetworks {
			inside = " inside"
		}
		outcomes = append(outcomes, one.Address+" "+one.Outcome+inside)
	}
	return strings.Join(outcomes, "; ")
}

func TestLoginsAreShown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	person := w.Person(t, w.acme, "user", "signs.in@acme.example")
	trial := func(password, from string, want int) apptest.Answer {
		t.Helper()
		answer := w.Call(t, "POST", "/v1/sessions", credentials("acme", person.Email, password), apptest.Header("X-Forwarded-For", from)).Want(t, want)
		w.Settle() // what failed is recorded after the answer
		return answer
	}
	list := func(path string, credential apptest.Credential) (page loginPage) {
		t.Helper()
		w.Call(t, "GET", path, apptest.As(credential)).Want(t, 200).Into(t, &page)
		return page
	}
	path := "/v1/users/" + person.ID.String() + "/logins"
	if page := list(path, w.admin); page.Data == nil || len(page.Data) != 0 {
		t.Errorf("before the first: %+v", page)
	}
	trial("a wrong guess, and a long one", "203.0.113.9", 401)
	w.Call(t, "PATCH", "/v1/customer", apptest.As(w.admin), apptest.JSON(members{"networks": members{"policy": "refuse", "networks": []string{"198.51.100.0/24", "2001:db8::/32"}}})).Want(t, 200)
	trial(apptest.Password, "203.0.113.9", 401)
	trial(apptest.Password, "2001:db8::7", 201)
	trial(apptest.Password, "::ffff:198.51.100.7", 201)
	token := apptest.Credential(trial(apptest.Password, "198.51.100.8", 201).Text(t, "access_token"))

	// The person and the administrator see the same, newest first.
	want := "198.51.100.8 succeeded inside; 198.51.100.7 succeeded inside; 2001:db8::7 succeeded inside; 203.0.113.9 network_refused; 203.0.113.9 wrong_password inside"
	for _, page := range []loginPage{list("/v1/me/logins", token), list(path, w.admin)} {
		if got := page.outcomes(); got != want || page.Next != nil || !page.Data[0].OccurredAt.Equal(w.Database.Clock.Now()) {
			t.Errorf("got %s\nwant %s", got, want)
		}
	}
	var paged []string
	cursor := ""
	for pages := 1; ; pages++ {
		page := list(path+"?limit=2"+cursor, w.admin)
		paged = append(paged, page.outcomes())
		if page.Next == nil {
			break
		}
		cursor = "&cursor=" + *page.Next
		// Of one list, and of no other.
		w.Call(t, "GET", "/v1/me/logins?limit=2"+cursor, apptest.As(token)).WantProblem(t, 400, "malformed-cursor")
		if pages == 1 {
			trial(apptest.Password, "198.51.100.9", 201) // a newcomer moves nothing
		}
	}
	if got := strings.Join(paged, "; "); got != want || len(paged) != 3 {
		t.Errorf("by pages: %q", paged)
	}

	// Whose business it is not.
	w.Call(t, "GET", path, apptest.As(w.otherAdmin)).WantProblem(t, 404, "not-found")
	w.Call(t, "GET", "/v1/users/"+id.New[id.User]().String()+"/logins", apptest.As(w.admin)).WantProblem(t, 404, "not-found")
	w.Call(t, "GET", path, apptest.As(token)).WantProblem(t, 403, "role-not-allowed")
	w.Call(t, "GET", path, apptest.As(w.operator)).WantProblem(t, 403, "role-not-allowed")
	w.Call(t, "GET", path, apptest.As(w.acme.APIKey)).WantProblem(t, 403, "role-not-allowed")
	w.Call(t, "GET", "/v1/me/logins", apptest.As(w.acme.APIKey)).WantProblem(t, 403, "role-not-allowed")
	if page := list("/v1/me/logins", w.operator); len(page.Data) != 1 {
		t.Errorf("the operator's own: %+v", page)
	}

	// They go with the person.
	w.Call(t, "POST", "/v1/users/"+person.ID.String()+"/redaction", apptest.As(w.admin)).Want(t, 200)
	if page := list(path, w.admin); page.Data == nil || len(page.Data) != 0 {
		t.Errorf("after redaction: %+v", page)
	}
	leaver := w.Person(t, w.acme, "user", "leaver@acme.example")
	w.Call(t, "DELETE", "/v1/users/"+leaver.ID.String(), apptest.As(w.admin)).Want(t, 200)
	w.Call(t, "GET", "/v1/users/"+leaver.ID.String()+"/logins", apptest.As(w.admin)).WantProblem(t, 404, "not-found")
}

func TestCustomersChooseHowLongLoginsAreKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var settings struct {
		Days         int    `json:"login_record_days"`
		SecondFactor string `json:"second_factor"`
	}
	before := w.Call(t, "GET", "/v1/customer", apptest.As(w.admin)).Want(t, 200)
	if before.Into(t, &settings); settings.Days != 90 || settings.SecondFactor != "off" {
		t.Errorf("%+v", settings)
	}
	after := w.Call(t, "PATCH", "/v1/customer", apptest.As(w.admin), apptest.JSON(members{"login_record_days": 7, "second_factor": "administrators"}),
		apptest.Header("If-Match", before.Header.Get("ETag"))).Want(t, 200)
	if after.Into(t, &settings); settings.Days != 7 || settings.SecondFactor != "administrators" || after.Header.Get("ETag") == before.Header.Get("ETag") {
		t.Errorf("%+v", settings)
	}
	acts := actsOn(t, w.Service, w.acme.ID.String())
	if last := acts[len(acts)-1]; last != "user customer.changed login_record_days,second_factor" {
		t.Errorf("the trail: %s", last)
	}
	// Required of administrators: this one has to set it up before anything else, the user has not.
	w.Database.Clock.Advance(time.Second)
	w.Call(t, "PATCH", "/v1/customer", apptest.As(w.admin), apptest.JSON(members{"second_factor": "off"})).WantProblem(t, 403, "second-factor-to-set-up")
	w.Call(t, "GET", "/v1/me/logins", apptest.As(w.user)).Want(t, 200)
	for _, bad := range []members{
		{"login_record_days": 0}, {"login_record_days": 401}, {"login_record_days": 1.5}, {"login_record_days": nil}, {"second_factor": "sometimes"}, {"second_factor": nil},
		{"name": "Mine"}, {"slug": "mine"},
	} {
		w.Call(t, "PATCH", "/v1/customer", apptest.As(w.otherAdmin), apptest.JSON(bad)).WantProblem(t, 400, "malformed-request")
	}
	w.Call(t, "PATCH", "/v1/customer", apptest.As(w.otherAdmin), apptest.JSON(members{"login_record_days": 400})).Want(t, 200)

	kept := func() (acme, other int) {
		t.Helper()
		if err := w.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		const count = "select count(*) from login_records where customer_id = $1"
		w.Superuser(t, count, &acme, w.acme.ID)
		w.Superuser(t, count, &other, w.other.ID)
		return acme, other
	}
	for _, step := range []struct {
		after       time.Duration
		acme, other int
	}{{0, 2, 1}, {7*24*time.Hour - time.Minute, 2, 1}, {time.Hour, 0, 1}, {392 * 24 * time.Hour, 0, 1}, {48 * time.Hour, 0, 0}} {
		w.Database.Clock.Advance(step.after)
		if acme, other := kept(); acme != step.acme || other != step.other {
			t.Errorf("after %v more: %d and %d, want %d and %d", step.after, acme, other, step.acme, step.other)
		}
	}
}
