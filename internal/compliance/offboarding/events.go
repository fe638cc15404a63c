package offboarding

import (
	"time"

	"github.com/fusionspim/steward/internal/account/customer"
	"github.com/fusionspim/steward/internal/account/user"
	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/infra/jobs"
	"github.com/fusionspim/steward/internal/infra/mail"
	"github.com/fusionspim/steward/internal/infra/mailjob"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

// subject is what a mail tells of. The set is closed.
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

// Policy says how jobs treat it.
func (notice) Policy() jobs.Policy { return jobs.Policy{Queue: jobs.Mail, Unique: true} }

// tell has the customer's administrators told.
func (s *Service) tell(tx *postgres.Tx, of Offboarding, about subject) error {
	return user.NotifyAdministratorsTx(tx, s.mailing, s.queue, func(administrator id.User) jobs.Arguments { return notice{tx.Customer, administrator, of.ID, about} })
}

// Handlers are how this package's jobs are done.
func (s *Service) Handlers() []jobs.Handler {
	return mailjob.Handlers(s.mailing, mailjob.In(s.db, func(asked notice) id.Customer { return asked.Customer }, s.word))
}

// word words a mail. What is not so any more is not told.
func (s *Service) word(tx *postgres.Tx, _ jobs.Job, asked notice) (message mail.Message, wanted bool, err error) {
	to, there, err := user.HoldAddresseeTx(tx, asked.User)
	if err != nil || !there {
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
	message, err = mail.NewNotice(to.Email, wording(found, asked.About, of.Name))
	return message, true, err
}

func wording(of Offboarding, about subject, customerName string) mail.Notice {
	moment := func(at time.Time) string { return at.UTC().Format("2 January 2006, 15:04 UTC") }
	worded := mail.Notice{CustomerName: customerName}
	if about == ofCancellation {
		worded.Title = "Your contract goes on"
		worded.Paragraphs = []string{
			"The end of the contract of " + customerName + " was cancelled. Nothing was deleted, and everything works as before.",
			"The bundle that was made for you to collect is removed.",
		}
		return worded
	}
	end := moment(*of.DeletesAt)
	collect := "Until then everything works as before. An administrator can collect a bundle of everything that is kept for " + customerName +
		", by GET /v1/customer/offboarding/bundle of the API. To have it encrypted to a key of your own, send the key to PUT /v1/customer/offboarding/recipient first."
	certificate := "In the end there is a record of what was deleted, and by when no backup holds any of it. Ask Fusions for it by the number " + of.ID.String() + "; " +
		"it cannot be mailed to you afterwards, because your addresses are deleted too."
	mistaken := "If this is a mistake, tell Fusions before that time."
	switch about {
	case ofReminder:
		worded.Title = "Your data will be deleted soon"
		worded.Paragraphs = []string{"The contract of " + customerName + " ends. Everything that is kept for it will be deleted on " + end + ".", collect, certificate, mistaken}
	case ofEnd:
		worded.Title = "Your data is about to be deleted"
		worded.Paragraphs = []string{
			"This is the last notice: everything that is kept for " + customerName + ", its users and its audit trail included, will be deleted on " + end + ". After that nobody can sign in.",
			collect, certificate, mistaken,
		}
	case ofApproval, ofCancellation:
		worded.Title = "Your contract ends"
		worded.Paragraphs = []string{
			"The contract of " + customerName + " ends. Everything that is kept for it, its users and its audit trail included, will be deleted on " + end + ".", collect, certificate, mistaken,
		}
	}
	return worded
}
