package jobs

import (
	"context"
	"errors"

	"github.com/fusionspim/steward/internal/infra/postgres"
)

const dropBatch = 5000

// DropOpen removes every job that is not done or dead: what was asked for before a restore of the database may have been done long ago, or be about people who are gone.
// No workers may be at work. It tells how many there were.
func DropOpen(ctx context.Context, db *postgres.DB) (dropped int64, err error) {
	connections, err := db.OpenQueue(ctx, 1)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, connections.Close()) }()
	for {
		done, err := connections.SQL.ExecContext(ctx, `
			delete from `+postgres.QueueSchema+`.river_job where id in (
				select id from `+postgres.QueueSchema+`.river_job where state in ('available', 'pending', 'retryable', 'running', 'scheduled') limit $1)`, dropBatch)
		if err != nil {
			return dropped, err
		}
		count, err := done.RowsAffected()
		if dropped += count; err != nil || count < dropBatch {
			return dropped, err
		}
	}
}
