package event

import (
	"github.com/fusionspim/steward/internal/base/inventory"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

// Stores declares what this package keeps.
func Stores() []postgres.Store {
	return []postgres.Store{
		{
			Table:   "events",
			Title:   "Events for the customer",
			Purpose: "So that the systems of the customer hear of changes.",
			Whose:   inventory.OfCustomers,
			Columns: []inventory.Columns{
				inventory.ID("customer_id"),
				inventory.State("number"),
				inventory.ID("id"),
				inventory.State("type", "subject_type"),
				inventory.ID("subject_id"),
				inventory.Time("occurred_at", "created_at"),
			},
			Key:    []string{"number"},
			Refers: []string{"customers"},
			Access: inventory.Access{App: "select insert", Platform: "select delete"},
			Keep: postgres.Retention{
				Words:  "90 days",
				After:  retention,
				From:   "created_at",
				Sweeps: []postgres.Sweep{deleteExpired},
			},
		},
	}
}
