//go:build go1.25

package client_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fusionspim/steward/pkg/client"
	"github.com/fusionspim/steward/pkg/client/api"
)

// gate is a server that knows sessions: it takes the newest access token alone.
type gate struct {
	*server
	mutex     sync.Mutex
	lifetime  int // seconds
	newest    int
	refreshes int // exchanges that were carried out
	signIns   int
	revoked   bool
	lost      int // so many answers to exchanges are lost after they were carried out
	keys      map[string]int
	password  string
}

func openGate(t *testing.T, lifetime int) *gate {
	t.Helper()
	g := &gate{lifetime: lifetime, keys: map[string]int{}, password: "secret"}
	g.server = serve(t, func(_ int, w http.ResponseWriter, r *http.Request) {
		g.mutex.Lock()
		defer g.mutex.Unlock()
		switch r.Method + " " + r.URL.Path {
		case "POST /v1/sessions":
			g.signIns++
			saw := g.saw()
			var sent api.SignIn
			_ = json.Unmarshal([]byte(saw[len(saw)-1].body), &sent)
			if sent.Password != g.password {
				write(w, 401, problem(401, "invalid-credentials"))
				return
			}
			g.newest++
			g.revoked = false
			write(w, 201, g.tokens())
		case "POST /v1/sessions/refresh":
			key := r.Header.Get("Idempotency-Key")
			if number, done := g.keys[key]; done && number == g.newest {
				write(w, 200, g.tokens())
				return
			}
			if g.revoked {
				write(w, 401, problem(401, "unauthorized"))
				return
			}
			g.refreshes++
			g.newest++
			g.keys[key] = g.newest
			if g.lost > 0 {
				g.lost--
				hangUp(t, w)
				return
			}
			write(w, 200, g.tokens())
		default:
			if g.revoked || r.Header.Get("Authorization") != fmt.Sprintf("Bearer access-%d", g.newest) {
				write(w, 401, problem(401, "unauthorized"))
				return
			}
			if r.Method == http.MethodDelete {
				g.revoked = true
				w.WriteHeader(204)
				return
			}
			write(w, 200, map[string]any{"first_name": "A"})
		}
	})
	return g
}

func (g *gate) tokens() map[string]any {
	return map[string]any{
		"access_token": fmt.Sprintf("access-%d", g.newest), "token_type": "Bearer", "expires_in": g.lifetime, "refresh_token": fmt.Sprintf("refresh-%d", g.newest),
	}
}

func (g *gate) counts() (signIns, refreshes int) {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	return g.signIns, g.refreshes
}

func (g *gate) change(how func()) {
	g.mutex.Lock()
	defer g.mutex.Unlock()
	how()
}

func (g *gate) person(t *testing.T) *client.Client {
	t.Helper()
	return g.client(t, client.WithSession(client.Login{Customer: "acme", Email: "a@acme.example", Password: "secret"}))
}

func me(t *testing.T, c *client.Client) {
	t.Helper()
	if found, err := c.Me(t.Context()); err != nil || found.FirstName != "A" {
		t.Errorf("got %+v, %v", found, err)
	}
}

func TestSessionSignsInOnceForAll(t *testing.T) {
	t.Parallel()
	g := openGate(t, 600)
	c := g.person(t)
	if signIns, _ := g.counts(); signIns != 0 {
		t.Error("New sends something")
	}
	var group sync.WaitGroup
	for range 24 {
		group.Go(func() { me(t, c) })
	}
	group.Wait()
	if signIns, refreshes := g.counts(); signIns != 1 || refreshes != 0 {
		t.Errorf("%d sign-ins, %d refreshes", signIns, refreshes)
	}
}

func TestSessionRefreshesBeforeItExpires(t *testing.T) {
	t.Parallel()
	g := openGate(t, 1)
	c := g.person(t)
	me(t, c)
	time.Sleep(800 * time.Millisecond) // in the last quarter of its life
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() { me(t, c) })
	}
	group.Wait()
	if signIns, refreshes := g.counts(); signIns != 1 || refreshes < 1 {
		t.Errorf("%d sign-ins, %d refreshes", signIns, refreshes)
	}
	for _, one := range g.saw() {
		if one.path == "/v1/sessions/refresh" && one.key == "" {
			t.Error("a refresh without an Idempotency-Key")
		}
	}
}

func TestRefusedTokenIsRefreshedOnceForAll(t *testing.T) {
	t.Parallel()
	g := openGate(t, 600)
	c := g.person(t)
	me(t, c)
	g.change(func() { g.newest += 100 }) // no client has that token yet
	var group sync.WaitGroup
	for range 16 {
		group.Go(func() { me(t, c) })
	}
	group.Wait()
	if signIns, refreshes := g.counts(); signIns != 1 || refreshes != 1 {
		t.Errorf("%d sign-ins, %d refreshes", signIns, refreshes)
	}
}

func TestLostRefreshIsAskedForAgain(t *testing.T) {
	t.Parallel()
	g := openGate(t, 600)
	c := g.person(t)
	me(t, c)
	g.change(func() { g.newest, g.lost = g.newest+100, 1 })
	me(t, c)
	if signIns, refreshes := g.counts(); signIns != 1 || refreshes != 1 {
		t.Errorf("%d sign-ins, %d refreshes: the second exchange was not recognised as the first", signIns, refreshes)
	}
}

func TestEndedSessionSignsInAgain(t *testing.T) {
	t.Parallel()
	g := openGate(t, 600)
	c := g.person(t)
	me(t, c)
	g.change(func() { g.revoked = true })
	me(t, c)
	if signIns, _ := g.counts(); signIns != 2 {
		t.Errorf("%d sign-ins", signIns)
	}
}

func TestWrongPasswordIsTheCallersProblem(t *testing.T) {
	t.Parallel()
	g := openGate(t, 600)
	c := g.client(t, client.WithSession(client.Login{Customer: "acme", Email: "a@acme.example", Password: "wrong"}))
	if _, err := c.Me(t.Context()); !client.IsProblem(err, client.ProblemInvalidCredentials) {
		t.Errorf("got %v", err)
	}
	if signIns, _ := g.counts(); signIns != 1 {
		t.Errorf("%d sign-ins", signIns)
	}
}

func TestACallerWhoLeavesTakesNothingFromTheOthers(t *testing.T) {
	t.Parallel()
	g := openGate(t, 600)
	release := make(chan struct{})
	var held atomic.Bool
	slow := &http.Client{Transport: transportFunc(func(r *http.Request) (*http.Response, error) {
		if r.URL.Path == "/v1/sessions" {
			held.Store(true)
			<-release
		}
		return http.DefaultTransport.RoundTrip(r)
	})}
	c := g.client(t, client.WithSession(client.Login{Customer: "acme", Email: "a@acme.example", Password: "secret"}), client.WithHTTPClient(slow))
	ctx, cancel := context.WithCancel(t.Context())
	left := make(chan error)
	go func() { _, err := c.Me(ctx); left <- err }()
	for !held.Load() {
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-left; err == nil {
		t.Error("no error for the one who left")
	}
	close(release)
	me(t, c)
	if signIns, _ := g.counts(); signIns != 1 {
		t.Errorf("%d sign-ins", signIns)
	}
}

func TestSignOut(t *testing.T) {
	t.Parallel()
	g := openGate(t, 600)
	c := g.person(t)
	for range 2 { // signing out twice, or before signing in, is no error
		if err := c.SignOut(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if len(g.saw()) != 0 {
		t.Error("signing out of nothing sends something")
	}
	me(t, c)
	if err := c.SignOut(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !g.revoked {
		t.Error("the session goes on")
	}
	me(t, c)
	g.change(func() { g.revoked = true })
	if err := c.SignOut(t.Context()); err != nil {
		t.Errorf("signing out of a session that has ended: %v", err)
	}
}

type transportFunc func(*http.Request) (*http.Response, error)

func (f transportFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
