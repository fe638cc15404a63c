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

// notice asks for a mail to one administrator about the corrections that are lost.
type notice struct {
	Customer id.Customer `json:"customer_id"`
	User     id.User     `json:"user_id"`
}

// Kind implements jobs.Arguments.
func (notice) Kind() string { return "corrections_lost" }

// Policy implements the treatment of these jobs: one mail tells of all, however many batches find some.
func (notice) Policy() jobs.Policy { return jobs.Policy{Queue: jobs.Mail, Unique: true} }

// tell has the customer's administrators told.
func (c *Runner) tell(tx *postgres.Tx) error {
	return user.NotifyAdministratorsTx(tx, c.mailing, c.queue, func(administrator id.User) jobs.Arguments { return notice{tx.Customer, administrator} })
}

// Handlers are how this package's jobs are done.
func (c *Runner) Handlers() []jobs.Handler {
	return mailjob.Handlers(c.mailing, mailjob.In(c.db, func(asked notice) id.Customer { return asked.Customer }, c.word))
}

// word words a mail, unless nothing is lost any more.
func (c *Runner) word(tx *postgres.Tx, _ jobs.Job, asked notice) (message mail.Message, wanted bool, err error) {
	to, there, err := user.HoldAddresseeTx(tx, asked.User)
	if err != nil || !there {
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
			"Our database had to be brought back from a backup. Since that backup was made, the name or the address of " + people +
				" corrected at " + of.Name + ", and those corrections are lost. Erasures, opt-outs and revoked access were carried out again and are not affected.",
			"The users concerned carry the member correction_lost_at. Please send their names and addresses once more; the mark goes away by itself.",
		},
	})
	return message, true, err
}
