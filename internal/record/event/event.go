// Package event is the part of the audit trail that customers are notified of: ids, types and
// times.
//
// Owns: which acts are events, the events themselves, their listing and their retention.
// Does not own: the audit trail and its sequence (audit), and how customers are notified (webhook).
//
// Events are derived, not recorded beside the act: when entries of the trail are sequenced, those
// that are events become rows in the same transaction, numbered by the index of the entry. So every
// act has its event and every event its act, no late commit changes the order, and a client that
// continues after an event misses nothing.
package event

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/record/audit"
)

// Type is the type of an event. The set is closed.
type Type string

// The types.
const (
	UserCreated               Type = "user.created"
	UserCorrected             Type = "user.corrected"
	UserDisabled              Type = "user.disabled"
	UserRedacted              Type = "user.redacted"
	UserDeleted               Type = "user.deleted"
	UserAlertsChanged         Type = "user.alerts_changed"
	AlertSent                 Type = "alert.sent"
	DataSubjectRequestUpdated Type = "data_subject_request.updated"
	SubprocessorAnnounced     Type = "subprocessor.announced"
	BreachNotified            Type = "breach.notified"
	requestActions                 = "data_subject_request."
	userEnabled                    = string(audit.UserEnabled)
	retention                      = 90 * 24 * time.Hour
)

// SubjectType is the type of the subject of an event. The set is closed.
type SubjectType string

// The subjects.
const (
	OfUser         SubjectType = "user"
	OfAlert        SubjectType = "alert"
	OfRequest      SubjectType = "data_subject_request"
	OfSubprocessor SubjectType = "subprocessor"
	OfBreach       SubjectType = "breach_notice"
)

// about maps each type to that of its subject.
var about = map[Type]SubjectType{
	UserCreated: OfUser, UserCorrected: OfUser, UserDisabled: OfUser,
	UserRedacted: OfUser, UserDeleted: OfUser, UserAlertsChanged: OfUser,
	AlertSent: OfAlert, DataSubjectRequestUpdated: OfRequest,
	SubprocessorAnnounced: OfSubprocessor, BreachNotified: OfBreach,
}

// Event is one event. Its id is that of its entry in the audit trail.
type Event struct {
	Number      int64 // index of the entry in the audit trail
	ID          id.Entry
	Type        Type
	SubjectType SubjectType
	SubjectID   uuid.UUID
	OccurredAt  time.Time
}

// typeOf returns the type of event of an action; ok is false if the action is no event.
func typeOf(action string) (Type, bool) {
	switch {
	case action == userEnabled: // the set of types has no own word for it
		return UserCorrected, true
	case strings.HasPrefix(action, requestActions):
		return DataSubjectRequestUpdated, true
	}
	_, known := about[Type(action)]
	return Type(action), known
}

// derive returns the event of an entry; ok is false if it is none. Only acts of the service are
// events, not what integrations record.
func derive(sequenced audit.Sequenced) (Event, bool) {
	entry := sequenced.Entry
	kind, known := typeOf(entry.Action)
	if entry.Source != audit.SourceSteward || !known {
		return Event{}, false
	}
	subject, err := uuid.Parse(entry.Target.ID)
	if err != nil {
		return Event{}, false
	}
	return Event{
		Number: sequenced.Index, ID: entry.ID, Type: kind, SubjectType: about[kind], SubjectID: subject,
		OccurredAt: entry.OccurredAt,
	}, true
}

// Body returns the event in JSON, as the body of a webhook and as an item of GET /v1/events.
func (e Event) Body() []byte {
	text, err := json.Marshal(body{
		ID: e.ID, Type: e.Type, Timestamp: e.OccurredAt.UTC(),
		Data: map[string]uuid.UUID{string(e.SubjectType) + "_id": e.SubjectID},
	})
	if err != nil {
		panic("event: " + err.Error()) // ids, words and times always encode
	}
	return text
}

// Ping returns the body of a test event without data.
func Ping(ping id.Entry, at time.Time) []byte {
	text, err := json.Marshal(body{ID: ping, Type: "ping", Timestamp: at.UTC(), Data: map[string]uuid.UUID{}})
	if err != nil {
		panic("event: " + err.Error())
	}
	return text
}

type body struct {
	ID        id.Entry             `json:"id"`
	Type      Type                 `json:"type"`
	Timestamp time.Time            `json:"timestamp"`
	Data      map[string]uuid.UUID `json:"data"`
}

func gone() error {
	return fault.New(fault.EventGone, "The event to continue from is older than 90 days, or never existed.").
		At("?after", "must be an event of the last 90 days")
}
