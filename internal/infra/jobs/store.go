package jobs

import (
	"context"
	"database/sql"
	"time"

	"github.com/riverqueue/river/rivertype"

	"github.com/fusionspim/steward/internal/infra/postgres"
)

// depths counts unfinished jobs. Completed ones are left out: there is a day of them, and nothing
// waits for them.
func depths(ctx context.Context, handle *sql.DB) (found []Depth, err error) {
	rows, err := handle.QueryContext(ctx, `
		select queue, state::text, count(*), greatest(coalesce(extract(epoch from now() - min(scheduled_at)), 0), 0)
		from `+postgres.QueueSchema+`.river_job where state <> 'completed' group by queue, state`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	sums := make(map[Depth]Depth)
	for rows.Next() {
		var queue, state string
		var count int64
		var oldest float64
		if err := rows.Scan(&queue, &state, &count, &oldest); err != nil {
			return nil, err
		}
		key := Depth{Queue: queue, State: stateOf(rivertype.JobState(state))}
		sum := sums[key]
		sum.Queue, sum.State, sum.Count = key.Queue, key.State, sum.Count+count
		sum.Oldest = max(sum.Oldest, time.Duration(oldest*float64(time.Second)))
		sums[key] = sum
	}
	for _, sum := range sums {
		found = append(found, sum)
	}
	return found, rows.Err()
}
