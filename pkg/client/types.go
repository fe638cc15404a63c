package client

import "github.com/fusionspim/steward/pkg/client/api"

// The types of the contract that the methods of [Client] take and return. Package api has all
// others.
type (
	// ID identifies a user, an alert, an API key and everything else: a UUID.
	ID = api.ID

	// User is a user. Of a redacted one FirstName, LastName and Email are nil.
	User = api.User
	// NewUser is a user to create.
	NewUser = api.NewUser
	// UserPatch changes a user; nil members stay as they are.
	UserPatch = api.UserPatch
	// UserStatus is active, disabled or redacted.
	UserStatus = api.UserStatus
	// UserRole is customer (an administrator) or user.
	UserRole = api.UserRole
	// Me is the person who is signed in.
	Me = api.Me
	// Alerts says whether a user gets e-mail alerts, and who set that when.
	Alerts = api.Alerts

	// ErasurePlan says what deleting or redacting a user would do.
	ErasurePlan = api.ErasurePlan
	// ErasureReceipt says what was erased when, and by when no backup holds it.
	ErasureReceipt = api.ErasureReceipt
	// RedactionReason says why a user is redacted. The set is closed.
	RedactionReason = api.RedactionReason
	// SigningKeys is the key set of the service.
	SigningKeys = api.SigningKeys
	// SigningKey is one public key of the service.
	SigningKey = api.SigningKey
	// OffboardedCustomer names a customer that was deleted.
	OffboardedCustomer = api.OffboardedCustomer
	// StoreCount says how much was removed from one store.
	StoreCount = api.StoreCount

	// AuditEntry is an entry of the audit trail.
	AuditEntry = api.AuditEntry
	// NewAuditEntry is an entry to record.
	NewAuditEntry = api.NewAuditEntry
	// AuditTarget is what an act was done to.
	AuditTarget = api.AuditTarget
	// AuditDetails are the details of an entry: ids, numbers, times and closed words.
	AuditDetails = api.AuditDetails
	// AuditEntryResult says what became of one entry.
	AuditEntryResult = api.AuditEntryResult
	// AuditEntryResults says what became of all entries.
	AuditEntryResults = api.AuditEntryResults

	// UserImport is an import of a file of people.
	UserImport = api.UserImport
	// UserImportRow says what became of one row.
	UserImportRow = api.UserImportRow
	// UserImportRowStatus is what became of a row.
	UserImportRowStatus = api.UserImportRowStatus

	// Customer has the customer's settings.
	Customer = api.Customer
	// CustomerPatch changes the customer's settings; nil members stay as they are.
	CustomerPatch = api.CustomerPatch
	// APIKey is an API key without its secret.
	APIKey = api.APIKey
	// NewAPIKey is an API key to create.
	NewAPIKey = api.NewAPIKey
	// CreatedAPIKey is a new API key with its secret.
	CreatedAPIKey = api.CreatedAPIKey

	// Alert is an alert and the state of its mails.
	Alert = api.Alert
	// NewAlert is an alert to raise.
	NewAlert = api.NewAlert
)

// The statuses of a user.
const (
	UserActive   = api.UserStatusActive
	UserDisabled = api.UserStatusDisabled
	UserRedacted = api.UserStatusRedacted
)

// The roles of a customer's users.
const (
	RoleAdministrator = "customer"
	RoleUser          = "user"
)

// The reasons of a redaction. The empty reason gives none.
const (
	ReasonContractEnded     = api.RedactionReasonContractEnded
	ReasonCreatedInError    = api.RedactionReasonCreatedInError
	ReasonLeftEmployment    = api.RedactionReasonLeftEmployment
	ReasonLegalObligation   = api.RedactionReasonLegalObligation
	ReasonOther             = api.RedactionReasonOther
	ReasonRequestedByPerson = api.RedactionReasonRequestedByPerson
)

// Ptr returns a pointer to a value, for the members of patches: client.Ptr("Haddad").
func Ptr[T any](value T) *T { return &value }
