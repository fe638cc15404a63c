package backup

import (
	"context"
	"errors"
	"time"

	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/infra/jobs"
)

// making has a backup made that an operator asked for.
type making struct {
	CustomerID id.Customer `json:"customer_id"` // Fusions, in whose transaction it was asked for
	BackupID   id.Backup   `json:"backup_id"`
}

// Kind implements jobs.Arguments.
func (making) Kind() string { return "backup_make" }

// Policy makes one attempt: what failed is told, and asked for again.
func (making) Policy() jobs.Policy { return jobs.Policy{Queue: jobs.Upkeep, Attempts: 1} }

// upkeep has backups looked after.
type upkeep struct{}

// Kind implements jobs.Arguments.
func (upkeep) Kind() string { return "backup_upkeep" }

// Policy makes one attempt: the next is soon.
func (upkeep) Policy() jobs.Policy { return jobs.Policy{Queue: jobs.Upkeep, Attempts: 1} }

// Handlers do the jobs of this package.
func (s *Service) Handlers() []jobs.Handler {
	return []jobs.Handler{
		jobs.Handle(func(ctx context.Context, _ jobs.Job, order making) error {
			_, err := s.make(ctx, order.BackupID)
			if errors.Is(err, ErrUnderWay) {
				return jobs.Snooze(time.Minute) // the maker before is just ending
			}
			return err
		}, jobs.Timeout(longest)),
		jobs.Handle(func(ctx context.Context, _ jobs.Job, _ upkeep) error { return s.Upkeep(ctx) }, jobs.Timeout(longest)),
	}
}

// Periodic is what is asked for again and again.
func (s *Service) Periodic() []jobs.Periodic {
	if s.vault.Store == nil {
		return nil
	}
	return []jobs.Periodic{{Every: upkeepEvery, Arguments: upkeep{}}}
}
