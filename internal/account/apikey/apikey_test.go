package apikey

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fusionspim/steward/internal/account/customer"
	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/infra/ratelimit"
	"github.com/fusionspim/steward/internal/infra/seal"
	"github.com/fusionspim/steward/internal/infra/token"
	"github.com/fusionspim/steward/internal/record/ledger"
	"github.com/fusionspim/steward/internal/testkit/dbtest"
)

func TestAKeyIsLiveUntilItExpiresOrIsRevoked(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)
	for name, test := range map[string]struct {
		key  Key
		want bool
	}{
		"unlimited": {Key{}, true}, "later": {Key{ExpiresAt: new(now.Add(time.Second))}, true}, "now": {Key{ExpiresAt: &now}, false},
		"before": {Key{ExpiresAt: new(now.Add(-time.Second))}, false}, "revoked": {Key{RevokedAt: &now}, false},
		"revoked and not expired": {Key{RevokedAt: &now, ExpiresAt: new(now.Add(time.Hour))}, false},
	} {
		if got := test.key.live(now); got != test.want {
			t.Errorf("%s: live is %t", name, got)
		}
	}
}

type fixture struct {
	*dbtest.Database
	s      *Service
	acme   id.Customer
	caller principal.Principal
}

var home = netip.MustParseAddr("192.0.2.7")

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{Database: dbtest.New(t), acme: id.New[id.Customer]()}
	master := make([]byte, seal.MasterKeySize)
	for i := range master {
		master[i] = byte(i)
	}
	box, err := seal.New(master)
	if err != nil {
		t.Fatal(err)
	}
	f.s = NewService(f.DB, ratelimit.NewLimiter(f.DB, box), nil)
	f.caller = principal.Principal{Customer: f.acme}
	f.do(t, func(tx *postgres.Tx) error {
		_, err := customer.CreateTx(tx, principal.Principal{}, customer.New{Slug: "acme", Name: "Acme"})
		return err
	})
	return f
}

func (f *fixture) do(t *testing.T, work func(tx *postgres.Tx) error) {
	t.Helper()
	if err := f.DB.InCustomer(t.Context(), f.acme, work); err != nil {
		t.Fatal(err)
	}
}

func (f *fixture) create(t *testing.T, in New) Made {
	t.Helper()
	if in.Name == "" {
		in.Name = "CI"
	}
	if in.Scopes == nil {
		in.Scopes = []principal.Scope{principal.UsersRead}
	}
	made, err := f.s.Create(t.Context(), f.caller, in, nil)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// admitted reports whether a key is accepted from an address, past what is cached.
func (f *fixture) admitted(t *testing.T, key Made, address netip.Addr) bool {
	t.Helper()
	f.s.good.Forget(key.ID)
	caller, err := f.s.Authenticate(t.Context(), key.Secret.Reveal(), address)
	switch {
	case err == nil && (caller.Customer != f.acme || caller.APIKey != key.ID || !slices.Equal(caller.Scopes, key.Scopes) || caller.Role != ""):
		t.Errorf("admitted as %+v", caller)
	case err != nil && !fault.Is(err, fault.Unauthorized):
		t.Fatal(err)
	}
	return err == nil
}

func TestNames(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	scopes := []principal.Scope{principal.UsersRead}
	for name, want := range map[string]string{
		"CI": "CI", " CI ": "CI", "Cafe\u0301": "Caf\u00e9", strings.Repeat("é", 100): strings.Repeat("é", 100),
		"": "", " ": "", "a\x00": "", "a\nb": "", strings.Repeat("a", 101): "",
	} {
		made, err := f.s.Create(t.Context(), f.caller, New{Name: name, Scopes: scopes}, nil)
		if want == "" && !fault.Is(err, fault.InvalidName) || want != "" && (err != nil || made.Name != want) {
			t.Errorf("%q: %q, %v", name, made.Name, err)
		}
	}
	now := f.DB.Now()
	for _, past := range []time.Time{now, now.Add(-time.Hour)} {
		if _, err := f.s.Create(
			t.Context(),
			f.caller,
			New{Name: "CI", Scopes: scopes, ExpiresAt: &past},
			nil,
		); !fault.Is(
			err,
			fault.InvalidEntry,
		) {
			t.Errorf("expired at %s before it is made: %v", past, err)
		}
	}
}

func TestWhatAdmitsAKey(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	office := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/28"), netip.MustParsePrefix("2001:db8::/32")}
	plain := f.create(t, New{Scopes: []principal.Scope{principal.UsersRead, principal.AuditRead}})
	bound := f.create(t, New{AllowedNetworks: office})
	for address, want := range map[string]bool{
		"192.0.2.7": true, "::ffff:192.0.2.7": true, "192.0.2.16": false, "2001:db8:1::1": true, "2001:db9::1": false, "::": false,
	} {
		if f.admitted(t, bound, netip.MustParseAddr(address)) != want {
			t.Errorf("a bound key is admitted from %s: %t", address, !want)
		}
		if !f.admitted(t, plain, netip.MustParseAddr(address)) {
			t.Errorf("an unbound key is refused from %s", address)
		}
	}
	forged, _ := token.NewAPIKey(plain.ID)
	unknown, _ := token.NewAPIKey(id.New[id.APIKey]())
	for name, text := range map[string]string{
		"another secret": forged.Reveal(), "unknown": unknown.Reveal(), "misspelt": plain.Secret.Reveal() + "x", "empty": "", "the id": plain.ID.String(),
	} {
		f.s.good.Forget(plain.ID)
		if _, err := f.s.Authenticate(t.Context(), text, home); !fault.Is(err, fault.Unauthorized) {
			t.Errorf("%s: %v", name, err)
		}
	}
	until := f.create(t, New{ExpiresAt: new(f.DB.Now().Add(time.Hour))})
	f.Clock.Advance(time.Hour - time.Microsecond)
	if !f.admitted(t, until, home) {
		t.Error("refused before it expires")
	}
	f.Clock.Advance(time.Microsecond)
	if f.admitted(t, until, home) {
		t.Error("admitted after it expired")
	}
	f.do(t, func(tx *postgres.Tx) error {
		exists, revoked, err := revoke(tx, plain.ID)
		if !exists || !revoked {
			t.Errorf("revoked: exists %t, revoked %t", exists, revoked)
		}
		return err
	})
	if f.admitted(t, plain, home) {
		t.Error("admitted after it was revoked")
	}
}

// A key that expires is refused at that moment, not when what is cached of it ends.
func TestACachedKeyExpiresToo(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	key := f.create(t, New{ExpiresAt: new(f.DB.Now().Add(Remembered / 2))})
	if _, err := f.s.Authenticate(t.Context(), key.Secret.Reveal(), home); err != nil {
		t.Fatal(err)
	}
	f.Clock.Advance(Remembered / 2)
	if _, err := f.s.Authenticate(t.Context(), key.Secret.Reveal(), home); !fault.Is(err, fault.Unauthorized) {
		t.Errorf("from the cache: %v", err)
	}
}

func TestKeysBelongToTheirCustomer(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	key := f.create(t, New{})
	stranger := principal.Principal{Customer: id.New[id.Customer]()}
	if found, err := f.s.List(t.Context(), stranger, 0, id.APIKey{}, 10); err != nil || len(found) != 0 {
		t.Errorf("another customer lists %v, %v", found, err)
	}
	if err := f.s.Revoke(t.Context(), stranger, key.ID); !fault.Is(err, fault.ResourceNotFound) {
		t.Errorf("another customer revokes it: %v", err)
	}
	if _, err := f.s.Rotate(t.Context(), stranger, key.ID, time.Hour, nil); !fault.Is(err, fault.ResourceNotFound) {
		t.Errorf("another customer rotates it: %v", err)
	}
	if !f.admitted(t, key, home) {
		t.Error("the key is gone")
	}
}

func TestListsAndUse(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	const day = 24 * time.Hour
	used, unused := f.create(t, New{Name: "used"}), f.create(t, New{Name: "unused"})
	f.create(t, New{Name: "expiring", ExpiresAt: new(f.DB.Now().Add(10 * day))})
	f.Clock.Advance(20*day + 30*time.Second)
	if !f.admitted(t, used, home) {
		t.Fatal("the key is refused")
	}
	f.Clock.Advance(15 * day)
	fresh := f.create(t, New{Name: "fresh"})
	list := func(days int, before id.APIKey, limit int) (names []string) {
		found, err := f.s.List(t.Context(), f.caller, days, before, limit)
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range found {
			names = append(names, key.Name)
			if key.ID == used.ID && (key.LastUsedAt == nil || key.LastUsedAt.Second() != 0) {
				t.Errorf("last used at %v", key.LastUsedAt)
			}
		}
		return names
	}
	for name, test := range map[string]struct{ got, want []string }{
		"all":             {list(0, id.APIKey{}, 10), []string{"fresh", "expiring", "unused", "used"}},
		"the newest two":  {list(0, id.APIKey{}, 2), []string{"fresh", "expiring"}},
		"after the first": {list(0, fresh.ID, 10), []string{"expiring", "unused", "used"}},
		"stale, 30 days":  {list(30, id.APIKey{}, 10), []string{"unused"}},
		"stale, 10 days":  {list(10, id.APIKey{}, 10), []string{"unused", "used"}},
	} {
		if !slices.Equal(test.got, test.want) {
			t.Errorf("%s: %q, want %q", name, test.got, test.want)
		}
	}
	_ = unused
}

// A replay only takes away: it never extends a key.
func TestReplaysOfTheLedger(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	now := f.DB.Now()
	soon, late := now.Add(time.Hour), now.Add(48*time.Hour)
	limited, unlimited := f.create(t, New{ExpiresAt: new(now.Add(24 * time.Hour))}), f.create(t, New{})
	for _, test := range []struct {
		name  string
		key   id.APIKey
		kind  ledger.Kind
		until *time.Time
		want  ledger.Outcome
	}{
		{"later than it ends anyway", limited.ID, ledger.APIKeyEnds, &late, ledger.AlreadyDone},
		{"without a time", limited.ID, ledger.APIKeyEnds, nil, ledger.AlreadyDone},
		{"sooner", limited.ID, ledger.APIKeyEnds, &soon, ledger.Done},
		{"sooner again", limited.ID, ledger.APIKeyEnds, &soon, ledger.AlreadyDone},
		{"unlimited", unlimited.ID, ledger.APIKeyEnds, &late, ledger.Done},
		{"revoked", unlimited.ID, ledger.APIKeyRevoked, nil, ledger.Done},
		{"revoked again", unlimited.ID, ledger.APIKeyRevoked, nil, ledger.AlreadyDone},
		{"no such key", id.New[id.APIKey](), ledger.APIKeyRevoked, nil, ledger.Absent},
		{"no such key to end", id.New[id.APIKey](), ledger.APIKeyEnds, &soon, ledger.Absent},
	} {
		f.do(t, func(tx *postgres.Tx) error {
			got, err := ReplayTx(
				tx,
				ledger.Entry{Number: 1, Kind: test.kind, At: now, Subject: test.key.UUID, Until: test.until},
			)
			if err == nil && got != test.want {
				t.Errorf("%s: %s, want %s", test.name, got, test.want)
			}
			return err
		})
	}
	if f.admitted(t, unlimited, home) {
		t.Error("the revoked key is admitted")
	}
	f.Clock.Advance(time.Hour)
	if f.admitted(t, limited, home) {
		t.Error("the key outlives the time of the replay")
	}
}
