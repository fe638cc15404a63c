package event

import (
	"context"

	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/record/audit"
)

// Service is events as callers use them. Safe for concurrent use.
type Service struct{ db *postgres.DB }

// NewService makes the service.
func NewService(db *postgres.DB) *Service { return &Service{db: db} }

// Derive returns what is to be done in the transaction in which entries get their places: events are made of them, and if there are any, tell is called.
// Deriving the same entries again changes nothing.
func Derive(tell func(tx *postgres.Tx) error) func(tx *postgres.Tx, sequenced []audit.Sequenced) error {
	return func(tx *postgres.Tx, sequenced []audit.Sequenced) error {
		var events []Event
		for _, one := range sequenced {
			if made, ok := of(one); ok {
				events = append(events, made)
			}
		}
		if len(events) == 0 {
			return nil
		}
		if err := insert(tx, events); err != nil {
			return err
		}
		return tell(tx)
	}
}

// List returns events, oldest first: at most limit of those behind the one named, or from the oldest on; of one type, if one is given. Fault: EventGone.
func (s *Service) List(ctx context.Context, caller principal.Principal, only Type, after id.Entry, limit int) (events []Event, err error) {
	err = s.db.InCustomerAutocommit(ctx, caller.Customer, func(tx *postgres.Tx) error {
		from := int64(-1)
		if !after.IsZero() {
			var there bool
			if from, there, err = numberOf(tx, after); err != nil || !there {
				return orGone(err)
			}
		}
		events, err = list(tx, only, from, limit)
		return err
	})
	return events, err
}

func orGone(err error) error {
	if err != nil {
		return err
	}
	return gone()
}
