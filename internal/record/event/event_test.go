package event

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/record/audit"
)

func TestWhichActsAreEvents(t *testing.T) {
	t.Parallel()
	for action, want := range map[string]Type{
		"user.created": UserCreated, "user.corrected": UserCorrected, "user.disabled": UserDisabled,
		"user.enabled": UserCorrected, "user.redacted": UserRedacted,
		"user.deleted": UserDeleted, "user.alerts_changed": UserAlertsChanged,
		"alert.sent": AlertSent, "alert.raised": "",
		"data_subject_request.created":   DataSubjectRequestUpdated,
		"data_subject_request.fulfilled": DataSubjectRequestUpdated,
		"subprocessor.announced":         SubprocessorAnnounced, "breach.notified": BreachNotified,
		"user.password_changed": "", "user.second_factor_added": "", "api_key.created": "",
		"webhook_endpoint.changed": "", "ping": "", "": "",
	} {
		subject := uuid.New()
		entry := audit.Sequenced{Index: 7, Entry: audit.Entry{
			ID:         id.New[id.Entry](),
			Source:     audit.SourceSteward,
			Action:     action,
			Target:     audit.Target{Type: "whatever", ID: subject.String()},
			OccurredAt: time.Unix(0, 0),
		}}
		got, is := derive(entry)
		if is != (want != "") || got.Type != want ||
			is && (got.Number != 7 || got.ID != entry.Entry.ID || got.SubjectID != subject || got.SubjectType == "") {
			t.Errorf("%s gives %+v", action, got)
		}
		entry.Entry.Source = audit.SourceIntegration
		if _, is := derive(entry); is {
			t.Errorf("what an integration writes as %s is an event", action)
		}
		entry.Entry.Source, entry.Entry.Target.ID = audit.SourceSteward, "4711"
		if _, is := derive(entry); is {
			t.Errorf("%s about what has no id is an event", action)
		}
	}
}

func TestBody(t *testing.T) {
	t.Parallel()
	entry, subject := uuid.MustParse(
		"019ab3c4-5d6e-7f80-9a1b-2c3d4e5f6071",
	), uuid.MustParse(
		"019ab3c4-5d6e-7f80-9a1b-2c3d4e5f6072",
	)
	for kind, member := range map[SubjectType]string{
		OfUser: "user_id", OfAlert: "alert_id", OfRequest: "data_subject_request_id",
		OfSubprocessor: "subprocessor_id", OfBreach: "breach_notice_id",
	} {
		one := Event{
			ID:          id.Entry{UUID: entry},
			Type:        UserCreated,
			SubjectType: kind,
			SubjectID:   subject,
			OccurredAt:  time.Date(2026, 3, 1, 13, 0, 0, 0, time.FixedZone("", 3600)),
		}
		want := `{"id":"019ab3c4-5d6e-7f80-9a1b-2c3d4e5f6071","type":"user.created",` +
			`"timestamp":"2026-03-01T12:00:00Z","data":{"` + member + `":"019ab3c4-5d6e-7f80-9a1b-2c3d4e5f6072"}}`
		if got := string(one.Body()); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
