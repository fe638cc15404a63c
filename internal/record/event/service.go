package event

import (
	"context"

	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/record/audit"
)

// Service lists events. Safe for concurrent use.
type Service struct{ db *postgres.DB }

// NewService returns the service.
func NewService(db *postgres.DB) *Service { return &Service{db: db} }

// Derive returns a follower of the audit trail's sequencer. It stores the events of the entries,
// and calls notify if there are any: a function because webhooks are above events. Deriving the
// same entries again changes nothing.
func Derive(notify func(tx *postgres.Tx) error) func(tx *postgres.Tx, sequenced []audit.Sequenced) error {
	return func(tx *postgres.Tx, sequenced []audit.Sequenced) error {
		var events []Event
		for _, entry := range sequenced {
			if event, ok := derive(entry); ok {
				events = append(events, event)
			}
		}
		if len(events) == 0 {
			return nil
		}
		if err := insert(tx, events); err != nil {
			return err
		}
		return notify(tx)
	}
}

// List returns events, oldest first: at most limit of those after the given one, or from the oldest
// if after is zero; of one type only, unless it is empty. Fault: EventGone.
func (s *Service) List(
	ctx context.Context, caller principal.Principal, only Type, after id.Entry, limit int,
) ([]Event, error) {
	return postgres.Read(ctx, s.db, caller.Customer, func(tx *postgres.Tx) ([]Event, error) {
		from := int64(-1)
		if !after.IsZero() {
			number, exists, err := numberOf(tx, after)
			if err != nil {
				return nil, err
			}
			if !exists {
				return nil, gone()
			}
			from = number
		}
		return list(tx, only, from, limit)
	})
}
