// Package webhook tells customers of events, by posting them to endpoints of theirs.
//
// Owns: the endpoints and their secrets, what becomes of each event at each endpoint, sending and trying again, and pausing what fails for good.
// Does not own: the events (event), what may be dialled (dial), how a webhook is signed (webhooksig), the wording of mails (mail).
//
// Each replica looks several times a second for endpoints that are due, and works on them under leases, so that each endpoint has one worker at a time
// wherever it is. A worker fetches some of what is to be sent, sends it in lanes, one event about the same person at a time and in their order, and
// notes what came of it several times a second. A lease that is not renewed runs out within half a minute: what a replica that died did not note is sent again, with the same webhook-id.
//
//	pending ──▶ succeeded
//	   └──▶ waiting ──▶ succeeded        (13 attempts in three days)
//	            └─────▶ failed
//
// An endpoint keeps the number of the last event that there are deliveries of. So an event costs a customer without endpoints nothing but its own row, a
// paused endpoint goes on where it stopped, and what waits is bounded by what is being sent.
package webhook

import (
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/sensitive"
	"github.com/fusionspim/steward/internal/infra/egress"
	"github.com/fusionspim/steward/internal/record/event"
)

const (
	mostEndpoints = 20 // of one customer
	longestURL    = 2000
	// DefaultOverlap is how long a secret goes on beside its successor.
	DefaultOverlap = 24 * time.Hour

	failingFor     = 72 * time.Hour      // after which an endpoint is paused
	deliveriesKept = 30 * 24 * time.Hour // once they are settled
	longestWait    = 24 * time.Hour      // that a receiver may ask for, for one delivery
	longestHold    = time.Hour           // and for all of them
)

// waits are the times between the attempts, which are one more. Each is up to a tenth longer, so that the last attempt is never earlier than
// failingFor after the first: an endpoint of which every attempt failed is paused when the first delivery is given up.
var waits = []time.Duration{
	5 * time.Second, 30 * time.Second, 2 * time.Minute, 10 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour, 4 * time.Hour, 8 * time.Hour,
	12 * time.Hour, 20 * time.Hour, 25 * time.Hour,
}

// Status is whether an endpoint is sent to. The set is closed.
type Status string

// The statuses.
const (
	Active  Status = "active"
	Paused  Status = "paused"
	deleted Status = "deleted" // seen by nobody; stays until its deliveries are dropped
)

// Reason is why an endpoint is paused. The set is closed.
type Reason string

// The reasons.
const (
	ByCustomer Reason = "by_customer"
	Failing    Reason = "failing" // every attempt failed for three days
	Gone       Reason = "gone"    // it answered 410
)

// Endpoint is where a customer wants to be told of events.
type Endpoint struct {
	ID                id.WebhookEndpoint
	URL               string
	Description       string
	Events            []event.Type // none: all
	Status            Status
	PausedReason      *Reason
	PausedAt          *time.Time
	FailingSince      *time.Time
	PreviousExpiresAt *time.Time // until which the secret before the present one signs too
	Version           int64
	CreatedAt         time.Time
	UpdatedAt         time.Time
}

// Made is an endpoint with a secret that was just made.
type Made struct {
	Endpoint
	Secret sensitive.String
}

// New is an endpoint that is to be made.
type New struct {
	URL         string
	Description string
	Events      []event.Type
	Status      Status // empty: active
}

// Patch changes an endpoint; nil members stay as they are.
type Patch struct {
	URL         *string
	Description *string
	Events      *[]event.Type
	Status      *Status
}

// apply returns the endpoint after the patch and the names of the members that differ.
func (p Patch) apply(before Endpoint, now time.Time) (after Endpoint, changed []string) {
	after = before
	if p.URL != nil && *p.URL != before.URL {
		after.URL = *p.URL
		changed = append(changed, "url")
	}
	if p.Description != nil && *p.Description != before.Description {
		after.Description = *p.Description
		changed = append(changed, "description")
	}
	if p.Events != nil && !slices.Equal(*p.Events, before.Events) {
		after.Events = *p.Events
		changed = append(changed, "events")
	}
	if p.Status != nil && *p.Status != before.Status {
		after.Status, after.PausedReason, after.PausedAt = *p.Status, nil, nil
		if after.Status == Paused {
			reason := ByCustomer
			after.PausedReason, after.PausedAt = &reason, &now
		}
		changed = append(changed, "status")
	}
	return after, changed
}

// State is what became of an event at an endpoint. The set is closed.
type State string

// The states.
const (
	Pending   State = "pending"
	Waiting   State = "waiting"
	Succeeded State = "succeeded"
	Failed    State = "failed"
)

// Outcome is what came of an attempt: one of these two, or a dial.Reason.
type Outcome string

// The outcomes that have an answer.
const (
	Delivered   Outcome = "delivered"
	OtherStatus Outcome = "status"
)

// Delivery is what became of one event at one endpoint. Its id is the event's.
type Delivery struct {
	event.Event
	State         State
	Attempts      int32
	NextAttemptAt *time.Time
	LastAttemptAt *time.Time
	LastOutcome   *Outcome
	LastStatus    *int32
	CreatedAt     time.Time
}

// checkURL makes sure that a URL may be an endpoint. What its host resolves to is looked at when it is dialled; a literal can be told now.
func checkURL(text string, policy egress.Policy) error {
	refused := func(detail string) error {
		return fault.New(fault.InvalidWebhookURL, "Webhooks do not go to that URL.").At("/url", detail)
	}
	if strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r >= 0x7f }) || len(text) > longestURL {
		return refused("must be written in ASCII, without blanks")
	}
	parsed, err := url.Parse(text)
	switch {
	case err != nil, parsed.Opaque != "", parsed.Hostname() == "", len(parsed.Hostname()) > 253:
		return refused("must be an absolute URL")
	case parsed.User != nil:
		return refused("must not have user information")
	case strings.Contains(text, "#"):
		return refused("must not have a fragment")
	case parsed.Scheme != "https" && !(parsed.Scheme == "http" && policy.PlainTo(parsed.Hostname())):
		return refused("must be an https URL")
	}
	if port := parsed.Port(); port != "" || strings.HasSuffix(parsed.Host, ":") {
		if number, err := strconv.ParseUint(port, 10, 16); err != nil || number == 0 {
			return refused("must have a port from 1 to 65535, or none")
		}
	}
	if address, err := netip.ParseAddr(parsed.Hostname()); err == nil && !policy.May(address) {
		return refused("must lead to a public address")
	}
	return nil
}

// cleanDescription brings a description to the form in which it is kept.
func cleanDescription(text string) (string, error) {
	text = norm.NFC.String(strings.TrimSpace(text))
	if utf8.RuneCountInString(text) > 200 || strings.ContainsFunc(text, unicode.IsControl) {
		return "", fault.New(fault.InvalidName, "The description cannot be taken.").At("/description", "must be up to 200 characters without control characters")
	}
	return text, nil
}

// inOrder brings types to one order, so that the same set is always the same.
func inOrder(types []event.Type) []event.Type {
	ordered := slices.Clone(types)
	slices.Sort(ordered)
	return slices.Compact(ordered)
}

func notFound() error { return fault.New(fault.ResourceNotFound, "There is no such webhook endpoint.") }

func stale() error {
	return fault.New(fault.PreconditionFailed, "The endpoint has changed. Fetch it again before you change it.")
}
