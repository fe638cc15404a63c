package session

import (
	"github.com/fusionspim/steward/internal/base/inventory"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

// Stores declares what this package keeps.
func Stores() []postgres.Store {
	return []postgres.Store{
		{
			Table: "login_records", Title: "Attempts to sign in",
			Purpose: "So that misuse of the account shows.",
			Whose:   inventory.OfPeople,
			Person:  inventory.PersonIn("user_id"),
			Columns: []inventory.Columns{
				inventory.ID("customer_id").WithholdFromPerson(inventory.Employer),
				inventory.ID("id", "user_id"),
				inventory.Time("occurred_at"),
				inventory.Personal("address"),
				inventory.State("outcome", "inside_networks"),
			},
			Key:    []string{"id"},
			Refers: []string{"users"},
			Access: inventory.Access{App: "select insert delete", Platform: "select delete"},
			Keep:   postgres.Retention{Words: "as many days as the employer chose, 400 at most", From: "occurred_at", Sweeps: []postgres.Sweep{expireLogins}},
			Erase:  postgres.Erasure{How: inventory.Delete},
		},
		{
			Table: "sessions", Title: "Sessions",
			Purpose: "So that the person stays signed in.",
			Whose:   inventory.OfPeople,
			Person:  inventory.PersonIn("user_id"),
			Columns: []inventory.Columns{
				inventory.ID("customer_id").WithholdFromPerson(inventory.Employer),
				inventory.ID("id", "user_id"),
				inventory.Time("created_at", "refreshed_at", "expires_at", "ended_at"),
				inventory.State("transport"),
				inventory.Secret("cookie_hash").Withhold(inventory.Credential),
			},
			Key:     []string{"id"},
			Refers:  []string{"users"},
			Access:  inventory.Access{App: "select insert update delete", Platform: "select delete"},
			Keep:    postgres.Retention{Words: "until they have ended, 30 days at most", From: "expires_at", Sweeps: []postgres.Sweep{expireSessions}},
			Erase:   postgres.Erasure{How: inventory.Delete},
			Restore: postgres.Restore{Unsaved: true, Dropped: true},
		},
		{
			Table: "refresh_tokens", Title: "Tokens of the sessions",
			Purpose: "So that a stolen session shows.",
			Whose:   inventory.OfPeople,
			Person: inventory.Person{
				Where: "(t.customer_id, t.session_id) in (select customer_id, id from sessions where customer_id = @customer and user_id = any (@people))",
				Owner: "(select s.user_id from sessions s where s.customer_id = t.customer_id and s.id = t.session_id)",
			},
			Columns: []inventory.Columns{
				inventory.ID("customer_id").WithholdFromPerson(inventory.Employer),
				inventory.ID("session_id"),
				inventory.Time("created_at", "used_at"),
				inventory.Secret("hash").Withhold(inventory.Credential),
			},
			Key:     []string{"session_id", "hash"},
			Refers:  []string{"sessions"},
			Access:  inventory.Access{App: "select insert update delete", Platform: "select delete"},
			Keep:    postgres.Retention{Words: "as long as the session"},
			Erase:   postgres.Erasure{How: inventory.Delete},
			Restore: postgres.Restore{Unsaved: true},
		},
		{
			Table: "signing_keys", Title: "Keys of access tokens",
			Purpose: "So that whoever checks a token knows that this service made it.",
			Whose:   inventory.OfService,
			Columns: []inventory.Columns{
				inventory.ID("id"),
				inventory.Secret("sealed_private"),
				inventory.Time("created_at", "retired_at", "signs_from"),
			},
			Key:    []string{"id"},
			Access: inventory.Access{Platform: "select insert update"},
			Keep:   postgres.Retention{Words: "for good; a retired key verifies nothing"},
		},
	}
}
