package webhook

import (
	"net/url"

	"github.com/fusionspim/steward/internal/account/customer"
	"github.com/fusionspim/steward/internal/account/user"
	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/infra/jobs"
	"github.com/fusionspim/steward/internal/infra/mail"
	"github.com/fusionspim/steward/internal/infra/mailjob"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/record/audit"
)

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
	if err != nil {
		return err
	}
	return user.NotifyAdministratorsTx(tx, s.settings.Mailing, s.queue, func(administrator id.User) jobs.Arguments {
		return news{Customer: tx.Customer, User: administrator, Endpoint: endpoint, Reason: reason}
	})
}

// Handlers are how this package's jobs are done.
func (s *Service) Handlers() []jobs.Handler {
	return mailjob.Handlers(s.settings.Mailing, mailjob.In(s.db, func(about news) id.Customer { return about.Customer }, s.word))
}

// word words a mail. Who is no administrator any more is not told, nor is anybody of an endpoint that is sent to again.
func (s *Service) word(tx *postgres.Tx, _ jobs.Job, about news) (message mail.Message, wanted bool, err error) {
	to, there, err := user.HoldAddresseeTx(tx, about.User)
	if err != nil || !there || to.Role != principal.Administrator {
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
	return message, true, err
}
