package ledger

import (
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/fusionspim/steward/internal/infra/postgres"
)

// AppliedClause returns the statement that records the entry at a position as applied, to be a part
// of the statement of its act. Its arguments are named applied_….
func AppliedClause(tx *postgres.Tx, at Position) (clause string, arguments postgres.Args) {
	return `insert into ledger_applied (customer_id, number, hash)
			values (@applied_customer, @applied_number, @applied_hash)`,
		postgres.Args{"applied_customer": tx.Customer, "applied_number": at.Number, "applied_hash": at.Hash[:]}
}

func insertApplied(tx *postgres.Tx, positions []Position) error {
	if len(positions) == 1 {
		clause, arguments := AppliedClause(tx, positions[0])
		_, err := tx.Exec(clause, arguments)
		return err
	}
	numbers, hashes := make([]int64, len(positions)), make([][]byte, len(positions))
	for i, position := range positions {
		numbers[i], hashes[i] = position.Number, position.Hash[:]
	}
	_, err := tx.Exec(`
		insert into ledger_applied (customer_id, number, hash)
		select @customer::uuid, number, hash from unnest(@numbers::bigint[], @hashes::bytea[]) as applied (number, hash)
		on conflict do nothing`,
		postgres.Args{"customer": tx.Customer, "numbers": numbers, "hashes": hashes})
	return err
}

// UnappliedTx returns those of the entries that are not applied yet. The caller holds the lock of
// the customer, so that the answer stays true until the end of the transaction.
func UnappliedTx(tx *postgres.Tx, entries []NumberedEntry) ([]NumberedEntry, error) {
	numbers := make([]int64, len(entries))
	for i, entry := range entries {
		numbers[i] = entry.Number
	}
	found, err := postgres.Column[int64](
		tx,
		"select number from ledger_applied where customer_id = $1 and number = any ($2::bigint[])",
		tx.Customer,
		numbers,
	)
	if err != nil {
		return nil, err
	}
	applied := make(map[int64]bool, len(found))
	for _, number := range found {
		applied[number] = true
	}
	unapplied := entries[:0:0]
	for _, entry := range entries {
		if !applied[entry.Number] {
			unapplied = append(unapplied, entry)
		}
	}
	return unapplied, nil
}

// MarkAppliedTx records entries as applied.
func MarkAppliedTx(tx *postgres.Tx, entries []NumberedEntry) error {
	if len(entries) == 0 {
		return nil
	}
	positions := make([]Position, len(entries))
	for i, entry := range entries {
		positions[i] = Position{entry.Number, entry.Hash}
	}
	return insertApplied(tx, positions)
}

// databaseState is what the database records about the ledger.
type databaseState struct {
	ledger     uuid.NullUUID
	through    Position // every entry up to here is applied
	segment    int64    // the first entry of the segment that ends there
	origin     string   // the server and database where this was recorded
	current    string   // the server and database where it is now
	comparedAt *time.Time
	restoredAt *time.Time // when a backup was last restored into this database
	populated  bool       // a customer exists
	alone      bool       // no other replica works on this database
	applied    map[int64]Hash
}

func readState(tx *postgres.Tx) (state databaseState, err error) {
	if state.alone, err = postgres.NoOtherReplica(tx); err != nil {
		return databaseState{}, err
	}
	// The applied entries are read first: what another replica deletes in between is covered by its
	// new position.
	applied, err := postgres.Collect(tx, scanApplied, "select number, hash from ledger_applied")
	if err != nil {
		return databaseState{}, err
	}
	state.applied = make(map[int64]Hash, len(applied))
	for _, position := range applied {
		state.applied[position.Number] = position.Hash
	}
	var hash []byte
	err = tx.QueryRow(`
		select ledger_id, through, segment, hash, coalesce(home, ''), seen_at,
			(select max(restored_at) from restores), exists (select from customers), `+thisDatabase+`
		from ledger_position`).
		Scan(&state.ledger, &state.through.Number, &state.segment, &hash, &state.origin, &state.comparedAt,
			&state.restoredAt, &state.populated, &state.current)
	if err != nil {
		return databaseState{}, err
	}
	copy(state.through.Hash[:], hash)
	return state, nil
}

func scanApplied(row postgres.Row) (position Position, err error) {
	var hash []byte
	if err := row.Scan(&position.Number, &hash); err != nil {
		return Position{}, err
	}
	if len(hash) != len(position.Hash) {
		return Position{}, errors.New("ledger: the database has a hash of the wrong length")
	}
	position.Hash = Hash(hash)
	return position, nil
}

// thisDatabase is the SQL expression that identifies the server and the database. A copy has
// another identity, whether it was restored or cloned.
const thisDatabase = `(select system_identifier from pg_control_system())::text || '/' ||
	(select oid from pg_database where datname = current_database())::text`

// setLedger records which ledger belongs to the database, unless one is recorded.
func setLedger(tx *postgres.Tx, ledger uuid.UUID) error {
	_, err := tx.Exec("update ledger_position set ledger_id = $1 where ledger_id is null", ledger)
	return err
}

// advancePosition moves the position forward and deletes the applied entries that it covers.
func advancePosition(tx *postgres.Tx, through Position, segment int64) error {
	_, err := tx.Exec(
		`update ledger_position set through = @through, segment = @segment, hash = @hash where through < @through`,
		postgres.Args{"through": through.Number, "segment": segment, "hash": through.Hash[:]},
	)
	if err != nil {
		return err
	}
	_, err = tx.Exec("delete from ledger_applied where number <= $1", through.Number)
	return err
}

// recordOrigin records that ledger and database were compared now, and in which database.
func recordOrigin(tx *postgres.Tx) error {
	_, err := tx.Exec("update ledger_position set home = "+thisDatabase+", seen_at = $1", tx.Now)
	return err
}

// accept makes a ledger, up to its end, the baseline of the database.
func accept(tx *postgres.Tx, ledger uuid.UUID, through Position, segment int64) error {
	if _, err := tx.Exec("delete from ledger_applied"); err != nil {
		return err
	}
	var hash []byte
	if through.Number > 0 {
		hash = through.Hash[:]
	}
	_, err := tx.Exec(
		`update ledger_position set ledger_id = @ledger, through = @through, segment = @segment, hash = @hash`,
		postgres.Args{"ledger": ledger, "through": through.Number, "segment": segment, "hash": hash},
	)
	return err
}
