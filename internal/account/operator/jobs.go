package operator

import (
	"context"

	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/infra/idempotency"
	"github.com/fusionspim/steward/internal/infra/jobs"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/record/audit"
)

// ListJobs returns at most limit background jobs, newest first, from those before the given one;
// zero: from the newest on.
func (s *Service) ListJobs(ctx context.Context, filter jobs.Filter, before int64, limit int) ([]jobs.Record, error) {
	return s.desk.List(ctx, filter, before, limit)
}

// RetryJob retries a job now, and records that in the trail of Fusions. Faults: ResourceNotFound,
// JobNotRetryable.
//
// The queue has its own connection, so the job may be retried although the entry was not committed,
// if the database fails in between. The reverse cannot happen.
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
