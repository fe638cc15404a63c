package httpapi

import (
	"context"
	"strconv"

	"github.com/fusionspim/steward/api"
	"github.com/fusionspim/steward/internal/account/user"
	"github.com/fusionspim/steward/internal/base/sensitive"
)

// privacyMailbox is Fusions' contact for privacy questions, shown in the guidance to every user.
const privacyMailbox = "privacy@fusionspim.com"

// GetMe implements GET /v1/me.
func (h handlers) GetMe(ctx context.Context, _ api.GetMeRequestObject) (api.GetMeResponseObject, error) {
	me, err := h.features.Users.Me(ctx, caller(ctx))
	if err != nil {
		return nil, err
	}
	tag := `"` + strconv.FormatInt(me.Version, 10) + "." + strconv.FormatInt(me.CustomerVersion, 10) + `"`
	return api.GetMe200JSONResponse{Body: toMe(me), Headers: api.GetMe200ResponseHeaders{ETag: tag}}, nil
}

// ChangeMyPassword implements PUT /v1/me/password.
func (h handlers) ChangeMyPassword(
	ctx context.Context,
	request api.ChangeMyPasswordRequestObject,
) (api.ChangeMyPasswordResponseObject, error) {
	err := h.features.Sessions.ChangePassword(
		ctx,
		caller(ctx),
		sensitive.New(request.Body.CurrentPassword),
		sensitive.New(request.Body.NewPassword),
	)
	if err != nil {
		return nil, err
	}
	return api.ChangeMyPassword204Response{}, nil
}

// GetMyAlerts implements GET /v1/me/alerts.
func (h handlers) GetMyAlerts(
	ctx context.Context,
	_ api.GetMyAlertsRequestObject,
) (api.GetMyAlertsResponseObject, error) {
	found, err := h.features.Users.Alerts(ctx, caller(ctx), caller(ctx).User)
	if err != nil {
		return nil, err
	}
	return api.GetMyAlerts200JSONResponse{AlertsJSONResponse: alertsAnswer(found)}, nil
}

// SetMyAlerts implements PUT /v1/me/alerts.
func (h handlers) SetMyAlerts(
	ctx context.Context,
	request api.SetMyAlertsRequestObject,
) (api.SetMyAlertsResponseObject, error) {
	after, err := h.features.Users.SetAlerts(
		ctx,
		caller(ctx),
		caller(ctx).User,
		request.Body.OptedIn,
		condition(request.Params.IfMatch),
	)
	if err != nil {
		return nil, err
	}
	return api.SetMyAlerts200JSONResponse{AlertsJSONResponse: alertsAnswer(after)}, nil
}

func toMe(me user.Me) api.Me {
	guidance := me.GuidanceText
	if guidance == "" {
		guidance = "Ask an administrator of " + me.CustomerName + " to amend your name or e-mail address. You can amend your password yourself."
	}
	contacts := make([]api.Contact, 0, 2)
	if me.PrivacyContact != nil {
		contacts = append(contacts, api.Contact{Party: api.Controller, Email: *me.PrivacyContact})
	}
	contacts = append(contacts, api.Contact{Party: api.Processor, Email: privacyMailbox})
	return api.Me{
		ID:       me.ID.UUID,
		Role:     api.Role(me.Role),
		Customer: api.CustomerName{ID: me.CustomerID.UUID, Slug: me.CustomerSlug, Name: me.CustomerName},
		FirstName: orEmpty(
			me.FirstName,
		),
		LastName:      orEmpty(me.LastName),
		Email:         orEmpty(me.Email),
		Alerts:        toAlerts(me.Alerts),
		AmendGuidance: api.AmendGuidance{Text: guidance, Contacts: contacts},
		DataRequestGuidance: api.Guidance{
			Text: "To have a copy of the data kept with your account, or to have it erased, ask " + me.CustomerName +
				", the controller of your account. It considers your request and instructs Fusions, which keeps the account on its behalf.",
		},
	}
}
