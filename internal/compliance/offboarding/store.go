package offboarding

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/record/receipt"
)

// columns are all but the sealed key of the bundle, and deleted_in, which is for receipts.
const columns = `customer_id, id, slug, name, state, requested_at, requested_by, approved_at, approved_by, deletes_at,
	cancelled_at, cancelled_by, deleting_at, recorded_at, deleted_at, removed, backups_expire_at, coalesce(jws, ''),
	notices, recipient, bundle_wanted_at, bundle_id, bundle_size, bundle_made_at, bundle_for, bundle_collected_at,
	live_complete_at, final_at, version, updated_at`

func scan(row postgres.Row) (found Offboarding, err error) {
	var removed postgres.JSON[map[string]int64]
	var bundle struct {
		id     *id.Bundle
		size   *int64
		madeAt *time.Time
		Bundle
	}
	err = row.Scan(
		&found.Customer,
		&found.ID,
		&found.Slug,
		&found.Name,
		&found.State,
		&found.RequestedAt,
		&found.RequestedBy,
		&found.ApprovedAt,
		&found.ApprovedBy,
		&found.DeletesAt,
		&found.CancelledAt,
		&found.CancelledBy,
		&found.DeletingAt,
		&found.RecordedAt,
		&found.DeletedAt,
		&removed,
		&found.BackupsExpireAt,
		&found.JWS,
		&found.notices,
		&found.Recipient,
		&found.BundleWantedAt,
		&bundle.id,
		&bundle.size,
		&bundle.madeAt,
		&bundle.Recipient,
		&bundle.CollectedAt,
		&found.LiveCompleteAt,
		&found.FinalAt,
		&found.Version,
		&found.UpdatedAt,
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
		bundle.ID, bundle.Size, bundle.MadeAt = *bundle.id, *bundle.size, *bundle.madeAt
		found.Bundle = &bundle.Bundle
	}
	return found, nil
}

const newestOfCustomer = "select " + columns + " from offboardings where customer_id = $1 order by id desc limit 1"

// newest returns the newest offboarding of the transaction's customer.
func newest(tx *postgres.Tx) (Offboarding, error) {
	return scan(tx.QueryRow(newestOfCustomer, tx.Customer))
}

// newestOf returns the newest offboarding of a customer. It is for transactions outside customers.
func newestOf(tx *postgres.Tx, of id.Customer) (Offboarding, error) {
	return scan(tx.QueryRow(newestOfCustomer, of))
}

// lockNewest is newest that also locks the row until the transaction ends.
func lockNewest(tx *postgres.Tx) (Offboarding, error) {
	return scan(tx.QueryRow(newestOfCustomer+" for update", tx.Customer))
}

func lock(tx *postgres.Tx, offboarding id.Offboarding) (Offboarding, error) {
	return scan(tx.QueryRow("select "+columns+` from offboardings
		where customer_id = $1 and id = $2 for update`, tx.Customer, offboarding))
}

func byID(tx *postgres.Tx, offboarding id.Offboarding) (Offboarding, error) {
	return scan(tx.QueryRow("select "+columns+" from offboardings where id = $1", offboarding))
}

func list(tx *postgres.Tx, filter Filter, before id.Offboarding, limit int) (found []Offboarding, err error) {
	conditions, arguments := "true", postgres.Args{"limit": limit}
	if !before.IsZero() {
		conditions, arguments["before"] = conditions+" and id < @before", before
	}
	if filter.State != "" {
		conditions, arguments["state"] = conditions+" and state = @state", filter.State
	}
	return postgres.Collect(tx, scan, "select "+columns+" from offboardings where "+conditions+`
		order by id desc limit @limit`, arguments)
}

func insert(tx *postgres.Tx, in Offboarding) (Offboarding, error) {
	return scan(tx.QueryRow(`
		insert into offboardings (customer_id, id, slug, name, state, requested_at, requested_by, removed, notices,
			version, updated_at)
		values (@customer, @id, @slug, @name, 'requested', @requested_at, @requested_by, '{}', 0, 1, @now)
		returning `+columns,
		postgres.Args{
			"customer": tx.Customer, "id": in.ID, "slug": in.Slug, "name": in.Name, "requested_at": in.RequestedAt,
			"requested_by": in.RequestedBy, "now": tx.Now,
		}))
}

// change updates an offboarding and returns it. The assignments are constants of this file; they
// may use @now besides the arguments.
func change(
	tx *postgres.Tx, offboarding id.Offboarding, assignments string, arguments postgres.Args,
) (Offboarding, error) {
	all := postgres.Args{"now": tx.Now, "customer": tx.Customer, "id": offboarding}
	maps.Copy(all, arguments)
	return scan(tx.QueryRow("update offboardings set "+assignments+`, version = version + 1, updated_at = @now
		where customer_id = @customer and id = @id returning `+columns, all))
}

func approve(tx *postgres.Tx, offboarding id.Offboarding, by id.User, deletesAt time.Time) (Offboarding, error) {
	return change(tx, offboarding, `state = 'approved', approved_at = @now, approved_by = @by,
		deletes_at = @deletes_at, bundle_wanted_at = @now, wake_at = @now`,
		postgres.Args{"by": by, "deletes_at": deletesAt})
}

// cancel also schedules the removal of the bundle.
func cancel(tx *postgres.Tx, offboarding id.Offboarding, by *id.User) (Offboarding, error) {
	return change(tx, offboarding, `state = 'cancelled', cancelled_at = @now, cancelled_by = @by,
		bundle_wanted_at = null, wake_at = @now`, postgres.Args{"by": by})
}

func setRecipient(tx *postgres.Tx, offboarding id.Offboarding, recipient string) (Offboarding, error) {
	return change(tx, offboarding, `recipient = @recipient,
		bundle_wanted_at = case state when 'approved' then @now::timestamptz end,
		wake_at = case state when 'approved' then @now::timestamptz end`, postgres.Args{"recipient": recipient})
}

// requestBundle schedules a new bundle.
func requestBundle(tx *postgres.Tx, offboarding id.Offboarding) (Offboarding, error) {
	return change(tx, offboarding, "bundle_wanted_at = @now, wake_at = @now", nil)
}

// recordCollection records that the bundle is collected, and returns its sealed key; nil where the
// bundle is encrypted to the customer's own.
func recordCollection(tx *postgres.Tx, offboarding id.Offboarding) (sealed []byte, err error) {
	err = tx.QueryRow(`
		update offboardings set bundle_collected_at = @now, version = version + 1, updated_at = @now
		where customer_id = @customer and id = @id returning bundle_key`,
		postgres.Args{"now": tx.Now, "customer": tx.Customer, "id": offboarding}).Scan(&sealed)
	return sealed, err
}

// setBundle replaces the bundle, if the offboarding has not changed while it was made: a person who
// was erased meanwhile may be in it. Fault: ResourceNotFound where it has.
func setBundle(tx *postgres.Tx, of Offboarding, made Bundle, sealed []byte) (Offboarding, error) {
	return scan(tx.QueryRow(`
		update offboardings set bundle_id = @bundle, bundle_key = @key, bundle_size = @size, bundle_made_at = @made_at,
			bundle_for = @recipient, bundle_collected_at = null, bundle_wanted_at = null, version = version + 1,
			updated_at = @now
		where customer_id = @customer and id = @id and state = 'approved' and version = @version
		returning `+columns,
		postgres.Args{
			"bundle": made.ID, "key": sealed, "size": made.Size, "made_at": made.MadeAt, "recipient": made.Recipient,
			"now": tx.Now, "customer": tx.Customer, "id": of.ID, "version": of.Version,
		}))
}

// recordNotice records that administrators were notified of the end, and schedules a new bundle.
func recordNotice(
	tx *postgres.Tx, offboarding id.Offboarding, number int, deletesAt time.Time,
) (Offboarding, error) {
	return change(tx, offboarding, "notices = @number, deletes_at = @deletes_at, bundle_wanted_at = @now",
		postgres.Args{"number": number, "deletes_at": deletesAt})
}

// schedule sets when work on an approved offboarding is due next: at next, or now where a bundle is
// wanted.
func schedule(tx *postgres.Tx, offboarding id.Offboarding, next time.Time) error {
	_, err := tx.Exec(`
		update offboardings set wake_at = case when bundle_wanted_at is null then @next::timestamptz
			else @now::timestamptz end
		where customer_id = @customer and id = @id and state = 'approved'`,
		postgres.Args{"next": next, "now": tx.Now, "customer": tx.Customer, "id": offboarding})
	return err
}

// countBundles returns how many bundles the customer has, and whether one may be in the making.
func countBundles(tx *postgres.Tx) (count int64, approved bool, err error) {
	err = tx.QueryRow(`
		select count(bundle_id), count(*) > 0 from offboardings where customer_id = $1 and state = 'approved'`,
		tx.Customer).Scan(&count, &approved)
	return count, approved, err
}

const noBundle = `bundle_id = null, bundle_key = null, bundle_size = null, bundle_made_at = null, bundle_for = null,
	bundle_collected_at = null`

// invalidateBundle removes the bundle of an approved offboarding, with the key that decrypts it,
// and schedules a new one.
func invalidateBundle(tx *postgres.Tx) error {
	_, err := tx.Exec("update offboardings set "+noBundle+`, bundle_wanted_at = @now, wake_at = @now,
			version = version + 1, updated_at = @now
		where customer_id = @customer and state = 'approved'`,
		postgres.Args{"now": tx.Now, "customer": tx.Customer})
	return err
}

// clearBundle removes the bundle of an offboarding that has ended.
func clearBundle(tx *postgres.Tx, offboarding id.Offboarding) error {
	_, err := tx.Exec("update offboardings set "+noBundle+`, wake_at = null, version = version + 1, updated_at = @now
		where customer_id = @customer and id = @id and state in ('cancelled', 'deleted')`,
		postgres.Args{"now": tx.Now, "customer": tx.Customer, "id": offboarding})
	return err
}

func markDeleting(tx *postgres.Tx, offboarding id.Offboarding) (Offboarding, error) {
	return change(tx, offboarding, "state = 'deleting', deleting_at = @now, bundle_wanted_at = null", nil)
}

func markRecorded(tx *postgres.Tx, offboarding id.Offboarding) (Offboarding, error) {
	return change(tx, offboarding, "recorded_at = @now", nil)
}

// reapprove restores an approval that a restore has lost.
func reapprove(tx *postgres.Tx, offboarding id.Offboarding, by id.User, at time.Time) (Offboarding, error) {
	return change(tx, offboarding, "state = 'approved', approved_at = @at, approved_by = @by, deletes_at = @at",
		postgres.Args{"at": at, "by": by})
}

// bringForward lets a deletion begin that had begun before a restore.
func bringForward(tx *postgres.Tx, offboarding id.Offboarding, to time.Time) (Offboarding, error) {
	return change(tx, offboarding, "deletes_at = least(deletes_at, @to)", postgres.Args{"to": to})
}

// otherOpen locks and returns the customer's open offboarding, if one exists and is another one.
func otherOpen(tx *postgres.Tx, than id.Offboarding) (other id.Offboarding, exists bool, err error) {
	err = tx.QueryRow(`
		select id from offboardings
		where customer_id = $1 and id <> $2 and state in ('requested', 'approved', 'deleting') for update`,
		tx.Customer, than).Scan(&other)
	if errors.Is(err, sql.ErrNoRows) {
		return id.Offboarding{}, false, nil
	}
	return other, err == nil, err
}

func markDeleted(tx *postgres.Tx, of Offboarding) (Offboarding, error) {
	return change(tx, of.ID, `state = 'deleted', deleted_in = pg_current_xact_id()::text::bigint,
		deleted_at = @deleted_at, backups_expire_at = @backups_expire_at, jws = @jws, recipient = null, wake_at = null,
		`+noBundle,
		postgres.Args{"deleted_at": of.DeletedAt, "backups_expire_at": of.BackupsExpireAt, "jws": of.JWS})
}

// unsettled lists deleted customers whose dead rows may still lie in their tables or, of those that
// are live-complete, in backups.
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

// settle records that nothing is left of a customer, in the database or in any backup, where that
// is not yet recorded. It returns how many offboardings it changed.
func settle(tx *postgres.Tx, offboardings []uuid.UUID, next receipt.State) (int64, error) {
	step := "live_complete_at = @now, version = version + 1, updated_at = @now where live_complete_at is null"
	if next == receipt.Final {
		step = `final_at = @now, version = version + 1, updated_at = @now
			where live_complete_at is not null and final_at is null`
	}
	return tx.Exec("update offboardings set "+step+`
			and state = 'deleted' and customer_id = @customer and id = any (@ids)`,
		postgres.Args{"now": tx.Now, "customer": tx.Customer, "ids": offboardings})
}

// acquire leases an offboarding that is due until a time, if one exists that no replica has leased.
func acquire(tx *postgres.Tx, until time.Time) (found Offboarding, exists bool, err error) {
	found, err = scan(tx.QueryRow(`
		update offboardings set wake_at = $1 where (customer_id, id) in (
			select customer_id, id from offboardings where wake_at <= $2 order by wake_at limit 1
			for update skip locked)
		returning `+columns, until, tx.Now))
	if fault.Is(err, fault.ResourceNotFound) {
		return Offboarding{}, false, nil
	}
	return found, err == nil, err
}

// extendLease extends the lease of an offboarding.
func extendLease(tx *postgres.Tx, of Offboarding, until time.Time) error {
	_, err := tx.Exec(`
		update offboardings set wake_at = @until where customer_id = @customer and id = @id and wake_at is not null`,
		postgres.Args{"until": until, "customer": of.Customer, "id": of.ID})
	return err
}

// customersTable is deleted from last: everything else refers to it.
const customersTable = "customers"

// condition selects the rows t of a store that belong to the customer.
func condition(store postgres.Store) string {
	if store.Leave.Where != "" {
		return store.Leave.Where
	}
	return "t." + store.CustomerColumn() + " = @customer"
}

// deleteRows deletes at most limit rows that a store has of the customer, adds them to the counts
// of the offboarding, and returns how many. It needs a transaction of InOffboarding.
func deleteRows(tx *postgres.Tx, store postgres.Store, offboarding id.Offboarding, limit int) (int64, error) {
	row := "ctid" // found fastest, and nothing changes the rows any more
	if store.Leave.Where != "" {
		row = store.Key[0]
	}
	deleted, err := tx.Exec(fmt.Sprintf(`
		delete from %[1]s where %[2]s = any (array(select t.%[2]s from %[1]s t where %[3]s limit @limit))`,
		store.Table, row, condition(store)), postgres.Args{"customer": tx.Customer, "limit": limit})
	if err != nil || deleted == 0 {
		return 0, err
	}
	return deleted, addRemoved(tx, offboarding, store.LeftAs(), deleted)
}

func addRemoved(tx *postgres.Tx, offboarding id.Offboarding, store string, deleted int64) error {
	_, err := tx.Exec(`
		update offboardings set removed = jsonb_set(removed, array[@store::text],
				to_jsonb(coalesce((removed ->> @store::text)::bigint, 0) + @deleted::bigint)),
			version = version + 1, updated_at = @now
		where customer_id = @customer and id = @id`,
		postgres.Args{
			"store": store, "deleted": deleted, "now": tx.Now, "customer": tx.Customer, "id": offboarding,
		})
	return err
}

// leftIn returns the stores that still have rows of the customer.
func leftIn(tx *postgres.Tx, stores []postgres.Store) ([]string, error) {
	var parts []string
	for _, store := range stores {
		parts = append(parts, fmt.Sprintf("select '%s' where exists (select from %s t where %s)",
			store.LeftAs(), store.Table, condition(store)))
	}
	return postgres.Column[string](tx, strings.Join(parts, " union all "), postgres.Args{"customer": tx.Customer})
}

// page reads at most limit rows of a store after a key, or the first ones where after is nil: each
// as a JSON object. It also returns the key of the last.
func page(
	tx *postgres.Tx, s postgres.Store, members, after []string, limit int,
) (found []json.RawMessage, last []string, err error) {
	var shown, key, place []string
	for _, name := range members {
		shown = append(shown, "t."+name)
	}
	arguments := postgres.Args{"customer": tx.Customer, "limit": limit}
	for i, name := range s.Key {
		key = append(key, "t."+name)
		if after != nil {
			argument := fmt.Sprintf("after%d", i)
			place, arguments[argument] = append(place, "@"+argument), after[i]
		}
	}
	condition, order, keys := "t."+s.CustomerColumn()+" = @customer", "", "array[]::text[]"
	if after != nil {
		condition += " and (" + strings.Join(key, ", ") + ") > (" + strings.Join(place, ", ") + ")"
	}
	if len(key) > 0 {
		order = " order by " + strings.Join(key, ", ")
		keys = "array[" + strings.Join(key, "::text, ") + "::text]"
	}
	found, err = postgres.Collect(tx, func(row postgres.Row) (json.RawMessage, error) {
		var text []byte
		var at postgres.JSON[[]string]
		err := row.Scan(&text, &at)
		last = at.Of
		return text, err
	}, "select (select row_to_json(r) from (select "+strings.Join(shown, ", ")+") as r)::text, to_jsonb("+keys+`)
		from `+s.Table+" t where "+condition+order+" limit @limit", arguments)
	return found, last, err
}
