package subjectrequest

import (
	"database/sql"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

// overview are the columns that say how far a request is, and ours those that the platform does
// not see.
const (
	overview = `customer_id, id, user_id, kind, state, reason, receipt_id, received_at, acknowledged_at, due_at, closed_at, bundle_expires_at, bundle_collected_at,
		version, updated_at`
	whole = overview + `, first_name, last_name, email, recipient`
)

func (r *Request) fields(bundleExpiresAt, bundleCollectedAt **time.Time) []any {
	return []any{
		&r.Customer, &r.ID, &r.UserID, &r.Kind, &r.State, &r.Reason, &r.ReceiptID, &r.ReceivedAt, &r.AcknowledgedAt, &r.DueAt, &r.ClosedAt,
		bundleExpiresAt, bundleCollectedAt, &r.Version, &r.UpdatedAt,
	}
}

type scanner interface{ Scan(into ...any) error }

func scanOverview(row scanner) (found Request, err error) {
	var expires, collected *time.Time
	if err := row.Scan(found.fields(&expires, &collected)...); err != nil {
		return Request{}, err
	}
	found.bundle(expires, collected)
	return found, nil
}

func scanWhole(row scanner) (found Request, err error) {
	var expires, collected *time.Time
	var corrections Corrections
	err = row.Scan(append(found.fields(&expires, &collected), &corrections.FirstName, &corrections.LastName, &corrections.Email, &found.Recipient)...)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return Request{}, notFound()
	case err != nil:
		return Request{}, err
	}
	found.bundle(expires, collected)
	if !corrections.empty() {
		found.Corrections = &corrections
	}
	return found, nil
}

func (r *Request) bundle(expires, collected *time.Time) {
	if expires != nil {
		r.Bundle = &Bundle{ExpiresAt: *expires, CollectedAt: collected}
	}
}

func scanAll(rows *sql.Rows, scan func(scanner) (Request, error)) (found []Request, err error) {
	defer rows.Close() //nolint:errcheck // read to its end or given up
	for rows.Next() {
		one, err := scan(rows)
		if err != nil {
			return nil, err
		}
		found = append(found, one)
	}
	return found, rows.Err()
}

func get(tx *postgres.Tx, request id.DataRequest) (Request, error) {
	return scanWhole(tx.Raw("select "+whole+" from data_subject_requests where customer_id = ? and id = ?", tx.Customer, request).Row())
}

// lock reads a request and holds it against everybody else who would act on it.
func lock(tx *postgres.Tx, request id.DataRequest) (Request, error) {
	return scanWhole(tx.Raw("select "+whole+" from data_subject_requests where customer_id = ? and id = ? for update", tx.Customer, request).Row())
}

// lockOpen looks for the open request of a person and a kind. There may be none.
func lockOpen(tx *postgres.Tx, user id.User, kind Kind) (found Request, ok bool, err error) {
	found, err = scanWhole(tx.Raw("select "+whole+` from data_subject_requests
		where customer_id = ? and user_id = ? and kind = ? and closed_at is null for update`, tx.Customer, user, kind).Row())
	if fault.Is(err, fault.ResourceNotFound) {
		return Request{}, false, nil
	}
	return found, err == nil, err
}

func insert(tx *postgres.Tx, in New) (Request, error) {
	return scanWhole(tx.Raw(`
		insert into data_subject_requests (customer_id, id, user_id, kind, state, first_name, last_name, email, recipient, received_at, due_at, reminders, version,
			updated_at)
		values (?, ?, ?, ?, 'received', ?, ?, ?, ?, ?, ?, 0, 1, ?) returning `+whole,
		tx.Customer, id.New[id.DataRequest](), in.UserID, in.Kind, in.Corrections.FirstName, in.Corrections.LastName, in.Corrections.Email, in.Recipient,
		tx.Now, dueAfter(tx.Now), tx.Now).Row())
}

// join takes what a later request of the same kind says into the one that is open. What it does
// not name stays.
func join(tx *postgres.Tx, open Request, in New) (Request, error) {
	return scanWhole(tx.Raw(`
		update data_subject_requests set first_name = coalesce(?, first_name), last_name = coalesce(?, last_name), email = coalesce(?, email),
			recipient = coalesce(?, recipient), version = version + 1, updated_at = ?
		where customer_id = ? and id = ? returning `+whole,
		in.Corrections.FirstName, in.Corrections.LastName, in.Corrections.Email, in.Recipient, tx.Now, tx.Customer, open.ID).Row())
}

func acknowledge(tx *postgres.Tx, request id.DataRequest) (Request, error) {
	return scanWhole(tx.Raw(`
		update data_subject_requests set state = 'acknowledged', acknowledged_at = ?, version = version + 1, updated_at = ?
		where customer_id = ? and id = ? returning `+whole, tx.Now, tx.Now, tx.Customer, request).Row())
}

// finish closes a request. Corrections go with it.
func finish(tx *postgres.Tx, request id.DataRequest, state State, reason *Reason) (Request, error) {
	return scanWhole(tx.Raw(`
		update data_subject_requests set state = ?, reason = ?, first_name = null, last_name = null, email = null,
			acknowledged_at = case when ?::text = 'fulfilled' then coalesce(acknowledged_at, ?) else acknowledged_at end,
			closed_at = ?, version = version + 1, updated_at = ?
		where customer_id = ? and id = ? returning `+whole, state, reason, state, tx.Now, tx.Now, tx.Now, tx.Customer, request).Row())
}

func setReceipt(tx *postgres.Tx, request id.DataRequest, receipt id.Receipt) (Request, error) {
	return scanWhole(tx.Raw("update data_subject_requests set receipt_id = ? where customer_id = ? and id = ? returning "+whole,
		receipt, tx.Customer, request).Row())
}

// putBundle keeps a bundle of a person for the request.
func putBundle(tx *postgres.Tx, of Request, user id.User, content []byte) (Request, error) {
	expires := tx.Now.Add(bundleKept)
	err := tx.ORM().Exec("insert into request_bundles (customer_id, request_id, user_id, content, created_at, expires_at) values (?, ?, ?, ?, ?, ?)",
		tx.Customer, of.ID, user, content, tx.Now, expires).Error
	if err != nil {
		return Request{}, err
	}
	return scanWhole(tx.Raw("update data_subject_requests set bundle_expires_at = ? where customer_id = ? and id = ? returning "+whole,
		expires, tx.Customer, of.ID).Row())
}

// bundleOf reads the content of a bundle that is not past its time. There may be none.
func bundleOf(tx *postgres.Tx, request id.DataRequest) (content []byte, ok bool, err error) {
	err = tx.Raw("select content from request_bundles where customer_id = ? and request_id = ? and expires_at > ?", tx.Customer, request, tx.Now).Row().Scan(&content)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, false, nil
	}
	return content, err == nil, err
}

// dropBundle tells whether there was one.
func dropBundle(tx *postgres.Tx, request id.DataRequest) (dropped bool, err error) {
	done := tx.ORM().Exec("delete from request_bundles where customer_id = ? and request_id = ?", tx.Customer, request)
	return done.RowsAffected > 0, done.Error
}

// markCollected notes the first time that a bundle was handed over.
func markCollected(tx *postgres.Tx, request id.DataRequest) error {
	return tx.ORM().Exec(`
		update data_subject_requests set bundle_collected_at = ?, version = version + 1, updated_at = ?
		where customer_id = ? and id = ? and bundle_collected_at is null`, tx.Now, tx.Now, tx.Customer, request).Error
}

// conditions gathers what a list is asked for.
type conditions struct {
	texts     []string
	arguments []any
}

func (c *conditions) and(text string, arguments ...any) {
	c.texts, c.arguments = append(c.texts, text), append(c.arguments, arguments...)
}

func (c *conditions) filter(filter Filter, before id.DataRequest) {
	if !before.IsZero() {
		c.and("id < ?", before)
	}
	if filter.State != "" {
		c.and("state = ?", filter.State)
	}
	if filter.Kind != "" {
		c.and("kind = ?", filter.Kind)
	}
	if filter.UserID != nil {
		c.and("user_id = ?", *filter.UserID)
	}
}

func list(tx *postgres.Tx, filter Filter, before id.DataRequest, limit int) ([]Request, error) {
	var asked conditions
	asked.and("customer_id = ?", tx.Customer)
	asked.filter(filter, before)
	rows, err := tx.Raw("select "+whole+" from data_subject_requests where "+strings.Join(asked.texts, " and ")+" order by id desc limit ?",
		append(asked.arguments, limit)...).Rows()
	if err != nil {
		return nil, err
	}
	return scanAll(rows, scanWhole)
}

// listAll lists the requests of all customers, without whom they are about.
func listAll(tx *postgres.Tx, filter Filter, before id.DataRequest, limit int) ([]Request, error) {
	var asked conditions
	asked.and("true")
	asked.filter(filter, before)
	rows, err := tx.Raw("select "+overview+" from data_subject_requests where "+strings.Join(asked.texts, " and ")+" order by id desc limit ?",
		append(asked.arguments, limit)...).Rows()
	if err != nil {
		return nil, err
	}
	return scanAll(rows, scanOverview)
}

// customerOf finds out whose request it is, outside customers.
func customerOf(tx *postgres.Tx, request id.DataRequest) (of id.Customer, err error) {
	err = tx.Raw("select customer_id from data_subject_requests where id = ?", request).Row().Scan(&of)
	if errors.Is(err, sql.ErrNoRows) {
		return of, notFound()
	}
	return of, err
}

// closeOf closes every open request of people who are being erased, and ends the bundles that
// there are. It returns those that were closed.
func closeOf(tx *postgres.Tx, users []id.User) ([]Request, error) {
	rows, err := tx.Raw(`
		update data_subject_requests set bundle_expires_at = ?, version = version + 1, updated_at = ?
		where customer_id = ? and user_id = any (?) and bundle_expires_at > ? returning id`, tx.Now, tx.Now, tx.Customer, users, tx.Now).Rows()
	if err != nil {
		return nil, err
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return nil, err
	}
	rows, err = tx.Raw(`
		update data_subject_requests set state = 'withdrawn', reason = 'person_erased', first_name = null, last_name = null, email = null, closed_at = ?,
			version = version + 1, updated_at = ?
		where customer_id = ? and user_id = any (?) and closed_at is null returning `+whole, tx.Now, tx.Now, tx.Customer, users).Rows()
	if err != nil {
		return nil, err
	}
	return scanAll(rows, scanWhole)
}

func countOpen(tx *postgres.Tx, user id.User) (count int64, err error) {
	err = tx.Raw("select count(*) from data_subject_requests where customer_id = ? and user_id = ? and closed_at is null", tx.Customer, user).Row().Scan(&count)
	return count, err
}

// remindable is one open request of which operators are to be reminded.
type remindable struct {
	customer id.Customer
	request  id.DataRequest
}

// isDueForReminder is the condition for that, with the times before which a request was received
// for its first and its second reminder.
const isDueForReminder = `closed_at is null and (reminders = 0 and received_at <= ? or reminders = 1 and received_at <= ?)`

func listRemindable(tx *postgres.Tx, limit int) (found []remindable, err error) {
	rows, err := tx.Raw("select customer_id, id from data_subject_requests where "+isDueForReminder+" order by received_at limit ?",
		tx.Now.Add(-firstReminder), tx.Now.Add(-secondReminder), limit).Rows()
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // read to its end or given up
	for rows.Next() {
		var one remindable
		if err := rows.Scan(&one.customer, &one.request); err != nil {
			return nil, err
		}
		found = append(found, one)
	}
	return found, rows.Err()
}

// markReminded notes a reminder. It tells false when somebody else did so first, or the request
// was closed. Where both are due, one is enough.
func markReminded(tx *postgres.Tx, request id.DataRequest) (bool, error) {
	done := tx.ORM().Exec(`
		update data_subject_requests set reminders = case when received_at <= ? then 2 else 1 end
		where customer_id = ? and id = ? and `+isDueForReminder,
		tx.Now.Add(-secondReminder), tx.Customer, request, tx.Now.Add(-firstReminder), tx.Now.Add(-secondReminder))
	return done.RowsAffected == 1, done.Error
}

// expireBundles deletes bundles that are past their time.
func expireBundles(tx *postgres.Tx, now time.Time, limit int) (int64, error) {
	done := tx.ORM().Exec(`
		delete from request_bundles where (customer_id, request_id) in (select customer_id, request_id from request_bundles where expires_at <= ? limit ?)`, now, limit)
	return done.RowsAffected, done.Error
}

// forget lets requests that were closed long ago forget whom they were about.
func forget(tx *postgres.Tx, now time.Time, limit int) (int64, error) {
	done := tx.ORM().Exec(`
		update data_subject_requests set user_id = null, recipient = null, receipt_id = null, version = version + 1, updated_at = ?
		where (customer_id, id) in (select customer_id, id from data_subject_requests where closed_at <= ? and user_id is not null limit ?)`,
		now, now.Add(-identityKept), limit)
	return done.RowsAffected, done.Error
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
