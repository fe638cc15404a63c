// Package alert is what a customer's software tells the customer's users of by mail when something has gone wrong.
//
// Owns: raising alerts and joining repeats, who gets which, the record of each delivery, when to try again, gathering what is too much for one hour, and the
// link by which a person opts out.
// Does not own: the setting of a person (user), the wording and sending of mails (mail), the queue (jobs).
//
// A delivery is one row for a person and an alert. Who gets one is found when the alert is fanned out, and asked again, together with the address, under the lock that
// an erasure takes, a moment before the mail is sent:
//
//	pending ──▶ sent        (the mail server took it)
//	   │ ▲  ├──▶ failed      (refused for good, or for two days)
//	   └─┘  └──▶ skipped     (the person is opted out or not active any more)
//	collected ──▶ digested, failed or skipped, together with the mail that gathers the hour
//
// Whoever sends takes a few deliveries by moving the time at which they are due; who dies leaves them to be due again. A mail that is tried again has the same Message-ID.
// The mails go out after the short transaction that took them, and none is begun that was taken longer ago than a second.
//
// Each alert says when somebody has to look after it again (wake_at). While it is worked on, that time is moved on; what a replica that died was at is taken up once the time is
// past, by whichever replica looks first.
package alert

import (
	"math/rand/v2"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/infra/jobs"
	"github.com/fusionspim/steward/internal/infra/mail"
)

const (
	// Window is how long repeats join an alert with the same key and severity, from when it was first raised.
	Window = time.Hour
	// Kept is how long alerts are kept, with their text and deliveries.
	Kept = 90 * 24 * time.Hour

	capPerHour = 10             // mails to one person about errors in an hour by the clock; more are gathered
	tryFor     = 48 * time.Hour // how long a mail is tried
	slack      = time.Minute    // after the end of an hour until what was gathered is sent: no transaction of the hour lasts longer
)

// Severity is how bad it is. The set is closed.
type Severity string

// The severities.
const (
	Error    Severity = "error"
	Critical Severity = "critical"
)

// State is how far an alert has come. The set is closed.
type State string

// The states.
const (
	Queued  State = "queued"
	Sending State = "sending"
	Sent    State = "sent"
)

// New is an alert that is to be raised.
type New struct {
	Severity  Severity
	Subject   string
	Body      string
	DedupeKey *string
}

// Alert is one alert.
type Alert struct {
	ID           id.Alert
	Severity     Severity
	Subject      string
	Body         string
	DedupeKey    *string
	Times        int64 // how often it was raised
	CreatedAt    time.Time
	LastRaisedAt time.Time
	FannedOutAt  *time.Time
	FinishedAt   *time.Time // when every delivery was settled
	Recipients   int64
	Deliveries   tally
}

// tally counts deliveries that are settled.
type tally struct{ Sent, Digested, Failed, Skipped int64 }

func (t tally) total() int64 { return t.Sent + t.Digested + t.Failed + t.Skipped }

// Pending counts the deliveries that are not settled.
func (a Alert) Pending() int64 { return a.Recipients - a.Deliveries.total() }

// State tells how far the alert has come.
func (a Alert) State() State {
	switch {
	case a.FinishedAt != nil:
		return Sent
	case a.Recipients > 0 || a.FannedOutAt != nil:
		return Sending
	}
	return Queued
}

// clean checks what the contract cannot and brings the texts to the form in which they are kept.
func (in New) clean() (New, error) {
	in.Subject = strings.Join(strings.FieldsFunc(in.Subject, unicode.IsSpace), " ")
	if strings.ContainsFunc(in.Subject, unseen) || !strings.ContainsFunc(in.Subject, unicode.IsGraphic) {
		return New{}, fault.New(fault.MalformedRequest, "The subject cannot be taken.").At("/subject", "must be one line that can be read, without control characters")
	}
	if !strings.ContainsFunc(in.Body, func(char rune) bool { return unicode.IsGraphic(char) && !unicode.IsSpace(char) }) {
		return New{}, fault.New(fault.MalformedRequest, "The body cannot be taken.").At("/body", "must hold something to read")
	}
	if utf8.RuneCountInString(in.Subject) > 200 { // what the contract let through is never longer
		return New{}, fault.New(fault.MalformedRequest, "The subject cannot be taken.").At("/subject", "must be at most 200 characters")
	}
	return in, nil
}

// unseen are the characters that turn the direction of a line or pretend to be nothing, and those that no line of a mail holds.
func unseen(char rune) bool {
	return char == utf8.RuneError || char == '\u2028' || char == '\u2029' || unicode.In(char, unicode.Cc, unicode.Co, unicode.Cs) ||
		char >= '\u202A' && char <= '\u202E' || char >= '\u2066' && char <= '\u2069' || char == '\uFEFF'
}

// reason is why a delivery failed or was skipped. The set is closed.
type reason string

const (
	recipientRefused reason = "recipient_refused"
	contentRefused   reason = "content_refused"
	notMailable      reason = "not_mailable"
	expired          reason = "expired"
	optedOut         reason = "opted_out"
	notActive        reason = "not_active"
	restored         reason = "restored" // the delivery is of before a restore of the database, and may have been made long ago
)

// reasonOf says why a mail is refused for good.
func reasonOf(err error) reason {
	switch mail.RefusalOf(err) {
	case mail.RefusedRecipient:
		return recipientRefused
	case mail.RefusedContent:
		return contentRefused
	}
	return notMailable
}

// backoff is how long to wait after so many attempts: half a minute at first, twice as long each time, two hours at most; a quarter more or less, so that mails that were
// refused together do not come back together.
func backoff(attempts int16) time.Duration {
	wait := 2 * time.Hour
	if attempts < 9 {
		wait = min(wait, 30*time.Second<<(attempts-1))
	}
	return jittered(wait)
}

func jittered(wait time.Duration) time.Duration { return wait*3/4 + rand.N(wait/2) }

// work is one alert that is to be fanned out and sent: a job's arguments. Part 0 fans it out and looks after it; the other parts help with sending a large one.
type work struct {
	Customer id.Customer `json:"customer_id"`
	Alert    id.Alert    `json:"alert_id"`
	Part     int         `json:"part"`
}

// Kind implements jobs.Arguments.
func (work) Kind() string { return "alert" }

// Policy says how jobs treat it. A few attempts are enough: an alert that nobody is at any more is taken up by itself.
func (work) Policy() jobs.Policy { return jobs.Policy{Queue: jobs.Alerts, Attempts: 3} }

// gathering is the mails of a customer that gather alerts and are due: a job's arguments. The round makes it one job for a while, and another one after it.
type gathering struct {
	Customer id.Customer `json:"customer_id"`
	Round    int64       `json:"round"`
}

// Kind implements jobs.Arguments.
func (gathering) Kind() string { return "alert_digests" }

// Policy says how jobs treat it.
func (gathering) Policy() jobs.Policy {
	return jobs.Policy{Queue: jobs.Alerts, Attempts: 3, Unique: true}
}
