package offboarding

import (
	"context"

	"github.com/fusionspim/steward/internal/account/user"
	"github.com/fusionspim/steward/internal/compliance/receipt"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

var _ receipt.Others = (*Service)(nil)

// Tables implements receipt.Others.
func (s *Service) Tables() []string {
	tables := []string{postgres.QueueSchema + ".river_job"}
	for _, store := range Stores() {
		tables = append(tables, store.Table)
	}
	return tables
}

// Unsettled implements receipt.Others: customers that are deleted.
func (s *Service) Unsettled(ctx context.Context, state user.ReceiptState, limit int) (found []receipt.Leftover, err error) {
	err = s.db.InPlatform(ctx, func(tx *postgres.Tx) error {
		found, err = unsettled(tx, state, limit)
		return err
	})
	return found, err
}

// Settle implements receipt.Others.
func (s *Service) Settle(ctx context.Context, one receipt.Leftover, next user.ReceiptState) error {
	return s.db.InCustomer(ctx, one.Customer, func(tx *postgres.Tx) error { return settle(tx, one, next) })
}
