package idempotency

import (
	"github.com/fusionspim/steward/internal/base/inventory"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

// Stores declares what this package keeps.
func Stores() []postgres.Store {
	return []postgres.Store{
		{
			Table: "idempotency_answers", Title: "Answers that can be asked for again",
			Purpose: "So that a repeated request is not carried out twice.",
			Whose:   inventory.OfPeople,
			Person:  inventory.PersonIn("subject_user_id"),
			Columns: []inventory.Columns{
				inventory.ID("customer_id").WithholdFromPerson(inventory.Employer),
				inventory.Time("created_at"),
				inventory.ID("credential_id").WithholdFromPerson(inventory.Others),
				inventory.Secret("key_hash").Withhold(inventory.Credential),
				inventory.Personal("fingerprint", "answer").Withhold(inventory.Container),
				inventory.ID("subject_user_id").WithholdFromPerson(inventory.Derivative),
			},
			Derived: []inventory.Derived{{Name: "erased", Expression: "t.answer is null"}},
			Key:     []string{"credential_id", "key_hash"},
			Refers:  []string{"customers"},
			Access:  inventory.Access{App: "select insert update delete", Platform: "select delete"},
			Keep:    postgres.Retention{Words: "24 hours", After: Lifetime, From: "created_at", Sweeps: []postgres.Sweep{expire}},
			Erase:   postgres.Erasure{How: inventory.Null, Remove: erase},
			Restore: postgres.Restore{Unsaved: true, Dropped: true},
		},
	}
}
