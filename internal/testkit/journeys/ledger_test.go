package journeys

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/infra/seal"
	outside "github.com/fusionspim/steward/internal/record/ledger"
	"github.com/fusionspim/steward/internal/testkit/apptest"
	"github.com/fusionspim/steward/internal/testkit/dbtest"
	"github.com/fusionspim/steward/internal/testkit/journeys/steps"
)

// past is a service whose database was copied at some moment, to which it can be brought back.
type past struct {
	*testing.T
	database *dbtest.Database // the living one
	backup   *dbtest.Database // as it was
	of       apptest.Customer
	people   map[string]apptest.Person
	keys     map[string]shownKey
}

// newPast makes a customer with people, each called after what will be done to them, and takes the copy.
func newPast(t *testing.T, names ...string) *past {
	t.Helper()
	first := apptest.Start(t)
	p := &past{T: t, database: first.Database, of: first.Customer(t, "acme"), people: make(map[string]apptest.Person), keys: make(map[string]shownKey)}
	for _, name := range names {
		p.people[name] = first.Person(t, p.of, principal.User, name+"@acme.example")
	}
	admin := apptest.As(first.SignIn(t, p.of.Slug, p.of.Admin))
	for _, name := range []string{"revoked", "rotated"} {
		var made shownKey
		first.Call(t, "POST", "/v1/api-keys", admin, apptest.JSON(object{"name": name, "scopes": []string{"users:read"}})).Want(t, http.StatusCreated).Into(t, &made)
		p.keys[name] = made
	}
	first.Call(t, "PUT", "/v1/users/"+p.of.User.ID.String()+"/alerts", apptest.As(p.of.APIKey), apptest.JSON(object{"opted_in": false})).Want(t, http.StatusOK)
	first.Settle()
	first.Stop()
	p.backup = p.database.Copy(t)
	apptest.ShareBlobs(t, p.database, p.backup)
	return p
}

func (p *past) path(name string) string { return "/v1/users/" + p.people[name].ID.String() }

// live runs the service on the living database and has something done.
func (p *past) live(do func(service *apptest.Service, key apptest.Option)) {
	p.Helper()
	service := apptest.Replica(p, p.database)
	do(service, apptest.As(p.of.APIKey))
	service.Settle()
	service.Stop()
}

// opened waits until a service has opened.
func opened(t *testing.T, service *apptest.Service) {
	t.Helper()
	select {
	case <-service.Opened():
	case <-time.After(steps.Patience):
		t.Fatalf("the service did not open\n%s", service.Database.Log.String())
	}
	steps.Eventually(t, "the open service", func() bool { return service.Call(t, "GET", "/readyz").Status == http.StatusOK })
}

// closed makes sure that a service lets nobody in.
func closed(t *testing.T, service *apptest.Service, of apptest.Customer) {
	t.Helper()
	for _, path := range []string{"/readyz", "/v1/users", "/v1/me", "/docs", "/", "/openapi.yaml", "/problems/replaying-erasures", "/nowhere", "/.well-known/jwks.json"} {
		answer := service.Call(t, "GET", path, apptest.As(of.APIKey)).WantProblem(t, http.StatusServiceUnavailable, "replaying-erasures")
		if answer.Header.Get("Retry-After") == "" {
			t.Errorf("%s: no Retry-After", path)
		}
	}
	service.Call(t, "POST", "/v1/sessions", apptest.JSON(object{"customer": of.Slug, "email": of.Admin.Email, "password": apptest.Password})).
		WantProblem(t, http.StatusServiceUnavailable, "replaying-erasures")
	service.Call(t, "GET", "/livez").Want(t, http.StatusOK)
}

func show(t *testing.T, service *apptest.Service, as apptest.Option, path string) (person struct {
	Status, Role, Label, Receipt string
	FirstName                    *string    `json:"first_name"`
	RedactedAt                   *time.Time `json:"redacted_at"`
	CorrectionLostAt             *time.Time `json:"correction_lost_at"`
	PasswordSet                  bool       `json:"password_set"`
	Alerts                       struct {
		OptedIn bool   `json:"opted_in"`
		SetBy   string `json:"set_by"`
	}
},
) {
	t.Helper()
	service.Call(t, "GET", path, as).Want(t, http.StatusOK).Into(t, &person)
	return person
}

// held keeps what is carried out for a customer from going on, until it is called.
func (p *past) held(database *dbtest.Database) (release func()) {
	conn := database.Superuser(p)
	steps.Execute(p, conn, "begin")
	steps.Execute(p, conn, "select from customers where id = $1 for update", p.of.ID.String())
	return func() { steps.Execute(p, conn, "commit") }
}

// Everything that was done after a backup and must outlive it is done again, under the same receipts, before anybody is let in.
func TestWhatARestoreLostIsCarriedOutAgain(t *testing.T) {
	t.Parallel()
	p := newPast(t, "redacted", "deleted", "out", "in-again", "corrected", "same", "disabled", "enabled", "promoted", "password", "untouched", "both", "actor")
	var redaction, deletion apptest.Answer
	var late string
	p.live(func(service *apptest.Service, as apptest.Option) {
		admin := apptest.As(service.SignIn(t, p.of.Slug, p.of.Admin))
		patch := func(name string, body object) apptest.Answer {
			return service.Call(t, "PATCH", p.path(name), as, apptest.JSON(body))
		}
		alerts := func(name string, in bool) {
			service.Call(t, "PUT", p.path(name)+"/alerts", as, apptest.JSON(object{"opted_in": in})).Want(t, http.StatusOK)
		}
		redaction = service.Call(t, "POST", p.path("redacted")+"/redaction", admin, apptest.JSON(object{"reason": "left_employment"})).Want(t, http.StatusOK)
		deletion = service.Call(t, "DELETE", p.path("deleted"), as).Want(t, http.StatusOK)
		service.Call(t, "DELETE", p.path("actor"), as).Want(t, http.StatusOK)
		alerts("out", false)
		alerts("in-again", false)
		alerts("in-again", true)
		patch("corrected", object{"first_name": "Corrected"}).Want(t, http.StatusOK)
		patch("same", object{"first_name": "First"}).Want(t, http.StatusOK)
		patch("same", object{"email": p.people["out"].Email}).WantProblem(t, http.StatusConflict, "email-taken")
		patch("untouched", object{"email": "elsewhere@acme.example"}).Want(t, http.StatusOK)
		patch("disabled", object{"status": "disabled"}).Want(t, http.StatusOK)
		patch("enabled", object{"status": "disabled"}).Want(t, http.StatusOK)
		patch("enabled", object{"status": "active"}).Want(t, http.StatusOK)
		patch("promoted", object{"role": "customer"}).Want(t, http.StatusOK)
		patch("both", object{"first_name": "Both", "status": "disabled"}).Want(t, http.StatusOK)
		service.Call(t, "PUT", "/v1/me/password", apptest.As(service.SignIn(t, p.of.Slug, p.people["password"])),
			apptest.JSON(object{"current_password": apptest.Password, "new_password": "violet anchors drift beyond seven moors"})).Want(t, http.StatusNoContent)
		// Somebody who is not in the backup comes and goes.
		late = service.Person(t, p.of, principal.User, "late@acme.example").ID.String()
		service.Call(t, "DELETE", "/v1/users/"+late, as).Want(t, http.StatusOK)
		var keys struct{ Data []shownKey }
		service.Call(t, "GET", "/v1/api-keys", admin).Want(t, http.StatusOK).Into(t, &keys)
		if len(keys.Data) != 3 {
			t.Fatalf("the keys are %+v", keys)
		}
		service.Call(t, "POST", keyPath(p.keys["rotated"].ID)+"/rotation", admin, apptest.JSON(object{"overlap_seconds": 60})).Want(t, http.StatusCreated)
		service.Call(t, "DELETE", keyPath(p.keys["revoked"].ID), admin).Want(t, http.StatusNoContent)
	})
	p.database.Clock.Advance(time.Hour)
	conn := p.backup.Superuser(t)
	// In the restored state the trail names somebody who was deleted: that cannot be, unless the two are of different histories, and is no reason to keep the person.
	steps.Execute(t, conn, `insert into audit_entries (customer_id, id, source, actor_type, actor_user_id, action, target_type, target_id, changed, occurred_at, recorded_at)
		values ($1, gen_random_uuid(), 'integration', 'user', $2, 'product.updated', 'product', '1', '{}', now(), now())`, p.of.ID.String(), p.people["actor"].ID.String())
	before := steps.Number(t, conn, "select version from users where id = $1", p.people["untouched"].ID.String())

	release := p.held(p.backup)
	service := apptest.Replica(t, p.backup)
	closed(t, service, p.of)
	if sessions := steps.Number(t, conn, "select count(*) from sessions") + steps.Number(t, conn, "select count(*) from refresh_tokens"); sessions == 0 {
		t.Log("the sessions of before the restore are dropped by now")
	}
	release()
	opened(t, service)
	if left := steps.Number(t, conn, "select count(*) from ledger_applied"); left != 0 {
		t.Errorf("%d entries are still remembered one by one", left)
	}
	as := apptest.As(p.of.APIKey)
	receiptOf := func(answer apptest.Answer) string { return "/v1/erasure-receipts/" + answer.Text(t, "id") }

	redacted := show(t, service, as, p.path("redacted"))
	if redacted.Status != "redacted" || redacted.Label != redaction.Text(t, "label") || redacted.Receipt != receiptOf(redaction) || redacted.FirstName != nil {
		t.Errorf("redacted: %+v", redacted)
	}
	var receipt struct {
		Kind, Label, Reason string
		OrderedBy           struct{ Authority string } `json:"ordered_by"`
		CompletedAt         time.Time                  `json:"completed_at"`
	}
	service.Call(t, "GET", receiptOf(redaction), as).Want(t, http.StatusOK).Into(t, &receipt)
	if receipt.Kind != "redaction" || receipt.Label != redacted.Label || receipt.Reason != "left_employment" || receipt.OrderedBy.Authority != "customer" ||
		!redacted.RedactedAt.Equal(receipt.CompletedAt) {
		t.Errorf("the receipt: %+v, and was %s", receipt, redaction.Body)
	}
	service.Call(t, "GET", p.path("deleted"), as).WantProblem(t, http.StatusNotFound, "not-found")
	keys := publishedKeys(t, service)
	for _, answer := range []apptest.Answer{redaction, deletion} { // as it was handed out, and as it is now
		verified(t, answer.Body, keys)
		verified(t, service.Call(t, "GET", receiptOf(answer), as).Want(t, http.StatusOK).Body, keys)
	}
	if actor := show(t, service, as, p.path("actor")); actor.Status != "redacted" || actor.FirstName != nil {
		t.Errorf("a deletion that the trail stands in the way of: %+v", actor)
	}
	if out := show(t, service, as, p.path("out")); out.Alerts.OptedIn || out.Alerts.SetBy != "api_key" {
		t.Errorf("opted out: %+v", out)
	}
	if again := show(t, service, as, p.path("in-again")); !again.Alerts.OptedIn {
		t.Errorf("opted in again: %+v", again)
	}
	for name, lost := range map[string]bool{"corrected": true, "same": false, "untouched": true, "both": true, "out": false} {
		if shown := show(t, service, as, p.path(name)); (shown.CorrectionLostAt != nil) != lost {
			t.Errorf("a lost correction of %s: %v", name, shown.CorrectionLostAt)
		}
	}
	for name, status := range map[string]string{"disabled": "disabled", "enabled": "active", "both": "disabled"} {
		if shown := show(t, service, as, p.path(name)); shown.Status != status {
			t.Errorf("%s is %s", name, shown.Status)
		}
	}
	if promoted := show(t, service, as, p.path("promoted")); promoted.Role != "customer" {
		t.Errorf("promoted: %+v", promoted)
	}
	if changed := show(t, service, as, p.path("password")); changed.PasswordSet {
		t.Error("a password that was changed since is good again")
	}
	service.Call(t, "POST", "/v1/sessions", apptest.JSON(object{"customer": p.of.Slug, "email": p.people["password"].Email, "password": apptest.Password})).
		WantProblem(t, http.StatusUnauthorized, "invalid-credentials")
	service.MailTo(t, p.people["password"].Email, "assword").Token(t)
	for name, key := range p.keys {
		service.Call(t, "GET", "/v1/users", apptest.As(apptest.Credential(key.APIKey))).Want(t, map[string]int{"revoked": 401, "rotated": 401}[name])
	}
	if now := steps.Number(t, conn, "select version from users where id = $1", p.people["untouched"].ID.String()); now <= before+1 {
		t.Errorf("the version went from %d to %d: an If-Match of the lost state could fit", before, now)
	}
	// The customer is told, and the mark goes away by sending the name anew, also where it is the same.
	if mail := service.MailTo(t, p.of.Admin.Email, "corrections"); !strings.Contains(mail.Text, "3 people") {
		t.Errorf("the notice: %s", mail.Text)
	}
	service.Call(t, "PATCH", p.path("corrected"), as, apptest.JSON(object{"first_name": "First"})).Want(t, http.StatusOK)
	if shown := show(t, service, as, p.path("corrected")); shown.CorrectionLostAt != nil {
		t.Error("the mark stays when the name is sent anew")
	}
	wantActs(t, service, p.people["disabled"].ID.String(), "system user.created", "system user.disabled status")
	wantActs(t, service, p.people["corrected"].ID.String(), "system user.created", "system user.correction_lost correction_lost_at", "api_key user.corrected correction_lost_at")
	if said := p.backup.Log.String(); !strings.Contains(said, `"redaction.done":1`) || !strings.Contains(said, `"deletion.absent":1`) || !strings.Contains(said, `"restored":true`) {
		t.Errorf("the report: %s", said)
	}

	// Once more, nothing is to be done.
	service.Settle()
	service.Stop()
	again := apptest.Replica(t, p.backup)
	select {
	case <-again.Opened():
	default:
		t.Error("the second time it is not open at once")
	}
	wantActs(t, again, p.people["disabled"].ID.String(), "system user.created", "system user.disabled status")
}

// Of a person who was erased nothing comes back, and whoever registered since with the same address stays.
func TestANewcomerWithTheSameAddressStays(t *testing.T) {
	t.Parallel()
	p := newPast(t, "moves")
	var newcomer string
	p.live(func(service *apptest.Service, as apptest.Option) {
		service.Call(t, "POST", p.path("moves")+"/redaction", as).Want(t, http.StatusOK)
		newcomer = service.Call(t, "POST", "/v1/users", as, apptest.JSON(object{"first_name": "New", "last_name": "Comer", "email": p.people["moves"].Email})).
			Want(t, http.StatusCreated).Text(t, "id")
	})
	for _, database := range []*dbtest.Database{p.database.Copy(t), p.backup} {
		apptest.ShareBlobs(t, p.database, database)
		service := apptest.Replica(t, database)
		opened(t, service)
		as := apptest.As(p.of.APIKey)
		if shown := show(t, service, as, p.path("moves")); shown.Status != "redacted" {
			t.Errorf("erased: %+v", shown)
		}
		if database != p.backup { // which is older than the newcomer
			if shown := show(t, service, as, "/v1/users/"+newcomer); shown.Status != "active" {
				t.Errorf("the newcomer: %+v", shown)
			}
			service.Call(t, "GET", "/v1/users?email="+p.people["moves"].Email, as).Want(t, http.StatusOK)
		}
	}
}

// What does not go together keeps the service closed, until a person has accepted it.
func TestALedgerThatDoesNotFitAsksForAPerson(t *testing.T) {
	t.Parallel()
	p := newPast(t, "one", "two", "three")
	erase := func(name string) {
		p.live(func(service *apptest.Service, as apptest.Option) {
			service.Call(t, "POST", p.path(name)+"/redaction", as).Want(t, http.StatusOK)
			if err := service.CompareLedger(t.Context()); err != nil { // so that the position is brought forward
				t.Fatal(err)
			}
		})
	}
	erase("one")
	erase("two")
	url := apptest.BlobURL(t, p.database)
	folder := strings.TrimSuffix(strings.TrimPrefix(url, "file://"), "?sync=off")
	segments := filepath.Join(folder, "ledger", "segments", "000000000000")
	box, err := seal.ParseMasterKey(apptest.MasterKey())
	if err != nil {
		t.Fatal(err)
	}
	accept := func(database *dbtest.Database) error {
		book := outside.New(apptest.BlobsOf(t, database), box, database.Clock.Now, database.Log.Logger())
		defer book.Close()
		_, err := book.Accept(t.Context(), database.DB)
		return err
	}
	if err := accept(p.database); err == nil || !strings.Contains(err.Error(), "nothing to accept") {
		t.Errorf("accepted where nothing is wrong: %v", err)
	}
	newest := filepath.Join(segments, "0000000000000003") // the first entry is of the making of the customer
	kept, err := os.ReadFile(newest)
	if err != nil {
		t.Fatal(err)
	}
	stays := func(database *dbtest.Database, words string) *apptest.Service {
		t.Helper()
		service := apptest.Replica(t, database)
		closed(t, service, p.of)
		if said := database.Log.String(); !strings.Contains(said, words) {
			t.Errorf("the log lacks %q: %s", words, said)
		}
		return service
	}

	// An older state of the store came back.
	if err := os.Remove(newest); err != nil {
		t.Fatal(err)
	}
	stays(p.database, "the ledger is behind the database, which has applied entry 3").Stop()
	// One byte is another.
	changed := bytes.Clone(kept)
	changed[40] ^= 1
	if err := os.WriteFile(newest, changed, 0o600); err != nil {
		t.Fatal(err)
	}
	stays(p.database, "segment 3").Stop()
	if err := accept(p.database); err == nil || !strings.Contains(err.Error(), "segments from 3 on") {
		t.Errorf("a broken ledger is accepted: %v", err)
	}
	// An empty database with a ledger that tells of acts.
	if err := os.WriteFile(newest, kept, 0o600); err != nil {
		t.Fatal(err)
	}
	empty := dbtest.New(t)
	apptest.ShareBlobs(t, p.database, empty)
	stays(empty, "the database is empty").Stop()
	// Another ledger.
	other := dbtest.New(t)
	apptest.Replica(t, other).Stop()
	apptest.ShareBlobs(t, p.database, other)
	stays(other, "the database belongs to").Stop()
	// No ledger at all: the wrong folder.
	nowhere := p.database.Copy(t)
	service := stays(nowhere, "the store has no ledger")

	// A person has looked, and it opens by itself.
	if err := accept(nowhere); err != nil {
		t.Fatal(err)
	}
	opened(t, service)
	service.Call(t, "POST", p.path("three")+"/redaction", apptest.As(p.of.APIKey)).Want(t, http.StatusOK)
}

// What was written down and then not done, because the service died in between or the database refused, is done soon after.
func TestAnOrderThatWasOnlyWrittenDownIsCarriedOut(t *testing.T) {
	t.Parallel()
	service := apptest.Start(t)
	of := service.Customer(t, "acme")
	as := apptest.As(of.APIKey)
	someone := service.Person(t, of, principal.User, "someone@acme.example")
	path := "/v1/users/" + someone.ID.String()
	conn := service.Database.Superuser(t)

	// The transaction cannot be kept although the ledger has its entry.
	steps.Execute(t, conn, "create function refuse_all() returns trigger language plpgsql as $$ begin raise 'no more' using errcode = '53100'; end $$")
	steps.Execute(t, conn, "create trigger refuse_all before insert on ledger_applied for each row execute function refuse_all()")
	service.Call(t, "PUT", path+"/alerts", as, apptest.JSON(object{"opted_in": false})).WantProblem(t, http.StatusServiceUnavailable, "service-unavailable")
	service.Call(t, "POST", path+"/redaction", as).WantProblem(t, http.StatusServiceUnavailable, "service-unavailable")
	service.Call(t, "PATCH", "/v1/users/"+of.User.ID.String(), as, apptest.JSON(object{"first_name": "Other"})).
		WantProblem(t, http.StatusServiceUnavailable, "service-unavailable")
	service.Call(t, "PUT", "/v1/users/"+of.Admin.ID.String()+"/alerts", as, apptest.JSON(object{"opted_in": false})).
		WantProblem(t, http.StatusServiceUnavailable, "service-unavailable")
	steps.Execute(t, conn, "drop trigger refuse_all on ledger_applied")
	steps.Execute(t, conn, "drop function refuse_all")
	// What is said later on the same counts.
	for _, in := range []bool{false, true} {
		service.Call(t, "PUT", "/v1/users/"+of.Admin.ID.String()+"/alerts", as, apptest.JSON(object{"opted_in": in})).Want(t, http.StatusOK)
	}

	if err := service.CompareLedger(t.Context()); err != nil { // too early: it may be under way
		t.Fatal(err)
	}
	if shown := show(t, service, as, path); shown.Status != "active" {
		t.Fatalf("carried out while it may be under way: %+v", shown)
	}
	service.Database.Clock.Advance(outside.Grace + time.Second)
	if err := service.CompareLedger(t.Context()); err != nil {
		t.Fatal(err)
	}
	if shown := show(t, service, as, path); shown.Status != "redacted" {
		t.Errorf("not carried out: %+v", shown)
	}
	if shown := show(t, service, as, "/v1/users/"+of.Admin.ID.String()); !shown.Alerts.OptedIn {
		t.Errorf("an older order has undone a newer one: %+v", shown)
	}
	if shown := show(t, service, as, "/v1/users/"+of.User.ID.String()); shown.CorrectionLostAt == nil {
		t.Error("a correction of which nobody knows whether it happened is not marked")
	}
	if steps.Number(t, conn, "select through from ledger_position") == 0 || steps.Number(t, conn, "select count(*) from ledger_applied") != 0 {
		t.Error("the position was not brought forward")
	}
}

// Two replicas come up on a restored database at once, and one of them dies half way, again and again.
func TestReplaysThatAreBrokenOffEndWell(t *testing.T) {
	t.Parallel()
	const people = 300
	p := newPast(t)
	conn := p.backup.Superuser(t)
	all := steps.SeedAccounts(t, &apptest.Service{Database: p.backup}, conn, p.of, people)
	// Not everybody has the same, so that what is counted for one is not what is counted for another.
	steps.Execute(t, conn, `insert into login_records (customer_id, id, user_id, occurred_at, address, outcome, inside_networks)
		select $1, gen_random_uuid(), person, now(), '203.0.113.77', 'succeeded', false from unnest($2::uuid[]) with ordinality as everybody(person, at), generate_series(1, at % 7)`,
		p.of.ID.String(), all)
	living := p.database.Superuser(t)
	for _, table := range []string{"users", "sessions", "refresh_tokens", "login_records"} { // the living database has them too
		copyTable(t, conn, living, table)
	}
	p.live(func(service *apptest.Service, as apptest.Option) {
		for _, person := range all {
			service.Call(t, "POST", "/v1/users/"+person+"/redaction", as).Want(t, http.StatusOK)
		}
	})
	for round := 0; ; round++ {
		started := apptest.Replica(t, p.backup)
		beside := apptest.Replica(t, p.backup)
		if round < 3 {
			started.Stop()
			beside.Stop()
			continue
		}
		opened(t, started)
		opened(t, beside)
		break
	}
	if left := steps.Number(t, conn, "select count(*) from users where id = any ($1) and status <> 'redacted'", all); left != 0 {
		t.Errorf("%d are not redacted", left)
	}
	if receipts := steps.Number(t, conn, "select count(*) from erasure_receipts"); receipts != people {
		t.Errorf("%d receipts", receipts)
	}
	if wrong := steps.Number(t, conn, `
		select count(*) from unnest($1::uuid[]) with ordinality as everybody(person, at) join users u on u.id = person join erasure_receipts r on r.id = u.receipt_id
		where not r.removed @> jsonb_build_array(jsonb_build_object('store', 'login_records', 'count', 3 + at % 7), jsonb_build_object('store', 'profile', 'count', 1))
			or r.kept->0->>'count' is distinct from '2' or u.label is distinct from r.label`, all); wrong != 0 {
		t.Errorf("%d receipts count something else than what was of the person", wrong)
	}
	if marks := steps.Number(t, conn, "select count(*) from suppressed_addresses"); marks != people {
		t.Errorf("%d marks of addresses", marks)
	}
	if acts := steps.Number(t, conn, "select count(*) from audit_entries where action = 'user.redacted' and actor_type = 'system'"); acts != people {
		t.Errorf("%d entries in the trail", acts)
	}
}

// copyTable brings the rows of a table into another database, where they are not there yet.
func copyTable(t *testing.T, from, to *pgx.Conn, table string) {
	t.Helper()
	var rows string
	if err := from.QueryRow(t.Context(), "select coalesce(jsonb_agg(t), '[]')::text from "+table+" t").Scan(&rows); err != nil {
		t.Fatal(err)
	}
	steps.Execute(t, to, "insert into "+table+" select * from jsonb_populate_recordset(null::"+table+", $1::jsonb) on conflict do nothing", rows)
}

// Mails about alerts that wait in a backup may have been sent long ago. After a restore they count as skipped, the alert is over, and a repeat is mailed. Operators see what was
// done, and so does the trail of Fusions.
func TestMailsThatWaitedInABackupAreNotSent(t *testing.T) {
	t.Parallel()
	first := apptest.Start(t)
	operator := first.Operators(t)
	of := first.Customer(t, "acme")
	left := first.Person(t, of, principal.User, "left@acme.example")
	first.Settle()
	first.Stop()
	conn := first.Database.Superuser(t)
	now := first.Database.Clock.Now()
	for _, statement := range []string{
		`insert into alerts (customer_id, id, severity, subject, body, dedupe_key, joining, times, created_at, last_raised_at, fanned_out_at, recipients, sent, digested, failed, skipped, wake_at)
			select $1, id, 'error', 'An old story', 'Long told.', id::text, true, 1, $3, $3, case when whole then $3::timestamptz end, recipients, 0, 0, 0, 0, $3
			from (values ('00000000-0000-7000-8000-000000000001'::uuid, true, 2), ('00000000-0000-7000-8000-000000000002', false, 1), ('00000000-0000-7000-8000-000000000003', true, 0))
				as old(id, whole, recipients) where $2::uuid[] is not null`,
		`insert into alert_deliveries (customer_id, alert_id, user_id, state, capped, attempts, created_at, due_at)
			select $1, alert, people[place], state, false, 0, $3, $3 from (select $2::uuid[] as people) p, (values
				('00000000-0000-7000-8000-000000000001'::uuid, 1, 'pending'), ('00000000-0000-7000-8000-000000000001', 2, 'collected'),
				('00000000-0000-7000-8000-000000000002', 1, 'pending')) as old(alert, place, state)`,
		`insert into alert_digests (customer_id, user_id, hour, state, attempts, created_at, due_at) select $1, ($2::uuid[])[2], date_trunc('hour', $3::timestamptz), 'pending', 0, $3, $3`,
	} {
		steps.Execute(t, conn, statement, of.ID.String(), []string{of.User.ID.String(), of.Admin.ID.String()}, now)
	}
	if err := conn.Close(t.Context()); err != nil { // or else it is not copied
		t.Fatal(err)
	}
	restored := first.Database.Copy(t)
	apptest.ShareBlobs(t, first.Database, restored)
	alive := apptest.Replica(t, first.Database)
	alive.Call(t, "POST", "/v1/users/"+left.ID.String()+"/redaction", apptest.As(of.APIKey)).Want(t, http.StatusOK)
	alive.Stop()
	service := apptest.Replica(t, restored)
	opened(t, service)
	as := apptest.As(of.APIKey)
	for name, skipped := range map[string]int{"1": 2, "2": 1, "3": 0} {
		var alert struct {
			State      string
			SentAt     *time.Time `json:"sent_at"`
			Deliveries struct{ Pending, Sent, Skipped int }
		}
		service.Call(t, "GET", "/v1/alerts/00000000-0000-7000-8000-00000000000"+name, as).Want(t, http.StatusOK).Into(t, &alert)
		if alert.SentAt == nil || alert.Deliveries.Skipped != skipped || alert.Deliveries.Pending != 0 {
			t.Errorf("alert %s: %+v", name, alert)
		}
	}
	raised := service.Call(t, "POST", "/v1/alerts", as, apptest.JSON(object{
		"severity": "error", "subject": "A new story", "body": "Not told yet.", "dedupe_key": "00000000-0000-7000-8000-000000000001",
	})).Want(t, http.StatusAccepted)
	if raised.Text(t, "id") == "00000000-0000-7000-8000-000000000001" {
		t.Error("a repeat joins an alert whose mails were dropped")
	}
	service.MailTo(t, of.User.Email, "A new story")
	for _, person := range []apptest.Person{of.User, of.Admin} {
		for _, mail := range service.Mailbox.To(t, person.Email) {
			if strings.Contains(mail.Subject, "An old story") {
				t.Errorf("a mail of before the restore was sent: %+v", mail)
			}
		}
	}

	var page struct {
		Data []struct {
			ID, State, Cause string
			Seconds          *float64
			From             int64 `json:"ledger_from"`
			To               int64 `json:"ledger_to"`
			Entries          int
			LostCorrections  int `json:"lost_corrections"`
			Outcomes         []struct {
				Kind, Outcome string
				Count         int
			}
			Dropped []struct {
				Store string
				Count int
			}
		}
	}
	service.Call(t, "GET", "/v1/operator/replays", apptest.As(service.SignIn(t, "fusions", operator))).Want(t, http.StatusOK).Into(t, &page)
	if len(page.Data) != 1 {
		t.Fatalf("the replays: %+v", page.Data)
	}
	seen := page.Data[0]
	if seen.State != "done" || seen.Cause != "restore" || seen.Entries != 1 || seen.To <= seen.From-1 || seen.LostCorrections != 0 || seen.Seconds == nil ||
		len(seen.Outcomes) != 1 || seen.Outcomes[0].Kind != "redaction" || seen.Outcomes[0].Outcome != "done" || seen.Outcomes[0].Count != 1 {
		t.Errorf("the replay: %+v", seen)
	}
	dropped := make(map[string]int)
	for _, one := range seen.Dropped {
		dropped[one.Store] = one.Count
	}
	if len(dropped) != 5 || dropped["alert_deliveries"] != 3 {
		t.Errorf("dropped: %+v", seen.Dropped)
	}
	if told := steps.Number(t, restored.Superuser(t), "select count(*) from audit_entries where action = 'ledger.replayed' and target_id = $1 and actor_type = 'system'", seen.ID); told != 1 {
		t.Errorf("the trail of Fusions tells of the replay %d times", told)
	}
}

// A database that was brought back from a backup drops what stood for a moment, also where the ledger has nothing that it lacks.
func TestARestoreWithNothingLostDropsTheSessions(t *testing.T) {
	t.Parallel()
	first := apptest.Start(t)
	of := first.Customer(t, "acme")
	session := apptest.As(first.SignIn(t, of.Slug, of.Admin))
	first.Settle()
	first.Stop()
	moved, restored := first.Database.Copy(t), first.Database.Copy(t)
	for _, database := range []*dbtest.Database{moved, restored} {
		apptest.ShareBlobs(t, first.Database, database)
	}
	steps.Execute(t, restored.Superuser(t), "insert into restores (id, backup_id, taken_at, restored_at) values (gen_random_uuid(), gen_random_uuid(), $1, $1)",
		first.Database.Clock.Now().Add(time.Second))
	stays := apptest.Replica(t, moved)
	opened(t, stays)
	stays.Call(t, "GET", "/v1/me", session).Want(t, http.StatusOK)
	ends := apptest.Replica(t, restored)
	opened(t, ends)
	ends.Call(t, "GET", "/v1/me", session).WantProblem(t, http.StatusUnauthorized, "unauthorized")
	ends.Stop()
	again := apptest.Replica(t, restored)
	select {
	case <-again.Opened():
	default:
		t.Error("the second time it is not open at once")
	}
}
