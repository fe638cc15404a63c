package subjectrequest

import (
	"github.com/fusionspim/steward/internal/base/inventory"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

// Stores declares the tables of this package.
func Stores() []postgres.Store {
	return []postgres.Store{
		{
			Table:   "data_subject_requests",
			Title:   "Requests like this one",
			Purpose: "So that they are answered in time.",
			Whose:   inventory.OfPeople,
			Person:  inventory.PersonIn("user_id"),
			Columns: []inventory.Columns{
				inventory.ID("customer_id").WithholdFromPerson(inventory.Employer),
				inventory.ID("id", "user_id"),
				inventory.State("kind", "state", "reason"),
				inventory.Personal("first_name", "last_name", "email"),
				inventory.Setting("recipient"),
				inventory.ID("receipt_id"),
				inventory.Time(
					"received_at", "acknowledged_at", "due_at", "closed_at", "bundle_expires_at",
					"bundle_collected_at",
				),
				inventory.State("reminders", "version"),
				inventory.Time("updated_at"),
			},
			Key:    []string{"id"},
			Refers: []string{"customers"},
			Access: inventory.Access{App: "select insert update", Platform: "select update"},
			Keep: postgres.Retention{
				Words:  "90 days after they are closed",
				After:  identityKept,
				From:   "closed_at",
				Sweeps: []postgres.Sweep{anonymise},
			},
			Erase: postgres.Erasure{How: inventory.Null, Count: countOpen, Remove: withdrawOfErased},
		},
		{
			Table:   "request_bundles",
			Title:   "Bundles like this one",
			Purpose: "So that they can be collected.",
			Whose:   inventory.OfPeople,
			Person:  inventory.PersonIn("user_id"),
			Columns: []inventory.Columns{
				inventory.ID("customer_id").WithholdFromPerson(inventory.Employer),
				inventory.ID("request_id", "user_id"),
				inventory.Time("created_at", "expires_at"),
				inventory.Personal("content").Withhold(inventory.Container),
			},
			Key:    []string{"request_id"},
			Refers: []string{"data_subject_requests"},
			Access: inventory.Access{App: "select insert delete", Platform: "select delete"},
			Keep: postgres.Retention{
				Words:  "14 days, or until they are collected",
				After:  bundleKept,
				From:   "created_at",
				Sweeps: []postgres.Sweep{deleteExpiredBundles},
			},
			Erase: postgres.Erasure{How: inventory.Delete},
		},
	}
}
