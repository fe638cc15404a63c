package publictest_test

import (
	"errors"
	"maps"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"go.yaml.in/yaml/v3"
	"pgregory.net/rapid"

	"github.com/fusionspim/steward"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/record/event"
	"github.com/fusionspim/steward/pkg/webhooksig"
)

// The library of the standard's authors accepts what we sign, and we accept what it signs.
func TestStandardWebhooksAgrees(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.SliceOfN(rapid.Byte(), 24, 64).Draw(t, "key")
		secret, err := webhooksig.SecretFromBytes(key)
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := standardwebhooks.NewWebhook(secret.Reveal())
		if err != nil {
			t.Fatal(err)
		}
		message := webhooksig.Message{
			ID: rapid.StringMatching(`[A-Za-z0-9_-]{1,64}`).
				Draw(t, "id"),
			SignedAt: time.Unix(rapid.Int64Range(0, 1<<40).Draw(t, "time"), 0).UTC(),
		}
		body := rapid.SliceOf(rapid.Byte()).Draw(t, "body")
		header := make(http.Header)
		webhooksig.Sign([]webhooksig.Secret{webhooksig.NewSecret(), secret}, header, message, body)
		if err := theirs.VerifyIgnoringTimestamp(body, header); err != nil {
			t.Fatalf("theirs does not take ours: %v", err)
		}
		signature, err := theirs.Sign(message.ID, message.SignedAt, body)
		if err != nil {
			t.Fatal(err)
		}
		header.Set(webhooksig.HeaderSignature, signature)
		if got, err := webhooksig.Verify(
			[]webhooksig.Secret{secret},
			header,
			body,
			message.SignedAt,
			0,
		); err != nil ||
			got != message {
			t.Fatalf("ours does not take theirs: %+v, %v", got, err)
		}
		header.Set(webhooksig.HeaderID, message.ID+"x")
		if _, err := webhooksig.Verify(
			[]webhooksig.Secret{secret},
			header,
			body,
			message.SignedAt,
			0,
		); !errors.Is(
			err,
			webhooksig.ErrSignature,
		) {
			t.Fatalf("another id was taken: %v", err)
		}
		if theirs.VerifyIgnoringTimestamp(body, header) == nil {
			t.Fatal("another id was taken by theirs")
		}
	})
}

// The types and members of events are those that the service sends.
func TestEventsAreTheServices(t *testing.T) {
	t.Parallel()
	subjects := map[webhooksig.EventType]event.SubjectType{
		webhooksig.UserCreated:               event.OfUser,
		webhooksig.UserCorrected:             event.OfUser,
		webhooksig.UserDisabled:              event.OfUser,
		webhooksig.UserRedacted:              event.OfUser,
		webhooksig.UserDeleted:               event.OfUser,
		webhooksig.UserAlertsChanged:         event.OfUser,
		webhooksig.AlertSent:                 event.OfAlert,
		webhooksig.DataSubjectRequestUpdated: event.OfRequest,
		webhooksig.SubprocessorAnnounced:     event.OfSubprocessor,
		webhooksig.BreachNotified:            event.OfBreach,
	}
	var contract struct {
		Components struct {
			Schemas struct {
				EventType struct {
					Enum []webhooksig.EventType `yaml:"enum"`
				} `yaml:"EventType"`
			} `yaml:"schemas"`
		} `yaml:"components"`
	}
	if err := yaml.Unmarshal(steward.Contract, &contract); err != nil {
		t.Fatal(err)
	}
	ours, theirs := slices.Sorted(
		maps.Keys(subjects),
	), slices.Sorted(
		slices.Values(contract.Components.Schemas.EventType.Enum),
	)
	if !slices.Equal(ours, theirs) {
		t.Errorf("the contract has the types %v, webhooksig %v", theirs, ours)
	}
	at := time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)
	for kind, subjectType := range subjects {
		subject := uuid.New()
		sent := event.Event{
			ID: id.Entry{
				UUID: uuid.New(),
			},
			Type:        event.Type(kind),
			SubjectType: subjectType,
			SubjectID:   subject,
			OccurredAt:  at,
		}
		got, err := webhooksig.ParseEvent(sent.Body())
		data := got.Data
		members := data.UserID + data.AlertID + data.DataSubjectRequestID + data.SubprocessorID + data.BreachNoticeID
		if err != nil || got.ID != sent.ID.String() || got.Type != kind || !got.Timestamp.Equal(at) ||
			members != subject.String() {
			t.Errorf("%s: got %+v, %v", kind, got, err)
		}
	}
	ping := id.Entry{UUID: uuid.New()}
	if got, err := webhooksig.ParseEvent(
		event.Ping(ping, at),
	); err != nil || got.Type != webhooksig.Ping ||
		got.ID != ping.String() {
		t.Errorf("a ping: got %+v, %v", got, err)
	}
}
