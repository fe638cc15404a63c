package postgres

import "github.com/fusionspim/steward/internal/base/inventory"

// The types of package inventory with the database and the transaction of this one.
type (
	Store     = inventory.Store[*DB, *Tx]
	Retention = inventory.Retention[*Tx]
	Sweep     = inventory.Sweep[*Tx]
	Erasure   = inventory.Erasure[*Tx]
	Restore   = inventory.Restore[*DB]
)
