package alert

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/fusionspim/steward/internal/account/user"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/infra/mail"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/record/audit"
)

const columns = `a.id, a.severity, a.subject, a.body, a.dedupe_key, a.times, a.created_at, a.last_raised_at, a.fanned_out_at, a.finished_at, a.recipients,
	a.sent, a.digested, a.failed, a.skipped`

func (a *Alert) fields() []any {
	return []any{
		&a.ID, &a.Severity, &a.Subject, &a.Body, &a.DedupeKey, &a.Times, &a.CreatedAt, &a.LastRaisedAt, &a.FannedOutAt, &a.FinishedAt, &a.Recipients,
		&a.Deliveries.Sent, &a.Deliveries.Digested, &a.Deliveries.Failed, &a.Deliveries.Skipped,
	}
}

// raise creates an alert and its entry in the audit trail, or counts a repeat of the open alert
// with the same key and severity. It does neither, and reports false, if the window of that alert
// is over.
func raise(tx *postgres.Tx, caller principal.Principal, fresh id.Alert, in New) (raised Alert, done bool, err error) {
	act := audit.Act{Caller: caller, Action: audit.AlertRaised, Target: audit.OnAlert(fresh)}
	clause, arguments := audit.Clause(tx, act, "(select '{}'::text[] as changed from a where a.id = @alert::uuid) as created")
	maps.Copy(arguments, postgres.Args{
		"customer": tx.Customer, "alert": fresh, "severity": in.Severity, "subject": in.Subject, "body": in.Body,
		"key": in.DedupeKey, "joining": in.DedupeKey != nil, "now": tx.Now,
		"wake_at": tx.Now.Add(lease), "window_start": tx.Now.Add(-Window),
	})
	err = tx.QueryRow(`
		with a as (
			insert into alerts (customer_id, id, severity, subject, body, dedupe_key, joining, times, created_at,
				last_raised_at, recipients, sent, digested, failed, skipped, wake_at)
			values (@customer, @alert::uuid, @severity, @subject, @body, @key::text, @joining, 1, @now::timestamptz,
				@now::timestamptz, 0, 0, 0, 0, 0, @wake_at::timestamptz)
			on conflict (customer_id, dedupe_key, severity) where joining do update
				set times = alerts.times + 1, last_raised_at = greatest(alerts.last_raised_at, excluded.last_raised_at)
				where alerts.created_at > @window_start::timestamptz
			returning *
		), entry as (
			`+clause+`
		)
		select `+columns+` from a`,
		arguments).Scan(raised.fields()...)
	if errors.Is(err, sql.ErrNoRows) {
		return Alert{}, false, nil
	}
	return raised, err == nil, err
}

// closeWindow stops repeats from joining the alert with the key.
func closeWindow(tx *postgres.Tx, in New) error {
	return tx.ORM().Exec("update alerts set joining = false where customer_id = ? and dedupe_key = ? and severity = ? and joining and created_at <= ?",
		tx.Customer, in.DedupeKey, in.Severity, tx.Now.Add(-Window)).Error
}

func get(tx *postgres.Tx, alert id.Alert) (found Alert, err error) {
	err = tx.Raw("select "+columns+" from alerts a where a.customer_id = ? and a.id = ?", tx.Customer, alert).Row().Scan(found.fields()...)
	if errors.Is(err, sql.ErrNoRows) {
		return Alert{}, notFound()
	}
	return found, err
}

func list(tx *postgres.Tx, before id.Alert, limit int) (alerts []Alert, err error) {
	statement, arguments := "select "+columns+" from alerts a where a.customer_id = ?", []any{tx.Customer}
	if !before.IsZero() {
		statement, arguments = statement+" and a.id < ?", append(arguments, before)
	}
	rows, err := tx.Raw(statement+" order by a.id desc limit ?", append(arguments, limit)...).Rows()
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // read to its end or given up
	for rows.Next() {
		var one Alert
		if err := rows.Scan(one.fields()...); err != nil {
			return nil, err
		}
		alerts = append(alerts, one)
	}
	return alerts, rows.Err()
}

// fanOutBatch is how many people a step of the fan-out takes on: they are locked for as long as
// it lasts.
const fanOutBatch = 1000

// fanOut takes the fan-out of an alert one step on: it makes the deliveries of the next people
// who want it. Two who do so at once do no harm, for a person has one delivery of an alert. It
// locks people before the alert, like an erasure.
func fanOut(tx *postgres.Tx, of Alert) (recipients int64, done bool, err error) {
	isError := of.Severity == Error
	if isError { // what is counted must not be added to by another alert meanwhile
		if err := tx.AcquireForCustomer(postgres.LockAlertCap); err != nil {
			return 0, false, err
		}
	}
	hour := hourOf(tx.Now)
	var found, made int64
	var last *id.User
	err = tx.RawAnew(fmt.Sprintf(`
		with next as materialized (
			select u.id from users u
			where u.customer_id = ? and u.id > (select coalesce(fanned_to, '00000000-0000-0000-0000-000000000000') from alerts where customer_id = ? and id = ?)
				and u.status = 'active' and u.alerts_opted_in
			order by u.id limit %d for share of u
		), judged as (
			select next.id, ? and (
				select count(*) from (
					select from alert_deliveries x where x.customer_id = ? and x.user_id = next.id and x.created_at >= ?::timestamptz and x.capped limit %d
				) counted
			) >= %[2]d as over from next
		), made as (
			insert into alert_deliveries (customer_id, alert_id, user_id, state, capped, attempts, created_at, due_at)
			select ?, ?, id, case when over then 'collected' else 'pending' end, ? and not over, 0, ?::timestamptz, ?::timestamptz from judged order by id
			on conflict do nothing
			returning user_id, state
		), gathered as (
			insert into alert_digests as g (customer_id, user_id, hour, state, attempts, created_at, due_at)
			select ?, user_id, ?::timestamptz, 'pending', 0, ?::timestamptz, ?::timestamptz from made where state = 'collected'
			on conflict (customer_id, user_id, hour) do update
				set state = 'pending', attempts = 0, created_at = excluded.created_at, due_at = excluded.due_at where g.state <> 'pending'
		)
		select (select count(*) from next), (select count(*) from made), (select id from next order by id desc limit 1)`, fanOutBatch, capPerHour),
		tx.Customer, tx.Customer, of.ID, isError, tx.Customer, hour, tx.Customer, of.ID, isError, tx.Now, tx.Now,
		tx.Customer, hour, tx.Now, hour.Add(time.Hour+slack)).Row().Scan(&found, &made, &last)
	if err != nil {
		return 0, false, err
	}
	err = tx.Raw(`
		update alerts set fanned_to = coalesce(?::uuid, fanned_to), recipients = recipients + ?, wake_at = ?::timestamptz,
			fanned_out_at = case when ? then coalesce(fanned_out_at, ?::timestamptz) end
		where customer_id = ? and id = ? and fanned_out_at is null returning recipients`,
		last, made, tx.Now.Add(lease), found < fanOutBatch, tx.Now, tx.Customer, of.ID).Row().Scan(&recipients)
	if errors.Is(err, sql.ErrNoRows) { // another replica was faster, and found everybody
		return of.Recipients, true, errFannedOut
	}
	return recipients, found < fanOutBatch, err
}

// errFannedOut undoes a step that comes after the last one.
var errFannedOut = errors.New("alert: everybody was found meanwhile")

// outgoing is a mail that a sender has acquired.
type outgoing struct {
	user     id.User
	hour     time.Time // of a digest; zero for a mail about one alert
	created  time.Time // tried since then; of a digest, part of its identity
	attempts int16     // including this one
	email    string
	skip     reason // set if it must not be sent
	entries  []mail.DigestEntry
	more     int
}

// holdingUsers reads the recipients for the two statements that acquire mails, under the lock
// that an erasure takes. Recipients who are being erased or changed are left for the next batch.
const holdingUsers = `
	join lateral (
		select ` + user.MailColumns + ` from users u where u.customer_id = ? and u.id = due.user_id limit 1 for share skip locked
	) u on true`

// acquireDeliveries leases due deliveries of an alert: no other sender acquires them before the
// lease ends.
func acquireDeliveries(tx *postgres.Tx, alert id.Alert) ([]outgoing, error) {
	rows, err := tx.RawAnew(fmt.Sprintf(`
		with due as materialized (
			select alert_id, user_id from alert_deliveries where customer_id = ? and alert_id = ? and state = 'pending' and due_at <= ?
			order by due_at limit %d for update skip locked
		), held as materialized (
			select due.alert_id, due.user_id, u.* from due `+holdingUsers+`
		)
		update alert_deliveries d set attempts = d.attempts + 1, due_at = ? from held
		where d.customer_id = ? and d.alert_id = held.alert_id and d.user_id = held.user_id
		returning d.user_id, d.created_at, d.created_at, d.attempts, coalesce(held.email, ''), held.status = 'active', held.alerts_opted_in`, mailBatch),
		tx.Customer, alert, tx.Now, tx.Customer, tx.Now.Add(lease), tx.Customer).Rows()
	return scanOutgoing(rows, err, false)
}

// acquireDigests leases due digests, of any hour that is over.
func acquireDigests(tx *postgres.Tx) ([]outgoing, error) {
	rows, err := tx.RawAnew(fmt.Sprintf(`
		with due as materialized (
			select user_id, hour from alert_digests where customer_id = ? and state = 'pending' and due_at <= ?
			order by due_at limit %d for update skip locked
		), held as materialized (
			select due.user_id, due.hour, u.* from due `+holdingUsers+`
		)
		update alert_digests d set attempts = d.attempts + 1, due_at = ? from held
		where d.customer_id = ? and d.user_id = held.user_id and d.hour = held.hour
		returning d.user_id, d.hour, d.created_at, d.attempts, coalesce(held.email, ''), held.status = 'active', held.alerts_opted_in`, mailBatch),
		tx.Customer, tx.Now, tx.Customer, tx.Now.Add(lease), tx.Customer).Rows()
	return scanOutgoing(rows, err, true)
}

func scanOutgoing(rows *sql.Rows, err error, gathers bool) (all []outgoing, _ error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // read to its end or given up
	for rows.Next() {
		var one outgoing
		var hour time.Time
		var active, wanted bool
		if err := rows.Scan(&one.user, &hour, &one.created, &one.attempts, &one.email, &active, &wanted); err != nil {
			return nil, err
		}
		if gathers {
			one.hour = hour
		}
		switch {
		case !active:
			one.skip = notActive
		case !wanted:
			one.skip = optedOut
		}
		all = append(all, one)
	}
	return all, rows.Err()
}

// wireResult is a mail and the result of its attempt, as a statement takes them.
type wireResult struct {
	Alert    *id.Alert  `json:"alert_id,omitempty"`
	User     id.User    `json:"user_id"`
	Hour     *time.Time `json:"hour,omitempty"`
	Attempts int16      `json:"attempts"`
	State    string     `json:"state,omitempty"`
	Reason   *reason    `json:"reason,omitempty"`
	DueAt    *time.Time `json:"due_at,omitempty"`
	Back     bool       `json:"back,omitempty"` // it was not started
}

// loadEntries fills in the alerts that digests list.
func loadEntries(tx *postgres.Tx, all []outgoing) error {
	wanted, places := make([]wireResult, 0, len(all)), make(map[string]*outgoing, len(all))
	place := func(user id.User, hour time.Time) string { return user.String() + hour.UTC().String() }
	for i := range all {
		if all[i].skip == "" {
			wanted = append(wanted, wireResult{User: all[i].user, Hour: &all[i].hour})
			places[place(all[i].user, all[i].hour)] = &all[i]
		}
	}
	rows, err := tx.RawAnew(fmt.Sprintf(`
		select w.user_id, w.hour, a.severity, a.subject, a.created_at, a.times, c.total
		from jsonb_to_recordset(?::jsonb) as w(user_id uuid, hour timestamptz)
		join lateral (
			select count(*) as total from alert_deliveries d
			where d.customer_id = ? and d.user_id = w.user_id and d.created_at >= w.hour and d.created_at < w.hour + interval '1 hour' and d.state = 'collected'
		) c on true
		join lateral (
			select d.alert_id, d.created_at from alert_deliveries d
			where d.customer_id = ? and d.user_id = w.user_id and d.created_at >= w.hour and d.created_at < w.hour + interval '1 hour' and d.state = 'collected'
			order by d.created_at limit %d
		) d on true
		join alerts a on a.customer_id = ? and a.id = d.alert_id
		order by w.user_id, d.created_at, a.id`, mail.MostDigestEntries), postgres.JSON[[]wireResult]{Of: wanted}, tx.Customer, tx.Customer, tx.Customer).Rows()
	if err != nil {
		return err
	}
	defer rows.Close() //nolint:errcheck // read to its end or given up
	for rows.Next() {
		var user id.User
		var hour time.Time
		var entry mail.DigestEntry
		var total int
		if err := rows.Scan(&user, &hour, &entry.Severity, &entry.Subject, &entry.At, &entry.Times, &total); err != nil {
			return err
		}
		one := places[place(user, hour)]
		one.entries = append(one.entries, entry)
		one.more = total - len(one.entries)
	}
	return rows.Err()
}

// recordDeliveries says what became of deliveries. Of one that another has taken meanwhile, only
// that it was sent counts, and that once.
//
// The alert comes with each of the outcomes and the state is asked for in a roundabout way, so
// that the planner finds no better way than the whole primary key: told one alert and no more,
// it reads everything of that alert each time, for it takes an alert of which it has no
// statistics yet for a small one.
func recordDeliveries(tx *postgres.Tx, alert id.Alert, outcomes []wireResult) (counts map[id.Alert]tally, err error) {
	for i := range outcomes {
		outcomes[i].Alert = &alert
	}
	rows, err := tx.RawAnew(`
		with o as materialized (
			select * from jsonb_to_recordset(?::jsonb) as o(alert_id uuid, user_id uuid, attempts smallint, state text, reason text, due_at timestamptz, back boolean)
			where alert_id = ?
		)
		update alert_deliveries d set state = o.state, reason = o.reason, due_at = coalesce(o.due_at, d.due_at),
			attempts = d.attempts - case when o.back then 1 else 0 end, settled_at = case when o.state <> 'pending' then ?::timestamptz end
		from o
		where d.customer_id = ? and d.alert_id = o.alert_id and d.user_id = o.user_id and (d.state = 'pending') is true and (d.attempts = o.attempts or o.state = 'sent')
		returning d.alert_id, d.state`, postgres.JSON[[]wireResult]{Of: outcomes}, alert, tx.Now, tx.Customer).Rows()
	return scanCounts(rows, err)
}

// recordDigests says what became of mails that gather, and with them of what they tell of.
func recordDigests(tx *postgres.Tx, outcomes []wireResult) (counts map[id.Alert]tally, err error) {
	rows, err := tx.RawAnew(`
		with o as (
			select * from jsonb_to_recordset(?::jsonb) as o(user_id uuid, hour timestamptz, attempts smallint, state text, reason text, due_at timestamptz, back boolean)
		), settled as (
			update alert_digests d set state = o.state, due_at = coalesce(o.due_at, d.due_at), attempts = d.attempts - case when o.back then 1 else 0 end
			from o
			where d.customer_id = ? and d.user_id = o.user_id and d.hour = o.hour and d.state = 'pending' and (d.attempts = o.attempts or o.state = 'sent')
			returning d.user_id, d.hour, d.state, o.reason
		)
		update alert_deliveries d set state = case s.state when 'sent' then 'digested' else s.state end, reason = s.reason, settled_at = ?::timestamptz
		from settled s
		where s.state <> 'pending' and d.customer_id = ? and d.user_id = s.user_id and d.created_at >= s.hour and d.created_at < s.hour + interval '1 hour'
			and d.state = 'collected'
		returning d.alert_id, d.state`, postgres.JSON[[]wireResult]{Of: outcomes}, tx.Customer, tx.Now, tx.Customer).Rows()
	return scanCounts(rows, err)
}

// scanCounts counts what is settled, alert by alert.
func scanCounts(rows *sql.Rows, err error) (map[id.Alert]tally, error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // read to its end or given up
	counts := make(map[id.Alert]tally)
	for rows.Next() {
		var alert id.Alert
		var state string
		if err := rows.Scan(&alert, &state); err != nil {
			return nil, err
		}
		of := counts[alert]
		switch state {
		case "sent":
			of.Sent++
		case "digested":
			of.Digested++
		case "failed":
			of.Failed++
		case "skipped":
			of.Skipped++
		}
		counts[alert] = of
	}
	return counts, rows.Err()
}

// wireTally is a tally in a statement.
type wireTally struct {
	Alert    id.Alert `json:"id"`
	Sent     int64    `json:"sent"`
	Digested int64    `json:"digested"`
	Failed   int64    `json:"failed"`
	Skipped  int64    `json:"skipped"`
}

// count adds to the counts of alerts, which it locks in the order of their ids, and returns those
// of which every delivery is settled now.
func count(tx *postgres.Tx, counts map[id.Alert]tally) (finished []id.Alert, err error) {
	if len(counts) == 0 {
		return nil, nil
	}
	sent := make([]wireTally, 0, len(counts))
	byID := func(a, b id.Alert) int { return bytes.Compare(a.UUID[:], b.UUID[:]) }
	for _, alert := range slices.SortedFunc(maps.Keys(counts), byID) {
		of := counts[alert]
		sent = append(sent, wireTally{alert, of.Sent, of.Digested, of.Failed, of.Skipped})
	}
	of := postgres.JSON[[]wireTally]{Of: sent}
	if len(counts) > 1 {
		err := tx.Raw(`select count(*) from (select from alerts where customer_id = ? and id in (select (t ->> 'id')::uuid from jsonb_array_elements(?::jsonb) t)
			order by id for no key update) as locked`, tx.Customer, of).Row().Scan(new(int64))
		if err != nil {
			return nil, err
		}
	}
	rows, err := tx.Raw(`
		update alerts a set sent = a.sent + t.sent, digested = a.digested + t.digested, failed = a.failed + t.failed, skipped = a.skipped + t.skipped
		from jsonb_to_recordset(?::jsonb) as t(id uuid, sent bigint, digested bigint, failed bigint, skipped bigint)
		where a.customer_id = ? and a.id = t.id
		returning a.id, a.finished_at is null and a.fanned_out_at is not null and a.sent + a.digested + a.failed + a.skipped = a.recipients`, of, tx.Customer).Rows()
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // read to its end or given up
	for rows.Next() {
		var alert id.Alert
		var settled bool
		if err := rows.Scan(&alert, &settled); err != nil {
			return nil, err
		}
		if settled {
			finished = append(finished, alert)
		}
	}
	return finished, rows.Err()
}

func finish(tx *postgres.Tx, alert id.Alert) error {
	return tx.ORM().Exec("update alerts set finished_at = ?, wake_at = null where customer_id = ? and id = ? and finished_at is null", tx.Now, tx.Customer, alert).Error
}

// renewLease delays the time at which another replica picks the alert up.
func renewLease(tx *postgres.Tx, alert id.Alert) error {
	return tx.ORM().Exec("update alerts set wake_at = ? where customer_id = ? and id = ? and finished_at is null", tx.Now.Add(lease), tx.Customer, alert).Error
}

// scheduleNext sets when the alert is picked up again: when its next delivery is due, but not
// before the given time. If no delivery is pending, only digests are left.
func scheduleNext(tx *postgres.Tx, alert id.Alert, until time.Time) error {
	return tx.ORM().Exec(`
		update alerts set wake_at = (
			select greatest(min(due_at), ?::timestamptz) from alert_deliveries where customer_id = ? and alert_id = ? and state = 'pending' having min(due_at) is not null)
		where customer_id = ? and id = ? and finished_at is null`, until, tx.Customer, alert, tx.Customer, alert).Error
}

// acquireDue leases, for all customers, alerts that are due, until the given time.
func acquireDue(tx *postgres.Tx, until time.Time) (waking []work, err error) {
	rows, err := tx.Raw(`
		update alerts set wake_at = ?::timestamptz where (customer_id, id) in (
			select customer_id, id from alerts where wake_at <= ? order by wake_at limit 100 for update skip locked
		) returning customer_id, id`, until, tx.Now).Rows()
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // read to its end or given up
	for rows.Next() {
		var one work
		if err := rows.Scan(&one.Customer, &one.Alert); err != nil {
			return nil, err
		}
		waking = append(waking, one)
	}
	return waking, rows.Err()
}

// withDigestsDue returns customers for whom there are mails that gather and are due.
func withDigestsDue(tx *postgres.Tx) (due []id.Customer, err error) {
	rows, err := tx.Raw("select distinct customer_id from alert_digests where state = 'pending' and due_at <= ? limit 100", tx.Now).Rows()
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // read to its end or given up
	for rows.Next() {
		var of id.Customer
		if err := rows.Scan(&of); err != nil {
			return nil, err
		}
		due = append(due, of)
	}
	return due, rows.Err()
}

// withUnsent returns the customers who have alerts that are not finished, or mails that gather.
func withUnsent(tx *postgres.Tx) (customers []id.Customer, err error) {
	rows, err := tx.Raw("select customer_id from alerts where finished_at is null union select customer_id from alert_digests where state = 'pending' order by customer_id").Rows()
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // read to its end or given up
	for rows.Next() {
		var one id.Customer
		if err := rows.Scan(&one); err != nil {
			return nil, err
		}
		customers = append(customers, one)
	}
	return customers, rows.Err()
}

// stopFanOuts has nobody more found for any alert, and no repeat join one that is not finished.
// It returns those alerts, with nothing to count.
func stopFanOuts(tx *postgres.Tx) (map[id.Alert]tally, error) {
	rows, err := tx.Raw(`
		update alerts set fanned_out_at = coalesce(fanned_out_at, ?::timestamptz), joining = false where customer_id = ? and finished_at is null
		returning id`, tx.Now, tx.Customer).Rows()
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // read to its end or given up
	counts := make(map[id.Alert]tally)
	for rows.Next() {
		var one id.Alert
		if err := rows.Scan(&one); err != nil {
			return nil, err
		}
		counts[one] = tally{}
	}
	return counts, rows.Err()
}

func skipDigests(tx *postgres.Tx) error {
	return tx.ORM().Exec("update alert_digests set state = 'skipped' where customer_id = ? and state = 'pending'", tx.Customer).Error
}

// skipBatch is how many deliveries are skipped at once.
const skipBatch = 5000

// skipUnsent skips some of the deliveries that are not settled, and counts them alert by alert.
func skipUnsent(tx *postgres.Tx) (map[id.Alert]tally, error) {
	rows, err := tx.Raw(fmt.Sprintf(`
		update alert_deliveries d set state = 'skipped', reason = ?, settled_at = ?::timestamptz
		from (
			select d.alert_id, d.user_id from alerts a join alert_deliveries d on d.customer_id = a.customer_id and d.alert_id = a.id
			where a.customer_id = ? and a.finished_at is null and d.state in ('pending', 'collected') limit %d
		) unsent
		where d.customer_id = ? and d.alert_id = unsent.alert_id and d.user_id = unsent.user_id
		returning d.alert_id, d.state`, skipBatch), restored, tx.Now, tx.Customer, tx.Customer).Rows()
	return scanCounts(rows, err)
}

// expireDeliveries deletes the deliveries of alerts that are past their time.
func expireDeliveries(tx *postgres.Tx, now time.Time, limit int) (int64, error) {
	return tx.Exec(`
		delete from alert_deliveries where (customer_id, alert_id, user_id) in (
			select d.customer_id, d.alert_id, d.user_id
			from alerts a join alert_deliveries d on d.customer_id = a.customer_id and d.alert_id = a.id
			where a.created_at < $1 limit $2)`, now.Add(-Kept), limit)
}

// expireDigests deletes digests that are past their time.
func expireDigests(tx *postgres.Tx, now time.Time, limit int) (int64, error) {
	return tx.Exec(`
		delete from alert_digests where (customer_id, user_id, hour) in (
			select customer_id, user_id, hour from alert_digests where created_at < $1 limit $2)`, now.Add(-Kept), limit)
}

// expireAlerts deletes alerts that are past their time and have no deliveries left.
func expireAlerts(tx *postgres.Tx, now time.Time, limit int) (int64, error) {
	return tx.Exec(`
		delete from alerts where (customer_id, id) in (
			select customer_id, id from alerts a where created_at < $1
				and not exists (select from alert_deliveries d where d.customer_id = a.customer_id and d.alert_id = a.id) limit $2)`,
		now.Add(-Kept), limit)
}

// removeDeliveries deletes the deliveries of people. What was not settled counts as skipped, so
// that the counts of an alert add up to its recipients.
func removeDeliveries(tx *postgres.Tx, people []id.User) (map[id.User]int64, error) {
	rows, err := tx.Query(`
		delete from alert_deliveries where customer_id = $1 and user_id = any ($2)
		returning user_id, alert_id, state`, tx.Customer, people)
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // read to its end or given up
	removed, counts := make(map[id.User]int64), make(map[id.Alert]tally)
	for rows.Next() {
		var person id.User
		var alert id.Alert
		var state string
		if err := rows.Scan(&person, &alert, &state); err != nil {
			return nil, err
		}
		removed[person]++
		if state == "pending" || state == "collected" {
			counts[alert] = tally{Skipped: counts[alert].Skipped + 1}
		}
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return nil, err
	}
	return removed, settle(tx, counts)
}
