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

// Clause returns the statement that records an act, to be a part of the statement of the act
// itself. It records the act once for each row of the relation, whose column changed (text[]) has
// the names of the members that changed: no row, no entry. Its arguments are named audit_….
func Clause(tx *postgres.Tx, act Act, relation string) (clause string, arguments postgres.Args) {
	by := act.actor()
	var details *string
	if act.Details != nil {
		text, _ := json.Marshal(act.Details) // cannot fail for these types
		details = new(string(text))
	}
	return `insert into audit_entries (customer_id, id, source, actor_type, actor_user_id, actor_api_key_id,
				actor_operator_customer_id, actor_operator_id, action, target_type, target_id, changed, details,
				occurred_at, recorded_at)
			select @audit_customer, @audit_entry, 'steward', @audit_actor, @audit_user::uuid, @audit_api_key::uuid,
				@audit_operator_customer::uuid, @audit_operator::uuid, @audit_action, @audit_target_type, @audit_target_id,
				changed, @audit_details::jsonb, @audit_now::timestamptz, @audit_now::timestamptz
			from ` + relation,
		postgres.Args{
			"audit_customer": tx.Customer, "audit_entry": id.New[id.Entry](), "audit_now": tx.Now,
			"audit_actor": by.kind, "audit_user": by.user, "audit_api_key": by.apiKey,
			"audit_operator_customer": by.operatorCustomer, "audit_operator": by.operator,
			"audit_action": act.Action, "audit_target_type": act.Target.Type, "audit_target_id": act.Target.ID,
			"audit_details": details,
		}
}

func appendAct(tx *postgres.Tx, act Act) error {
	clause, arguments := Clause(tx, act, "(select @audit_changed::text[] as changed) as act")
	arguments["audit_changed"] = append([]string{}, act.Changed...)
	_, err := tx.Exec(clause, arguments)
	return sessionEnded(err)
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
			ID:               id.New[id.Entry](),
			Actor:            by.kind,
			User:             by.user,
			APIKey:           by.apiKey,
			OperatorCustomer: by.operatorCustomer,
			Operator:         by.operator,
			Action:           act.Action,
			Type:             act.Target.Type,
			Of:               act.Target.ID,
			Changed:          append([]string{}, act.Changed...),
			Details:          act.Details,
		}
	}
	sent, err := json.Marshal(rows)
	if err != nil {
		return err
	}
	_, err = tx.Exec(`
		insert into audit_entries (customer_id, id, source, actor_type, actor_user_id, actor_api_key_id,
			actor_operator_customer_id, actor_operator_id, action, target_type, target_id, changed, details,
			occurred_at, recorded_at)
		select @customer, id, 'steward', actor, user_id, api_key_id, operator_customer_id, operator_id, action, type,
			"of", changed, details, @now::timestamptz, @now::timestamptz
		from jsonb_to_recordset(@acts::jsonb) as act(id uuid, actor text, user_id uuid, api_key_id uuid,
			operator_customer_id uuid, operator_id uuid, action text, type text, "of" text, changed text[], details jsonb)
		order by id`,
		postgres.Args{"customer": tx.Customer, "now": tx.Now, "acts": string(sent)})
	return sessionEnded(err)
}

// sessionEnded returns the fault Unauthorized if the caller was deleted in the meantime.
func sessionEnded(err error) error {
	if postgres.Violates(err, "audit_entries_actor_user") || postgres.Violates(err, "audit_entries_actor_operator") {
		return fault.Because(err, fault.Unauthorized, "The session has ended. Sign in again.")
	}
	return err
}

// toMicroseconds truncates a time to the precision of PostgreSQL.
func toMicroseconds(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

// insert stores every entry that is not rejected yet, and rejects those whose actor is unknown or
// was redacted before the entry occurred. It leaves the status of those empty whose source id
// exists. One round trip, however many.
func insert(tx *postgres.Tx, entries []NewEntry, outcomes []Outcome) error {
	rows := make([]wireEntry, 0, len(entries))
	for i, entry := range entries {
		if outcomes[i].Status == Rejected {
			continue
		}
		row := wireEntry{
			Row: i, ID: id.New[id.Entry](), Actor: entry.ActorUserID, Action: entry.Action,
			TargetType: entry.Target.Type, TargetID: entry.Target.ID,
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
	type notStored struct {
		row int
		why string
	}
	// "checked": the actor of each row and its state; "stored": the rows that were inserted. Every
	// other row is returned by its number with "unknown", "redacted" or "conflict".
	left, err := postgres.Collect(tx, func(row postgres.Row) (n notStored, err error) {
		err = row.Scan(&n.row, &n.why)
		return n, err
	}, `
		with sent as (
			select * from jsonb_to_recordset(@entries::jsonb) as s(row int, id uuid, source_id text, actor uuid,
				action text, target_type text, target_id text, occurred_at timestamptz, details jsonb)
		), checked as (
			select s.*, u.id is null as unknown,
				coalesce(u.status = 'redacted' and u.redacted_at < s.occurred_at, false) as redacted
			from sent s left join lateral (
				-- One look-up by key for each: a plain join reads every user once the batch is large enough.
				select id, status, redacted_at from users where customer_id = @customer and id = s.actor limit 1
			) u on true
		), stored as (
			insert into audit_entries (customer_id, id, source, source_id, actor_type, actor_user_id, action, target_type,
				target_id, changed, details, occurred_at, recorded_at)
			select @customer, id, 'integration', source_id, 'user', actor, action, target_type,
				target_id, '{}', details, occurred_at, @now::timestamptz
			from checked where not unknown and not redacted order by row
			on conflict (customer_id, source_id) where source_id is not null do nothing
			returning id
		)
		select row, case when unknown then 'unknown' when redacted then 'redacted' else 'conflict' end from checked
		where id not in (select id from stored)`,
		postgres.Args{"entries": string(sent), "customer": tx.Customer, "now": tx.Now})
	if err != nil {
		return err
	}
	for _, row := range rows {
		outcomes[row.Row].Status, outcomes[row.Row].ID = Created, row.ID
	}
	for _, n := range left {
		outcome := &outcomes[n.row]
		outcome.Status, outcome.ID = "", id.Entry{}
		switch n.why {
		case "unknown":
			outcome.reject(
				fault.UnknownActor,
				"The actor is not a user of this customer, or is deleted.",
				"/actor_user_id",
			)
		case "redacted":
			outcome.reject(fault.UserRedacted, "The actor was redacted before this occurred.", "/actor_user_id")
		}
	}
	return nil
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

const entryColumns = `e.id, e.source, e.source_id, e.actor_type, e.actor_user_id, e.actor_api_key_id,
	e.actor_operator_customer_id, e.actor_operator_id, coalesce(u.status = 'redacted', false), u.label,
	e.action, e.target_type, e.target_id, to_jsonb(e.changed), e.details, e.occurred_at, e.recorded_at`

const entriesWithActors = `from audit_entries e
	left join users u on u.customer_id = e.customer_id and u.id = e.actor_user_id`

func scanEntry(row postgres.Row) (e Entry, err error) {
	var changed postgres.JSON[[]string]
	var details []byte
	err = row.Scan(&e.ID, &e.Source, &e.SourceID, &e.ActorType, &e.ActorUserID, &e.ActorAPIKeyID,
		&e.OperatorCustomerID, &e.OperatorID, &e.ActorRedacted, &e.ActorLabel,
		&e.Action, &e.Target.Type, &e.Target.ID, &changed, &details, &e.OccurredAt, &e.RecordedAt)
	e.Changed, e.Details = changed.Of, details
	return e, err
}

func list(tx *postgres.Tx, filter Filter, before id.Entry, limit int) ([]Entry, error) {
	conditions := []string{"e.customer_id = @customer"}
	arguments := postgres.Args{"customer": tx.Customer, "limit": limit}
	and := func(condition, name string, argument any) {
		conditions, arguments[name] = append(conditions, condition), argument
	}
	if !before.IsZero() {
		and("e.id < @before", "before", before)
	}
	if filter.ActorUserID != nil {
		and("e.actor_user_id = @actor", "actor", *filter.ActorUserID)
	}
	if filter.Action != "" {
		and("e.action = @action", "action", filter.Action)
	}
	if filter.TargetType != "" {
		and("e.target_type = @target_type", "target_type", filter.TargetType)
	}
	if filter.TargetID != "" {
		and("e.target_id = @target_id", "target_id", filter.TargetID)
	}
	if filter.From != nil {
		and("e.occurred_at >= @from", "from", *filter.From)
	}
	if filter.To != nil {
		and("e.occurred_at < @to", "to", *filter.To)
	}
	return postgres.Collect(tx, scanEntry, "select "+entryColumns+" "+entriesWithActors+
		" where "+strings.Join(conditions, " and ")+" order by e.id desc limit @limit", arguments)
}

func bySourceID(tx *postgres.Tx, sourceIDs []string) (map[string]Entry, error) {
	entries, err := postgres.Collect(tx, scanEntry, "select "+entryColumns+" "+entriesWithActors+
		" where e.customer_id = $1 and e.source_id = any ($2::text[])", tx.Customer, sourceIDs)
	stored := make(map[string]Entry, len(entries))
	for _, entry := range entries {
		stored[*entry.SourceID] = entry
	}
	return stored, err
}

func references(tx *postgres.Tx, users []id.User) (map[id.User][]fault.Reference, error) {
	type reference struct {
		user id.User
		fault.Reference
	}
	all, err := postgres.Collect(tx, func(row postgres.Row) (r reference, err error) {
		err = row.Scan(&r.user, &r.Source, &r.Count, &r.FirstAt, &r.LastAt)
		r.FirstAt, r.LastAt = r.FirstAt.UTC(), r.LastAt.UTC()
		return r, err
	}, `
		select actor_user_id, source, count(*), min(occurred_at), max(occurred_at) from audit_entries
		where customer_id = $1 and actor_user_id = any ($2)
		group by actor_user_id, source order by actor_user_id, source`, tx.Customer, users)
	if err != nil {
		return nil, err
	}
	found := make(map[id.User][]fault.Reference)
	for _, r := range all {
		found[r.user] = append(found[r.user], r.Reference)
	}
	return found, nil
}

// pendingCustomers returns customers that have entries without a number, in the order of their ids.
// It goes from one to the next by the key, however many entries there are.
func pendingCustomers(tx *postgres.Tx, after id.Customer, limit int) ([]id.Customer, error) {
	return postgres.Column[id.Customer](tx, `
		with recursive pending as (
			(select customer_id from audit_unsealed where customer_id > $1 order by customer_id limit 1)
			union all
			select (select u.customer_id from audit_unsealed u where u.customer_id > p.customer_id order by u.customer_id limit 1)
			from pending p where p.customer_id is not null
		)
		select customer_id from pending where customer_id is not null limit $2`, after, limit)
}

// sequence numbers the next entries of the customer, in the order of their ids, and returns them.
// It returns none while another replica sequences that customer. It takes the same few round trips
// however many entries there are, and writes one row for each.
func sequence(tx *postgres.Tx, limit int) ([]Sequenced, error) {
	_, err := tx.Exec(
		"insert into audit_heads (customer_id, size, roots) values ($1, 0, '') on conflict do nothing",
		tx.Customer,
	)
	if err != nil {
		return nil, err
	}
	var head frontier
	// The queue is empty most of the time, so the planner expects it to be small, and would read
	// and sort all of it for each batch. The statement that dequeues the batch must go by keys
	// alone.
	var planner [3]string
	err = tx.QueryRow(`
		select size, roots, set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true),
			set_config('enable_sort', 'off', true)
		from audit_heads where customer_id = $1 for update skip locked`, tx.Customer).
		Scan(&head.size, &head.roots, &planner[0], &planner[1], &planner[2])
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	entries, err := postgres.Collect(tx, scanEntry, `
		with batch as (
			delete from audit_unsealed where customer_id = @customer and entry_id = any (array(
				select entry_id from audit_unsealed where customer_id = @customer order by entry_id limit @limit))
			returning entry_id
		)
		select `+entryColumns+` `+entriesWithActors+` join batch b on b.entry_id = e.id where e.customer_id = @customer`,
		postgres.Args{"customer": tx.Customer, "limit": limit})
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
	err = tx.QueryRow(`
		with stored as (
			insert into audit_leaves (customer_id, leaf_index, entry_id, hashes)
			select @customer::uuid, @size::bigint + at - 1, entry, hashes
			from unnest(@entries::uuid[], @hashes::bytea[]) with ordinality as sequenced(entry, hashes, at)
		)
		update audit_heads set size = @new_size, roots = @new_roots where customer_id = @customer::uuid
		returning set_config('enable_seqscan', 'on', true), set_config('enable_bitmapscan', 'on', true),
			set_config('enable_sort', 'on', true)`,
		postgres.Args{
			"customer": tx.Customer, "size": head.size, "entries": uuids(ids), "hashes": hashes,
			"new_size": after.size, "new_roots": after.roots,
		}).Scan(&planner[0], &planner[1], &planner[2])
	return sequenced, err
}

// uuids returns identifiers as an argument of type uuid[].
func uuids(entries []id.Entry) [][16]byte {
	converted := make([][16]byte, len(entries))
	for i, entry := range entries {
		converted[i] = entry.UUID
	}
	return converted
}

// readHead returns the tree of the sequenced entries of the customer.
func readHead(tx *postgres.Tx) (head frontier, err error) {
	err = tx.QueryRow("select size, roots from audit_heads where customer_id = $1", tx.Customer).
		Scan(&head.size, &head.roots)
	if errors.Is(err, sql.ErrNoRows) {
		return frontier{}, nil
	}
	return head, err
}

// find returns an entry and its index, which is nil while it is not sequenced.
func find(tx *postgres.Tx, entry id.Entry) (found Entry, index *int64, ok bool, err error) {
	found, err = scanEntry(tx.QueryRow("select "+entryColumns+" "+entriesWithActors+
		" where e.customer_id = $1 and e.id = $2", tx.Customer, entry))
	if errors.Is(err, sql.ErrNoRows) {
		return Entry{}, nil, false, nil
	}
	if err != nil {
		return Entry{}, nil, false, err
	}
	err = tx.QueryRow("select leaf_index from audit_leaves where customer_id = $1 and entry_id = $2", tx.Customer, entry).
		Scan(&index)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return found, index, true, err
}

// hashesAt returns the hashes that are stored with leaves, by index.
func hashesAt(tx *postgres.Tx, leaves []int64) (map[int64][]byte, error) {
	found := make(map[int64][]byte, len(leaves))
	if len(leaves) == 0 {
		return found, nil
	}
	type row struct {
		leaf   int64
		hashes []byte
	}
	rows, err := postgres.Collect(tx, func(r postgres.Row) (row row, err error) {
		err = r.Scan(&row.leaf, &row.hashes)
		return row, err
	}, "select leaf_index, hashes from audit_leaves where customer_id = $1 and leaf_index = any ($2::bigint[])",
		tx.Customer, leaves)
	for _, r := range rows {
		found[r.leaf] = r.hashes
	}
	return found, err
}
