package httpapi

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/fusionspim/steward/api"
	"github.com/fusionspim/steward/internal/account/session"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/sensitive"
)

// CreateSession implements POST /v1/sessions.
func (h handlers) CreateSession(
	ctx context.Context,
	request api.CreateSessionRequestObject,
) (api.CreateSessionResponseObject, error) {
	answer := func(tokens session.Tokens) api.CreateSession201JSONResponse {
		out := api.CreateSession201JSONResponse{Body: toTokens(tokens)}
		if !tokens.Cookie.IsEmpty() {
			cookie := h.sessionCookie(tokens.Cookie.Reveal(), session.AbsoluteLifetime)
			out.Headers.SetCookie = &cookie
		}
		return out
	}
	in := session.SignIn{
		CustomerSlug: request.Body.Customer, Email: request.Body.Email, Password: sensitive.New(request.Body.Password),
		OneTimeCode: orEmpty(request.Body.OneTimeCode), Transport: session.ByToken, Address: callOf(ctx).address,
	}
	if request.Body.Transport != nil {
		in.Transport = session.Transport(*request.Body.Transport)
	}
	// Neither the password nor a code is part of the fingerprint: both are verified each time, and
	// no fast hash of a password may be stored.
	stands := api.SignIn{Customer: request.Body.Customer, Email: request.Body.Email, Transport: request.Body.Transport}
	tokens, err := h.features.Sessions.SignIn(ctx, in, once(ctx, h.Server, request.Params.IdempotencyKey, stands,
		func(tokens session.Tokens) func(http.ResponseWriter) error {
			return answer(tokens).VisitCreateSessionResponse
		}))
	if err != nil {
		return nil, err
	}
	return answer(tokens), nil
}

// cookieName returns the name of the session cookie. With the __Host- prefix browsers insist on
// Secure and on this very host; plain HTTP, as in development, cannot have it.
func (s *Server) cookieName() string {
	if s.secure() {
		return "__Host-steward_session"
	}
	return "steward_session"
}

func (s *Server) secure() bool { return strings.HasPrefix(s.settings.PublicURL, "https://") }

// sessionCookie builds the cookie (RFC 6265).
func (s *Server) sessionCookie(value string, lasts time.Duration) string {
	cookie := http.Cookie{
		Name:     s.cookieName(),
		Value:    value,
		Path:     "/",
		MaxAge:   int(lasts / time.Second),
		HttpOnly: true,
		Secure:   s.secure(),
		SameSite: http.SameSiteLaxMode,
	}
	if lasts <= 0 {
		cookie.MaxAge = -1
	}
	return cookie.String()
}

// RefreshSession implements POST /v1/sessions/refresh.
func (h handlers) RefreshSession(
	ctx context.Context,
	request api.RefreshSessionRequestObject,
) (api.RefreshSessionResponseObject, error) {
	answer := func(tokens session.Tokens) api.RefreshSession200JSONResponse {
		return api.RefreshSession200JSONResponse{Body: toTokens(tokens)}
	}
	tokens, err := h.features.Sessions.Refresh(
		ctx,
		request.Body.RefreshToken,
		once(ctx, h.Server, request.Params.IdempotencyKey, request.Body,
			func(tokens session.Tokens) func(http.ResponseWriter) error {
				return answer(tokens).VisitRefreshSessionResponse
			}),
	)
	if err != nil {
		return nil, err
	}
	return answer(tokens), nil
}

// EndCurrentSession implements DELETE /v1/sessions/current.
func (h handlers) EndCurrentSession(
	ctx context.Context,
	_ api.EndCurrentSessionRequestObject,
) (api.EndCurrentSessionResponseObject, error) {
	if err := h.features.Sessions.End(ctx, caller(ctx)); err != nil {
		return nil, err
	}
	out := api.EndCurrentSession204Response{}
	if callOf(ctx).byCookie {
		cookie := h.sessionCookie("", 0)
		out.Headers.SetCookie = &cookie
	}
	return out, nil
}

// ListMySessions implements GET /v1/me/sessions.
func (h handlers) ListMySessions(
	ctx context.Context,
	request api.ListMySessionsRequestObject,
) (api.ListMySessionsResponseObject, error) {
	asked, err := h.pageOf(ctx, request.Params.Limit, request.Params.Cursor)
	if err != nil {
		return nil, err
	}
	sessions, err := h.features.Sessions.List(ctx, caller(ctx), id.Session{UUID: asked.before}, asked.limit+1)
	if err != nil {
		return nil, err
	}
	sessions, next, link := cut(asked, sessions, func(one session.Session) uuid.UUID { return one.ID.UUID })
	data := make([]api.Session, len(sessions))
	for i, one := range sessions {
		data[i] = api.Session{
			ID:          one.ID.UUID,
			Transport:   api.Transport(one.Transport),
			Current:     one.ID == caller(ctx).Session,
			CreatedAt:   one.CreatedAt.UTC(),
			RefreshedAt: one.RefreshedAt.UTC(),
			ExpiresAt:   one.ExpiresAt.UTC(),
		}
	}
	return api.ListMySessions200JSONResponse{
		Body:    api.SessionPage{Data: data, NextCursor: next},
		Headers: api.ListMySessions200ResponseHeaders{Link: link},
	}, nil
}

// EndMySession implements DELETE /v1/me/sessions/{id}.
func (h handlers) EndMySession(
	ctx context.Context,
	request api.EndMySessionRequestObject,
) (api.EndMySessionResponseObject, error) {
	if err := h.features.Sessions.EndOne(ctx, caller(ctx), id.Session{UUID: request.ID}); err != nil {
		return nil, err
	}
	return api.EndMySession204Response{}, nil
}

func toTokens(tokens session.Tokens) api.Tokens {
	if !tokens.Cookie.IsEmpty() {
		return api.Tokens{TokenType: api.TokensTokenTypeCookie, ExpiresIn: int32(tokens.ExpiresIn / time.Second)}
	}
	return api.Tokens{
		AccessToken:  &tokens.Access,
		TokenType:    api.TokensTokenTypeBearer,
		ExpiresIn:    int32(tokens.ExpiresIn / time.Second),
		RefreshToken: nonEmpty(tokens.Refresh.Reveal()),
	}
}
