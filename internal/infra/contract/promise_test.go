package contract_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"pgregory.net/rapid"

	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/infra/contract"
)

// secret is a text that stands in no contract; whatever holds it in a fault holds a value.
const secret = "Zq7Zq"

// leaks tells whether a fault or its text for the log holds the secret.
func leaks(err error) bool {
	return err != nil && (strings.Contains(told(err), secret) || strings.Contains(err.Error(), secret) || strings.Contains(fmt.Sprintf("%+v", err), secret))
}

func TestNoValueIsEverRepeated(t *testing.T) {
	t.Parallel()
	c := load(t)
	users, list := operation(t, c, "POST", "/v1/users"), operation(t, c, "GET", "/v1/users")
	entries := operation(t, c, "POST", "/v1/audit-entries")
	names := []string{
		"first_name", "email", "role", "age", "share", "nickname", "tags", "born", "site", "network", "owner", "labels", "contact", "anything", "extended",
		"type", "id", "kind", "number", "street", "a", "b", "actor_user_id", "action", "target", "occurred_at", "details", "unknown",
		secret + "@example.com", secret + " with a blank", strings.Repeat(secret, 20),
	}
	var value func(depth int) *rapid.Generator[any]
	value = func(depth int) *rapid.Generator[any] {
		scalar := rapid.OneOf(
			rapid.Just[any](nil), rapid.Just[any](true), rapid.Just[any](secret), rapid.Just[any](secret+"@example.com"),
			rapid.Just[any](strings.Repeat(secret, 60)), rapid.Just[any](7.25), rapid.Just[any]("phone"), rapid.Just[any](""),
		)
		if depth == 0 {
			return scalar
		}
		return rapid.OneOf(
			scalar,
			rapid.Map(rapid.SliceOfN(value(depth-1), 0, 4), func(v []any) any { return v }),
			rapid.Map(rapid.MapOfN(rapid.SampledFrom(names), value(depth-1), 0, 8), func(v map[string]any) any { return v }),
		)
	}
	rapid.Check(t, func(t *rapid.T) {
		text, err := json.Marshal(value(3).Draw(t, "body"))
		if err != nil {
			t.Fatal(err)
		}
		if cut := rapid.IntRange(0, 4*len(text)).Draw(t, "cut"); cut < len(text) {
			text = text[:cut]
		}
		for _, op := range []*contract.Operation{users, entries} {
			if err := op.Check(request("POST", "/x", string(text)), nil); leaks(err) {
				t.Fatalf("%s: %s", text, told(err))
			}
		}
		name := rapid.SampledFrom([]string{"limit", "cursor", "status", "sort", "opted_in", "from", secret + "%40a", secret + "%zz"}).Draw(t, "name")
		r := request("GET", "/x", "")
		r.URL.RawQuery = name + "=" + secret + rapid.SampledFrom([]string{"", ";", "%", "&limit=" + secret, "%00"}).Draw(t, "rest")
		if err := list.Check(r, nil); leaks(err) {
			t.Fatalf("%s: %s", r.URL.RawQuery, told(err))
		}
		r = request("POST", "/x", "{}", "Idempotency-Key", secret+" x")
		if err := users.Check(r, nil); leaks(err) {
			t.Fatalf("header: %s", told(err))
		}
	})
}

func FuzzCheckBody(f *testing.F) {
	c := load(f)
	users, entries := operation(f, c, "POST", "/v1/users"), operation(f, c, "POST", "/v1/audit-entries")
	for _, seed := range []string{
		`{"first_name":"Jo","email":"jo@example.com","age":1.0}`, `[{"action":"a.b"}]`, `{"a":"\ud83d\ude00\u0000"}`, "\"\xff", `[1e5,-0.0,{"a":{}}]`,
		`{"` + secret + `@a":"` + secret + `","` + secret + `@a":1}`, `{"contact":{"kind":"` + secret + `"}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, op := range []*contract.Operation{users, entries} {
			r := request("POST", "/x", string(body))
			err := op.Check(r, nil)
			if err != nil {
				problem, ok := errors.AsType[*fault.Fault](err)
				if !ok || len(problem.Members) > 20 {
					t.Fatalf("not a fault, or with too many members: %v", err)
				}
				// The values of the seeds may become names, which may be repeated when harmless, so only texts that cannot be one count.
				if strings.Contains(told(err), secret+"@") {
					t.Fatalf("repeats a value: %s", told(err))
				}
				continue
			}
			// What is let through is JSON for the standard library as well, and means the same.
			var given, left any
			text := new(bytes.Buffer)
			if _, err := text.ReadFrom(r.Body); err != nil {
				t.Fatal(err)
			}
			if json.Unmarshal(body, &given) != nil || json.Unmarshal(text.Bytes(), &left) != nil || fmt.Sprint(given) != fmt.Sprint(left) {
				t.Fatalf("%q is let through as %q", body, text)
			}
		}
	})
}

// TestTheSwapChangesNoVerdict replays bodies in kin-openapi's own mode for OpenAPI 3.1, on the document as it is written.
func TestTheSwapChangesNoVerdict(t *testing.T) {
	t.Parallel()
	spec, err := os.ReadFile("testdata/spec.yaml")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := openapi3.NewLoader().LoadFromData(spec)
	if err != nil {
		t.Fatal(err)
	}
	native := doc.Paths.Value("/v1/users").Post.RequestBody.Value.Content["application/json"].Schema.Value
	batch := doc.Paths.Value("/v1/audit-entries").Post.RequestBody.Value.Content["application/json"].Schema.Value
	c := load(t)
	users, entries := operation(t, c, "POST", "/v1/users"), operation(t, c, "POST", "/v1/audit-entries")
	verdicts := map[bool]int{}
	compare := func(schema *openapi3.Schema, op *contract.Operation, body string) {
		t.Helper()
		var value any
		if err := json.Unmarshal([]byte(body), &value); err != nil {
			t.Fatal(err)
		}
		want := schema.VisitJSON(value, openapi3.EnableJSONSchema2020(), openapi3.MultiErrors()) == nil
		if got := op.Check(request(http.MethodPost, "/x", body), nil) == nil; got != want {
			t.Errorf("%s: fast %t, native %t", body, got, want)
		}
		verdicts[want]++
	}
	values := []string{
		`null`, `true`, `0`, `1`, `1.5`, `149`, `150`, `-1`, `""`, `"a"`, `"abcd"`, `"user"`, `[]`, `["a"]`, `["a","a"]`, `["a","b","c"]`, `{}`, `{"a":1}`,
		`{"a":1,"b":true}`, `{"a":1,"b":2,"c":3}`, `{"type":"a","id":"1"}`, `{"type":"A","id":"1"}`, `{"kind":"phone","number":"1"}`,
		`{"kind":"post","number":"1"}`, `"2026-01-31"`,
	}
	for _, name := range []string{
		"first_name", "role", "age", "share", "nickname", "tags", "born", "owner", "labels", "contact", "anything", "extended", "other",
	} {
		for _, value := range values {
			body := `{"first_name":"Jo","email":"jo@example.com","` + name + `":` + value + `}`
			if name == "first_name" {
				body = `{"email":"jo@example.com","first_name":` + value + `}`
			}
			compare(native, users, body)
		}
	}
	one := strings.TrimSuffix(strings.TrimPrefix(batchOf(1), "["), "]")
	for _, body := range []string{
		one, batchOf(1), batchOf(3), `[]`, `{}`, `null`, `1`, "[" + one + ",1]", "[{}]",
		strings.Replace(one, "asset.download", "Asset", 1), strings.Replace(batchOf(2), `"ok":true`, `"ok":null`, 1),
	} {
		compare(batch, entries, body)
	}
	if verdicts[true] < 30 || verdicts[false] < 100 {
		t.Errorf("%d good and %d bad bodies prove little", verdicts[true], verdicts[false])
	}
}

// batchOf writes a list of n entries of an audit trail.
func batchOf(n int) string {
	rows := make([]string, n)
	for i := range rows {
		rows[i] = fmt.Sprintf(`{"source_id":"src-%d","actor_user_id":"0199b7a2-8f3c-7c1e-9b8e-%012d","action":"asset.download",`+
			`"target":{"type":"asset","id":"a-%d"},"occurred_at":"2026-11-23T10:00:00.123Z","details":{"size":%d,"kind":"image","ok":true}}`, i, i, i, i)
	}
	return "[" + strings.Join(rows, ",") + "]"
}
