package contract

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/fusionspim/steward/internal/infra/strictjson"
)

// parameter is one declared parameter, made ready.
type parameter struct {
	name     string
	pointer  string // how a fault names it: "?name" or "header name"
	required bool
	schema   *openapi3.Schema
	kind     string // the type of the value, or of each entry of a list
	list     bool
	joined   bool // the entries of the list stand in one value, with commas between them
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// readParameters reads the parameters of a path and of its operation; the operation's own come instead of those of the same name and place.
func (op *Operation) readParameters(ofPath, ofOperation openapi3.Parameters) error {
	for _, ref := range slices.Concat(ofPath, ofOperation) {
		declared := ref.Value
		if own := ofOperation.GetByInAndName(declared.In, declared.Name); own != nil && own != declared {
			continue
		}
		if declared.In == openapi3.ParameterInHeader && isReservedHeader(declared.Name) {
			continue
		}
		p, err := newParameter(declared)
		if err != nil {
			return fmt.Errorf("the parameter %s: %w", declared.Name, err)
		}
		switch declared.In {
		case openapi3.ParameterInPath:
			op.path = append(op.path, p)
		case openapi3.ParameterInQuery:
			op.query[p.name] = &p
			if p.required {
				op.queryNeeded = append(op.queryNeeded, &p)
			}
		case openapi3.ParameterInHeader:
			op.headers = append(op.headers, p)
			op.Idempotent = op.Idempotent || p.name == "Idempotency-Key"
		default:
			return fmt.Errorf("the parameter %s: parameters in %s are not checked", declared.Name, declared.In)
		}
	}
	return nil
}

func newParameter(declared *openapi3.Parameter) (parameter, error) {
	p := parameter{name: declared.Name, required: declared.Required}
	if declared.Schema == nil || declared.Schema.Value == nil {
		return p, errors.New("has no schema")
	}
	style, explode := openapi3.SerializationSimple, false
	switch declared.In {
	case openapi3.ParameterInQuery:
		style, explode, p.pointer = openapi3.SerializationForm, true, "?"+declared.Name
	case openapi3.ParameterInHeader:
		p.name = http.CanonicalHeaderKey(declared.Name)
		p.pointer = "header " + p.name
	}
	if declared.Style != "" && declared.Style != style {
		return p, fmt.Errorf("the style %s is not read", declared.Style)
	}
	if declared.Explode != nil {
		explode = *declared.Explode
	}
	p.schema = declared.Schema.Value
	p.kind = scalarType(p.schema)
	if p.kind == openapi3.TypeArray {
		if p.schema.Items == nil || p.schema.Items.Value == nil {
			return p, errors.New("is a list of nothing")
		}
		p.list, p.joined, p.kind = true, !explode, scalarType(p.schema.Items.Value)
		if declared.In != openapi3.ParameterInQuery {
			return p, errors.New("lists are only read from the query")
		}
	}
	switch p.kind {
	case openapi3.TypeString, openapi3.TypeInteger, openapi3.TypeNumber, openapi3.TypeBoolean:
		return p, nil
	}
	return p, errors.New("is neither a text, a number, true or false, nor a list of those")
}

// scalarType is the one type of a schema, looked for below allOf as well (a $ref with something beside it), or empty.
func scalarType(schema *openapi3.Schema) string {
	if schema.Type.IsSingle() {
		return (*schema.Type)[0]
	}
	for _, ref := range schema.AllOf {
		if found := scalarType(ref.Value); found != "" {
			return found
		}
	}
	return ""
}

// parse turns the text of a parameter into a value of its type. It is as strict as JSON about numbers, because what reads them afterwards
// would otherwise take forms that are not in the contract.
func (p *parameter) parse(text string) (any, bool) {
	switch p.kind {
	case openapi3.TypeString:
		return text, true
	case openapi3.TypeBoolean:
		return text == "true", text == "true" || text == "false"
	}
	value, ok := strictjson.Number(text)
	if !ok {
		return nil, false
	}
	if p.kind == openapi3.TypeInteger && strings.ContainsAny(text, ".eE") {
		return nil, false
	}
	return value, true
}

// clean tells whether a text can be stored and shown: UTF-8 without NUL.
func clean(text string) bool { return strings.IndexByte(text, 0) < 0 && utf8.ValidString(text) }

// fits tells whether a single text is right, for places where nothing more is said.
func (p *parameter) fits(op *Operation, text string) bool {
	if !clean(text) {
		return false
	}
	value, ok := p.parse(text)
	return ok && op.follows(p.schema, value)
}

// check tells what is wrong with the texts of a parameter.
func (p *parameter) check(op *Operation, texts []string, to *report) {
	if len(texts) > 1 && (!p.list || p.joined) {
		to.add(p.pointer, "is given more than once")
		return
	}
	if p.joined {
		texts = strings.Split(texts[0], ",")
	}
	values := make([]any, len(texts))
	for i, text := range texts {
		if !clean(text) {
			to.add(p.pointer, "is not UTF-8, or holds the character NUL")
			return
		}
		value, ok := p.parse(text)
		if !ok {
			to.add(p.pointer, "must be "+typeSentence(&openapi3.Types{p.kind}))
			return
		}
		values[i] = value
	}
	var value any = values
	if !p.list {
		value = values[0]
	}
	op.judge(p.schema, value, func([]string) string { return p.pointer }, to)
}

// checkQuery reads the raw query strictly. net/url drops pairs that it cannot read; a dropped filter would answer more than was asked for.
func (op *Operation) checkQuery(raw string, to *report) {
	var given map[*parameter][]string
	if strings.HasSuffix(raw, "&") { // leaves an empty pair that Cut does not show
		to.add("?", "holds an empty name")
	}
	for rest := raw; rest != "" && !to.full(); {
		var pair string
		pair, rest, _ = strings.Cut(rest, "&")
		rawName, rawText, _ := strings.Cut(pair, "=")
		name, badName := url.QueryUnescape(rawName)
		text, badText := url.QueryUnescape(rawText)
		switch {
		case badName != nil || badText != nil:
			to.add("?", "holds a broken % escape")
			continue
		case strings.Contains(pair, ";"):
			to.add("?", "holds a semicolon, which has to be escaped")
			continue
		case name == "":
			to.add("?", "holds an empty name")
			continue
		}
		p, known := op.query[name]
		if !known {
			if harmless(name) {
				to.add("?"+name, unknown)
			} else {
				to.add("?", "holds a name that is not known here")
			}
			continue
		}
		if given == nil {
			given = make(map[*parameter][]string, len(op.query))
		}
		given[p] = append(given[p], text)
	}
	for p, texts := range given {
		p.check(op, texts, to)
	}
	for _, p := range op.queryNeeded {
		if len(given[p]) == 0 {
			to.add(p.pointer, required)
		}
	}
}

// checkHeaders checks the declared header parameters; other headers are not the contract's.
func (op *Operation) checkHeaders(header http.Header, to *report) {
	for i := range op.headers {
		p := &op.headers[i]
		switch texts := header[p.name]; {
		case len(texts) > 0:
			p.check(op, texts, to)
		case p.required:
			to.add(p.pointer, required)
		}
	}
}
