package ratelimit

import (
	"github.com/fusionspim/steward/internal/base/inventory"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

// Stores declares what this package keeps.
func Stores() []postgres.Store {
	return []postgres.Store{
		{
			Table: "attempt_limits", Title: "Counters of attempts",
			Purpose: "So that nobody guesses passwords, codes or keys by trying many.",
			Whose:   inventory.OfService,
			Columns: []inventory.Columns{
				inventory.Secret("key"),
				inventory.Time("until"),
			},
			Key:     []string{"key"},
			Access:  inventory.Access{Platform: "select insert update delete"},
			Keep:    postgres.Retention{Words: "until the counter is empty, a day at most", From: "until", Sweeps: []postgres.Sweep{expire}},
			Restore: postgres.Restore{Unsaved: true},
		},
	}
}
