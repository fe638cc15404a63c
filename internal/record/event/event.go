// Package event is what customers are told of what happened: a part of the trail, by ids, type and time alone.
//
// Owns: which acts are events, the events themselves, how they are listed, and for how long they are kept.
// Does not own: the trail and its order (audit), and how customers are told (webhook).
//
// Events are derived and not recorded beside the act: when entries of the trail have got their places in its order, those that are events become rows
// in the same transaction, numbered by their places. So there is no act without its event and no event without its act, the order is one that no
// late commit changes, and whoever reads on from an event misses nothing.
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

// Type is what happened. The set is closed.
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
	everythingOfRequests           = "data_subject_request."
	userEnabled                    = string(audit.UserEnabled)
	retention                      = 90 * 24 * time.Hour
)

// SubjectType is what an event is about. The set is closed.
type SubjectType string

// The subjects.
const (
	OfUser         SubjectType = "user"
	OfAlert        SubjectType = "alert"
	OfRequest      SubjectType = "data_subject_request"
	OfSubprocessor SubjectType = "subprocessor"
	OfBreach       SubjectType = "breach_notice"
)

// about says what the events of each type are about.
var about = map[Type]SubjectType{
	UserCreated: OfUser, UserCorrected: OfUser, UserDisabled: OfUser, UserRedacted: OfUser, UserDeleted: OfUser, UserAlertsChanged: OfUser,
	AlertSent: OfAlert, DataSubjectRequestUpdated: OfRequest, SubprocessorAnnounced: OfSubprocessor, BreachNotified: OfBreach,
}

// Event is one event. Its id is the one of the entry that it comes from.
type Event struct {
	Number      int64 // its place in the order of the trail
	ID          id.Entry
	Type        Type
	SubjectType SubjectType
	SubjectID   uuid.UUID
	OccurredAt  time.Time
}

// typeOf tells which type of event an act is, if any.
func typeOf(action string) (Type, bool) {
	switch {
	case action == userEnabled: // the set of types has no word of its own for it
		return UserCorrected, true
	case strings.HasPrefix(action, everythingOfRequests):
		return DataSubjectRequestUpdated, true
	}
	_, known := about[Type(action)]
	return Type(action), known
}

// of makes an event of an entry, if it is one: an act of the service's own. What integrations write into the trail is theirs to tell.
func of(sequenced audit.Sequenced) (Event, bool) {
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
		Number: sequenced.Index, ID: entry.ID, Type: kind, SubjectType: about[kind], SubjectID: subject, OccurredAt: entry.OccurredAt,
	}, true
}

// Body is the event as it is told: what a webhook carries, and a row of GET /v1/events.
func (e Event) Body() []byte {
	text, err := json.Marshal(body{
		ID: e.ID, Type: e.Type, Timestamp: e.OccurredAt.UTC(), Data: map[string]uuid.UUID{string(e.SubjectType) + "_id": e.SubjectID},
	})
	if err != nil {
		panic("event: " + err.Error()) // ids, words and times always encode
	}
	return text
}

// Ping is a body in the form of an event's that tells of nothing.
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
	return fault.New(fault.EventGone, "The event to go on from is older than 90 days, or never was.").At("?after", "is no event that is kept")
}
