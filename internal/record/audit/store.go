package audit

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

// Clause returns the statement that records an act, to stand alone or as a part of the statement of the act itself. It records the act once for
// each row of the relation, whose column changed (text[]) names the members that changed: no row, no entry.
func Clause(tx *postgres.Tx, act Act, relation string) (clause string, arguments []any) {
	by := act.actor()
	var details *string
	if act.Details != nil {
		text, _ := json.Marshal(act.Details) // of these types: does not fail
		details = new(string(text))
	}
	return `insert into audit_entries (customer_id, id, source, actor_type, actor_user_id, actor_api_key_id, actor_operator_customer_id, actor_operator_id,
			action, target_type, target_id, changed, details, occurred_at, recorded_at)
		select ?, ?, 'steward', ?, ?::uuid, ?::uuid, ?::uuid, ?::uuid, ?, ?, ?, changed, ?::jsonb, ?::timestamptz, ?::timestamptz from ` + relation,
		[]any{
			tx.Customer, id.New[id.Entry](), by.kind, by.user, by.apiKey, by.operatorCustomer, by.operator, act.Action, act.Target.Type, act.Target.ID,
			details, tx.Now, tx.Now,
		}
}

func appendAct(tx *postgres.Tx, act Act) error {
	clause, arguments := Clause(tx, act, "(select ?::text[] as changed) as act")
	return orEnded(tx.ORM().Exec(clause, append(arguments, postgres.Strings(act.Changed))...).Error)
}

func appendAll(tx *postgres.Tx, acts []Act) error {
	type row struct {
		ID               id.Entry       `json:"id"`
		Actor            ActorType      `json:"actor"`
		User             *id.User       `json:"user_id"`
		APIKey           *id.APIKey     `json:"api_key_id"`
		OperatorCustomer *id.Customer   `json:"operator_customer_id"`
		Operator         *id.User       `json:"operator_id"`
		Action           Action         `json:"action"`
		Type             string         `json:"type"`
		Of               string         `json:"of"`
		Changed          []string       `json:"changed"`
		Details          map[string]any `json:"details,omitempty"`
	}
	rows := make([]row, len(acts))
	for i, act := range acts {
		by := act.actor()
		rows[i] = row{
			ID: id.New[id.Entry](), Actor: by.kind, User: by.user, APIKey: by.apiKey, OperatorCustomer: by.operatorCustomer, Operator: by.operator, Action: act.Action,
			Type: act.Target.Type, Of: act.Target.ID, Changed: append([]string{}, act.Changed...), Details: act.Details,
		}
	}
	sent, err := json.Marshal(rows)
	if err != nil {
		return err
	}
	err = tx.ORM().Exec(`
		insert into audit_entries (customer_id, id, source, actor_type, actor_user_id, actor_api_key_id, actor_operator_customer_id, actor_operator_id,
			action, target_type, target_id, changed, details, occurred_at, recorded_at)
		select ?, id, 'steward', actor, user_id, api_key_id, operator_customer_id, operator_id, action, type, "of", changed, details, ?::timestamptz, ?::timestamptz
		from jsonb_to_recordset(?::jsonb) as act(id uuid, actor text, user_id uuid, api_key_id uuid, operator_customer_id uuid, operator_id uuid, action text,
			type text, "of" text, changed text[], details jsonb) order by id`, tx.Customer, tx.Now, tx.Now, string(sent)).Error
	return orEnded(err)
}

// orEnded tells a caller who was deleted a moment ago that the session is over.
func orEnded(err error) error {
	if postgres.Violates(err, "audit_entries_actor_user") || postgres.Violates(err, "audit_entries_actor_operator") {
		return fault.Because(err, fault.Unauthorized, "The session has ended. Sign in again.")
	}
	return err
}

// toMicroseconds cuts a time to what PostgreSQL keeps.
func toMicroseconds(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

// insert stores every entry that is not refused yet, refuses those whose actor is unknown or was redacted before it occurred, and leaves the
// status of those empty whose source id is taken. One round trip, however many.
func insert(tx *postgres.Tx, entries []NewEntry, outcomes []Outcome) error {
	rows := make([]wireEntry, 0, len(entries))
	for i, entry := range entries {
		if outcomes[i].Status == Refused {
			continue
		}
		row := wireEntry{
			Row: i, ID: id.New[id.Entry](), Actor: entry.ActorUserID, Action: entry.Action, TargetType: entry.Target.Type, TargetID: entry.Target.ID,
			OccurredAt: toMicroseconds(entry.OccurredAt), Details: entry.Details,
		}
		if entry.SourceID != "" {
			row.SourceID = &entries[i].SourceID
		}
		rows = append(rows, row)
	}
	if len(rows) == 0 {
		return nil
	}
	sent, err := json.Marshal(rows)
	if err != nil {
		return err
	}
	// "of" the rows: which actor each has and how that actor stands; "stored": the good ones. A row comes back as its number with "stored",
	// "unknown", "redacted" or "passed over".
	found, err := tx.Raw(`
		with sent as (
			select * from jsonb_to_recordset(?::jsonb) as s(row int, id uuid, source_id text, actor uuid, action text, target_type text, target_id text,
				occurred_at timestamptz, details jsonb)
		), judged as (
			select s.*, u.id is null as unknown, coalesce(u.status = 'redacted' and u.redacted_at < s.occurred_at, false) as redacted
			from sent s left join lateral (
				-- One by one by their key: a plain join reads every user once the batch is large enough.
				select id, status, redacted_at from users where customer_id = ? and id = s.actor limit 1
			) u on true
		), stored as (
			insert into audit_entries (customer_id, id, source, source_id, actor_type, actor_user_id, action, target_type, target_id, changed, details,
				occurred_at, recorded_at)
			select ?, id, 'integration', source_id, 'user', actor, action, target_type, target_id, '{}', details, occurred_at, ?::timestamptz
			from judged where not unknown and not redacted order by row
			on conflict (customer_id, source_id) where source_id is not null do nothing
			returning id
		)
		select row, case when unknown then 'unknown' when redacted then 'redacted' else 'passed over' end from judged
		where id not in (select id from stored)`, string(sent), tx.Customer, tx.Customer, tx.Now).Rows()
	if err != nil {
		return err
	}
	defer found.Close() //nolint:errcheck // read to its end or given up
	for _, row := range rows {
		outcomes[row.Row].Status, outcomes[row.Row].ID = Created, row.ID
	}
	for found.Next() {
		var row int
		var verdict string
		if err := found.Scan(&row, &verdict); err != nil {
			return err
		}
		outcomes[row].Status, outcomes[row].ID = "", id.Entry{}
		switch verdict {
		case "unknown":
			outcomes[row].refuse(fault.UnknownActor, "The actor is not a user of this customer, or is deleted.", "/actor_user_id")
		case "redacted":
			outcomes[row].refuse(fault.UserRedacted, "The actor was redacted before this occurred.", "/actor_user_id")
		}
	}
	return found.Err()
}

type wireEntry struct {
	Row        int             `json:"row"`
	ID         id.Entry        `json:"id"`
	SourceID   *string         `json:"source_id"`
	Actor      id.User         `json:"actor"`
	Action     string          `json:"action"`
	TargetType string          `json:"target_type"`
	TargetID   string          `json:"target_id"`
	OccurredAt time.Time       `json:"occurred_at"`
	Details    json.RawMessage `json:"details"`
}

const entryColumns = `e.id, e.source, e.source_id, e.actor_type, e.actor_user_id, e.actor_api_key_id, e.actor_operator_customer_id, e.actor_operator_id, coalesce(u.status = 'redacted', false), u.label,
	e.action, e.target_type, e.target_id, to_jsonb(e.changed), e.details, e.occurred_at, e.recorded_at`

const entriesWithActors = "from audit_entries e left join users u on u.customer_id = e.customer_id and u.id = e.actor_user_id"

func scanEntries(rows *sql.Rows, err error) ([]Entry, error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // read to its end or given up
	var entries []Entry
	for rows.Next() {
		var e Entry
		var changed postgres.JSON[[]string]
		var details []byte
		if err := rows.Scan(&e.ID, &e.Source, &e.SourceID, &e.ActorType, &e.ActorUserID, &e.ActorAPIKeyID, &e.OperatorCustomerID, &e.OperatorID, &e.ActorRedacted, &e.ActorLabel,
			&e.Action, &e.Target.Type, &e.Target.ID, &changed, &details, &e.OccurredAt, &e.RecordedAt); err != nil {
			return nil, err
		}
		e.Changed, e.Details = changed.Of, details
		entries = append(entries, e)
	}
	return entries, rows.Err()
}

func list(tx *postgres.Tx, filter Filter, before id.Entry, limit int) ([]Entry, error) {
	conditions, arguments := []string{"e.customer_id = ?"}, []any{tx.Customer}
	and := func(condition string, argument any) {
		conditions, arguments = append(conditions, condition), append(arguments, argument)
	}
	if !before.IsZero() {
		and("e.id < ?", before)
	}
	if filter.ActorUserID != nil {
		and("e.actor_user_id = ?", *filter.ActorUserID)
	}
	if filter.Action != "" {
		and("e.action = ?", filter.Action)
	}
	if filter.TargetType != "" {
		and("e.target_type = ?", filter.TargetType)
	}
	if filter.TargetID != "" {
		and("e.target_id = ?", filter.TargetID)
	}
	if filter.From != nil {
		and("e.occurred_at >= ?", *filter.From)
	}
	if filter.To != nil {
		and("e.occurred_at < ?", *filter.To)
	}
	return scanEntries(tx.Raw("select "+entryColumns+" "+entriesWithActors+" where "+strings.Join(conditions, " and ")+
		" order by e.id desc limit ?", append(arguments, limit)...).Rows())
}

func bySourceID(tx *postgres.Tx, sourceIDs []string) (map[string]Entry, error) {
	entries, err := scanEntries(tx.Raw("select "+entryColumns+" "+entriesWithActors+" where e.customer_id = ? and e.source_id = any (?::text[])",
		tx.Customer, postgres.Strings(sourceIDs)).Rows())
	kept := make(map[string]Entry, len(entries))
	for _, entry := range entries {
		kept[*entry.SourceID] = entry
	}
	return kept, err
}

func references(tx *postgres.Tx, users []id.User) (map[id.User][]fault.Reference, error) {
	rows, err := tx.Raw(`
		select actor_user_id, source, count(*), min(occurred_at), max(occurred_at) from audit_entries
		where customer_id = ? and actor_user_id = any (?) group by actor_user_id, source order by actor_user_id, source`, tx.Customer, users).Rows()
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // read to its end or given up
	found := make(map[id.User][]fault.Reference)
	for rows.Next() {
		var user id.User
		var reference fault.Reference
		if err := rows.Scan(&user, &reference.Source, &reference.Count, &reference.FirstAt, &reference.LastAt); err != nil {
			return nil, err
		}
		reference.FirstAt, reference.LastAt = reference.FirstAt.UTC(), reference.LastAt.UTC()
		found[user] = append(found[user], reference)
	}
	return found, rows.Err()
}

// unsealedCustomers returns customers who have entries without a number, in the order of their ids. It goes from one to the next by the key, however many entries there are.
func unsealedCustomers(tx *postgres.Tx, after id.Customer, limit int) (customers []id.Customer, err error) {
	rows, err := tx.Raw(`
		with recursive waiting as (
			(select customer_id from audit_unsealed where customer_id > ? order by customer_id limit 1)
			union all
			select (select u.customer_id from audit_unsealed u where u.customer_id > w.customer_id order by u.customer_id limit 1)
			from waiting w where w.customer_id is not null
		)
		select customer_id from waiting where customer_id is not null limit ?`, after, limit).Rows()
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // read to its end or given up
	for rows.Next() {
		var customer id.Customer
		if err := rows.Scan(&customer); err != nil {
			return nil, err
		}
		customers = append(customers, customer)
	}
	return customers, rows.Err()
}

// sequenceTx gives the next entries of the customer their numbers, in the order of their ids, and returns them. There are none where another replica is at it. It takes the same
// few round trips however many there are, and writes one row for each.
func sequenceTx(tx *postgres.Tx, limit int) ([]Sequenced, error) {
	if err := tx.ORM().Exec("insert into audit_heads (customer_id, size, roots) values (?, 0, '') on conflict do nothing", tx.Customer).Error; err != nil {
		return nil, err
	}
	var head edge
	// A queue is empty most of the time, so the planner takes it for small, and would read and sort all of it for each batch. What takes the batch goes by keys alone.
	var planner [3]string
	err := tx.Raw(`
		select size, roots, set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true), set_config('enable_sort', 'off', true)
		from audit_heads where customer_id = ? for update skip locked`, tx.Customer).Row().Scan(&head.size, &head.roots, &planner[0], &planner[1], &planner[2])
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	entries, err := scanEntries(tx.Raw(`
		with taken as (
			delete from audit_unsealed where customer_id = ? and entry_id = any (array(
				select entry_id from audit_unsealed where customer_id = ? order by entry_id limit ?))
			returning entry_id
		)
		select `+entryColumns+` `+entriesWithActors+` join taken t on t.entry_id = e.id where e.customer_id = ?`,
		tx.Customer, tx.Customer, limit, tx.Customer).Rows())
	if err != nil || len(entries) == 0 {
		return nil, err
	}
	slices.SortFunc(entries, func(a, b Entry) int { return bytes.Compare(a.ID.UUID[:], b.ID.UUID[:]) })
	sequenced := make([]Sequenced, len(entries))
	ids, leaves := make([]id.Entry, len(entries)), make([][]byte, len(entries))
	for i, entry := range entries {
		sequenced[i] = Sequenced{Index: head.size + int64(i), Entry: entry}
		ids[i] = entry.ID
		if leaves[i], err = entry.leaf(tx.Customer); err != nil {
			return nil, err
		}
	}
	hashes, after, err := head.grow(leaves)
	if err != nil {
		return nil, err
	}
	err = tx.Raw(`
		with kept as (
			insert into audit_leaves (customer_id, leaf_index, entry_id, hashes)
			select ?, ?::bigint + at - 1, entry, hashes from unnest(?::uuid[], ?::bytea[]) with ordinality as sequenced(entry, hashes, at)
		)
		update audit_heads set size = ?, roots = ? where customer_id = ?
		returning set_config('enable_seqscan', 'on', true), set_config('enable_bitmapscan', 'on', true), set_config('enable_sort', 'on', true)`,
		tx.Customer, head.size, uuids(ids), hashes, after.size, after.roots, tx.Customer).Row().Scan(&planner[0], &planner[1], &planner[2])
	return sequenced, err
}

// uuids are identifiers as an argument that is a uuid[].
func uuids(ids []id.Entry) [][16]byte {
	out := make([][16]byte, len(ids))
	for i, one := range ids {
		out[i] = one.UUID
	}
	return out
}

// head reads how far the trail of the customer is sequenced.
func head(tx *postgres.Tx) (found edge, err error) {
	err = tx.Raw("select size, roots from audit_heads where customer_id = ?", tx.Customer).Row().Scan(&found.size, &found.roots)
	if errors.Is(err, sql.ErrNoRows) {
		return edge{}, nil
	}
	return found, err
}

// placeOf finds an entry and its number, which is nil while it has none.
func placeOf(tx *postgres.Tx, entry id.Entry) (found Entry, index *int64, ok bool, err error) {
	entries, err := scanEntries(tx.Raw("select "+entryColumns+" "+entriesWithActors+" where e.customer_id = ? and e.id = ?", tx.Customer, entry).Rows())
	if err != nil || len(entries) == 0 {
		return Entry{}, nil, false, err
	}
	err = tx.Raw("select leaf_index from audit_leaves where customer_id = ? and entry_id = ?", tx.Customer, entry).Row().Scan(&index)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return entries[0], index, true, err
}

// hashesAt reads the hashes of leaves by their numbers.
func hashesAt(tx *postgres.Tx, leaves []int64) (map[int64][]byte, error) {
	found := make(map[int64][]byte, len(leaves))
	if len(leaves) == 0 {
		return found, nil
	}
	rows, err := tx.Raw("select leaf_index, hashes from audit_leaves where customer_id = ? and leaf_index = any (?::bigint[])", tx.Customer, leaves).Rows()
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // read to its end or given up
	for rows.Next() {
		var leaf int64
		var hashes []byte
		if err := rows.Scan(&leaf, &hashes); err != nil {
			return nil, err
		}
		found[leaf] = hashes
	}
	return found, rows.Err()
}
