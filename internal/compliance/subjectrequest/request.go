// Package subjectrequest implements data-subject requests: what people ask about their own data.
// The customer files them, an operator fulfils them.
//
// Owns: the requests with their states, due times and reminders, and the bundles that contain a
// person's data.
// Does not own: the operations on a person. Erasing, correcting, disabling and opting out are the
// same operations of package user that a customer has, and a bundle is read from the tables that
// each feature declares.
//
//	            ┌──▶ withdrawn (by the customer, or because the person was erased)
//	received ───┼──▶ fulfilled ──▶ (access, portability) a bundle, for 14 days
//	    │       └──▶ rejected, with a reason
//	    ▼       ▲
//	acknowledged┘
//
// A request is the only way to an export, and the only way in which an operator sees a person:
// while it is open, and with an entry in the customer's trail each time.
package subjectrequest

import (
	"time"

	"filippo.io/age"

	"github.com/fusionspim/steward/internal/account/user"
	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/id"
)

// Kind is what is asked for. The set is closed.
type Kind string

// The kinds, by the articles 15, 20, 17, 16, 18 and 21 of the GDPR.
const (
	Access        Kind = "access"
	Portability   Kind = "portability"
	Erasure       Kind = "erasure"
	Rectification Kind = "rectification"
	Restriction   Kind = "restriction"
	Objection     Kind = "objection"
)

// makesBundle reports whether a request of the kind is answered with a bundle.
func (k Kind) makesBundle() bool { return k == Access || k == Portability }

// changesAccount reports whether fulfilling changes more of an account than whether alerts are
// sent.
func (k Kind) changesAccount() bool { return k == Erasure || k == Rectification || k == Restriction }

// State is how far a request is. The set is closed.
type State string

// The states.
const (
	Received     State = "received"
	Acknowledged State = "acknowledged"
	Fulfilled    State = "fulfilled"
	Rejected     State = "rejected"
	Withdrawn    State = "withdrawn"
)

func (s State) open() bool { return s == Received || s == Acknowledged }

// Reason is why a request was closed without being fulfilled. The set is closed: a free text would
// be more personal data.
type Reason string

// The reasons. All but the last are an operator's, for a rejection.
const (
	IdentityNotVerified Reason = "identity_not_verified"
	ManifestlyUnfounded Reason = "manifestly_unfounded"
	Excessive           Reason = "excessive"
	LegalObligation     Reason = "legal_obligation"
	RightsOfOthers      Reason = "rights_of_others"
	NotApplicable       Reason = "not_applicable"
	PersonErased        Reason = "person_erased" // of a withdrawal: the person no longer exists
)

// Periods, and limits of a bundle.
const (
	bundleKept           = 14 * 24 * time.Hour
	identityKept         = 90 * 24 * time.Hour // after a request was closed
	firstReminder        = 10 * 24 * time.Hour
	secondReminder       = 20 * 24 * time.Hour
	maxBundle            = 64 << 20 // bytes
	maxRowsOfOneStore    = 200_000
	maxRowsShownToPeople = 1_000 // of one store, on the page for people; the files hold all
)

// Corrections are the new values of a rectification; nil leaves a member unchanged.
type Corrections struct {
	FirstName *string
	LastName  *string
	Email     *string
}

func (c Corrections) empty() bool { return c.FirstName == nil && c.LastName == nil && c.Email == nil }

// Request is one data-subject request.
type Request struct {
	ID             id.DataRequest
	Customer       id.Customer
	UserID         *id.User // nil once the request was anonymised
	Kind           Kind
	State          State
	Reason         *Reason
	Corrections    *Corrections // of a rectification that is open
	Recipient      *string      // the public key that the bundle is encrypted to
	ReceiptID      *id.Receipt  // of an erasure that is fulfilled
	ReceivedAt     time.Time
	AcknowledgedAt *time.Time
	DueAt          time.Time
	ClosedAt       *time.Time
	Bundle         *Bundle
	Version        int64
	UpdatedAt      time.Time
}

// Bundle is the metadata of a bundle.
type Bundle struct {
	ExpiresAt   time.Time
	CollectedAt *time.Time
}

// Person is the person that an open request is about, as operators see it.
type Person struct {
	FirstName string
	LastName  string
	Email     string
}

// New is a request that is to be filed.
type New struct {
	UserID      id.User
	Kind        Kind
	Corrections Corrections
	Recipient   *string
}

// Filed is a request after it was filed. Joined reports whether it joined one that was open.
type Filed struct {
	Request
	Joined bool
}

// Collected is the content of a bundle.
type Collected struct {
	Content   []byte
	Encrypted bool // to the recipient: an age file; otherwise a zip file
}

// Filter chooses requests; zero members choose all.
type Filter struct {
	State  State
	Kind   Kind
	UserID *id.User
}

// dueAfter returns when a request is due: a calendar month later (GDPR, article 12(3); Regulation
// 1182/71, article 3), on the same day of the next month, or on its last where it has no such day.
func dueAfter(received time.Time) time.Time {
	received = received.UTC()
	year, month, day := received.Date()
	if last := time.Date(year, month+2, 0, 0, 0, 0, 0, time.UTC).Day(); day > last {
		day = last
	}
	hour, minute, second := received.Clock()
	return time.Date(year, month+1, day, hour, minute, second, received.Nanosecond(), time.UTC)
}

// clean validates a request and returns it in the form in which it is stored.
func (n New) clean() (New, error) {
	malformed := func(pointer, detail string) error {
		return fault.New(fault.MalformedRequest, "The members do not go together.").At(pointer, detail)
	}
	switch {
	case n.Kind == Rectification && n.Corrections.empty():
		return New{}, malformed("/corrections", "must name what is to be corrected")
	case n.Kind != Rectification && !n.Corrections.empty():
		return New{}, malformed("/corrections", "goes with the kind rectification alone")
	case n.Recipient != nil && !n.Kind.makesBundle():
		return New{}, malformed("/recipient", "goes with the kinds access and portability alone")
	}
	if n.Recipient != nil {
		if _, err := ParseRecipient(*n.Recipient); err != nil {
			return New{}, err
		}
	}
	var err error
	if n.Corrections, err = n.Corrections.clean(); err != nil {
		return New{}, err
	}
	return n, nil
}

// clean validates the corrections by the rules for names and addresses when they are filed, so that
// the caller who files them gets the fault.
func (c Corrections) clean() (out Corrections, err error) {
	if c.FirstName != nil {
		name, err := user.CleanName(*c.FirstName, "/corrections/first_name")
		if err != nil {
			return out, err
		}
		out.FirstName = &name
	}
	if c.LastName != nil {
		name, err := user.CleanName(*c.LastName, "/corrections/last_name")
		if err != nil {
			return out, err
		}
		out.LastName = &name
	}
	if c.Email != nil {
		address, err := user.ParseAddress(*c.Email, "/corrections/email")
		if err != nil {
			return out, err
		}
		out.Email = &address.Text
	}
	return out, nil
}

// ParseRecipient parses the public key that a bundle is to be encrypted to. Fault:
// InvalidRecipient.
func ParseRecipient(text string) (age.Recipient, error) {
	to, err := age.ParseX25519Recipient(text)
	if err != nil {
		return nil, fault.New(fault.InvalidRecipient, "Nothing can be encrypted to this recipient.").
			At("/recipient", "must be the public key of an age key pair")
	}
	return to, nil
}

func notFound() error {
	return fault.New(fault.ResourceNotFound, "There is no such data-subject request.")
}

func stale() error {
	return fault.New(fault.PreconditionFailed, "The request has changed. Fetch it again before you act on it.")
}

func closed() error {
	return fault.New(fault.RequestClosed, "The request was fulfilled, rejected or withdrawn before.")
}
