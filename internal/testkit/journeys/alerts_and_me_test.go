package journeys

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/fusionspim/steward/internal/app"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/infra/password"
	"github.com/fusionspim/steward/internal/testkit/apptest"
)

// anotherPassword is what people change Password to.
const anotherPassword = "violet umbrellas hum at seven dusks"

// trySignIn signs in with whatever is given, from an address if one is given.
func trySignIn(t testing.TB, s *apptest.Service, slug, email, secret, from string) apptest.Answer {
	t.Helper()
	options := []apptest.Option{apptest.JSON(members{"customer": slug, "email": email, "password": secret})}
	if from != "" {
		options = append(options, apptest.Header("X-Forwarded-For", from))
	}
	return call(t, s, "POST", "/v1/sessions", options...)
}

// tokens are what a sign-in answers.
type tokens struct {
	Access    apptest.Credential `json:"access_token"`
	Type      string             `json:"token_type"`
	ExpiresIn int                `json:"expires_in"`
	Refresh   string             `json:"refresh_token"`
}

func (h *tenant) signIn(t testing.TB, person apptest.Person) (out tokens) {
	t.Helper()
	trySignIn(t, h.Service, h.acme.Slug, person.Email, apptest.Password, "").Want(t, 201).Into(t, &out)
	return out
}

func (h *tenant) refresh(t testing.TB, token string) apptest.Answer {
	t.Helper()
	return call(t, h.Service, "POST", "/v1/sessions/refresh", apptest.JSON(members{"refresh_token": token}))
}

// lives tells whether an access token is taken.
func (h *tenant) lives(t testing.TB, access apptest.Credential) bool {
	t.Helper()
	answer := call(t, h.Service, "GET", "/v1/me", apptest.As(access))
	if answer.Status != 200 {
		answer.WantProblem(t, 401, "unauthorized")
	}
	return answer.Status == 200
}

func TestMe(t *testing.T) {
	t.Parallel()
	w := newSharedWorld(t)
	type meView struct {
		ID       string `json:"id"`
		Role     string `json:"role"`
		Customer struct {
			ID, Slug, Name string
		} `json:"customer"`
		FirstName     string    `json:"first_name"`
		LastName      string    `json:"last_name"`
		Email         string    `json:"email"`
		Alerts        alertView `json:"alerts"`
		AmendGuidance struct {
			Text     string `json:"text"`
			Contacts []struct{ Party, Email string }
		} `json:"amend_guidance"`
		DataRequestGuidance struct{ Text string } `json:"data_request_guidance"`
	}
	for role, who := range map[string]struct {
		credential apptest.Credential
		person     apptest.Person
		customer   string
	}{"operator": {w.operator, w.fusions.Admin, "fusions"}, "customer": {w.admin, w.acme.Admin, w.acme.Slug}, "user": {w.user, w.acme.User, w.acme.Slug}} {
		var me meView
		answer := call(t, w.Service, "GET", "/v1/me", apptest.As(who.credential)).Want(t, 200)
		answer.Into(t, &me)
		if me.ID != who.person.ID.String() || me.Role != role || me.Customer.Slug != who.customer || me.Email != who.person.Email ||
			me.FirstName != "First" || !me.Alerts.OptedIn ||
			me.Alerts.SetBy != "creation" {
			t.Errorf("%s: %s", role, answer.Body)
		}
		// Without words of the customer's own there are ours, and Fusions can always be asked.
		if !strings.Contains(me.AmendGuidance.Text, me.Customer.Name) || len(me.AmendGuidance.Contacts) != 1 ||
			me.AmendGuidance.Contacts[0].Party != "processor" ||
			!strings.Contains(me.DataRequestGuidance.Text, me.Customer.Name) {
			t.Errorf("%s is guided by %+v", role, me.AmendGuidance)
		}
	}
	before := call(t, w.Service, "GET", "/v1/me", apptest.As(w.user)).Header.Get("ETag")
	words := "Ask the service desk.\nIt's on extension 4100 – <b>or</b> 4200. ☎"
	call(t, w.Service, "PATCH", "/v1/customer", apptest.As(w.admin), apptest.JSON(members{"guidance_text": words,
		"privacy_contact": "Privacy@ACME.example"})).Want(t, 200)
	var me meView
	answer := call(t, w.Service, "GET", "/v1/me", apptest.As(w.user)).Want(t, 200)
	answer.Into(t, &me)
	if me.AmendGuidance.Text != words || len(me.AmendGuidance.Contacts) != 2 ||
		me.AmendGuidance.Contacts[0] != struct{ Party, Email string }{"controller", "Privacy@acme.example"} {
		t.Errorf("%+v", me.AmendGuidance)
	}
	if answer.Header.Get("ETag") == before {
		t.Error("what is shown changed and its tag did not")
	}
	call(t, w.Service, "PATCH", "/v1/customer", apptest.As(w.admin), apptest.Raw("application/merge-patch+json",
		`{"privacy_contact":null,"guidance_text":""}`)).Want(t, 200)
	call(t, w.Service, "GET", "/v1/me", apptest.As(w.user)).Want(t, 200).Into(t, &me)
	if me.AmendGuidance.Text == "" || len(me.AmendGuidance.Contacts) != 1 {
		t.Errorf("%+v", me.AmendGuidance)
	}
	// A correction by the administrator is what the person sees at once.
	call(t, w.Service, "PATCH", "/v1/users/"+w.acme.User.ID.String(), apptest.As(w.admin),
		apptest.JSON(members{"last_name": "Haddad-Lind"})).Want(t, 200)
	call(t, w.Service, "GET", "/v1/me", apptest.As(w.user)).Want(t, 200).Into(t, &me)
	if me.LastName != "Haddad-Lind" {
		t.Errorf("%+v", me)
	}
}

func TestCustomerSettings(t *testing.T) {
	t.Parallel()
	h := newTenant(t)
	get := h.asAdmin(t, "GET", "/v1/customer").Want(t, 200)
	if get.Text(t, "slug") != h.acme.Slug || get.Header.Get("ETag") != `"1"` {
		t.Errorf("%v %s", get.Header, get.Body)
	}
	patch := func(body string, options ...apptest.Option) apptest.Answer {
		t.Helper()
		return h.asAdmin(t, "PATCH", "/v1/customer", append(options, apptest.Raw("application/merge-patch+json", body))...)
	}
	patch(`{"guidance_text":"x"}`, apptest.Header("If-Match", `"2"`)).WantProblem(t, 412, "precondition-failed")
	if patch(`{"guidance_text":"x"}`, apptest.Header("If-Match", `"1"`)).Want(t, 200).Header.Get("ETag") != `"2"` {
		t.Error("the tag does not count on")
	}
	if patch(`{"guidance_text":"x"}`).Want(t, 200).Header.Get("ETag") != `"2"` {
		t.Error("the tag counts what is no change")
	}
	patch(`{"guidance_text":"`+strings.Repeat("é", 4000)+`"}`).Want(t, 200)
	patch(`{"networks":{"policy":"flag","networks":["10.1.2.3/8","::/0","10.0.0.0/8"]}}`).Want(t, 200)
	for _, body := range []string{
		`{"guidance_text":"` + strings.Repeat("é", 4001) + `"}`, `{"guidance_text":null}`, `{"slug":"other"}`, `{"name":"Other"}`,
		`{"mail_domains":{"policy":"refuse"}}`, `{"mail_domains":null}`,
		`{"mail_domains":{"policy":"maybe","domains":[]}}`, `{"networks":{"policy":"flag","networks":["10.0.0.1"]}}`,
		`{"networks":{"policy":"flag","networks":["fe80::%1/64"]}}`, `{}`,
	} {
		patch(body).WantProblem(t, 400, "malformed-request")
	}
	for _, contact := range []string{"nobody", "Ada <ada@acme.example>", "a@b@c.de", longInASCII} {
		if answer := patch(`{"privacy_contact":"` + contact + `"}`); answer.Status != 422 && answer.Status != 400 {
			t.Errorf("%s: %d %s", contact, answer.Status, answer.Body)
		}
	}
}

// TestAlerts: the person, the administrator and an integration set the same switch, and each sees who turned it last.
func TestAlerts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.acme.User.ID.String()
	steps := []struct {
		by      apptest.Credential
		path    string
		optedIn bool
		setBy   string
	}{
		{w.admin, "/v1/users/" + id + "/alerts", false, "customer"}, {w.user, "/v1/me/alerts", true, "user"},
		{w.acme.APIKey, "/v1/users/" + id + "/alerts", false, "api_key"},
		{w.acme.APIKey, "/v1/users/" + id + "/alerts", false, "api_key"}, {w.user, "/v1/me/alerts", false, "user"},
		{w.admin, "/v1/users/" + id + "/alerts", true, "customer"},
	}
	for i, step := range steps {
		w.Database.Clock.Advance(time.Second)
		answer := call(t, w.Service, "PUT", step.path, apptest.As(step.by), apptest.JSON(members{"opted_in": step.optedIn})).Want(t, 200)
		want := alertView{step.optedIn, step.setBy, w.Database.Clock.Now()}
		for _, view := range []struct {
			by   apptest.Credential
			path string
		}{{w.user, "/v1/me/alerts"}, {w.admin, "/v1/users/" + id + "/alerts"}, {w.acme.APIKey, "/v1/users/" + id + "/alerts"}} {
			seen := call(t, w.Service, "GET", view.path, apptest.As(view.by)).Want(t, 200)
			var got alertView
			if seen.Into(t, &got); got != want || string(seen.Body) != string(answer.Body) || seen.Header.Get("ETag") != answer.Header.Get("ETag") {
				t.Errorf("step %d: %s shows %s %s, the answer was %s %s", i, view.path, seen.Header.Get("ETag"), seen.Body,
					answer.Header.Get("ETag"), answer.Body)
			}
		}
		var whole struct{ Alerts alertView }
		call(t, w.Service, "GET", "/v1/users/"+id, apptest.As(w.admin)).Want(t, 200).Into(t, &whole)
		if whole.Alerts != want {
			t.Errorf("step %d: the user shows %+v", i, whole)
		}
	}
	tag := call(t, w.Service, "GET", "/v1/me/alerts", apptest.As(w.user)).Header.Get("ETag")
	call(t, w.Service, "PUT", "/v1/me/alerts", apptest.As(w.user), apptest.JSON(members{"opted_in": true}),
		apptest.Header("If-Match", `"1"`)).WantProblem(t, 412, "precondition-failed")
	call(t, w.Service, "PUT", "/v1/me/alerts", apptest.As(w.user), apptest.JSON(members{"opted_in": true}),
		apptest.Header("If-Match", tag)).Want(t, 200)
	// An administrator on the own account is a person like all others.
	var own alertView
	call(t, w.Service, "PUT", "/v1/users/"+w.acme.Admin.ID.String()+"/alerts", apptest.As(w.admin),
		apptest.JSON(members{"opted_in": false})).Want(t, 200).Into(t, &own)
	if own.SetBy != "user" || own.OptedIn {
		t.Errorf("%+v", own)
	}
	for _, method := range []string{"GET", "PUT"} {
		options := []apptest.Option{apptest.As(w.operator)}
		if method == "PUT" {
			options = append(options, apptest.JSON(members{"opted_in": false}))
		}
		call(t, w.Service, method, "/v1/me/alerts", options...).WantProblem(t, 403, "role-not-allowed")
	}
}

func TestPasswordChange(t *testing.T) {
	t.Parallel()
	h := newTenantAlone(t)
	person := h.Person(t, h.acme, principal.User, "theodora.papadopoulou@acme.example")
	first, second := h.signIn(t, person), h.signIn(t, person)
	stranger := h.SignIn(t, h.acme.Slug, h.acme.User)
	change := func(by apptest.Credential, current, next string) apptest.Answer {
		t.Helper()
		return call(t, h.Service, "PUT", "/v1/me/password", apptest.As(by), apptest.JSON(members{"current_password": current, "new_password": next}))
	}
	change(first.Access, "not the current password", anotherPassword).WantProblem(t, 422, "current-password-wrong")
	change(first.Access, apptest.Password+"\x00"[:0]+" ", anotherPassword).WantProblem(t, 422, "current-password-wrong")
	for what, weak := range map[string]string{
		"short": "x7!Kp2#mQ", "14 characters": "kj3 9dq8 zpw4x", "common": "passwordpassword1", "a run": "abcdefghijklmnopqrst",
		"a repetition": "qwertyqwertyqwertyqwerty",
		"own name":     "theodora.papadopoulou", "own name with digits": "papadopoulou2026", "own address": person.Email,
		"the employer": "acme acme acme acme", "a row of keys": "qwertyuiopasdfghjkl",
		"129 characters": strings.Repeat("kj3 9dq8 zpw4x", 10)[:129], "many marks that become few": strings.Repeat("a", 15),
	} {
		answer := change(first.Access, apptest.Password, weak)
		if answer.Status != 422 || answer.Text(t, "type") != "/problems/weak-password" || strings.Contains(string(answer.Body), weak) {
			t.Errorf("%s: %d %s", what, answer.Status, answer.Body)
		}
	}
	if !h.lives(t, second.Access) {
		t.Error("a refused change ended a session")
	}
	h.Database.Clock.Advance(time.Second)
	change(first.Access, apptest.Password, anotherPassword).Want(t, 204)
	h.Database.Clock.Advance(500 * time.Millisecond)
	if !h.lives(t, first.Access) || h.lives(t, second.Access) || !h.lives(t, stranger) {
		t.Error("the own session and those of others stay, the person's other ones end")
	}
	h.refresh(t, second.Refresh).WantProblem(t, 401, "unauthorized")
	h.refresh(t, first.Refresh).Want(t, 200)
	trySignIn(t, h.Service, h.acme.Slug, person.Email, apptest.Password, "").WantProblem(t, 401, "invalid-credentials")
	trySignIn(t, h.Service, h.acme.Slug, person.Email, anotherPassword, "").Want(t, 201)
	change(first.Access, apptest.Password, apptest.Password).WantProblem(t, 422, "current-password-wrong")
	// Composed or decomposed, it is the same password: keyboards differ.
	accents := "früh übt sich wër gärtnern möchte"
	change(first.Access, anotherPassword, accents).Want(t, 204)
	decomposed := strings.NewReplacer("ü", "u\u0308", "ë", "e\u0308", "ä", "a\u0308", "ö", "o\u0308").Replace(accents)
	trySignIn(t, h.Service, h.acme.Slug, person.Email, decomposed, "").Want(t, 201)
	var hash string
	peek(t, h.Service, "select password_hash from users where email = $1", &hash, person.Email)
	if !strings.HasPrefix(hash, "$argon2id$") {
		t.Errorf("the password is kept as %s", hash[:10])
	}
	for _, secret := range []string{accents, anotherPassword, apptest.Password} {
		if strings.Contains(h.Database.Log.String(), secret) {
			t.Error("a password stands in the log")
		}
	}
}

// TestSignInTellsNothing: whatever is wrong, the answer is the same to the letter.
func TestSignInTellsNothing(t *testing.T) {
	t.Parallel()
	h := newTenant(t)
	disabled := h.Person(t, h.acme, principal.User, "disabled@acme.example")
	h.patch(t, disabled.ID.String(), members{"status": "disabled"}).Want(t, 200)
	gone := h.Person(t, h.acme, principal.User, "gone@acme.example")
	h.asAdmin(t, "POST", "/v1/users/"+gone.ID.String()+"/redaction").Want(t, 200)
	h.create(t, named("No", "Password", "none@acme.example"))
	other := h.Customer(t, apptest.Unique("umbrella"))
	var first string
	for what, attempt := range map[string][3]string{
		"password": {h.acme.Slug, h.acme.User.Email, "not the password at all"}, "address": {h.acme.Slug, "nobody@acme.example", apptest.Password},
		"customer":                      {"nobody", h.acme.User.Email, apptest.Password},
		"the customer of somebody else": {other.Slug, h.acme.User.Email, apptest.Password},
		"disabled":                      {h.acme.Slug, disabled.Email, apptest.Password}, "redacted": {h.acme.Slug, gone.Email, apptest.Password},
		"no password": {h.acme.Slug, "none@acme.example", apptest.Password}, "no address": {h.acme.Slug, "no address", apptest.Password},
		"operators":            {"fusions", h.acme.Admin.Email, apptest.Password},
		"customer in capitals": {strings.ToUpper(h.acme.Slug), h.acme.User.Email, apptest.Password}, "long": {h.acme.Slug, h.acme.User.Email, strings.Repeat("x", 2048)},
		"a slug that is none": {"-", h.acme.User.Email, "x"},
		"everything":          {"x", "x@y.zz", "x"}, "blank behind": {h.acme.Slug, h.acme.User.Email, apptest.Password + " "},
	} {
		answer := trySignIn(t, h.Service, attempt[0], attempt[1], attempt[2], "")
		if answer.Status != 401 {
			t.Errorf("%s: %d %s", what, answer.Status, answer.Body)
			continue
		}
		text := anonymous(t, answer)
		if first == "" {
			first = text
		}
		if text != first {
			t.Errorf("%s is told apart:\n%s\n%s", what, text, first)
		}
	}
	domain := h.acme.Slug + ".example"
	for _, spelling := range []string{
		"USER@" + domain, "user@" + strings.ToUpper(domain), "ｕser@" + domain, "user@" + domain + ".",
	} {
		trySignIn(t, h.Service, h.acme.Slug, spelling, apptest.Password, "").Want(t, 201)
	}
}

func TestSessions(t *testing.T) {
	t.Parallel()
	h := newTenantAlone(t)
	clock := h.Database.Clock
	one, other := h.signIn(t, h.acme.User), h.signIn(t, h.acme.User)
	if one.Type != "Bearer" || one.ExpiresIn != 600 {
		t.Errorf("%+v", one)
	}
	// Rotation: each refresh token is good once. The access tokens of before stay good until they expire.
	var next, third tokens
	h.refresh(t, one.Refresh).Want(t, 200).Into(t, &next)
	if next.Refresh == one.Refresh || next.Access == one.Access || !h.lives(t, one.Access) || !h.lives(t, next.Access) {
		t.Error("the exchange gave the same tokens, or ended something")
	}
	h.refresh(t, next.Refresh).Want(t, 200).Into(t, &third)
	// Reuse: of the two who have it, one stole it. The whole family ends, other sessions do not.
	h.refresh(t, one.Refresh).WantProblem(t, 401, "unauthorized")
	clock.Advance(500 * time.Millisecond)
	for _, access := range []apptest.Credential{one.Access, next.Access, third.Access} {
		if h.lives(t, access) {
			t.Error("a token of a stolen family is taken")
		}
	}
	h.refresh(t, third.Refresh).WantProblem(t, 401, "unauthorized")
	if !h.lives(t, other.Access) {
		t.Error("another session ended as well")
	}
	// Signing out ends this session, at once here and for the refresh token as well.
	call(t, h.Service, "DELETE", "/v1/sessions/current", apptest.As(other.Access)).Want(t, 204)
	if h.lives(t, other.Access) {
		t.Error("signed out and still in")
	}
	h.refresh(t, other.Refresh).WantProblem(t, 401, "unauthorized")
	call(t, h.Service, "DELETE", "/v1/sessions/current", apptest.As(other.Access)).WantProblem(t, 401, "unauthorized")

	// An access token lasts ten minutes.
	timed := h.signIn(t, h.acme.User)
	clock.Advance(10*time.Minute - time.Second)
	if !h.lives(t, timed.Access) {
		t.Error("the token expired early")
	}
	clock.Advance(time.Second)
	if h.lives(t, timed.Access) {
		t.Error("the token is taken after ten minutes")
	}
	// A session lasts a week without being refreshed, and thirty days in all.
	timed = h.signIn(t, h.acme.User)
	for range 4 {
		clock.Advance(7*24*time.Hour - time.Second)
		h.refresh(t, timed.Refresh).Want(t, 200).Into(t, &timed)
	}
	clock.Advance(2*24*time.Hour + time.Minute)
	h.refresh(t, timed.Refresh).WantProblem(t, 401, "unauthorized")
	idle := h.signIn(t, h.acme.User)
	clock.Advance(7 * 24 * time.Hour)
	h.refresh(t, idle.Refresh).WantProblem(t, 401, "unauthorized")
	// A refresh token of an access token's session under another customer's name does not exist.
	if answer := h.refresh(t, strings.Repeat("0", 96)); answer.Status != 401 {
		t.Errorf("%d %s", answer.Status, answer.Body)
	}
}

// TestRefreshingAtOnce: of many exchanges of one token at the same moment, one is the first; the others are a theft.
func TestRefreshingAtOnce(t *testing.T) {
	t.Parallel()
	h := newTenantAlone(t)
	session := h.signIn(t, h.acme.User)
	statuses := make(chan int, 6)
	for range cap(statuses) {
		go func() {
			answer, err := h.Try(t.Context(), "POST", "/v1/sessions/refresh", apptest.JSON(members{"refresh_token": session.Refresh}))
			if err != nil {
				t.Error(err)
			}
			statuses <- answer.Status
		}()
	}
	count := map[int]int{}
	for range cap(statuses) {
		count[<-statuses]++
	}
	if count[200] != 1 || count[401] != cap(statuses)-1 {
		t.Errorf("%v", count)
	}
	h.Database.Clock.Advance(500 * time.Millisecond)
	if h.lives(t, session.Access) {
		t.Error("the family lives after one of its tokens was used twice")
	}
}

// TestAccessTokensVerifyElsewhere: whoever has the published keys can verify a token without us, with another library.
func TestAccessTokensVerifyElsewhere(t *testing.T) {
	t.Parallel()
	w := newSharedWorld(t)
	var set struct {
		Keys []struct{ Kty, Crv, X, Kid, Alg, Use string }
	}
	answer := call(t, w.Service, "GET", "/.well-known/jwks.json").Want(t, 200)
	answer.Into(t, &set)
	if strings.Contains(string(answer.Body), `"d"`) || len(set.Keys) == 0 {
		t.Fatalf("%s", answer.Body)
	}
	find := func(token *jwt.Token) (any, error) {
		for _, key := range set.Keys {
			if key.Kid == token.Header["kid"] && key.Kty == "OKP" && key.Crv == "Ed25519" && key.Alg == "EdDSA" && key.Use == "sig" {
				public, err := base64.RawURLEncoding.DecodeString(key.X)
				return ed25519.PublicKey(public), err
			}
		}
		return nil, errors.New("no such key")
	}
	for role, who := range map[string]struct {
		access   apptest.Credential
		person   apptest.Person
		customer apptest.Customer
	}{"operator": {w.operator, w.fusions.Admin, w.fusions}, "customer": {w.admin, w.acme.Admin, w.acme}, "user": {w.user, w.acme.User, w.acme}} {
		claims := jwt.MapClaims{}
		token, err := jwt.ParseWithClaims(string(who.access), claims, find, jwt.WithValidMethods([]string{"EdDSA"}),
			jwt.WithIssuer("http://steward.test"),
			jwt.WithAudience("http://steward.test"), jwt.WithExpirationRequired(), jwt.WithTimeFunc(w.Database.Clock.Now), jwt.WithIssuedAt())
		if err != nil {
			t.Fatal(err)
		}
		if token.Header["typ"] != "at+jwt" || claims["sub"] != who.person.ID.String() || claims["customer_id"] != who.customer.ID.String() ||
			claims["role"] != role {
			t.Errorf("%v %v", token.Header, claims)
		}
		for _, name := range []string{"jti", "sid", "iat", "exp"} {
			if claims[name] == nil {
				t.Errorf("the claim %s is missing: %v", name, claims)
			}
		}
		for name, value := range claims {
			if text, isText := value.(string); isText && (strings.Contains(text, "First") || strings.Contains(text, "@")) {
				t.Errorf("the claim %s holds something personal", name)
			}
		}
	}
	// A token whose role was changed is not signed any more.
	parts := strings.Split(string(w.user), ".")
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	forged := parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(strings.Replace(string(payload), `"user"`, `"customer"`,
		1))) + "." + parts[2]
	call(t, w.Service, "GET", "/v1/users", apptest.As(apptest.Credential(forged))).WantProblem(t, 401, "unauthorized")
	// Nor is one that another key signed in our name.
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	claims := jwt.MapClaims{}
	if _, _, err := jwt.NewParser().ParseUnverified(string(w.admin), claims); err != nil {
		t.Fatal(err)
	}
	foreign := jwt.NewWithClaims(jwt.SigningMethodEdDSA, claims)
	foreign.Header["kid"], foreign.Header["typ"] = set.Keys[0].Kid, "at+jwt"
	text, err := foreign.SignedString(private)
	if err != nil {
		t.Fatal(err)
	}
	call(t, w.Service, "GET", "/v1/users", apptest.As(apptest.Credential(text))).WantProblem(t, 401, "unauthorized")
}

// TestLoginRecords: each attempt on an account is kept with where it came from, as far as those can be believed who say so.
func TestLoginRecords(t *testing.T) {
	t.Parallel()
	h := newTenantAlone(t)
	last := func() (record string) {
		t.Helper()
		h.Settle() // what failed is recorded after the answer
		peek(t, h.Service, "select host(address) || ' ' || outcome || ' ' || inside_networks from login_records order by id desc limit 1", &record)
		return record
	}
	email := h.acme.User.Email
	for from, address := range map[string]string{
		"": "127.0.0.1", "203.0.113.9": "203.0.113.9", "198.51.100.7, 203.0.113.9": "203.0.113.9", "203.0.113.9, 127.0.0.2": "203.0.113.9",
		"2001:db8::1":        "2001:db8::1",
		"::ffff:203.0.113.9": "203.0.113.9", "nonsense": "127.0.0.1", "203.0.113.9, nonsense": "127.0.0.1", "10.0.0.1": "10.0.0.1", // not among the trusted ones, however private
		"1.2.3.4\t": "1.2.3.4",
	} {
		trySignIn(t, h.Service, h.acme.Slug, email, "wrong wrong wrong wrong", from).Want(t, 401)
		if got := last(); got != address+" wrong_password true" {
			t.Errorf("X-Forwarded-For: %s is recorded as %s", from, got)
		}
	}
	trySignIn(t, h.Service, h.acme.Slug, email, apptest.Password, "203.0.113.9").Want(t, 201)
	if got := last(); got != "203.0.113.9 succeeded true" {
		t.Error(got)
	}
	for _, header := range []string{"X-Real-Ip", "Forwarded", "True-Client-Ip", "X-Client-Ip", "Cf-Connecting-Ip"} {
		call(t, h.Service, "POST", "/v1/sessions", apptest.JSON(members{"customer": h.acme.Slug, "email": email, "password": "wrong"}),
			apptest.Header(header, "203.0.113.77")).Want(t, 401)
		if got := last(); !strings.HasPrefix(got, "127.0.0.1 ") {
			t.Errorf("%s is believed: %s", header, got)
		}
	}
	policy := func(policy string) {
		h.asAdmin(t, "PATCH", "/v1/customer", apptest.JSON(members{"networks": members{"policy": policy,
			"networks": []string{"203.0.113.0/24", "2001:db8::/32"}}})).Want(t, 200)
	}
	standing := h.SignIn(t, h.acme.Slug, h.acme.User)
	for _, step := range []struct {
		policy, from string
		status       int
		record       string
	}{
		{"off", "198.51.100.7", 201, "198.51.100.7 succeeded false"}, {"flag", "198.51.100.7", 201, "198.51.100.7 succeeded false"},
		{"flag", "203.0.113.9", 201, "203.0.113.9 succeeded true"},
		{"refuse", "198.51.100.7", 401, "198.51.100.7 network_refused false"}, {"refuse", "203.0.113.9", 201, "203.0.113.9 succeeded true"},
		{"refuse", "2001:db8::1", 201, "2001:db8::1 succeeded true"},
	} {
		policy(step.policy)
		answer := trySignIn(t, h.Service, h.acme.Slug, email, apptest.Password, step.from)
		if got := last(); answer.Status != step.status || got != step.record {
			t.Errorf("%+v: %d %s, recorded as %s", step, answer.Status, answer.Body, got)
		}
	}
	if !h.lives(t, standing) {
		t.Error("the policy is about signing in and ended a session")
	}
	// Refused for the network is told like a wrong password.
	wrong, outside := trySignIn(t, h.Service, h.acme.Slug, email, "wrong", "203.0.113.9"),
		trySignIn(t, h.Service, h.acme.Slug, email, apptest.Password, "198.51.100.7")
	if anonymous(t, wrong) != anonymous(t, outside) {
		t.Errorf("%s\n%s", wrong.Body, outside.Body)
	}
	h.patch(t, h.acme.User.ID.String(), members{"status": "disabled"}).Want(t, 200)
	trySignIn(t, h.Service, h.acme.Slug, email, apptest.Password, "203.0.113.9").Want(t, 401)
	if got := last(); got != "203.0.113.9 disabled true" {
		t.Error(got)
	}
	none := h.create(t, named("No", "Password", "none@acme.example"))
	trySignIn(t, h.Service, h.acme.Slug, *none.Email, apptest.Password, "203.0.113.9").Want(t, 401)
	if got := last(); got != "203.0.113.9 no_password true" {
		t.Error(got)
	}
	if strings.Contains(h.Database.Log.String(), "203.0.113.9") || strings.Contains(h.Database.Log.String(), email) {
		t.Error("the log holds an address of a person")
	}
}

// TestNobodyIsTrustedByDefault: without a trusted proxy, X-Forwarded-For is what anybody could write.
func TestNobodyIsTrustedByDefault(t *testing.T) {
	t.Parallel()
	h := newTenantAlone(t)
	service, err := app.Open(t.Context(), app.Settings{
		Blobs: apptest.BlobsOf(t, h.Database), DatabaseURL: h.Database.URL, MaxConnections: 4, MasterKey: apptest.MasterKey(), PublicURL: "http://steward.test",
		Password: password.DefaultParameters(),
		Clock:    h.Database.Clock.Now, Log: h.Database.Log.Logger(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := service.Close(); err != nil {
			t.Error(err)
		}
	})
	body := encoded(t, members{"customer": h.acme.Slug, "email": h.acme.User.Email, "password": apptest.Password})
	request := httptest.NewRequest(http.MethodPost, "/v1/sessions", strings.NewReader(body))
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("X-Forwarded-For", "203.0.113.9")
	request.RemoteAddr = "127.0.0.1:4711"
	recorder := httptest.NewRecorder()
	service.API.ServeHTTP(recorder, request)
	var address string
	peek(t, h.Service, "select host(address) from login_records order by id desc limit 1", &address)
	if recorder.Code != http.StatusCreated || address != "127.0.0.1" {
		t.Errorf("%d, recorded as %s", recorder.Code, address)
	}
}
