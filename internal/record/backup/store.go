package backup

import (
	"database/sql"
	"errors"
	"time"

	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

const columns = `id, state, requested_at, taken_at, expires_at, size, sha256, ledger_number, ledger_hash,
	server_version, program_version, schema_version, deleted_at`

func scan(row postgres.Row) (b Backup, err error) {
	var number *int64
	var hash *string
	err = row.Scan(&b.ID, &b.State, &b.RequestedAt, &b.TakenAt, &b.ExpiresAt, &b.Size, &b.SHA256, &number, &hash,
		&b.ServerVersion, &b.ProgramVersion, &b.SchemaVersion, &b.DeletedAt)
	b.Ledger = ledgerPosition(number, hash)
	b.RequestedAt, b.TakenAt, b.ExpiresAt = b.RequestedAt.UTC(), b.TakenAt.UTC(), b.ExpiresAt.UTC()
	if b.DeletedAt != nil {
		*b.DeletedAt = b.DeletedAt.UTC()
	}
	return b, err
}

func ledgerPosition(number *int64, hash *string) *Position {
	if number == nil || hash == nil {
		return nil
	}
	return &Position{Number: *number, Hash: *hash}
}

func ledgerColumns(position *Position) (number *int64, hash *string) {
	if position == nil {
		return nil, nil
	}
	return &position.Number, &position.Hash
}

// insert adds a backup that is to be made. Error: ErrUnderWay.
func insert(tx *postgres.Tx, b Backup) error {
	_, err := tx.Exec(`
		insert into backups (id, state, requested_at, taken_at, expires_at)
		values (@id, 'creating', @requested_at, @taken_at, @expires_at)`,
		postgres.Args{"id": b.ID, "requested_at": b.RequestedAt, "taken_at": b.TakenAt, "expires_at": b.ExpiresAt})
	if postgres.Violates(err, "backups_under_way") {
		return ErrUnderWay
	}
	return err
}

// recordSnapshot records what is known of a backup when its snapshot is taken.
func recordSnapshot(tx *postgres.Tx, b Backup) error {
	number, hash := ledgerColumns(b.Ledger)
	return creating(tx.Exec(`
		update backups set taken_at = @taken_at, expires_at = @expires_at, ledger_number = @ledger_number,
			ledger_hash = @ledger_hash, server_version = @server_version, program_version = @program_version,
			schema_version = @schema_version
		where id = @id and state = 'creating'`,
		postgres.Args{
			"taken_at": b.TakenAt, "expires_at": b.ExpiresAt, "ledger_number": number, "ledger_hash": hash,
			"server_version": b.ServerVersion, "program_version": b.ProgramVersion, "schema_version": b.SchemaVersion,
			"id": b.ID,
		}))
}

// markAvailable records that the store has a backup.
func markAvailable(tx *postgres.Tx, b Backup) error {
	return creating(tx.Exec(`
		update backups set state = 'available', size = @size, sha256 = @sha256 where id = @id and state = 'creating'`,
		postgres.Args{"size": b.Size, "sha256": b.SHA256, "id": b.ID}))
}

// creating returns an error where a statement found no backup that is being made.
func creating(rows int64, err error) error {
	if err == nil && rows != 1 {
		err = errors.New("the backup is no longer being made")
	}
	return err
}

// upsert adds a backup that lies in the store to the catalogue, or updates its row there.
func upsert(tx *postgres.Tx, b Backup) error {
	number, hash := ledgerColumns(b.Ledger)
	_, err := tx.Exec(`
		insert into backups (id, state, requested_at, taken_at, expires_at, size, sha256, ledger_number, ledger_hash,
			server_version, program_version, schema_version)
		values (@id, 'available', @taken_at, @taken_at, @expires_at, @size, @sha256, @ledger_number, @ledger_hash,
			@server_version, @program_version, @schema_version)
		on conflict (id) do update set state = 'available', taken_at = excluded.taken_at,
			expires_at = excluded.expires_at, size = excluded.size, sha256 = excluded.sha256,
			ledger_number = excluded.ledger_number, ledger_hash = excluded.ledger_hash,
			server_version = excluded.server_version, program_version = excluded.program_version,
			schema_version = excluded.schema_version, deleted_at = null`,
		postgres.Args{
			"id": b.ID, "taken_at": b.TakenAt, "expires_at": b.ExpiresAt, "size": b.Size, "sha256": b.SHA256,
			"ledger_number": number, "ledger_hash": hash, "server_version": b.ServerVersion,
			"program_version": b.ProgramVersion, "schema_version": b.SchemaVersion,
		})
	return err
}

// setState moves a backup to another state, if it is in one of those before.
func setState(tx *postgres.Tx, backup id.Backup, after State, before ...State) error {
	var deleted *time.Time
	if after == Expired || after == Deleted {
		deleted = &tx.Now
	}
	_, err := tx.Exec(
		"update backups set state = @after, deleted_at = @deleted where id = @id and state = any(@before)",
		postgres.Args{"after": after, "deleted": deleted, "id": backup, "before": before},
	)
	return err
}

func byID(tx *postgres.Tx, backup id.Backup) (Backup, error) {
	b, err := scan(tx.QueryRow("select "+columns+" from backups where id = $1", backup))
	if errors.Is(err, sql.ErrNoRows) {
		return Backup{}, fault.New(fault.ResourceNotFound, "There is no such backup.")
	}
	return b, err
}

// list returns backups, newest first: at most limit of those older than before, or of all where
// before is zero.
func list(tx *postgres.Tx, before id.Backup, limit int) ([]Backup, error) {
	if before.IsZero() {
		return query(tx, "order by id desc limit $1", limit)
	}
	return query(tx, "where id < $1 order by id desc limit $2", before, limit)
}

// mayExist is the condition for backups that are not known to be gone. One that is missing may only
// be misplaced.
const mayExist = "state in ('creating', 'available', 'missing', 'damaged')"

// listExisting returns the backups that lie in the store, or should.
func listExisting(tx *postgres.Tx) ([]Backup, error) {
	return query(tx, "where "+mayExist+" order by id")
}

// listAbandoned returns the backups that were requested before a time and are still to be made.
func listAbandoned(tx *postgres.Tx, requestedBefore time.Time) ([]Backup, error) {
	return query(tx, "where state = 'creating' and requested_at <= $1", requestedBefore)
}

// listExpiring returns the backups that expire before a time.
func listExpiring(tx *postgres.Tx, before time.Time) ([]Backup, error) {
	return query(tx, "where state in ('available', 'missing', 'damaged') and expires_at <= $1 order by id", before)
}

func query(tx *postgres.Tx, condition string, arguments ...any) (backups []Backup, err error) {
	return postgres.Collect(tx, scan, "select "+columns+" from backups "+condition, arguments...)
}

// newest returns when the newest backup was taken that exists or is being made; zero where there is
// none.
func newest(tx *postgres.Tx) (time.Time, error) {
	var at *time.Time
	err := tx.QueryRow("select max(taken_at) from backups where state in ('creating', 'available')").Scan(&at)
	if at == nil {
		return time.Time{}, err
	}
	return *at, err
}

// countByState counts the backups by their state.
func countByState(tx *postgres.Tx) (map[State]int64, error) {
	counts := make(map[State]int64)
	_, err := postgres.Collect(tx, func(row postgres.Row) (state State, err error) {
		var n int64
		err = row.Scan(&state, &n)
		counts[state] = n
		return state, err
	}, "select state, count(*) from backups group by state")
	return counts, err
}

// lastExpiry returns when the last of the backups expires that were taken before a time; nil where
// there is none.
func lastExpiry(tx *postgres.Tx, before time.Time) (expiry *time.Time, err error) {
	err = tx.QueryRow("select max(expires_at) from backups where taken_at <= $1 and "+mayExist, before).Scan(&expiry)
	return expiry, err
}

// firstTaken returns when the first of the backups was taken that are not known to be gone; nil
// where there is none.
func firstTaken(tx *postgres.Tx) (taken *time.Time, err error) {
	err = tx.QueryRow("select min(taken_at) from backups where " + mayExist).Scan(&taken)
	return taken, err
}

// insertRestore records a restore.
func insertRestore(tx *postgres.Tx, r Restored) error {
	number, hash := ledgerColumns(r.Backup.Ledger)
	_, err := tx.Exec(`
		insert into restores (id, backup_id, taken_at, ledger_number, ledger_hash, restored_at)
		values (@id, @backup, @taken_at, @ledger_number, @ledger_hash, @restored_at)`,
		postgres.Args{
			"id": r.ID, "backup": r.Backup.ID, "taken_at": r.Backup.TakenAt, "ledger_number": number,
			"ledger_hash": hash, "restored_at": r.RestoredAt,
		})
	return err
}

// LastRestoreTx returns the last restore of this database, or nil if it was never restored. Its
// backup has the id, the time and the position of the ledger only. It is for transactions outside
// customers.
func LastRestoreTx(tx *postgres.Tx) (*Restored, error) {
	var r Restored
	var number *int64
	var hash *string
	err := tx.QueryRow(`
		select id, backup_id, taken_at, ledger_number, ledger_hash, restored_at from restores
		order by restored_at desc, id desc limit 1`).
		Scan(&r.ID, &r.Backup.ID, &r.Backup.TakenAt, &number, &hash, &r.RestoredAt)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	r.Backup.Ledger = ledgerPosition(number, hash)
	return &r, err
}
