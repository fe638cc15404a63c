package secondfactor

import (
	"testing"
	"time"

	"github.com/fusionspim/steward/internal/account/customer"
	"github.com/fusionspim/steward/internal/account/user"
	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/base/sensitive"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/infra/seal"
	"github.com/fusionspim/steward/internal/infra/totp"
	"github.com/fusionspim/steward/internal/testkit/dbtest"
)

type fixture struct {
	*dbtest.Database
	s    *Service
	acme id.Customer
}

func newFixture(t *testing.T, operatorsMust bool) *fixture {
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
	f.s = NewService(f.DB, box, nil, nil, operatorsMust, nil)
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

func (f *fixture) person(t *testing.T, email string, role principal.Role) (person id.User) {
	t.Helper()
	f.do(t, func(tx *postgres.Tx) error {
		made, err := user.CreateTx(
			tx,
			principal.Principal{},
			user.New{FirstName: "Ada", LastName: "Lovelace", Email: email, Role: role},
		)
		person = made.ID
		return err
	})
	return person
}

// enrol stores an authenticator, and confirms it if asked to.
func (f *fixture) enrol(t *testing.T, person id.User, confirmed bool) (secret sensitive.String) {
	t.Helper()
	secret = totp.NewSecret()
	f.do(t, func(tx *postgres.Tx) error {
		begun, err := begin(tx, person, f.s.box.Seal(sealLabel, []byte(secret.Reveal()), person.UUID[:]))
		if err == nil && !begun {
			t.Fatal("there is one already")
		}
		if err == nil && confirmed {
			err = confirm(tx, person)
		}
		return err
	})
	return secret
}

func (f *fixture) judge(t *testing.T, person id.User, code string) (verdict Verdict) {
	t.Helper()
	f.do(t, func(tx *postgres.Tx) (err error) {
		verdict, err = f.s.JudgeTx(tx, person, code)
		return err
	})
	return verdict
}

func (f *fixture) code(t *testing.T, secret sensitive.String, at time.Time) string {
	t.Helper()
	code, err := totp.Code(secret, at)
	if err != nil {
		t.Fatal(err)
	}
	return code
}

func TestVerdicts(t *testing.T) {
	t.Parallel()
	f := newFixture(t, false)
	now := f.DB.Now()
	ada, bob, eve := f.person(t, "ada@acme.example", principal.User), f.person(t, "bob@acme.example", principal.User),
		f.person(t, "eve@acme.example", principal.User)
	secret, unconfirmed := f.enrol(t, ada, true), f.enrol(t, bob, false)
	other := totp.NewSecret()
	for _, test := range []struct {
		name   string
		person id.User
		code   string
		want   Verdict
	}{
		{"no second factor", eve, "", NotEnrolled},
		{"no second factor, with a code", eve, "123456", NotEnrolled},
		{"not confirmed", bob, f.code(t, unconfirmed, now), NotEnrolled},
		{"no such person", id.New[id.User](), "123456", NotEnrolled},
		{"no code", ada, "", CodeNeeded},
		{"another secret's code", ada, f.code(t, other, now), CodeWrong},
		{"too old", ada, f.code(t, secret, now.Add(-2*time.Minute)), CodeWrong},
		{"too new", ada, f.code(t, secret, now.Add(2*time.Minute)), CodeWrong},
		{"nonsense", ada, "abc", CodeWrong},
		{"the code", ada, f.code(t, secret, now), CodeRight},
		{"the code again", ada, f.code(t, secret, now), CodeWrong},
		{"the step before", ada, f.code(t, secret, now.Add(-30*time.Second)), CodeWrong},
		{"the step after", ada, f.code(t, secret, now.Add(30*time.Second)), CodeRight},
		{"that one again", ada, f.code(t, secret, now.Add(30*time.Second)), CodeWrong},
	} {
		if got := f.judge(t, test.person, test.code); got != test.want {
			t.Errorf("%s: verdict %d, want %d", test.name, got, test.want)
		}
	}
}

func TestARecoveryCodeWorksOnceForItsOwner(t *testing.T) {
	t.Parallel()
	f := newFixture(t, false)
	ada, bob := f.person(t, "ada@acme.example", principal.User), f.person(t, "bob@acme.example", principal.User)
	f.enrol(t, ada, true)
	f.enrol(t, bob, true)
	newCodes := func() (codes []sensitive.String) {
		f.do(t, func(tx *postgres.Tx) (err error) {
			codes, err = f.s.newCodes(tx, ada)
			return err
		})
		return codes
	}
	old := newCodes()
	codes := newCodes()
	for _, test := range []struct {
		name   string
		person id.User
		code   string
		want   Verdict
	}{
		{"another person's", bob, codes[0].Reveal(), CodeWrong},
		{"replaced", ada, old[0].Reveal(), CodeWrong},
		{"the first", ada, codes[0].Reveal(), CodeRight},
		{"the first again", ada, codes[0].Reveal(), CodeWrong},
		{"the second", ada, codes[1].Reveal(), CodeRight},
	} {
		if got := f.judge(t, test.person, test.code); got != test.want {
			t.Errorf("%s: verdict %d, want %d", test.name, got, test.want)
		}
	}
	state, err := f.s.Get(t.Context(), principal.Principal{Customer: f.acme, User: ada})
	if err != nil || int(state.RecoveryCodesLeft) != len(codes)-2 || !state.Enrolled {
		t.Errorf("%+v, %v", state, err)
	}
}

func TestAConfirmedSecondFactorIsNotReplacedByAnother(t *testing.T) {
	t.Parallel()
	f := newFixture(t, false)
	ada := f.person(t, "ada@acme.example", principal.User)
	begun := func() (begun bool) {
		f.do(t, func(tx *postgres.Tx) (err error) {
			begun, err = begin(tx, ada, []byte("sealed"))
			return err
		})
		return begun
	}
	for range 2 {
		if !begun() {
			t.Error("an unconfirmed one is not replaced")
		}
	}
	f.do(t, func(tx *postgres.Tx) error { return confirm(tx, ada) })
	if begun() {
		t.Error("a confirmed one is replaced")
	}
	f.do(t, func(tx *postgres.Tx) error {
		for _, want := range []bool{true, false} {
			if removed, err := remove(tx, ada); err != nil || removed != want {
				t.Errorf("removed: %t, %v", removed, err)
			}
		}
		if enrolled, err := EnrolledTx(tx, ada); err != nil || enrolled {
			t.Errorf("enrolled after it was removed: %t, %v", enrolled, err)
		}
		_, err := tx.Exec("update users set status = 'disabled' where id = $1", ada)
		return err
	})
	if begun() {
		t.Error("a disabled user sets one up")
	}
}

func TestWhoMustHaveASecondFactor(t *testing.T) {
	t.Parallel()
	for policy, must := range map[customer.SecondFactorPolicy]map[principal.Role]bool{
		customer.NotRequired:    {},
		customer.Administrators: {principal.Administrator: true},
		customer.Everybody:      {principal.Administrator: true, principal.User: true, principal.Operator: true},
	} {
		for _, operatorsMust := range []bool{false, true} {
			t.Run(string(policy), func(t *testing.T) {
				t.Parallel()
				f := newFixture(t, operatorsMust)
				f.do(t, func(tx *postgres.Tx) error {
					_, err := tx.Exec("update customers set second_factor_policy = $1", string(policy))
					return err
				})
				for _, role := range []principal.Role{principal.Operator, principal.Administrator, principal.User} {
					person := f.person(t, string(role)+"@acme.example", role)
					state, err := f.s.Get(t.Context(), principal.Principal{Customer: f.acme, User: person})
					want := must[role] || operatorsMust && role == principal.Operator
					if err != nil || state.Required != want || state.Enrolled {
						t.Errorf("%s, where operators must: %t: %+v, %v", role, operatorsMust, state, err)
					}
				}
			})
		}
	}
}

func TestTheStateOfAPersonWhoIsGone(t *testing.T) {
	t.Parallel()
	f := newFixture(t, false)
	_, err := f.s.Get(t.Context(), principal.Principal{Customer: f.acme, User: id.New[id.User]()})
	if !fault.Is(err, fault.Unauthorized) {
		t.Errorf("no such person: %v", err)
	}
	ada := f.person(t, "ada@acme.example", principal.User)
	_, err = f.s.Get(t.Context(), principal.Principal{Customer: id.New[id.Customer](), User: ada})
	if !fault.Is(err, fault.Unauthorized) {
		t.Errorf("another customer's: %v", err)
	}
	caller := principal.Principal{Customer: f.acme, User: ada}
	if err := f.s.Remove(t.Context(), caller, "123456"); !fault.Is(err, fault.SecondFactorMissing) {
		t.Errorf("removing none: %v", err)
	}
	f.enrol(t, ada, true)
	if err := f.s.Remove(t.Context(), caller, "000000"); !fault.Is(err, fault.OneTimeCodeWrong) {
		t.Errorf("removing it with a wrong code: %v", err)
	}
	f.do(t, func(tx *postgres.Tx) error {
		_, err := tx.Exec("update customers set second_factor_policy = 'everybody'")
		return err
	})
	if err := f.s.Remove(t.Context(), caller, "000000"); !fault.Is(err, fault.SecondFactorNeeded) {
		t.Errorf("removing one that is required: %v", err)
	}
}
