package app

import (
	"context"
	"slices"

	"github.com/fusionspim/steward/internal/account/apikey"
	"github.com/fusionspim/steward/internal/account/customer"
	"github.com/fusionspim/steward/internal/account/passwordlink"
	"github.com/fusionspim/steward/internal/account/secondfactor"
	"github.com/fusionspim/steward/internal/account/session"
	"github.com/fusionspim/steward/internal/account/user"
	"github.com/fusionspim/steward/internal/account/userimport"
	"github.com/fusionspim/steward/internal/base/inventory"
	"github.com/fusionspim/steward/internal/compliance/offboarding"
	"github.com/fusionspim/steward/internal/compliance/replay"
	"github.com/fusionspim/steward/internal/compliance/subjectrequest"
	"github.com/fusionspim/steward/internal/compliance/trail"
	"github.com/fusionspim/steward/internal/infra/idempotency"
	"github.com/fusionspim/steward/internal/infra/jobs"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/infra/ratelimit"
	"github.com/fusionspim/steward/internal/integration/alert"
	"github.com/fusionspim/steward/internal/integration/webhook"
	"github.com/fusionspim/steward/internal/record/audit"
	"github.com/fusionspim/steward/internal/record/backup"
	"github.com/fusionspim/steward/internal/record/event"
	"github.com/fusionspim/steward/internal/record/ledger"
	"github.com/fusionspim/steward/internal/record/receipt"
	"github.com/fusionspim/steward/internal/record/signingkey"
)

const sweepBatch = 5000

// Stores lists every store of the service, in the order in which people read about them.
func Stores() []postgres.Store {
	return slices.Concat(
		inventory.From("account/user", user.Stores()),
		inventory.From("account/session", session.Stores()),
		inventory.From("account/secondfactor", secondfactor.Stores()),
		inventory.From("account/passwordlink", passwordlink.Stores()),
		inventory.From("record/audit", audit.Stores()),
		inventory.From("record/receipt", receipt.Stores()),
		inventory.From("compliance/subjectrequest", subjectrequest.Stores()),
		inventory.From("integration/alert", alert.Stores()),
		inventory.From("account/userimport", userimport.Stores()),
		inventory.From("infra/idempotency", idempotency.Stores()),
		inventory.From("account/customer", customer.Stores()),
		inventory.From("account/apikey", apikey.Stores()),
		inventory.From("compliance/offboarding", offboarding.Stores()),
		inventory.From("compliance/trail", trail.Stores()),
		inventory.From("record/event", event.Stores()),
		inventory.From("integration/webhook", webhook.Stores()),
		inventory.From("infra/jobs", jobs.Stores()),
		inventory.From("infra/ratelimit", ratelimit.Stores()),
		inventory.From("record/signingkey", signingkey.Stores()),
		inventory.From("record/backup", backup.Stores()),
		inventory.From("record/ledger", ledger.Stores()),
		inventory.From("compliance/replay", replay.Stores()),
		inventory.From("app", []postgres.Store{{
			Other: "logs", Title: "The logs of the service",
			Purpose:   "So that faults can be found.",
			Whose:     inventory.OfService,
			Keep:      postgres.Retention{Words: "as long as whoever runs the service keeps them"},
			Elsewhere: "The logs of the service hold ids, times and statuses, and nothing else of a person.",
		}}),
	)
}

// Sweep removes what is past its time from every store, as the declarations say.
func (a *App) Sweep(ctx context.Context) error {
	now := a.DB.Now()
	for _, store := range inventory.ForSweeping(a.stores) {
		for _, sweep := range store.Keep.Sweeps {
			for removed := int64(sweepBatch); removed >= sweepBatch && ctx.Err() == nil; {
				var err error
				removed, err = postgres.Platform(ctx, a.DB, func(tx *postgres.Tx) (int64, error) { return sweep(tx, now, sweepBatch) })
				if err != nil {
					return err
				}
			}
		}
	}
	return nil
}
