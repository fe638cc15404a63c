package journeys

import (
	"archive/zip"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/jackc/pgx/v5"

	"github.com/fusionspim/steward/internal/app"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/inventory"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/testkit/apptest"
	"github.com/fusionspim/steward/internal/testkit/journeys/steps"
)

const (
	requestsPath = "/v1/data-subject-requests"
	workPath     = "/v1/operator/data-subject-requests"
)

// shownRequest is a request as the customer sees it.
type shownRequest struct {
	ID             string
	UserID         *string `json:"user_id"`
	Kind, State    string
	Reason         *string
	Corrections    map[string]string
	Recipient      *string
	Receipt        *string
	ReceivedAt     time.Time  `json:"received_at"`
	AcknowledgedAt *time.Time `json:"acknowledged_at"`
	DueAt          time.Time  `json:"due_at"`
	ClosedAt       *time.Time `json:"closed_at"`
	Bundle         *struct {
		ExpiresAt   time.Time  `json:"expires_at"`
		CollectedAt *time.Time `json:"collected_at"`
	}
}

// ask files a request and returns it.
func (w *world) ask(t *testing.T, kind string, person id.User, more members) (filed shownRequest) {
	t.Helper()
	body := members{"kind": kind, "user_id": person.String()}
	maps.Copy(body, more)
	call(t, w.Service, "POST", requestsPath, apptest.As(w.admin), apptest.JSON(body)).Want(t, 201).Into(t, &filed)
	return filed
}

func (w *world) request(t *testing.T, of string) (found shownRequest) {
	t.Helper()
	call(t, w.Service, "GET", requestsPath+"/"+of, apptest.As(w.acme.APIKey)).Want(t, 200).Into(t, &found)
	return found
}

// operate lets the operator do something about a request.
func (w *world) operate(t *testing.T, of, what string, options ...apptest.Option) apptest.Answer {
	t.Helper()
	if what == "rejection" {
		options = append(options, apptest.JSON(members{"reason": "excessive"}))
	}
	return call(t, w.Service, "POST", workPath+"/"+of+"/"+what, append(options, apptest.As(w.operator))...)
}

// detailed are the acts on a target with the kind of who did it and the state that the details tell, in their order.
func detailed(t *testing.T, s *apptest.Service, target string) []string {
	t.Helper()
	rows, err := s.Database.Superuser(t).Query(t.Context(), `
		select actor_type || ' ' || action || coalesce(' ' || (details ->> 'state'), '') || coalesce(' ' || (details ->> 'reason'), '')
		from audit_entries where target_id = $1 order by id`, target)
	if err != nil {
		t.Fatal(err)
	}
	acts, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return acts
}

func wantDetailed(t *testing.T, s *apptest.Service, target string, want ...string) {
	t.Helper()
	if got := detailed(t, s, target); !slices.Equal(got, want) {
		t.Errorf("the trail of %s:\n%s\nwant\n%s", target, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// unzipped returns the files of a zip file.
func unzipped(t testing.TB, content []byte) map[string][]byte {
	t.Helper()
	archive, err := zip.NewReader(bytes.NewReader(content), int64(len(content)))
	if err != nil {
		t.Fatal(err)
	}
	files := make(map[string][]byte)
	for _, file := range archive.File {
		opened, err := file.Open()
		if err != nil {
			t.Fatal(err)
		}
		if files[file.Name], err = io.ReadAll(opened); err != nil {
			t.Fatal(err)
		}
		if err := opened.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// The whole way of a request: filed by the customer, looked at and carried out by an operator, collected by the customer, once.
func TestAccessFromFilingToCollecting(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	person := w.Person(t, w.acme, principal.User, "=noor@acme.example")
	for range 2 {
		w.SignIn(t, "acme", person)
	}
	filed := w.ask(t, "access", person.ID, nil)
	if filed.State != "received" || *filed.UserID != person.ID.String() || filed.AcknowledgedAt != nil || filed.ClosedAt != nil || filed.Bundle != nil ||
		!filed.DueAt.After(filed.ReceivedAt.AddDate(0, 0, 27)) {
		t.Errorf("%+v", filed)
	}
	bundle := requestsPath + "/" + filed.ID + "/bundle"
	admin := apptest.As(w.admin)
	call(t, w.Service, "GET", bundle, admin).WantProblem(t, 409, "bundle-not-ready")

	// The operator's list knows nothing of the person; a look does, and is recorded.
	listed := call(t, w.Service, "GET", workPath+"?state=received&kind=access", apptest.As(w.operator)).Want(t, 200)
	if !bytes.Contains(listed.Body, []byte(filed.ID)) || bytes.Contains(listed.Body, []byte(person.ID.String())) || bytes.Contains(listed.Body, []byte("noor")) {
		t.Errorf("listed as %s", listed.Body)
	}
	looked := call(t, w.Service, "GET", workPath+"/"+filed.ID, apptest.As(w.operator)).Want(t, 200)
	if !bytes.Contains(looked.Body, []byte("=noor@acme.example")) {
		t.Errorf("the operator does not see whom it is about: %s", looked.Body)
	}
	seen := apptest.Header("If-Match", looked.Header.Get("ETag"))
	first := w.operate(t, filed.ID, "acknowledgement", seen).Want(t, 200)
	if again := w.operate(t, filed.ID, "acknowledgement").Want(t, 200); again.Header.Get("ETag") != first.Header.Get("ETag") {
		t.Error("acknowledging an acknowledged request changed it")
	}
	w.operate(t, filed.ID, "fulfilment", seen).WantProblem(t, 412, "precondition-failed")
	once := apptest.Header("Idempotency-Key", "fulfil-1")
	done := w.operate(t, filed.ID, "fulfilment", once).Want(t, 200)
	if done.Text(t, "state") != "fulfilled" || bytes.Contains(done.Body, []byte(person.ID.String())) {
		t.Errorf("fulfilled: %s", done.Body)
	}
	if again := w.operate(t, filed.ID, "fulfilment", once).Want(t, 200); again.Header.Get("Idempotency-Replayed") != "true" || !bytes.Equal(again.Body, done.Body) {
		t.Errorf("repeated: %s", again.Body)
	}
	for _, late := range []string{"fulfilment", "rejection", "acknowledgement"} {
		w.operate(t, filed.ID, late).WantProblem(t, 409, "request-closed")
	}
	call(t, w.Service, "POST", requestsPath+"/"+filed.ID+"/withdrawal", admin).WantProblem(t, 409, "request-closed")
	if looked := call(t, w.Service, "GET", workPath+"/"+filed.ID, apptest.As(w.operator)).Want(t, 200); bytes.Contains(looked.Body, []byte("noor")) {
		t.Errorf("of a closed request the operator sees %s", looked.Body)
	}

	// Nobody but the customer collects it; looking at its head does not use it up.
	for who, want := range map[apptest.Credential]int{w.user: 403, w.operator: 403, w.otherAdmin: 404} {
		call(t, w.Service, "GET", bundle, apptest.As(who)).Want(t, want)
	}
	call(t, w.Service, "GET", bundle, admin, apptest.Header("Accept", "application/json")).WantProblem(t, 406, "not-acceptable")
	for range 2 {
		call(t, w.Service, "HEAD", bundle, admin).Want(t, 200)
	}
	if state := w.request(t, filed.ID); state.Bundle.CollectedAt != nil || !state.Bundle.ExpiresAt.Equal(state.ClosedAt.Add(14*24*time.Hour)) || state.State != "fulfilled" {
		t.Errorf("%+v", state)
	}
	collected := call(t, w.Service, "GET", bundle, admin, apptest.Header("Accept", "application/zip")).Want(t, 200)
	if collected.Header.Get("Content-Type") != "application/zip" || !strings.Contains(collected.Header.Get("Content-Disposition"), filed.ID+".zip") {
		t.Errorf("%v", collected.Header)
	}
	call(t, w.Service, "GET", bundle, admin).WantProblem(t, 410, "bundle-gone")
	call(t, w.Service, "HEAD", bundle, admin).Want(t, 410)
	if state := w.request(t, filed.ID); state.Bundle.CollectedAt == nil {
		t.Errorf("%+v", state)
	}
	w.checkBundle(t, unzipped(t, collected.Body), person, filed.ID)
	wantDetailed(t, w.Service, filed.ID,
		"user data_subject_request.updated received", "operator data_subject_request.viewed", "operator data_subject_request.updated acknowledged",
		"operator data_subject_request.updated fulfilled", "operator data_subject_request.viewed", "user data_subject_request.collected")
	var left int
	w.Superuser(t, "select count(*) from request_bundles", &left)
	if left != 0 {
		t.Error("a collected bundle is still kept")
	}
}

// checkBundle looks at what is in a bundle.
func (w *world) checkBundle(t *testing.T, files map[string][]byte, person apptest.Person, of string) {
	t.Helper()
	var data struct {
		Stores map[string][]map[string]any
	}
	var manifest struct {
		Format    string
		RequestID string `json:"request_id"`
		Files     []string
		Customer  struct{ Name string }
		Stores    []struct {
			Store, File string
			Rows        int
			Members     []string
			Withheld    []struct{ Member, Why, Explanation string }
		}
	}
	for name, into := range map[string]any{"data.json": &data, "manifest.json": &manifest} {
		if err := json.Unmarshal(files[name], into); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	if manifest.Format != "steward-bundle/1" || manifest.RequestID != of || manifest.Customer.Name != "The acme company" ||
		!slices.Equal(slices.Sorted(maps.Keys(files)), slices.Sorted(slices.Values(manifest.Files))) {
		t.Errorf("the manifest: %s", files["manifest.json"])
	}
	account := data.Stores["users"]
	if len(account) != 1 || account[0]["email"] != person.Email || account[0]["first_name"] != "First" || account[0]["password_set"] != true {
		t.Errorf("the account: %v", account)
	}
	if len(data.Stores["login_records"]) != 2 || len(data.Stores["sessions"]) != 2 || len(data.Stores["refresh_tokens"]) != 2 || len(data.Stores["data_subject_requests"]) != 1 {
		t.Errorf("%s", files["data.json"])
	}
	if address := data.Stores["login_records"][0]["address"]; address != "127.0.0.1" && address != "127.0.0.1/32" {
		t.Errorf("the address of a sign-in is told as %v", address)
	}
	var secrets []string
	for _, store := range manifest.Stores {
		if len(data.Stores[store.Store]) != store.Rows {
			t.Errorf("%s: %d rows, of which the manifest says %d", store.Store, len(data.Stores[store.Store]), store.Rows)
		}
		rows, err := csv.NewReader(bytes.NewReader(files[store.File])).ReadAll()
		if err != nil || len(rows) != store.Rows+1 || !slices.Equal(rows[0], store.Members) {
			t.Errorf("%s: %v %v", store.File, rows, err)
		}
		for _, withheld := range store.Withheld {
			if withheld.Explanation == "" {
				t.Errorf("%s.%s is left out for no reason", store.Store, withheld.Member)
			}
			if withheld.Why == "secret" {
				secrets = append(secrets, store.Store+"."+withheld.Member)
			}
			for _, row := range data.Stores[store.Store] {
				if _, told := row[withheld.Member]; told {
					t.Errorf("%s.%s is told although it is withheld", store.Store, withheld.Member)
				}
			}
		}
	}
	for _, secret := range []string{"users.password_hash", "second_factors.sealed_secret", "recovery_codes.hash", "password_links.hash"} {
		if !slices.Contains(secrets, secret) {
			t.Errorf("the manifest does not say that %s is held", secret)
		}
	}
	for name, content := range files {
		if bytes.Contains(content, []byte("$argon2")) {
			t.Errorf("%s holds a password hash", name)
		}
	}
	if !bytes.Contains(files["csv/users.csv"], []byte(",'=noor@acme.example")) {
		t.Errorf("a spreadsheet would take an address for a formula: %s", files["csv/users.csv"])
	}
	page := string(files["index.html"])
	for _, want := range []string{`<html lang="en">`, "<title>", "=noor@acme.example", "The acme company", `scope="col"`, "<caption>", "127.0.0.1", "Held and not shown"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	for _, foreign := range []string{"http:", "https:", "<script", "<link", "src=", "@import", "url("} {
		if strings.Contains(page, foreign) {
			t.Errorf("the page has %q and needs something from elsewhere", foreign)
		}
	}
}

// A page for people shows the newest rows of a store that has many; the files have all.
func TestBundleOfManyRows(t *testing.T) {
	t.Parallel()
	w := newSharedWorld(t)
	const many = 2500
	entries := make([]any, 500)
	for i := range entries {
		entries[i] = entryBy(w.acme.User.ID, members{"details": members{"revision": i}})
	}
	for range many / len(entries) {
		call(t, w.Service, "POST", "/v1/audit-entries", apptest.As(w.acme.APIKey), apptest.JSON(entries)).Want(t, 200)
	}
	filed := w.ask(t, "access", w.acme.User.ID, nil)
	w.operate(t, filed.ID, "fulfilment").Want(t, 200)
	files := unzipped(t, call(t, w.Service, "GET", requestsPath+"/"+filed.ID+"/bundle", apptest.As(w.admin)).Want(t, 200).Body)
	rows, err := csv.NewReader(bytes.NewReader(files["csv/audit_entries.csv"])).ReadAll()
	if err != nil || len(rows) < many+1 {
		t.Errorf("the table has %d rows (%v)", len(rows), err)
	}
	page := string(files["index.html"])
	if shown := strings.Count(page, "<td>product.updated</td>"); shown < 990 || shown > 1000 || !strings.Contains(page, "the newest 1000 are shown") {
		t.Errorf("the page shows %d entries", shown)
	}
	var data struct{ Stores map[string][]json.RawMessage }
	if err := json.Unmarshal(files["data.json"], &data); err != nil || len(data.Stores["audit_entries"]) != len(rows)-1 {
		t.Errorf("data.json has %d entries (%v)", len(data.Stores["audit_entries"]), err)
	}
}

// A bundle with a recipient can be read by who has the private key and by nobody else, as often as needed, for two weeks.
func TestBundleForARecipient(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	filed := w.ask(t, "portability", w.acme.User.ID, members{"recipient": identity.Recipient().String()})
	w.operate(t, filed.ID, "fulfilment").Want(t, 200)
	bundle := requestsPath + "/" + filed.ID + "/bundle"
	for range 2 {
		collected := call(t, w.Service, "GET", bundle, apptest.As(w.acme.APIKey)).Want(t, 200)
		if collected.Header.Get("Content-Type") != "application/octet-stream" || bytes.Contains(collected.Body, []byte("user@acme")) {
			t.Fatalf("%v", collected.Header)
		}
		opened, err := age.Decrypt(bytes.NewReader(collected.Body), identity)
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(opened)
		if err != nil {
			t.Fatal(err)
		}
		if data := unzipped(t, content)["data.json"]; !bytes.Contains(data, []byte(w.acme.User.Email)) {
			t.Errorf("%s", data)
		}
	}
	// What is kept is not readable by the service either.
	var kept []byte
	w.Superuser(t, "select content from request_bundles", &kept)
	if !bytes.HasPrefix(kept, []byte("age-encryption.org/v1")) {
		t.Error("the bundle is not kept as an age file")
	}
	w.Database.Clock.Advance(14*24*time.Hour - time.Minute)
	call(t, w.Service, "GET", bundle, apptest.As(w.acme.APIKey)).Want(t, 200)
	w.Database.Clock.Advance(time.Minute)
	call(t, w.Service, "GET", bundle, apptest.As(w.acme.APIKey)).WantProblem(t, 410, "bundle-gone")
	if err := w.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	var left int
	w.Superuser(t, "select count(*) from request_bundles", &left)
	if left != 0 {
		t.Error("a bundle is kept past its time")
	}
	bad := members{"kind": "access", "user_id": w.acme.User.ID.String(), "recipient": strings.Replace(identity.Recipient().String(), "age1", "age1q", 1)[:62]}
	call(t, w.Service, "POST", requestsPath, apptest.As(w.acme.APIKey), apptest.JSON(bad)).WantProblem(t, 422, "invalid-recipient")
}

// A restored database has bundles again that were handed over since. Those for a recipient may be collected as often as before, and nobody has lost what was not collected.
func TestABundleIsHandedOverOnceAlsoAfterARestore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	bundles := make(map[string]string)
	for name, more := range map[string]members{"taken": nil, "left": nil, "encrypted": {"recipient": identity.Recipient().String()}} {
		filed := w.ask(t, "access", w.Person(t, w.acme, principal.User, name+"@acme.example").ID, more)
		w.operate(t, filed.ID, "fulfilment").Want(t, 200)
		bundles[name] = requestsPath + "/" + filed.ID + "/bundle"
	}
	later := w.ask(t, "portability", w.acme.User.ID, nil)
	bundles["later"] = requestsPath + "/" + later.ID + "/bundle"
	key := apptest.As(w.acme.APIKey)
	w.Settle()
	w.Stop()
	backup := w.Database.Copy(t)
	apptest.ShareBlobs(t, w.Database, backup)
	living := apptest.Replica(t, w.Database)
	call(t, living, "POST", workPath+"/"+later.ID+"/fulfilment", apptest.As(living.SignIn(t, "fusions", w.fusions.Admin))).Want(t, 200)
	for _, name := range []string{"taken", "encrypted", "later"} {
		call(t, living, "GET", bundles[name], key).Want(t, 200)
	}
	call(t, living, "GET", bundles["taken"], key).WantProblem(t, 410, "bundle-gone")
	living.Settle()
	living.Stop()
	w.Database.Clock.Advance(time.Hour)

	restored := apptest.Replica(t, backup)
	opened(t, restored)
	call(t, restored, "GET", bundles["taken"], key).WantProblem(t, 410, "bundle-gone")
	call(t, restored, "GET", bundles["encrypted"], key).Want(t, 200)
	call(t, restored, "GET", bundles["left"], key).Want(t, 200)
	call(t, restored, "GET", bundles["left"], key).WantProblem(t, 410, "bundle-gone")
	// Fulfilled anew, it is another bundle.
	call(t, restored, "GET", bundles["later"], key).WantProblem(t, 409, "bundle-not-ready")
	operator := apptest.As(restored.SignIn(t, "fusions", w.fusions.Admin))
	call(t, restored, "POST", workPath+"/"+later.ID+"/fulfilment", operator).Want(t, 200)
	call(t, restored, "GET", bundles["later"], key).Want(t, 200)
	told := call(t, restored, "GET", "/v1/operator/replays", operator).Want(t, 200).Body
	for _, outcome := range []string{`{"count":1,"kind":"bundle_collected","outcome":"done"}`, `{"count":1,"kind":"bundle_collected","outcome":"already"}`} {
		if !bytes.Contains(told, []byte(outcome)) {
			t.Errorf("operators are told: %s", told)
		}
	}
	taken := strings.Split(bundles["taken"], "/")[3]
	var found shownRequest
	call(t, restored, "GET", requestsPath+"/"+taken, key).Want(t, 200).Into(t, &found)
	if found.Bundle == nil || found.Bundle.CollectedAt == nil || found.State != "fulfilled" {
		t.Errorf("%+v", found)
	}
	wantDetailed(t, restored, taken, "user data_subject_request.updated received", "operator data_subject_request.updated fulfilled", "system data_subject_request.collected")
}

// What fulfilling does is what the customer could have done, by the hand of an operator.
func TestWhatFulfillingDoes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	admin := apptest.As(w.admin)
	clean, named := w.Person(t, w.acme, principal.User, "clean@acme.example"), w.Person(t, w.acme, principal.User, "named@acme.example")
	call(t, w.Service, "POST", "/v1/audit-entries", apptest.As(w.acme.APIKey), apptest.JSON(entryBy(named.ID, nil))).Want(t, 201)
	session := w.SignIn(t, "acme", clean)
	for person, kind := range map[apptest.Person]string{clean: "deletion", named: "redaction"} {
		filed := w.ask(t, "erasure", person.ID, nil)
		w.operate(t, filed.ID, "fulfilment").Want(t, 200)
		after := w.request(t, filed.ID)
		if after.State != "fulfilled" || after.Receipt == nil || after.Reason != nil {
			t.Fatalf("%+v", after)
		}
		receipt := call(t, w.Service, "GET", *after.Receipt, admin).Want(t, 200)
		verified(t, receipt.Body, publishedKeys(t, w.Service))
		if receipt.Text(t, "kind") != kind || receipt.Text(t, "user_id") != person.ID.String() || !bytes.Contains(receipt.Body, []byte(`"authority":"operator"`)) {
			t.Errorf("%s", receipt.Body)
		}
		call(t, w.Service, "GET", requestsPath+"/"+filed.ID+"/bundle", admin).WantProblem(t, 404, "not-found")
	}
	call(t, w.Service, "GET", "/v1/users/"+clean.ID.String(), admin).WantProblem(t, 404, "not-found")
	if shown := call(t, w.Service, "GET", "/v1/users/"+named.ID.String(), admin).Want(t, 200); shown.Text(t, "status") != "redacted" {
		t.Errorf("%s", shown.Body)
	}
	w.Database.Clock.Advance(time.Second)
	call(t, w.Service, "GET", "/v1/me", apptest.As(session)).Want(t, 401)

	// Corrections live as long as the request is open.
	filed := w.ask(t, "rectification", w.acme.User.ID, members{"corrections": members{"last_name": " Hadda\u0301d ", "email": "new@acme.example"}})
	if filed.Corrections["last_name"] != "Haddád" {
		t.Errorf("%+v", filed)
	}
	w.operate(t, filed.ID, "fulfilment").Want(t, 200)
	if after := w.request(t, filed.ID); after.Corrections != nil || after.State != "fulfilled" {
		t.Errorf("%+v", after)
	}
	if shown := call(t, w.Service, "GET", "/v1/users/"+w.acme.User.ID.String(), admin).Want(t, 200); shown.Text(t, "last_name") != "Haddád" || shown.Text(t, "email") != "new@acme.example" {
		t.Errorf("%s", shown.Body)
	}
	// An address that is taken refuses it, and nothing is closed.
	taken := w.ask(t, "rectification", w.acme.User.ID, members{"corrections": members{"first_name": "Nora", "email": "admin@acme.example"}})
	w.operate(t, taken.ID, "fulfilment").WantProblem(t, 409, "email-taken")
	if after := w.request(t, taken.ID); after.State != "received" || after.Corrections["email"] != "admin@acme.example" {
		t.Errorf("%+v", after)
	}
	w.operate(t, taken.ID, "rejection").Want(t, 200)
	if after := w.request(t, taken.ID); after.Corrections != nil || *after.Reason != "excessive" || after.State != "rejected" {
		t.Errorf("%+v", after)
	}

	for kind, check := range map[string]func(shown apptest.Answer) bool{
		"restriction": func(shown apptest.Answer) bool { return shown.Text(t, "status") == "disabled" },
		"objection":   func(shown apptest.Answer) bool { return bytes.Contains(shown.Body, []byte(`"opted_in":false,"set_`)) },
	} {
		person := w.Person(t, w.acme, principal.User, kind+"@acme.example")
		w.operate(t, w.ask(t, kind, person.ID, nil).ID, "fulfilment").Want(t, 200)
		if shown := call(t, w.Service, "GET", "/v1/users/"+person.ID.String(), admin).Want(t, 200); !check(shown) {
			t.Errorf("after a request of the kind %s: %s", kind, shown.Body)
		}
	}
	// The last administrator stays, whoever asks.
	for _, kind := range []string{"erasure", "restriction"} {
		filed := w.ask(t, kind, w.acme.Admin.ID, nil)
		w.operate(t, filed.ID, "fulfilment").WantProblem(t, 409, "last-administrator")
		if after := w.request(t, filed.ID); after.State != "received" {
			t.Errorf("%+v", after)
		}
	}
}

// A person has one open request of a kind: others join it.
func TestRequestsOfAKindAreJoined(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	admin := apptest.As(w.admin)
	first := w.ask(t, "rectification", w.acme.User.ID, members{"corrections": members{"first_name": "Nora"}})
	w.Database.Clock.Advance(3 * time.Minute)
	var joined shownRequest
	body := members{"kind": "rectification", "user_id": w.acme.User.ID.String(), "corrections": members{"last_name": "Lind"}}
	key := apptest.Header("Idempotency-Key", "join")
	call(t, w.Service, "POST", requestsPath, admin, key, apptest.JSON(body)).Want(t, 200).Into(t, &joined)
	if joined.ID != first.ID || !joined.DueAt.Equal(first.DueAt) || !maps.Equal(joined.Corrections, map[string]string{"first_name": "Nora", "last_name": "Lind"}) {
		t.Errorf("%+v", joined)
	}
	if again := call(t, w.Service, "POST", requestsPath, admin, key, apptest.JSON(body)).Want(t, 200); again.Header.Get("Idempotency-Replayed") != "true" {
		t.Error("not replayed")
	}
	other := w.ask(t, "access", w.acme.User.ID, nil)
	call(t, w.Service, "POST", requestsPath+"/"+other.ID+"/withdrawal", admin).Want(t, 200)
	call(t, w.Service, "POST", requestsPath+"/"+other.ID+"/withdrawal", admin).Want(t, 200)
	if next := w.ask(t, "access", w.acme.User.ID, nil); next.ID == other.ID {
		t.Error("a withdrawn request was taken up again")
	}
	wantDetailed(t, w.Service, other.ID, "user data_subject_request.updated received", "user data_subject_request.updated withdrawn")

	// Of many at once, one files it and the others join it.
	statuses := make([]int, 8)
	var all sync.WaitGroup
	for i := range statuses {
		all.Go(func() {
			answer, err := w.Try(t.Context(), "POST", requestsPath, apptest.As(w.acme.APIKey),
				apptest.JSON(members{"kind": "objection", "user_id": w.acme.User.ID.String()}))
			if err != nil {
				t.Error(err)
			}
			statuses[i] = answer.Status
		})
	}
	all.Wait()
	slices.Sort(statuses)
	if !slices.Equal(statuses, []int{200, 200, 200, 200, 200, 200, 200, 201}) {
		t.Errorf("%v", statuses)
	}
	var page struct{ Data []shownRequest }
	call(t, w.Service, "GET", requestsPath+"?kind=objection&state=received&user_id="+w.acme.User.ID.String(), admin).Want(t, 200).Into(t, &page)
	if len(page.Data) != 1 {
		t.Errorf("%+v", page)
	}
	// Nobody of another customer, nobody who is gone, nobody who is redacted.
	gone := w.Person(t, w.acme, principal.User, "gone@acme.example")
	call(t, w.Service, "DELETE", "/v1/users/"+gone.ID.String(), admin).Want(t, 200)
	redacted := w.Person(t, w.acme, principal.User, "redacted@acme.example")
	call(t, w.Service, "POST", "/v1/users/"+redacted.ID.String()+"/redaction", admin).Want(t, 200)
	for person, want := range map[id.User]int{w.other.User.ID: 404, gone.ID: 404, id.New[id.User](): 404, redacted.ID: 409} {
		call(t, w.Service, "POST", requestsPath, admin, apptest.JSON(members{"kind": "access", "user_id": person.String()})).Want(t, want)
	}
}

// Two operators at once, an operator and the customer, an operator and an erasure: one of them is first, and the other hears of it.
func TestRequestsAtOnce(t *testing.T) {
	t.Parallel()
	w := newSharedWorld(t)
	colleague := apptest.As(w.SignIn(t, "fusions", w.Person(t, w.fusions, principal.Operator, "colleague@fusions.example")))
	operator, admin := apptest.As(w.operator), apptest.As(w.admin)
	for round := range 6 {
		person := w.Person(t, w.acme, principal.User, fmt.Sprintf("round-%d@acme.example", round))
		kind := []string{"erasure", "access", "restriction"}[round%3]
		filed := w.ask(t, kind, person.ID, nil)
		statuses := make([]int, 4)
		var all sync.WaitGroup
		for i, try := range []func() (apptest.Answer, error){
			func() (apptest.Answer, error) {
				return w.Try(t.Context(), "POST", workPath+"/"+filed.ID+"/fulfilment", operator)
			},
			func() (apptest.Answer, error) {
				return w.Try(t.Context(), "POST", workPath+"/"+filed.ID+"/rejection", colleague, apptest.JSON(members{"reason": "excessive"}))
			},
			func() (apptest.Answer, error) {
				return w.Try(t.Context(), "POST", requestsPath+"/"+filed.ID+"/withdrawal", admin)
			},
			func() (apptest.Answer, error) {
				if round < 3 {
					return apptest.Answer{Status: 409}, nil
				}
				return w.Try(t.Context(), "DELETE", "/v1/users/"+person.ID.String(), admin)
			},
		} {
			all.Go(func() {
				answer, err := try()
				if err != nil {
					t.Error(err)
				}
				if statuses[i] = answer.Status; answer.Status >= 500 {
					t.Errorf("%d %s", answer.Status, answer.Body)
				}
			})
		}
		all.Wait()
		after := w.request(t, filed.ID)
		won := 0
		for _, status := range statuses[:3] {
			if status == http.StatusOK {
				won++
			}
		}
		if after.ClosedAt == nil || won > 1 && after.Reason == nil || won == 0 && statuses[3] != http.StatusOK {
			t.Errorf("%v: %+v", statuses, after)
		}
		closings := slices.DeleteFunc(detailed(t, w.Service, filed.ID), func(act string) bool { return strings.HasSuffix(act, " received") })
		if len(closings) != 1 {
			t.Errorf("closed more than once: %q", closings)
		}
	}
}

// Whoever is erased takes what was open along, and bundles that nobody collected.
func TestErasureEndsRequests(t *testing.T) {
	t.Parallel()
	w := newSharedWorld(t)
	person := w.Person(t, w.acme, principal.User, "leaving@acme.example")
	ready, open := w.ask(t, "access", person.ID, nil), w.ask(t, "portability", person.ID, nil)
	w.operate(t, ready.ID, "fulfilment").Want(t, 200)
	correction := w.ask(t, "rectification", person.ID, members{"corrections": members{"first_name": "Nora"}})
	var plan struct {
		Removes []struct {
			Store string
			Count int
		}
	}
	call(t, w.Service, "GET", "/v1/users/"+person.ID.String()+"/erasure-plan", apptest.As(w.admin)).Want(t, 200).Into(t, &plan)
	counts := map[string]int{}
	for _, one := range plan.Removes {
		counts[one.Store] = one.Count
	}
	if counts["data_subject_requests"] != 2 || counts["request_bundles"] != 1 {
		t.Errorf("%v", counts)
	}
	call(t, w.Service, "DELETE", "/v1/users/"+person.ID.String(), apptest.As(w.admin)).Want(t, 200)
	for _, one := range []string{open.ID, correction.ID} {
		if after := w.request(t, one); after.State != "withdrawn" || *after.Reason != "person_erased" || after.Corrections != nil {
			t.Errorf("%+v", after)
		}
	}
	wantDetailed(t, w.Service, open.ID, "user data_subject_request.updated received", "system data_subject_request.updated withdrawn person_erased")
	call(t, w.Service, "GET", requestsPath+"/"+ready.ID+"/bundle", apptest.As(w.admin)).WantProblem(t, 410, "bundle-gone")
	if after := w.request(t, ready.ID); after.State != "fulfilled" || after.Bundle.ExpiresAt.After(w.Database.Clock.Now()) {
		t.Errorf("%+v", after)
	}
	w.operate(t, open.ID, "fulfilment").WantProblem(t, 409, "request-closed")
}

// Requests forget whom they were about when they have been closed for 90 days, and not before.
func TestRequestsForget(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	closed := w.ask(t, "access", w.acme.User.ID, members{"recipient": identity.Recipient().String()})
	w.operate(t, closed.ID, "fulfilment").Want(t, 200)
	open := w.ask(t, "objection", w.acme.User.ID, nil)
	for _, step := range []struct {
		after  time.Duration
		forgot bool
	}{{90*24*time.Hour - time.Hour, false}, {time.Hour, true}} {
		w.Database.Clock.Advance(step.after)
		if err := w.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		after := w.request(t, closed.ID)
		if (after.UserID == nil) != step.forgot || (after.Recipient == nil) != step.forgot || after.State != "fulfilled" {
			t.Errorf("%+v", after)
		}
		if after := w.request(t, open.ID); after.UserID == nil {
			t.Errorf("an open request forgot whom it is about: %+v", after)
		}
	}
	call(t, w.Service, "GET", requestsPath+"/"+closed.ID+"/bundle", apptest.As(w.acme.APIKey)).WantProblem(t, 410, "bundle-gone")
}

// Operators are told of what is filed, and reminded on the tenth day and on the twentieth, once each, of what is open then.
func TestReminders(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	colleague := w.Person(t, w.fusions, principal.Operator, "colleague@fusions.example")
	gone := w.Person(t, w.fusions, principal.Operator, "gone@fusions.example")
	if _, err := w.Database.Superuser(t).Exec(t.Context(), "update users set status = 'disabled' where id = $1", gone.ID.String()); err != nil {
		t.Fatal(err)
	}
	waiting, closed := w.ask(t, "access", w.acme.User.ID, nil), w.ask(t, "objection", w.acme.User.ID, nil)
	call(t, w.Service, "POST", requestsPath, apptest.As(w.admin), apptest.JSON(members{"kind": "access", "user_id": w.acme.User.ID.String()})).Want(t, 200) // joins the first
	const filed = 2
	operators := []string{colleague.Email, w.fusions.Admin.Email}
	for _, to := range operators {
		steps.Eventually(t, "being told of what was filed", func() bool { return len(w.Mailbox.To(t, to)) >= filed })
	}
	steps.Settled(t, w.Service)
	for _, to := range operators {
		for _, mail := range w.Mailbox.To(t, to) {
			if !strings.Contains(mail.Subject, "was filed") || !strings.Contains(mail.Text, waiting.ID) && !strings.Contains(mail.Text, closed.ID) {
				t.Errorf("told of what was filed: %s: %s", mail.Subject, mail.Text)
			}
		}
	}
	call(t, w.Service, "POST", requestsPath+"/"+closed.ID+"/withdrawal", apptest.As(w.admin)).Want(t, 200)
	beside := apptest.Replica(t, w.Database)
	mails := filed
	for _, step := range []struct {
		days  int
		mails int
	}{{9, 0}, {1, 1}, {1, 1}, {8, 1}, {1, 2}, {5, 2}, {40, 2}} {
		step.mails += filed
		w.Database.Clock.Advance(time.Duration(step.days) * 24 * time.Hour)
		var both sync.WaitGroup
		for _, replica := range []*apptest.Service{w.Service, beside, w.Service} {
			both.Go(func() {
				if err := replica.Requests.Remind(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		both.Wait()
		if step.mails > mails {
			steps.Eventually(t, "the reminder", func() bool {
				return len(w.Mailbox.To(t, colleague.Email)) >= step.mails && len(w.Mailbox.To(t, w.fusions.Admin.Email)) >= step.mails
			})
		}
		steps.Settled(t, w.Service)
		mails = step.mails
		for _, to := range operators {
			if got := len(w.Mailbox.To(t, to)); got != mails {
				t.Fatalf("after %d more days %s has %d mails, want %d", step.days, to, got, mails)
			}
		}
	}
	if got := w.Mailbox.To(t, gone.Email); len(got) != 0 {
		t.Error("somebody who is no operator any more is written to")
	}
	text := w.Mailbox.To(t, colleague.Email)[0].Text
	for _, want := range []string{waiting.ID, "The acme company", "access", "open for 20 days"} {
		if !strings.Contains(text, want) {
			t.Errorf("the reminder lacks %q: %s", want, text)
		}
	}
	if strings.Contains(text, w.acme.User.Email) || strings.Contains(text, w.acme.User.ID.String()) {
		t.Errorf("the reminder tells of the person: %s", text)
	}
}

// The inventory knows every column of every table that holds something of a person, and no others. A column or a table that is new is decided about here.
func TestNothingIsLeftOutOfBundles(t *testing.T) {
	t.Parallel()
	conn := apptest.Start(t).Database.Superuser(t)
	ask := func(statement string) (found []string) {
		t.Helper()
		rows, err := conn.Query(t.Context(), statement)
		if err != nil {
			t.Fatal(err)
		}
		if found, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
			t.Fatal(err)
		}
		return found
	}
	const columns = ` from pg_attribute a join pg_class r on r.oid = a.attrelid and r.relkind in ('r', 'p') and r.relnamespace = 'public'::regnamespace
		where a.attnum > 0 and not a.attisdropped `
	// A table is a person's if a column is personal, if one points at a user, or if one is named for a user.
	ofPeople := ask(`select distinct r.relname::text` + columns + ` and (col_description(r.oid, a.attnum) ~ '^personal' or a.attname ~ '(^|_)user_id$'
		or exists (select from pg_constraint k where k.contype = 'f' and k.conrelid = r.oid and k.confrelid = 'users'::regclass and a.attnum = any (k.conkey)))
		or r.relname = 'users' order by 1`)
	known := map[string][]string{}
	for _, store := range inventory.ForPeople(app.Stores()) {
		known[store.Table] = store.ShownToPerson()
		for _, withheld := range store.WithheldFromPerson() {
			known[store.Table] = append(known[store.Table], withheld.Column)
			if withheld.Why.Explained() == "" {
				t.Errorf("%s.%s is withheld for a reason that nobody explains", store.Table, withheld.Column)
			}
		}
		if store.Title == "" || store.Purpose == "" || store.Keep.Words == "" {
			t.Errorf("the store %s is not explained", store.Table)
		}
	}
	for _, table := range ofPeople {
		if known[table] == nil {
			t.Errorf("the table %s holds something of people and is not in the inventory of bundles: say in its declaration what of it is handed over", table)
		}
	}
	for table, listed := range known {
		there := ask("select a.attname::text" + columns + " and r.relname = '" + table + "' order by 1")
		slices.Sort(listed)
		if !slices.Equal(there, listed) {
			t.Errorf("the inventory of %s lists\n%q, and it has\n%q", table, listed, there)
		}
	}
	if len(ofPeople) < 10 {
		t.Errorf("only %q: this test looks in the wrong place", ofPeople)
	}
}

// personal are the members of the contract that tell something of a person.
var personal = []string{"first_name", "last_name", "email", "address"}

// There is no way to a person's data but those written down here. Whatever answers with something personal, or with anything but JSON, has to be on the list: people see
// their own name and sign-ins, administrators the accounts that they look after, one page at a time; operators whom an open request is about. The bundle is the only export.
func TestThereIsNoOtherWayToAnExport(t *testing.T) {
	t.Parallel()
	w := newSharedWorld(t)
	allowed := map[string]string{
		"getMe": "operator customer user", "listMyLogins": "operator customer user",
		"listUsers": "customer users:read", "createUser": "customer users:write", "getUser": "customer users:read", "updateUser": "customer users:write",
		"listUserLogins":          "customer",
		"listDataSubjectRequests": "customer requests:read", "createDataSubjectRequest": "customer requests:write",
		"getDataSubjectRequest": "customer requests:read", "withdrawDataSubjectRequest": "customer requests:write",
		"getDataSubjectRequestAsOperator": "operator",
		"collectDataSubjectRequestBundle": "customer requests:read",
		"collectOffboardingBundle":        "customer", // when the contract ends, everything goes back to the customer
	}
	var document map[string]any
	call(t, w.Service, "GET", "/openapi.json").Want(t, 200).Into(t, &document)
	resolve := func(node map[string]any) map[string]any {
		for {
			reference, ok := node["$ref"].(string)
			if !ok {
				return node
			}
			var at any = document
			for word := range strings.SplitSeq(strings.TrimPrefix(reference, "#/"), "/") {
				at = at.(map[string]any)[word]
			}
			node = at.(map[string]any)
		}
	}
	var tells func(schema map[string]any, depth int) bool
	tells = func(schema map[string]any, depth int) bool {
		schema = resolve(schema)
		if depth > 12 {
			return false
		}
		if properties, ok := schema["properties"].(map[string]any); ok {
			for name, property := range properties {
				if slices.Contains(personal, name) || tells(property.(map[string]any), depth+1) {
					return true
				}
			}
		}
		for _, inner := range []string{"items", "additionalProperties"} {
			if below, ok := schema[inner].(map[string]any); ok && tells(below, depth+1) {
				return true
			}
		}
		for _, inner := range []string{"allOf", "anyOf", "oneOf"} {
			list, _ := schema[inner].([]any)
			for _, below := range list {
				if tells(below.(map[string]any), depth+1) {
					return true
				}
			}
		}
		return false
	}
	exports := func(declared map[string]any) bool {
		for status, response := range declared["responses"].(map[string]any) {
			content, _ := resolve(response.(map[string]any))["content"].(map[string]any)
			for kind, media := range content {
				schema, _ := media.(map[string]any)["schema"].(map[string]any)
				if status[0] == '2' && (kind != "application/json" || tells(schema, 0)) {
					return true
				}
			}
		}
		return false
	}
	for _, operation := range w.API.Operations() {
		if operation.Tag == "pages" {
			continue // the same for everybody
		}
		declared := document["paths"].(map[string]any)[operation.Path].(map[string]any)[strings.ToLower(operation.Method)].(map[string]any)
		callers := strings.TrimSpace(strings.Join(operation.Roles, " ") + " " + operation.Scope)
		want, listed := allowed[operation.ID]
		delete(allowed, operation.ID)
		switch found := exports(declared); {
		case found && !listed:
			t.Errorf("%s answers with something of a person and is not on the list", operation.ID)
		case !found && listed:
			t.Errorf("%s is on the list, and answers with nothing of a person", operation.ID)
		case listed && slices.Sorted(strings.SplitSeq(callers, " "))[0] == "" || listed && !slices.Equal(slices.Sorted(strings.SplitSeq(callers, " ")), slices.Sorted(strings.SplitSeq(want, " "))):
			t.Errorf("%s may be called by %q, want %q", operation.ID, callers, want)
		}
	}
	for name := range allowed {
		t.Errorf("%s is on the list and not in the contract", name)
	}
}
