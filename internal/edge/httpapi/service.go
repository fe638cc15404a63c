package httpapi

import (
	"context"
	"slices"

	"github.com/fusionspim/steward/api"
	"github.com/fusionspim/steward/internal/infra/token"
)

// GetLiveness implements GET /livez.
func (h handlers) GetLiveness(context.Context, api.GetLivenessRequestObject) (api.GetLivenessResponseObject, error) {
	return api.GetLiveness200JSONResponse{Status: api.Ok}, nil
}

// GetReadiness implements GET /readyz.
func (h handlers) GetReadiness(
	ctx context.Context,
	_ api.GetReadinessRequestObject,
) (api.GetReadinessResponseObject, error) {
	if err := h.db.Ping(ctx); err != nil {
		return nil, err
	}
	return api.GetReadiness200JSONResponse{Status: api.Ok}, nil
}

// GetSigningKeys implements GET /.well-known/jwks.json.
func (h handlers) GetSigningKeys(
	ctx context.Context,
	_ api.GetSigningKeysRequestObject,
) (api.GetSigningKeysResponseObject, error) {
	receipts, err := h.features.Receipts.Keys(ctx)
	if err != nil {
		return nil, err
	}
	return api.GetSigningKeys200JSONResponse{Keys: toKeys(slices.Concat(h.keys.JWKS().Keys, receipts))}, nil
}

func toKeys(set []token.JWK) []api.SigningKey {
	keys := make([]api.SigningKey, len(set))
	for i, key := range set {
		keys[i] = api.SigningKey{
			Kty: api.SigningKeyKty(
				key.KeyType,
			),
			Crv: api.SigningKeyCrv(key.Curve),
			X:   key.X,
			Kid: key.KeyID,
			Alg: api.SigningKeyAlg(key.Algorithm),
			Use: api.SigningKeyUse(key.Use),
		}
	}
	return keys
}
