// Package offboarding is the end of a contract: a customer is handed what is its own, and then everything of it is deleted.
//
// Owns: the offboardings with their states, the notices and the bundle that come before the end, deleting a customer from every store, and the record of it, which outlives the
// customer.
// Does not own: what the stores are for (the features), and carrying a deletion out again that a restore has lost (replay, which has it done here).
//
//	requested ──▶ approved ──▶ deleting ──▶ deleted
//	    │   by another │   when the
//	    │   operator   │   wait is over
//	    └──────────────┴──▶ cancelled
//
// While it is approved, the customer works on as always. From the moment that the state is deleting, the database shows the service nothing of the customer and takes nothing for it: that
// ends sign-ins, sessions, keys and jobs on every replica, without anybody looking for them. Then the ledger is told, and only then rows are deleted, batch by batch, each with its count.
// It may be broken off at any moment and is gone on with by whichever replica looks next.
package offboarding

import (
	"io"
	"time"

	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/record/receipt"
)

// DefaultWait is how long an offboarding waits after its approval unless the settings say otherwise.
const DefaultWait = 30 * 24 * time.Hour

// State is how far an offboarding is. The set is closed.
type State string

// The states.
const (
	Requested State = "requested"
	Approved  State = "approved"
	Cancelled State = "cancelled"
	Deleting  State = "deleting"
	Deleted   State = "deleted"
)

// Offboarding is the end of one contract.
type Offboarding struct {
	ID              id.Offboarding
	Customer        id.Customer
	Slug            string // these two as they were when it was begun
	Name            string
	State           State
	RequestedAt     time.Time
	RequestedBy     id.User // an operator
	ApprovedAt      *time.Time
	ApprovedBy      *id.User // another one
	DeletesAt       *time.Time
	CancelledAt     *time.Time
	CancelledBy     *id.User
	DeletingAt      *time.Time
	RecordedAt      *time.Time // in the ledger
	DeletedAt       *time.Time
	LiveCompleteAt  *time.Time        // no dead row of the customer is left in the live database
	FinalAt         *time.Time        // no backup is left that may hold anything of the customer
	Removed         []receipt.Removed // so far, by store
	BackupsExpireAt *time.Time
	Recipient       *string // that the next bundle is encrypted to
	BundleWantedAt  *time.Time
	Bundle          *Bundle
	JWS             string // the certificate; empty until everything is deleted
	Version         int64
	UpdatedAt       time.Time

	notices int
}

// Bundle is what is known of a bundle without opening it.
type Bundle struct {
	ID          id.Bundle
	MadeAt      time.Time
	Size        int64   // as it is handed over
	Recipient   *string // nil: it is encrypted with a key of the service's own
	CollectedAt *time.Time
}

// Collected is a bundle that is handed over.
type Collected struct {
	Bundle
	Offboarding id.Offboarding
	Content     io.ReadCloser // nil for who only looks
}

// Filter chooses offboardings; the zero value chooses all.
type Filter struct{ State State }

// notices that administrators are sent before the end, besides the one at the approval.
const (
	reminder   = 1
	lastNotice = 2
)

// noticeAt says when the notice of a number is due: a fourth of the wait before the end, and a thirtieth; of thirty days a week before, and a day.
func (o Offboarding) noticeAt(number int) time.Time {
	wait := o.DeletesAt.Sub(*o.ApprovedAt)
	if number == lastNotice {
		return o.DeletesAt.Add(-wait / 30)
	}
	return o.DeletesAt.Add(-wait / 4)
}

// next says when somebody has to look after an offboarding that waits.
func (o Offboarding) next() time.Time {
	if o.notices < lastNotice {
		return o.noticeAt(o.notices + 1)
	}
	return *o.DeletesAt
}

// certificate is what is certified of an offboarding that is done.
func (o Offboarding) certificate() receipt.Certificate {
	return receipt.Certificate{
		ID: o.ID, Customer: receipt.Customer{ID: o.Customer, Slug: o.Slug, Name: o.Name},
		RequestedAt: o.RequestedAt, RequestedBy: o.RequestedBy,
		ApprovedAt: o.ApprovedAt, ApprovedBy: o.ApprovedBy,
		DeletingAt: o.DeletingAt, DeletedAt: o.DeletedAt,
		Removed: o.Removed, BackupsExpireAt: o.BackupsExpireAt,
	}
}

func notFound() error {
	return fault.New(fault.ResourceNotFound, "No offboarding of such a customer was begun.")
}

func stale() error {
	return fault.New(fault.PreconditionFailed, "The offboarding has changed. Fetch it again before you act on it.")
}

func elsewhere(state State) error {
	return fault.New(fault.OffboardingState, "The offboarding is in the state "+string(state)+".")
}
