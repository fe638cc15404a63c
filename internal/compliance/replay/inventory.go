package replay

import (
	"github.com/fusionspim/steward/internal/base/inventory"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

// Stores declares the tables of this package.
func Stores() []postgres.Store {
	return []postgres.Store{
		{
			Table: "replays", Title: "The list of replays",
			Purpose: "So that it shows what was done again after a restore or a crash.",
			Whose:   inventory.OfService,
			Columns: []inventory.Columns{
				inventory.ID("id"),
				inventory.Time("started_at", "finished_at"),
				inventory.State("restored", "ledger_from", "ledger_to", "outcomes", "dropped"),
			},
			Key:    []string{"id"},
			Access: inventory.Access{Platform: "select insert update"},
			Keep:   postgres.Retention{Words: "for good"},
		},
	}
}
