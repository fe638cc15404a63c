package offboarding

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/fusionspim/steward/internal/account/customer"
	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/inventory"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/base/version"
	"github.com/fusionspim/steward/internal/compliance/subjectrequest"
	"github.com/fusionspim/steward/internal/infra/blob"
	"github.com/fusionspim/steward/internal/infra/idempotency"
	"github.com/fusionspim/steward/internal/infra/jobs"
	"github.com/fusionspim/steward/internal/infra/mailjob"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/infra/seal"
	"github.com/fusionspim/steward/internal/record/audit"
	"github.com/fusionspim/steward/internal/record/backup"
	"github.com/fusionspim/steward/internal/record/ledger"
	"github.com/fusionspim/steward/internal/record/receipt"
)

// Service implements the use cases of offboardings. Safe for concurrent use.
type Service struct {
	db        *postgres.DB
	customers *customer.Service
	box       *seal.Box
	objects   blob.Store
	ledger    *ledger.Ledger
	queue     *jobs.Queue
	mailing   mailjob.Mailing
	backups   *backup.Service
	receipts  *receipt.Issuer
	wait      time.Duration
	stores    []postgres.Store // of the whole service
	leaving   []postgres.Store // those that a deletion empties, in that order
	log       *slog.Logger
}

// Dependencies of a Service.
type Dependencies struct {
	DB        *postgres.DB
	Customers *customer.Service
	Box       *seal.Box
	Objects   blob.Store // for bundles
	Ledger    *ledger.Ledger
	Queue     *jobs.Queue
	Mailing   mailjob.Mailing
	Backups   *backup.Service  // for when the last backup of a deleted customer expires
	Receipts  *receipt.Issuer  // for certificates
	Wait      time.Duration    // from the approval to the deletion; zero: DefaultWait
	Stores    []postgres.Store // of the whole service; a deletion follows their declarations
	Log       *slog.Logger
}

// NewService returns the service.
func NewService(from Dependencies) *Service {
	return &Service{
		db: from.DB, customers: from.Customers, box: from.Box, objects: from.Objects, ledger: from.Ledger,
		queue: from.Queue, mailing: from.Mailing, backups: from.Backups, receipts: from.Receipts,
		wait: cmp.Or(from.Wait, DefaultWait), log: from.Log,
		stores: from.Stores, leaving: inventory.ForLeaving(from.Stores),
	}
}

// change runs an operator's act on a customer. A change is recorded in the trail of the customer
// and, because that one will be deleted, also in the trail of Fusions.
func (s *Service) change(
	ctx context.Context, caller principal.Principal, of id.Customer, action audit.Action,
	once *idempotency.Once[Offboarding], do func(tx *postgres.Tx) (after Offboarding, changed bool, err error),
) (Offboarding, error) {
	return idempotency.Write(ctx, s.db, caller.Customer, once, func(tx *postgres.Tx) (after Offboarding, err error) {
		changed := false
		record := func(tx *postgres.Tx) error {
			return audit.AppendTx(tx, audit.Act{
				Caller: caller, Action: action, Target: audit.OnCustomer(of),
				Details: map[string]any{"offboarding_id": after.ID, "state": after.State},
			})
		}
		err = tx.AsCustomer(of, func(tx *postgres.Tx) error {
			if after, changed, err = do(tx); err != nil || !changed {
				return err
			}
			return record(tx)
		})
		if err == nil && changed {
			err = record(tx)
		}
		return after, err
	})
}

// Begin begins to offboard a customer: the first step of two. Faults: ResourceNotFound,
// OffboardingUnderWay.
func (s *Service) Begin(
	ctx context.Context, caller principal.Principal, of id.Customer, once *idempotency.Once[Offboarding],
) (Offboarding, error) {
	return s.change(ctx, caller, of, audit.OffboardingBegun, once, func(tx *postgres.Tx) (Offboarding, bool, error) {
		found, err := customer.GetTx(tx)
		switch {
		case err != nil:
			return Offboarding{}, false, err
		case found.Slug == customer.OperatorsSlug: // the operators' own
			return Offboarding{}, false, fault.New(fault.ResourceNotFound, "There is no such customer.")
		}
		begun, err := insert(tx, Offboarding{
			ID: id.New[id.Offboarding](), Slug: found.Slug, Name: found.Name, RequestedAt: tx.Now,
			RequestedBy: caller.User,
		})
		if postgres.Violates(err, "offboardings_open") {
			return Offboarding{}, false,
				fault.New(fault.OffboardingUnderWay, "The customer's offboarding was begun before.")
		}
		return begun, true, err
	})
}

// Approve approves an offboarding that another operator began. Approving it again by the same
// operator changes nothing. Faults: ResourceNotFound, PreconditionFailed, SecondOperatorNeeded,
// OffboardingState.
func (s *Service) Approve(
	ctx context.Context, caller principal.Principal, of id.Customer, condition version.Condition,
	once *idempotency.Once[Offboarding],
) (Offboarding, error) {
	return s.change(ctx, caller, of, audit.OffboardingApproved, once, func(tx *postgres.Tx) (Offboarding, bool, error) {
		found, err := lockNewest(tx)
		switch {
		case err != nil:
			return Offboarding{}, false, err
		case found.State == Approved && *found.ApprovedBy == caller.User:
			return found, false, nil
		case !condition.MetBy(found.Version):
			return Offboarding{}, false, stale()
		case found.State != Requested:
			return Offboarding{}, false, wrongState(found.State)
		case found.RequestedBy == caller.User:
			return Offboarding{}, false,
				fault.New(fault.SecondOperatorNeeded, "You began this offboarding. Another operator has to approve it.")
		}
		if found, err = approve(tx, found.ID, caller.User, tx.Now.Add(s.wait)); err != nil {
			return Offboarding{}, false, err
		}
		return found, true, s.notify(tx, found, ofApproval)
	})
}

// Cancel cancels an offboarding before the deletion begins. Cancelling it again changes nothing.
// Faults: ResourceNotFound, PreconditionFailed, OffboardingState.
func (s *Service) Cancel(
	ctx context.Context, caller principal.Principal, of id.Customer, condition version.Condition,
	once *idempotency.Once[Offboarding],
) (Offboarding, error) {
	return s.change(
		ctx,
		caller,
		of,
		audit.OffboardingCancelled,
		once,
		func(tx *postgres.Tx) (Offboarding, bool, error) {
			found, err := lockNewest(tx)
			switch {
			case err != nil:
				return Offboarding{}, false, err
			case found.State == Cancelled:
				return found, false, nil
			case !condition.MetBy(found.Version):
				return Offboarding{}, false, stale()
			case found.State != Requested && found.State != Approved:
				return Offboarding{}, false, wrongState(found.State)
			}
			after, err := cancel(tx, found.ID, &caller.User)
			if err != nil {
				return Offboarding{}, false, err
			}
			if found.State == Approved {
				err = s.notify(tx, after, ofCancellation)
			}
			return after, true, err
		},
	)
}

// List returns offboardings of all customers, newest first: at most limit of those older than
// before, or of all where before is zero.
func (s *Service) List(ctx context.Context, filter Filter, before id.Offboarding, limit int) ([]Offboarding, error) {
	return postgres.Platform(ctx, s.db, func(tx *postgres.Tx) ([]Offboarding, error) {
		return list(tx, filter, before, limit)
	})
}

// Get returns an offboarding. Fault: ResourceNotFound.
func (s *Service) Get(ctx context.Context, offboarding id.Offboarding) (Offboarding, error) {
	return postgres.Platform(ctx, s.db, func(tx *postgres.Tx) (Offboarding, error) { return byID(tx, offboarding) })
}

// Newest returns the newest offboarding of a customer, also of one that is deleted. Fault:
// ResourceNotFound.
func (s *Service) Newest(ctx context.Context, of id.Customer) (Offboarding, error) {
	return postgres.Platform(ctx, s.db, func(tx *postgres.Tx) (Offboarding, error) { return newestOf(tx, of) })
}

// GetOwn returns the newest offboarding of the caller's customer. Fault: ResourceNotFound.
func (s *Service) GetOwn(ctx context.Context, caller principal.Principal) (Offboarding, error) {
	return postgres.Read(ctx, s.db, caller.Customer, newest)
}

// SetRecipient schedules a new bundle that is encrypted to a public key of the customer's own.
// Faults: ResourceNotFound, PreconditionFailed, InvalidRecipient, OffboardingState.
func (s *Service) SetRecipient(
	ctx context.Context, caller principal.Principal, recipient string, condition version.Condition,
) (Offboarding, error) {
	if _, err := subjectrequest.ParseRecipient(recipient); err != nil {
		return Offboarding{}, err
	}
	return postgres.Write(ctx, s.db, caller.Customer, func(tx *postgres.Tx) (Offboarding, error) {
		after, err := lockNewest(tx)
		switch {
		case err != nil:
			return Offboarding{}, err
		case !condition.MetBy(after.Version):
			return Offboarding{}, stale()
		case after.State != Requested && after.State != Approved:
			return Offboarding{}, wrongState(after.State)
		case after.Recipient != nil && *after.Recipient == recipient:
			return after, nil
		}
		if after, err = setRecipient(tx, after.ID, recipient); err != nil {
			return Offboarding{}, err
		}
		return after, audit.AppendTx(tx, act(caller, audit.OffboardingRecipientSet, after))
	})
}

func act(caller principal.Principal, action audit.Action, on Offboarding) audit.Act {
	return audit.Act{
		Caller: caller, Action: action, Target: audit.OnCustomer(on.Customer),
		Details: map[string]any{"offboarding_id": on.ID},
	}
}

// Renew schedules a new bundle. Faults: ResourceNotFound, OffboardingState.
func (s *Service) Renew(
	ctx context.Context, caller principal.Principal, once *idempotency.Once[Offboarding],
) (Offboarding, error) {
	return idempotency.Write(ctx, s.db, caller.Customer, once, func(tx *postgres.Tx) (Offboarding, error) {
		after, err := lockNewest(tx)
		switch {
		case err != nil:
			return Offboarding{}, err
		case after.State != Approved:
			return Offboarding{}, wrongState(after.State)
		case after.BundleWantedAt != nil:
			return after, nil
		}
		if after, err = requestBundle(tx, after.ID); err != nil {
			return Offboarding{}, err
		}
		return after, audit.AppendTx(tx, act(caller, audit.OffboardingBundleRenewed, after))
	})
}

// Collect returns the bundle. With peek, it returns the metadata without the content, and nothing
// changes. The caller closes the content. Faults: ResourceNotFound, OffboardingState,
// BundleNotReady.
func (s *Service) Collect(ctx context.Context, caller principal.Principal, peek bool) (Collected, error) {
	var before id.Bundle
	for {
		found, sealed, err := s.claim(ctx, caller, peek)
		if err != nil {
			return Collected{}, err
		}
		collected := Collected{Bundle: *found.Bundle, Offboarding: found.ID}
		if peek {
			return collected, nil
		}
		collected.Content, err = s.open(ctx, found, sealed)
		switch {
		case !errors.Is(err, blob.ErrNotFound):
			return collected, err
		case before != found.Bundle.ID: // a newer one may just have replaced it
			before = found.Bundle.ID
			continue
		}
		// The database was restored to an older state, or the blob store lost the bundle.
		err = s.db.InCustomer(ctx, caller.Customer, func(tx *postgres.Tx) error {
			_, err := requestBundle(tx, found.ID)
			return err
		})
		if err == nil {
			err = notReady()
		}
		return Collected{}, err
	}
}

func notReady() error { return fault.New(fault.BundleNotReady, "The bundle is being made.") }

// claim records that the bundle is collected, and returns its sealed key.
func (s *Service) claim(
	ctx context.Context, caller principal.Principal, peek bool,
) (found Offboarding, sealed []byte, err error) {
	err = s.db.InCustomer(ctx, caller.Customer, func(tx *postgres.Tx) error {
		found, err = lockNewest(tx)
		switch {
		case err != nil:
			return err
		case found.State != Approved:
			return wrongState(found.State)
		case found.Bundle == nil:
			return notReady()
		case peek:
			return nil
		}
		if sealed, err = recordCollection(tx, found.ID); err != nil {
			return err
		}
		return audit.AppendTx(tx, act(caller, audit.OffboardingBundleCollected, found))
	})
	return found, sealed, err
}

// countBundle counts the bundle of a customer whose offboarding is approved: it contains every
// person.
func countBundle(tx *postgres.Tx, _ id.User) (int64, error) {
	count, _, err := countBundles(tx)
	return count, err
}

// remakeBundle schedules another bundle, without these people. A bundle that is being made is
// discarded; the key that decrypts it lies in a dead row until the table is vacuumed.
func remakeBundle(tx *postgres.Tx, people []id.User) (map[id.User]int64, error) {
	count, approved, err := countBundles(tx)
	if err != nil || !approved {
		return nil, err
	}
	removed := make(map[id.User]int64, len(people))
	for _, person := range people {
		removed[person] = count
	}
	return removed, invalidateBundle(tx)
}
