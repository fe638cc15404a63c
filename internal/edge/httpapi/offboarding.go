package httpapi

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/fusionspim/steward/api"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/compliance/offboarding"
)

// bundleWriteTime is the write timeout of each piece of a bundle. The server's own timeout would
// cut off a large one.
const bundleWriteTime = 30 * time.Second

// BeginOffboarding implements POST /v1/operator/customers/{id}/offboarding.
func (h handlers) BeginOffboarding(
	ctx context.Context,
	request api.BeginOffboardingRequestObject,
) (api.BeginOffboardingResponseObject, error) {
	answer := func(begun offboarding.Offboarding) api.BeginOffboarding201JSONResponse {
		return api.BeginOffboarding201JSONResponse{
			Body: toOffboarding(
				begun,
			),
			Headers: api.BeginOffboarding201ResponseHeaders{
				ETag:     etag(begun.Version),
				Location: "/v1/operator/offboardings/" + begun.ID.String(),
			},
		}
	}
	begun, err := h.features.Offboardings.Begin(
		ctx,
		caller(ctx),
		id.Customer{UUID: request.ID},
		once(ctx, h.Server, request.Params.IdempotencyKey, nil,
			func(begun offboarding.Offboarding) func(http.ResponseWriter) error {
				return answer(begun).VisitBeginOffboardingResponse
			}),
	)
	if err != nil {
		return nil, err
	}
	return answer(begun), nil
}

// GetCustomerOffboarding implements GET /v1/operator/customers/{id}/offboarding.
func (h handlers) GetCustomerOffboarding(
	ctx context.Context,
	request api.GetCustomerOffboardingRequestObject,
) (api.GetCustomerOffboardingResponseObject, error) {
	found, err := h.features.Offboardings.Newest(ctx, id.Customer{UUID: request.ID})
	if err != nil {
		return nil, err
	}
	return api.GetCustomerOffboarding200JSONResponse{OffboardingJSONResponse: offboardingAnswer(found)}, nil
}

// ApproveOffboarding implements POST /v1/operator/customers/{id}/offboarding/approval.
func (h handlers) ApproveOffboarding(
	ctx context.Context,
	request api.ApproveOffboardingRequestObject,
) (api.ApproveOffboardingResponseObject, error) {
	answer := func(after offboarding.Offboarding) api.ApproveOffboarding200JSONResponse {
		return api.ApproveOffboarding200JSONResponse{OffboardingJSONResponse: offboardingAnswer(after)}
	}
	after, err := h.features.Offboardings.Approve(
		ctx,
		caller(ctx),
		id.Customer{UUID: request.ID},
		condition(request.Params.IfMatch),
		once(
			ctx,
			h.Server,
			request.Params.IdempotencyKey,
			nil,
			func(after offboarding.Offboarding) func(http.ResponseWriter) error {
				return answer(after).VisitApproveOffboardingResponse
			},
		),
	)
	if err != nil {
		return nil, err
	}
	return answer(after), nil
}

// CancelOffboarding implements POST /v1/operator/customers/{id}/offboarding/cancellation.
func (h handlers) CancelOffboarding(
	ctx context.Context,
	request api.CancelOffboardingRequestObject,
) (api.CancelOffboardingResponseObject, error) {
	answer := func(after offboarding.Offboarding) api.CancelOffboarding200JSONResponse {
		return api.CancelOffboarding200JSONResponse{OffboardingJSONResponse: offboardingAnswer(after)}
	}
	after, err := h.features.Offboardings.Cancel(
		ctx,
		caller(ctx),
		id.Customer{UUID: request.ID},
		condition(request.Params.IfMatch),
		once(
			ctx,
			h.Server,
			request.Params.IdempotencyKey,
			nil,
			func(after offboarding.Offboarding) func(http.ResponseWriter) error {
				return answer(after).VisitCancelOffboardingResponse
			},
		),
	)
	if err != nil {
		return nil, err
	}
	return answer(after), nil
}

// ListOffboardings implements GET /v1/operator/offboardings.
func (h handlers) ListOffboardings(
	ctx context.Context,
	request api.ListOffboardingsRequestObject,
) (api.ListOffboardingsResponseObject, error) {
	asked, err := h.pageOf(ctx, request.Params.Limit, request.Params.Cursor)
	if err != nil {
		return nil, err
	}
	var filter offboarding.Filter
	if request.Params.State != nil {
		filter.State = offboarding.State(*request.Params.State)
	}
	found, err := h.features.Offboardings.List(ctx, filter, id.Offboarding{UUID: asked.before}, asked.limit+1)
	if err != nil {
		return nil, err
	}
	found, next, link := cut(asked, found, func(one offboarding.Offboarding) uuid.UUID { return one.ID.UUID })
	data := make([]api.Offboarding, len(found))
	for i, one := range found {
		data[i] = toOffboarding(one)
	}
	return api.ListOffboardings200JSONResponse{
		Body:    api.OffboardingPage{Data: data, NextCursor: next},
		Headers: api.ListOffboardings200ResponseHeaders{Link: link},
	}, nil
}

// GetOffboarding implements GET /v1/operator/offboardings/{id}.
func (h handlers) GetOffboarding(
	ctx context.Context,
	request api.GetOffboardingRequestObject,
) (api.GetOffboardingResponseObject, error) {
	found, err := h.features.Offboardings.Get(ctx, id.Offboarding{UUID: request.ID})
	if err != nil {
		return nil, err
	}
	return api.GetOffboarding200JSONResponse{OffboardingJSONResponse: offboardingAnswer(found)}, nil
}

// GetOwnOffboarding implements GET /v1/customer/offboarding.
func (h handlers) GetOwnOffboarding(
	ctx context.Context,
	_ api.GetOwnOffboardingRequestObject,
) (api.GetOwnOffboardingResponseObject, error) {
	found, err := h.features.Offboardings.GetOwn(ctx, caller(ctx))
	if err != nil {
		return nil, err
	}
	return api.GetOwnOffboarding200JSONResponse{CustomerOffboardingJSONResponse: customerOffboardingAnswer(found)}, nil
}

// SetOffboardingRecipient implements PUT /v1/customer/offboarding/recipient.
func (h handlers) SetOffboardingRecipient(
	ctx context.Context,
	request api.SetOffboardingRecipientRequestObject,
) (api.SetOffboardingRecipientResponseObject, error) {
	after, err := h.features.Offboardings.SetRecipient(
		ctx,
		caller(ctx),
		request.Body.Recipient,
		condition(request.Params.IfMatch),
	)
	if err != nil {
		return nil, err
	}
	return api.SetOffboardingRecipient200JSONResponse{
		CustomerOffboardingJSONResponse: customerOffboardingAnswer(after),
	}, nil
}

// RenewOffboardingBundle implements POST /v1/customer/offboarding/bundle.
func (h handlers) RenewOffboardingBundle(
	ctx context.Context,
	request api.RenewOffboardingBundleRequestObject,
) (api.RenewOffboardingBundleResponseObject, error) {
	answer := func(after offboarding.Offboarding) api.RenewOffboardingBundle202JSONResponse {
		return api.RenewOffboardingBundle202JSONResponse{
			Body:    toCustomerOffboarding(after),
			Headers: api.RenewOffboardingBundle202ResponseHeaders{ETag: etag(after.Version)},
		}
	}
	after, err := h.features.Offboardings.Renew(
		ctx,
		caller(ctx),
		once(ctx, h.Server, request.Params.IdempotencyKey, nil,
			func(after offboarding.Offboarding) func(http.ResponseWriter) error {
				return answer(after).VisitRenewOffboardingBundleResponse
			}),
	)
	if err != nil {
		return nil, err
	}
	return answer(after), nil
}

// CollectOffboardingBundle implements GET /v1/customer/offboarding/bundle.
func (h handlers) CollectOffboardingBundle(
	ctx context.Context,
	_ api.CollectOffboardingBundleRequestObject,
) (api.CollectOffboardingBundleResponseObject, error) {
	collected, err := h.features.Offboardings.Collect(ctx, caller(ctx), headAlone(ctx))
	if err != nil {
		return nil, err
	}
	var body io.Reader = bytes.NewReader(nil)
	var length int64
	if collected.Content != nil {
		body, length = patient{collected.Content, http.NewResponseController(callOf(ctx).writer)}, collected.Size
	}
	headers := func(ending string) api.CollectOffboardingBundle200ResponseHeaders {
		return api.CollectOffboardingBundle200ResponseHeaders{
			ETag: etag(
				collected.MadeAt.UnixMicro(),
			),
			ContentDisposition: `attachment; filename="offboarding-` + collected.Offboarding.String() + ending + `"`,
		}
	}
	if collected.Recipient != nil {
		return api.CollectOffboardingBundle200ApplicationOctetStreamResponse{
			Body:          body,
			ContentLength: length,
			Headers:       headers(".zip.age"),
		}, nil
	}
	return api.CollectOffboardingBundle200ApplicationZipResponse{
		Body:          body,
		ContentLength: length,
		Headers:       headers(".zip"),
	}, nil
}

// patient extends the write deadline before each piece of a long response.
type patient struct {
	io.ReadCloser
	connection *http.ResponseController
}

// Read implements io.Reader.
func (p patient) Read(into []byte) (int, error) {
	// Deadlines of connections use the machine's own clock.
	if err := p.connection.SetWriteDeadline(
		time.Now().Add(bundleWriteTime),
	); err != nil &&
		!errors.Is(err, http.ErrNotSupported) {
		return 0, err
	}
	return p.ReadCloser.Read(into)
}

func offboardingAnswer(found offboarding.Offboarding) api.OffboardingJSONResponse {
	return api.OffboardingJSONResponse{
		Body:    toOffboarding(found),
		Headers: api.OffboardingResponseHeaders{ETag: etag(found.Version)},
	}
}

func customerOffboardingAnswer(found offboarding.Offboarding) api.CustomerOffboardingJSONResponse {
	return api.CustomerOffboardingJSONResponse{
		Body:    toCustomerOffboarding(found),
		Headers: api.CustomerOffboardingResponseHeaders{ETag: etag(found.Version)},
	}
}

func toOffboarding(found offboarding.Offboarding) api.Offboarding {
	out := api.Offboarding{
		ID:          found.ID.UUID,
		Customer:    api.OffboardedCustomer{ID: found.Customer.UUID, Slug: found.Slug, Name: found.Name},
		State:       api.OffboardingState(found.State),
		RequestedAt: found.RequestedAt.UTC(),
		RequestedBy: found.RequestedBy.UUID,
		ApprovedAt:  inUTC(found.ApprovedAt),
		ApprovedBy:  bare(found.ApprovedBy),
		DeletesAt: inUTC(
			found.DeletesAt,
		),
		CancelledAt: inUTC(found.CancelledAt),
		CancelledBy: bare(found.CancelledBy),
		DeletingAt:  inUTC(found.DeletingAt),
		DeletedAt: inUTC(
			found.DeletedAt,
		),
		LiveCompleteAt:  inUTC(found.LiveCompleteAt),
		Removed:         make([]api.StoreCount, len(found.Removed)),
		BackupsExpireAt: inUTC(found.BackupsExpireAt),
		FinalAt:         inUTC(found.FinalAt),
		Bundle:          toOffboardingBundle(found.Bundle),
		UpdatedAt:       found.UpdatedAt.UTC(),
	}
	if found.JWS != "" {
		out.Jws = &found.JWS
	}
	for i, one := range found.Removed {
		out.Removed[i] = api.StoreCount{Store: one.Store, Count: one.Count}
	}
	return out
}

func toCustomerOffboarding(found offboarding.Offboarding) api.CustomerOffboarding {
	return api.CustomerOffboarding{
		ID:          found.ID.UUID,
		State:       api.OffboardingState(found.State),
		RequestedAt: found.RequestedAt.UTC(),
		ApprovedAt:  inUTC(found.ApprovedAt),
		DeletesAt:   inUTC(found.DeletesAt),
		CancelledAt: inUTC(
			found.CancelledAt,
		),
		Recipient:      found.Recipient,
		BundleWantedAt: inUTC(found.BundleWantedAt),
		Bundle:         toOffboardingBundle(found.Bundle),
		Guidance:       api.Guidance{Text: offboardingGuidance(found.State)},
		UpdatedAt:      found.UpdatedAt.UTC(),
	}
}

// offboardingGuidance tells an administrator what can be done in this state.
func offboardingGuidance(state offboarding.State) string {
	switch state {
	case offboarding.Requested:
		return "Fusions has begun to end your contract, and a second person at Fusions has yet to approve it. If this is a mistake, tell Fusions."
	case offboarding.Approved:
		return "Your contract ends. Everything works as before until deletes_at; then everything that is kept for you is deleted. Collect your bundle with " +
			"GET /v1/customer/offboarding/bundle before that. If this is a mistake, tell Fusions."
	case offboarding.Cancelled:
		return "The end of your contract was cancelled. Nothing was deleted."
	case offboarding.Deleting, offboarding.Deleted:
	}
	return "Everything that was kept for you is deleted."
}

func toOffboardingBundle(found *offboarding.Bundle) *api.OffboardingBundle {
	if found == nil {
		return nil
	}
	return &api.OffboardingBundle{
		MadeAt:      found.MadeAt.UTC(),
		Size:        found.Size,
		Recipient:   found.Recipient,
		CollectedAt: inUTC(found.CollectedAt),
	}
}

// bare converts an operator's id to the contract's type.
func bare(operator *id.User) *uuid.UUID {
	if operator == nil {
		return nil
	}
	return &operator.UUID
}
