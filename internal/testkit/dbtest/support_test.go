package dbtest_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// recorder is a test whose failure is what is wanted. What it does not have is nil's.
type recorder struct {
	testing.TB
	said     strings.Builder
	cleanups []func()
}

func (r *recorder) Helper()                      {}
func (r *recorder) Context() context.Context     { return context.Background() }
func (r *recorder) Cleanup(f func())             { r.cleanups = append(r.cleanups, f) }
func (r *recorder) Failed() bool                 { return r.said.Len() > 0 }
func (r *recorder) Logf(format string, a ...any) {}
func (r *recorder) Errorf(format string, a ...any) {
	fmt.Fprintf(&r.said, format+"\n", a...)
}

func (r *recorder) Fatal(a ...any) {
	fmt.Fprintln(&r.said, a...)
	runtime.Goexit()
}

func (r *recorder) Fatalf(format string, a ...any) {
	r.Errorf(format, a...)
	runtime.Goexit()
}

func (r *recorder) end() {
	for i := len(r.cleanups) - 1; i >= 0; i-- {
		r.cleanups[i]()
	}
}

// query returns the first column of all rows.
func query[T any](t *testing.T, conn *pgx.Conn, statement string, args ...any) []T {
	t.Helper()
	rows, err := conn.Query(t.Context(), statement, args...)
	if err != nil {
		t.Fatalf("%v\n%s", err, statement)
	}
	values, err := pgx.CollectRows(rows, pgx.RowTo[T])
	if err != nil {
		t.Fatalf("%v\n%s", err, statement)
	}
	return values
}

func execute(t *testing.T, conn *pgx.Conn, statement string, args ...any) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), statement, args...); err != nil {
		t.Fatalf("%v\n%s", err, statement)
	}
}

// refusal returns the code and the text by which PostgreSQL refused, or nothing.
func refusal(err error) (code, text string) {
	var reported *pgconn.PgError
	if errors.As(err, &reported) {
		return reported.Code, reported.Message
	}
	return "", ""
}
