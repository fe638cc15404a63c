package offboarding

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/fusionspim/steward/internal/account/customer"
	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/inventory"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/record/audit"
	"github.com/fusionspim/steward/internal/record/ledger"
)

const (
	// Lease is how long a replica that acquired an offboarding may work on it without renewing the
	// lease.
	Lease      = 30 * time.Second
	renewEvery = 10 * time.Second
	batch      = 2000 // rows that are deleted in one transaction
	rounds     = 10   // through all stores, until no rows were added meanwhile
)

// RunDue does what is due: notices, bundles, deletions, and continuing those of replicas that died.
// It returns when nothing is due. One that fails is retried when its lease has expired; the error
// joins all failures.
func (s *Service) RunDue(ctx context.Context) (failed error) {
	for ctx.Err() == nil {
		var due Offboarding
		var exists bool
		err := s.db.InPlatform(ctx, func(tx *postgres.Tx) (err error) {
			due, exists, err = acquire(tx, tx.Now.Add(Lease))
			return err
		})
		if err != nil || !exists {
			return errors.Join(failed, err)
		}
		release := s.holdLease(ctx, due)
		err = s.process(ctx, due)
		release()
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("offboarding %s: %w", due.ID, err))
		} else if err := s.scheduleNext(ctx, due); err != nil {
			failed = errors.Join(failed, err)
		}
	}
	return failed
}

// holdLease renews the lease of an offboarding until it is released.
func (s *Service) holdLease(ctx context.Context, of Offboarding) (release func()) {
	ctx, cancel := context.WithCancel(ctx)
	var group sync.WaitGroup
	group.Go(func() {
		ticker := time.NewTicker(renewEvery)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				err := s.db.InPlatform(ctx, func(tx *postgres.Tx) error {
					return extendLease(tx, of, tx.Now.Add(Lease))
				})
				if err != nil && ctx.Err() == nil {
					s.log.Warn("another replica may take over an offboarding",
						"offboarding", of.ID.String(), "error", err)
				}
			}
		}
	})
	return func() {
		cancel()
		group.Wait()
	}
}

// scheduleNext sets when an approved offboarding is due next.
func (s *Service) scheduleNext(ctx context.Context, of Offboarding) error {
	return s.db.InCustomer(ctx, of.Customer, func(tx *postgres.Tx) error {
		found, err := lock(tx, of.ID)
		if err != nil || found.State != Approved {
			return err
		}
		return schedule(tx, of.ID, found.next())
	})
}

// process does what is due for one offboarding.
func (s *Service) process(ctx context.Context, of Offboarding) error {
	switch of.State {
	case Approved:
		return s.processApproved(ctx, of)
	case Deleting:
		return s.completeDeletion(ctx, of.Customer, of.ID, nil)
	case Cancelled:
		if err := s.deleteBundles(ctx, of.Customer, ""); err != nil {
			return err
		}
		return s.db.InCustomer(ctx, of.Customer, func(tx *postgres.Tx) error { return clearBundle(tx, of.ID) })
	case Requested, Deleted:
	}
	return nil
}

func (s *Service) processApproved(ctx context.Context, of Offboarding) (err error) {
	now := s.db.Now()
	if of.notices < lastNotice && !now.Before(of.noticeAt(of.notices+1)) {
		if of, err = s.sendNotice(ctx, of); err != nil || of.State != Approved {
			return err
		}
	}
	// Nothing is deleted before a bundle contains it.
	if of.notices == lastNotice && of.Bundle != nil && !now.Before(*of.DeletesAt) {
		begun, err := s.beginDeletion(ctx, of)
		if err != nil || !begun {
			return err
		}
		return s.completeDeletion(ctx, of.Customer, of.ID, nil)
	}
	if of.BundleWantedAt == nil {
		return nil
	}
	if of.Bundle == nil {
		if err := s.deleteBundles(ctx, of.Customer, ""); err != nil {
			return err
		}
	}
	return s.makeBundle(ctx, of)
}

// sendNotice notifies administrators of the deletion to come. No customer is deleted without the
// last notice: where the service was down when it was due, the deletion is postponed by as long as
// the notice should have preceded it.
func (s *Service) sendNotice(ctx context.Context, of Offboarding) (after Offboarding, err error) {
	err = s.db.InCustomer(ctx, of.Customer, func(tx *postgres.Tx) error {
		if after, err = lock(tx, of.ID); err != nil || after.State != Approved || after.notices == lastNotice {
			return err
		}
		number, about, deletesAt := reminder, ofReminder, *after.DeletesAt
		if !tx.Now.Before(after.noticeAt(lastNotice)) {
			number, about = lastNotice, ofEnd
			if ahead := after.DeletesAt.Sub(after.noticeAt(lastNotice)); deletesAt.Before(tx.Now.Add(ahead / 2)) {
				deletesAt = tx.Now.Add(ahead)
			}
		}
		if number == after.notices {
			return nil
		}
		if after, err = recordNotice(tx, of.ID, number, deletesAt); err != nil {
			return err
		}
		return s.notify(tx, after, about)
	})
	return after, err
}

// fusions returns the customer whose users operators are, and whose trail records what became of
// customers.
func (s *Service) fusions(ctx context.Context) (id.Customer, error) {
	found, exists, err := s.customers.Find(ctx, customer.OperatorsSlug)
	if err == nil && !exists {
		err = errors.New("offboarding: there are no operators")
	}
	return found.ID, err
}

// beginDeletion is the point of no return: after its commit the customer is closed, and nothing can
// be cancelled. It returns false where the offboarding was cancelled meanwhile.
func (s *Service) beginDeletion(ctx context.Context, of Offboarding) (begun bool, err error) {
	fusions, err := s.fusions(ctx)
	if err != nil {
		return false, err
	}
	err = s.db.InCustomer(ctx, fusions, func(tx *postgres.Tx) error {
		begun = false
		err := tx.AsCustomer(of.Customer, func(tx *postgres.Tx) error {
			found, err := lock(tx, of.ID)
			if err != nil || found.State != Approved || tx.Now.Before(*found.DeletesAt) {
				return err
			}
			begun = true
			_, err = markDeleting(tx, of.ID)
			return err
		})
		if err != nil || !begun {
			return err
		}
		return audit.AppendTx(tx, act(principal.Principal{Customer: fusions}, audit.DeletionBegun, of))
	})
	return begun, err
}

// completeDeletion completes a deletion that has begun, from wherever it was interrupted. One that
// is replayed after a restore also gets its entry of the ledger.
func (s *Service) completeDeletion(
	ctx context.Context, of id.Customer, offboarding id.Offboarding, replayed *ledger.Entry,
) error {
	deleted, err := s.recordInLedger(ctx, of, offboarding)
	if err != nil || deleted {
		return err
	}
	for round := 1; ; round++ {
		if err := s.deleteContent(ctx, of, offboarding); err != nil {
			return err
		}
		left, err := s.deleteCustomer(ctx, of, offboarding)
		if err == nil && len(left) == 0 {
			break
		}
		// A transaction that had begun before has added rows. They end within seconds.
		if err == nil {
			err = fmt.Errorf("offboarding: rows are left in %s", strings.Join(left, ", "))
		}
		if round == rounds || ctx.Err() != nil || fault.Is(err, fault.ServiceUnavailable) {
			return err
		}
		time.Sleep(time.Duration(round) * 50 * time.Millisecond)
	}
	return s.certify(ctx, of, offboarding, replayed)
}

// recordInLedger records a deletion in the ledger before anything is deleted, so that a database
// that is restored to an earlier state deletes the customer again. It returns true where everything
// is deleted already.
func (s *Service) recordInLedger(
	ctx context.Context, of id.Customer, offboarding id.Offboarding,
) (deleted bool, err error) {
	return postgres.Write(ctx, s.db, of, func(tx *postgres.Tx) (deleted bool, err error) {
		found, err := lock(tx, offboarding)
		if err != nil {
			return false, err
		}
		if found.State == Deleted || found.RecordedAt != nil {
			return found.State == Deleted, nil
		}
		if _, err := markRecorded(tx, offboarding); err != nil {
			return false, err
		}
		return false, s.ledger.AppendTx(tx, ledger.Entry{
			Kind: ledger.Offboarding, Subject: offboarding.UUID, Authority: string(principal.Operator),
			OrderedBy: &found.RequestedBy, ApprovedBy: found.ApprovedBy,
		})
	})
}

// deleteContent deletes the objects and rows of a customer, store by store and batch by batch, but
// not the customer itself.
func (s *Service) deleteContent(ctx context.Context, of id.Customer, offboarding id.Offboarding) error {
	for _, store := range s.stores {
		if folder, ok := strings.CutSuffix(store.Objects, inventory.EachCustomer); ok {
			if err := s.deleteObjects(ctx, folder+of.String()+"/", ""); err != nil {
				return err
			}
		}
	}
	for _, store := range s.leaving {
		if store.Table == customersTable {
			continue
		}
		err := s.deleteAllRows(ctx, of, store, offboarding)
		if err != nil && !stillReferred(err) {
			return fmt.Errorf("offboarding: deleting from %s: %w", store.Table, err)
		}
	}
	return nil
}

// deleteAllRows deletes the rows of a customer in one store, each batch in a transaction of its
// own.
func (s *Service) deleteAllRows(
	ctx context.Context, of id.Customer, store postgres.Store, offboarding id.Offboarding,
) error {
	for deleted := int64(batch); deleted == batch; {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := s.db.InOffboarding(ctx, of, func(tx *postgres.Tx) (err error) {
			deleted, err = deleteRows(tx, store, offboarding, batch)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// stillReferred reports whether rows that were added meanwhile refer to what is to be deleted: the
// next round deletes those first.
func stillReferred(err error) bool { return postgres.Refers(err) }

var errLeft = errors.New("offboarding: rows are left")

// deleteCustomer deletes the customer itself, unless other rows are left. It returns the stores
// that have some.
func (s *Service) deleteCustomer(
	ctx context.Context, of id.Customer, offboarding id.Offboarding,
) (left []string, err error) {
	err = s.db.InOffboarding(ctx, of, func(tx *postgres.Tx) error {
		// Deleting waits for the transactions that use the customer: after it, no rows can be
		// added.
		if _, err := deleteRows(tx, inventory.Find(s.stores, customersTable), offboarding, 1); err != nil {
			return err
		}
		if left, err = leftIn(tx, s.leaving); err == nil && len(left) > 0 {
			err = errLeft
		}
		return err
	})
	if errors.Is(err, errLeft) || stillReferred(err) {
		return append(left, customersTable), nil
	}
	return nil, err
}

// certify records that nothing is left, in the offboarding and in the trail of Fusions.
func (s *Service) certify(
	ctx context.Context, of id.Customer, offboarding id.Offboarding, replayed *ledger.Entry,
) error {
	fusions, err := s.fusions(ctx)
	if err != nil {
		return err
	}
	if _, err := s.receipts.Keys(ctx); err != nil {
		return err
	}
	return s.db.InCustomer(ctx, fusions, func(tx *postgres.Tx) error {
		expireAt, err := s.backups.ExpireBy(tx, tx.Now)
		if err != nil {
			return err
		}
		var after Offboarding
		certified := false
		err = tx.AsCustomer(of, func(tx *postgres.Tx) error {
			found, err := lock(tx, offboarding)
			if err != nil || found.State != Deleting {
				return err // another replica was faster
			}
			certified = true
			found.DeletedAt, found.BackupsExpireAt = &tx.Now, expireAt
			if found.JWS, err = s.receipts.Certify(found.certificate(), tx.Now); err != nil {
				return err
			}
			after, err = markDeleted(tx, found)
			return err
		})
		if err != nil || !certified {
			return err
		}
		entry := act(principal.Principal{Customer: fusions}, audit.CustomerDeleted, after)
		if replayed != nil {
			maps.Copy(entry.Details, replayed.Details())
		}
		return audit.AppendTx(tx, entry)
	})
}

// Replay deletes a customer again that was deleted according to the ledger, whatever state a
// restore has brought back. It returns when the deletion is complete. A customer who registered
// since under the same slug has another id, and is not affected.
func (s *Service) Replay(ctx context.Context, entry ledger.Entry) (ledger.Outcome, error) {
	outcome, err := postgres.Write(ctx, s.db, entry.Customer, func(tx *postgres.Tx) (ledger.Outcome, error) {
		return restoreState(tx, entry)
	})
	if err != nil || outcome != ledger.Done {
		return outcome, err
	}
	return outcome, s.completeDeletion(ctx, entry.Customer, entry.Offboarding(), &entry)
}

// restoreState brings an offboarding to the state that it had when the ledger recorded it. It
// returns Done where the deletion is to be completed.
func restoreState(tx *postgres.Tx, entry ledger.Entry) (ledger.Outcome, error) {
	if entry.OrderedBy == nil || entry.ApprovedBy == nil {
		return "", errors.New("offboarding: an entry of the ledger does not say who ordered it")
	}
	found, err := lock(tx, entry.Offboarding())
	if fault.Is(err, fault.ResourceNotFound) {
		found, err = restoreRequest(tx, entry)
		if fault.Is(err, fault.ResourceNotFound) {
			return ledger.Absent, nil // the database is older than the customer
		}
	}
	if err != nil {
		return "", err
	}
	if found.State == Deleted {
		return ledger.AlreadyDone, nil
	}
	if found.State == Requested {
		if found, err = reapprove(tx, found.ID, *entry.ApprovedBy, entry.At); err != nil {
			return "", err
		}
	}
	if found.State == Approved {
		if found, err = bringForward(tx, found.ID, entry.At); err != nil {
			return "", err
		}
		if found, err = markDeleting(tx, found.ID); err != nil {
			return "", err
		}
	}
	if found.State != Deleting {
		return "", fmt.Errorf(
			"offboarding: %s is in the state %s, but the ledger says that the customer was deleted",
			found.ID,
			found.State,
		)
	}
	if found.RecordedAt == nil {
		_, err = markRecorded(tx, found.ID)
	}
	return ledger.Done, err
}

// restoreRequest inserts an offboarding that a restore has lost. Fault: ResourceNotFound where the
// customer does not exist either.
func restoreRequest(tx *postgres.Tx, entry ledger.Entry) (Offboarding, error) {
	of, err := customer.GetTx(tx)
	if err != nil {
		return Offboarding{}, err
	}
	other, exists, err := otherOpen(tx, entry.Offboarding())
	if err != nil {
		return Offboarding{}, err
	}
	if exists { // it was cancelled, or else this one could not have been begun
		if _, err := cancel(tx, other, nil); err != nil {
			return Offboarding{}, err
		}
	}
	return insert(tx, Offboarding{
		ID: entry.Offboarding(), Slug: of.Slug, Name: of.Name, RequestedAt: entry.At, RequestedBy: *entry.OrderedBy,
	})
}
