package httpapi

import (
	"context"

	"github.com/google/uuid"

	"github.com/fusionspim/steward/api"
	"github.com/fusionspim/steward/internal/account/session"
	"github.com/fusionspim/steward/internal/base/id"
)

// ListMyLogins implements GET /v1/me/logins.
func (h handlers) ListMyLogins(
	ctx context.Context,
	request api.ListMyLoginsRequestObject,
) (api.ListMyLoginsResponseObject, error) {
	answer, err := h.logins(ctx, caller(ctx).User, request.Params.Limit, request.Params.Cursor)
	if err != nil {
		return nil, err
	}
	return api.ListMyLogins200JSONResponse{LoginsJSONResponse: answer}, nil
}

// ListUserLogins implements GET /v1/users/{id}/logins.
func (h handlers) ListUserLogins(
	ctx context.Context,
	request api.ListUserLoginsRequestObject,
) (api.ListUserLoginsResponseObject, error) {
	answer, err := h.logins(ctx, id.User{UUID: request.ID}, request.Params.Limit, request.Params.Cursor)
	if err != nil {
		return nil, err
	}
	return api.ListUserLogins200JSONResponse{LoginsJSONResponse: answer}, nil
}

func (h handlers) logins(
	ctx context.Context,
	person id.User,
	limit *int32,
	cursor *string,
) (answer api.LoginsJSONResponse, err error) {
	asked, err := h.pageOf(ctx, limit, cursor)
	if err != nil {
		return answer, err
	}
	logins, err := h.features.Sessions.Logins(ctx, caller(ctx), person, id.Login{UUID: asked.before}, asked.limit+1)
	if err != nil {
		return answer, err
	}
	logins, next, link := cut(asked, logins, func(one session.Login) uuid.UUID { return one.ID.UUID })
	data := make([]api.Login, len(logins))
	for i, one := range logins {
		data[i] = api.Login{
			ID:             one.ID.UUID,
			OccurredAt:     one.OccurredAt.UTC(),
			Address:        one.Address.String(),
			Outcome:        api.LoginOutcome(one.Outcome),
			InsideNetworks: one.InsideNetworks,
		}
	}
	return api.LoginsJSONResponse{
		Body:    api.LoginPage{Data: data, NextCursor: next},
		Headers: api.LoginsResponseHeaders{Link: link},
	}, nil
}
