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

const (
	remindEvery = time.Hour
	remindBatch = 200 // requests of one look, and operators of one page
)

// round looks for requests of which operators are to be reminded.
type round struct{}

// Kind implements jobs.Arguments.
func (round) Kind() string { return "request_reminder_round" }

// Policy says how jobs treat it: the next one comes within the hour.
func (round) Policy() jobs.Policy { return jobs.Policy{Queue: jobs.Upkeep, Attempts: 1, Unique: true} }

// reminder has all operators told or reminded of one request.
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

// Policy says how jobs treat it. A fan-out that is done twice adds no second mail while the first waits.
func (reminderMail) Policy() jobs.Policy { return jobs.Policy{Queue: jobs.Mail, Unique: true} }

// Handlers are how this package's jobs are done; none where no mail is sent.
func (s *Service) Handlers() []jobs.Handler {
	if s.mailing.Off() {
		return nil
	}
	return append(mailjob.Handlers(s.mailing, s.word),
		jobs.Handle(func(ctx context.Context, _ jobs.Job, _ round) error { return s.Remind(ctx) }),
		jobs.Handle(s.fanOut),
	)
}

// Periodic is what is done again and again.
func (s *Service) Periodic() []jobs.Periodic {
	if s.mailing.Off() {
		return nil
	}
	return []jobs.Periodic{{Every: remindEvery, Arguments: round{}}}
}

// Remind has operators reminded of every request that was open for ten days, or for twenty, and of which they were not reminded yet.
func (s *Service) Remind(ctx context.Context) error {
	for found := remindBatch; found == remindBatch && ctx.Err() == nil; {
		var due []remindable
		err := s.db.InPlatform(ctx, func(tx *postgres.Tx) (err error) {
			due, err = listRemindable(tx, remindBatch)
			return err
		})
		if err != nil {
			return err
		}
		for _, one := range due {
			err := s.db.InCustomer(ctx, one.customer, func(tx *postgres.Tx) error {
				marked, err := markReminded(tx, one.request)
				if err != nil || !marked {
					return err
				}
				return s.queue.EnqueueTx(tx, reminder{Customer: one.customer, Request: one.request})
			})
			if err != nil {
				return err
			}
		}
		found = len(due)
	}
	return nil
}

// announceTx has operators told of a request that was just filed.
func (s *Service) announceTx(tx *postgres.Tx, filed Request) error {
	if s.mailing.Off() {
		return nil
	}
	return s.queue.EnqueueTx(tx, reminder{Customer: tx.Customer, Request: filed.ID})
}

// fanOut asks for a mail to each operator.
func (s *Service) fanOut(ctx context.Context, _ jobs.Job, asked reminder) error {
	operators, known, err := s.customers.Find(ctx, customer.OperatorsSlug)
	if err != nil || !known {
		return err
	}
	var before id.User
	for found := remindBatch; found == remindBatch; {
		page, err := s.users.List(ctx, principal.Principal{Customer: operators.ID}, user.Filter{Role: principal.Operator, Status: user.Active}, before, remindBatch)
		if err != nil {
			return err
		}
		mails := make([]jobs.Arguments, len(page))
		for i, one := range page {
			mails[i] = reminderMail{Operators: operators.ID, Operator: one.ID, Customer: asked.Customer, Request: asked.Request}
			before = one.ID
		}
		err = s.db.InCustomer(ctx, operators.ID, func(tx *postgres.Tx) error { return s.queue.EnqueueManyTx(tx, mails) })
		if err != nil {
			return err
		}
		found = len(page)
	}
	return nil
}

// word words one mail. Of a request that was closed in the meantime there is nothing to say.
func (s *Service) word(ctx context.Context, _ jobs.Job, asked reminderMail) (message mail.Message, wanted bool, err error) {
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
	var there bool
	err = s.db.InCustomer(ctx, asked.Operators, func(tx *postgres.Tx) (err error) {
		to, there, err = user.HoldAddresseeTx(tx, asked.Operator)
		return err
	})
	if err != nil || !there {
		return mail.Message{}, false, err
	}
	message, err = mail.NewNotice(to.Email, wording(about, of.Name, s.db.Now()))
	return message, true, err
}

// wording says how far a request is. It names the customer and the request, and nobody.
func wording(about Request, customerName string, now time.Time) mail.Notice {
	const day = 24 * time.Hour
	title := "A data-subject request is waiting"
	open := fmt.Sprintf("The request %s of %s, of the kind %s, has been open for %d days.", about.ID, customerName, about.Kind, int(now.Sub(about.ReceivedAt)/day))
	if now.Sub(about.ReceivedAt) < day {
		title = "A data-subject request was filed"
		open = fmt.Sprintf("The request %s of %s, of the kind %s, was filed on %s.", about.ID, customerName, about.Kind, about.ReceivedAt.UTC().Format("2 January 2006, 15:04 UTC"))
	}
	due := "It has to be answered by " + about.DueAt.UTC().Format("2 January 2006, 15:04 UTC") + "."
	if now.After(about.DueAt) {
		due = "It should have been answered by " + about.DueAt.UTC().Format("2 January 2006, 15:04 UTC") + "."
	}
	next := "Nobody has acknowledged it yet."
	if about.State == Acknowledged {
		next = "It was acknowledged, and neither fulfilled nor rejected."
	}
	return mail.Notice{CustomerName: customerName, Title: title, Paragraphs: []string{open, due, next}}
}
