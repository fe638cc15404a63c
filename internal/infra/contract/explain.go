package contract

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/infra/strictjson"
)

const (
	maxMembers    = 20 // in one fault: enough to repair a form, too few to make an answer long
	maxNameLength = 64 // of a caller's member name that is shown
	maxChoices    = 40 // of an enumeration that is listed
)

// What is said in more than one place.
const (
	required      = "is required"
	unknown       = "is not known here"
	againstSchema = "does not follow the contract"
)

// report collects the members at fault, at most maxMembers different ones.
type report struct{ members []fault.Member }

func (r *report) full() bool { return len(r.members) >= maxMembers }

func (r *report) add(pointer, detail string) {
	member := fault.Member{Pointer: pointer, Detail: detail}
	if !r.full() && !slices.Contains(r.members, member) {
		r.members = append(r.members, member)
	}
}

// fault makes the fault of all members, sorted, or nil when there is none.
func (r *report) fault() error {
	if len(r.members) == 0 {
		return nil
	}
	slices.SortFunc(r.members, func(a, b fault.Member) int {
		return cmp.Or(comparePointers(a.Pointer, b.Pointer), strings.Compare(a.Detail, b.Detail))
	})
	f := fault.New(fault.MalformedRequest, "The request does not follow the contract. Nothing was changed; errors says what to correct.")
	f.Members = r.members
	return f
}

// comparePointers orders by segment, positions in a list by their number: /2 comes before /10.
func comparePointers(a, b string) int {
	left, right := strings.Split(a, "/"), strings.Split(b, "/")
	return slices.CompareFunc(left, right, func(l, r string) int {
		m, badM := strconv.Atoi(l)
		n, badN := strconv.Atoi(r)
		if badM == nil && badN == nil {
			return cmp.Compare(m, n)
		}
		return strings.Compare(l, r)
	})
}

// harmless tells whether a name from a caller may be repeated: a short word of letters, digits, underscores, hyphens and dots. Anything else
// could be an address or a sentence that ended up on the wrong side of a colon.
func harmless(name string) bool {
	if name == "" || len(name) > maxNameLength {
		return false
	}
	for i := range len(name) {
		switch c := name[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_', c == '-', c == '.':
		default:
			return false
		}
	}
	return true
}

// pointer writes a path as a JSON pointer, and ends it above the first name that is not harmless. Harmless names need no escapes (RFC 6901).
func pointer(path []string) string {
	var out strings.Builder
	for _, name := range path {
		if !harmless(name) {
			break
		}
		out.WriteByte('/')
		out.WriteString(name)
	}
	return out.String()
}

// follows tells whether a value follows a schema, the short way where there is one.
func (op *Operation) follows(schema *openapi3.Schema, value any) bool {
	return op.sure[schema].accepts(value) || schema.VisitJSON(value, op.visit...) == nil
}

// judge tells what is wrong with a value, each fault at the pointer that place makes of its path below the value.
func (op *Operation) judge(schema *openapi3.Schema, value any, place func(path []string) string, to *report) {
	if op.follows(schema, value) {
		return
	}
	e := explanation{op: op, place: place, report: to, unknownTold: map[string]bool{}}
	e.value(schema, value, nil)
	if len(to.members) == 0 { // the fast verdict was no, so the answer is no, even if nobody can say why
		to.add(place(nil), againstSchema)
	}
}

// explanation turns kin-openapi's errors into our own sentences. Only the place and the keyword are taken from them, never a text.
type explanation struct {
	op          *Operation
	place       func(path []string) string
	report      *report
	unknownTold map[string]bool // objects whose unknown members were told; kin-openapi reports each of them
}

// value visits once more, all errors wanted. prefix is where the value stands.
func (e *explanation) value(schema *openapi3.Schema, value any, prefix []string) {
	// Of several alternatives the one that was meant, so that its faults can be told instead of "none fits".
	if schema = e.meant(schema, value); e.report.full() {
		return
	}
	if items, ok := value.([]any); ok && schema.Items != nil && schema.Items.Value != nil && len(schema.AllOf) == 0 {
		e.list(schema, items, prefix)
		return
	}
	e.explain(schema.VisitJSON(value, e.op.visitAll...), prefix)
}

// list goes through a list item by item, so that a thousand bad entries do not make thousands of errors of which twenty are told.
func (e *explanation) list(schema *openapi3.Schema, items []any, prefix []string) {
	outer := *schema
	outer.Items = nil
	e.explain(outer.VisitJSON(items, e.op.visitAll...), prefix)
	for i, item := range items {
		if e.report.full() {
			return
		}
		if !e.op.follows(schema.Items.Value, item) {
			e.value(schema.Items.Value, item, append(slices.Clip(prefix), strconv.Itoa(i)))
		}
	}
}

// meant follows oneOf and anyOf for as long as the value's kind or its discriminator leaves one choice.
func (e *explanation) meant(schema *openapi3.Schema, value any) *openapi3.Schema {
	for range strictjson.MaxDepth {
		alternatives := append(slices.Clip(schema.OneOf), schema.AnyOf...)
		if len(alternatives) == 0 || !isMereChoice(schema) {
			return schema
		}
		fitting := slices.DeleteFunc(slices.Clone(alternatives), func(ref *openapi3.SchemaRef) bool {
			return ref.Value == nil || !ref.Value.Type.Permits(typeOf(value)) && !wholeForNumber(ref.Value, value)
		})
		if ref := discriminated(schema, value); ref != "" {
			fitting = slices.DeleteFunc(fitting, func(alternative *openapi3.SchemaRef) bool { return alternative.Ref != ref })
		}
		if len(fitting) != 1 {
			return schema
		}
		schema = fitting[0].Value
	}
	return schema
}

// isMereChoice tells whether a schema says nothing but its alternatives.
func isMereChoice(schema *openapi3.Schema) bool {
	return len(schema.AllOf) == 0 && schema.Not == nil && len(schema.Enum) == 0 && len(schema.Required) == 0 && len(schema.Properties) == 0 &&
		schema.MinProps == 0 && schema.MaxProps == nil && schema.MaxItems == nil && schema.MaxLength == nil && schema.Pattern == "" &&
		(len(schema.OneOf) == 0 || len(schema.AnyOf) == 0)
}

// discriminated is the reference that the value's discriminator names, or empty.
func discriminated(schema *openapi3.Schema, value any) string {
	members, ok := value.(map[string]any)
	if !ok || schema.Discriminator == nil {
		return ""
	}
	name, _ := members[schema.Discriminator.PropertyName].(string)
	return schema.Discriminator.Mapping[name].Ref
}

func typeOf(value any) string {
	switch value.(type) {
	case nil:
		return openapi3.TypeNull
	case bool:
		return openapi3.TypeBoolean
	case float64:
		return openapi3.TypeNumber
	case string:
		return openapi3.TypeString
	case []any:
		return openapi3.TypeArray
	default:
		return openapi3.TypeObject
	}
}

// wholeForNumber tells whether the schema is for whole numbers and the value is a number of any kind.
func wholeForNumber(schema *openapi3.Schema, value any) bool {
	_, number := value.(float64)
	return number && schema.Type.Permits(openapi3.TypeInteger)
}

func (e *explanation) explain(err error, prefix []string) {
	if err == nil || e.report.full() {
		return
	}
	// By what the error is itself: what it wraps are the errors of alternatives that were never meant.
	switch err := err.(type) { //nolint:errorlint // see above
	case openapi3.MultiError:
		for _, one := range err {
			e.explain(one, prefix)
		}
	case *openapi3.SchemaError:
		e.breach(err, prefix)
	default:
		e.report.add(e.place(prefix), againstSchema)
	}
}

func (e *explanation) breach(breach *openapi3.SchemaError, prefix []string) {
	path := append(slices.Clip(prefix), breach.JSONPointer()...)
	switch breach.SchemaField {
	case "properties":
		e.unknown(breach, path)
	case "allOf":
		for _, ref := range breach.Schema.AllOf {
			e.value(ref.Value, breach.Value, path)
		}
	case "oneOf", "anyOf":
		if meant := e.meant(breach.Schema, breach.Value); meant != breach.Schema {
			e.value(meant, breach.Value, path)
			return
		}
		e.report.add(e.place(path), noneSentence(breach.Schema, breach.Value))
	case "discriminator":
		e.report.add(e.place(append(path, breach.Schema.Discriminator.PropertyName)), "must name one of the kinds in the contract")
	default:
		e.report.add(e.place(path), sentence(breach.SchemaField, breach.Schema))
	}
}

// noneSentence says what the alternatives of a schema are for, where the value is of a kind that none of them takes.
func noneSentence(schema *openapi3.Schema, value any) string {
	var kinds []string
	for _, ref := range append(slices.Clip(schema.OneOf), schema.AnyOf...) {
		if ref.Value.Type.Permits(typeOf(value)) || wholeForNumber(ref.Value, value) {
			return "fits none, or more than one, of the forms that are taken here"
		}
		if kind := typeSentence(ref.Value.Type); !slices.Contains(kinds, kind) {
			kinds = append(kinds, kind)
		}
	}
	return "must be " + strings.Join(kinds, " or ")
}

// unknown tells every unknown member of one object.
func (e *explanation) unknown(breach *openapi3.SchemaError, path []string) {
	key := strings.Join(path, "\x00")
	members, _ := breach.Value.(map[string]any)
	if e.unknownTold[key] {
		return
	}
	e.unknownTold[key] = true
	names := make([]string, 0, len(members))
	for name := range members {
		if _, known := breach.Schema.Properties[name]; !known {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		if e.report.full() {
			return
		}
		if harmless(name) {
			e.report.add(e.place(append(slices.Clip(path), name)), unknown)
		} else {
			e.report.add(e.place(path), "has a member that is not known here")
		}
	}
}

// sentence says what a keyword of a schema asks for. It holds what the contract says and nothing of what the caller sent.
func sentence(keyword string, schema *openapi3.Schema) string {
	switch keyword {
	case "required":
		return required
	case "nullable":
		return "must not be null"
	case "type":
		return "must be " + typeSentence(schema.Type)
	case "enum":
		return enumSentence(schema.Enum)
	case "format":
		return cmp.Or(formatSentence(schema.Format), "is not in the format "+schema.Format)
	case "pattern":
		return "must match the pattern " + schema.Pattern
	case "minLength":
		if schema.MinLength == 1 {
			return "must not be empty"
		}
		return fmt.Sprintf("must have at least %d characters", schema.MinLength)
	case "maxLength":
		return fmt.Sprintf("must have at most %s", count(*schema.MaxLength, "character"))
	case "minItems":
		return fmt.Sprintf("must have at least %s", count(schema.MinItems, "entry"))
	case "maxItems":
		return fmt.Sprintf("must have at most %s", count(*schema.MaxItems, "entry"))
	case "minProperties":
		return fmt.Sprintf("must have at least %s", count(schema.MinProps, "member"))
	case "maxProperties":
		return fmt.Sprintf("must have at most %s", count(*schema.MaxProps, "member"))
	case "uniqueItems":
		return "must not hold the same entry twice"
	case "minimum":
		return "must be at least " + number(schema.Min)
	case "maximum":
		return "must be at most " + number(schema.Max)
	case "exclusiveMinimum":
		return "must be more than " + number(schema.Min)
	case "exclusiveMaximum":
		return "must be less than " + number(schema.Max)
	case "multipleOf":
		return "must be a multiple of " + number(schema.MultipleOf)
	case "not":
		return "has a form that is not taken here"
	default:
		return againstSchema
	}
}

func count(n uint64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	if noun == "entry" {
		return strconv.FormatUint(n, 10) + " entries"
	}
	return strconv.FormatUint(n, 10) + " " + noun + "s"
}

// number writes a bound without an exponent.
func number(bound *float64) string { return strconv.FormatFloat(*bound, 'f', -1, 64) }

func typeSentence(types *openapi3.Types) string {
	if !types.IsSingle() {
		return "of another type"
	}
	switch (*types)[0] {
	case openapi3.TypeObject:
		return "an object"
	case openapi3.TypeArray:
		return "a list"
	case openapi3.TypeInteger:
		return "a whole number"
	case openapi3.TypeNumber:
		return "a number"
	case openapi3.TypeBoolean:
		return "true or false"
	case openapi3.TypeString:
		return "a text"
	default:
		return "null"
	}
}

func enumSentence(values []any) string {
	if len(values) > maxChoices {
		return "must be one of the values that the contract lists"
	}
	texts := make([]string, len(values))
	for i, value := range values {
		texts[i] = fmt.Sprint(value)
	}
	if len(texts) == 1 {
		return "must be " + texts[0]
	}
	return "must be one of: " + strings.Join(texts, ", ")
}
