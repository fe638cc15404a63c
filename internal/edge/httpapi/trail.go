package httpapi

import (
	"context"

	"github.com/fusionspim/steward/api"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/pkg/trailproof"
)

// GetTrailKeys implements GET /.well-known/audit-trail-keys.json.
func (h handlers) GetTrailKeys(
	ctx context.Context,
	_ api.GetTrailKeysRequestObject,
) (api.GetTrailKeysResponseObject, error) {
	keys, err := h.features.Trail.Keys(ctx)
	if err != nil {
		return nil, err
	}
	return api.GetTrailKeys200JSONResponse{Keys: toKeys(keys)}, nil
}

// GetLatestAuditCheckpoint implements GET /v1/audit-checkpoints/latest.
func (h handlers) GetLatestAuditCheckpoint(
	ctx context.Context,
	request api.GetLatestAuditCheckpointRequestObject,
) (api.GetLatestAuditCheckpointResponseObject, error) {
	latest, err := h.features.Trail.Latest(ctx, caller(ctx), request.Params.SinceSize)
	if err != nil {
		return nil, err
	}
	answer := api.GetLatestAuditCheckpoint200JSONResponse{
		Size: int64(
			latest.Size,
		),
		RootHash:    latest.Root[:],
		Checkpoint:  latest.Note,
		CreatedAt:   latest.CreatedAt.UTC(),
		VerifierKey: latest.VerifierKey,
	}
	if request.Params.SinceSize != nil {
		path := toPath(latest.ConsistencyPath)
		answer.ConsistencyPath = &path
	}
	return answer, nil
}

// GetAuditEntryProof implements GET /v1/audit-entries/{id}/proof.
func (h handlers) GetAuditEntryProof(
	ctx context.Context,
	request api.GetAuditEntryProofRequestObject,
) (api.GetAuditEntryProofResponseObject, error) {
	proof, err := h.features.Trail.Prove(ctx, caller(ctx), id.Entry{UUID: request.ID})
	if err != nil {
		return nil, err
	}
	return api.GetAuditEntryProof200JSONResponse{
		LeafIndex:     proof.Index,
		TreeSize:      int64(proof.Checkpoint.Size),
		Leaf:          proof.Leaf,
		LeafHash:      trailproof.LeafHash(proof.Leaf),
		InclusionPath: toPath(proof.InclusionPath),
		Checkpoint:    proof.Checkpoint.Note,
		VerifierKey:   proof.Checkpoint.VerifierKey,
	}, nil
}

// toPath encodes the hashes of a proof; without hashes the list is empty.
func toPath(hashes [][]byte) api.MerklePath {
	return append(make(api.MerklePath, 0, len(hashes)), hashes...)
}
