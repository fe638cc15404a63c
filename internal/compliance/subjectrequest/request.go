// Package subjectrequest is data-subject requests: what a person asks of the own data, filed by the customer, carried out by an operator.
//
// Owns: the requests with their states, terms and reminders; the bundles in which a person's data is handed over, and the inventory that says what goes into one.
// Does not own: what is done to a person. Erasing, correcting, disabling and opting out are the very operations of package user that a customer has, and a bundle
// is read from where each feature keeps its rows.
//
//	            ┌──▶ withdrawn (by the customer, or because the person was erased)
//	received ───┼──▶ fulfilled ──▶ (access, portability) a bundle, for 14 days
//	    │       └──▶ rejected, with a reason
//	    ▼       ▲
//	acknowledged┘
//
// A request is the only way to an export, and the only way in which an operator sees a person: while it is open, and with an entry in the customer's trail each time.
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

// makesBundle tells whether a bundle comes of it.
func (k Kind) makesBundle() bool { return k == Access || k == Portability }

// changesAccount tells whether fulfilling changes more of an account than whether alerts are sent.
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

// Reason is why a request ended without being fulfilled. The set is closed: a free text would be one more thing that is kept about a person.
type Reason string

// The reasons. All but the last are an operator's, for a rejection.
const (
	IdentityNotVerified Reason = "identity_not_verified"
	ManifestlyUnfounded Reason = "manifestly_unfounded"
	Excessive           Reason = "excessive"
	LegalObligation     Reason = "legal_obligation"
	RightsOfOthers      Reason = "rights_of_others"
	NotApplicable       Reason = "not_applicable"
	PersonErased        Reason = "person_erased" // of a withdrawal: there is nobody any more whom it could be about
)

// How long things last, and how much a bundle takes.
const (
	bundleKept           = 14 * 24 * time.Hour
	identityKept         = 90 * 24 * time.Hour // after a request was closed
	firstReminder        = 10 * 24 * time.Hour
	secondReminder       = 20 * 24 * time.Hour
	maxBundle            = 64 << 20 // bytes
	maxRowsOfOneStore    = 200_000
	maxRowsShownToPeople = 1_000 // of one store, on the page for people; the files hold all
)

// Corrections are what a person is to be called; nil leaves a member as it is.
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
	UserID         *id.User // nil once the request has forgotten the person
	Kind           Kind
	State          State
	Reason         *Reason
	Corrections    *Corrections // of a rectification that is open
	Recipient      *string      // the public key that the bundle is encrypted to
	ReceiptID      *id.Receipt  // of the erasure that came of it
	ReceivedAt     time.Time
	AcknowledgedAt *time.Time
	DueAt          time.Time
	ClosedAt       *time.Time
	Bundle         *Bundle
	Version        int64
	UpdatedAt      time.Time
}

// Bundle is what is known of a bundle without opening it.
type Bundle struct {
	ExpiresAt   time.Time
	CollectedAt *time.Time
}

// Person is whom an open request is about, as an operator sees it.
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

// Filed is a request after it was filed, and whether there was an open one already that this one joined.
type Filed struct {
	Request
	Joined bool
}

// Collected is a bundle that is handed over.
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

// dueAfter is one month on by the calendar (GDPR, article 12(3); Regulation 1182/71, article 3): the same day of the next month, or its last where it has no such day.
func dueAfter(received time.Time) time.Time {
	received = received.UTC()
	year, month, day := received.Date()
	if last := time.Date(year, month+2, 0, 0, 0, 0, 0, time.UTC).Day(); day > last {
		day = last
	}
	hour, minute, second := received.Clock()
	return time.Date(year, month+1, day, hour, minute, second, received.Nanosecond(), time.UTC)
}

// clean brings a request to the form in which it is kept.
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

// clean holds the corrections against the rules for names and addresses now, so that it is who files them that hears of it.
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

// ParseRecipient reads the public key that a bundle is to be encrypted to.
func ParseRecipient(text string) (age.Recipient, error) {
	to, err := age.ParseX25519Recipient(text)
	if err != nil {
		return nil, fault.New(fault.InvalidRecipient, "Nothing can be encrypted to this recipient.").At("/recipient", "must be the public key of an age key pair")
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
