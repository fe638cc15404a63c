package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/fusionspim/steward/api"
	"github.com/fusionspim/steward/internal/sensitive"
	"github.com/fusionspim/steward/internal/session"
)

// CreateSession implements POST /v1/sessions.
func (h handlers) CreateSession(ctx context.Context, request api.CreateSessionRequestObject) (api.CreateSessionResponseObject, error) {
	answer := func(tokens session.Tokens) api.CreateSession201JSONResponse {
		return api.CreateSession201JSONResponse{Body: toTokens(tokens)}
	}
	in := session.SignIn{
		CustomerSlug: request.Body.Customer, Email: request.Body.Email, Password: sensitive.New(request.Body.Password), Address: callOf(ctx).address,
	}
	// The password is no part of what the key stands for: it is verified each time, and a fast hash of it must not be kept.
	stands := api.SignIn{Customer: request.Body.Customer, Email: request.Body.Email}
	tokens, err := h.features.Sessions.SignIn(ctx, in, once(ctx, h.Server, request.Params.IdempotencyKey, stands,
		func(tokens session.Tokens) func(http.ResponseWriter) error {
			return answer(tokens).VisitCreateSessionResponse
		}))
	if err != nil {
		return nil, err
	}
	return answer(tokens), nil
}

// RefreshSession implements POST /v1/sessions/refresh.
func (h handlers) RefreshSession(ctx context.Context, request api.RefreshSessionRequestObject) (api.RefreshSessionResponseObject, error) {
	answer := func(tokens session.Tokens) api.RefreshSession200JSONResponse {
		return api.RefreshSession200JSONResponse{Body: toTokens(tokens)}
	}
	tokens, err := h.features.Sessions.Refresh(ctx, request.Body.RefreshToken, once(ctx, h.Server, request.Params.IdempotencyKey, request.Body,
		func(tokens session.Tokens) func(http.ResponseWriter) error {
			return answer(tokens).VisitRefreshSessionResponse
		}))
	if err != nil {
		return nil, err
	}
	return answer(tokens), nil
}

// EndCurrentSession implements DELETE /v1/sessions/current.
func (h handlers) EndCurrentSession(ctx context.Context, _ api.EndCurrentSessionRequestObject) (api.EndCurrentSessionResponseObject, error) {
	if err := h.features.Sessions.End(ctx, caller(ctx)); err != nil {
		return nil, err
	}
	return api.EndCurrentSession204Response{}, nil
}

func toTokens(tokens session.Tokens) api.Tokens {
	return api.Tokens{
		AccessToken: tokens.Access, TokenType: api.Bearer, ExpiresIn: int32(tokens.ExpiresIn / time.Second), RefreshToken: tokens.Refresh.Reveal(),
	}
}
