package dbtest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fusionspim/steward/internal/base/sensitive"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

// How long the steps may take. They are bounds for a machine in trouble; the usual is milliseconds,
// and a second for the template.
const (
	makeTimeout = 2 * time.Minute // includes waiting for another process that makes the template
	dropTimeout = time.Minute
	patience    = 10 * time.Second // for connections that are just closing
	glance      = 2 * time.Millisecond
)

// templateLock is the advisory lock, in the database postgres of the server, of the process that
// makes a template. The number is any.
const templateLock = 7_305_112_026

const missing = Variable + ` is not set: this test needs a PostgreSQL server. Run the tests by

	make test                                            all of them
	go run ./internal/testkit/dbtest/with go test ./...          those that you name

which start a private one, or set the variable to the URL of a superuser of a server of yours.`

// kind says what a new database is a copy of.
type kind int

const (
	migrated kind = iota
	empty
)

// create makes a database that is dropped at the end of the test.
func create(t testing.TB, what kind) (sensitive.String, error) {
	t.Helper()
	server := sensitive.New(os.Getenv(Variable))
	if server.IsEmpty() {
		return server, errors.New(missing)
	}
	ctx, cancel := context.WithTimeout(t.Context(), makeTimeout)
	defer cancel()
	conn, err := maintenance(ctx, server)
	if err != nil {
		return server, fmt.Errorf("dbtest: the server of %s: %w", Variable, err)
	}
	defer release(conn)

	template := "template0"
	if what == migrated {
		hash, err := postgres.SchemaHash()
		if err != nil {
			return server, err
		}
		template = "steward_template_" + hash[:32] // PostgreSQL cuts names at 63 bytes
		if err := ensureTemplate(ctx, conn, server, template); err != nil {
			return server, fmt.Errorf("dbtest: making the template database: %w", err)
		}
	}
	name := "steward_test_" + random()
	address, err := ofDatabase(server, name)
	if err != nil {
		return server, err
	}
	if _, err := conn.Exec(
		ctx,
		"create database "+quote(name)+" template "+quote(template)+strategy(conn),
	); err != nil {
		return server, fmt.Errorf("dbtest: copying %s: %w", template, err)
	}
	t.Cleanup(func() { drop(t, server, name) })
	return address, nil
}

// copyOf copies a database of this test.
func copyOf(t testing.TB, of sensitive.String) (sensitive.String, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), makeTimeout)
	defer cancel()
	server := sensitive.New(os.Getenv(Variable))
	conn, err := maintenance(ctx, server)
	if err != nil {
		return server, err
	}
	defer release(conn)
	original, err := url.Parse(of.Reveal())
	if err != nil {
		return server, errNoURL
	}
	from := strings.TrimPrefix(original.Path, "/")
	if left, err := leftOpen(ctx, conn, from); err != nil || len(left) > 0 {
		return server, fmt.Errorf(
			"dbtest: a database is copied when nothing is connected to it, and these are: %v (%w)",
			left,
			err,
		)
	}
	name := "steward_test_" + random()
	address, err := ofDatabase(server, name)
	if err != nil {
		return server, err
	}
	if _, err := conn.Exec(ctx, "create database "+quote(name)+" template "+quote(from)+strategy(conn)); err != nil {
		return server, fmt.Errorf("dbtest: copying: %w", err)
	}
	t.Cleanup(func() { drop(t, server, name) })
	return address, nil
}

// strategy makes the copy one of files, which beats one through the log by far for a small
// database. PostgreSQL 14 knows no other.
func strategy(conn *pgx.Conn) string {
	major, _, _ := strings.Cut(conn.PgConn().ParameterStatus("server_version"), ".")
	if number, err := strconv.Atoi(major); err == nil && number < 15 {
		return ""
	}
	return " strategy file_copy"
}

// ensureTemplate makes a database with the schema of this program, unless it is there.
//
// Several test processes come here at once. One makes the template under a lock, which the server
// takes back when a process is killed. The template is marked as one when it is whole, and from
// then on admits no connection: what is there without the mark was left half made, and is made
// again.
func ensureTemplate(ctx context.Context, conn *pgx.Conn, server sensitive.String, name string) (err error) {
	if whole, err := isWhole(ctx, conn, name); whole || err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, "select pg_advisory_lock($1)", templateLock); err != nil {
		return err
	}
	defer func() {
		_, unlocking := conn.Exec(ctx, "select pg_advisory_unlock($1)", templateLock)
		err = errors.Join(err, unlocking)
	}()
	if whole, err := isWhole(ctx, conn, name); whole || err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, "drop database if exists "+quote(name)+" with (force)"); err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, "create database "+quote(name)+" template template0"); err != nil {
		return err
	}
	address, err := ofDatabase(server, name)
	if err != nil {
		return err
	}
	if _, err := postgres.MigrateUp(ctx, address); err != nil {
		return err
	}
	_, err = conn.Exec(ctx, "alter database "+quote(name)+" with is_template true allow_connections false")
	return err
}

func isWhole(ctx context.Context, conn *pgx.Conn, template string) (whole bool, err error) {
	err = conn.QueryRow(ctx, "select exists (select from pg_database where datname = $1 and datistemplate)", template).
		Scan(&whole)
	return whole, err
}

// drop removes the database of a test that has ended, and reports connections that the test has
// left open.
func drop(t testing.TB, server sensitive.String, name string) {
	// the test's own context has ended
	ctx, cancel := context.WithTimeout(context.Background(), dropTimeout)
	defer cancel()
	conn, err := maintenance(ctx, server)
	if err != nil {
		t.Errorf("dbtest: the server of %s, at the end of the test: %v", Variable, err)
		return
	}
	defer release(conn)
	left, err := leftOpen(ctx, conn, name)
	if err != nil {
		t.Errorf("dbtest: looking for connections left open: %v", err)
	}
	if len(left) > 0 {
		t.Errorf(
			"dbtest: %d connections to the test's database were left open; close what the test opened beside Database.Open:\n\t%s",
			len(left),
			strings.Join(left, "\n\t"),
		)
	}
	if _, err := conn.Exec(ctx, "drop database if exists "+quote(name)+" with (force)"); err != nil {
		t.Errorf("dbtest: dropping the test's database: %v", err)
	}
}

// leftOpen describes the connections to a database. A closed connection takes the server a moment
// to see, so it waits for that; dropping at once would wait too, a tenth of a second at a time.
func leftOpen(ctx context.Context, conn *pgx.Conn, name string) (left []string, err error) {
	const open = `select format('process %s, application "%s", user %s, %s: %s', pid, application_name, usename, state, left(query, 120))
		from pg_stat_activity where datname = $1 and backend_type = 'client backend' order by pid`
	for began := time.Now(); ; time.Sleep(glance) {
		rows, err := conn.Query(ctx, open, name)
		if err != nil {
			return nil, err
		}
		left, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil || len(left) == 0 || time.Since(began) > patience {
			return left, err
		}
	}
}

// idle holds the connections by which this process makes and drops databases while no test uses
// them. They end with the process. A connection is a process of the server, which can cost more
// than all that a test asks of it: some 25 ms of a processor where it was measured.
var idle = make(chan *pgx.Conn, 4)

// maintenance returns a connection to the server that the caller gives back with release.
func maintenance(ctx context.Context, server sensitive.String) (*pgx.Conn, error) {
	for {
		select {
		case conn := <-idle:
			// The server may have ended it, for instance where it was restarted.
			if conn.Ping(ctx) == nil {
				return conn, nil
			}
			_ = conn.Close(ctx) // it is of no use already
		default:
			return connect(ctx, server)
		}
	}
}

// release gives back a connection of maintenance.
func release(conn *pgx.Conn) {
	select {
	case idle <- conn:
	default:
		_ = conn.Close(context.Background()) // nothing depends on how it ends
	}
}

func connect(ctx context.Context, address sensitive.String) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(address.Reveal())
	if err != nil {
		return nil, errNoURL // the library's error repeats the string
	}
	config.RuntimeParams["application_name"] = "steward test, superuser"
	config.RuntimeParams["timezone"] = "UTC"
	return pgx.ConnectConfig(ctx, config)
}

var errNoURL = errors.New(Variable + " is not a URL, such as postgres://postgres:secret@localhost:5432/postgres")

// ofDatabase returns the URL of another database of the server.
func ofDatabase(server sensitive.String, name string) (sensitive.String, error) {
	address, err := url.Parse(server.Reveal())
	if err != nil || address.Scheme != "postgres" && address.Scheme != "postgresql" {
		return sensitive.String{}, errNoURL
	}
	address.Path = "/" + name
	return sensitive.New(address.String()), nil
}

func quote(name string) string { return pgx.Identifier{name}.Sanitize() }

// random is long enough that no two tests ever meet.
func random() string {
	var bytes [10]byte
	_, _ = rand.Read(bytes[:]) // never fails
	return hex.EncodeToString(bytes[:])
}
