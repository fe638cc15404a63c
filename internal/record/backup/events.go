package backup

import (
	"context"
	"errors"
	"time"

	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/infra/jobs"
)

// making is the job that makes a backup that an operator ordered.
type making struct {
	CustomerID id.Customer `json:"customer_id"` // Fusions, in whose transaction it was ordered
	BackupID   id.Backup   `json:"backup_id"`
}

// Kind implements jobs.Arguments.
func (making) Kind() string { return "backup_make" }

// Policy implements jobs.Arguments. It is not retried: operators see the failure and order another.
func (making) Policy() jobs.Policy { return jobs.Policy{Queue: jobs.Upkeep, Attempts: 1} }

// upkeep is the periodic job of this package.
type upkeep struct{}

// Kind implements jobs.Arguments.
func (upkeep) Kind() string { return "backup_upkeep" }

// Policy implements jobs.Arguments. It is not retried: the next one runs soon.
func (upkeep) Policy() jobs.Policy { return jobs.Policy{Queue: jobs.Upkeep, Attempts: 1} }

// Handlers returns the handlers of this package's jobs.
func (s *Service) Handlers() []jobs.Handler {
	return []jobs.Handler{
		jobs.Handle(func(ctx context.Context, _ jobs.Job, order making) error {
			_, err := s.make(ctx, order.BackupID)
			if errors.Is(err, ErrUnderWay) {
				// the process that made the one before is just ending
				return jobs.Snooze(time.Minute)
			}
			return err
		}, jobs.Timeout(longest)),
		jobs.Handle(func(ctx context.Context, _ jobs.Job, _ upkeep) error {
			return s.Upkeep(ctx)
		}, jobs.Timeout(longest)),
	}
}

// Periodic returns this package's periodic jobs.
func (s *Service) Periodic() []jobs.Periodic {
	if s.vault.Store == nil {
		return nil
	}
	return []jobs.Periodic{{Every: upkeepEvery, Arguments: upkeep{}}}
}
