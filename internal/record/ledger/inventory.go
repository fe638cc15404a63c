package ledger

import (
	"github.com/fusionspim/steward/internal/base/inventory"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

// Stores declares what this package keeps.
func Stores() []postgres.Store {
	return []postgres.Store{
		{
			Table: "ledger_applied", Title: "Entries of the ledger that are applied",
			Purpose: "So that what a restore loses is found.",
			Whose:   inventory.OfCustomers,
			Columns: []inventory.Columns{
				inventory.ID("customer_id", "number"),
				inventory.State("hash"),
			},
			Key:    []string{"number"},
			Access: inventory.Access{App: "select insert", Platform: "select delete"},
			Keep:   postgres.Retention{Words: "until the position of the ledger is past them"},
			Leave:  inventory.Leaving{Stays: "which entries of the ledger are in this database; the rows are numbers and go by themselves once the ledger's position is past them"},
		},
		{
			Table: "ledger_position", Title: "The position of the ledger",
			Purpose: "So that what a restore loses is found.",
			Whose:   inventory.OfService,
			Columns: []inventory.Columns{
				inventory.State("only_one"),
				inventory.ID("ledger_id"),
				inventory.State("through", "segment", "hash"),
				inventory.ID("home"),
				inventory.Time("seen_at"),
			},
			Key:    []string{"only_one"},
			Access: inventory.Access{Platform: "select update"},
			Keep:   postgres.Retention{Words: "for good"},
		},
		{
			Objects: root, Title: "The ledger of what a restore must not lose",
			Purpose: "So that an erasure, a revocation or an end is done again after a restore.",
			Whose:   inventory.OfService,
			Keep:    postgres.Retention{Words: "for good; sealed, it holds ids, closed words and times"},
		},
	}
}
