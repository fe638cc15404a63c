package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/fusionspim/steward/api"
	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/infra/idempotency"
)

// rendered renders an error as the answer to a request.
func rendered(t *testing.T, s *Server, request *http.Request, err error) (*httptest.ResponseRecorder, api.Problem) {
	t.Helper()
	answer := httptest.NewRecorder()
	ctx := context.WithValue(request.Context(), callKey{}, &call{requestID: "request-1"})
	s.renderProblem(err, echo.New().NewContext(request.WithContext(ctx), answer))
	var problem api.Problem
	if err := json.Unmarshal(answer.Body.Bytes(), &problem); err != nil {
		t.Fatalf("%v: %s", err, answer.Body)
	}
	return answer, problem
}

func newProblems() *Server {
	return &Server{
		log:   slog.New(slog.DiscardHandler),
		words: map[string]bool{"v1": true, "users": true, "me": true},
	}
}

func TestEveryProblemIsRendered(t *testing.T) {
	t.Parallel()
	statuses := map[fault.Kind]int{
		fault.Malformed: 400, fault.Unauthenticated: 401, fault.Forbidden: 403, fault.NotFound: 404, fault.Method: 405,
		fault.NotAcceptable: 406, fault.Conflict: 409, fault.Gone: 410, fault.Precondition: 412, fault.TooLarge: 413,
		fault.Unsupported: 415, fault.Refused: 422, fault.PreconditionRequired: 428, fault.TooMany: 429,
		fault.Internal: 500, fault.Unavailable: 503,
	}
	s := newProblems()
	for _, entry := range fault.Catalogue() {
		f := fault.New(entry.Code, "A detail.").At("/name", "is missing")
		f.RetryAfter = 1500 * time.Millisecond
		answer, problem := rendered(t, s, httptest.NewRequest("GET", "/v1/users", nil), fmt.Errorf("wrapped: %w", f))
		if answer.Code != statuses[entry.Kind] || int(problem.Status) != answer.Code {
			t.Errorf(
				"%s: status %d, in the body %d, want %d",
				entry.Code,
				answer.Code,
				problem.Status,
				statuses[entry.Kind],
			)
		}
		if got := answer.Header().Get("Content-Type"); got != "application/problem+json" {
			t.Errorf("%s: media type %q", entry.Code, got)
		}
		if problem.Type != "/problems/"+string(entry.Code) || problem.Title != entry.Title || problem.Detail != "A detail." ||
			problem.Instance != "/v1/users" ||
			problem.RequestID != "request-1" {
			t.Errorf("%s: %+v", entry.Code, problem)
		}
		if problem.Errors == nil || len(*problem.Errors) != 1 || (*problem.Errors)[0].Pointer != "/name" {
			t.Errorf("%s: members %v", entry.Code, problem.Errors)
		}
		waits := answer.Code == 429 || answer.Code == 503 || entry.Code == fault.IdempotencyKeyInUse ||
			entry.Code == fault.EntryNotSealed
		if got := answer.Header().Get("Retry-After"); got != "1" && waits || got != "" && !waits {
			t.Errorf("%s: Retry-After %q", entry.Code, got)
		}
		if challenge := answer.Header().Get("WWW-Authenticate"); (challenge != "") != (answer.Code == 401) {
			t.Errorf("%s: WWW-Authenticate %q", entry.Code, challenge)
		}
		if closes := answer.Header().Get("Connection"); (closes == "close") != (answer.Code == 413) {
			t.Errorf("%s: Connection %q", entry.Code, closes)
		}
	}
}

func TestRetryAfterIsAWholeNumberOfSeconds(t *testing.T) {
	t.Parallel()
	for wait, want := range map[time.Duration]int{0: 1, time.Millisecond: 1, 2 * time.Second: 2, 90 * time.Second: 90} {
		f := fault.New(fault.ServiceUnavailable, "x")
		f.RetryAfter = wait
		answer, _ := rendered(t, newProblems(), httptest.NewRequest("GET", "/v1/me", nil), f)
		if got := answer.Header().Get("Retry-After"); got != strconv.Itoa(want) {
			t.Errorf("%s: Retry-After %q, want %d", wait, got, want)
		}
	}
}

func TestTheChallengeSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	s := newProblems()
	request := httptest.NewRequest("GET", "/v1/me", nil)
	answer, _ := rendered(t, s, request, fault.New(fault.Unauthorized, "x"))
	if got := answer.Header().Get("WWW-Authenticate"); got != `Bearer realm="steward"` {
		t.Errorf("without a credential: %s", got)
	}
	request.Header.Set("Authorization", "Bearer x")
	answer, _ = rendered(t, s, request, fault.New(fault.Unauthorized, "x"))
	if got := answer.Header().Get("WWW-Authenticate"); got != `Bearer realm="steward", error="invalid_token"` {
		t.Errorf("with a bad credential: %s", got)
	}
	lacks := fault.New(fault.InsufficientScope, "x")
	lacks.Scope = "users:read"
	answer, _ = rendered(t, s, request, lacks)
	if got := answer.Header().Get(
		"WWW-Authenticate",
	); got != `Bearer realm="steward", error="insufficient_scope", scope="users:read"` {
		t.Errorf("without a scope: %s", got)
	}
}

// What is not a fault is a defect of ours, whose text may hold anything.
func TestErrorsThatAreNoFaultsAreHidden(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		err    error
		status int
		code   fault.Code
	}{
		"unknown":          {errors.New("a secret text"), 500, fault.InternalError},
		"unknown code":     {fault.New("made-up", "x"), 500, fault.InternalError},
		"panic":            {&panicked{kind: "string", stack: "a secret text"}, 500, fault.InternalError},
		"cancelled":        {fmt.Errorf("a secret text: %w", context.Canceled), 503, fault.ServiceUnavailable},
		"deadline":         {fmt.Errorf("a secret text: %w", context.DeadlineExceeded), 503, fault.ServiceUnavailable},
		"no route":         {echo.NewHTTPError(http.StatusNotFound, "a secret text"), 404, fault.ResourceNotFound},
		"no method":        {echo.NewHTTPError(http.StatusMethodNotAllowed, "a secret text"), 405, fault.MethodNotAllowed},
		"parameter":        {echo.NewHTTPError(http.StatusBadRequest, "a secret text"), 400, fault.MalformedRequest},
		"other echo error": {echo.NewHTTPError(http.StatusTeapot, "a secret text"), 500, fault.InternalError},
		"hidden cause":     {fault.Because(errors.New("a secret text"), fault.InvalidName, "x"), 422, fault.InvalidName},
	} {
		answer, problem := rendered(t, newProblems(), httptest.NewRequest("GET", "/v1/me", nil), test.err)
		if answer.Code != test.status || problem.Type != "/problems/"+string(test.code) {
			t.Errorf("%s: %d %s", name, answer.Code, problem.Type)
		}
		if strings.Contains(answer.Body.String(), "secret text") {
			t.Errorf("%s: shows %s", name, answer.Body)
		}
	}
}

// A path that a caller made up may hold a name or an address, and problems end in logs.
func TestInstanceShowsWordsOfTheContractAndIDsOnly(t *testing.T) {
	t.Parallel()
	s := newProblems()
	for path, want := range map[string]string{
		"/v1/users": "/v1/users",
		"/v1/users/0195503a-4000-7abc-8def-0123456789ab": "/v1/users/0195503a-4000-7abc-8def-0123456789ab",
		"/v1/users/0195503A-4000-7ABC-8DEF-0123456789AB": "/v1/users/0195503A-4000-7ABC-8DEF-0123456789AB",
		"/v1/users/ada@example.com":                      "/v1/users/-",
		"/v1/Users":                                      "/v1/-",
		"/ada/users/lovelace":                            "/-/users/-",
		"/v1/users/0195503a40007abc8def0123456789ab":     "/v1/users/-",
		"/":                       "/",
		strings.Repeat("/x", 100): strings.Repeat("/-", 7),
	} {
		if got := s.instance(path); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}

func TestWhatIsAnsweredAlreadyStaysAsItIs(t *testing.T) {
	t.Parallel()
	answer := httptest.NewRecorder()
	c := echo.New().NewContext(httptest.NewRequest("GET", "/", nil), answer)
	if err := c.String(http.StatusOK, "done"); err != nil {
		t.Fatal(err)
	}
	newProblems().renderProblem(errors.New("too late"), c)
	if answer.Code != 200 || answer.Body.String() != "done" {
		t.Errorf("%d %s", answer.Code, answer.Body)
	}
}

func TestARepeatedRequestGetsTheFirstAnswer(t *testing.T) {
	t.Parallel()
	first, err := record(func(w http.ResponseWriter) error {
		w.Header().Set("Location", "/v1/users/1")
		w.WriteHeader(http.StatusCreated)
		_, err := w.Write([]byte("{\"a\":1}\n"))
		return err
	})
	if err != nil || first.Status != 201 || string(first.Body) != `{"a":1}` {
		t.Fatalf("recorded %+v, %v", first, err)
	}
	answer := httptest.NewRecorder()
	c := echo.New().NewContext(httptest.NewRequest("POST", "/v1/users", nil), answer)
	newProblems().renderProblem(fmt.Errorf("wrapped: %w", &idempotency.Replay{Answer: first}), c)
	if answer.Code != 201 || answer.Body.String() != "{\"a\":1}\n" ||
		answer.Header().Get("Location") != "/v1/users/1" ||
		answer.Header().Get("Idempotency-Replayed") != "true" {
		t.Errorf("%d %v %s", answer.Code, answer.Header(), answer.Body)
	}
}
