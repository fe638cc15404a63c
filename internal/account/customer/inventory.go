package customer

import (
	"github.com/fusionspim/steward/internal/base/inventory"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

// Stores declares what this package keeps.
func Stores() []postgres.Store {
	return []postgres.Store{
		{
			Table: "customers", Title: "The customers",
			Purpose: "So that each business has its accounts, rules and texts.",
			Whose:   inventory.OfCustomers,
			Columns: []inventory.Columns{
				inventory.ID("id"),
				inventory.Setting(
					"slug", "name", "guidance_text", "privacy_contact", "mail_domain_policy", "mail_domains",
					"network_policy", "networks",
				),
				inventory.State("version"),
				inventory.Time("created_at", "updated_at"),
				inventory.Setting("login_record_days", "second_factor_policy"),
			},
			Access: inventory.Access{App: "select insert update", Platform: "select"},
			Keep:   postgres.Retention{Words: "as long as the contract"},
			Leave:  inventory.Leaving{Order: 1}, // everything else hangs on it, also without a foreign key
		},
	}
}
