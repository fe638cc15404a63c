package audit

import (
	"context"
	"errors"

	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

const (
	sequenceBatch = 2000 // entries of one transaction
	customerBatch = 500  // customers of one query
)

// Sequenced is an entry with its index, its permanent place in the audit trail of its customer.
// Indexes start at 0 and have no gaps.
type Sequenced struct {
	Index int64
	Entry Entry
}

// Follower processes entries that have just been sequenced, in their order and in the same
// transaction. So its writes happen exactly once for each entry.
type Follower func(tx *postgres.Tx, sequenced []Sequenced) error

// Sequencer assigns indexes to entries shortly after they are recorded. Every replica has one; only
// one of them works on a customer at a time. Safe for concurrent use.
type Sequencer struct {
	db        *postgres.DB
	followers []Follower
}

// NewSequencer returns a sequencer that calls the followers in their order.
func NewSequencer(db *postgres.DB, followers ...Follower) *Sequencer {
	return &Sequencer{db: db, followers: followers}
}

// Sequence assigns an index to every entry that has none, customer by customer. It skips customers
// on which another replica works. A customer that fails does not delay the others; the errors are
// joined.
func (s *Sequencer) Sequence(ctx context.Context) error {
	var after id.Customer
	var failed error
	for {
		pending, err := postgres.Platform(ctx, s.db, func(tx *postgres.Tx) ([]id.Customer, error) {
			return pendingCustomers(tx, after, customerBatch)
		})
		if err != nil {
			return errors.Join(failed, err)
		}
		for _, customer := range pending {
			if ctx.Err() != nil {
				return failed
			}
			failed = errors.Join(failed, s.sequenceCustomer(ctx, customer))
		}
		if len(pending) < customerBatch {
			return failed
		}
		after = pending[len(pending)-1]
	}
}

// sequenceCustomer sequences the entries of one customer, batch by batch.
func (s *Sequencer) sequenceCustomer(ctx context.Context, customer id.Customer) error {
	for count := sequenceBatch; count == sequenceBatch && ctx.Err() == nil; {
		err := s.db.InCustomer(ctx, customer, func(tx *postgres.Tx) error {
			sequenced, err := sequence(tx, sequenceBatch)
			if count = len(sequenced); err != nil || count == 0 {
				return err
			}
			for _, follow := range s.followers {
				if err := follow(tx, sequenced); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
