package receipt

import (
	"github.com/fusionspim/steward/internal/base/inventory"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

// Stores declares what this package keeps.
func Stores() []postgres.Store {
	return []postgres.Store{
		{
			Table: "erasure_receipts", Title: "Receipts of erasures that the person ordered",
			Purpose: "So that an erasure can be proved.",
			Whose:   inventory.OfPeople,
			Person:  inventory.Person{Where: "t.user_id = any (@people) or t.ordered_by_user_id = any (@people)"},
			Columns: []inventory.Columns{
				inventory.ID("customer_id").WithholdFromPerson(inventory.Employer),
				inventory.ID("id"),
				inventory.State("kind", "reason", "authority"),
				inventory.Time("completed_at"),
				inventory.State("removed", "kept"),
				inventory.Time("backups_expire_at"),
				inventory.State("state"),
				inventory.Time("erased_at"),
				inventory.State("erased_in"),
				inventory.Time("live_complete_at", "final_at", "signed_at"),
				inventory.ID("user_id").WithholdFromPerson(inventory.Others),
				inventory.State("label").WithholdFromPerson(inventory.Others),
				inventory.ID("ordered_by_user_id", "ordered_by_api_key_id").WithholdFromPerson(inventory.Others),
				inventory.State("jws").WithholdFromPerson(inventory.Others),
			},
			Key:    []string{"id"},
			Refers: []string{"customers"},
			Access: inventory.Access{App: "select insert update", Platform: "select"},
			Keep:   postgres.Retention{Words: "for good; they hold ids, counts and times"},
			Erase:  postgres.Erasure{How: inventory.Kept, Why: "receipt"},
		},
	}
}
