package journeys

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fusionspim/steward/internal/account/session"
	"github.com/fusionspim/steward/internal/base/sensitive"
	"github.com/fusionspim/steward/internal/infra/seal"
	"github.com/fusionspim/steward/internal/infra/totp"
	"github.com/fusionspim/steward/internal/testkit/apptest"
)

// credentials is the body of a sign-in.
func credentials(slug, email, password string, more ...string) apptest.Option {
	body := map[string]string{"customer": slug, "email": email, "password": password}
	for i := 0; i < len(more); i += 2 {
		body[more[i]] = more[i+1]
	}
	return apptest.JSON(body)
}

// cookieOf returns the one cookie of an answer.
func cookieOf(t *testing.T, answer apptest.Answer) *http.Cookie {
	t.Helper()
	cookies := (&http.Response{Header: answer.Header}).Cookies()
	if len(cookies) != 1 {
		t.Fatalf("%d cookies", len(cookies))
	}
	return cookies[0]
}

func withCookie(cookie *http.Cookie) apptest.Option {
	return func(r *http.Request) { r.AddCookie(cookie) }
}

func TestSessionAsACookie(t *testing.T) {
	t.Parallel()
	service := apptest.Start(t)
	acme := service.Customer(t, "acme")
	answer := service.Call(t, "POST", "/v1/sessions", credentials("acme", acme.User.Email, apptest.Password, "transport", "cookie")).Want(t, 201)
	if strings.Contains(string(answer.Body), "access_token") || answer.Text(t, "token_type") != "Cookie" {
		t.Errorf("tokens beside the cookie: %s", answer.Body)
	}
	cookie := cookieOf(t, answer)
	if !cookie.HttpOnly || cookie.SameSite != http.SameSiteLaxMode || cookie.Path != "/" || cookie.Domain != "" {
		t.Errorf("the cookie: %s", answer.Header.Get("Set-Cookie"))
	}
	me := service.Call(t, "GET", "/v1/me", withCookie(cookie)).Want(t, 200)
	if me.Header.Get("Set-Cookie") != "" || me.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("headers: %v", me.Header)
	}

	// What another site's page sends with the cookie changes nothing; what the own origin and a program send does.
	optOut := apptest.JSON(map[string]bool{"opted_in": false})
	for _, forged := range []apptest.Option{
		apptest.Header("Sec-Fetch-Site", "cross-site"), apptest.Header("Sec-Fetch-Site", "same-site"), apptest.Header("Origin", "https://evil.example"),
	} {
		service.Call(t, "PUT", "/v1/me/alerts", withCookie(cookie), optOut, forged).WantProblem(t, 403, "cross-origin")
		service.Call(t, "DELETE", "/v1/sessions/current", withCookie(cookie), forged).WantProblem(t, 403, "cross-origin")
		service.Call(t, "POST", "/v1/sessions", credentials("acme", acme.User.Email, apptest.Password, "transport", "cookie"), forged).WantProblem(t, 403, "cross-origin")
	}
	service.Call(t, "PUT", "/v1/me/alerts", withCookie(cookie), optOut, apptest.Header("Sec-Fetch-Site", "same-origin")).Want(t, 200)

	// Two cookies, a changed one, and one of another customer are none.
	changed := *cookie
	other := "x"
	if strings.HasSuffix(cookie.Value, other) {
		other = "y"
	}
	changed.Value = cookie.Value[:len(cookie.Value)-1] + other
	service.Call(t, "GET", "/v1/me", withCookie(&changed)).WantProblem(t, 401, "unauthorized")
	service.Call(t, "GET", "/v1/me", withCookie(cookie), withCookie(&changed)).WantProblem(t, 401, "unauthorized")

	// It lasts by being used, and not for ever.
	for range 4 {
		service.Database.Clock.Advance(6 * 24 * time.Hour)
		service.Call(t, "GET", "/v1/me", withCookie(cookie)).Want(t, 200)
	}
	service.Database.Clock.Advance(6*24*time.Hour + time.Minute)
	service.Call(t, "GET", "/v1/me", withCookie(cookie)).Want(t, 401)

	again := cookieOf(t, service.Call(t, "POST", "/v1/sessions", credentials("acme", acme.User.Email, apptest.Password, "transport", "cookie")).Want(t, 201))
	out := service.Call(t, "DELETE", "/v1/sessions/current", withCookie(again)).Want(t, 204)
	if gone := cookieOf(t, out); gone.MaxAge >= 0 {
		t.Errorf("the cookie stays: %s", out.Header.Get("Set-Cookie"))
	}
	service.Database.Clock.Advance(time.Second)
	service.Call(t, "GET", "/v1/me", withCookie(again)).Want(t, 401)
}

func TestSessionsAreListedAndEnded(t *testing.T) {
	t.Parallel()
	service := apptest.Start(t)
	acme := service.Customer(t, "acme")
	first, second := service.SignIn(t, "acme", acme.User), service.SignIn(t, "acme", acme.User)
	stranger := service.SignIn(t, "acme", acme.Admin)
	var listed struct {
		Data []struct {
			ID      string
			Current bool
		}
	}
	service.Call(t, "GET", "/v1/me/sessions", apptest.As(second)).Want(t, 200).Into(t, &listed)
	if len(listed.Data) != 2 || !listed.Data[0].Current || listed.Data[1].Current {
		t.Fatalf("%+v", listed.Data)
	}
	older := listed.Data[1].ID
	service.Call(t, "DELETE", "/v1/me/sessions/"+older, apptest.As(stranger)).WantProblem(t, 404, "not-found")
	service.Call(t, "DELETE", "/v1/me/sessions/"+older, apptest.As(second)).Want(t, 204)
	service.Call(t, "DELETE", "/v1/me/sessions/"+older, apptest.As(second)).WantProblem(t, 404, "not-found")
	service.Database.Clock.Advance(time.Second)
	service.Call(t, "GET", "/v1/me", apptest.As(first)).Want(t, 401)
	service.Call(t, "GET", "/v1/me", apptest.As(second)).Want(t, 200)
}

// code is the authenticator's at the service's time.
func code(t *testing.T, service *apptest.Service, secret string) string {
	t.Helper()
	text, err := totp.Code(sensitive.New(secret), service.Database.Clock.Now())
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestSecondFactor(t *testing.T) {
	t.Parallel()
	service := apptest.Start(t)
	acme := service.Customer(t, "acme")
	before, present := service.SignIn(t, "acme", acme.User), service.SignIn(t, "acme", acme.User)
	admin := service.SignIn(t, "acme", acme.Admin)
	next := func() { service.Database.Clock.Advance(30 * time.Second) }

	service.Call(t, "POST", "/v1/me/second-factor", apptest.As(present), apptest.JSON(map[string]string{"current_password": "wrong"})).
		WantProblem(t, 422, "current-password-wrong")
	enrol := service.Call(t, "POST", "/v1/me/second-factor", apptest.As(present), apptest.JSON(map[string]string{"current_password": apptest.Password})).Want(t, 201)
	secret := enrol.Text(t, "secret")
	if uri := enrol.Text(t, "uri"); !strings.HasPrefix(uri, "otpauth://totp/") || strings.Contains(uri, "user") {
		t.Errorf("the address of the authenticator: %s", uri)
	}
	// It does not count before it is confirmed.
	service.SignIn(t, "acme", acme.User)
	service.Call(t, "POST", "/v1/me/second-factor/confirmation", apptest.As(present), apptest.JSON(map[string]string{"one_time_code": "000000"})).
		WantProblem(t, 422, "one-time-code-wrong")
	var confirmed struct {
		Codes []string `json:"recovery_codes"`
	}
	service.Call(t, "POST", "/v1/me/second-factor/confirmation", apptest.As(present), apptest.JSON(map[string]string{"one_time_code": code(t, service, secret)})).
		Want(t, 200).Into(t, &confirmed)
	if len(confirmed.Codes) != 10 {
		t.Fatalf("%d recovery codes", len(confirmed.Codes))
	}
	next()
	service.Call(t, "GET", "/v1/me", apptest.As(before)).Want(t, 401) // it never showed a code
	service.Call(t, "GET", "/v1/me", apptest.As(present)).Want(t, 200)

	signIn := func(more ...string) apptest.Answer {
		return service.Call(t, "POST", "/v1/sessions", credentials("acme", acme.User.Email, apptest.Password, more...))
	}
	signIn().WantProblem(t, 401, "second-factor-required")
	signIn("one_time_code", "123456").WantProblem(t, 401, "second-factor-required")
	service.Call(t, "POST", "/v1/sessions", credentials("acme", acme.User.Email, "a wrong password, long enough", "one_time_code", code(t, service, secret))).
		WantProblem(t, 401, "invalid-credentials")
	used := code(t, service, secret)
	signIn("one_time_code", used).Want(t, 201)
	signIn("one_time_code", used).WantProblem(t, 401, "second-factor-required") // each once
	signIn("one_time_code", confirmed.Codes[0]).Want(t, 201)
	signIn("one_time_code", strings.ToLower(confirmed.Codes[0])).WantProblem(t, 401, "second-factor-required")

	var state struct {
		Enrolled bool
		Left     int `json:"recovery_codes_left"`
	}
	service.Call(t, "GET", "/v1/me/second-factor", apptest.As(present)).Into(t, &state)
	if !state.Enrolled || state.Left != 9 {
		t.Errorf("%+v", state)
	}
	next()
	service.Call(t, "POST", "/v1/me/recovery-codes", apptest.As(present), apptest.JSON(map[string]string{"one_time_code": code(t, service, secret)})).Want(t, 200).
		Into(t, &confirmed)
	signIn("one_time_code", confirmed.Codes[1]).Want(t, 201)

	// With one set up, a password may be shorter.
	service.Call(t, "PUT", "/v1/me/password", apptest.As(present),
		apptest.JSON(map[string]string{"current_password": apptest.Password, "new_password": "vK9#qL2x"})).Want(t, 204)
	service.Call(t, "PUT", "/v1/me/password", apptest.As(admin),
		apptest.JSON(map[string]string{"current_password": apptest.Password, "new_password": "vK9#qL2x"})).WantProblem(t, 422, "weak-password")

	// It can be given up, unless it is required.
	setPolicy := func(policy string) {
		service.Call(t, "PATCH", "/v1/customer", apptest.As(admin), apptest.JSON(map[string]string{"second_factor": policy})).Want(t, 200)
	}
	setPolicy("everybody")
	next()
	service.Call(t, "DELETE", "/v1/me/second-factor", apptest.As(present), apptest.Header("One-Time-Code", code(t, service, secret))).
		WantProblem(t, 409, "second-factor-needed")
	// Whoever has none sees nothing until it is set up.
	service.Call(t, "GET", "/v1/users", apptest.As(admin)).WantProblem(t, 403, "second-factor-to-set-up")
	service.Call(t, "GET", "/v1/me/second-factor", apptest.As(admin)).Want(t, 200)
	adminSecret := service.Call(t, "POST", "/v1/me/second-factor", apptest.As(admin), apptest.JSON(map[string]string{"current_password": apptest.Password})).
		Want(t, 201).Text(t, "secret")
	service.Call(t, "POST", "/v1/me/second-factor/confirmation", apptest.As(admin), apptest.JSON(map[string]string{"one_time_code": code(t, service, adminSecret)})).Want(t, 200)
	service.Call(t, "GET", "/v1/users", apptest.As(admin)).Want(t, 200)

	// An administrator takes a lost one off somebody, whose sessions end.
	path := "/v1/users/" + acme.User.ID.String() + "/second-factor"
	service.Call(t, "DELETE", path, apptest.As(admin)).Want(t, 204)
	service.Call(t, "DELETE", path, apptest.As(admin)).Want(t, 204)
	next()
	service.Call(t, "GET", "/v1/me", apptest.As(present)).Want(t, 401)
	setPolicy("off")
	service.Call(t, "POST", "/v1/sessions", credentials("acme", acme.User.Email, "vK9#qL2x")).Want(t, 201)
}

// Six digits are soon guessed by somebody who may try for ever.
func TestCodesCannotBeGuessed(t *testing.T) {
	t.Parallel()
	service := apptest.Start(t)
	acme := service.Customer(t, "acme")
	token := service.SignIn(t, "acme", acme.User)
	secret := service.Call(t, "POST", "/v1/me/second-factor", apptest.As(token), apptest.JSON(map[string]string{"current_password": apptest.Password})).Text(t, "secret")
	service.Call(t, "POST", "/v1/me/second-factor/confirmation", apptest.As(token), apptest.JSON(map[string]string{"one_time_code": code(t, service, secret)})).Want(t, 200)
	statuses := map[int]int{}
	for range 12 {
		answer := service.Call(t, "POST", "/v1/sessions", credentials("acme", acme.User.Email, apptest.Password, "one_time_code", "000000"))
		statuses[answer.Status]++
	}
	if statuses[401] != 5 || statuses[429] != 7 {
		t.Errorf("%v", statuses)
	}
}

// A guesser is slowed down, on every replica alike; the owner, at the usual address, is not.
func TestGuessersAreSlowedDown(t *testing.T) {
	t.Parallel()
	service := apptest.Start(t)
	beside := apptest.Replica(t, service.Database)
	acme := service.Customer(t, "acme")
	from := func(address string) apptest.Option { return apptest.Header("X-Forwarded-For", address) }
	service.Call(t, "POST", "/v1/sessions", credentials("acme", acme.User.Email, apptest.Password), from("198.51.100.7")).Want(t, 201)

	guess := func(at *apptest.Service, email, address string) int {
		return at.Call(t, "POST", "/v1/sessions", credentials("acme", email, "a wrong guess, again and again"), from(address)).Status
	}
	for _, email := range []string{acme.User.Email, "nobody@acme.example"} { // the same whether or not there is such an account
		count := map[int]int{}
		for i := range 14 {
			count[guess([]*apptest.Service{service, beside}[i%2], email, "203.0.113.5")]++
		}
		if count[401] != 10 || count[429] != 4 {
			t.Errorf("%s: %v", email, count)
		}
	}
	answer := service.Call(t, "POST", "/v1/sessions", credentials("acme", acme.User.Email, apptest.Password), from("203.0.113.5")).WantProblem(t, 429, "too-many-attempts")
	if answer.Header.Get("Retry-After") == "" {
		t.Error("429 without Retry-After")
	}
	// From many networks at once the account's own counter runs out; its owner goes on from the usual address, and nobody else.
	for i := range 100 {
		guess(service, acme.User.Email, "192.0.2."+string(rune('0'+i/10%10))+string(rune('0'+i%10)))
	}
	if status := guess(service, acme.User.Email, "203.0.113.99"); status != 429 {
		t.Errorf("one more guesser: %d", status)
	}
	service.Call(t, "POST", "/v1/sessions", credentials("acme", acme.User.Email, apptest.Password), from("198.51.100.7")).Want(t, 201)
	// It passes.
	service.Database.Clock.Advance(time.Hour)
	service.Call(t, "POST", "/v1/sessions", credentials("acme", acme.User.Email, apptest.Password), from("203.0.113.5")).Want(t, 201)
}

// What ends a credential ends it on every replica within a second.
func TestEveryReplicaRefusesWithinASecond(t *testing.T) {
	t.Parallel()
	service := apptest.Start(t)
	beside := apptest.Replica(t, service.Database)
	acme := service.Customer(t, "acme")
	admin := service.SignIn(t, "acme", acme.Admin)
	asAdmin := apptest.As(admin)
	path := func(person apptest.Person) string { return "/v1/users/" + person.ID.String() }
	for name, end := range map[string]func(person apptest.Person, token apptest.Credential){
		"redact": func(p apptest.Person, _ apptest.Credential) {
			service.Call(t, "POST", path(p)+"/redaction", asAdmin).Want(t, 200)
		},
		"delete": func(p apptest.Person, _ apptest.Credential) { service.Call(t, "DELETE", path(p), asAdmin).Want(t, 200) },
		"disable": func(p apptest.Person, _ apptest.Credential) {
			service.Call(t, "PATCH", path(p), asAdmin, apptest.JSON(map[string]string{"status": "disabled"})).Want(t, 200)
		},
		"role": func(p apptest.Person, _ apptest.Credential) {
			service.Call(t, "PATCH", path(p), asAdmin, apptest.JSON(map[string]string{"role": "customer"})).Want(t, 200)
		},
		"sign out": func(_ apptest.Person, token apptest.Credential) {
			service.Call(t, "DELETE", "/v1/sessions/current", apptest.As(token)).Want(t, 204)
		},
		"password": func(p apptest.Person, _ apptest.Credential) {
			service.Call(t, "PUT", "/v1/me/password", apptest.As(service.SignIn(t, "acme", p)),
				apptest.JSON(map[string]string{"current_password": apptest.Password, "new_password": "seven violet umbrellas hum at dusk"})).Want(t, 204)
		},
	} {
		person := service.Person(t, acme, "user", strings.ReplaceAll(name, " ", "-")+"@acme.example")
		token := service.SignIn(t, "acme", person)
		for _, replica := range []*apptest.Service{service, beside} { // so that both remember it
			replica.Call(t, "GET", "/v1/me", apptest.As(token)).Want(t, 200)
		}
		end(person, token)
		service.Database.Clock.Advance(time.Second)
		for _, replica := range []*apptest.Service{service, beside} {
			if answer := replica.Call(t, "GET", "/v1/me", apptest.As(token)); answer.Status != 401 {
				t.Errorf("after %s: %d", name, answer.Status)
			}
		}
	}
}

// An ordinary rotation: published first, signing later, and nobody is signed out.
func TestSigningKeysRotate(t *testing.T) {
	t.Parallel()
	service := apptest.Start(t)
	acme := service.Customer(t, "acme")
	box, err := seal.ParseMasterKey(apptest.MasterKey())
	if err != nil {
		t.Fatal(err)
	}
	kid := func(token apptest.Credential) (id struct{ Kid string }) {
		t.Helper()
		header, err := base64.RawURLEncoding.DecodeString(strings.Split(string(token), ".")[0])
		if err == nil {
			err = json.Unmarshal(header, &id)
		}
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	forReceipts, err := service.Receipts.Keys(t.Context())
	if err != nil || len(forReceipts) != 1 {
		t.Fatalf("%v: %v", forReceipts, err)
	}
	published := func() (ids []string) { // the keys of access tokens; that of receipts stays beside them
		t.Helper()
		var set struct{ Keys []struct{ Kid string } }
		service.Call(t, "GET", "/.well-known/jwks.json").Want(t, 200).Into(t, &set)
		for _, key := range set.Keys {
			if key.Kid != forReceipts[0].KeyID {
				ids = append(ids, key.Kid)
			}
		}
		if len(ids) != len(set.Keys)-1 {
			t.Errorf("the key of receipts is not among %v", set.Keys)
		}
		return ids
	}
	reload := func() {
		t.Helper()
		if err := service.ReloadKeys(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	old := service.SignIn(t, "acme", acme.User)
	done, err := session.RotateKeys(t.Context(), service.DB, box)
	if err != nil {
		t.Fatal(err)
	}
	reload()
	if ids := published(); len(ids) != 2 || !slices.Contains(ids, done.Key) {
		t.Errorf("published: %v", ids)
	}
	if kid(service.SignIn(t, "acme", acme.User)) != kid(old) {
		t.Error("the new key signs before its time")
	}
	service.Database.Clock.Advance(3 * time.Minute)
	reload()
	fresh := service.SignIn(t, "acme", acme.User)
	if kid(fresh).Kid != done.Key {
		t.Error("the new key does not sign")
	}
	service.Call(t, "GET", "/v1/me", apptest.As(old)).Want(t, 200)
	service.Database.Clock.Advance(2 * time.Hour)
	reload()
	if ids := published(); len(ids) != 1 || ids[0] != done.Key {
		t.Errorf("published at the end: %v", ids)
	}
}

// Many at once cost as much memory as there are cores, and those who wait too long are told to come again.
func TestManySignInsAtOnce(t *testing.T) {
	t.Parallel()
	service := apptest.Start(t)
	acme := service.Customer(t, "acme")
	statuses := make(chan int, 100)
	var all sync.WaitGroup
	for range 100 {
		all.Go(func() {
			answer, err := service.Try(context.Background(), "POST", "/v1/sessions", credentials("acme", acme.User.Email, apptest.Password))
			if err != nil {
				t.Error(err)
				return
			}
			if answer.Status == 503 && answer.Header.Get("Retry-After") == "" {
				t.Error("503 without Retry-After")
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
	if count[201] == 0 || count[503] == 0 || count[201]+count[503] != 100 {
		t.Errorf("%v", count)
	}
}
