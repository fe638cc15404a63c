package app_test

import (
	"testing"

	"github.com/fusionspim/steward/internal/app/apptest"
	"github.com/fusionspim/steward/internal/id"
	"github.com/fusionspim/steward/internal/principal"
	"github.com/fusionspim/steward/internal/webhook"
)

// webhookOf makes an endpoint of a customer with one delivery that succeeded.
func webhookOf(t testing.TB, s *apptest.Service, of apptest.Customer, url string) (endpoint, delivery string) {
	t.Helper()
	conn := s.Database.Superuser(t)
	execute(t, conn, "update webhook_endpoints set status = 'deleted', paused_reason = null, paused_at = null, due_at = null where customer_id = $1", of.ID.String())
	made, err := s.Webhooks.Create(t.Context(), principal.Principal{Customer: of.ID, Role: principal.Customer}, webhook.New{URL: url}, nil)
	if err != nil {
		t.Fatal(err)
	}
	delivery = id.New[id.Entry]().String()
	now := s.Database.Clock.Now()
	execute(t, conn, `insert into events (customer_id, number, id, type, subject_type, subject_id, occurred_at, created_at)
		select $1, 1000000 + count(*), $2, 'user.created', 'user', $3, $4, $4 from events where customer_id = $1`, of.ID.String(), delivery, of.User.ID.String(), now)
	execute(t, conn, `insert into webhook_deliveries (customer_id, endpoint_id, id, number, state, attempts, step, last_attempt_at, last_outcome, last_status, created_at)
		select customer_id, $1, id, number, 'succeeded', 1, 1, $3, 'delivered', 200, $3 from events where id = $2`, made.ID.String(), delivery, now)
	return made.ID.String(), delivery
}
