package offboarding

import (
	"github.com/fusionspim/steward/internal/account/customer"
	"github.com/fusionspim/steward/internal/account/user"
	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/infra/jobs"
	"github.com/fusionspim/steward/internal/infra/mail"
	"github.com/fusionspim/steward/internal/infra/mailjob"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

// subject is what a mail is about. The set is closed.
type subject string

const (
	ofApproval     subject = "approval"
	ofReminder     subject = "reminder"
	ofEnd          subject = "end" // the last one
	ofCancellation subject = "cancellation"
)

// notice is one mail to one administrator.
type notice struct {
	Customer    id.Customer    `json:"customer_id"`
	User        id.User        `json:"user_id"`
	Offboarding id.Offboarding `json:"offboarding_id"`
	About       subject        `json:"about"`
}

// Kind implements jobs.Arguments.
func (notice) Kind() string { return "offboarding_notice" }

// Policy implements jobs.Arguments.
func (notice) Policy() jobs.Policy { return jobs.Policy{Queue: jobs.Mail, Unique: true} }

// notify enqueues a mail to each of the customer's administrators.
func (s *Service) notify(tx *postgres.Tx, of Offboarding, about subject) error {
	return user.NotifyAdministratorsTx(tx, s.mailing, s.queue, func(administrator id.User) jobs.Arguments {
		return notice{tx.Customer, administrator, of.ID, about}
	})
}

// Handlers returns the handlers of this package's jobs.
func (s *Service) Handlers() []jobs.Handler {
	return mailjob.Handlers(
		s.mailing,
		mailjob.In(s.db, func(asked notice) id.Customer { return asked.Customer }, s.render),
	)
}

// render renders a mail. None is sent about what is no longer so.
func (s *Service) render(tx *postgres.Tx, _ jobs.Job, asked notice) (message mail.Message, wanted bool, err error) {
	to, exists, err := user.HoldAddresseeTx(tx, asked.User)
	if err != nil || !exists {
		return mail.Message{}, false, err
	}
	found, err := lock(tx, asked.Offboarding)
	switch {
	case fault.Is(err, fault.ResourceNotFound):
		return mail.Message{}, false, nil
	case err != nil:
		return mail.Message{}, false, err
	case (asked.About == ofCancellation) != (found.State == Cancelled) || found.State == Requested:
		return mail.Message{}, false, nil
	}
	of, err := customer.GetTx(tx)
	if err != nil {
		return mail.Message{}, false, err
	}
	message, err = mail.NewNotice(to.Email, text(found, asked.About, of.Name))
	return message, true, err
}

// text returns the text of a mail.
func text(of Offboarding, about subject, customerName string) mail.Notice {
	if about == ofCancellation {
		return mail.Notice{
			CustomerName: customerName, Title: "Your contract goes on",
			Paragraphs: []string{
				"The end of the contract of " + customerName + " was cancelled. Nothing was deleted, and everything " +
					"works as before.",
				"The bundle that was made for you to collect is removed.",
			},
		}
	}
	end := of.DeletesAt.UTC().Format("2 January 2006, 15:04 UTC")
	var title, ends string
	switch about {
	case ofReminder:
		title = "Your data will be deleted soon"
		ends = "The contract of " + customerName + " ends. Everything that is kept for it will be " +
			"deleted on " + end + "."
	case ofEnd:
		title = "Your data is about to be deleted"
		ends = "This is the last notice: everything that is kept for " + customerName + ", its users and its audit " +
			"trail included, will be deleted on " + end + ". After that nobody can sign in."
	case ofApproval, ofCancellation:
		title = "Your contract ends"
		ends = "The contract of " + customerName + " ends. Everything that is kept for it, its users and its audit " +
			"trail included, will be deleted on " + end + "."
	}
	return mail.Notice{
		CustomerName: customerName, Title: title,
		Paragraphs: []string{
			ends,
			"Until then everything works as before. An administrator can collect a bundle of everything that is " +
				"kept for " + customerName + ", by GET /v1/customer/offboarding/bundle of the API. To have it " +
				"encrypted to a key of your own, send the key to PUT /v1/customer/offboarding/recipient first.",
			"In the end there is a record of what was deleted, and by when no backup holds any of it. Ask Fusions " +
				"for it by the number " + of.ID.String() + "; it cannot be mailed to you afterwards, because your " +
				"addresses are deleted too.",
			"If this is a mistake, tell Fusions before that time.",
		},
	}
}
