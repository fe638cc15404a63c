package webhooksig

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// EventType says what happened. More types may be added.
type EventType string

// The types of events. An endpoint receives those that it was created with.
const (
	// UserCreated: a user was created.
	UserCreated EventType = "user.created"
	// UserCorrected: the name, address or role of a user was changed, or the user was enabled
	// again.
	UserCorrected EventType = "user.corrected"
	// UserDisabled: a user can no longer sign in.
	UserDisabled EventType = "user.disabled"
	// UserRedacted: everything personal of a user was removed; the id stays. Remove your copies.
	UserRedacted EventType = "user.redacted"
	// UserDeleted: a user was removed with the id. Remove your copies.
	UserDeleted EventType = "user.deleted"
	// UserAlertsChanged: a user was opted in to or out of alerts.
	UserAlertsChanged EventType = "user.alerts_changed"
	// AlertSent: the mails of an alert were sent.
	AlertSent EventType = "alert.sent"
	// DataSubjectRequestUpdated: a data-subject request was filed or changed its state.
	DataSubjectRequestUpdated EventType = "data_subject_request.updated"
	// SubprocessorAnnounced: a new subprocessor was announced.
	SubprocessorAnnounced EventType = "subprocessor.announced"
	// BreachNotified: a notice of a personal-data breach was sent.
	BreachNotified EventType = "breach.notified"
	// Ping: a test of the endpoint, about nothing.
	Ping EventType = "ping"
)

// Event is the body of a webhook. It holds ids and nothing personal: fetch what it is about from
// the API.
type Event struct {
	ID        string    `json:"id"` // the same whenever the webhook is sent again
	Type      EventType `json:"type"`
	Timestamp time.Time `json:"timestamp"` // when it happened
	Data      EventData `json:"data"`
}

// EventData names what an event is about. The id that belongs to the type is set, the others are
// empty.
type EventData struct {
	UserID               string `json:"user_id,omitempty"`
	AlertID              string `json:"alert_id,omitempty"`
	DataSubjectRequestID string `json:"data_subject_request_id,omitempty"`
	SubprocessorID       string `json:"subprocessor_id,omitempty"`
	BreachNoticeID       string `json:"breach_notice_id,omitempty"`
}

// ParseEvent reads the body of a webhook, which must have been verified before. Members that it
// does not know are ignored. The only error is [ErrEvent], with what is wrong.
func ParseEvent(body []byte) (Event, error) {
	var event Event
	if err := json.Unmarshal(body, &event); err != nil {
		return Event{}, fmt.Errorf("%w: %w", ErrEvent, err)
	}
	if event.ID == "" || event.Type == "" {
		return Event{}, fmt.Errorf("%w: it has no id or no type", ErrEvent)
	}
	return event, nil
}

// NewHandler returns a receiver that verifies each webhook with the secrets and the clock of this
// machine, and calls receive with its event.
//
// Steward waits ten seconds for an answer, so receive should store the event and return; the
// context is that of the request. The same event may arrive more than once, also at the same time.
// Unknown types arrive too.
//
// The handler answers 204 when receive returns nil, and 500 when it returns an error, after which
// Steward sends the webhook again later. What was not verified is answered with 401, or with 405,
// 413 or 400 for another method, a body over [MaxBodyBytes] and a body that cannot be read, and
// never reaches receive.
func NewHandler(secrets []Secret, receive func(ctx context.Context, event Event) error) http.Handler {
	secrets = append([]Secret(nil), secrets...)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			w.Header().Set("Allow", http.MethodPost)
			answer(w, http.StatusMethodNotAllowed)
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBodyBytes))
		var tooLong *http.MaxBytesError
		switch {
		case errors.As(err, &tooLong):
			answer(w, http.StatusRequestEntityTooLarge)
			return
		case err != nil:
			answer(w, http.StatusBadRequest)
			return
		}
		message, err := VerifyNow(secrets, r.Header, body)
		if err != nil {
			answer(w, http.StatusUnauthorized)
			return
		}
		event, err := ParseEvent(body)
		if err != nil || event.ID != message.ID {
			answer(w, http.StatusBadRequest)
			return
		}
		if err := receive(r.Context(), event); err != nil {
			answer(w, http.StatusInternalServerError)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
}

func answer(w http.ResponseWriter, status int) { http.Error(w, http.StatusText(status), status) }
