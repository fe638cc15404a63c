package client

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"

	"github.com/fusionspim/steward/pkg/client/api"
)

// Problem is the problem document (RFC 9457) that the service refused a request with. Its text and its
// members never hold what was sent.
type Problem = api.Problem

// ProblemCode is the kind of a problem, as [Problem.Code] returns it: the last part of its type, which is
// the path of a page of the service that explains it. More kinds may come.
type ProblemCode = api.ProblemCode

// The kinds of problems, by their status. The methods of [Client] name those that matter to them.
const (
	ProblemMalformedRequest     ProblemCode = "malformed-request"         // 400: Errors points to the members at fault
	ProblemMalformedCursor      ProblemCode = "malformed-cursor"          // 400: not one of this list and filters
	ProblemUnauthorized         ProblemCode = "unauthorized"              // 401: no valid credential was sent
	ProblemInvalidCredentials   ProblemCode = "invalid-credentials"       // 401: no sign-in with these
	ProblemSecondFactorRequired ProblemCode = "second-factor-required"    // 401: sign in with a one-time code
	ProblemRoleNotAllowed       ProblemCode = "role-not-allowed"          // 403: for another role
	ProblemInsufficientScope    ProblemCode = "insufficient-scope"        // 403: the API key lacks the scope
	ProblemSecondFactorToSetUp  ProblemCode = "second-factor-to-set-up"   // 403: required, and not set up yet
	ProblemSecondOperatorNeeded ProblemCode = "second-operator-needed"    // 403: another operator must approve
	ProblemCrossOrigin          ProblemCode = "cross-origin"              // 403: sent by a page of another site
	ProblemNotFound             ProblemCode = "not-found"                 // 404: absent, or another customer's
	ProblemMethodNotAllowed     ProblemCode = "method-not-allowed"        // 405: the path has no such method
	ProblemNotAcceptableType    ProblemCode = "not-acceptable"            // 406: Accept excludes every answer
	ProblemEmailTaken           ProblemCode = "email-taken"               // 409: another user has the address
	ProblemAuditTrailIncomplete ProblemCode = "audit-trail-incomplete"    // 409: References count what is left
	ProblemUserRedacted         ProblemCode = "user-redacted"             // 409: final; see Receipt
	ProblemLastAdministrator    ProblemCode = "last-administrator"        // 409: no other could administer
	ProblemSecondFactorExists   ProblemCode = "second-factor-exists"      // 409: the account has one already
	ProblemSecondFactorMissing  ProblemCode = "second-factor-missing"     // 409: the account has none
	ProblemSecondFactorNeeded   ProblemCode = "second-factor-needed"      // 409: it is required
	ProblemAPIKeyRevoked        ProblemCode = "api-key-revoked"           // 409: or expired
	ProblemJobNotRetryable      ProblemCode = "job-not-retryable"         // 409: it is running or done
	ProblemWebhookLimit         ProblemCode = "webhook-endpoint-limit"    // 409: 20 endpoints exist
	ProblemWebhookPaused        ProblemCode = "webhook-endpoint-paused"   // 409: activate it first
	ProblemRequestClosed        ProblemCode = "request-closed"            // 409: closed before
	ProblemBundleNotReady       ProblemCode = "bundle-not-ready"          // 409: not made yet
	ProblemOffboardingUnderWay  ProblemCode = "offboarding-under-way"     // 409: one was begun before
	ProblemOffboardingState     ProblemCode = "offboarding-state"         // 409: not in this state
	ProblemBundleTooLarge       ProblemCode = "bundle-too-large"          // 409: more data than a bundle takes
	ProblemSlugTaken            ProblemCode = "slug-taken"                // 409: another customer has it
	ProblemBackupUnderWay       ProblemCode = "backup-under-way"          // 409: one at a time
	ProblemSourceIDReused       ProblemCode = "source-id-reused"          // 409: another entry has the SourceID
	ProblemEntryNotSealed       ProblemCode = "entry-not-sealed"          // 409: try again in a second
	ProblemTrailShorter         ProblemCode = "trail-shorter"             // 409: fewer entries than since_size
	ProblemIdempotencyKeyInUse  ProblemCode = "idempotency-key-in-use"    // 409: the first request still runs
	ProblemIdempotencyErased    ProblemCode = "idempotency-answer-erased" // 409: erased with its person
	ProblemLinkUsedUp           ProblemCode = "link-used-up"              // 410: used, replaced or too old
	ProblemEventGone            ProblemCode = "event-gone"                // 410: older than 90 days
	ProblemBundleGone           ProblemCode = "bundle-gone"               // 410: collected, expired or erased
	ProblemPreconditionFailed   ProblemCode = "precondition-failed"       // 412: changed since the ETag
	ProblemBodyTooLarge         ProblemCode = "body-too-large"            // 413: over the limit
	ProblemUnsupportedMediaType ProblemCode = "unsupported-media-type"    // 415: not a type of this operation
	ProblemIdempotencyKeyReused ProblemCode = "idempotency-key-reused"    // 422: used for another request
	ProblemInvalidWebhookURL    ProblemCode = "invalid-webhook-url"       // 422: not a public https URL
	ProblemOneTimeCodeWrong     ProblemCode = "one-time-code-wrong"       // 422: wrong or used before
	ProblemWeakPassword         ProblemCode = "weak-password"             // 422: too short or too common
	ProblemCurrentPasswordWrong ProblemCode = "current-password-wrong"    // 422: nothing was changed
	ProblemInvalidRecipient     ProblemCode = "invalid-recipient"         // 422: not an age public key
	ProblemInvalidName          ProblemCode = "invalid-name"              // 422: not a name
	ProblemInvalidEmail         ProblemCode = "invalid-email"             // 422: not an address that gets mail
	ProblemForeignMailDomain    ProblemCode = "foreign-mail-domain"       // 422: outside the customer's domains
	ProblemMalformedRow         ProblemCode = "malformed-row"             // 422: of an import: not readable
	ProblemDuplicateRow         ProblemCode = "duplicate-row"             // 422: of an import: address twice
	ProblemUserDiffers          ProblemCode = "user-differs"              // 422: of an import: other details
	ProblemAddressSuppressed    ProblemCode = "address-suppressed"        // 422: of an import: erased person
	ProblemUnknownActor         ProblemCode = "unknown-actor"             // 422: not a user of the customer
	ProblemInvalidEntry         ProblemCode = "invalid-entry"             // 422: not an entry
	ProblemTooManyAttempts      ProblemCode = "too-many-attempts"         // 429: wait for Retry-After
	ProblemInternalError        ProblemCode = "internal-error"            // 500: report the RequestID
	ProblemUnavailable          ProblemCode = "service-unavailable"       // 503: try again later
	ProblemReplayingErasures    ProblemCode = "replaying-erasures"        // 503: closed until erasures are replayed
	ProblemBackupsNotSetUp      ProblemCode = "backups-not-set-up"        // 503: backups are not configured
)

// IsProblem reports whether an error is a problem of one of the kinds.
func IsProblem(err error, codes ...ProblemCode) bool {
	var problem *Problem
	return errors.As(err, &problem) && slices.Contains(codes, problem.Code())
}

// into reads the answer of a call as a value.
func into[T any](c *call) func(*http.Response, error) (T, error) {
	return func(response *http.Response, err error) (value T, _ error) {
		body, err := c.read(response, err)
		if err != nil {
			return value, err
		}
		if err := json.Unmarshal(body, &value); err != nil {
			return value, api.Unreadable(response, err)
		}
		return value, nil
	}
}

// read reads the answer of a call, whose success may be empty.
func (c *call) read(response *http.Response, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	body, problem, err := api.ReadAnswer(response)
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
