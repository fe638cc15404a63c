package trail

import (
	"database/sql"
	"errors"
	"io"
	"time"

	"github.com/google/uuid"

	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/record/audit"
)

// storedCheckpoint is a checkpoint as it is kept.
type storedCheckpoint struct {
	size      int64
	note      string
	createdAt time.Time
}

const checkpointColumns = "select size, note, created_at from audit_checkpoints where customer_id = ? "

func scanCheckpoint(row *sql.Row) (kept storedCheckpoint, found bool, err error) {
	err = row.Scan(&kept.size, &kept.note, &kept.createdAt)
	if errors.Is(err, sql.ErrNoRows) {
		return storedCheckpoint{}, false, nil
	}
	return kept, err == nil, err
}

func newestCheckpoint(tx *postgres.Tx) (storedCheckpoint, bool, error) {
	return scanCheckpoint(tx.Raw(checkpointColumns+"order by size desc limit 1", tx.Customer).Row())
}

func checkpointOf(tx *postgres.Tx, size int64) (storedCheckpoint, bool, error) {
	return scanCheckpoint(tx.Raw(checkpointColumns+"and size = ?", tx.Customer, size).Row())
}

// insertCheckpoint keeps a checkpoint and returns it, or the one of the same size that was there
// first.
func insertCheckpoint(tx *postgres.Tx, made storedCheckpoint) (storedCheckpoint, error) {
	done := tx.ORM().
		Exec("insert into audit_checkpoints (customer_id, size, note, created_at) values (?, ?, ?, ?) on conflict do nothing",
			tx.Customer, made.size, made.note, made.createdAt)
	if done.Error != nil || done.RowsAffected > 0 {
		return made, done.Error
	}
	kept, found, err := checkpointOf(tx, made.size)
	if err == nil && !found {
		err = errors.New("trail: a checkpoint was neither kept nor found")
	}
	return kept, err
}

// lastPublished returns the size of the checkpoint that the customer was sent last, and when.
func lastPublished(tx *postgres.Tx) (size int64, at *time.Time, err error) {
	err = tx.Raw("select size, published_at from audit_checkpoints where customer_id = ? and published_at is not null order by size desc limit 1", tx.Customer).
		Row().
		Scan(&size, &at)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil, nil
	}
	return size, at, err
}

// grownSince tells whether the trail has entries from a number on that are about anything but
// checkpoints.
func grownSince(tx *postgres.Tx, size int64) (grown bool, err error) {
	err = tx.Raw(`
		select exists (
			select from audit_leaves l join audit_entries e on e.customer_id = l.customer_id and e.id = l.entry_id
			where l.customer_id = ? and l.leaf_index >= ? and e.action <> ?)`, tx.Customer, size, string(audit.CheckpointPublished)).Row().Scan(&grown)
	return grown, err
}

func markPublished(tx *postgres.Tx, size int64) error {
	return tx.ORM().
		Exec("update audit_checkpoints set published_at = ? where customer_id = ? and size = ?", tx.Now, tx.Customer, size).
		Error
}

// customersAfter lists customers in the order of their ids.
func customersAfter(tx *postgres.Tx, after id.Customer, limit int) (all []listed, err error) {
	rows, err := tx.Raw("select id, slug from customers where id > ? order by id limit ?", after, limit).Rows()
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // read to its end or given up
	for rows.Next() {
		var one listed
		if err := rows.Scan(&one.id, &one.slug); err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, rows.Err()
}

// listed is a customer as far as going through all of them needs.
type listed struct {
	id   id.Customer
	slug string
}

// allCheckpoints returns every checkpoint of the customer, by size.
func allCheckpoints(tx *postgres.Tx) (all []storedCheckpoint, err error) {
	rows, err := tx.Raw(checkpointColumns+"order by size", tx.Customer).Rows()
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // read to its end or given up
	for rows.Next() {
		var one storedCheckpoint
		if err := rows.Scan(&one.size, &one.note, &one.createdAt); err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, rows.Err()
}

// trailState is how much there is of a trail at one moment.
type trailState struct {
	size        int64  // that the head says
	roots       []byte // nil: there is no head
	leaves      int64  // the number after the last leaf
	leavesCount int64
	entries     int64
	unsealed    int64
}

func stateOf(tx *postgres.Tx) (state trailState, err error) {
	err = tx.Raw(`
		select coalesce((select size from audit_heads where customer_id = c.id), 0), (select roots from audit_heads where customer_id = c.id),
			(select coalesce(max(leaf_index) + 1, 0) from audit_leaves where customer_id = c.id), (select count(*) from audit_leaves where customer_id = c.id),
			(select count(*) from audit_entries where customer_id = c.id), (select count(*) from audit_unsealed where customer_id = c.id)
		from (select ?::uuid as id) as c`, tx.Customer).Row().
		Scan(&state.size, &state.roots, &state.leaves, &state.leavesCount, &state.entries, &state.unsealed)
	return state, err
}

// lostEntries finds entries that have no leaf and are not waiting for one.
func lostEntries(tx *postgres.Tx, limit int) (lost []uuid.UUID, err error) {
	rows, err := tx.Raw(`
		select id from audit_entries e where customer_id = ?
		and not exists (select from audit_leaves l where l.customer_id = e.customer_id and l.entry_id = e.id)
		and not exists (select from audit_unsealed u where u.customer_id = e.customer_id and u.entry_id = e.id)
		order by id limit ?`, tx.Customer, limit).Rows()
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // read to its end or given up
	for rows.Next() {
		var one uuid.UUID
		if err := rows.Scan(&one); err != nil {
			return nil, err
		}
		lost = append(lost, one)
	}
	return lost, rows.Err()
}

// longestUnsealed finds the entry that has waited for its place for longest.
func longestUnsealed(tx *postgres.Tx) (entry uuid.UUID, since time.Time, found bool, err error) {
	err = tx.Raw(`
		select e.id, e.recorded_at from audit_unsealed u join audit_entries e on e.customer_id = u.customer_id and e.id = u.entry_id
		where u.customer_id = ? order by u.entry_id limit 1`, tx.Customer).Row().Scan(&entry, &since)
	if errors.Is(err, sql.ErrNoRows) {
		return uuid.Nil, time.Time{}, false, nil
	}
	return entry, since, err == nil, err
}

// copyLeaves writes leaves with their entries, for readRows.
func copyLeaves(tx *postgres.Tx, to io.Writer, from, until int64) error {
	return tx.Copy(to, leavesQuery(tx.Customer.String(), from, until))
}
