package alert

import (
	"context"
	"crypto/subtle"
	"encoding/hex"
	"time"

	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/infra/idempotency"
	"github.com/fusionspim/steward/internal/infra/jobs"
	"github.com/fusionspim/steward/internal/infra/mailjob"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/infra/seal"
	"github.com/fusionspim/steward/internal/record/audit"
	"github.com/fusionspim/steward/internal/record/ledger"
)

// Mailing is how mails reach people.
type Mailing struct {
	mailjob.Mailing        // off: there is no mail server, and mails wait for one
	PublicURL       string // where people reach the service, without a slash at the end
}

// Service is alerts as callers use them. Safe for concurrent use.
type Service struct {
	db      *postgres.DB
	queue   *jobs.Queue
	box     *seal.Box
	ledger  *ledger.Ledger
	mailing Mailing
}

// NewService makes the service.
func NewService(db *postgres.DB, queue *jobs.Queue, box *seal.Box, ledger *ledger.Ledger, mailing Mailing) *Service {
	return &Service{db: db, queue: queue, box: box, ledger: ledger, mailing: mailing}
}

func (s *Service) sameCode(a, b []byte) bool { return subtle.ConstantTimeCompare(a, b) == 1 }

// Raise raises an alert, or counts up the one that it repeats, which sends no mail. Fault: MalformedRequest.
func (s *Service) Raise(ctx context.Context, caller principal.Principal, in New, once *idempotency.Once[Alert]) (raised Alert, err error) {
	if in, err = in.clean(); err != nil {
		return Alert{}, err
	}
	err = s.db.InCustomer(ctx, caller.Customer, func(tx *postgres.Tx) error {
		raised, err = once.Do(tx, func() (Alert, id.User, error) {
			raised, err := s.raise(tx, caller, in)
			return raised, id.User{}, err
		})
		return err
	})
	return raised, err
}

// raise makes the alert or joins it. An alert whose window is over is closed first, and then another one is made; of two who do that at once, the second joins.
func (s *Service) raise(tx *postgres.Tx, caller principal.Principal, in New) (Alert, error) {
	fresh := id.New[id.Alert]()
	for {
		raised, done, err := raise(tx, caller, fresh, in)
		if err != nil {
			return Alert{}, err
		}
		switch {
		case done && raised.ID == fresh:
			return raised, s.queue.EnqueueTx(tx, work{Customer: tx.Customer, Alert: fresh})
		case done:
			return raised, audit.AppendTx(tx, audit.Act{Caller: caller, Action: audit.AlertRepeated, Target: audit.OnAlert(raised.ID)})
		}
		if err := closeWindow(tx, in); err != nil {
			return Alert{}, err
		}
	}
}

// Get returns an alert of the caller's customer. Fault: ResourceNotFound.
func (s *Service) Get(ctx context.Context, caller principal.Principal, alert id.Alert) (found Alert, err error) {
	err = s.db.InCustomerAutocommit(ctx, caller.Customer, func(tx *postgres.Tx) error {
		found, err = get(tx, alert)
		return err
	})
	return found, err
}

// List returns alerts, newest first: at most limit of those raised before the one named, or from the newest on.
func (s *Service) List(ctx context.Context, caller principal.Principal, before id.Alert, limit int) (alerts []Alert, err error) {
	err = s.db.InCustomerAutocommit(ctx, caller.Customer, func(tx *postgres.Tx) error {
		alerts, err = list(tx, before, limit)
		return err
	})
	return alerts, err
}

func notFound() error { return fault.New(fault.ResourceNotFound, "There is no such alert.") }

// LookAfter has everything taken up that is due and that nobody is at: mails that are to be tried again, mails that gather an hour, and what a replica left that died. Every
// replica does it every few seconds.
func (s *Service) LookAfter(ctx context.Context) error {
	var waking []work
	var gathered []id.Customer
	err := s.db.InPlatform(ctx, func(tx *postgres.Tx) (err error) {
		if waking, err = wake(tx, tx.Now.Add(lease)); err != nil {
			return err
		}
		gathered, err = withDigestsDue(tx)
		return err
	})
	if err != nil {
		return err
	}
	enqueue := func(of id.Customer, arguments jobs.Arguments) error {
		return s.db.InCustomer(ctx, of, func(tx *postgres.Tx) error { return s.queue.EnqueueTx(tx, arguments) })
	}
	for _, one := range waking {
		if err := enqueue(one.Customer, one); err != nil {
			return err
		}
	}
	round := s.db.Now().Truncate(lease).Unix()
	for _, of := range gathered {
		if err := enqueue(of, gathering{Customer: of, Round: round}); err != nil {
			return err
		}
	}
	return nil
}

// settle counts what became of deliveries, alert by alert, and closes an alert of which every delivery is settled, once.
func settle(tx *postgres.Tx, counts map[id.Alert]tally) error {
	finished, err := count(tx, counts)
	if err != nil {
		return err
	}
	for _, alert := range finished {
		if err := finish(tx, alert); err != nil {
			return err
		}
		// Nobody's act: the caller is the service itself.
		if err := audit.AppendTx(tx, audit.Act{Caller: principal.Principal{Customer: tx.Customer}, Action: audit.AlertSent, Target: audit.OnAlert(alert)}); err != nil {
			return err
		}
	}
	return nil
}

// messageID is the same at every attempt, so that whoever gets a mail twice can tell.
func (s *Service) messageID(parts ...[]byte) string {
	return hex.EncodeToString(s.box.MAC("alert message id", parts...)[:16]) + "@" + s.mailing.Domain
}

func hourOf(at time.Time) time.Time { return at.UTC().Truncate(time.Hour) }
