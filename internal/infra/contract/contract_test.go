package contract_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/infra/contract"
)

const userID = "0199b7a2-8f3c-7c1e-9b8e-0000000000aF"

func load(t testing.TB) *contract.Contract {
	t.Helper()
	spec, err := os.ReadFile("testdata/spec.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c, err := contract.Load(spec)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func operation(t testing.TB, c *contract.Contract, method, path string) *contract.Operation {
	t.Helper()
	op, ok := c.Operation(method, path)
	if !ok {
		t.Fatalf("%s %s is not there", method, path)
	}
	return op
}

// request builds a request as a server gets it: with a body of known length.
func request(method, target, body string, header ...string) *http.Request {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	if body != "" && method != http.MethodGet {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		if header[i+1] == "" {
			r.Header.Del(header[i])
			continue
		}
		r.Header.Add(header[i], header[i+1])
	}
	return r
}

// told writes a fault as "code pointer detail | pointer detail".
func told(err error) string {
	f, ok := errors.AsType[*fault.Fault](err)
	if !ok {
		return fmt.Sprintf("not a fault: %v", err)
	}
	members := make([]string, len(f.Members))
	for i, m := range f.Members {
		members[i] = m.Pointer + " " + m.Detail
	}
	return strings.TrimSpace(string(f.Code) + " " + strings.Join(members, " | "))
}

func TestOperationsAreRead(t *testing.T) {
	t.Parallel()
	c := load(t)
	op := operation(t, c, "POST", "/v1/users")
	if op.ID != "createUser" || op.Tag != "users" || !slices.Equal(op.Roles, []string{"customer", "operator"}) || op.Scope != "users:write" ||
		op.Public || op.MaxBodyBytes != 65536 || !op.Idempotent || !op.HasBody {
		t.Errorf("read %+v", op)
	}
	if op := operation(t, c, "POST", "/v1/audit-entries"); op.MaxBodyBytes != 1<<20 || op.Idempotent {
		t.Errorf("read %+v", op)
	}
	if op := operation(t, c, "GET", "/v1/users/current"); !op.Public || op.MaxBodyBytes != 0 || op.HasBody {
		t.Errorf("read %+v", op)
	}
	if _, ok := c.Operation("PUT", "/v1/users"); ok {
		t.Error("PUT /v1/users is there")
	}
	operations := c.Operations()
	if len(operations) != 9 || operations[0].ID != "appendEntries" || operations[8].ID != "redactUser" {
		t.Errorf("%d operations, from %s to %s", len(operations), operations[0].ID, operations[len(operations)-1].ID)
	}
}

func TestMatchRoute(t *testing.T) {
	t.Parallel()
	c := load(t)
	for _, row := range []struct{ method, path, id, param string }{
		{"GET", "/v1/users", "listUsers", ""},
		{"GET", "/v1/users/current", "getCurrent", ""},
		{"GET", "/v1/users/a%2Fb", "getUser", "a/b"},
		{"POST", "/v1/users/x/redaction", "redactUser", "x"},
	} {
		op, params, ok := c.MatchRoute(row.method, row.path)
		if !ok || op.ID != row.id || params["id"] != row.param {
			t.Errorf("%s: %v %v %v", row.path, op, params, ok)
		}
	}
	for _, path := range []string{"/v1/users/", "/v1", "/v1/users/a/b", "/v1/users/%zz"} {
		if op, _, ok := c.MatchRoute("GET", path); ok {
			t.Errorf("%s matches %s", path, op.ID)
		}
	}
}

func TestCheckPathQueryAndHeaders(t *testing.T) {
	t.Parallel()
	c := load(t)
	long := strings.Repeat("a", 65)
	for _, row := range []struct{ method, template, query, want string }{
		{"GET", "/v1/users", "", ""},
		{"GET", "/v1/users", "limit=1&cursor=x%20y&status=active&status=redacted&sort=a,b&opted_in=true&from=2026-01-31T13:45:00%2B01:00", ""},
		{"GET", "/v1/users", "limit=0", "malformed-request ?limit must be at least 1"},
		{"GET", "/v1/users", "limit=201", "malformed-request ?limit must be at most 200"},
		{"GET", "/v1/users", "limit=", "malformed-request ?limit must be a whole number"},
		{"GET", "/v1/users", "limit", "malformed-request ?limit must be a whole number"},
		{"GET", "/v1/users", "limit=1.0", "malformed-request ?limit must be a whole number"},
		{"GET", "/v1/users", "limit=%2B1", "malformed-request ?limit must be a whole number"},
		{"GET", "/v1/users", "limit=01", "malformed-request ?limit must be a whole number"},
		{"GET", "/v1/users", "limit=99999999999999999999", "malformed-request ?limit must be a whole number"},
		{"GET", "/v1/users", "limit=1&limit=2", "malformed-request ?limit is given more than once"},
		{"GET", "/v1/users", "sort=a&sort=b", "malformed-request ?sort is given more than once"},
		{"GET", "/v1/users", "sort=a,b,c", "malformed-request ?sort must have at most 2 entries"},
		{"GET", "/v1/users", "sort=abcdef", "malformed-request ?sort must have at most 5 characters"},
		{"GET", "/v1/users", "opted_in=1", "malformed-request ?opted_in must be true or false"},
		{"GET", "/v1/users", "status=gone", "malformed-request ?status must be one of: active, redacted"},
		{"GET", "/v1/users", "from=yesterday", "malformed-request ?from must be a time as in RFC 3339, such as 2026-01-31T13:45:00Z"},
		{"GET", "/v1/users", "cursor=%zz", "malformed-request ? holds a broken % escape"},
		{"GET", "/v1/users", "cursor=a;limit=1", "malformed-request ? holds a semicolon, which has to be escaped"},
		{"GET", "/v1/users", "cursor=a%00", "malformed-request ?cursor is not UTF-8, or holds the character NUL"},
		{"GET", "/v1/users", "cursor=%ff", "malformed-request ?cursor is not UTF-8, or holds the character NUL"},
		{"GET", "/v1/users", "=1", "malformed-request ? holds an empty name"},
		{"GET", "/v1/users", "limit=1&&cursor=a", "malformed-request ? holds an empty name"},
		{"GET", "/v1/users", "limit=1&", "malformed-request ? holds an empty name"},
		{"GET", "/v1/users", "Limit=1", "malformed-request ?Limit is not known here"},
		{"GET", "/v1/users", long + "=1", "malformed-request ? holds a name that is not known here"},
		{"GET", "/v1/users", "anna%40example.com=1", "malformed-request ? holds a name that is not known here"},
		{"GET", "/v1/users", "b=1&limit=x&a=2", "malformed-request ?a is not known here | ?b is not known here | ?limit must be a whole number"},
		{"GET", "/v1/users/current", "a=1", "malformed-request ?a is not known here"},
	} {
		err := operation(t, c, row.method, row.template).Check(request(row.method, "/x?"+row.query, ""), nil)
		if got := told(err); err == nil && row.want != "" || err != nil && got != row.want {
			t.Errorf("%s?%s\n got %s\nwant %s", row.template, row.query, got, row.want)
		}
	}
	for value, ok := range map[string]bool{
		userID: true, strings.ToUpper(userID): true, "": false, "1": false, "{" + userID + "}": false, "urn:uuid:" + userID: false,
		strings.ReplaceAll(userID, "-", ""): false, userID[:35] + "g": false, userID + "\n": false,
	} {
		err := operation(t, c, "GET", "/v1/users/{id}").Check(request("GET", "/x", ""), map[string]string{"id": value})
		if ok != (err == nil) || err != nil && told(err) != "not-found" {
			t.Errorf("id %q: %s", value, told(err))
		}
	}
	for _, row := range []struct{ name, value, want string }{
		{"If-Match", `"12"`, ""},
		{"If-Match", `W/"12"`, `malformed-request header If-Match must match the pattern ^"[0-9]+"$`},
		{"If-Match", "\"1\x00\"", "malformed-request header If-Match is not UTF-8, or holds the character NUL"},
		{"X-Other", "\xff", ""},
	} {
		r := request("PATCH", "/x", `{"first_name":"Jo"}`, row.name, row.value)
		err := operation(t, c, "PATCH", "/v1/users/{id}").Check(r, map[string]string{"id": userID})
		if got := told(err); err == nil && row.want != "" || err != nil && got != row.want {
			t.Errorf("%s: %s\n got %s\nwant %s", row.name, row.value, got, row.want)
		}
	}
	r := request("PATCH", "/x", `{"first_name":"Jo"}`, "If-Match", `"1"`, "If-Match", `"2"`)
	err := operation(t, c, "PATCH", "/v1/users/{id}").Check(r, map[string]string{"id": userID})
	if got := told(err); got != "malformed-request header If-Match is given more than once" {
		t.Error(got)
	}
}

func TestCheckBody(t *testing.T) {
	t.Parallel()
	c := load(t)
	users, entries := operation(t, c, "POST", "/v1/users"), operation(t, c, "POST", "/v1/audit-entries")
	entry := func(change string) string {
		all := map[string]string{
			"actor_user_id": `"` + userID + `"`, "action": `"asset.download"`, "target": `{"type":"asset","id":"1"}`,
			"occurred_at": `"2026-01-31T13:45:00.5Z"`,
		}
		name, value, _ := strings.Cut(change, "=")
		if name != "" {
			all[name] = value
		}
		var members []string
		for name, value := range all {
			if value != "" {
				members = append(members, `"`+name+`":`+value)
			}
		}
		return "{" + strings.Join(members, ",") + "}"
	}
	with := func(more string) string { return `{"first_name":"Jo","email":"jo@example.com",` + more + `}` }
	deep := func(n int) string {
		return with(`"anything":` + strings.Repeat("[", n-1) + strings.Repeat("]", n-1))
	}
	const bad = "malformed-request "
	for _, row := range []struct {
		op         *contract.Operation
		body, want string
	}{
		{users, `{"first_name":"Jo","email":"jo@example.com"}`, ""},
		{users, with(`"role":"user","age":3,"share":1.5,"nickname":null,"tags":["a"],"born":"2000-02-29","site":"https://a.example"`), ""},
		{users, with(`"owner":null,"network":"192.0.2.0/24","labels":{"a":1},"contact":{"kind":"post","street":"x"},"extended":{"a":1,"b":true}`), ""},
		{users, " \r\n\t{\"first_name\" : \"\\u00e9\\ud83d\\ude00\\n\\\"\\/\" , \"email\":\"jo@example.com\"} ", ""},
		{users, with(`"age":1e2`), ""},
		{users, with(`"anything":[1,-2.5e-3,{"a":[]},{},true,false,null,""]`), ""},
		{users, deep(32), ""},
		// Strict JSON
		{users, ``, bad + " is required"},
		{users, ` `, bad + " is not JSON: it ends too early"},
		{users, `nul`, bad + " is not JSON"},
		{users, `{`, bad + " is not JSON: it ends too early"},
		{users, `{"first_name":`, bad + "/first_name is not JSON: it ends too early"},
		{users, `{"first_name" "Jo"}`, bad + "/first_name is not JSON"},
		{users, `{"first_name":"Jo",}`, bad + " is not JSON"},
		{users, `{first_name:"Jo"}`, bad + " is not JSON"},
		{users, with(`"tags":["a",]`), bad + "/tags/1 is not JSON"},
		{users, with(`"age":01`), bad + " is not JSON"},
		{users, with(`"age":+1`), bad + "/age is not JSON"},
		{users, with(`"age":1.`), bad + "/age is not JSON"},
		{users, with(`"age":1e`), bad + "/age is not JSON"},
		{users, with(`"age":NaN`), bad + "/age is not JSON"},
		{users, with(`"age":1e999`), bad + "/age is a number too large to be taken"},
		{users, with(`"share":1e20`), bad + "/share is a number too large to be taken"},
		{users, with(`"age":9223372036854775808`), bad + "/age is a number too large to be taken"},
		{users, with(`"share":0.` + strings.Repeat("1", 30)), bad + "/share is a number of more than 30 characters"},
		{users, `{} {}`, bad + " holds more than one JSON value"},
		{users, "\xef\xbb\xbf{}", bad + " is not JSON"},
		{users, `{"first_name":"Jo","first_name":"Al","email":"jo@example.com"}`, bad + "/first_name is given twice"},
		{users, `{"first_name":"Jo","first\u005fname":"Al","email":"jo@example.com"}`, bad + "/first_name is given twice"},
		{users, with(`"anything":[{"a":{"b":1,"b":2}}]`), bad + "/anything/0/a/b is given twice"},
		{users, with(`"anything":{"jo@example.com":1,"jo@example.com":2}`), bad + "/anything is given twice"},
		{users, "{\"first_name\":\"J\xff\"}", bad + "/first_name is not UTF-8"},
		{users, "{\"first_name\":\"\\nJ\xff\"}", bad + "/first_name is not UTF-8"},
		{users, "{\"J\xff\":1}", bad + " is not UTF-8"},
		{users, `{"first_name":"J\u0000"}`, bad + "/first_name holds the character NUL, which is not taken"},
		{users, "{\"first_name\":\"J\x00\"}", bad + "/first_name is not JSON: it holds a control character that is not escaped"},
		{users, "{\"first_name\":\"\\nJ\n\"}", bad + "/first_name is not JSON: it holds a control character that is not escaped"},
		{users, `{"a\u0000":1}`, bad + " holds the character NUL, which is not taken"},
		{users, `{"first_name":"\ud800"}`, bad + "/first_name holds half of a surrogate pair"},
		{users, `{"first_name":"\ud800\u0041"}`, bad + "/first_name holds half of a surrogate pair"},
		{users, `{"first_name":"\udc00\ud800"}`, bad + "/first_name holds half of a surrogate pair"},
		{users, `{"first_name":"\u12"}`, bad + "/first_name is not JSON"},
		{users, `{"first_name":"\x"}`, bad + "/first_name is not JSON"},
		{users, deep(33), bad + "/anything" + strings.Repeat("/0", 31) + " is nested too deeply: at most 32 levels are taken"},
		// The schema
		{users, `[]`, bad + " must be an object"},
		{users, `null`, bad + " must not be null"},
		{users, `{}`, bad + "/email is required | /first_name is required"},
		{users, with(`"x":1,"y":2`), bad + "/x is not known here | /y is not known here"},
		{users, with(`"First_name":"x"`), bad + "/First_name is not known here"},
		{users, with(`"anna@example.com":1,"b/c":2`), bad + " has a member that is not known here"},
		{users, `{"first_name":"","email":"jo"}`, bad + "/email must be one e-mail address | /first_name must not be empty"},
		{users, `{"first_name":"éééééé","email":"jo@example.com"}`, bad + "/first_name must have at most 5 characters"},
		{users, `{"first_name":"😀😀😀😀😀","email":"jo@example.com"}`, ""},
		{users, `{"first_name":5,"email":"jo@example.com"}`, bad + "/first_name must be a text"},
		{users, `{"first_name":null,"email":"jo@example.com"}`, bad + "/first_name must not be null"},
		{users, with(`"role":"king"`), bad + "/role must be one of: customer, user"},
		{users, with(`"age":1.5`), bad + "/age must be a whole number"},
		{users, with(`"age":-1`), bad + "/age must be at least 0"},
		{users, with(`"age":150`), bad + "/age must be less than 150"},
		{users, with(`"share":0.3`), bad + "/share must be a multiple of 0.5"},
		{users, with(`"nickname":"abcd"`), bad + "/nickname must have at most 3 characters"},
		{users, with(`"tags":["a","B","c"]`), bad + "/tags must have at most 2 entries | /tags/1 must match the pattern ^[a-z]+$"},
		{users, with(`"tags":["a","a"]`), bad + "/tags must not hold the same entry twice"},
		{users, with(`"tags":{}`), bad + "/tags must be a list"},
		{users, with(`"born":"2001-02-29"`), bad + "/born must be a day as in RFC 3339, such as 2026-01-31"},
		{users, with(`"site":"/x"`), bad + "/site must be an absolute URI"},
		{users, with(`"network":"192.0.2.0"`), bad + "/network must be a network in CIDR form, such as 192.0.2.0/24"},
		{users, with(`"owner":{"type":"a"}`), bad + "/owner/id is required"},
		{users, with(`"owner":1`), bad + "/owner must be an object"},
		{users, with(`"labels":{"a":1,"b":2,"c":3}`), bad + "/labels must have at most 2 members"},
		{users, with(`"labels":{"a":"x"}`), bad + "/labels/a must be a whole number"},
		{users, with(`"labels":{"jo@example.com":"x"}`), bad + "/labels must be a whole number"},
		{users, with(`"contact":{"kind":"phone","street":"x"}`), bad + "/contact/number is required | /contact/street is not known here"},
		{users, with(`"contact":{"kind":"fax"}`), bad + "/contact/kind must name one of the kinds in the contract"},
		{users, with(`"contact":{}`), bad + "/contact/kind must name one of the kinds in the contract"},
		{users, with(`"extended":{"a":"x"}`), bad + "/extended/a must be a whole number | /extended/b is required"},
		// One entry, or a list of them
		{entries, entry(""), ""},
		{entries, "[" + entry("") + "," + entry(`details={"a":1,"b":"x","c":false}`) + "]", ""},
		{entries, entry("action="), bad + "/action is required"},
		{entries, "[" + entry("") + "," + entry("action=") + "]", bad + "/1/action is required"},
		{entries, "[" + entry("") + "," + entry("action=1") + "," + entry(`target={"type":"A","id":1,"x":1}`) + "]",
			bad + "/1/action must be a text | /2/target/id must be a text | /2/target/type must match the pattern ^[a-z][a-z0-9_]*$" +
				" | /2/target/x is not known here"},
		{entries, entry(`details={"a":{}}`), bad + "/details/a must be a text or a number or true or false"},
		{entries, entry(`details={"a":"` + strings.Repeat("x", 101) + `"}`), bad + "/details/a must have at most 100 characters"},
		{entries, entry(`occurred_at="2026-01-31 13:45:00Z"`), bad + "/occurred_at must be a time as in RFC 3339, such as 2026-01-31T13:45:00Z"},
		{entries, `[]`, bad + " must have at least 1 entry"},
		{entries, `"x"`, bad + " must be an object or a list"},
		{entries, `[1,null]`, bad + "/0 must be an object | /1 must not be null"},
	} {
		err := row.op.Check(request("POST", "/x", row.body), nil)
		if got := told(err); err == nil && row.want != "" || err != nil && got != row.want {
			t.Errorf("%s\n got %s\nwant %s", row.body, got, row.want)
		}
	}

	err := entries.Check(request("POST", "/x", "["+strings.Repeat("{},", 999)+"{}]"), nil)
	if f, ok := errors.AsType[*fault.Fault](err); !ok || len(f.Members) != 20 || f.Members[0].Pointer != "/0/action" ||
		f.Members[19].Pointer != "/4/target" {
		t.Errorf("a thousand bad entries: %s", told(err))
	}
	err = entries.Check(request("POST", "/x", "["+strings.Repeat("{},", 1000)+"{}]"), nil)
	if !strings.Contains(told(err), " must have at most 1000 entries | /0/action") {
		t.Errorf("too many entries: %s", told(err))
	}
}

// chunked makes the length of a body unknown.
func chunked(r *http.Request) *http.Request {
	r.ContentLength = -1
	return r
}

func TestCheckMediaAndLength(t *testing.T) {
	t.Parallel()
	c := load(t)
	users, redaction := operation(t, c, "POST", "/v1/users"), operation(t, c, "POST", "/v1/users/{id}/redaction")
	change, remove := operation(t, c, "PATCH", "/v1/users/{id}"), operation(t, c, "DELETE", "/v1/users/{id}")
	imports := operation(t, c, "POST", "/v1/imports")
	const good, patch = `{"first_name":"Jo","email":"jo@example.com"}`, `{"first_name":"Jo"}`
	large := strings.Repeat(" ", 65537-len(good)) + good
	for _, row := range []struct {
		name string
		op   *contract.Operation
		r    *http.Request
		want string
	}{
		{"charset", users, request("POST", "/x", good, "Content-Type", "", "Content-Type", "application/json; charset=UTF-8"), ""},
		{"capitals", users, request("POST", "/x", good, "Content-Type", "", "Content-Type", "Application/JSON"), ""},
		{"identity", users, request("POST", "/x", good, "Content-Encoding", "identity"), ""},
		{"chunked", users, chunked(request("POST", "/x", good)), ""},
		{"merge patch", change, request("PATCH", "/x", patch, "Content-Type", "", "Content-Type", "application/merge-patch+json"), ""},
		{"largest", users, request("POST", "/x", large[1:]), ""},
		{"optional, absent", redaction, request("POST", "/x", ""), ""},
		{"optional, absent, chunked", redaction, chunked(request("POST", "/x", "")), ""},
		{"optional, empty object", redaction, request("POST", "/x", "{}"), ""},
		{"none declared, empty", remove, request("DELETE", "/x", ""), ""},
		{"none declared, empty, chunked", remove, chunked(request("DELETE", "/x", "")), ""},
		{"csv", imports, request("POST", "/x", "a,b", "Content-Type", "", "Content-Type", "text/csv"), ""},

		{"other charset", users, request("POST", "/x", good, "Content-Type", "", "Content-Type", "application/json; charset=latin1"), "unsupported-media-type"},
		{"other type", users, request("POST", "/x", good, "Content-Type", "", "Content-Type", "text/plain"), "unsupported-media-type"},
		{"broken type", users, request("POST", "/x", good, "Content-Type", "", "Content-Type", "application/json; ="), "unsupported-media-type"},
		{"two types", users, request("POST", "/x", good, "Content-Type", "application/json"), "unsupported-media-type"},
		{"no type", users, request("POST", "/x", good, "Content-Type", ""), "unsupported-media-type"},
		{"merge patch on POST", users, request("POST", "/x", good, "Content-Type", "", "Content-Type", "application/merge-patch+json"), "unsupported-media-type"},
		{"optional, no type", redaction, request("POST", "/x", "{}", "Content-Type", ""), "unsupported-media-type"},
		{"gzip", users, request("POST", "/x", good, "Content-Encoding", "gzip"), "unsupported-media-type"},
		{"required, absent", users, request("POST", "/x", ""), "malformed-request  is required"},
		{"required, absent, chunked", users, chunked(request("POST", "/x", "")), "malformed-request  is required"},
		{"none declared", remove, request("DELETE", "/x", `{"a": 1}`), "malformed-request"},
		{"none declared, chunked", remove, chunked(request("DELETE", "/x", `{"a": 1}`)), "malformed-request"},
		{"too large", users, request("POST", "/x", large), "body-too-large"},
		{"too large, chunked", users, chunked(request("POST", "/x", large)), "body-too-large"},
	} {
		err := row.op.Check(row.r, map[string]string{"id": userID})
		if got := told(err); err == nil && row.want != "" || err != nil && got != row.want {
			t.Errorf("%s\n got %s\nwant %s", row.name, got, row.want)
		}
	}

	for _, n := range []int{0, 1, 2, 3} { // a stream is cut at its limit, whatever the pieces in which it is read
		r := chunked(request("POST", "/x", strings.Repeat("x", 99+n), "Content-Type", "", "Content-Type", "text/csv"))
		if err := imports.Check(r, nil); err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r.Body)
		if n <= 1 && (err != nil || len(text) != 99+n) || n > 1 && (!fault.Is(err, fault.BodyTooLarge) || len(text) != 100) {
			t.Errorf("%d bytes of csv: read %d, %v", 99+n, len(text), err)
		}
	}
	r := chunked(request("POST", "/x", good))
	r.Body = io.NopCloser(io.MultiReader(strings.NewReader("{"), failing{}))
	if err := users.Check(r, nil); !fault.Is(err, fault.MalformedRequest) || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a body that breaks off: %v", err)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestBodyIsLeftToBeBound(t *testing.T) {
	t.Parallel()
	users := operation(t, load(t), "POST", "/v1/users")
	for body, want := range map[string]string{
		` {"first_name":"Jo","email":"jo@example.com"} `:                                         "",
		`{"first_name":"Jo","email":"jo@example.com","age":1.0,"anything":[1e3,2.5,-0.0,"1.0"]}`: `{"first_name":"Jo","email":"jo@example.com","age":1,"anything":[1000,2.5,0,"1.0"]}`,
	} {
		for _, r := range []*http.Request{request("POST", "/x", body), chunked(request("POST", "/x", body))} {
			if err := users.Check(r, nil); err != nil {
				t.Fatal(told(err))
			}
			got, err := io.ReadAll(r.Body)
			if want == "" {
				want = body
			}
			if err != nil || string(got) != want || r.ContentLength != int64(len(got)) {
				t.Errorf("%s is left as %s of length %d, %v", body, got, r.ContentLength, err)
			}
			if err := r.Body.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestCheckResponse(t *testing.T) {
	t.Parallel()
	c := load(t)
	list, remove := operation(t, c, "GET", "/v1/users"), operation(t, c, "DELETE", "/v1/users/{id}")
	header := func(pairs ...string) http.Header {
		h := http.Header{"Content-Type": {"application/json"}, "Cache-Control": {"no-store"}}
		for i := 0; i < len(pairs); i += 2 {
			h.Set(pairs[i], pairs[i+1])
		}
		return h
	}
	const page = `{"data":[{"id":"` + userID + `","label":null}],"next_cursor":null}`
	for _, row := range []struct {
		op     *contract.Operation
		status int
		header http.Header
		body   string
		want   string
	}{
		{list, 200, header(), page, ""},
		{list, 200, header("Content-Type", "application/json; charset=utf-8", "Link", "<x>"), page, ""},
		{list, 404, header("Content-Type", "application/problem+json"), `{"type":"x","more":1}`, ""},
		{remove, 204, http.Header{}, "", ""},
		{remove, 204, http.Header{}, "x", `"" is a body where none is declared`},
		{remove, 200, header(), "{}", "not declared"},
		{list, 500, header(), "{}", "not declared"},
		{list, 200, header("Content-Type", "text/html"), page, "text/html, which is not declared"},
		{list, 200, http.Header{"Cache-Control": {"no-store"}}, page, "without one readable Content-Type"},
		{list, 200, http.Header{"Content-Type": {"application/json"}}, page, `"header Cache-Control" is required`},
		{list, 200, header("Cache-Control", "public"), page, `"header Cache-Control" must be no-store`},
		{list, 200, header(), "", "empty body"},
		{list, 200, header(), `{"data":[{"id":"1","label":"a","secret":1}],"next_cursor":null}`,
			`"/data/0/id" must be a UUID of 36 characters with hyphens; "/data/0/secret" is not known here`},
		{list, 200, header(), `{"data":[]}`, `"/next_cursor" is required`},
		{list, 200, header(), `{"data":[],"data":[]}`, `"/data" is given twice`},
	} {
		err := c.CheckResponse(row.op, row.status, row.header, []byte(row.body))
		if row.want == "" && err != nil || row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)) {
			t.Errorf("%d %s\n got %v\nwant %s", row.status, row.body, err, row.want)
		}
	}
}

func TestABodyThatNobodyReads(t *testing.T) {
	t.Parallel()
	op := operation(t, load(t), "GET", "/v1/users/current")
	for body, fine := range map[string]bool{
		"": true, "{}": true, " {\n} ": true, "  \n": true,
		"{": false, "}": false, "[]": false, "null": false, `{"reason": "x"}`: false, "{}{}": false, "{}" + strings.Repeat(" ", 100): false,
	} {
		request := httptest.NewRequest("GET", "/v1/users/current", io.NopCloser(strings.NewReader(body)))
		request.ContentLength = -1
		if err := op.Check(request, nil); (err == nil) != fine {
			t.Errorf("%q: %v", body, err)
		} else if fault.Is(err, fault.MalformedRequest) == fine {
			t.Errorf("%q: %v", body, err)
		}
	}
}
