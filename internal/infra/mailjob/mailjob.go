// Package mailjob is how the work in the background sends one mail to one person.
//
// Owns: what all such jobs share: the mail is worded when the mail server listens, as things are by
// then, and sent at once; its Message-ID is the same at every attempt, so that whoever gets it
// twice can tell; what is refused for good is not tried again.
// Does not own: what mails say, and whether there is still anything to say (the features); how a
// mail is written and handed over (mail); alerts, which go out in batches (alert).
package mailjob

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/infra/jobs"
	"github.com/fusionspim/steward/internal/infra/mail"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

// Mailing is how mails reach people. The zero Mailing sends none.
type Mailing struct {
	Sender *mail.Sender // nil: no mail is sent, and none is enqueued
	Domain string       // of the ids of messages
}

// Off tells whether no mail is sent.
func (m Mailing) Off() bool { return m.Sender == nil }

// Word words the mail that a job asks for. Nothing is wanted where nobody is there, or there is
// nothing to say any more; the job is done then.
type Word[A jobs.Arguments] func(ctx context.Context, job jobs.Job, asked A) (message mail.Message, wanted bool, err error)

// In words a mail in a transaction of the customer whom the job names, so that whom it goes to can
// be held until it is worded.
func In[A jobs.Arguments](
	db *postgres.DB,
	customer func(asked A) id.Customer,
	word func(tx *postgres.Tx, job jobs.Job, asked A) (mail.Message, bool, error),
) Word[A] {
	return func(ctx context.Context, job jobs.Job, asked A) (message mail.Message, wanted bool, err error) {
		err = db.InCustomer(ctx, customer(asked), func(tx *postgres.Tx) (err error) {
			message, wanted, err = word(tx, job, asked)
			return err
		})
		return message, wanted, err
	}
}

// Handlers are how the jobs with arguments of the type A are done; none where no mail is sent.
func Handlers[A jobs.Arguments](m Mailing, word Word[A]) []jobs.Handler {
	if m.Off() {
		return nil
	}
	return []jobs.Handler{jobs.Handle(func(ctx context.Context, job jobs.Job, asked A) error {
		err := m.Sender.Send(
			ctx,
			func() (mail.Message, bool, error) { return word(ctx, job, asked) },
			m.messageID(asked.Kind(), job),
		)
		// the mail server refused it, or what it is to say cannot be worded
		if mail.Permanent(err) {
			return jobs.Cancel(err)
		}
		return err
	})}
}

func (m Mailing) messageID(kind string, job jobs.Job) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d %d", kind, job.ID, job.CreatedAt.UnixMicro()))
	return hex.EncodeToString(sum[:16]) + "@" + m.Domain
}
