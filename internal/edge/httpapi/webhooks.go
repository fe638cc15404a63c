package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/fusionspim/steward/api"
	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/integration/webhook"
	"github.com/fusionspim/steward/internal/record/event"
)

// ListEvents implements GET /v1/events.
func (h handlers) ListEvents(
	ctx context.Context,
	request api.ListEventsRequestObject,
) (api.ListEventsResponseObject, error) {
	asked, err := h.pageOf(ctx, request.Params.Limit, request.Params.Cursor)
	if err != nil {
		return nil, err
	}
	// The list is oldest first, so a page ends before the next event.
	after := id.Entry{UUID: asked.before}
	if request.Params.After != nil {
		if request.Params.Cursor != nil {
			return nil, fault.New(fault.MalformedRequest, "A list begins in one place.").
				At("?after", "cannot be given together with cursor")
		}
		after = id.Entry{UUID: *request.Params.After}
	}
	only := event.Type("")
	if request.Params.Type != nil {
		only = event.Type(*request.Params.Type)
	}
	events, err := h.features.Events.List(ctx, caller(ctx), only, after, asked.limit+1)
	if err != nil {
		return nil, err
	}
	events, next, link := cut(asked, events, func(one event.Event) uuid.UUID { return one.ID.UUID })
	data := make([]api.Event, len(events))
	for i, one := range events {
		data[i] = toEvent(one)
	}
	return api.ListEvents200JSONResponse{
		Body:    api.EventPage{Data: data, NextCursor: next},
		Headers: api.ListEvents200ResponseHeaders{Link: link},
	}, nil
}

func toEvent(one event.Event) api.Event {
	out := api.Event{ID: one.ID.UUID, Type: api.EventType(one.Type), Timestamp: one.OccurredAt.UTC()}
	switch one.SubjectType {
	case event.OfUser:
		out.Data.UserID = &one.SubjectID
	case event.OfAlert:
		out.Data.AlertID = &one.SubjectID
	case event.OfRequest:
		out.Data.DataSubjectRequestID = &one.SubjectID
	case event.OfSubprocessor:
		out.Data.SubprocessorID = &one.SubjectID
	case event.OfBreach:
		out.Data.BreachNoticeID = &one.SubjectID
	}
	return out
}

// ListWebhookEndpoints implements GET /v1/webhook-endpoints.
func (h handlers) ListWebhookEndpoints(
	ctx context.Context,
	request api.ListWebhookEndpointsRequestObject,
) (api.ListWebhookEndpointsResponseObject, error) {
	asked, err := h.pageOf(ctx, request.Params.Limit, request.Params.Cursor)
	if err != nil {
		return nil, err
	}
	endpoints, err := h.features.Webhooks.List(ctx, caller(ctx), id.WebhookEndpoint{UUID: asked.before}, asked.limit+1)
	if err != nil {
		return nil, err
	}
	endpoints, next, link := cut(asked, endpoints, func(one webhook.Endpoint) uuid.UUID { return one.ID.UUID })
	data := make([]api.WebhookEndpoint, len(endpoints))
	for i, one := range endpoints {
		data[i] = toWebhookEndpoint(one)
	}
	return api.ListWebhookEndpoints200JSONResponse{
		Body: api.WebhookEndpointPage{
			Data:       data,
			NextCursor: next,
		},
		Headers: api.ListWebhookEndpoints200ResponseHeaders{Link: link},
	}, nil
}

// CreateWebhookEndpoint implements POST /v1/webhook-endpoints.
func (h handlers) CreateWebhookEndpoint(
	ctx context.Context,
	request api.CreateWebhookEndpointRequestObject,
) (api.CreateWebhookEndpointResponseObject, error) {
	in := webhook.New{URL: request.Body.URL, Description: orEmpty(request.Body.Description)}
	if request.Body.Events != nil {
		in.Events = toEventTypes(*request.Body.Events)
	}
	if request.Body.Status != nil {
		in.Status = webhook.Status(*request.Body.Status)
	}
	answer := func(made webhook.Made) api.CreateWebhookEndpoint201JSONResponse {
		return api.CreateWebhookEndpoint201JSONResponse{
			Body: toWebhookEndpointWithSecret(made),
			Headers: api.CreateWebhookEndpoint201ResponseHeaders{
				ETag:     etag(made.Version),
				Location: "/v1/webhook-endpoints/" + made.ID.String(),
			},
		}
	}
	made, err := h.features.Webhooks.Create(
		ctx,
		caller(ctx),
		in,
		once(ctx, h.Server, request.Params.IdempotencyKey, request.Body,
			func(made webhook.Made) func(http.ResponseWriter) error {
				return answer(made).VisitCreateWebhookEndpointResponse
			}),
	)
	if err != nil {
		return nil, err
	}
	return answer(made), nil
}

// GetWebhookEndpoint implements GET /v1/webhook-endpoints/{id}.
func (h handlers) GetWebhookEndpoint(
	ctx context.Context,
	request api.GetWebhookEndpointRequestObject,
) (api.GetWebhookEndpointResponseObject, error) {
	found, err := h.features.Webhooks.Get(ctx, caller(ctx), id.WebhookEndpoint{UUID: request.ID})
	if err != nil {
		return nil, err
	}
	return api.GetWebhookEndpoint200JSONResponse{WebhookEndpointJSONResponse: webhookEndpointAnswer(found)}, nil
}

// UpdateWebhookEndpoint implements PATCH /v1/webhook-endpoints/{id}.
func (h handlers) UpdateWebhookEndpoint(
	ctx context.Context,
	request api.UpdateWebhookEndpointRequestObject,
) (api.UpdateWebhookEndpointResponseObject, error) {
	body := request.JSONBody
	if body == nil {
		body = request.ApplicationMergePatchPlusJSONBody
	}
	patch := webhook.Patch{URL: body.URL, Description: body.Description}
	if body.Events != nil {
		types := toEventTypes(*body.Events)
		patch.Events = &types
	}
	if body.Status != nil {
		status := webhook.Status(*body.Status)
		patch.Status = &status
	}
	after, err := h.features.Webhooks.Update(
		ctx,
		caller(ctx),
		id.WebhookEndpoint{UUID: request.ID},
		patch,
		condition(request.Params.IfMatch),
	)
	if err != nil {
		return nil, err
	}
	return api.UpdateWebhookEndpoint200JSONResponse{WebhookEndpointJSONResponse: webhookEndpointAnswer(after)}, nil
}

// DeleteWebhookEndpoint implements DELETE /v1/webhook-endpoints/{id}.
func (h handlers) DeleteWebhookEndpoint(
	ctx context.Context,
	request api.DeleteWebhookEndpointRequestObject,
) (api.DeleteWebhookEndpointResponseObject, error) {
	if err := h.features.Webhooks.Delete(
		ctx,
		caller(ctx),
		id.WebhookEndpoint{UUID: request.ID},
		condition(request.Params.IfMatch),
	); err != nil {
		return nil, err
	}
	return api.DeleteWebhookEndpoint204Response{}, nil
}

// RotateWebhookEndpointSecret implements POST /v1/webhook-endpoints/{id}/rotation.
func (h handlers) RotateWebhookEndpointSecret(
	ctx context.Context,
	request api.RotateWebhookEndpointSecretRequestObject,
) (api.RotateWebhookEndpointSecretResponseObject, error) {
	overlap := webhook.DefaultOverlap
	if request.Body != nil && request.Body.OverlapSeconds != nil {
		overlap = time.Duration(*request.Body.OverlapSeconds) * time.Second
	}
	answer := func(made webhook.Made) api.RotateWebhookEndpointSecret200JSONResponse {
		return api.RotateWebhookEndpointSecret200JSONResponse{
			Body: toWebhookEndpointWithSecret(
				made,
			),
			Headers: api.RotateWebhookEndpointSecret200ResponseHeaders{ETag: etag(made.Version)},
		}
	}
	made, err := h.features.Webhooks.Rotate(
		ctx,
		caller(ctx),
		id.WebhookEndpoint{UUID: request.ID},
		overlap,
		once(
			ctx,
			h.Server,
			request.Params.IdempotencyKey,
			request.Body,
			func(made webhook.Made) func(http.ResponseWriter) error {
				return answer(made).VisitRotateWebhookEndpointSecretResponse
			},
		),
	)
	if err != nil {
		return nil, err
	}
	return answer(made), nil
}

// TestWebhookEndpoint implements POST /v1/webhook-endpoints/{id}/test. A ping is not stored, so an
// Idempotency-Key has no effect.
func (h handlers) TestWebhookEndpoint(
	ctx context.Context,
	request api.TestWebhookEndpointRequestObject,
) (api.TestWebhookEndpointResponseObject, error) {
	outcome, status, err := h.features.Webhooks.Test(ctx, caller(ctx), id.WebhookEndpoint{UUID: request.ID})
	if err != nil {
		return nil, err
	}
	answer := api.TestWebhookEndpoint200JSONResponse{Outcome: api.WebhookOutcome(outcome)}
	if status != 0 {
		number := int32(status) //nolint:gosec // a status has three digits
		answer.Status = &number
	}
	return answer, nil
}

// ListWebhookDeliveries implements GET /v1/webhook-endpoints/{id}/deliveries.
func (h handlers) ListWebhookDeliveries(
	ctx context.Context,
	request api.ListWebhookDeliveriesRequestObject,
) (api.ListWebhookDeliveriesResponseObject, error) {
	asked, err := h.pageOf(ctx, request.Params.Limit, request.Params.Cursor)
	if err != nil {
		return nil, err
	}
	only := webhook.State("")
	if request.Params.State != nil {
		only = webhook.State(*request.Params.State)
	}
	found, err := h.features.Webhooks.Deliveries(
		ctx,
		caller(ctx),
		id.WebhookEndpoint{UUID: request.ID},
		only,
		id.Entry{UUID: asked.before},
		asked.limit+1,
	)
	if err != nil {
		return nil, err
	}
	found, next, link := cut(asked, found, func(one webhook.Delivery) uuid.UUID { return one.ID.UUID })
	data := make([]api.WebhookDelivery, len(found))
	for i, one := range found {
		data[i] = toWebhookDelivery(one)
	}
	return api.ListWebhookDeliveries200JSONResponse{
		Body: api.WebhookDeliveryPage{
			Data:       data,
			NextCursor: next,
		},
		Headers: api.ListWebhookDeliveries200ResponseHeaders{Link: link},
	}, nil
}

// RetryWebhookDelivery implements POST /v1/webhook-endpoints/{id}/deliveries/{delivery_id}/retry.
func (h handlers) RetryWebhookDelivery(
	ctx context.Context,
	request api.RetryWebhookDeliveryRequestObject,
) (api.RetryWebhookDeliveryResponseObject, error) {
	answer := func(after webhook.Delivery) api.RetryWebhookDelivery202JSONResponse {
		return api.RetryWebhookDelivery202JSONResponse{Body: toWebhookDelivery(after)}
	}
	after, err := h.features.Webhooks.Repeat(
		ctx,
		caller(ctx),
		id.WebhookEndpoint{UUID: request.ID},
		id.Entry{UUID: request.DeliveryID},
		once(
			ctx,
			h.Server,
			request.Params.IdempotencyKey,
			nil,
			func(after webhook.Delivery) func(http.ResponseWriter) error {
				return answer(after).VisitRetryWebhookDeliveryResponse
			},
		),
	)
	if err != nil {
		return nil, err
	}
	return answer(after), nil
}

func webhookEndpointAnswer(found webhook.Endpoint) api.WebhookEndpointJSONResponse {
	return api.WebhookEndpointJSONResponse{
		Body:    toWebhookEndpoint(found),
		Headers: api.WebhookEndpointResponseHeaders{ETag: etag(found.Version)},
	}
}

func toWebhookEndpoint(found webhook.Endpoint) api.WebhookEndpoint {
	out := api.WebhookEndpoint{
		ID:          found.ID.UUID,
		URL:         found.URL,
		Description: found.Description,
		Events:      make(api.WebhookEvents, len(found.Events)),
		Status: api.WebhookEndpointStatus(
			found.Status,
		),
		PausedReason:            (*string)(found.PausedReason),
		PausedAt:                inUTC(found.PausedAt),
		FailingSince:            inUTC(found.FailingSince),
		PreviousSecretExpiresAt: inUTC(found.PreviousExpiresAt),
		CreatedAt:               found.CreatedAt.UTC(),
		UpdatedAt:               found.UpdatedAt.UTC(),
	}
	for i, one := range found.Events {
		out.Events[i] = api.EventType(one)
	}
	return out
}

func toWebhookEndpointWithSecret(made webhook.Made) api.WebhookEndpointWithSecret {
	one := toWebhookEndpoint(made.Endpoint)
	return api.WebhookEndpointWithSecret{
		ID:                      one.ID,
		URL:                     one.URL,
		Description:             one.Description,
		Events:                  one.Events,
		Status:                  one.Status,
		PausedReason:            one.PausedReason,
		PausedAt:                one.PausedAt,
		FailingSince:            one.FailingSince,
		PreviousSecretExpiresAt: one.PreviousSecretExpiresAt,
		CreatedAt:               one.CreatedAt,
		UpdatedAt:               one.UpdatedAt,
		Secret:                  made.Secret.Reveal(),
	}
}

func toWebhookDelivery(one webhook.Delivery) api.WebhookDelivery {
	return api.WebhookDelivery{
		ID:            one.ID.UUID,
		Event:         toEvent(one.Event),
		State:         api.WebhookDeliveryState(one.State),
		Attempts:      one.Attempts,
		NextAttemptAt: inUTC(one.NextAttemptAt),
		LastAttemptAt: inUTC(
			one.LastAttemptAt,
		),
		LastOutcome: (*string)(one.LastOutcome),
		LastStatus:  one.LastStatus,
		CreatedAt:   one.CreatedAt.UTC(),
	}
}

func toEventTypes(types []api.EventType) []event.Type {
	out := make([]event.Type, len(types))
	for i, one := range types {
		out[i] = event.Type(one)
	}
	return out
}
