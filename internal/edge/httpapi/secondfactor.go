package httpapi

import (
	"context"
	"net/http"

	"github.com/fusionspim/steward/api"
	"github.com/fusionspim/steward/internal/account/secondfactor"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/sensitive"
)

// GetMySecondFactor implements GET /v1/me/second-factor.
func (h handlers) GetMySecondFactor(
	ctx context.Context,
	_ api.GetMySecondFactorRequestObject,
) (api.GetMySecondFactorResponseObject, error) {
	state, err := h.features.SecondFactors.Get(ctx, caller(ctx))
	if err != nil {
		return nil, err
	}
	return api.GetMySecondFactor200JSONResponse{
		Enrolled:          state.Enrolled,
		Required:          state.Required,
		ConfirmedAt:       inUTC(state.ConfirmedAt),
		RecoveryCodesLeft: state.RecoveryCodesLeft,
	}, nil
}

// EnrolMySecondFactor implements POST /v1/me/second-factor.
func (h handlers) EnrolMySecondFactor(
	ctx context.Context,
	request api.EnrolMySecondFactorRequestObject,
) (api.EnrolMySecondFactorResponseObject, error) {
	answer := func(made secondfactor.Enrolment) api.EnrolMySecondFactor201JSONResponse {
		return api.EnrolMySecondFactor201JSONResponse{
			Body: api.SecondFactorEnrolment{Secret: made.Secret.Reveal(), URI: made.URI.Reveal()},
		}
	}
	// The password is not part of the fingerprint; it is verified each time.
	made, err := h.features.SecondFactors.Enrol(ctx, caller(ctx), sensitive.New(request.Body.CurrentPassword),
		once(ctx, h.Server, request.Params.IdempotencyKey, nil,
			func(made secondfactor.Enrolment) func(http.ResponseWriter) error {
				return answer(made).VisitEnrolMySecondFactorResponse
			}))
	if err != nil {
		return nil, err
	}
	return answer(made), nil
}

// ConfirmMySecondFactor implements POST /v1/me/second-factor/confirmation.
func (h handlers) ConfirmMySecondFactor(
	ctx context.Context,
	request api.ConfirmMySecondFactorRequestObject,
) (api.ConfirmMySecondFactorResponseObject, error) {
	answer := func(codes []sensitive.String) api.ConfirmMySecondFactor200JSONResponse {
		return api.ConfirmMySecondFactor200JSONResponse{RecoveryCodesJSONResponse: toRecoveryCodes(codes)}
	}
	codes, err := h.features.SecondFactors.Confirm(ctx, caller(ctx), request.Body.OneTimeCode,
		once(ctx, h.Server, request.Params.IdempotencyKey, request.Body,
			func(codes []sensitive.String) func(http.ResponseWriter) error {
				return answer(codes).VisitConfirmMySecondFactorResponse
			}))
	if err != nil {
		return nil, err
	}
	h.features.Sessions.Forget(caller(ctx).Session)
	return answer(codes), nil
}

// ReplaceMyRecoveryCodes implements POST /v1/me/recovery-codes.
func (h handlers) ReplaceMyRecoveryCodes(
	ctx context.Context,
	request api.ReplaceMyRecoveryCodesRequestObject,
) (api.ReplaceMyRecoveryCodesResponseObject, error) {
	answer := func(codes []sensitive.String) api.ReplaceMyRecoveryCodes200JSONResponse {
		return api.ReplaceMyRecoveryCodes200JSONResponse{RecoveryCodesJSONResponse: toRecoveryCodes(codes)}
	}
	codes, err := h.features.SecondFactors.ReplaceCodes(ctx, caller(ctx), request.Body.OneTimeCode,
		once(ctx, h.Server, request.Params.IdempotencyKey, request.Body,
			func(codes []sensitive.String) func(http.ResponseWriter) error {
				return answer(codes).VisitReplaceMyRecoveryCodesResponse
			}))
	if err != nil {
		return nil, err
	}
	return answer(codes), nil
}

// RemoveMySecondFactor implements DELETE /v1/me/second-factor.
func (h handlers) RemoveMySecondFactor(
	ctx context.Context,
	request api.RemoveMySecondFactorRequestObject,
) (api.RemoveMySecondFactorResponseObject, error) {
	if err := h.features.SecondFactors.Remove(ctx, caller(ctx), request.Params.OneTimeCode); err != nil {
		return nil, err
	}
	return api.RemoveMySecondFactor204Response{}, nil
}

// ResetUserSecondFactor implements DELETE /v1/users/{id}/second-factor.
func (h handlers) ResetUserSecondFactor(
	ctx context.Context,
	request api.ResetUserSecondFactorRequestObject,
) (api.ResetUserSecondFactorResponseObject, error) {
	if err := h.features.SecondFactors.Reset(ctx, caller(ctx), id.User{UUID: request.ID}); err != nil {
		return nil, err
	}
	return api.ResetUserSecondFactor204Response{}, nil
}

func toRecoveryCodes(codes []sensitive.String) api.RecoveryCodesJSONResponse {
	out := api.RecoveryCodes{RecoveryCodes: make([]string, len(codes))}
	for i, code := range codes {
		out.RecoveryCodes[i] = code.Reveal()
	}
	return api.RecoveryCodesJSONResponse{Body: out}
}
