// Package fault is the vocabulary of errors with a meaning for the caller.
//
// Owns: the closed list of problem codes and their descriptions, and the error type that carries
// one upwards unchanged.
// Does not own: HTTP. Package httpapi turns a fault into a problem document (RFC 9457) in exactly
// one function.
package fault

import (
	"errors"
	"fmt"
	"time"
)

// Member is one invalid member of a request.
type Member struct {
	Pointer string // JSON pointer (RFC 6901) into the body, or "?name", "header name" for a parameter
	Detail  string // what is wrong; never the value
}

// Reference says how many entries of one source refer to a person, and in which period.
type Reference struct {
	Source  string
	Count   int64
	FirstAt time.Time
	LastAt  time.Time
}

// Fault is an error with a meaning for the caller. Code and Detail are shown; the cause is for the
// log alone.
type Fault struct {
	Code Code
	// One or two sentences that say what to do; holds no value from the request and no personal
	// data.
	Detail     string
	Members    []Member      // invalid members, if any
	References []Reference   // with AuditTrailIncomplete
	Receipt    string        // with UserRedacted: the path of the erasure receipt
	Redaction  string        // with AuditTrailIncomplete: the path that redacts instead
	Import     string        // where an import was interrupted: the path of what was done before
	Allowed    []string      // with MethodNotAllowed: the supported methods
	Scope      string        // with InsufficientScope: the scope that was missing
	RetryAfter time.Duration // with the kinds TooMany and Unavailable: when to try again
	cause      error
}

// New returns a fault with a code.
func New(code Code, detail string) *Fault { return &Fault{Code: code, Detail: detail} }

// Because returns a fault that hides its cause from the caller and keeps it for the log.
func Because(cause error, code Code, detail string) *Fault {
	return &Fault{Code: code, Detail: detail, cause: cause}
}

// At adds an invalid member and returns the same fault.
func (f *Fault) At(pointer, detail string) *Fault {
	f.Members = append(f.Members, Member{Pointer: pointer, Detail: detail})
	return f
}

// Error is for logs. It holds the code and the cause, never the detail of a member.
func (f *Fault) Error() string {
	if f.cause != nil {
		return fmt.Sprintf("%s: %v", f.Code, f.cause)
	}
	return string(f.Code)
}

// Unwrap returns the hidden cause.
func (f *Fault) Unwrap() error { return f.cause }

// Is reports whether an error is a fault with the code.
func Is(err error, code Code) bool {
	var f *Fault
	return errors.As(err, &f) && f.Code == code
}
