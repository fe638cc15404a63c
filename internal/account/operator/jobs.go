package operator

import (
	"context"

	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/infra/idempotency"
	"github.com/fusionspim/steward/internal/infra/jobs"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/record/audit"
)

// ListJobs returns jobs of the background, newest first: at most limit of those asked for before
// the one named, or from the newest on.
func (s *Service) ListJobs(ctx context.Context, filter jobs.Filter, before int64, limit int) ([]jobs.Record, error) {
	return s.desk.List(ctx, filter, before, limit)
}

// RetryJob has a job tried once more, which the trail of Fusions names. Faults: ResourceNotFound,
// JobNotRetryable.
//
// The queue has a connection of its own, so the job can be tried although the entry was not kept,
// where the database goes away in between. The other way round cannot be.
func (s *Service) RetryJob(
	ctx context.Context,
	caller principal.Principal,
	job int64,
	once *idempotency.Once[jobs.Record],
) (after jobs.Record, err error) {
	return idempotency.Write(ctx, s.db, caller.Customer, once, func(tx *postgres.Tx) (jobs.Record, error) {
		if err := audit.AppendTx(
			tx,
			audit.Act{Caller: caller, Action: audit.JobRetried, Target: audit.OnJob(job)},
		); err != nil {
			return jobs.Record{}, err
		}
		after, err := s.desk.Retry(ctx, job)
		return after, err
	})
}
