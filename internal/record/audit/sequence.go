package audit

import (
	"context"
	"errors"

	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

const (
	sealBatch     = 2000 // entries that get their number in one transaction
	sealCustomers = 500  // customers that are looked after in one round
)

// Sequenced is an entry with its number: the place that it has in the trail of its customer for good. The first is 0, and none is left out.
type Sequenced struct {
	Index int64
	Entry Entry
}

// Follower is told of entries that have just got their numbers, in their order, within the transaction that gave them. What it does is done exactly once for each entry.
type Follower func(tx *postgres.Tx, sequenced []Sequenced) error

// Sequencer gives the entries their numbers, a moment after they were recorded. Every replica has one; for each customer one of them works at a time. Safe for concurrent use.
type Sequencer struct {
	db        *postgres.DB
	followers []Follower
}

// NewSequencer makes a sequencer.
func NewSequencer(db *postgres.DB, followers ...Follower) *Sequencer {
	return &Sequencer{db: db, followers: followers}
}

// Sequence gives every entry its number that has none yet, customer by customer. A customer at whom another replica is working is left to it. The failure of one customer does
// not hold up the others.
func (s *Sequencer) Sequence(ctx context.Context) error {
	var after id.Customer
	var failed error
	for {
		var waiting []id.Customer
		err := s.db.InPlatform(ctx, func(tx *postgres.Tx) (err error) {
			waiting, err = unsealedCustomers(tx, after, sealCustomers)
			return err
		})
		if err != nil {
			return errors.Join(failed, err)
		}
		for _, customer := range waiting {
			if ctx.Err() != nil {
				return failed
			}
			failed = errors.Join(failed, s.sequenceCustomer(ctx, customer))
		}
		if len(waiting) < sealCustomers {
			return failed
		}
		after = waiting[len(waiting)-1]
	}
}

// sequenceCustomer works through the entries of one customer.
func (s *Sequencer) sequenceCustomer(ctx context.Context, customer id.Customer) error {
	for count := sealBatch; count == sealBatch && ctx.Err() == nil; {
		err := s.db.InCustomer(ctx, customer, func(tx *postgres.Tx) error {
			sequenced, err := sequenceTx(tx, sealBatch)
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
