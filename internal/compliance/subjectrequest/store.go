package subjectrequest

import (
	"database/sql"
	"encoding/json"
	"errors"
	"time"

	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

const (
	// overviewColumns are those that the platform role may read: they name no person.
	overviewColumns = `customer_id, id, user_id, kind, state, reason, receipt_id, received_at, acknowledged_at,
		due_at, closed_at, bundle_expires_at, bundle_collected_at, version, updated_at`
	columns = overviewColumns + `, first_name, last_name, email, recipient`
)

func (r *Request) overviewFields(bundleExpiresAt, bundleCollectedAt **time.Time) []any {
	return []any{
		&r.Customer, &r.ID, &r.UserID, &r.Kind, &r.State, &r.Reason, &r.ReceiptID, &r.ReceivedAt, &r.AcknowledgedAt,
		&r.DueAt, &r.ClosedAt, bundleExpiresAt, bundleCollectedAt, &r.Version, &r.UpdatedAt,
	}
}

func scanOverview(row postgres.Row) (found Request, err error) {
	var expires, collected *time.Time
	if err := row.Scan(found.overviewFields(&expires, &collected)...); err != nil {
		return Request{}, err
	}
	found.setBundle(expires, collected)
	return found, nil
}

func scan(row postgres.Row) (found Request, err error) {
	var expires, collected *time.Time
	var corrections Corrections
	err = row.Scan(append(found.overviewFields(&expires, &collected),
		&corrections.FirstName, &corrections.LastName, &corrections.Email, &found.Recipient)...)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return Request{}, notFound()
	case err != nil:
		return Request{}, err
	}
	found.setBundle(expires, collected)
	if !corrections.empty() {
		found.Corrections = &corrections
	}
	return found, nil
}

func (r *Request) setBundle(expires, collected *time.Time) {
	if expires != nil {
		r.Bundle = &Bundle{ExpiresAt: *expires, CollectedAt: collected}
	}
}

func get(tx *postgres.Tx, request id.DataRequest) (Request, error) {
	return scan(tx.QueryRow("select "+columns+" from data_subject_requests where customer_id = $1 and id = $2",
		tx.Customer, request))
}

// lock reads a request and locks its row until the transaction ends.
func lock(tx *postgres.Tx, request id.DataRequest) (Request, error) {
	return scan(tx.QueryRow("select "+columns+` from data_subject_requests
		where customer_id = $1 and id = $2 for update`, tx.Customer, request))
}

// lockOpen reads and locks the open request of a person and a kind, if one exists.
func lockOpen(tx *postgres.Tx, user id.User, kind Kind) (found Request, exists bool, err error) {
	found, err = scan(tx.QueryRow("select "+columns+` from data_subject_requests
		where customer_id = @customer and user_id = @user and kind = @kind and closed_at is null for update`,
		postgres.Args{"customer": tx.Customer, "user": user, "kind": kind}))
	if fault.Is(err, fault.ResourceNotFound) {
		return Request{}, false, nil
	}
	return found, err == nil, err
}

func insert(tx *postgres.Tx, in New) (Request, error) {
	return scan(tx.QueryRow(`
		insert into data_subject_requests (customer_id, id, user_id, kind, state, first_name, last_name, email,
			recipient, received_at, due_at, reminders, version, updated_at)
		values (@customer, @id, @user, @kind, 'received', @first_name, @last_name, @email,
			@recipient, @now, @due, 0, 1, @now)
		returning `+columns,
		postgres.Args{
			"customer": tx.Customer, "id": id.New[id.DataRequest](), "user": in.UserID, "kind": in.Kind,
			"first_name": in.Corrections.FirstName, "last_name": in.Corrections.LastName, "email": in.Corrections.Email,
			"recipient": in.Recipient, "now": tx.Now, "due": dueAfter(tx.Now),
		}))
}

// merge adds what a later request of the same kind asks for to the one that is open. Members that
// it does not name stay.
func merge(tx *postgres.Tx, open Request, in New) (Request, error) {
	return scan(tx.QueryRow(`
		update data_subject_requests set first_name = coalesce(@first_name, first_name),
			last_name = coalesce(@last_name, last_name), email = coalesce(@email, email),
			recipient = coalesce(@recipient, recipient), version = version + 1, updated_at = @now
		where customer_id = @customer and id = @id
		returning `+columns,
		postgres.Args{
			"first_name": in.Corrections.FirstName, "last_name": in.Corrections.LastName, "email": in.Corrections.Email,
			"recipient": in.Recipient, "now": tx.Now, "customer": tx.Customer, "id": open.ID,
		}))
}

func acknowledge(tx *postgres.Tx, request id.DataRequest) (Request, error) {
	return scan(tx.QueryRow(`
		update data_subject_requests set state = 'acknowledged', acknowledged_at = @now, version = version + 1,
			updated_at = @now
		where customer_id = @customer and id = @id
		returning `+columns, postgres.Args{"now": tx.Now, "customer": tx.Customer, "id": request}))
}

// closeRequest closes a request and deletes its corrections.
func closeRequest(tx *postgres.Tx, request id.DataRequest, state State, reason *Reason) (Request, error) {
	return scan(tx.QueryRow(`
		update data_subject_requests set state = @state, reason = @reason,
			first_name = null, last_name = null, email = null,
			acknowledged_at = case when @state::text = 'fulfilled' then coalesce(acknowledged_at, @now)
				else acknowledged_at end,
			closed_at = @now, version = version + 1, updated_at = @now
		where customer_id = @customer and id = @id
		returning `+columns,
		postgres.Args{"state": state, "reason": reason, "now": tx.Now, "customer": tx.Customer, "id": request}))
}

func setReceipt(tx *postgres.Tx, request id.DataRequest, receipt id.Receipt) (Request, error) {
	return scan(tx.QueryRow(`
		update data_subject_requests set receipt_id = @receipt where customer_id = @customer and id = @id
		returning `+columns, postgres.Args{"receipt": receipt, "customer": tx.Customer, "id": request}))
}

// insertBundle stores the bundle of a person that a request asked for.
func insertBundle(tx *postgres.Tx, of Request, user id.User, content []byte) (Request, error) {
	expires := tx.Now.Add(bundleKept)
	_, err := tx.Exec(`
		insert into request_bundles (customer_id, request_id, user_id, content, created_at, expires_at)
		values (@customer, @request, @user, @content, @now, @expires)`,
		postgres.Args{
			"customer": tx.Customer, "request": of.ID, "user": user, "content": content, "now": tx.Now,
			"expires": expires,
		})
	if err != nil {
		return Request{}, err
	}
	return scan(tx.QueryRow(`
		update data_subject_requests set bundle_expires_at = @expires where customer_id = @customer and id = @id
		returning `+columns, postgres.Args{"expires": expires, "customer": tx.Customer, "id": of.ID}))
}

// bundleOf reads the content of a bundle, if one exists that has not expired.
func bundleOf(tx *postgres.Tx, request id.DataRequest) (content []byte, exists bool, err error) {
	err = tx.QueryRow(`
		select content from request_bundles
		where customer_id = @customer and request_id = @request and expires_at > @now`,
		postgres.Args{"customer": tx.Customer, "request": request, "now": tx.Now}).Scan(&content)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, false, nil
	}
	return content, err == nil, err
}

// deleteBundle deletes a bundle and reports whether it existed.
func deleteBundle(tx *postgres.Tx, request id.DataRequest) (deleted bool, err error) {
	bundles, err := tx.Exec(
		"delete from request_bundles where customer_id = $1 and request_id = $2",
		tx.Customer,
		request,
	)
	return bundles > 0, err
}

// markCollected records the first time that a bundle was collected.
func markCollected(tx *postgres.Tx, request id.DataRequest) error {
	_, err := tx.Exec(`
		update data_subject_requests set bundle_collected_at = @now, version = version + 1, updated_at = @now
		where customer_id = @customer and id = @id and bundle_collected_at is null`,
		postgres.Args{"now": tx.Now, "customer": tx.Customer, "id": request})
	return err
}

// conditions returns the conditions of a list, each with "and" before it, and their arguments.
func (f Filter) conditions(before id.DataRequest) (text string, arguments postgres.Args) {
	arguments = postgres.Args{}
	if !before.IsZero() {
		text, arguments["before"] = " and id < @before", before
	}
	if f.State != "" {
		text, arguments["state"] = text+" and state = @state", f.State
	}
	if f.Kind != "" {
		text, arguments["kind"] = text+" and kind = @kind", f.Kind
	}
	if f.UserID != nil {
		text, arguments["user"] = text+" and user_id = @user", *f.UserID
	}
	return text, arguments
}

func list(tx *postgres.Tx, filter Filter, before id.DataRequest, limit int) ([]Request, error) {
	conditions, arguments := filter.conditions(before)
	arguments["customer"], arguments["limit"] = tx.Customer, limit
	return postgres.Collect(tx, scan, "select "+columns+` from data_subject_requests
		where customer_id = @customer`+conditions+" order by id desc limit @limit", arguments)
}

// listAll lists the requests of all customers, without the persons that they are about.
func listAll(tx *postgres.Tx, filter Filter, before id.DataRequest, limit int) ([]Request, error) {
	conditions, arguments := filter.conditions(before)
	arguments["limit"] = limit
	return postgres.Collect(tx, scanOverview, "select "+overviewColumns+` from data_subject_requests
		where true`+conditions+" order by id desc limit @limit", arguments)
}

// customerOf returns whose request it is. It is for transactions outside customers.
func customerOf(tx *postgres.Tx, request id.DataRequest) (of id.Customer, err error) {
	err = tx.QueryRow("select customer_id from data_subject_requests where id = $1", request).Scan(&of)
	if errors.Is(err, sql.ErrNoRows) {
		return of, notFound()
	}
	return of, err
}

// withdrawAllOf withdraws every open request of people who are being erased, and marks their
// bundles as expired. It returns the requests that were withdrawn.
func withdrawAllOf(tx *postgres.Tx, users []id.User) ([]Request, error) {
	arguments := postgres.Args{"now": tx.Now, "customer": tx.Customer, "users": users}
	_, err := tx.Exec(`
		update data_subject_requests set bundle_expires_at = @now, version = version + 1, updated_at = @now
		where customer_id = @customer and user_id = any(@users) and bundle_expires_at > @now`, arguments)
	if err != nil {
		return nil, err
	}
	return postgres.Collect(tx, scan, `
		update data_subject_requests set state = 'withdrawn', reason = 'person_erased',
			first_name = null, last_name = null, email = null, closed_at = @now, version = version + 1,
			updated_at = @now
		where customer_id = @customer and user_id = any(@users) and closed_at is null
		returning `+columns, arguments)
}

func countOpen(tx *postgres.Tx, user id.User) (count int64, err error) {
	err = tx.QueryRow(`
		select count(*) from data_subject_requests
		where customer_id = $1 and user_id = $2 and closed_at is null`, tx.Customer, user).Scan(&count)
	return count, err
}

// remindable is an open request of which operators are to be reminded.
type remindable struct {
	customer id.Customer
	request  id.DataRequest
}

// isDueForReminder is the condition for that: @first and @second are the times before which a
// request was received whose first or second reminder is due.
const isDueForReminder = `closed_at is null
	and (reminders = 0 and received_at <= @first or reminders = 1 and received_at <= @second)`

func listRemindable(tx *postgres.Tx, limit int) ([]remindable, error) {
	return postgres.Collect(tx, func(row postgres.Row) (due remindable, err error) {
		err = row.Scan(&due.customer, &due.request)
		return due, err
	}, "select customer_id, id from data_subject_requests where "+isDueForReminder+" order by received_at limit @limit",
		postgres.Args{
			"first": tx.Now.Add(-firstReminder), "second": tx.Now.Add(-secondReminder), "limit": limit,
		})
}

// markReminded records a reminder. It returns false when another replica has done so, or the
// request was closed. Where both reminders are due, one is enough.
func markReminded(tx *postgres.Tx, request id.DataRequest) (marked bool, err error) {
	requests, err := tx.Exec(`
		update data_subject_requests set reminders = case when received_at <= @second then 2 else 1 end
		where customer_id = @customer and id = @id and `+isDueForReminder,
		postgres.Args{
			"first": tx.Now.Add(-firstReminder), "second": tx.Now.Add(-secondReminder),
			"customer": tx.Customer, "id": request,
		})
	return requests == 1, err
}

// deleteExpiredBundles deletes at most limit bundles that have expired.
func deleteExpiredBundles(tx *postgres.Tx, now time.Time, limit int) (int64, error) {
	return tx.Exec(`
		delete from request_bundles where (customer_id, request_id) in (
			select customer_id, request_id from request_bundles where expires_at <= $1 limit $2)`, now, limit)
}

// anonymise removes the person from at most limit requests that were closed long ago.
func anonymise(tx *postgres.Tx, now time.Time, limit int) (int64, error) {
	return tx.Exec(`
		update data_subject_requests set user_id = null, recipient = null, receipt_id = null, version = version + 1,
			updated_at = @now
		where (customer_id, id) in (
			select customer_id, id from data_subject_requests
			where closed_at <= @closed_before and user_id is not null limit @limit)`,
		postgres.Args{"now": now, "closed_before": now.Add(-identityKept), "limit": limit})
}

// rowsOf reads what one store holds of a person: each row as a JSON object, in the order of its
// columns.
func rowsOf(tx *postgres.Tx, of store, user id.User) (found []json.RawMessage, err error) {
	if of.Person.Where == "" {
		return nil, nil
	}
	return postgres.Collect(tx, func(row postgres.Row) (text json.RawMessage, err error) {
		err = row.Scan((*[]byte)(&text))
		return text, err
	}, "select row_to_json(held)::text from (select "+of.columns()+" from "+of.Table+
		" t where t.customer_id = @customer and ("+of.Person.Where+") order by 1 limit @limit) as held",
		postgres.Args{"customer": tx.Customer, "people": []id.User{user}, "limit": maxRowsOfOneStore + 1})
}
