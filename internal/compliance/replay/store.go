package replay

import (
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/record/ledger"
)

type outcomes = map[ledger.Kind]map[ledger.Outcome]int

// save stores the progress of a replay.
func save(tx *postgres.Tx, r Replay) error {
	_, err := tx.Exec(`
		insert into replays (id, started_at, finished_at, restored, ledger_from, ledger_to, outcomes, dropped)
		values (@id, @started_at, @finished_at, @restored, @from, @to, @outcomes, @dropped)
		on conflict (id) do update set finished_at = excluded.finished_at, outcomes = excluded.outcomes,
			dropped = excluded.dropped`,
		postgres.Args{
			"id": r.ID, "started_at": r.StartedAt, "finished_at": r.FinishedAt, "restored": r.Restored,
			"from": r.From, "to": r.To, "outcomes": postgres.JSON[outcomes]{Of: r.Outcomes},
			"dropped": postgres.JSON[map[string]int64]{Of: r.Dropped},
		})
	return err
}

func list(tx *postgres.Tx, before id.Replay, limit int) ([]Replay, error) {
	condition, arguments := "", postgres.Args{"limit": limit}
	if !before.IsZero() {
		condition, arguments["before"] = " where id < @before", before
	}
	return postgres.Collect(tx, func(row postgres.Row) (r Replay, err error) {
		var outcomes postgres.JSON[outcomes]
		var dropped postgres.JSON[map[string]int64]
		err = row.Scan(&r.ID, &r.StartedAt, &r.FinishedAt, &r.Restored, &r.From, &r.To, &outcomes, &dropped)
		r.Outcomes, r.Dropped = outcomes.Of, dropped.Of
		return r, err
	}, "select id, started_at, finished_at, restored, ledger_from, ledger_to, outcomes, dropped from replays"+
		condition+" order by id desc limit @limit", arguments)
}
