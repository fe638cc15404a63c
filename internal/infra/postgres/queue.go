package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/riverqueue/river/riverdriver/riverdatabasesql"
	"github.com/riverqueue/river/rivermigrate"
)

// QueueSchema is the schema of River's tables, which River creates, apart from ours.
const QueueSchema = "jobs"

// The step that creates River's tables. A later version of them is a later step with its own
// number; 00004_jobs.sql grants the rights.
const (
	queueMigrationNumber = 3
	queueVersion         = 8 // of River's tables
	queueStep            = "00003_jobs_by_river"
)

// queueMigration lets River create its tables, under the lock of our own migrations. Each of
// River's steps is a transaction, because a value that one of them adds to an enumeration cannot be
// used before it is committed; an interrupted run is resumed.
func queueMigration() *goose.Migration {
	up := func(ctx context.Context, handle *sql.DB) error {
		if _, err := handle.ExecContext(ctx, "create schema if not exists "+QueueSchema); err != nil {
			return err
		}
		migrator, err := rivermigrate.New(riverdatabasesql.New(handle),
			&rivermigrate.Config{Schema: QueueSchema, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			return err
		}
		_, err = migrator.Migrate(ctx, rivermigrate.DirectionUp,
			&rivermigrate.MigrateOpts{TargetVersion: queueVersion})
		return err
	}
	down := func(ctx context.Context, handle *sql.DB) error {
		_, err := handle.ExecContext(ctx, "drop schema if exists "+QueueSchema+" cascade")
		return err
	}
	return goose.NewGoMigration(queueMigrationNumber, &goose.GoFunc{RunDB: up}, &goose.GoFunc{RunDB: down})
}

// ErrNoTransaction is returned by work that needs a transaction where each statement is one.
var ErrNoTransaction = errors.New("postgres: each statement is a transaction of its own here")

// Transaction returns the transaction itself and its context. It is for package jobs alone, which
// passes it to River; a test enforces that.
func (tx *Tx) Transaction() (context.Context, *sql.Tx, error) {
	begun, ok := tx.orm.Statement.ConnPool.(*sql.Tx)
	if !ok {
		return nil, nil, ErrNoTransaction
	}
	return tx.orm.Statement.Context, begun, nil
}

// Queue holds the connections of workers. Their role sees the tables of jobs and nothing else.
type Queue struct {
	SQL      *sql.DB
	Listener *pgxpool.Pool // one connection, which is notified of new jobs
}

// OpenQueue prepares the connections of workers, and checks that row security applies to them. It
// is for package jobs alone; a test enforces that.
func (db *DB) OpenQueue(ctx context.Context, connections int) (*Queue, error) {
	config, err := pgxpool.ParseConfig(db.url.Reveal())
	if err != nil {
		return nil, errors.New("postgres: the database URL is not a connection string, such as postgres://user:password@host:5432/database")
	}
	prepare(config.ConnConfig, workerRole, db.log)
	config.MinConns, config.MaxConns = 0, 1
	handle := stdlib.OpenDB(*config.ConnConfig)
	limit(handle, connections)
	if err := checkRole(ctx, handle); err != nil {
		return nil, errors.Join(fmt.Errorf("postgres: the role of workers: %w", err), handle.Close())
	}
	listener, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("postgres: %w", err), handle.Close())
	}
	return &Queue{SQL: handle, Listener: listener}, nil
}

// Translated translates an error of those connections as the doors do. It is for package jobs
// alone.
func Translated(err error) error { return translate(err) }

// Close ends the connections. No worker may be running.
func (q *Queue) Close() error {
	q.Listener.Close()
	return q.SQL.Close()
}
