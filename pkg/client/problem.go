package client

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"

	"github.com/fusionspim/steward/pkg/client/api"
)

// Problem is the problem document (RFC 9457) that the service refused a request with. Its text and
// its members never hold what was sent.
type Problem = api.Problem

// ProblemCode is the kind of a problem, as [Problem.Code] returns it: the last part of its type,
// which is the path of a page of the service that explains it. More kinds may come.
type ProblemCode = api.ProblemCode

// The kinds of problems, by their status. The methods of [Client] name those that matter to them.
const (
	// 400: Errors points to the members at fault
	ProblemMalformedRequest ProblemCode = "malformed-request"
	// 400: not one of this list and filters
	ProblemMalformedCursor ProblemCode = "malformed-cursor"
	// 401: no valid credential was sent
	ProblemUnauthorized ProblemCode = "unauthorized"
	// 401: no sign-in with these
	ProblemInvalidCredentials ProblemCode = "invalid-credentials"
	// 401: sign in with a one-time code
	ProblemSecondFactorRequired ProblemCode = "second-factor-required"
	ProblemRoleNotAllowed       ProblemCode = "role-not-allowed" // 403: for another role
	// 403: the API key lacks the scope
	ProblemInsufficientScope ProblemCode = "insufficient-scope"
	// 403: required, and not set up yet
	ProblemSecondFactorToSetUp ProblemCode = "second-factor-to-set-up"
	// 403: another operator must approve
	ProblemSecondOperatorNeeded ProblemCode = "second-operator-needed"
	// 403: sent by a page of another site
	ProblemCrossOrigin ProblemCode = "cross-origin"
	// 404: absent, or another customer's
	ProblemNotFound ProblemCode = "not-found"
	// 405: the path has no such method
	ProblemMethodNotAllowed ProblemCode = "method-not-allowed"
	// 406: Accept excludes every answer
	ProblemNotAcceptableType ProblemCode = "not-acceptable"
	// 409: another user has the address
	ProblemEmailTaken ProblemCode = "email-taken"
	// 409: References count what is left
	ProblemAuditTrailIncomplete ProblemCode = "audit-trail-incomplete"
	ProblemUserRedacted         ProblemCode = "user-redacted" // 409: final; see Receipt
	// 409: no other could administer
	ProblemLastAdministrator ProblemCode = "last-administrator"
	// 409: the account has one already
	ProblemSecondFactorExists ProblemCode = "second-factor-exists"
	// 409: the account has none
	ProblemSecondFactorMissing ProblemCode = "second-factor-missing"
	ProblemSecondFactorNeeded  ProblemCode = "second-factor-needed" // 409: it is required
	ProblemAPIKeyRevoked       ProblemCode = "api-key-revoked"      // 409: or expired
	// 409: it is running or done
	ProblemJobNotRetryable ProblemCode = "job-not-retryable"
	ProblemWebhookLimit    ProblemCode = "webhook-endpoint-limit"  // 409: 20 endpoints exist
	ProblemWebhookPaused   ProblemCode = "webhook-endpoint-paused" // 409: activate it first
	ProblemRequestClosed   ProblemCode = "request-closed"          // 409: closed before
	ProblemBundleNotReady  ProblemCode = "bundle-not-ready"        // 409: not made yet
	// 409: one was begun before
	ProblemOffboardingUnderWay ProblemCode = "offboarding-under-way"
	ProblemOffboardingState    ProblemCode = "offboarding-state" // 409: not in this state
	// 409: more data than a bundle takes
	ProblemBundleTooLarge ProblemCode = "bundle-too-large"
	// 409: another customer has it
	ProblemSlugTaken      ProblemCode = "slug-taken"
	ProblemBackupUnderWay ProblemCode = "backup-under-way" // 409: one at a time
	// 409: another entry has the SourceID
	ProblemSourceIDReused ProblemCode = "source-id-reused"
	// 409: try again in a second
	ProblemEntryNotSealed ProblemCode = "entry-not-sealed"
	// 409: fewer entries than since_size
	ProblemTrailShorter ProblemCode = "trail-shorter"
	// 409: the first request still runs
	ProblemIdempotencyKeyInUse ProblemCode = "idempotency-key-in-use"
	// 409: erased with its person
	ProblemIdempotencyErased ProblemCode = "idempotency-answer-erased"
	// 410: used, replaced or too old
	ProblemLinkUsedUp ProblemCode = "link-used-up"
	ProblemEventGone  ProblemCode = "event-gone" // 410: older than 90 days
	// 410: collected, expired or erased
	ProblemBundleGone ProblemCode = "bundle-gone"
	// 412: changed since the ETag
	ProblemPreconditionFailed ProblemCode = "precondition-failed"
	ProblemBodyTooLarge       ProblemCode = "body-too-large" // 413: over the limit
	// 415: not a type of this operation
	ProblemUnsupportedMediaType ProblemCode = "unsupported-media-type"
	// 422: used for another request
	ProblemIdempotencyKeyReused ProblemCode = "idempotency-key-reused"
	// 422: not a public https URL
	ProblemInvalidWebhookURL ProblemCode = "invalid-webhook-url"
	// 422: wrong or used before
	ProblemOneTimeCodeWrong ProblemCode = "one-time-code-wrong"
	// 422: too short or too common
	ProblemWeakPassword ProblemCode = "weak-password"
	// 422: nothing was changed
	ProblemCurrentPasswordWrong ProblemCode = "current-password-wrong"
	// 422: not an age public key
	ProblemInvalidRecipient ProblemCode = "invalid-recipient"
	ProblemInvalidName      ProblemCode = "invalid-name" // 422: not a name
	// 422: not an address that gets mail
	ProblemInvalidEmail ProblemCode = "invalid-email"
	// 422: outside the customer's domains
	ProblemForeignMailDomain ProblemCode = "foreign-mail-domain"
	// 422: of an import: not readable
	ProblemMalformedRow ProblemCode = "malformed-row"
	// 422: of an import: address twice
	ProblemDuplicateRow ProblemCode = "duplicate-row"
	// 422: of an import: other details
	ProblemUserDiffers ProblemCode = "user-differs"
	// 422: of an import: erased person
	ProblemAddressSuppressed ProblemCode = "address-suppressed"
	// 422: not a user of the customer
	ProblemUnknownActor ProblemCode = "unknown-actor"
	ProblemInvalidEntry ProblemCode = "invalid-entry" // 422: not an entry
	// 429: wait for Retry-After
	ProblemTooManyAttempts ProblemCode = "too-many-attempts"
	// 500: report the RequestID
	ProblemInternalError ProblemCode = "internal-error"
	ProblemUnavailable   ProblemCode = "service-unavailable" // 503: try again later
	// 503: closed until erasures are replayed
	ProblemReplayingErasures ProblemCode = "replaying-erasures"
	// 503: backups are not configured
	ProblemBackupsNotSetUp ProblemCode = "backups-not-set-up"
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
