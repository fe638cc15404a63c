package subjectrequest

import (
	"context"
	"fmt"
	"time"

	"github.com/fusionspim/steward/internal/account/customer"
	"github.com/fusionspim/steward/internal/account/user"
	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/infra/jobs"
	"github.com/fusionspim/steward/internal/infra/mail"
	"github.com/fusionspim/steward/internal/infra/mailjob"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

// timeFormat is how people read times.
const timeFormat = "2 January 2006, 15:04 UTC"

const (
	remindEvery = time.Hour
	remindBatch = 200 // requests of one query, and operators of one page
)

// round is the periodic job that finds the requests of which operators are to be reminded.
type round struct{}

// Kind implements jobs.Arguments.
func (round) Kind() string { return "request_reminder_round" }

// Policy implements jobs.Arguments. It is not retried: the next one runs within the hour.
func (round) Policy() jobs.Policy { return jobs.Policy{Queue: jobs.Upkeep, Attempts: 1, Unique: true} }

// reminder is the job that notifies or reminds all operators of one request.
type reminder struct {
	Customer id.Customer    `json:"customer_id"`
	Request  id.DataRequest `json:"request_id"`
}

// Kind implements jobs.Arguments.
func (reminder) Kind() string { return "request_reminder" }

// reminderMail is one mail to one operator.
type reminderMail struct {
	Operators id.Customer    `json:"customer_id"` // Fusions, whose users operators are
	Operator  id.User        `json:"user_id"`
	Customer  id.Customer    `json:"about_customer_id"`
	Request   id.DataRequest `json:"request_id"`
}

// Kind implements jobs.Arguments.
func (reminderMail) Kind() string { return "request_reminder_mail" }

// Policy implements jobs.Arguments. A fan-out that runs twice adds no second mail while the first
// waits.
func (reminderMail) Policy() jobs.Policy { return jobs.Policy{Queue: jobs.Mail, Unique: true} }

// Handlers returns the handlers of this package's jobs; none where mail is off.
func (s *Service) Handlers() []jobs.Handler {
	if s.mailing.Off() {
		return nil
	}
	return append(mailjob.Handlers(s.mailing, s.render),
		jobs.Handle(func(ctx context.Context, _ jobs.Job, _ round) error { return s.Remind(ctx) }),
		jobs.Handle(s.fanOut),
	)
}

// Periodic returns this package's periodic jobs.
func (s *Service) Periodic() []jobs.Periodic {
	if s.mailing.Off() {
		return nil
	}
	return []jobs.Periodic{{Every: remindEvery, Arguments: round{}}}
}

// Remind enqueues the reminders of every request that has been open for ten days, or for twenty,
// and of which operators were not reminded yet.
func (s *Service) Remind(ctx context.Context) error {
	for found := remindBatch; found == remindBatch && ctx.Err() == nil; {
		due, err := postgres.Platform(ctx, s.db, func(tx *postgres.Tx) ([]remindable, error) {
			return listRemindable(tx, remindBatch)
		})
		if err != nil {
			return err
		}
		for _, r := range due {
			err := s.db.InCustomer(ctx, r.customer, func(tx *postgres.Tx) error {
				marked, err := markReminded(tx, r.request)
				if err != nil || !marked {
					return err
				}
				return s.queue.EnqueueTx(tx, reminder{Customer: r.customer, Request: r.request})
			})
			if err != nil {
				return err
			}
		}
		found = len(due)
	}
	return nil
}

// announceTx enqueues the notification of operators of a request that was just filed.
func (s *Service) announceTx(tx *postgres.Tx, filed Request) error {
	if s.mailing.Off() {
		return nil
	}
	return s.queue.EnqueueTx(tx, reminder{Customer: tx.Customer, Request: filed.ID})
}

// fanOut enqueues a mail to each operator.
func (s *Service) fanOut(ctx context.Context, _ jobs.Job, asked reminder) error {
	operators, exists, err := s.customers.Find(ctx, customer.OperatorsSlug)
	if err != nil || !exists {
		return err
	}
	var before id.User
	for found := remindBatch; found == remindBatch; {
		page, err := s.users.List(ctx, principal.Principal{Customer: operators.ID},
			user.Filter{Role: principal.Operator, Status: user.Active}, before, remindBatch)
		if err != nil {
			return err
		}
		mails := make([]jobs.Arguments, len(page))
		for i, operator := range page {
			mails[i] = reminderMail{
				Operators: operators.ID, Operator: operator.ID, Customer: asked.Customer, Request: asked.Request,
			}
			before = operator.ID
		}
		err = s.db.InCustomer(ctx, operators.ID, func(tx *postgres.Tx) error {
			return s.queue.EnqueueManyTx(tx, mails)
		})
		if err != nil {
			return err
		}
		found = len(page)
	}
	return nil
}

// render renders one mail. None is sent about a request that was closed in the meantime.
func (s *Service) render(
	ctx context.Context, _ jobs.Job, asked reminderMail,
) (message mail.Message, wanted bool, err error) {
	var about Request
	var of customer.Customer
	err = s.db.InCustomer(ctx, asked.Customer, func(tx *postgres.Tx) (err error) {
		if about, err = get(tx, asked.Request); err != nil {
			return err
		}
		of, err = customer.GetTx(tx)
		return err
	})
	if fault.Is(err, fault.ResourceNotFound) || err == nil && !about.State.open() {
		return mail.Message{}, false, nil
	}
	if err != nil {
		return mail.Message{}, false, err
	}
	var to user.Addressee
	var exists bool
	err = s.db.InCustomer(ctx, asked.Operators, func(tx *postgres.Tx) (err error) {
		to, exists, err = user.HoldAddresseeTx(tx, asked.Operator)
		return err
	})
	if err != nil || !exists {
		return mail.Message{}, false, err
	}
	message, err = mail.NewNotice(to.Email, notice(about, of.Name, s.db.Now()))
	return message, true, err
}

// notice renders the state of a request. It names the customer and the request, and no person.
func notice(about Request, customerName string, now time.Time) mail.Notice {
	const day = 24 * time.Hour
	title := "A data-subject request is waiting"
	received, due := about.ReceivedAt.UTC().Format(timeFormat), about.DueAt.UTC().Format(timeFormat)
	open := fmt.Sprintf("The request %s of %s, of the kind %s, has been open for %d days.",
		about.ID, customerName, about.Kind, int(now.Sub(about.ReceivedAt)/day))
	if now.Sub(about.ReceivedAt) < day {
		title = "A data-subject request was filed"
		open = fmt.Sprintf("The request %s of %s, of the kind %s, was filed on %s.",
			about.ID, customerName, about.Kind, received)
	}
	deadline := "It has to be answered by " + due + "."
	if now.After(about.DueAt) {
		deadline = "It should have been answered by " + due + "."
	}
	next := "It has not been acknowledged."
	if about.State == Acknowledged {
		next = "It was acknowledged, and neither fulfilled nor rejected."
	}
	return mail.Notice{CustomerName: customerName, Title: title, Paragraphs: []string{open, deadline, next}}
}
