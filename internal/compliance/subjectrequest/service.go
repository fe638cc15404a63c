package subjectrequest

import (
	"context"
	"errors"

	"github.com/fusionspim/steward/internal/account/customer"
	"github.com/fusionspim/steward/internal/account/user"
	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/base/version"
	"github.com/fusionspim/steward/internal/infra/idempotency"
	"github.com/fusionspim/steward/internal/infra/jobs"
	"github.com/fusionspim/steward/internal/infra/mailjob"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/infra/seal"
	"github.com/fusionspim/steward/internal/record/audit"
	"github.com/fusionspim/steward/internal/record/ledger"
)

// sealLabel is what bundles without a recipient are sealed under.
const sealLabel = "request bundle"

// Service is data-subject requests as callers use them. Safe for concurrent use.
type Service struct {
	db        *postgres.DB
	customers *customer.Service
	users     *user.Service
	box       *seal.Box
	ledger    *ledger.Ledger
	queue     *jobs.Queue
	mailing   mailjob.Mailing
	stores    []postgres.Store
}

// NewService makes the service. The stores are all that there are: bundles show what their declarations say.
func NewService(db *postgres.DB, customers *customer.Service, users *user.Service, box *seal.Box, book *ledger.Ledger, queue *jobs.Queue, mailing mailjob.Mailing,
	stores []postgres.Store,
) *Service {
	return &Service{db: db, customers: customers, users: users, box: box, ledger: book, queue: queue, mailing: mailing, stores: stores}
}

// note records that a request is in another state now, or was filed again.
func note(tx *postgres.Tx, caller principal.Principal, of Request, changed ...string) error {
	details := map[string]any{"state": of.State, "kind": of.Kind}
	if of.Reason != nil {
		details["reason"] = *of.Reason
	}
	return audit.AppendTx(tx, audit.Act{Caller: caller, Action: audit.DataRequestUpdated, Target: audit.OnDataRequest(of.ID), Changed: changed, Details: details})
}

// File files a request of a person, of which operators are told by mail, or joins it to the open one of the same person and kind: what it says besides is taken over, and the term stays that of the first.
// Faults: ResourceNotFound and UserRedacted for the person, MalformedRequest, InvalidRecipient, InvalidName, InvalidEmail.
func (s *Service) File(ctx context.Context, caller principal.Principal, in New, once *idempotency.Once[Filed]) (filed Filed, err error) {
	if in, err = in.clean(); err != nil {
		return Filed{}, err
	}
	err = s.db.InCustomer(ctx, caller.Customer, func(tx *postgres.Tx) error {
		filed, err = once.Do(tx, func() (Filed, id.User, error) {
			filed, err := file(tx, caller, in)
			if err == nil && !filed.Joined {
				err = s.announceTx(tx, filed.Request)
			}
			return filed, in.UserID, err
		})
		return err
	})
	return filed, err
}

func file(tx *postgres.Tx, caller principal.Principal, in New) (Filed, error) {
	// The person's lock is also that of the person's requests: of two at once, the second sees what the first filed.
	if err := user.HoldLivingTx(tx, in.UserID); err != nil {
		return Filed{}, err
	}
	open, there, err := lockOpen(tx, in.UserID, in.Kind)
	switch {
	case err != nil:
		return Filed{}, err
	case !there:
		made, err := insert(tx, in)
		if err != nil {
			return Filed{}, err
		}
		return Filed{Request: made}, note(tx, caller, made, "state")
	}
	var changed []string
	if !in.Corrections.empty() {
		changed = append(changed, "corrections")
	}
	if in.Recipient != nil {
		changed = append(changed, "recipient")
	}
	if len(changed) == 0 {
		return Filed{Request: open, Joined: true}, nil
	}
	if open, err = join(tx, open, in); err != nil {
		return Filed{}, err
	}
	return Filed{Request: open, Joined: true}, note(tx, caller, open, changed...)
}

// List returns the requests of the caller's customer, newest first: at most limit of those made before the one named, or from the newest on.
func (s *Service) List(ctx context.Context, caller principal.Principal, filter Filter, before id.DataRequest, limit int) (found []Request, err error) {
	err = s.db.InCustomerAutocommit(ctx, caller.Customer, func(tx *postgres.Tx) error {
		found, err = list(tx, filter, before, limit)
		return err
	})
	return found, err
}

// Get returns a request of the caller's customer. Fault: ResourceNotFound.
func (s *Service) Get(ctx context.Context, caller principal.Principal, request id.DataRequest) (found Request, err error) {
	err = s.db.InCustomerAutocommit(ctx, caller.Customer, func(tx *postgres.Tx) error {
		found, err = get(tx, request)
		return err
	})
	return found, err
}

// Withdraw takes an open request back. Once more changes nothing. Faults: ResourceNotFound, PreconditionFailed, RequestClosed.
func (s *Service) Withdraw(ctx context.Context, caller principal.Principal, request id.DataRequest, condition version.Condition, once *idempotency.Once[Request]) (after Request, err error) {
	err = s.db.InCustomer(ctx, caller.Customer, func(tx *postgres.Tx) error {
		after, err = once.Do(tx, func() (Request, id.User, error) {
			after, err := withdraw(tx, caller, request, condition)
			return after, subject(after), err
		})
		return err
	})
	return after, err
}

// subject is the person whom an answer about a request tells of, if it still knows.
func subject(of Request) id.User {
	if of.UserID == nil {
		return id.User{}
	}
	return *of.UserID
}

func withdraw(tx *postgres.Tx, caller principal.Principal, request id.DataRequest, condition version.Condition) (Request, error) {
	found, err := lock(tx, request)
	switch {
	case err != nil:
		return Request{}, err
	case found.State == Withdrawn:
		return found, nil
	case !condition.MetBy(found.Version):
		return Request{}, stale()
	case !found.State.open():
		return Request{}, closed()
	}
	if found, err = finish(tx, request, Withdrawn, nil); err != nil {
		return Request{}, err
	}
	return found, note(tx, caller, found, "state")
}

// Collect hands a bundle over. One without a recipient is handed over once. A caller who only looks gets the same and leaves it as it is.
// Faults: ResourceNotFound for a request of which no bundle comes, BundleNotReady, BundleGone.
func (s *Service) Collect(ctx context.Context, caller principal.Principal, request id.DataRequest, look bool) (collected Collected, err error) {
	err = s.db.InCustomer(ctx, caller.Customer, func(tx *postgres.Tx) error {
		collected, err = s.collect(tx, caller, request, look)
		return err
	})
	return collected, err
}

func (s *Service) collect(tx *postgres.Tx, caller principal.Principal, request id.DataRequest, look bool) (Collected, error) {
	found, err := lock(tx, request)
	switch {
	case err != nil:
		return Collected{}, err
	case !found.Kind.makesBundle():
		return Collected{}, fault.New(fault.ResourceNotFound, "No bundle comes of a request of this kind.")
	case found.State != Fulfilled:
		return Collected{}, fault.New(fault.BundleNotReady, "The request is not fulfilled.")
	}
	content, there, err := bundleOf(tx, request)
	if err != nil {
		return Collected{}, err
	}
	if !there {
		return Collected{}, fault.New(fault.BundleGone, "The bundle was collected, is past its time, or went with its person.")
	}
	collected := Collected{Content: content, Encrypted: found.Recipient != nil}
	if !collected.Encrypted {
		if collected.Content, err = s.box.Open(sealLabel, content, request.UUID[:]); err != nil {
			return Collected{}, err
		}
	}
	if look {
		return collected, nil
	}
	if !collected.Encrypted {
		if _, err := dropBundle(tx, request); err != nil {
			return Collected{}, err
		}
		// A database that is restored has the bundle again, and must not hand it over a second time.
		if err := s.ledger.AppendTx(tx, ledger.Entry{Kind: ledger.BundleCollected, Subject: request.UUID}); err != nil {
			return Collected{}, err
		}
	}
	if err := markCollected(tx, request); err != nil {
		return Collected{}, err
	}
	return collected, audit.AppendTx(tx, audit.Act{Caller: caller, Action: audit.DataRequestCollected, Target: audit.OnDataRequest(request)})
}

// ReplayTx takes a bundle away once more that the ledger says was handed over. One that is made after the restore is another order's.
func ReplayTx(tx *postgres.Tx, entry ledger.Entry) (ledger.Outcome, error) {
	_, err := lock(tx, entry.DataRequest())
	if fault.Is(err, fault.ResourceNotFound) {
		return ledger.Absent, nil
	} else if err != nil {
		return "", err
	}
	dropped, err := dropBundle(tx, entry.DataRequest())
	if err != nil || !dropped {
		return ledger.AlreadyDone, err
	}
	if err := markCollected(tx, entry.DataRequest()); err != nil {
		return "", err
	}
	return ledger.Done, audit.AppendTx(tx, audit.Act{Action: audit.DataRequestCollected, Target: audit.OnDataRequest(entry.DataRequest()), Details: entry.Details()})
}

// ListAll returns the requests of all customers without whom they are about, newest first: at most limit of those made before the one named, or from the newest on.
func (s *Service) ListAll(ctx context.Context, filter Filter, before id.DataRequest, limit int) (found []Request, err error) {
	filter.UserID = nil
	err = s.db.InPlatform(ctx, func(tx *postgres.Tx) error {
		found, err = listAll(tx, filter, before, limit)
		return err
	})
	return found, err
}

// Look shows an operator a request, and while it is open the person and what is to be corrected. The look is in the customer's trail. Fault: ResourceNotFound.
func (s *Service) Look(ctx context.Context, caller principal.Principal, request id.DataRequest) (found Request, person *Person, err error) {
	err = s.inCustomerOf(ctx, request, func(tx *postgres.Tx) error {
		if found, err = get(tx, request); err != nil {
			return err
		}
		person = nil
		if found.State.open() {
			known, there, err := user.CredentialsTx(tx, *found.UserID)
			if err != nil {
				return err
			}
			if there {
				person = &Person{known.FirstName, known.LastName, known.Email}
			}
		}
		return audit.AppendTx(tx, audit.Act{Caller: caller, Action: audit.DataRequestViewed, Target: audit.OnDataRequest(request)})
	})
	return found, person, err
}

// inCustomerOf opens the door of the customer whose request it is.
func (s *Service) inCustomerOf(ctx context.Context, request id.DataRequest, work func(tx *postgres.Tx) error) error {
	var of id.Customer
	err := s.db.InPlatform(ctx, func(tx *postgres.Tx) (err error) {
		of, err = customerOf(tx, request)
		return err
	})
	if err != nil {
		return err
	}
	return s.db.InCustomer(ctx, of, work)
}

// act lets an operator act on a request that is open and as it was seen.
func (s *Service) act(ctx context.Context, request id.DataRequest, condition version.Condition, once *idempotency.Once[Request],
	do func(tx *postgres.Tx, found Request) (Request, error),
) (after Request, err error) {
	err = s.inCustomerOf(ctx, request, func(tx *postgres.Tx) error {
		after, err = once.Do(tx, func() (Request, id.User, error) {
			seen, err := get(tx, request)
			if err != nil {
				return Request{}, id.User{}, err
			}
			// The order of locks is that of an erasure: customer, user, request. A bundle takes a while to put together, and needs none of the customer's.
			if seen.State.open() && seen.Kind.changesAccount() {
				if err := customer.LockTx(tx); err != nil {
					return Request{}, id.User{}, err
				}
			}
			if seen.State.open() {
				if err := user.HoldLivingTx(tx, *seen.UserID); err != nil && !fault.Is(err, fault.ResourceNotFound) && !fault.Is(err, fault.UserRedacted) {
					return Request{}, id.User{}, err // who was erased a moment ago has taken the request along
				}
			}
			found, err := lock(tx, request)
			switch {
			case err != nil:
			case !condition.MetBy(found.Version):
				err = stale()
			case !found.State.open():
				err = closed()
			default:
				found, err = do(tx, found)
			}
			return found, id.User{}, err // what operators are answered tells nothing of the person
		})
		return err
	})
	return after, err
}

// Acknowledge tells the customer that an operator has taken a request on. Once more changes nothing. Faults: ResourceNotFound, PreconditionFailed, RequestClosed.
func (s *Service) Acknowledge(ctx context.Context, caller principal.Principal, request id.DataRequest, condition version.Condition, once *idempotency.Once[Request]) (Request, error) {
	return s.act(ctx, request, condition, once, func(tx *postgres.Tx, found Request) (Request, error) {
		if found.State == Acknowledged {
			return found, nil
		}
		after, err := acknowledge(tx, request)
		if err != nil {
			return Request{}, err
		}
		return after, note(tx, caller, after, "state")
	})
}

// Reject ends a request without doing what it asks. Faults: those of Acknowledge.
func (s *Service) Reject(ctx context.Context, caller principal.Principal, request id.DataRequest, reason Reason, condition version.Condition, once *idempotency.Once[Request]) (Request, error) {
	return s.act(ctx, request, condition, once, func(tx *postgres.Tx, _ Request) (Request, error) {
		after, err := finish(tx, request, Rejected, &reason)
		if err != nil {
			return Request{}, err
		}
		return after, note(tx, caller, after, "state")
	})
}

// Fulfil does what a request asks, and closes it, in one transaction. Faults: those of Acknowledge, those of the operation on the user that it stands for, BundleTooLarge.
func (s *Service) Fulfil(ctx context.Context, caller principal.Principal, request id.DataRequest, condition version.Condition, once *idempotency.Once[Request]) (Request, error) {
	return s.act(ctx, request, condition, once, func(tx *postgres.Tx, found Request) (Request, error) {
		// First closed, then done: an erasure closes what is open of its person.
		after, err := finish(tx, request, Fulfilled, nil)
		if err != nil {
			return Request{}, err
		}
		if after, err = s.carryOut(tx, caller, found, after); err != nil {
			return Request{}, err
		}
		return after, note(tx, caller, after, "state")
	})
}

// carryOut does what a request asks. It gets the request as it was before it was closed, and after.
func (s *Service) carryOut(tx *postgres.Tx, caller principal.Principal, open, after Request) (Request, error) {
	person := *open.UserID
	switch open.Kind {
	case Access, Portability:
		content, err := s.bundle(tx, open, person)
		if err != nil {
			return Request{}, err
		}
		return putBundle(tx, open, person, content)
	case Erasure:
		receipt, err := s.users.EraseTx(tx, caller, person)
		if err != nil {
			return Request{}, err
		}
		return setReceipt(tx, open.ID, receipt.ID)
	case Rectification:
		patch := user.Patch{FirstName: open.Corrections.FirstName, LastName: open.Corrections.LastName, Email: open.Corrections.Email}
		_, err := s.users.UpdateTx(tx, caller, person, patch)
		return after, atCorrections(err)
	case Restriction:
		disabled := user.Disabled
		_, err := s.users.UpdateTx(tx, caller, person, user.Patch{Status: &disabled})
		return after, err
	case Objection:
		_, err := s.users.SetAlertsTx(tx, caller, person, false)
		return after, err
	}
	return after, nil
}

// bundle makes what is kept of a bundle: encrypted to the recipient, or sealed.
func (s *Service) bundle(tx *postgres.Tx, of Request, person id.User) ([]byte, error) {
	content, err := s.assemble(tx, of, person)
	if err != nil {
		return nil, err
	}
	if of.Recipient != nil {
		return encryptTo(*of.Recipient, content)
	}
	return s.box.Seal(sealLabel, content, of.ID.UUID[:]), nil
}

// atCorrections takes away where a fault points to: the operator's request has no such member.
func atCorrections(err error) error {
	var f *fault.Fault
	if errors.As(err, &f) {
		f.Members = nil
	}
	return err
}

// closeRequests ends every open request of the people: nobody is left whom it could be about. A request to
// erase that is being fulfilled is closed already.
func closeRequests(tx *postgres.Tx, people []id.User) (map[id.User]int64, error) {
	ended, err := closeOf(tx, people)
	if err != nil {
		return nil, err
	}
	removed := make(map[id.User]int64)
	for _, one := range ended {
		if err := note(tx, principal.Principal{Customer: tx.Customer}, one, "state"); err != nil {
			return nil, err
		}
		removed[*one.UserID]++
	}
	return removed, nil
}
