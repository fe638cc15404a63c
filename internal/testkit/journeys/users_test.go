package journeys

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fusionspim/steward/internal/account/user"
	"github.com/fusionspim/steward/internal/app"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/testkit/apptest"
)

// tenant is a customer of a service, whose administrator is signed in.
type tenant struct {
	*apptest.Service
	acme  apptest.Customer
	admin apptest.Credential
}

// newTenant makes one on the shared service.
func newTenant(t *testing.T) *tenant {
	t.Helper()
	return tenantOf(t, apptest.Shared(t))
}

// newTenantAlone makes one on a service of its own.
func newTenantAlone(t *testing.T, changes ...func(*app.Settings)) *tenant {
	t.Helper()
	return tenantOf(t, apptest.StartWith(t, func(settings *app.Settings) {
		for _, change := range changes {
			change(settings)
		}
	}))
}

func tenantOf(t *testing.T, service *apptest.Service) *tenant {
	t.Helper()
	h := &tenant{Service: service, acme: service.Customer(t, apptest.Unique("acme"))}
	h.admin = h.SignIn(t, h.acme.Slug, h.acme.Admin)
	return h
}

// asAdmin calls as the administrator.
func (h *tenant) asAdmin(t testing.TB, method, path string, options ...apptest.Option) apptest.Answer {
	t.Helper()
	return call(t, h.Service, method, path, append([]apptest.Option{apptest.As(h.admin)}, options...)...)
}

// userView is a user as the API shows one.
type userView struct {
	ID           string    `json:"id"`
	Status       string    `json:"status"`
	Role         string    `json:"role"`
	FirstName    *string   `json:"first_name"`
	LastName     *string   `json:"last_name"`
	Email        *string   `json:"email"`
	EmailFlagged bool      `json:"email_flagged"`
	PasswordSet  bool      `json:"password_set"`
	Label        *string   `json:"label"`
	Receipt      *string   `json:"receipt"`
	Alerts       alertView `json:"alerts"`
}

type alertView struct {
	OptedIn bool      `json:"opted_in"`
	SetBy   string    `json:"set_by"`
	SetAt   time.Time `json:"set_at"`
}

func named(first, last, email string) members {
	return members{"first_name": first, "last_name": last, "email": email}
}

// create creates a user and wants it to succeed.
func (h *tenant) create(t testing.TB, body members) userView {
	t.Helper()
	var made userView
	h.asAdmin(t, "POST", "/v1/users", apptest.JSON(body)).Want(t, 201).Into(t, &made)
	return made
}

func (h *tenant) patch(t testing.TB, id string, body members, options ...apptest.Option) apptest.Answer {
	t.Helper()
	return h.asAdmin(t, "PATCH", "/v1/users/"+id, append(options, apptest.JSON(body))...)
}

// newestEntry is the last entry of the trail.
func (h *tenant) newestEntry(t testing.TB) trailEntry {
	t.Helper()
	var page struct{ Data []trailEntry }
	call(t, h.Service, "GET", "/v1/audit-entries?limit=1", apptest.As(h.acme.APIKey)).Want(t, 200).Into(t, &page)
	return page.Data[0]
}

func TestCreateAndGetAUser(t *testing.T) {
	t.Parallel()
	h := newTenant(t)
	made := h.asAdmin(t, "POST", "/v1/users", apptest.JSON(named(" Noor\u00a0", "Haddad", "Noor.Haddad@ACME.example"))).Want(t, 201)
	var one userView
	made.Into(t, &one)
	if *one.FirstName != "Noor" || *one.Email != "Noor.Haddad@acme.example" || one.Role != "user" || one.Status != "active" || one.PasswordSet ||
		one.EmailFlagged ||
		!one.Alerts.OptedIn || one.Alerts.SetBy != "creation" || !one.Alerts.SetAt.Equal(h.Database.Clock.Now()) || one.Label != nil ||
		one.Receipt != nil {
		t.Errorf("created: %s", made.Body)
	}
	if made.Header.Get("Location") != "/v1/users/"+one.ID || made.Header.Get("ETag") != `"1"` {
		t.Errorf("created with %v", made.Header)
	}
	got := h.asAdmin(t, "GET", made.Header.Get("Location")).Want(t, 200)
	if string(got.Body) != string(made.Body) || got.Header.Get("ETag") != made.Header.Get("ETag") {
		t.Errorf("got %s\ncreated %s", got.Body, made.Body)
	}
	// A person without a password does not sign in, and hears nothing of it.
	call(t, h.Service, "POST", "/v1/sessions", apptest.JSON(members{"customer": h.acme.Slug, "email": *one.Email, "password": apptest.Password})).
		WantProblem(t, 401, "invalid-credentials")
}

func TestNames(t *testing.T) {
	t.Parallel()
	h := newTenant(t)
	for what, name := range map[string]string{
		"Arabic": "نور الهدى", "Devanagari with a joiner": "क्\u200dष", "Persian with a non-joiner": "می\u200cخواهم", "Han": "山田",
		"Han outside the basic plane": "𠮷野", "Hangul": "김철수",
		"a letter and marks": "e\u0301\u0323", "Georgian": "ნინო", "apostrophe": "O’Brien", "hyphen": "Anne-Marie", "one letter": "Ó",
		"digits": "X Æ A-12", "emoji": "Sam 🌻",
		"100 characters": strings.Repeat("é", 100), "100 outside the basic plane": strings.Repeat("𠮷", 100),
		"100 that were 200 before they were composed": strings.Repeat("e\u0301", 100),
		"markup": "<b>Bobby</b>'); drop table users; --", "a percent sign": "100%_", "looks like null": "null",
		"100 that are compared as 1,800": strings.Repeat("ﷺ", 100),
	} {
		one := h.asAdmin(t, "POST", "/v1/users", apptest.JSON(named(name, name, fresh("name")+"@acme.example")))
		if one.Status != 201 {
			t.Errorf("%s: %d %s", what, one.Status, one.Body)
			continue
		}
		var made userView
		one.Into(t, &made)
		if found := h.list(t, "email="+*made.Email); len(found) != 1 || *found[0].FirstName != *made.FirstName {
			t.Errorf("%s: was created and is listed as %v", what, found)
		}
	}
	for what, bad := range map[string]struct {
		name   string
		status int
	}{
		"blanks": {"   ", 422}, "an ideographic blank": {"\u3000", 422}, "nothing": {"", 400}, "right-to-left override": {"Ada\u202ekraP", 422},
		"isolate":          {"A\u2066da", 422},
		"zero-width space": {"A\u200bda", 422}, "nothing visible": {"\u200d", 422}, "only a joiner and a blank": {"\u200d \u200c", 422},
		"tab inside": {"A\tda", 422}, "line": {"Ada\nPark", 422},
		"line separator": {"A\u2028da", 422}, "paragraph separator": {"A\u2029da", 422}, "escape": {"A\x1b[31m", 422}, "DEL": {"A\x7f", 422},
		"next line":   {"A\u0085da", 422},
		"soft hyphen": {"A\u00adda", 422}, "byte order mark": {"\ufeffAda", 422}, "private use": {"\ue000", 422},
		"replacement": {"\ufffdda", 422}, "tag characters": {"Ada\U000e0041", 422},
		"101 characters": {strings.Repeat("é", 101), 422}, "101 outside the basic plane": {strings.Repeat("𠮷", 101), 422},
		"401 as they are sent":           {strings.Repeat("é", 401), 400},
		"100 that are 200 once composed": {strings.Repeat("\u0958", 100), 422}, // excluded from composition
	} {
		for _, name := range []string{"first_name", "last_name"} {
			body := with(named("Ada", "Park", fresh("name")+"@acme.example"), name, bad.name)
			answer := h.asAdmin(t, "POST", "/v1/users", apptest.JSON(body))
			if answer.Status != bad.status || !strings.Contains(string(answer.Body), `"/`+name+`"`) {
				t.Errorf("%s: got %d, want %d: %s", what, answer.Status, bad.status, answer.Body)
			}
			if answer := h.patch(t, h.acme.User.ID.String(), members{name: bad.name}); answer.Status != bad.status {
				t.Errorf("%s in a patch: got %d, want %d: %s", what, answer.Status, bad.status, answer.Body)
			}
		}
	}
	// All members at fault are told at once.
	both := h.asAdmin(t, "POST", "/v1/users", apptest.JSON(named("\t", "\u202e", fresh("name")+"@acme.example"))).WantProblem(t, 422, "invalid-name")
	if !strings.Contains(string(both.Body), "/first_name") || !strings.Contains(string(both.Body), "/last_name") {
		t.Errorf("only one of two: %s", both.Body)
	}
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	h := newTenant(t)
	for _, text := range []string{
		"a@b.cd", "first.last+tag@sub.acme.example", "o'brien@acme.example", "üser@acme.example", "用户@例子.广告", "x@xn--fsqu00a.example",
		"a@acme.example.", "_@acme.example",
		strings.Repeat("a", 64) + "@acme.example", "नमस्ते@acme.example",
	} {
		if answer := h.asAdmin(t, "POST", "/v1/users", apptest.JSON(named("A", "B", text))); answer.Status != 201 {
			t.Errorf("%s: %d %s", text, answer.Status, answer.Body)
		}
	}
	for _, text := range []string{
		"plain", "@acme.example", "a@", "a@localhost", "a@@acme.example", "a@b@acme.example", "Ada <a@acme.example>", "<a@acme.example>",
		`"a b"@acme.example`, "a b@acme.example", " a@acme.example",
		"a@acme.example ", "a@[127.0.0.1]", "a@acme .example", "a..b@acme.example", ".a@acme.example", "a.@acme.example",
		"a(comment)@acme.example", "a@acme.example,b@acme.example",
		"a@-acme.example", "a@acme-.example", "a@acme_x.example", "a@acme..example", "a@.example", "a@acme.example..", "a@acme.example.。",
		"a\u200b@acme.example", "a\u202e@acme.example",
		"a@ac\u200bme.example\u2028", "a\u00a0b@acme.example", "a\r\nBcc: x@y.zz", strings.Repeat("a", 65) + "@acme.example",
		"a@" + strings.Repeat("b", 64) + ".example", "😀@acme.example",
		"a@" + strings.Repeat("b.", 130) + "cd", strings.Repeat("é", 33) + "@acme.example", "a;b@acme.example", "a@xn--zzzzzzzz.example",
		"a＠acme.example", "a@acme.example/x", "a@acme:25.example", "a😀@acme.example", longInASCII,
	} {
		answer := h.asAdmin(t, "POST", "/v1/users", apptest.JSON(named("A", "B", text)))
		if answer.Status != 422 && answer.Status != 400 || !strings.Contains(string(answer.Body), `"/email"`) || len(text) > 8 &&
			strings.Contains(string(answer.Body), text) {
			t.Errorf("%q: %d %s", text, answer.Status, answer.Body)
		}
	}
	for _, text := range []string{longInASCII, "a😀@acme.example", "a@localhost"} {
		answer := h.patch(t, h.acme.User.ID.String(), members{"email": text})
		answer.WantProblem(t, 422, "invalid-email")
		if !strings.Contains(string(answer.Body), `"/email"`) {
			t.Errorf("%q: %s", text, answer.Body)
		}
	}
}

// longInASCII is an address of 118 bytes as written, and of 268 with its domain in ASCII, which is
// more than a mail server accepts.
var longInASCII = "aaaaaaaaaaaaaaaaaaaa@" + strings.Repeat("ü.", 30) + "example"

// TestAnEarlierAddressStaysReadable is about an account that was created before the ASCII form of
// an address was counted.
func TestAnEarlierAddressStaysReadable(t *testing.T) {
	t.Parallel()
	h := newTenant(t)
	created := h.create(t, named("Ada", "Park", "earlier@acme.example"))
	earlier, err := user.LookupAddress(longInASCII, "/email")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Database.Superuser(t).Exec(t.Context(), "update users set email = $1, email_key = $2 where id = $3",
		earlier.Text, earlier.Key, created.ID); err != nil {
		t.Fatal(err)
	}
	if answer := h.asAdmin(t, "GET", "/v1/users/"+created.ID).Want(t, 200); answer.Text(t, "email") != longInASCII {
		t.Errorf("%s", answer.Body)
	}
	if found := h.list(t, "email="+escape(longInASCII)); len(found) != 1 || found[0].ID != created.ID {
		t.Errorf("the filter finds %v", found)
	}
	h.patch(t, created.ID, members{"first_name": "Adele"}).Want(t, 200)
	h.patch(t, created.ID, members{"email": "later@acme.example"}).Want(t, 200)
}

// TestAddressesThatCountAsOne: the living never share an address, however it is spelt; the erased give theirs back.
func TestAddressesThatCountAsOne(t *testing.T) {
	t.Parallel()
	h := newTenant(t)
	one := h.create(t, named("Zoë", "Müller", "Zoë.Müller@Bücher.example"))
	spellings := []string{
		"zoë.müller@bücher.example", "ZOË.MÜLLER@BÜCHER.EXAMPLE", "Zoe\u0308.Mu\u0308ller@bu\u0308cher.example",
		"zoë.müller@xn--bcher-kva.example", "ｚｏë.müller@bücher.example",
		"zoë.müller@XN--BCHER-KVA.example.", "zoë.müller@bücher。example", "zoë.müller@bücher.example。",
	}
	for _, spelling := range spellings {
		taken := h.asAdmin(t, "POST", "/v1/users", apptest.JSON(named("Other", "Person", spelling)))
		if taken.Status != 409 || taken.Text(t, "type") != "/problems/email-taken" {
			t.Errorf("%s: %d %s", spelling, taken.Status, taken.Body)
		}
		h.patch(t, h.acme.User.ID.String(), members{"email": spelling}).WantProblem(t, 409, "email-taken")
		found := h.list(t, "email="+escape(spelling))
		if len(found) != 1 || found[0].ID != one.ID {
			t.Errorf("the filter %s finds %v", spelling, found)
		}
		// One's own address may be spelt anew.
		h.patch(t, one.ID, members{"email": spelling}).Want(t, 200)
	}
	for _, other := range []string{"zoe.muller@bücher.example", "zoë.müller@buecher.example", "zoëmüller@bücher.example",
		"zoë.müller+x@bücher.example"} {
		if found := h.list(t, "email="+escape(other)); len(found) != 0 {
			t.Errorf("the filter %s finds %v", other, found)
		}
	}
	if found := h.list(t, "email=no+address"); len(found) != 0 {
		t.Errorf("what is no address finds %v", found)
	}
	again := named("New", "Person", spellings[0])
	h.asAdmin(t, "POST", "/v1/users/"+one.ID+"/redaction").Want(t, 200)
	second := h.create(t, again)
	if second.ID == one.ID {
		t.Error("a new person got the id of a redacted one")
	}
	h.asAdmin(t, "DELETE", "/v1/users/"+second.ID).Want(t, 200)
	h.create(t, again)
	// Other customers have their own.
	other := h.Customer(t, apptest.Unique("umbrella"))
	call(t, h.Service, "POST", "/v1/users", apptest.As(other.APIKey), apptest.JSON(again)).Want(t, 201)
}

func (h *tenant) list(t testing.TB, query string) []userView {
	t.Helper()
	var page struct{ Data []userView }
	h.asAdmin(t, "GET", "/v1/users?"+query).Want(t, 200).Into(t, &page)
	return page.Data
}

func escape(text string) string {
	var out strings.Builder
	for i := range len(text) {
		fmt.Fprintf(&out, "%%%02X", text[i])
	}
	return out.String()
}

func TestFilters(t *testing.T) {
	t.Parallel()
	h := newTenant(t)
	people := map[string]userView{}
	for key, body := range map[string]members{
		"strasse": named("Straße", "Öztürk", "s.o@acme.example"), "nfd": named("Åsa", "Ångström", "asa@acme.example"),
		"arabic": named("نور", "الهدى", "noor@acme.example"),
		"han":    named("山田", "太郎", "yamada@acme.example"), "sigma": named("Ὀδυσσεύς", "X", "ody@acme.example"),
		"percent": named("100%", "_under", "percent@acme.example"),
		"deseret": named("𐐀𐐁", "X", "deseret@acme.example"), "admin": with(named("Ann", "Lee", "ann@acme.example"), "role", "customer"),
		"off": named("Off", "Duty", "off@acme.example"), "out": named("Opted", "Out", "out@acme.example"),
		"gone": named("Gone", "Girl", "gone@acme.example"),
	} {
		people[key] = h.create(t, body)
	}
	h.patch(t, people["off"].ID, members{"status": "disabled"}).Want(t, 200)
	h.asAdmin(t, "PUT", "/v1/users/"+people["out"].ID+"/alerts", apptest.JSON(members{"opted_in": false})).Want(t, 200)
	h.asAdmin(t, "POST", "/v1/users/"+people["gone"].ID+"/redaction").Want(t, 200)
	for query, want := range map[string][]string{
		"q=stra": {"strasse"}, "q=STRASSE": {"strasse"}, "q=stra%C3%9F": {"strasse"}, "q=%C3%96ZT": {"strasse"},
		"q=" + escape("O\u0308zt"):  {"strasse"},
		"q=" + escape("a\u030angs"): {"nfd"}, "q=" + escape("ångström"): {"nfd"}, "q=" + escape("نو"): {"arabic"}, "q=" + escape("山"): {"han"},
		"q=" + escape("太"): {"han"},
		"q=yama":           {"han"}, "q=" + escape("ὀδυσσεύΣ"): {"sigma"}, "q=%25": {}, "q=100%25": {"percent"}, "q=_": {"percent"}, "q=__": {},
		"q=100": {"percent"}, "q=" + escape("𐐨"): {"deseret"},
		"q=" + escape("traße"): {}, "q=ann": {"admin"}, "q=ann@acme.example": {"admin"}, "q=gone": {}, "q=%27": {}, "q=" + escape("\\"): {},
		"q=" + escape("\U0010FFFF"): {}, "q=" + escape("ﷺ"): {},
		"status=disabled": {"off"}, "status=redacted": {"gone"}, "alerts_opted_in=false": {"gone", "out"},
		"alerts_opted_in=false&status=active":                                         {"out"},
		"role=customer&q=a&status=active&alerts_opted_in=true&email=ANN@acme.example": {"admin"}, "role=user&q=ann": {},
		"status=disabled&q=off&role=user": {"off"},
	} {
		var got []string
		for _, one := range h.list(t, query) {
			for key, person := range people {
				if person.ID == one.ID {
					got = append(got, key)
				}
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("?%s finds %v, want %v", query, got, want)
		}
	}
}

// crowd makes many users, in parts that a slow machine makes within the time that a transaction has.
func (h *tenant) crowd(t testing.TB, size int) (ids []string) {
	t.Helper()
	for from := 0; from < size; from += 50 {
		err := h.DB.InCustomer(t.Context(), h.acme.ID, func(tx *postgres.Tx) error {
			for i := from; i < min(from+50, size); i++ {
				one, err := user.CreateTx(tx, principal.Principal{Customer: tx.Customer}, user.New{
					FirstName: "Member", LastName: fmt.Sprintf("Number %d", i), Email: fmt.Sprintf("crowd%d@acme.example", i),
				})
				if err != nil {
					return err
				}
				ids = append(ids, one.ID.String())
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return ids
}

type userPage struct {
	Data       []userView `json:"data"`
	NextCursor *string    `json:"next_cursor"`
}

// TestPages reads some 450 users page by page while others come and go: whoever was there all the time is shown once, and nobody twice.
func TestPages(t *testing.T) {
	t.Parallel()
	h := newTenant(t)
	ids := h.crowd(t, 450)
	removed := map[string]bool{}
	for i := 40; i < 450; i += 40 {
		removed[ids[i]] = true
	}
	stop, others := make(chan struct{}), sync.WaitGroup{}
	others.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			_, _ = h.Try(t.Context(), "POST", "/v1/users", apptest.As(h.admin),
				apptest.JSON(named("New", "Comer", fresh("crowd-new")+"@acme.example")))
			if at := 40 * (i + 1); at < 450 {
				_, _ = h.Try(t.Context(), "DELETE", "/v1/users/"+ids[at], apptest.As(h.admin))
			}
		}
	})
	defer others.Wait()
	defer close(stop)
	for _, limit := range []int{7, 50, 200} {
		seen := map[string]int{}
		var order []string
		path := fmt.Sprintf("/v1/users?q=member&limit=%d", limit)
		for pages := 0; path != ""; pages++ {
			answer := h.asAdmin(t, "GET", path).Want(t, 200)
			var page userPage
			answer.Into(t, &page)
			for _, one := range page.Data {
				seen[one.ID]++
				order = append(order, one.ID)
			}
			if (page.NextCursor != nil) != (len(answer.Header.Values("Link")) == 1) || page.NextCursor != nil && len(page.Data) != limit ||
				pages > 100 {
				t.Fatalf("page %d of %d rows: next_cursor %v, Link %q", pages, len(page.Data), page.NextCursor, answer.Header.Get("Link"))
			}
			path = nextOf(t, answer)
		}
		if !slices.IsSortedFunc(order, func(a, b string) int { return strings.Compare(b, a) }) {
			t.Errorf("by %d: not the newest first", limit)
		}
		for _, id := range ids {
			if seen[id] > 1 || seen[id] == 0 && !removed[id] {
				t.Errorf("by %d: %s is shown %d times", limit, id, seen[id])
			}
		}
	}
}

// nextOf reads the address of the next page out of the Link header.
func nextOf(t testing.TB, answer apptest.Answer) string {
	t.Helper()
	link := answer.Header.Get("Link")
	if link == "" {
		return ""
	}
	address, relation, ok := strings.Cut(strings.TrimPrefix(link, "<"), ">; ")
	if !ok || relation != `rel="next"` || !strings.HasPrefix(address, "/v1/") {
		t.Fatalf("Link: %s", link)
	}
	return address
}

func TestPagesKeepTheirFilters(t *testing.T) {
	t.Parallel()
	h := newTenant(t)
	h.crowd(t, 60)
	for query, want := range map[string]int{"": 62, "q=member&": 60, "q=crowd1&status=active&": 11, "role=customer&": 1, "q=nobody&": 0,
		"alerts_opted_in=true&q=Number%205&": 11} {
		count, path := 0, "/v1/users?"+query+"limit=10"
		for path != "" {
			answer := h.asAdmin(t, "GET", path).Want(t, 200)
			var page userPage
			answer.Into(t, &page)
			count += len(page.Data)
			path = nextOf(t, answer)
		}
		if count != want {
			t.Errorf("%q: %d users on all pages, want %d", query, count, want)
		}
	}
	for query, want := range map[string]int{"": 50, "?limit=1": 1, "?limit=62": 62, "?limit=200": 62} {
		var page userPage
		h.asAdmin(t, "GET", "/v1/users"+query).Want(t, 200).Into(t, &page)
		if len(page.Data) != want || (page.NextCursor == nil) != (want == 62) {
			t.Errorf("%q: %d rows and the cursor %v", query, len(page.Data), page.NextCursor)
		}
	}
}

// TestIfMatch: a change that names a version is made to that version or not at all.
func TestIfMatch(t *testing.T) {
	t.Parallel()
	h := newTenant(t)
	changes := map[string]func(id, ifMatch string) apptest.Answer{
		"PATCH": func(id, ifMatch string) apptest.Answer {
			return h.patch(t, id, members{"last_name": fresh("Name")}, apptest.Header("If-Match", ifMatch))
		},
		"PATCH status": func(id, ifMatch string) apptest.Answer {
			return h.patch(t, id, members{"status": "disabled"}, apptest.Header("If-Match", ifMatch))
		},
		"PUT alerts": func(id, ifMatch string) apptest.Answer {
			return h.asAdmin(t, "PUT", "/v1/users/"+id+"/alerts", apptest.JSON(members{"opted_in": false}), apptest.Header("If-Match", ifMatch))
		},
		"DELETE": func(id, ifMatch string) apptest.Answer {
			return h.asAdmin(t, "DELETE", "/v1/users/"+id, apptest.Header("If-Match", ifMatch))
		},
		"redaction": func(id, ifMatch string) apptest.Answer {
			return h.asAdmin(t, "POST", "/v1/users/"+id+"/redaction", apptest.Header("If-Match", ifMatch))
		},
	}
	for what, change := range changes {
		for ifMatch, want := range map[string]int{
			`"2"`: 200, `*`: 200, ` * `: 200, `"1", "2"`: 200, `"2","7"`: 200, `W/"2", "2"`: 200,
			`"1"`: 412, `"3"`: 412, `"1", "3"`: 412, `W/"2"`: 412, `2`: 412, `"2`: 412, `"two"`: 412, `""`: 412, `"02x"`: 412, `garbage`: 412,
			`"*"`: 412, `"99999999999999999999"`: 412,
		} {
			one := h.create(t, named("If", "Match", fresh("if-match")+"@acme.example"))
			h.patch(t, one.ID, members{"first_name": "Second"}).Want(t, 200)
			before := h.asAdmin(t, "GET", "/v1/users/"+one.ID).Want(t, 200)
			answer := change(one.ID, ifMatch)
			if answer.Status != want {
				t.Errorf("%s with If-Match: %s: got %d, want %d: %s", what, ifMatch, answer.Status, want, answer.Body)
			}
			if want != 412 {
				continue
			}
			answer.WantProblem(t, 412, "precondition-failed")
			if after := h.asAdmin(t, "GET", "/v1/users/"+one.ID).Want(t, 200); string(after.Body) != string(before.Body) {
				t.Errorf("%s with If-Match: %s changed the user", what, ifMatch)
			}
		}
	}
	// The tag of an answer is the one to send next.
	one := h.create(t, named("If", "Match", fresh("if-match")+"@acme.example"))
	tag := `"1"`
	for range 3 {
		tag = h.patch(t, one.ID, members{"first_name": fresh("Name")}, apptest.Header("If-Match", tag)).Want(t, 200).Header.Get("ETag")
		alerts := h.asAdmin(t, "GET", "/v1/users/"+one.ID+"/alerts").Want(t, 200).Header.Get("ETag")
		if alerts != tag {
			t.Errorf("the user has the tag %s and the alerts of the user %s", tag, alerts)
		}
	}
	// Of two who saw the same version, one wins.
	var won sync.Map
	var both sync.WaitGroup
	for i := range 8 {
		both.Go(func() {
			answer, err := h.Try(t.Context(), "PATCH", "/v1/users/"+one.ID, apptest.As(h.admin), apptest.Header("If-Match", tag),
				apptest.JSON(members{"first_name": fmt.Sprintf("Winner %d", i)}))
			if err != nil || answer.Status != 200 && answer.Status != 412 {
				t.Errorf("%d %v", answer.Status, err)
			}
			if answer.Status == 200 {
				won.Store(i, true)
			}
		})
	}
	both.Wait()
	count := 0
	won.Range(func(any, any) bool { count++; return true })
	if count != 1 {
		t.Errorf("%d of 8 changed the version that all of them saw", count)
	}
}

func TestPatch(t *testing.T) {
	t.Parallel()
	h := newTenant(t)
	one := h.create(t, named("Ada", "Park", "ada@acme.example"))
	path := "/v1/users/" + one.ID
	for _, change := range []struct {
		body    string
		changed []string
		action  string
	}{
		{`{"first_name":"Ida"}`, []string{"first_name"}, "user.corrected"},
		{`{"last_name":"Haddad-Lind","email":"ida@acme.example"}`, []string{"last_name", "email"}, "user.corrected"},
		{`{"email":"IDA@acme.example"}`, []string{"email"}, "user.corrected"}, // the spelling is a member as well
		{`{"role":"customer","first_name":"Ida"}`, []string{"role"}, "user.corrected"},
		{`{"role":"user","status":"disabled"}`, []string{"role", "status"}, "user.disabled"},
		{`{"status":"active"}`, []string{"status"}, "user.enabled"},
		{`{"first_name":"A","last_name":"B","email":"c@acme.example","role":"customer","status":"disabled"}`,
			[]string{"first_name", "last_name", "email", "role", "status"}, "user.disabled"},
	} {
		before := h.asAdmin(t, "GET", path).Header.Get("ETag")
		answer := h.asAdmin(t, "PATCH", path, apptest.Raw("application/merge-patch+json", change.body)).Want(t, 200)
		if answer.Header.Get("ETag") == before {
			t.Errorf("%s: the tag stays", change.body)
		}
		entry := h.newestEntry(t)
		if entry.Action != change.action || entry.Target.ID != one.ID || !slices.Equal(entry.Changed, change.changed) ||
			string(entry.Details) != "{}" {
			t.Errorf("%s is recorded as %+v", change.body, entry)
		}
		// What is so already is no change: no entry, the same tag, the same time.
		noted := h.newestEntry(t).ID
		again := h.asAdmin(t, "PATCH", path, apptest.Raw("application/json", change.body)).Want(t, 200)
		if string(again.Body) != string(answer.Body) || again.Header.Get("ETag") != answer.Header.Get("ETag") || h.newestEntry(t).ID != noted {
			t.Errorf("%s: repeated, it changed something", change.body)
		}
	}
	for _, body := range []string{
		`{"first_name":null}`, `{"email":null}`, `{"role":null}`, `{"status":null}`, `{"status":"redacted"}`, `{"role":"operator"}`,
		`{"id":"` + one.ID + `"}`, `{"password":"x"}`, `{"version":1}`,
		`{"alerts":{"opted_in":false}}`, `{"customer_id":"` + h.acme.ID.String() + `"}`, `{}`, `[{"op":"replace","path":"/first_name","value":"X"}]`,
	} {
		h.asAdmin(t, "PATCH", path, apptest.Raw("application/merge-patch+json", body)).WantProblem(t, 400, "malformed-request")
	}
	h.asAdmin(t, "PATCH", path, apptest.Raw("application/json-patch+json", `[]`)).WantProblem(t, 415, "unsupported-media-type")
	// Nothing of it is done if one member cannot be.
	tag := h.asAdmin(t, "GET", path).Header.Get("ETag")
	h.patch(t, one.ID, members{"first_name": "Halfway", "email": h.acme.User.Email}).WantProblem(t, 409, "email-taken")
	h.patch(t, one.ID, members{"first_name": "Halfway", "email": "none"}).WantProblem(t, 422, "invalid-email")
	if h.asAdmin(t, "GET", path).Header.Get("ETag") != tag {
		t.Error("a refused patch changed something")
	}
	// The trail holds names of members, never a value.
	var trail string
	peek(t, h.Service, "select string_agg(e::text, ' ') from audit_entries e", &trail)
	for _, value := range []string{"Haddad", "Ida", "ida@", "Park"} {
		if strings.Contains(trail, value) {
			t.Errorf("the trail holds %s", value)
		}
	}
}

func TestMailDomainPolicy(t *testing.T) {
	t.Parallel()
	h := newTenant(t)
	policy := func(policy string, domains ...string) {
		t.Helper()
		h.asAdmin(t, "PATCH", "/v1/customer", apptest.JSON(members{"mail_domains": members{"policy": policy,
			"domains": append([]string{}, domains...)}})).Want(t, 200)
	}
	outside := h.create(t, named("Out", "Side", "out@elsewhere.example"))
	policy("off", "acme.example")
	if h.create(t, named("A", "B", "a@elsewhere.example")).EmailFlagged {
		t.Error("flagged although the policy is off")
	}
	policy("flag", "ACME.example", "bücher.example", "acme.example.")
	for address, flagged := range map[string]bool{
		"b@acme.example": false, "b@ACME.Example": false, "b@xn--bcher-kva.example": false, "b@BÜCHER.example": false, "b@sub.acme.example": true,
		"b@elsewhere.example": true,
		"b@notacme.example":   true, "b@acme.example.org": true,
	} {
		one := h.create(t, named("A", "B", fresh("m")+address))
		if one.EmailFlagged != flagged {
			t.Errorf("%s: flagged %v, want %v", address, one.EmailFlagged, flagged)
		}
	}
	// Those who were there before are flagged too, and the flag goes with the address.
	var shown userView
	h.asAdmin(t, "GET", "/v1/users/"+outside.ID).Into(t, &shown)
	if !shown.EmailFlagged {
		t.Error("whoever was there before the policy is not flagged")
	}
	h.patch(t, outside.ID, members{"email": "in@acme.example"}).Want(t, 200).Into(t, &shown)
	if shown.EmailFlagged {
		t.Error("flagged although the address is inside now")
	}
	policy("refuse", "acme.example")
	h.asAdmin(t, "POST", "/v1/users", apptest.JSON(named("A", "B", "c@elsewhere.example"))).WantProblem(t, 422, "foreign-mail-domain")
	h.patch(t, outside.ID, members{"email": "c@elsewhere.example"}).WantProblem(t, 422, "foreign-mail-domain")
	h.patch(t, outside.ID, members{"email": "c@elsewhere.example", "status": "disabled"}).WantProblem(t, 422, "foreign-mail-domain")
	h.create(t, named("A", "B", "c@acme.example"))
	// Whoever is outside already can still be corrected otherwise.
	for _, one := range h.list(t, "q=mb@elsewhere") {
		h.patch(t, one.ID, members{"last_name": "Corrected"}).Want(t, 200)
	}
	policy("refuse") // with no domain listed, every address is foreign
	h.asAdmin(t, "POST", "/v1/users", apptest.JSON(named("A", "B", "d@acme.example"))).WantProblem(t, 422, "foreign-mail-domain")
	for _, domain := range []string{"acme", "a b.example", "@acme.example", "*.acme.example", "acme..example", ".", "-x.example"} {
		h.asAdmin(t, "PATCH", "/v1/customer", apptest.JSON(members{"mail_domains": members{"policy": "flag",
			"domains": []string{"x.example", domain}}})).
			WantProblem(t, 400, "malformed-request")
	}
}

// TestRolesAndStatusReachSessions: whoever is disabled, demoted or promoted has no session any more within the second, and gets none of the
// old ones back.
func TestRolesAndStatusReachSessions(t *testing.T) {
	t.Parallel()
	h := newTenantAlone(t)
	for what, change := range map[string]struct{ there, back members }{
		"disabled": {members{"status": "disabled"}, members{"status": "active"}}, "promoted": {members{"role": "customer"}, members{"role": "user"}},
	} {
		person := h.Person(t, h.acme, principal.User, fresh("session")+"@acme.example")
		signedIn := call(t, h.Service, "POST", "/v1/sessions", apptest.JSON(members{"customer": h.acme.Slug, "email": person.Email,
			"password": apptest.Password})).Want(t, 201)
		access, refresh := apptest.Credential(signedIn.Text(t, "access_token")), signedIn.Text(t, "refresh_token")
		call(t, h.Service, "GET", "/v1/me", apptest.As(access)).Want(t, 200)
		h.Database.Clock.Advance(time.Second)
		h.patch(t, person.ID.String(), change.there).Want(t, 200)
		h.Database.Clock.Advance(500 * time.Millisecond) // for as long a replica may remember
		call(t, h.Service, "GET", "/v1/me", apptest.As(access)).WantProblem(t, 401, "unauthorized")
		call(t, h.Service, "POST", "/v1/sessions/refresh", apptest.JSON(members{"refresh_token": refresh})).WantProblem(t, 401, "unauthorized")
		again := call(t, h.Service, "POST", "/v1/sessions", apptest.JSON(members{"customer": h.acme.Slug, "email": person.Email,
			"password": apptest.Password}))
		if want := map[string]int{"disabled": 401, "promoted": 201}[what]; again.Status != want {
			t.Errorf("%s: signing in again answers %d, want %d", what, again.Status, want)
		}
		h.patch(t, person.ID.String(), change.back).Want(t, 200)
		h.Database.Clock.Advance(time.Second)
		call(t, h.Service, "GET", "/v1/me", apptest.As(access)).WantProblem(t, 401, "unauthorized")
		call(t, h.Service, "POST", "/v1/sessions/refresh", apptest.JSON(members{"refresh_token": refresh})).WantProblem(t, 401, "unauthorized")
		call(t, h.Service, "GET", "/v1/me", apptest.As(h.SignIn(t, h.acme.Slug, person))).Want(t, 200)
	}
	// Promoted, the person administers; demoted again, not.
	person := h.Person(t, h.acme, principal.User, "climber@acme.example")
	h.patch(t, person.ID.String(), members{"role": "customer"}).Want(t, 200)
	climber := h.SignIn(t, h.acme.Slug, person)
	call(t, h.Service, "GET", "/v1/users", apptest.As(climber)).Want(t, 200)
	h.Database.Clock.Advance(time.Second)
	h.patch(t, person.ID.String(), members{"role": "user"}).Want(t, 200)
	h.Database.Clock.Advance(500 * time.Millisecond)
	call(t, h.Service, "GET", "/v1/users", apptest.As(climber)).WantProblem(t, 401, "unauthorized")
	// Other corrections leave sessions alone.
	mine := h.SignIn(t, h.acme.Slug, person)
	h.Database.Clock.Advance(time.Second)
	h.patch(t, person.ID.String(), members{"first_name": "Steady"}).Want(t, 200)
	call(t, h.Service, "GET", "/v1/me", apptest.As(mine)).Want(t, 200)
}

// TestLastAdministrator: somebody who can sign in always remains to administer the customer.
func TestLastAdministrator(t *testing.T) {
	t.Parallel()
	h := newTenant(t)
	key := apptest.As(h.acme.APIKey)
	id := h.acme.Admin.ID.String()
	attempts := map[string]func(id string) apptest.Answer{
		"delete": func(id string) apptest.Answer { return call(t, h.Service, "DELETE", "/v1/users/"+id, key) },
		"redact": func(id string) apptest.Answer { return call(t, h.Service, "POST", "/v1/users/"+id+"/redaction", key) },
		"demote": func(id string) apptest.Answer {
			return call(t, h.Service, "PATCH", "/v1/users/"+id, key, apptest.JSON(members{"role": "user"}))
		},
		"disable": func(id string) apptest.Answer {
			return call(t, h.Service, "PATCH", "/v1/users/"+id, key, apptest.JSON(members{"status": "disabled", "first_name": "X"}))
		},
	}
	refused := func(why string) {
		t.Helper()
		for what, attempt := range attempts {
			if answer := attempt(id); answer.Status != 409 || answer.Text(t, "type") != "/problems/last-administrator" {
				t.Errorf("%s, %s: %d %s", why, what, answer.Status, answer.Body)
			}
		}
	}
	refused("alone")
	h.create(t, with(named("No", "Password", "no-password@acme.example"), "role", "customer"))
	refused("beside one who has no password yet")
	disabled := h.Person(t, h.acme, principal.Administrator, "disabled@acme.example")
	h.patch(t, disabled.ID.String(), members{"status": "disabled"}).Want(t, 200)
	refused("beside one who is disabled")
	h.Customer(t, apptest.Unique("umbrella"))
	refused("beside one of another customer")
	var plan struct {
		CanDelete         bool `json:"can_delete"`
		CanRedact         bool `json:"can_redact"`
		LastAdministrator bool `json:"last_administrator"`
	}
	h.asAdmin(t, "GET", "/v1/users/"+id+"/erasure-plan").Want(t, 200).Into(t, &plan)
	if !plan.LastAdministrator || plan.CanDelete || plan.CanRedact {
		t.Errorf("the plan says %+v", plan)
	}
	h.patch(t, id, members{"first_name": "Still", "role": "customer", "status": "active"}).Want(t, 200)
	for what, attempt := range attempts {
		second := h.Person(t, h.acme, principal.Administrator, fresh("second")+"@acme.example")
		if answer := attempt(second.ID.String()); answer.Status != 200 {
			t.Errorf("%s one of two: %d %s", what, answer.Status, answer.Body)
		}
	}
	refused("after the second one went")
	// Two who each see the other as the one that remains.
	for range 5 {
		second := h.Person(t, h.acme, principal.Administrator, fresh("second")+"@acme.example").ID.String()
		var both sync.WaitGroup
		statuses := make([]int, 2)
		for i, who := range []string{id, second} {
			both.Go(func() {
				answer, err := h.Try(t.Context(), "PATCH", "/v1/users/"+who, key, apptest.JSON(members{"status": "disabled"}))
				if err != nil {
					t.Error(err)
				}
				statuses[i] = answer.Status
			})
		}
		both.Wait()
		slices.Sort(statuses)
		if !slices.Equal(statuses, []int{http.StatusOK, http.StatusConflict}) {
			t.Errorf("two at once: %v", statuses)
		}
		call(t, h.Service, "PATCH", "/v1/users/"+id, key, apptest.JSON(members{"status": "active"})).Want(t, 200)
		call(t, h.Service, "PATCH", "/v1/users/"+second, key, apptest.JSON(members{"status": "disabled"})).Want(t, 200)
	}
}

// TestIdempotency: repeating any POST with its key does nothing again and answers the same again.
func TestIdempotency(t *testing.T) {
	t.Parallel()
	h := newTenantAlone(t, apptest.WithBackups(t))
	signIn := func() apptest.Answer {
		return call(t, h.Service, "POST", "/v1/sessions", apptest.JSON(members{"customer": h.acme.Slug, "email": h.acme.User.Email,
			"password": apptest.Password})).Want(t, 201)
	}
	victim := h.create(t, named("To", "Redact", "redact@acme.example")).ID
	second := h.SignIn(t, h.acme.Slug, h.Person(t, h.acme, principal.Administrator, "second@acme.example"))
	otherKey := keyOf(t, h.Service, h.acme, allScopes).credential
	refresh := signIn().Text(t, "refresh_token")
	someone := func(prepared string) (as apptest.Credential, code string) {
		as = h.SignIn(t, h.acme.Slug, h.Person(t, h.acme, principal.User, fresh("someone")+"@acme.example"))
		w := &world{Service: h.Service}
		w.prepare(t, prepared, as, 200)
		return as, w.oneTimeCode
	}
	confirming, code := someone("confirmMySecondFactor")
	replacing, recoveryCode := someone("replaceMyRecoveryCodes")
	fusions := apptest.Customer{Slug: "fusions", Admin: h.Operators(t)}
	peek(t, h.Service, "select id from customers where slug = 'fusions'", &fusions.ID)
	operator := h.SignIn(t, "fusions", fusions.Admin)
	colleague := principal.Principal{
		Customer: fusions.ID, User: h.Person(t, fusions, principal.Operator, "second-operator@fusions.example").ID, Role: principal.Operator,
	}
	begun := func(slug string) (path string) {
		leaving := h.Customer(t, slug).ID
		if _, err := h.Offboardings.Begin(t.Context(), colleague, leaving, nil); err != nil {
			t.Fatal(err)
		}
		return "/v1/operator/customers/" + leaving.String() + "/offboarding"
	}
	leaving := h.Customer(t, "leaving")
	waiting(t, h.Service, leaving, colleague, principal.Principal{Customer: fusions.ID, User: fusions.Admin.ID, Role: principal.Operator})
	founded := func(name string) members {
		return members{"slug": "initech", "name": name, "administrator": members{"first_name": "Mina", "last_name": "Rao", "email": "mina@initech.example"}}
	}
	link := forgedLink(t, h.Service, h.acme.ID, h.Person(t, h.acme, principal.User, "forgetful@acme.example").ID)
	asking := func(kind string) (request string) {
		person := h.Person(t, h.acme, principal.User, fresh("asking")+"@acme.example")
		return h.asAdmin(t, "POST", "/v1/data-subject-requests", apptest.JSON(members{"kind": kind, "user_id": person.ID.String()})).Want(t, 201).Text(t, "id")
	}
	hooked, delivery := webhookOf(t, h.Service, h.acme, "http://127.0.0.1:9/hook")
	posts := map[string]struct {
		path          string
		body, other   any
		as, another   apptest.Credential
		status, again int // of the first answer, and of the same request under another credential with the same key
	}{
		"createUser": {"/v1/users", named("Idem", "Potent", "idem@acme.example"), named("Idem", "Potent", "other@acme.example"), h.admin, second,
			201, 409},
		"redactUser": {"/v1/users/" + victim + "/redaction", members{"reason": "other"}, members{}, h.admin, second, 200, 200},
		"createAPIKey": {
			"/v1/api-keys", members{"name": "once", "scopes": []string{"users:read"}}, members{"name": "twice", "scopes": []string{"users:read"}},
			h.admin, second, 201, 201,
		},
		"createAuditEntries": {
			"/v1/audit-entries", entryBy(h.acme.User.ID, nil), entryBy(h.acme.User.ID, members{"action": "product.deleted"}), h.acme.APIKey,
			otherKey, 201, 201,
		},
		"createSession": {
			"/v1/sessions", members{"customer": h.acme.Slug, "email": h.acme.User.Email, "password": apptest.Password},
			members{"customer": h.acme.Slug, "email": strings.ToUpper(h.acme.User.Email), "password": apptest.Password}, "", "", 201, 0,
		},
		"refreshSession": {"/v1/sessions/refresh", members{"refresh_token": refresh}, nil, "", "", 200, 0},
		"rotateAPIKey": {
			"/v1/api-keys/" + keyOf(t, h.Service, h.acme, allScopes).id + "/rotation", members{"overlap_seconds": 60}, members{"overlap_seconds": 61},
			h.admin, second, 201, 201,
		},
		"raiseAlert": {
			"/v1/alerts", members{"severity": "error", "subject": "s", "body": "b"}, members{"severity": "error", "subject": "s", "body": "c"}, h.acme.APIKey, otherKey, 202, 202,
		},
		"enrolMySecondFactor":    {"/v1/me/second-factor", members{"current_password": apptest.Password}, nil, h.admin, second, 201, 201},
		"confirmMySecondFactor":  {"/v1/me/second-factor/confirmation", members{"one_time_code": code}, members{"one_time_code": "000000"}, confirming, "", 200, 0},
		"replaceMyRecoveryCodes": {"/v1/me/recovery-codes", members{"one_time_code": recoveryCode}, members{"one_time_code": "000000"}, replacing, "", 200, 0},
		"createCustomer":         {"/v1/operator/customers", founded("Initech"), founded("Initrode"), operator, "", 201, 0},
		"createDataSubjectRequest": {
			"/v1/data-subject-requests", members{"kind": "objection", "user_id": h.acme.User.ID.String()},
			members{"kind": "access", "user_id": h.acme.User.ID.String()}, h.admin, second, 201, 200,
		},
		"withdrawDataSubjectRequest":    {"/v1/data-subject-requests/" + asking("access") + "/withdrawal", nil, nil, h.admin, second, 200, 200},
		"acknowledgeDataSubjectRequest": {"/v1/operator/data-subject-requests/" + asking("access") + "/acknowledgement", nil, nil, operator, "", 200, 0},
		"fulfilDataSubjectRequest":      {"/v1/operator/data-subject-requests/" + asking("access") + "/fulfilment", nil, nil, operator, "", 200, 0},
		"rejectDataSubjectRequest": {
			"/v1/operator/data-subject-requests/" + asking("access") + "/rejection", members{"reason": "identity_not_verified"}, nil, operator, "", 200, 0,
		},
		"retryJob": {"/v1/operator/jobs/" + deadJob(t, h.Service, h.acme.ID) + "/retry", nil, nil, operator, "", 202, 0},
		"createUserImport": {
			"/v1/user-imports", csvFile("Im,Port,import@acme.example"), csvFile("Im,Port,another@acme.example"), h.admin, second, 201, 201,
		},
		"createWebhookEndpoint": {
			"/v1/webhook-endpoints", members{"url": "http://127.0.0.1:9/one"}, members{"url": "http://127.0.0.1:9/two"}, h.admin, second, 201, 201,
		},
		"rotateWebhookEndpointSecret": {
			"/v1/webhook-endpoints/" + hooked + "/rotation", members{"overlap_seconds": 3600}, members{"overlap_seconds": 60}, h.admin, "", 200, 0,
		},
		"retryWebhookDelivery":   {"/v1/webhook-endpoints/" + hooked + "/deliveries/" + delivery + "/retry", nil, nil, h.admin, "", 202, 0},
		"createBackup":           {"/v1/operator/backups", nil, nil, operator, "", 202, 0},
		"beginOffboarding":       {"/v1/operator/customers/" + h.Customer(t, "staying").ID.String() + "/offboarding", nil, nil, operator, "", 201, 0},
		"approveOffboarding":     {begun("approved") + "/approval", nil, nil, operator, "", 200, 0},
		"cancelOffboarding":      {begun("cancelled") + "/cancellation", nil, nil, operator, "", 200, 0},
		"renewOffboardingBundle": {"/v1/customer/offboarding/bundle", nil, nil, h.SignIn(t, "leaving", leaving.Admin), "", 202, 0},
		"confirmPasswordReset":   {"/v1/password-resets/confirm", members{"token": link, "new_password": nextPassword}, nil, "", "", 204, 0},
	}
	// Those of which a repetition does nothing by itself, or as little as the first time.
	remembersNothing := map[string]any{
		"/v1/password-resets": members{"customer": h.acme.Slug, "email": h.acme.User.Email}, "/v1/api-keys/leaks": members{"api_key": keyOf(t, h.Service, h.acme, allScopes).credential},
	}
	for _, operation := range h.API.Operations() {
		if operation.Method != "POST" || operation.Tag == "pages" { // forms and mail programs send no such header
			continue
		}
		if operation.ID == "testWebhookEndpoint" { // a ping goes out each time that one is asked for, and is kept nowhere
			continue
		}
		if body, known := remembersNothing[operation.Path]; known && operation.Idempotent {
			for range 2 {
				answer := call(t, h.Service, "POST", operation.Path, apptest.JSON(body), apptest.Header("Idempotency-Key", "the-key"))
				if answer.Status >= 300 || len(answer.Body) > 0 {
					t.Errorf("%s: %d %s", operation.ID, answer.Status, answer.Body)
				}
			}
			continue
		}
		post, ok := posts[operation.ID]
		if !ok || !operation.Idempotent {
			t.Errorf("%s: every POST takes an Idempotency-Key and has a row here", operation.ID)
			continue
		}
		send := func(key string, credential apptest.Credential, body any) apptest.Answer {
			options := []apptest.Option{apptest.Header("Idempotency-Key", key)}
			switch body := body.(type) {
			case nil:
			case apptest.Option:
				options = append(options, body)
			default:
				options = append(options, apptest.JSON(body))
			}
			if credential != "" {
				options = append(options, apptest.As(credential))
			}
			return call(t, h.Service, "POST", post.path, options...)
		}
		key := "the-key" // the same for all: other operations and credentials must not meet in it
		if operation.ID == "createSession" || operation.ID == "refreshSession" {
			key = operation.ID
		} else {
			key += operation.ID
		}
		first := send(key, post.as, post.body).Want(t, post.status)
		if first.Header.Get("Idempotency-Replayed") != "" {
			t.Errorf("%s: the first answer says that it was replayed", operation.ID)
		}
		for range 2 {
			again := send(key, post.as, post.body)
			same := string(again.Body) == string(first.Body) && again.Status == first.Status
			for _, name := range []string{"Content-Type", "ETag", "Location", "Cache-Control"} {
				same = same && again.Header.Get(name) == first.Header.Get(name)
			}
			if !same || again.Header.Get("Idempotency-Replayed") != "true" {
				t.Errorf("%s again: %d %v %s\nfirst: %d %v %s", operation.ID, again.Status, again.Header, again.Body, first.Status, first.Header,
					first.Body)
			}
		}
		if post.other != nil {
			send(key, post.as, post.other).WantProblem(t, 422, "idempotency-key-reused")
		}
		if post.again != 0 {
			if answer := send(key, post.another, post.body); answer.Status != post.again || answer.Header.Get("Idempotency-Replayed") != "" {
				t.Errorf("%s under another credential: %d %s", operation.ID, answer.Status, answer.Body)
			}
		}
	}
	// A key stands for its path too.
	h.asAdmin(t, "POST", "/v1/users", apptest.JSON(named("A", "B", "path@acme.example")), apptest.Header("Idempotency-Key", "path")).Want(t, 201)
	h.asAdmin(t, "POST", "/v1/users/"+victim+"/redaction", apptest.Header("Idempotency-Key", "path")).WantProblem(t, 422, "idempotency-key-reused")
	// Written otherwise, it is the same request.
	h.asAdmin(t, "POST", "/v1/users", apptest.Raw("application/json", `{ "email":"path@acme.example", "last_name":"B","first_name":"\u0041"}`),
		apptest.Header("Idempotency-Key", "path")).Want(t, 201)
}

func TestIdempotencyOfFailuresAndItsEnd(t *testing.T) {
	t.Parallel()
	h := newTenantAlone(t)
	key := apptest.Header("Idempotency-Key", "key")
	body := apptest.JSON(named("A", "B", "late@acme.example"))
	// A failure is not remembered: once its cause is gone, the same request succeeds.
	first := h.create(t, named("In", "TheWay", "late@acme.example"))
	h.asAdmin(t, "POST", "/v1/users", body, key).WantProblem(t, 409, "email-taken")
	h.asAdmin(t, "DELETE", "/v1/users/"+first.ID).Want(t, 200)
	made := h.asAdmin(t, "POST", "/v1/users", body, key).Want(t, 201)
	unknown := entryBy(h.acme.User.ID, members{"actor_user_id": first.ID})
	send := func(value any) apptest.Answer {
		return call(t, h.Service, "POST", "/v1/audit-entries", apptest.As(h.acme.APIKey), key, apptest.JSON(value))
	}
	send(unknown).WantProblem(t, 422, "unknown-actor")
	send(entryBy(h.acme.User.ID, nil)).Want(t, 201)
	wrong := members{"customer": h.acme.Slug, "email": h.acme.User.Email, "password": "not the password at all"}
	call(t, h.Service, "POST", "/v1/sessions", key, apptest.JSON(wrong)).WantProblem(t, 401, "invalid-credentials")
	right := with(wrong, "password", apptest.Password)
	tokens := call(t, h.Service, "POST", "/v1/sessions", key, apptest.JSON(right)).Want(t, 201)
	// A key that was good once does not make a wrong password good.
	call(t, h.Service, "POST", "/v1/sessions", key, apptest.JSON(wrong)).WantProblem(t, 401, "invalid-credentials")
	if again := call(t, h.Service, "POST", "/v1/sessions", key, apptest.JSON(right)).Want(t, 201); string(again.Body) != string(tokens.Body) {
		t.Error("another session was opened")
	}
	// What is remembered of a person ends with the person.
	h.asAdmin(t, "POST", "/v1/users/"+made.Text(t, "id")+"/redaction").Want(t, 200)
	h.asAdmin(t, "POST", "/v1/users", body, key).WantProblem(t, 409, "idempotency-answer-erased")

	stay := apptest.JSON(members{"name": "stay", "scopes": []string{"users:read"}})
	once := h.asAdmin(t, "POST", "/v1/api-keys", stay, apptest.Header("Idempotency-Key", "day")).Want(t, 201).Text(t, "api_key")
	h.Database.Clock.Advance(24*time.Hour - time.Second)
	h.admin = h.SignIn(t, h.acme.Slug, h.acme.Admin) // the person is the credential, not the session
	if again := h.asAdmin(t, "POST", "/v1/api-keys", stay, apptest.Header("Idempotency-Key", "day")).Want(t, 201).Text(t, "api_key"); again != once {
		t.Error("within the day, the same key was made anew")
	}
	h.Database.Clock.Advance(time.Second)
	if again := h.asAdmin(t, "POST", "/v1/api-keys", stay, apptest.Header("Idempotency-Key", "day")).Want(t, 201); again.Text(t, "api_key") == once ||
		again.Header.Get("Idempotency-Replayed") != "" {
		t.Error("after a day, the answer was given again")
	}
	// Many at once: one does it, the others get its answer or are told to wait.
	var all sync.WaitGroup
	ids := make([]string, 8)
	for i := range ids {
		all.Go(func() {
			answer, err := h.Try(t.Context(), "POST", "/v1/users", apptest.As(h.admin), apptest.Header("Idempotency-Key", "many"),
				apptest.JSON(named("A", "B", "many@acme.example")))
			if err != nil || answer.Status != 201 && answer.Status != 409 || answer.Status == 409 && answer.Header.Get("Retry-After") == "" {
				t.Errorf("%v %d %s", err, answer.Status, answer.Body)
			} else if answer.Status == 201 {
				ids[i] = answer.Text(t, "id")
			}
		})
	}
	all.Wait()
	slices.Sort(ids)
	if ids = slices.DeleteFunc(slices.Compact(ids), func(id string) bool { return id == "" }); len(ids) != 1 {
		t.Errorf("made %v", ids)
	}
}
