// Package offboarding ends contracts: a customer gets a copy of its data, and then all of it is
// deleted.
//
// Owns: the offboardings with their states, the notices and the bundle before the deletion, the
// deletion of a customer from every store, and the record of it, which outlives the customer.
// Does not own: what the stores are for (the features), and which deletions a restore has lost
// (replay, which calls this package for each).
//
//	requested ──▶ approved ──▶ deleting ──▶ deleted
//	    │   by another │   when the
//	    │   operator   │   wait is over
//	    └──────────────┴──▶ cancelled
//
// While an offboarding is approved, everything works as before for the customer. Once it is
// deleting, row security hides the customer's rows from the service and rejects new ones: that ends
// sign-ins, sessions, keys and jobs on every replica at once. Then the ledger records it, and only
// then rows are deleted, in batches that are counted. A deletion that is interrupted is continued
// by the replica that leases it next.
package offboarding

import (
	"io"
	"time"

	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/record/receipt"
)

// DefaultWait is the time from the approval to the deletion unless the settings say otherwise.
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
	Slug            string // this and the name as they were when it was begun
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
	Removed         []receipt.Removed // rows so far, by store
	BackupsExpireAt *time.Time
	Recipient       *string // that the next bundle is encrypted to
	BundleWantedAt  *time.Time
	Bundle          *Bundle
	JWS             string // the certificate; empty until everything is deleted
	Version         int64
	UpdatedAt       time.Time

	notices int
}

// Bundle is the metadata of a bundle.
type Bundle struct {
	ID          id.Bundle
	MadeAt      time.Time
	Size        int64   // in bytes, as it is collected
	Recipient   *string // nil: it is encrypted with a key of the service
	CollectedAt *time.Time
}

// Collected is a bundle with its content.
type Collected struct {
	Bundle
	Offboarding id.Offboarding
	Content     io.ReadCloser // nil for a peek
}

// Filter chooses offboardings; the zero value chooses all.
type Filter struct{ State State }

// Notices that administrators get before the end, besides the one at the approval.
const (
	reminder   = 1
	lastNotice = 2
)

// noticeAt returns when the notice of a number is due: a quarter of the wait before the end, and a
// thirtieth. Of thirty days, that is about a week before, and a day.
func (o Offboarding) noticeAt(number int) time.Time {
	wait := o.DeletesAt.Sub(*o.ApprovedAt)
	if number == lastNotice {
		return o.DeletesAt.Add(-wait / 30)
	}
	return o.DeletesAt.Add(-wait / 4)
}

// next returns when an approved offboarding is due next.
func (o Offboarding) next() time.Time {
	if o.notices < lastNotice {
		return o.noticeAt(o.notices + 1)
	}
	return *o.DeletesAt
}

// certificate returns what is certified of a completed offboarding.
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
	return fault.New(fault.ResourceNotFound, "No offboarding of this customer was begun.")
}

func stale() error {
	return fault.New(fault.PreconditionFailed, "The offboarding has changed. Fetch it again before you act on it.")
}

func wrongState(state State) error {
	return fault.New(fault.OffboardingState, "The offboarding is in the state "+string(state)+".")
}
