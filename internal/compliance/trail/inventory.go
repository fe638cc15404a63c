package trail

import (
	"github.com/fusionspim/steward/internal/base/inventory"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

// Stores declares what this package keeps.
func Stores() []postgres.Store {
	return []postgres.Store{
		{
			Table: "audit_checkpoints", Title: "Signed heads of the trail",
			Purpose: "So that a customer can prove what the trail was.",
			Whose:   inventory.OfCustomers,
			Columns: []inventory.Columns{
				inventory.ID("customer_id"),
				inventory.State("size", "note"),
				inventory.Time("created_at", "published_at"),
			},
			Key:    []string{"size"},
			Refers: []string{"customers"},
			Access: inventory.Access{App: "select insert update"},
			Keep:   postgres.Retention{Words: "as long as the trail"},
		},
	}
}
