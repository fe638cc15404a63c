package journeys

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/testkit/apptest"
	"github.com/fusionspim/steward/internal/testkit/journeys/steps"
)

const customersPath = "/v1/operator/customers"

// newCustomer is the body that makes a customer; the changes replace members.
func newCustomer(slug string, changes ...any) members {
	body := members{
		"slug": slug, "name": "The " + slug + " company",
		"administrator": members{"first_name": "Mina", "last_name": "Rao", "email": "mina.rao@" + slug + ".example"},
	}
	for i := 0; i < len(changes); i += 2 {
		body[changes[i].(string)] = changes[i+1]
	}
	return body
}

func TestOperatorsMakeCustomers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	operator := apptest.As(w.operator)
	count := func(query string, arguments ...any) (n int) {
		t.Helper()
		w.Superuser(t, "select count(*) from "+query, &n, arguments...)
		return n
	}
	answer := w.Call(t, "POST", customersPath, operator, apptest.JSON(newCustomer("initech", "name", "  Initech "))).Want(t, 201)
	of := answer.Text(t, "id")
	if answer.Header.Get("Location") != customersPath+"/"+of || answer.Header.Get("ETag") != `"1"` || answer.Text(t, "name") != "Initech" || answer.Text(t, "slug") != "initech" {
		t.Errorf("%v %s", answer.Header, answer.Body)
	}
	if text := strings.ToLower(string(answer.Body)); strings.Contains(text, "mina") || strings.Contains(text, "rao") {
		t.Errorf("an operator sees a person: %s", answer.Body)
	}
	// It has one person, its administrator; and the trail of the new customer names the operator, not that of Fusions.
	var administrator string
	w.Superuser(t, "select id from users where customer_id = $1 and role = 'customer' and status = 'active' and email = 'mina.rao@initech.example'", &administrator, of)
	if n := count("users where customer_id = $1", of); n != 1 {
		t.Errorf("%d people", n)
	}
	wantActs(t, w.Service, of, "operator customer.created")
	wantActs(t, w.Service, administrator, "operator user.created")
	if n := count("audit_entries where customer_id = $1 and actor_operator_customer_id = $2 and actor_operator_id = $3", of, w.fusions.ID, w.fusions.Admin.ID); n != 2 {
		t.Errorf("%d entries name the operator", n)
	}
	found := w.Call(t, "GET", customersPath+"/"+of, operator).Want(t, 200)
	if string(found.Body) != string(answer.Body) || found.Header.Get("ETag") != `"1"` {
		t.Errorf("viewed: %s\nmade: %s", found.Body, answer.Body)
	}

	// The person is invited.
	steps.Eventually(t, "an invitation", func() bool { return len(w.Mailbox.To(t, "mina.rao@initech.example")) == 1 })

	for name, attempt := range map[string]struct {
		body   members
		status int
		slug   string
	}{
		"taken":        {newCustomer("acme"), 409, "slug-taken"},
		"Fusions":      {newCustomer("fusions"), 409, "slug-taken"},
		"capitals":     {newCustomer("Hooli"), 400, "malformed-request"},
		"hyphens":      {newCustomer("hoo--li"), 400, "malformed-request"},
		"a dot":        {newCustomer("hooli.example"), 400, "malformed-request"},
		"nothing":      {newCustomer(""), 400, "malformed-request"},
		"a long slug":  {newCustomer(strings.Repeat("a", 64)), 400, "malformed-request"},
		"a blank name": {newCustomer("hooli", "name", "  "), 400, "malformed-request"},
		"a control":    {newCustomer("hooli", "name", "Hoo\u0007li"), 400, "malformed-request"},
		"nobody":       {newCustomer("hooli", "administrator", nil), 400, "malformed-request"},
		"a role":       {newCustomer("hooli", "administrator", members{"first_name": "A", "last_name": "B", "email": "a@hooli.example", "role": "operator"}), 400, "malformed-request"},
		"no address":   {newCustomer("hooli", "administrator", members{"first_name": "A", "last_name": "B", "email": "\"a b\"@hooli.example"}), 422, "invalid-email"},
		"a long address": {
			newCustomer("hooli", "administrator", members{"first_name": "A", "last_name": "B", "email": longInASCII}), 422, "invalid-email",
		},
		"no name":          {newCustomer("hooli", "administrator", members{"first_name": " ", "last_name": "B", "email": "a@hooli.example"}), 422, "invalid-name"},
		"more than it has": {newCustomer("hooli", "guidance_text", "x"), 400, "malformed-request"},
	} {
		refused := w.Call(t, "POST", customersPath, operator, apptest.JSON(attempt.body), apptest.Header("Idempotency-Key", "refused"))
		if refused.Status != attempt.status || !strings.Contains(string(refused.Body), "/problems/"+attempt.slug) {
			t.Errorf("%s: %d %s", name, refused.Status, refused.Body)
		}
		if attempt.status == 422 && !strings.Contains(string(refused.Body), `"/administrator/`) {
			t.Errorf("%s points elsewhere: %s", name, refused.Body)
		}
	}
	if n := count("customers"); n != 4 { // acme, umbrella, fusions, initech: nothing half done
		t.Errorf("%d customers", n)
	}
	w.Call(t, "POST", customersPath, operator, apptest.JSON(newCustomer("hooli")), apptest.Header("Idempotency-Key", "refused")).Want(t, 201) // only what went well is remembered
	for _, credential := range []apptest.Credential{w.admin, w.user, w.acme.APIKey} {
		w.Call(t, "POST", customersPath, apptest.As(credential), apptest.JSON(newCustomer("massive"))).WantProblem(t, 403, "role-not-allowed")
		w.Call(t, "GET", customersPath, apptest.As(credential)).WantProblem(t, 403, "role-not-allowed")
	}
}

// A repetition makes nothing, whoever comes first, and what is kept of it goes with the administrator.
func TestMakingACustomerIsRepeatable(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	beside := apptest.Replica(t, w.Database)
	operator, key := apptest.As(w.operator), apptest.Header("Idempotency-Key", "the-key")
	post := func(body members, options ...apptest.Option) apptest.Answer {
		t.Helper()
		return w.Call(t, "POST", customersPath, append(options, operator, apptest.JSON(body))...)
	}
	statuses := make([]int, 8)
	var callers sync.WaitGroup
	for i := range statuses {
		callers.Go(func() {
			answer, err := []*apptest.Service{w.Service, beside}[i%2].Try(t.Context(), "POST", customersPath, operator, key, apptest.JSON(newCustomer("initech")))
			if err != nil {
				t.Error(err)
			}
			statuses[i] = answer.Status
		})
	}
	callers.Wait()
	for _, status := range statuses {
		if status != 201 && status != 409 { // made, repeated, or another is at it
			t.Errorf("%v", statuses)
			break
		}
	}
	first := post(newCustomer("initech"), key).Want(t, 201)
	if first.Header.Get("Idempotency-Replayed") != "true" || first.Header.Get("Location") != customersPath+"/"+first.Text(t, "id") {
		t.Errorf("%v", first.Header)
	}
	var customers, people int
	w.Superuser(t, "select count(*) from customers where slug = 'initech'", &customers)
	w.Superuser(t, "select count(*) from users where customer_id = $1", &people, first.Text(t, "id"))
	if customers != 1 || people != 1 {
		t.Errorf("%d customers with %d people", customers, people)
	}

	// Another body is refused, wherever it differs.
	for _, other := range []members{
		newCustomer("hooli"), newCustomer("initech", "name", "Other"),
		newCustomer("initech", "administrator", members{"first_name": "Bo", "last_name": "Rao", "email": "bo.rao@initech.example"}),
	} {
		post(other, key).WantProblem(t, 422, "idempotency-key-reused")
	}
	post(newCustomer("initech")).WantProblem(t, 409, "slug-taken")
	post(newCustomer("initech"), apptest.Header("Idempotency-Key", "another-key")).WantProblem(t, 409, "slug-taken")
	// Another operator's key of the same name is another key.
	colleague := w.SignIn(t, "fusions", w.Person(t, w.fusions, "operator", "colleague@fusions.example"))
	w.Call(t, "POST", customersPath, apptest.As(colleague), key, apptest.JSON(newCustomer("initech"))).WantProblem(t, 409, "slug-taken")
	w.Call(t, "POST", customersPath, apptest.As(colleague), key, apptest.JSON(newCustomer("hooli"))).Want(t, 201)

	// The operators' rows hold nothing of the person; what the customer's hold goes with the person.
	var ofPeople int
	w.Superuser(t, "select count(*) from idempotency_answers where customer_id = $1 and subject_user_id is not null", &ofPeople, w.fusions.ID)
	if ofPeople != 0 {
		t.Errorf("the operators' rows tell of %d people", ofPeople)
	}
	var administrator string
	w.Superuser(t, "select id from users where customer_id = $1", &administrator, first.Text(t, "id"))
	initech := w.Person(t, customerOf(t, w, first.Text(t, "id"), "initech"), "customer", "second@initech.example")
	admin := w.SignIn(t, "initech", initech)
	w.Call(t, "DELETE", "/v1/users/"+administrator, apptest.As(admin)).Want(t, 200)
	post(newCustomer("initech"), key).WantProblem(t, 409, "idempotency-answer-erased")

	// After a day the key is anybody's, and the slug is still taken.
	w.Database.Clock.Advance(25 * time.Hour)
	if err := w.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	operator = apptest.As(w.SignIn(t, "fusions", w.fusions.Admin))
	post(newCustomer("initech"), key).WantProblem(t, 409, "slug-taken")
}

func customerOf(t *testing.T, w *world, of, slug string) apptest.Customer {
	t.Helper()
	parsed, err := id.Parse[id.Customer](of)
	if err != nil {
		t.Fatal(err)
	}
	return apptest.Customer{ID: parsed, Slug: slug}
}

func TestOperatorsSeeCustomersAndNoPeople(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	operator := apptest.As(w.operator)
	for _, slug := range []string{"initech", "hooli", "massive"} {
		w.Call(t, "POST", customersPath, operator, apptest.JSON(newCustomer(slug))).Want(t, 201)
	}
	var slugs []string
	for path := customersPath + "?limit=2"; path != ""; {
		var page struct {
			Data []struct{ Slug string }
			Next *string `json:"next_cursor"`
		}
		answer := w.Call(t, "GET", path, operator).Want(t, 200)
		if strings.Contains(string(answer.Body), "mina") || strings.Contains(string(answer.Body), "@") {
			t.Errorf("people in %s", answer.Body)
		}
		answer.Into(t, &page)
		for _, one := range page.Data {
			slugs = append(slugs, one.Slug)
		}
		if path = ""; page.Next != nil {
			path = customersPath + "?limit=2&cursor=" + *page.Next
			if len(slugs) == 2 {
				w.Customer(t, "late") // moves nothing
			}
		}
	}
	if got := strings.Join(slugs, " "); got != "massive hooli initech umbrella acme" {
		t.Errorf("listed: %s", got)
	}

	// Another name, if nobody was faster.
	path := customersPath + "/" + w.acme.ID.String()
	before := w.Call(t, "GET", path, operator).Want(t, 200)
	ifMatch := apptest.Header("If-Match", before.Header.Get("ETag"))
	after := w.Call(t, "PATCH", path, operator, ifMatch, apptest.JSON(members{"name": " Acme Ltd"})).Want(t, 200)
	if after.Text(t, "name") != "Acme Ltd" || after.Text(t, "slug") != "acme" || after.Header.Get("ETag") == before.Header.Get("ETag") {
		t.Errorf("%v %s", after.Header, after.Body)
	}
	w.Call(t, "PATCH", path, operator, ifMatch, apptest.JSON(members{"name": "Acme Inc"})).WantProblem(t, 412, "precondition-failed")
	same := w.Call(t, "PATCH", path, operator, apptest.Raw("application/merge-patch+json", `{"name":"Acme Ltd"}`)).Want(t, 200)
	if same.Header.Get("ETag") != after.Header.Get("ETag") {
		t.Error("the same name made another version")
	}
	wantActs(t, w.Service, w.acme.ID.String(), "system customer.created", "operator customer.changed name")
	var trail struct {
		Data []struct {
			Actor  struct{ Type string }
			Action string
		}
	}
	w.Call(t, "GET", "/v1/audit-entries?action=customer.changed", apptest.As(w.acme.APIKey)).Want(t, 200).Into(t, &trail)
	if len(trail.Data) != 1 || trail.Data[0].Actor.Type != "operator" {
		t.Errorf("the customer sees %+v", trail.Data)
	}
	var me struct{ Customer struct{ Name string } }
	w.Call(t, "GET", "/v1/me", apptest.As(w.user)).Want(t, 200).Into(t, &me)
	if me.Customer.Name != "Acme Ltd" {
		t.Errorf("the user sees %q", me.Customer.Name)
	}
	for _, bad := range []members{{"name": ""}, {"name": " "}, {"name": nil}, {}, {"slug": "other"}, {"name": "x", "guidance_text": "x"}, {"name": "a\nb"}} {
		w.Call(t, "PATCH", path, operator, apptest.JSON(bad)).WantProblem(t, 400, "malformed-request")
	}
	// Fusions is no customer, and neither is what is not there.
	for _, none := range []string{w.fusions.ID.String(), id.New[id.Customer]().String(), w.acme.User.ID.String()} {
		w.Call(t, "GET", customersPath+"/"+none, operator).WantProblem(t, 404, "not-found")
		w.Call(t, "PATCH", customersPath+"/"+none, operator, apptest.JSON(members{"name": "Mine"})).WantProblem(t, 404, "not-found")
	}
	w.Call(t, "GET", path, apptest.As(w.admin)).WantProblem(t, 403, "role-not-allowed")
	for _, people := range []string{"/v1/users", "/v1/users/" + w.acme.User.ID.String(), "/v1/audit-entries"} {
		w.Call(t, "GET", people, operator).WantProblem(t, 403, "role-not-allowed")
	}
}

// A part of a transaction inside another customer sees that customer alone, and what is around it sees the one of before, whatever happens in between.
func TestInsideAnotherCustomer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	seen := func(tx *postgres.Tx) string {
		t.Helper()
		var slugs string
		if err := tx.QueryRow("select string_agg(slug, ' ') from customers").Scan(&slugs); err != nil {
			t.Fatal(err)
		}
		return slugs
	}
	see := func(tx *postgres.Tx, want string) {
		t.Helper()
		if got := seen(tx); got != want {
			t.Errorf("sees %q, want %q", got, want)
		}
	}
	wrong := errors.New("wrong")
	for range 20 { // so that each connection of the pool has its turn, and a next one
		err := w.DB.InCustomer(t.Context(), w.acme.ID, func(tx *postgres.Tx) error {
			see(tx, "acme")
			if err := tx.AsCustomer(w.other.ID, func(tx *postgres.Tx) error { see(tx, "umbrella"); return nil }); err != nil {
				t.Error(err)
			}
			see(tx, "acme")
			if err := tx.AsCustomer(w.other.ID, func(*postgres.Tx) error { return wrong }); !errors.Is(err, wrong) {
				t.Errorf("%v", err)
			}
			see(tx, "acme")
			return tx.AsCustomer(w.other.ID, func(tx *postgres.Tx) error { // a failed statement leaves nothing to go back with
				_, err := tx.Exec("select 1 / 0")
				return err
			})
		})
		if err == nil {
			t.Error("a failure inside another customer is lost")
		}
		if err := w.DB.InCustomer(t.Context(), w.acme.ID, func(tx *postgres.Tx) error { see(tx, "acme"); return nil }); err != nil {
			t.Error(err)
		}
	}
	err := w.DB.InCustomerAutocommit(t.Context(), w.acme.ID, func(tx *postgres.Tx) error {
		return tx.AsCustomer(w.other.ID, func(*postgres.Tx) error { t.Error("inside without a transaction"); return nil })
	})
	if err == nil {
		t.Error("statements of their own were let inside another customer")
	}
}
