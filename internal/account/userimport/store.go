package userimport

import (
	"database/sql"
	"encoding/json"
	"errors"
	"time"

	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/record/audit"
)

// kept is the import that an idempotency key stands for.
type kept struct {
	id          id.Import
	fingerprint []byte // nil once a user of the file was erased
}

// begin records that an import runs. If its key stands for another import, that one is returned
// once it is completed; an interrupted one, or one whose key has expired, gives its key up; one
// that still runs is the fault IdempotencyKeyInUse.
func begin(tx *postgres.Tx, caller principal.Principal, order Order, key *Key) (Import, *kept, error) {
	begun := Import{
		Order: order, ID: id.New[id.Import](), State: Running, Authority: caller.Authority(), StartedAt: tx.Now,
	}
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
		inserted, err := insert(tx, begun, hash)
		if err != nil {
			return Import{}, nil, err
		}
		if inserted {
			return begun, nil, audit.AppendTx(tx, audit.Act{
				Caller: caller, Action: audit.UserImportStarted, Target: audit.OnImport(begun.ID),
			})
		}
		var before kept
		var state State
		var startedAt, progressedAt time.Time
		err = tx.QueryRow(`
			select id, state, fingerprint, started_at, progressed_at from user_imports
			where customer_id = $1 and key_hash = $2 for no key update`, tx.Customer, hash).
			Scan(&before.id, &state, &before.fingerprint, &startedAt, &progressedAt)
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
		_, err = tx.Exec(`
			update user_imports set key_hash = null, fingerprint = null
			where customer_id = $1 and id = $2`, tx.Customer, before.id)
		if err != nil {
			return Import{}, nil, err
		}
	}
	return Import{}, nil, inUse()
}

// insert stores a running import, and reports whether its key was free.
func insert(tx *postgres.Tx, begun Import, keyHash []byte) (inserted bool, err error) {
	n, err := tx.Exec(`
		insert into user_imports (
			customer_id, id, state, format, dry_run, invite, authority, ordered_by_user_id, ordered_by_api_key_id,
			created, would_create, existing, refused, key_hash, started_at, progressed_at
		) values (
			@customer, @id, 'running', @format, @dry_run, @invite, @authority, @user, @api_key,
			0, 0, 0, 0, @key_hash, @now, @now
		) on conflict (customer_id, key_hash) do nothing`,
		postgres.Args{
			"customer": tx.Customer, "id": begun.ID, "format": begun.Format, "dry_run": begun.DryRun,
			"invite": begun.Invite, "authority": begun.Authority, "user": begun.OrderedByUser,
			"api_key": begun.OrderedByAPIKey, "key_hash": keyHash, "now": tx.Now,
		})
	return n == 1, err
}

func inUse() error {
	f := fault.New(fault.IdempotencyKeyInUse,
		"The first import with this key is still under way. Send it again in a moment.")
	f.RetryAfter = time.Second
	return f
}

// record stores the outcome of the rows of a batch, and adds them to the counts.
func record(tx *postgres.Tx, of id.Import, rows []Row, counts Counts) error {
	sent, err := json.Marshal(rows)
	if err != nil {
		return err
	}
	_, err = tx.Exec(`
		with progress as (
			update user_imports set
				created = created + @created, would_create = would_create + @would_create,
				existing = existing + @existing, refused = refused + @refused, progressed_at = @now
			where customer_id = @customer and id = @import
		)
		insert into user_import_rows (customer_id, import_id, number, line, status, user_id, reason, pointer)
		select @customer, @import, number, line, status, user_id, reason, pointer
		from jsonb_to_recordset(@rows::jsonb)
			as row(number int, line int, status text, user_id uuid, reason text, pointer text)
		order by number`,
		postgres.Args{
			"created": counts.Created, "would_create": counts.WouldCreate, "existing": counts.Existing,
			"refused": counts.Refused, "now": tx.Now, "customer": tx.Customer, "import": of, "rows": string(sent),
		})
	return err
}

func complete(tx *postgres.Tx, of id.Import, fingerprint []byte) error {
	_, err := tx.Exec(`
		update user_imports set
			state = 'completed', stopped_by = null, fingerprint = @fingerprint,
			progressed_at = @now, finished_at = @now
		where customer_id = @customer and id = @import and state = 'running'`,
		postgres.Args{"fingerprint": fingerprint, "now": tx.Now, "customer": tx.Customer, "import": of})
	return err
}

// stop marks a running import as interrupted by a fault.
func stop(tx *postgres.Tx, of id.Import, code fault.Code) error {
	_, err := tx.Exec(`
		update user_imports set state = 'interrupted', stopped_by = @code, progressed_at = @now, finished_at = @now
		where customer_id = @customer and id = @import and state = 'running'`,
		postgres.Args{"code": code, "now": tx.Now, "customer": tx.Customer, "import": of})
	return err
}

func get(tx *postgres.Tx, of id.Import) (found Import, err error) {
	var progressedAt time.Time
	err = tx.QueryRow(`
		select id, state, format, dry_run, invite, authority, ordered_by_user_id, ordered_by_api_key_id,
			created, would_create, existing, refused, stopped_by, started_at, progressed_at, finished_at
		from user_imports where customer_id = $1 and id = $2`, tx.Customer, of).
		Scan(&found.ID, &found.State, &found.Format, &found.DryRun, &found.Invite, &found.Authority,
			&found.OrderedByUser, &found.OrderedByAPIKey, &found.Created, &found.WouldCreate, &found.Existing,
			&found.Refused, &found.StoppedBy, &found.StartedAt, &progressedAt, &found.FinishedAt)
	if errors.Is(err, sql.ErrNoRows) {
		return Import{}, fault.New(fault.ResourceNotFound, "There is no such import.")
	}
	if found.State == Running && tx.Now.Sub(progressedAt) >= silence {
		found.State = Interrupted
	}
	return found, err
}

// list returns at most limit rows after the given number, of one status or, if it is empty, of
// all.
func list(tx *postgres.Tx, of id.Import, status Status, after, limit int) ([]Row, error) {
	scan := func(from postgres.Row) (row Row, err error) {
		err = from.Scan(&row.Number, &row.Line, &row.Status, &row.User, &row.Reason, &row.Pointer)
		return row, err
	}
	statement := `
		select number, line, status, user_id, coalesce(reason, ''), coalesce(pointer, '')
		from user_import_rows where customer_id = @customer and import_id = @import and number > @after`
	arguments := postgres.Args{"customer": tx.Customer, "import": of, "after": after, "limit": limit}
	if status != "" {
		statement += " and status = @status"
		arguments["status"] = status
	}
	return postgres.Collect(tx, scan, statement+" order by number limit @limit", arguments)
}

// expireRows deletes rows of imports that are past their time.
func expireRows(tx *postgres.Tx, now time.Time, limit int) (int64, error) {
	return tx.Exec(`
		delete from user_import_rows where (customer_id, import_id, number) in (
			select r.customer_id, r.import_id, r.number
			from user_imports i join user_import_rows r on r.customer_id = i.customer_id and r.import_id = i.id
			where i.started_at < $1 limit $2)`, now.Add(-Lifetime), limit)
}

// expire deletes imports that are past their time and have no rows left.
func expire(tx *postgres.Tx, now time.Time, limit int) (int64, error) {
	return tx.Exec(`
		delete from user_imports where (customer_id, id) in (
			select customer_id, id from user_imports i
			where started_at < $1 and not exists (
				select from user_import_rows r where r.customer_id = i.customer_id and r.import_id = i.id)
			limit $2)`, now.Add(-Lifetime), limit)
}

// forgetKeys clears keys of imports that are past their time.
func forgetKeys(tx *postgres.Tx, now time.Time, limit int) (int64, error) {
	return tx.Exec(`
		update user_imports set key_hash = null, fingerprint = null where (customer_id, id) in (
			select customer_id, id from user_imports where key_hash is not null and started_at < $1 limit $2)`,
		now.Add(-keyLifetime), limit)
}

// untie lets rows of imports forget the people. With the file at hand, the fingerprint of an
// import would say who they were. The hash of a key stays until its time is up, so that a late
// repetition is not imported again.
func untie(tx *postgres.Tx, people []id.User) (map[id.User]int64, error) {
	return postgres.Counts[id.User](tx.Query(`
		with before as materialized (
			select import_id, number, user_id from user_import_rows where customer_id = $1 and user_id = any ($2)
		), untied as (
			update user_imports set fingerprint = null
			where customer_id = $1 and fingerprint is not null and id in (select import_id from before)
		)
		update user_import_rows r set user_id = null from before
		where r.customer_id = $1 and r.import_id = before.import_id and r.number = before.number
		returning before.user_id, 1`, tx.Customer, people))
}
