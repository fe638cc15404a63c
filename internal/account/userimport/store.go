package userimport

import (
	"database/sql"
	"encoding/json"
	"errors"
	"time"

	"github.com/fusionspim/steward/internal/account/user"
	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/record/audit"
)

// kept is what is known of an import for the sake of its key.
type kept struct {
	id          id.Import
	fingerprint []byte // nil once somebody of the file was erased
}

// begin writes down that an import is under way. Where its key stands for another, that one is returned if it is done, and gives its key up if it was interrupted or
// the key is past its time; while it is under way, that is the fault IdempotencyKeyInUse.
func begin(tx *postgres.Tx, caller principal.Principal, order Order, key *Key) (Import, *kept, error) {
	begun := Import{Order: order, ID: id.New[id.Import](), State: Running, Authority: caller.Authority(), StartedAt: tx.Now}
	if caller.IsAPIKey() {
		begun.OrderedByAPIKey = &caller.APIKey
	} else {
		begun.OrderedByUser = &caller.User
	}
	var hash []byte
	if key != nil {
		hash = key.Hash
	}
	for range 3 {
		done := tx.ORM().Exec(`
			insert into user_imports (customer_id, id, state, format, dry_run, invite, authority, ordered_by_user_id, ordered_by_api_key_id,
				created, would_create, existing, refused, key_hash, started_at, progressed_at)
			values (?, ?, 'running', ?, ?, ?, ?, ?, ?, 0, 0, 0, 0, ?, ?, ?) on conflict (customer_id, key_hash) do nothing`,
			tx.Customer, begun.ID, order.Format, order.DryRun, order.Invite, begun.Authority, begun.OrderedByUser, begun.OrderedByAPIKey, hash, tx.Now, tx.Now)
		if done.Error != nil {
			return Import{}, nil, done.Error
		}
		if done.RowsAffected == 1 {
			return begun, nil, audit.AppendTx(tx, audit.Act{Caller: caller, Action: audit.UserImportStarted, Target: audit.OnImport(begun.ID)})
		}
		var before kept
		var state State
		var startedAt, progressedAt time.Time
		err := tx.ORM().Raw("select id, state, fingerprint, started_at, progressed_at from user_imports where customer_id = ? and key_hash = ? for no key update",
			tx.Customer, hash).Row().Scan(&before.id, &state, &before.fingerprint, &startedAt, &progressedAt)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			continue // given up in the meantime
		case err != nil:
			return Import{}, nil, err
		case tx.Now.Sub(startedAt) < keyLifetime && state == Completed:
			return Import{}, &before, nil
		case tx.Now.Sub(startedAt) < keyLifetime && state == Running && tx.Now.Sub(progressedAt) < silence:
			return Import{}, nil, inUse()
		}
		if err := tx.ORM().Exec("update user_imports set key_hash = null, fingerprint = null where customer_id = ? and id = ?", tx.Customer, before.id).Error; err != nil {
			return Import{}, nil, err
		}
	}
	return Import{}, nil, inUse()
}

func inUse() error {
	f := fault.New(fault.IdempotencyKeyInUse, "The first import with this key is still under way. Send it again in a moment.")
	f.RetryAfter = time.Second
	return f
}

// record writes down what became of the rows of a batch.
func record(tx *postgres.Tx, one id.Import, rows []Row, counts Counts) error {
	sent, err := json.Marshal(rows)
	if err != nil {
		return err
	}
	return tx.ORM().Exec(`
		with come as (
			update user_imports set created = created + ?, would_create = would_create + ?, existing = existing + ?, refused = refused + ?, progressed_at = ?
			where customer_id = ? and id = ?
		)
		insert into user_import_rows (customer_id, import_id, number, line, status, user_id, reason, pointer)
		select ?, ?, number, line, status, user_id, reason, pointer from jsonb_to_recordset(?::jsonb)
			as row(number int, line int, status text, user_id uuid, reason text, pointer text) order by number`,
		counts.Created, counts.WouldCreate, counts.Existing, counts.Refused, tx.Now, tx.Customer, one, tx.Customer, one, string(sent)).Error
}

func complete(tx *postgres.Tx, one id.Import, fingerprint []byte) error {
	return tx.ORM().Exec(`
		update user_imports set state = 'completed', stopped_by = null, fingerprint = ?, progressed_at = ?, finished_at = ?
		where customer_id = ? and id = ? and state = 'running'`, fingerprint, tx.Now, tx.Now, tx.Customer, one).Error
}

func stop(tx *postgres.Tx, one id.Import, code fault.Code) error {
	return tx.ORM().Exec(`
		update user_imports set state = 'interrupted', stopped_by = ?, progressed_at = ?, finished_at = ? where customer_id = ? and id = ? and state = 'running'`,
		code, tx.Now, tx.Now, tx.Customer, one).Error
}

func get(tx *postgres.Tx, one id.Import) (found Import, err error) {
	var progressedAt time.Time
	err = tx.Raw(`
		select id, state, format, dry_run, invite, authority, ordered_by_user_id, ordered_by_api_key_id, created, would_create, existing, refused, stopped_by,
			started_at, progressed_at, finished_at
		from user_imports where customer_id = ? and id = ?`, tx.Customer, one).Row().
		Scan(&found.ID, &found.State, &found.Format, &found.DryRun, &found.Invite, &found.Authority, &found.OrderedByUser, &found.OrderedByAPIKey,
			&found.Created, &found.WouldCreate, &found.Existing, &found.Refused, &found.StoppedBy, &found.StartedAt, &progressedAt, &found.FinishedAt)
	if errors.Is(err, sql.ErrNoRows) {
		return Import{}, fault.New(fault.ResourceNotFound, "There is no such import.")
	}
	if found.State == Running && tx.Now.Sub(progressedAt) >= silence {
		found.State = Interrupted
	}
	return found, err
}

func list(tx *postgres.Tx, one id.Import, status Status, behind, limit int) (rows []Row, err error) {
	statement, arguments := "select number, line, status, user_id, coalesce(reason, ''), coalesce(pointer, '') from user_import_rows where customer_id = ? and import_id = ? and number > ?",
		[]any{tx.Customer, one, behind}
	if status != "" {
		statement, arguments = statement+" and status = ?", append(arguments, status)
	}
	found, err := tx.Raw(statement+" order by number limit ?", append(arguments, limit)...).Rows()
	if err != nil {
		return nil, err
	}
	defer found.Close() //nolint:errcheck // read to its end or given up
	for found.Next() {
		var row Row
		if err := found.Scan(&row.Number, &row.Line, &row.Status, &row.User, &row.Reason, &row.Pointer); err != nil {
			return nil, err
		}
		rows = append(rows, row)
	}
	return rows, found.Err()
}

// ExpireRows drops at most limit rows of imports that are past their time, and tells how many.
func ExpireRows(tx *postgres.Tx, now time.Time, limit int) (int64, error) {
	done := tx.ORM().Exec(`
		delete from user_import_rows where (customer_id, import_id, number) in (
			select r.customer_id, r.import_id, r.number from user_imports i join user_import_rows r on r.customer_id = i.customer_id and r.import_id = i.id
			where i.started_at < ? limit ?)`, now.Add(-Lifetime), limit)
	return done.RowsAffected, done.Error
}

// Expire drops at most limit imports that are past their time and have no rows any more, and tells how many.
func Expire(tx *postgres.Tx, now time.Time, limit int) (int64, error) {
	done := tx.ORM().Exec(`
		delete from user_imports where (customer_id, id) in (
			select customer_id, id from user_imports i where started_at < ?
				and not exists (select from user_import_rows r where r.customer_id = i.customer_id and r.import_id = i.id) limit ?)`, now.Add(-Lifetime), limit)
	return done.RowsAffected, done.Error
}

// ForgetKeys drops at most limit keys that are past their time, and tells how many.
func ForgetKeys(tx *postgres.Tx, now time.Time, limit int) (int64, error) {
	done := tx.ORM().Exec(`
		update user_imports set key_hash = null, fingerprint = null where (customer_id, id) in (
			select customer_id, id from user_imports where key_hash is not null and started_at < ? limit ?)`, now.Add(-keyLifetime), limit)
	return done.RowsAffected, done.Error
}

// Holdings are what this package holds of a person: that a row of an import told of the person. With the file at hand, that would say who somebody was.
func Holdings() []user.Holding { return []user.Holding{told{}} }

type told struct{}

// Store implements user.Holding.
func (told) Store() string { return "user_import_rows" }

// Tables implements user.Holding.
func (told) Tables() []string { return []string{"user_import_rows", "user_imports"} }

// Count implements user.Holding.
func (told) Count(tx *postgres.Tx, person id.User) (count int64, err error) {
	err = tx.ORM().Raw("select count(*) from user_import_rows where customer_id = ? and user_id = ?", tx.Customer, person).Row().Scan(&count)
	return count, err
}

// Remove implements user.Holding. The hash of a key stays until its time is up, so that a late repetition is not carried out again.
func (told) Remove(tx *postgres.Tx, people []id.User) (map[id.User]int64, error) {
	return postgres.Counts[id.User](tx.Raw(`
		with before as materialized (
			select import_id, number, user_id from user_import_rows where customer_id = ? and user_id = any (?)
		), untied as (
			update user_imports set fingerprint = null where customer_id = ? and fingerprint is not null and id in (select import_id from before)
		)
		update user_import_rows r set user_id = null from before
		where r.customer_id = ? and r.import_id = before.import_id and r.number = before.number
		returning before.user_id, 1`, tx.Customer, people, tx.Customer, tx.Customer).Rows())
}
