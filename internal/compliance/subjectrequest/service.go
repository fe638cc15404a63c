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

// sealLabel binds sealed bundles to their use: those without a recipient.
const sealLabel = "request bundle"

// Service implements the use cases of data-subject requests. Safe for concurrent use.
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

// NewService returns the service. The stores are those of the whole service: bundles contain what
// their declarations say.
func NewService(
	db *postgres.DB, customers *customer.Service, users *user.Service, box *seal.Box, ledger *ledger.Ledger,
	queue *jobs.Queue, mailing mailjob.Mailing, stores []postgres.Store,
) *Service {
	return &Service{
		db: db, customers: customers, users: users, box: box, ledger: ledger, queue: queue, mailing: mailing,
		stores: stores,
	}
}

// recordUpdate records in the trail that a request changed its state, or was filed again.
func recordUpdate(tx *postgres.Tx, caller principal.Principal, of Request, changed ...string) error {
	details := map[string]any{"state": of.State, "kind": of.Kind}
	if of.Reason != nil {
		details["reason"] = *of.Reason
	}
	return audit.AppendTx(tx, audit.Act{
		Caller: caller, Action: audit.DataRequestUpdated, Target: audit.OnDataRequest(of.ID), Changed: changed,
		Details: details,
	})
}

// File files a request of a person and notifies operators by mail, or joins it to the open one of
// the same person and kind: what it asks for besides is added, and the due time stays that of the
// first.
//
// Faults: ResourceNotFound and UserRedacted for the person, MalformedRequest, InvalidRecipient,
// InvalidName, InvalidEmail.
func (s *Service) File(
	ctx context.Context, caller principal.Principal, in New, once *idempotency.Once[Filed],
) (Filed, error) {
	in, err := in.clean()
	if err != nil {
		return Filed{}, err
	}
	return idempotency.WriteAbout(ctx, s.db, caller.Customer, once, func(tx *postgres.Tx) (Filed, id.User, error) {
		filed, err := file(tx, caller, in)
		if err == nil && !filed.Joined {
			err = s.announceTx(tx, filed.Request)
		}
		return filed, in.UserID, err
	})
}

func file(tx *postgres.Tx, caller principal.Principal, in New) (Filed, error) {
	// The lock on the person also serialises the person's requests: of two at once, the second sees
	// what the first filed.
	if err := user.HoldLivingTx(tx, in.UserID); err != nil {
		return Filed{}, err
	}
	open, exists, err := lockOpen(tx, in.UserID, in.Kind)
	switch {
	case err != nil:
		return Filed{}, err
	case !exists:
		created, err := insert(tx, in)
		if err != nil {
			return Filed{}, err
		}
		return Filed{Request: created}, recordUpdate(tx, caller, created, "state")
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
	if open, err = merge(tx, open, in); err != nil {
		return Filed{}, err
	}
	return Filed{Request: open, Joined: true}, recordUpdate(tx, caller, open, changed...)
}

// List returns the requests of the caller's customer, newest first: at most limit of those older
// than before, or of all where before is zero.
func (s *Service) List(
	ctx context.Context, caller principal.Principal, filter Filter, before id.DataRequest, limit int,
) ([]Request, error) {
	return postgres.Read(ctx, s.db, caller.Customer, func(tx *postgres.Tx) ([]Request, error) {
		return list(tx, filter, before, limit)
	})
}

// Get returns a request of the caller's customer. Fault: ResourceNotFound.
func (s *Service) Get(ctx context.Context, caller principal.Principal, request id.DataRequest) (Request, error) {
	return postgres.Read(ctx, s.db, caller.Customer, func(tx *postgres.Tx) (Request, error) { return get(tx, request) })
}

// Withdraw withdraws an open request. Withdrawing it again changes nothing. Faults:
// ResourceNotFound, PreconditionFailed, RequestClosed.
func (s *Service) Withdraw(
	ctx context.Context, caller principal.Principal, request id.DataRequest, condition version.Condition,
	once *idempotency.Once[Request],
) (Request, error) {
	return idempotency.WriteAbout(ctx, s.db, caller.Customer, once, func(tx *postgres.Tx) (Request, id.User, error) {
		after, err := withdraw(tx, caller, request, condition)
		return after, subject(after), err
	})
}

// subject returns the person that an answer about a request is about, or zero once the request was
// anonymised.
func subject(of Request) id.User {
	if of.UserID == nil {
		return id.User{}
	}
	return *of.UserID
}

func withdraw(
	tx *postgres.Tx,
	caller principal.Principal,
	request id.DataRequest,
	condition version.Condition,
) (Request, error) {
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
	if found, err = closeRequest(tx, request, Withdrawn, nil); err != nil {
		return Request{}, err
	}
	return found, recordUpdate(tx, caller, found, "state")
}

// Collect returns a bundle. One without a recipient can be collected once, and is deleted then.
// With peek, the answer is the same and nothing changes.
//
// Faults: ResourceNotFound for a request of a kind that has no bundle, BundleNotReady, BundleGone.
func (s *Service) Collect(
	ctx context.Context, caller principal.Principal, request id.DataRequest, peek bool,
) (Collected, error) {
	return postgres.Write(ctx, s.db, caller.Customer, func(tx *postgres.Tx) (Collected, error) {
		return s.collect(tx, caller, request, peek)
	})
}

func (s *Service) collect(
	tx *postgres.Tx, caller principal.Principal, request id.DataRequest, peek bool,
) (Collected, error) {
	found, err := lock(tx, request)
	switch {
	case err != nil:
		return Collected{}, err
	case !found.Kind.makesBundle():
		return Collected{}, fault.New(fault.ResourceNotFound, "No bundle comes of a request of this kind.")
	case found.State != Fulfilled:
		return Collected{}, fault.New(fault.BundleNotReady, "The request is not fulfilled.")
	}
	content, exists, err := bundleOf(tx, request)
	if err != nil {
		return Collected{}, err
	}
	if !exists {
		return Collected{}, fault.New(
			fault.BundleGone,
			"The bundle was collected, is past its time, or went with its person.",
		)
	}
	collected := Collected{Content: content, Encrypted: found.Recipient != nil}
	if !collected.Encrypted {
		if collected.Content, err = s.box.Open(sealLabel, content, request.UUID[:]); err != nil {
			return Collected{}, err
		}
	}
	if peek {
		return collected, nil
	}
	if !collected.Encrypted {
		if _, err := deleteBundle(tx, request); err != nil {
			return Collected{}, err
		}
		// A restored database contains the bundle again, and must not return it a second time.
		if err := s.ledger.AppendTx(tx, ledger.Entry{Kind: ledger.BundleCollected, Subject: request.UUID}); err != nil {
			return Collected{}, err
		}
	}
	if err := markCollected(tx, request); err != nil {
		return Collected{}, err
	}
	return collected, audit.AppendTx(tx, audit.Act{
		Caller: caller, Action: audit.DataRequestCollected, Target: audit.OnDataRequest(request),
	})
}

// ReplayTx deletes a bundle again that was collected according to the ledger.
func ReplayTx(tx *postgres.Tx, entry ledger.Entry) (ledger.Outcome, error) {
	_, err := lock(tx, entry.DataRequest())
	if fault.Is(err, fault.ResourceNotFound) {
		return ledger.Absent, nil
	} else if err != nil {
		return "", err
	}
	deleted, err := deleteBundle(tx, entry.DataRequest())
	if err != nil || !deleted {
		return ledger.AlreadyDone, err
	}
	if err := markCollected(tx, entry.DataRequest()); err != nil {
		return "", err
	}
	return ledger.Done, audit.AppendTx(tx, audit.Act{
		Action: audit.DataRequestCollected, Target: audit.OnDataRequest(entry.DataRequest()), Details: entry.Details(),
	})
}

// ListAll returns the requests of all customers without the persons that they are about, newest
// first: at most limit of those older than before, or of all where before is zero.
func (s *Service) ListAll(ctx context.Context, filter Filter, before id.DataRequest, limit int) ([]Request, error) {
	filter.UserID = nil
	return postgres.Platform(ctx, s.db, func(tx *postgres.Tx) ([]Request, error) {
		return listAll(tx, filter, before, limit)
	})
}

// View returns a request to an operator, and while it is open also the person and what is to be
// corrected. The view is recorded in the customer's trail. Fault: ResourceNotFound.
func (s *Service) View(
	ctx context.Context, caller principal.Principal, request id.DataRequest,
) (found Request, person *Person, err error) {
	err = s.inCustomerOf(ctx, request, func(tx *postgres.Tx) error {
		if found, err = get(tx, request); err != nil {
			return err
		}
		person = nil
		if found.State.open() {
			account, exists, err := user.CredentialsTx(tx, *found.UserID)
			if err != nil {
				return err
			}
			if exists {
				person = &Person{account.FirstName, account.LastName, account.Email}
			}
		}
		return audit.AppendTx(tx, audit.Act{
			Caller: caller, Action: audit.DataRequestViewed, Target: audit.OnDataRequest(request),
		})
	})
	return found, person, err
}

// inCustomerOf runs work in a transaction of the customer whose request it is.
func (s *Service) inCustomerOf(ctx context.Context, request id.DataRequest, work func(tx *postgres.Tx) error) error {
	of, err := postgres.Platform(ctx, s.db, func(tx *postgres.Tx) (id.Customer, error) {
		return customerOf(tx, request)
	})
	if err != nil {
		return err
	}
	return s.db.InCustomer(ctx, of, work)
}

// act runs an operator's act on a request that is open and has the version that the operator saw.
func (s *Service) act(
	ctx context.Context, request id.DataRequest, condition version.Condition, once *idempotency.Once[Request],
	do func(tx *postgres.Tx, found Request) (Request, error),
) (after Request, err error) {
	err = s.inCustomerOf(ctx, request, func(tx *postgres.Tx) error {
		after, err = once.Do(tx, func() (Request, id.User, error) {
			found, err := lockForAct(tx, request)
			switch {
			case err != nil:
			case !condition.MetBy(found.Version):
				err = stale()
			case !found.State.open():
				err = closed()
			default:
				found, err = do(tx, found)
			}
			// the answer to an operator contains nothing about the person
			return found, id.User{}, err
		})
		return err
	})
	return after, err
}

// lockForAct locks what an act on a request changes, and the request. The order of locks is that of
// an erasure: customer, user, request. Assembling a bundle takes a while, and does without the lock
// of the customer.
func lockForAct(tx *postgres.Tx, request id.DataRequest) (Request, error) {
	seen, err := get(tx, request)
	if err != nil {
		return Request{}, err
	}
	if seen.State.open() && seen.Kind.changesAccount() {
		if err := customer.LockTx(tx); err != nil {
			return Request{}, err
		}
	}
	if seen.State.open() {
		err := user.HoldLivingTx(tx, *seen.UserID)
		// An erasure a moment ago has also closed the request.
		if err != nil && !fault.Is(err, fault.ResourceNotFound) && !fault.Is(err, fault.UserRedacted) {
			return Request{}, err
		}
	}
	return lock(tx, request)
}

// Acknowledge records that an operator has begun to work on a request. Acknowledging it again
// changes nothing. Faults: ResourceNotFound, PreconditionFailed, RequestClosed.
func (s *Service) Acknowledge(
	ctx context.Context, caller principal.Principal, request id.DataRequest, condition version.Condition,
	once *idempotency.Once[Request],
) (Request, error) {
	return s.act(ctx, request, condition, once, func(tx *postgres.Tx, found Request) (Request, error) {
		if found.State == Acknowledged {
			return found, nil
		}
		after, err := acknowledge(tx, request)
		if err != nil {
			return Request{}, err
		}
		return after, recordUpdate(tx, caller, after, "state")
	})
}

// Reject closes a request without doing what it asks for. Faults: those of Acknowledge.
func (s *Service) Reject(
	ctx context.Context, caller principal.Principal, request id.DataRequest, reason Reason,
	condition version.Condition, once *idempotency.Once[Request],
) (Request, error) {
	return s.act(ctx, request, condition, once, func(tx *postgres.Tx, _ Request) (Request, error) {
		after, err := closeRequest(tx, request, Rejected, &reason)
		if err != nil {
			return Request{}, err
		}
		return after, recordUpdate(tx, caller, after, "state")
	})
}

// Fulfil does what a request asks for, and closes it, in one transaction. Faults: those of
// Acknowledge, those of the operation on the user that it stands for, BundleTooLarge.
func (s *Service) Fulfil(
	ctx context.Context, caller principal.Principal, request id.DataRequest, condition version.Condition,
	once *idempotency.Once[Request],
) (Request, error) {
	return s.act(ctx, request, condition, once, func(tx *postgres.Tx, found Request) (Request, error) {
		// Close it first: an erasure withdraws the open requests of its person.
		after, err := closeRequest(tx, request, Fulfilled, nil)
		if err != nil {
			return Request{}, err
		}
		if after, err = s.execute(tx, caller, found, after); err != nil {
			return Request{}, err
		}
		return after, recordUpdate(tx, caller, after, "state")
	})
}

// execute does what a request asks for. Its arguments are the request before and after it was
// closed.
func (s *Service) execute(tx *postgres.Tx, caller principal.Principal, open, after Request) (Request, error) {
	person := *open.UserID
	switch open.Kind {
	case Access, Portability:
		content, err := s.bundle(tx, open, person)
		if err != nil {
			return Request{}, err
		}
		return insertBundle(tx, open, person, content)
	case Erasure:
		receipt, err := s.users.EraseTx(tx, caller, person)
		if err != nil {
			return Request{}, err
		}
		return setReceipt(tx, open.ID, receipt.ID)
	case Rectification:
		_, err := s.users.UpdateTx(tx, caller, person, user.Patch{
			FirstName: open.Corrections.FirstName, LastName: open.Corrections.LastName, Email: open.Corrections.Email,
		})
		return after, withoutMembers(err)
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

// bundle returns a bundle as it is stored: encrypted to the recipient, or sealed.
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

// withoutMembers removes the members that a fault points to: the operator's request has none of
// them.
func withoutMembers(err error) error {
	var f *fault.Fault
	if errors.As(err, &f) {
		f.Members = nil
	}
	return err
}

// withdrawOfErased withdraws every open request of people who are being erased. The request for the
// erasure itself is closed by then.
func withdrawOfErased(tx *postgres.Tx, people []id.User) (map[id.User]int64, error) {
	withdrawn, err := withdrawAllOf(tx, people)
	if err != nil {
		return nil, err
	}
	counts := make(map[id.User]int64)
	for _, request := range withdrawn {
		if err := recordUpdate(tx, principal.Principal{Customer: tx.Customer}, request, "state"); err != nil {
			return nil, err
		}
		counts[*request.UserID]++
	}
	return counts, nil
}
