package journeys

import (
	"archive/zip"
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/fusionspim/steward/internal/app"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/compliance/offboarding"
	"github.com/fusionspim/steward/internal/compliance/subjectrequest"
	"github.com/fusionspim/steward/internal/integration/alert"
	"github.com/fusionspim/steward/internal/testkit/apptest"
	"github.com/fusionspim/steward/internal/testkit/dbtest"
	"github.com/fusionspim/steward/internal/testkit/journeys/steps"
	"github.com/fusionspim/steward/pkg/client"
)

// waiting has a customer's offboarding wait for its end, with a bundle.
func waiting(t *testing.T, s *apptest.Service, of apptest.Customer, first, second principal.Principal) offboarding.Offboarding {
	t.Helper()
	if _, err := s.Offboardings.Begin(t.Context(), first, of.ID, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Offboardings.Approve(t.Context(), second, of.ID, anyVersion, nil); err != nil {
		t.Fatal(err)
	}
	return offboarded(t, s, of, func(now offboarding.Offboarding) bool { return now.Bundle != nil && now.BundleWantedAt == nil })
}

// offboarded looks after offboardings until that of the customer is as it should be.
func offboarded(t *testing.T, s *apptest.Service, of apptest.Customer, is func(now offboarding.Offboarding) bool) offboarding.Offboarding {
	t.Helper()
	deadline := time.Now().Add(steps.Patience)
	for {
		if err := s.Offboardings.RunDue(t.Context()); err != nil {
			t.Logf("looking after offboardings: %v", err)
		}
		now, err := s.Offboardings.Newest(t.Context(), of.ID)
		if err != nil {
			t.Fatal(err)
		}
		if is(now) {
			return now
		}
		if time.Now().After(deadline) {
			t.Fatalf("the offboarding stays as it is: %+v\n%s", now, s.Database.Log.String())
		}
		time.Sleep(20 * time.Millisecond) // another replica, or this one's own round, may be at it
	}
}

// ending is a service with a customer that leaves, one that stays, and two operators.
type ending struct {
	*apptest.Service
	conn          *pgx.Conn
	fusions       apptest.Customer
	first, second principal.Principal
	leaving, stay apptest.Customer
}

func newEnding(t *testing.T, change ...func(*app.Settings)) *ending {
	t.Helper()
	s := apptest.StartWith(t, func(settings *app.Settings) {
		for _, one := range change {
			one(settings)
		}
	})
	return endingOn(t, s)
}

func endingOn(t *testing.T, s *apptest.Service) *ending {
	t.Helper()
	e := &ending{Service: s, conn: s.Database.Superuser(t), fusions: apptest.Customer{Slug: "fusions"}}
	e.fusions.Admin = s.Operators(t)
	peek(t, s, "select id from customers where slug = 'fusions'", &e.fusions.ID)
	e.first = principal.Principal{Customer: e.fusions.ID, User: e.fusions.Admin.ID, Role: principal.Operator}
	e.second = principal.Principal{Customer: e.fusions.ID, User: s.Person(t, e.fusions, principal.Operator, "second@fusions.example").ID, Role: principal.Operator}
	e.leaving, e.stay = s.Customer(t, "leaving"), s.Customer(t, "staying")
	return e
}

// over moves the clock until the deletion may begin, with the notices before it.
func (e *ending) over(t *testing.T) {
	t.Helper()
	for {
		now, err := e.Offboardings.Newest(t.Context(), e.leaving.ID)
		if err != nil {
			t.Fatal(err)
		}
		if wait := now.DeletesAt.Sub(e.Database.Clock.Now()); wait > 24*time.Hour {
			e.Database.Clock.Advance(wait - 24*time.Hour) // the last notice
			offboarded(t, e.Service, e.leaving, func(now offboarding.Offboarding) bool {
				return now.BundleWantedAt == nil && now.Bundle.MadeAt.Equal(e.Database.Clock.Now())
			})
			continue
		}
		e.Database.Clock.Advance(now.DeletesAt.Sub(e.Database.Clock.Now()))
		return
	}
}

// fillStores gives a customer something in as many stores as the API reaches.
func (e *ending) fillStores(t *testing.T, of apptest.Customer) {
	t.Helper()
	admin := apptest.As(e.SignIn(t, of.Slug, of.Admin))
	key := apptest.As(of.APIKey)
	call(t, e.Service, "POST", "/v1/users", key, apptest.Header("Idempotency-Key", fresh("key")),
		apptest.JSON(members{"first_name": "Mira", "last_name": "Okafor", "email": fresh("mira") + "@" + of.Slug + ".example"})).Want(t, 201)
	call(t, e.Service, "POST", "/v1/user-imports", key, csvFile("Noor,Haddad,"+fresh("noor")+"@"+of.Slug+".example")).Want(t, 201)
	call(t, e.Service, "POST", "/v1/audit-entries", key, apptest.JSON([]any{entryBy(of.User.ID, nil)})).Want(t, 200)
	erased := e.Person(t, of, principal.User, fresh("erased")+"@"+of.Slug+".example")
	call(t, e.Service, "POST", "/v1/users/"+erased.ID.String()+"/redaction", admin).Want(t, 200)
	secret := call(t, e.Service, "POST", "/v1/me/second-factor", apptest.As(e.SignIn(t, of.Slug, of.User)), apptest.JSON(members{"current_password": apptest.Password})).Want(t, 201).Text(t, "secret")
	_ = secret
	_ = forgedLink(t, e.Service, of.ID, of.User.ID)
	webhookOf(t, e.Service, of, "http://127.0.0.1:9/hook")
	if _, err := e.Alerts.Raise(t.Context(), principal.Principal{Customer: of.ID}, alert.New{Severity: alert.Critical, Subject: "It broke", Body: "Twice."}, nil); err != nil {
		t.Fatal(err)
	}
	asked := subjectrequest.New{UserID: of.User.ID, Kind: subjectrequest.Access}
	filed, err := e.Requests.File(t.Context(), principal.Principal{Customer: of.ID, Role: principal.Administrator}, asked, nil)
	if err == nil {
		_, err = e.Requests.Fulfil(t.Context(), e.first, filed.ID, anyVersion, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	call(t, e.Service, "GET", "/v1/audit-checkpoints/latest", admin).Want(t, 200)
	e.Settle()
	e.Seal(t)
}

func TestTwoOperatorsEndAContract(t *testing.T) {
	t.Parallel()
	e := newEnding(t)
	first, second := apptest.As(e.SignIn(t, "fusions", e.fusions.Admin)), apptest.As(e.SignIn(t, "fusions", apptest.Person{Email: "second@fusions.example"}))
	admin := apptest.As(e.SignIn(t, "leaving", e.leaving.Admin))
	path := "/v1/operator/customers/" + e.leaving.ID.String() + "/offboarding"

	call(t, e.Service, "GET", path, first).WantProblem(t, 404, "not-found")
	call(t, e.Service, "GET", "/v1/customer/offboarding", admin).WantProblem(t, 404, "not-found")
	call(t, e.Service, "POST", path+"/approval", first).WantProblem(t, 404, "not-found")
	call(t, e.Service, "POST", path+"/cancellation", first).WantProblem(t, 404, "not-found")
	call(t, e.Service, "POST", "/v1/operator/customers/"+e.fusions.ID.String()+"/offboarding", first).WantProblem(t, 404, "not-found")

	once := apptest.Header("Idempotency-Key", "the-end")
	begun := call(t, e.Service, "POST", path, first, once).Want(t, 201)
	if again := call(t, e.Service, "POST", path, first, once).Want(t, 201); again.Header.Get("Idempotency-Replayed") != "true" || again.Text(t, "id") != begun.Text(t, "id") {
		t.Errorf("a repetition is answered with %s", again.Body)
	}
	if begun.Text(t, "state") != "requested" || begun.Header.Get("Location") != "/v1/operator/offboardings/"+begun.Text(t, "id") {
		t.Errorf("it begins with %s at %s", begun.Body, begun.Header.Get("Location"))
	}
	call(t, e.Service, "POST", path, second).WantProblem(t, 409, "offboarding-under-way")
	call(t, e.Service, "POST", path+"/approval", first).WantProblem(t, 403, "second-operator-needed")
	call(t, e.Service, "POST", path+"/approval", second, apptest.Header("If-Match", `"7"`)).WantProblem(t, 412, "precondition-failed")
	call(t, e.Service, "GET", "/v1/customer/offboarding", admin).Want(t, 200)
	call(t, e.Service, "GET", "/v1/customer/offboarding/bundle", admin).WantProblem(t, 409, "offboarding-state")
	call(t, e.Service, "POST", "/v1/customer/offboarding/bundle", admin).WantProblem(t, 409, "offboarding-state")

	approved := call(t, e.Service, "POST", path+"/approval", second, apptest.Header("If-Match", begun.Header.Get("ETag"))).Want(t, 200)
	if want := e.Database.Clock.Now().Add(30 * 24 * time.Hour).Format(time.RFC3339); approved.Text(t, "deletes_at") != want {
		t.Errorf("it waits until %s, want %s", approved.Text(t, "deletes_at"), want)
	}
	call(t, e.Service, "POST", path+"/approval", second).Want(t, 200)
	call(t, e.Service, "POST", path+"/approval", first).WantProblem(t, 409, "offboarding-state")
	call(t, e.Service, "POST", path+"/cancellation", first, apptest.Header("If-Match", begun.Header.Get("ETag"))).WantProblem(t, 412, "precondition-failed")
	e.MailTo(t, e.leaving.Admin.Email, "Your contract ends")

	// The customer works on.
	call(t, e.Service, "GET", "/v1/users", apptest.As(e.leaving.APIKey)).Want(t, 200)
	cancelled := call(t, e.Service, "POST", path+"/cancellation", first).Want(t, 200)
	call(t, e.Service, "POST", path+"/cancellation", second).Want(t, 200)
	call(t, e.Service, "POST", path+"/approval", second).WantProblem(t, 409, "offboarding-state")
	e.MailTo(t, e.leaving.Admin.Email, "Your contract goes on")
	e.Database.Clock.Advance(60 * 24 * time.Hour)
	offboarded(t, e.Service, e.leaving, func(now offboarding.Offboarding) bool { return now.Bundle == nil })
	call(t, e.Service, "GET", "/v1/users", apptest.As(e.leaving.APIKey)).Want(t, 200)

	first = apptest.As(e.SignIn(t, "fusions", e.fusions.Admin))
	anew := call(t, e.Service, "POST", path, first).Want(t, 201)
	var listed struct {
		Data []struct{ ID, State string }
	}
	call(t, e.Service, "GET", "/v1/operator/offboardings", first).Want(t, 200).Into(t, &listed)
	if len(listed.Data) != 2 || listed.Data[0].ID != anew.Text(t, "id") || listed.Data[1].ID != cancelled.Text(t, "id") {
		t.Errorf("listed are %+v", listed.Data)
	}
	call(t, e.Service, "GET", "/v1/operator/offboardings?state=cancelled", first).Want(t, 200).Into(t, &listed)
	if len(listed.Data) != 1 || listed.Data[0].State != "cancelled" {
		t.Errorf("cancelled are %+v", listed.Data)
	}

	// Both trails tell of it.
	for _, of := range []id.Customer{e.leaving.ID, e.fusions.ID} {
		rows, err := e.conn.Query(t.Context(), "select action from audit_entries where customer_id = $1 and action like 'customer.offboarding%' order by id", of.String())
		if err != nil {
			t.Fatal(err)
		}
		actions, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		if want := []string{"customer.offboarding_begun", "customer.offboarding_approved", "customer.offboarding_cancelled", "customer.offboarding_begun"}; !slices.Equal(actions, want) {
			t.Errorf("the trail of %s tells %q", of, actions)
		}
	}
}

func TestApprovalAndCancellationMeet(t *testing.T) {
	t.Parallel()
	e := newEnding(t)
	third := e.second
	third.User = e.Person(t, e.fusions, principal.Operator, "third@fusions.example").ID
	for range 5 {
		if _, err := e.Offboardings.Begin(t.Context(), e.first, e.leaving.ID, nil); err != nil {
			t.Fatal(err)
		}
		var group sync.WaitGroup
		results := make([]error, 4)
		for i, do := range []func() error{
			func() error {
				_, err := e.Offboardings.Approve(t.Context(), e.second, e.leaving.ID, anyVersion, nil)
				return err
			},
			func() error {
				_, err := e.Offboardings.Approve(t.Context(), third, e.leaving.ID, anyVersion, nil)
				return err
			},
			func() error {
				_, err := e.Offboardings.Approve(t.Context(), e.first, e.leaving.ID, anyVersion, nil)
				return err
			},
			func() error {
				_, err := e.Offboardings.Cancel(t.Context(), e.first, e.leaving.ID, anyVersion, nil)
				return err
			},
		} {
			group.Go(func() { results[i] = do() })
		}
		group.Wait()
		if results[2] == nil || results[3] != nil || results[0] == nil && results[1] == nil {
			t.Errorf("approved by two, by who began it, and cancelled: %v", results)
		}
		if now, err := e.Offboardings.Newest(t.Context(), e.leaving.ID); err != nil || now.State != offboarding.Cancelled {
			t.Errorf("it is %s (%v)", now.State, err)
		}
	}
}

func TestTheBundleHoldsEverything(t *testing.T) {
	t.Parallel()
	e := newEnding(t)
	e.fillStores(t, e.leaving)
	before := steps.RowsOf(t, e.conn, e.leaving.ID)
	waiting(t, e.Service, e.leaving, e.first, e.second)
	admin := apptest.As(e.SignIn(t, "leaving", e.leaving.Admin))
	answer := call(t, e.Service, "GET", "/v1/customer/offboarding/bundle", admin).Want(t, 200)
	if answer.Header.Get("Content-Type") != "application/zip" {
		t.Errorf("it comes as %s", answer.Header.Get("Content-Type"))
	}
	e.checkBundle(t, answer.Body, before)
	call(t, e.Service, "HEAD", "/v1/customer/offboarding/bundle", admin).Want(t, 200)
	call(t, e.Service, "GET", "/v1/customer/offboarding/bundle", apptest.As(e.SignIn(t, "staying", e.stay.Admin))).WantProblem(t, 404, "not-found")

	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	call(t, e.Service, "PUT", "/v1/customer/offboarding/recipient", admin, apptest.JSON(members{"recipient": "age1" + strings.Repeat("q", 58)})).WantProblem(t, 422, "invalid-recipient")
	call(t, e.Service, "PUT", "/v1/customer/offboarding/recipient", admin, apptest.JSON(members{"recipient": identity.Recipient().String()})).Want(t, 200)
	offboarded(t, e.Service, e.leaving, func(now offboarding.Offboarding) bool {
		return now.BundleWantedAt == nil && now.Bundle.Recipient != nil
	})
	answer = call(t, e.Service, "GET", "/v1/customer/offboarding/bundle", admin).Want(t, 200)
	opened, err := age.Decrypt(bytes.NewReader(answer.Body), identity)
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(opened)
	if err != nil {
		t.Fatal(err)
	}
	e.checkBundle(t, content, before)
	if objects := e.objects(t); len(objects) != 1 {
		t.Errorf("the store has %q", objects)
	}
	// In the store nothing of it can be read.
	for _, name := range e.objects(t) {
		object, err := apptest.BlobsOf(t, e.Database).Open(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		stored, err := io.ReadAll(object)
		if err = errors.Join(err, object.Close()); err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(stored, []byte("age-encryption.org/v1")) {
			t.Errorf("%s begins with %q", name, stored[:20])
		}
	}
	call(t, e.Service, "POST", "/v1/customer/offboarding/bundle", admin).Want(t, 202)
	if _, err := e.Offboardings.Cancel(t.Context(), e.first, e.leaving.ID, anyVersion, nil); err != nil {
		t.Fatal(err)
	}
	offboarded(t, e.Service, e.leaving, func(now offboarding.Offboarding) bool { return now.Bundle == nil && len(e.objects(t)) == 0 })
	call(t, e.Service, "GET", "/v1/customer/offboarding/bundle", admin).WantProblem(t, 409, "offboarding-state")
}

// objects are the names of the bundles that lie in the store.
func (e *ending) objects(t *testing.T) (names []string) {
	t.Helper()
	for info, err := range apptest.BlobsOf(t, e.Database).List(t.Context(), "offboardings/", "") {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, info.Name)
	}
	return names
}

// checkBundle compares a bundle with what is in the database: each store with at least so many rows, and none of its secrets.
func (e *ending) checkBundle(t *testing.T, content []byte, atLeast map[string]int64) {
	t.Helper()
	archive, err := zip.NewReader(bytes.NewReader(content), int64(len(content)))
	if err != nil {
		t.Fatal(err)
	}
	read := func(name string) []byte {
		file, err := archive.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(file)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	var about struct {
		Stores []struct {
			Store, File string
			Rows        int64
			Withheld    []struct{ Member string }
		}
	}
	if err := json.Unmarshal(read("manifest.json"), &about); err != nil {
		t.Fatal(err)
	}
	if len(about.Stores) != len(steps.CustomerStores()) || len(archive.File) != len(about.Stores)+1 {
		t.Errorf("there are %d files for %d stores", len(archive.File), len(about.Stores))
	}
	for _, store := range about.Stores {
		var rows int64
		lines := bufio.NewScanner(bytes.NewReader(read(store.File)))
		lines.Buffer(nil, 16<<20)
		for ; lines.Scan(); rows++ {
			var row map[string]any
			if err := json.Unmarshal(lines.Bytes(), &row); err != nil {
				t.Fatalf("%s: %v: %s", store.File, err, lines.Bytes())
			}
			for _, withheld := range store.Withheld {
				if _, there := row[withheld.Member]; there {
					t.Errorf("%s.%s is handed over", store.Store, withheld.Member)
				}
			}
			if of := row["customer_id"]; store.Store != "customers" && of != e.leaving.ID.String() {
				t.Errorf("%s has a row of %v", store.Store, of)
			}
		}
		if wanted := atLeast[store.Store]; rows != store.Rows || rows < wanted && !slices.Contains([]string{"audit_unsealed", "webhook_deliveries"}, store.Store) {
			t.Errorf("%s has %d rows, %d as it says; the database had %d", store.Store, rows, store.Rows, wanted)
		}
	}
}

func TestEverythingOfACustomerIsDeleted(t *testing.T) {
	t.Parallel()
	e := newEnding(t)
	e.fillStores(t, e.leaving)
	e.fillStores(t, e.stay)
	key := apptest.As(e.leaving.APIKey)
	waiting(t, e.Service, e.leaving, e.first, e.second)
	call(t, e.Service, "GET", "/v1/users", key).Want(t, 200)
	quiet(t, e.Service)
	staying := steps.RowsOf(t, e.conn, e.stay.ID)
	if full := steps.RowsOf(t, e.conn, e.leaving.ID); len(full) < len(steps.CustomerStores())-6 {
		t.Errorf("the customer has something in these stores only: %v", full)
	}
	e.over(t)
	done := offboarded(t, e.Service, e.leaving, func(now offboarding.Offboarding) bool { return now.State == offboarding.Deleted })
	if left := steps.RowsOf(t, e.conn, e.leaving.ID); len(left) > 0 {
		t.Errorf("left is %v", left)
	}
	for store, before := range staying { // its trail may have grown
		if after := steps.RowsOf(t, e.conn, e.stay.ID); after[store] < before {
			t.Errorf("another customer had %v and has %v", staying, after)
		}
	}
	var jobs int
	peek(t, e.Service, "select count(*) from jobs.river_job where args::text like '%' || $1 || '%'", &jobs, e.leaving.ID.String())
	if objects := e.objects(t); jobs > 0 || len(objects) > 0 {
		t.Errorf("left are %d jobs and the objects %q", jobs, objects)
	}
	removed := make(map[string]int64)
	for _, one := range done.Removed {
		removed[one.Store] = one.Count
	}
	if removed["customers"] != 1 || removed["users"] < 3 || removed["audit_entries"] == 0 || removed["audit_entries"] != removed["audit_leaves"]+removed["audit_unsealed"] {
		t.Errorf("removed is %v", removed)
	}
	// The database itself has closed the customer, whatever the replicas remember.
	e.Database.Clock.Advance(time.Second)
	call(t, e.Service, "GET", "/v1/users", key).WantProblem(t, 401, "unauthorized")
	call(t, e.Service, "POST", "/v1/sessions", apptest.JSON(members{"customer": "leaving", "email": e.leaving.Admin.Email, "password": apptest.Password})).
		WantProblem(t, 401, "invalid-credentials")

	operator := apptest.As(e.SignIn(t, "fusions", e.fusions.Admin))
	call(t, e.Service, "GET", "/v1/operator/customers/"+e.leaving.ID.String(), operator).WantProblem(t, 404, "not-found")
	path := "/v1/operator/customers/" + e.leaving.ID.String() + "/offboarding"
	certificate := call(t, e.Service, "GET", path, operator).Want(t, 200)
	if certificate.Text(t, "state") != "deleted" || certificate.Text(t, "requested_by") != e.first.User.String() || certificate.Text(t, "approved_by") != e.second.User.String() {
		t.Errorf("the certificate is %s", certificate.Body)
	}
	var keys client.SigningKeys
	call(t, e.Service, "GET", "/.well-known/jwks.json").Want(t, 200).Into(t, &keys)
	for _, document := range [][]byte{certificate.Body, []byte(certificate.Text(t, "jws"))} {
		if verified, err := client.VerifyCertificate(document, keys); err != nil || verified.Certificate.Customer.Slug != "leaving" || !client.IsCertificate(document) {
			t.Errorf("the certificate does not verify: %+v (%v)", verified, err)
		}
		if _, err := client.VerifyReceipt(document, keys); err == nil {
			t.Error("the certificate passes for a receipt")
		}
	}
	jws := certificate.Text(t, "jws")
	for at := range jws {
		other := byte('A')
		if jws[at] == other {
			other = 'B'
		}
		if _, err := client.VerifyCertificate([]byte(jws[:at]+string(other)+jws[at+1:]), keys); err == nil {
			t.Errorf("byte %d of the certificate can be changed", at)
		}
	}
	for _, change := range [][2]string{{`"slug":"leaving"`, `"slug":"staying"`}, {`"state":"deleted"`, `"state":"deleting"`}, {`"count":1`, `"count":9`}} {
		var differs *client.ReceiptDifference
		if _, err := client.VerifyCertificate(bytes.Replace(certificate.Body, []byte(change[0]), []byte(change[1]), 1), keys); !errors.As(err, &differs) {
			t.Errorf("%s instead of %s: %v", change[1], change[0], err)
		}
	}
	call(t, e.Service, "POST", path, operator).WantProblem(t, 404, "not-found")
	call(t, e.Service, "POST", path+"/cancellation", operator).WantProblem(t, 409, "offboarding-state")
	var entries int
	peek(t, e.Service, "select count(*) from audit_entries where customer_id = $1 and action in ('customer.deletion_begun', 'customer.deleted') and target_id = $2", &entries,
		e.fusions.ID.String(), e.leaving.ID.String())
	if entries != 2 {
		t.Errorf("the trail of Fusions has %d entries of the deletion", entries)
	}

	// The slug is free for somebody else, whom nothing of this concerns.
	newcomer := e.Customer(t, "leaving")
	call(t, e.Service, "GET", "/v1/customer", apptest.As(e.SignIn(t, "leaving", newcomer.Admin))).Want(t, 200)
	if problems := errorsIn(e.Database.Log.String()); len(problems) > 0 {
		t.Errorf("the log complains: %q", problems)
	}
}

// quiet waits until the mails and the numbering of the trail that earlier acts have led to are done, so that counts stay the same.
func quiet(t *testing.T, s *apptest.Service) {
	t.Helper()
	deadline := time.Now().Add(steps.Patience)
	for {
		s.Seal(t)
		var open int
		peek(t, s, "select count(*) from jobs.river_job where state in ('available', 'running', 'scheduled') and kind not like '%round%'", &open)
		if open == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d jobs stay open", open)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// errorsIn returns the lines of a log that tell of an error.
func errorsIn(log string) (lines []string) {
	for line := range strings.SplitSeq(log, "\n") {
		if strings.Contains(line, "level=ERROR") || strings.Contains(line, `"level":"ERROR"`) {
			lines = append(lines, line)
		}
	}
	return lines
}

// What cannot be deleted by anybody but the one role, and by that one only where a deletion has begun and the ledger knows of it.
func TestTheTrailGoesOnlyWithItsCustomer(t *testing.T) {
	t.Parallel()
	e := newEnding(t)
	waiting(t, e.Service, e.leaving, e.first, e.second)
	e.Seal(t)
	try := func(role string, of id.Customer, statement string) (int64, error) {
		conn := e.Database.Superuser(t)
		steps.Execute(t, conn, "set role "+role)
		if _, err := conn.Exec(t.Context(), "select set_config('app.customer_id', $1, false)", of.String()); err != nil {
			t.Fatal(err)
		}
		done, err := conn.Exec(t.Context(), statement)
		return done.RowsAffected(), err
	}
	tables := []string{"audit_entries", "audit_leaves", "audit_heads", "audit_checkpoints", "users", "customers"}
	for _, table := range []string{"audit_entries", "audit_leaves"} {
		if _, err := try("steward_app", e.leaving.ID, "delete from "+table); sqlState(err) != "42501" {
			t.Errorf("steward_app deleting from %s gave %v", table, err)
		}
	}
	for what, prepare := range map[string]string{
		"while it waits": "", "before the ledger knows": "update offboardings set state = 'deleting', deleting_at = deletes_at",
	} {
		if prepare != "" {
			steps.Execute(t, e.conn, prepare)
		}
		for _, table := range tables {
			for _, of := range []id.Customer{e.leaving.ID, e.stay.ID} {
				if count, err := try("steward_offboarder", of, "delete from "+table); err != nil || count != 0 {
					t.Errorf("%s, steward_offboarder deleted %d rows of %s of %s (%v)", what, count, table, of, err)
				}
			}
			if _, err := try("steward_offboarder", e.leaving.ID, "truncate "+table); sqlState(err) != "42501" {
				t.Errorf("steward_offboarder truncating %s gave %v", table, err)
			}
		}
	}
	if _, err := try("steward_offboarder", e.leaving.ID, "update offboardings set recorded_at = deleting_at"); sqlState(err) != "42501" {
		t.Errorf("steward_offboarder can tell itself what it may: %v", err)
	}
	if _, err := try("steward_offboarder", e.leaving.ID, "update users set first_name = 'x'"); sqlState(err) != "42501" {
		t.Errorf("steward_offboarder can update: %v", err)
	}
	// Past row security, the triggers hold all the same.
	if _, err := e.conn.Exec(t.Context(), "delete from audit_entries where customer_id = $1", e.leaving.ID.String()); sqlState(err) != "23000" {
		t.Errorf("a superuser deleting entries of one that is being deleted gave %v", err)
	}
	steps.Execute(t, e.conn, "alter table audit_entries disable row level security")
	steps.Execute(t, e.conn, "alter table offboardings disable row level security")
	if _, err := try("steward_offboarder", e.stay.ID, "delete from audit_entries where customer_id = '"+e.stay.ID.String()+"'"); sqlState(err) != "23000" {
		t.Errorf("past row security, the trail of a customer that stays: %v", err)
	}
	// Steps back, or ahead of others, are refused whoever writes them.
	for _, step := range []string{
		"update offboardings set state = 'approved', deleting_at = null", "update offboardings set state = 'requested', deleting_at = null",
		"update offboardings set approved_by = requested_by",
		"update offboardings set state = 'cancelled', deleting_at = null, cancelled_at = now()",
	} {
		if _, err := e.conn.Exec(t.Context(), step); !strings.HasPrefix(sqlState(err), "23") {
			t.Errorf("%s gave %v", step, err)
		}
	}
}

func sqlState(err error) string {
	var reported *pgconn.PgError
	if errors.As(err, &reported) {
		return reported.Code
	}
	return ""
}

// From the moment that the state is deleting, everybody is out, on every replica, before a single row is gone.
func TestAClosedCustomerIsClosedEverywhere(t *testing.T) {
	t.Parallel()
	e := newEnding(t, func(settings *app.Settings) { settings.Workers = 0 })
	other := apptest.ReplicaWith(t, e.Database, func(settings *app.Settings) { settings.Workers = 0 })
	e.fillStores(t, e.leaving)
	waiting(t, e.Service, e.leaving, e.first, e.second)
	admin, key := apptest.As(e.SignIn(t, "leaving", e.leaving.Admin)), apptest.As(e.leaving.APIKey)
	operator := apptest.As(e.SignIn(t, "fusions", e.fusions.Admin))
	link := forgedLink(t, e.Service, e.leaving.ID, e.leaving.User.ID)
	for _, replica := range []*apptest.Service{e.Service, other} { // both remember that the credentials are good
		call(t, replica, "GET", "/v1/customer", admin).Want(t, 200)
		call(t, replica, "GET", "/v1/users", key).Want(t, 200)
	}
	steps.Execute(t, e.conn, "update offboardings set state = 'deleting', deletes_at = approved_at, deleting_at = approved_at, wake_at = null")
	before := steps.RowsOf(t, e.conn, e.leaving.ID)
	for _, replica := range []*apptest.Service{e.Service, other} {
		// What is let in by memory sees and writes nothing, and is no mistake of the service.
		for _, one := range []struct {
			method, path string
			as           apptest.Option
			body         any
		}{
			{"POST", "/v1/users", key, members{"first_name": "A", "last_name": "B", "email": "a@leaving.example"}},
			{"POST", "/v1/audit-entries", key, []any{entryBy(e.leaving.User.ID, nil)}},
			{"POST", "/v1/alerts", key, members{"severity": "critical", "subject": "It broke", "body": "Twice."}},
			{"POST", "/v1/webhook-endpoints", key, members{"url": "https://pim.acme.example/webhooks/steward"}},
			{"POST", "/v1/api-keys", admin, members{"name": "PIM production", "scopes": []string{"users:read"}}},
			{"PATCH", "/v1/customer", admin, members{"guidance_text": "x"}},
			{"PUT", "/v1/me/password", admin, members{"current_password": apptest.Password, "new_password": "violet umbrellas hum at seven dusks"}},
			{"PUT", "/v1/me/alerts", admin, members{"opted_in": false}},
			{"POST", "/v1/me/second-factor", admin, members{"current_password": apptest.Password}},
			{"GET", "/v1/me", admin, nil},
			{"GET", "/v1/me/sessions", admin, nil},
			{"GET", "/v1/me/logins", admin, nil},
			{"GET", "/v1/me/second-factor", admin, nil},
			{"GET", "/v1/me/alerts", admin, nil},
			{"GET", "/v1/customer", admin, nil},
			{"GET", "/v1/customer/offboarding", admin, nil},
			{"GET", "/v1/customer/offboarding/bundle", admin, nil},
			{"GET", "/v1/users", key, nil},
			{"GET", "/v1/audit-entries", key, nil},
			{"GET", "/v1/audit-checkpoints/latest", key, nil},
			{"GET", "/v1/events", key, nil},
			{"GET", "/v1/alerts", key, nil},
			{"GET", "/v1/api-keys", admin, nil},
		} {
			options := []apptest.Option{one.as}
			if one.body != nil {
				options = append(options, apptest.JSON(one.body))
			}
			answer := call(t, replica, one.method, one.path, options...)
			if answer.Status >= 500 || one.method != "GET" && answer.Status < 300 && one.path != "/v1/audit-entries" || bytes.Contains(answer.Body, []byte("@leaving.example")) {
				t.Errorf("%s %s by a remembered credential is answered with %d %s", one.method, one.path, answer.Status, answer.Body)
			}
		}
	}
	e.Database.Clock.Advance(time.Second)
	for _, replica := range []*apptest.Service{e.Service, other} {
		call(t, replica, "GET", "/v1/customer", admin).WantProblem(t, 401, "unauthorized")
		call(t, replica, "GET", "/v1/users", key).WantProblem(t, 401, "unauthorized")
		call(t, replica, "POST", "/v1/sessions", apptest.JSON(members{"customer": "leaving", "email": e.leaving.User.Email, "password": apptest.Password})).
			WantProblem(t, 401, "invalid-credentials")
		call(t, replica, "POST", "/v1/password-resets", apptest.JSON(members{"customer": "leaving", "email": e.leaving.User.Email})).Want(t, 202)
		if answer := call(t, replica, "POST", "/v1/password-resets/confirm", apptest.JSON(members{"token": link, "new_password": "violet umbrellas hum at seven dusks"})); answer.Status/100 != 4 {
			t.Errorf("a mailed link is answered with %d", answer.Status)
		}
		if answer := call(t, replica, "POST", unsubscribing(t, e.leaving.ID, e.leaving.User.ID)); answer.Status != 404 {
			t.Errorf("opting out by link is answered with %d", answer.Status)
		}
		call(t, replica, "PATCH", "/v1/operator/customers/"+e.leaving.ID.String(), operator, apptest.JSON(members{"name": "x"})).WantProblem(t, 404, "not-found")
		call(t, replica, "POST", "/v1/operator/customers/"+e.leaving.ID.String()+"/offboarding/cancellation", operator).WantProblem(t, 409, "offboarding-state")
		if err := errors.Join(replica.Sequencer.Sequence(t.Context()), replica.Alerts.PickUpDue(t.Context()), replica.Sweep(t.Context()), replica.CompareLedger(t.Context())); err != nil {
			t.Errorf("what goes on in the background fails: %v", err)
		}
	}
	e.Settle()
	if after := steps.RowsOf(t, e.conn, e.leaving.ID); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("it had %v and has %v", before, after)
	}
}

// A deletion goes on where it was broken off, and is counted once.
func TestADeletionIsGoneOnWith(t *testing.T) {
	t.Parallel()
	e := newEnding(t, func(settings *app.Settings) { settings.Workers = 0 })
	steps.Execute(t, e.conn, `
		insert into audit_entries (customer_id, id, source, actor_type, action, target_type, target_id, changed, occurred_at, recorded_at)
		select $1, gen_random_uuid(), 'steward', 'system', 'user.created', 'user', gen_random_uuid()::text, '{}', now(), now() from generate_series(1, 30000)`, e.leaving.ID.String())
	waiting(t, e.Service, e.leaving, e.first, e.second)
	e.over(t)
	before := steps.RowsOf(t, e.conn, e.leaving.ID)
	var group sync.WaitGroup
	for i := range 6 { // replicas that die: their contexts end in the middle, and their leases with the clock
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(20+60*i)*time.Millisecond)
		group.Go(func() { _ = e.Offboardings.RunDue(ctx) })
		group.Wait()
		cancel()
		e.Database.Clock.Advance(offboarding.Lease)
	}
	done := offboarded(t, e.Service, e.leaving, func(now offboarding.Offboarding) bool { return now.State == offboarding.Deleted })
	for _, one := range done.Removed {
		if want := before[one.Store]; one.Store != "jobs" && one.Count != want {
			t.Errorf("%s counts %d, and there were %d", one.Store, one.Count, want)
		}
	}
	if left := steps.RowsOf(t, e.conn, e.leaving.ID); len(left) > 0 {
		t.Errorf("left is %v", left)
	}
}

// Two replicas at once, the second because the first one's lease is over, do no harm to each other.
func TestTwoReplicasDeleteAtOnce(t *testing.T) {
	t.Parallel()
	e := newEnding(t, func(settings *app.Settings) { settings.Workers = 0 })
	other := apptest.ReplicaWith(t, e.Database, func(settings *app.Settings) { settings.Workers = 0 })
	e.fillStores(t, e.leaving)
	waiting(t, e.Service, e.leaving, e.first, e.second)
	e.over(t)
	before := steps.RowsOf(t, e.conn, e.leaving.ID)
	var group sync.WaitGroup
	for _, replica := range []*apptest.Service{e.Service, other, e.Service} {
		group.Go(func() {
			if err := replica.Offboardings.RunDue(t.Context()); err != nil {
				t.Logf("a replica gave way: %v", err)
			}
		})
		e.Database.Clock.Advance(offboarding.Lease)
	}
	group.Wait()
	e.Database.Clock.Advance(offboarding.Lease)
	done := offboarded(t, e.Service, e.leaving, func(now offboarding.Offboarding) bool { return now.State == offboarding.Deleted })
	for _, one := range done.Removed {
		if want := before[one.Store]; one.Store != "jobs" && one.Count != want {
			t.Errorf("%s counts %d, and there were %d", one.Store, one.Count, want)
		}
	}
	var entries int
	peek(t, e.Service, "select count(*) from audit_entries where customer_id = $1 and action = 'customer.deleted'", &entries, e.fusions.ID.String())
	if entries != 1 {
		t.Errorf("it was deleted %d times", entries)
	}
}

// The beginning of the deletion and a cancellation exclude each other.
func TestCancellationAndDeletionMeet(t *testing.T) {
	t.Parallel()
	e := newEnding(t, func(settings *app.Settings) { settings.Workers = 0 })
	waiting(t, e.Service, e.leaving, e.first, e.second)
	e.over(t)
	var group sync.WaitGroup
	var cancelled error
	group.Go(func() {
		if err := e.Offboardings.RunDue(t.Context()); err != nil {
			t.Error(err)
		}
	})
	group.Go(func() { _, cancelled = e.Offboardings.Cancel(t.Context(), e.first, e.leaving.ID, anyVersion, nil) })
	group.Wait()
	e.Database.Clock.Advance(offboarding.Lease)
	want := offboarding.Deleted
	if cancelled == nil {
		want = offboarding.Cancelled
	}
	offboarded(t, e.Service, e.leaving, func(now offboarding.Offboarding) bool { return now.State == want })
	if rows := steps.RowsOf(t, e.conn, e.leaving.ID); (len(rows) == 0) != (want == offboarding.Deleted) {
		t.Errorf("it is %s and has %v", want, rows)
	}
}

// Nobody is deleted without the last notice, also where no replica was there to send it.
func TestNobodyIsDeletedUnannounced(t *testing.T) {
	t.Parallel()
	e := newEnding(t)
	waiting(t, e.Service, e.leaving, e.first, e.second)
	e.Database.Clock.Advance(100 * 24 * time.Hour)
	after := offboarded(t, e.Service, e.leaving, func(now offboarding.Offboarding) bool { return now.DeletesAt.After(e.Database.Clock.Now()) })
	if after.State != offboarding.Approved {
		t.Fatalf("it is %s", after.State)
	}
	mail := e.MailTo(t, e.leaving.Admin.Email, "Your data is about to be deleted")
	if !strings.Contains(mail.Text, after.DeletesAt.UTC().Format("2 January 2006, 15:04 UTC")) {
		t.Errorf("the notice tells another time than %s: %s", after.DeletesAt, mail.Text)
	}
	e.over(t)
	offboarded(t, e.Service, e.leaving, func(now offboarding.Offboarding) bool { return now.State == offboarding.Deleted })
}

// A database that was restored to before the end deletes the customer again before anybody is let in, whatever it remembers of the offboarding. Broken off, it goes on; done, it stays done.
// The rows of a customer that was deleted are vacuumed away, as soon as nobody can look behind the deletion any more; and it is final when no backup is left that may hold them.
func TestADeletedCustomerIsGoneWhenNothingIsLeft(t *testing.T) {
	t.Parallel()
	database, owner := plainOwner(t)
	e := endingOn(t, apptest.ReplicaWith(t, database, func(settings *app.Settings) {
		apptest.WithBackups(t)(settings)
		settings.MaintenanceURL, settings.Workers = owner, 0
	}))
	waiting(t, e.Service, e.leaving, e.first, e.second)
	holding, err := e.Backups.Create(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	looking := e.Database.Superuser(t)
	steps.Execute(t, looking, "begin isolation level repeatable read")
	steps.Execute(t, looking, "select from users")
	e.over(t)
	offboarded(t, e.Service, e.leaving, func(now offboarding.Offboarding) bool { return now.State == offboarding.Deleted })
	now := func() offboarding.Offboarding {
		t.Helper()
		if _, err := e.Receipts.Advance(t.Context()); err != nil {
			t.Fatal(err)
		}
		found, err := e.Offboardings.Newest(t.Context(), e.leaving.ID)
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	// After a VACUUM a page counts as visible to everybody if it has no dead row.
	clean := func() bool {
		return steps.Number(t, e.conn, "select count(*) from pg_class where relname in ('users', 'audit_entries', 'api_keys', 'customers') and (relpages = 0 or relallvisible < relpages)") == 0
	}
	if found := now(); found.LiveCompleteAt != nil || clean() {
		t.Fatalf("while somebody looks: %+v", found)
	}
	steps.Execute(t, looking, "rollback")
	e.Database.Clock.Advance(time.Hour)
	var found offboarding.Offboarding
	steps.Eventually(t, "nothing to be left", func() bool { // transactions of other tests hold it up for a while
		found = now()
		return found.LiveCompleteAt != nil
	})
	if !found.LiveCompleteAt.Equal(e.Database.Clock.Now()) || !clean() {
		t.Fatalf("%+v", found)
	}
	e.Database.Clock.Advance(time.Hour)
	if again := now(); again.Version != found.Version {
		t.Errorf("it was settled twice: %+v", again)
	}
	finish := func() offboarding.Offboarding {
		t.Helper()
		if _, err := e.Receipts.Finish(t.Context()); err != nil {
			t.Fatal(err)
		}
		return now()
	}
	if found := finish(); found.FinalAt != nil {
		t.Errorf("with a backup from before: %+v", found)
	}
	if err := e.Backups.Delete(t.Context(), holding.ID); err != nil {
		t.Fatal(err)
	}
	if found := finish(); found.FinalAt == nil || !found.FinalAt.Equal(e.Database.Clock.Now()) {
		t.Errorf("without one: %+v", found)
	}
	admin := apptest.As(e.SignIn(t, "fusions", e.fusions.Admin))
	told := call(t, e.Service, "GET", "/v1/operator/customers/"+e.leaving.ID.String()+"/offboarding", admin).Want(t, 200)
	if told.Text(t, "live_complete_at") == "" || told.Text(t, "final_at") == "" {
		t.Errorf("operators are not told: %s", told.Body)
	}
}

func TestARestoreBringsNoCustomerBack(t *testing.T) {
	t.Parallel()
	living := dbtest.New(t)
	copies := make(map[string]*dbtest.Database)
	var e *ending
	apptest.BlobURL(t, living) // which lives as long as this test
	// A database is copied when nobody is connected, so each step has connections of its own.
	step := func(name string, do func(t *testing.T)) {
		t.Helper()
		if !t.Run(name, func(t *testing.T) {
			service := apptest.Replica(t, living)
			if e != nil {
				e.Service = service
			} else {
				e = endingOn(t, service)
			}
			do(t)
			quiet(t, service)
			service.Stop()
		}) {
			t.FailNow()
		}
	}
	pause := func(name string) {
		copies[name] = living.Copy(t)
		apptest.ShareBlobs(t, living, copies[name])
	}
	step("living", func(t *testing.T) {
		e.fillStores(t, e.leaving)
		e.fillStores(t, e.stay)
	})
	pause("before anything")
	step("requesting", func(t *testing.T) {
		if _, err := e.Offboardings.Begin(t.Context(), e.second, e.leaving.ID, nil); err != nil {
			t.Fatal(err)
		}
	})
	pause("another one was requested")
	step("approving", func(t *testing.T) {
		if _, err := e.Offboardings.Cancel(t.Context(), e.second, e.leaving.ID, anyVersion, nil); err != nil {
			t.Fatal(err)
		}
		call(t, e.Service, "POST", "/v1/users/"+e.leaving.User.ID.String()+"/redaction", apptest.As(e.leaving.APIKey)).Want(t, 200)
		waiting(t, e.Service, e.leaving, e.first, e.second)
	})
	pause("it was approved")
	var done offboarding.Offboarding
	var newcomer apptest.Customer
	step("deleting", func(t *testing.T) {
		e.over(t)
		done = offboarded(t, e.Service, e.leaving, func(now offboarding.Offboarding) bool { return now.State == offboarding.Deleted })
		newcomer = e.Customer(t, "leaving")
	})
	// On the living database nothing happens again.
	again := apptest.Replica(t, living)
	opened(t, again)
	call(t, again, "GET", "/v1/customer", apptest.As(again.SignIn(t, "leaving", newcomer.Admin))).Want(t, 200)
	again.Stop()

	for name, database := range copies {
		t.Run(name, func(t *testing.T) {
			conn := database.Superuser(t)
			database.Clock.Advance(time.Hour)
			people := steps.Number(t, conn, "select count(*) from users where customer_id = $1", e.stay.ID.String())
			// Something keeps the deletion from its end; meanwhile nobody is let in.
			steps.Execute(t, conn, "begin")
			steps.Execute(t, conn, "select from customers where id = $1 for key share", e.leaving.ID.String())
			service := apptest.Replica(t, database)
			steps.Eventually(t, "a deletion in the middle", func() bool {
				var left int
				database.Peek(t, "select count(*) from users where customer_id = $1", &left, e.leaving.ID.String())
				return left == 0
			})
			closed(t, service, e.stay)
			service.Stop()
			steps.Execute(t, conn, "commit")
			service = apptest.Replica(t, database)
			opened(t, service)
			if left := steps.RowsOf(t, conn, e.leaving.ID); len(left) > 0 {
				t.Errorf("left is %v", left)
			}
			if now := steps.Number(t, conn, "select count(*) from users where customer_id = $1", e.stay.ID.String()); now != people {
				t.Errorf("another customer had %d people and has %d", people, now)
			}
			found, err := service.Offboardings.Get(t.Context(), done.ID)
			if err != nil || found.State != offboarding.Deleted || found.RequestedBy != e.first.User || *found.ApprovedBy != e.second.User || found.Slug != "leaving" {
				t.Errorf("the record is %+v (%v)", found, err)
			}
			operator := apptest.As(service.SignIn(t, "fusions", e.fusions.Admin))
			if told := call(t, service, "GET", "/v1/operator/replays", operator).Want(t, 200).Body; !bytes.Contains(told, []byte(`"offboarding"`)) {
				t.Errorf("operators are told: %s", told)
			}
			if open := steps.Number(t, conn, "select count(*) from offboardings where state not in ('deleted', 'cancelled')"); open != 0 {
				t.Errorf("%d offboardings are open", open)
			}
			call(t, service, "POST", "/v1/sessions", apptest.JSON(members{"customer": "leaving", "email": e.leaving.Admin.Email, "password": apptest.Password})).WantProblem(t, 401, "invalid-credentials")
			heir := service.Customer(t, "leaving")
			service.Stop()
			service = apptest.Replica(t, database)
			opened(t, service)
			call(t, service, "GET", "/v1/customer", apptest.As(service.SignIn(t, "leaving", heir.Admin))).Want(t, 200)
			if entries := steps.Number(t, conn, "select count(*) from audit_entries where action = 'customer.deleted'"); entries != 1 {
				t.Errorf("it was deleted %d times", entries)
			}
		})
	}
}

// An entry of the ledger whose transaction was not kept, as when the database went away in that moment, is carried out by whoever compares, and only once.
func TestALedgerAheadOfADeletionDoesNoHarm(t *testing.T) {
	t.Parallel()
	e := newEnding(t, func(settings *app.Settings) { settings.Workers = 0 })
	waiting(t, e.Service, e.leaving, e.first, e.second)
	e.over(t)
	// The database refuses to remember the entry, which is written by then.
	steps.Execute(t, e.conn, `
		create function refuse() returns trigger language plpgsql as 'begin raise exception ''not now''; end';
		create trigger refuse before insert on ledger_applied for each row execute function refuse()`)
	if err := e.Offboardings.RunDue(t.Context()); err == nil {
		t.Fatal("the ledger was told, and the database did not mind")
	}
	now, err := e.Offboardings.Newest(t.Context(), e.leaving.ID)
	if err != nil || now.State != offboarding.Deleting || now.RecordedAt != nil || len(now.Removed) > 0 {
		t.Fatalf("something was deleted before the ledger was remembered: %+v (%v)", now, err)
	}
	if _, err := e.Offboardings.Cancel(t.Context(), e.first, e.leaving.ID, anyVersion, nil); err == nil {
		t.Error("it was cancelled when the ledger had it")
	}
	steps.Execute(t, e.conn, "drop trigger refuse on ledger_applied")
	e.Database.Clock.Advance(time.Minute)
	ctx, cancel := context.WithTimeout(t.Context(), steps.Patience)
	defer cancel()
	if err := e.CompareLedger(ctx); err != nil {
		t.Fatal(err)
	}
	offboarded(t, e.Service, e.leaving, func(now offboarding.Offboarding) bool { return now.State == offboarding.Deleted })
	if err := e.CompareLedger(t.Context()); err != nil {
		t.Fatal(err)
	}
	if entries := steps.Number(t, e.conn, "select count(*) from audit_entries where action = 'customer.deleted'"); entries != 1 {
		t.Errorf("it was deleted %d times", entries)
	}
}

// Whoever is erased while the customer waits for its end is in no bundle any more.
func TestABundleForgetsWhoIsErased(t *testing.T) {
	t.Parallel()
	e := newEnding(t)
	person := e.Person(t, e.leaving, principal.User, "forgotten@leaving.example")
	waiting(t, e.Service, e.leaving, e.first, e.second)
	admin := apptest.As(e.SignIn(t, "leaving", e.leaving.Admin))
	bundle := func() []byte {
		archive := call(t, e.Service, "GET", "/v1/customer/offboarding/bundle", admin).Want(t, 200).Body
		return unzipped(t, archive)["stores/users.jsonl"]
	}
	if !bytes.Contains(bundle(), []byte(person.Email)) {
		t.Error("the bundle lacks somebody")
	}
	old := e.objects(t)
	var receipt struct {
		Removed []struct {
			Store string
			Count int
		}
	}
	call(t, e.Service, "POST", "/v1/users/"+person.ID.String()+"/redaction", admin).Want(t, 200).Into(t, &receipt)
	if !slices.ContainsFunc(receipt.Removed, func(one struct {
		Store string
		Count int
	},
	) bool {
		return one.Store == "offboarding_bundles" && one.Count == 1
	}) {
		t.Errorf("the receipt tells of no bundle: %+v", receipt)
	}
	offboarded(t, e.Service, e.leaving, func(now offboarding.Offboarding) bool { return now.Bundle != nil && now.BundleWantedAt == nil })
	if now := e.objects(t); len(now) != 1 || now[0] == old[0] {
		t.Errorf("the store had %q and has %q", old, now)
	}
	if bytes.Contains(bundle(), []byte(person.Email)) {
		t.Error("the bundle still has who was erased")
	}
}
