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

// storedCheckpoint is a checkpoint as it is stored.
type storedCheckpoint struct {
	size      int64
	note      string
	createdAt time.Time
}

const checkpointColumns = "select size, note, created_at from audit_checkpoints where customer_id = $1 "

func scanCheckpoint(row postgres.Row) (stored storedCheckpoint, err error) {
	err = row.Scan(&stored.size, &stored.note, &stored.createdAt)
	return stored, err
}

// found scans a checkpoint that may not exist.
func found(row postgres.Row) (stored storedCheckpoint, exists bool, err error) {
	stored, err = scanCheckpoint(row)
	if errors.Is(err, sql.ErrNoRows) {
		return storedCheckpoint{}, false, nil
	}
	return stored, err == nil, err
}

func newestCheckpoint(tx *postgres.Tx) (storedCheckpoint, bool, error) {
	return found(tx.QueryRow(checkpointColumns+"order by size desc limit 1", tx.Customer))
}

func checkpointOf(tx *postgres.Tx, size int64) (storedCheckpoint, bool, error) {
	return found(tx.QueryRow(checkpointColumns+"and size = $2", tx.Customer, size))
}

// insertCheckpoint stores a checkpoint and returns it, or the earlier one of the same size.
func insertCheckpoint(tx *postgres.Tx, made storedCheckpoint) (storedCheckpoint, error) {
	n, err := tx.Exec(`
		insert into audit_checkpoints (customer_id, size, note, created_at)
		values ($1, $2, $3, $4) on conflict do nothing`, tx.Customer, made.size, made.note, made.createdAt)
	if err != nil || n > 0 {
		return made, err
	}
	stored, exists, err := checkpointOf(tx, made.size)
	if err == nil && !exists {
		err = errors.New("trail: a checkpoint was neither stored nor found")
	}
	return stored, err
}

// lastPublished returns the size of the checkpoint that was last sent to the customer, and when.
func lastPublished(tx *postgres.Tx) (size int64, at *time.Time, err error) {
	err = tx.QueryRow(`
		select size, published_at from audit_checkpoints
		where customer_id = $1 and published_at is not null order by size desc limit 1`, tx.Customer).
		Scan(&size, &at)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil, nil
	}
	return size, at, err
}

// grownSince reports whether the trail has entries, from a number on, that are not about
// checkpoints themselves.
func grownSince(tx *postgres.Tx, size int64) (grown bool, err error) {
	err = tx.QueryRow(`
		select exists (
			select from audit_leaves l join audit_entries e on e.customer_id = l.customer_id and e.id = l.entry_id
			where l.customer_id = $1 and l.leaf_index >= $2 and e.action <> $3
		)`, tx.Customer, size, string(audit.CheckpointPublished)).Scan(&grown)
	return grown, err
}

func markPublished(tx *postgres.Tx, size int64) error {
	_, err := tx.Exec("update audit_checkpoints set published_at = $1 where customer_id = $2 and size = $3",
		tx.Now, tx.Customer, size)
	return err
}

// listed is what iterating over all customers needs of one.
type listed struct {
	id   id.Customer
	slug string
}

// customersAfter returns at most limit customers after an id, by id.
func customersAfter(tx *postgres.Tx, after id.Customer, limit int) ([]listed, error) {
	scan := func(row postgres.Row) (c listed, err error) {
		err = row.Scan(&c.id, &c.slug)
		return c, err
	}
	return postgres.Collect(tx, scan, "select id, slug from customers where id > $1 order by id limit $2", after, limit)
}

// allCheckpoints returns every checkpoint of the customer, by size.
func allCheckpoints(tx *postgres.Tx) ([]storedCheckpoint, error) {
	return postgres.Collect(tx, scanCheckpoint, checkpointColumns+"order by size", tx.Customer)
}

// trailState is the extent of a trail at one moment.
type trailState struct {
	size        int64  // according to the head
	roots       []byte // nil: there is no head
	leaves      int64  // the number after the last leaf
	leavesCount int64
	entries     int64
	unsealed    int64
}

func stateOf(tx *postgres.Tx) (state trailState, err error) {
	err = tx.QueryRow(`
		select
			coalesce((select size from audit_heads where customer_id = c.id), 0),
			(select roots from audit_heads where customer_id = c.id),
			(select coalesce(max(leaf_index) + 1, 0) from audit_leaves where customer_id = c.id),
			(select count(*) from audit_leaves where customer_id = c.id),
			(select count(*) from audit_entries where customer_id = c.id),
			(select count(*) from audit_unsealed where customer_id = c.id)
		from (select $1::uuid as id) as c`, tx.Customer).
		Scan(&state.size, &state.roots, &state.leaves, &state.leavesCount, &state.entries, &state.unsealed)
	return state, err
}

// lostEntries returns entries that have no leaf and are not queued for one.
func lostEntries(tx *postgres.Tx, limit int) ([]uuid.UUID, error) {
	return postgres.Column[uuid.UUID](tx, `
		select id from audit_entries e where customer_id = $1
		and not exists (select from audit_leaves l where l.customer_id = e.customer_id and l.entry_id = e.id)
		and not exists (select from audit_unsealed u where u.customer_id = e.customer_id and u.entry_id = e.id)
		order by id limit $2`, tx.Customer, limit)
}

// longestUnsealed returns the entry that has been queued for a number for longest.
func longestUnsealed(tx *postgres.Tx) (entry uuid.UUID, since time.Time, exists bool, err error) {
	err = tx.QueryRow(`
		select e.id, e.recorded_at
		from audit_unsealed u join audit_entries e on e.customer_id = u.customer_id and e.id = u.entry_id
		where u.customer_id = $1 order by u.entry_id limit 1`, tx.Customer).Scan(&entry, &since)
	if errors.Is(err, sql.ErrNoRows) {
		return uuid.Nil, time.Time{}, false, nil
	}
	return entry, since, err == nil, err
}

// copyLeaves writes leaves with their entries, for readRows.
func copyLeaves(tx *postgres.Tx, to io.Writer, from, until int64) error {
	return tx.Copy(to, leavesQuery(tx.Customer.String(), from, until))
}
