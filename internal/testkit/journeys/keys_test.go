package journeys

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fusionspim/steward/internal/account/apikey"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/infra/token"
	"github.com/fusionspim/steward/internal/testkit/apptest"
)

// shownKey is an API key as it is answered.
type shownKey struct {
	ID              string     `json:"id"`
	Name            string     `json:"name"`
	Scopes          []string   `json:"scopes"`
	AllowedNetworks []string   `json:"allowed_networks"`
	CreatedAt       time.Time  `json:"created_at"`
	ExpiresAt       *time.Time `json:"expires_at"`
	RevokedAt       *time.Time `json:"revoked_at"`
	APIKey          string     `json:"api_key"`
}

func keyPath(key string) string { return "/v1/api-keys/" + key }

// actsOn lists what the trail of a customer says was done to something, oldest first, as "actor type action changed".
func actsOn(t *testing.T, s *apptest.Service, target string) (acts []string) {
	t.Helper()
	rows, err := s.Database.Superuser(t).Query(t.Context(),
		"select actor_type || ' ' || action || ' ' || array_to_string(changed, ',') from audit_entries where target_id = $1 order by id", target)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var act string
		if err := rows.Scan(&act); err != nil {
			t.Fatal(err)
		}
		acts = append(acts, strings.TrimSpace(act))
	}
	if rows.Err() != nil {
		t.Fatal(rows.Err())
	}
	return acts
}

func wantActs(t *testing.T, s *apptest.Service, target string, want ...string) {
	t.Helper()
	if got := actsOn(t, s, target); strings.Join(got, "; ") != strings.Join(want, "; ") {
		t.Errorf("the trail of %s: %q, want %q", target, got, want)
	}
}

func TestRotateAPIKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	beside := apptest.Replica(t, w.Database)
	clock, admin := w.Database.Clock, apptest.As(w.admin)
	anew := func() { admin = apptest.As(w.SignIn(t, "acme", w.acme.Admin)) } // an access token lasts ten minutes
	works := func(credential string, want int) {
		t.Helper()
		for _, replica := range []*apptest.Service{w.Service, beside} {
			replica.Call(t, "GET", "/v1/users", apptest.As(apptest.Credential(credential))).Want(t, want)
		}
	}
	make := func(body members) (made shownKey) {
		t.Helper()
		w.Call(t, "POST", "/v1/api-keys", admin, apptest.JSON(body)).Want(t, 201).Into(t, &made)
		return made
	}
	rotate := func(key string, options ...apptest.Option) (made shownKey) {
		t.Helper()
		answer := w.Call(t, "POST", keyPath(key)+"/rotation", append(options, admin)...).Want(t, 201)
		answer.Into(t, &made)
		if answer.Header.Get("Location") != keyPath(made.ID) {
			t.Errorf("Location is %q", answer.Header.Get("Location"))
		}
		return made
	}
	shown := func(key string) (found shownKey) {
		t.Helper()
		var page struct{ Data []shownKey }
		w.Call(t, "GET", "/v1/api-keys?limit=200", admin).Want(t, 200).Into(t, &page)
		for _, one := range page.Data {
			if one.ID == key {
				return one
			}
		}
		t.Fatalf("%s is not listed", key)
		return found
	}

	// The successor is like its predecessor, which goes on for the overlap and not a second longer.
	old := make(members{"name": "PIM", "scopes": []string{"users:read", "audit:read"}, "allowed_networks": []string{"127.0.0.0/8", "::1/128"}})
	works(old.APIKey, 200)
	next := rotate(old.ID, apptest.JSON(members{"overlap_seconds": 60}), apptest.Header("Idempotency-Key", "rotate-1"))
	if next.ID == old.ID || next.APIKey == old.APIKey || next.Name != old.Name || strings.Join(next.Scopes, " ") != strings.Join(old.Scopes, " ") ||
		strings.Join(next.AllowedNetworks, " ") != strings.Join(old.AllowedNetworks, " ") || next.ExpiresAt != nil || !next.CreatedAt.Equal(clock.Now()) {
		t.Errorf("the successor of %+v is %+v", old, next)
	}
	if end := shown(old.ID).ExpiresAt; end == nil || !end.Equal(clock.Now().Add(time.Minute)) {
		t.Errorf("the old key ends at %v", end)
	}
	wantActs(t, w.Service, old.ID, "user api_key.created", "user api_key.rotated expires_at")
	wantActs(t, w.Service, next.ID, "user api_key.created")
	replay := w.Call(t, "POST", keyPath(old.ID)+"/rotation", admin, apptest.JSON(members{"overlap_seconds": 60}), apptest.Header("Idempotency-Key", "rotate-1")).Want(t, 201)
	if replay.Text(t, "api_key") != next.APIKey || replay.Header.Get("Idempotency-Replayed") != "true" {
		t.Error("a repetition makes another key")
	}
	w.Call(t, "POST", keyPath(old.ID)+"/rotation", admin, apptest.JSON(members{"overlap_seconds": 61}), apptest.Header("Idempotency-Key", "rotate-1")).
		WantProblem(t, 422, "idempotency-key-reused")
	clock.Advance(59 * time.Second)
	works(old.APIKey, 200)
	works(next.APIKey, 200)
	clock.Advance(time.Second)
	works(old.APIKey, 401)
	works(next.APIKey, 200)

	// With nothing said a day; at once with none; on every replica within a second.
	rotate(next.ID)
	if end := shown(next.ID).ExpiresAt; end == nil || !end.Equal(clock.Now().Add(24*time.Hour)) {
		t.Errorf("without a word the old key ends at %v", end)
	}
	third := rotate(next.ID, apptest.JSON(members{"overlap_seconds": 0}))
	w.Call(t, "GET", "/v1/users", apptest.As(apptest.Credential(next.APIKey))).Want(t, 401)
	clock.Advance(apikey.Remembered)
	works(next.APIKey, 401)
	works(third.APIKey, 200)

	// A key that expires is followed by one that lasts as long, also when the end of it was brought forward; its own end is never put off.
	month := make(members{"name": "monthly", "scopes": []string{"users:read"}, "expires_at": clock.Now().Add(30 * 24 * time.Hour).Format(time.RFC3339Nano)})
	clock.Advance(20 * 24 * time.Hour)
	anew()
	for _, want := range []string{"user api_key.rotated expires_at", "user api_key.rotated"} {
		successor := rotate(month.ID, apptest.JSON(members{"overlap_seconds": 5 * 24 * 3600}))
		if successor.ExpiresAt == nil || successor.ExpiresAt.Sub(clock.Now().Add(30*24*time.Hour)).Abs() > time.Second {
			t.Errorf("the successor ends at %v", successor.ExpiresAt)
		}
		if acts := actsOn(t, w.Service, month.ID); acts[len(acts)-1] != want {
			t.Errorf("the last act: %q, want %q", acts[len(acts)-1], want)
		}
		clock.Advance(24 * time.Hour)
		anew()
	}
	if end := shown(month.ID).ExpiresAt; !end.Equal(month.ExpiresAt.Add(-5 * 24 * time.Hour)) {
		t.Errorf("the old key ends at %v", end)
	}
	ages := make(members{"name": "for ages", "scopes": []string{"users:read"}, "expires_at": "9999-12-31T23:59:59Z"})
	if end := rotate(ages.ID).ExpiresAt; end == nil || end.Year() != 9999 {
		t.Errorf("the successor of a key for ages ends at %v", end)
	}

	// What is good no more has no successor.
	w.Call(t, "POST", keyPath(old.ID)+"/rotation", admin).WantProblem(t, 409, "api-key-revoked")
	w.Call(t, "DELETE", keyPath(third.ID), admin).Want(t, 204)
	w.Call(t, "POST", keyPath(third.ID)+"/rotation", admin).WantProblem(t, 409, "api-key-revoked")
	w.Call(t, "POST", keyPath(ages.ID)+"/rotation", apptest.As(w.SignIn(t, "umbrella", w.other.Admin))).WantProblem(t, 404, "not-found")
	w.Call(t, "POST", keyPath(id.New[id.APIKey]().String())+"/rotation", admin).WantProblem(t, 404, "not-found")
	w.Call(t, "POST", keyPath(ages.ID)+"/rotation", apptest.As(w.SignIn(t, "acme", w.acme.User))).WantProblem(t, 403, "role-not-allowed")
	for _, bad := range []any{members{"overlap_seconds": -1}, members{"overlap_seconds": 2592001}, members{"overlap_seconds": 1.5}, members{"name": "other"}} {
		w.Call(t, "POST", keyPath(ages.ID)+"/rotation", admin, apptest.JSON(bad)).WantProblem(t, 400, "malformed-request")
	}
}

func TestLeakedAPIKeyIsRevoked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	beside := apptest.Replica(t, w.Database)
	report := func(text, from string) apptest.Answer {
		t.Helper()
		return w.Call(t, "POST", "/v1/api-keys/leaks", apptest.JSON(members{"api_key": text}), apptest.Header("X-Forwarded-For", from))
	}
	key := keyOf(t, w.Service, w.acme, apikey.New{Name: "leaks", Scopes: principal.Scopes()})
	another := keyOf(t, w.Service, w.acme, apikey.New{Name: "stays", Scopes: principal.Scopes()})
	get := func(s *apptest.Service, of madeKey) int {
		return s.Call(t, "GET", "/v1/users", apptest.As(of.credential)).Status
	}
	get(w.Service, key)
	get(beside, key)

	// An existing id with another key's secret, checksum and all, does nothing; neither does what is no key.
	keyID, err := id.Parse[id.APIKey](key.id)
	if err != nil {
		t.Fatal(err)
	}
	otherSecret, _ := token.NewAPIKey(keyID)
	forged := otherSecret.Reveal()
	first := report(forged, "203.0.113.1").Want(t, 204)
	report("stw_nonsense", "203.0.113.1").Want(t, 204)
	report(string(key.credential)+"x", "203.0.113.1").Want(t, 204)
	if get(w.Service, key) != 200 {
		t.Fatal("a wrong secret revoked a key")
	}
	wantActs(t, w.Service, key.id, "system api_key.created")

	// The key itself does, from anywhere, whoever reports it; once, however many report it at once.
	var reporters sync.WaitGroup
	for _, from := range []string{"203.0.113.2", "203.0.113.3", "203.0.113.4"} {
		reporters.Go(func() {
			answer, err := beside.Try(t.Context(), "POST", "/v1/api-keys/leaks", apptest.JSON(members{"api_key": string(key.credential)}), apptest.Header("X-Forwarded-For", from))
			if err != nil || answer.Status != 204 || len(answer.Body) != 0 {
				t.Errorf("%v %d %s", err, answer.Status, answer.Body)
			}
		})
	}
	reporters.Wait()
	if get(beside, key) != 401 {
		t.Error("the leaked key still works where it was reported")
	}
	w.Database.Clock.Advance(time.Second)
	if get(w.Service, key) != 401 || get(w.Service, another) != 200 {
		t.Error("the leaked key still works, or another one does not")
	}
	wantActs(t, w.Service, key.id, "system api_key.created", "system api_key.leaked")
	again := report(string(key.credential), "203.0.113.5").Want(t, 204)
	wantActs(t, w.Service, key.id, "system api_key.created", "system api_key.leaked")
	for _, answer := range []*apptest.Answer{&first, &again} {
		answer.Header.Del("Date")
		answer.Header.Del("X-Request-Id")
	}
	if a, b := headerText(first.Header), headerText(again.Header); a != b {
		t.Errorf("the answers differ:\n%s\n%s", a, b)
	}

	// Expired is not good, and stays as it is.
	end := w.Database.Clock.Now().Add(time.Minute)
	expired := keyOf(t, w.Service, w.acme, apikey.New{Name: "expired", Scopes: principal.Scopes(), ExpiresAt: &end})
	w.Database.Clock.Advance(2 * time.Minute)
	report(string(expired.credential), "203.0.113.6").Want(t, 204)
	wantActs(t, w.Service, expired.id, "system api_key.created")

	// Guesses are limited by network, on all replicas together; a finder of many good keys is not.
	statuses := map[int]int{}
	for range 23 {
		statuses[report(forged, "203.0.113.7").Status]++
	}
	if statuses[204] != 20 || statuses[429] != 3 {
		t.Errorf("%v", statuses)
	}
	refused := report(string(another.credential), "203.0.113.7").WantProblem(t, 429, "too-many-attempts")
	if refused.Header.Get("Retry-After") == "" || get(w.Service, another) != 200 {
		t.Error("429 without Retry-After, or a report that was refused revoked a key")
	}
	for range 25 {
		report(string(keyOf(t, w.Service, w.acme, apikey.New{Name: "many", Scopes: principal.Scopes()}).credential), "203.0.113.8").Want(t, 204)
	}
	w.Database.Clock.Advance(time.Minute)
	report(string(another.credential), "203.0.113.7").Want(t, 204)
	if get(w.Service, another) != 401 {
		t.Error("the limit does not pass")
	}
	w.Call(t, "POST", "/v1/api-keys/leaks", apptest.JSON(members{})).WantProblem(t, 400, "malformed-request")
}

func TestStaleKeysAreReported(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	clock, admin := w.Database.Clock, apptest.As(w.admin)
	soon := clock.Now().Add(5 * 24 * time.Hour)
	made := map[string]madeKey{}
	for _, name := range []string{"never used", "used", "revoked"} {
		made[name] = keyOf(t, w.Service, w.acme, apikey.New{Name: name, Scopes: principal.Scopes()})
	}
	made["expired"] = keyOf(t, w.Service, w.acme, apikey.New{Name: "expired", Scopes: principal.Scopes(), ExpiresAt: &soon})
	w.Call(t, "DELETE", keyPath(made["revoked"].id), admin).Want(t, 204)
	stale := func(query string) string {
		t.Helper()
		var names []string
		for path := "/v1/api-keys?limit=1" + query; path != ""; {
			var page struct {
				Data []shownKey
				Next *string `json:"next_cursor"`
			}
			w.Call(t, "GET", path, admin).Want(t, 200).Into(t, &page)
			for _, one := range page.Data {
				if one.Name != "all" {
					names = append(names, one.Name)
				}
			}
			if path = ""; page.Next != nil {
				path = "/v1/api-keys?limit=1" + query + "&cursor=" + *page.Next
			}
		}
		return strings.Join(names, ", ")
	}
	if got := stale("&unused_for_days=10"); got != "" {
		t.Errorf("on the first day: %s", got)
	}
	clock.Advance(6 * 24 * time.Hour)
	w.Call(t, "GET", "/v1/users", apptest.As(made["used"].credential)).Want(t, 200)
	clock.Advance(4*24*time.Hour + time.Second)
	keyOf(t, w.Service, w.acme, apikey.New{Name: "new", Scopes: principal.Scopes()})
	admin = apptest.As(w.SignIn(t, w.acme.Slug, w.acme.Admin))
	for query, want := range map[string]string{
		"&unused_for_days=11": "", "&unused_for_days=10": "never used", "&unused_for_days=4": "used, never used", "": "new, expired, revoked, used, never used",
	} {
		if got := stale(query); got != want {
			t.Errorf("%q: %q, want %q", query, got, want)
		}
	}
	for _, bad := range []string{"0", "-1", "3651", "x", ""} {
		w.Call(t, "GET", "/v1/api-keys?unused_for_days="+bad, admin).WantProblem(t, 400, "malformed-request")
	}
}

func headerText(header http.Header) string {
	var text strings.Builder
	_ = header.Write(&text) // a builder takes everything
	return text.String()
}
