// Package contract holds requests, and in tests the answers too, against openapi.yaml.
//
// Owns: reading the document, the strict reading of queries, headers and JSON bodies, the judgement by its schemas, and the words in which a
// caller is told what is wrong. Owns the renderings of the document that are served: as JSON, and as OpenAPI 3.0.3.
// Does not own: routing and rendering (httpapi), who is calling (Roles, Public and Scope are only read out of the document here), and rules
// that need more than the document, such as what makes an e-mail address good (the features).
//
// No text made here repeats a value from a request, and no name of a member that could be more than a name: a person's data may stand in
// either, and problem documents end in other people's logs. kin-openapi's own error texts hold the value and are therefore never used.
//
// The document is written in OpenAPI 3.1, and judged as 3.0.3: kin-openapi compiles a 3.1 schema anew for each value, which costs some forty
// times as much. What 3.0.3 would not enforce makes Load fail, so that nothing is silently let through.
package contract

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/getkin/kin-openapi/openapi3"
)

// defaultMaxBodyBytes is the longest body of an operation that does not say x-max-body-bytes.
const defaultMaxBodyBytes = 64 << 10

// Contract is the loaded document. It does not change after Load and is safe for concurrent use.
type Contract struct {
	source      []byte
	json        []byte
	doc         *openapi3.T
	operations  []*Operation // sorted by path, then method
	byRoute     map[route]*Operation
	rendering30 func() ([]byte, error)
}

// Source is the document as it is written, in YAML. It is not to be changed.
func (c *Contract) Source() []byte { return c.source }

// JSON is the document in JSON, as the function JSON renders it. It is not to be changed.
func (c *Contract) JSON() []byte { return c.json }

// route is what an operation is looked up by.
type route struct{ method, path string }

// Operation is one operation of the document, made ready for checking. Its fields are to be read only.
type Operation struct {
	ID     string // operationId
	Method string // in capitals
	Path   string // the template as the document writes it, such as /v1/users/{id}
	Tag    string // the first tag, or empty

	Roles  []string // x-roles: which of operator, customer and user may call; empty when none may
	Scope  string   // x-scope: the scope with which an API key may call; empty when none may
	Public bool     // x-public: no credential is needed

	HasBody      bool  // a body is declared
	MaxBodyBytes int64 // x-max-body-bytes, in bytes, 65,536 when not given; 0 without a body
	Idempotent   bool  // the header parameter Idempotency-Key is declared

	Answers []string // media types of what it answers when all went well, sorted; empty where it answers without a body

	path         []parameter
	query        map[string]*parameter
	queryNeeded  []*parameter // required ones, in the document's order
	headers      []parameter
	bodyRequired bool
	media        map[string]*openapi3.Schema // media type of the body in small letters → its schema, nil where there is none
	responses    *openapi3.Responses
	sure         map[*openapi3.Schema]*sure        // the short cut to a yes; may lack a schema
	visit        []openapi3.SchemaValidationOption // one verdict as fast as possible
	visitAll     []openapi3.SchemaValidationOption // every error, for telling the caller
}

// CheckExamples holds every example of a document against its schema. It takes longer than all the rest of a start, so it is for tests.
func CheckExamples(spec []byte) error {
	doc, _, err := read(spec)
	if err != nil {
		return err
	}
	return doc.Validate(context.Background())
}

// read reads a document through our own conversion, so that what is served as JSON and what is enforced are the same text.
func read(spec []byte) (doc *openapi3.T, asJSON []byte, err error) {
	if asJSON, err = JSON(spec); err != nil {
		return nil, nil, err
	}
	doc = &openapi3.T{}
	// The library's loader would read it as YAML, which takes several times as long.
	if err := json.Unmarshal(asJSON, doc); err != nil {
		return nil, nil, fmt.Errorf("contract: read the document: %w", err)
	}
	if err := openapi3.NewLoader().ResolveRefsIn(doc, nil); err != nil {
		return nil, nil, fmt.Errorf("contract: read the document: %w", err)
	}
	return doc, asJSON, nil
}

// Load reads a document and makes every operation ready. It returns an error when the document is not valid OpenAPI, when an operation does not
// say who may call it, and when the document uses something that would not be enforced: a keyword that OpenAPI 3.0.3 does not know, a format
// without a check, or a way of writing parameters other than the default one.
func Load(spec []byte) (*Contract, error) {
	doc, asJSON, err := read(spec)
	if err != nil {
		return nil, err
	}
	if err := doc.Validate(context.Background(), openapi3.DisableExamplesValidation()); err != nil {
		return nil, fmt.Errorf("contract: the document is not valid: %w", err)
	}
	if err := lower(doc); err != nil {
		return nil, err
	}
	doc.OpenAPI = "3.0.3"

	c := &Contract{source: spec, json: asJSON, doc: doc, byRoute: map[route]*Operation{}}
	c.rendering30 = sync.OnceValues(c.render30)
	checks := formatChecks()
	formats := openapi3.WithStringFormatValidators(validators(checks))
	short := sures{compiled: map[*openapi3.Schema]*sure{}, formats: checks}
	var problems []error
	for _, path := range doc.Paths.Keys() {
		item := doc.Paths.Value(path)
		for method, declared := range item.Operations() {
			op, err := prepare(method, path, item, declared)
			if err != nil {
				problems = append(problems, fmt.Errorf("contract: %s %s: %w", method, path, err))
				continue
			}
			op.compile(&short)
			op.visit = []openapi3.SchemaValidationOption{openapi3.FailFast(), formats}
			op.visitAll = []openapi3.SchemaValidationOption{openapi3.MultiErrors(), formats}
			c.operations = append(c.operations, op)
			c.byRoute[route{method, path}] = op
		}
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	slices.SortFunc(c.operations, func(a, b *Operation) int {
		return strings.Compare(a.Path+" "+a.Method, b.Path+" "+b.Method)
	})
	return c, nil
}

// Operation looks up an operation by its method and its path template as the document writes it.
func (c *Contract) Operation(method, pathTemplate string) (*Operation, bool) {
	op, ok := c.byRoute[route{method, pathTemplate}]
	return op, ok
}

// Operations returns all operations, sorted by path and then by method.
func (c *Contract) Operations() []*Operation { return slices.Clone(c.operations) }

// MatchRoute finds the operation that a concrete, still escaped URL path leads to, and its unescaped path parameters. Where several templates
// match, the one with the earliest literal segment wins. It goes through all operations and is meant for tests; a server has its own router.
func (c *Contract) MatchRoute(method, path string) (*Operation, map[string]string, bool) {
	var best *Operation
	var bestParams map[string]string
	for _, op := range c.operations {
		if op.Method != method {
			continue
		}
		if params, ok := matchTemplate(op.Path, path); ok && (best == nil || moreLiteral(op.Path, best.Path)) {
			best, bestParams = op, params
		}
	}
	return best, bestParams, best != nil
}

// matchTemplate matches segment by segment; a parameter is a whole segment.
func matchTemplate(template, path string) (map[string]string, bool) {
	want, got := strings.Split(template, "/"), strings.Split(path, "/")
	if len(want) != len(got) {
		return nil, false
	}
	params := map[string]string{}
	for i, segment := range want {
		if !strings.HasPrefix(segment, "{") {
			if segment != got[i] {
				return nil, false
			}
			continue
		}
		value, err := url.PathUnescape(got[i])
		if err != nil || value == "" {
			return nil, false
		}
		params[strings.Trim(segment, "{}")] = value
	}
	return params, true
}

func moreLiteral(a, b string) bool {
	left, right := strings.Split(a, "/"), strings.Split(b, "/")
	for i := range left {
		if l, r := strings.HasPrefix(left[i], "{"), strings.HasPrefix(right[i], "{"); l != r {
			return r
		}
	}
	return false
}

// prepare reads one operation out of the document.
func prepare(method, path string, item *openapi3.PathItem, declared *openapi3.Operation) (*Operation, error) {
	op := &Operation{
		ID: declared.OperationID, Method: method, Path: path, query: map[string]*parameter{}, responses: declared.Responses,
	}
	if op.ID == "" {
		return nil, errors.New("has no operationId")
	}
	if len(declared.Tags) > 0 {
		op.Tag = declared.Tags[0]
	}
	if err := op.readCallers(declared.Extensions); err != nil {
		return nil, err
	}
	if err := op.readParameters(item.Parameters, declared.Parameters); err != nil {
		return nil, err
	}
	if err := op.readBody(declared); err != nil {
		return nil, err
	}
	op.readAnswers()
	return op, nil
}

// readAnswers gathers the media types of the answers whose status begins with 2.
func (op *Operation) readAnswers() {
	if op.responses == nil {
		return
	}
	for status, declared := range op.responses.Map() {
		if declared.Value == nil || !strings.HasPrefix(status, "2") {
			continue
		}
		for kind := range declared.Value.Content {
			if !slices.Contains(op.Answers, kind) {
				op.Answers = append(op.Answers, kind)
			}
		}
	}
	slices.Sort(op.Answers)
}

// compile makes the short cut for every schema that Check hands to judge.
func (op *Operation) compile(short *sures) {
	for _, schema := range op.media {
		if schema != nil {
			short.compile(schema)
		}
	}
	for _, p := range op.query {
		short.compile(p.schema)
	}
	for _, p := range slices.Concat(op.path, op.headers) {
		short.compile(p.schema)
	}
	op.sure = short.compiled
}

// readCallers reads x-roles, x-scope and x-public. An operation that says none of them, or contradicts itself, is refused: a forgotten line
// must neither open an operation to everybody nor be found only when somebody is turned away.
func (op *Operation) readCallers(extensions map[string]any) error {
	if value, ok := extensions["x-public"]; ok {
		if op.Public, ok = value.(bool); !ok {
			return errors.New("x-public is not true or false")
		}
	}
	if value, ok := extensions["x-scope"]; ok {
		if op.Scope, ok = value.(string); !ok || op.Scope == "" {
			return errors.New("x-scope is not a text")
		}
	}
	if value, ok := extensions["x-roles"]; ok {
		list, ok := value.([]any)
		if !ok {
			return errors.New("x-roles is not a list")
		}
		for _, entry := range list {
			role, _ := entry.(string)
			if role != "operator" && role != "customer" && role != "user" || slices.Contains(op.Roles, role) {
				return errors.New("x-roles holds something else than operator, customer and user, each at most once")
			}
			op.Roles = append(op.Roles, role)
		}
	}
	switch restricted := len(op.Roles) > 0 || op.Scope != ""; {
	case op.Public && restricted:
		return errors.New("x-public contradicts x-roles and x-scope")
	case !op.Public && !restricted:
		return errors.New("says nothing about who may call it: x-public, x-roles or x-scope")
	}
	return nil
}

// readBody reads the declared body and its limit.
func (op *Operation) readBody(declared *openapi3.Operation) error {
	limit, limited := declared.Extensions["x-max-body-bytes"]
	if declared.RequestBody == nil {
		if limited {
			return errors.New("x-max-body-bytes without a body")
		}
		return nil
	}
	body := declared.RequestBody.Value
	op.HasBody, op.bodyRequired, op.MaxBodyBytes = true, body.Required, defaultMaxBodyBytes
	if limited {
		number, ok := limit.(float64)
		if !ok || number < 1 || number != float64(int64(number)) {
			return errors.New("x-max-body-bytes is not a whole number above 0")
		}
		op.MaxBodyBytes = int64(number)
	}
	op.media = make(map[string]*openapi3.Schema, len(body.Content))
	for name, media := range body.Content {
		if name != strings.ToLower(name) || strings.ContainsAny(name, "*; ") {
			return fmt.Errorf("the media type %q of the body is not written plainly", name)
		}
		op.media[name] = nil
		if media.Schema != nil {
			op.media[name] = media.Schema.Value
		}
		if isJSON(name) && op.media[name] == nil {
			return fmt.Errorf("the media type %q of the body has no schema", name)
		}
	}
	if len(op.media) == 0 {
		return errors.New("the body has no media type")
	}
	return nil
}

// isJSON tells whether a media type, in small letters and without parameters, is JSON.
func isJSON(mediaType string) bool {
	return mediaType == "application/json" || strings.HasSuffix(mediaType, "+json")
}

// isReservedHeader tells whether a header parameter is one of those that OpenAPI says to leave alone (3.1.0, section 4.8.12.1).
func isReservedHeader(name string) bool {
	switch http.CanonicalHeaderKey(name) {
	case "Accept", "Content-Type", "Authorization":
		return true
	}
	return false
}
