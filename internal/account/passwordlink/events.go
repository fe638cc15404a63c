package passwordlink

import (
	"fmt"
	"strings"

	"github.com/fusionspim/steward/internal/account/customer"
	"github.com/fusionspim/steward/internal/account/user"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/infra/jobs"
	"github.com/fusionspim/steward/internal/infra/mail"
	"github.com/fusionspim/steward/internal/infra/mailjob"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/infra/token"
)

// Handlers returns the job handlers of this package.
func (s *Service) Handlers() []jobs.Handler {
	return mailjob.Handlers(
		s.mailing.Mailing,
		mailjob.In(s.db, func(asked mailing) id.Customer { return asked.Customer }, s.word),
	)
}

// word renders the mail for the user as they are now, and creates the link in it.
func (s *Service) word(tx *postgres.Tx, job jobs.Job, asked mailing) (message mail.Message, wanted bool, err error) {
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
		return s.mailing.Page.link(
				of.Slug,
				text.Reveal(),
			), insert(
				tx,
				link{user: asked.User, linksSince: to.LinksSince},
				hash,
				purpose,
			)
	}
	switch asked.About {
	case aboutInvitation:
		leads, err := newLink(Invitation)
		if err != nil {
			return mail.Message{}, false, err
		}
		message, err = mail.NewInvitation(
			to.Email,
			mail.Invitation{PersonName: name, CustomerName: of.Name, Link: leads, ValidFor: Invitation.Lifetime()},
		)
		return message, true, err
	case aboutReset:
		leads, err := newLink(Reset)
		if err != nil {
			return mail.Message{}, false, err
		}
		message, err = mail.NewPasswordReset(
			to.Email,
			mail.PasswordReset{PersonName: name, CustomerName: of.Name, Link: leads, ValidFor: Reset.Lifetime()},
		)
		return message, true, err
	case aboutChange:
		contact := ""
		if of.PrivacyContact != nil {
			contact = *of.PrivacyContact
		}
		message, err = mail.NewPasswordChanged(
			to.Email,
			mail.PasswordChanged{PersonName: name, CustomerName: of.Name, At: job.CreatedAt, Contact: contact},
		)
		return message, true, err
	}
	return mail.Message{}, false, jobs.Cancel(fmt.Errorf("passwordlink: no mail is about %q", asked.About))
}
