// Package alert notifies a customer's users by mail when the customer's software reports a problem.
//
// Owns: raising alerts and joining repeats, who receives which, the record of each delivery,
// retries, the hourly digest of what exceeds the cap, and the link by which a person opts out.
// Does not own: the setting of a person (user), the wording and sending of mails (mail), the queue
// (jobs).
//
// A delivery is one row for a person and an alert. The recipients are found when the alert is
// fanned out, and checked again, together with the address, under the lock that an erasure takes,
// just before the mail is sent:
//
//	pending ──▶ sent        (accepted by the mail server)
//	   │ ▲  ├──▶ failed      (refused permanently, or for two days)
//	   └─┘  └──▶ skipped     (the person has opted out or is no longer active)
//	collected ──▶ digested, failed or skipped, together with the digest of the hour
//
// A sender leases a few deliveries by moving their due time; if it crashes, they become due again.
// A mail that is retried has the same Message-ID. Mails are sent after the short transaction that
// acquired them, and none is started more than a second after that.
//
// Each alert records when it is due to be picked up (wake_at). That time is moved while the alert
// is worked on; the work of a replica that crashed is picked up by any replica once the time is
// past.
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
	// Window is how long, from when an alert was first raised, repeats with the same key and
	// severity join it.
	Window = time.Hour
	// Kept is the retention of alerts, with their text and deliveries.
	Kept = 90 * 24 * time.Hour

	capPerHour = 10             // error mails to one person in a clock hour; more go to the digest
	tryFor     = 48 * time.Hour // for which a mail is retried
	// after the end of an hour before its digest: longer than a transaction
	slack = time.Minute
)

// Severity is the severity of an alert. The set is closed.
type Severity string

// The severities.
const (
	Error    Severity = "error"
	Critical Severity = "critical"
)

// State is the progress of an alert. The set is closed.
type State string

// The states.
const (
	Queued  State = "queued"
	Sending State = "sending"
	Sent    State = "sent"
)

// New is an alert to raise.
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

// tally counts settled deliveries.
type tally struct{ Sent, Digested, Failed, Skipped int64 }

func (t tally) total() int64 { return t.Sent + t.Digested + t.Failed + t.Skipped }

// Pending returns the number of deliveries that are not settled.
func (a Alert) Pending() int64 { return a.Recipients - a.Deliveries.total() }

// State returns the progress of the alert.
func (a Alert) State() State {
	switch {
	case a.FinishedAt != nil:
		return Sent
	case a.Recipients > 0 || a.FannedOutAt != nil:
		return Sending
	}
	return Queued
}

// clean checks what the contract cannot, and normalizes the subject.
func (in New) clean() (New, error) {
	in.Subject = strings.Join(strings.FieldsFunc(in.Subject, unicode.IsSpace), " ")
	if strings.ContainsFunc(in.Subject, unseen) || !strings.ContainsFunc(in.Subject, unicode.IsGraphic) {
		return New{}, fault.New(fault.MalformedRequest, "The subject cannot be taken.").At("/subject", "must be one line that can be read, without control characters")
	}
	if !strings.ContainsFunc(in.Body, func(char rune) bool { return unicode.IsGraphic(char) && !unicode.IsSpace(char) }) {
		return New{}, fault.New(fault.MalformedRequest, "The body cannot be taken.").At("/body", "must hold something to read")
	}
	if utf8.RuneCountInString(in.Subject) > 200 { // the contract lets no longer one through
		return New{}, fault.New(fault.MalformedRequest, "The subject cannot be taken.").At("/subject", "must be at most 200 characters")
	}
	return in, nil
}

// unseen reports whether a character is invisible, changes the direction of a line, or is not
// allowed in a line of a mail.
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
	// restored: the delivery was waiting in a restored backup, and may have been sent long ago.
	restored reason = "restored"
)

// reasonOf returns why a mail was refused permanently.
func reasonOf(err error) reason {
	switch mail.RefusalOf(err) {
	case mail.RefusedRecipient:
		return recipientRefused
	case mail.RefusedContent:
		return contentRefused
	}
	return notMailable
}

// backoff returns the wait after a number of attempts: half a minute at first, doubled each time,
// at most two hours; plus or minus a quarter, so that mails refused together are not retried
// together.
func backoff(attempts int16) time.Duration {
	wait := 2 * time.Hour
	if attempts < 9 {
		wait = min(wait, 30*time.Second<<(attempts-1))
	}
	return jittered(wait)
}

func jittered(wait time.Duration) time.Duration { return wait*3/4 + rand.N(wait/2) }

// work is the job that sends an alert. Part 0 fans it out and schedules its retries; the other
// parts help with sending a large one.
type work struct {
	Customer id.Customer `json:"customer_id"`
	Alert    id.Alert    `json:"alert_id"`
	Part     int         `json:"part"`
}

// Kind implements jobs.Arguments.
func (work) Kind() string { return "alert" }

// Policy implements jobs.Arguments. A few attempts are enough: PickUpDue enqueues an abandoned
// alert again.
func (work) Policy() jobs.Policy { return jobs.Policy{Queue: jobs.Alerts, Attempts: 3} }

// digestWork is the job that sends the due digests of a customer. The round limits it to one job
// per customer for the time of a lease.
type digestWork struct {
	Customer id.Customer `json:"customer_id"`
	Round    int64       `json:"round"`
}

// Kind implements jobs.Arguments.
func (digestWork) Kind() string { return "alert_digests" }

// Policy implements jobs.Arguments.
func (digestWork) Policy() jobs.Policy {
	return jobs.Policy{Queue: jobs.Alerts, Attempts: 3, Unique: true}
}
