package httpapi

import (
	"context"
	"net/http"

	"github.com/fusionspim/steward/api"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/record/receipt"
)

// GetErasurePlan implements GET /v1/users/{id}/erasure-plan.
func (h handlers) GetErasurePlan(
	ctx context.Context,
	request api.GetErasurePlanRequestObject,
) (api.GetErasurePlanResponseObject, error) {
	plan, err := h.features.Users.Plan(ctx, caller(ctx), id.User{UUID: request.ID})
	if err != nil {
		return nil, err
	}
	recommended := api.Delete
	if !plan.CanDelete {
		recommended = api.Redact
	}
	return api.GetErasurePlan200JSONResponse{
		CanDelete:         plan.CanDelete,
		CanRedact:         plan.CanRedact,
		LastAdministrator: plan.LastAdministrator,
		Blocking:          toReferences(plan.Blocking),
		Recommended:       recommended,
		Removes:           toCounts(plan.Removes),
		Keeps:             toKept(plan.Keeps),
		BackupsExpireAt:   inUTC(plan.BackupsExpireAt),
	}, nil
}

// DeleteUser implements DELETE /v1/users/{id}.
func (h handlers) DeleteUser(
	ctx context.Context,
	request api.DeleteUserRequestObject,
) (api.DeleteUserResponseObject, error) {
	found, err := h.features.Users.Delete(
		ctx,
		caller(ctx),
		id.User{UUID: request.ID},
		condition(request.Params.IfMatch),
	)
	if err != nil {
		return nil, err
	}
	return api.DeleteUser200JSONResponse{ErasureReceiptJSONResponse: receiptAnswer(found)}, nil
}

// RedactUser implements POST /v1/users/{id}/redaction.
func (h handlers) RedactUser(
	ctx context.Context,
	request api.RedactUserRequestObject,
) (api.RedactUserResponseObject, error) {
	var reason *receipt.Reason
	if request.Body != nil && request.Body.Reason != nil {
		given := receipt.Reason(*request.Body.Reason)
		reason = &given
	}
	answer := func(found receipt.Receipt) api.RedactUser200JSONResponse {
		return api.RedactUser200JSONResponse{ErasureReceiptJSONResponse: receiptAnswer(found)}
	}
	found, err := h.features.Users.Redact(
		ctx,
		caller(ctx),
		id.User{UUID: request.ID},
		reason,
		condition(request.Params.IfMatch),
		once(ctx, h.Server, request.Params.IdempotencyKey, request.Body,
			func(found receipt.Receipt) func(http.ResponseWriter) error {
				return answer(found).VisitRedactUserResponse
			}),
	)
	if err != nil {
		return nil, err
	}
	return answer(found), nil
}

// GetErasureReceipt implements GET /v1/erasure-receipts/{id}.
func (h handlers) GetErasureReceipt(
	ctx context.Context,
	request api.GetErasureReceiptRequestObject,
) (api.GetErasureReceiptResponseObject, error) {
	found, err := h.features.Receipts.Get(ctx, caller(ctx), id.Receipt{UUID: request.ID})
	if err != nil {
		return nil, err
	}
	return api.GetErasureReceipt200JSONResponse{ErasureReceiptJSONResponse: receiptAnswer(found)}, nil
}

func receiptAnswer(found receipt.Receipt) api.ErasureReceiptJSONResponse {
	return api.ErasureReceiptJSONResponse{
		Body:    toReceipt(found),
		Headers: api.ErasureReceiptResponseHeaders{ETag: etag(receiptVersion(found))},
	}
}

// receiptVersion is the version of a receipt; it changes with the receipt's state only.
func receiptVersion(found receipt.Receipt) int64 {
	switch found.State {
	case receipt.LiveComplete:
		return 2
	case receipt.Final:
		return 3
	case receipt.Pending:
	}
	return 1
}

func toReceipt(found receipt.Receipt) api.ErasureReceipt {
	out := api.ErasureReceipt{
		ID:     found.ID.UUID,
		Kind:   api.ErasureReceiptKind(found.Kind),
		UserID: found.UserID.UUID,
		Label:  found.Label,
		OrderedBy: api.OrderedBy{
			Authority: api.Authority(found.Authority),
		},
		CompletedAt:     found.CompletedAt.UTC(),
		Removed:         toCounts(found.Removed),
		Kept:            toKept(found.Kept),
		BackupsExpireAt: inUTC(found.BackupsExpireAt),
		State: api.ErasureReceiptState(
			found.State,
		),
		LiveCompleteAt: inUTC(found.LiveCompleteAt),
		FinalAt:        inUTC(found.FinalAt),
		Jws:            found.JWS,
	}
	if found.Reason != nil {
		reason := string(*found.Reason)
		out.Reason = &reason
	}
	if found.OrderedByUser != nil {
		out.OrderedBy.UserID = &found.OrderedByUser.UUID
	}
	if found.OrderedByAPIKey != nil {
		out.OrderedBy.APIKeyID = &found.OrderedByAPIKey.UUID
	}
	return out
}

func toKept(kept []receipt.Kept) []api.Kept {
	stays := make([]api.Kept, len(kept))
	for i, one := range kept {
		stays[i] = api.Kept{Store: one.Store, Count: one.Count, Why: api.KeptWhy(one.Why)}
	}
	return stays
}

func toCounts(removed []receipt.Removed) []api.StoreCount {
	counts := make([]api.StoreCount, len(removed))
	for i, one := range removed {
		counts[i] = api.StoreCount{Store: one.Store, Count: one.Count}
	}
	return counts
}
