package signingkey

import (
	"github.com/fusionspim/steward/internal/base/inventory"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

// Stores declares what this package keeps.
func Stores() []postgres.Store {
	return []postgres.Store{
		{
			Table: "proof_keys", Title: "Keys of checkpoints and receipts",
			Purpose: "So that what they sign can be verified for good.",
			Whose:   inventory.OfService,
			Columns: []inventory.Columns{
				inventory.ID("id"),
				inventory.State("public_key"),
				inventory.Secret("sealed_private"),
				inventory.Time("created_at"),
				inventory.State("purpose"),
			},
			Key:    []string{"id"},
			Access: inventory.Access{Platform: "select insert"},
			Keep:   postgres.Retention{Words: "for good"},
		},
		{
			Objects: "keys/", Title: "Public keys, and the private ones sealed",
			Purpose: "So that what they sign can be verified after a restore too.",
			Whose:   inventory.OfService,
			Keep:    postgres.Retention{Words: "for good"},
		},
	}
}
