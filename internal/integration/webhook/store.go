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

// sealedSecrets are the secrets of an endpoint as they are stored.
type sealedSecrets struct {
	present           []byte
	previous          []byte // nil: none
	previousExpiresAt *time.Time
}

const columns = `id, url, description, to_jsonb(event_types), status, paused_reason, paused_at, failing_since,
	previous_expires_at, version, created_at, updated_at`

// forUpdate locks a row that is read until the transaction ends.
const forUpdate = " for no key update"

func scan(row postgres.Row) (e Endpoint, err error) {
	var types postgres.JSON[[]event.Type]
	err = row.Scan(&e.ID, &e.URL, &e.Description, &types, &e.Status, &e.PausedReason, &e.PausedAt, &e.FailingSince,
		&e.PreviousExpiresAt, &e.Version, &e.CreatedAt, &e.UpdatedAt)
	e.Events = types.Of
	return e, err
}

func get(tx *postgres.Tx, endpoint id.WebhookEndpoint, lock string) (Endpoint, error) {
	found, err := scan(tx.QueryRow("select "+columns+` from webhook_endpoints
		where customer_id = $1 and id = $2 and status <> 'deleted'`+lock, tx.Customer, endpoint))
	if errors.Is(err, sql.ErrNoRows) {
		return Endpoint{}, notFound()
	}
	return found, err
}

func list(tx *postgres.Tx, before id.WebhookEndpoint, limit int) ([]Endpoint, error) {
	condition, arguments := "", postgres.Args{"customer": tx.Customer, "limit": limit}
	if !before.IsZero() {
		condition, arguments["before"] = " and id < @before", before
	}
	return postgres.Collect(tx, scan, "select "+columns+` from webhook_endpoints
		where customer_id = @customer and status <> 'deleted'`+condition+" order by id desc limit @limit", arguments)
}

func count(tx *postgres.Tx) (endpoints int, err error) {
	err = tx.QueryRow("select count(*) from webhook_endpoints where customer_id = $1 and status <> 'deleted'",
		tx.Customer).Scan(&endpoints)
	return endpoints, err
}

// typeNames returns the types as an array for a statement. It is never nil, which would be null.
func typeNames(types []event.Type) []string {
	names := make([]string, len(types))
	for i, t := range types {
		names[i] = string(t)
	}
	return names
}

// insert adds an endpoint that gets the events after a position.
func insert(tx *postgres.Tx, e Endpoint, sealedSecret []byte, position int64) error {
	_, err := tx.Exec(`
		insert into webhook_endpoints (customer_id, id, url, description, event_types, status, paused_reason, paused_at,
			sealed_secret, position, failures, version, created_at, updated_at)
		values (@customer, @id, @url, @description, @types::text[], @status, @paused_reason, @paused_at,
			@sealed_secret, @position, 0, @version, @created_at, @updated_at)`,
		postgres.Args{
			"customer": tx.Customer, "id": e.ID, "url": e.URL, "description": e.Description, "types": typeNames(e.Events),
			"status": e.Status, "paused_reason": e.PausedReason, "paused_at": e.PausedAt, "sealed_secret": sealedSecret,
			"position": position, "version": e.Version, "created_at": e.CreatedAt, "updated_at": e.UpdatedAt,
		})
	return err
}

// update stores an endpoint after a patch. With reset, the failures before it count no more. An
// active endpoint becomes due, whatever the patch.
func update(tx *postgres.Tx, e Endpoint, reset bool) error {
	var due *time.Time
	if e.Status == Active {
		due = &tx.Now
	}
	_, err := tx.Exec(`
		update webhook_endpoints set url = @url, description = @description, event_types = @types::text[],
			status = @status, paused_reason = @paused_reason, paused_at = @paused_at, version = @version,
			updated_at = @updated_at, due_at = @due,
			failing_since = case when @reset::boolean then null else failing_since end,
			failures = case when @reset::boolean then 0 else failures end,
			held_until = case when @reset::boolean then null else held_until end
		where customer_id = @customer and id = @id`,
		postgres.Args{
			"url": e.URL, "description": e.Description, "types": typeNames(e.Events), "status": e.Status,
			"paused_reason": e.PausedReason, "paused_at": e.PausedAt, "version": e.Version, "updated_at": e.UpdatedAt,
			"due": due, "reset": reset, "customer": tx.Customer, "id": e.ID,
		})
	return err
}

func rotate(tx *postgres.Tx, e Endpoint, sealedSecret []byte) error {
	_, err := tx.Exec(`
		update webhook_endpoints set sealed_previous_secret = sealed_secret, previous_expires_at = @previous_expires_at,
			sealed_secret = @sealed_secret, version = @version, updated_at = @updated_at
		where customer_id = @customer and id = @id`,
		postgres.Args{
			"previous_expires_at": e.PreviousExpiresAt, "sealed_secret": sealedSecret, "version": e.Version,
			"updated_at": e.UpdatedAt, "customer": tx.Customer, "id": e.ID,
		})
	return err
}

// markDeleted keeps of an endpoint only what its deliveries refer to until they are deleted.
func markDeleted(tx *postgres.Tx, endpoint id.WebhookEndpoint) error {
	_, err := tx.Exec(`
		update webhook_endpoints set status = 'deleted', url = '-', description = '', paused_reason = null,
			paused_at = null, sealed_secret = '', sealed_previous_secret = null, previous_expires_at = null, due_at = null,
			lease_id = null, lease_until = null, updated_at = @now
		where customer_id = @customer and id = @id`,
		postgres.Args{"now": tx.Now, "customer": tx.Customer, "id": endpoint})
	return err
}

func secretsOf(tx *postgres.Tx, endpoint id.WebhookEndpoint) (sealed sealedSecrets, err error) {
	err = tx.QueryRow(`
		select sealed_secret, sealed_previous_secret, previous_expires_at
		from webhook_endpoints where customer_id = $1 and id = $2`, tx.Customer, endpoint).
		Scan(&sealed.present, &sealed.previous, &sealed.previousExpiresAt)
	return sealed, err
}

// wake makes the active endpoints of the customer due. It updates also those that are due already:
// a worker that has looked and found nothing may be about to make one of them due no more, and only
// the row's lock makes wake wait for that worker and see what it decided.
func wake(tx *postgres.Tx) error {
	_, err := tx.Exec(`
		update webhook_endpoints set due_at = least(due_at, $1::timestamptz)
		where customer_id = $2 and status = 'active'`, tx.Now, tx.Customer)
	return err
}

const deliveryColumns = event.Columns + `, d.state, d.attempts, d.next_attempt_at, d.last_attempt_at,
	d.last_outcome, d.last_status, d.created_at`

const deliveriesWithEvents = `from webhook_deliveries d
	join events e on e.customer_id = d.customer_id and e.number = d.number`

func scanDelivery(row postgres.Row) (d Delivery, err error) {
	err = row.Scan(append(d.Fields(), &d.State, &d.Attempts, &d.NextAttemptAt, &d.LastAttemptAt, &d.LastOutcome,
		&d.LastStatus, &d.CreatedAt)...)
	return d, err
}

func deliveries(
	tx *postgres.Tx, endpoint id.WebhookEndpoint, only State, before id.Entry, limit int,
) ([]Delivery, error) {
	condition, arguments := "", postgres.Args{"customer": tx.Customer, "endpoint": endpoint, "limit": limit}
	if only != "" {
		condition, arguments["state"] = " and d.state = @state", only
	}
	if !before.IsZero() {
		condition, arguments["before"] = condition+" and d.id < @before", before
	}
	return postgres.Collect(tx, scanDelivery, "select "+deliveryColumns+" "+deliveriesWithEvents+`
		join webhook_endpoints w on w.customer_id = d.customer_id and w.id = d.endpoint_id
		where d.customer_id = @customer and d.endpoint_id = @endpoint and w.status <> 'deleted'`+condition+`
		order by d.id desc limit @limit`, arguments)
}

func deliveryOf(tx *postgres.Tx, endpoint id.WebhookEndpoint, delivery id.Entry) (Delivery, error) {
	return scanDelivery(tx.QueryRow("select "+deliveryColumns+" "+deliveriesWithEvents+`
		where d.customer_id = @customer and d.endpoint_id = @endpoint and d.id = @delivery`,
		postgres.Args{"customer": tx.Customer, "endpoint": endpoint, "delivery": delivery}))
}

func deliveryExists(tx *postgres.Tx, endpoint id.WebhookEndpoint, delivery id.Entry) (exists bool, err error) {
	err = tx.QueryRow(`
		select exists (select from webhook_deliveries
			where customer_id = @customer and endpoint_id = @endpoint and id = @delivery)`,
		postgres.Args{"customer": tx.Customer, "endpoint": endpoint, "delivery": delivery}).Scan(&exists)
	return exists, err
}

// requeue makes a delivery due now, as if it were new, and reports whether it exists. One that was
// never attempted keeps its place in the order. The caller has locked the endpoint.
func requeue(tx *postgres.Tx, endpoint id.WebhookEndpoint, delivery id.Entry) (exists bool, err error) {
	requeued, err := tx.Exec(`
		update webhook_deliveries set step = 0, state = case when state = 'pending' then state else 'waiting' end,
			next_attempt_at = case when state = 'pending' then null else @now::timestamptz end
		where customer_id = @customer and endpoint_id = @endpoint and id = @delivery`,
		postgres.Args{"now": tx.Now, "customer": tx.Customer, "endpoint": endpoint, "delivery": delivery})
	if err != nil || requeued == 0 {
		return false, err
	}
	_, err = tx.Exec("update webhook_endpoints set due_at = @now where customer_id = @customer and id = @endpoint",
		postgres.Args{"now": tx.Now, "customer": tx.Customer, "endpoint": endpoint})
	return err == nil, err
}

// place is one endpoint of one customer.
type place struct {
	customer id.Customer
	endpoint id.WebhookEndpoint
}

// due returns endpoints that have something to do and that no other replica has leased, the longest
// overdue first. It takes a transaction outside customers.
func due(tx *postgres.Tx, replica uuid.UUID, limit int) ([]place, error) {
	scan := func(row postgres.Row) (p place, err error) {
		err = row.Scan(&p.customer, &p.endpoint)
		return p, err
	}
	return postgres.Collect(tx, scan, `
		select customer_id, id from webhook_endpoints
		where due_at <= @now and (lease_until is null or lease_until < @now or lease_id = @replica)
		order by due_at limit @limit`,
		postgres.Args{"now": tx.Now, "replica": replica, "limit": limit})
}

// standing is what a worker must know of an endpoint before it sends.
type standing struct {
	url        string
	types      []string
	status     Status
	secrets    sealedSecrets
	position   int64
	heldUntil  *time.Time
	leaseID    *uuid.UUID
	leaseUntil *time.Time
	failures   int
}

// lock reads an endpoint and locks it until the transaction ends, also against transactions that
// are adding events.
func lock(tx *postgres.Tx, endpoint id.WebhookEndpoint) (at standing, exists bool, err error) {
	var types postgres.JSON[[]string]
	err = tx.QueryRow(`
		select url, to_jsonb(event_types), status, sealed_secret, sealed_previous_secret, previous_expires_at, position,
			held_until, lease_id, lease_until, failures
		from webhook_endpoints where customer_id = $1 and id = $2 for no key update`, tx.Customer, endpoint).
		Scan(&at.url, &types, &at.status, &at.secrets.present, &at.secrets.previous, &at.secrets.previousExpiresAt,
			&at.position, &at.heldUntil, &at.leaseID, &at.leaseUntil, &at.failures)
	at.types = types.Of
	if errors.Is(err, sql.ErrNoRows) {
		return standing{}, false, nil
	}
	return at, err == nil, err
}

// parcel is one delivery that is to be attempted.
type parcel struct {
	event.Event
	step int // how often it was attempted before
}

// claim returns what is to be attempted now, by number: of the new deliveries the oldest, and of the
// retries the longest overdue. Both have their share, so that neither keeps the other from its turn.
func claim(tx *postgres.Tx, endpoint id.WebhookEndpoint, newOnes, retries int) ([]parcel, error) {
	scan := func(row postgres.Row) (p parcel, err error) {
		err = row.Scan(append(p.Fields(), &p.step)...)
		return p, err
	}
	return postgres.Collect(tx, scan, `
		select `+event.Columns+`, d.step from (
			(select customer_id, number, step from webhook_deliveries
				where customer_id = @customer and endpoint_id = @endpoint and state = 'pending'
				order by number limit @new)
			union all
			(select customer_id, number, step from webhook_deliveries
				where customer_id = @customer and endpoint_id = @endpoint and state = 'waiting' and next_attempt_at <= @now
				order by next_attempt_at limit @retries)
		) d join events e on e.customer_id = d.customer_id and e.number = d.number order by d.number`,
		postgres.Args{"customer": tx.Customer, "endpoint": endpoint, "now": tx.Now, "new": newOnes, "retries": retries})
}

// fanOut adds deliveries of at most limit events behind a position. It returns the position that it
// reached and how many events it read.
func fanOut(
	tx *postgres.Tx, endpoint id.WebhookEndpoint, types []string, position int64, limit int,
) (reached int64, read int, err error) {
	err = tx.QueryRow(`
		with e as (
			select number, id, type from events where customer_id = @customer and number > @position
			order by number limit @limit
		), made as (
			insert into webhook_deliveries (customer_id, endpoint_id, id, number, state, attempts, step, created_at)
			select @customer, @endpoint, id, number, 'pending', 0, 0, @now::timestamptz from e
			where cardinality(@types::text[]) = 0 or type = any (@types::text[]) order by number
			on conflict do nothing
		)
		select coalesce(max(number), @position), count(*) from e`,
		postgres.Args{
			"customer": tx.Customer, "position": position, "limit": limit, "endpoint": endpoint, "now": tx.Now, "types": types,
		}).Scan(&reached, &read)
	return reached, read, err
}

// renewLease takes the lease of an endpoint or renews it.
func renewLease(
	tx *postgres.Tx, endpoint id.WebhookEndpoint, lease uuid.UUID, until time.Time, position int64,
) error {
	_, err := tx.Exec(`
		update webhook_endpoints set lease_id = @lease, lease_until = @until, position = @position
		where customer_id = @customer and id = @endpoint`,
		postgres.Args{
			"lease": lease, "until": until, "position": position, "customer": tx.Customer, "endpoint": endpoint,
		})
	return err
}

// releaseUntil releases the lease of an endpoint and makes it due at a time. With nil, it is due when
// the first of its retries is.
func releaseUntil(tx *postgres.Tx, endpoint id.WebhookEndpoint, position int64, until *time.Time) error {
	_, err := tx.Exec(`
		update webhook_endpoints set lease_id = null, lease_until = null, position = @position,
			due_at = coalesce(@until::timestamptz, (select min(next_attempt_at) from webhook_deliveries
				where customer_id = @customer and endpoint_id = @endpoint and state = 'waiting'))
		where customer_id = @customer and id = @endpoint`,
		postgres.Args{"position": position, "until": until, "customer": tx.Customer, "endpoint": endpoint})
	return err
}

// releaseLease releases the lease of a worker that stops before its work is done: the endpoint stays
// due.
func releaseLease(tx *postgres.Tx, endpoint id.WebhookEndpoint, lease uuid.UUID) error {
	_, err := tx.Exec(`
		update webhook_endpoints set lease_id = null, lease_until = null
		where customer_id = @customer and id = @endpoint and lease_id = @lease`,
		postgres.Args{"customer": tx.Customer, "endpoint": endpoint, "lease": lease})
	return err
}

// releaseInactive releases the lease of an endpoint that is paused or deleted, which is never due.
func releaseInactive(tx *postgres.Tx, endpoint id.WebhookEndpoint) error {
	_, err := tx.Exec(`
		update webhook_endpoints set lease_id = null, lease_until = null, due_at = null
		where customer_id = $1 and id = $2 and status <> 'active'`, tx.Customer, endpoint)
	return err
}

// result is the result of one attempt.
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

// saveResults stores the results of attempts. A delivery that another worker has settled in the
// meantime stays as it is.
//
// Each of the results names the endpoint: given one endpoint as an argument, the planner reads all
// its deliveries each time, as long as it has no statistics of them.
func saveResults(tx *postgres.Tx, endpoint id.WebhookEndpoint, results []result) error {
	for i := range results {
		results[i].Endpoint = endpoint
	}
	return tx.QueryRow(`
		with r as materialized (
			select * from jsonb_to_recordset(@results::jsonb) as r(endpoint_id uuid, id uuid, state text, step int,
				at timestamptz, next timestamptz, outcome text, status int)
			where endpoint_id = @endpoint
		), noted as (
			update webhook_deliveries d set attempts = d.attempts + 1, step = r.step, state = r.state,
				next_attempt_at = r.next, last_attempt_at = r.at, last_outcome = r.outcome, last_status = r.status
			from r
			where d.customer_id = @customer and d.endpoint_id = r.endpoint_id and d.id = r.id
				and d.state in ('pending', 'waiting')
			returning 1
		)
		select count(*) from noted`, postgres.Replan,
		postgres.Args{
			"results": postgres.JSON[[]result]{Of: results}, "endpoint": endpoint, "customer": tx.Customer,
		}).Scan(new(int64))
}

// saveHealth stores what a number of attempts mean for an endpoint, and returns since when it is
// failing. It changes nothing, and active is false, when the endpoint is not active any more.
func saveHealth(
	tx *postgres.Tx, endpoint id.WebhookEndpoint, succeeded bool, failures int, firstFailure, heldUntil *time.Time,
) (failingSince *time.Time, active bool, err error) {
	err = tx.QueryRow(`
		update webhook_endpoints set
			failures = case when @succeeded::boolean then 0 else least(failures + @failures::int, 1000000) end,
			failing_since = case when @succeeded::boolean then null
				else coalesce(failing_since, @first_failure::timestamptz) end,
			held_until = coalesce(@held_until::timestamptz, held_until)
		where customer_id = @customer and id = @endpoint and status = 'active' returning failing_since`,
		postgres.Args{
			"succeeded": succeeded, "failures": failures, "first_failure": firstFailure, "held_until": heldUntil,
			"customer": tx.Customer, "endpoint": endpoint,
		}).Scan(&failingSince)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, false, nil
	}
	return failingSince, err == nil, err
}

// pause stops sending to an active endpoint.
func pause(tx *postgres.Tx, endpoint id.WebhookEndpoint, reason Reason) error {
	_, err := tx.Exec(`
		update webhook_endpoints set status = 'paused', paused_reason = @reason, paused_at = @now, due_at = null,
			version = version + 1, updated_at = @now
		where customer_id = @customer and id = @endpoint and status = 'active'`,
		postgres.Args{"reason": reason, "now": tx.Now, "customer": tx.Customer, "endpoint": endpoint})
	return err
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
