package alert

import (
	"context"

	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

// dropUnsent settles, for all customers, every mail about alerts that is not sent, as skipped. It is for a
// database that was restored: what waits there may have been sent long ago. A repeat of what was raised
// before makes an alert of its own. It returns how many mails there were, and may be interrupted and run
// again.
func dropUnsent(ctx context.Context, db *postgres.DB) (dropped int64, err error) {
	var customers []id.Customer
	err = db.InPlatform(ctx, func(tx *postgres.Tx) (err error) {
		customers, err = withUnsent(tx)
		return err
	})
	if err != nil {
		return 0, err
	}
	for _, of := range customers {
		err := db.InCustomer(ctx, of, func(tx *postgres.Tx) error {
			counts, err := stopFanOuts(tx)
			if err != nil {
				return err
			}
			if err := skipDigests(tx); err != nil {
				return err
			}
			return settle(tx, counts)
		})
		if err != nil {
			return dropped, err
		}
		for found := int64(skipBatch); found == skipBatch; dropped += found {
			if err := ctx.Err(); err != nil {
				return dropped, err
			}
			err := db.InCustomer(ctx, of, func(tx *postgres.Tx) error {
				counts, err := skipUnsent(tx)
				if err != nil {
					return err
				}
				found = 0
				for _, one := range counts {
					found += one.total()
				}
				return settle(tx, counts)
			})
			if err != nil {
				return dropped, err
			}
		}
	}
	return dropped, nil
}
