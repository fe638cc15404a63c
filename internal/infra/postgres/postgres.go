// Package postgres gives access to the database.
//
// Owns: the connections, the doors (InCustomer with its one-statement sister InCustomerAutocommit,
// InPlatform, and InOffboarding), the migrations, and the translation of PostgreSQL's errors into
// faults.
// Does not own: any query of a feature. Those are in the features' store.go files, and reach the
// database only through a Tx.
//
// Row security stands behind the doors: every connection takes a role that owns nothing, and inside
// a customer the database shows that customer's rows alone. A connection remembers the customer
// that it was last set to, so that the setting costs a round trip only when it changes.
//
// GORM carries the connection and the context of a piece of work; that is all it is there for. What
// is gained is one handle on which statements, GORM's and River's share one transaction. Statements
// are SQL that pgx runs (Exec, Query, QueryRow), rows are scanned by hand: GORM's models, hooks and
// associations are not used, and its way of finding arguments costs a pass over the text each time.
package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	gormpostgres "gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/fusionspim/steward/internal/base/clock"
	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/sensitive"
)

// The roles that the service takes. The migrations create them; they own nothing and cannot log in.
const (
	appRole      = "steward_app"
	platformRole = "steward_platform"
	workerRole   = "steward_worker"
	offboardRole = "steward_offboarder"
)

// Bounds of one piece of work. A request that exceeds one is answered with 503 and changes nothing.
const (
	statementTimeout = 10 * time.Second
	lockTimeout      = 5 * time.Second
	workTimeout      = 20 * time.Second
	connectTimeout   = 3 * time.Second
)

// offboardConnections is the size of the pool that deletes customers: one connection per customer
// being deleted by this replica, opened only then.
const offboardConnections = 2

// attempts is how often work is tried when PostgreSQL aborts it to resolve a deadlock.
const attempts = 4

// Settings choose the database and the number of connections.
type Settings struct {
	URL                 sensitive.String // a libpq connection string
	MaxConnections      int              // inside customers, open at most; 0 means 16
	PlatformConnections int              // outside customers, open at most; 0 means 4
	Tracer              pgx.QueryTracer  // sees every statement inside customers; nil: none
}

// DB is the database of the service. Safe for concurrent use.
type DB struct {
	app      *pool
	platform *pool
	offboard *pool
	clock    clock.Clock
	url      sensitive.String
	log      *slog.Logger
}

type pool struct {
	sql  *sql.DB
	gorm *gorm.DB
	raw  sync.Map // statement with ? → with $1; one per statement of the stores

	statements sync.Map // statement with names → bound; one per statement of the stores
}

// Open prepares the connections. It does not connect: the first use does, so that the service can
// start while its database is down.
func Open(settings Settings, now clock.Clock, log *slog.Logger) (*DB, error) {
	if settings.MaxConnections == 0 {
		settings.MaxConnections = 16
	}
	if settings.PlatformConnections == 0 {
		settings.PlatformConnections = 4
	}
	app, err := openPool(settings.URL, appRole, settings.MaxConnections, settings.Tracer, now, log)
	if err != nil {
		return nil, err
	}
	platform, err := openPool(settings.URL, platformRole, settings.PlatformConnections, nil, now, log)
	if err != nil {
		return nil, errors.Join(err, app.sql.Close())
	}
	offboard, err := openPool(settings.URL, offboardRole, offboardConnections, nil, now, log)
	if err != nil {
		return nil, errors.Join(err, app.sql.Close(), platform.sql.Close())
	}
	return &DB{app: app, platform: platform, offboard: offboard, clock: now, url: settings.URL, log: log}, nil
}

// Close ends all connections once they are idle.
func (db *DB) Close() error {
	return errors.Join(db.app.sql.Close(), db.platform.sql.Close(), db.offboard.sql.Close())
}

// Now returns the time by the service's clock, not the server's.
func (db *DB) Now() time.Time { return db.clock() }

// Stats returns the state of the pools inside and outside customers, for metrics.
func (db *DB) Stats() (app, platform sql.DBStats) { return db.app.sql.Stats(), db.platform.sql.Stats() }

func openPool(
	url sensitive.String, role string, connections int, tracer pgx.QueryTracer, now clock.Clock, log *slog.Logger,
) (*pool, error) {
	config, err := pgx.ParseConfig(url.Reveal())
	if err != nil {
		// The library's error repeats the string, and with it the password.
		return nil, errors.New("postgres: the database URL is not a connection string, such as postgres://user:password@host:5432/database")
	}
	prepare(config, role, log)
	config.Tracer = tracer
	handle := stdlib.OpenDB(*config, stdlib.OptionAfterConnect(func(_ context.Context, conn *pgx.Conn) error {
		conn.TypeMap().TryWrapEncodePlanFuncs = append(conn.TypeMap().TryWrapEncodePlanFuncs, wrapID)
		return nil
	}))
	limit(handle, connections)
	orm, err := gorm.Open(gormpostgres.New(gormpostgres.Config{Conn: handle}), &gorm.Config{
		SkipDefaultTransaction: true, // the doors open them
		PrepareStmt:            false,
		DisableAutomaticPing:   true,
		NowFunc:                now,
		Logger:                 logger.Discard,
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("postgres: %w", err), handle.Close())
	}
	return &pool{sql: handle, gorm: orm}, nil
}

// limit bounds a pool.
func limit(handle *sql.DB, connections int) {
	handle.SetMaxOpenConns(connections)
	handle.SetMaxIdleConns(connections) // or else connections are closed and opened again under load
	handle.SetConnMaxIdleTime(10 * time.Minute)
}

// prepare sets the role of a pool's connections and the bounds that apply to all.
func prepare(config *pgx.ConnConfig, role string, log *slog.Logger) {
	config.ConnectTimeout = connectTimeout
	if config.RuntimeParams["application_name"] == "" { // the URL may give another name, to tell replicas apart
		config.RuntimeParams["application_name"] = "steward"
	}
	for name, value := range map[string]string{
		"role":                                role,
		"timezone":                            "UTC",
		"statement_timeout":                   fmt.Sprint(statementTimeout.Milliseconds()),
		"lock_timeout":                        fmt.Sprint(lockTimeout.Milliseconds()),
		"idle_in_transaction_session_timeout": fmt.Sprint(workTimeout.Milliseconds()),
		// Statements are short and many run at once: none would recover the cost of starting
		// workers or of compiling. Long reads use several connections.
		"max_parallel_workers_per_gather": "0",
		"jit":                             "off",
	} {
		config.RuntimeParams[name] = value
	}
	config.OnNotice = func(conn *pgconn.PgConn, notice *pgconn.Notice) {
		if notice.Code == "01000" {
			// A commit whose wait for a synchronous standby was cancelled reports success with this
			// warning: the change can still be lost.
			conn.CustomData()[unsafeCommit] = true
		}
		log.Warn("the database sent a notice", "code", notice.Code, "severity", notice.Severity)
	}
}

// Keys of what a connection remembers about itself.
const (
	currentCustomer = "steward customer"
	unsafeCommit    = "steward unsafe commit"
)

// Tx is the database as one piece of work sees it: one connection, at one time of the clock.
type Tx struct {
	Customer id.Customer // whose rows are visible; zero outside customers
	Now      time.Time
	orm      *gorm.DB
	pool     *pool
	hooks    *[]commitHook // nil where each statement is a transaction of its own
}

// commitHook is work to do just before a transaction commits.
type commitHook struct {
	key    any
	things []any
	do     func(tx *Tx, things []any) error
}

// BeforeCommit registers work to run once all other work of the transaction has succeeded, just
// before it commits. Work registered several times under one key runs once, with everything that
// was passed. An error rolls the transaction back.
func (tx *Tx) BeforeCommit(key, thing any, do func(tx *Tx, things []any) error) error {
	if tx.hooks == nil {
		return ErrNoTransaction
	}
	for i := range *tx.hooks {
		if hook := &(*tx.hooks)[i]; hook.key == key {
			hook.things = append(hook.things, thing)
			return nil
		}
	}
	*tx.hooks = append(*tx.hooks, commitHook{key: key, things: []any{thing}, do: do})
	return nil
}

// ORM returns a fresh GORM statement on the connection of the work. Start from it each time: a
// statement that is reused accumulates conditions.
func (tx *Tx) ORM() *gorm.DB { return tx.orm.Session(&gorm.Session{NewDB: true, SkipHooks: true}) }

// Raw is ORM().Raw for statements that run often: its question marks are numbered once, while GORM
// does so each time, byte by byte. Arguments go to the driver as they are: a slice is an array.
// Every question mark is an argument, even in quotes.
func (tx *Tx) Raw(statement string, arguments ...any) *gorm.DB {
	numbered, known := tx.pool.raw.Load(statement)
	if !known {
		numbered, _ = tx.pool.raw.LoadOrStore(statement, number(statement))
	}
	raw := tx.ORM().Raw("") // a statement of its own
	raw.Statement.SQL.WriteString(numbered.(string))
	raw.Statement.Vars = arguments
	return raw
}

// RawAnew is Raw for statements over many rows of tables that fill and empty quickly. PostgreSQL
// plans it each time, for the tables as they are then: a cached plan was made for a few rows, and
// stays until the tables are analysed, even with a hundred thousand. It costs a round trip.
func (tx *Tx) RawAnew(statement string, arguments ...any) *gorm.DB {
	return tx.Raw(statement, append([]any{pgx.QueryExecModeDescribeExec}, arguments...)...)
}

// number turns the first question mark into $1, the second into $2, and so on.
func number(statement string) string {
	parts := strings.Split(statement, "?")
	var numbered strings.Builder
	for i, part := range parts[:len(parts)-1] {
		numbered.WriteString(part + "$" + strconv.Itoa(i+1))
	}
	return numbered.String() + parts[len(parts)-1]
}

// Copy writes the result of a query in the binary format of COPY, for readers of very many rows.
// COPY takes no arguments: values in the query must be ids and numbers that were never text. It
// needs InCustomerAutocommit.
func (tx *Tx) Copy(to io.Writer, query string) error {
	conn, ok := tx.orm.Statement.ConnPool.(*sql.Conn)
	if !ok {
		return errors.New("postgres: a copy needs InCustomerAutocommit")
	}
	return conn.Raw(func(driver any) error {
		_, err := driver.(*stdlib.Conn).Conn().PgConn().CopyTo(context.Background(), to, "copy ("+query+") to stdout (format binary)")
		return err
	})
}

// InCustomer runs work in one transaction that sees one customer's rows alone.
//
// It commits when the work returns nil and rolls back otherwise. Work that PostgreSQL aborts
// because of a deadlock or a serialization failure is retried from the beginning, so it must have
// no effect outside the transaction. A caller that goes away does not cancel a running transaction:
// it is committed or rolled back within a bounded time.
//
// Errors of the work are returned unchanged. A database that is down, overloaded or too slow gives
// the fault ServiceUnavailable.
func (db *DB) InCustomer(ctx context.Context, customer id.Customer, work func(tx *Tx) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), workTimeout)
	defer cancel()
	return db.app.transaction(ctx, customer, db.clock, work)
}

// InPlatform runs work in one transaction outside any customer, under a role that sees no personal
// rows. Otherwise it is like InCustomer.
func (db *DB) InPlatform(ctx context.Context, work func(tx *Tx) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), workTimeout)
	defer cancel()
	return db.platform.transaction(ctx, id.Customer{}, db.clock, work)
}

// InOffboarding runs work in one transaction that sees the remaining rows of a customer whose
// deletion has begun and is recorded, and may delete them, including the audit trail. It sees
// nothing of any other customer. It is for package offboarding alone, which a test enforces.
// Otherwise it is like InCustomer.
func (db *DB) InOffboarding(ctx context.Context, customer id.Customer, work func(tx *Tx) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), workTimeout)
	defer cancel()
	return db.offboard.transaction(ctx, customer, db.clock, work)
}

// AsCustomer runs a part of the transaction inside another customer, so that an operator's act on a
// customer and its record with the operators commit together. Inside the part only that customer's
// rows are visible; after it, those of before. It is for operators' acts alone, which archtest
// checks. Its errors must roll back the whole transaction.
func (tx *Tx) AsCustomer(customer id.Customer, work func(tx *Tx) error) (err error) {
	if _, ok := tx.orm.Statement.ConnPool.(*sql.Tx); !ok {
		return errors.New("postgres: AsCustomer needs a transaction")
	}
	// The setting is local to the transaction, so its end restores what the connection remembers.
	enter := func(customer id.Customer) error {
		_, err := tx.Exec("select set_config('app.customer_id', $1, true)", customer.String())
		return err
	}
	if err := enter(customer); err != nil {
		return err
	}
	defer func() {
		// After an error of the database nothing can be set, and nothing will be committed.
		if restored := enter(tx.Customer); err == nil {
			err = restored
		}
	}()
	part := *tx
	part.Customer = customer
	return work(&part)
}

// InCustomerAutocommit runs work inside a customer in which each statement is a transaction of its
// own. It saves the round trips of BEGIN and COMMIT where one statement does everything, reading or
// writing. Two statements are not atomic together.
func (db *DB) InCustomerAutocommit(ctx context.Context, customer id.Customer, work func(tx *Tx) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), workTimeout)
	defer cancel()
	return retry(func() error {
		return db.app.connection(ctx, customer, func(ctx context.Context, conn *sql.Conn) error {
			if err := work(db.app.tx(ctx, conn, customer, db.clock)); err != nil {
				return err
			}
			return committedSafely(conn)
		})
	})
}

func (p *pool) tx(ctx context.Context, handle gorm.ConnPool, customer id.Customer, now clock.Clock) *Tx {
	orm := p.gorm.Session(&gorm.Session{NewDB: true, Context: ctx})
	orm.Statement.ConnPool = handle
	return &Tx{Customer: customer, Now: now(), orm: orm, pool: p}
}

func (p *pool) transaction(ctx context.Context, customer id.Customer, now clock.Clock, work func(tx *Tx) error) error {
	return retry(func() error {
		return p.connection(ctx, customer, func(ctx context.Context, conn *sql.Conn) error {
			begun, err := conn.BeginTx(ctx, nil)
			if err != nil {
				return err
			}
			// After a commit there is nothing to undo; otherwise the connection's end undoes it.
			defer begun.Rollback() //nolint:errcheck
			tx := p.tx(ctx, begun, customer, now)
			tx.hooks = new([]commitHook)
			if err := work(tx); err != nil {
				return err
			}
			for _, hook := range *tx.hooks {
				if err := hook.do(tx, hook.things); err != nil {
					return err
				}
			}
			if err := begun.Commit(); err != nil {
				return err
			}
			return committedSafely(conn)
		})
	})
}

// connection runs use with a connection that is set to the customer. It waits for one until the
// context's deadline, which then becomes the deadline of the connection itself: the work gets a
// context that cannot end, because watching one costs a statement half of what finding its row
// does.
func (p *pool) connection(ctx context.Context, customer id.Customer, use func(ctx context.Context, conn *sql.Conn) error) error {
	conn, err := p.sql.Conn(ctx)
	if err != nil {
		return translate(err)
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	ctx = context.WithoutCancel(ctx)
	// Of a connection that is broken nothing is wanted any more.
	defer conn.Raw(func(driver any) error { //nolint:errcheck
		return driver.(*stdlib.Conn).Conn().PgConn().Conn().SetDeadline(time.Time{})
	})
	err = conn.Raw(func(driver any) error {
		raw := driver.(*stdlib.Conn).Conn().PgConn()
		if err := raw.Conn().SetDeadline(deadline); err != nil {
			return err
		}
		if raw.CustomData()[currentCustomer] == customer {
			return nil
		}
		delete(raw.CustomData(), currentCustomer)
		if _, err := driver.(*stdlib.Conn).Conn().Exec(ctx, "select set_config('app.customer_id', $1, false)", customer.String()); err != nil {
			return err
		}
		raw.CustomData()[currentCustomer] = customer
		return nil
	})
	if err != nil {
		return translate(err)
	}
	return translate(use(ctx, conn))
}

// committedSafely returns an error for a commit that PostgreSQL could not replicate to its standby.
func committedSafely(conn *sql.Conn) error {
	return conn.Raw(func(driver any) error {
		data := driver.(*stdlib.Conn).Conn().PgConn().CustomData()
		if data[unsafeCommit] == true {
			delete(data, unsafeCommit)
			return fault.New(fault.ServiceUnavailable, "The change may have been lost. Check before you repeat it.")
		}
		return nil
	})
}

// retry repeats work that PostgreSQL aborted because of a deadlock or a serialization failure, at
// most attempts times in all.
func retry(work func() error) error {
	var err error
	for range attempts {
		err = work()
		if code := sqlState(err); code != "40001" && code != "40P01" {
			return err
		}
	}
	return unavailable(err)
}

// Ping returns nil when the database answers to both roles.
func (db *DB) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	for _, p := range []*pool{db.app, db.platform} {
		if _, err := p.sql.ExecContext(ctx, "select 1"); err != nil {
			return unavailable(err)
		}
	}
	return nil
}
