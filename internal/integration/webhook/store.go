package webhook

import (
	"database/sql"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/record/event"
)

// keptSecrets are the secrets of an endpoint as they are kept.
type keptSecrets struct {
	present           []byte
	previous          []byte // nil: none
	previousExpiresAt *time.Time
}

const columns = `id, url, description, to_jsonb(event_types), status, paused_reason, paused_at, failing_since, previous_expires_at, version, created_at, updated_at`

// forUpdate holds a row that is read against changes until the transaction ends.
const forUpdate = " for no key update"

func scan(row interface{ Scan(into ...any) error }) (one Endpoint, err error) {
	var types postgres.JSON[[]event.Type]
	err = row.Scan(&one.ID, &one.URL, &one.Description, &types, &one.Status, &one.PausedReason, &one.PausedAt, &one.FailingSince, &one.PreviousExpiresAt,
		&one.Version, &one.CreatedAt, &one.UpdatedAt)
	one.Events = types.Of
	return one, err
}

func get(tx *postgres.Tx, endpoint id.WebhookEndpoint, lock string) (Endpoint, error) {
	found, err := scan(tx.Raw("select "+columns+" from webhook_endpoints where customer_id = ? and id = ? and status <> 'deleted'"+lock, tx.Customer, endpoint).Row())
	if errors.Is(err, sql.ErrNoRows) {
		return Endpoint{}, notFound()
	}
	return found, err
}

func list(tx *postgres.Tx, before id.WebhookEndpoint, limit int) (endpoints []Endpoint, err error) {
	condition, arguments := "", []any{tx.Customer}
	if !before.IsZero() {
		condition, arguments = " and id < ?", append(arguments, before)
	}
	rows, err := tx.Raw("select "+columns+" from webhook_endpoints where customer_id = ? and status <> 'deleted'"+condition+" order by id desc limit ?",
		append(arguments, limit)...).Rows()
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // read to its end or given up
	for rows.Next() {
		one, err := scan(rows)
		if err != nil {
			return nil, err
		}
		endpoints = append(endpoints, one)
	}
	return endpoints, rows.Err()
}

func count(tx *postgres.Tx) (there int, err error) {
	err = tx.Raw("select count(*) from webhook_endpoints where customer_id = ? and status <> 'deleted'", tx.Customer).Row().Scan(&there)
	return there, err
}

func texts(types []event.Type) postgres.Strings {
	out := make(postgres.Strings, len(types))
	for i, one := range types {
		out[i] = string(one)
	}
	return out
}

func insert(tx *postgres.Tx, one Endpoint, sealedSecret []byte, position int64) error {
	return tx.ORM().Exec(`
		insert into webhook_endpoints (customer_id, id, url, description, event_types, status, paused_reason, paused_at, sealed_secret, position, failures,
			version, created_at, updated_at)
		values (?, ?, ?, ?, ?::text[], ?, ?, ?, ?, ?, 0, ?, ?, ?)`,
		tx.Customer, one.ID, one.URL, one.Description, texts(one.Events), one.Status, one.PausedReason, one.PausedAt, sealedSecret, position, one.Version,
		one.CreatedAt, one.UpdatedAt).Error
}

// update stores what a patch made of an endpoint; afresh, everything that was held against it is forgotten. Whatever the patch, a worker looks again.
func update(tx *postgres.Tx, one Endpoint, afresh bool) error {
	var due *time.Time
	if one.Status == Active {
		due = &tx.Now
	}
	return tx.ORM().Exec(`
		update webhook_endpoints set url = ?, description = ?, event_types = ?::text[], status = ?, paused_reason = ?, paused_at = ?, version = ?, updated_at = ?,
			due_at = ?, failing_since = case when ? then null else failing_since end, failures = case when ? then 0 else failures end,
			held_until = case when ? then null else held_until end
		where customer_id = ? and id = ?`,
		one.URL, one.Description, texts(one.Events), one.Status, one.PausedReason, one.PausedAt, one.Version, one.UpdatedAt, due, afresh, afresh, afresh,
		tx.Customer, one.ID).Error
}

func rotate(tx *postgres.Tx, one Endpoint, sealedSecret []byte) error {
	return tx.ORM().Exec(`
		update webhook_endpoints set sealed_previous_secret = sealed_secret, previous_expires_at = ?, sealed_secret = ?, version = ?, updated_at = ?
		where customer_id = ? and id = ?`, one.PreviousExpiresAt, sealedSecret, one.Version, one.UpdatedAt, tx.Customer, one.ID).Error
}

// markDeleted leaves of an endpoint what its deliveries refer to until they are dropped.
func markDeleted(tx *postgres.Tx, endpoint id.WebhookEndpoint) error {
	return tx.ORM().Exec(`
		update webhook_endpoints set status = 'deleted', url = '-', description = '', paused_reason = null, paused_at = null, sealed_secret = '',
			sealed_previous_secret = null, previous_expires_at = null, due_at = null, lease_id = null, lease_until = null, updated_at = ?
		where customer_id = ? and id = ?`, tx.Now, tx.Customer, endpoint).Error
}

func secretsKept(tx *postgres.Tx, endpoint id.WebhookEndpoint) (kept keptSecrets, err error) {
	err = tx.Raw("select sealed_secret, sealed_previous_secret, previous_expires_at from webhook_endpoints where customer_id = ? and id = ?", tx.Customer, endpoint).
		Row().Scan(&kept.present, &kept.previous, &kept.previousExpiresAt)
	return kept, err
}

func wake(tx *postgres.Tx) error {
	return tx.ORM().Exec("update webhook_endpoints set due_at = least(due_at, ?::timestamptz) where customer_id = ? and status = 'active' and (due_at is null or due_at > ?)",
		tx.Now, tx.Customer, tx.Now).Error
}

const deliveryColumns = event.Columns + ", d.state, d.attempts, d.next_attempt_at, d.last_attempt_at, d.last_outcome, d.last_status, d.created_at"

const deliveriesWithEvents = "from webhook_deliveries d join events e on e.customer_id = d.customer_id and e.number = d.number"

func scanDelivery(row interface{ Scan(into ...any) error }) (one Delivery, err error) {
	err = row.Scan(append(one.Fields(), &one.State, &one.Attempts, &one.NextAttemptAt, &one.LastAttemptAt, &one.LastOutcome, &one.LastStatus, &one.CreatedAt)...)
	return one, err
}

func deliveries(tx *postgres.Tx, endpoint id.WebhookEndpoint, only State, before id.Entry, limit int) (found []Delivery, err error) {
	condition, arguments := "", []any{tx.Customer, endpoint}
	if only != "" {
		condition, arguments = " and d.state = ?", append(arguments, only)
	}
	if !before.IsZero() {
		condition, arguments = condition+" and d.id < ?", append(arguments, before)
	}
	rows, err := tx.Raw("select "+deliveryColumns+" "+deliveriesWithEvents+` join webhook_endpoints w on w.customer_id = d.customer_id and w.id = d.endpoint_id
		where d.customer_id = ? and d.endpoint_id = ? and w.status <> 'deleted'`+condition+" order by d.id desc limit ?", append(arguments, limit)...).Rows()
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // read to its end or given up
	for rows.Next() {
		one, err := scanDelivery(rows)
		if err != nil {
			return nil, err
		}
		found = append(found, one)
	}
	return found, rows.Err()
}

func deliveryOf(tx *postgres.Tx, endpoint id.WebhookEndpoint, delivery id.Entry) (Delivery, error) {
	return scanDelivery(tx.Raw("select "+deliveryColumns+" "+deliveriesWithEvents+" where d.customer_id = ? and d.endpoint_id = ? and d.id = ?",
		tx.Customer, endpoint, delivery).Row())
}

// repeat makes a delivery due now, as if it were new, and tells whether it is there at all. One that was never tried yet stays where it is in the order. The caller
// holds the endpoint.
func repeat(tx *postgres.Tx, endpoint id.WebhookEndpoint, delivery id.Entry, really bool) (there bool, err error) {
	if !really {
		err = tx.Raw("select exists (select from webhook_deliveries where customer_id = ? and endpoint_id = ? and id = ?)", tx.Customer, endpoint, delivery).Row().Scan(&there)
		return there, err
	}
	done := tx.ORM().Exec(`
		update webhook_deliveries set step = 0, state = case when state = 'pending' then state else 'waiting' end,
			next_attempt_at = case when state = 'pending' then null else ?::timestamptz end
		where customer_id = ? and endpoint_id = ? and id = ?`, tx.Now, tx.Customer, endpoint, delivery)
	if done.Error != nil || done.RowsAffected == 0 {
		return false, done.Error
	}
	return true, tx.ORM().Exec("update webhook_endpoints set due_at = ? where customer_id = ? and id = ?", tx.Now, tx.Customer, endpoint).Error
}

// place is one endpoint of one customer.
type place struct {
	customer id.Customer
	endpoint id.WebhookEndpoint
}

// due returns endpoints for which there is something to do and which no other replica has, the longest overdue first. It takes a transaction outside customers.
func due(tx *postgres.Tx, replica uuid.UUID, limit int) (places []place, err error) {
	rows, err := tx.Raw(`
		select customer_id, id from webhook_endpoints where due_at <= ? and (lease_until is null or lease_until < ? or lease_id = ?) order by due_at limit ?`,
		tx.Now, tx.Now, replica, limit).Rows()
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // read to its end or given up
	for rows.Next() {
		var one place
		if err := rows.Scan(&one.customer, &one.endpoint); err != nil {
			return nil, err
		}
		places = append(places, one)
	}
	return places, rows.Err()
}

// standing is what a worker must know of an endpoint before it sends.
type standing struct {
	url        string
	types      postgres.Strings
	status     Status
	secrets    keptSecrets
	position   int64
	heldUntil  *time.Time
	leaseID    *uuid.UUID
	leaseUntil *time.Time
	failures   int
}

// hold reads an endpoint and keeps it as it is until the transaction ends: also from events that are just being made.
func hold(tx *postgres.Tx, endpoint id.WebhookEndpoint) (at standing, there bool, err error) {
	var types postgres.JSON[[]string]
	err = tx.Raw(`
		select url, to_jsonb(event_types), status, sealed_secret, sealed_previous_secret, previous_expires_at, position, held_until, lease_id, lease_until, failures
		from webhook_endpoints where customer_id = ? and id = ? for no key update`, tx.Customer, endpoint).Row().
		Scan(&at.url, &types, &at.status, &at.secrets.present, &at.secrets.previous, &at.secrets.previousExpiresAt, &at.position, &at.heldUntil, &at.leaseID,
			&at.leaseUntil, &at.failures)
	at.types = types.Of
	if errors.Is(err, sql.ErrNoRows) {
		return standing{}, false, nil
	}
	return at, err == nil, err
}

// parcel is one delivery that is to be tried.
type parcel struct {
	event.Event
	step int // how often it was tried before
}

// claim returns what is to be tried now, by number: of what was never tried the oldest, and of what waits the longest overdue. Both have their share, so that neither keeps
// the other from its turn.
func claim(tx *postgres.Tx, endpoint id.WebhookEndpoint, fresh, again int) (parcels []parcel, err error) {
	rows, err := tx.Raw(`
		select `+event.Columns+`, d.step from (
			(select customer_id, number, step from webhook_deliveries where customer_id = ? and endpoint_id = ? and state = 'pending' order by number limit ?)
			union all
			(select customer_id, number, step from webhook_deliveries where customer_id = ? and endpoint_id = ? and state = 'waiting' and next_attempt_at <= ?
				order by next_attempt_at limit ?)
		) d join events e on e.customer_id = d.customer_id and e.number = d.number order by d.number`,
		tx.Customer, endpoint, fresh, tx.Customer, endpoint, tx.Now, again).Rows()
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // read to its end or given up
	for rows.Next() {
		var one parcel
		if err := rows.Scan(append(one.Fields(), &one.step)...); err != nil {
			return nil, err
		}
		parcels = append(parcels, one)
	}
	return parcels, rows.Err()
}

// spread makes deliveries of at most limit events behind a position, and returns how far it got and how many it looked at.
func spread(tx *postgres.Tx, endpoint id.WebhookEndpoint, types postgres.Strings, position int64, limit int) (reached int64, looked int, err error) {
	err = tx.Raw(`
		with e as (
			select number, id, type from events where customer_id = ? and number > ? order by number limit ?
		), made as (
			insert into webhook_deliveries (customer_id, endpoint_id, id, number, state, attempts, step, created_at)
			select ?, ?, id, number, 'pending', 0, 0, ?::timestamptz from e where cardinality(?::text[]) = 0 or type = any (?::text[]) order by number
			on conflict do nothing
		)
		select coalesce(max(number), ?), count(*) from e`,
		tx.Customer, position, limit, tx.Customer, endpoint, tx.Now, types, types, position).Row().Scan(&reached, &looked)
	return reached, looked, err
}

// keep renews the lease of a worker.
func keep(tx *postgres.Tx, endpoint id.WebhookEndpoint, lease uuid.UUID, until time.Time, position int64) error {
	return tx.ORM().Exec("update webhook_endpoints set lease_id = ?, lease_until = ?, position = ? where customer_id = ? and id = ?", lease, until, position,
		tx.Customer, endpoint).Error
}

// leave gives an endpoint up until the first of what waits is due, or until the time given.
func leave(tx *postgres.Tx, endpoint id.WebhookEndpoint, position int64, until *time.Time) error {
	return tx.ORM().Exec(`
		update webhook_endpoints set lease_id = null, lease_until = null, position = ?, due_at = coalesce(?::timestamptz, (
			select min(next_attempt_at) from webhook_deliveries where customer_id = ? and endpoint_id = ? and state = 'waiting'))
		where customer_id = ? and id = ?`, position, until, tx.Customer, endpoint, tx.Customer, endpoint).Error
}

// drop gives up the lease of a worker that ends in the middle of its work. Whatever else is to be done stays due.
func drop(tx *postgres.Tx, endpoint id.WebhookEndpoint, lease uuid.UUID) error {
	return tx.ORM().Exec("update webhook_endpoints set lease_id = null, lease_until = null where customer_id = ? and id = ? and lease_id = ?", tx.Customer, endpoint, lease).Error
}

// drained gives up an endpoint that is not sent to any more.
func drained(tx *postgres.Tx, endpoint id.WebhookEndpoint) error {
	return tx.ORM().Exec("update webhook_endpoints set lease_id = null, lease_until = null, due_at = null where customer_id = ? and id = ? and status <> 'active'",
		tx.Customer, endpoint).Error
}

// result is what came of one attempt.
type result struct {
	Endpoint id.WebhookEndpoint `json:"endpoint_id"`
	ID       id.Entry           `json:"id"`
	State    State              `json:"state"`
	Step     int                `json:"step"`
	At       time.Time          `json:"at"`
	Next     *time.Time         `json:"next"`
	Outcome  Outcome            `json:"outcome"`
	Status   *int               `json:"status"`
}

// note stores what came of attempts. A delivery that was settled in the meantime by another worker stays what it is.
//
// The endpoint comes with each of the results: told one endpoint and no more, the planner reads all its deliveries each time, as long as it has no statistics of them.
func note(tx *postgres.Tx, endpoint id.WebhookEndpoint, results []result) error {
	for i := range results {
		results[i].Endpoint = endpoint
	}
	return tx.RawAnew(`
		with r as materialized (
			select * from jsonb_to_recordset(?::jsonb)
				as r(endpoint_id uuid, id uuid, state text, step int, at timestamptz, next timestamptz, outcome text, status int) where endpoint_id = ?
		), noted as (
			update webhook_deliveries d set attempts = d.attempts + 1, step = r.step, state = r.state, next_attempt_at = r.next, last_attempt_at = r.at,
				last_outcome = r.outcome, last_status = r.status
			from r
			where d.customer_id = ? and d.endpoint_id = r.endpoint_id and d.id = r.id and d.state in ('pending', 'waiting')
			returning 1
		)
		select count(*) from noted`, postgres.JSON[[]result]{Of: results}, endpoint, tx.Customer).Row().Scan(new(int64))
}

// tally stores what a number of attempts say of an endpoint, and returns since when it is failing; there is nothing to tell of one that is not active any more.
func tally(tx *postgres.Tx, endpoint id.WebhookEndpoint, succeeded bool, failures int, firstFailure, heldUntil *time.Time) (failingSince *time.Time, active bool, err error) {
	err = tx.Raw(`
		update webhook_endpoints set failures = case when ?::boolean then 0 else least(failures + ?::int, 1000000) end,
			failing_since = case when ?::boolean then null else coalesce(failing_since, ?::timestamptz) end, held_until = coalesce(?::timestamptz, held_until)
		where customer_id = ? and id = ? and status = 'active' returning failing_since`,
		succeeded, failures, succeeded, firstFailure, heldUntil, tx.Customer, endpoint).Row().Scan(&failingSince)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, false, nil
	}
	return failingSince, err == nil, err
}

// pause stops sending to an active endpoint.
func pause(tx *postgres.Tx, endpoint id.WebhookEndpoint, reason Reason) error {
	return tx.ORM().Exec(`
		update webhook_endpoints set status = 'paused', paused_reason = ?, paused_at = ?, due_at = null, version = version + 1, updated_at = ?
		where customer_id = ? and id = ? and status = 'active'`, reason, tx.Now, tx.Now, tx.Customer, endpoint).Error
}

// expireDeliveries deletes deliveries that are past their time: settled ones after 30 days, and all of an
// event or an endpoint that goes.
func expireDeliveries(tx *postgres.Tx, now time.Time, limit int) (int64, error) {
	done := tx.ORM().Exec(`
		delete from webhook_deliveries where (customer_id, endpoint_id, id) in (
			(select customer_id, endpoint_id, id from webhook_deliveries where created_at < ? and state in ('succeeded', 'failed') limit ?)
			union all
			(select d.customer_id, d.endpoint_id, d.id from events e join webhook_deliveries d on d.customer_id = e.customer_id and d.number = e.number
				where e.created_at < ? limit ?)
			union all
			(select d.customer_id, d.endpoint_id, d.id from webhook_endpoints w join webhook_deliveries d on d.customer_id = w.customer_id and d.endpoint_id = w.id
				where w.status = 'deleted' limit ?)
			limit ?)`, now.Add(-deliveriesKept), limit, event.Oldest(now), limit, limit, limit)
	return done.RowsAffected, done.Error
}

// expireEndpoints deletes endpoints that were deleted and have no deliveries left.
func expireEndpoints(tx *postgres.Tx, _ time.Time, limit int) (int64, error) {
	done := tx.ORM().Exec(`
		delete from webhook_endpoints where (customer_id, id) in (
			select w.customer_id, w.id from webhook_endpoints w where w.status = 'deleted'
			and not exists (select from webhook_deliveries d where d.customer_id = w.customer_id and d.endpoint_id = w.id) limit ?)`, limit)
	return done.RowsAffected, done.Error
}
