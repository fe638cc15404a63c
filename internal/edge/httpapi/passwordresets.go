package httpapi

import (
	"context"
	"net/http"

	"github.com/fusionspim/steward/api"
	"github.com/fusionspim/steward/internal/base/sensitive"
)

// RequestPasswordReset implements POST /v1/password-resets. An Idempotency-Key has no effect: an
// answer remembered for existing accounts only would reveal them.
func (h handlers) RequestPasswordReset(
	ctx context.Context,
	request api.RequestPasswordResetRequestObject,
) (api.RequestPasswordResetResponseObject, error) {
	if err := h.features.PasswordLinks.Request(
		ctx,
		request.Body.Customer,
		request.Body.Email,
		callOf(ctx).address,
	); err != nil {
		return nil, err
	}
	return api.RequestPasswordReset202Response{}, nil
}

// ConfirmPasswordReset implements POST /v1/password-resets/confirm.
func (h handlers) ConfirmPasswordReset(
	ctx context.Context,
	request api.ConfirmPasswordResetRequestObject,
) (api.ConfirmPasswordResetResponseObject, error) {
	// The password is not part of the fingerprint: no fast hash of it may be stored.
	stands := api.PasswordResetConfirmation{Token: request.Body.Token}
	err := h.features.PasswordLinks.Confirm(
		ctx,
		sensitive.New(request.Body.Token),
		sensitive.New(request.Body.NewPassword),
		once(ctx, h.Server, request.Params.IdempotencyKey, stands,
			func(struct{}) func(http.ResponseWriter) error {
				return api.ConfirmPasswordReset204Response{}.VisitConfirmPasswordResetResponse
			}),
	)
	if err != nil {
		return nil, err
	}
	return api.ConfirmPasswordReset204Response{}, nil
}
