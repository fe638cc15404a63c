package httpapi

import (
	"context"
	"net/http"
	"strconv"

	"github.com/google/uuid"

	"github.com/fusionspim/steward/api"
	"github.com/fusionspim/steward/internal/account/user"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/record/receipt"
)

func decimal(number int) string { return strconv.Itoa(number) }

func caller(ctx context.Context) principal.Principal {
	found, _ := principal.FromContext(ctx)
	return found
}

// ListUsers implements GET /v1/users.
func (h handlers) ListUsers(
	ctx context.Context,
	request api.ListUsersRequestObject,
) (api.ListUsersResponseObject, error) {
	asked, err := h.pageOf(ctx, request.Params.Limit, request.Params.Cursor)
	if err != nil {
		return nil, err
	}
	filter := user.Filter{
		Email:         orEmpty(request.Params.Email),
		Prefix:        orEmpty(request.Params.Q),
		AlertsOptedIn: request.Params.AlertsOptedIn,
	}
	if request.Params.Status != nil {
		filter.Status = user.Status(*request.Params.Status)
	}
	if request.Params.Role != nil {
		filter.Role = principal.Role(*request.Params.Role)
	}
	users, err := h.features.Users.List(ctx, caller(ctx), filter, id.User{UUID: asked.before}, asked.limit+1)
	if err != nil {
		return nil, err
	}
	users, next, link := cut(asked, users, func(one user.User) uuid.UUID { return one.ID.UUID })
	data := make([]api.User, len(users))
	for i, one := range users {
		data[i] = toUser(one)
	}
	return api.ListUsers200JSONResponse{
		Body:    api.UserPage{Data: data, NextCursor: next},
		Headers: api.ListUsers200ResponseHeaders{Link: link},
	}, nil
}

// CreateUser implements POST /v1/users.
func (h handlers) CreateUser(
	ctx context.Context,
	request api.CreateUserRequestObject,
) (api.CreateUserResponseObject, error) {
	in := user.New{FirstName: request.Body.FirstName, LastName: request.Body.LastName, Email: request.Body.Email}
	if request.Body.Role != nil {
		in.Role = principal.Role(*request.Body.Role)
	}
	answer := func(made user.User) api.CreateUser201JSONResponse {
		return api.CreateUser201JSONResponse{
			Body: toUser(made),
			Headers: api.CreateUser201ResponseHeaders{
				ETag:     etag(made.Version),
				Location: "/v1/users/" + made.ID.String(),
			},
		}
	}
	made, err := h.features.Users.Create(
		ctx,
		caller(ctx),
		in,
		once(ctx, h.Server, request.Params.IdempotencyKey, request.Body,
			func(made user.User) func(http.ResponseWriter) error { return answer(made).VisitCreateUserResponse }),
	)
	if err != nil {
		return nil, err
	}
	return answer(made), nil
}

// GetUser implements GET /v1/users/{id}.
func (h handlers) GetUser(ctx context.Context, request api.GetUserRequestObject) (api.GetUserResponseObject, error) {
	found, err := h.features.Users.Get(ctx, caller(ctx), id.User{UUID: request.ID})
	if err != nil {
		return nil, err
	}
	return api.GetUser200JSONResponse{UserJSONResponse: userAnswer(found)}, nil
}

// UpdateUser implements PATCH /v1/users/{id}.
func (h handlers) UpdateUser(
	ctx context.Context,
	request api.UpdateUserRequestObject,
) (api.UpdateUserResponseObject, error) {
	body := request.JSONBody
	if body == nil {
		body = request.ApplicationMergePatchPlusJSONBody
	}
	patch := user.Patch{FirstName: body.FirstName, LastName: body.LastName, Email: body.Email}
	if body.Role != nil {
		role := principal.Role(*body.Role)
		patch.Role = &role
	}
	if body.Status != nil {
		status := user.Status(*body.Status)
		patch.Status = &status
	}
	after, err := h.features.Users.Update(
		ctx,
		caller(ctx),
		id.User{UUID: request.ID},
		patch,
		condition(request.Params.IfMatch),
	)
	if err != nil {
		return nil, err
	}
	return api.UpdateUser200JSONResponse{UserJSONResponse: userAnswer(after)}, nil
}

// GetUserAlerts implements GET /v1/users/{id}/alerts.
func (h handlers) GetUserAlerts(
	ctx context.Context,
	request api.GetUserAlertsRequestObject,
) (api.GetUserAlertsResponseObject, error) {
	found, err := h.features.Users.Alerts(ctx, caller(ctx), id.User{UUID: request.ID})
	if err != nil {
		return nil, err
	}
	return api.GetUserAlerts200JSONResponse{AlertsJSONResponse: alertsAnswer(found)}, nil
}

// SetUserAlerts implements PUT /v1/users/{id}/alerts.
func (h handlers) SetUserAlerts(
	ctx context.Context,
	request api.SetUserAlertsRequestObject,
) (api.SetUserAlertsResponseObject, error) {
	after, err := h.features.Users.SetAlerts(
		ctx,
		caller(ctx),
		id.User{UUID: request.ID},
		request.Body.OptedIn,
		condition(request.Params.IfMatch),
	)
	if err != nil {
		return nil, err
	}
	return api.SetUserAlerts200JSONResponse{AlertsJSONResponse: alertsAnswer(after)}, nil
}

func userAnswer(found user.User) api.UserJSONResponse {
	return api.UserJSONResponse{Body: toUser(found), Headers: api.UserResponseHeaders{ETag: etag(found.Version)}}
}

func alertsAnswer(found user.Alerts) api.AlertsJSONResponse {
	return api.AlertsJSONResponse{Body: toAlerts(found), Headers: api.AlertsResponseHeaders{ETag: etag(found.Version)}}
}

func toUser(found user.User) api.User {
	out := api.User{
		ID:           found.ID.UUID,
		Role:         api.Role(found.Role),
		Status:       api.UserStatus(found.Status),
		FirstName:    found.FirstName,
		LastName:     found.LastName,
		Email:        found.Email,
		EmailFlagged: found.EmailFlagged,
		PasswordSet:  found.PasswordSet,
		Alerts:       toAlerts(found.Alerts),
		Label:        found.Label,
		CreatedAt:    found.CreatedAt.UTC(),
		UpdatedAt:    found.UpdatedAt.UTC(),
	}
	if found.RedactedAt != nil {
		at := found.RedactedAt.UTC()
		out.RedactedAt = &at
	}
	if found.CorrectionLostAt != nil {
		at := found.CorrectionLostAt.UTC()
		out.CorrectionLostAt = &at
	}
	if found.ReceiptID != nil {
		path := receipt.Path(*found.ReceiptID)
		out.Receipt = &path
	}
	return out
}

func toAlerts(found user.Alerts) api.Alerts {
	return api.Alerts{OptedIn: found.OptedIn, SetBy: api.AlertsSetBy(found.SetBy), SetAt: found.SetAt.UTC()}
}

func orEmpty(text *string) string {
	if text == nil {
		return ""
	}
	return *text
}
