package replay

import (
	"fmt"

	"github.com/fusionspim/steward/internal/account/customer"
	"github.com/fusionspim/steward/internal/account/user"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/infra/jobs"
	"github.com/fusionspim/steward/internal/infra/mail"
	"github.com/fusionspim/steward/internal/infra/mailjob"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

// notice is the job that mails one administrator about the corrections that are lost.
type notice struct {
	Customer id.Customer `json:"customer_id"`
	User     id.User     `json:"user_id"`
}

// Kind implements jobs.Arguments.
func (notice) Kind() string { return "corrections_lost" }

// Policy implements jobs.Arguments. One mail is about all corrections, however many batches find
// some.
func (notice) Policy() jobs.Policy { return jobs.Policy{Queue: jobs.Mail, Unique: true} }

// notify enqueues a mail to each of the customer's administrators.
func (r *Runner) notify(tx *postgres.Tx) error {
	return user.NotifyAdministratorsTx(tx, r.mailing, r.queue, func(administrator id.User) jobs.Arguments {
		return notice{tx.Customer, administrator}
	})
}

// Handlers returns the handlers of this package's jobs.
func (r *Runner) Handlers() []jobs.Handler {
	return mailjob.Handlers(
		r.mailing,
		mailjob.In(r.db, func(asked notice) id.Customer { return asked.Customer }, r.render),
	)
}

// render renders a mail. None is sent when no correction is lost any more.
func (r *Runner) render(tx *postgres.Tx, _ jobs.Job, asked notice) (message mail.Message, wanted bool, err error) {
	to, exists, err := user.HoldAddresseeTx(tx, asked.User)
	if err != nil || !exists {
		return mail.Message{}, false, err
	}
	count, err := user.LostCorrectionsTx(tx)
	if err != nil || count == 0 {
		return mail.Message{}, false, err
	}
	of, err := customer.GetTx(tx)
	if err != nil {
		return mail.Message{}, false, err
	}
	people := "one person was"
	if count > 1 {
		people = fmt.Sprintf("%d people were", count)
	}
	message, err = mail.NewNotice(to.Email, mail.Notice{
		CustomerName: of.Name, Title: "Please look at corrections that may be lost",
		Paragraphs: []string{
			"Our database had to be restored from a backup. Since that backup was made, the name or the address of " +
				people + " corrected at " + of.Name + ", and those corrections are lost. Erasures, opt-outs and " +
				"revoked access were replayed and are not affected.",
			"The users concerned have the member correction_lost_at. Please send their names and addresses again; " +
				"the member disappears by itself.",
		},
	})
	return message, true, err
}
