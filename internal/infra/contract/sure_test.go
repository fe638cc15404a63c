package contract

import (
	"os"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"pgregory.net/rapid"
)

func TestSureNeverAcceptsWhatKinOpenAPIRefuses(t *testing.T) {
	t.Parallel()
	spec, err := os.ReadFile("testdata/spec.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c, err := Load(spec)
	if err != nil {
		t.Fatal(err)
	}
	op, _ := c.Operation("POST", "/v1/users")
	short := sures{compiled: map[*openapi3.Schema]*sure{}, formats: formatChecks()}
	var all []*openapi3.Schema
	for _, name := range sortedKeys(c.doc.Components.Schemas) {
		schema := c.doc.Components.Schemas[name].Value
		all = append(all, schema)
		for _, member := range sortedKeys(schema.Properties) {
			all = append(all, schema.Properties[member].Value)
		}
	}
	batch, _ := c.Operation("POST", "/v1/audit-entries")
	all = append(all, batch.media["application/json"])

	scalar := rapid.SampledFrom([]any{
		nil, true, 0.0, 1.0, 1.5, -1.0, 149.0, 150.0, 2147483647.0, 2147483648.0, -2147483649.0, 9007199254740993.0, 1e18, "", "a", "B", "abcd", "éé", "user", "phone", "jo@example.com", "2026-01-31", "a.b",
		"2026-01-31T13:45:00Z", "2026-01-31T13:45:00,5Z", "2026-01-31T1:45:00Z", "0199b7a2-8f3c-7c1e-9b8e-0000000000af", "192.0.2.0/24", "https://a.example",
	})
	accepted, refused := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		schema := rapid.SampledFrom(all).Draw(t, "schema")
		value := likely(t, schema, scalar, 3)
		sure, judged := short.compile(schema).accepts(value), schema.VisitJSON(value, op.visit...) == nil
		if sure && !judged {
			t.Fatalf("accepted: %#v", value)
		}
		if judged != (schema.VisitJSON(value, op.visitAll...) == nil) {
			t.Fatalf("kin-openapi's fast and slow ways differ: %#v", value)
		}
		if sure {
			accepted++
		} else if !judged {
			refused++
		}
	})
	if accepted == 0 || refused == 0 {
		t.Errorf("%d accepted and %d refused prove nothing", accepted, refused)
	}
}

// likely draws a value that mostly has the shape that the schema asks for.
func likely(t *rapid.T, schema *openapi3.Schema, scalar *rapid.Generator[any], depth int) any {
	if depth == 0 || rapid.IntRange(0, 9).Draw(t, "shape") == 0 {
		return scalar.Draw(t, "scalar")
	}
	if len(schema.OneOf) > 0 {
		return likely(t, rapid.SampledFrom(schema.OneOf).Draw(t, "alternative").Value, scalar, depth)
	}
	switch {
	case schema.Type.Is(openapi3.TypeArray):
		items := []any{}
		for range rapid.IntRange(0, 3).Draw(t, "items") {
			items = append(items, likely(t, schema.Items.Value, scalar, depth-1))
		}
		return items
	case schema.Type.Is(openapi3.TypeObject):
		members := map[string]any{}
		for _, name := range sortedKeys(schema.Properties) {
			if rapid.IntRange(0, 7).Draw(t, "there") > 0 {
				members[name] = likely(t, schema.Properties[name].Value, scalar, depth-1)
			}
		}
		if rapid.IntRange(0, 5).Draw(t, "more") == 0 {
			members["more"] = scalar.Draw(t, "scalar")
		}
		return members
	case len(schema.Enum) > 0 && rapid.Bool().Draw(t, "choice"):
		return rapid.SampledFrom(schema.Enum).Draw(t, "enum")
	}
	return scalar.Draw(t, "scalar")
}

func TestEveryFormatHasASentence(t *testing.T) {
	t.Parallel()
	for name := range formatChecks() {
		if formatSentence(name) == "" || !knownFormat(name) {
			t.Errorf("%s has none", name)
		}
	}
}

func TestFormats(t *testing.T) {
	t.Parallel()
	checks := formatChecks()
	for format, texts := range map[string]struct{ good, bad []string }{
		"email": {[]string{"a@b", "jo@example.com", "jö@exämple.com"}, []string{"", "a", "@b", "a@", "a@b@c", "a b@c", "a@b\n"}},
		"date-time": {
			[]string{"2026-01-31T13:45:00Z", "2026-01-31T13:45:00.123456789Z", "2026-01-31T13:45:00+05:30", "2026-01-31T13:45:00.5-23:59"},
			[]string{
				"", "2026-01-31", "2026-01-31T13:45Z", "2026-01-31 13:45:00Z", "2026-01-31t13:45:00Z", "2026-01-31T13:45:00", "2026-02-30T13:45:00Z",
				"2026-01-31T1:45:00Z", "2026-01-31T13:45:00,5Z", "2026-01-31T13:45:00+24:00", "2026-01-31T13:45:00+0530", "2026-01-31T24:00:00Z",
				"2026-01-31T13:45:60Z", "2026-01-31T13:45:00.Z", "2026-01-31T13:45:00+05:60", "2026-01-31T13:45:00+5:300",
			},
		},
		"date": {[]string{"2024-02-29"}, []string{"", "2026-02-29", "2026-1-1", "2026-01-01T00:00:00Z", "20260101"}},
		"uri":  {[]string{"https://a.example/x?y#z", "mailto:a@b"}, []string{"", "/x", "a b", "https://a b", "https://é", "http://%zz"}},
		"ipv4": {[]string{"192.0.2.1"}, []string{"", "192.0.2", "::1", "192.0.2.01"}},
		"ipv6": {[]string{"::1", "2001:db8::"}, []string{"", "192.0.2.1", "fe80::1%eth0"}},
		"ip":   {[]string{"::1", "192.0.2.1"}, []string{"", "x", "fe80::1%eth0"}},
		"cidr": {[]string{"192.0.2.0/24", "2001:db8::/32"}, []string{"", "192.0.2.0", "192.0.2.0/33", "x/1"}},
	} {
		for _, text := range texts.good {
			if !checks[format](text) {
				t.Errorf("%s refuses %q", format, text)
			}
		}
		for _, text := range texts.bad {
			if checks[format](text) {
				t.Errorf("%s takes %q", format, text)
			}
		}
	}
}
