package passwordlink

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
	"github.com/fusionspim/steward/internal/token"
	"github.com/fusionspim/steward/internal/user"
)

// Handlers are how this package's jobs are done; none where no mail is sent.
func (s *Service) Handlers() []jobs.Handler {
	if s.mailing.Sender == nil {
		return nil
	}
	return []jobs.Handler{jobs.Handle(s.send)}
}

// send writes one mail and hands it to the mail server. Nobody there, or nothing to say any more, is done.
func (s *Service) send(ctx context.Context, job jobs.Job, asked mailing) error {
	var message mail.Message
	var wanted bool
	err := s.db.InCustomer(ctx, asked.Customer, func(tx *postgres.Tx) (err error) {
		message, wanted, err = s.write(tx, job, asked)
		return err
	})
	if err != nil || !wanted {
		return err
	}
	err = s.mailing.Sender.Send(ctx, message, s.messageID(asked.Customer, job))
	if mail.Permanent(err) {
		return jobs.InVain(err)
	}
	return err
}

// write words the mail to somebody as the person is now, and makes the link that it carries.
func (s *Service) write(tx *postgres.Tx, job jobs.Job, asked mailing) (message mail.Message, wanted bool, err error) {
	to, there, err := user.HoldAddresseeTx(tx, asked.User)
	if err != nil || !there || (asked.About == aboutInvitation && to.PasswordSet) {
		return mail.Message{}, false, err
	}
	of, err := customer.GetTx(tx)
	if err != nil {
		return mail.Message{}, false, err
	}
	name := strings.TrimSpace(to.FirstName + " " + to.LastName)
	newLink := func(purpose Purpose) (string, error) {
		text, hash := token.NewLink(asked.Customer, asked.User)
		return s.mailing.Page.link(of.Slug, text.Reveal()), insert(tx, link{user: asked.User, linksSince: to.LinksSince}, hash, purpose)
	}
	switch asked.About {
	case aboutInvitation:
		leads, err := newLink(Invitation)
		if err != nil {
			return mail.Message{}, false, err
		}
		message, err = mail.NewInvitation(to.Email, mail.Invitation{PersonName: name, CustomerName: of.Name, Link: leads, ValidFor: Invitation.Lifetime()})
		return message, true, worded(err)
	case aboutReset:
		leads, err := newLink(Reset)
		if err != nil {
			return mail.Message{}, false, err
		}
		message, err = mail.NewPasswordReset(to.Email, mail.PasswordReset{PersonName: name, CustomerName: of.Name, Link: leads, ValidFor: Reset.Lifetime()})
		return message, true, worded(err)
	case aboutChange:
		contact := ""
		if of.PrivacyContact != nil {
			contact = *of.PrivacyContact
		}
		message, err = mail.NewPasswordChanged(to.Email, mail.PasswordChanged{PersonName: name, CustomerName: of.Name, At: job.CreatedAt, Contact: contact})
		return message, true, worded(err)
	}
	return mail.Message{}, false, jobs.InVain(fmt.Errorf("passwordlink: no mail is about %q", asked.About))
}

// worded says of a mail that cannot be worded that it never can. What is wrong is said without what was given.
func worded(err error) error {
	if err == nil {
		return nil
	}
	return jobs.InVain(err)
}

// messageID is the same at every attempt, so that whoever gets a mail twice can tell.
func (s *Service) messageID(of id.Customer, job jobs.Job) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d %d", of, job.ID, job.CreatedAt.UnixMicro()))
	return hex.EncodeToString(sum[:16]) + "@" + s.mailing.Domain
}
