package apikey

import (
	"github.com/fusionspim/steward/internal/base/inventory"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

// Stores declares what this package keeps.
func Stores() []postgres.Store {
	return []postgres.Store{
		{
			Table: "api_keys", Title: "API keys",
			Purpose: "So that the systems of the customer can use the service.",
			Whose:   inventory.OfCustomers,
			Columns: []inventory.Columns{
				inventory.ID("customer_id", "id"),
				inventory.Setting("name"),
				inventory.Secret("secret_hash").Withhold(inventory.Credential),
				inventory.Setting("scopes", "allowed_networks"),
				inventory.Time("created_at", "expires_at", "last_used_at", "revoked_at"),
				inventory.Setting("lifetime_seconds"),
			},
			Key:    []string{"id"},
			Refers: []string{"customers"},
			Access: inventory.Access{App: "select insert update", Platform: "select"},
			Keep:   postgres.Retention{Words: "as long as the contract; the trail names them"},
		},
	}
}
