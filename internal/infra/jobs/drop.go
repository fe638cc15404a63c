package jobs

import (
	"context"
	"errors"

	"github.com/fusionspim/steward/internal/infra/postgres"
)

const dropBatch = 5000

// DropOpen deletes every job that is neither completed nor dead, and returns how many: what was
// enqueued before a restore may have been done long ago, or concern people who have since been
// erased. No workers may be running.
func DropOpen(ctx context.Context, db *postgres.DB) (dropped int64, err error) {
	connections, err := db.OpenQueue(ctx, 1)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, connections.Close()) }()
	for {
		done, err := connections.SQL.ExecContext(ctx, `
			delete from `+postgres.QueueSchema+`.river_job where id in (
				select id from `+postgres.QueueSchema+`.river_job
				where state in ('available', 'pending', 'retryable', 'running', 'scheduled') limit $1)`, dropBatch)
		if err != nil {
			return dropped, err
		}
		count, err := done.RowsAffected()
		if dropped += count; err != nil || count < dropBatch {
			return dropped, err
		}
	}
}
