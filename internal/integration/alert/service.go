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

// Mailing is how mails are sent.
type Mailing struct {
	mailjob.Mailing        // without a Sender, mails wait for one
	PublicURL       string // base of links, without a trailing slash
}

// Service raises, lists and sends alerts. Safe for concurrent use.
type Service struct {
	db      *postgres.DB
	queue   *jobs.Queue
	box     *seal.Box
	ledger  *ledger.Ledger
	mailing Mailing
}

// NewService returns the service.
func NewService(db *postgres.DB, queue *jobs.Queue, box *seal.Box, ledger *ledger.Ledger, mailing Mailing) *Service {
	return &Service{db: db, queue: queue, box: box, ledger: ledger, mailing: mailing}
}

func (s *Service) sameCode(a, b []byte) bool { return subtle.ConstantTimeCompare(a, b) == 1 }

// Raise raises an alert, or counts a repeat of an open one, which sends no mail. Fault:
// MalformedRequest.
func (s *Service) Raise(
	ctx context.Context, caller principal.Principal, in New, once *idempotency.Once[Alert],
) (Alert, error) {
	in, err := in.clean()
	if err != nil {
		return Alert{}, err
	}
	return idempotency.Write(ctx, s.db, caller.Customer, once, func(tx *postgres.Tx) (Alert, error) {
		return s.raise(tx, caller, in)
	})
}

// raise creates the alert or joins an open one. An alert whose window is over is closed first, and
// then a new one is created; of two concurrent calls the second joins.
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
func (s *Service) Get(ctx context.Context, caller principal.Principal, alert id.Alert) (Alert, error) {
	return postgres.Read(ctx, s.db, caller.Customer, func(tx *postgres.Tx) (Alert, error) { return get(tx, alert) })
}

// List returns alerts, newest first: at most limit of those raised before the given one, or from
// the newest if before is zero.
func (s *Service) List(
	ctx context.Context, caller principal.Principal, before id.Alert, limit int,
) ([]Alert, error) {
	return postgres.Read(ctx, s.db, caller.Customer, func(tx *postgres.Tx) ([]Alert, error) {
		return list(tx, before, limit)
	})
}

func notFound() error { return fault.New(fault.ResourceNotFound, "There is no such alert.") }

// PickUpDue enqueues jobs for due work that no replica has leased: mails to retry, digests, and the
// work of a replica that crashed. Every replica calls it every few seconds.
func (s *Service) PickUpDue(ctx context.Context) error {
	var alerts []work
	var digests []id.Customer
	err := s.db.InPlatform(ctx, func(tx *postgres.Tx) (err error) {
		if alerts, err = acquireDue(tx, tx.Now.Add(lease)); err != nil {
			return err
		}
		digests, err = withDigestsDue(tx)
		return err
	})
	if err != nil {
		return err
	}
	enqueue := func(of id.Customer, arguments jobs.Arguments) error {
		return s.db.InCustomer(ctx, of, func(tx *postgres.Tx) error { return s.queue.EnqueueTx(tx, arguments) })
	}
	for _, alert := range alerts {
		if err := enqueue(alert.Customer, alert); err != nil {
			return err
		}
	}
	round := s.db.Now().Truncate(lease).Unix()
	for _, of := range digests {
		if err := enqueue(of, digestWork{Customer: of, Round: round}); err != nil {
			return err
		}
	}
	return nil
}

// settle adds to the counts of alerts, and finishes those whose deliveries are all settled.
func settle(tx *postgres.Tx, counts map[id.Alert]tally) error {
	finished, err := count(tx, counts)
	if err != nil {
		return err
	}
	for _, alert := range finished {
		if err := finish(tx, alert); err != nil {
			return err
		}
		// The caller is the service itself.
		if err := audit.AppendTx(tx, audit.Act{Caller: principal.Principal{Customer: tx.Customer}, Action: audit.AlertSent, Target: audit.OnAlert(alert)}); err != nil {
			return err
		}
	}
	return nil
}

// messageID derives a Message-ID that is the same at every attempt, so that duplicates can be
// recognised.
func (s *Service) messageID(parts ...[]byte) string {
	return hex.EncodeToString(s.box.MAC("alert message id", parts...)[:16]) + "@" + s.mailing.Domain
}

func hourOf(at time.Time) time.Time { return at.UTC().Truncate(time.Hour) }
