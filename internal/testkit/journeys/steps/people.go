package steps

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/testkit/apptest"
)

// cheapHash is a hash of apptest.Password that costs nearly nothing to verify: Argon2id with 8 KiB
// in one pass and the salt "salt for tests..". The service never makes one like it.
const cheapHash = "$argon2id$v=19$m=8,t=1,p=1$c2FsdCBmb3IgdGVzdHMuLg$JVC+u5K0Ei83xgyyuB1rzl30U1aTzbDZXVhpaTlKXcE"

// SeedPeople inserts many users at once, past the service, and returns their ids. Their password is
// apptest.Password.
func SeedPeople(t testing.TB, service *apptest.Service, conn *pgx.Conn, of apptest.Customer, role principal.Role, prefix string, count int) []string {
	t.Helper()
	ids, emails := make([]string, count), make([]string, count)
	for i := range ids {
		ids[i], emails[i] = id.New[id.User]().String(), fmt.Sprintf("%s-%d@%s.example", prefix, i, of.Slug)
	}
	Execute(t, conn, `
		insert into users (customer_id, id, role, status, first_name, last_name, email, first_name_key, last_name_key, email_key, password_hash,
			alerts_opted_in, alerts_set_by, alerts_set_at, sessions_since, links_since, version, created_at, updated_at)
		select $1, one.id, $2, 'active', 'First', 'Last', one.email, 'first', 'last', one.email, $3, true, 'creation', $4, $4, $4, 1, $4, $4
		from unnest($5::uuid[], $6::text[]) as one (id, email)`,
		of.ID.String(), string(role), cheapHash, service.Database.Clock.Now(), ids, emails)
	return ids
}

// SignInAs tries to sign in one of the people of SeedPeople.
func SignInAs(t testing.TB, service *apptest.Service, of apptest.Customer, email string) apptest.Answer {
	t.Helper()
	return At(t, service, "POST", "/v1/sessions",
		apptest.JSON(map[string]string{"customer": of.Slug, "email": email, "password": apptest.Password}))
}

// Entry returns an entry of the trail as the API takes one.
func Entry(actor, sourceID string) map[string]any {
	return map[string]any{
		"actor_user_id": actor, "action": "product.updated", "target": map[string]string{"type": "product", "id": "4711"},
		"occurred_at": "2026-03-01T11:00:00Z", "source_id": sourceID, "details": map[string]any{"revision": 7},
	}
}

// InsertEntry inserts an entry of the trail past the service.
func InsertEntry(t testing.TB, conn *pgx.Conn, of apptest.Customer, actor string) {
	t.Helper()
	if err := TryEntry(t.Context(), conn, of.ID.String(), actor); err != nil {
		t.Fatal(err)
	}
}

// TryEntry does so in a goroutine, and returns the error.
func TryEntry(ctx context.Context, conn *pgx.Conn, customer, actor string) error {
	_, err := conn.Exec(ctx, `
		insert into audit_entries (customer_id, id, source, actor_type, actor_user_id, action, target_type, target_id, changed, occurred_at, recorded_at)
		values ($1, $2, 'integration', 'user', $3, 'product.updated', 'product', '4711', '{}', '2026-03-01T11:00:00Z', now())`,
		customer, id.New[id.Entry]().String(), actor)
	return err
}

// JudgeDelete reports whether the person was deleted. A refusal must say how many entries there
// are, from when to when, and what to do instead.
func JudgeDelete(t *testing.T, person string, answer apptest.Answer) bool {
	t.Helper()
	if answer.Status == http.StatusOK {
		return true
	}
	var problem struct {
		References []struct {
			Source  string
			Count   int
			FirstAt time.Time `json:"first_at"`
			LastAt  time.Time `json:"last_at"`
		}
		Redaction string
	}
	answer.Into(t, &problem)
	occurred := time.Date(2026, time.March, 1, 11, 0, 0, 0, time.UTC)
	if !Is(t, answer, http.StatusConflict, "audit-trail-incomplete") || len(problem.References) != 1 || problem.References[0].Source != "integration" ||
		problem.References[0].Count != 1 || !problem.References[0].FirstAt.Equal(occurred) || !problem.References[0].LastAt.Equal(occurred) ||
		problem.Redaction != "/v1/users/"+person+"/redaction" {
		t.Errorf("not an answer to a delete, or not a true one: %d %s", answer.Status, answer.Body)
	}
	return false
}

// SeedAccounts inserts users with everything that an account has, and two entries each in the
// trail.
func SeedAccounts(t testing.TB, service *apptest.Service, conn *pgx.Conn, of apptest.Customer, count int) []string {
	t.Helper()
	people := SeedPeople(t, service, conn, of, principal.User, "account", count)
	now := service.Database.Clock.Now()
	for _, statement := range []string{
		`insert into sessions (customer_id, id, user_id, transport, created_at, refreshed_at, expires_at)
			select $1, gen_random_uuid(), person, 'token', $3, $3, $3::timestamptz + interval '7 days' from unnest($2::uuid[]) person, generate_series(1, 2)`,
		`insert into refresh_tokens (customer_id, session_id, hash, created_at)
			select customer_id, id, sha256(id::text::bytea), $3 from sessions where customer_id = $1 and user_id = any ($2::uuid[])`,
		`insert into login_records (customer_id, id, user_id, occurred_at, address, outcome, inside_networks)
			select $1, gen_random_uuid(), person, $3, '203.0.113.77', 'succeeded', false from unnest($2::uuid[]) person, generate_series(1, 3)`,
		`insert into audit_entries (customer_id, id, source, actor_type, actor_user_id, action, target_type, target_id, changed, occurred_at, recorded_at)
			select $1, gen_random_uuid(), 'integration', 'user', person, 'product.updated', 'product', '4711', '{}', $3, $3
			from unnest($2::uuid[]) person, generate_series(1, 2)`,
		`insert into idempotency_answers (customer_id, credential_id, key_hash, fingerprint, answer, subject_user_id, created_at)
			select $1, gen_random_uuid(), sha256(person::text::bytea), '\x00', '\x00', person, $3 from unnest($2::uuid[]) person`,
	} {
		Execute(t, conn, statement, of.ID.String(), people, now)
	}
	return people
}
