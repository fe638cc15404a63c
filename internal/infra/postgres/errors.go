package postgres

import (
	"context"
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"gorm.io/gorm"

	"github.com/fusionspim/steward/internal/base/fault"
)

// offboardedPolicy is the row policy that stops writes for a customer that is being deleted.
// PostgreSQL names it when it rejects a row, in any language.
const offboardedPolicy = `"not_offboarded"`

// ErrNoRow is returned by reads that found nothing.
var ErrNoRow = gorm.ErrRecordNotFound

// Violates reports whether PostgreSQL rejected a statement because of the named constraint or
// unique index.
func Violates(err error, constraint string) bool {
	var reported *pgconn.PgError
	return errors.As(err, &reported) && strings.HasPrefix(reported.Code, "23") && reported.ConstraintName == constraint
}

func sqlState(err error) string {
	var reported *pgconn.PgError
	if errors.As(err, &reported) {
		return reported.Code
	}
	return ""
}

// translate turns every way in which a database can be unavailable into a fault, and returns other
// errors as they are. PostgreSQL's messages may repeat values, so none is kept: only the error's
// code is.
func translate(err error) error {
	if err == nil {
		return nil
	}
	var known *fault.Fault
	if errors.As(err, &known) {
		return err
	}
	var reported *pgconn.PgError
	if errors.As(err, &reported) {
		switch {
		case reported.Code == "42501" && strings.Contains(reported.Message, offboardedPolicy):
			// A later request is rejected earlier: no credential of the customer is valid any more.
			return fault.Because(&databaseError{reported}, fault.Unauthorized,
				"The customer's contract has ended, and its data is being deleted.")
		case strings.HasPrefix(reported.Code, "08"), // connection exceptions
			strings.HasPrefix(reported.Code, "53"),  // insufficient resources
			strings.HasPrefix(reported.Code, "57P"), // shutdown, crash, not yet up
			// System errors, such as a full disk.
			strings.HasPrefix(reported.Code, "58"),
			reported.Code == "57014",                                                     // statement_timeout
			reported.Code == "55P03",                                                     // lock_timeout
			reported.Code == "25006",                                                     // a standby, read-only
			reported.Code == "25P03",                                                     // idle in transaction for too long
			reported.Code == "28P01", reported.Code == "28000", reported.Code == "3D000": // credentials or database changed under us
			return unavailable(err)
		}
		return &databaseError{reported}
	}
	var refused *pgconn.ConnectError
	var network net.Error
	if errors.As(err, &refused) || errors.As(err, &network) || errors.Is(err, driver.ErrBadConn) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, io.EOF) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, pgx.ErrTxClosed) || errors.Is(err, net.ErrClosed) ||
		pgconn.SafeToRetry(err) || strings.Contains(err.Error(), "conn closed") {
		return unavailable(err)
	}
	return err
}

func unavailable(err error) error {
	var known *fault.Fault
	if errors.As(err, &known) {
		return err
	}
	var reported *pgconn.PgError
	if errors.As(err, &reported) {
		err = &databaseError{reported}
	}
	f := fault.Because(err, fault.ServiceUnavailable, "The database is not available. Retry in a moment.")
	f.RetryAfter = 2 * time.Second
	return f
}

// databaseError is PostgreSQL's error without its messages: a message or detail repeats the values
// of the row.
type databaseError struct{ reported *pgconn.PgError }

func (e *databaseError) Error() string {
	text := "database error " + e.reported.Code
	if e.reported.ConstraintName != "" {
		text += " on " + e.reported.ConstraintName
	}
	if e.reported.TableName != "" {
		text += " of " + e.reported.TableName
	}
	if strings.HasPrefix(e.reported.Code, "42") || strings.HasPrefix(e.reported.Code, "P0") {
		text += ": " + e.reported.Message // a mistake in a statement or a missing grant; names things, not values
	}
	return text
}

func (e *databaseError) Unwrap() error { return e.reported }

// Refers reports whether PostgreSQL refused to delete a row because another one references it.
func Refers(err error) bool { return sqlState(err) == "23503" }
