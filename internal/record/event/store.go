package event

import (
	"database/sql"
	"encoding/json"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

// row is an event as a statement takes it.
type row struct {
	Number      int64       `json:"number"`
	ID          id.Entry    `json:"id"`
	Type        Type        `json:"type"`
	SubjectType SubjectType `json:"subject_type"`
	SubjectID   uuid.UUID   `json:"subject_id"`
	OccurredAt  time.Time   `json:"occurred_at"`
}

// insert stores events, however many, in one round trip.
func insert(tx *postgres.Tx, events []Event) error {
	rows := make([]row, len(events))
	for i, event := range events {
		rows[i] = row(event)
	}
	sent, err := json.Marshal(rows)
	if err != nil {
		return err
	}
	_, err = tx.Exec(`
		insert into events (customer_id, number, id, type, subject_type, subject_id, occurred_at, created_at)
		select @customer, number, id, type, subject_type, subject_id, occurred_at, @now::timestamptz
		from jsonb_to_recordset(@events::jsonb) as s(number bigint, id uuid, type text, subject_type text,
			subject_id uuid, occurred_at timestamptz)
		order by number
		on conflict do nothing`, postgres.Args{"customer": tx.Customer, "now": tx.Now, "events": string(sent)})
	return err
}

func numberOf(tx *postgres.Tx, event id.Entry) (number int64, exists bool, err error) {
	err = tx.QueryRow("select number from events where customer_id = $1 and id = $2", tx.Customer, event).Scan(&number)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, false, nil
	}
	return number, err == nil, err
}

// Columns are the columns of an Event, of a relation e of events.
const Columns = "e.number, e.id, e.type, e.subject_type, e.subject_id, e.occurred_at"

// Fields returns the destinations of Columns, in their order.
func (e *Event) Fields() []any {
	return []any{&e.Number, &e.ID, &e.Type, &e.SubjectType, &e.SubjectID, &e.OccurredAt}
}

func list(tx *postgres.Tx, only Type, from int64, limit int) ([]Event, error) {
	condition, arguments := "", postgres.Args{"customer": tx.Customer, "from": from, "limit": limit}
	if only != "" {
		condition, arguments["type"] = " and e.type = @type", only
	}
	return postgres.Collect(tx, func(row postgres.Row) (event Event, err error) {
		err = row.Scan(event.Fields()...)
		return event, err
	}, "select "+Columns+" from events e where e.customer_id = @customer and e.number > @from"+condition+
		" order by e.number limit @limit", arguments)
}

// LastTx returns the number of the newest event, or -1 if there is none.
func LastTx(tx *postgres.Tx) (number int64, err error) {
	err = tx.QueryRow("select coalesce(max(number), -1) from events where customer_id = $1", tx.Customer).Scan(&number)
	return number, err
}

// deleteExpired deletes at most limit events that have expired. One that is still to be delivered
// is deleted after its deliveries.
func deleteExpired(tx *postgres.Tx, now time.Time, limit int) (int64, error) {
	return tx.Exec(`
		delete from events where (customer_id, number) in (
			select e.customer_id, e.number from events e
			where e.created_at < $1 and not exists (
				select from webhook_deliveries d where d.customer_id = e.customer_id and d.number = e.number)
			limit $2)`, Oldest(now), limit)
}

// Oldest returns the time since which events are kept.
func Oldest(now time.Time) time.Time { return now.Add(-retention) }
