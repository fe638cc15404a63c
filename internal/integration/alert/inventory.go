package alert

import (
	"github.com/fusionspim/steward/internal/base/inventory"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

// Stores declares what this package keeps.
func Stores() []postgres.Store {
	return []postgres.Store{
		{
			Table: "alert_deliveries", Title: "Alerts by e-mail",
			Purpose: "So that the person hears of trouble in the employer's software.",
			Whose:   inventory.OfPeople,
			Person:  inventory.PersonIn("user_id"),
			Columns: []inventory.Columns{
				inventory.ID("customer_id").WithholdFromPerson(inventory.Employer),
				inventory.ID("alert_id", "user_id"),
				inventory.State("state", "reason", "capped", "attempts"),
				inventory.Time("created_at", "due_at", "settled_at"),
			},
			Key:     []string{"alert_id", "user_id"},
			Refers:  []string{"alerts", "users"},
			Access:  inventory.Access{App: "select insert update delete", Platform: "select delete"},
			Keep:    postgres.Retention{Words: "90 days", After: Kept, From: "created_at of the alert", Sweeps: []postgres.Sweep{expireDeliveries}},
			Erase:   postgres.Erasure{How: inventory.Delete, Remove: removeDeliveries},
			Restore: postgres.Restore{Dropped: true, Drop: dropUnsent},
		},
		{
			Table: "alert_digests", Title: "Alerts gathered in one e-mail",
			Purpose: "So that many alerts are not as many mails.",
			Whose:   inventory.OfPeople,
			Person:  inventory.PersonIn("user_id"),
			Columns: []inventory.Columns{
				inventory.ID("customer_id").WithholdFromPerson(inventory.Employer),
				inventory.ID("user_id"),
				inventory.Time("hour"),
				inventory.State("state", "attempts"),
				inventory.Time("created_at", "due_at"),
			},
			Key:    []string{"user_id", "hour"},
			Refers: []string{"users"},
			Access: inventory.Access{App: "select insert update delete", Platform: "select delete"},
			Keep:   postgres.Retention{Words: "90 days", After: Kept, From: "created_at", Sweeps: []postgres.Sweep{expireDigests}},
			Erase:  postgres.Erasure{How: inventory.Delete},
		},
		{
			Table: "alerts", Title: "Alerts",
			Purpose: "So that people who want to hear of trouble are told.",
			Whose:   inventory.OfCustomers,
			Columns: []inventory.Columns{
				inventory.ID("customer_id", "id"),
				inventory.State("severity"),
				inventory.Setting("subject", "body"),
				inventory.ID("dedupe_key"),
				inventory.State("joining", "times"),
				inventory.Time("created_at", "last_raised_at"),
				inventory.ID("fanned_to"),
				inventory.Time("fanned_out_at"),
				inventory.State("recipients", "sent", "digested", "failed", "skipped"),
				inventory.Time("wake_at", "finished_at"),
			},
			Key:    []string{"id"},
			Refers: []string{"customers"},
			Access: inventory.Access{App: "select insert update", Platform: "select update delete"},
			Keep:   postgres.Retention{Words: "90 days", After: Kept, From: "created_at", Sweeps: []postgres.Sweep{expireAlerts}},
		},
	}
}
