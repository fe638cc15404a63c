package jobs

import (
	"github.com/fusionspim/steward/internal/base/inventory"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

// Stores declares what this package keeps.
func Stores() []postgres.Store {
	return []postgres.Store{
		{
			Table: "jobs.river_job", Title: "Jobs",
			Purpose: "So that what takes long, or must be tried again, is done.",
			Whose:   inventory.OfCustomers,
			Columns: []inventory.Columns{
				inventory.ID("id"),
				inventory.State("state", "attempt"),
				inventory.Setting("max_attempts"),
				inventory.Time("attempted_at", "created_at", "finalized_at", "scheduled_at"),
				inventory.Setting("priority"),
				inventory.ID("args", "attempted_by"),
				inventory.State("errors", "kind", "metadata", "queue", "tags"),
				inventory.Secret("unique_key"),
				inventory.State("unique_states"),
			},
			Key:     []string{"id"},
			Access:  inventory.Access{App: "select insert update", Worker: "select insert update delete"},
			Keep:    postgres.Retention{Words: "a day after they are done, 90 days after they were given up"},
			Erase:   postgres.Erasure{Vacuum: true},
			Leave:   inventory.Leaving{As: "jobs", Where: "@customer::uuid::text in (t.args ->> 'customer_id', t.args ->> 'about_customer_id')", Order: -1, NoCopy: true},
			Restore: postgres.Restore{Unsaved: true, Dropped: true, As: "jobs", Drop: DropOpen},
		},
		{
			Table: "jobs.river_leader", Title: "Who looks after the jobs",
			Purpose: "So that one replica does so.",
			Whose:   inventory.OfService,
			Columns: []inventory.Columns{
				inventory.Time("elected_at", "expires_at"),
				inventory.ID("leader_id"),
				inventory.State("name"),
			},
			Key:     []string{"name"},
			Access:  inventory.Access{Worker: "select insert update delete"},
			Keep:    postgres.Retention{Words: "seconds"},
			Restore: postgres.Restore{Unsaved: true},
		},
		{
			Table: "jobs.river_notification", Title: "Notices of jobs",
			Purpose: "Unused: PostgreSQL has notices of its own.",
			Whose:   inventory.OfService,
			Columns: []inventory.Columns{
				inventory.ID("id"),
				inventory.Time("created_at"),
				inventory.State("payload", "topic"),
			},
			Key:     []string{"id"},
			Access:  inventory.Access{Worker: "select insert update delete"},
			Keep:    postgres.Retention{Words: "nothing is kept"},
			Restore: postgres.Restore{Unsaved: true},
		},
		{
			Table: "jobs.river_queue", Title: "The queues of jobs",
			Purpose: "So that jobs wait in order.",
			Whose:   inventory.OfService,
			Columns: []inventory.Columns{
				inventory.State("name"),
				inventory.Time("created_at"),
				inventory.State("metadata"),
				inventory.Time("paused_at", "updated_at"),
			},
			Key:    []string{"name"},
			Access: inventory.Access{Worker: "select insert update delete"},
			Keep:   postgres.Retention{Words: "for good"},
		},
	}
}
