package secondfactor

import (
	"github.com/fusionspim/steward/internal/base/inventory"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

// Stores declares what this package keeps.
func Stores() []postgres.Store {
	return []postgres.Store{
		{
			Table: "second_factors", Title: "The authenticator",
			Purpose: "So that a password alone does not sign in.",
			Whose:   inventory.OfPeople,
			Person:  inventory.PersonIn("user_id"),
			Columns: []inventory.Columns{
				inventory.ID("customer_id").WithholdFromPerson(inventory.Employer),
				inventory.ID("user_id"),
				inventory.Time("created_at", "confirmed_at"),
				inventory.Personal("sealed_secret").Withhold(inventory.Credential),
				inventory.State("last_step").Withhold(inventory.Credential),
			},
			Key:    []string{"user_id"},
			Refers: []string{"users"},
			Access: inventory.Access{App: "select insert update delete"},
			Keep:   postgres.Retention{Words: "until it is given up, or as long as the account"},
			Erase:  postgres.Erasure{How: inventory.Delete},
		},
		{
			Table: "recovery_codes", Title: "Recovery codes",
			Purpose: "So that the person can sign in without the authenticator.",
			Whose:   inventory.OfPeople,
			Person:  inventory.PersonIn("user_id"),
			Columns: []inventory.Columns{
				inventory.ID("customer_id").WithholdFromPerson(inventory.Employer),
				inventory.ID("user_id"),
				inventory.Time("created_at", "used_at"),
				inventory.Secret("hash").Withhold(inventory.Credential),
			},
			Key:    []string{"user_id", "hash"},
			Refers: []string{"users"},
			Access: inventory.Access{App: "select insert update delete"},
			Keep:   postgres.Retention{Words: "until they are replaced, or as long as the account"},
			Erase:  postgres.Erasure{How: inventory.Delete},
		},
	}
}
