package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/fusionspim/steward/internal/record/ledger"
)

const (
	compareEvery = 15 * time.Second // a replica that is open
	lookAgain    = 2 * time.Second  // one that is closed
	retryAfter   = 5 * time.Second  // said to whoever asks while entries are carried out
	retryMuch    = time.Minute      // and while a person is waited for
)

// begin opens the replica, or closes it and opens it in the background once what is missing is carried out.
func (a *App) begin(ctx context.Context) error {
	survey, err := a.ledger.Survey(ctx, a.DB)
	var wrong *ledger.Discrepancy
	switch {
	case errors.As(err, &wrong):
	case err != nil:
		return err
	case survey.MissingCount() == 0 && !survey.Restored:
		return a.open(ctx, survey)
	}
	a.shut(survey, wrong)
	a.work.Go(func() { a.catchUp(ctx, reason(wrong)) })
	return nil
}

// reason is what was said of why the replica is closed.
func reason(wrong *ledger.Discrepancy) string {
	if wrong != nil {
		return wrong.Error()
	}
	return behind
}

const behind = "behind"

// shut closes the replica to requests and says why.
func (a *App) shut(survey *ledger.Survey, wrong *ledger.Discrepancy) {
	if wrong != nil {
		a.API.Shut("The database and the record that outlives a restore of it do not go together, and a person has to look at it. The log of the service says what is wrong.", retryMuch)
		a.log.Error("closed: the database and the ledger do not go together; a person has to look (steward ledger verify, then steward ledger accept)", "error", wrong)
		return
	}
	a.API.Shut(fmt.Sprintf("The database is behind the record that outlives a restore of it. %d orders are being carried out again: erasures, opt-outs, revocations.", survey.MissingCount()), retryAfter)
	missing := make([]any, 0, 2*len(survey.Missing)+4)
	for kind, count := range survey.Missing {
		missing = append(missing, string(kind), count)
	}
	a.log.Warn("closed: the database is behind the ledger", append(missing, "restored", survey.Restored, "ledger", survey.Head.Number)...)
}

// open starts the work of the replica and lets requests in.
func (a *App) open(ctx context.Context, survey *ledger.Survey) (err error) {
	if a.presence == nil {
		if a.presence, err = a.DB.HoldReplicaLock(ctx); err != nil {
			a.presence = nil
			return err
		}
	}
	if err := survey.AdvancePosition(ctx, a.DB); err != nil {
		return err
	}
	if !a.running {
		if err := a.start(ctx); err != nil {
			return err
		}
		a.running = true
		close(a.opened)
	}
	a.API.Open()
	return nil
}

// Opened is closed when the replica has opened.
func (a *App) Opened() <-chan struct{} { return a.opened }

// catchUp carries out what is missing, again and again until nothing is, and opens the replica. Where a person is asked for, it looks now and then whether one has been there. What
// was said already it does not say again.
func (a *App) catchUp(ctx context.Context, said string) {
	for ctx.Err() == nil {
		survey, err := a.ledger.Survey(ctx, a.DB)
		if err == nil && (survey.MissingCount() > 0 || survey.Restored) {
			if said != behind {
				a.shut(survey, nil)
			}
			said = behind
			err = a.carryOut(ctx, survey)
			if err == nil {
				continue // and compare once more
			}
		} else if err == nil {
			err = a.open(ctx, survey)
		}
		if err == nil {
			a.log.Info("open: nothing of the ledger is missing in the database", "ledger", survey.Head.Number)
			return
		}
		var wrong *ledger.Discrepancy
		switch {
		case err.Error() == said || ctx.Err() != nil:
		case errors.As(err, &wrong):
			a.shut(nil, wrong)
		default:
			a.log.Error("still closed; trying again", "error", err)
		}
		said = err.Error()
		select {
		case <-ctx.Done():
		case <-time.After(lookAgain):
		}
	}
}

func (a *App) carryOut(ctx context.Context, survey *ledger.Survey) error {
	report, err := a.Replays.Run(ctx, survey)
	a.replayed.count(report)
	if err != nil {
		return err
	}
	a.log.Warn("carried out again what the database had lost", "report", report)
	return nil
}

// CompareLedger looks, as the replica does by itself now and then, for entries whose acts are not in the database: a replica died between the two, or could not finish. They
// are carried out beside the requests. A database that was restored under a replica at work is closed to requests for that.
func (a *App) CompareLedger(ctx context.Context) error {
	if err := a.presence.Keep(ctx); err != nil {
		return err
	}
	survey, err := a.ledger.Survey(ctx, a.DB)
	var wrong *ledger.Discrepancy
	if errors.As(err, &wrong) || err == nil && survey.Restored {
		a.shut(survey, wrong)
		a.catchUp(ctx, reason(wrong))
		return nil
	}
	if err != nil {
		return err
	}
	if survey.MissingCount() > 0 {
		if err := a.carryOut(ctx, survey); err != nil {
			return err
		}
		if survey, err = a.ledger.Survey(ctx, a.DB); err != nil {
			return err
		}
	}
	return survey.AdvancePosition(ctx, a.DB)
}
