package contract_test

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/fusionspim/steward/internal/infra/contract"
)

// small is a document around one schema and one line of an operation.
func small(operation, schema string) []byte {
	return []byte(`
openapi: 3.1.0
info: {title: Small, version: "1"}
paths:
  /x:
    post:
      operationId: doIt
` + operation + `
      requestBody: {content: {application/json: {schema: {$ref: '#/components/schemas/S'}}}}
      responses: {"204": {description: Done}}
components:
  schemas:
    S: ` + schema + "\n")
}

func TestLoadRefusesWhatWouldNotBeEnforced(t *testing.T) {
	t.Parallel()
	const public = "      x-public: true"
	for _, schema := range []string{
		"{type: object}", "{type: [string, 'null'], enum: [a, null]}", "{oneOf: [{type: string}, {type: 'null'}]}", "{type: string, format: binary}",
		"{type: integer, format: int64, exclusiveMinimum: 3}", "{type: object, properties: {if: {type: string}, const: {type: string}}}",
	} {
		if _, err := contract.Load(small(public, schema)); err != nil {
			t.Errorf("%s: %v", schema, err)
		}
	}
	for schema, want := range map[string]string{
		"{const: 1}": "const",
		"{type: array, prefixItems: [{type: string}]}":                    "prefixItems",
		"{type: array, contains: {type: string}}":                         "contains",
		"{type: array, items: {const: a}}":                                "S/items: the keyword const",
		"{type: object, properties: {a: {const: a}}}":                     "S/properties/a: the keyword const",
		"{type: object, additionalProperties: {const: a}}":                "const",
		"{allOf: [{const: a}]}":                                           "const",
		"{if: {type: string}}":                                            "if",
		"{if: {type: string}, then: {type: string}}":                      "then",
		"{if: {type: string}, else: {type: string}}":                      "else",
		"{type: object, dependentRequired: {a: [b]}}":                     "dependentRequired",
		"{type: object, dependentSchemas: {a: {type: object}}}":           "dependentSchemas",
		"{type: object, patternProperties: {a: {type: string}}}":          "patternProperties",
		"{type: object, propertyNames: {maxLength: 3}}":                   "propertyNames",
		"{type: object, unevaluatedProperties: false}":                    "unevaluatedProperties",
		"{type: [string, integer]}":                                       "list of types",
		"{type: [string, integer, 'null']}":                               "list of types",
		"{type: object, properties: {a: true}}":                           "true or false as a schema",
		"{type: string, format: telephone}":                               `format "telephone"`,
		"{type: integer, minimum: 1, exclusiveMinimum: 3}":                "a bound and an exclusive bound",
		"{type: object, properties: {a: {type: string, readOnly: true}}}": "readOnly",
	} {
		if _, err := contract.Load(small(public, schema)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", schema, err, want)
		}
	}
	for operation, want := range map[string]string{
		"":                                       "says nothing about who may call it",
		"      x-public: maybe":                  "x-public",
		"      x-public: false":                  "says nothing about who may call it",
		"      x-roles: customer":                "x-roles",
		"      x-roles: [king]":                  "x-roles",
		"      x-scope: ''":                      "x-scope",
		public + "\n      x-scope: a":            "contradicts",
		public + "\n      x-max-body-bytes: 1.5": "x-max-body-bytes",
		public + "\n      parameters: [{name: a, in: cookie, schema: {type: string}}]":                                  "cookie",
		public + "\n      parameters: [{name: a, in: query, style: deepObject, explode: true, schema: {type: object}}]": "deepObject",
		public + "\n      parameters: [{name: a, in: query, schema: {type: object}}]":                                   "neither a text",
		public + "\n      parameters: [{name: a, in: query, schema: {}}]":                                               "neither a text",
	} {
		if _, err := contract.Load(small(operation, "{type: object}")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", operation, err, want)
		}
	}
	for _, spec := range []string{"", "a: [", "openapi: 3.1.0", "[]", "a: 1\na: 2"} {
		if _, err := contract.Load([]byte(spec)); err == nil {
			t.Errorf("%q loads", spec)
		}
	}
}

func TestJSON(t *testing.T) {
	t.Parallel()
	got, err := contract.JSON([]byte(`
b: &anchor [1, 1.0, 0x10, -2e3, true, null, ~, "1", <a>&, 2026-01-31, 2026-01-31T00:00:00Z]
a: *anchor
200: {}
t: |
  two
  lines
on: yes
`))
	const list = `[1,1.0,16,-2e3,true,null,null,"1","<a>&","2026-01-31","2026-01-31T00:00:00Z"]`
	want := `{"b":` + list + `,"a":` + list + `,"200":{},"t":"two\nlines\n","on":"yes"}`
	if err != nil || string(got) != want {
		t.Errorf("\n got %s %v\nwant %s", got, err, want)
	}
	for _, bad := range []string{"a: 1\na: 2", "a: .inf", "a: !own b", "<<: {a: 1}", "? [a]\n: b", "", "a: 1\n---\nb: ["} {
		if got, err := contract.JSON([]byte(bad)); err == nil && !strings.Contains(bad, "---") {
			t.Errorf("%q becomes %s", bad, got)
		}
	}
}

func TestRendering30(t *testing.T) {
	t.Parallel()
	spec, err := os.ReadFile("testdata/spec.yaml")
	if err != nil {
		t.Fatal(err)
	}
	first, err := load(t).Rendering30()
	if err != nil {
		t.Fatal(err)
	}
	second, err := load(t).Rendering30()
	if err != nil || !bytes.Equal(first, second) {
		t.Errorf("two renderings differ, or %v", err)
	}
	doc, err := openapi3.NewLoader().LoadFromData(first)
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Errorf("the rendering is not valid: %v", err)
	}
	if !doc.IsOpenAPI30() || doc.Paths.Len() != bytes.Count(spec, []byte("\n  /v1/")) {
		t.Errorf("version %s, %d paths", doc.OpenAPI, doc.Paths.Len())
	}
	var tree any
	if err := json.Unmarshal(first, &tree); err != nil {
		t.Fatal(err)
	}
	refuse31(t, "", tree)
}

// refuse31 goes through a rendering and complains of what only OpenAPI 3.1 knows.
func refuse31(t *testing.T, where string, node any) {
	t.Helper()
	switch node := node.(type) {
	case []any:
		for _, item := range node {
			refuse31(t, where+"/*", item)
		}
	case map[string]any:
		if _, list := node["type"].([]any); list || node["type"] == "null" || node["summary"] == "Only 3.1 has this" || node["contentMediaType"] != nil {
			t.Errorf("%s is not OpenAPI 3.0.3: %v", where, node)
		}
		if bound, ok := node["exclusiveMaximum"]; ok && bound != true {
			t.Errorf("%s: a numeric exclusive bound", where)
		}
		for name, value := range node {
			refuse31(t, where+"/"+name, value)
		}
	}
}
