package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/fusionspim/steward/api"
	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/infra/idempotency"
)

// statusOf is the only mapping from kinds of fault to statuses.
func statusOf(kind fault.Kind) int {
	switch kind {
	case fault.Malformed:
		return http.StatusBadRequest
	case fault.Unauthenticated:
		return http.StatusUnauthorized
	case fault.Forbidden:
		return http.StatusForbidden
	case fault.NotFound:
		return http.StatusNotFound
	case fault.Method:
		return http.StatusMethodNotAllowed
	case fault.NotAcceptable:
		return http.StatusNotAcceptable
	case fault.Conflict:
		return http.StatusConflict
	case fault.Gone:
		return http.StatusGone
	case fault.Precondition:
		return http.StatusPreconditionFailed
	case fault.TooLarge:
		return http.StatusRequestEntityTooLarge
	case fault.Unsupported:
		return http.StatusUnsupportedMediaType
	case fault.Refused:
		return http.StatusUnprocessableEntity
	case fault.PreconditionRequired:
		return http.StatusPreconditionRequired
	case fault.TooMany:
		return http.StatusTooManyRequests
	case fault.Unavailable:
		return http.StatusServiceUnavailable
	case fault.Internal:
	}
	return http.StatusInternalServerError
}

// asFault converts every error to a fault. An unknown error is a defect of ours, and its text is
// for the log only.
func asFault(err error) *fault.Fault {
	var known *fault.Fault
	if errors.As(err, &known) {
		return known
	}
	var routed *echo.HTTPError
	if errors.As(err, &routed) {
		switch routed.Code {
		case http.StatusNotFound:
			return fault.New(fault.ResourceNotFound, "There is nothing at this path.")
		case http.StatusMethodNotAllowed:
			return fault.New(fault.MethodNotAllowed, "The Allow header lists the methods that this path takes.")
		case http.StatusBadRequest:
			return fault.Because(
				err,
				fault.MalformedRequest,
				"A parameter is not of the form that the contract asks for.",
			)
		}
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		f := fault.Because(
			err,
			fault.ServiceUnavailable,
			"The service has more to do than it can. Try again in a moment.",
		)
		f.RetryAfter = 2 * time.Second
		return f
	}
	return fault.Because(
		err,
		fault.InternalError,
		"The request was not carried out. Send the request_id to the support if it happens again.",
	)
}

// renderProblem is the only function that turns an error into a response.
func (s *Server) renderProblem(err error, c echo.Context) {
	if c.Response().Committed {
		return
	}
	var replay *idempotency.Replay
	if errors.As(err, &replay) {
		writeAnswer(c.Response(), replay.Answer)
		return
	}
	f := asFault(err)
	entry, ok := fault.Describe(f.Code)
	if !ok {
		entry, _ = fault.Describe(fault.InternalError)
	}
	status := statusOf(entry.Kind)
	now := callOf(c.Request().Context())
	problem := api.Problem{
		Type: "/problems/" + string(
			entry.Code,
		),
		Title:    entry.Title,
		Status:   int32(status),
		Detail:   f.Detail,
		Instance: s.instance(c.Request().URL.Path),
	}
	if now != nil {
		problem.RequestID = now.requestID
	}
	if len(f.Members) > 0 {
		members := make([]api.MemberError, len(f.Members))
		for i, member := range f.Members {
			members[i] = api.MemberError{Pointer: member.Pointer, Detail: member.Detail}
		}
		problem.Errors = &members
	}
	if len(f.References) > 0 {
		references := toReferences(f.References)
		problem.References = &references
	}
	problem.Redaction, problem.Receipt, problem.Import = nonEmpty(f.Redaction), nonEmpty(f.Receipt), nonEmpty(f.Import)

	header := c.Response().Header()
	header.Set("Content-Type", "application/problem+json")
	switch entry.Kind {
	case fault.Unauthenticated:
		challenge := `Bearer realm="steward"`
		if c.Request().Header.Get("Authorization") != "" {
			challenge += `, error="invalid_token"`
		}
		header.Set("WWW-Authenticate", challenge)
	case fault.Forbidden:
		if f.Scope != "" {
			header.Set("WWW-Authenticate", `Bearer realm="steward", error="insufficient_scope", scope="`+f.Scope+`"`)
		}
	case fault.Unavailable, fault.TooMany:
		header.Set("Retry-After", strconv.Itoa(max(1, int(f.RetryAfter/time.Second))))
	case fault.TooLarge:
		header.Set("Connection", "close") // the rest of the body is not read
	}
	if f.Code == fault.IdempotencyKeyInUse || f.Code == fault.EntryNotSealed {
		header.Set("Retry-After", strconv.Itoa(max(1, int(f.RetryAfter/time.Second))))
	}
	body, marshalErr := json.Marshal(problem)
	if marshalErr != nil {
		s.log.Error("a problem could not be rendered", "error", marshalErr)
	}
	c.Response().WriteHeader(status)
	// The caller may be gone.
	_, _ = c.Response().Write(append(body, '\n'))
}

// plainID matches a path segment that is an id, and so not personal.
var plainID = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// instance returns the path with only the contract's words and ids in it: a path that a caller made
// up may hold a name or an address.
func (s *Server) instance(path string) string {
	segments := strings.Split(path, "/")
	if len(segments) > 8 {
		segments = segments[:8]
	}
	for i, segment := range segments {
		if segment != "" && !s.words[segment] && !plainID.MatchString(strings.ToLower(segment)) {
			segments[i] = "-"
		}
	}
	return strings.Join(segments, "/")
}

func nonEmpty(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

func toReferences(found []fault.Reference) []api.Reference {
	references := make([]api.Reference, len(found))
	for i, one := range found {
		references[i] = api.Reference{
			Source:  api.ReferenceSource(one.Source),
			Count:   one.Count,
			FirstAt: one.FirstAt,
			LastAt:  one.LastAt,
		}
	}
	return references
}
