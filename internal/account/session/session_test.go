package session

import (
	"net/netip"
	"testing"
	"time"

	"github.com/fusionspim/steward/internal/account/customer"
	"github.com/fusionspim/steward/internal/account/secondfactor"
	"github.com/fusionspim/steward/internal/account/user"
	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/infra/token"
	"github.com/fusionspim/steward/internal/testkit/dbtest"
)

func TestASessionEndsAfterAWeekUnusedAndAfterAMonth(t *testing.T) {
	t.Parallel()
	created := time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)
	const day = 24 * time.Hour
	for used, want := range map[time.Duration]time.Duration{
		0: 7 * day, time.Minute: 7*day + time.Minute, 6 * day: 13 * day, 23 * day: 30 * day, 23*day + time.Second: 30 * day,
		29 * day: 30 * day, 31 * day: 30 * day,
	} {
		if got := until(created, created.Add(used)).Sub(created); got != want {
			t.Errorf("used after %s: ends after %s, want %s", used, got, want)
		}
	}
}

func TestWhatIsWrongWithACodeIsSaid(t *testing.T) {
	t.Parallel()
	for _, verdict := range []secondfactor.Verdict{secondfactor.CodeNeeded, secondfactor.CodeWrong} {
		if err := codeWanted(verdict); !fault.Is(err, fault.SecondFactorRequired) {
			t.Errorf("verdict %d: %v", verdict, err)
		}
	}
	if codeWanted(secondfactor.CodeNeeded).(*fault.Fault).Detail == codeWanted(secondfactor.CodeWrong).(*fault.Fault).Detail {
		t.Error("a missing code and a wrong one read alike")
	}
}

// fixture is a customer with a user, and the service without its passwords.
type fixture struct {
	*dbtest.Database
	s    *Service
	acme id.Customer
	ada  id.User
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{Database: dbtest.New(t), acme: id.New[id.Customer]()}
	keys := token.NewKeyring()
	if err := keys.Replace(token.NewSigningKey()); err != nil {
		t.Fatal(err)
	}
	authority, err := token.New(
		token.Settings{Issuer: "https://steward.example", Audience: "steward"},
		keys,
		f.Clock.Now,
	)
	if err != nil {
		t.Fatal(err)
	}
	f.s = NewService(f.DB, customer.NewService(f.DB),
		secondfactor.NewService(f.DB, nil, nil, nil, false, nil), nil, authority, nil, nil, f.Log.Logger())
	t.Cleanup(f.s.Close)
	f.do(t, func(tx *postgres.Tx) error {
		_, err := customer.CreateTx(tx, principal.Principal{}, customer.New{Slug: "acme", Name: "Acme"})
		return err
	})
	f.ada = f.person(t, "ada@acme.example")
	return f
}

// do runs a transaction of the customer.
func (f *fixture) do(t *testing.T, work func(tx *postgres.Tx) error) {
	t.Helper()
	if err := f.DB.InCustomer(t.Context(), f.acme, work); err != nil {
		t.Fatal(err)
	}
}

func (f *fixture) person(t *testing.T, email string) (person id.User) {
	t.Helper()
	f.do(t, func(tx *postgres.Tx) error {
		made, err := user.CreateTx(tx, principal.Principal{}, user.New{
			FirstName: "Ada", LastName: "Lovelace", Email: email, Role: principal.User, PasswordHash: "a hash",
		})
		person = made.ID
		return err
	})
	return person
}

// open opens a session of a person.
func (f *fixture) open(t *testing.T, person id.User, transport Transport) (tokens Tokens, session id.Session) {
	t.Helper()
	f.do(t, func(tx *postgres.Tx) (err error) {
		tokens, err = f.s.open(tx, person, principal.User, transport)
		return err
	})
	var err error
	if transport == ByCookie {
		_, session, _, err = token.ParseCookie(tokens.Cookie.Reveal())
	} else {
		_, session, _, err = token.ParseRefresh(tokens.Refresh.Reveal())
	}
	if err != nil {
		t.Fatal(err)
	}
	return tokens, session
}

// admitted reports whether the credentials of a session are valid now, past what is cached.
func (f *fixture) admitted(t *testing.T, tokens Tokens, session id.Session) bool {
	t.Helper()
	f.s.Forget(session)
	var caller principal.Principal
	var err error
	if tokens.Cookie.IsEmpty() {
		caller, err = f.s.Authenticate(t.Context(), tokens.Access)
	} else {
		caller, err = f.s.AuthenticateCookie(t.Context(), tokens.Cookie.Reveal())
	}
	switch {
	case err == nil && (caller.Customer != f.acme || caller.Session != session || caller.Role != principal.User):
		t.Errorf("admitted as %+v", caller)
	case err != nil && !fault.Is(err, fault.Unauthorized):
		t.Fatal(err)
	}
	return err == nil
}

// Whatever ends a session ends it for its token and for its cookie, and nothing else does.
func TestWhatEndsASession(t *testing.T) {
	t.Parallel()
	update := func(set string) func(*testing.T, *fixture, id.Session) {
		return func(t *testing.T, f *fixture, _ id.Session) {
			f.do(t, func(tx *postgres.Tx) error {
				_, err := tx.Exec("update users set "+set+" where id = $1", f.ada)
				return err
			})
		}
	}
	mine := func(f *fixture, session id.Session) principal.Principal {
		return principal.Principal{Customer: f.acme, User: f.ada, Session: session, Role: principal.User}
	}
	for name, test := range map[string]struct {
		act  func(*testing.T, *fixture, id.Session)
		ends bool
	}{
		"nothing": {func(*testing.T, *fixture, id.Session) {}, false},
		"signing out": {func(t *testing.T, f *fixture, session id.Session) {
			if err := f.s.End(t.Context(), mine(f, session)); err != nil {
				t.Error(err)
			}
		}, true},
		"ended from another": {func(t *testing.T, f *fixture, session id.Session) {
			if err := f.s.EndOne(t.Context(), mine(f, id.New[id.Session]()), session); err != nil {
				t.Error(err)
			}
		}, true},
		"ended by another person": {func(t *testing.T, f *fixture, session id.Session) {
			stranger := mine(f, id.New[id.Session]())
			stranger.User = f.person(t, "bob@acme.example")
			if err := f.s.EndOne(t.Context(), stranger, session); !fault.Is(err, fault.ResourceNotFound) {
				t.Errorf("another person's session: %v", err)
			}
		}, false},
		"ended by another customer": {func(t *testing.T, f *fixture, session id.Session) {
			stranger := mine(f, id.New[id.Session]())
			stranger.Customer = id.New[id.Customer]()
			if err := f.s.EndOne(t.Context(), stranger, session); !fault.Is(err, fault.ResourceNotFound) {
				t.Errorf("another customer's session: %v", err)
			}
		}, false},
		"others ended from it": {func(t *testing.T, f *fixture, session id.Session) {
			f.do(t, func(tx *postgres.Tx) error { return EndOthersTx(tx, mine(f, session)) })
		}, false},
		"others ended from another": {func(t *testing.T, f *fixture, _ id.Session) {
			f.do(t, func(tx *postgres.Tx) error { return EndOthersTx(tx, mine(f, id.New[id.Session]())) })
		}, true},
		"another's others": {func(t *testing.T, f *fixture, _ id.Session) {
			stranger := mine(f, id.New[id.Session]())
			stranger.User = f.person(t, "bob@acme.example")
			f.do(t, func(tx *postgres.Tx) error { return EndOthersTx(tx, stranger) })
		}, false},
		"disabling":      {update("status = 'disabled'"), true},
		"a new password": {update("sessions_since = created_at + interval '1 second'"), true},
		"renaming":       {update("first_name = 'x', version = version + 1"), false},
		"almost a week":  {func(_ *testing.T, f *fixture, _ id.Session) { f.Clock.Advance(IdleLifetime - time.Second) }, false},
		"a week":         {func(_ *testing.T, f *fixture, _ id.Session) { f.Clock.Advance(IdleLifetime) }, true},
	} {
		for _, transport := range []Transport{ByToken, ByCookie} {
			t.Run(name+"/"+string(transport), func(t *testing.T) {
				t.Parallel()
				f := newFixture(t)
				tokens, session := f.open(t, f.ada, transport)
				if !f.admitted(t, tokens, session) {
					t.Fatal("a new session is not valid")
				}
				test.act(t, f, session)
				if transport == ByToken { // the access token is short-lived; the session is what the refresh token says
					fresh, err := f.s.Refresh(t.Context(), tokens.Refresh.Reveal(), nil)
					if (err != nil) != test.ends {
						t.Errorf("refreshing gives %v", err)
					}
					if err == nil {
						tokens = fresh
					}
				}
				if f.admitted(t, tokens, session) == test.ends {
					t.Errorf("afterwards the session is valid: %t", test.ends)
				}
			})
		}
	}
}

// An access token is worth no more than its session says.
func TestATokenOfAnotherRoleIsRefused(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	tokens, session := f.open(t, f.ada, ByToken)
	f.do(t, func(tx *postgres.Tx) error {
		_, err := tx.Exec("update users set role = 'customer' where id = $1", f.ada)
		return err
	})
	if f.admitted(t, tokens, session) {
		t.Error("a token with the former role is valid")
	}
	for name, claims := range map[string]token.Claims{
		"no such session":  {Customer: f.acme, User: f.ada, Session: id.New[id.Session](), Role: principal.Administrator},
		"another person":   {Customer: f.acme, User: id.New[id.User](), Session: session, Role: principal.Administrator},
		"another customer": {Customer: id.New[id.Customer](), User: f.ada, Session: session, Role: principal.Administrator},
	} {
		access, err := f.s.authority.Issue(claims)
		if err != nil {
			t.Fatal(err)
		}
		f.s.Forget(claims.Session)
		if _, err := f.s.Authenticate(t.Context(), access); !fault.Is(err, fault.Unauthorized) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestACookieOpensItsOwnSessionOnly(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	_, session := f.open(t, f.ada, ByCookie)
	_, byToken := f.open(t, f.ada, ByToken)
	for name, of := range map[string]id.Session{"another secret": session, "a session without a cookie": byToken, "no session": id.New[id.Session]()} {
		forged, _ := token.NewCookie(f.acme, of)
		f.s.Forget(of)
		if _, err := f.s.AuthenticateCookie(t.Context(), forged.Reveal()); !fault.Is(err, fault.Unauthorized) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A refresh token that comes a second time was stolen, from its first holder or its second.
func TestARefreshTokenWorksOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	first, session := f.open(t, f.ada, ByToken)
	f.Clock.Advance(time.Hour)
	second, err := f.s.Refresh(t.Context(), first.Refresh.Reveal(), nil)
	if err != nil || !f.admitted(t, second, session) {
		t.Fatalf("the first exchange: %v", err)
	}
	if _, err := f.s.Refresh(t.Context(), first.Refresh.Reveal(), nil); !fault.Is(err, fault.Unauthorized) {
		t.Errorf("the same token again: %v", err)
	}
	if f.admitted(t, second, session) {
		t.Error("the session outlives the second use of a token")
	}
	if _, err := f.s.Refresh(t.Context(), second.Refresh.Reveal(), nil); !fault.Is(err, fault.Unauthorized) {
		t.Errorf("its newest token: %v", err)
	}
	forged, _ := token.NewRefresh(f.acme, session)
	if _, err := f.s.Refresh(t.Context(), forged.Reveal(), nil); !fault.Is(err, fault.Unauthorized) {
		t.Errorf("a forged token: %v", err)
	}
}

func TestSessionsAreListedForTheirPersonOnly(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	_, first := f.open(t, f.ada, ByToken)
	_, second := f.open(t, f.ada, ByCookie)
	_, ended := f.open(t, f.ada, ByCookie)
	bob := f.person(t, "bob@acme.example")
	f.open(t, bob, ByToken)
	caller := principal.Principal{Customer: f.acme, User: f.ada}
	if err := f.s.EndOne(t.Context(), caller, ended); err != nil {
		t.Fatal(err)
	}
	listed := func(before id.Session, limit int) (out []id.Session) {
		found, err := f.s.List(t.Context(), caller, before, limit)
		if err != nil {
			t.Fatal(err)
		}
		for _, session := range found {
			out = append(out, session.ID)
		}
		return out
	}
	if got := listed(id.Session{}, 10); len(got) != 2 || got[0] != second || got[1] != first {
		t.Errorf("listed %v, want %v, %v", got, second, first)
	}
	if got := listed(second, 10); len(got) != 1 || got[0] != first {
		t.Errorf("before the second: %v", got)
	}
	if got := listed(id.Session{}, 1); len(got) != 1 || got[0] != second {
		t.Errorf("the newest: %v", got)
	}
}

// Attempts to sign in are kept as long as the customer says, and none for a person who was erased.
func TestLoginRecords(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	attempt := login{
		id:      id.New[id.Login](),
		user:    f.ada,
		address: netip.MustParseAddr("192.0.2.1"),
		inside:  true,
		outcome: Succeeded,
	}
	f.do(t, func(tx *postgres.Tx) error { return record(tx, attempt) })
	f.do(t, func(tx *postgres.Tx) error {
		for address, want := range map[string]bool{"192.0.2.1": true, "::ffff:192.0.2.1": true, "192.0.2.2": false} {
			if known, err := knowsAddress(tx, f.ada, netip.MustParseAddr(address)); err != nil || known != want {
				t.Errorf("%s is known: %t, %v", address, known, err)
			}
		}
		found, err := listLogins(tx, f.ada, id.Login{}, 10)
		if err == nil &&
			(len(found) != 1 || found[0].ID != attempt.id || found[0].Address != attempt.address || found[0].Outcome != Succeeded) {
			t.Errorf("listed %+v", found)
		}
		return err
	})
	sweep := func() (n int64) {
		err := f.DB.InPlatform(t.Context(), func(tx *postgres.Tx) (err error) {
			n, err = expireLogins(tx, tx.Now, 10)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	f.Clock.Advance(90 * 24 * time.Hour)
	if n := sweep(); n != 0 {
		t.Errorf("%d records expired at 90 days", n)
	}
	f.Clock.Advance(time.Second)
	if n := sweep(); n != 1 {
		t.Errorf("%d records expired after 90 days", n)
	}
	attempt.id, attempt.user = id.New[id.Login](), id.New[id.User]()
	f.do(t, func(tx *postgres.Tx) error { return record(tx, attempt) })
	var n int
	if f.Peek(t, "select count(*) from login_records", &n); n != 0 {
		t.Errorf("%d records of a person who does not exist", n)
	}
}
