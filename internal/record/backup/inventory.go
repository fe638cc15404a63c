package backup

import (
	"github.com/fusionspim/steward/internal/base/inventory"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

// Stores declares the tables and objects of this package.
func Stores() []postgres.Store {
	return []postgres.Store{
		{
			Table: "backups", Title: "The list of backups",
			Purpose: "So that it is known what there is to restore.",
			Whose:   inventory.OfService,
			Columns: []inventory.Columns{
				inventory.ID("id"),
				inventory.State("state"),
				inventory.Time("requested_at", "taken_at", "expires_at"),
				inventory.State(
					"size", "sha256", "ledger_number", "ledger_hash", "server_version", "program_version",
					"schema_version",
				),
				inventory.Time("deleted_at"),
			},
			Key:    []string{"id"},
			Access: inventory.Access{App: "select insert", Platform: "select insert update"},
			Keep:   postgres.Retention{Words: "for good"},
		},
		{
			Table: "restores", Title: "The list of restores",
			Purpose: "So that what was erased since a backup is erased again.",
			Whose:   inventory.OfService,
			Columns: []inventory.Columns{
				inventory.ID("id", "backup_id"),
				inventory.Time("taken_at"),
				inventory.State("ledger_number", "ledger_hash"),
				inventory.Time("restored_at"),
			},
			Key:    []string{"id"},
			Access: inventory.Access{Platform: "select insert"},
			Keep:   postgres.Retention{Words: "for good"},
		},
		{
			Objects: prefix,
			Title:   "Backups",
			Purpose: "So that a lost database can be restored.",
			Whose:   inventory.OfService,
			Keep: postgres.Retention{
				From:  "taken_at of the backup",
				Words: "as many days as the operator of the service set, 35 if not set",
			},
			Elsewhere: "Backups hold copies of all this, encrypted, until they expire by themselves. " +
				"They are read only to restore the whole service, and erasures are applied again then.",
		},
	}
}
