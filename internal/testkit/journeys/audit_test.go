package journeys

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fusionspim/steward/internal/account/apikey"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/testkit/apptest"
)

// allScopes is an API key that may do everything that any key may.
var allScopes = apikey.New{Name: "all", Scopes: principal.Scopes()}

// trailEntry is an entry as the API shows it.
type trailEntry struct {
	ID       string  `json:"id"`
	Source   string  `json:"source"`
	SourceID *string `json:"source_id"`
	Actor    struct {
		Type     string  `json:"type"`
		UserID   *string `json:"user_id"`
		APIKeyID *string `json:"api_key_id"`
		Redacted bool    `json:"redacted"`
		Label    *string `json:"label"`
	} `json:"actor"`
	Action string `json:"action"`
	Target struct {
		Type string `json:"type"`
		ID   string `json:"id"`
	} `json:"target"`
	Changed    []string        `json:"changed"`
	Details    json.RawMessage `json:"details"`
	OccurredAt time.Time       `json:"occurred_at"`
	RecordedAt time.Time       `json:"recorded_at"`
}

// results are what became of the entries that were sent.
type results struct {
	Data []struct {
		Status   string `json:"status"`
		ID       string `json:"id"`
		SourceID string `json:"source_id"`
		Problem  struct {
			Type    string `json:"type"`
			Pointer string `json:"pointer"`
		} `json:"problem"`
	} `json:"data"`
	Created  int `json:"created"`
	Existing int `json:"existing"`
	Refused  int `json:"refused"`
}

// record sends entries with acme's API key.
func (h *tenant) record(t testing.TB, body any) apptest.Answer {
	t.Helper()
	return call(t, h.Service, "POST", "/v1/audit-entries", apptest.As(h.acme.APIKey), apptest.JSON(body))
}

func (h *tenant) recorded(t testing.TB, body any) (out results) {
	t.Helper()
	h.record(t, body).Want(t, 200).Into(t, &out)
	return out
}

func (h *tenant) trail(t testing.TB, query string) []trailEntry {
	t.Helper()
	var page struct{ Data []trailEntry }
	h.asAdmin(t, "GET", strings.TrimSuffix("/v1/audit-entries?limit=200&"+query, "&")).Want(t, 200).Into(t, &page)
	return page.Data
}

func TestOneEntry(t *testing.T) {
	t.Parallel()
	h := newTenant(t)
	entry := entryBy(h.acme.User.ID, members{"source_id": "pim-1", "details": members{"changed": []string{"price"}, "revision": 7}})
	var first, again results
	h.record(t, entry).Want(t, 201).Into(t, &first)
	h.record(t, entry).Want(t, 200).Into(t, &again)
	if first.Created != 1 || again.Existing != 1 || again.Data[0].Status != "existing" || again.Data[0].ID != first.Data[0].ID ||
		first.Data[0].SourceID != "pim-1" {
		t.Errorf("first %+v\nagain %+v", first, again)
	}
	shown := h.trail(t, "target_id=48151623")
	if len(shown) != 1 {
		t.Fatalf("the trail shows %+v", shown)
	}
	one := shown[0]
	if one.ID != first.Data[0].ID || one.Source != "integration" || *one.SourceID != "pim-1" || one.Actor.Type != "user" ||
		*one.Actor.UserID != h.acme.User.ID.String() ||
		one.Actor.Redacted || one.Action != "product.updated" || one.Target.Type != "product" || len(one.Changed) != 0 ||
		!one.OccurredAt.Equal(time.Date(2026, 2, 28, 9, 30, 0, 0, time.UTC)) || !one.RecordedAt.Equal(h.Database.Clock.Now()) {
		t.Errorf("the trail shows %+v", one)
	}
	var details map[string]any
	if err := json.Unmarshal(one.Details, &details); err != nil || fmt.Sprint(details) != "map[changed:[price] revision:7]" {
		t.Errorf("details %s", one.Details)
	}
	// Refused by itself, an entry is a problem of the request.
	h.record(t, with(entry, "action", "product.deleted")).WantProblem(t, 409, "source-id-reused")
	unknown := h.record(t, entryBy(id.New[id.User](), nil)).WantProblem(t, 422, "unknown-actor")
	if !strings.Contains(string(unknown.Body), `"pointer":"/actor_user_id"`) {
		t.Errorf("%s", unknown.Body)
	}
	future := h.Database.Clock.Now().Add(5*time.Minute + time.Second).Format(time.RFC3339)
	h.record(t, entryBy(h.acme.User.ID, members{"occurred_at": future})).WantProblem(t, 422, "invalid-entry")
	clockSkew := h.Database.Clock.Now().Add(5 * time.Minute).Format(time.RFC3339) // other people's clocks may run ahead a little
	h.record(t, entryBy(h.acme.User.ID, members{"occurred_at": clockSkew})).Want(t, 201)
	// Without a source_id, each is an entry of its own; a batch of one answers like a batch.
	for range 2 {
		h.record(t, entryBy(h.acme.User.ID, nil)).Want(t, 201)
	}
	if got := h.recorded(t, []any{entryBy(h.acme.User.ID, nil)}); got.Created != 1 {
		t.Errorf("%+v", got)
	}
	for what, at := range map[string]string{
		"a zone": "2026-02-28T11:30:00+02:00", "fractions": "2026-02-28T09:30:00.123456789Z", "long ago": "0001-01-01T00:00:00Z",
		"small letters": "2026-02-28T09:30:00.5Z",
	} {
		if answer := h.record(t, entryBy(h.acme.User.ID, members{"occurred_at": at,
			"source_id": "at-" + at[:4] + fresh("x")})); answer.Status != 201 {
			t.Errorf("%s: %d %s", what, answer.Status, answer.Body)
		}
	}
	for what, at := range map[string]string{
		"year 0": "0000-01-01T00:00:00Z", "before year 1 in UTC": "0001-01-01T00:00:00+01:00", "no zone": "2026-02-28T09:30:00",
		"February 30th": "2026-02-30T00:00:00Z",
		"hour 24":       "2026-02-28T24:00:00Z", "a blank": "2026-02-28 09:30:00Z", "a comma": "2026-02-28T09:30:00,5Z", "a date": "2026-02-28",
		"leap second": "2026-02-28T23:59:60Z",
	} {
		if answer := h.record(t, entryBy(h.acme.User.ID, members{"occurred_at": at})); answer.Status != 400 {
			t.Errorf("%s: %d %s", what, answer.Status, answer.Body)
		}
	}
}

// TestSayingTheSame: repeating is safe however the same thing is written, and only for the same thing.
func TestSayingTheSame(t *testing.T) {
	t.Parallel()
	h := newTenant(t)
	second := h.Person(t, h.acme, principal.User, "second@acme.example").ID
	base := entryBy(h.acme.User.ID, members{"source_id": "same", "details": members{"b": 1, "a": []string{"x", "y"}}})
	h.record(t, base).Want(t, 201)
	for what, change := range map[string]members{
		"another zone": {"occurred_at": "2026-02-28T10:30:00+01:00"}, "beyond the microsecond": {"occurred_at": "2026-02-28T09:30:00.0000001Z"},
		"members in another order":  {"details": json.RawMessage(`{"a": ["x","y"], "b": 1.0}`)},
		"capital letters in the id": {"actor_user_id": strings.ToUpper(h.acme.User.ID.String())},
	} {
		sent := maps.Clone(base)
		maps.Copy(sent, change)
		if got := h.recorded(t, []any{sent}); got.Existing != 1 {
			t.Errorf("%s: %+v", what, got)
		}
	}
	for what, change := range map[string]members{
		"actor": {"actor_user_id": second.String()}, "action": {"action": "x"}, "type": {"target": members{"type": "x", "id": "48151623"}},
		"target": {"target": members{"type": "product", "id": "1"}},
		"time":   {"occurred_at": "2026-02-28T09:30:00.000001Z"}, "details": {"details": members{"b": 2, "a": []string{"x", "y"}}},
		"order":      {"details": members{"b": 1, "a": []string{"y", "x"}}},
		"no details": {"details": members{}},
	} {
		sent := maps.Clone(base)
		maps.Copy(sent, change)
		if got := h.recorded(t, []any{sent}); got.Refused != 1 || got.Data[0].Problem.Type != "/problems/source-id-reused" ||
			got.Data[0].Problem.Pointer != "/0/source_id" {
			t.Errorf("another %s: %+v", what, got)
		}
	}
	if got := h.recorded(t, []any{without(base, "details")}); got.Refused != 1 {
		t.Errorf("without details: %+v", got)
	}
	// Another customer has source ids of its own.
	other := h.Customer(t, apptest.Unique("umbrella"))
	sent := with(base, "actor_user_id", other.User.ID.String())
	call(t, h.Service, "POST", "/v1/audit-entries", apptest.As(other.APIKey), apptest.JSON(sent)).Want(t, 201)
}

// TestABatch: each row is answered in its place, and the good ones are stored even when others are refused.
func TestABatch(t *testing.T) {
	t.Parallel()
	h := newTenantAlone(t)
	other := h.Customer(t, apptest.Unique("umbrella"))
	clock := h.Database.Clock
	redacted, deleted := h.Person(t, h.acme, principal.User, "redacted@acme.example").ID,
		h.Person(t, h.acme, principal.User, "deleted@acme.example").ID
	disabled := h.Person(t, h.acme, principal.User, "disabled@acme.example").ID
	h.patch(t, disabled.String(), members{"status": "disabled"}).Want(t, 200)
	h.asAdmin(t, "DELETE", "/v1/users/"+deleted.String()).Want(t, 200)
	h.asAdmin(t, "POST", "/v1/users/"+redacted.String()+"/redaction").Want(t, 200)
	redactedAt := clock.Now()
	clock.Advance(time.Hour)
	h.admin = h.SignIn(t, h.acme.Slug, h.acme.Admin)
	h.record(t, entryBy(h.acme.User.ID, members{"source_id": "there"})).Want(t, 201)
	at := func(when time.Time) members { return members{"occurred_at": when.Format(time.RFC3339Nano)} }
	rows := []struct {
		entry   members
		status  string
		problem string
		pointer string
	}{
		{entryBy(h.acme.User.ID, nil), "created", "", ""},
		{entryBy(h.acme.User.ID, members{"source_id": "there"}), "existing", "", ""},
		{entryBy(h.acme.User.ID, members{"source_id": "there", "action": "other"}), "refused", "source-id-reused", "/2/source_id"},
		{entryBy(id.New[id.User](), nil), "refused", "unknown-actor", "/3/actor_user_id"},
		{entryBy(other.User.ID, nil), "refused", "unknown-actor", "/4/actor_user_id"},
		{entryBy(deleted, nil), "refused", "unknown-actor", "/5/actor_user_id"},
		{entryBy(redacted, at(redactedAt.Add(time.Second))), "refused", "user-redacted", "/6/actor_user_id"},
		{entryBy(redacted, at(redactedAt.Add(-time.Second))), "created", "", ""}, // late news of what was before
		{entryBy(redacted, at(redactedAt)), "created", "", ""},
		{entryBy(disabled, nil), "created", "", ""},
		{entryBy(h.acme.User.ID, at(clock.Now().Add(time.Hour))), "refused", "invalid-entry", "/10/occurred_at"},
		{entryBy(h.acme.User.ID, members{"source_id": "twice"}), "created", "", ""},
		{entryBy(h.acme.User.ID, members{"source_id": "twice"}), "existing", "", ""},
		{entryBy(h.acme.User.ID, members{"source_id": "twice", "action": "other"}), "refused", "source-id-reused", "/13/source_id"},
		{entryBy(h.acme.Admin.ID, members{"source_id": "last"}), "created", "", ""},
	}
	var sent []any
	counts := map[string]int{}
	for _, row := range rows {
		sent = append(sent, row.entry)
		counts[row.status]++
	}
	before := len(h.trail(t, ""))
	got := h.recorded(t, sent)
	if got.Created != counts["created"] || got.Existing != counts["existing"] || got.Refused != counts["refused"] || len(got.Data) != len(rows) {
		t.Errorf("%+v", got)
	}
	for i, row := range rows {
		result := got.Data[i]
		problem := ""
		if row.problem != "" {
			problem = "/problems/" + row.problem
		}
		if result.Status != row.status || result.Problem.Type != problem || result.Problem.Pointer != row.pointer ||
			(result.ID != "") != (row.status != "refused") {
			t.Errorf("row %d: %+v, want %+v", i, result, row)
		}
	}
	if got.Data[11].ID != got.Data[12].ID {
		t.Error("a row that came twice is two entries")
	}
	if added := len(h.trail(t, "")) - before; added != counts["created"] {
		t.Errorf("%d entries were added, want %d", added, counts["created"])
	}
	// Sent again as a whole, nothing with a source_id is added.
	if again := h.recorded(t, sent); again.Created != 4 || again.Existing != 4 {
		t.Errorf("again: %+v", again)
	}
	// One malformed row spoils the batch: that is a fault of the program that sends it, and nothing is stored.
	before = len(h.trail(t, ""))
	h.record(t, append(sent, entryBy(h.acme.User.ID, members{"action": "Free Text"}))).WantProblem(t, 400, "malformed-request")
	if len(h.trail(t, "")) != before {
		t.Error("a malformed batch was stored in part")
	}
	// A redacted actor shows by the label and no more.
	shown := h.trail(t, "actor_user_id="+redacted.String())
	if len(shown) != 4 || !shown[0].Actor.Redacted || shown[0].Actor.Label == nil || !strings.HasPrefix(*shown[0].Actor.Label, "Redacted user ") {
		t.Errorf("%+v", shown)
	}
}

func TestAThousandEntries(t *testing.T) {
	t.Parallel()
	h := newTenant(t)
	var sent []any
	for i := range 1001 {
		sent = append(sent, entryBy(h.acme.User.ID, members{"source_id": fmt.Sprint("bulk-", i),
			"details": members{"n": i, "changed": []string{"price", "stock"}}}))
	}
	h.record(t, sent).WantProblem(t, 400, "malformed-request")
	got := h.recorded(t, sent[:1000])
	if got.Created != 1000 {
		t.Errorf("created %d, existing %d, refused %d", got.Created, got.Existing, got.Refused)
	}
	if again := h.recorded(t, sent[1:]); again.Existing != 999 || again.Created != 1 {
		t.Errorf("again: created %d, existing %d, refused %d", again.Created, again.Existing, again.Refused)
	}
	// The pages of the trail are whole, newest first.
	var seen []string
	path := "/v1/audit-entries?limit=200&target_type=product"
	for path != "" {
		answer := h.asAdmin(t, "GET", path).Want(t, 200)
		var page struct{ Data []trailEntry }
		answer.Into(t, &page)
		for _, entry := range page.Data {
			seen = append(seen, *entry.SourceID)
		}
		if path = nextOf(t, answer); path != "" && len(page.Data) == 200 && len(seen) == 200 {
			h.record(t, entryBy(h.acme.User.ID, nil)).Want(t, 201) // what is added meanwhile does not shift the pages
		}
	}
	if len(seen) != 1001 || seen[0] != "bulk-1000" || seen[1000] != "bulk-0" {
		t.Errorf("%d entries from %s to %s", len(seen), seen[0], seen[len(seen)-1])
	}
}

// TestDetails: what cannot be erased must not need erasing, so there is no room for free text.
func TestDetails(t *testing.T) {
	t.Parallel()
	h := newTenant(t)
	many := func(n int) members {
		object := members{}
		for i := range n {
			object[fmt.Sprintf("m%d", i)] = i
		}
		return object
	}
	for _, details := range []any{
		members{}, members{"revision": 7}, members{"n": -9007199254740991}, members{"ok": true}, members{"word": "price"},
		members{"w": "a.b_c:d-e"}, members{"id": id.New[id.User]().String()},
		members{"at": "2026-01-01T00:00:00Z"}, members{"at": "2026-01-01T00:00:00.25+01:00"}, members{"list": []string{"first_name", "email"}},
		members{"list": []string{}}, many(20),
		members{"list": slices.Repeat([]string{"x"}, 50)}, members{"w": strings.Repeat("x", 64)}, json.RawMessage(`{"n":1.0}`),
		json.RawMessage(`{"n":1e3}`),
	} {
		if answer := h.record(t, entryBy(h.acme.User.ID, members{"details": details})); answer.Status != 201 {
			t.Errorf("%v: %d %s", details, answer.Status, answer.Body)
		}
	}
	for _, details := range []any{
		members{"w": "Free text"}, members{"w": "Ada"}, members{"w": "ada@acme.example"}, members{"w": "two words"}, members{"w": ""},
		members{"w": "é"}, members{"n": 1.5}, members{"n": nil},
		members{"o": members{"a": 1}}, members{"list": []int{1}}, members{"list": []any{[]string{"x"}}}, members{"list": []string{"Ada"}},
		members{"list": slices.Repeat([]string{"x"}, 51)}, many(21),
		members{"w": strings.Repeat("x", 65)}, members{"n": 9007199254740992}, json.RawMessage(`{"n":1e300}`), json.RawMessage(`{"n":"\u0000"}`),
		[]any{}, "text", 7, json.RawMessage("null"),
		members{"at": "2026-01-01T00:00:00"}, members{"Ada Park <ada@acme.example>": 1}, members{"ada@acme.example": true}, members{"": 1},
		members{"Ada": 1}, members{strings.Repeat("x", 65): 1},
	} {
		answer := h.record(t, entryBy(h.acme.User.ID, members{"details": details}))
		if answer.Status != 400 && answer.Status != 422 || strings.Contains(string(answer.Body), "ada@") {
			t.Errorf("%v: %d %s", details, answer.Status, answer.Body)
		}
	}
	for name, bad := range map[string]any{
		"action": "Product updated", "source_id": "with blank", "target": members{"type": "product", "id": "Ada Park"}, "actor_user_id": "me",
	} {
		h.record(t, entryBy(h.acme.User.ID, members{name: bad})).WantProblem(t, 400, "malformed-request")
	}
}

func TestFiltersOfTheTrail(t *testing.T) {
	t.Parallel()
	h := newTenant(t)
	user, admin := h.acme.User.ID, h.acme.Admin.ID
	var sent []any
	for i, entry := range []members{
		entryBy(user, members{"occurred_at": "2026-01-01T00:00:00Z"}), entryBy(user,
			members{"occurred_at": "2026-01-02T00:00:00Z", "action": "product.deleted"}),
		entryBy(admin, members{"occurred_at": "2026-01-03T00:00:00Z", "target": members{"type": "channel", "id": "A/b:c.d-e_f"}}),
		entryBy(admin, members{"occurred_at": "2026-01-04T00:00:00.5Z", "target": members{"type": "channel", "id": "48151623"}}),
	} {
		sent = append(sent, with(entry, "source_id", fmt.Sprint(i)))
	}
	h.recorded(t, sent)
	for query, want := range map[string]string{
		"actor_user_id=" + user.String(): "1 0", "actor_user_id=" + strings.ToUpper(user.String()): "1 0", "actor_user_id=" + admin.String(): "3 2",
		"actor_user_id=" + id.New[id.User]().String(): "", "action=product.deleted": "1", "action=product": "", "target_type=channel": "3 2",
		"target_id=48151623":                     "3 1 0",
		"target_type=channel&target_id=48151623": "3", "target_id=A/b:c.d-e_f": "2", "target_id=A%2Fb%3Ac.d-e_f": "2",
		"from=2026-01-02T00:00:00Z&target_type=product": "1",
		"to=2026-01-02T00:00:00Z":                       "0", "from=2026-01-02T00:00:00Z&to=2026-01-04T00:00:00.5Z": "2 1",
		"from=2026-01-02T01:00:00%2B01:00&to=2026-01-03T00:00:00Z": "1",
		"from=2026-01-05T00:00:00Z&to=2026-01-01T00:00:00Z":        "", "from=0001-01-01T00:00:00Z&to=2026-01-01T00:00:00.000001Z": "0",
		"to=9999-12-31T23:59:59Z&target_type=channel&action=product.updated": "3 2",
	} {
		var got []string
		for _, entry := range h.trail(t, query) {
			if entry.SourceID != nil {
				got = append(got, *entry.SourceID)
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("?%s: %v, want %s", query, got, want)
		}
	}
	var page struct{ Data []trailEntry }
	other := h.Customer(t, apptest.Unique("umbrella"))
	call(t, h.Service, "GET", "/v1/audit-entries?actor_user_id="+user.String(), apptest.As(other.APIKey)).Want(t, 200).Into(t, &page)
	if len(page.Data) != 0 {
		t.Errorf("another customer sees %+v", page.Data)
	}
}

// TestEveryActIsRecorded: no act of an administrator or a key without its entry, which says who, what and which members.
func TestEveryActIsRecorded(t *testing.T) {
	t.Parallel()
	h := newTenant(t)
	var last struct{ made, key string } // what the act before made
	acts := []struct {
		what    string
		byKey   bool // whether API keys can do it too
		do      func(by apptest.Option) apptest.Answer
		action  string
		target  func() (kind, id string)
		changed []string
	}{
		{"create a user", true, func(by apptest.Option) apptest.Answer {
			answer := call(t, h.Service, "POST", "/v1/users", by, apptest.JSON(named("A", "B", fresh("act")+"@acme.example")))
			last.made = answer.Text(t, "id")
			return answer
		}, "user.created", func() (string, string) { return "user", last.made }, []string{}},
		{"correct a user", true, func(by apptest.Option) apptest.Answer {
			return call(t, h.Service, "PATCH", "/v1/users/"+last.made, by, apptest.JSON(members{"last_name": "C", "first_name": "A"}))
		}, "user.corrected", func() (string, string) { return "user", last.made }, []string{"last_name"}},
		{"opt out", true, func(by apptest.Option) apptest.Answer {
			return call(t, h.Service, "PUT", "/v1/users/"+last.made+"/alerts", by, apptest.JSON(members{"opted_in": false}))
		}, "user.alerts_changed", func() (string, string) { return "user", last.made }, []string{"alerts.opted_in"}},
		{"opt out again", true, func(by apptest.Option) apptest.Answer {
			return call(t, h.Service, "PUT", "/v1/users/"+last.made+"/alerts", by, apptest.JSON(members{"opted_in": false}))
		}, "user.alerts_changed", func() (string, string) { return "user", last.made }, []string{}},
		{"delete a user", true, func(by apptest.Option) apptest.Answer {
			return call(t, h.Service, "DELETE", "/v1/users/"+last.made, by)
		}, "user.deleted", func() (string, string) { return "user", last.made }, []string{}},
		{"redact a user", true, func(by apptest.Option) apptest.Answer {
			last.made = h.create(t, named("A", "B", fresh("act")+"@acme.example")).ID
			return call(t, h.Service, "POST", "/v1/users/"+last.made+"/redaction", by)
		}, "user.redacted", func() (string, string) { return "user", last.made }, []string{"first_name", "last_name", "email", "status"}},
		{"make a key", false, func(by apptest.Option) apptest.Answer {
			answer := call(t, h.Service, "POST", "/v1/api-keys", by, apptest.JSON(members{"name": "k", "scopes": []string{"users:read"}}))
			last.key = answer.Text(t, "id")
			return answer
		}, "api_key.created", func() (string, string) { return "api_key", last.key }, []string{}},
		{"revoke a key", false, func(by apptest.Option) apptest.Answer {
			return call(t, h.Service, "DELETE", "/v1/api-keys/"+last.key, by)
		}, "api_key.revoked", func() (string, string) { return "api_key", last.key }, []string{}},
		{"change the settings", false, func(by apptest.Option) apptest.Answer {
			return call(t, h.Service, "PATCH", "/v1/customer", by, apptest.JSON(members{
				"guidance_text": "Ask.", "privacy_contact": "privacy@acme.example",
				"networks": members{"policy": "flag", "networks": []string{"10.0.0.0/8"}},
			}))
		}, "customer.changed", func() (string, string) { return "customer", h.acme.ID.String() },
			[]string{"guidance_text", "privacy_contact", "networks"}},
	}
	key := keyOf(t, h.Service, h.acme, allScopes)
	for _, byKey := range []bool{false, true} {
		for _, act := range acts {
			by := apptest.As(h.admin)
			if byKey {
				by = apptest.As(key.credential)
			}
			if byKey && !act.byKey {
				continue
			}
			if answer := act.do(by); answer.Status >= 300 {
				t.Fatalf("%s: %d %s", act.what, answer.Status, answer.Body)
			}
			entry := h.newestEntry(t)
			kind, target := act.target()
			if entry.Source != "steward" || entry.Action != act.action || entry.Target.Type != kind || entry.Target.ID != target ||
				!slices.Equal(entry.Changed, act.changed) {
				t.Errorf("%s is recorded as %+v", act.what, entry)
			}
			actor := entry.Actor
			if byKey && (actor.Type != "api_key" || actor.UserID != nil || actor.APIKeyID == nil || *actor.APIKeyID != key.id) ||
				!byKey && (actor.Type != "user" || actor.APIKeyID != nil || actor.UserID == nil || *actor.UserID != h.acme.Admin.ID.String()) {
				t.Errorf("%s is recorded as done by %+v", act.what, actor)
			}
		}
	}
	// What is refused or changes nothing leaves no entry.
	before := h.newestEntry(t).ID
	h.asAdmin(t, "POST", "/v1/users", apptest.JSON(named("A", "B", h.acme.User.Email))).Want(t, 409)
	h.patch(t, h.acme.User.ID.String(), members{"first_name": "X"}, apptest.Header("If-Match", `"9"`)).Want(t, 412)
	h.asAdmin(t, "DELETE", "/v1/users/"+h.acme.Admin.ID.String()).Want(t, 409)
	h.asAdmin(t, "POST", "/v1/users/"+last.made+"/redaction").Want(t, 200)
	h.asAdmin(t, "PATCH", "/v1/customer", apptest.JSON(members{"guidance_text": "Ask."})).Want(t, 200)
	h.asAdmin(t, "DELETE", "/v1/api-keys/"+last.key).Want(t, 204)
	if after := h.newestEntry(t); after.ID != before {
		t.Errorf("nothing happened and was recorded as %+v", after)
	}
}

// TestAnActAndItsEntryAreOne: where the entry cannot be written, the act does not happen.
func TestAnActAndItsEntryAreOne(t *testing.T) {
	t.Parallel()
	h := newTenantAlone(t)
	person := h.Person(t, h.acme, principal.User, "person@acme.example").ID.String()
	keyID := keyOf(t, h.Service, h.acme, allScopes).id
	var before, after string
	const state = `select (select string_agg(u::text, ';' order by id) from users u) || (select string_agg(k.id::text || coalesce(revoked_at::text, ''), ';' order by id) from api_keys k) ||
		(select string_agg(c::text, ';' order by id) from customers c) || (select count(*) from erasure_receipts) || (select count(*) from idempotency_answers)`
	conn := h.Database.Superuser(t)
	if _, err := conn.Exec(t.Context(), "alter table audit_entries add constraint nothing_more check (false) not valid"); err != nil {
		t.Fatal(err)
	}
	peek(t, h.Service, state, &before)
	for _, act := range []struct{ method, path, body string }{
		{"POST", "/v1/users", `{"first_name":"A","last_name":"B","email":"new@acme.example"}`},
		{"PATCH", "/v1/users/" + person, `{"first_name":"C"}`},
		{"PATCH", "/v1/users/" + person, `{"status":"disabled"}`}, {"PUT", "/v1/users/" + person + "/alerts", `{"opted_in":false}`},
		{"DELETE", "/v1/users/" + person, ""},
		{"POST", "/v1/users/" + person + "/redaction", `{}`}, {"POST", "/v1/api-keys", `{"name":"k","scopes":["users:read"]}`},
		{"DELETE", "/v1/api-keys/" + keyID, ""},
		{"PATCH", "/v1/customer", `{"guidance_text":"changed"}`}, {"PUT", "/v1/me/alerts", `{"opted_in":false}`},
		{"PUT", "/v1/me/password", encoded(t, members{"current_password": apptest.Password, "new_password": "violet umbrellas hum at seven dusks"})},
	} {
		options := []apptest.Option{apptest.As(h.admin), apptest.Header("Idempotency-Key", fresh("key"))}
		if act.body != "" {
			options = append(options, apptest.Raw("application/json", act.body))
		}
		answer, err := h.Try(t.Context(), act.method, act.path, options...)
		if err != nil || answer.Status != http.StatusInternalServerError {
			t.Errorf("%s %s: %d %v", act.method, act.path, answer.Status, err)
		}
		checkAlways(t, act.method, act.path, answer)
		if strings.Contains(string(answer.Body), "nothing_more") || strings.Contains(string(answer.Body), "audit_entries") {
			t.Errorf("the answer tells how we are made: %s", answer.Body)
		}
	}
	if peek(t, h.Service, state, &after); before != after {
		t.Errorf("something happened without its entry:\n%s\n%s", before, after)
	}
}

// TestWhatStandsInTheWayOfDeleting: acts on others do, with counts; acts on oneself, and what others did to one, do not.
func TestWhatStandsInTheWayOfDeleting(t *testing.T) {
	t.Parallel()
	h := newTenant(t)
	person := h.Person(t, h.acme, principal.Administrator, "second@acme.example")
	mine := apptest.As(h.SignIn(t, h.acme.Slug, person))
	call(t, h.Service, "PUT", "/v1/me/alerts", mine, apptest.JSON(members{"opted_in": false})).Want(t, 200)
	if entry := h.newestEntry(t); entry.Actor.Type != "self" || entry.Actor.UserID != nil || entry.Target.ID != person.ID.String() {
		t.Errorf("an act on oneself is recorded as %+v", entry)
	}
	call(t, h.Service, "PATCH", "/v1/users/"+person.ID.String(), mine, apptest.JSON(members{"first_name": "Own"})).Want(t, 200)
	call(t, h.Service, "PUT", "/v1/me/password", mine, apptest.JSON(members{"current_password": apptest.Password,
		"new_password": "violet umbrellas hum at seven dusks"})).Want(t, 204)
	if entry := h.newestEntry(t); entry.Action != "user.password_changed" || entry.Actor.Type != "self" ||
		!slices.Equal(entry.Changed, []string{"password"}) {
		t.Errorf("a password is recorded as %+v", entry)
	}
	h.patch(t, person.ID.String(), members{"last_name": "Corrected"}).Want(t, 200)
	path := "/v1/users/" + person.ID.String()
	var plan struct {
		CanDelete   bool   `json:"can_delete"`
		Recommended string `json:"recommended"`
		Blocking    []any  `json:"blocking"`
		Removes     []struct {
			Store string `json:"store"`
			Count int    `json:"count"`
		} `json:"removes"`
	}
	h.asAdmin(t, "GET", path+"/erasure-plan").Want(t, 200).Into(t, &plan)
	if !plan.CanDelete || plan.Recommended != "delete" || len(plan.Blocking) != 0 {
		t.Errorf("the plan says %+v", plan)
	}

	call(t, h.Service, "POST", "/v1/users", mine, apptest.JSON(named("A", "B", "by-second@acme.example"))).Want(t, 201)
	actAt := h.Database.Clock.Now().Format(time.RFC3339)
	for _, at := range []string{"2026-01-05T08:00:00Z", "2026-02-01T17:12:00Z", "2026-01-20T00:00:00Z"} {
		h.record(t, entryBy(person.ID, members{"occurred_at": at})).Want(t, 201)
	}
	type references []struct {
		Source  string `json:"source"`
		Count   int    `json:"count"`
		FirstAt string `json:"first_at"`
		LastAt  string `json:"last_at"`
	}
	want := references{{"integration", 3, "2026-01-05T08:00:00Z", "2026-02-01T17:12:00Z"}, {"steward", 1, actAt, actAt}}
	var problem struct {
		References references `json:"references"`
		Redaction  string     `json:"redaction"`
	}
	h.asAdmin(t, "DELETE", path).WantProblem(t, 409, "audit-trail-incomplete").Into(t, &problem)
	if !slices.Equal(problem.References, want) || problem.Redaction != path+"/redaction" {
		t.Errorf("%+v", problem)
	}
	var blocked struct {
		CanDelete   bool       `json:"can_delete"`
		CanRedact   bool       `json:"can_redact"`
		Recommended string     `json:"recommended"`
		Blocking    references `json:"blocking"`
	}
	h.asAdmin(t, "GET", path+"/erasure-plan").Want(t, 200).Into(t, &blocked)
	if blocked.CanDelete || !blocked.CanRedact || blocked.Recommended != "redact" || !slices.Equal(blocked.Blocking, want) {
		t.Errorf("%+v", blocked)
	}
	// The link leads to the other way, which keeps the trail.
	receipt := h.asAdmin(t, "POST", problem.Redaction).Want(t, 200)
	var shown struct {
		Kept []struct {
			Store string `json:"store"`
			Count int    `json:"count"`
		} `json:"kept"`
	}
	if receipt.Into(t, &shown); len(shown.Kept) != 2 || shown.Kept[0].Count != 4 {
		t.Errorf("%s", receipt.Body)
	}
	for method, target := range map[string]string{"DELETE": path, "PATCH": path, "PUT": path + "/alerts", "GET": path + "/erasure-plan"} {
		var options []apptest.Option
		switch method {
		case "PATCH":
			options = append(options, apptest.JSON(members{"first_name": "X"}))
		case "PUT":
			options = append(options, apptest.JSON(members{"opted_in": true}))
		}
		refused := h.asAdmin(t, method, target, options...).WantProblem(t, 409, "user-redacted")
		h.asAdmin(t, "GET", refused.Text(t, "receipt")).Want(t, 200)
	}
	h.patch(t, person.ID.String(), members{"status": "active"}).WantProblem(t, 409, "user-redacted")
	if again := h.asAdmin(t, "POST", path+"/redaction").Want(t, 200); string(again.Body) != string(receipt.Body) {
		t.Errorf("redacted again: %s\nfirst: %s", again.Body, receipt.Body)
	}
}

// TestTheTrailOnlyGrows: not even a superuser changes an entry by mistake, nor by switching ordinary triggers off.
func TestTheTrailOnlyGrows(t *testing.T) {
	t.Parallel()
	h := newTenantAlone(t)
	h.record(t, entryBy(h.acme.User.ID, nil)).Want(t, 201)
	conn := h.Database.Superuser(t)
	for _, role := range []string{"origin", "replica", "local"} {
		if _, err := conn.Exec(t.Context(), "set session_replication_role = "+role); err != nil {
			t.Fatal(err)
		}
		for _, statement := range []string{
			"update audit_entries set action = 'x'", "delete from audit_entries", "truncate audit_entries", "truncate audit_entries cascade",
			"delete from audit_entries where false or action = 'product.updated'",
		} {
			if _, err := conn.Exec(t.Context(), statement); err == nil || !strings.Contains(err.Error(), "append-only") {
				t.Errorf("%s: %s: %v", role, statement, err)
			}
		}
	}
	if shown := h.trail(t, "target_type=product"); len(shown) != 1 || shown[0].Action != "product.updated" {
		t.Errorf("%+v", shown)
	}
}

func TestAPIKeys(t *testing.T) {
	t.Parallel()
	h := newTenantAlone(t)
	type keyView struct {
		ID              string     `json:"id"`
		Name            string     `json:"name"`
		Scopes          []string   `json:"scopes"`
		AllowedNetworks []string   `json:"allowed_networks"`
		ExpiresAt       *time.Time `json:"expires_at"`
		LastUsedAt      *time.Time `json:"last_used_at"`
		RevokedAt       *time.Time `json:"revoked_at"`
		APIKey          string     `json:"api_key"`
	}
	clock := h.Database.Clock
	make := func(body members) (made keyView) {
		t.Helper()
		answer := h.asAdmin(t, "POST", "/v1/api-keys", apptest.JSON(body)).Want(t, 201)
		answer.Into(t, &made)
		if answer.Header.Get("Location") != "/v1/api-keys/"+made.ID || !strings.HasPrefix(made.APIKey,
			"stw_"+strings.ReplaceAll(made.ID, "-", "")+"_") {
			t.Errorf("%v %s", answer.Header, answer.Body)
		}
		return made
	}
	shown := func(id string) (found keyView) {
		t.Helper()
		var page struct{ Data []keyView }
		answer := h.asAdmin(t, "GET", "/v1/api-keys").Want(t, 200)
		answer.Into(t, &page)
		for _, one := range page.Data {
			if one.ID == id {
				found = one
			}
		}
		if strings.Contains(string(answer.Body), "stw_") {
			t.Error("a key is shown again")
		}
		return found
	}
	use := func(key keyView, from string) apptest.Answer {
		t.Helper()
		return call(t, h.Service, "GET", "/v1/users", apptest.As(apptest.Credential(key.APIKey)), apptest.Header("X-Forwarded-For", from))
	}
	read := []string{"users:read"}

	plain := make(members{"name": "  Plain  ", "scopes": read})
	if plain.Name != "Plain" || !slices.Equal(plain.Scopes, read) || len(plain.AllowedNetworks) != 0 || plain.ExpiresAt != nil ||
		plain.LastUsedAt != nil || plain.RevokedAt != nil {
		t.Errorf("%+v", plain)
	}
	clock.Advance(90*time.Second + 7*time.Millisecond)
	use(plain, "192.0.2.1").Want(t, 200)
	if at := shown(plain.ID).LastUsedAt; at == nil || !at.Equal(clock.Now().Truncate(time.Minute)) {
		t.Errorf("last used at %v, now is %v", at, clock.Now())
	}
	call(t, h.Service, "POST", "/v1/users", apptest.As(apptest.Credential(plain.APIKey)),
		apptest.JSON(named("A", "B", "k@acme.example"))).WantProblem(t, 403, "insufficient-scope")
	// A secret of another key does not go with this id, and no letter can be left out.
	for _, text := range []string{plain.APIKey[:37] + string(h.acme.APIKey)[37:], strings.ToLower(plain.APIKey), plain.APIKey[1:]} {
		call(t, h.Service, "GET", "/v1/users", apptest.As(apptest.Credential(text))).WantProblem(t, 401, "unauthorized")
	}
	var stored string
	peek(t, h.Service, "select string_agg(k::text, ' ') from api_keys k", &stored)
	if strings.Contains(stored, plain.APIKey[37:]) {
		t.Error("the secret is stored")
	}

	// It expires by the clock, to the second.
	expiring := make(members{"name": "expiring", "scopes": read, "expires_at": clock.Now().Add(time.Hour).Format(time.RFC3339Nano)})
	clock.Advance(time.Hour - time.Millisecond)
	use(expiring, "192.0.2.1").Want(t, 200)
	clock.Advance(time.Millisecond)
	use(expiring, "192.0.2.1").WantProblem(t, 401, "unauthorized")

	h.admin = h.SignIn(t, h.acme.Slug, h.acme.Admin)
	bound := make(members{"name": "bound", "scopes": read, "allowed_networks": []string{"203.0.113.77/24", "2001:db8::/32", "203.0.113.0/24"}})
	if !slices.Equal(bound.AllowedNetworks, []string{"2001:db8::/32", "203.0.113.0/24"}) {
		t.Errorf("networks %v", bound.AllowedNetworks)
	}
	for from, status := range map[string]int{
		"203.0.113.9": 200, "203.0.114.9": 401, "2001:db8::1": 200, "2001:db9::1": 401, "::ffff:203.0.113.9": 200,
		"198.51.100.1, 203.0.113.9": 200, "203.0.113.9, 198.51.100.1": 401,
		"203.0.113.9, 127.0.0.5": 200, "nonsense": 401, "": 401,
	} {
		if answer := use(bound, from); answer.Status != status {
			t.Errorf("from %s: got %d, want %d", from, answer.Status, status)
		}
	}

	// Revoked, it stops at once on this replica and within the second on the others.
	replica := apptest.Replica(t, h.Database)
	call(t, replica, "GET", "/v1/users", apptest.As(apptest.Credential(plain.APIKey))).Want(t, 200)
	h.asAdmin(t, "DELETE", "/v1/api-keys/"+plain.ID).Want(t, 204)
	use(plain, "192.0.2.1").WantProblem(t, 401, "unauthorized")
	clock.Advance(500 * time.Millisecond)
	call(t, replica, "GET", "/v1/users", apptest.As(apptest.Credential(plain.APIKey))).WantProblem(t, 401, "unauthorized")
	revokedAt := shown(plain.ID).RevokedAt
	clock.Advance(time.Second)
	h.asAdmin(t, "DELETE", "/v1/api-keys/"+plain.ID).Want(t, 204)
	if again := shown(plain.ID).RevokedAt; revokedAt == nil || !again.Equal(*revokedAt) {
		t.Errorf("revoked at %v, then at %v", revokedAt, again)
	}

	for what, body := range map[string]members{
		"no scope": {"name": "k", "scopes": []string{}}, "unknown scope": {"name": "k", "scopes": []string{"users:everything"}},
		"a scope twice":    {"name": "k", "scopes": []string{"users:read", "users:read"}},
		"no network":       {"name": "k", "scopes": read, "allowed_networks": []string{"203.0.113.0"}},
		"a zone":           {"name": "k", "scopes": read, "allowed_networks": []string{"fe80::1%eth0/64"}},
		"too wide":         {"name": "k", "scopes": read, "allowed_networks": []string{"203.0.113.0/33"}},
		"mapped":           {"name": "k", "scopes": read, "allowed_networks": []string{"::ffff:1.2.3.4/128"}},
		"51 networks":      {"name": "k", "scopes": read, "allowed_networks": slices.Repeat([]string{"10.0.0.0/8"}, 51)},
		"beyond all years": {"name": "k", "scopes": read, "expires_at": "9999-12-31T23:59:59-12:00"},
		"101 characters":   {"name": strings.Repeat("é", 101), "scopes": read}, "no time": {"name": "k", "scopes": read, "expires_at": "tomorrow"},
	} {
		if answer := h.asAdmin(t, "POST", "/v1/api-keys", apptest.JSON(body)); answer.Status != 400 {
			t.Errorf("%s: %d %s", what, answer.Status, answer.Body)
		}
	}
	for what, body := range map[string]members{
		"blank name": {"name": " ", "scopes": read}, "control character": {"name": "a\u0007b", "scopes": read},
		"expired": {"name": "k", "scopes": read, "expires_at": clock.Now().Format(time.RFC3339Nano)},
	} {
		if answer := h.asAdmin(t, "POST", "/v1/api-keys", apptest.JSON(body)); answer.Status != 422 {
			t.Errorf("%s: %d %s", what, answer.Status, answer.Body)
		}
	}
	make(members{"name": "for ever", "scopes": principal.Scopes(), "expires_at": "9999-12-31T23:59:59Z",
		"allowed_networks": []string{netip.MustParsePrefix("0.0.0.0/0").String()}})
	var page userPage
	h.asAdmin(t, "GET", "/v1/api-keys?limit=1").Want(t, 200).Into(t, &page)
	if page.NextCursor == nil {
		t.Error("the list has no second page")
	}
}
