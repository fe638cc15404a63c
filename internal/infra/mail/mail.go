// Package mail writes the mails of the service and hands them to a mail server.
//
// There are five kinds and no way to another: an alert, which a person may switch off, and four
// transactional ones, which belong to having an account. A Message comes out of one of the
// constructors here, each of which takes typed facts and words the rest; its fields are out of
// reach.
//
// Owns: the kinds, their wording and look, what may stand in a header, the connections to the mail
// server, and what an answer of it means.
// Does not own: who gets which mail and when (the features), trying again (their jobs), the mailbox
// of a service under development (package devmail). It keeps nothing: an address is in memory from
// the call of Send to its end.
package mail

import (
	"fmt"
	"log/slog"

	"github.com/fusionspim/steward/internal/base/address"
)

// Kind is what a mail is for. The set is closed: there is no kind for advertising, and no
// constructor that takes a kind.
type Kind string

const (
	// KindAlert tells of trouble in the customer's software. It alone obeys the person's alert
	// setting, which the caller has to ask.
	KindAlert Kind = "alert"
	// KindInvitation leads a new user to a first password.
	KindInvitation Kind = "invitation"
	// KindPasswordReset leads to another password for one that was forgotten.
	KindPasswordReset Kind = "password-reset"
	// KindPasswordChanged tells that the password is another now.
	KindPasswordChanged Kind = "password-changed"
	// KindNotice tells a customer what the contract or the law wants it to know: a new
	// subprocessor, a breach, a webhook that was paused.
	KindNotice Kind = "notice"
)

// Kinds lists every kind.
func Kinds() []Kind {
	return []Kind{KindAlert, KindInvitation, KindPasswordReset, KindPasswordChanged, KindNotice}
}

// Message is one mail to one person, worded and checked. The zero value is refused by Send.
type Message struct {
	kind        Kind
	to          address.Address
	subject     string
	text        string
	html        string
	unsubscribe string // the link of RFC 8058; alerts alone have one
}

// Kind tells what the mail is for.
func (m Message) Kind() Kind { return m.kind }

// Subject is the subject before it is encoded. It is personal where the mail names a person or a
// customer.
func (m Message) Subject() string { return m.subject }

// Text is the mail as plain text.
func (m Message) Text() string { return m.text }

// HTML is the same as an HTML document that needs nothing from elsewhere.
func (m Message) HTML() string { return m.html }

// Format implements fmt.Formatter, so that no verb prints an address or a link.
func (m Message) Format(state fmt.State, _ rune) {
	_, _ = fmt.Fprintf(state, "mail(%s)", string(m.kind))
}

// LogValue implements slog.LogValuer for the same reason.
func (m Message) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(m)) }
