package httpapi

import (
	"context"
	"net/http"
	"net/netip"
	"time"

	"github.com/google/uuid"

	"github.com/fusionspim/steward/api"
	"github.com/fusionspim/steward/internal/account/apikey"
	"github.com/fusionspim/steward/internal/account/customer"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/principal"
)

// ListAPIKeys implements GET /v1/api-keys.
func (h handlers) ListAPIKeys(
	ctx context.Context,
	request api.ListAPIKeysRequestObject,
) (api.ListAPIKeysResponseObject, error) {
	asked, err := h.pageOf(ctx, request.Params.Limit, request.Params.Cursor)
	if err != nil {
		return nil, err
	}
	unusedForDays := 0
	if request.Params.UnusedForDays != nil {
		unusedForDays = int(*request.Params.UnusedForDays)
	}
	keys, err := h.features.APIKeys.List(ctx, caller(ctx), unusedForDays, id.APIKey{UUID: asked.before}, asked.limit+1)
	if err != nil {
		return nil, err
	}
	keys, next, link := cut(asked, keys, func(one apikey.Key) uuid.UUID { return one.ID.UUID })
	data := make([]api.APIKey, len(keys))
	for i, one := range keys {
		data[i] = toAPIKey(one)
	}
	return api.ListAPIKeys200JSONResponse{
		Body:    api.APIKeyPage{Data: data, NextCursor: next},
		Headers: api.ListAPIKeys200ResponseHeaders{Link: link},
	}, nil
}

// CreateAPIKey implements POST /v1/api-keys.
func (h handlers) CreateAPIKey(
	ctx context.Context,
	request api.CreateAPIKeyRequestObject,
) (api.CreateAPIKeyResponseObject, error) {
	in := apikey.New{Name: request.Body.Name, ExpiresAt: request.Body.ExpiresAt}
	for _, scope := range request.Body.Scopes {
		in.Scopes = append(in.Scopes, principal.Scope(scope))
	}
	if request.Body.AllowedNetworks != nil {
		networks, err := customer.ParseNetworks(*request.Body.AllowedNetworks, "/allowed_networks")
		if err != nil {
			return nil, err
		}
		in.AllowedNetworks = networks
	}
	answer := func(made apikey.Made) api.CreateAPIKey201JSONResponse {
		return api.CreateAPIKey201JSONResponse{
			Body:    toCreatedAPIKey(made),
			Headers: api.CreateAPIKey201ResponseHeaders{Location: apiKeyPath(made)},
		}
	}
	made, err := h.features.APIKeys.Create(
		ctx,
		caller(ctx),
		in,
		once(ctx, h.Server, request.Params.IdempotencyKey, request.Body,
			func(made apikey.Made) func(http.ResponseWriter) error { return answer(made).VisitCreateAPIKeyResponse }),
	)
	if err != nil {
		return nil, err
	}
	return answer(made), nil
}

// RevokeAPIKey implements DELETE /v1/api-keys/{id}.
func (h handlers) RevokeAPIKey(
	ctx context.Context,
	request api.RevokeAPIKeyRequestObject,
) (api.RevokeAPIKeyResponseObject, error) {
	if err := h.features.APIKeys.Revoke(ctx, caller(ctx), id.APIKey{UUID: request.ID}); err != nil {
		return nil, err
	}
	return api.RevokeAPIKey204Response{}, nil
}

// RotateAPIKey implements POST /v1/api-keys/{id}/rotation.
func (h handlers) RotateAPIKey(
	ctx context.Context,
	request api.RotateAPIKeyRequestObject,
) (api.RotateAPIKeyResponseObject, error) {
	overlap := apikey.DefaultOverlap
	if request.Body != nil && request.Body.OverlapSeconds != nil {
		overlap = time.Duration(*request.Body.OverlapSeconds) * time.Second
	}
	answer := func(made apikey.Made) api.RotateAPIKey201JSONResponse {
		return api.RotateAPIKey201JSONResponse{
			Body:    toCreatedAPIKey(made),
			Headers: api.RotateAPIKey201ResponseHeaders{Location: apiKeyPath(made)},
		}
	}
	made, err := h.features.APIKeys.Rotate(
		ctx,
		caller(ctx),
		id.APIKey{UUID: request.ID},
		overlap,
		once(ctx, h.Server, request.Params.IdempotencyKey, request.Body,
			func(made apikey.Made) func(http.ResponseWriter) error { return answer(made).VisitRotateAPIKeyResponse }),
	)
	if err != nil {
		return nil, err
	}
	return answer(made), nil
}

// ReportLeakedAPIKey implements POST /v1/api-keys/leaks. It is idempotent without an
// Idempotency-Key.
func (h handlers) ReportLeakedAPIKey(
	ctx context.Context,
	request api.ReportLeakedAPIKeyRequestObject,
) (api.ReportLeakedAPIKeyResponseObject, error) {
	if err := h.features.APIKeys.ReportLeak(ctx, request.Body.APIKey, callOf(ctx).address); err != nil {
		return nil, err
	}
	return api.ReportLeakedAPIKey204Response{}, nil
}

func apiKeyPath(made apikey.Made) string { return "/v1/api-keys/" + made.ID.String() }

func toCreatedAPIKey(made apikey.Made) api.CreatedAPIKey {
	key := toAPIKey(made.Key)
	return api.CreatedAPIKey{
		ID: key.ID, Name: key.Name, Scopes: key.Scopes, AllowedNetworks: key.AllowedNetworks, CreatedAt: key.CreatedAt,
		ExpiresAt: key.ExpiresAt, LastUsedAt: key.LastUsedAt, RevokedAt: key.RevokedAt, APIKey: made.Secret.Reveal(),
	}
}

func toAPIKey(key apikey.Key) api.APIKey {
	out := api.APIKey{
		ID:              key.ID.UUID,
		Name:            key.Name,
		Scopes:          make([]api.Scope, len(key.Scopes)),
		AllowedNetworks: toNetworks(key.AllowedNetworks),
		CreatedAt:       key.CreatedAt.UTC(),
		ExpiresAt:       inUTC(key.ExpiresAt),
		LastUsedAt:      inUTC(key.LastUsedAt),
		RevokedAt:       inUTC(key.RevokedAt),
	}
	for i, scope := range key.Scopes {
		out.Scopes[i] = api.Scope(scope)
	}
	return out
}

func toNetworks(networks []netip.Prefix) []string {
	texts := make([]string, len(networks))
	for i, network := range networks {
		texts[i] = network.String()
	}
	return texts
}

func inUTC(at *time.Time) *time.Time {
	if at == nil {
		return nil
	}
	utc := at.UTC()
	return &utc
}
