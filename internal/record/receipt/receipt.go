package receipt

import (
	"errors"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/id"
)

// Kind is the way a person was erased. The set is closed.
type Kind string

// The kinds.
const (
	Deletion  Kind = "deletion"
	Redaction Kind = "redaction"
)

// Reason is why a person was redacted. The set is closed.
type Reason string

// RequestedByPerson is the reason of a redaction in place of a deletion that the person asked for.
const RequestedByPerson Reason = "requested_by_person"

var reasons = []Reason{
	"left_employment", RequestedByPerson, "created_in_error", "contract_ended", "legal_obligation", "other",
}

// Known reports whether the reason is one of the set.
func (r Reason) Known() bool { return slices.Contains(reasons, r) }

// State is how far an erasure has come. The set is closed, and this is the only order:
//
//	pending ──▶ live-complete ──▶ final
type State string

// The states.
const (
	// the rows are gone; the database may still hold dead versions of them
	Pending      State = "pending"
	LiveComplete State = "live-complete" // those are gone too; backups may hold the data
	Final        State = "final"         // no backup holds the data either
)

// Removed counts what was removed from one store.
type Removed struct {
	Store string `json:"store"`
	Count int64  `json:"count"`
}

// Kept counts what stays in one store, and says why in a closed word.
type Kept struct {
	Store string `json:"store"`
	Count int64  `json:"count"`
	Why   string `json:"why"`
}

// Receipt says what was erased of a person, when, on whose order, and how far that has come. It
// names the person by id alone.
type Receipt struct {
	ID              id.Receipt
	Kind            Kind
	UserID          id.User
	Label           *string
	Reason          *Reason
	Authority       string
	OrderedByUser   *id.User
	OrderedByAPIKey *id.APIKey
	CompletedAt     time.Time
	Removed         []Removed
	Kept            []Kept
	// no backup holds the person after it, as foreseen when erasing; nil: none ever did
	BackupsExpireAt *time.Time

	State          State
	LiveCompleteAt *time.Time
	FinalAt        *time.Time

	JWS string // all of it, signed; see receiptType
}

// Path is where a receipt is found in the API.
func Path(receipt id.Receipt) string { return "/v1/erasure-receipts/" + receipt.String() }

// advance brings the receipt to its next state. No state is skipped, and none comes again.
func (r *Receipt) advance(next State, now time.Time) error {
	before, err := next.before()
	switch {
	case err != nil:
		return err
	case r.State != before:
		return errors.New("receipt: from " + string(r.State) + " no receipt comes to " + string(next))
	case next == LiveComplete:
		r.LiveCompleteAt = &now
	default:
		r.FinalAt = &now
	}
	r.State = next
	return nil
}

// before returns the state that comes before this one.
func (s State) before() (State, error) {
	switch s {
	case LiveComplete:
		return Pending, nil
	case Final:
		return LiveComplete, nil
	case Pending:
	}
	return "", errors.New("receipt: no state comes before " + string(s))
}

// Unsettled is an erasure that may be advanced.
type Unsettled struct {
	Customer id.Customer
	ID       uuid.UUID // of the receipt, or of whatever else records the erasure
	ErasedAt time.Time
	ErasedIn int64 // number of the transaction by which all rows had gone
}

func notFound() error { return fault.New(fault.ResourceNotFound, "There is no such receipt.") }
