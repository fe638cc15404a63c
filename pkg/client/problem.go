package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"path"
	"slices"
	"strings"
)

// The kinds of problem that a program acts upon, for [IsProblem]. Each has a page at /problems/ of the service; more kinds may come.
const (
	ProblemMalformedRequest     = "malformed-request"         // 400: against the contract; Errors points to the members
	ProblemUnauthorized         = "unauthorized"              // 401: the key is revoked or expired, the session has ended
	ProblemInvalidCredentials   = "invalid-credentials"       // 401: nobody signs in with these
	ProblemRoleNotAllowed       = "role-not-allowed"          // 403
	ProblemInsufficientScope    = "insufficient-scope"        // 403: the API key lacks the scope
	ProblemNotFound             = "not-found"                 // 404: not there, or another customer's
	ProblemEmailTaken           = "email-taken"               // 409: another living user has the address
	ProblemAuditTrailIncomplete = "audit-trail-incomplete"    // 409: References says what refers to the user, Redaction where to redact instead
	ProblemUserRedacted         = "user-redacted"             // 409: final; Receipt is the path of the receipt
	ProblemLastAdministrator    = "last-administrator"        // 409: nobody else could administer the customer
	ProblemSourceIDReused       = "source-id-reused"          // 409: another entry has that source_id
	ProblemIdempotencyKeyInUse  = "idempotency-key-in-use"    // 409: the first request is still under way
	ProblemIdempotencyErased    = "idempotency-answer-erased" // 409: the answer to this key went with its person
	ProblemPreconditionFailed   = "precondition-failed"       // 412: the resource changed since IfMatch's ETag
	ProblemIdempotencyKeyReused = "idempotency-key-reused"    // 422: the key stands for another request
	ProblemWeakPassword         = "weak-password"             // 422
	ProblemCurrentPasswordWrong = "current-password-wrong"    // 422
	ProblemInvalidName          = "invalid-name"              // 422
	ProblemInvalidEmail         = "invalid-email"             // 422
	ProblemForeignMailDomain    = "foreign-mail-domain"       // 422: outside the customer's mail domains
	ProblemUnknownActor         = "unknown-actor"             // 422: no living user of this customer has that id
	ProblemInvalidEntry         = "invalid-entry"             // 422
	ProblemMalformedRow         = "malformed-row"             // of a row of an import: not of the form of its file
	ProblemDuplicateRow         = "duplicate-row"             // of a row of an import: an earlier row has the same address
	ProblemUserDiffers          = "user-differs"              // of a row of an import: a user with the address has another name or role
	ProblemAddressSuppressed    = "address-suppressed"        // of a row of an import: a person with the address was erased
	ProblemTooManyAttempts      = "too-many-attempts"         // 429: wait as long as Retry-After says
	ProblemInternalError        = "internal-error"            // 500: give RequestID to the support
	ProblemUnavailable          = "service-unavailable"       // 503
)

// Slug is the kind of the problem: the last part of Type, such as "user-redacted". It is empty when no problem document was answered, as by a proxy.
func (p *Problem) Slug() string {
	if strings.Contains(p.Type, "/") {
		return path.Base(p.Type)
	}
	return ""
}

// Error implements error. The text names status, kind and request, and the members at fault. It holds nothing that was sent.
func (p *Problem) Error() string {
	kind := p.Slug()
	if kind == "" {
		kind = p.Title
	}
	text := fmt.Sprintf("steward: %d %s: %s", p.Status, kind, p.Detail)
	for _, member := range p.Errors[:min(len(p.Errors), 5)] {
		text += fmt.Sprintf(" %s %s.", member.Pointer, strings.TrimSuffix(member.Detail, "."))
	}
	if p.RequestID != "" {
		text += " (request " + p.RequestID + ")"
	}
	return text
}

// IsProblem tells whether an error is a problem of one of the kinds, such as "user-redacted" ([ProblemUserRedacted]).
func IsProblem(err error, slugs ...string) bool {
	var problem *Problem
	return errors.As(err, &problem) && slices.Contains(slugs, problem.Slug())
}

// longestAnswer is the most that is read of an answer that becomes a value, in bytes. The longest that the contract knows is far below.
const longestAnswer = 64 << 20

// readAnswer reads an answer to its end. Whatever is not a success is a problem.
func readAnswer(response *http.Response) ([]byte, *Problem, error) {
	body, err := io.ReadAll(io.LimitReader(response.Body, longestAnswer))
	if closeErr := response.Body.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return nil, nil, unreadable(response, err)
	}
	if response.StatusCode < 200 || response.StatusCode > 299 {
		return body, problemOf(response, body), nil
	}
	return body, nil, nil
}

// problemOf reads a problem document. From something that is none it makes one, so that callers see one kind of error.
func problemOf(response *http.Response, body []byte) *Problem {
	if isJSON(response) {
		var problem Problem
		if err := json.Unmarshal(body, &problem); err == nil && problem.Type != "" {
			problem.Status = int32(response.StatusCode)
			return &problem
		}
	}
	return &Problem{
		Type: "about:blank", Title: http.StatusText(response.StatusCode), Status: int32(response.StatusCode),
		Detail:    "The answer is no problem document; something between here and the service may have given it.",
		RequestID: response.Header.Get("X-Request-Id"),
	}
}

func isJSON(response *http.Response) bool {
	kind, _, err := mime.ParseMediaType(response.Header.Get("Content-Type"))
	return err == nil && (kind == "application/json" || strings.HasSuffix(kind, "+json"))
}

func unreadable(response *http.Response, err error) error {
	return fmt.Errorf("steward: the answer %d to %s %s cannot be read: %w", response.StatusCode, response.Request.Method, response.Request.URL.Path, err)
}

// into reads the answer of a call as a value.
func into[T any](c *call) func(*http.Response, error) (T, error) {
	return func(response *http.Response, err error) (value T, _ error) {
		body, err := c.read(response, err)
		if err != nil {
			return value, err
		}
		if err := json.Unmarshal(body, &value); err != nil {
			return value, unreadable(response, err)
		}
		return value, nil
	}
}

// read reads the answer of a call, whose success may be empty.
func (c *call) read(response *http.Response, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	body, problem, err := readAnswer(response)
	if err != nil {
		return nil, err
	}
	if problem != nil {
		return nil, problem
	}
	if c.etag != nil {
		*c.etag = response.Header.Get("ETag")
	}
	return body, nil
}
