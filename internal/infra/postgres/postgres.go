// Package postgres is the way to the database.
//
// Owns: the connections, the doors (InCustomer with its one-statement sister InCustomerAutocommit, InPlatform, and InOffboarding), the migrations, and the
// translation of what PostgreSQL reports into faults.
// Does not own: any query of a feature. Those live in the features' store.go files, and see the database only through a Tx.
//
// Behind the doors stands row security: every connection takes a role that owns nothing, and inside a customer the database shows that
// customer's rows alone. The connection remembers which customer it was last opened for, so that the setting costs a round trip only when it
// changes.
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

// The roles that the service takes. All are made by the migrations, own nothing and cannot sign in.
const (
	appRole      = "steward_app"
	platformRole = "steward_platform"
	workerRole   = "steward_worker"
	offboardRole = "steward_offboarder"
)

// Bounds of what one piece of work may take of the database. A request that meets one answers 503 and changes nothing.
const (
	statementTimeout = 10 * time.Second
	lockTimeout      = 5 * time.Second
	workTimeout      = 20 * time.Second
	connectTimeout   = 3 * time.Second
)

// offboardConnections are for deleting customers: one for each at which this replica is, and connected only then.
const offboardConnections = 2

// attempts is how often work is begun anew after PostgreSQL broke it off to resolve a deadlock.
const attempts = 4

// Settings say which database to use and how much of it.
type Settings struct {
	URL                 sensitive.String // a connection string that libpq would understand
	MaxConnections      int              // inside customers, open at most; 0 means 16
	PlatformConnections int              // outside customers, open at most; 0 means 4
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
	raw  sync.Map // statement with question marks → the same with numbers; as many as there are statements in the stores

	statements sync.Map // statement with names → bound; as many as there are statements in the stores
}

// Open prepares the connections. It does not connect: the first use does, so that a service can start while its database is away.
func Open(settings Settings, now clock.Clock, log *slog.Logger) (*DB, error) {
	if settings.MaxConnections == 0 {
		settings.MaxConnections = 16
	}
	if settings.PlatformConnections == 0 {
		settings.PlatformConnections = 4
	}
	app, err := openPool(settings.URL, appRole, settings.MaxConnections, now, log)
	if err != nil {
		return nil, err
	}
	platform, err := openPool(settings.URL, platformRole, settings.PlatformConnections, now, log)
	if err != nil {
		return nil, errors.Join(err, app.sql.Close())
	}
	offboard, err := openPool(settings.URL, offboardRole, offboardConnections, now, log)
	if err != nil {
		return nil, errors.Join(err, app.sql.Close(), platform.sql.Close())
	}
	return &DB{app: app, platform: platform, offboard: offboard, clock: now, url: settings.URL, log: log}, nil
}

// Close ends all connections once they are idle.
func (db *DB) Close() error {
	return errors.Join(db.app.sql.Close(), db.platform.sql.Close(), db.offboard.sql.Close())
}

// Now tells the time by the clock of the database's users, not of the server.
func (db *DB) Now() time.Time { return db.clock() }

// Stats reports the connections inside customers and outside, for metrics.
func (db *DB) Stats() (app, platform sql.DBStats) { return db.app.sql.Stats(), db.platform.sql.Stats() }

func openPool(url sensitive.String, role string, connections int, now clock.Clock, log *slog.Logger) (*pool, error) {
	config, err := pgx.ParseConfig(url.Reveal())
	if err != nil {
		// The library's error repeats the string, and with it the password.
		return nil, errors.New("postgres: the database URL is not a connection string, such as postgres://user:password@host:5432/database")
	}
	prepare(config, role, log)
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

// prepare makes connections take a role, with the bounds that hold for all.
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
		// Statements are short and many at a time: one would never get back what starting workers or compiling costs it. Who reads much reads on several connections.
		"max_parallel_workers_per_gather": "0",
		"jit":                             "off",
	} {
		config.RuntimeParams[name] = value
	}
	config.OnNotice = func(conn *pgconn.PgConn, notice *pgconn.Notice) {
		if notice.Code == "01000" {
			// A commit whose wait for a synchronous standby was cancelled reports success with this warning: the change can be lost still.
			conn.CustomData()[unsafeCommit] = true
		}
		log.Warn("the database gave notice", "code", notice.Code, "severity", notice.Severity)
	}
}

// Keys of what a connection remembers about itself.
const (
	currentCustomer = "steward customer"
	unsafeCommit    = "steward unsafe commit"
)

// Tx is the database as one piece of work sees it: through one connection, at one moment by the clock.
type Tx struct {
	Customer id.Customer // the customer whose rows are seen; zero outside customers
	Now      time.Time
	orm      *gorm.DB
	pool     *pool
	last     *[]closing // nil where each statement is a transaction of its own
}

// closing is what belongs to the end of a transaction.
type closing struct {
	key    any
	things []any
	do     func(tx *Tx, things []any) error
}

// BeforeCommit registers work to run at the end of the transaction, when all its work has succeeded and just before it is kept. What is asked for under one key is done once, with
// everything that was handed over. An error undoes the transaction.
func (tx *Tx) BeforeCommit(key, thing any, do func(tx *Tx, things []any) error) error {
	if tx.last == nil {
		return ErrNoTransaction
	}
	for i := range *tx.last {
		if one := &(*tx.last)[i]; one.key == key {
			one.things = append(one.things, thing)
			return nil
		}
	}
	*tx.last = append(*tx.last, closing{key: key, things: []any{thing}, do: do})
	return nil
}

// ORM returns a fresh GORM statement on the connection of the work. Start from it each time: a statement that is kept keeps its conditions.
func (tx *Tx) ORM() *gorm.DB { return tx.orm.Session(&gorm.Session{NewDB: true, SkipHooks: true}) }

// Raw is ORM().Raw for a statement that runs often: its question marks are numbered the first time and not each time, which GORM does byte by byte.
// Arguments go to the driver as they are; a slice is not spread out. A question mark stands for an argument wherever it stands, also in quotes.
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

// RawAnew is Raw for a statement that works through many rows of tables that fill and empty quickly. It is planned each time, for the tables as they are then. A plan that is kept
// was made for a few rows, and stays, until the tables are analysed, when there are a hundred thousand. It costs a round trip more.
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

// Copy writes what a query finds, in PostgreSQL's binary format of COPY, for those who read very many rows. A copy takes no arguments: what stands in the query must be ids
// and numbers that were never text. It needs a door of which each statement is a transaction of its own.
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

// InCustomer runs the work in one transaction that sees the rows of one customer alone.
//
// It commits when the work returns nil and undoes everything otherwise. Work that PostgreSQL broke off because of a deadlock or a conflict of
// snapshots is done again from the beginning, so it must not leave traces outside the transaction. A caller that goes away does not break off
// a transaction half way: what is begun is finished or undone within a bounded time.
//
// Errors of the work rise unchanged. A database that is away, overloaded or too slow gives the fault ServiceUnavailable.
func (db *DB) InCustomer(ctx context.Context, customer id.Customer, work func(tx *Tx) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), workTimeout)
	defer cancel()
	return db.app.transaction(ctx, customer, db.clock, work)
}

// InPlatform runs the work in one transaction outside any customer, under a role that sees no person's row.
// The rest is as with InCustomer.
func (db *DB) InPlatform(ctx context.Context, work func(tx *Tx) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), workTimeout)
	defer cancel()
	return db.platform.transaction(ctx, id.Customer{}, db.clock, work)
}

// InOffboarding runs the work in one transaction that sees what is left of a customer whose deletion has begun and is recorded, and can delete it, the trail included. Of every other
// customer it sees nothing. It is for package offboarding alone; a test holds others off. The rest is as with InCustomer.
func (db *DB) InOffboarding(ctx context.Context, customer id.Customer, work func(tx *Tx) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), workTimeout)
	defer cancel()
	return db.offboard.transaction(ctx, customer, db.clock, work)
}

// AsCustomer runs a part of the transaction inside another customer: what an operator does to a customer and what is kept of it with the operators stand or
// fall together. Inside the part that customer's rows are seen and no others; after it, those of before. It is for operators' acts alone, which archtest checks.
// Its errors must undo the whole transaction.
func (tx *Tx) AsCustomer(customer id.Customer, work func(tx *Tx) error) (err error) {
	if _, ok := tx.orm.Statement.ConnPool.(*sql.Tx); !ok {
		return errors.New("postgres: only a part of a transaction can be inside another customer")
	}
	// The setting is the transaction's, so its end brings back what the connection remembers, whatever happens here.
	enter := func(customer id.Customer) error {
		return tx.ORM().Exec("select set_config('app.customer_id', ?, true)", customer.String()).Error
	}
	if err := enter(customer); err != nil {
		return err
	}
	defer func() {
		if back := enter(tx.Customer); err == nil { // after an error of the database nothing can be set, and nothing will be kept
			err = back
		}
	}()
	part := *tx
	part.Customer = customer
	return work(&part)
}

// InCustomerAutocommit runs work inside a customer of which each statement is a transaction of its own. It saves the round trips of BEGIN and COMMIT
// where one statement does everything, reading or writing. Nothing holds two statements together.
func (db *DB) InCustomerAutocommit(ctx context.Context, customer id.Customer, work func(tx *Tx) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), workTimeout)
	defer cancel()
	return again(func() error {
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
	return again(func() error {
		return p.connection(ctx, customer, func(ctx context.Context, conn *sql.Conn) error {
			begun, err := conn.BeginTx(ctx, nil)
			if err != nil {
				return err
			}
			defer begun.Rollback() //nolint:errcheck // after a commit there is nothing to undo; otherwise the connection's end undoes it
			tx := p.tx(ctx, begun, customer, now)
			tx.last = new([]closing)
			if err := work(tx); err != nil {
				return err
			}
			for _, one := range *tx.last {
				if err := one.do(tx, one.things); err != nil {
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

// connection lends a connection that is set to the customer. It waits for one until the context's deadline, which then becomes the deadline of the
// connection itself: the work gets a context that cannot end, for watching one costs a statement half of what finding its row does.
func (p *pool) connection(ctx context.Context, customer id.Customer, use func(ctx context.Context, conn *sql.Conn) error) error {
	conn, err := p.sql.Conn(ctx)
	if err != nil {
		return translate(err)
	}
	defer conn.Close() //nolint:errcheck // gives it back to the pool
	deadline, _ := ctx.Deadline()
	ctx = context.WithoutCancel(ctx)
	defer conn.Raw(func(driver any) error { //nolint:errcheck // of a connection that is broken nothing is wanted any more
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

// committedSafely reports a commit that PostgreSQL could not see onto its standby.
func committedSafely(conn *sql.Conn) error {
	return conn.Raw(func(driver any) error {
		data := driver.(*stdlib.Conn).Conn().PgConn().CustomData()
		if data[unsafeCommit] == true {
			delete(data, unsafeCommit)
			return fault.New(fault.ServiceUnavailable, "The change may not have been kept. Look before you repeat it.")
		}
		return nil
	})
}

func again(work func() error) error {
	var err error
	for range attempts {
		err = work()
		if code := sqlState(err); code != "40001" && code != "40P01" {
			return err
		}
	}
	return unavailable(err)
}

// Ping tells whether the database answers to both roles.
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
