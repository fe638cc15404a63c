package principal_test

import (
	"context"
	"testing"

	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/principal"
)

func TestRolesAreClosed(t *testing.T) {
	t.Parallel()
	for role, want := range map[principal.Role]bool{
		"operator": true, "customer": true, "user": true,
		"": false, "Operator": false, "administrator": false, "user ": false,
	} {
		if role.Valid() != want {
			t.Errorf("role %q is valid: %t", role, !want)
		}
	}
}

func TestScopesAreDistinctAndHeldOnlyAsGiven(t *testing.T) {
	t.Parallel()
	scopes := principal.Scopes()
	if len(scopes) < 10 {
		t.Fatalf("only %d scopes", len(scopes))
	}
	for _, held := range scopes {
		key := principal.Principal{APIKey: id.New[id.APIKey](), Scopes: []principal.Scope{held}}
		for _, asked := range scopes {
			if key.Has(asked) != (asked == held) {
				t.Errorf("a key with %s has %s: %t", held, asked, key.Has(asked))
			}
		}
	}
	if (principal.Principal{}).Has(scopes[0]) {
		t.Error("a caller without scopes has one")
	}
}

func TestAuthority(t *testing.T) {
	t.Parallel()
	person := id.New[id.User]()
	for name, test := range map[string]struct {
		caller principal.Principal
		want   string
		key    bool
	}{
		"nobody":        {principal.Principal{}, "system", false},
		"administrator": {principal.Principal{User: person, Role: principal.Administrator}, "customer", false},
		"user":          {principal.Principal{User: person, Role: principal.User}, "user", false},
		"operator":      {principal.Principal{User: person, Role: principal.Operator}, "operator", false},
		"API key":       {principal.Principal{APIKey: id.New[id.APIKey]()}, "api_key", true},
	} {
		if got := test.caller.Authority(); got != test.want {
			t.Errorf("%s: authority %q, want %q", name, got, test.want)
		}
		if test.caller.IsAPIKey() != test.key {
			t.Errorf("%s: IsAPIKey is %t", name, !test.key)
		}
	}
}

func TestTheContextCarriesTheCaller(t *testing.T) {
	t.Parallel()
	if caller, ok := principal.FromContext(t.Context()); ok || !caller.User.IsZero() {
		t.Error("there is a caller before any was set")
	}
	want := principal.Principal{User: id.New[id.User](), Role: principal.User}
	ctx := principal.NewContext(t.Context(), want)
	if got, ok := principal.FromContext(context.WithoutCancel(ctx)); !ok || got.User != want.User || got.Role != want.Role {
		t.Errorf("got %+v, %t", got, ok)
	}
}
