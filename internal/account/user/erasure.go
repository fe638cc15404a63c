package user

import (
	"context"
	"crypto/rand"
	"errors"

	"github.com/fusionspim/steward/internal/account/customer"
	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/inventory"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/base/version"
	"github.com/fusionspim/steward/internal/infra/idempotency"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/record/audit"
	"github.com/fusionspim/steward/internal/record/ledger"
	"github.com/fusionspim/steward/internal/record/receipt"
)

// The tables that an erasure does more to than their declarations say.
const (
	accounts = "users"                // by redactRows and remove, at the end: others point at them
	trail    = "audit_entries"        // what stays of a person who is redacted
	marks    = "suppressed_addresses" // added to
)

// labelLength is how many characters a label has at first; where it is taken, the next try has one more.
const labelLength = 4

// labelAll gives a label that no one else has to each person who is redacted. A label that a receipt has,
// from the ledger, stays if it is free. The caller holds the lock of the customer, under which every
// redaction runs, so what is free here stays so.
func labelAll(tx *postgres.Tx, redacted []erasure) error {
	given := make(map[string]bool, len(redacted))
	for length := labelLength; len(redacted) > 0; length++ {
		labels := make([]string, len(redacted))
		for i, e := range redacted {
			if e.receipt.Label == nil {
				label := newLabel(length)
				e.receipt.Label = &label
			}
			labels[i] = *e.receipt.Label
		}
		taken, err := takenLabels(tx, labels)
		if err != nil {
			return err
		}
		redacted = stillUnlabelled(redacted, taken, given)
	}
	return nil
}

// stillUnlabelled adds the labels that are free to those given, takes the others away again, and returns
// whose they were.
func stillUnlabelled(redacted []erasure, taken, given map[string]bool) (left []erasure) {
	for _, e := range redacted {
		if label := *e.receipt.Label; !taken[label] && !given[label] {
			given[label] = true
			continue
		}
		e.receipt.Label = nil
		left = append(left, e)
	}
	return left
}

// Plan tells what erasing a user would do, and changes nothing. Faults: ResourceNotFound, UserRedacted.
func (s *Service) Plan(ctx context.Context, caller principal.Principal, user id.User) (plan Plan, err error) {
	err = s.db.InCustomer(ctx, caller.Customer, func(tx *postgres.Tx) error {
		found, err := get(tx, user)
		switch {
		case err != nil:
			return err
		case found.Status == Redacted:
			return redacted(found.ReceiptID)
		}
		if administers(found) {
			if plan.LastAdministrator, err = isLastAdministrator(tx, found); err != nil {
				return err
			}
		}
		if plan.Blocking, err = audit.ReferencesTx(tx, user); err != nil {
			return err
		}
		plan.CanRedact = !plan.LastAdministrator
		plan.CanDelete = plan.CanRedact && len(plan.Blocking) == 0
		plan.Keeps = s.keptOf(plan.Blocking)
		if _, err := ParseAddress(*found.Email, "/email"); err == nil {
			plan.Keeps = append(plan.Keeps, s.kept(marks, 1))
		}
		plan.Removes = []receipt.Removed{s.account()}
		for _, store := range s.erased {
			count, err := countOf(tx, store, user)
			if err != nil {
				return err
			}
			plan.Removes = append(plan.Removes, receipt.Removed{Store: store.ErasedAs(), Count: count})
		}
		plan.BackupsExpireAt, err = s.backups.ExpireBy(tx, tx.Now)
		return err
	})
	return plan, err
}

// Delete removes a person and everything of the account, if no entry of the trail names the person as its actor.
//
// The row is locked against new references before the existing ones are counted, so that the refusal is true; the foreign key of the trail makes
// sure of it a second time. Faults: ResourceNotFound, UserRedacted, PreconditionFailed, LastAdministrator, AuditTrailIncomplete.
func (s *Service) Delete(ctx context.Context, caller principal.Principal, user id.User, condition version.Condition) (issued receipt.Receipt, err error) {
	err = s.db.InCustomer(ctx, caller.Customer, func(tx *postgres.Tx) error {
		issued, err = s.delete(tx, caller, user, condition)
		return err
	})
	return issued, err
}

// erasure is somebody who is locked, and the receipt of what is to be done.
type erasure struct {
	person  User
	receipt *receipt.Receipt
}

// carryOut deletes or redacts people who are locked, as their receipts say, and stores the receipts. The trail names nobody of those who are deleted. However many they
// are, all but the receipts takes the same few round trips.
func (s *Service) carryOut(tx *postgres.Tx, erasures []erasure) error {
	if len(erasures) == 0 {
		return nil
	}
	all := make([]id.User, len(erasures))
	var deleted []id.User
	var redacted []erasure
	for i, one := range erasures {
		all[i] = one.person.ID
		if one.receipt.Kind == receipt.Deletion {
			deleted = append(deleted, one.person.ID)
		} else {
			redacted = append(redacted, one)
		}
	}
	if err := labelAll(tx, redacted); err != nil {
		return err
	}
	if err := s.keep(tx, redacted); err != nil {
		return err
	}
	if err := s.removeElsewhere(tx, all, erasures); err != nil {
		return err
	}
	if err := s.suppress(tx, erasures); err != nil {
		return err
	}
	if err := redactRows(tx, redacted); err != nil {
		return err
	}
	if err := remove(tx, deleted); postgres.Violates(err, "audit_entries_actor_user") {
		return incomplete(deleted[0], nil) // the lock makes it impossible; the net holds nevertheless
	} else if err != nil {
		return err
	}
	for _, one := range erasures {
		if err := s.receipts.Save(tx, one.receipt); err != nil {
			return err
		}
	}
	return nil
}

// keep writes into the receipts of redactions what stays.
func (s *Service) keep(tx *postgres.Tx, redacted []erasure) error {
	if len(redacted) == 0 {
		return nil
	}
	users := make([]id.User, len(redacted))
	for i, one := range redacted {
		users[i] = one.person.ID
	}
	named, err := audit.ReferencesToEachTx(tx, users)
	if err != nil {
		return err
	}
	for _, one := range redacted {
		one.receipt.Kept = s.keptOf(named[one.person.ID])
	}
	return nil
}

func (s *Service) delete(tx *postgres.Tx, caller principal.Principal, user id.User, condition version.Condition) (receipt.Receipt, error) {
	found, err := s.prepare(tx, user, lockForDelete, condition)
	if err != nil {
		return receipt.Receipt{}, err
	}
	references, err := audit.ReferencesTx(tx, user)
	if err != nil {
		return receipt.Receipt{}, err
	}
	if len(references) > 0 {
		return receipt.Receipt{}, incomplete(user, references)
	}
	issued, err := s.newReceipt(tx, caller, receipt.Deletion, user)
	if err != nil {
		return receipt.Receipt{}, err
	}
	if err := s.carryOut(tx, []erasure{{found, &issued}}); err != nil {
		return receipt.Receipt{}, err
	}
	if err := s.ledger.AppendTx(tx, entryOf(issued)); err != nil {
		return receipt.Receipt{}, err
	}
	return issued, audit.AppendTx(tx, audit.Act{Caller: caller, Action: audit.UserDeleted, Target: audit.OnUser(user)})
}

// EraseTx erases a person at the person's own wish, within another's transaction: it deletes if the trail allows it, and redacts otherwise.
// Faults: ResourceNotFound, UserRedacted, LastAdministrator.
func (s *Service) EraseTx(tx *postgres.Tx, caller principal.Principal, user id.User) (receipt.Receipt, error) {
	issued, err := s.delete(tx, caller, user, version.Condition{})
	var refused *fault.Fault
	if !errors.As(err, &refused) || refused.Code != fault.AuditTrailIncomplete || len(refused.References) == 0 {
		return issued, err
	}
	reason := receipt.RequestedByPerson
	return s.redact(tx, caller, user, &reason, version.Condition{})
}

// Redact removes everything personal and leaves the id and a label. Redacting again returns the same
// receipt. Faults: ResourceNotFound, PreconditionFailed, LastAdministrator.
func (s *Service) Redact(
	ctx context.Context, caller principal.Principal, user id.User, reason *receipt.Reason, condition version.Condition,
	once *idempotency.Once[receipt.Receipt],
) (receipt.Receipt, error) {
	if reason != nil && !reason.Known() {
		return receipt.Receipt{}, fault.New(fault.MalformedRequest, "The reason is not one of those known.").
			At("/reason", "must be one of those in the contract")
	}
	issued, err := postgres.Write(ctx, s.db, caller.Customer, func(tx *postgres.Tx) (receipt.Receipt, error) {
		return once.Do(tx, func() (receipt.Receipt, id.User, error) {
			issued, err := s.redact(tx, caller, user, reason, condition)
			return issued, id.User{}, err
		})
	})
	return issued, asKnown(err)
}

func (s *Service) redact(tx *postgres.Tx, caller principal.Principal, user id.User, reason *receipt.Reason, condition version.Condition) (receipt.Receipt, error) {
	found, err := s.prepare(tx, user, lock, condition)
	if fault.Is(err, fault.UserRedacted) {
		return s.receipts.ByID(tx, *found.ReceiptID)
	}
	if err != nil {
		return receipt.Receipt{}, err
	}
	issued, err := s.newReceipt(tx, caller, receipt.Redaction, user)
	if err != nil {
		return receipt.Receipt{}, err
	}
	issued.Reason = reason
	if err := s.carryOut(tx, []erasure{{found, &issued}}); err != nil {
		return receipt.Receipt{}, err
	}
	if err := s.ledger.AppendTx(tx, entryOf(issued)); err != nil {
		return receipt.Receipt{}, err
	}
	return issued, audit.AppendTx(tx, audit.Act{
		Caller: caller, Action: audit.UserRedacted, Target: audit.OnUser(user), Changed: []string{"first_name", "last_name", "email", "status"},
	})
}

// keptOf is what stays of a person because the trail refers to it.
func (s *Service) keptOf(references []fault.Reference) []receipt.Kept {
	if len(references) == 0 {
		return []receipt.Kept{}
	}
	var count int64
	for _, reference := range references {
		count += reference.Count
	}
	return []receipt.Kept{s.kept(trail, count)}
}

// kept is what stays in a table, for the reason with which the table is declared.
func (s *Service) kept(table string, count int64) receipt.Kept {
	store := inventory.Find(s.stores, table)
	return receipt.Kept{Store: store.ErasedAs(), Count: count, Why: store.Erase.Why}
}

// account is the account itself, as a plan or a receipt names it.
func (s *Service) account() receipt.Removed {
	return receipt.Removed{Store: inventory.Find(s.stores, accounts).ErasedAs(), Count: 1}
}

// prepare locks the customer and then the user, always in this order, and refuses what must not be erased. With the fault UserRedacted it
// returns the user as well.
func (s *Service) prepare(tx *postgres.Tx, user id.User, lock func(*postgres.Tx, id.User) (User, error), condition version.Condition) (User, error) {
	if err := customer.LockTx(tx); err != nil {
		return User{}, err
	}
	found, err := lock(tx, user)
	switch {
	case err != nil:
		return User{}, err
	case found.Status == Redacted:
		return found, redacted(found.ReceiptID)
	case !condition.MetBy(found.Version):
		return User{}, stale()
	}
	if administers(found) {
		last, err := isLastAdministrator(tx, found)
		if err != nil {
			return User{}, err
		}
		if last {
			return User{}, lastAdministrator()
		}
	}
	return found, nil
}

// suppress keeps the marks of the addresses of people who are about to be erased, so that an import does not bring them back unnoticed, and notes in their receipts that they
// stay.
func (s *Service) suppress(tx *postgres.Tx, erasures []erasure) error {
	var hashes [][]byte
	for _, one := range erasures {
		if address, err := ParseAddress(*one.person.Email, "/email"); err == nil { // an address that is not taken any more comes in no import either
			one.receipt.Kept = append(one.receipt.Kept, s.kept(marks, 1))
			hashes = append(hashes, s.suppressionHash(tx.Customer, address.Key))
		}
	}
	return insertSuppressed(tx, hashes)
}

// removeElsewhere removes what other stores hold of people, and notes it in their receipts.
func (s *Service) removeElsewhere(tx *postgres.Tx, users []id.User, erasures []erasure) error {
	for _, one := range erasures {
		one.receipt.Removed = []receipt.Removed{s.account()}
	}
	for _, store := range s.erased {
		counts, err := removeFrom(tx, store, users)
		if err != nil {
			return err
		}
		for _, one := range erasures {
			one.receipt.Removed = append(one.receipt.Removed, receipt.Removed{Store: store.ErasedAs(), Count: counts[one.person.ID]})
		}
	}
	return nil
}

func incomplete(user id.User, references []fault.Reference) error {
	f := fault.New(fault.AuditTrailIncomplete, "Entries of the audit trail name this user as their actor. Redact the user instead.")
	f.References, f.Redaction = references, RedactionPath(user)
	return f
}

func (s *Service) newReceipt(tx *postgres.Tx, caller principal.Principal, kind receipt.Kind, user id.User) (issued receipt.Receipt, err error) {
	issued = receipt.Receipt{ID: id.New[id.Receipt](), Kind: kind, UserID: user, Authority: caller.Authority(), CompletedAt: tx.Now, Kept: []receipt.Kept{}, State: receipt.Pending}
	if caller.IsAPIKey() {
		issued.OrderedByAPIKey = &caller.APIKey
	} else if !caller.User.IsZero() {
		issued.OrderedByUser = &caller.User
	}
	issued.BackupsExpireAt, err = s.backups.ExpireBy(tx, tx.Now)
	return issued, err
}

// entryOf is an erasure as the ledger keeps it: everything that the same receipt can be made from again.
func entryOf(r receipt.Receipt) ledger.Entry {
	entry := ledger.Entry{
		Kind: ledger.Deletion, Subject: r.UserID.UUID, Receipt: &r.ID, Authority: r.Authority, OrderedBy: r.OrderedByUser, OrderedByKey: r.OrderedByAPIKey,
	}
	if r.Kind == receipt.Redaction {
		entry.Kind, entry.Label = ledger.Redaction, *r.Label
	}
	if r.Reason != nil {
		entry.Reason = string(*r.Reason)
	}
	return entry
}

// newLabel makes a name for somebody who has none any more. It is random, so that nothing can be read out of it; the alphabet leaves out what is
// easily mistaken (Crockford's base 32).
func newLabel(length int) string {
	const alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	random := make([]byte, length)
	_, _ = rand.Read(random) // never fails: the program ends instead, since Go 1.24
	for i := range random {
		random[i] = alphabet[random[i]%byte(len(alphabet))]
	}
	return "Redacted user " + string(random)
}
