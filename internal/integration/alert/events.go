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
	atOnce    = 50               // mails that are taken at once
	freshness = time.Second      // after which a mail that was taken, and of which nothing was said to the mail server, is given back
	oneMail   = 60 * time.Second // for the sending of one mail
	lease     = 90 * time.Second // until others may take what was taken: longer than a mail can be under way
	slice     = 30 * time.Second // after which a job makes room for others
	lanes     = 4                // mails of one job that are under way at once
	silences  = 3                // mails in a row that the mail server did not answer, after which a lane ends
	pause     = 20 * time.Second // for which a mail server is left alone that does not answer

	peoplePerPart = 25_000 // for so many people one job more helps with sending, on whichever replica has time
	mostParts     = 4
)

// Handlers are how this package's jobs are done.
func (s *Service) Handlers() []jobs.Handler {
	within := jobs.Timeout(slice + 2*lease)
	return []jobs.Handler{jobs.Handle(s.deliver, within), jobs.Handle(s.deliverGathered, within)}
}

// deliver fans an alert out and sends its mails, as far as it comes.
func (s *Service) deliver(ctx context.Context, _ jobs.Job, asked work) error {
	var of Alert
	var by customer.Customer
	err := s.db.InCustomerAutocommit(ctx, asked.Customer, func(tx *postgres.Tx) (err error) {
		if of, err = get(tx, asked.Alert); err != nil {
			return err
		}
		by, err = customer.GetTx(tx)
		return err
	})
	if fault.Is(err, fault.ResourceNotFound) || of.FinishedAt != nil {
		return nil
	}
	if err != nil {
		return err
	}
	if asked.Part == 0 && of.FannedOutAt == nil {
		if err := s.fanOut(ctx, asked, of); err != nil {
			return err
		}
	}
	wording, unwordable := mail.WordAlert(mail.Alert{
		Severity: mail.Severity(of.Severity), Subject: of.Subject, Body: of.Body, CustomerName: by.Name, At: of.CreatedAt, Why: why(by.Name),
	})
	cause := s.drive(ctx, asked.Customer, sending{
		take: func(tx *postgres.Tx) ([]taken, error) { return takeDeliveries(tx, asked.Alert) },
		word: func(one taken) (mail.Message, error) {
			if unwordable != nil { // cannot be: what is raised was checked
				return mail.Message{}, unwordable
			}
			return wording.To(one.email, s.link(asked.Customer, one.user))
		},
		messageID: func(one taken) string {
			return s.messageID(asked.Customer.UUID[:], asked.Alert.UUID[:], one.user.UUID[:])
		},
		record: func(tx *postgres.Tx, outcomes []wireTaken) error {
			counts, err := recordDeliveries(tx, asked.Alert, outcomes)
			if err != nil {
				return err
			}
			if asked.Part == 0 {
				if err := stillAt(tx, asked.Alert); err != nil {
					return err
				}
			}
			return settle(tx, counts)
		},
	})
	switch {
	case asked.Part > 0 && (cause == nil || errors.Is(cause, errSilent)):
		return nil // the first part looks after the rest
	case cause == nil || errors.Is(cause, errSilent):
		return s.db.InCustomerAutocommit(ctx, asked.Customer, func(tx *postgres.Tx) error {
			until := tx.Now
			if cause != nil {
				until = until.Add(jittered(pause))
			}
			return rest(tx, asked.Alert, until)
		})
	case errors.Is(cause, errMore):
		return jobs.Snooze(0)
	}
	return cause
}

// fanOut finds everybody whom the alert is for, and has other jobs help with a large one.
func (s *Service) fanOut(ctx context.Context, asked work, of Alert) error {
	parts := 0
	for done := false; !done; {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		err := s.db.InCustomer(ctx, asked.Customer, func(tx *postgres.Tx) (err error) {
			var recipients int64
			if recipients, done, err = fanOut(tx, of); err != nil {
				return err
			}
			if wanted := int(min(recipients/peoplePerPart, mostParts-1)); wanted > parts {
				parts = wanted
				if err := s.queue.EnqueueTx(tx, work{Customer: asked.Customer, Alert: asked.Alert, Part: parts}); err != nil {
					return err
				}
			}
			if done { // it may be for nobody, or all may be sent
				return settle(tx, map[id.Alert]tally{asked.Alert: {}})
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

// deliverGathered sends what was gathered in hours that are over.
func (s *Service) deliverGathered(ctx context.Context, _ jobs.Job, asked gathering) error {
	var by customer.Customer
	err := s.db.InCustomerAutocommit(ctx, asked.Customer, func(tx *postgres.Tx) (err error) {
		by, err = customer.GetTx(tx)
		return err
	})
	if err != nil {
		return err
	}
	cause := s.drive(ctx, asked.Customer, sending{
		take: func(tx *postgres.Tx) ([]taken, error) {
			all, err := takeDigests(tx)
			if err != nil || len(all) == 0 {
				return nil, err
			}
			return all, gather(tx, all)
		},
		word: func(one taken) (mail.Message, error) {
			return mail.NewAlertDigest(one.email, mail.AlertDigest{
				Alerts: one.entries, More: one.more, CustomerName: by.Name, UnsubscribeLink: s.link(asked.Customer, one.user), Why: why(by.Name),
			})
		},
		messageID: func(one taken) string {
			return s.messageID(asked.Customer.UUID[:], one.user.UUID[:], []byte(one.hour.UTC().Format(time.RFC3339)), []byte(one.made.UTC().Format(time.RFC3339Nano)))
		},
		record: func(tx *postgres.Tx, outcomes []wireTaken) error {
			counts, err := recordDigests(tx, outcomes)
			if err != nil {
				return err
			}
			return settle(tx, counts)
		},
	})
	switch {
	case errors.Is(cause, errSilent):
		return nil // it is looked for again
	case errors.Is(cause, errMore):
		return jobs.Snooze(0)
	}
	return cause
}

// sending is one kind of mails that are sent to many people.
type sending struct {
	take      func(tx *postgres.Tx) ([]taken, error)
	word      func(one taken) (mail.Message, error)
	messageID func(one taken) string
	record    func(tx *postgres.Tx, outcomes []wireTaken) error
}

var (
	errMore   = errors.New("alert: there is more to send")
	errSilent = errors.New("alert: the mail server does not answer")
)

// drive sends what is due over several lanes until there is nothing left, the slice of time is over, or the mail server is silent.
func (s *Service) drive(ctx context.Context, of id.Customer, kind sending) error {
	ends := time.Now().Add(slice) // a share of the machine's time, not a moment
	causes := make([]error, lanes)
	var all sync.WaitGroup
	for i := range causes {
		all.Go(func() { causes[i] = s.lane(ctx, of, kind, ends) })
	}
	all.Wait()
	var over error
	for _, cause := range causes {
		switch {
		case cause == nil:
		case !errors.Is(cause, errMore) && !errors.Is(cause, errSilent):
			return cause
		case over == nil || errors.Is(cause, errSilent):
			over = cause
		}
	}
	return over
}

// lane takes a few mails, sends them one after the other, and records what became of them, again and again.
func (s *Service) lane(ctx context.Context, of id.Customer, kind sending, ends time.Time) error {
	for silent := 0; ; {
		if ctx.Err() != nil || !time.Now().Before(ends) {
			return errMore
		}
		line, err := s.line(ctx)
		if err != nil { // the context has ended meanwhile
			return errMore
		}
		var all []taken
		err = s.db.InCustomerAutocommit(ctx, of, func(tx *postgres.Tx) (err error) {
			all, err = kind.take(tx)
			return err
		})
		if err != nil || len(all) == 0 {
			line.Close()
			return err
		}
		taken := time.Now()
		results := make([]error, len(all))
		for i, one := range all {
			switch {
			case one.skip != "":
			case ctx.Err() != nil || silent >= silences || time.Since(taken) > freshness:
				results[i] = errMore
			default:
				results[i] = send(ctx, line, kind, one, taken)
				if silent++; answered(results[i]) {
					silent = 0
				}
			}
		}
		line.Close()
		err = s.db.InCustomer(ctx, of, func(tx *postgres.Tx) error {
			outcomes := make([]wireTaken, len(all))
			for i, one := range all {
				outcomes[i] = outcome(one, results[i], tx.Now)
			}
			return kind.record(tx, outcomes)
		})
		if err != nil {
			return err
		}
		if silent >= silences {
			return errSilent
		}
	}
}

// line is a connection to the mail server.
type line interface {
	Send(ctx context.Context, compose mail.Compose, messageID string) error
	Close()
}

func (s *Service) line(ctx context.Context) (line, error) {
	if s.mailing.Sender == nil {
		return noLine{}, nil
	}
	return s.mailing.Sender.Line(ctx)
}

// noLine stands for a mail server that there is not: mails wait for one, for as long as they are tried.
type noLine struct{}

func (noLine) Send(context.Context, mail.Compose, string) error { return errSilent }
func (noLine) Close()                                           {}

// send sends a mail that was taken at a moment. Where the mail server has made everybody wait since, it is taken anew: the person may have left.
func send(ctx context.Context, over line, kind sending, one taken, at time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, oneMail)
	defer cancel()
	return over.Send(ctx, func() (message mail.Message, wanted bool, err error) {
		if time.Since(at) > freshness {
			return mail.Message{}, false, errMore
		}
		message, err = kind.word(one)
		return message, true, err
	}, kind.messageID(one))
}

// answered tells whether a mail server spoke to us, whatever it said.
func answered(err error) bool {
	var failure *mail.Error
	return err == nil || mail.Permanent(err) || errors.As(err, &failure) && failure.Code() != 0
}

// outcome says what becomes of a mail after an attempt.
func outcome(one taken, result error, now time.Time) wireTaken {
	out := wireTaken{User: one.user, Attempts: one.attempts, State: "pending"}
	if !one.hour.IsZero() {
		out.Hour = &one.hour
	}
	because := func(state string, why reason) wireTaken {
		out.State, out.Reason = state, &why
		return out
	}
	again := func(at time.Time) wireTaken {
		out.DueAt = &at
		return out
	}
	switch {
	case one.skip != "":
		return because("skipped", one.skip)
	case result == nil:
		out.State = "sent"
		return out
	case errors.Is(result, errMore):
		out.Back = true
		return again(now)
	case mail.Permanent(result):
		return because("failed", reasonOf(result))
	case now.Sub(one.made) >= tryFor:
		return because("failed", expired)
	case errors.Is(result, context.Canceled): // the replica ends: another goes on
		return again(now)
	}
	return again(now.Add(backoff(one.attempts)))
}
