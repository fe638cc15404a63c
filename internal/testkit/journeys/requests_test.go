package journeys

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/fusionspim/steward"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/infra/contract"
	"github.com/fusionspim/steward/internal/testkit/apptest"
)

// marker stands in what is sent in bad requests. It must come back in no answer and stand in no log. Where a name is expected (of a member, of a
// parameter, in a path), the marker is written as an address: a plain word there is told back, because it is most likely a misspelt name.
const (
	marker     = "Zq7Secretly"
	markerName = "ada@" + marker + ".example"
)

// bearer is somebody who may call the operation.
func (w *world) bearer(operation *contract.Operation) []apptest.Option {
	switch {
	case operation.Public:
		return nil
	case slices.Contains(operation.Roles, "customer"):
		return []apptest.Option{apptest.As(w.admin)}
	case slices.Contains(operation.Roles, "operator"):
		return []apptest.Option{apptest.As(w.operator)}
	default:
		return []apptest.Option{apptest.As(w.acme.APIKey)}
	}
}

// objectFor makes something that the path of the operation can name when the bearer calls.
func (w *world) objectFor(t *testing.T, operation *contract.Operation) string {
	t.Helper()
	kind := aUser
	for _, row := range matrix {
		if row.operation == operation.ID && row.object != noObject {
			kind = row.object
		}
	}
	return w.make(t, kind, w.acme)
}

// goodBody is the body of the sample of an operation; one entry rather than an array, so that its members can be spoilt.
func (w *world) goodBody(t *testing.T, operation *contract.Operation, objectID string) (path, body string) {
	t.Helper()
	path, options := w.sample(t, operation.ID, objectID)
	request := httptest.NewRequest(operation.Method, path, nil)
	for _, option := range options {
		option(request)
	}
	content, err := io.ReadAll(request.Body)
	if err != nil {
		t.Fatal(err)
	}
	return path, strings.TrimSuffix(strings.TrimPrefix(string(content), "["), "]")
}

// checkSilence fails the test if an answer or the log repeats what was sent.
func (w *world) checkSilence(t *testing.T, what string, answer apptest.Answer) {
	t.Helper()
	if bytes.Contains(answer.Body, []byte(marker)) {
		t.Errorf("%s: the answer repeats what was sent: %s", what, answer.Body)
	}
}

// TestBadBodiesAreRefused spoils the body of every operation in every way that decoders like to forgive.
func TestBadBodiesAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, operation := range w.API.Operations() {
		if operation.Tag == "pages" {
			continue // pages read nothing of a request but their path
		}
		path, good := w.goodBody(t, operation, w.objectFor(t, operation))
		send := func(what, contentType, body string, status int, problem string, more ...apptest.Option) {
			t.Helper()
			options := append(w.bearer(operation), apptest.Raw(contentType, body))
			answer := call(t, w.Service, operation.Method, path, append(options, more...)...)
			if answer.Status != status || answer.Text(t, "type") != "/problems/"+problem {
				t.Errorf("%s, %s: got %d, want %d %s\n%.300s\n%s", operation.ID, what, answer.Status, status, problem, body, answer.Body)
			}
			w.checkSilence(t, operation.ID+", "+what, answer)
		}
		if !operation.HasBody {
			send("a body where none is taken", "application/json", `{"`+marker+`":1}`, 400, "malformed-request")
			continue
		}
		if operation.ID == "createUserImport" { // takes files: TestBadFiles
			send("as JSON", "application/json", `{"`+marker+`":1}`, 415, "unsupported-media-type")
			continue
		}
		malformed := func(what, body string) {
			t.Helper()
			send(what, "application/json", body, 400, "malformed-request")
		}
		var object map[string]any
		if err := json.Unmarshal([]byte(good), &object); err != nil {
			t.Fatal(err)
		}
		rest := good[1:] // behind the brace
		for _, name := range slices.Sorted(maps.Keys(object)) {
			for _, wrong := range []any{[]any{[]any{marker}}, members{"x": marker}, 12.5, nil} {
				if _, isObject := object[name].(map[string]any); isObject && wrong == nil {
					continue
				}
				malformed("wrong type of "+name, encoded(t, with(object, name, wrong)))
			}
			twice, _ := json.Marshal(members{name: object[name]})
			malformed("twice "+name, string(twice[:len(twice)-1])+","+rest)
			malformed("letter case of "+name, strings.Replace(good, `"`+name+`"`, `"`+strings.ToUpper(name)+`"`, 1))
			if operation.Method == "POST" && !slices.Contains([]string{"role", "reason", "overlap_seconds", "dedupe_key"}, name) || operation.Method == "PUT" {
				malformed("missing "+name, encoded(t, without(object, name)))
			}
			if _, isText := object[name].(string); isText {
				for what, bad := range map[string]string{
					"NUL": marker + `\u0000`, "a high surrogate": marker + `\ud800`, "a low surrogate": marker + `\udc00x`,
					"surrogates the wrong way": marker + `\udc00\ud800`,
					"bad UTF-8":                marker + "\xff", "an overlong NUL": marker + "\xc0\x80", "a raw control character": marker + "\x01",
					"a bad escape": marker + `\x`,
				} {
					malformed(what+" in "+name, `{"`+name+`":"`+bad+`"`+behind(encoded(t, without(object, name))))
				}
				tooMany := 4001
				if operation.ID == "raiseAlert" { // whose text may be longer than any other
					tooMany = 10_001
				}
				malformed("too long "+name, encoded(t, with(object, name, strings.Repeat("x", tooMany))))
			}
		}
		malformed("unknown member", `{"`+markerName+`": "x", `+rest)
		malformed("unknown plain member", `{"customer_id":"`+marker+`", `+rest)
		malformed("prototype", `{"__proto__":{"role":"operator"}, `+rest)
		malformed("empty name", `{"":"`+marker+`", `+rest)
		malformed("trailing object", good+" {}")
		malformed("trailing word", good+" "+marker)
		malformed("trailing bracket", good+"]")
		malformed("no end", good[:len(good)-1])
		malformed("comma at the end", strings.TrimSuffix(good, "}")+",}")
		malformed("a comment", "/* "+marker+" */"+good)
		malformed("a byte order mark", "\ufeff"+good)
		malformed("UTF-16", "\xff\xfe"+good)
		malformed("a word", marker)
		malformed("a text", `"`+marker+`"`)
		malformed("a number", "42")
		malformed("null", "null")
		malformed("not a number", "NaN")
		malformed("an empty array", "[]")
		malformed("an array of nonsense", `["`+marker+`"]`)
		malformed("blanks", "   ")
		if depth := 1500; operation.MaxBodyBytes > 2*int64(depth) {
			malformed("too deep", strings.Repeat("[", depth)+strings.Repeat("]", depth))
			malformed("too deep inside", `{"x":`+strings.Repeat("[", depth)+strings.Repeat("]", depth)+","+rest)
		}
		if !slices.Contains([]string{"redactUser", "rotateAPIKey", "rotateWebhookEndpointSecret"}, operation.ID) { // which take no body or an empty object
			malformed("empty object", "{}")
			malformed("nothing", "")
		}

		tooLong := strings.Repeat(" ", int(operation.MaxBodyBytes)) + good
		send("too large", "application/json", tooLong, 413, "body-too-large")
		send("too large, of unknown length", "application/json", tooLong, 413, "body-too-large", func(r *http.Request) { r.ContentLength = -1 })
		for _, kind := range []string{"text/plain", "", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/xml",
			"application/jsonp",
			"application/json; charset=iso-8859-1", "application/json;;", "application/json, text/plain"} {
			send("as "+kind, kind, good, 415, "unsupported-media-type")
		}
		send("as two types", "application/json", good, 415, "unsupported-media-type",
			func(r *http.Request) { r.Header.Add("Content-Type", "application/json") })
		for _, coding := range []string{"gzip", "deflate", "br", "identity, gzip", marker} {
			send("coded as "+coding, "application/json", good, 415, "unsupported-media-type", apptest.Header("Content-Encoding", coding))
		}
		if operation.Method == "PATCH" {
			answer := call(t, w.Service, operation.Method, path, append(w.bearer(operation), apptest.Raw("application/merge-patch+json", good))...)
			answer.Want(t, 200)
		} else {
			send("as a merge patch", "application/merge-patch+json", good, 415, "unsupported-media-type")
		}
	}
	if strings.Contains(w.Database.Log.String(), marker) {
		t.Error("the log repeats what was sent")
	}
}

func encoded(t *testing.T, value any) string {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func with(object members, name string, value any) members {
	changed := maps.Clone(object)
	changed[name] = value
	return changed
}

func without(object members, name string) members {
	changed := maps.Clone(object)
	delete(changed, name)
	return changed
}

// behind is what follows the first member that is put before those of an object.
func behind(object string) string {
	if object == "{}" {
		return "}"
	}
	return "," + object[1:]
}

// TestGoodBodiesInUnusualDress: what RFC 8259 and RFC 9110 allow is taken.
func TestGoodBodiesInUnusualDress(t *testing.T) {
	t.Parallel()
	w := newSharedWorld(t)
	person := w.make(t, aUser, w.acme)
	for what, options := range map[string][]apptest.Option{
		"charset":         {apptest.Raw(`application/json; charset="UTF-8"`, `{"opted_in":true}`)},
		"capital letters": {apptest.Raw("Application/JSON", `{"opted_in":true}`)},
		"white space":     {apptest.Raw("application/json", "\r\n\t { \"opted_in\" : true }\n")},
		"escapes":         {apptest.Raw("application/json", `{"\u006fpted_in":true}`)},
		"identity":        {apptest.Raw("application/json", `{"opted_in":true}`), apptest.Header("Content-Encoding", "identity")},
		"unknown length":  {apptest.Raw("application/json", `{"opted_in":true}`), func(r *http.Request) { r.ContentLength = -1 }},
	} {
		answer := call(t, w.Service, "PUT", "/v1/users/"+person+"/alerts", append(options, apptest.As(w.admin))...)
		if answer.Status != 200 {
			t.Errorf("%s: %d %s", what, answer.Status, answer.Body)
		}
	}
	// A redaction needs no reason and so no body.
	for what, options := range map[string][]apptest.Option{
		"no body": nil, "empty object": {apptest.Raw("application/json", "{}")}, "empty body of a type": {apptest.Raw("application/json", "")},
		"empty body of unknown length": {apptest.Raw("text/plain", ""), func(r *http.Request) { r.ContentLength = -1 }},
	} {
		answer := call(t, w.Service, "POST", "/v1/users/"+w.make(t, aUser, w.acme)+"/redaction", append(options, apptest.As(w.admin))...)
		if answer.Status != 200 {
			t.Errorf("%s: %d %s", what, answer.Status, answer.Body)
		}
	}
}

// TestQueriesAreReadStrictly: a filter that is misspelt must not be lost in silence, for then more is answered than was asked for.
func TestQueriesAreReadStrictly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	refused := func(operation *contract.Operation, method, path string) {
		t.Helper()
		options := w.bearer(operation)
		if operation.HasBody {
			_, body := w.goodBody(t, operation, w.objectFor(t, operation))
			options = append(options, apptest.Raw("application/json", body))
		}
		answer := call(t, w.Service, method, path, options...)
		if answer.Status != 400 {
			t.Errorf("%s %s: got %d, want 400: %s", method, path, answer.Status, answer.Body)
		}
		w.checkSilence(t, path, answer)
	}
	for _, operation := range w.API.Operations() {
		if operation.Tag == "pages" {
			continue
		}
		path, _ := w.sample(t, operation.ID, w.objectFor(t, operation))
		for _, query := range []string{
			"?unknown=" + marker, "?" + markerName + "=1", "?" + markerName, "?=" + marker, "?%zz=1", "?a%00b=" + marker, "?;" + marker,
			"?x=1;y=" + marker, "?&", "?%ff=1", "?LIMIT=1",
		} {
			refused(operation, operation.Method, path+query)
		}
	}
	lists := map[string][]string{
		"/v1/users": {
			"limit=0", "limit=201", "limit=-1", "limit=1.0", "limit=1e2", "limit=", "limit=+5", "limit=0x10", "limit=99999999999999999999",
			"limit=1&limit=1", "limit=1&limit=2",
			"cursor=", "cursor=" + marker, "cursor=a&cursor=b", "email=" + marker + "&email=b@c.de", "email=", "email=x", "email=%ff" + marker,
			"email=a%00@b.cd", "q=", "q=%ff", "q=%00",
			"q=" + strings.Repeat("x", 101), "status=deleted", "status=Active", "status=", "role=operator", "role=", "alerts_opted_in=1",
			"alerts_opted_in=True", "alerts_opted_in=",
			"cursor=" + strings.Repeat("A", 513),
		},
		"/v1/audit-entries": {
			"limit=0", "limit=201", "cursor=" + marker, "actor_user_id=" + marker, "actor_user_id=", "action=Not+A+Word", "action=",
			"target_type=" + marker, "target_id=-x", "target_id=",
			"from=yesterday", "from=2026-01-01", "from=2026-01-01T00:00:00", "to=2026-02-30T00:00:00Z",
			"to=2026-01-01T00:00:00+00:00" /* the plus is a blank */, "from=",
			"from=0000-01-01T00:00:00Z", "to=9999-12-31T23:59:59-23:59", "from=2026-01-01T00:00:00Z&from=2026-01-01T00:00:00Z",
		},
		"/v1/api-keys": {
			"limit=0", "limit=201", "limit=x", "cursor=" + marker, "status=active", "unused_for_days=", "unused_for_days=-1", "unused_for_days=x",
			"unused_for_days=99999999999",
		},
		"/v1/me/sessions":        {"limit=0", "limit=201", "limit=x", "cursor=" + marker, "transport=cookie"},
		"/v1/me/logins":          {"limit=0", "limit=201", "limit=x", "cursor=" + marker, "outcome=succeeded"},
		"/v1/users/{id}/logins":  {"limit=0", "limit=201", "limit=x", "cursor=" + marker, "outcome=succeeded"},
		"/v1/operator/backups":   {"limit=0", "limit=201", "limit=x", "cursor=" + marker, "state=available"},
		"/v1/operator/replays":   {"limit=0", "limit=201", "limit=x", "cursor=" + marker, "state=done"},
		"/v1/alerts":             {"limit=0", "limit=201", "limit=x", "cursor=" + marker, "severity=error"},
		"/v1/operator/customers": {"limit=0", "limit=201", "limit=x", "cursor=" + marker, "slug=acme"},
	}
	for _, operation := range w.API.Operations() {
		if operation.Method == "GET" {
			for _, query := range lists[operation.Path] {
				refused(operation, "GET", strings.Replace(operation.Path, "{id}", w.acme.User.ID.String(), 1)+"?"+query)
			}
		}
	}
	call(t, w.Service, "GET", "/openapi.json?version=2").WantProblem(t, 400, "malformed-request")
	call(t, w.Service, "GET", "/openapi.json?version=3.0").Want(t, 200)
	for header, value := range map[string]string{"If-Match": strings.Repeat("x", 1025), "Idempotency-Key": "with blank"} {
		path, method := "/v1/users/"+w.make(t, aUser, w.acme)+"/redaction", "POST"
		answer := call(t, w.Service, method, path, apptest.As(w.admin), apptest.Header(header, value))
		answer.WantProblem(t, 400, "malformed-request")
	}
	for _, key := range []string{"", strings.Repeat("x", 256), "ключ"} {
		answer := call(t, w.Service, "POST", "/v1/users/"+w.make(t, aUser, w.acme)+"/redaction", apptest.As(w.admin),
			apptest.Header("Idempotency-Key", key))
		answer.WantProblem(t, 400, "malformed-request")
	}
	if strings.Contains(w.Database.Log.String(), marker) {
		t.Error("the log repeats what was sent")
	}
}

// TestCursorsCannotBeMadeUp: a cursor is good for one list, its filters and its customer.
func TestCursorsCannotBeMadeUp(t *testing.T) {
	t.Parallel()
	w := newSharedWorld(t)
	cursor := func(path string, credential apptest.Credential) string {
		return call(t, w.Service, "GET", path, apptest.As(credential)).Want(t, 200).Text(t, "next_cursor")
	}
	good := cursor("/v1/users?limit=1", w.admin)
	filtered := cursor("/v1/users?limit=1&status=active", w.admin)
	theirs := cursor("/v1/users?limit=1", w.otherAdmin)
	w.key(t, w.acme, []principal.Scope{principal.UsersRead})
	ofKeys := cursor("/v1/api-keys?limit=1", w.admin)
	ofTrail := cursor("/v1/audit-entries?limit=1", w.admin)
	bad := map[string]string{
		"another filter": filtered, "another customer": theirs, "another list": ofKeys, "the trail": ofTrail, "cut": good[:len(good)-1],
		"longer": good + "A",
		"a uuid": "019ab3c4-5d6e-7f80-9a1b-2c3d4e5f6071", "padded": good + "=", "short": "A", "nothing but A": strings.Repeat("A", len(good)),
	}
	for at := range len(good) { // each character counts
		other := byte('A')
		if good[at] == 'A' {
			other = 'B'
		}
		bad["changed at "+string(rune('0'+at))] = good[:at] + string(other) + good[at+1:]
	}
	for what, text := range bad {
		answer := call(t, w.Service, "GET", "/v1/users?limit=1&cursor="+url.QueryEscape(text), apptest.As(w.admin))
		if answer.Status != 400 || answer.Text(t, "type") != "/problems/malformed-cursor" {
			t.Errorf("%s: got %d %s", what, answer.Status, answer.Body)
		}
	}
	for what, query := range map[string]string{
		"as it is": "limit=1&cursor=" + good, "with another limit": "limit=2&cursor=" + good, "without a limit": "cursor=" + good,
		"with its filter, in another order": "status=active&cursor=" + filtered + "&limit=1",
	} {
		if answer := call(t, w.Service, "GET", "/v1/users?"+query, apptest.As(w.admin)); answer.Status != 200 {
			t.Errorf("%s: %d %s", what, answer.Status, answer.Body)
		}
	}
	// The credential does not count, only the customer: a key goes on where the administrator stopped.
	call(t, w.Service, "GET", "/v1/users?limit=1&cursor="+good, apptest.As(w.acme.APIKey)).Want(t, 200)
	call(t, w.Service, "GET", "/v1/users?limit=1&q=a&cursor="+good, apptest.As(w.admin)).WantProblem(t, 400, "malformed-cursor")
}

func TestPathsAndMethods(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	admin := apptest.As(w.admin)
	person := w.make(t, aUser, w.acme)
	for _, path := range []string{
		"/v1", "/v1/", "/v1/nothing", "/v2/users", "/v1/users/", "/v1/users/" + person + "/", "/v1//users", "/V1/users",
		"/v1/users/" + person + "/nothing", "/.env", "/metrics",
		"/v1/users/" + person + "%2falerts", "/v1/..%2fv1/users", "/v1/users%00", "/%ff", "/v1/me/nothing/" + markerName, "/problems/Nothing",
		"/problems/no-such-problem", "/debug/pprof/",
	} {
		answer := call(t, w.Service, "GET", path, admin)
		if answer.Status != 404 {
			t.Errorf("GET %s: got %d, want 404: %s", path, answer.Status, answer.Body)
		}
		w.checkSilence(t, path, answer)
	}
	for _, text := range []string{
		"1", markerName, "019ab3c45d6e7f809a1b2c3d4e5f6071", "{" + person + "}", "urn:uuid:" + person, person + "x", person[:35], "%00",
		person[:35] + "%00", person + "%20", "..", "%2e%2e", "*",
		"null", "me", "%F0%9F%98%80", strings.Repeat("9", 300), person[:35] + "g", "00000000-0000-0000-0000-000000000000",
	} {
		answer := call(t, w.Service, "GET", "/v1/users/"+text, admin)
		if answer.Status != 404 {
			t.Errorf("GET /v1/users/%s: got %d, want 404: %s", text, answer.Status, answer.Body)
		}
		w.checkSilence(t, text, answer)
	}
	call(t, w.Service, "GET", "/v1/users/"+strings.ToUpper(person), admin).Want(t, 200) // RFC 9562, section 4: either case is read

	known, bearers, objects := map[string][]string{}, map[string][]apptest.Option{}, map[string]string{}
	made := map[target]string{aUser: person, noObject: person}
	for _, operation := range w.API.Operations() {
		var kind target
		for _, row := range matrix {
			if row.operation == operation.ID {
				kind = row.object
			}
		}
		object, there := objects[operation.Path] // the operations of one path are asked at one address
		if !there {
			if made[kind] == "" {
				made[kind] = w.make(t, kind, w.acme)
			}
			object = made[kind]
			objects[operation.Path] = object
		}
		path, _ := w.sample(t, operation.ID, object)
		known[path], bearers[path] = append(known[path], operation.Method), append([]apptest.Option{admin}, w.bearer(operation)...)
	}
	for path, methods := range known {
		for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND", "BREW"} {
			if slices.Contains(methods, method) || path == "/v1/api-keys/leaks" && method == "DELETE" { // which is taken for an id, and is none
				continue
			}
			answer := call(t, w.Service, method, path, bearers[path]...)
			allowed := strings.Split(answer.Header.Get("Allow"), ", ")
			if answer.Status != 405 || answer.Text(t, "type") != "/problems/method-not-allowed" {
				t.Errorf("%s %s: got %d, want 405: %s", method, path, answer.Status, answer.Body)
			}
			for _, want := range methods {
				if !slices.Contains(allowed, want) {
					t.Errorf("%s %s: Allow is %q and lacks %s", method, path, allowed, want)
				}
			}
		}
		if slices.Contains(methods, "GET") {
			plain := apptest.Header("Accept-Encoding", "identity") // which Go's client changes by itself for GET
			as := append(slices.Clone(bearers[path]), plain)
			head, get := call(t, w.Service, "HEAD", path, as...), call(t, w.Service, "GET", path, as...)
			if head.Status != 200 || len(head.Body) != 0 ||
				head.Header.Get("Content-Type") != get.Header.Get("Content-Type") || head.Header.Get("ETag") != get.Header.Get("ETag") {
				t.Errorf("HEAD %s: %d %v, GET: %d %v", path, head.Status, head.Header, get.Status, get.Header)
			}
		}
	}
	call(t, w.Service, "HEAD", "/v1/me").Want(t, 401)
	call(t, w.Service, "HEAD", "/v1/sessions").Want(t, 405)
}

// TestAccept: JSON is what there is. An answer without a body suits everybody, and a person who follows a link to a page sees it.
func TestAccept(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for accept, want := range map[string]int{
		"": 200, "*/*": 200, "application/json": 200, "application/*": 200, "text/html, application/json;q=0.5": 200, "APPLICATION/JSON": 200,
		"text/html,application/xhtml+xml,*/*;q=0.8": 200, "application/json; charset=utf-8": 200, "text/html": 406, "application/json;q=0": 406,
		"image/png, text/*": 406,
		"application/xml":   406, "application/json;q=0.000": 406, marker: 406, "text/html;": 406,
	} {
		answer := call(t, w.Service, "GET", "/v1/me", apptest.As(w.admin), func(r *http.Request) {
			if accept != "" {
				r.Header.Set("Accept", accept)
			}
		})
		if answer.Status != want {
			t.Errorf("Accept: %s: got %d, want %d: %s", accept, answer.Status, want, answer.Body)
		}
		w.checkSilence(t, accept, answer)
	}
	for _, operation := range w.API.Operations() {
		path, options := w.sample(t, operation.ID, w.objectFor(t, operation))
		want := 406
		switch {
		case operation.Tag == "pages", operation.Tag == "service":
			want = 200
		case operation.ID == "endCurrentSession", operation.ID == "changeMyPassword":
			continue // would sign the administrator out; tried below
		case operation.ID == "removeMySecondFactor":
			want = 409 // there is none
		case !operation.Declares(http.StatusNotAcceptable):
			want = 204
		}
		answer := call(t, w.Service, operation.Method, path, append(append(options, w.bearer(operation)...),
			apptest.Header("Accept", "text/html"))...)
		if answer.Status != want {
			t.Errorf("%s with Accept: text/html: got %d, want %d: %s", operation.ID, answer.Status, want, answer.Body)
		}
	}
	call(t, w.Service, "DELETE", "/v1/sessions/current", apptest.As(w.user), apptest.Header("Accept", "text/html")).Want(t, 204)
}

// TestCredentialsAreReadStrictly: there is one place and one form for a credential.
func TestCredentialsAreReadStrictly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	token, key := string(w.admin), string(w.acme.APIKey)
	parts := strings.Split(token, ".")
	none := `Bearer realm="steward"`
	invalid := none + `, error="invalid_token"`
	for _, value := range []string{
		"", "Bearer", "Bearer ", "Bearer  " + token, "Basic " + token, token, "Bearer" + token, "Bearer " + token + " ,", "Bearer " + token + "x",
		"Bearer " + token[:len(token)-1],
		"Bearer " + parts[0] + "." + parts[1] + ".", "Bearer " + parts[0] + "." + parts[1], "Bearer ..",
		"Bearer eyJhbGciOiJub25lIn0." + parts[1] + ".", "Bearer " + token + "." + parts[2],
		"Token " + token, "Bearer " + key[:len(key)-1], "Bearer " + key + "0", "Bearer stw_", "Bearer stw_" + strings.Repeat("0", 82),
		"Bearer " + strings.ToUpper(key),
		"Bearer " + marker, "Bearer " + token + "\t", "Negotiate x, Bearer " + token, "Bearer " + token + ", Bearer " + token, "DPoP " + token,
		`Bearer token="` + token + `"`,
	} {
		answer := call(t, w.Service, "GET", "/v1/users", apptest.Header("Authorization", value))
		if strings.TrimRight(value, " \t") == "Bearer "+token { // net/http cuts blanks off the end of a header
			answer.Want(t, 200)
			continue
		}
		if answer.Status != 401 || answer.Text(t, "type") != "/problems/unauthorized" {
			t.Errorf("Authorization: %s: got %d %s", value, answer.Status, answer.Body)
		}
		want := invalid
		if value == "" {
			want = none
		}
		if answer.Header.Get("WWW-Authenticate") != want {
			t.Errorf("Authorization: %s: the challenge is %s", value, answer.Header.Get("WWW-Authenticate"))
		}
		w.checkSilence(t, value, answer)
	}
	both := func(r *http.Request) {
		r.Header["Authorization"] = []string{"Bearer " + token, "Bearer " + token}
	}
	call(t, w.Service, "GET", "/v1/users", both).WantProblem(t, 401, "unauthorized")
	call(t, w.Service, "GET", "/v1/users?access_token="+token).WantProblem(t, 401, "unauthorized")
	call(t, w.Service, "GET", "/v1/users", apptest.Header("Cookie", "__Host-steward_session="+token)).WantProblem(t, 401, "unauthorized")
	call(t, w.Service, "GET", "/v1/users", apptest.Header("X-Api-Key", key)).WantProblem(t, 401, "unauthorized")
	call(t, w.Service, "GET", "/v1/users", apptest.Header("Authorization", "bearer "+token)).Want(t, 200) // RFC 9110: a scheme has no letter case
	call(t, w.Service, "GET", "/v1/users", apptest.Header("Authorization", "BEARER "+key)).Want(t, 200)
	// A refresh token is no access token, and an access token no refresh token.
	call(t, w.Service, "GET", "/v1/me", apptest.As(apptest.Credential(w.nextRefreshToken(t)))).WantProblem(t, 401, "unauthorized")
	for _, text := range []string{key, "x", "str_" + strings.Repeat("0", 92), marker} {
		call(t, w.Service, "POST", "/v1/sessions/refresh", apptest.JSON(members{"refresh_token": text})).WantProblem(t, 401, "unauthorized")
	}
	for _, secret := range []string{token, key, parts[2], apptest.Password, marker} {
		if strings.Contains(w.Database.Log.String(), secret) {
			t.Error("a credential stands in the log")
		}
	}
}

func TestRequestIDs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, sent := range []string{"a", "req-2026.11_24", strings.Repeat("x", 128)} {
		for _, path := range []string{"/livez", "/v1/nothing", "/v1/me"} {
			if got := call(t, w.Service, "GET", path, apptest.Header("X-Request-Id", sent)).Header.Values("X-Request-Id"); !slices.Equal(got,
				[]string{sent}) {
				t.Errorf("%s: sent %s, got %q", path, sent, got)
			}
		}
		if !strings.Contains(w.Database.Log.String(), `"request_id":"`+sent+`"`) {
			t.Errorf("%s does not stand in the log", sent)
		}
	}
	for _, sent := range []string{"", "with blank", strings.Repeat("x", 129), "a;b", "ä", `"quoted"`, "a/b", "<script>"} {
		first := call(t, w.Service, "GET", "/v1/me", apptest.Header("X-Request-Id", sent)).Text(t, "request_id")
		second := call(t, w.Service, "GET", "/v1/me", apptest.Header("X-Request-Id", sent)).Text(t, "request_id")
		if first == sent || first == second {
			t.Errorf("sent %q, got %q and %q", sent, first, second)
		}
	}
	trace := "4bf92f3577b34da6a3ce929d0e0e4736"
	call(t, w.Service, "GET", "/livez", apptest.Header("Traceparent", "00-"+trace+"-00f067aa0ba902b7-01")).Want(t, 200)
	if !strings.Contains(w.Database.Log.String(), trace) {
		t.Error("the trace id does not stand in the log")
	}
}

// TestPagesForPeople: the pages that everybody may keep say so, and every problem that there is has its page.
func TestPagesForPeople(t *testing.T) {
	t.Parallel()
	s := apptest.Start(t)
	for path, kind := range map[string]string{
		"/": "text/html", "/docs": "text/html", "/openapi.yaml": "application/yaml", "/openapi.json": "application/json",
		"/problems": "text/html", "/problems/user-redacted": "text/html",
		"/.well-known/security.txt": "text/plain",
	} {
		answer := call(t, s, "GET", path).Want(t, 200)
		if !strings.HasPrefix(answer.Header.Get("Content-Type"), kind) {
			t.Errorf("%s is of the type %s, want %s", path, answer.Header.Get("Content-Type"), kind)
		}
	}
}

// TestAddressOfALink: a peer on the local link has an address with a zone, which is a name that only this machine knows.
func TestAddressOfALink(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	path, options := w.sample(t, "createSession", "")
	request := httptest.NewRequest("POST", path, nil)
	for _, option := range options {
		option(request)
	}
	request.RemoteAddr = "[fe80::1%eth0]:4711"
	recorder := httptest.NewRecorder()
	w.API.ServeHTTP(recorder, request)
	if recorder.Code != 201 {
		t.Fatalf("got %d %s", recorder.Code, recorder.Body)
	}
	var address string
	w.Superuser(t, "select host(address) from login_records order by id desc limit 1", &address)
	if address != "fe80::1" {
		t.Errorf("the login record has the address %s", address)
	}
}

// TestGarbage sends every operation what nobody would write by hand. Whatever comes, the answer is of the contract and never a fault of ours.
func TestGarbage(t *testing.T) {
	t.Parallel()
	w := newSharedWorld(t)
	operations := slices.DeleteFunc(w.API.Operations(), func(o *contract.Operation) bool {
		// Those would end the session that the others are called with, and signing in is slow on purpose.
		return o.ID == "endCurrentSession" || o.ID == "createSession" || o.ID == "changeMyPassword" || o.ID == "enrolMySecondFactor"
	})
	target := w.make(t, aUser, w.acme)
	texts := rapid.OneOf(
		rapid.String(), rapid.StringN(0, 300, -1), rapid.SampledFrom([]string{
			"", " ", "\x00", "\ufeff", "\u202e", "a@b.cd", "İ@İ.de", "ß@faß.de", "x@xn--a.example", "x@xn--zzzzzz.de", "customer", "active",
			"redacted", "0000-01-01T00:00:00Z",
			"9999-12-31T23:59:59-12:00", "2026-02-28T23:59:60Z", "0001-01-01T00:00:00+12:00", "0.0.0.0/0", "::ffff:1.2.3.4/128",
			"fe80::1%eth0/64", "1.2.3.4/33", target, "users:read",
			strings.Repeat("é", 100), strings.Repeat("\u0958", 100), strings.Repeat("ﷺ", 100), strings.Repeat("ß", 64) + "@b.cd",
			"'; drop table users; --", "%", "_", "{}", "null",
		}))
	numbers := rapid.OneOf(rapid.Map(rapid.Int64(), func(n int64) any { return n }),
		rapid.Map(rapid.Float64Range(-1e300, 1e300), func(n float64) any { return n }))
	var value func(depth int) *rapid.Generator[any]
	value = func(depth int) *rapid.Generator[any] {
		scalars := rapid.OneOf(rapid.Map(texts, func(s string) any { return s }), numbers, rapid.SampledFrom([]any{nil, true, false}))
		if depth == 0 {
			return scalars
		}
		return rapid.OneOf(scalars, rapid.Map(rapid.SliceOfN(value(depth-1), 0, 4), func(list []any) any { return list }),
			rapid.Map(rapid.MapOfN(texts, value(depth-1), 0, 4), func(object map[string]any) any { return object }))
	}
	try := func(r *rapid.T) {
		operation := rapid.SampledFrom(operations).Draw(r, "operation")
		id := target
		if rapid.IntRange(0, 4).Draw(r, "other id") == 0 {
			id = url.PathEscape(texts.Draw(r, "id"))
		}
		path := strings.ReplaceAll(strings.ReplaceAll(operation.Path, "{id}", id), "{slug}", url.PathEscape(texts.Draw(r, "slug")))
		path = strings.ReplaceAll(path, "{token}", url.PathEscape(texts.Draw(r, "token")))
		var query []string
		for range rapid.IntRange(0, 2).Draw(r, "parameters") {
			name := rapid.SampledFrom([]string{"limit", "cursor", "email", "q", "status", "role", "alerts_opted_in", "actor_user_id", "action",
				"target_id", "from", "to", "version", "unused_for_days", "dry_run", "invite", "state", "kind", "user_id"}).Draw(r, "name")
			query = append(query, name+"="+url.QueryEscape(texts.Draw(r, "parameter")))
		}
		if len(query) > 0 {
			path += "?" + strings.Join(query, "&")
		}
		options := w.bearer(operation)
		if operation.HasBody {
			body := garbageBody(r, w, operation, texts, value(2))
			kind := "application/json"
			if operation.ID == "createUserImport" {
				kind = rapid.SampledFrom([]string{"text/csv", "application/x-ndjson"}).Draw(r, "kind")
				if kind == "text/csv" && rapid.Bool().Draw(r, "a table") {
					body = "first_name,last_name,email,role,allow_erased\n" + strings.Join(rapid.SliceOfN(texts, 0, 12).Draw(r, "fields"), ",")
				}
			}
			options = append(options, apptest.Raw(kind, body))
		}
		for _, name := range []string{"If-Match", "Idempotency-Key", "Accept", "X-Forwarded-For", "Traceparent", "X-Request-Id", "One-Time-Code"} {
			if rapid.IntRange(0, 7).Draw(r, name) == 0 {
				header := strings.Map(func(c rune) rune {
					if c < ' ' || c == 0x7f {
						return -1 // a client cannot send it
					}
					return c
				}, texts.Draw(r, "header"))
				options = append(options, apptest.Header(name, header))
			}
		}
		answer := call(t, w.Service, operation.Method, path, options...)
		if answer.Status >= 500 || t.Failed() {
			r.Fatalf("%s %s: %d %s", operation.Method, path, answer.Status, answer.Body)
		}
	}
	for range 5 { // a hundred tries each
		rapid.Check(t, try)
	}
}

// garbageBody is a good body with some of its members spoilt, or no such thing at all.
func garbageBody(r *rapid.T, w *world, operation *contract.Operation, texts *rapid.Generator[string], values *rapid.Generator[any]) string {
	if rapid.IntRange(0, 9).Draw(r, "no object") == 0 {
		return string(rapid.SliceOfN(rapid.Byte(), 0, 64).Draw(r, "bytes"))
	}
	bodies := map[string]members{
		"refreshSession": {"refresh_token": "str_x"}, "setMyAlerts": {"opted_in": true}, "setUserAlerts": {"opted_in": true},
		"redactUser":         {"reason": "other"},
		"createUserImport":   {"first_name": "A", "last_name": "B", "email": "a@b.cd", "role": "user", "allow_erased": true},
		"createUser":         {"first_name": "A", "last_name": "B", "email": "a@b.cd", "role": "user"},
		"updateUser":         {"first_name": "A", "last_name": "B", "email": "a@b.cd"},
		"createAuditEntries": entryBy(w.acme.User.ID, members{"source_id": "s-1", "details": members{"revision": 7}}),
		"createAPIKey": {"name": "k", "scopes": []string{"users:read"}, "expires_at": "2027-01-01T00:00:00Z",
			"allowed_networks": []string{"10.0.0.0/8"}},
		"updateCustomer": {"guidance_text": "g", "privacy_contact": "p@b.cd",
			"mail_domains": members{"policy": "off", "domains": []string{"b.cd"}}},
		"confirmMySecondFactor":  {"one_time_code": "287082"},
		"replaceMyRecoveryCodes": {"one_time_code": "287082"},
		"rotateAPIKey":           {"overlap_seconds": 60},
		"reportLeakedAPIKey":     {"api_key": "stw_x"},
		"raiseAlert":             {"severity": "critical", "subject": "s", "body": "b", "dedupe_key": "k"},
		"requestPasswordReset":   {"customer": "acme", "email": "a@b.cd"},
		"confirmPasswordReset":   {"token": "stl_x", "new_password": "x"},
		"createCustomer": {"slug": "initech", "name": "Initech",
			"administrator": members{"first_name": "Mina", "last_name": "Rao", "email": "mina.rao@initech.example"}},
		"updateCustomerAsOperator": {"name": "Initech"},
		"createDataSubjectRequest": {"kind": "rectification", "user_id": w.acme.User.ID.String(), "corrections": members{"first_name": "A", "email": "a@b.cd"}},
		"rejectDataSubjectRequest": {"reason": "excessive"},
	}
	body := maps.Clone(bodies[operation.ID])
	for _, name := range slices.Sorted(maps.Keys(body)) {
		switch rapid.IntRange(0, 5).Draw(r, name) {
		case 0:
			body[name] = values.Draw(r, "value")
		case 1:
			if _, isText := body[name].(string); isText {
				body[name] = texts.Draw(r, "text")
			}
		}
	}
	if operation.ID == "updateCustomer" && rapid.Bool().Draw(r, "lists") {
		body["mail_domains"] = members{"policy": "flag", "domains": rapid.SliceOfN(texts, 0, 3).Draw(r, "domains")}
	}
	text, err := json.Marshal(body)
	if err != nil {
		r.Fatal(err)
	}
	if rapid.IntRange(0, 9).Draw(r, "flip") == 0 && len(text) > 0 {
		text[rapid.IntRange(0, len(text)-1).Draw(r, "at")] ^= 1 << rapid.IntRange(0, 7).Draw(r, "bit")
	}
	return string(text)
}

func TestExamplesFitTheContract(t *testing.T) {
	t.Parallel()
	if err := contract.CheckExamples(steward.Contract); err != nil {
		t.Error(err)
	}
}
