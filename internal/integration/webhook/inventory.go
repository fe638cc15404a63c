package webhook

import (
	"github.com/fusionspim/steward/internal/base/inventory"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

// Stores declares what this package keeps.
func Stores() []postgres.Store {
	return []postgres.Store{
		{
			Table: "webhook_endpoints", Title: "Receivers of events",
			Purpose: "So that events go where the customer wants them.",
			Whose:   inventory.OfCustomers,
			Columns: []inventory.Columns{
				inventory.ID("customer_id", "id"),
				inventory.Setting("url", "description", "event_types"),
				inventory.State("status", "paused_reason"),
				inventory.Time("paused_at"),
				inventory.Secret("sealed_secret", "sealed_previous_secret").Withhold(inventory.Credential),
				inventory.Time("previous_expires_at"),
				inventory.State("position"),
				inventory.Time("due_at", "held_until"),
				inventory.ID("lease_id"),
				inventory.Time("lease_until", "failing_since"),
				inventory.State("failures", "version"),
				inventory.Time("created_at", "updated_at"),
			},
			Key:    []string{"id"},
			Refers: []string{"customers"},
			Access: inventory.Access{App: "select insert update", Platform: "select delete"},
			Keep:   postgres.Retention{Words: "until it is deleted and its deliveries are gone", Sweeps: []postgres.Sweep{expireEndpoints}},
		},
		{
			Table: "webhook_deliveries", Title: "Deliveries of events",
			Purpose: "So that each event arrives, and it shows when one does not.",
			Whose:   inventory.OfCustomers,
			Columns: []inventory.Columns{
				inventory.ID("customer_id", "endpoint_id", "id"),
				inventory.State("number", "state", "attempts", "step"),
				inventory.Time("next_attempt_at", "last_attempt_at"),
				inventory.State("last_outcome", "last_status"),
				inventory.Time("created_at"),
			},
			Key:    []string{"endpoint_id", "id"},
			Refers: []string{"events", "webhook_endpoints"},
			Access: inventory.Access{App: "select insert update", Platform: "select delete"},
			Keep:   postgres.Retention{Words: "30 days after they are settled, and no longer than the event", After: deliveriesKept, From: "created_at", Sweeps: []postgres.Sweep{expireDeliveries}},
		},
	}
}
