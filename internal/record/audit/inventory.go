package audit

import (
	"github.com/fusionspim/steward/internal/base/inventory"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

// Stores declares what this package keeps.
func Stores() []postgres.Store {
	return []postgres.Store{
		{
			Table: "audit_entries", Title: "The audit trail: what the person did, and what was done to the account",
			Purpose: "So that it can be told who did what, and when.",
			Whose:   inventory.OfPeople,
			Person: inventory.Person{
				Where: "t.actor_user_id = any (@people) or t.actor_operator_id = any (@people) or t.target_type = 'user' and t.target_id = any (@people::uuid[]::text[])",
			},
			Columns: []inventory.Columns{
				inventory.ID("customer_id").WithholdFromPerson(inventory.Employer),
				inventory.ID("id"),
				inventory.State("source"),
				inventory.ID("source_id"),
				inventory.State("actor_type", "action", "target_type"),
				inventory.ID("target_id"),
				inventory.State("changed", "details"),
				inventory.Time("occurred_at", "recorded_at"),
				inventory.ID("actor_user_id", "actor_api_key_id", "actor_operator_customer_id", "actor_operator_id").WithholdFromPerson(inventory.Others),
			},
			Derived: []inventory.Derived{{
				Name:       "done_by_the_person",
				Expression: "coalesce(t.actor_user_id = any (@people), false) or coalesce(t.actor_operator_id = any (@people), false) or t.actor_type = 'self'",
			}},
			Key:    []string{"id"},
			Refers: []string{"api_keys", "customers", "users"},
			Access: inventory.Access{App: "select insert"},
			Keep:   postgres.Retention{Words: "for good; it holds ids, closed words, numbers and times"},
			Erase:  postgres.Erasure{How: inventory.Kept, Why: "audit_trail"},
		},
		{
			Table: "audit_unsealed", Title: "Entries of the trail without a number",
			Purpose: "So that each entry gets its number.",
			Whose:   inventory.OfCustomers,
			Columns: []inventory.Columns{
				inventory.ID("customer_id", "entry_id"),
			},
			Key:    []string{"entry_id"},
			Access: inventory.Access{App: "select insert delete", Platform: "select"},
			Keep:   postgres.Retention{Words: "seconds"},
		},
		{
			Table: "audit_heads", Title: "How far the trail is numbered",
			Purpose: "So that numbers have no gap.",
			Whose:   inventory.OfCustomers,
			Columns: []inventory.Columns{
				inventory.ID("customer_id"),
				inventory.State("size", "roots"),
			},
			Refers: []string{"customers"},
			Access: inventory.Access{App: "select insert update"},
			Keep:   postgres.Retention{Words: "as long as the trail"},
		},
		{
			Table: "audit_leaves", Title: "The numbers of the trail",
			Purpose: "So that a change of the trail shows.",
			Whose:   inventory.OfCustomers,
			Columns: []inventory.Columns{
				inventory.ID("customer_id"),
				inventory.State("leaf_index"),
				inventory.ID("entry_id"),
				inventory.State("hashes"),
			},
			Key:    []string{"leaf_index"},
			Access: inventory.Access{App: "select insert"},
			Keep:   postgres.Retention{Words: "as long as the trail"},
		},
	}
}
