package httpapi

import (
	"context"
	"net/http"

	"github.com/fusionspim/steward/api"
	"github.com/fusionspim/steward/internal/account/user"
	"github.com/fusionspim/steward/internal/base/id"
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
	receipt, err := h.features.Users.Delete(
		ctx,
		caller(ctx),
		id.User{UUID: request.ID},
		condition(request.Params.IfMatch),
	)
	if err != nil {
		return nil, err
	}
	return api.DeleteUser200JSONResponse{ErasureReceiptJSONResponse: receiptAnswer(receipt)}, nil
}

// RedactUser implements POST /v1/users/{id}/redaction.
func (h handlers) RedactUser(
	ctx context.Context,
	request api.RedactUserRequestObject,
) (api.RedactUserResponseObject, error) {
	var reason *user.Reason
	if request.Body != nil && request.Body.Reason != nil {
		given := user.Reason(*request.Body.Reason)
		reason = &given
	}
	answer := func(receipt user.Receipt) api.RedactUser200JSONResponse {
		return api.RedactUser200JSONResponse{ErasureReceiptJSONResponse: receiptAnswer(receipt)}
	}
	receipt, err := h.features.Users.Redact(
		ctx,
		caller(ctx),
		id.User{UUID: request.ID},
		reason,
		condition(request.Params.IfMatch),
		once(ctx, h.Server, request.Params.IdempotencyKey, request.Body,
			func(receipt user.Receipt) func(http.ResponseWriter) error {
				return answer(receipt).VisitRedactUserResponse
			}),
	)
	if err != nil {
		return nil, err
	}
	return answer(receipt), nil
}

// GetErasureReceipt implements GET /v1/erasure-receipts/{id}.
func (h handlers) GetErasureReceipt(
	ctx context.Context,
	request api.GetErasureReceiptRequestObject,
) (api.GetErasureReceiptResponseObject, error) {
	receipt, err := h.features.Users.Receipt(ctx, caller(ctx), id.Receipt{UUID: request.ID})
	if err != nil {
		return nil, err
	}
	return api.GetErasureReceipt200JSONResponse{ErasureReceiptJSONResponse: receiptAnswer(receipt)}, nil
}

func receiptAnswer(receipt user.Receipt) api.ErasureReceiptJSONResponse {
	return api.ErasureReceiptJSONResponse{
		Body:    toReceipt(receipt),
		Headers: api.ErasureReceiptResponseHeaders{ETag: etag(receiptVersion(receipt))},
	}
}

// receiptVersion is the version of a receipt; it changes with the receipt's state only.
func receiptVersion(receipt user.Receipt) int64 {
	switch receipt.State {
	case user.LiveComplete:
		return 2
	case user.Final:
		return 3
	case user.Pending:
	}
	return 1
}

func toReceipt(receipt user.Receipt) api.ErasureReceipt {
	out := api.ErasureReceipt{
		ID:     receipt.ID.UUID,
		Kind:   api.ErasureReceiptKind(receipt.Kind),
		UserID: receipt.UserID.UUID,
		Label:  receipt.Label,
		OrderedBy: api.OrderedBy{
			Authority: api.Authority(receipt.Authority),
		},
		CompletedAt:     receipt.CompletedAt.UTC(),
		Removed:         toCounts(receipt.Removed),
		Kept:            toKept(receipt.Kept),
		BackupsExpireAt: inUTC(receipt.BackupsExpireAt),
		State: api.ErasureReceiptState(
			receipt.State,
		),
		LiveCompleteAt: inUTC(receipt.LiveCompleteAt),
		FinalAt:        inUTC(receipt.FinalAt),
		Jws:            receipt.JWS,
	}
	if receipt.Reason != nil {
		reason := string(*receipt.Reason)
		out.Reason = &reason
	}
	if receipt.OrderedByUser != nil {
		out.OrderedBy.UserID = &receipt.OrderedByUser.UUID
	}
	if receipt.OrderedByAPIKey != nil {
		out.OrderedBy.APIKeyID = &receipt.OrderedByAPIKey.UUID
	}
	return out
}

func toKept(kept []user.Kept) []api.Kept {
	stays := make([]api.Kept, len(kept))
	for i, one := range kept {
		stays[i] = api.Kept{Store: one.Store, Count: one.Count, Why: api.KeptWhy(one.Why)}
	}
	return stays
}

func toCounts(removed []user.Removed) []api.StoreCount {
	counts := make([]api.StoreCount, len(removed))
	for i, one := range removed {
		counts[i] = api.StoreCount{Store: one.Store, Count: one.Count}
	}
	return counts
}
