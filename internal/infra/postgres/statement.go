package postgres

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"
	"gorm.io/gorm"

	"github.com/fusionspim/steward/internal/base/id"
)

// Args are the named arguments of a statement: @name stands for the argument, wherever and however
// often it occurs outside quotes and comments. A statement that names an argument that is missing,
// or misses one that is given, is an error.
type Args map[string]any

// Replan, as the first argument of a statement, has PostgreSQL plan it each time, for the tables as
// they are then. It is for statements over many rows of tables that fill and empty quickly: a
// cached plan was made when they held few. It costs a round trip.
const Replan = pgx.QueryExecModeDescribeExec

// Exec runs a statement and returns how many rows it changed. Arguments are either positional ($1)
// or one Args; they go to pgx as they are, so a slice is an array.
func (tx *Tx) Exec(statement string, arguments ...any) (affected int64, err error) {
	statement, arguments, err = tx.bind(statement, arguments)
	if err != nil {
		return 0, err
	}
	result, err := tx.conn().ExecContext(tx.context(), statement, arguments...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// Query runs a statement that returns rows. Collect reads them without ceremony. Arguments are as
// with Exec.
func (tx *Tx) Query(statement string, arguments ...any) (*sql.Rows, error) {
	statement, arguments, err := tx.bind(statement, arguments)
	if err != nil {
		return nil, err
	}
	return tx.conn().QueryContext(tx.context(), statement, arguments...)
}

// QueryRow runs a statement that returns at most one row. Its Scan returns sql.ErrNoRows for none.
// Arguments are as with Exec.
func (tx *Tx) QueryRow(statement string, arguments ...any) Row {
	statement, arguments, err := tx.bind(statement, arguments)
	if err != nil {
		return failedRow{err}
	}
	return tx.conn().QueryRowContext(tx.context(), statement, arguments...)
}

// Row is one row of a result.
type Row interface {
	// Scan copies the columns into the destinations, as database/sql does.
	Scan(destinations ...any) error
}

type failedRow struct{ err error }

func (r failedRow) Scan(...any) error { return r.err }

// Collect runs a statement and reads every row with scan. No rows give a nil slice.
func Collect[T any](tx *Tx, scan func(row Row) (T, error), statement string, arguments ...any) (all []T, err error) {
	rows, err := tx.Query(statement, arguments...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		record, err := scan(rows)
		if err != nil {
			return nil, err
		}
		all = append(all, record)
	}
	return all, rows.Err()
}

// Column is Collect for statements that return one column.
func Column[T any](tx *Tx, statement string, arguments ...any) ([]T, error) {
	return Collect(tx, func(row Row) (value T, err error) {
		err = row.Scan(&value)
		return value, err
	}, statement, arguments...)
}

// Read runs statements, each a transaction of its own, that see the rows of one customer, and
// returns the result: InCustomerAutocommit for reads.
func Read[T any](ctx context.Context, db *DB, customer id.Customer, work func(tx *Tx) (T, error)) (result T, err error) {
	err = db.InCustomerAutocommit(ctx, customer, func(tx *Tx) (err error) {
		result, err = work(tx)
		return err
	})
	return result, err
}

// Write runs one transaction that sees the rows of one customer, and returns its result: InCustomer
// for work with a result. The result of work that failed is the zero value.
func Write[T any](ctx context.Context, db *DB, customer id.Customer, work func(tx *Tx) (T, error)) (result T, err error) {
	err = db.InCustomer(ctx, customer, func(tx *Tx) (err error) {
		result, err = work(tx)
		return err
	})
	if err != nil {
		var none T
		return none, err
	}
	return result, nil
}

// Platform runs one transaction outside any customer and returns its result: InPlatform for work
// with a result.
func Platform[T any](ctx context.Context, db *DB, work func(tx *Tx) (T, error)) (result T, err error) {
	err = db.InPlatform(ctx, func(tx *Tx) (err error) {
		result, err = work(tx)
		return err
	})
	if err != nil {
		var none T
		return none, err
	}
	return result, nil
}

func (tx *Tx) conn() gorm.ConnPool { return tx.orm.Statement.ConnPool }

func (tx *Tx) context() context.Context { return tx.orm.Statement.Context }

// bound is a statement with named arguments as PostgreSQL takes it.
type bound struct {
	statement string
	names     []string // of $1, $2, …
}

// bind gives a statement its arguments by position. What becomes of a statement's names is
// remembered: pgx looks for them letter by letter.
func (tx *Tx) bind(statement string, arguments []any) (string, []any, error) {
	if len(arguments) == 0 {
		return statement, arguments, nil
	}
	last := len(arguments) - 1
	named, ok := arguments[last].(Args)
	if !ok {
		return statement, arguments, nil
	}
	remembered, ok := tx.pool.statements.Load(statement)
	if !ok {
		names := pgx.NamedArgs{}
		for name := range named {
			names[name] = name
		}
		rewritten, inOrder, err := names.RewriteQuery(tx.context(), nil, statement, nil)
		if err != nil {
			return "", nil, fmt.Errorf("postgres: %w", err)
		}
		b := bound{statement: rewritten}
		for _, name := range inOrder {
			text, ok := name.(string)
			if !ok {
				return "", nil, fmt.Errorf("postgres: the statement has an argument more than %v: %s", slices.Sorted(maps.Keys(named)), statement)
			}
			b.names = append(b.names, text)
		}
		remembered, _ = tx.pool.statements.LoadOrStore(statement, b)
	}
	b := remembered.(bound)
	if len(b.names) != len(named) {
		return "", nil, fmt.Errorf("postgres: the statement takes %v, not %v: %s", b.names, slices.Sorted(maps.Keys(named)), statement)
	}
	byPosition := make([]any, 0, last+len(b.names))
	byPosition = append(byPosition, arguments[:last]...) // Replan
	for _, name := range b.names {
		value, ok := named[name]
		if !ok {
			return "", nil, fmt.Errorf("postgres: the statement lacks the argument %s: %s", name, statement)
		}
		byPosition = append(byPosition, value)
	}
	return b.statement, byPosition, nil
}
