package replay

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/fusionspim/steward/internal/customer"
	"github.com/fusionspim/steward/internal/id"
	"github.com/fusionspim/steward/internal/jobs"
	"github.com/fusionspim/steward/internal/mail"
	"github.com/fusionspim/steward/internal/postgres"
	"github.com/fusionspim/steward/internal/user"
)

// mostTold is how many administrators of a customer are told.
const mostTold = 50

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
func (c *Conductor) tell(tx *postgres.Tx) error {
	if c.mailing.Sender == nil {
		return nil
	}
	administrators, err := user.AdministratorsTx(tx, mostTold)
	if err != nil {
		return err
	}
	asked := make([]jobs.Arguments, len(administrators))
	for i, one := range administrators {
		asked[i] = notice{tx.Customer, one}
	}
	return c.queue.EnqueueManyTx(tx, asked)
}

// Handlers are how this package's jobs are done; none where no mail is sent.
func (c *Conductor) Handlers() []jobs.Handler {
	if c.mailing.Sender == nil {
		return nil
	}
	return []jobs.Handler{jobs.Handle(c.send)}
}

func (c *Conductor) send(ctx context.Context, job jobs.Job, asked notice) error {
	var message mail.Message
	var wanted bool
	err := c.db.InCustomer(ctx, asked.Customer, func(tx *postgres.Tx) (err error) {
		message, wanted, err = c.write(tx, asked)
		return err
	})
	if err != nil || !wanted {
		return err
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d %d", asked.Customer, job.ID, job.CreatedAt.UnixMicro()))
	err = c.mailing.Sender.Send(ctx, message, hex.EncodeToString(sum[:16])+"@"+c.mailing.Domain)
	if mail.Permanent(err) {
		return jobs.InVain(err)
	}
	return err
}

func (c *Conductor) write(tx *postgres.Tx, asked notice) (message mail.Message, wanted bool, err error) {
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
	if err != nil {
		return mail.Message{}, false, jobs.InVain(fmt.Errorf("replay: %s", strings.TrimSpace(err.Error())))
	}
	return message, true, nil
}
