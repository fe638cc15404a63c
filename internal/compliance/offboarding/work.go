package offboarding

import (
	"context"
	"errors"
	"fmt"
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
	// Lease is how long an offboarding is left to the replica that took it, unless that says that it is still at it.
	Lease      = 30 * time.Second
	renewEvery = 10 * time.Second
	batch      = 2000 // rows that are deleted in one transaction
	rounds     = 10   // through all stores, until nothing came in behind
)

// LookAfter does what is due: notices, bundles, deletions, and going on with what a replica that died has left. A failure of one is tried again when its lease is over.
func (s *Service) LookAfter(ctx context.Context) (failed error) {
	for ctx.Err() == nil {
		var one Offboarding
		var there bool
		err := s.db.InPlatform(ctx, func(tx *postgres.Tx) (err error) {
			one, there, err = take(tx, tx.Now.Add(Lease))
			return err
		})
		if err != nil || !there {
			return errors.Join(failed, err)
		}
		stop := s.holding(ctx, one)
		err = s.attend(ctx, one)
		stop()
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("offboarding %s: %w", one.ID, err))
		} else if err := s.settle(ctx, one); err != nil {
			failed = errors.Join(failed, err)
		}
	}
	return failed
}

// holding keeps others off while something is done, until it is stopped.
func (s *Service) holding(ctx context.Context, one Offboarding) (stop func()) {
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
				err := s.db.InPlatform(ctx, func(tx *postgres.Tx) error { return keep(tx, one, tx.Now.Add(Lease)) })
				if err != nil && ctx.Err() == nil {
					s.log.Warn("another replica may take over an offboarding", "offboarding", one.ID.String(), "error", err)
				}
			}
		}
	})
	return func() {
		cancel()
		group.Wait()
	}
}

// settle says when to look next.
func (s *Service) settle(ctx context.Context, one Offboarding) error {
	return s.db.InCustomer(ctx, one.Customer, func(tx *postgres.Tx) error {
		found, err := lock(tx, one.ID)
		if err != nil || found.State != Approved {
			return err
		}
		return rest(tx, one.ID, found.next())
	})
}

func (s *Service) attend(ctx context.Context, one Offboarding) error {
	switch one.State {
	case Approved:
		now := s.db.Now()
		if one.notices < lastNotice && !now.Before(one.noticeAt(one.notices+1)) {
			var err error
			if one, err = s.notify(ctx, one); err != nil || one.State != Approved {
				return err
			}
		}
		if one.notices == lastNotice && one.Bundle != nil && !now.Before(*one.DeletesAt) { // what could not be put into a bundle is not deleted
			begun, err := s.begin(ctx, one)
			if err != nil || !begun {
				return err
			}
			return s.finish(ctx, one.Customer, one.ID, nil)
		}
		if one.BundleWantedAt != nil {
			if one.Bundle == nil {
				if err := s.dropObjects(ctx, one.Customer, ""); err != nil {
					return err
				}
			}
			return s.makeBundle(ctx, one)
		}
	case Deleting:
		return s.finish(ctx, one.Customer, one.ID, nil)
	case Cancelled:
		if err := s.dropObjects(ctx, one.Customer, ""); err != nil {
			return err
		}
		return s.db.InCustomer(ctx, one.Customer, func(tx *postgres.Tx) error { return dropBundle(tx, one.ID) })
	case Requested, Deleted:
	}
	return nil
}

// notify has administrators told of the end that comes. Nobody is deleted without the last notice: where the service was away when it was due, the end is put off for as long as it should
// have come before.
func (s *Service) notify(ctx context.Context, one Offboarding) (after Offboarding, err error) {
	err = s.db.InCustomer(ctx, one.Customer, func(tx *postgres.Tx) error {
		if after, err = lock(tx, one.ID); err != nil || after.State != Approved || after.notices == lastNotice {
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
		if after, err = noteNotice(tx, one.ID, number, deletesAt); err != nil {
			return err
		}
		return s.tell(tx, after, about)
	})
	return after, err
}

// fusions is whose users operators are, and whose trail tells what became of customers.
func (s *Service) fusions(ctx context.Context) (id.Customer, error) {
	found, known, err := s.customers.Find(ctx, customer.OperatorsSlug)
	if err == nil && !known {
		err = errors.New("offboarding: there are no operators")
	}
	return found.ID, err
}

// begin is the point of no return: from its commit on the customer is closed, and there is no cancelling. It tells false where the offboarding was cancelled meanwhile.
func (s *Service) begin(ctx context.Context, one Offboarding) (begun bool, err error) {
	fusions, err := s.fusions(ctx)
	if err != nil {
		return false, err
	}
	err = s.db.InCustomer(ctx, fusions, func(tx *postgres.Tx) error {
		begun = false
		err := tx.AsCustomer(one.Customer, func(tx *postgres.Tx) error {
			found, err := lock(tx, one.ID)
			if err != nil || found.State != Approved || tx.Now.Before(*found.DeletesAt) {
				return err
			}
			begun = true
			_, err = beginDeleting(tx, one.ID)
			return err
		})
		if err != nil || !begun {
			return err
		}
		return audit.AppendTx(tx, act(principal.Principal{Customer: fusions}, audit.DeletionBegun, one))
	})
	return begun, err
}

// finish carries a deletion out that has begun, from wherever it was broken off, to its end. A repetition after a restore says which entry of the ledger it goes by.
func (s *Service) finish(ctx context.Context, of id.Customer, offboarding id.Offboarding, again *ledger.Entry) error {
	done, err := s.record(ctx, of, offboarding)
	if err != nil || done {
		return err
	}
	for round := 1; ; round++ {
		if err := s.empty(ctx, of, offboarding); err != nil {
			return err
		}
		left, err := s.close(ctx, of, offboarding)
		if err == nil && len(left) == 0 {
			break
		}
		// A transaction that had begun before has brought something in. They end within seconds.
		if err == nil {
			err = fmt.Errorf("offboarding: something was left in %s", strings.Join(left, ", "))
		}
		if round == rounds || ctx.Err() != nil || fault.Is(err, fault.ServiceUnavailable) {
			return err
		}
		time.Sleep(time.Duration(round) * 50 * time.Millisecond)
	}
	return s.certify(ctx, of, offboarding, again)
}

// record tells the ledger, before anything is deleted: so a database that is restored to before deletes the customer again. It tells true where everything is deleted already.
func (s *Service) record(ctx context.Context, of id.Customer, offboarding id.Offboarding) (done bool, err error) {
	err = s.db.InCustomer(ctx, of, func(tx *postgres.Tx) error {
		found, err := lock(tx, offboarding)
		if err != nil {
			return err
		}
		if done = found.State == Deleted; done || found.RecordedAt != nil {
			return nil
		}
		if _, err := markRecorded(tx, offboarding); err != nil {
			return err
		}
		return s.ledger.AppendTx(tx, ledger.Entry{
			Kind: ledger.Offboarding, Subject: offboarding.UUID, Authority: string(principal.Operator), OrderedBy: &found.RequestedBy, ApprovedBy: found.ApprovedBy,
		})
	})
	return done, err
}

// empty deletes everything of a customer, store by store and batch by batch, but the customer itself.
func (s *Service) empty(ctx context.Context, of id.Customer, offboarding id.Offboarding) error {
	drain := func(some func(tx *postgres.Tx) (int64, error)) error {
		for count := int64(batch); count == batch; {
			if err := ctx.Err(); err != nil {
				return err
			}
			err := s.db.InOffboarding(ctx, of, func(tx *postgres.Tx) (err error) {
				count, err = some(tx)
				return err
			})
			if err != nil {
				return err
			}
		}
		return nil
	}
	for _, store := range s.stores {
		if folder, ok := strings.CutSuffix(store.Objects, inventory.EachCustomer); ok {
			if err := s.dropAll(ctx, folder+of.String()+"/", ""); err != nil {
				return err
			}
		}
	}
	for _, store := range s.leaving {
		if store.Table == customersTable {
			continue
		}
		err := drain(func(tx *postgres.Tx) (int64, error) { return empty(tx, store, offboarding, batch) })
		if err != nil && !stillReferred(err) {
			return fmt.Errorf("offboarding: emptying %s: %w", store.Table, err)
		}
	}
	return nil
}

// stillReferred tells of an error that something which came in meanwhile points at what is to be deleted: the next round deletes that first.
func stillReferred(err error) bool { return postgres.Refers(err) }

var errLeft = errors.New("offboarding: something is left")

// close deletes the customer itself, if nothing else is left. It names what is.
func (s *Service) close(ctx context.Context, of id.Customer, offboarding id.Offboarding) (left []string, err error) {
	err = s.db.InOffboarding(ctx, of, func(tx *postgres.Tx) error {
		// First deleted, which waits for whoever is at it, and then looked: so nothing can come in behind.
		if _, err := empty(tx, inventory.Find(s.stores, customersTable), offboarding, 1); err != nil {
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

// certify writes down that nothing is left, in the offboarding and in the trail of Fusions.
func (s *Service) certify(ctx context.Context, of id.Customer, offboarding id.Offboarding, again *ledger.Entry) error {
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
		done := false
		err = tx.AsCustomer(of, func(tx *postgres.Tx) error {
			found, err := lock(tx, offboarding)
			if err != nil || found.State != Deleting {
				return err // another replica was faster
			}
			done = true
			found.DeletedAt, found.BackupsExpireAt = &tx.Now, expireAt
			if found.JWS, err = s.receipts.Certify(found.certificate(), tx.Now); err != nil {
				return err
			}
			after, err = markDeleted(tx, found)
			return err
		})
		if err != nil || !done {
			return err
		}
		entry := act(principal.Principal{Customer: fusions}, audit.CustomerDeleted, after)
		if again != nil {
			for name, value := range again.Details() {
				entry.Details[name] = value
			}
		}
		return audit.AppendTx(tx, entry)
	})
}

// Again carries out once more what the ledger says of a customer: everything of it is deleted, whatever state a restore has brought back. It returns when that is done. A customer who
// registered since under the same slug is another one, of another id, whom the entry is not about.
func (s *Service) Again(ctx context.Context, entry ledger.Entry) (ledger.Outcome, error) {
	outcome := ledger.Done
	err := s.db.InCustomer(ctx, entry.Customer, func(tx *postgres.Tx) (err error) {
		outcome, err = s.bringBack(tx, entry)
		return err
	})
	if err != nil || outcome != ledger.Done {
		return outcome, err
	}
	return outcome, s.finish(ctx, entry.Customer, entry.Offboarding(), &entry)
}

// bringBack brings an offboarding to the state that it had when the ledger was told.
func (s *Service) bringBack(tx *postgres.Tx, entry ledger.Entry) (ledger.Outcome, error) {
	if entry.OrderedBy == nil || entry.ApprovedBy == nil {
		return "", errors.New("offboarding: an entry of the ledger does not say who ordered it")
	}
	found, err := lock(tx, entry.Offboarding())
	if fault.Is(err, fault.ResourceNotFound) {
		of, err := customer.GetTx(tx)
		if fault.Is(err, fault.ResourceNotFound) {
			return ledger.Absent, nil // the database is older than the customer
		}
		if err != nil {
			return "", err
		}
		other, open, err := otherOpen(tx, entry.Offboarding())
		if err != nil {
			return "", err
		}
		if open { // it was cancelled, or else this one could not have been begun
			if _, err := cancel(tx, other, nil); err != nil {
				return "", err
			}
		}
		found, err = insert(tx, Offboarding{ID: entry.Offboarding(), Slug: of.Slug, Name: of.Name, RequestedAt: entry.At, RequestedBy: *entry.OrderedBy})
		if err != nil {
			return "", err
		}
	} else if err != nil {
		return "", err
	}
	if found.State == Deleted {
		return ledger.AlreadyDone, nil
	}
	if found.State == Requested {
		if found, err = approveAgain(tx, found.ID, *entry.ApprovedBy, entry.At); err != nil {
			return "", err
		}
	}
	if found.State == Approved {
		if found, err = bringForward(tx, found.ID, entry.At); err != nil {
			return "", err
		}
		if found, err = beginDeleting(tx, found.ID); err != nil {
			return "", err
		}
	}
	if found.State != Deleting {
		return "", fmt.Errorf("offboarding: %s is in the state %s, and the ledger says that it was carried out", found.ID, found.State)
	}
	if found.RecordedAt == nil {
		_, err = markRecorded(tx, found.ID)
	}
	return ledger.Done, err
}
