package user

import (
	"github.com/fusionspim/steward/internal/base/inventory"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

// Stores declares what this package keeps.
func Stores() []postgres.Store {
	return []postgres.Store{
		{
			Table: "users", Title: "The account",
			Purpose: "So that the person can use the software, and be written to about it.",
			Whose:   inventory.OfPeople,
			Person:  inventory.PersonIn("id"),
			Columns: []inventory.Columns{
				inventory.ID("customer_id").WithholdFromPerson(inventory.Employer),
				inventory.ID("id"),
				inventory.State("role", "status"),
				inventory.Personal("first_name", "last_name", "email"),
				inventory.State("alerts_opted_in", "alerts_set_by"),
				inventory.Time("alerts_set_at"),
				inventory.State("label"),
				inventory.Time("redacted_at"),
				inventory.ID("receipt_id"),
				inventory.Time("correction_lost_at", "sessions_since", "links_since"),
				inventory.State("version"),
				inventory.Time("created_at", "updated_at"),
				inventory.Personal("first_name_key", "last_name_key", "email_key").Withhold(inventory.Derivative),
				inventory.Personal("password_hash").Withhold(inventory.Credential),
			},
			Derived: []inventory.Derived{{Name: "password_set", Expression: "t.password_hash is not null"}},
			Key:     []string{"id"},
			Refers:  []string{"customers"},
			Access:  inventory.Access{App: "select insert update delete"},
			Keep:    postgres.Retention{Words: "as long as the account"},
			Erase:   postgres.Erasure{How: inventory.Null, As: "profile"},
		},
		{
			Table:   "suppressed_addresses",
			Title:   "Addresses of people who were erased",
			Purpose: "So that an import brings nobody back unnoticed.",
			Whose:   inventory.OfPeople,
			Columns: []inventory.Columns{
				inventory.ID("customer_id").WithholdFromPerson(inventory.Employer),
				inventory.Time("erased_at"),
				inventory.Personal("hash").
					WithholdFromPerson(inventory.Others).
					WithholdFromCustomer(inventory.Derivative),
			},
			Key:    []string{"hash"},
			Refers: []string{"customers"},
			Access: inventory.Access{App: "select insert"},
			Keep: postgres.Retention{
				Words: "as long as the employer is a customer; it takes the master key to find out whose one is",
			},
			Erase: postgres.Erasure{How: inventory.Kept, Why: "suppression"},
		},
	}
}
