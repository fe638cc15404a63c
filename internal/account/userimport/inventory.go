package userimport

import (
	"github.com/fusionspim/steward/internal/base/inventory"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

// Stores declares what this package keeps.
func Stores() []postgres.Store {
	return []postgres.Store{
		{
			Table: "user_imports", Title: "Imports of people that the person ordered",
			Purpose: "So that an import can be followed and repeated.",
			Whose:   inventory.OfPeople,
			Person:  inventory.PersonIn("ordered_by_user_id"),
			Columns: []inventory.Columns{
				inventory.ID("customer_id").WithholdFromPerson(inventory.Employer),
				inventory.ID("id"),
				inventory.State("state", "format"),
				inventory.Setting("dry_run", "invite"),
				inventory.State("authority", "created", "would_create", "existing", "refused", "stopped_by"),
				inventory.Time("started_at", "progressed_at", "finished_at"),
				inventory.ID("ordered_by_user_id").WithholdFromPerson(inventory.Derivative),
				inventory.ID("ordered_by_api_key_id").WithholdFromPerson(inventory.Others),
				inventory.Secret("key_hash").Withhold(inventory.Credential),
				inventory.Personal("fingerprint").WithholdFromPerson(inventory.Others).WithholdFromCustomer(inventory.Derivative),
			},
			Key:    []string{"id"},
			Refers: []string{"customers"},
			Access: inventory.Access{App: "select insert update", Platform: "select update delete"},
			Keep:   postgres.Retention{Words: "as long as the import is listed", After: Lifetime, From: "started_at", Sweeps: []postgres.Sweep{expire, forgetKeys}},
			Erase:  postgres.Erasure{How: inventory.Null, With: "user_import_rows"},
		},
		{
			Table: "user_import_rows", Title: "Rows of imports that the person came with",
			Purpose: "So that an import can be checked.",
			Whose:   inventory.OfPeople,
			Person:  inventory.PersonIn("user_id"),
			Columns: []inventory.Columns{
				inventory.ID("customer_id").WithholdFromPerson(inventory.Employer),
				inventory.ID("import_id"),
				inventory.State("number", "line", "status"),
				inventory.ID("user_id"),
				inventory.State("reason", "pointer"),
			},
			Key:    []string{"import_id", "number"},
			Refers: []string{"user_imports"},
			Access: inventory.Access{App: "select insert update", Platform: "select delete"},
			Keep:   postgres.Retention{Words: "as long as the import is listed", After: Lifetime, From: "started_at of the import", Sweeps: []postgres.Sweep{expireRows}},
			Erase:  postgres.Erasure{How: inventory.Null, Remove: untie},
		},
	}
}
