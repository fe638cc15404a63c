// Package fault is the vocabulary of everything that can go wrong for a caller.
//
// Owns: the closed list of problem codes with what each means, and the error type that carries one upwards unchanged.
// Does not own: HTTP. Package httpapi turns a fault into a problem document (RFC 9457) in exactly one function.
package fault

import (
	"errors"
	"fmt"
	"time"
)

// Member is one member of a request that is at fault.
type Member struct {
	Pointer string // JSON pointer (RFC 6901) into the body, or "?name", "header name" for a parameter
	Detail  string // what is wrong; never the value
}

// Reference says how many entries of one source refer to a person, and from when to when.
type Reference struct {
	Source  string
	Count   int64
	FirstAt time.Time
	LastAt  time.Time
}

// Fault is an error with a meaning for the caller. Code and Detail are shown; the cause is for the log alone.
type Fault struct {
	Code       Code
	Detail     string        // one or two sentences that say what to do; holds no value from the request and no personal data
	Members    []Member      // members at fault, if any
	References []Reference   // with AuditTrailIncomplete
	Receipt    string        // with UserRedacted: the path of the erasure receipt
	Redaction  string        // with AuditTrailIncomplete: the path that redacts instead
	Import     string        // where an import was interrupted: the path of what was done before
	Allowed    []string      // with MethodNotAllowed: the methods that there are
	Scope      string        // with InsufficientScope: the scope that was missing
	RetryAfter time.Duration // with the kinds TooMany and Unavailable: when to try again
	cause      error
}

// New makes a fault of a code.
func New(code Code, detail string) *Fault { return &Fault{Code: code, Detail: detail} }

// Because makes a fault that hides its cause from the caller and keeps it for the log.
func Because(cause error, code Code, detail string) *Fault {
	return &Fault{Code: code, Detail: detail, cause: cause}
}

// At adds a member at fault and returns the same fault.
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

// Is tells whether an error is a fault of the code.
func Is(err error, code Code) bool {
	var f *Fault
	return errors.As(err, &f) && f.Code == code
}
