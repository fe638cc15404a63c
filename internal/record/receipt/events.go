package receipt

import (
	"context"
	"time"

	"github.com/fusionspim/steward/internal/infra/jobs"
)

// finishEvery is within what time a receipt becomes final once the last backup is gone.
const finishEvery = 15 * time.Minute

// finishing is the job that makes receipts final.
type finishing struct{}

// Kind implements jobs.Arguments.
func (finishing) Kind() string { return "receipt_finality" }

// Policy makes one attempt: the next is soon.
func (finishing) Policy() jobs.Policy {
	return jobs.Policy{Queue: jobs.Upkeep, Attempts: 1, Unique: true}
}

// Handlers are the job handlers of this package.
func (s *Service) Handlers() []jobs.Handler {
	return []jobs.Handler{jobs.Handle(func(ctx context.Context, _ jobs.Job, _ finishing) error {
		_, err := s.Finish(ctx)
		return err
	}, jobs.Timeout(10*time.Minute))}
}

// Periodic are the jobs that are enqueued at intervals.
func (s *Service) Periodic() []jobs.Periodic {
	return []jobs.Periodic{{Every: finishEvery, Arguments: finishing{}}}
}
