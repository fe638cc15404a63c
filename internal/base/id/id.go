// Package id holds the typed identifiers of everything that Steward keeps.
//
// Owns: the kinds of identifier, how one is made and how one is read.
// Does not own: what an identifier points at.
//
// Every identifier is a UUID of version 7 (RFC 9562, section 5.7) made by the server, never by a caller: a caller who could choose one could
// learn from a collision that a row of somebody else exists.
package id

import (
	"errors"
	"strings"

	"github.com/google/uuid"
)

// ID identifies one thing of the kind K. Kinds cannot be mixed up: an ID of a user does not assign to an ID of a session.
// It reads and writes as a UUID in JSON, in SQL and as text.
type ID[K any] struct{ uuid.UUID }

type (
	customerKind struct{}
	userKind     struct{}
	sessionKind  struct{}
	apiKeyKind   struct{}
	entryKind    struct{}
	receiptKind  struct{}
	loginKind    struct{}
	requestKind  struct{}
	backupKind   struct{}
	restoreKind  struct{}
	replayKind   struct{}
	alertKind    struct{}
	importKind   struct{}
	dataKind     struct{}

	offboardingKind     struct{}
	bundleKind          struct{}
	webhookEndpointKind struct{}
)

type (
	// Customer identifies a business that has a contract with Fusions: the controller, and the tenant.
	Customer = ID[customerKind]
	// User identifies one user account of one customer.
	User = ID[userKind]
	// Session identifies one sign-in and everything that was refreshed from it.
	Session = ID[sessionKind]
	// APIKey identifies one API key of one customer.
	APIKey = ID[apiKeyKind]
	// Entry identifies one entry of an audit trail.
	Entry = ID[entryKind]
	// Receipt identifies one erasure receipt.
	Receipt = ID[receiptKind]
	// Login identifies one login record.
	Login = ID[loginKind]
	// Backup identifies one backup of the database.
	Backup = ID[backupKind]
	// Restore identifies one restore of the database from a backup.
	Restore = ID[restoreKind]
	// Replay identifies one time that the ledger was carried out again.
	Replay = ID[replayKind]
	// Alert identifies one alert of one customer.
	Alert = ID[alertKind]
	// Import identifies one import of people.
	Import = ID[importKind]
	// Request identifies one HTTP request, where the caller brought no name for it.
	Request = ID[requestKind]
	// DataRequest identifies one data-subject request.
	DataRequest = ID[dataKind]
	// Offboarding identifies the end of one contract.
	Offboarding = ID[offboardingKind]
	// Bundle identifies one bundle of everything that is a customer's.
	Bundle = ID[bundleKind]
	// WebhookEndpoint identifies one place where a customer wants to be told of events.
	WebhookEndpoint = ID[webhookEndpointKind]
)

// ErrMalformed is returned by Parse for anything but the canonical text of a UUID.
var ErrMalformed = errors.New("id: not a UUID in its canonical form")

// New makes an identifier. It panics only when the operating system has no randomness left to give, in which case nothing should go on.
func New[T ID[K], K any]() T { return T{uuid.Must(uuid.NewV7())} }

// Parse reads the canonical form: 36 characters, hyphenated, of either case. The other spellings that RFC 9562 knows (braces, a URN, no
// hyphens) are refused, so that one thing has one address.
func Parse[T ID[K], K any](text string) (T, error) {
	if len(text) != 36 {
		return T{}, ErrMalformed
	}
	parsed, err := uuid.Parse(strings.ToLower(text))
	if err != nil {
		return T{}, ErrMalformed
	}
	return T{parsed}, nil
}

// IsZero tells whether the identifier was never set.
func (i ID[K]) IsZero() bool { return i.UUID == uuid.Nil }
