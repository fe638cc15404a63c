package webhook

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"

	"github.com/fusionspim/steward/internal/audit"
	"github.com/fusionspim/steward/internal/customer"
	"github.com/fusionspim/steward/internal/fault"
	"github.com/fusionspim/steward/internal/id"
	"github.com/fusionspim/steward/internal/jobs"
	"github.com/fusionspim/steward/internal/mail"
	"github.com/fusionspim/steward/internal/postgres"
	"github.com/fusionspim/steward/internal/principal"
	"github.com/fusionspim/steward/internal/user"
)

// mostTold is how many administrators are told of a paused endpoint.
const mostTold = 100

// news is one mail to one administrator about an endpoint that was paused: its job's arguments.
type news struct {
	Customer id.Customer        `json:"customer_id"`
	User     id.User            `json:"user_id"`
	Endpoint id.WebhookEndpoint `json:"endpoint_id"`
	Reason   Reason             `json:"reason"`
}

// Kind implements jobs.Arguments.
func (news) Kind() string { return "webhook_paused_mail" }

// Policy says how the job is treated.
func (news) Policy() jobs.Policy { return jobs.Policy{Queue: jobs.Mail} }

// pause stops sending to an endpoint by the service's own hand, and has the administrators told.
func (s *Service) pause(tx *postgres.Tx, endpoint id.WebhookEndpoint, reason Reason) error {
	if err := pause(tx, endpoint, reason); err != nil {
		return err
	}
	err := audit.AppendTx(tx, audit.Act{
		Caller: principal.Principal{Customer: tx.Customer}, Action: audit.WebhookEndpointPaused, Target: audit.OnWebhookEndpoint(endpoint), Changed: []string{"status"},
	})
	if err != nil || s.settings.Sender == nil {
		return err
	}
	administrators, err := user.AdministratorsTx(tx, mostTold)
	if err != nil {
		return err
	}
	mails := make([]jobs.Arguments, len(administrators))
	for i, one := range administrators {
		mails[i] = news{Customer: tx.Customer, User: one, Endpoint: endpoint, Reason: reason}
	}
	return s.queue.EnqueueManyTx(tx, mails)
}

// Handlers are how this package's jobs are done; none where no mail is sent.
func (s *Service) Handlers() []jobs.Handler {
	if s.settings.Sender == nil {
		return nil
	}
	return []jobs.Handler{jobs.Handle(s.tell)}
}

// tell writes one mail and hands it to the mail server. Who is no administrator any more is not told, nor is anybody of an endpoint that is sent to again.
func (s *Service) tell(ctx context.Context, job jobs.Job, about news) error {
	var message mail.Message
	var wanted bool
	err := s.db.InCustomer(ctx, about.Customer, func(tx *postgres.Tx) (err error) {
		message, wanted, err = s.word(tx, about)
		return err
	})
	if err != nil || !wanted {
		return err
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "webhook %s %d %d", about.Customer, job.ID, job.CreatedAt.UnixMicro()))
	err = s.settings.Sender.Send(ctx, message, hex.EncodeToString(sum[:16])+"@"+s.settings.Domain)
	if mail.Permanent(err) {
		return jobs.InVain(err)
	}
	return err
}

func (s *Service) word(tx *postgres.Tx, about news) (message mail.Message, wanted bool, err error) {
	to, there, err := user.HoldAddresseeTx(tx, about.User)
	if err != nil || !there || to.Role != principal.Customer {
		return mail.Message{}, false, err
	}
	endpoint, err := get(tx, about.Endpoint, "")
	switch {
	case fault.Is(err, fault.ResourceNotFound):
		return mail.Message{}, false, nil
	case err != nil:
		return mail.Message{}, false, err
	case endpoint.Status != Paused || *endpoint.PausedReason != about.Reason:
		return mail.Message{}, false, nil
	}
	of, err := customer.GetTx(tx)
	if err != nil {
		return mail.Message{}, false, err
	}
	target, err := url.Parse(endpoint.URL)
	if err != nil {
		return mail.Message{}, false, err
	}
	why := "For three days every attempt to send a webhook there failed."
	if about.Reason == Gone {
		why = "It answered 410 (Gone), by which a receiver says that it wants no more."
	}
	message, err = mail.NewNotice(to.Email, mail.Notice{
		CustomerName: of.Name, Title: "A webhook endpoint is paused",
		Paragraphs: []string{
			// The host alone: the rest of the URL may hold a secret.
			"Steward has stopped sending webhooks to the endpoint " + about.Endpoint.String() + " at " + target.Host + ". " + why,
			"Nothing is lost: once its status is set to active again, the endpoint is told of everything since, as far back as 90 days. Until then GET /v1/events has the same events.",
		},
	})
	if err != nil {
		return mail.Message{}, false, jobs.InVain(err)
	}
	return message, true, nil
}
