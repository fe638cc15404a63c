// Package audit is the audit trail: who did what to what, and when.
//
// Owns: the entries, how integrations and the service append them, their listing, their sequence
// and Merkle tree, and what of the trail refers to a person.
// Does not own: people. An entry holds ids, words of closed sets, numbers and times, never a value
// or free text, because what cannot be erased must not need erasure. Nothing here changes or
// removes an entry, and the database would refuse it.
//
// The actor of an entry is a foreign key, so an actor cannot be deleted; the target is not, so an
// act done *to* a person never prevents their deletion. An act of a person on their own account
// ("self") is recorded with its target only: signing in and opting out do not make an account
// undeletable.
package audit

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/principal"
)

// ActorType is the kind of an actor. The set is closed.
type ActorType string

// The actor types.
const (
	ActorUser     ActorType = "user"
	ActorSelf     ActorType = "self"
	ActorAPIKey   ActorType = "api_key"
	ActorOperator ActorType = "operator"
	ActorSystem   ActorType = "system"
)

// Source is the origin of an entry. The set is closed.
type Source string

// The sources.
const (
	SourceIntegration Source = "integration" // by API key
	SourceSteward     Source = "steward"     // the service itself
)

// Action is an act of the service itself. The set is closed.
type Action string

// The service's own actions.
const (
	UserCreated           Action = "user.created"
	UserCorrected         Action = "user.corrected"
	UserDisabled          Action = "user.disabled" // by a correction, with the names of its changes
	UserEnabled           Action = "user.enabled"  // likewise
	UserDeleted           Action = "user.deleted"
	UserRedacted          Action = "user.redacted"
	UserAlertsChanged     Action = "user.alerts_changed"
	UserPasswordChanged   Action = "user.password_changed"
	UserCorrectionLost    Action = "user.correction_lost"
	APIKeyCreated         Action = "api_key.created"
	APIKeyRevoked         Action = "api_key.revoked"
	APIKeyRotated         Action = "api_key.rotated"
	APIKeyLeaked          Action = "api_key.leaked"
	SecondFactorAdded     Action = "user.second_factor_added"
	SecondFactorRemoved   Action = "user.second_factor_removed"
	RecoveryCodesReplaced Action = "user.recovery_codes_replaced"
	CustomerChanged       Action = "customer.changed"
	CustomerCreated       Action = "customer.created"
	BackupOrdered         Action = "backup.ordered"
	LedgerReplayed        Action = "ledger.replayed"
	UserImportStarted     Action = "user_import.started"
	UserRecreated         Action = "user.created_despite_erasure"
	JobRetried            Action = "job.retried"
	AlertRaised           Action = "alert.raised"
	AlertRepeated         Action = "alert.repeated"
	AlertSent             Action = "alert.sent"
	CheckpointPublished   Action = "audit.checkpoint_published"

	// every change of its state, also the first
	DataRequestUpdated Action = "data_subject_request.updated"
	// by an operator, who saw the person
	DataRequestViewed    Action = "data_subject_request.viewed"
	DataRequestCollected Action = "data_subject_request.collected" // its bundle

	OffboardingBegun           Action = "customer.offboarding_begun"
	OffboardingApproved        Action = "customer.offboarding_approved"
	OffboardingCancelled       Action = "customer.offboarding_cancelled"
	OffboardingRecipientSet    Action = "customer.offboarding_recipient_set"
	OffboardingBundleRenewed   Action = "customer.offboarding_bundle_renewed"
	OffboardingBundleCollected Action = "customer.offboarding_bundle_collected"
	DeletionBegun              Action = "customer.deletion_begun"
	// with all its data; recorded in Fusions' trail
	CustomerDeleted Action = "customer.deleted"

	WebhookEndpointCreated  Action = "webhook_endpoint.created"
	WebhookEndpointChanged  Action = "webhook_endpoint.changed"
	WebhookEndpointDeleted  Action = "webhook_endpoint.deleted"
	WebhookEndpointPaused   Action = "webhook_endpoint.paused" // by the system
	WebhookEndpointTested   Action = "webhook_endpoint.tested"
	WebhookSecretRotated    Action = "webhook_endpoint.secret_rotated"
	WebhookDeliveryRepeated Action = "webhook_endpoint.delivery_repeated"
)

// Target is the object of an act.
type Target struct {
	Type string
	ID   string
}

// OnUser returns the target for a user.
func OnUser(user id.User) Target { return Target{"user", user.String()} }

// OnAPIKey returns the target for an API key.
func OnAPIKey(key id.APIKey) Target { return Target{"api_key", key.String()} }

// OnBackup returns the target for a backup.
func OnBackup(backup id.Backup) Target { return Target{"backup", backup.String()} }

// OnReplay returns the target for a replay of the ledger.
func OnReplay(replay id.Replay) Target { return Target{"replay", replay.String()} }

// OnCustomer returns the target for a customer.
func OnCustomer(customer id.Customer) Target { return Target{"customer", customer.String()} }

// OnImport returns the target for an import of users.
func OnImport(userImport id.Import) Target { return Target{"user_import", userImport.String()} }

// OnJob returns the target for a job, by its number.
func OnJob(job int64) Target { return Target{"job", strconv.FormatInt(job, 10)} }

// OnAlert returns the target for an alert.
func OnAlert(alert id.Alert) Target { return Target{"alert", alert.String()} }

// OnCheckpoint returns the target for a checkpoint, by the size of its tree.
func OnCheckpoint(size int64) Target {
	return Target{"audit_checkpoint", strconv.FormatInt(size, 10)}
}

// OnDataRequest returns the target for a data-subject request.
func OnDataRequest(request id.DataRequest) Target {
	return Target{"data_subject_request", request.String()}
}

// OnWebhookEndpoint returns the target for a webhook endpoint.
func OnWebhookEndpoint(endpoint id.WebhookEndpoint) Target {
	return Target{"webhook_endpoint", endpoint.String()}
}

// Act is an act of the service, to be recorded.
type Act struct {
	Caller  principal.Principal
	Action  Action
	Target  Target
	Changed []string       // names of the members that changed
	Details map[string]any // numbers, words of closed sets, ids and times; nil: none
}

// actor is a caller as the trail records it; members that do not apply are nil.
type actor struct {
	kind             ActorType
	user             *id.User
	apiKey           *id.APIKey
	operatorCustomer *id.Customer // operators are users of Fusions, not of the audited customer
	operator         *id.User
}

func (a Act) actor() actor {
	switch caller := a.Caller; {
	case caller.IsAPIKey():
		return actor{kind: ActorAPIKey, apiKey: &caller.APIKey}
	case caller.User.IsZero():
		return actor{kind: ActorSystem}
	case a.Target == OnUser(caller.User):
		return actor{kind: ActorSelf}
	case caller.Role == principal.Operator:
		return actor{kind: ActorOperator, operatorCustomer: &caller.Customer, operator: &caller.User}
	default:
		return actor{kind: ActorUser, user: &caller.User}
	}
}

// NewEntry is an entry that an integration sends.
type NewEntry struct {
	ActorUserID id.User
	Action      string
	Target      Target
	OccurredAt  time.Time
	SourceID    string          // empty: none
	Details     json.RawMessage // nil: none
}

// Outcome is the result for one entry that was sent.
type Outcome struct {
	Status    Status
	ID        id.Entry // zero if rejected
	SourceID  string
	Rejection *Rejection // nil unless rejected
}

// Status is the kind of an outcome. The set is closed.
type Status string

// The statuses.
const (
	Created  Status = "created"
	Existing Status = "existing" // an entry with the same source id and content exists
	Rejected Status = "refused"
)

// Entry is a stored entry of the trail.
type Entry struct {
	ID            id.Entry
	Source        Source
	SourceID      *string
	ActorType     ActorType
	ActorUserID   *id.User
	ActorAPIKeyID *id.APIKey
	ActorRedacted bool
	ActorLabel    *string // pseudonym of a redacted actor
	// OperatorCustomerID and OperatorID identify the member of Fusions' staff if the actor is an
	// operator.
	OperatorCustomerID *id.Customer
	OperatorID         *id.User
	Action             string
	Target             Target
	Changed            []string
	Details            json.RawMessage // nil: none
	OccurredAt         time.Time
	RecordedAt         time.Time
}

// Filter selects entries; a zero member does not restrict.
type Filter struct {
	ActorUserID *id.User
	Action      string
	TargetType  string
	TargetID    string
	From        *time.Time // occurred at or after
	To          *time.Time // occurred before
}

// clockSkew is how far in the future the time of a sent entry may be.
const clockSkew = 5 * time.Minute
