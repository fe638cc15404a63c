package offboarding

import (
	"context"

	"github.com/google/uuid"

	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/record/receipt"
)

var _ receipt.Erasures = (*Service)(nil)

// Unsettled implements receipt.Erasures: customers that are deleted.
func (s *Service) Unsettled(ctx context.Context, state receipt.State, limit int) ([]receipt.Unsettled, error) {
	return postgres.Platform(ctx, s.db, func(tx *postgres.Tx) ([]receipt.Unsettled, error) {
		return unsettled(tx, state, limit)
	})
}

// Settle implements receipt.Erasures.
func (s *Service) Settle(
	ctx context.Context, of id.Customer, offboardings []uuid.UUID, next receipt.State,
) (int64, error) {
	return postgres.Write(ctx, s.db, of, func(tx *postgres.Tx) (int64, error) {
		return settle(tx, offboardings, next)
	})
}
