package ledger

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/fusionspim/steward/internal/infra/postgres"
)

// AppliedClause returns the statement that remembers an entry as applied, to be a part of the statement of its act.
func AppliedClause(tx *postgres.Tx, at Position) (clause string, arguments []any) {
	return "insert into ledger_applied (customer_id, number, hash) values (?, ?, ?)", []any{tx.Customer, at.Number, at.Hash[:]}
}

func insertApplied(tx *postgres.Tx, positions []Position) error {
	if len(positions) == 1 {
		clause, arguments := AppliedClause(tx, positions[0])
		return tx.ORM().Exec(clause, arguments...).Error
	}
	numbers, hashes := make([]string, len(positions)), make(postgres.Strings, len(positions))
	for i, position := range positions {
		numbers[i], hashes[i] = strconv.FormatInt(position.Number, 10), position.Hash.String()
	}
	return tx.ORM().Exec(`
		insert into ledger_applied (customer_id, number, hash)
		select ?::uuid, number, decode(hash, 'hex') from unnest(?::bigint[], ?::text[]) as applied (number, hash) on conflict do nothing`,
		tx.Customer, "{"+strings.Join(numbers, ",")+"}", hashes).Error
}

// OpenTx returns which of the entries nobody has carried out yet. The caller holds the lock of the customer, so that nobody does in between.
func OpenTx(tx *postgres.Tx, entries []Placed) ([]Placed, error) {
	numbers := make([]string, len(entries))
	for i, entry := range entries {
		numbers[i] = strconv.FormatInt(entry.Number, 10)
	}
	rows, err := tx.ORM().Raw("select number from ledger_applied where customer_id = ? and number = any (?::bigint[])", tx.Customer, "{"+strings.Join(numbers, ",")+"}").Rows()
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // read to its end or given up
	applied := make(map[int64]bool)
	for rows.Next() {
		var number int64
		if err := rows.Scan(&number); err != nil {
			return nil, err
		}
		applied[number] = true
	}
	open := entries[:0:0]
	for _, entry := range entries {
		if !applied[entry.Number] {
			open = append(open, entry)
		}
	}
	return open, rows.Err()
}

// AppliedTx remembers entries as applied.
func AppliedTx(tx *postgres.Tx, entries []Placed) error {
	if len(entries) == 0 {
		return nil
	}
	positions := make([]Position, len(entries))
	for i, entry := range entries {
		positions[i] = Position{entry.Number, entry.Hash}
	}
	return insertApplied(tx, positions)
}

// remembered is what the database knows of the ledger.
type remembered struct {
	ledger    uuid.NullUUID
	through   Position // all entries up to here are applied
	segment   int64    // the first entry of the segment that ends there
	home      string   // where this was written
	here      string   // where it is now
	seenAt    *time.Time
	restored  *time.Time // when a backup was last brought into this database
	populated bool       // there is a customer
	alone     bool       // no replica is at work on this database
	applied   map[int64]Hash
}

func recall(tx *postgres.Tx) (found remembered, err error) {
	if found.alone, err = postgres.NoOtherReplica(tx); err != nil {
		return remembered{}, err
	}
	// What is applied comes first: what another replica drops in between, its new position covers.
	rows, err := tx.ORM().Raw("select number, hash from ledger_applied").Rows()
	if err != nil {
		return remembered{}, err
	}
	defer rows.Close() //nolint:errcheck // read to its end or given up
	found.applied = make(map[int64]Hash)
	for rows.Next() {
		var number int64
		var hash []byte
		if err := rows.Scan(&number, &hash); err != nil {
			return remembered{}, err
		}
		if len(hash) != len(Hash{}) {
			return remembered{}, errors.New("ledger: the database remembers a hash that is none")
		}
		found.applied[number] = Hash(hash)
	}
	if rows.Err() != nil {
		return remembered{}, rows.Err()
	}
	var hash []byte
	err = tx.ORM().Raw(`
		select ledger_id, through, segment, hash, coalesce(home, ''), seen_at, (select max(restored_at) from restores), exists (select from customers), `+here+`
		from ledger_position`).Row().
		Scan(&found.ledger, &found.through.Number, &found.segment, &hash, &found.home, &found.seenAt, &found.restored, &found.populated, &found.here)
	if err != nil {
		return remembered{}, err
	}
	copy(found.through.Hash[:], hash)
	return found, nil
}

// here names the server and the database. A copy has another name, whether it was restored or cloned.
const here = `(select system_identifier from pg_control_system())::text || '/' || (select oid from pg_database where datname = current_database())::text`

// meet writes down which ledger the database goes with.
func meet(tx *postgres.Tx, ledger uuid.UUID) error {
	return tx.ORM().Exec("update ledger_position set ledger_id = ? where ledger_id is null", ledger).Error
}

// settle brings the position forward and drops what it covers.
func settle(tx *postgres.Tx, through Position, segment int64) error {
	err := tx.ORM().Exec("update ledger_position set through = ?, segment = ?, hash = ? where through < ?", through.Number, segment, through.Hash[:], through.Number).Error
	if err != nil {
		return err
	}
	return tx.ORM().Exec("delete from ledger_applied where number <= ?", through.Number).Error
}

// attend writes down that the two were compared here and now.
func attend(tx *postgres.Tx) error {
	return tx.ORM().Exec("update ledger_position set home = "+here+", seen_at = ?", tx.Now).Error
}

// accept takes a ledger as it is for what the database goes with, up to its end.
func accept(tx *postgres.Tx, ledger uuid.UUID, through Position, segment int64) error {
	if err := tx.ORM().Exec("delete from ledger_applied").Error; err != nil {
		return err
	}
	var hash []byte
	if through.Number > 0 {
		hash = through.Hash[:]
	}
	return tx.ORM().Exec("update ledger_position set ledger_id = ?, through = ?, segment = ?, hash = ?", ledger, through.Number, segment, hash).Error
}
