package replay

import (
	"time"

	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/record/ledger"
)

type outcomes = map[ledger.Kind]map[ledger.Outcome]int

// keep writes down how far a replay has come.
func keep(tx *postgres.Tx, one Replay) error {
	return tx.ORM().Exec(`
		insert into replays (id, started_at, finished_at, restored, ledger_from, ledger_to, outcomes, dropped) values (?, ?, ?, ?, ?, ?, ?, ?)
		on conflict (id) do update set finished_at = excluded.finished_at, outcomes = excluded.outcomes, dropped = excluded.dropped`,
		one.ID, one.StartedAt, one.FinishedAt, one.Restored, one.From, one.To, postgres.JSON[outcomes]{Of: one.Outcomes}, postgres.JSON[map[string]int64]{Of: one.Dropped}).Error
}

func list(tx *postgres.Tx, before id.Replay, limit int) (replays []Replay, err error) {
	statement, arguments := "select id, started_at, finished_at, restored, ledger_from, ledger_to, outcomes, dropped from replays", []any{}
	if !before.IsZero() {
		statement, arguments = statement+" where id < ?", append(arguments, before)
	}
	rows, err := tx.Raw(statement+" order by id desc limit ?", append(arguments, limit)...).Rows()
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // read to its end or given up
	for rows.Next() {
		var one Replay
		var finished *time.Time
		var became postgres.JSON[outcomes]
		var dropped postgres.JSON[map[string]int64]
		if err := rows.Scan(&one.ID, &one.StartedAt, &finished, &one.Restored, &one.From, &one.To, &became, &dropped); err != nil {
			return nil, err
		}
		one.FinishedAt, one.Outcomes, one.Dropped = finished, became.Of, dropped.Of
		replays = append(replays, one)
	}
	return replays, rows.Err()
}
