package alert

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/fusionspim/steward/internal/account/customer"
	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/infra/jobs"
	"github.com/fusionspim/steward/internal/infra/mail"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

const (
	mailBatch   = 50               // mails acquired in one transaction
	sendWithin  = time.Second      // of acquiring a mail; one not started by then is released
	mailTimeout = 60 * time.Second // for sending one mail
	lease       = 90 * time.Second // of an acquired mail: longer than sending one can take
	jobSlice    = 30 * time.Second // after which a job makes room for others
	senders     = 4                // mails of one job that are sent concurrently
	// mails in a row without a reply of the mail server, after which a sender stops
	maxSilences = 3
	serverPause = 20 * time.Second // for a mail server that does not reply

	peoplePerPart = 25_000 // recipients for which one more job, on any replica, helps with sending
	maxParts      = 4
)

// Handlers returns the handlers of this package's jobs.
func (s *Service) Handlers() []jobs.Handler {
	timeout := jobs.Timeout(jobSlice + 2*lease)
	return []jobs.Handler{jobs.Handle(s.deliver, timeout), jobs.Handle(s.deliverDigests, timeout)}
}

// deliver fans an alert out and sends its mails, until its share of time is over.
func (s *Service) deliver(ctx context.Context, _ jobs.Job, job work) error {
	var alert Alert
	var sender customer.Customer
	err := s.db.InCustomerAutocommit(ctx, job.Customer, func(tx *postgres.Tx) (err error) {
		if alert, err = get(tx, job.Alert); err != nil {
			return err
		}
		sender, err = customer.GetTx(tx)
		return err
	})
	if fault.Is(err, fault.ResourceNotFound) || alert.FinishedAt != nil {
		return nil
	}
	if err != nil {
		return err
	}
	if job.Part == 0 && alert.FannedOutAt == nil {
		if err := s.fanOut(ctx, job, alert); err != nil {
			return err
		}
	}
	due := alertMails{service: s, job: job}
	due.wording, due.wordingError = mail.WordAlert(mail.Alert{
		Severity: mail.Severity(alert.Severity), Subject: alert.Subject, Body: alert.Body,
		CustomerName: sender.Name, At: alert.CreatedAt, Why: why(sender.Name),
	})
	err = s.send(ctx, job.Customer, due)
	switch {
	case job.Part > 0 && (err == nil || errors.Is(err, errSilent)):
		return nil // part 0 schedules the rest
	case err == nil || errors.Is(err, errSilent):
		return s.db.InCustomerAutocommit(ctx, job.Customer, func(tx *postgres.Tx) error {
			notBefore := tx.Now
			if err != nil {
				notBefore = notBefore.Add(jittered(serverPause))
			}
			return scheduleNext(tx, job.Alert, notBefore)
		})
	case errors.Is(err, errMore):
		return jobs.Snooze(0)
	}
	return err
}

// fanOut creates the deliveries of an alert, and enqueues jobs that help with sending a large one.
func (s *Service) fanOut(ctx context.Context, job work, alert Alert) error {
	parts := 0
	for done := false; !done; {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		err := s.db.InCustomer(ctx, job.Customer, func(tx *postgres.Tx) (err error) {
			var recipients int64
			if recipients, done, err = fanOut(tx, alert); err != nil {
				return err
			}
			if wanted := int(min(recipients/peoplePerPart, maxParts-1)); wanted > parts {
				parts = wanted
				if err := s.queue.EnqueueTx(tx, work{Customer: job.Customer, Alert: job.Alert, Part: parts}); err != nil {
					return err
				}
			}
			if done { // there may be no recipients, or every mail may be sent
				return settle(tx, map[id.Alert]tally{job.Alert: {}})
			}
			return nil
		})
		if errors.Is(err, errFannedOut) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func why(customerName string) string {
	return "You get this mail because alerts are switched on for your user account at " + customerName + "."
}

// deliverDigests sends the digests of hours that are over.
func (s *Service) deliverDigests(ctx context.Context, _ jobs.Job, job digestWork) error {
	sender, err := postgres.Read(ctx, s.db, job.Customer, customer.GetTx)
	if err != nil {
		return err
	}
	err = s.send(ctx, job.Customer, digestMails{service: s, customer: job.Customer, customerName: sender.Name})
	switch {
	case errors.Is(err, errSilent):
		return nil // PickUpDue enqueues the job again
	case errors.Is(err, errMore):
		return jobs.Snooze(0)
	}
	return err
}

// mails is one kind of mail that is sent to many people.
type mails interface {
	// acquire leases the next mails that are due; none ends the sending.
	acquire(tx *postgres.Tx) ([]outgoing, error)
	// render returns the mail and its Message-ID, which is the same at every attempt.
	render(m outgoing) (mail.Message, error)
	messageID(m outgoing) string
	// record stores the results of attempts.
	record(tx *postgres.Tx, results []wireResult) error
}

// alertMails are the mails about one alert.
type alertMails struct {
	service      *Service
	job          work
	wording      *mail.Wording
	wordingError error // not expected: the texts of an alert are checked when it is raised
}

func (a alertMails) acquire(tx *postgres.Tx) ([]outgoing, error) {
	return acquireDeliveries(tx, a.job.Alert)
}

func (a alertMails) render(m outgoing) (mail.Message, error) {
	if a.wordingError != nil {
		return mail.Message{}, a.wordingError
	}
	return a.wording.To(m.email, a.service.link(a.job.Customer, m.user))
}

func (a alertMails) messageID(m outgoing) string {
	return a.service.messageID(a.job.Customer.UUID[:], a.job.Alert.UUID[:], m.user.UUID[:])
}

func (a alertMails) record(tx *postgres.Tx, results []wireResult) error {
	counts, err := recordDeliveries(tx, a.job.Alert, results)
	if err != nil {
		return err
	}
	if a.job.Part == 0 {
		if err := renewLease(tx, a.job.Alert); err != nil {
			return err
		}
	}
	return settle(tx, counts)
}

// digestMails are the due digests of a customer.
type digestMails struct {
	service      *Service
	customer     id.Customer
	customerName string
}

func (digestMails) acquire(tx *postgres.Tx) ([]outgoing, error) {
	digests, err := acquireDigests(tx)
	if err != nil || len(digests) == 0 {
		return nil, err
	}
	return digests, loadEntries(tx, digests)
}

func (d digestMails) render(m outgoing) (mail.Message, error) {
	return mail.NewAlertDigest(m.email, mail.AlertDigest{
		Alerts: m.entries, More: m.more, CustomerName: d.customerName,
		UnsubscribeLink: d.service.link(d.customer, m.user), Why: why(d.customerName),
	})
}

func (d digestMails) messageID(m outgoing) string {
	hour, created := m.hour.UTC().Format(time.RFC3339), m.created.UTC().Format(time.RFC3339Nano)
	return d.service.messageID(d.customer.UUID[:], m.user.UUID[:], []byte(hour), []byte(created))
}

func (digestMails) record(tx *postgres.Tx, results []wireResult) error {
	counts, err := recordDigests(tx, results)
	if err != nil {
		return err
	}
	return settle(tx, counts)
}

var (
	errMore   = errors.New("alert: there are more mails to send")
	errSilent = errors.New("alert: the mail server does not reply")
)

// send sends the mails that are due with several concurrent senders, until there are none, the
// share of time is over (errMore), or the mail server does not reply (errSilent).
func (s *Service) send(ctx context.Context, of id.Customer, due mails) error {
	// real time: it shares the machine, and decides nothing else
	deadline := time.Now().Add(jobSlice)
	results := make([]error, senders)
	var group sync.WaitGroup
	for i := range results {
		group.Go(func() { results[i] = s.sendBatches(ctx, of, due, deadline) })
	}
	group.Wait()
	var worst error
	for _, err := range results {
		switch {
		case err == nil:
		case !errors.Is(err, errMore) && !errors.Is(err, errSilent):
			return err
		case worst == nil || errors.Is(err, errSilent):
			worst = err
		}
	}
	return worst
}

// sendBatches repeatedly acquires a batch of mails, sends them one after the other, and records the
// results.
func (s *Service) sendBatches(ctx context.Context, of id.Customer, due mails, deadline time.Time) error {
	for silences := 0; silences < maxSilences; {
		if ctx.Err() != nil || !time.Now().Before(deadline) {
			return errMore
		}
		connection, err := s.connect(ctx)
		if err != nil { // the context was cancelled
			return errMore
		}
		batch, err := postgres.Read(ctx, s.db, of, due.acquire)
		if err != nil || len(batch) == 0 {
			connection.Close()
			return err
		}
		results := make([]error, len(batch))
		silences = sendBatch(ctx, connection, due, batch, results, silences)
		connection.Close()
		err = s.db.InCustomer(ctx, of, func(tx *postgres.Tx) error {
			wire := make([]wireResult, len(batch))
			for i, m := range batch {
				wire[i] = evaluate(m, results[i], tx.Now)
			}
			return due.record(tx, wire)
		})
		if err != nil {
			return err
		}
	}
	return errSilent
}

// sendBatch sends mails over one connection and fills in their results: errMore for those that it
// does not start. It returns how many mails in a row got no reply.
func sendBatch(
	ctx context.Context, over connection, due mails, batch []outgoing, results []error, silences int,
) int {
	acquired := time.Now()
	for i, m := range batch {
		switch {
		case m.skip != "":
		case ctx.Err() != nil || silences >= maxSilences || time.Since(acquired) > sendWithin:
			results[i] = errMore
		default:
			results[i] = sendOne(ctx, over, due, m, acquired)
			if silences++; replied(results[i]) {
				silences = 0
			}
		}
	}
	return silences
}

// connection is a connection to the mail server.
type connection interface {
	Send(ctx context.Context, compose mail.Compose, messageID string) error
	Close()
}

func (s *Service) connect(ctx context.Context) (connection, error) {
	if s.mailing.Sender == nil {
		return noServer{}, nil
	}
	return s.mailing.Sender.Line(ctx)
}

// noServer stands in for a mail server that is not configured: mails wait for one, for as long as
// they are retried.
type noServer struct{}

func (noServer) Send(context.Context, mail.Compose, string) error { return errSilent }
func (noServer) Close()                                           {}

// sendOne sends a mail that was acquired at a moment. If the mail server delayed it for too long
// since, the mail is released to be acquired again: its recipient may have left.
func sendOne(ctx context.Context, over connection, due mails, m outgoing, acquired time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, mailTimeout)
	defer cancel()
	return over.Send(ctx, func() (message mail.Message, wanted bool, err error) {
		if time.Since(acquired) > sendWithin {
			return mail.Message{}, false, errMore
		}
		message, err = due.render(m)
		return message, true, err
	}, due.messageID(m))
}

// replied reports whether the mail server replied, also with a refusal.
func replied(err error) bool {
	var failure *mail.Error
	return err == nil || mail.Permanent(err) || errors.As(err, &failure) && failure.Code() != 0
}

// evaluate returns the new state of a mail after an attempt.
func evaluate(m outgoing, result error, now time.Time) wireResult {
	out := wireResult{User: m.user, Attempts: m.attempts, State: "pending"}
	if !m.hour.IsZero() {
		out.Hour = &m.hour
	}
	final := func(state string, why reason) wireResult {
		out.State, out.Reason = state, &why
		return out
	}
	retry := func(at time.Time) wireResult {
		out.DueAt = &at
		return out
	}
	switch {
	case m.skip != "":
		return final("skipped", m.skip)
	case result == nil:
		out.State = "sent"
		return out
	case errors.Is(result, errMore):
		out.Back = true
		return retry(now)
	case mail.Permanent(result):
		return final("failed", reasonOf(result))
	case now.Sub(m.created) >= tryFor:
		return final("failed", expired)
	case errors.Is(result, context.Canceled): // the replica stops: another one continues
		return retry(now)
	}
	return retry(now.Add(backoff(m.attempts)))
}
