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
	stores    []postgres.Store // all that there are
	leaving   []postgres.Store // those that are emptied, in that order
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
	Stores    []postgres.Store // all that there are; the end of a customer does to them what their declarations say
	Log       *slog.Logger
}

// NewService makes the service.
func NewService(from Dependencies) *Service {
	return &Service{
		db: from.DB, customers: from.Customers, box: from.Box, objects: from.Objects, ledger: from.Ledger,
		queue: from.Queue, mailing: from.Mailing, backups: from.Backups, receipts: from.Receipts,
		wait: cmp.Or(from.Wait, DefaultWait), log: from.Log,
		stores: from.Stores, leaving: inventory.ForLeaving(from.Stores),
	}
}

// act lets an operator act on a customer. What changes something stands in the trail of the customer and, because that one goes with it, in the trail of Fusions too.
func (s *Service) act(ctx context.Context, caller principal.Principal, of id.Customer, action audit.Action, once *idempotency.Once[Offboarding],
	do func(tx *postgres.Tx) (after Offboarding, changed bool, err error),
) (after Offboarding, err error) {
	err = s.db.InCustomer(ctx, caller.Customer, func(tx *postgres.Tx) error {
		after, err = once.Do(tx, func() (after Offboarding, _ id.User, err error) {
			changed := false
			record := func(tx *postgres.Tx) error {
				return audit.AppendTx(tx, audit.Act{
					Caller: caller, Action: action, Target: audit.OnCustomer(of), Details: map[string]any{"offboarding_id": after.ID, "state": after.State},
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
			return after, id.User{}, err // what operators are answered tells of no user of the customer
		})
		return err
	})
	return after, err
}

// Begin begins to offboard a customer: the first step of two. Faults: ResourceNotFound, OffboardingUnderWay.
func (s *Service) Begin(ctx context.Context, caller principal.Principal, of id.Customer, once *idempotency.Once[Offboarding]) (Offboarding, error) {
	return s.act(ctx, caller, of, audit.OffboardingBegun, once, func(tx *postgres.Tx) (Offboarding, bool, error) {
		found, err := customer.GetTx(tx)
		switch {
		case err != nil:
			return Offboarding{}, false, err
		case found.Slug == customer.OperatorsSlug: // whose users the operators themselves are
			return Offboarding{}, false, fault.New(fault.ResourceNotFound, "There is no such customer.")
		}
		begun, err := insert(tx, Offboarding{ID: id.New[id.Offboarding](), Slug: found.Slug, Name: found.Name, RequestedAt: tx.Now, RequestedBy: caller.User})
		if postgres.Violates(err, "offboardings_open") {
			return Offboarding{}, false, fault.New(fault.OffboardingUnderWay, "The customer's offboarding was begun before.")
		}
		return begun, true, err
	})
}

// Approve has an offboarding carried out that another operator began. Once more by the same operator changes nothing. Faults: ResourceNotFound, PreconditionFailed,
// SecondOperatorNeeded, OffboardingState.
func (s *Service) Approve(ctx context.Context, caller principal.Principal, of id.Customer, condition version.Condition, once *idempotency.Once[Offboarding]) (Offboarding, error) {
	return s.act(ctx, caller, of, audit.OffboardingApproved, once, func(tx *postgres.Tx) (Offboarding, bool, error) {
		found, err := lockNewest(tx)
		switch {
		case err != nil:
			return Offboarding{}, false, err
		case found.State == Approved && *found.ApprovedBy == caller.User:
			return found, false, nil
		case !condition.MetBy(found.Version):
			return Offboarding{}, false, stale()
		case found.State != Requested:
			return Offboarding{}, false, elsewhere(found.State)
		case found.RequestedBy == caller.User:
			return Offboarding{}, false, fault.New(fault.SecondOperatorNeeded, "You began this offboarding. Another operator has to approve it.")
		}
		if found, err = approve(tx, found.ID, caller.User, tx.Now.Add(s.wait)); err != nil {
			return Offboarding{}, false, err
		}
		return found, true, s.tell(tx, found, ofApproval)
	})
}

// Cancel lets the customer work on as before. Once more changes nothing. Faults: ResourceNotFound, PreconditionFailed, OffboardingState.
func (s *Service) Cancel(ctx context.Context, caller principal.Principal, of id.Customer, condition version.Condition, once *idempotency.Once[Offboarding]) (Offboarding, error) {
	return s.act(ctx, caller, of, audit.OffboardingCancelled, once, func(tx *postgres.Tx) (Offboarding, bool, error) {
		found, err := lockNewest(tx)
		switch {
		case err != nil:
			return Offboarding{}, false, err
		case found.State == Cancelled:
			return found, false, nil
		case !condition.MetBy(found.Version):
			return Offboarding{}, false, stale()
		case found.State != Requested && found.State != Approved:
			return Offboarding{}, false, elsewhere(found.State)
		}
		after, err := cancel(tx, found.ID, &caller.User)
		if err != nil {
			return Offboarding{}, false, err
		}
		if found.State == Approved {
			err = s.tell(tx, after, ofCancellation)
		}
		return after, true, err
	})
}

// List returns offboardings of all customers, newest first: at most limit of those begun before the one named, or from the newest on.
func (s *Service) List(ctx context.Context, filter Filter, before id.Offboarding, limit int) (found []Offboarding, err error) {
	err = s.db.InPlatform(ctx, func(tx *postgres.Tx) error {
		found, err = list(tx, filter, before, limit)
		return err
	})
	return found, err
}

// Get returns an offboarding. Fault: ResourceNotFound.
func (s *Service) Get(ctx context.Context, offboarding id.Offboarding) (found Offboarding, err error) {
	err = s.db.InPlatform(ctx, func(tx *postgres.Tx) error {
		found, err = byID(tx, offboarding)
		return err
	})
	return found, err
}

// Newest returns the newest offboarding of a customer, who may be gone. Fault: ResourceNotFound.
func (s *Service) Newest(ctx context.Context, of id.Customer) (found Offboarding, err error) {
	err = s.db.InPlatform(ctx, func(tx *postgres.Tx) error {
		found, err = newestOf(tx, of)
		return err
	})
	return found, err
}

// GetOwn returns the newest offboarding of the caller's customer. Fault: ResourceNotFound.
func (s *Service) GetOwn(ctx context.Context, caller principal.Principal) (found Offboarding, err error) {
	err = s.db.InCustomerAutocommit(ctx, caller.Customer, func(tx *postgres.Tx) error {
		found, err = newest(tx)
		return err
	})
	return found, err
}

// SetRecipient has the bundle made anew, encrypted to a public key of the customer's own. Faults: ResourceNotFound, PreconditionFailed, InvalidRecipient, OffboardingState.
func (s *Service) SetRecipient(ctx context.Context, caller principal.Principal, recipient string, condition version.Condition) (after Offboarding, err error) {
	if _, err := subjectrequest.ParseRecipient(recipient); err != nil {
		return Offboarding{}, err
	}
	err = s.db.InCustomer(ctx, caller.Customer, func(tx *postgres.Tx) error {
		after, err = lockNewest(tx)
		switch {
		case err != nil:
			return err
		case !condition.MetBy(after.Version):
			return stale()
		case after.State != Requested && after.State != Approved:
			return elsewhere(after.State)
		case after.Recipient != nil && *after.Recipient == recipient:
			return nil
		}
		if after, err = setRecipient(tx, after.ID, recipient); err != nil {
			return err
		}
		return audit.AppendTx(tx, act(caller, audit.OffboardingRecipientSet, after))
	})
	return after, err
}

func act(caller principal.Principal, action audit.Action, on Offboarding) audit.Act {
	return audit.Act{Caller: caller, Action: action, Target: audit.OnCustomer(on.Customer), Details: map[string]any{"offboarding_id": on.ID}}
}

// Renew has the bundle made anew. Faults: ResourceNotFound, OffboardingState.
func (s *Service) Renew(ctx context.Context, caller principal.Principal, once *idempotency.Once[Offboarding]) (after Offboarding, err error) {
	err = s.db.InCustomer(ctx, caller.Customer, func(tx *postgres.Tx) error {
		after, err = once.Do(tx, func() (Offboarding, id.User, error) {
			after, err := lockNewest(tx)
			switch {
			case err != nil:
				return Offboarding{}, id.User{}, err
			case after.State != Approved:
				return Offboarding{}, id.User{}, elsewhere(after.State)
			case after.BundleWantedAt != nil:
				return after, id.User{}, nil
			}
			if after, err = wantBundle(tx, after.ID); err != nil {
				return Offboarding{}, id.User{}, err
			}
			return after, id.User{}, audit.AppendTx(tx, act(caller, audit.OffboardingBundleRenewed, after))
		})
		return err
	})
	return after, err
}

// Collect hands the bundle over. A caller who only looks hears whether it is there. Whoever gets the content closes it. Faults: ResourceNotFound, OffboardingState, BundleNotReady.
func (s *Service) Collect(ctx context.Context, caller principal.Principal, look bool) (Collected, error) {
	var before id.Bundle
	for {
		found, sealed, err := s.claim(ctx, caller, look)
		if err != nil {
			return Collected{}, err
		}
		collected := Collected{Bundle: *found.Bundle, Offboarding: found.ID}
		if look {
			return collected, nil
		}
		collected.Content, err = s.open(ctx, found, sealed)
		switch {
		case !errors.Is(err, blob.ErrNotFound):
			return collected, err
		case before != found.Bundle.ID: // a newer one may just have come in its place
			before = found.Bundle.ID
			continue
		}
		// The database is older than the store, or the store lost it.
		err = s.db.InCustomer(ctx, caller.Customer, func(tx *postgres.Tx) error {
			_, err := wantBundle(tx, found.ID)
			return err
		})
		if err == nil {
			err = notReady()
		}
		return Collected{}, err
	}
}

func notReady() error { return fault.New(fault.BundleNotReady, "The bundle is being made.") }

// claim notes that the bundle is handed over, and tells how to open it.
func (s *Service) claim(ctx context.Context, caller principal.Principal, look bool) (found Offboarding, sealed []byte, err error) {
	err = s.db.InCustomer(ctx, caller.Customer, func(tx *postgres.Tx) error {
		found, err = lockNewest(tx)
		switch {
		case err != nil:
			return err
		case found.State != Approved:
			return elsewhere(found.State)
		case found.Bundle == nil:
			return notReady()
		case look:
			return nil
		}
		if sealed, err = collect(tx, found.ID); err != nil {
			return err
		}
		return audit.AppendTx(tx, act(caller, audit.OffboardingBundleCollected, found))
	})
	return found, sealed, err
}

// countBundle counts the bundle of a customer whose offboarding waits: every person is in it.
func countBundle(tx *postgres.Tx, _ id.User) (int64, error) {
	count, _, err := countBundles(tx)
	return count, err
}

// remakeBundle has another bundle made, without these people. A bundle that is being made is abandoned;
// the key that it takes to read it lies in a dead row until the table is vacuumed.
func remakeBundle(tx *postgres.Tx, people []id.User) (map[id.User]int64, error) {
	count, waits, err := countBundles(tx)
	if err != nil || !waits {
		return nil, err
	}
	removed := make(map[id.User]int64, len(people))
	for _, person := range people {
		removed[person] = count
	}
	return removed, outdateBundles(tx)
}
