package journeys

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/fusionspim/steward/internal/account/user"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/base/sensitive"
	"github.com/fusionspim/steward/internal/compliance/offboarding"
	"github.com/fusionspim/steward/internal/infra/idempotency"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/infra/seal"
	"github.com/fusionspim/steward/internal/record/audit"
	"github.com/fusionspim/steward/internal/testkit/apptest"
	"github.com/fusionspim/steward/internal/testkit/journeys/steps"
	"github.com/fusionspim/steward/internal/testkit/residue"
)

// The canary: a person whose every detail is a made-up word that occurs nowhere else. The person goes through every operation of the contract, by
// every kind of caller, rightly and wrongly. Then the person is erased, and none of the words may be found anywhere.

// word makes up a word in mixed case. Of letters outside ASCII it is no word that the trail would take.
func word(vowels string) string {
	choose := func(from string) string {
		letters := []rune(from)
		return string(letters[rand.N(len(letters))])
	}
	made := strings.ToUpper(choose("bdfgklmnprstvz"))
	for range 5 {
		made += choose(vowels) + choose("bdfgklmnprstvz")
	}
	return made + strings.ToUpper(choose("qxwj")) + choose(vowels)
}

func name() string { return word("áéíóúàèò") }

func plain() string { return word("aeiou") }

// canary is the person and everybody who deals with the person.
type canary struct {
	*testing.T
	service *apptest.Service
	conn    *pgx.Conn
	of      apptest.Customer
	admin   apptest.Option // the credentials
	key     apptest.Option
	other   apptest.Customer // another customer, with an administrator who tries too

	marks    residue.Marks
	keys     []string        // every Idempotency-Key that was sent
	called   map[string]bool // operations, by their ids
	id       string          // of the person
	first    string          // as they are now
	last     string
	email    string
	password string
	secret   string // of the authenticator
	addresses

	inbox    *receiver // of the webhooks
	endpoint string    // that they go to
}

type addresses struct{ four, six netip.Addr }

func (c *canary) path() string { return "/v1/users/" + c.id }

// call calls an operation. A problem must not tell anything of the person.
func (c *canary) call(method, path string, options ...apptest.Option) apptest.Answer {
	c.Helper()
	options = append([]apptest.Option{
		// What a browser says about itself and its owner is not wanted, wherever it comes in.
		apptest.Header("User-Agent", "Canary "+c.last), apptest.Header("Referer", "https://example.com/?"+url.QueryEscape(c.email)),
		apptest.Header("X-Request-Id", c.email), apptest.Header("X-Forwarded-For", "10.1.2.3, "+c.four.String()), apptest.Header("From", c.email),
	}, options...)
	answer := c.service.Call(c, method, path, options...)
	if strings.HasPrefix(answer.Header.Get("Content-Type"), "application/problem+json") {
		var whole bytes.Buffer
		_ = answer.Header.Write(&whole) // to memory: does not fail
		whole.Write(answer.Body)
		if found := c.marks.In(whole.Bytes()); len(found) > 0 {
			c.Errorf("%s %s: the problem tells %q: %s", method, path, found, whole.Bytes())
		}
	}
	plainPath, _, _ := strings.Cut(path, "?")
	for _, operation := range c.service.API.Operations() {
		if operation.Method == method && fits(operation.Path, plainPath) {
			c.called[operation.ID] = true
		}
	}
	return answer
}

// fits tells whether a path is one of a template such as /v1/users/{id}.
func fits(template, path string) bool {
	parts, given := strings.Split(template, "/"), strings.Split(path, "/")
	if len(parts) != len(given) {
		return false
	}
	for i, part := range parts {
		if part != given[i] && !strings.HasPrefix(part, "{") {
			return false
		}
	}
	// Between two templates that both fit, such as sessions/current and sessions/{id}, it does not matter here.
	return true
}

// once sends an Idempotency-Key, a new one.
func (c *canary) once() (string, apptest.Option) {
	key := "key-of-" + plain() + plain()
	c.marks.Add(key)
	c.keys = append(c.keys, key)
	return key, apptest.Header("Idempotency-Key", key)
}

func (c *canary) from(address netip.Addr) apptest.Option {
	return apptest.Header("X-Forwarded-For", address.String())
}

type object = map[string]any

// newCanary makes a service with two customers. The person is not made yet.
func newCanary(t *testing.T) *canary {
	service := apptest.Start(t)
	c := &canary{
		T: t, service: service, conn: service.Database.Superuser(t), of: service.Customer(t, "cage"), other: service.Customer(t, "next-door"),
		called: make(map[string]bool), first: name(), last: name() + " " + name(), email: plain() + "." + plain() + "@" + plain() + ".example",
		addresses: addresses{netip.MustParseAddr("203.0.113.77"), netip.MustParseAddr("2001:db8:77aa:1::c0de")},
	}
	c.admin, c.key = apptest.As(service.SignIn(t, c.of.Slug, c.of.Admin)), apptest.As(c.of.APIKey)
	c.known()
	for _, address := range []netip.Addr{c.four, c.six} {
		c.marks.Add(address.String(), address.StringExpanded())
		c.marks.AddBytes(address.AsSlice(), address.String())
	}
	return c
}

// known adds what the person is called now to the marks, whole and in parts.
func (c *canary) known() {
	local, domain, _ := strings.Cut(c.email, "@")
	c.marks.Add(c.first, c.last, c.email, local, domain)
	c.marks.Add(strings.Fields(c.last)...)
	c.marks.Add(strings.Split(local, ".")...)
}

// rename corrects the person by PATCH, which is one of both media types in turn.
func (c *canary) rename(as apptest.Option, mediaType string, members object) {
	c.Helper()
	for member, value := range members {
		switch member {
		case "first_name":
			c.first = value.(string)
		case "last_name":
			c.last = value.(string)
		case "email":
			c.email = value.(string)
		}
	}
	c.known()
	body, err := json.Marshal(members)
	if err != nil {
		c.Fatal(err)
	}
	c.call("PATCH", c.path(), as, apptest.Raw(mediaType, string(body))).Want(c, http.StatusOK)
}

func (c *canary) setPassword() {
	c.Helper()
	c.password = strings.Join([]string{plain(), plain(), plain()}, " ")
	c.marks.Add(c.password)
	hash, err := c.service.Hasher.Hash(c.Context(), sensitive.New(c.password))
	if err != nil {
		c.Fatal(err)
	}
	// Not by the invitation, so that a person without a mailed link is tried too.
	steps.Execute(c, c.conn, "update users set password_hash = $1 where id = $2", hash, c.id)
}

func (c *canary) signIn(password string, options ...apptest.Option) apptest.Answer {
	c.Helper()
	return c.call("POST", "/v1/sessions",
		append(options, apptest.JSON(object{"customer": c.of.Slug, "email": strings.ToUpper(c.email), "password": password}))...)
}

// person is what an erased person may come back with.
type person struct {
	creation    []apptest.Option // the request that made the person, to be repeated
	access      apptest.Option
	refresh     string
	refreshOnce apptest.Option // a refresh with a key, to be repeated
	refreshed   string         // what was exchanged in it
	signInOnce  apptest.Option
}

// live goes through every operation of the contract with the person.
func (c *canary) live(role principal.Role, withEntries bool) (p person) {
	c.Helper()
	_, key := c.once()
	p.creation = []apptest.Option{c.key, key, apptest.JSON(object{"first_name": c.first, "last_name": " " + c.last + " ", "email": c.email, "role": role})}
	c.hook()
	made := c.call("POST", "/v1/users", p.creation...).Want(c, http.StatusCreated)
	c.id = made.Text(c, "id")
	if again := c.call("POST", "/v1/users", p.creation...).Want(c, http.StatusCreated); again.Header.Get("Idempotency-Replayed") != "true" {
		c.Error("the creation was not replayed")
	}
	c.correct()
	c.misuse()
	c.importFiles()
	c.signIn("not a password of anybody").WantProblem(c, http.StatusUnauthorized, "invalid-credentials")
	c.setPassword()
	c.forget()
	c.protect()
	c.enter(&p)
	c.browse()
	c.enrol(p.access)
	c.operate()
	c.listen()
	c.record(withEntries)
	c.alarm()
	if role == principal.Administrator {
		c.administer(p.access)
	}
	c.logins(p.access)
	for _, address := range []string{c.path() + "/erasure-plan", c.path(), c.path() + "/alerts", "/v1/users", "/v1/audit-entries?target_id=" + c.id} {
		c.call("GET", address, c.admin).Want(c, http.StatusOK)
		c.call("GET", address, c.key).Want(c, http.StatusOK)
	}
	for _, filter := range []string{"email=" + url.QueryEscape(c.email), "q=" + url.QueryEscape(c.first), "q=" + url.QueryEscape(c.last[:9]) + "&limit=1"} {
		if answer := c.call("GET", "/v1/users?"+filter, c.key).Want(c, http.StatusOK); len(c.marks.In(answer.Body)) == 0 {
			c.Errorf("the list by %s does not show the person, so the marks cannot be found: %s", filter, answer.Body)
		}
	}
	// The operations that touch nobody, called with what does not belong there.
	for _, page := range []string{
		"/livez", "/readyz", "/openapi.yaml", "/openapi.json", "/docs", "/problems/email-taken", "/.well-known/jwks.json", "/.well-known/security.txt",
		"/set-password", "/forgot-password",
	} {
		c.call("GET", page+"?"+url.QueryEscape(c.email)+"="+url.QueryEscape(c.last))
	}
	return p
}

// correct changes everything that can be changed, several times.
func (c *canary) correct() {
	const merge = "application/merge-patch+json"
	c.rename(c.admin, "application/json", object{"first_name": name()})
	c.rename(c.key, merge, object{"last_name": name() + " " + name()})
	c.rename(c.admin, merge, object{"email": plain() + "@" + plain() + ".example", "first_name": name()})
	c.rename(c.key, "application/json", object{"email": plain() + "." + plain() + "@" + plain() + ".example", "status": "disabled"})
	c.rename(c.key, "application/json", object{"first_name": name(), "last_name": name() + " " + name(), "status": "active"})
	c.call("PUT", c.path()+"/alerts", c.admin, apptest.JSON(object{"opted_in": false})).Want(c, http.StatusOK)
	c.call("PUT", c.path()+"/alerts", c.key, apptest.JSON(object{"opted_in": true})).Want(c, http.StatusOK)
}

// misuse sends what must be refused, with the details in every place where they could come back or be kept.
func (c *canary) misuse() {
	person, escaped := object{"first_name": c.first, "last_name": c.last, "email": c.email}, url.QueryEscape(c.email)
	with := func(member string, value any) apptest.Option {
		changed := maps.Clone(person)
		changed[member] = value
		return apptest.JSON(changed)
	}
	c.call("PATCH", "/v1/customer", c.admin, apptest.JSON(object{"mail_domains": object{"policy": "refuse", "domains": []string{"cage.example"}}})).
		Want(c, http.StatusOK)
	c.call("POST", "/v1/users", c.admin, with("email", plain()+"."+c.email)).WantProblem(c, http.StatusUnprocessableEntity, "foreign-mail-domain")
	c.call("PATCH", c.path(), c.key, apptest.JSON(object{"email": "x" + c.email})).WantProblem(c, http.StatusUnprocessableEntity, "foreign-mail-domain")
	c.call("PATCH", "/v1/customer", c.admin, apptest.JSON(object{"mail_domains": object{"policy": "off", "domains": []string{}}})).Want(c, http.StatusOK)

	for _, email := range []string{c.email, strings.ToUpper(c.email)} {
		_, key := c.once()
		c.call("POST", "/v1/users", c.key, key, with("email", email)).WantProblem(c, http.StatusConflict, "email-taken")
		c.call("PATCH", "/v1/users/"+c.of.User.ID.String(), c.admin, apptest.JSON(object{"email": email})).WantProblem(c, http.StatusConflict, "email-taken")
	}
	_, key := c.once()
	c.call("POST", "/v1/api-keys", c.admin, key, apptest.JSON(object{"name": "made", "scopes": []string{"users:read"}})).Want(c, http.StatusCreated)
	c.call("POST", "/v1/api-keys", c.admin, key, apptest.JSON(object{"name": c.last, "scopes": []string{"users:read"}})).
		WantProblem(c, http.StatusUnprocessableEntity, "idempotency-key-reused")

	type try struct {
		status       int
		method, path string
		options      []apptest.Option
	}
	tries := []try{
		{422, "POST", "/v1/users", []apptest.Option{c.key, with("first_name", c.first+"\u202e")}},
		{422, "POST", "/v1/users", []apptest.Option{c.key, with("email", c.last+" <"+c.email+">")}},
		{400, "POST", "/v1/users", []apptest.Option{c.key, with("last_name", strings.Repeat(c.last, 20))}},
		{400, "POST", "/v1/users", []apptest.Option{c.key, with("role", c.first)}},
		{400, "POST", "/v1/users", []apptest.Option{c.key, with(c.email, c.first)}},
		{400, "POST", "/v1/users", []apptest.Option{c.key, with("email", []string{c.email})}},
		{400, "POST", "/v1/users", []apptest.Option{c.key, apptest.Raw("application/json", `{"first_name":"`+c.first+`","first_name":"`+c.last)}},
		{400, "POST", "/v1/users", []apptest.Option{c.key, apptest.Raw("application/json", c.email)}},
		{415, "POST", "/v1/users", []apptest.Option{c.key, apptest.Raw("text/"+escaped, c.email)}},
		{400, "POST", "/v1/users", []apptest.Option{c.key, with("email", "x"+c.email), apptest.Header("Idempotency-Key", c.last)}},
		{400, "POST", "/v1/users?" + escaped + "=" + escaped, []apptest.Option{c.key, with("email", "x"+c.email)}},
		{400, "GET", "/v1/users?cursor=" + escaped, []apptest.Option{c.admin}},
		{400, "GET", "/v1/users?limit=" + escaped, []apptest.Option{c.admin}},
		{400, "GET", "/v1/users?status=" + escaped, []apptest.Option{c.admin}},
		{400, "GET", "/v1/audit-entries?action=" + escaped, []apptest.Option{c.admin}},
		{406, "GET", "/v1/users", []apptest.Option{c.admin, apptest.Header("Accept", "text/"+escaped)}},
		{404, "GET", "/v1/users/" + url.PathEscape(c.email), []apptest.Option{c.admin}},
		{404, "GET", "/v1/users/" + strings.ToLower(url.PathEscape(c.email[:6])) + "abc", []apptest.Option{c.admin}},
		{404, "GET", "/" + plain() + "/" + url.PathEscape(c.last), nil},
		{404, "DELETE", "/v1/users/" + url.PathEscape(c.email), []apptest.Option{c.admin}},
		{405, "POST", "/v1/users/" + url.PathEscape(c.last), []apptest.Option{c.admin}},
		{401, "GET", "/v1/users", []apptest.Option{apptest.As(apptest.Credential(c.email))}},
		{401, "GET", "/v1/users", []apptest.Option{apptest.Header("Authorization", c.last+" "+c.email)}},
		{412, "PATCH", c.path(), []apptest.Option{c.admin, apptest.Header("If-Match", c.email), apptest.JSON(object{"first_name": c.first})}},
		{400, "PATCH", c.path(), []apptest.Option{c.admin, apptest.JSON(object{"status": c.first})}},
		{422, "PATCH", c.path(), []apptest.Option{c.admin, apptest.JSON(object{"email": c.last})}},
		{422, "PATCH", "/v1/customer", []apptest.Option{c.admin, apptest.JSON(object{"privacy_contact": c.last})}},
		{400, "POST", c.path() + "/redaction", []apptest.Option{c.admin, apptest.JSON(object{"reason": c.last})}},
		{400, "POST", c.path() + "/redaction", []apptest.Option{c.admin, apptest.JSON(object{"reason": "other", c.last: c.email})}},
		{400, "PUT", c.path() + "/alerts", []apptest.Option{c.admin, apptest.JSON(object{"opted_in": c.email})}},
		{404, "GET", "/v1/erasure-receipts/" + url.PathEscape(c.email), []apptest.Option{c.admin}},
		{401, "POST", "/v1/sessions/refresh", []apptest.Option{apptest.JSON(object{"refresh_token": c.email})}},
		{401, "POST", "/v1/sessions", []apptest.Option{apptest.JSON(object{"customer": "nowhere", "email": c.email, "password": c.last})}},
		{401, "POST", "/v1/sessions", []apptest.Option{apptest.JSON(object{"customer": c.of.Slug, "email": c.last, "password": c.email})}},
		{400, "POST", "/v1/sessions", []apptest.Option{apptest.JSON(object{"customer": c.of.Slug, "email": c.email, c.last: c.email})}},
	}
	// The administrator next door, and one from here with the ids of next door.
	stranger := apptest.As(c.service.SignIn(c, c.other.Slug, c.other.Admin))
	for _, one := range []struct{ method, below, body string }{
		{"GET", "", ""}, {"PATCH", "", `{"first_name":"` + c.first + `"}`}, {"DELETE", "", ""}, {"GET", "/erasure-plan", ""},
		{"POST", "/redaction", "{}"}, {"PUT", "/alerts", `{"opted_in":false}`}, {"GET", "/alerts", ""},
	} {
		options := []apptest.Option{stranger}
		if one.body != "" {
			options = append(options, apptest.Raw("application/json", one.body))
		}
		tries = append(tries, try{404, one.method, c.path() + one.below, options})
	}
	for _, one := range tries {
		if answer := c.call(one.method, one.path, one.options...); answer.Status != one.status {
			c.Errorf("%s %s: got %d, want %d: %s", one.method, one.path, answer.Status, one.status, answer.Body)
		}
	}
}

// importFiles sends files that the person stands in, rightly and wrongly.
func (c *canary) importFiles() {
	header, row := "first_name,last_name,email", strings.Join([]string{c.first, c.last, c.email}, ",")
	send := func(query, content string, options ...apptest.Option) imported {
		answer := c.call("POST", "/v1/user-imports"+query, append(options, c.key, apptest.Raw("text/csv", content))...).Want(c, http.StatusCreated)
		if found := c.marks.In(answer.Body); len(found) > 0 {
			c.Errorf("an import tells %q", found)
		}
		var out imported
		answer.Into(c, &out)
		return out
	}
	_, key := c.once()
	for range 2 { // the second time replayed
		if out := send("", header+"\n"+row, key); out.Existing != 1 {
			c.Errorf("the person is not there: %s", out.counts())
		}
	}
	_, key = c.once()
	refused := send("?dry_run=true", header+",role\n"+strings.Join([]string{
		row + "," + c.first, row + "," + c.last + ",", c.last + "," + row, c.first + "," + c.last + "," + c.first + ",", c.last + "," + c.last + "," + c.email + ",",
		c.first + "\u202e," + c.last + "," + c.email + ",", `"` + c.first + `" ` + row, "\xff" + row + ",",
	}, "\n"), key)
	if refused.Refused != 8 || refused.Created+refused.WouldCreate != 0 {
		c.Errorf("the rows were taken: %s", refused.counts())
	}
	for _, content := range []string{"", header, row, c.email + "," + header + "\n" + row, header + "\n\"" + strings.Repeat(row+"\n", 4000)} {
		_, key := c.once()
		c.call("POST", "/v1/user-imports", key, c.key, apptest.Raw("text/csv", content)).WantProblem(c, http.StatusBadRequest, "malformed-request")
	}
	for _, line := range []string{c.email, `{"first_name":"` + c.first + `","` + c.email + `":1}`, `{"email":"` + c.email + `","email":"` + c.email + `"}`, `{"role":"` + c.last + `"}`} {
		answer := c.call("POST", "/v1/user-imports", c.admin, apptest.Raw("application/x-ndjson", line)).Want(c, http.StatusCreated)
		if found := c.marks.In(answer.Body); len(found) > 0 || !bytes.Contains(answer.Body, []byte(`"refused":1`)) {
			c.Errorf("an import tells %q: %s", found, answer.Body)
		}
	}
	c.call("POST", "/v1/user-imports?"+url.QueryEscape(c.email)+"=1", c.key, apptest.Raw("text/csv", row)).Want(c, http.StatusBadRequest)
	c.call("GET", "/v1/user-imports/"+refused.ID, c.key).Want(c, http.StatusOK)
	c.call("GET", "/v1/user-imports/"+url.PathEscape(c.email), c.key).WantProblem(c, http.StatusNotFound, "not-found")
}

// enter signs the person in and out and lets the person look after the own account.
func (c *canary) enter(p *person) {
	c.signIn(c.password+"!", c.from(c.six)).WantProblem(c, http.StatusUnauthorized, "invalid-credentials")
	leaving := apptest.As(apptest.Credential(c.signIn(c.password, c.from(c.six)).Want(c, http.StatusCreated).Text(c, "access_token")))
	c.call("DELETE", "/v1/sessions/current", leaving).Want(c, http.StatusNoContent)
	_, p.signInOnce = c.once()
	signedIn := c.signIn(c.password, p.signInOnce, c.from(c.four)).Want(c, http.StatusCreated)
	c.signIn(c.password, p.signInOnce, c.from(c.four)).Want(c, http.StatusCreated) // replayed

	p.refreshed = signedIn.Text(c, "refresh_token")
	_, p.refreshOnce = c.once()
	for range 2 { // the second time replayed
		refreshed := c.call("POST", "/v1/sessions/refresh", p.refreshOnce, apptest.JSON(object{"refresh_token": p.refreshed})).Want(c, http.StatusOK)
		p.refresh, p.access = refreshed.Text(c, "refresh_token"), apptest.As(apptest.Credential(refreshed.Text(c, "access_token")))
		c.marks.Add(p.refreshed, p.refresh, refreshed.Text(c, "access_token"), signedIn.Text(c, "access_token"))
	}
	if answer := c.call("GET", "/v1/me", p.access).Want(c, http.StatusOK); len(c.marks.In(answer.Body)) == 0 {
		c.Errorf("/v1/me does not show the person: %s", answer.Body)
	}
	c.call("GET", "/v1/me/alerts", p.access).Want(c, http.StatusOK)
	c.call("PUT", "/v1/me/alerts", p.access, apptest.JSON(object{"opted_in": true})).Want(c, http.StatusOK)
	next := strings.Join([]string{plain(), plain(), plain()}, " ")
	c.marks.Add(next)
	c.call("PUT", "/v1/me/password", p.access, apptest.JSON(object{"current_password": c.last, "new_password": next})).
		WantProblem(c, http.StatusUnprocessableEntity, "current-password-wrong")
	c.call("PUT", "/v1/me/password", p.access, apptest.JSON(object{"current_password": c.password, "new_password": c.email})).
		WantProblem(c, http.StatusUnprocessableEntity, "weak-password")
	c.call("PUT", "/v1/me/password", p.access, apptest.JSON(object{"current_password": c.password, "new_password": next})).
		Want(c, http.StatusNoContent)
	c.password = next

	// A stolen token: the same exchange by another ends that session, and says so each time.
	stolen := c.signIn(c.password, c.from(c.six)).Want(c, http.StatusCreated).Text(c, "refresh_token")
	c.call("POST", "/v1/sessions/refresh", apptest.JSON(object{"refresh_token": stolen})).Want(c, http.StatusOK)
	_, key := c.once()
	for range 2 {
		c.call("POST", "/v1/sessions/refresh", key, apptest.JSON(object{"refresh_token": stolen})).WantProblem(c, http.StatusUnauthorized, "unauthorized")
	}
}

// forget has the person set another password by a mailed link.
func (c *canary) forget() {
	links := func() []apptest.Mail { // a notice of an earlier change may arrive in between
		return slices.DeleteFunc(c.service.Mailbox.To(c, c.email), func(mail apptest.Mail) bool { return !strings.Contains(mail.Text, "#token=") })
	}
	ask := func(key apptest.Option) (token string) {
		before := len(links())
		c.call("POST", "/v1/password-resets", key, apptest.JSON(object{"customer": c.of.Slug, "email": strings.ToUpper(c.email)})).Want(c, http.StatusAccepted)
		steps.Eventually(c.T, "the mailed link", func() bool { return len(links()) > before })
		token = links()[0].Token(c)
		c.marks.Add(token)
		return token
	}
	steps.Settled(c.T, c.service) // the invitation
	for _, email := range []string{c.last, "x" + c.email} {
		c.call("POST", "/v1/password-resets", apptest.JSON(object{"customer": c.of.Slug, "email": email})).Want(c, http.StatusAccepted)
	}
	_, key := c.once()
	token := ask(key)
	next := strings.Join([]string{plain(), plain(), plain()}, " ")
	c.marks.Add(next)
	confirm := func(token, password string, options ...apptest.Option) apptest.Answer {
		return c.call("POST", "/v1/password-resets/confirm", append(options, apptest.JSON(object{"token": token, "new_password": password}))...)
	}
	confirm(c.email, next).WantProblem(c, http.StatusGone, "link-used-up")
	confirm(token, c.email).WantProblem(c, http.StatusUnprocessableEntity, "weak-password")
	_, key = c.once()
	for range 2 { // the second time replayed
		confirm(token, next, key).Want(c, http.StatusNoContent)
	}
	confirm(token, next+"!").WantProblem(c, http.StatusGone, "link-used-up")
	c.password = next
	_, key = c.once()
	ask(key) // and this link is never used
}

// codes reads recovery codes, which are marks from here on.
func (c *canary) codes(answer apptest.Answer) []string {
	var made struct {
		RecoveryCodes []string `json:"recovery_codes"`
	}
	answer.Want(c, http.StatusOK).Into(c, &made)
	c.marks.Add(made.RecoveryCodes...)
	return made.RecoveryCodes
}

// enrol sets up a second factor with everything said wrongly first, and returns its recovery codes.
func (c *canary) enrol(access apptest.Option) []string {
	const factor, confirmation = "/v1/me/second-factor", "/v1/me/second-factor/confirmation"
	c.call("POST", confirmation, access, apptest.JSON(object{"one_time_code": c.first})).WantProblem(c, http.StatusConflict, "second-factor-missing")
	c.call("POST", factor, access, apptest.JSON(object{"current_password": c.last})).WantProblem(c, http.StatusUnprocessableEntity, "current-password-wrong")
	_, key := c.once()
	for range 2 { // the second time replayed
		made := c.call("POST", factor, access, key, apptest.JSON(object{"current_password": c.password})).Want(c, http.StatusCreated)
		c.secret = made.Text(c, "secret")
		if found := c.marks.In([]byte(strings.ReplaceAll(string(made.Body), c.secret, ""))); len(found) > 0 {
			c.Errorf("an authenticator is told %q, and keeps it for ever", found)
		}
	}
	c.marks.Add(c.secret)
	c.call("POST", confirmation, access, apptest.JSON(object{"one_time_code": c.first})).WantProblem(c, http.StatusUnprocessableEntity, "one-time-code-wrong")
	_, key = c.once()
	proof := apptest.JSON(object{"one_time_code": codeOf(c, c.service, c.secret)})
	codes := c.codes(c.call("POST", confirmation, access, key, proof))
	c.codes(c.call("POST", confirmation, access, key, proof)) // replayed
	c.call("GET", factor, access).Want(c, http.StatusOK)
	return codes
}

// protect goes through the life of a second factor, to its removal and an administrator's.
func (c *canary) protect() {
	enter := func(answer apptest.Answer) apptest.Option {
		token := answer.Want(c, http.StatusCreated).Text(c, "access_token")
		c.marks.Add(token)
		return apptest.As(apptest.Credential(token))
	}
	access := enter(c.signIn(c.password))
	codes := c.enrol(access)
	withCode := func(code string) apptest.Answer {
		return c.call("POST", "/v1/sessions", c.from(c.six),
			apptest.JSON(object{"customer": c.of.Slug, "email": c.email, "password": c.password, "one_time_code": code}))
	}
	c.signIn(c.password, c.from(c.four)).WantProblem(c, http.StatusUnauthorized, "second-factor-required")
	withCode(c.first).WantProblem(c, http.StatusUnauthorized, "second-factor-required")
	enter(withCode(codes[0]))
	withCode(codes[0]).WantProblem(c, http.StatusUnauthorized, "second-factor-required")
	c.service.Database.Clock.Advance(30 * time.Second) // for the next code
	enter(withCode(codeOf(c, c.service, c.secret)))
	c.call("POST", "/v1/me/recovery-codes", access, apptest.JSON(object{"one_time_code": c.first})).
		WantProblem(c, http.StatusUnprocessableEntity, "one-time-code-wrong")
	_, key := c.once()
	proof := apptest.JSON(object{"one_time_code": codes[1]})
	codes = c.codes(c.call("POST", "/v1/me/recovery-codes", access, key, proof))
	c.codes(c.call("POST", "/v1/me/recovery-codes", access, key, proof)) // replayed
	c.call("DELETE", "/v1/me/second-factor", access, apptest.Header("One-Time-Code", url.QueryEscape(c.first)[:12])).
		WantProblem(c, http.StatusUnprocessableEntity, "one-time-code-wrong")
	c.call("DELETE", "/v1/me/second-factor", access, apptest.Header("One-Time-Code", codes[0])).Want(c, http.StatusNoContent)
	c.enrol(access)
	c.call("DELETE", c.path()+"/second-factor", c.key).WantProblem(c, http.StatusForbidden, "role-not-allowed")
	c.call("DELETE", "/v1/users/"+url.PathEscape(c.email)+"/second-factor", c.admin).WantProblem(c, http.StatusNotFound, "not-found")
	c.call("DELETE", c.path()+"/second-factor", c.admin).Want(c, http.StatusNoContent)
	c.service.Database.Clock.Advance(time.Second) // that was the end of the sessions
	c.call("GET", "/v1/me", access).WantProblem(c, http.StatusUnauthorized, "unauthorized")
}

// browse lets the person in by a browser, and look after the sessions that there are.
func (c *canary) browse() {
	_, key := c.once()
	signIn := []apptest.Option{key, apptest.JSON(object{"customer": c.of.Slug, "email": c.email, "password": c.password, "transport": "cookie"})}
	var browser apptest.Option
	for range 2 { // the second time replayed
		answer := c.call("POST", "/v1/sessions", signIn...).Want(c, http.StatusCreated)
		cookie, err := http.ParseSetCookie(answer.Header.Get("Set-Cookie"))
		if err != nil {
			c.Fatalf("%v: %v", err, answer.Header)
		}
		c.marks.Add(cookie.Value)
		browser = apptest.Header("Cookie", cookie.Name+"="+cookie.Value)
	}
	if answer := c.call("GET", "/v1/me", browser).Want(c, http.StatusOK); len(c.marks.In(answer.Body)) == 0 {
		c.Errorf("/v1/me does not show the person: %s", answer.Body)
	}
	c.call("PUT", "/v1/me/alerts", browser, apptest.JSON(object{"opted_in": true})).Want(c, http.StatusOK)
	c.call("PUT", "/v1/me/alerts", browser, apptest.JSON(object{"opted_in": true}), apptest.Header("Origin", "https://"+strings.ToLower(plain())+".example"),
		apptest.Header("Sec-Fetch-Site", "cross-site")).WantProblem(c, http.StatusForbidden, "cross-origin")
	c.call("GET", "/v1/me", apptest.Header("Cookie", "steward_session="+url.QueryEscape(c.email))).WantProblem(c, http.StatusUnauthorized, "unauthorized")
	c.signIn(c.password).Want(c, http.StatusCreated)
	var sessions struct {
		Data []struct {
			ID      string
			Current bool
		}
	}
	answer := c.call("GET", "/v1/me/sessions", browser).Want(c, http.StatusOK)
	answer.Into(c, &sessions)
	if found := c.marks.In(answer.Body); len(found) > 0 || len(sessions.Data) < 3 || sessions.Data[0].Current {
		c.Fatalf("the list of sessions: %q of %s", found, answer.Body)
	}
	c.call("DELETE", "/v1/me/sessions/"+sessions.Data[0].ID, browser).Want(c, http.StatusNoContent)
	c.call("DELETE", "/v1/me/sessions/"+url.PathEscape(c.email), browser).WantProblem(c, http.StatusNotFound, "not-found")
	c.call("DELETE", "/v1/sessions/current", browser).Want(c, http.StatusNoContent)
}

// operate lets an operator do what operators do, with the person's details where they do not belong.
func (c *canary) operate() {
	operator := apptest.As(c.service.SignIn(c, "fusions", c.service.Operators(c)))
	const customers = "/v1/operator/customers"
	founded := func(slug, first, email string) apptest.Option {
		return apptest.JSON(object{"slug": slug, "name": "Initech", "administrator": object{"first_name": first, "last_name": "Rao", "email": email}})
	}
	for range 2 {
		_, key := c.once()
		c.call("POST", customers, operator, key, founded(c.of.Slug, c.first, c.email)).WantProblem(c, http.StatusConflict, "slug-taken")
	}
	c.call("POST", customers, operator, founded(c.email, c.first, c.email)).Want(c, http.StatusBadRequest)
	c.call("POST", customers, operator, founded("initech", c.first+"\u202e", c.email)).WantProblem(c, http.StatusUnprocessableEntity, "invalid-name")
	_, key := c.once()
	for range 2 { // the second time replayed
		c.call("POST", customers, operator, key, founded("initech", "Mina", "mina.rao@initech.example")).Want(c, http.StatusCreated)
	}
	one := customers + "/" + c.of.ID.String()
	for _, path := range []string{customers, one} {
		if found := c.marks.In(c.call("GET", path, operator).Want(c, http.StatusOK).Body); len(found) > 0 {
			c.Errorf("an operator is told %q", found)
		}
	}
	for _, path := range []string{"/v1/operator/jobs", "/v1/operator/jobs?state=dead"} {
		if found := c.marks.In(c.call("GET", path, operator).Want(c, http.StatusOK).Body); len(found) > 0 {
			c.Errorf("a job tells an operator %q", found)
		}
	}
	c.call("GET", "/v1/operator/jobs?kind="+url.QueryEscape(c.email), operator).Want(c, http.StatusBadRequest)
	c.call("POST", "/v1/operator/jobs/"+url.PathEscape(c.email)+"/retry", operator).WantProblem(c, http.StatusNotFound, "not-found")
	c.call("POST", "/v1/operator/backups", operator, apptest.JSON(object{c.last: c.email}))
	c.call("GET", "/v1/operator/backups?cursor="+url.QueryEscape(c.email), operator).Want(c, http.StatusBadRequest)
	c.call("GET", "/v1/operator/replays?cursor="+url.QueryEscape(c.email), operator).Want(c, http.StatusBadRequest)
	c.call("GET", "/v1/operator/replays", operator).Want(c, http.StatusOK)
	c.call("PATCH", one, operator, apptest.JSON(object{"name": "The cage company"})).Want(c, http.StatusOK)
	c.call("PATCH", one, operator, apptest.JSON(object{c.last: c.email})).Want(c, http.StatusBadRequest)
	c.call("GET", customers+"/"+url.PathEscape(c.email), operator).WantProblem(c, http.StatusNotFound, "not-found")
	c.ask(operator)
	c.leave(operator, one+"/offboarding")
}

// leave has the customer's contract end, which waits: a bundle of everything has the person in it.
func (c *canary) leave(operator apptest.Option, path string) {
	var fusions apptest.Customer
	peek(c.T, c.service, "select id from customers where slug = 'fusions'", &fusions.ID)
	colleague := c.service.Person(c, fusions, principal.Operator, "colleague@fusions.example")
	_, key := c.once()
	c.call("POST", path, operator, key).Want(c, http.StatusCreated)
	c.call("POST", path, operator, apptest.JSON(object{c.last: c.email})).Want(c, http.StatusBadRequest)
	other := apptest.As(c.service.SignIn(c, "fusions", colleague))
	_, key = c.once()
	c.call("POST", path+"/approval", other, key).Want(c, http.StatusOK)
	waits := func() offboarding.Offboarding {
		return offboarded(c.T, c.service, c.of, func(now offboarding.Offboarding) bool { return now.Bundle != nil && now.BundleWantedAt == nil })
	}
	waits()
	if bundle := c.call("GET", "/v1/customer/offboarding/bundle", c.admin).Want(c, http.StatusOK); !bytes.HasPrefix(bundle.Body, []byte("PK")) {
		c.Errorf("the bundle is no zip file: %q", bundle.Body[:10])
	}
	c.call("PUT", "/v1/customer/offboarding/recipient", c.admin, apptest.JSON(object{"recipient": c.email})).Want(c, http.StatusBadRequest)
	recipient := object{"recipient": "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"}
	c.call("PUT", "/v1/customer/offboarding/recipient", c.admin, apptest.JSON(recipient)).Want(c, http.StatusOK)
	_, key = c.once()
	c.call("POST", "/v1/customer/offboarding/bundle", c.admin, key).Want(c, http.StatusAccepted)
	id := waits().ID.String()
	for _, one := range []string{path, "/v1/operator/offboardings", "/v1/operator/offboardings/" + id} {
		if found := c.marks.In(c.call("GET", one, operator).Want(c, http.StatusOK).Body); len(found) > 0 {
			c.Errorf("of an offboarding an operator is told %q", found)
		}
	}
	if found := c.marks.In(c.call("GET", "/v1/customer/offboarding", c.admin).Want(c, http.StatusOK).Body); len(found) > 0 {
		c.Errorf("an offboarding tells %q", found)
	}
	// Of another customer it can be cancelled without a trace.
	next := "/v1/operator/customers/" + c.other.ID.String() + "/offboarding"
	c.call("POST", next, operator).Want(c, http.StatusCreated)
	c.call("POST", next+"/cancellation", other).Want(c, http.StatusOK)
}

// ask files what a person may ask of the own data. One bundle stays to be collected, and one request stays open with what the person is to be called.
func (c *canary) ask(operator apptest.Option) {
	const requests, work = "/v1/data-subject-requests", "/v1/operator/data-subject-requests"
	file := func(kind string, more object, options ...apptest.Option) string {
		c.Helper()
		body := object{"kind": kind, "user_id": c.id}
		maps.Copy(body, more)
		return c.call("POST", requests, append(options, apptest.JSON(body))...).Want(c, http.StatusCreated).Text(c, "id")
	}
	_, key := c.once()
	bundled := file("access", nil, c.key, key)
	if answer := c.call("GET", work+"/"+bundled, operator).Want(c, http.StatusOK); len(c.marks.In(answer.Body)) == 0 {
		c.Errorf("the operator is not shown whom the request is about: %s", answer.Body)
	}
	_, key = c.once()
	c.call("POST", work+"/"+bundled+"/acknowledgement", operator, key).Want(c, http.StatusOK)
	_, key = c.once()
	c.call("POST", work+"/"+bundled+"/fulfilment", operator, key).Want(c, http.StatusOK)
	for _, path := range []string{work, work + "/" + bundled} {
		if found := c.marks.In(c.call("GET", path, operator).Want(c, http.StatusOK).Body); len(found) > 0 {
			c.Errorf("of a closed request an operator is told %q", found)
		}
	}
	collected := file("portability", nil, c.admin)
	c.call("POST", work+"/"+collected+"/fulfilment", operator).Want(c, http.StatusOK)
	c.call("GET", requests+"/"+collected+"/bundle", c.admin).Want(c, http.StatusOK)
	c.call("GET", requests+"/"+collected+"/bundle", c.admin).WantProblem(c, http.StatusGone, "bundle-gone")
	rejected := file("objection", nil, c.key)
	c.call("POST", work+"/"+rejected+"/rejection", operator, apptest.JSON(object{"reason": c.last})).Want(c, http.StatusBadRequest)
	c.call("POST", work+"/"+rejected+"/rejection", operator, apptest.JSON(object{"reason": "not_applicable"})).Want(c, http.StatusOK)
	withdrawn := file("restriction", nil, c.admin)
	c.call("POST", requests+"/"+withdrawn+"/withdrawal", c.key).Want(c, http.StatusOK)

	wanted := object{"first_name": name(), "last_name": name(), "email": plain() + "@" + plain() + ".example"}
	for _, one := range wanted {
		c.marks.Add(one.(string))
	}
	_, key = c.once()
	open := file("rectification", object{"corrections": wanted}, c.admin, key)
	if answer := c.call("GET", requests+"/"+open, c.key).Want(c, http.StatusOK); len(c.marks.In(answer.Body)) == 0 {
		c.Errorf("the request does not say what is to be corrected: %s", answer.Body)
	}
	c.call("GET", requests+"?user_id="+c.id, c.key).Want(c, http.StatusOK)
	for _, wrong := range []object{
		{"kind": c.last, "user_id": c.id}, {"kind": "access", "user_id": c.email}, {"kind": "access", "user_id": c.id, "recipient": c.email},
		{"kind": "access", "user_id": c.id, "corrections": wanted}, {"kind": "rectification", "user_id": c.id, "corrections": object{c.last: c.first}},
	} {
		c.call("POST", requests, c.admin, apptest.JSON(wrong)).Want(c, http.StatusBadRequest)
	}
}

// hook has webhooks sent of everything that happens, to a receiver that fails each time the first time: what is told is waiting, and tried again.
func (c *canary) hook() {
	email := c.email // by its own name: the person is renamed while the receiver answers
	c.inbox = newReceiver(c, func(w http.ResponseWriter, one received) {
		if one.before == 0 {
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = w.Write([]byte(email)) // what a receiver says is not kept
		}
	})
	_, key := c.once()
	for range 2 { // the second time replayed
		made := c.call("POST", "/v1/webhook-endpoints", c.admin, key, apptest.JSON(object{"url": c.inbox.URL})).Want(c, http.StatusCreated)
		c.endpoint = "/v1/webhook-endpoints/" + made.Text(c, "id")
	}
}

// listen deals with webhooks, with the person's details where they do not belong.
func (c *canary) listen() {
	for _, url := range []string{"https://" + url.QueryEscape(c.first) + ":" + c.last + "@example.com/", c.email, c.inbox.URL + "/#" + c.email} {
		answer := c.call("POST", "/v1/webhook-endpoints", c.key, apptest.JSON(object{"url": url}))
		answer.WantProblem(c, http.StatusUnprocessableEntity, "invalid-webhook-url")
		c.call("PATCH", c.endpoint, c.key, apptest.JSON(object{"url": url})).WantProblem(c, http.StatusUnprocessableEntity, "invalid-webhook-url")
	}
	c.call("PATCH", c.endpoint, c.admin, apptest.JSON(object{"events": []string{c.email}})).Want(c, http.StatusBadRequest)
	c.call("PATCH", c.endpoint, c.admin, apptest.JSON(object{"description": "Of the cage"})).Want(c, http.StatusOK)
	_, key := c.once()
	c.call("POST", c.endpoint+"/rotation", c.key, key).Want(c, http.StatusOK)
	c.call("POST", c.endpoint+"/test", c.key).Want(c, http.StatusOK)
	steps.Eventually(c.T, "the first webhooks to be noted", func() bool {
		return steps.Number(c, c.conn, "select count(*) from webhook_deliveries where state = 'waiting'") > 0
	})
	var deliveries struct{ Data []struct{ ID string } }
	c.call("GET", c.endpoint+"/deliveries?state=waiting", c.admin).Want(c, http.StatusOK).Into(c, &deliveries)
	c.call("GET", c.endpoint+"/deliveries?state="+url.QueryEscape(c.last), c.admin).Want(c, http.StatusBadRequest)
	_, key = c.once()
	c.call("POST", c.endpoint+"/deliveries/"+deliveries.Data[0].ID+"/retry", c.key, key).Want(c, http.StatusAccepted)
	c.call("POST", c.endpoint+"/deliveries/"+url.PathEscape(c.email)+"/retry", c.key).WantProblem(c, http.StatusNotFound, "not-found")
	for _, path := range []string{"/v1/webhook-endpoints", c.endpoint, c.endpoint + "/deliveries", "/v1/events"} {
		if found := c.marks.In(c.call("GET", path, c.key).Want(c, http.StatusOK).Body); len(found) > 0 {
			c.Errorf("%s tells %q", path, found)
		}
	}
	c.call("GET", "/v1/events?type="+url.QueryEscape(c.email), c.key).Want(c, http.StatusBadRequest)
	_, key = c.once()
	other := c.call("POST", "/v1/webhook-endpoints", c.key, key, apptest.JSON(object{"url": c.inbox.URL, "status": "paused"})).Want(c, http.StatusCreated)
	c.call("DELETE", "/v1/webhook-endpoints/"+other.Text(c, "id"), c.admin).Want(c, http.StatusNoContent)
}

// checkTold makes sure that the customer hears of the erasure, and of nobody's details.
func (c *canary) checkTold(kind string) {
	c.Helper()
	steps.Eventually(c.T, "the webhook of the erasure", func() bool {
		// On to the next attempt of what failed the first time, and no further: the administrator's token is good for minutes.
		var next *time.Time
		if err := c.conn.QueryRow(c.Context(), "select min(next_attempt_at) from webhook_deliveries where state = 'waiting'").Scan(&next); err != nil {
			c.Fatal(err)
		}
		if next != nil {
			c.service.Database.Clock.Advance(max(next.Sub(c.service.Database.Clock.Now()), 0))
		}
		return steps.Number(c, c.conn, `select count(*) from webhook_deliveries d join events e using (customer_id, number)
			where e.type = $1 and e.subject_id = $2 and d.state = 'succeeded'`, kind, c.id) == 1 &&
			steps.Number(c, c.conn, "select count(*) from webhook_deliveries where state <> 'succeeded'") == 0
	})
	told := false
	for _, one := range c.inbox.all() {
		told = told || one.Type == kind && one.Data.UserID == c.id
		var whole bytes.Buffer
		_ = one.header.Write(&whole) // to memory: does not fail
		whole.Write(one.body)
		if found := c.marks.In(whole.Bytes()); len(found) > 0 {
			c.Errorf("a webhook tells %q: %s", found, whole.Bytes())
		}
	}
	if !told {
		c.Errorf("no webhook tells of the erasure")
	}
}

// logins lets the person and the administrator see how the person signed in.
func (c *canary) logins(access apptest.Option) {
	c.settle()
	for path, as := range map[string]apptest.Option{"/v1/me/logins": access, c.path() + "/logins": c.admin} {
		answer := c.call("GET", path+"?limit=200", as).Want(c, http.StatusOK)
		for _, outcome := range []string{"succeeded", "wrong_password", "wrong_code", "code_required", "no_password"} {
			if !bytes.Contains(answer.Body, []byte(`"`+outcome+`"`)) {
				c.Errorf("%s lacks %s: %s", path, outcome, answer.Body)
			}
		}
		for _, address := range []netip.Addr{c.four, c.six} {
			if !bytes.Contains(answer.Body, []byte(address.String())) {
				c.Errorf("%s lacks the address %s: %s", path, address, answer.Body)
			}
		}
	}
	c.call("GET", c.path()+"/logins", c.key).WantProblem(c, http.StatusForbidden, "role-not-allowed")
	c.call("GET", c.path()+"/logins?cursor="+url.QueryEscape(c.email), c.admin).Want(c, http.StatusBadRequest)
}

// settle waits for what goes on behind the answers.
func (c *canary) settle() {
	c.Helper()
	c.service.Settle()
	steps.Settled(c.T, c.service)
}

// record writes about the person in the trail, or tries to write what the person is called.
func (c *canary) record(withEntries bool) {
	good := object{
		"actor_user_id": c.of.User.ID.String(), "action": "product.updated", "target": object{"type": "user", "id": c.id},
		"occurred_at": "2026-03-01T11:00:00Z", "details": object{"revision": 7, "changed": []string{"price"}},
	}
	if withEntries {
		good["actor_user_id"] = c.id
	}
	_, key := c.once()
	c.call("POST", "/v1/audit-entries", c.key, key, apptest.JSON(good)).Want(c, http.StatusCreated)
	c.call("POST", "/v1/audit-entries", c.key, apptest.JSON([]any{good, good})).Want(c, http.StatusOK)

	// A bare word in small ASCII letters is what a closed word looks like, so that the service cannot tell a name of that form. Everything else of a
	// person is refused: addresses everywhere, names with capitals, blanks or accents everywhere that a word is asked for.
	for _, smuggled := range []string{c.email, c.first, c.last} {
		for _, hidden := range []object{
			{"action": smuggled}, {"action": "user." + smuggled}, {"source_id": smuggled}, {"target": object{"type": smuggled, "id": "1"}},
			{"target": object{"type": "user", "id": smuggled}}, {"details": object{"who": smuggled}}, {"details": object{"who": []string{smuggled}}},
			{"details": object{smuggled: 1}}, {"details": object{strings.ToLower(smuggled): true}}, {"details": object{"who": object{"is": smuggled}}},
			{"details": smuggled}, {"occurred_at": smuggled}, {"actor_user_id": smuggled}, {smuggled: smuggled}, {"details": object{"note": "by " + smuggled}},
		} {
			entry := maps.Clone(good)
			maps.Copy(entry, hidden)
			if answer := c.call("POST", "/v1/audit-entries", c.key, apptest.JSON(entry)); answer.Status != 400 && answer.Status != 422 {
				c.Errorf("the trail took %v: %d %s", hidden, answer.Status, answer.Body)
			}
			batch := c.call("POST", "/v1/audit-entries", c.key, apptest.JSON([]any{entry}))
			if found := c.marks.In(batch.Body); batch.Status == http.StatusOK && !bytes.Contains(batch.Body, []byte(`"refused":1`)) || len(found) > 0 {
				c.Errorf("the trail took %v: %d %s", hidden, batch.Status, batch.Body)
			}
		}
	}
	for _, filter := range []string{"", "?actor_user_id=" + c.id, "?target_type=user&target_id=" + c.id, "?action=user.corrected", "?limit=2"} {
		answer := c.call("GET", "/v1/audit-entries"+filter, c.key).Want(c, http.StatusOK)
		if found := c.marks.In(answer.Body); len(found) > 0 {
			c.Errorf("the trail tells %q", found)
		}
	}
}

// alarm raises more alerts than are sent at once, so that the person is waited for by one that was gathered.
func (c *canary) alarm() {
	c.Helper()
	var alert string
	for i := range 12 {
		_, key := c.once()
		alert = c.call("POST", "/v1/alerts", c.key, key, apptest.JSON(object{"severity": "error", "subject": fmt.Sprint("Error ", i), "body": "It broke.", "dedupe_key": fmt.Sprint("e/", i)})).
			Want(c, http.StatusAccepted).Text(c, "id")
	}
	for _, wrong := range []object{
		{"severity": c.last}, {"subject": c.first + "\u0007"}, {"dedupe_key": c.email}, {"body": []string{c.email}}, {c.email: c.last}, {"subject": strings.Repeat(c.last+" ", 40)},
	} {
		body := object{"severity": "error", "subject": "s", "body": "b"}
		maps.Copy(body, wrong)
		c.call("POST", "/v1/alerts", c.admin, apptest.JSON(body)).WantProblem(c, http.StatusBadRequest, "malformed-request")
	}
	c.settle()
	if waiting := steps.Number(c, c.conn, "select count(*) from alert_deliveries d join alert_digests g using (user_id) where d.state = 'collected' and user_id = $1", c.id); waiting == 0 {
		c.Error("no alert waits for the person")
	}
	for _, path := range []string{"/v1/alerts", "/v1/alerts/" + alert} {
		if found := c.marks.In(c.call("GET", path, c.key).Want(c, http.StatusOK).Body); len(found) > 0 {
			c.Errorf("%s tells %q", path, found)
		}
	}
	link := unsubscribing(c, c.of.ID, id.User{UUID: uuid.MustParse(c.id)})
	for _, path := range []string{link, "/unsubscribe/" + url.PathEscape(c.email)} {
		for _, method := range []string{"GET", "POST"} {
			answer := c.call(method, path, apptest.Raw("application/x-www-form-urlencoded", url.QueryEscape(c.email)+"="+url.QueryEscape(c.last)))
			if found := c.marks.In(answer.Body); len(found) > 0 {
				c.Errorf("%s %s tells %q", method, path, found)
			}
		}
	}
	c.call("PUT", c.path()+"/alerts", c.admin, apptest.JSON(object{"opted_in": true})).Want(c, http.StatusOK)
}

// checkSilence makes sure that what waited for an erased person is not sent to any address that the person ever had.
func (c *canary) checkSilence(before int) {
	c.Helper()
	c.service.Database.Clock.Advance(2 * time.Hour)
	if err := c.service.Alerts.PickUpDue(c.Context()); err != nil {
		c.Fatal(err)
	}
	c.settle()
	if steps.Number(c, c.conn, "select count(*) from alert_digests where state = 'sent'") == 0 {
		c.Error("nobody else was told of what was gathered: this proves nothing")
	}
	if now := len(c.service.Mailbox.To(c, c.email)); now != before {
		c.Errorf("%d mails came after the erasure", now-before)
	}
}

// administer lets the person act on others.
func (c *canary) administer(access apptest.Option) {
	_, key := c.once()
	made := c.call("POST", "/v1/users", access, key, apptest.JSON(object{"first_name": "Some", "last_name": "Body", "email": "some@cage.example"})).
		Want(c, http.StatusCreated).Text(c, "id")
	c.call("PATCH", "/v1/users/"+made, access, apptest.JSON(object{"last_name": "Else"})).Want(c, http.StatusOK)
	_, key = c.once()
	redacted := c.call("POST", "/v1/users/"+made+"/redaction", access, key).Want(c, http.StatusOK)
	c.call("GET", "/v1/erasure-receipts/"+redacted.Text(c, "id"), access).Want(c, http.StatusOK)
	c.call("GET", "/v1/customer", access).Want(c, http.StatusOK)
	c.call("PATCH", "/v1/customer", access, apptest.JSON(object{"guidance_text": "Ask the desk."})).Want(c, http.StatusOK)
	_, key = c.once()
	apiKey := c.call("POST", "/v1/api-keys", access, key, apptest.JSON(object{"name": "by the person", "scopes": []string{"users:read"}})).
		Want(c, http.StatusCreated).Text(c, "id")
	c.call("GET", "/v1/api-keys", access).Want(c, http.StatusOK)
	_, key = c.once()
	rotated := c.call("POST", "/v1/api-keys/"+apiKey+"/rotation", access, key, apptest.JSON(object{"overlap_seconds": 60})).
		Want(c, http.StatusCreated).Text(c, "api_key")
	for _, leaked := range []string{rotated, c.email, c.last} {
		c.call("POST", "/v1/api-keys/leaks", apptest.JSON(object{"api_key": leaked})).Want(c, http.StatusNoContent)
	}
	c.call("DELETE", "/v1/api-keys/"+apiKey, access).Want(c, http.StatusNoContent)
}

// scan looks for the marks in everything that the database keeps, and returns where each was found.
func (c *canary) scan() map[string][]string {
	c.Helper()
	c.settle()
	found, err := c.marks.InDatabase(c.Context(), c.conn)
	if err != nil {
		c.Fatal(err)
	}
	return found
}

// personalColumns are those that the schema says are personal.
func (c *canary) personalColumns() []residue.Column {
	c.Helper()
	rows, err := c.conn.Query(c.Context(), `
		select n.nspname, r.relname, a.attname, format_type(a.atttypid, a.atttypmod) from pg_description d
		join pg_class r on r.oid = d.objoid and d.classoid = 'pg_class'::regclass join pg_namespace n on n.oid = r.relnamespace
		join pg_attribute a on a.attrelid = r.oid and a.attnum = d.objsubid where d.description like 'personal%' order by 1, 2, 3`)
	if err != nil {
		c.Fatal(err)
	}
	columns, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (one residue.Column, err error) {
		return one, row.Scan(&one.Schema, &one.Table, &one.Name, &one.Kind)
	})
	if err != nil {
		c.Fatal(err)
	}
	return columns
}

// ofPerson says, for each table with personal columns, which rows are the person's. A new table needs a new line, or the test fails.
var ofPerson = map[string]string{
	"users": "id = $1", "login_records": "user_id = $1", "idempotency_answers": "subject_user_id = $1",
	"second_factors": "user_id = $1", "data_subject_requests": "user_id = $1", "request_bundles": "user_id = $1",
	"user_imports": "exists (select from user_import_rows r where r.import_id = user_imports.id and r.user_id = $1)",
}

// keptOnPurpose are the columns that begin to hold something when a person is erased: it takes the master key to find out that it is of the person.
var keptOnPurpose = []string{"suppressed_addresses.hash"}

// suppressed counts what the service keeps to know the person again.
func (c *canary) suppressed() int {
	c.Helper()
	box, err := seal.ParseMasterKey(apptest.MasterKey())
	if err != nil {
		c.Fatal(err)
	}
	address, err := user.ParseAddress(c.email, "")
	if err != nil {
		c.Fatal(err)
	}
	return steps.Number(c, c.conn, "select count(*) from suppressed_addresses where hash = $1", box.MAC("suppressed address", c.of.ID.UUID[:], []byte(address.Key)))
}

// checkFilled makes sure that the canary sings: each personal column holds a mark of the person in the clear or something derived from one, which
// becomes a mark from here on.
func (c *canary) checkFilled() {
	c.Helper()
	found := c.scan()
	// What is derived cannot be found by looking, so each of these is shown to come from a mark.
	derived := map[string]func(values [][]byte) bool{
		"users.password_hash": func(values [][]byte) bool {
			right, _, err := c.service.Hasher.Verify(c.Context(), string(values[0]), sensitive.New(c.password))
			return err == nil && right
		},
		"second_factors.sealed_secret": func(values [][]byte) bool {
			box, err := seal.ParseMasterKey(apptest.MasterKey())
			if err != nil {
				c.Fatal(err)
			}
			person := uuid.MustParse(c.id)
			opened, err := box.Open("second factor", values[0], person[:])
			return err == nil && string(opened) == c.secret
		},
		"request_bundles.content": func(values [][]byte) bool {
			var request uuid.UUID
			if err := c.conn.QueryRow(c.Context(), "select request_id from request_bundles where user_id = $1", c.id).Scan(&request); err != nil {
				c.Fatal(err)
			}
			box, err := seal.ParseMasterKey(apptest.MasterKey())
			if err != nil {
				c.Fatal(err)
			}
			opened, err := box.Open("request bundle", values[0], request[:])
			return err == nil && len(c.marks.In(unzipped(c.T, opened)["data.json"])) > 3
		},
		"idempotency_answers.answer":      func([][]byte) bool { return len(c.answers()) > 0 },
		"user_imports.fingerprint":        func(values [][]byte) bool { return len(values[0]) == 32 }, // a keyed hash of the file: see the replay
		"idempotency_answers.fingerprint": func(values [][]byte) bool { return len(values[0]) == 32 }, // a keyed hash of the request: see the answer
	}
	if steps.Number(c, c.conn, "select count(*) from attempt_limits") == 0 {
		c.Error("no failure is counted, so what the counters hold is not looked at")
	}
	for _, one := range c.personalColumns() {
		if slices.Contains(keptOnPurpose, one.String()) {
			if c.suppressed() != 0 {
				c.Errorf("%v holds something of the person before the erasure", one)
			}
			continue
		}
		rows, ok := ofPerson[one.Table]
		if !ok {
			c.Errorf("the table %s has personal columns and is unknown to the canary: say in ofPerson which rows are a person's", one.Table)
			continue
		}
		value := pgx.Identifier{one.Name}.Sanitize()
		if one.Kind != "bytea" {
			value += "::text"
		}
		held, err := c.conn.Query(c.Context(), "select "+value+" from "+pgx.Identifier{one.Schema, one.Table}.Sanitize()+" where "+rows, c.id)
		if err != nil {
			c.Fatal(err)
		}
		var values [][]byte
		for held.Next() {
			if raw := held.RawValues()[0]; raw != nil {
				values = append(values, bytes.Clone(raw))
			}
		}
		switch proof, isDerived := derived[one.String()]; {
		case held.Err() != nil:
			c.Fatal(held.Err())
		case len(values) == 0:
			c.Errorf("the canary never filled the personal column %v", one)
			continue
		case isDerived && !proof(values):
			c.Errorf("the personal column %v does not come from what the canary is made of", one)
		case !isDerived && len(found[one.String()]) == 0:
			c.Errorf("the personal column %v holds no mark, or the scan is blind: fill it, or say above what it is derived from", one)
		}
		for _, value := range values {
			c.marks.AddBytes(value, "what "+one.String()+" held")
		}
	}
	for place := range found {
		if !slices.ContainsFunc(c.personalColumns(), func(one residue.Column) bool { return one.String() == place }) {
			c.Errorf("%s holds %q of a person and is not classed as personal", place, found[place])
		}
	}
}

// answers opens every remembered answer with the keys that were sent, as only the senders can, and returns those that tell of the person. One that
// does not open fails the test: then somebody remembers what this test does not see.
func (c *canary) answers() (telling []string) {
	c.Helper()
	master, err := seal.ParseMasterKey(apptest.MasterKey())
	if err != nil {
		c.Fatal(err)
	}
	rows, err := c.conn.Query(c.Context(), "select credential_id, key_hash, answer from idempotency_answers where answer is not null")
	if err != nil {
		c.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var text string
		var keyHash, sealed []byte
		if err := rows.Scan(&text, &keyHash, &sealed); err != nil {
			c.Fatal(err)
		}
		credential := uuid.MustParse(text)
		opened := false
		for _, key := range c.keys {
			box, err := seal.New(master.MAC("idempotency answer", credential[:], []byte(key)))
			if err != nil {
				c.Fatal(err)
			}
			if answer, err := box.Open("answer", sealed, keyHash); err == nil {
				opened = true
				var kept idempotency.Answer
				if err := json.Unmarshal(answer, &kept); err != nil {
					c.Fatal(err)
				}
				if found := c.marks.In(answer); len(found) > 0 {
					telling = append(telling, fmt.Sprintf("%q in %s", found, answer))
				}
			}
		}
		if !opened {
			c.Error("an answer is remembered that none of the keys opens")
		}
	}
	if rows.Err() != nil {
		c.Fatal(rows.Err())
	}
	return telling
}

// checkGone makes sure that nothing of the person is left.
func (c *canary) checkGone() {
	c.Helper()
	for place, found := range c.scan() {
		c.Errorf("%s still holds %q", place, found)
	}
	for _, table := range slices.Sorted(maps.Keys(ofPerson)) {
		for _, one := range c.personalColumns() {
			if one.Table != table {
				continue
			}
			if left := steps.Number(c, c.conn, "select count("+one.Name+") from "+table+" where "+ofPerson[table], c.id); left != 0 {
				c.Errorf("%v is still filled", one)
			}
		}
	}
	for _, answer := range c.answers() {
		c.Errorf("a remembered answer holds %s", answer)
	}
	if kept := c.suppressed(); kept != 1 {
		c.Errorf("%d marks are kept by which an import knows the person again", kept)
	}
	log := c.service.Database.Log.String()
	if !strings.Contains(log, "/v1/users/:id") || !strings.Contains(log, `"route":"/v1/sessions"`) {
		c.Error("the log is not the one of these requests")
	}
	if found := c.marks.In([]byte(log)); len(found) > 0 {
		c.Errorf("the log tells %q", found)
	}
}

// checkRefused makes sure that nothing that the person had is good for anything any more.
func (c *canary) checkRefused(p person) {
	c.Helper()
	back := "first_name,last_name,email\n" + strings.Join([]string{c.first, c.last, c.email}, ",")
	brought := c.call("POST", "/v1/user-imports", c.key, apptest.Raw("text/csv", back)).Want(c, http.StatusCreated)
	if !bytes.Contains(brought.Body, []byte("/problems/address-suppressed")) || len(c.marks.In(brought.Body)) > 0 {
		c.Errorf("an import brings the person back, or tells of the person: %s", brought.Body)
	}
	people := steps.Number(c, c.conn, "select count(*) from users")
	c.call("POST", "/v1/users", p.creation...).WantProblem(c, http.StatusConflict, "idempotency-answer-erased")
	if now := steps.Number(c, c.conn, "select count(*) from users"); now != people {
		c.Errorf("repeating the request that made the person made %d more", now-people)
	}
	c.service.Database.Clock.Advance(time.Second) // which is how long a credential may be good still
	for _, path := range []string{"/v1/me", "/v1/me/alerts"} {
		c.call("GET", path, p.access).WantProblem(c, http.StatusUnauthorized, "unauthorized")
	}
	c.call("DELETE", "/v1/sessions/current", p.access).WantProblem(c, http.StatusUnauthorized, "unauthorized")
	c.signIn(c.password, c.from(c.four)).WantProblem(c, http.StatusUnauthorized, "invalid-credentials")
	c.signIn(c.password, p.signInOnce).WantProblem(c, http.StatusUnauthorized, "invalid-credentials")
	c.call("POST", "/v1/sessions/refresh", apptest.JSON(object{"refresh_token": p.refresh})).WantProblem(c, http.StatusUnauthorized, "unauthorized")
	c.call("POST", "/v1/sessions/refresh", p.refreshOnce, apptest.JSON(object{"refresh_token": p.refreshed})).
		WantProblem(c, http.StatusConflict, "idempotency-answer-erased")
	for _, filter := range []string{"email=" + url.QueryEscape(c.email), "q=" + url.QueryEscape(c.first), "q=" + url.QueryEscape(c.last)} {
		if answer := c.call("GET", "/v1/users?"+filter, c.admin).Want(c, http.StatusOK); !bytes.Contains(answer.Body, []byte(`"data":[]`)) {
			c.Errorf("the list by %s still shows somebody: %s", filter, answer.Body)
		}
	}
	for _, path := range []string{"/v1/users?limit=200", "/v1/audit-entries?limit=200"} {
		for _, as := range []apptest.Option{c.admin, c.key} {
			if found := c.marks.In(c.call("GET", path, as).Want(c, http.StatusOK).Body); len(found) > 0 {
				c.Errorf("%s tells %q", path, found)
			}
		}
	}
}

// checkHeir makes sure that a new person with the same name and address inherits nothing.
func (c *canary) checkHeir(p person) {
	c.Helper()
	_, key := c.once()
	made := c.call("POST", "/v1/users", c.key, key, apptest.JSON(object{"first_name": c.first, "last_name": c.last, "email": c.email})).
		Want(c, http.StatusCreated)
	var heir struct {
		ID          string
		Role        string
		Status      string
		PasswordSet bool `json:"password_set"`
		Alerts      struct {
			OptedIn bool   `json:"opted_in"`
			SetBy   string `json:"set_by"`
		}
	}
	made.Into(c, &heir)
	if heir.ID == c.id || heir.Role != "user" || heir.Status != "active" || heir.PasswordSet || !heir.Alerts.OptedIn || heir.Alerts.SetBy != "creation" {
		c.Errorf("the new person has something of the old one: %s", made.Body)
	}
	if held := steps.Number(c, c.conn, heldOfPerson, heir.ID) + steps.Number(c, c.conn, "select count(*) from audit_entries where actor_user_id = $1", heir.ID); held != 0 {
		c.Errorf("the new person begins with %d sessions, login records and entries", held)
	}
	if list := c.call("GET", "/v1/audit-entries?target_id="+heir.ID, c.key).Want(c, http.StatusOK); bytes.Count(list.Body, []byte(`"action"`)) != 1 {
		c.Errorf("the trail of the new person is not its creation alone: %s", list.Body)
	}
	c.signIn(c.password).WantProblem(c, http.StatusUnauthorized, "invalid-credentials")
	c.call("GET", "/v1/me", p.access).WantProblem(c, http.StatusUnauthorized, "unauthorized")
}

// checkComplete fails when the contract has an operation that the canary was never taken through.
func (c *canary) checkComplete() {
	c.Helper()
	for _, operation := range c.service.API.Operations() {
		if !c.called[operation.ID] {
			c.Errorf("the canary was not taken through the operation %s: what would it keep of a person?", operation.ID)
		}
	}
}

// Deleting a person who has left nothing in the trail removes everything.
func TestNothingIsLeftOfADeletedPerson(t *testing.T) {
	t.Parallel()
	c := newCanary(t)
	p := c.live(principal.User, false)
	steps.Execute(t, c.conn, "analyze") // and not again: what PostgreSQL sampled stays until the next time
	c.checkFilled()
	mails := len(c.service.Mailbox.To(t, c.email))
	receipt := c.call("DELETE", c.path(), c.admin).Want(t, http.StatusOK)
	c.checkReceipt(receipt, "deletion")
	c.checkGone()
	c.checkTold("user.deleted")
	c.checkGone()
	c.checkRefused(p)
	c.checkGone()
	for _, try := range []struct{ method, below string }{{"GET", ""}, {"DELETE", ""}, {"GET", "/alerts"}, {"GET", "/erasure-plan"}, {"POST", "/redaction"}} {
		c.call(try.method, c.path()+try.below, c.admin).WantProblem(t, http.StatusNotFound, "not-found")
	}
	c.call("POST", "/v1/audit-entries", c.key, apptest.JSON(steps.Entry(c.id, "late"))).WantProblem(t, http.StatusUnprocessableEntity, "unknown-actor")
	c.call("GET", "/v1/erasure-receipts/"+receipt.Text(t, "id"), c.key).Want(t, http.StatusOK)
	c.checkSilence(mails)
	c.checkGone()
	c.checkHeir(p)
}

// Redacting a person whom the trail names leaves the id and a label.
func TestNothingIsLeftOfARedactedPerson(t *testing.T) {
	t.Parallel()
	c := newCanary(t)
	p := c.live(principal.Administrator, true)
	steps.Execute(t, c.conn, "analyze")
	c.checkFilled()
	c.call("DELETE", c.path(), c.admin).WantProblem(t, http.StatusConflict, "audit-trail-incomplete")
	mails := len(c.service.Mailbox.To(t, c.email))
	_, key := c.once()
	order := []apptest.Option{c.key, key, apptest.JSON(object{"reason": "left_employment"})}
	receipt := c.call("POST", c.path()+"/redaction", order...).Want(t, http.StatusOK)
	label := c.checkReceipt(receipt, "redaction")
	c.checkGone()
	c.checkTold("user.redacted")
	c.checkGone()
	c.checkRefused(p)
	c.checkGone()

	var shown struct {
		Status, Label, Receipt     string
		FirstName, LastName, Email *string
		RedactedAt                 time.Time `json:"redacted_at"`
		Alerts                     struct {
			OptedIn bool `json:"opted_in"`
		}
	}
	answer := c.call("GET", c.path(), c.admin).Want(t, http.StatusOK)
	answer.Into(t, &shown)
	receiptPath := "/v1/erasure-receipts/" + receipt.Text(t, "id")
	if shown.Status != "redacted" || shown.Label != label || shown.Receipt != receiptPath || shown.RedactedAt.IsZero() || shown.Alerts.OptedIn ||
		len(c.marks.In(answer.Body)) > 0 || !bytes.Contains(answer.Body, []byte(`"first_name":null`)) {
		t.Errorf("shown as %s", answer.Body)
	}
	for _, try := range []struct {
		method, below string
		body          any
	}{
		{"PATCH", "", object{"first_name": c.first}},
		{"PATCH", "", object{"status": "active", "email": c.email}},
		{"PUT", "/alerts", object{"opted_in": true}},
		{"DELETE", "", nil},
		{"GET", "/erasure-plan", nil},
	} {
		options := []apptest.Option{c.admin}
		if try.body != nil {
			options = append(options, apptest.JSON(try.body))
		}
		refused := c.call(try.method, c.path()+try.below, options...).WantProblem(t, http.StatusConflict, "user-redacted")
		if refused.Text(t, "receipt") != receiptPath {
			t.Errorf("%s %s names another receipt: %s", try.method, try.below, refused.Body)
		}
	}
	// Again, with the key and without, by another: the same receipt.
	again := c.call("POST", c.path()+"/redaction", order...).Want(t, http.StatusOK)
	byAdmin := c.call("POST", c.path()+"/redaction", c.admin).Want(t, http.StatusOK)
	if again.Text(t, "id") != receipt.Text(t, "id") || byAdmin.Text(t, "id") != receipt.Text(t, "id") {
		t.Errorf("a second receipt: %s, %s and %s", receipt.Body, again.Body, byAdmin.Body)
	}
	if got := steps.Number(t, c.conn, "select count(*) from erasure_receipts where user_id = $1", c.id); got != 1 {
		t.Errorf("%d receipts", got)
	}
	// The trail still says that it was this person, by a name that means nothing.
	var trail struct {
		Data []struct {
			ID    string
			Actor struct {
				UserID   string `json:"user_id"`
				Redacted bool
				Label    string
			}
		}
	}
	c.call("GET", "/v1/audit-entries?limit=200&actor_user_id="+c.id, c.admin).Want(t, http.StatusOK).Into(t, &trail)
	if len(trail.Data) < 3 {
		t.Errorf("the trail has lost entries: %+v", trail)
	}
	c.checkSilence(mails)
	for _, one := range trail.Data {
		if one.Actor.UserID != c.id || !one.Actor.Redacted || one.Actor.Label != label {
			t.Errorf("an entry shows its actor as %+v", one.Actor)
		}
	}
	c.prove(trail.Data[0].ID)
	c.checkGone()
	c.checkHeir(p)
	c.checkComplete()
}

// prove has the trail prove itself, and looks for the person in what it shows.
func (c *canary) prove(entry string) {
	c.Helper()
	c.service.Seal(c.T)
	for _, path := range []string{"/.well-known/audit-trail-keys.json", "/v1/audit-checkpoints/latest", "/v1/audit-entries/" + entry + "/proof"} {
		answer := c.call("GET", path, c.key).Want(c, http.StatusOK)
		var shown struct{ Leaf []byte }
		_ = json.Unmarshal(answer.Body, &shown) // only a proof has one
		if found := slices.Concat(c.marks.In(answer.Body), c.marks.In(shown.Leaf)); len(found) > 0 {
			c.Errorf("%s tells %q", path, found)
		}
	}
}

// checkReceipt looks at what a receipt tells, and returns its label.
func (c *canary) checkReceipt(answer apptest.Answer, kind string) (label string) {
	c.Helper()
	var receipt struct {
		Kind, Label string
		UserID      string `json:"user_id"`
		Removed     []struct {
			Store string
			Count int
		}
		Kept []struct{ Store string }
	}
	answer.Into(c, &receipt)
	if receipt.Kind != kind || receipt.UserID != c.id || (receipt.Label == "") == (kind == "redaction") || len(c.marks.In(answer.Body)) > 0 {
		c.Errorf("a receipt of a %s: %s", kind, answer.Body)
	}
	for _, store := range []string{"profile", "sessions", "refresh_tokens", "login_records", "idempotency_answers", "second_factors", "recovery_codes", "password_links",
		"alert_deliveries", "alert_digests", "data_subject_requests", "request_bundles", "offboarding_bundles",
	} {
		if !slices.ContainsFunc(receipt.Removed, func(one struct {
			Store string
			Count int
		},
		) bool {
			return one.Store == store && one.Count > 0
		}) {
			c.Errorf("the receipt does not count %s: %s", store, answer.Body)
		}
	}
	return receipt.Label
}

// What the service itself writes to the trail are names of members, never their values, and it may not touch an entry again.
func TestTrailHoldsNoValuesOfCorrections(t *testing.T) {
	t.Parallel()
	service := apptest.Start(t)
	of := service.Customer(t, "acme")
	service.Call(t, "PATCH", "/v1/users/"+of.User.ID.String(), apptest.As(of.APIKey), apptest.JSON(object{"first_name": "Žoraquél", "status": "disabled"})).
		Want(t, http.StatusOK)
	entries, err := service.Audit.List(context.WithoutCancel(t.Context()), principal.Principal{Customer: of.ID}, audit.Filter{TargetID: of.User.ID.String()},
		id.Entry{}, 1)
	if err != nil {
		t.Fatal(err)
	}
	newest := entries[0]
	if newest.Action != string(audit.UserDisabled) || !slices.Equal(newest.Changed, []string{"first_name", "status"}) || len(newest.Details) > 0 {
		t.Errorf("the entry is %+v", newest)
	}
	err = service.DB.InCustomer(t.Context(), of.ID, func(tx *postgres.Tx) error {
		_, err := tx.Exec("update audit_entries set changed = '{}' where id = $1", newest.ID)
		return err
	})
	if err == nil {
		t.Error("the service may change an entry")
	}
}
