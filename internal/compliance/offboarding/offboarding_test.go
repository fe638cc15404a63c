package offboarding

import (
	"strings"
	"testing"
	"time"

	"github.com/fusionspim/steward/internal/account/customer"
	"github.com/fusionspim/steward/internal/account/user"
	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/base/version"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/testkit/dbtest"
)

func TestNoticesComeBeforeTheEnd(t *testing.T) {
	t.Parallel()
	approved := time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)
	const day = 24 * time.Hour
	for _, test := range []struct {
		wait, reminder, last time.Duration // from the approval
	}{
		{30 * day, 22*day + 12*time.Hour, 29 * day},
		{time.Hour, 45 * time.Minute, 58 * time.Minute},
	} {
		of := Offboarding{ApprovedAt: &approved, DeletesAt: new(approved.Add(test.wait))}
		for sent, want := range []time.Duration{test.reminder, test.last, test.wait} {
			of.notices = sent
			if got := of.next().Sub(approved); got != want {
				t.Errorf("a wait of %s, after %d notices: next after %s, want %s", test.wait, sent, got, want)
			}
		}
	}
}

func TestNoticesSayWhatHappensAndWhen(t *testing.T) {
	t.Parallel()
	of := Offboarding{
		ID:        id.New[id.Offboarding](),
		DeletesAt: new(time.Date(2026, time.March, 31, 12, 0, 0, 0, time.UTC)),
	}
	titles := map[string]bool{}
	for _, about := range []subject{ofApproval, ofReminder, ofEnd, ofCancellation} {
		notice := text(of, about, "Acme")
		paragraphs := strings.Join(notice.Paragraphs, " ")
		if titles[notice.Title] || notice.Title == "" || notice.CustomerName != "Acme" ||
			!strings.Contains(paragraphs, "Acme") {
			t.Errorf("%v: %+v", about, notice)
		}
		titles[notice.Title] = true
		ends := about != ofCancellation
		if strings.Contains(paragraphs, "31 March 2026, 12:00 UTC") != ends ||
			strings.Contains(paragraphs, of.ID.String()) != ends {
			t.Errorf("%v: %s", about, paragraphs)
		}
	}
}

// The end of a customer deletes the folder of its bundles, and no other's.
func TestBundlesLieInTheirCustomersFolder(t *testing.T) {
	t.Parallel()
	acme, other, bundle := id.New[id.Customer](), id.New[id.Customer](), id.New[id.Bundle]()
	if name := objectName(
		acme,
		bundle,
	); !strings.HasPrefix(name, folder(acme)) ||
		strings.HasPrefix(name, folder(other)) {
		t.Errorf("%s is not in %s", name, folder(acme))
	}
	if !strings.HasSuffix(folder(acme), "/") {
		t.Errorf("%s begins the name of other folders", folder(acme))
	}
}

func TestACertificateSaysWhatWasDone(t *testing.T) {
	t.Parallel()
	of := Offboarding{
		ID: id.New[id.Offboarding](), Customer: id.New[id.Customer](), Slug: "acme", Name: "Acme",
		RequestedBy: id.New[id.User](), ApprovedBy: new(id.New[id.User]()), DeletedAt: new(time.Unix(0, 0)),
	}
	got := of.certificate()
	if got.ID != of.ID || got.Customer.ID != of.Customer || got.Customer.Slug != "acme" ||
		got.RequestedBy != of.RequestedBy ||
		got.ApprovedBy != of.ApprovedBy ||
		got.DeletedAt != of.DeletedAt {
		t.Errorf("%+v", got)
	}
}

// fixture is Fusions with two operators, and a customer.
type fixture struct {
	*dbtest.Database
	s             *Service
	acme, fusions id.Customer
	first, second principal.Principal
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{Database: dbtest.New(t), acme: id.New[id.Customer](), fusions: id.New[id.Customer]()}
	f.s = NewService(Dependencies{DB: f.DB, Customers: customer.NewService(f.DB), Log: f.Log.Logger()})
	for slug, of := range map[string]id.Customer{"acme": f.acme, customer.OperatorsSlug: f.fusions} {
		f.do(t, of, func(tx *postgres.Tx) error {
			_, err := customer.CreateTx(tx, principal.Principal{}, customer.New{Slug: slug, Name: "Acme"})
			return err
		})
	}
	for email, operator := range map[string]*principal.Principal{
		"a@fusions.example": &f.first, "b@fusions.example": &f.second,
	} {
		f.do(t, f.fusions, func(tx *postgres.Tx) error {
			made, err := user.CreateTx(tx, principal.Principal{}, user.New{
				FirstName: "Ada", LastName: "Lovelace", Email: email, Role: principal.Operator,
			})
			*operator = principal.Principal{Customer: f.fusions, User: made.ID, Role: principal.Operator}
			return err
		})
	}
	return f
}

func (f *fixture) do(t *testing.T, of id.Customer, work func(tx *postgres.Tx) error) {
	t.Helper()
	if err := f.DB.InCustomer(t.Context(), of, work); err != nil {
		t.Fatal(err)
	}
}

// The end of a contract takes two operators, in this order, and can be cancelled.
func TestTwoOperatorsEndAContract(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx, any := t.Context(), version.Condition{}
	refused := func(what string, want fault.Code, err error) {
		t.Helper()
		if !fault.Is(err, want) {
			t.Errorf("%s: %v, want %s", what, err, want)
		}
	}
	_, err := f.s.Begin(ctx, f.first, f.fusions, nil)
	refused("Fusions itself", fault.ResourceNotFound, err)
	_, err = f.s.Begin(ctx, f.first, id.New[id.Customer](), nil)
	refused("no such customer", fault.ResourceNotFound, err)
	_, err = f.s.Approve(ctx, f.second, f.acme, any, nil)
	refused("approving what was not begun", fault.ResourceNotFound, err)

	begun, err := f.s.Begin(ctx, f.first, f.acme, nil)
	if err != nil || begun.State != Requested || begun.RequestedBy != f.first.User || begun.DeletesAt != nil {
		t.Fatalf("begun: %+v, %v", begun, err)
	}
	_, err = f.s.Begin(ctx, f.second, f.acme, nil)
	refused("beginning twice", fault.OffboardingUnderWay, err)
	_, err = f.s.Approve(ctx, f.first, f.acme, any, nil)
	refused("approving one's own", fault.SecondOperatorNeeded, err)
	_, err = f.s.Approve(ctx, f.second, f.acme, version.OneOf(begun.Version+1), nil)
	refused("approving another version", fault.PreconditionFailed, err)

	approved, err := f.s.Approve(ctx, f.second, f.acme, version.OneOf(begun.Version), nil)
	if err != nil || approved.State != Approved || *approved.ApprovedBy != f.second.User ||
		!approved.DeletesAt.Equal(f.DB.Now().Add(DefaultWait)) {
		t.Fatalf("approved: %+v, %v", approved, err)
	}
	f.Clock.Advance(time.Hour)
	again, err := f.s.Approve(ctx, f.second, f.acme, any, nil)
	if err != nil || !again.DeletesAt.Equal(*approved.DeletesAt) || again.Version != approved.Version {
		t.Errorf("approving twice: %+v, %v", again, err)
	}
	_, err = f.s.Approve(ctx, f.first, f.acme, any, nil)
	refused("approving what another approved", fault.OffboardingState, err)

	cancelled, err := f.s.Cancel(ctx, f.first, f.acme, any, nil)
	if err != nil || cancelled.State != Cancelled {
		t.Fatalf("cancelled: %+v, %v", cancelled, err)
	}
	if again, err := f.s.Cancel(ctx, f.second, f.acme, any, nil); err != nil || again.Version != cancelled.Version {
		t.Errorf("cancelling twice: %+v, %v", again, err)
	}
	_, err = f.s.Approve(ctx, f.second, f.acme, any, nil)
	refused("approving what was cancelled", fault.OffboardingState, err)
	if anew, err := f.s.Begin(ctx, f.second, f.acme, nil); err != nil || anew.ID == begun.ID {
		t.Errorf("beginning again: %+v, %v", anew, err)
	}
}

// Everything stands in the trail of the customer and in that of Fusions.
func TestWhatOperatorsDoStandsInBothTrails(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	if _, err := f.s.Begin(t.Context(), f.first, f.acme, nil); err != nil {
		t.Fatal(err)
	}
	for name, of := range map[string]id.Customer{"the customer": f.acme, "Fusions": f.fusions} {
		var n int
		f.Peek(t, `select count(*) from audit_entries where customer_id = $1 and action like 'customer.offboarding%'
			and target_id = $2`, &n, of, f.acme.String())
		if n != 1 {
			t.Errorf("%d entries in the trail of %s", n, name)
		}
	}
}

// Through the door for deleting customers nothing is seen of a customer who is not being deleted.
func TestTheDoorForDeletingOpensForCustomersBeingDeleted(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	begun, err := f.s.Begin(t.Context(), f.first, f.acme, nil)
	if err != nil {
		t.Fatal(err)
	}
	approved, err := f.s.Approve(t.Context(), f.second, f.acme, version.Condition{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	f.Clock.Advance(DefaultWait - time.Second)
	if early, err := f.s.beginDeletion(t.Context(), approved); early || err != nil {
		t.Errorf("the deletion begins before its time: %t, %v", early, err)
	}
	f.Clock.Advance(time.Second)
	seen := func() (n int) {
		err := f.DB.InOffboarding(t.Context(), f.acme, func(tx *postgres.Tx) error {
			return tx.QueryRow("select count(*) from audit_entries").Scan(&n)
		})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := seen(); n != 0 {
		t.Errorf("before the deletion %d entries are seen", n)
	}
	if started, err := f.s.beginDeletion(t.Context(), approved); !started || err != nil {
		t.Errorf("the deletion begins at its time: %t, %v", started, err)
	}
	if _, err := f.s.Cancel(t.Context(), f.first, f.acme, version.Condition{}, nil); err == nil {
		t.Error("a deletion that has begun is cancelled")
	}
	if n := seen(); n != 0 {
		t.Errorf("before the ledger has it %d entries are seen", n)
	}
	f.do(t, f.acme, func(tx *postgres.Tx) error { _, err := markRecorded(tx, begun.ID); return err })
	if n := seen(); n == 0 {
		t.Error("nothing is seen of the customer who is being deleted")
	}
}
