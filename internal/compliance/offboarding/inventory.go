package offboarding

import (
	"github.com/fusionspim/steward/internal/base/inventory"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

// Stores declares the tables and objects of this package.
func Stores() []postgres.Store {
	return []postgres.Store{
		{
			Table:   "offboardings",
			Title:   "Contracts that end or have ended",
			Purpose: "So that the end of a contract can be ordered, followed and proved.",
			Whose:   inventory.OfCustomers,
			Columns: []inventory.Columns{
				inventory.ID("customer_id", "id"),
				inventory.Setting("slug", "name"),
				inventory.State("state", "shut"),
				inventory.Time("requested_at"),
				inventory.ID("requested_by"),
				inventory.Time("approved_at"),
				inventory.ID("approved_by"),
				inventory.Time("deletes_at", "cancelled_at"),
				inventory.ID("cancelled_by"),
				inventory.Time("deleting_at", "recorded_at", "deleted_at"),
				inventory.State("removed"),
				inventory.Time("backups_expire_at"),
				inventory.State("jws"),
				inventory.Time("wake_at"),
				inventory.State("notices"),
				inventory.Setting("recipient"),
				inventory.Time("bundle_wanted_at"),
				inventory.ID("bundle_id"),
				inventory.Secret("bundle_key"),
				inventory.State("bundle_size"),
				inventory.Time("bundle_made_at"),
				inventory.Setting("bundle_for"),
				inventory.Time("bundle_collected_at"),
				inventory.State("version"),
				inventory.Time("updated_at"),
				inventory.State("deleted_in"),
				inventory.Time("live_complete_at", "final_at"),
			},
			Key: []string{"id"},
			Access: inventory.Access{
				App:        "select insert update",
				Platform:   "select update",
				Offboarder: "select update",
			},
			Keep: postgres.Retention{Words: "for good"},
			Erase: postgres.Erasure{
				How:    inventory.Null,
				As:     "offboarding_bundles",
				Count:  countBundle,
				Remove: remakeBundle,
			},
			Leave: inventory.Leaving{
				Stays: "the record that the customer is gone; it holds ids, times, counts, " +
					"and what the business was called",
			},
		},
		{
			Objects: prefix + inventory.EachCustomer,
			Title:   "The bundle of a customer that leaves",
			Purpose: "So that the customer gets everything back.",
			Whose:   inventory.OfCustomers,
			Keep: postgres.Retention{
				Words: "until the next bundle, a cancellation or the end; it is made again when a person is erased",
			},
		},
	}
}
