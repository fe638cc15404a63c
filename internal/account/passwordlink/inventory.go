package passwordlink

import (
	"github.com/fusionspim/steward/internal/base/inventory"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

// Stores declares what this package keeps.
func Stores() []postgres.Store {
	return []postgres.Store{
		{
			Table: "password_links", Title: "Mailed links that set a password",
			Purpose: "So that the person can choose a password.",
			Whose:   inventory.OfPeople,
			Person:  inventory.PersonIn("user_id"),
			Columns: []inventory.Columns{
				inventory.ID("customer_id").WithholdFromPerson(inventory.Employer),
				inventory.ID("user_id"),
				inventory.State("purpose"),
				inventory.Time("created_at", "expires_at", "used_at", "links_since"),
				inventory.Secret("hash").Withhold(inventory.Credential),
			},
			Key:     []string{"hash"},
			Refers:  []string{"users"},
			Access:  inventory.Access{App: "select insert update delete", Platform: "select delete"},
			Keep:    postgres.Retention{Words: "until they are past their time, a week at most", From: "expires_at", Sweeps: []postgres.Sweep{expire}},
			Erase:   postgres.Erasure{How: inventory.Delete},
			Restore: postgres.Restore{Unsaved: true, Dropped: true},
		},
	}
}
