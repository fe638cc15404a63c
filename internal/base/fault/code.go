package fault

import "slices"

// Kind is a family of faults. Each kind has one HTTP status.
type Kind int

// The kinds, in the order of their statuses.
const (
	Malformed            Kind = iota + 1 // 400: not according to the contract
	Unauthenticated                      // 401: no valid credential
	Forbidden                            // 403: authenticated, but not allowed
	NotFound                             // 404: does not exist, or belongs to another customer
	Method                               // 405
	NotAcceptable                        // 406
	Conflict                             // 409: the state forbids it
	Gone                                 // 410: existed once
	Precondition                         // 412: not the caller's version
	TooLarge                             // 413
	Unsupported                          // 415
	Refused                              // 422: well-formed but not accepted
	PreconditionRequired                 // 428
	TooMany                              // 429
	Internal                             // 500
	Unavailable                          // 503
)

// Code is the stable name of a problem, and the slug of its page under /problems/. The set is
// closed.
type Code string

// The codes.
const (
	MalformedRequest     Code = "malformed-request"
	MalformedCursor      Code = "malformed-cursor"
	Unauthorized         Code = "unauthorized"
	InvalidCredentials   Code = "invalid-credentials"
	RoleNotAllowed       Code = "role-not-allowed"
	InsufficientScope    Code = "insufficient-scope"
	ResourceNotFound     Code = "not-found"
	MethodNotAllowed     Code = "method-not-allowed"
	NotAcceptableType    Code = "not-acceptable"
	EmailTaken           Code = "email-taken"
	AuditTrailIncomplete Code = "audit-trail-incomplete"
	UserRedacted         Code = "user-redacted"
	LastAdministrator    Code = "last-administrator"
	SlugTaken            Code = "slug-taken"
	SourceIDReused       Code = "source-id-reused"
	EntryNotSealed       Code = "entry-not-sealed"
	TrailShorter         Code = "trail-shorter"
	IdempotencyKeyInUse  Code = "idempotency-key-in-use"
	IdempotencyKeyReused Code = "idempotency-key-reused"
	IdempotencyErased    Code = "idempotency-answer-erased"
	PreconditionFailed   Code = "precondition-failed"
	BodyTooLarge         Code = "body-too-large"
	UnsupportedMediaType Code = "unsupported-media-type"
	WeakPassword         Code = "weak-password"
	CurrentPasswordWrong Code = "current-password-wrong"
	InvalidName          Code = "invalid-name"
	InvalidEmail         Code = "invalid-email"
	ForeignMailDomain    Code = "foreign-mail-domain"
	UnknownActor         Code = "unknown-actor"
	MalformedRow         Code = "malformed-row"
	DuplicateRow         Code = "duplicate-row"
	UserDiffers          Code = "user-differs"
	AddressSuppressed    Code = "address-suppressed"
	InvalidEntry         Code = "invalid-entry"
	InternalError        Code = "internal-error"
	ServiceUnavailable   Code = "service-unavailable"
	TooManyAttempts      Code = "too-many-attempts"
	SecondFactorRequired Code = "second-factor-required"
	OneTimeCodeWrong     Code = "one-time-code-wrong"
	SecondFactorToSetUp  Code = "second-factor-to-set-up"
	SecondFactorExists   Code = "second-factor-exists"
	SecondFactorMissing  Code = "second-factor-missing"
	SecondFactorNeeded   Code = "second-factor-needed"
	LinkUsedUp           Code = "link-used-up"
	CrossOrigin          Code = "cross-origin"
	APIKeyRevoked        Code = "api-key-revoked"
	BackupUnderWay       Code = "backup-under-way"
	BackupsNotSetUp      Code = "backups-not-set-up"
	JobNotRetryable      Code = "job-not-retryable"
	InvalidWebhookURL    Code = "invalid-webhook-url"
	WebhookLimit         Code = "webhook-endpoint-limit"
	WebhookPaused        Code = "webhook-endpoint-paused"
	EventGone            Code = "event-gone"
	ReplayingErasures    Code = "replaying-erasures"
	RequestClosed        Code = "request-closed"
	BundleNotReady       Code = "bundle-not-ready"
	BundleGone           Code = "bundle-gone"
	BundleTooLarge       Code = "bundle-too-large"
	InvalidRecipient     Code = "invalid-recipient"
	OffboardingUnderWay  Code = "offboarding-under-way"
	OffboardingState     Code = "offboarding-state"
	SecondOperatorNeeded Code = "second-operator-needed"
)

// Entry describes one code.
type Entry struct {
	Code  Code
	Kind  Kind
	Title string // one short line, the same every time
	Means string // what happened, in a few plain sentences
	ToDo  string // what the caller can do about it
}

// Describe returns the entry of a code. A code without an entry is a mistake in Steward, found by a
// test.
func Describe(code Code) (Entry, bool) {
	for _, entry := range catalogue {
		if entry.Code == code {
			return entry, true
		}
	}
	return Entry{}, false
}

// Catalogue returns every entry, ordered by status.
func Catalogue() []Entry { return slices.Clone(catalogue) }
