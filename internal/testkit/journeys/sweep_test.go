package journeys

import (
	"testing"
	"time"

	"github.com/fusionspim/steward/internal/testkit/apptest"
)

// What is past its time goes, and nothing else does.
func TestSweep(t *testing.T) {
	t.Parallel()
	service := apptest.Start(t)
	acme := service.Customer(t, "acme")
	looking := service.Database.Superuser(t)
	count := func(table string) (n int) {
		t.Helper()
		if err := looking.QueryRow(t.Context(), "select count(*) from "+table).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	sweep := func() {
		t.Helper()
		if err := service.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	token := service.SignIn(t, acme.Slug, acme.Admin)
	service.Call(t, "POST", "/v1/users", apptest.As(token), apptest.Header("Idempotency-Key", "k"),
		apptest.JSON(map[string]string{"first_name": "A", "last_name": "B", "email": "a.b@acme.example"})).Want(t, 201)
	sweep()
	for _, table := range []string{"idempotency_answers", "sessions", "refresh_tokens", "login_records"} {
		if count(table) != 1 {
			t.Errorf("%s: %d rows before their time", table, count(table))
		}
	}
	for _, step := range []struct {
		after time.Duration
		gone  []string
	}{
		{25 * time.Hour, []string{"idempotency_answers"}},
		{8 * 24 * time.Hour, []string{"sessions", "refresh_tokens"}},
		{83 * 24 * time.Hour, []string{"login_records"}},
	} {
		service.Database.Clock.Advance(step.after)
		sweep()
		for _, table := range step.gone {
			if count(table) != 0 {
				t.Errorf("%s: %d rows after their time", table, count(table))
			}
		}
	}
	if count("login_records") != 0 || count("users") != 3 || count("audit_entries") == 0 {
		t.Error("something was dropped that stays")
	}
}
