// Package audit is the trail: who did what to what, and when.
//
// Owns: the entries, how integrations and the service itself append them, how they are listed, and what of the trail refers to a person.
// Does not own: people. An entry holds ids, closed words, numbers and times, never a value or free text, for what cannot be erased must not need
// erasing. Nothing here changes or removes an entry, and the database would refuse it.
//
// The actor of an entry is a foreign key, so an actor cannot be deleted; the target is not, so what is done *to* a person never stands in
// the way. An act of a person on the own account ("self") is recorded by its target alone: signing in and opting out do not make an
// account undeletable.
package audit

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/principal"
)

// ActorType is what kind of actor did it. The set is closed.
type ActorType string

// The actor types.
const (
	ActorUser     ActorType = "user"
	ActorSelf     ActorType = "self"
	ActorAPIKey   ActorType = "api_key"
	ActorOperator ActorType = "operator"
	ActorSystem   ActorType = "system"
)

// Source is who recorded an entry. The set is closed.
type Source string

// The sources.
const (
	SourceIntegration Source = "integration" // by API key
	SourceSteward     Source = "steward"     // the service, of its own acts
)

// Action is what the service itself did. The set is closed.
type Action string

// The service's own actions.
const (
	UserCreated           Action = "user.created"
	UserCorrected         Action = "user.corrected"
	UserDisabled          Action = "user.disabled" // by a correction whose changes are named too
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
	UserReturned          Action = "user.created_despite_erasure"
	JobRetried            Action = "job.retried"
	AlertRaised           Action = "alert.raised"
	AlertRepeated         Action = "alert.repeated"
	AlertSent             Action = "alert.sent"
	CheckpointPublished   Action = "audit.checkpoint_published"

	DataRequestUpdated   Action = "data_subject_request.updated"   // every change of its state, the first one included
	DataRequestViewed    Action = "data_subject_request.viewed"    // by an operator, who was shown the person
	DataRequestCollected Action = "data_subject_request.collected" // its bundle

	OffboardingBegun           Action = "customer.offboarding_begun"
	OffboardingApproved        Action = "customer.offboarding_approved"
	OffboardingCancelled       Action = "customer.offboarding_cancelled"
	OffboardingRecipientSet    Action = "customer.offboarding_recipient_set"
	OffboardingBundleRenewed   Action = "customer.offboarding_bundle_renewed"
	OffboardingBundleCollected Action = "customer.offboarding_bundle_collected"
	DeletionBegun              Action = "customer.deletion_begun"
	CustomerDeleted            Action = "customer.deleted" // with everything that was its own, in the trail of Fusions

	WebhookEndpointCreated  Action = "webhook_endpoint.created"
	WebhookEndpointChanged  Action = "webhook_endpoint.changed"
	WebhookEndpointDeleted  Action = "webhook_endpoint.deleted"
	WebhookEndpointPaused   Action = "webhook_endpoint.paused" // by the system
	WebhookEndpointTested   Action = "webhook_endpoint.tested"
	WebhookSecretRotated    Action = "webhook_endpoint.secret_rotated"
	WebhookDeliveryRepeated Action = "webhook_endpoint.delivery_repeated"
)

// Target is what was acted on.
type Target struct {
	Type string
	ID   string
}

// Targets of the service's own acts.
func OnUser(user id.User) Target             { return Target{"user", user.String()} }
func OnAPIKey(key id.APIKey) Target          { return Target{"api_key", key.String()} }
func OnBackup(backup id.Backup) Target       { return Target{"backup", backup.String()} }
func OnReplay(replay id.Replay) Target       { return Target{"replay", replay.String()} }
func OnCustomer(customer id.Customer) Target { return Target{"customer", customer.String()} }
func OnImport(one id.Import) Target          { return Target{"user_import", one.String()} }
func OnJob(job int64) Target                 { return Target{"job", strconv.FormatInt(job, 10)} }
func OnAlert(alert id.Alert) Target          { return Target{"alert", alert.String()} }
func OnCheckpoint(size int64) Target         { return Target{"audit_checkpoint", strconv.FormatInt(size, 10)} }
func OnDataRequest(request id.DataRequest) Target {
	return Target{"data_subject_request", request.String()}
}
func OnWebhookEndpoint(endpoint id.WebhookEndpoint) Target {
	return Target{"webhook_endpoint", endpoint.String()}
}

// Act is something that the service did on somebody's order.
type Act struct {
	Caller  principal.Principal
	Action  Action
	Target  Target
	Changed []string       // names of the members that changed
	Details map[string]any // numbers, closed words, ids and times; nil: none
}

// actor is how a caller shows in the trail; members that do not apply are nil.
type actor struct {
	kind             ActorType
	user             *id.User
	apiKey           *id.APIKey
	operatorCustomer *id.Customer // operators are users of Fusions, not of the customer whose trail it is
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

// Outcome is what became of one sent entry.
type Outcome struct {
	Status   Status
	ID       id.Entry // zero when refused
	SourceID string
	Refusal  *Refusal // set when refused
}

// Status is the kind of an outcome. The set is closed.
type Status string

// The statuses.
const (
	Created  Status = "created"
	Existing Status = "existing" // an entry with the same source id, saying the same, was there
	Refused  Status = "refused"
)

// Entry is one entry of the trail as it is read.
type Entry struct {
	ID            id.Entry
	Source        Source
	SourceID      *string
	ActorType     ActorType
	ActorUserID   *id.User
	ActorAPIKeyID *id.APIKey
	ActorRedacted bool
	ActorLabel    *string // what a redacted actor is called
	// Which of Fusions' staff it was, where the actor is an operator.
	OperatorCustomerID *id.Customer
	OperatorID         *id.User
	Action             string
	Target             Target
	Changed            []string
	Details            json.RawMessage // nil: none
	OccurredAt         time.Time
	RecordedAt         time.Time
}

// Filter chooses entries; zero members choose all.
type Filter struct {
	ActorUserID *id.User
	Action      string
	TargetType  string
	TargetID    string
	From        *time.Time // occurred at or after
	To          *time.Time // occurred before
}

// clockSkew is how far in the future an integration's clock may say that something occurred.
const clockSkew = 5 * time.Minute
