package webhook

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/fusionspim/steward/internal/account/customer"
	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/base/sensitive"
	"github.com/fusionspim/steward/internal/base/version"
	"github.com/fusionspim/steward/internal/infra/egress"
	"github.com/fusionspim/steward/internal/infra/idempotency"
	"github.com/fusionspim/steward/internal/infra/jobs"
	"github.com/fusionspim/steward/internal/infra/mailjob"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/infra/ratelimit"
	"github.com/fusionspim/steward/internal/infra/seal"
	"github.com/fusionspim/steward/internal/record/audit"
	"github.com/fusionspim/steward/internal/record/event"
	"github.com/fusionspim/steward/pkg/webhooksig"
)

// tests are how many pings a customer may send.
var tests = ratelimit.Limit{Burst: 20, Every: 5 * time.Second}

// Settings of webhooks.
type Settings struct {
	Policy  egress.Policy
	Mailing mailjob.Mailing
	// Observe measures each attempt; may be nil. It is a function because metrics are above (app).
	Observe func(outcome Outcome, took time.Duration)
}

// Service is webhooks as callers use them, and what sends them. Safe for concurrent use.
type Service struct {
	db       *postgres.DB
	box      *seal.Box
	limiter  *ratelimit.Limiter
	queue    *jobs.Queue
	client   *egress.Client
	settings Settings
	log      *slog.Logger
	replica  uuid.UUID // names the leases of this replica

	trips chan struct{} // one for each transaction of the workers under way
	mu    sync.Mutex
	busy  map[place]bool // endpoints that a worker of this replica has
	lanes int            // of the workers, besides the first of each
}

// NewService makes the service.
func NewService(db *postgres.DB, box *seal.Box, limiter *ratelimit.Limiter, queue *jobs.Queue, settings Settings, log *slog.Logger) *Service {
	if settings.Observe == nil {
		settings.Observe = func(Outcome, time.Duration) {}
	}
	return &Service{
		db: db, box: box, limiter: limiter, queue: queue, client: egress.NewClient(settings.Policy, nil), settings: settings, log: log, replica: uuid.New(),
		trips: make(chan struct{}, tripsAtOnce), busy: make(map[place]bool),
	}
}

// Create makes an endpoint of the caller's customer. The answer holds the secret; afterwards nobody can see it again. Faults: InvalidWebhookURL,
// InvalidName, WebhookLimit.
func (s *Service) Create(ctx context.Context, caller principal.Principal, in New, once *idempotency.Once[Made]) (made Made, err error) {
	if err := checkURL(in.URL, s.settings.Policy); err != nil {
		return Made{}, err
	}
	if in.Description, err = cleanDescription(in.Description); err != nil {
		return Made{}, err
	}
	return idempotency.Write(ctx, s.db, caller.Customer, once, func(tx *postgres.Tx) (Made, error) {
		return s.create(tx, caller, in)
	})
}

func (s *Service) create(tx *postgres.Tx, caller principal.Principal, in New) (Made, error) {
	if err := customer.LockTx(tx); err != nil { // or else two at once could be the twentieth
		return Made{}, err
	}
	there, err := count(tx)
	if err != nil {
		return Made{}, err
	}
	if there >= mostEndpoints {
		return Made{}, fault.New(fault.WebhookLimit, "The customer has 20 endpoints already.")
	}
	last, err := event.LastTx(tx)
	if err != nil {
		return Made{}, err
	}
	one := Endpoint{
		ID: id.New[id.WebhookEndpoint](), URL: in.URL, Description: in.Description, Events: inOrder(in.Events), Status: Active,
		Version: 1, CreatedAt: tx.Now, UpdatedAt: tx.Now,
	}
	if in.Status == Paused {
		reason := ByCustomer
		one.Status, one.PausedReason, one.PausedAt = Paused, &reason, &tx.Now
	}
	secret := webhooksig.NewSecret()
	if err := insert(tx, one, s.sealed(tx.Customer, one.ID, secret), last); err != nil {
		return Made{}, err
	}
	return Made{one, sensitive.New(secret.Reveal())},
		audit.AppendTx(tx, audit.Act{Caller: caller, Action: audit.WebhookEndpointCreated, Target: audit.OnWebhookEndpoint(one.ID)})
}

const secretLabel = "webhook secret"

// sealed seals a secret so that it opens for this endpoint alone.
func (s *Service) sealed(of id.Customer, endpoint id.WebhookEndpoint, secret webhooksig.Secret) []byte {
	return s.box.Seal(secretLabel, secret.Bytes(), append(of.UUID[:], endpoint.UUID[:]...))
}

func (s *Service) opened(of id.Customer, endpoint id.WebhookEndpoint, sealed []byte) (webhooksig.Secret, error) {
	key, err := s.box.Open(secretLabel, sealed, append(of.UUID[:], endpoint.UUID[:]...))
	if err != nil {
		return webhooksig.Secret{}, err
	}
	return webhooksig.SecretFromBytes(key)
}

// secretsOf opens the secrets that sign now.
func (s *Service) secretsOf(of id.Customer, endpoint id.WebhookEndpoint, sealed sealedSecrets, now time.Time) ([]webhooksig.Secret, error) {
	secret, err := s.opened(of, endpoint, sealed.present)
	if err != nil {
		return nil, err
	}
	secrets := []webhooksig.Secret{secret}
	if sealed.previousExpiresAt != nil && now.Before(*sealed.previousExpiresAt) {
		if secret, err = s.opened(of, endpoint, sealed.previous); err != nil {
			return nil, err
		}
		secrets = append(secrets, secret)
	}
	return secrets, nil
}

// List returns the customer's endpoints, newest first: at most limit of those made before the one named, or from the newest on.
func (s *Service) List(ctx context.Context, caller principal.Principal, before id.WebhookEndpoint, limit int) ([]Endpoint, error) {
	return postgres.Read(ctx, s.db, caller.Customer, func(tx *postgres.Tx) ([]Endpoint, error) {
		return list(tx, before, limit)
	})
}

// Get returns an endpoint. Fault: ResourceNotFound.
func (s *Service) Get(ctx context.Context, caller principal.Principal, endpoint id.WebhookEndpoint) (Endpoint, error) {
	return postgres.Read(ctx, s.db, caller.Customer, func(tx *postgres.Tx) (Endpoint, error) {
		return get(tx, endpoint, "")
	})
}

// Update changes an endpoint. Faults: ResourceNotFound, PreconditionFailed, InvalidWebhookURL, InvalidName.
func (s *Service) Update(ctx context.Context, caller principal.Principal, endpoint id.WebhookEndpoint, patch Patch, condition version.Condition) (after Endpoint, err error) {
	if patch.URL != nil {
		if err := checkURL(*patch.URL, s.settings.Policy); err != nil {
			return Endpoint{}, err
		}
	}
	if patch.Description != nil {
		text, err := cleanDescription(*patch.Description)
		if err != nil {
			return Endpoint{}, err
		}
		patch.Description = &text
	}
	if patch.Events != nil {
		types := inOrder(*patch.Events)
		patch.Events = &types
	}
	err = s.db.InCustomer(ctx, caller.Customer, func(tx *postgres.Tx) error {
		before, err := get(tx, endpoint, forUpdate)
		if err != nil {
			return err
		}
		if !condition.MetBy(before.Version) {
			return stale()
		}
		var changed []string
		if after, changed = patch.apply(before, tx.Now); len(changed) == 0 {
			return nil
		}
		after.Version, after.UpdatedAt = before.Version+1, tx.Now
		// What was held against another address, or before the customer said that all is well, counts no more.
		afresh := slices.Contains(changed, "url") || slices.Contains(changed, "status")
		if afresh {
			after.FailingSince = nil
		}
		if err := update(tx, after, afresh); err != nil {
			return err
		}
		return audit.AppendTx(tx, audit.Act{Caller: caller, Action: audit.WebhookEndpointChanged, Target: audit.OnWebhookEndpoint(endpoint), Changed: changed})
	})
	return after, err
}

// Delete ends an endpoint. Faults: ResourceNotFound, PreconditionFailed.
func (s *Service) Delete(ctx context.Context, caller principal.Principal, endpoint id.WebhookEndpoint, condition version.Condition) error {
	return s.db.InCustomer(ctx, caller.Customer, func(tx *postgres.Tx) error {
		before, err := get(tx, endpoint, forUpdate)
		if err != nil {
			return err
		}
		if !condition.MetBy(before.Version) {
			return stale()
		}
		if err := markDeleted(tx, endpoint); err != nil {
			return err
		}
		return audit.AppendTx(tx, audit.Act{Caller: caller, Action: audit.WebhookEndpointDeleted, Target: audit.OnWebhookEndpoint(endpoint)})
	})
}

// Rotate makes a new secret for an endpoint; the present one signs too for the overlap. Fault: ResourceNotFound.
func (s *Service) Rotate(ctx context.Context, caller principal.Principal, endpoint id.WebhookEndpoint, overlap time.Duration, once *idempotency.Once[Made]) (Made, error) {
	return idempotency.Write(ctx, s.db, caller.Customer, once, func(tx *postgres.Tx) (Made, error) {
		one, err := get(tx, endpoint, forUpdate)
		if err != nil {
			return Made{}, err
		}
		secret, ends := webhooksig.NewSecret(), tx.Now.Add(overlap)
		one.PreviousExpiresAt, one.Version, one.UpdatedAt = &ends, one.Version+1, tx.Now
		if err := rotate(tx, one, s.sealed(tx.Customer, endpoint, secret)); err != nil {
			return Made{}, err
		}
		return Made{one, sensitive.New(secret.Reveal())},
			audit.AppendTx(tx, audit.Act{Caller: caller, Action: audit.WebhookSecretRotated, Target: audit.OnWebhookEndpoint(endpoint)})
	})
}

// Test posts a ping to an endpoint, once, and tells what came of it; the status is zero where there was no answer. Faults: ResourceNotFound, TooManyAttempts.
func (s *Service) Test(ctx context.Context, caller principal.Principal, endpoint id.WebhookEndpoint) (outcome Outcome, status int, err error) {
	if _, err := s.Get(ctx, caller, endpoint); err != nil {
		return "", 0, err
	}
	taken, wait, err := s.limiter.Allow(ctx, ratelimit.NewCounter("webhook test", tests, caller.Customer.String()))
	if err != nil {
		return "", 0, err
	}
	if !taken {
		return "", 0, ratelimit.Refused(wait)
	}
	var target *url.URL
	var secrets []webhooksig.Secret
	var now time.Time
	err = s.db.InCustomer(ctx, caller.Customer, func(tx *postgres.Tx) error {
		one, err := get(tx, endpoint, "")
		if err != nil {
			return err
		}
		if target, err = url.Parse(one.URL); err != nil {
			return err
		}
		sealed, err := secretsOf(tx, endpoint)
		if err != nil {
			return err
		}
		if secrets, err = s.secretsOf(tx.Customer, endpoint, sealed, tx.Now); err != nil {
			return err
		}
		now = tx.Now
		return audit.AppendTx(tx, audit.Act{Caller: caller, Action: audit.WebhookEndpointTested, Target: audit.OnWebhookEndpoint(endpoint)})
	})
	if err != nil {
		return "", 0, err
	}
	ping := id.New[id.Entry]()
	outcome, status, _ = s.post(ctx, target, secrets, ping, event.Ping(ping, now))
	return outcome, status, nil
}

// post makes one attempt.
func (s *Service) post(ctx context.Context, target *url.URL, secrets []webhooksig.Secret, event id.Entry, body []byte) (outcome Outcome, status int, header http.Header) {
	header = http.Header{"Content-Type": {"application/json"}, "User-Agent": {"Steward-Webhooks"}, "Accept": {"*/*"}}
	webhooksig.Sign(secrets, header, webhooksig.Message{ID: event.String(), SignedAt: s.db.Now()}, body)
	began := time.Now()
	answer, err := s.client.Post(ctx, target, header, body, longestAnswer)
	switch {
	case err != nil:
		outcome = Outcome(egress.ReasonOf(err))
	case answer.Status >= 200 && answer.Status < 300:
		outcome = Delivered
	default:
		outcome = OtherStatus
	}
	s.settings.Observe(outcome, time.Since(began))
	return outcome, answer.Status, answer.Header
}

// Deliveries returns what became of events at an endpoint, newest first: at most limit of those before the one named, or from the newest on; in one state, if
// one is given. Fault: ResourceNotFound.
func (s *Service) Deliveries(ctx context.Context, caller principal.Principal, endpoint id.WebhookEndpoint, only State, before id.Entry, limit int) (found []Delivery, err error) {
	err = s.db.InCustomerAutocommit(ctx, caller.Customer, func(tx *postgres.Tx) error {
		if found, err = deliveries(tx, endpoint, only, before, limit); err == nil && len(found) == 0 {
			_, err = get(tx, endpoint, "")
		}
		return err
	})
	return found, err
}

// Repeat has an event sent to an endpoint again. Faults: ResourceNotFound, WebhookPaused.
func (s *Service) Repeat(ctx context.Context, caller principal.Principal, endpoint id.WebhookEndpoint, delivery id.Entry, once *idempotency.Once[Delivery]) (Delivery, error) {
	return idempotency.Write(ctx, s.db, caller.Customer, once, func(tx *postgres.Tx) (Delivery, error) {
		one, err := get(tx, endpoint, forUpdate)
		if err != nil {
			return Delivery{}, err
		}
		find := requeue
		if one.Status != Active {
			find = deliveryExists
		}
		exists, err := find(tx, endpoint, delivery)
		switch {
		case err != nil:
			return Delivery{}, err
		case !exists:
			return Delivery{}, fault.New(fault.ResourceNotFound, "There is no such delivery.")
		case one.Status != Active:
			return Delivery{}, fault.New(fault.WebhookPaused, "The endpoint is paused. Set it to active first.")
		}
		found, err := deliveryOf(tx, endpoint, delivery)
		if err != nil {
			return Delivery{}, err
		}
		return found,
			audit.AppendTx(tx, audit.Act{Caller: caller, Action: audit.WebhookDeliveryRepeated, Target: audit.OnWebhookEndpoint(endpoint)})
	})
}

// WakeTx makes the customer's active endpoints due, within the transaction that makes events.
func WakeTx(tx *postgres.Tx) error { return wake(tx) }
