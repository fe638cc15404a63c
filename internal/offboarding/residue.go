package offboarding

import (
	"context"

	"github.com/fusionspim/steward/internal/postgres"
	"github.com/fusionspim/steward/internal/receipt"
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

// Pending implements receipt.Others: customers that are deleted and not vacuumed away yet.
func (s *Service) Pending(ctx context.Context, limit int) (found []receipt.Leftover, err error) {
	err = s.db.InPlatform(ctx, func(tx *postgres.Tx) error {
		found, err = pending(tx, limit)
		return err
	})
	return found, err
}

// Settle implements receipt.Others.
func (s *Service) Settle(ctx context.Context, one receipt.Leftover) error {
	return s.db.InCustomer(ctx, one.Customer, func(tx *postgres.Tx) error { return markLiveComplete(tx, one) })
}
