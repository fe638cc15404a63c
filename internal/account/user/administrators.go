package user

import (
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/infra/jobs"
	"github.com/fusionspim/steward/internal/infra/mailjob"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

// maxNotified is how many administrators of a customer are notified of one thing.
const maxNotified = 100

// NotifyAdministratorsTx enqueues a mail to each active administrator of the transaction's
// customer, at most to the hundred oldest accounts. It enqueues none where mail is not configured.
func NotifyAdministratorsTx(
	tx *postgres.Tx, mailing mailjob.Mailing, queue *jobs.Queue, mailTo func(administrator id.User) jobs.Arguments,
) error {
	if mailing.Off() {
		return nil
	}
	administrators, err := administrators(tx, maxNotified)
	if err != nil {
		return err
	}
	mails := make([]jobs.Arguments, len(administrators))
	for i, administrator := range administrators {
		mails[i] = mailTo(administrator)
	}
	return queue.EnqueueManyTx(tx, mails)
}
