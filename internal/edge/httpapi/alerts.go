package httpapi

import (
	"context"
	"fmt"
	"net/http"

	"github.com/google/uuid"

	"github.com/fusionspim/steward/api"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/integration/alert"
)

// ListAlerts implements GET /v1/alerts.
func (h handlers) ListAlerts(
	ctx context.Context,
	request api.ListAlertsRequestObject,
) (api.ListAlertsResponseObject, error) {
	asked, err := h.pageOf(ctx, request.Params.Limit, request.Params.Cursor)
	if err != nil {
		return nil, err
	}
	alerts, err := h.features.Alerts.List(ctx, caller(ctx), id.Alert{UUID: asked.before}, asked.limit+1)
	if err != nil {
		return nil, err
	}
	alerts, next, link := cut(asked, alerts, func(one alert.Alert) uuid.UUID { return one.ID.UUID })
	data := make([]api.Alert, len(alerts))
	for i, one := range alerts {
		data[i] = toAlert(one)
	}
	return api.ListAlerts200JSONResponse{
		Body:    api.AlertPage{Data: data, NextCursor: next},
		Headers: api.ListAlerts200ResponseHeaders{Link: link},
	}, nil
}

// RaiseAlert implements POST /v1/alerts.
func (h handlers) RaiseAlert(
	ctx context.Context,
	request api.RaiseAlertRequestObject,
) (api.RaiseAlertResponseObject, error) {
	in := alert.New{
		Severity: alert.Severity(
			request.Body.Severity,
		),
		Subject:   request.Body.Subject,
		Body:      request.Body.Body,
		DedupeKey: request.Body.DedupeKey,
	}
	answer := func(raised alert.Alert) api.RaiseAlert202JSONResponse {
		return api.RaiseAlert202JSONResponse{
			Body:    toAlert(raised),
			Headers: api.RaiseAlert202ResponseHeaders{Location: "/v1/alerts/" + raised.ID.String()},
		}
	}
	raised, err := h.features.Alerts.Raise(
		ctx,
		caller(ctx),
		in,
		once(ctx, h.Server, request.Params.IdempotencyKey, request.Body,
			func(raised alert.Alert) func(http.ResponseWriter) error {
				return answer(raised).VisitRaiseAlertResponse
			}),
	)
	if err != nil {
		return nil, err
	}
	return answer(raised), nil
}

// GetAlert implements GET /v1/alerts/{id}.
func (h handlers) GetAlert(ctx context.Context, request api.GetAlertRequestObject) (api.GetAlertResponseObject, error) {
	found, err := h.features.Alerts.Get(ctx, caller(ctx), id.Alert{UUID: request.ID})
	if err != nil {
		return nil, err
	}
	settled := found.Deliveries
	tag := fmt.Sprintf(
		`"%d.%d.%d.%d.%d.%d.%s"`,
		found.Times,
		found.Recipients,
		settled.Sent,
		settled.Digested,
		settled.Failed,
		settled.Skipped,
		found.State(),
	)
	return api.GetAlert200JSONResponse{Body: toAlert(found), Headers: api.GetAlert200ResponseHeaders{ETag: tag}}, nil
}

func toAlert(found alert.Alert) api.Alert {
	settled := found.Deliveries
	return api.Alert{
		ID:        found.ID.UUID,
		Severity:  api.AlertSeverity(found.Severity),
		Subject:   found.Subject,
		Body:      found.Body,
		DedupeKey: found.DedupeKey,
		State: api.AlertState(
			found.State(),
		),
		Times:        found.Times,
		CreatedAt:    found.CreatedAt.UTC(),
		LastRaisedAt: found.LastRaisedAt.UTC(),
		SentAt:       inUTC(found.FinishedAt),
		Deliveries: api.AlertDeliveries{
			Pending:  found.Pending(),
			Sent:     settled.Sent,
			Digested: settled.Digested,
			Failed:   settled.Failed,
			Skipped:  settled.Skipped,
		},
	}
}
