package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/fusionspim/steward/api"
	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/record/audit"
)

// ListAuditEntries implements GET /v1/audit-entries.
func (h handlers) ListAuditEntries(
	ctx context.Context,
	request api.ListAuditEntriesRequestObject,
) (api.ListAuditEntriesResponseObject, error) {
	asked, err := h.pageOf(ctx, request.Params.Limit, request.Params.Cursor)
	if err != nil {
		return nil, err
	}
	filter := audit.Filter{
		Action: orEmpty(
			request.Params.Action,
		),
		TargetType: orEmpty(request.Params.TargetType),
		TargetID:   orEmpty(request.Params.TargetID),
		From:       request.Params.From,
		To:         request.Params.To,
	}
	if request.Params.ActorUserID != nil {
		filter.ActorUserID = &id.User{UUID: *request.Params.ActorUserID}
	}
	entries, err := h.features.Audit.List(ctx, caller(ctx), filter, id.Entry{UUID: asked.before}, asked.limit+1)
	if err != nil {
		return nil, err
	}
	entries, next, link := cut(asked, entries, func(one audit.Entry) uuid.UUID { return one.ID.UUID })
	data := make([]api.AuditEntry, len(entries))
	for i, one := range entries {
		data[i] = toEntry(one)
	}
	return api.ListAuditEntries200JSONResponse{
		Body: api.AuditEntryPage{
			Data:       data,
			NextCursor: next,
		},
		Headers: api.ListAuditEntries200ResponseHeaders{Link: link},
	}, nil
}

// sentEntry is an entry as the caller sent it. Its details stay raw JSON; the generated type would
// decode them.
type sentEntry struct {
	ActorUserID uuid.UUID `json:"actor_user_id"`
	Action      string    `json:"action"`
	Target      struct {
		Type string `json:"type"`
		ID   string `json:"id"`
	} `json:"target"`
	OccurredAt time.Time       `json:"occurred_at"`
	SourceID   string          `json:"source_id"`
	Details    json.RawMessage `json:"details"`
}

// CreateAuditEntries implements POST /v1/audit-entries.
func (h handlers) CreateAuditEntries(
	ctx context.Context,
	request api.CreateAuditEntriesRequestObject,
) (api.CreateAuditEntriesResponseObject, error) {
	body := bytes.TrimSpace(*request.Body)
	many := body[0] == '['
	var sent []sentEntry
	var err error
	if many {
		err = json.Unmarshal(body, &sent)
	} else {
		sent = make([]sentEntry, 1)
		err = json.Unmarshal(body, &sent[0])
	}
	if err != nil {
		return nil, fault.Because(err, fault.MalformedRequest, "A time is not of the form that the contract asks for.").
			At("", "holds a time that does not exist")
	}
	entries := make([]audit.NewEntry, len(sent))
	for i, one := range sent {
		entries[i] = audit.NewEntry{
			ActorUserID: id.User{
				UUID: one.ActorUserID,
			},
			Action:     one.Action,
			Target:     audit.Target{Type: one.Target.Type, ID: one.Target.ID},
			OccurredAt: one.OccurredAt,
			SourceID:   one.SourceID,
			Details:    one.Details,
		}
	}
	outcomes, err := h.features.Audit.Record(
		ctx,
		caller(ctx),
		entries,
		once(ctx, h.Server, request.Params.IdempotencyKey, body,
			func(outcomes []audit.Outcome) func(http.ResponseWriter) error {
				return func(w http.ResponseWriter) error {
					answer, err := recordedAnswer(outcomes, many)
					if err != nil {
						return err
					}
					return answer.VisitCreateAuditEntriesResponse(w)
				}
			}),
	)
	if err != nil {
		return nil, err
	}
	return recordedAnswer(outcomes, many)
}

// recordedAnswer reports the outcome of each entry. A single entry that is refused fails the whole
// request.
func recordedAnswer(outcomes []audit.Outcome, many bool) (api.CreateAuditEntriesResponseObject, error) {
	if refusal := outcomes[0].Rejection; !many && refusal != nil {
		return nil, fault.New(refusal.Code, refusal.Detail).At(refusal.Pointer, refusal.Detail)
	}
	results := api.AuditEntryResults{Data: make([]api.AuditEntryResult, len(outcomes))}
	for i, outcome := range outcomes {
		row := api.AuditEntryResult{
			Status:   api.AuditEntryResultStatus(outcome.Status),
			SourceID: nonEmpty(outcome.SourceID),
		}
		switch outcome.Status {
		case audit.Created:
			results.Created++
		case audit.Existing:
			results.Existing++
		case audit.Rejected:
			results.Refused++
			entry, _ := fault.Describe(outcome.Rejection.Code)
			pointer := "/" + decimal(i) + outcome.Rejection.Pointer
			row.Problem = &api.RowProblem{
				Type: "/problems/" + string(
					entry.Code,
				),
				Title:   entry.Title,
				Detail:  outcome.Rejection.Detail,
				Pointer: &pointer,
			}
		}
		if !outcome.ID.IsZero() {
			row.ID = &outcomes[i].ID.UUID
		}
		results.Data[i] = row
	}
	if !many && results.Created == 1 {
		return api.CreateAuditEntries201JSONResponse{Body: results}, nil
	}
	return api.CreateAuditEntries200JSONResponse{Body: results}, nil
}

func toEntry(one audit.Entry) api.AuditEntry {
	entry := api.AuditEntry{
		ID:       one.ID.UUID,
		Source:   api.AuditEntrySource(one.Source),
		SourceID: one.SourceID,
		Action:   one.Action,
		Actor: api.AuditActor{
			Type:     api.AuditActorType(one.ActorType),
			Redacted: one.ActorRedacted,
			Label:    one.ActorLabel,
		},
		Target:     api.AuditTarget{Type: one.Target.Type, ID: one.Target.ID},
		Changed:    one.Changed,
		Details:    one.Details,
		OccurredAt: one.OccurredAt.UTC(),
		RecordedAt: one.RecordedAt.UTC(),
	}
	if one.ActorUserID != nil {
		entry.Actor.UserID = &one.ActorUserID.UUID
	}
	if one.ActorAPIKeyID != nil {
		entry.Actor.APIKeyID = &one.ActorAPIKeyID.UUID
	}
	if len(entry.Details) == 0 {
		entry.Details = json.RawMessage("{}")
	}
	return entry
}
