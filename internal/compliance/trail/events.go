package trail

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/fusionspim/steward/internal/account/customer"
	"github.com/fusionspim/steward/internal/account/user"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/infra/jobs"
	"github.com/fusionspim/steward/internal/infra/mail"
	"github.com/fusionspim/steward/internal/infra/mailjob"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/record/audit"
)

// Handlers returns the job handlers of this package.
func (s *Service) Handlers() []jobs.Handler {
	publishing := jobs.Handle(
		func(ctx context.Context, _ jobs.Job, _ publication) error { return s.Publish(ctx) },
		jobs.Timeout(30*time.Minute),
	)
	return append(mailjob.Handlers(s.mailing, s.render), publishing)
}

// Periodic returns the periodic jobs.
func (s *Service) Periodic() []jobs.Periodic {
	return []jobs.Periodic{{Every: lookEvery, Arguments: publication{}}}
}

// Publish sends every customer the checkpoint of its trail if the trail has grown since the last
// one, and that, or the creation of the customer, was at least a day ago. It records an entry,
// which webhooks pass on, and sends a mail. One customer's failure does not hold up the others.
func (s *Service) Publish(ctx context.Context) error {
	const page = 500
	keys, err := s.keyring(ctx)
	if err != nil {
		return err
	}
	var failed error
	for after := (id.Customer{}); ; {
		var customers []listed
		err := s.db.InPlatform(ctx, func(tx *postgres.Tx) (err error) {
			customers, err = customersAfter(tx, after, page)
			return err
		})
		if err != nil {
			return errors.Join(failed, err)
		}
		for _, one := range customers {
			if ctx.Err() != nil {
				return errors.Join(failed, ctx.Err())
			}
			err := s.db.InCustomer(ctx, one.id, func(tx *postgres.Tx) error { return s.publishTx(tx, keys) })
			if err != nil {
				failed = errors.Join(failed, fmt.Errorf("trail: publishing the checkpoint of %s: %w", one.id, err))
			}
		}
		if len(customers) < page {
			return failed
		}
		after = customers[len(customers)-1].id
	}
}

func (s *Service) publishTx(tx *postgres.Tx, keys ring) error {
	if err := customer.LockTx(tx); err != nil { // of two concurrent runs, the second finds it done
		return err
	}
	of, err := customer.GetTx(tx)
	if err != nil {
		return err
	}
	size, at, err := lastPublished(tx)
	if at == nil {
		at = &of.CreatedAt
	}
	if err != nil || tx.Now.Sub(*at) < publishedEvery {
		return err
	}
	if grown, err := grownSince(tx, size); err != nil || !grown {
		return err
	}
	checkpoint, err := s.makeTx(tx, keys)
	if err != nil {
		return err
	}
	if err := markPublished(tx, int64(checkpoint.Size)); err != nil {
		return err
	}
	err = audit.AppendTx(tx, audit.Act{
		Caller: principal.Principal{
			Customer: tx.Customer,
		},
		Action: audit.CheckpointPublished,
		Target: audit.OnCheckpoint(int64(checkpoint.Size)),
	})
	if err != nil || s.mailing.Off() {
		return err
	}
	return s.notify(tx, of, int64(checkpoint.Size))
}

// notify sends a checkpoint to the customer's privacy contact, or to its administrators without
// one.
func (s *Service) notify(tx *postgres.Tx, of customer.Customer, size int64) error {
	if of.PrivacyContact != nil {
		return s.queue.EnqueueTx(tx, mailing{Customer: tx.Customer, Size: size})
	}
	return user.NotifyAdministratorsTx(tx, s.mailing, s.queue, func(administrator id.User) jobs.Arguments {
		return mailing{Customer: tx.Customer, Size: size, User: &administrator}
	})
}

// render renders the mail to the current recipient.
func (s *Service) render(
	ctx context.Context,
	job jobs.Job,
	asked mailing,
) (message mail.Message, wanted bool, err error) {
	keys, err := s.keyring(ctx)
	if err != nil {
		return mail.Message{}, false, err
	}
	return mailjob.In(s.db, func(asked mailing) id.Customer { return asked.Customer }, keys.render)(ctx, job, asked)
}

func (r ring) render(tx *postgres.Tx, _ jobs.Job, asked mailing) (message mail.Message, wanted bool, err error) {
	of, err := customer.GetTx(tx)
	if err != nil {
		return mail.Message{}, false, err
	}
	to := ""
	if asked.User != nil {
		found, there, err := user.HoldAddresseeTx(tx, *asked.User)
		if err != nil || !there {
			return mail.Message{}, false, err
		}
		to = found.Email
	} else if of.PrivacyContact != nil {
		to = *of.PrivacyContact
	}
	kept, found, err := checkpointOf(tx, asked.Size)
	if err != nil || !found || to == "" {
		return mail.Message{}, false, err
	}
	checkpoint, err := r.open(kept)
	if err != nil {
		return mail.Message{}, false, err
	}
	message, err = mail.NewNotice(to, mail.Notice{
		CustomerName: of.Name,
		Title:        fmt.Sprintf("Checkpoint of your audit trail: %d entries", checkpoint.Size),
		Paragraphs: []string{
			fmt.Sprintf(
				"On %s the audit trail of %s had %d entries. The lines below say so, signed. Please keep this mail: with it, you can prove later whether "+
					"anything that was in the trail by then has been changed or taken out.",
				checkpoint.CreatedAt.UTC().Format("2 January 2006 at 15:04 UTC"),
				of.Name,
				checkpoint.Size,
			),
			"To check, save the lines in a file as they are, the empty one included, and compare them with the trail: GET /v1/audit-checkpoints/latest with since_size=" +
				fmt.Sprint(
					checkpoint.Size,
				) + " answers with a proof, and the Go package trailproof verifies it. The key that signed the lines is " + checkpoint.VerifierKey + ".",
		},
		Verbatim: strings.TrimSuffix(checkpoint.Note, "\n"),
	})
	return message, true, err
}
