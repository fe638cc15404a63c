package mail

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/textproto"
	"os"
	"strings"
	"time"
)

// step is how far a mail had come.
type step string

const (
	stepMessage    step = "compose the message"
	stepPool       step = "wait for a connection"
	stepDial       step = "connect"
	stepGreeting   step = "greet"
	stepEncryption step = "encrypt"
	stepSignIn     step = "sign in"
	stepReset      step = "reset the connection"
	stepSender     step = "name the sender"
	stepRecipient  step = "name the recipient"
	stepContent    step = "send the content"
	stepAcceptance step = "wait for acceptance"
)

// Error is why a mail was not sent. It says how far it came and the codes of the mail server's
// answer. It never holds the recipient's address, nor the server's words, which often repeat it, so
// it may be logged and kept.
type Error struct {
	step      step
	code      int    // of SMTP, 0 when there was no answer
	enhanced  string // of RFC 3463, may be empty
	permanent bool
	detail    string // words of our own, or of the network before a recipient was named
	cause     error  // context.Canceled, context.DeadlineExceeded or nil
}

// Error implements error.
func (e *Error) Error() string {
	text := "mail: " + string(e.step)
	if e.code != 0 {
		text += fmt.Sprintf(": the mail server answered %d", e.code)
		if e.enhanced != "" {
			text += " " + e.enhanced
		}
	}
	if e.detail != "" {
		text += ": " + e.detail
	}
	return text
}

// Code is the mail server's answer, such as 550 (RFC 5321, 4.2), or 0 when it gave none.
func (e *Error) Code() int { return e.code }

// EnhancedCode is the finer one, such as 5.1.1 (RFC 3463), or empty.
func (e *Error) EnhancedCode() string { return e.enhanced }

// Unwrap gives the error of the context, if that ended the sending.
func (e *Error) Unwrap() error { return e.cause }

// Permanent tells whether trying the same mail again is in vain: the recipient or the content was
// refused with a code of 500 or more, or the mail could not be worded.
//
// A refusal before the recipient was named (of the connection, the credentials, the sender) is not
// permanent, whatever its code: it speaks of our settings, and mails must not be lost for a
// password that was changed at the mail server.
func Permanent(err error) bool {
	var failure *Error
	return errors.As(err, &failure) && failure.permanent
}

// Temporary tells whether to try again later: everything that is not permanent, so also errors that
// are not of this package. False for nil.
func Temporary(err error) bool { return err != nil && !Permanent(err) }

// Refusal is what a mail server, or we ourselves, refused for good. The set is closed.
type Refusal string

const (
	// RefusedRecipient is a recipient whom the mail server does not take.
	RefusedRecipient Refusal = "recipient"
	// RefusedContent is a mail that the mail server does not take.
	RefusedContent Refusal = "content"
	// RefusedMessage is a mail that cannot be worded or written.
	RefusedMessage Refusal = "message"
)

// RefusalOf says what was refused by an error that is permanent; it is empty for others.
func RefusalOf(err error) Refusal {
	var failure *Error
	if !errors.As(err, &failure) || !failure.permanent {
		return ""
	}
	switch failure.step {
	case stepRecipient:
		return RefusedRecipient
	case stepContent, stepAcceptance:
		return RefusedContent
	}
	return RefusedMessage
}

// classified says what an error at a step means. It must not let the error's text through once a
// recipient was named, and a server's text never.
func classified(ctx context.Context, at step, err error) *Error {
	failure := &Error{step: at}
	var answer *textproto.Error
	var network net.Error
	switch {
	case errors.As(err, &answer):
		failure.code, failure.enhanced = answer.Code, enhancedCode(answer)
		failure.permanent = answer.Code >= 500 && (at == stepRecipient || at == stepContent || at == stepAcceptance) &&
			!aboutUs(answer.Code)
	case ended(ctx) != nil:
		failure.cause = ended(ctx)
		failure.detail = "given up: " + failure.cause.Error()
	case errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &network) && network.Timeout():
		failure.detail = "no answer in time"
	case at == stepDial, at == stepEncryption:
		failure.detail = err.Error() // of the network or of TLS: a host, a port, a certificate
	default:
		failure.detail = "the connection was lost"
	}
	return failure
}

// ended is why a context is over. The network may notice the end of its time a moment before the
// context does.
func ended(ctx context.Context) error {
	if end, ok := ctx.Deadline(); ok && ctx.Err() == nil && !time.Now().Before(end) {
		return context.DeadlineExceeded
	}
	return ctx.Err()
}

// aboutUs tells the answers that speak of the connection and not of the mail, at whatever step: bad
// order or unknown commands, and wanting credentials or encryption (RFC 4954, RFC 3207).
func aboutUs(code int) bool {
	switch code {
	case 500, 502, 503, 530, 534, 535, 538:
		return true
	}
	return false
}

// enhancedCode reads the code at the beginning of an answer and nothing after it.
func enhancedCode(answer *textproto.Error) string {
	first, _, _ := strings.Cut(answer.Msg, " ")
	class, rest, _ := strings.Cut(first, ".")
	subject, detail, found := strings.Cut(rest, ".")
	if !found || len(class) != 1 || !strings.Contains("245", class) || !isNumber(subject) || !isNumber(detail) {
		return ""
	}
	return first
}

func isNumber(text string) bool {
	return text != "" && len(text) <= 3 && strings.Trim(text, "0123456789") == ""
}
