package devmail

import (
	"github.com/fusionspim/steward/internal/base/inventory"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

// Stores declares what this package keeps.
func Stores() []postgres.Store {
	return []postgres.Store{
		{
			Other:   "mailbox of steward dev",
			Title:   "Mails of a service under development",
			Purpose: "So that an invitation can be followed without a mail server.",
			Whose:   inventory.OfService,
			Keep: postgres.Retention{
				Words: "the last thousand, in memory, until the process ends or a person in them is erased",
			},
		},
	}
}
