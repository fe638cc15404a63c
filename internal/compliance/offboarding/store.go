package offboarding

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/record/receipt"
)

// columns are all but the key of the bundle. Whether nothing of the customer is left in any
// backup is asked outside customers alone.
const columns = `customer_id, id, slug, name, state, requested_at, requested_by, approved_at, approved_by, deletes_at, cancelled_at, cancelled_by, deleting_at, recorded_at,
	deleted_at, removed, backups_expire_at, coalesce(jws, ''), notices, recipient, bundle_wanted_at, bundle_id, bundle_size, bundle_made_at, bundle_for, bundle_collected_at, live_complete_at, final_at, version, updated_at`

type scanner interface{ Scan(into ...any) error }

func scan(row scanner) (found Offboarding, err error) {
	var removed postgres.JSON[map[string]int64]
	var bundle struct {
		id     *id.Bundle
		size   *int64
		madeAt *time.Time
		of     Bundle
	}
	err = row.Scan(
		&found.Customer, &found.ID, &found.Slug, &found.Name, &found.State, &found.RequestedAt, &found.RequestedBy, &found.ApprovedAt, &found.ApprovedBy, &found.DeletesAt,
		&found.CancelledAt, &found.CancelledBy, &found.DeletingAt, &found.RecordedAt, &found.DeletedAt, &removed, &found.BackupsExpireAt, &found.JWS, &found.notices, &found.Recipient,
		&found.BundleWantedAt, &bundle.id, &bundle.size, &bundle.madeAt, &bundle.of.Recipient, &bundle.of.CollectedAt, &found.LiveCompleteAt, &found.FinalAt, &found.Version, &found.UpdatedAt,
	)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return Offboarding{}, notFound()
	case err != nil:
		return Offboarding{}, err
	}
	for store, count := range removed.Of {
		found.Removed = append(found.Removed, receipt.Removed{Store: store, Count: count})
	}
	slices.SortFunc(found.Removed, func(a, b receipt.Removed) int { return strings.Compare(a.Store, b.Store) })
	if bundle.id != nil {
		bundle.of.ID, bundle.of.Size, bundle.of.MadeAt = *bundle.id, *bundle.size, *bundle.madeAt
		found.Bundle = &bundle.of
	}
	return found, nil
}

// newest returns the last offboarding of the customer.
func newest(tx *postgres.Tx) (Offboarding, error) {
	return scan(tx.Raw("select "+columns+" from offboardings where customer_id = ? order by id desc limit 1", tx.Customer).Row())
}

// lockNewest does so and holds it against everybody else who would act on it.
func lockNewest(tx *postgres.Tx) (Offboarding, error) {
	return scan(tx.Raw("select "+columns+" from offboardings where customer_id = ? order by id desc limit 1 for update", tx.Customer).Row())
}

func lock(tx *postgres.Tx, offboarding id.Offboarding) (Offboarding, error) {
	return scan(tx.Raw("select "+columns+" from offboardings where customer_id = ? and id = ? for update", tx.Customer, offboarding).Row())
}

func newestOf(tx *postgres.Tx, of id.Customer) (Offboarding, error) {
	return scan(tx.Raw("select "+columns+" from offboardings where customer_id = ? order by id desc limit 1", of).Row())
}

func byID(tx *postgres.Tx, offboarding id.Offboarding) (Offboarding, error) {
	return scan(tx.Raw("select "+columns+" from offboardings where id = ?", offboarding).Row())
}

func list(tx *postgres.Tx, filter Filter, before id.Offboarding, limit int) (found []Offboarding, err error) {
	conditions, arguments := "true", []any{}
	if !before.IsZero() {
		conditions, arguments = conditions+" and id < ?", append(arguments, before)
	}
	if filter.State != "" {
		conditions, arguments = conditions+" and state = ?", append(arguments, filter.State)
	}
	rows, err := tx.Raw("select "+columns+" from offboardings where "+conditions+" order by id desc limit ?", append(arguments, limit)...).Rows()
	if err != nil {
		return nil, err
	}
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

func insert(tx *postgres.Tx, in Offboarding) (Offboarding, error) {
	return scan(tx.Raw(`
		insert into offboardings (customer_id, id, slug, name, state, requested_at, requested_by, removed, notices, version, updated_at)
		values (?, ?, ?, ?, 'requested', ?, ?, '{}', 0, 1, ?) returning `+columns,
		tx.Customer, in.ID, in.Slug, in.Name, in.RequestedAt, in.RequestedBy, tx.Now).Row())
}

// change updates an offboarding and returns it as it is then. The assignments are constants of
// this file.
func change(tx *postgres.Tx, offboarding id.Offboarding, assignments string, arguments ...any) (Offboarding, error) {
	arguments = append(arguments, tx.Now, tx.Customer, offboarding)
	return scan(tx.Raw("update offboardings set "+assignments+", version = version + 1, updated_at = ? where customer_id = ? and id = ? returning "+columns, arguments...).Row())
}

func approve(tx *postgres.Tx, offboarding id.Offboarding, by id.User, deletesAt time.Time) (Offboarding, error) {
	return change(tx, offboarding, "state = 'approved', approved_at = ?, approved_by = ?, deletes_at = ?, bundle_wanted_at = ?, wake_at = ?",
		tx.Now, by, deletesAt, tx.Now, tx.Now)
}

// cancel also has the bundle removed, by whoever looks next.
func cancel(tx *postgres.Tx, offboarding id.Offboarding, by *id.User) (Offboarding, error) {
	return change(tx, offboarding, "state = 'cancelled', cancelled_at = ?, cancelled_by = ?, bundle_wanted_at = null, wake_at = ?", tx.Now, by, tx.Now)
}

func setRecipient(tx *postgres.Tx, offboarding id.Offboarding, recipient string) (Offboarding, error) {
	return change(tx, offboarding, `recipient = ?, bundle_wanted_at = case state when 'approved' then ?::timestamptz end, wake_at = case state when 'approved' then ?::timestamptz end`,
		recipient, tx.Now, tx.Now)
}

func wantBundle(tx *postgres.Tx, offboarding id.Offboarding) (Offboarding, error) {
	return change(tx, offboarding, "bundle_wanted_at = ?, wake_at = ?", tx.Now, tx.Now)
}

// collect notes that the bundle is handed over, and returns what it is encrypted with, sealed;
// nil where that is the customer's own key.
func collect(tx *postgres.Tx, offboarding id.Offboarding) (sealed []byte, err error) {
	err = tx.Raw(`
		update offboardings set bundle_collected_at = ?, version = version + 1, updated_at = ? where customer_id = ? and id = ? returning bundle_key`,
		tx.Now, tx.Now, tx.Customer, offboarding).Row().Scan(&sealed)
	return sealed, err
}

// putBundle puts a bundle in the place of the one before, if nothing happened to the offboarding
// while it was made: if somebody was erased, the person may be in it.
func putBundle(tx *postgres.Tx, of Offboarding, made Bundle, sealed []byte) (Offboarding, error) {
	return scan(tx.Raw(`
		update offboardings set bundle_id = ?, bundle_key = ?, bundle_size = ?, bundle_made_at = ?, bundle_for = ?, bundle_collected_at = null,
			bundle_wanted_at = null, version = version + 1, updated_at = ?
		where customer_id = ? and id = ? and state = 'approved' and version = ? returning `+columns,
		made.ID, sealed, made.Size, made.MadeAt, made.Recipient, tx.Now, tx.Customer, of.ID, of.Version).Row())
}

// noteNotice notes that administrators are told of the end, and has the bundle made anew.
func noteNotice(tx *postgres.Tx, offboarding id.Offboarding, number int, deletesAt time.Time) (Offboarding, error) {
	return change(tx, offboarding, "notices = ?, deletes_at = ?, bundle_wanted_at = ?", number, deletesAt, tx.Now)
}

// rest says when an offboarding that waits has to be looked after next, unless there is
// something to do now.
func rest(tx *postgres.Tx, offboarding id.Offboarding, next time.Time) error {
	return tx.ORM().Exec("update offboardings set wake_at = case when bundle_wanted_at is null then ?::timestamptz else ? end where customer_id = ? and id = ? and state = 'approved'",
		next, tx.Now, tx.Customer, offboarding).Error
}

// countBundles tells whether there is a bundle, and whether one may be in the making.
func countBundles(tx *postgres.Tx) (count int64, waits bool, err error) {
	err = tx.Raw("select count(bundle_id), count(*) > 0 from offboardings where customer_id = ? and state = 'approved'", tx.Customer).Row().Scan(&count, &waits)
	return count, waits, err
}

// outdateBundles forgets the bundle of an offboarding that waits, with the key that it takes to
// read it, and has another one made.
func outdateBundles(tx *postgres.Tx) error {
	return tx.ORM().Exec(`
		update offboardings set bundle_id = null, bundle_key = null, bundle_size = null, bundle_made_at = null, bundle_for = null, bundle_collected_at = null,
			bundle_wanted_at = ?, wake_at = ?, version = version + 1, updated_at = ? where customer_id = ? and state = 'approved'`,
		tx.Now, tx.Now, tx.Now, tx.Customer).Error
}

// dropBundle forgets the bundle of an offboarding that waits no more.
func dropBundle(tx *postgres.Tx, offboarding id.Offboarding) error {
	return tx.ORM().Exec(`
		update offboardings set bundle_id = null, bundle_key = null, bundle_size = null, bundle_made_at = null, bundle_for = null, bundle_collected_at = null, wake_at = null,
			version = version + 1, updated_at = ? where customer_id = ? and id = ? and state in ('cancelled', 'deleted')`,
		tx.Now, tx.Customer, offboarding).Error
}

func beginDeleting(tx *postgres.Tx, offboarding id.Offboarding) (Offboarding, error) {
	return change(tx, offboarding, "state = 'deleting', deleting_at = ?, bundle_wanted_at = null", tx.Now)
}

func markRecorded(tx *postgres.Tx, offboarding id.Offboarding) (Offboarding, error) {
	return change(tx, offboarding, "recorded_at = ?", tx.Now)
}

// approveAgain brings what a restore has lost of an approval back.
func approveAgain(tx *postgres.Tx, offboarding id.Offboarding, by id.User, at time.Time) (Offboarding, error) {
	return change(tx, offboarding, "state = 'approved', approved_at = ?, approved_by = ?, deletes_at = ?", at, by, at)
}

// bringForward lets a deletion begin whose time had come, before a restore.
func bringForward(tx *postgres.Tx, offboarding id.Offboarding, to time.Time) (Offboarding, error) {
	return change(tx, offboarding, "deletes_at = least(deletes_at, ?)", to)
}

// otherOpen returns an offboarding that is open and is another one. There may be none.
func otherOpen(tx *postgres.Tx, than id.Offboarding) (other id.Offboarding, ok bool, err error) {
	err = tx.Raw("select id from offboardings where customer_id = ? and id <> ? and state in ('requested', 'approved', 'deleting') for update", tx.Customer, than).Row().Scan(&other)
	if errors.Is(err, sql.ErrNoRows) {
		return id.Offboarding{}, false, nil
	}
	return other, err == nil, err
}

func markDeleted(tx *postgres.Tx, of Offboarding) (Offboarding, error) {
	return change(tx, of.ID, `state = 'deleted', deleted_in = pg_current_xact_id()::text::bigint, deleted_at = ?, backups_expire_at = ?, jws = ?, recipient = null, bundle_id = null, bundle_key = null, bundle_size = null,
		bundle_made_at = null, bundle_for = null, bundle_collected_at = null, wake_at = null`, of.DeletedAt, of.BackupsExpireAt, of.JWS)
}

// unsettled are customers that are deleted, and whose rows may still lie dead in their tables;
// or, of those that are live-complete, in backups.
func unsettled(tx *postgres.Tx, state receipt.State, limit int) ([]receipt.Unsettled, error) {
	complete := "null"
	if state == receipt.LiveComplete {
		complete = "not null"
	}
	return postgres.Collect(tx, func(row postgres.Row) (found receipt.Unsettled, err error) {
		err = row.Scan(&found.Customer, &found.ID, &found.ErasedAt, &found.ErasedIn)
		return found, err
	}, `
		select customer_id, id, deleted_at, coalesce(deleted_in, 0) from offboardings
		where state = 'deleted' and final_at is null and live_complete_at is `+complete+`
		order by deleted_at limit $1`, limit)
}

// settle records that nothing is left of a customer, in the database or in any backup. It does
// so once.
func settle(tx *postgres.Tx, offboardings []uuid.UUID, next receipt.State) (int64, error) {
	step := "live_complete_at = @now, version = version + 1, updated_at = @now where live_complete_at is null"
	if next == receipt.Final {
		step = `final_at = @now, version = version + 1, updated_at = @now
			where live_complete_at is not null and final_at is null`
	}
	return tx.Exec("update offboardings set "+step+" and state = 'deleted' and customer_id = @customer and id = any (@ids)",
		postgres.Args{"now": tx.Now, "customer": tx.Customer, "ids": offboardings})
}

// take returns an offboarding that somebody has to look after, and keeps others from it for a
// while. There may be none.
func take(tx *postgres.Tx, until time.Time) (found Offboarding, ok bool, err error) {
	rows, err := tx.Raw(`
		update offboardings set wake_at = ? where (customer_id, id) in (
			select customer_id, id from offboardings where wake_at <= ? order by wake_at limit 1 for update skip locked)
		returning `+columns, until, tx.Now).Rows()
	if err != nil {
		return Offboarding{}, false, err
	}
	defer rows.Close() //nolint:errcheck // one row at most
	if !rows.Next() {
		return Offboarding{}, false, rows.Err()
	}
	found, err = scan(rows)
	return found, err == nil, err
}

// keep holds others off for longer.
func keep(tx *postgres.Tx, one Offboarding, until time.Time) error {
	return tx.ORM().Exec("update offboardings set wake_at = ? where customer_id = ? and id = ? and wake_at is not null", until, one.Customer, one.ID).Error
}

// customersTable is deleted from last: everything else hangs on it.
const customersTable = "customers"

// condition finds the rows t of a store that are the customer's.
func condition(store postgres.Store) string {
	if store.Leave.Where != "" {
		return store.Leave.Where
	}
	return "t." + store.CustomerColumn() + " = @customer"
}

// empty deletes at most limit rows that a store has of the customer, counts them, and returns
// how many. It takes a transaction of InOffboarding.
func empty(tx *postgres.Tx, store postgres.Store, offboarding id.Offboarding, limit int) (int64, error) {
	row := "ctid" // found fastest, and nothing changes the rows any more
	if store.Leave.Where != "" {
		row = store.Key[0]
	}
	deleted, err := tx.Exec(fmt.Sprintf("delete from %[1]s where %[2]s = any (array(select t.%[2]s from %[1]s t where %[3]s limit @limit))",
		store.Table, row, condition(store)), postgres.Args{"customer": tx.Customer, "limit": limit})
	if err != nil || deleted == 0 {
		return 0, err
	}
	return deleted, count(tx, offboarding, store.LeftAs(), deleted)
}

func count(tx *postgres.Tx, offboarding id.Offboarding, store string, deleted int64) error {
	return tx.ORM().Exec(`
		update offboardings set removed = jsonb_set(removed, array[?::text], to_jsonb(coalesce((removed ->> ?::text)::bigint, 0) + ?::bigint)), version = version + 1, updated_at = ?
		where customer_id = ? and id = ?`, store, store, deleted, tx.Now, tx.Customer, offboarding).Error
}

// leftIn names the stores that still have something of the customer.
func leftIn(tx *postgres.Tx, stores []postgres.Store) ([]string, error) {
	var parts []string
	for _, store := range stores {
		parts = append(parts, fmt.Sprintf("select '%s' where exists (select from %s t where %s)", store.LeftAs(), store.Table, condition(store)))
	}
	return postgres.Column[string](tx, strings.Join(parts, " union all "), postgres.Args{"customer": tx.Customer})
}

// page reads rows of a store behind a key, each as a JSON object, and returns the key of the
// last.
func page(tx *postgres.Tx, s postgres.Store, members, after []string, limit int) (found []json.RawMessage, last []string, err error) {
	var shown, key, place []string
	for _, name := range members {
		shown = append(shown, "t."+name)
	}
	arguments := []any{tx.Customer}
	for i, name := range s.Key {
		key = append(key, "t."+name)
		if after != nil {
			place, arguments = append(place, "?"), append(arguments, after[i])
		}
	}
	condition, order, keys := "t."+s.CustomerColumn()+" = ?", "", "array[]::text[]"
	if after != nil {
		condition += " and (" + strings.Join(key, ", ") + ") > (" + strings.Join(place, ", ") + ")"
	}
	if len(key) > 0 {
		order, keys = " order by "+strings.Join(key, ", "), "array["+strings.Join(key, "::text, ")+"::text]"
	}
	rows, err := tx.Raw("select (select row_to_json(r) from (select "+strings.Join(shown, ", ")+") as r)::text, to_jsonb("+keys+") from "+s.Table+" t where "+condition+order+" limit ?",
		append(arguments, limit)...).Rows()
	if err != nil {
		return nil, nil, err
	}
	defer rows.Close() //nolint:errcheck // read to its end or given up
	for rows.Next() {
		var row []byte
		var at postgres.JSON[[]string]
		if err := rows.Scan(&row, &at); err != nil {
			return nil, nil, err
		}
		found, last = append(found, row), at.Of
	}
	return found, last, rows.Err()
}
