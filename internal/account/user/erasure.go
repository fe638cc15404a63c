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

// The tables that an erasure changes beyond their declarations.
const (
	accounts    = "users"                // last, because other tables refer to it
	trail       = "audit_entries"        // keeps the entries of redacted users
	suppression = "suppressed_addresses" // gets the hashes of their addresses
)

// labelLength is the length of the first label tried, in characters; each retry adds one.
const labelLength = 4

// labelAll gives a unique label to each user who is redacted. A label from the ledger stays if it
// is free. The caller holds the lock of the customer, which every redaction takes, so a free label
// stays free.
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

// stillUnlabelled adds the labels that are free to given, removes the others from their receipts,
// and returns the erasures without a label.
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

// Plan returns what an erasure of a user would do. Faults: ResourceNotFound, UserRedacted.
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
			plan.Keeps = append(plan.Keeps, s.kept(suppression, 1))
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

// Delete deletes a user with all data of the account, if no audit entry names the user as its
// actor.
//
// It locks the row against new references before it counts the existing ones; the foreign key of
// the audit trail is a second guard. Faults: ResourceNotFound, UserRedacted, PreconditionFailed,
// LastAdministrator, AuditTrailIncomplete.
func (s *Service) Delete(
	ctx context.Context,
	caller principal.Principal,
	user id.User,
	condition version.Condition,
) (issued receipt.Receipt, err error) {
	err = s.db.InCustomer(ctx, caller.Customer, func(tx *postgres.Tx) error {
		issued, err = s.delete(tx, caller, user, condition)
		return err
	})
	return issued, err
}

// erasure is a locked user and the receipt of the erasure to do.
type erasure struct {
	person  User
	receipt *receipt.Receipt
}

// erase deletes or redacts locked users, by the kind of their receipts, and stores the receipts.
// The audit trail must not name the deleted ones. Apart from the receipts, the number of round
// trips does not depend on the number of users.
func (s *Service) erase(tx *postgres.Tx, erasures []erasure) error {
	if len(erasures) == 0 {
		return nil
	}
	all := make([]id.User, len(erasures))
	var deleted []id.User
	var redacted []erasure
	for i, e := range erasures {
		all[i] = e.person.ID
		if e.receipt.Kind == receipt.Deletion {
			deleted = append(deleted, e.person.ID)
		} else {
			redacted = append(redacted, e)
		}
	}
	if err := labelAll(tx, redacted); err != nil {
		return err
	}
	if err := s.recordKept(tx, redacted); err != nil {
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
		return incomplete(deleted[0], nil) // a safeguard: the lock should make it impossible
	} else if err != nil {
		return err
	}
	for _, e := range erasures {
		if err := s.receipts.Save(tx, e.receipt); err != nil {
			return err
		}
	}
	return nil
}

// recordKept records in the receipts of redactions what is kept.
func (s *Service) recordKept(tx *postgres.Tx, redacted []erasure) error {
	if len(redacted) == 0 {
		return nil
	}
	users := make([]id.User, len(redacted))
	for i, e := range redacted {
		users[i] = e.person.ID
	}
	named, err := audit.ReferencesToEachTx(tx, users)
	if err != nil {
		return err
	}
	for _, e := range redacted {
		e.receipt.Kept = s.keptOf(named[e.person.ID])
	}
	return nil
}

func (s *Service) delete(
	tx *postgres.Tx,
	caller principal.Principal,
	user id.User,
	condition version.Condition,
) (receipt.Receipt, error) {
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
	if err := s.erase(tx, []erasure{{found, &issued}}); err != nil {
		return receipt.Receipt{}, err
	}
	if err := s.ledger.AppendTx(tx, entryOf(issued)); err != nil {
		return receipt.Receipt{}, err
	}
	return issued, audit.AppendTx(tx, audit.Act{Caller: caller, Action: audit.UserDeleted, Target: audit.OnUser(user)})
}

// EraseTx erases a user at their own request, in the caller's transaction: it deletes the user if
// the audit trail allows it, and redacts otherwise. Faults: ResourceNotFound, UserRedacted,
// LastAdministrator.
func (s *Service) EraseTx(tx *postgres.Tx, caller principal.Principal, user id.User) (receipt.Receipt, error) {
	issued, err := s.delete(tx, caller, user, version.Condition{})
	var refused *fault.Fault
	if !errors.As(err, &refused) || refused.Code != fault.AuditTrailIncomplete || len(refused.References) == 0 {
		return issued, err
	}
	reason := receipt.RequestedByPerson
	return s.redact(tx, caller, user, &reason, version.Condition{})
}

// Redact removes all personal data of a user and leaves the id and a label. It is idempotent:
// redacting again returns the same receipt. Faults: ResourceNotFound, PreconditionFailed,
// LastAdministrator.
func (s *Service) Redact(
	ctx context.Context, caller principal.Principal, user id.User, reason *receipt.Reason, condition version.Condition,
	once *idempotency.Once[receipt.Receipt],
) (receipt.Receipt, error) {
	if reason != nil && !reason.Known() {
		return receipt.Receipt{}, fault.New(fault.MalformedRequest, "The reason is unknown.").
			At("/reason", "must be one of those in the contract")
	}
	issued, err := idempotency.Write(ctx, s.db, caller.Customer, once, func(tx *postgres.Tx) (receipt.Receipt, error) {
		return s.redact(tx, caller, user, reason, condition)
	})
	return issued, constraintFault(err)
}

func (s *Service) redact(
	tx *postgres.Tx,
	caller principal.Principal,
	user id.User,
	reason *receipt.Reason,
	condition version.Condition,
) (receipt.Receipt, error) {
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
	if err := s.erase(tx, []erasure{{found, &issued}}); err != nil {
		return receipt.Receipt{}, err
	}
	if err := s.ledger.AppendTx(tx, entryOf(issued)); err != nil {
		return receipt.Receipt{}, err
	}
	return issued, audit.AppendTx(tx, audit.Act{
		Caller:  caller,
		Action:  audit.UserRedacted,
		Target:  audit.OnUser(user),
		Changed: []string{"first_name", "last_name", "email", "status"},
	})
}

// keptOf returns what a redaction keeps because the audit trail refers to the user.
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

// kept is what an erasure keeps in a table, for the reason that the table declares.
func (s *Service) kept(table string, count int64) receipt.Kept {
	store := inventory.Find(s.stores, table)
	return receipt.Kept{Store: store.ErasedAs(), Count: count, Why: store.Erase.Why}
}

// account is the account itself as an item of a plan or a receipt.
func (s *Service) account() receipt.Removed {
	return receipt.Removed{Store: inventory.Find(s.stores, accounts).ErasedAs(), Count: 1}
}

// prepare locks the customer and then the user, always in this order, and refuses an erasure that
// is not allowed. With the fault UserRedacted it returns the user as well.
func (s *Service) prepare(
	tx *postgres.Tx,
	user id.User,
	lock func(*postgres.Tx, id.User) (User, error),
	condition version.Condition,
) (User, error) {
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

// suppress stores the hashes of the addresses of users who are about to be erased, so that no
// import recreates them unnoticed, and records in their receipts that the hashes are kept.
func (s *Service) suppress(tx *postgres.Tx, erasures []erasure) error {
	var hashes [][]byte
	for _, e := range erasures {
		// An import refuses the other addresses anyway.
		if address, err := ParseAddress(*e.person.Email, "/email"); err == nil {
			e.receipt.Kept = append(e.receipt.Kept, s.kept(suppression, 1))
			hashes = append(hashes, s.suppressionHash(tx.Customer, address.Key))
		}
	}
	return insertSuppressed(tx, hashes)
}

// removeElsewhere removes the data of users in other stores, and records it in their receipts.
func (s *Service) removeElsewhere(tx *postgres.Tx, users []id.User, erasures []erasure) error {
	for _, e := range erasures {
		e.receipt.Removed = []receipt.Removed{s.account()}
	}
	for _, store := range s.erased {
		counts, err := removeFrom(tx, store, users)
		if err != nil {
			return err
		}
		for _, e := range erasures {
			e.receipt.Removed = append(e.receipt.Removed,
				receipt.Removed{Store: store.ErasedAs(), Count: counts[e.person.ID]})
		}
	}
	return nil
}

func incomplete(user id.User, references []fault.Reference) error {
	f := fault.New(
		fault.AuditTrailIncomplete,
		"Entries of the audit trail name this user as their actor. Redact the user instead.",
	)
	f.References, f.Redaction = references, RedactionPath(user)
	return f
}

func (s *Service) newReceipt(
	tx *postgres.Tx,
	caller principal.Principal,
	kind receipt.Kind,
	user id.User,
) (issued receipt.Receipt, err error) {
	issued = receipt.Receipt{
		ID:          id.New[id.Receipt](),
		Kind:        kind,
		UserID:      user,
		Authority:   caller.Authority(),
		CompletedAt: tx.Now,
		Kept:        []receipt.Kept{},
		State:       receipt.Pending,
	}
	if caller.IsAPIKey() {
		issued.OrderedByAPIKey = &caller.APIKey
	} else if !caller.User.IsZero() {
		issued.OrderedByUser = &caller.User
	}
	issued.BackupsExpireAt, err = s.backups.ExpireBy(tx, tx.Now)
	return issued, err
}

// entryOf returns the ledger entry of an erasure, from which the same receipt can be issued again.
func entryOf(r receipt.Receipt) ledger.Entry {
	entry := ledger.Entry{
		Kind:         ledger.Deletion,
		Subject:      r.UserID.UUID,
		Receipt:      &r.ID,
		Authority:    r.Authority,
		OrderedBy:    r.OrderedByUser,
		OrderedByKey: r.OrderedByAPIKey,
	}
	if r.Kind == receipt.Redaction {
		entry.Kind, entry.Label = ledger.Redaction, *r.Label
	}
	if r.Reason != nil {
		entry.Reason = string(*r.Reason)
	}
	return entry
}

// newLabel makes a pseudonym for a redacted user. It is random, so that it reveals nothing; the
// alphabet omits characters that are easily confused (Crockford's base32).
func newLabel(length int) string {
	const alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	random := make([]byte, length)
	_, _ = rand.Read(random) // never fails: the program ends instead, since Go 1.24
	for i := range random {
		random[i] = alphabet[random[i]%byte(len(alphabet))]
	}
	return "Redacted user " + string(random)
}
