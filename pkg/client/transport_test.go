//go:build go1.25

package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fusionspim/steward/pkg/client"
)

// quick makes waits too short to notice.
var quick = client.WithRetries(client.Retries{Attempts: 4, FirstWait: time.Millisecond, LongestWait: 10 * time.Minute})

const noID = "019ab3c4-5d6e-7f80-9a1b-2c3d4e5f6071"

// seen is one request that a server of a test got.
type seen struct {
	method, path, key, authorization, agent, body string
	at                                            time.Time
}

// server answers the n-th request, from 1 on, by a script, and keeps what it saw.
type server struct {
	*httptest.Server
	mutex    sync.Mutex
	requests []seen
}

func serve(t *testing.T, answer func(n int, w http.ResponseWriter, r *http.Request)) *server {
	t.Helper()
	s := &server{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("reading a request: %v", err)
		}
		s.mutex.Lock()
		s.requests = append(s.requests, seen{
			r.Method, r.URL.RequestURI(), r.Header.Get("Idempotency-Key"), r.Header.Get("Authorization"), r.Header.Get("User-Agent"), string(body), time.Now(),
		})
		n := len(s.requests)
		s.mutex.Unlock()
		answer(n, w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *server) saw() []seen {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return append([]seen(nil), s.requests...)
}

func (s *server) client(t *testing.T, options ...client.Option) *client.Client {
	t.Helper()
	made, err := client.New(s.URL, append([]client.Option{quick}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func write(w http.ResponseWriter, status int, value any) {
	kind := "application/json"
	if status >= 400 {
		kind = "application/problem+json"
	}
	w.Header().Set("Content-Type", kind)
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value)
}

func problem(status int, slug string) map[string]any {
	return map[string]any{"type": "/problems/" + slug, "title": "T", "status": status, "detail": "D.", "instance": "/v1", "request_id": "r-1"}
}

func userDocument() map[string]any {
	return map[string]any{"id": noID, "status": "active", "role": "user", "first_name": "A", "last_name": "B", "email": "a@b.example", "created_at": "2026-01-01T00:00:00Z"}
}

// hangUp breaks the connection in place of an answer, by a reset.
func hangUp(t *testing.T, w http.ResponseWriter) {
	t.Helper()
	connection, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		t.Errorf("hijack: %v", err)
		return
	}
	if tcp, ok := connection.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = connection.Close()
}

func newUser() client.NewUser {
	return client.NewUser{FirstName: "A", LastName: "B", Email: "a@b.example"}
}

func TestPostIsRepeatedWithOneKeyAndOneBody(t *testing.T) {
	t.Parallel()
	s := serve(t, func(n int, w http.ResponseWriter, _ *http.Request) {
		switch n {
		case 1:
			w.Header().Set("Retry-After", "0")
			write(w, 503, problem(503, "service-unavailable"))
		case 2:
			hangUp(t, w)
		case 3: // breaks off in the middle of an answer
			w.Header().Set("Content-Length", "5000")
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(201)
			_, _ = w.Write([]byte(`{"id":`))
		default:
			w.Header().Set("ETag", `"1"`)
			write(w, 201, userDocument())
		}
	})
	var etag string
	user, err := s.client(t, client.WithAPIKey("stw_x"), client.WithUserAgent("acme-sync/2.1")).CreateUser(t.Context(), newUser(), client.StoreETag(&etag))
	if err != nil {
		t.Fatal(err)
	}
	if user.ID != uuid.MustParse(noID) || etag != `"1"` {
		t.Errorf("got %v with ETag %q", user.ID, etag)
	}
	saw := s.saw()
	if len(saw) != 4 {
		t.Fatalf("%d requests, want 4", len(saw))
	}
	for _, one := range saw {
		if _, err := uuid.Parse(one.key); err != nil || one.key != saw[0].key || one.body != saw[0].body || one.authorization != "Bearer stw_x" ||
			!strings.HasPrefix(one.agent, "acme-sync/2.1 steward-go/") {
			t.Errorf("%+v, the first was %+v", one, saw[0])
		}
	}
	if want := `{"email":"a@b.example","first_name":"A","last_name":"B"}`; saw[0].body != want {
		t.Errorf("got the body %s, want %s", saw[0].body, want)
	}
}

func TestTwoPostsHaveTwoKeysAndGivenOnesStay(t *testing.T) {
	t.Parallel()
	s := serve(t, func(_ int, w http.ResponseWriter, _ *http.Request) { write(w, 201, userDocument()) })
	c := s.client(t)
	for _, options := range [][]client.CallOption{nil, nil, {client.IdempotencyKey("row-17")}} {
		if _, err := c.CreateUser(t.Context(), newUser(), options...); err != nil {
			t.Fatal(err)
		}
	}
	saw := s.saw()
	if saw[0].key == saw[1].key || saw[2].key != "row-17" || saw[0].authorization != "" {
		t.Errorf("got %+v", saw)
	}
}

func TestRetryAfterIsWaitedFor(t *testing.T) {
	t.Parallel()
	s := serve(t, func(n int, w http.ResponseWriter, _ *http.Request) {
		if n == 1 {
			w.Header().Set("Retry-After", "1")
			write(w, 429, problem(429, "too-many-attempts"))
			return
		}
		write(w, 200, userDocument())
	})
	if _, err := s.client(t).GetUser(t.Context(), uuid.MustParse(noID)); err != nil {
		t.Fatal(err)
	}
	saw := s.saw()
	if waited := saw[1].at.Sub(saw[0].at); len(saw) != 2 || waited < time.Second || waited > time.Minute {
		t.Errorf("%d requests, waited for %v", len(saw), waited)
	}
}

func TestTriesEnd(t *testing.T) {
	t.Parallel()
	busy := func(after string) func(int, http.ResponseWriter, *http.Request) {
		return func(_ int, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", after)
			write(w, 503, problem(503, "service-unavailable"))
		}
	}
	id := uuid.MustParse(noID)
	for _, test := range []struct {
		name   string
		answer func(int, http.ResponseWriter, *http.Request)
		call   func(*client.Client) error
		want   int
	}{
		{"after four attempts", busy("0"), func(c *client.Client) error { _, err := c.DeleteUser(t.Context(), id); return err }, 4},
		{"at once when the service asks for more patience than there is", busy("3600"), func(c *client.Client) error { _, err := c.GetUser(t.Context(), id); return err }, 1},
		{"at once when the time is up before", busy("400"), func(c *client.Client) error {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			_, err := c.GetUser(ctx, id)
			return err
		}, 1},
		{"at once for a PATCH", busy("0"), func(c *client.Client) error {
			_, err := c.UpdateUser(t.Context(), id, client.UserPatch{FirstName: client.Ptr("C")})
			return err
		}, 1},
		{"at once for a change of password", busy("0"), func(c *client.Client) error { return c.ChangeMyPassword(t.Context(), "a", "b") }, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, test.answer)
			began := time.Now()
			if err := test.call(s.client(t)); !client.IsProblem(err, client.ProblemUnavailable) {
				t.Errorf("got %v", err)
			}
			if got := len(s.saw()); got != test.want || time.Since(began) > time.Minute {
				t.Errorf("%d requests in %v, want %d at once", got, time.Since(began), test.want)
			}
		})
	}
}

func TestPatchIsNotRepeatedOverABrokenConnection(t *testing.T) {
	t.Parallel()
	s := serve(t, func(_ int, w http.ResponseWriter, _ *http.Request) { hangUp(t, w) })
	_, err := s.client(t).UpdateUser(t.Context(), uuid.MustParse(noID), client.UserPatch{FirstName: client.Ptr("C")})
	if err == nil || len(s.saw()) != 1 {
		t.Errorf("%d requests, %v", len(s.saw()), err)
	}
}

func TestPatchIsRepeatedWhenNothingWasSent(t *testing.T) {
	t.Parallel()
	s := serve(t, func(_ int, w http.ResponseWriter, _ *http.Request) { write(w, 200, userDocument()) })
	var dials atomic.Int32
	dialer := &net.Dialer{}
	c := s.client(t, client.WithHTTPClient(&http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		if dials.Add(1) == 1 {
			return nil, &net.OpError{Op: "dial", Net: network, Err: errors.New("connection refused")}
		}
		return dialer.DialContext(ctx, network, address)
	}}}))
	if _, err := c.UpdateUser(t.Context(), uuid.MustParse(noID), client.UserPatch{FirstName: client.Ptr("C")}); err != nil {
		t.Fatal(err)
	}
	if dials.Load() != 2 {
		t.Errorf("%d dials", dials.Load())
	}
}

func TestTheFirstAttemptStillUnderWayIsWaitedFor(t *testing.T) {
	t.Parallel()
	s := serve(t, func(n int, w http.ResponseWriter, _ *http.Request) {
		switch n {
		case 1:
			hangUp(t, w)
		case 2:
			w.Header().Set("Retry-After", "0")
			write(w, 409, problem(409, "idempotency-key-in-use"))
		default:
			w.Header().Set("Idempotency-Replayed", "true")
			write(w, 201, userDocument())
		}
	})
	if _, err := s.client(t).CreateUser(t.Context(), newUser()); err != nil {
		t.Fatal(err)
	}
}

func TestContextEndsTheWait(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	s := serve(t, func(_ int, w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "400")
		write(w, 503, problem(503, "service-unavailable"))
		time.AfterFunc(50*time.Millisecond, cancel)
	})
	began := time.Now()
	_, err := s.client(t).GetUser(ctx, uuid.MustParse(noID))
	if !errors.Is(err, context.Canceled) || time.Since(began) > time.Minute {
		t.Errorf("got %v after %v", err, time.Since(began))
	}
}

func TestEveryRefusalIsAProblem(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		answer func(w http.ResponseWriter)
		status int32
		code   client.ProblemCode
		text   string
	}{
		{"a document", func(w http.ResponseWriter) {
			document := problem(409, "audit-trail-incomplete")
			document["references"] = []any{map[string]any{"source": "integration", "count": 3, "first_at": "2026-01-05T08:00:00Z", "last_at": "2026-02-01T17:12:00Z"}}
			document["redaction"] = "/v1/users/x/redaction"
			document["errors"] = []any{map[string]any{"pointer": "/email", "detail": "is required"}}
			write(w, 409, document)
		}, 409, "audit-trail-incomplete", "steward: 409 audit-trail-incomplete: D. /email is required. (request r-1)"},
		{"a page of a proxy's", func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(403)
			_, _ = w.Write([]byte("<h1>no</h1>"))
		}, 403, "", "steward: 403 Forbidden: The answer is not a problem document; something between here and the service may have given it."},
		{"JSON of somebody else's", func(w http.ResponseWriter) { write(w, 404, map[string]any{"error": "x"}) }, 404, "", ""},
		{"a redirect", func(w http.ResponseWriter) { w.Header().Set("Location", "/elsewhere"); w.WriteHeader(302) }, 302, "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, func(_ int, w http.ResponseWriter, _ *http.Request) { test.answer(w) })
			_, err := s.client(t).DeleteUser(t.Context(), uuid.MustParse(noID))
			var found *client.Problem
			if !errors.As(fmt.Errorf("wrapped: %w", err), &found) {
				t.Fatalf("got %v", err)
			}
			if found.Status != test.status || found.Code() != test.code || test.text != "" && found.Error() != test.text {
				t.Errorf("got %d %q: %s", found.Status, found.Code(), found)
			}
			if test.code != "" && (len(found.References) != 1 || found.References[0].Count != 3 || found.Redaction != "/v1/users/x/redaction" || !client.IsProblem(err, test.code)) {
				t.Errorf("got %+v", found)
			}
		})
	}
	if client.IsProblem(nil, "user-redacted") || client.IsProblem(io.EOF, "user-redacted") {
		t.Error("something else is taken for a problem")
	}
}

func TestSuccessThatIsNotReadableIsAnError(t *testing.T) {
	t.Parallel()
	s := serve(t, func(_ int, w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) })
	if _, err := s.client(t).GetUser(t.Context(), uuid.MustParse(noID)); err == nil {
		t.Error("no error")
	}
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	for _, base := range []string{"", "steward.example", "ftp://steward.example", "https://", "https://u:p@steward.example", "https://steward.example?x=1", "https://a b"} {
		if _, err := client.New(base); err == nil {
			t.Errorf("the base URL %q is taken", base)
		}
	}
	for name, options := range map[string][]client.Option{
		"empty key":        {client.WithAPIKey("")},
		"key with newline": {client.WithAPIKey("stw_x\n")},
		"no password":      {client.WithSession(client.Login{Customer: "acme", Email: "a@acme.example", Password: ""})},
		"two credentials":  {client.WithAPIKey("stw_x"), client.WithSession(client.Login{Customer: "acme", Email: "a@acme.example", Password: "p"})},
		"no HTTP client":   {client.WithHTTPClient(nil)},
		"user agent":       {client.WithUserAgent("a\r\nb")},
		"no attempts":      {client.WithRetries(client.Retries{FirstWait: 1, LongestWait: 1})},
	} {
		if _, err := client.New("https://steward.example", options...); err == nil {
			t.Errorf("%s: taken", name)
		} else if strings.Contains(err.Error(), "stw_x") {
			t.Errorf("%s: the error holds the key: %v", name, err)
		}
	}
}

func TestABasePathIsKept(t *testing.T) {
	t.Parallel()
	s := serve(t, func(_ int, w http.ResponseWriter, _ *http.Request) { write(w, 200, map[string]any{"status": "ok"}) })
	for _, base := range []string{s.URL + "/steward", s.URL + "/steward/"} {
		c, err := client.New(base, client.WithAPIKey("stw_x"))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Customer(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	saw := s.saw()
	if saw[0].path != "/steward/readyz" || saw[0].authorization != "" || saw[1].path != "/steward/v1/customer" || saw[1].authorization == "" || saw[2].path != "/steward/readyz" {
		t.Errorf("got %+v", saw)
	}
}

func TestClientsDoNotPrintSecrets(t *testing.T) {
	t.Parallel()
	withKey, err := client.New("https://steward.example", client.WithAPIKey("stw_hush"))
	if err != nil {
		t.Fatal(err)
	}
	withSession, err := client.New("https://steward.example", client.WithSession(client.Login{Customer: "acme", Email: "hush@acme.example", Password: "hush"}))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []*client.Client{withKey, withSession} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
			for _, value := range []any{c, *c, c.Raw(), *c.Raw()} {
				if text := fmt.Sprintf(verb, value); strings.Contains(text, "hush") {
					t.Errorf("%s prints %s", verb, text)
				}
			}
		}
	}
}

// A body of unknown length that goes through Raw can be repeated too.
func TestRawBodiesAreRepeated(t *testing.T) {
	t.Parallel()
	s := serve(t, func(n int, w http.ResponseWriter, _ *http.Request) {
		if n == 1 {
			hangUp(t, w)
			return
		}
		write(w, 201, userDocument())
	})
	answer, err := s.client(t).Raw().CreateUserWithBodyWithResponse(t.Context(), nil, "application/json", io.MultiReader(strings.NewReader(`{"a":`), strings.NewReader(`1}`)))
	if err != nil {
		t.Fatal(err)
	}
	if answer.StatusCode() != 201 || answer.JSON201 == nil || answer.Problem != nil {
		t.Errorf("got %+v", answer)
	}
	for _, one := range s.saw() {
		if one.body != `{"a":1}` || one.key == "" {
			t.Errorf("got %+v", one)
		}
	}
}
