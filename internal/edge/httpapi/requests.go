package httpapi

import (
	"bytes"
	"context"
	"net/http"

	"github.com/google/uuid"

	"github.com/fusionspim/steward/api"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/compliance/subjectrequest"
	"github.com/fusionspim/steward/internal/record/receipt"
)

// bundleVersion is the version of every bundle: a bundle never changes.
const bundleVersion = 1

// ListDataSubjectRequests implements GET /v1/data-subject-requests.
func (h handlers) ListDataSubjectRequests(
	ctx context.Context,
	asked api.ListDataSubjectRequestsRequestObject,
) (api.ListDataSubjectRequestsResponseObject, error) {
	page, err := h.pageOf(ctx, asked.Params.Limit, asked.Params.Cursor)
	if err != nil {
		return nil, err
	}
	filter := requestFilter(asked.Params.State, asked.Params.Kind)
	if asked.Params.UserID != nil {
		filter.UserID = &id.User{UUID: *asked.Params.UserID}
	}
	found, err := h.features.Requests.List(ctx, caller(ctx), filter, id.DataRequest{UUID: page.before}, page.limit+1)
	if err != nil {
		return nil, err
	}
	found, next, link := cut(page, found, func(one subjectrequest.Request) uuid.UUID { return one.ID.UUID })
	data := make([]api.DataSubjectRequest, len(found))
	for i, one := range found {
		data[i] = toDataSubjectRequest(one)
	}
	return api.ListDataSubjectRequests200JSONResponse{
		Body: api.DataSubjectRequestPage{
			Data:       data,
			NextCursor: next,
		},
		Headers: api.ListDataSubjectRequests200ResponseHeaders{Link: link},
	}, nil
}

// CreateDataSubjectRequest implements POST /v1/data-subject-requests.
func (h handlers) CreateDataSubjectRequest(
	ctx context.Context,
	asked api.CreateDataSubjectRequestRequestObject,
) (api.CreateDataSubjectRequestResponseObject, error) {
	in := subjectrequest.New{
		UserID:    id.User{UUID: asked.Body.UserID},
		Kind:      subjectrequest.Kind(asked.Body.Kind),
		Recipient: asked.Body.Recipient,
	}
	if wanted := asked.Body.Corrections; wanted != nil {
		in.Corrections = subjectrequest.Corrections{
			FirstName: wanted.FirstName,
			LastName:  wanted.LastName,
			Email:     wanted.Email,
		}
	}
	answer := func(filed subjectrequest.Filed) api.CreateDataSubjectRequestResponseObject {
		if filed.Joined {
			return api.CreateDataSubjectRequest200JSONResponse{
				DataSubjectRequestJSONResponse: dataSubjectRequestAnswer(filed.Request),
			}
		}
		return api.CreateDataSubjectRequest201JSONResponse{
			Body: toDataSubjectRequest(filed.Request),
			Headers: api.CreateDataSubjectRequest201ResponseHeaders{
				ETag: etag(filed.Version), Location: "/v1/data-subject-requests/" + filed.ID.String(),
			},
		}
	}
	filed, err := h.features.Requests.File(
		ctx,
		caller(ctx),
		in,
		once(ctx, h.Server, asked.Params.IdempotencyKey, asked.Body,
			func(filed subjectrequest.Filed) func(http.ResponseWriter) error {
				return answer(filed).VisitCreateDataSubjectRequestResponse
			}),
	)
	if err != nil {
		return nil, err
	}
	return answer(filed), nil
}

// GetDataSubjectRequest implements GET /v1/data-subject-requests/{id}.
func (h handlers) GetDataSubjectRequest(
	ctx context.Context,
	asked api.GetDataSubjectRequestRequestObject,
) (api.GetDataSubjectRequestResponseObject, error) {
	found, err := h.features.Requests.Get(ctx, caller(ctx), id.DataRequest{UUID: asked.ID})
	if err != nil {
		return nil, err
	}
	return api.GetDataSubjectRequest200JSONResponse{
		DataSubjectRequestJSONResponse: dataSubjectRequestAnswer(found),
	}, nil
}

// WithdrawDataSubjectRequest implements POST /v1/data-subject-requests/{id}/withdrawal.
func (h handlers) WithdrawDataSubjectRequest(
	ctx context.Context,
	asked api.WithdrawDataSubjectRequestRequestObject,
) (api.WithdrawDataSubjectRequestResponseObject, error) {
	answer := func(after subjectrequest.Request) api.WithdrawDataSubjectRequest200JSONResponse {
		return api.WithdrawDataSubjectRequest200JSONResponse{
			DataSubjectRequestJSONResponse: dataSubjectRequestAnswer(after),
		}
	}
	after, err := h.features.Requests.Withdraw(
		ctx,
		caller(ctx),
		id.DataRequest{UUID: asked.ID},
		condition(asked.Params.IfMatch),
		once(
			ctx,
			h.Server,
			asked.Params.IdempotencyKey,
			nil,
			func(after subjectrequest.Request) func(http.ResponseWriter) error {
				return answer(after).VisitWithdrawDataSubjectRequestResponse
			},
		),
	)
	if err != nil {
		return nil, err
	}
	return answer(after), nil
}

// CollectDataSubjectRequestBundle implements GET /v1/data-subject-requests/{id}/bundle.
func (h handlers) CollectDataSubjectRequestBundle(
	ctx context.Context,
	asked api.CollectDataSubjectRequestBundleRequestObject,
) (api.CollectDataSubjectRequestBundleResponseObject, error) {
	collected, err := h.features.Requests.Collect(ctx, caller(ctx), id.DataRequest{UUID: asked.ID}, headAlone(ctx))
	if err != nil {
		return nil, err
	}
	body, length := bytes.NewReader(collected.Content), int64(len(collected.Content))
	headers := func(ending string) api.CollectDataSubjectRequestBundle200ResponseHeaders {
		return api.CollectDataSubjectRequestBundle200ResponseHeaders{
			ETag: etag(
				bundleVersion,
			),
			ContentDisposition: `attachment; filename="data-subject-request-` + asked.ID.String() + ending + `"`,
		}
	}
	if collected.Encrypted {
		return api.CollectDataSubjectRequestBundle200ApplicationOctetStreamResponse{
			Body:          body,
			ContentLength: length,
			Headers:       headers(".zip.age"),
		}, nil
	}
	return api.CollectDataSubjectRequestBundle200ApplicationZipResponse{
		Body:          body,
		ContentLength: length,
		Headers:       headers(".zip"),
	}, nil
}

// ListDataSubjectRequestsAsOperator implements GET /v1/operator/data-subject-requests.
func (h handlers) ListDataSubjectRequestsAsOperator(
	ctx context.Context,
	asked api.ListDataSubjectRequestsAsOperatorRequestObject,
) (api.ListDataSubjectRequestsAsOperatorResponseObject, error) {
	page, err := h.pageOf(ctx, asked.Params.Limit, asked.Params.Cursor)
	if err != nil {
		return nil, err
	}
	found, err := h.features.Requests.ListAll(
		ctx,
		requestFilter(asked.Params.State, asked.Params.Kind),
		id.DataRequest{UUID: page.before},
		page.limit+1,
	)
	if err != nil {
		return nil, err
	}
	found, next, link := cut(page, found, func(one subjectrequest.Request) uuid.UUID { return one.ID.UUID })
	data := make([]api.OperatorDataSubjectRequest, len(found))
	for i, one := range found {
		data[i] = toOperatorRequest(one)
	}
	return api.ListDataSubjectRequestsAsOperator200JSONResponse{
		Body:    api.OperatorDataSubjectRequestPage{Data: data, NextCursor: next},
		Headers: api.ListDataSubjectRequestsAsOperator200ResponseHeaders{Link: link},
	}, nil
}

// GetDataSubjectRequestAsOperator implements GET /v1/operator/data-subject-requests/{id}.
func (h handlers) GetDataSubjectRequestAsOperator(
	ctx context.Context,
	asked api.GetDataSubjectRequestAsOperatorRequestObject,
) (api.GetDataSubjectRequestAsOperatorResponseObject, error) {
	found, person, err := h.features.Requests.View(ctx, caller(ctx), id.DataRequest{UUID: asked.ID})
	if err != nil {
		return nil, err
	}
	detail := api.OperatorDataSubjectRequestDetail{
		Request:     toOperatorRequest(found),
		Corrections: toCorrections(found.Corrections),
	}
	if person != nil {
		detail.Person = &api.DataSubject{FirstName: person.FirstName, LastName: person.LastName, Email: person.Email}
	}
	return api.GetDataSubjectRequestAsOperator200JSONResponse{
		Body: detail, Headers: api.GetDataSubjectRequestAsOperator200ResponseHeaders{ETag: etag(found.Version)},
	}, nil
}

// AcknowledgeDataSubjectRequest implements POST
// /v1/operator/data-subject-requests/{id}/acknowledgement.
func (h handlers) AcknowledgeDataSubjectRequest(
	ctx context.Context,
	asked api.AcknowledgeDataSubjectRequestRequestObject,
) (api.AcknowledgeDataSubjectRequestResponseObject, error) {
	answer := func(after subjectrequest.Request) api.AcknowledgeDataSubjectRequest200JSONResponse {
		return api.AcknowledgeDataSubjectRequest200JSONResponse{
			OperatorDataSubjectRequestJSONResponse: operatorRequestAnswer(after),
		}
	}
	after, err := h.features.Requests.Acknowledge(
		ctx,
		caller(ctx),
		id.DataRequest{UUID: asked.ID},
		condition(asked.Params.IfMatch),
		once(
			ctx,
			h.Server,
			asked.Params.IdempotencyKey,
			nil,
			func(after subjectrequest.Request) func(http.ResponseWriter) error {
				return answer(after).VisitAcknowledgeDataSubjectRequestResponse
			},
		),
	)
	if err != nil {
		return nil, err
	}
	return answer(after), nil
}

// FulfilDataSubjectRequest implements POST /v1/operator/data-subject-requests/{id}/fulfilment.
func (h handlers) FulfilDataSubjectRequest(
	ctx context.Context,
	asked api.FulfilDataSubjectRequestRequestObject,
) (api.FulfilDataSubjectRequestResponseObject, error) {
	answer := func(after subjectrequest.Request) api.FulfilDataSubjectRequest200JSONResponse {
		return api.FulfilDataSubjectRequest200JSONResponse{
			OperatorDataSubjectRequestJSONResponse: operatorRequestAnswer(after),
		}
	}
	after, err := h.features.Requests.Fulfil(
		ctx,
		caller(ctx),
		id.DataRequest{UUID: asked.ID},
		condition(asked.Params.IfMatch),
		once(
			ctx,
			h.Server,
			asked.Params.IdempotencyKey,
			nil,
			func(after subjectrequest.Request) func(http.ResponseWriter) error {
				return answer(after).VisitFulfilDataSubjectRequestResponse
			},
		),
	)
	if err != nil {
		return nil, err
	}
	return answer(after), nil
}

// RejectDataSubjectRequest implements POST /v1/operator/data-subject-requests/{id}/rejection.
func (h handlers) RejectDataSubjectRequest(
	ctx context.Context,
	asked api.RejectDataSubjectRequestRequestObject,
) (api.RejectDataSubjectRequestResponseObject, error) {
	answer := func(after subjectrequest.Request) api.RejectDataSubjectRequest200JSONResponse {
		return api.RejectDataSubjectRequest200JSONResponse{
			OperatorDataSubjectRequestJSONResponse: operatorRequestAnswer(after),
		}
	}
	after, err := h.features.Requests.Reject(
		ctx,
		caller(ctx),
		id.DataRequest{UUID: asked.ID},
		subjectrequest.Reason(asked.Body.Reason),
		condition(asked.Params.IfMatch),
		once(
			ctx,
			h.Server,
			asked.Params.IdempotencyKey,
			asked.Body,
			func(after subjectrequest.Request) func(http.ResponseWriter) error {
				return answer(after).VisitRejectDataSubjectRequestResponse
			},
		),
	)
	if err != nil {
		return nil, err
	}
	return answer(after), nil
}

func requestFilter(
	state *api.DataSubjectRequestState,
	kind *api.DataSubjectRequestKind,
) (filter subjectrequest.Filter) {
	if state != nil {
		filter.State = subjectrequest.State(*state)
	}
	if kind != nil {
		filter.Kind = subjectrequest.Kind(*kind)
	}
	return filter
}

func dataSubjectRequestAnswer(found subjectrequest.Request) api.DataSubjectRequestJSONResponse {
	return api.DataSubjectRequestJSONResponse{
		Body:    toDataSubjectRequest(found),
		Headers: api.DataSubjectRequestResponseHeaders{ETag: etag(found.Version)},
	}
}

func operatorRequestAnswer(found subjectrequest.Request) api.OperatorDataSubjectRequestJSONResponse {
	return api.OperatorDataSubjectRequestJSONResponse{
		Body:    toOperatorRequest(found),
		Headers: api.OperatorDataSubjectRequestResponseHeaders{ETag: etag(found.Version)},
	}
}

func toDataSubjectRequest(found subjectrequest.Request) api.DataSubjectRequest {
	out := api.DataSubjectRequest{
		ID:     found.ID.UUID,
		Kind:   api.DataSubjectRequestKind(found.Kind),
		State:  api.DataSubjectRequestState(found.State),
		Reason: (*string)(found.Reason),
		Corrections: toCorrections(
			found.Corrections,
		),
		Recipient:      found.Recipient,
		ReceivedAt:     found.ReceivedAt.UTC(),
		AcknowledgedAt: inUTC(found.AcknowledgedAt),
		DueAt:          found.DueAt.UTC(),
		ClosedAt:       inUTC(found.ClosedAt),
		Bundle:         toRequestBundle(found.Bundle),
		UpdatedAt:      found.UpdatedAt.UTC(),
	}
	if found.UserID != nil {
		out.UserID = &found.UserID.UUID
	}
	if found.ReceiptID != nil {
		path := receipt.Path(*found.ReceiptID)
		out.Receipt = &path
	}
	return out
}

func toOperatorRequest(found subjectrequest.Request) api.OperatorDataSubjectRequest {
	return api.OperatorDataSubjectRequest{
		ID:         found.ID.UUID,
		CustomerID: found.Customer.UUID,
		Kind:       api.DataSubjectRequestKind(found.Kind),
		State:      api.DataSubjectRequestState(found.State),
		Reason: (*string)(
			found.Reason,
		),
		ReceivedAt:     found.ReceivedAt.UTC(),
		AcknowledgedAt: inUTC(found.AcknowledgedAt),
		DueAt:          found.DueAt.UTC(),
		ClosedAt:       inUTC(found.ClosedAt),
		Bundle:         toRequestBundle(found.Bundle),
		UpdatedAt:      found.UpdatedAt.UTC(),
	}
}

func toCorrections(found *subjectrequest.Corrections) *api.Corrections {
	if found == nil {
		return nil
	}
	return &api.Corrections{FirstName: found.FirstName, LastName: found.LastName, Email: found.Email}
}

func toRequestBundle(found *subjectrequest.Bundle) *api.DataSubjectRequestBundle {
	if found == nil {
		return nil
	}
	return &api.DataSubjectRequestBundle{ExpiresAt: found.ExpiresAt.UTC(), CollectedAt: inUTC(found.CollectedAt)}
}
