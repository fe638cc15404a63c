package contract

import (
	"math"
	"regexp"
	"slices"
	"unicode/utf8"

	"github.com/getkin/kin-openapi/openapi3"
)

// sure is a short cut to a yes. kin-openapi stays the judge: what sure does not accept, be it wrong or merely beyond these few keywords, goes
// to kin-openapi for the verdict and the reasons. So sure may know little, but must never accept what kin-openapi would refuse; a test with
// random values holds it to that. It is here for the batch of a thousand audit entries, in which kin-openapi spends most of its time on
// sorting the names of members and on looking whether a schema is empty, once for each value.
type sure struct {
	kind     string // the one type
	nullable bool

	choices              []string // of a text; nil for any
	minLength, maxLength int      // in characters; maxLength below 0 for none
	pattern              *regexp.Regexp
	format               func(string) bool

	minimum, maximum *float64

	items              *sure
	minItems, maxItems int // maxItems below 0 for none

	required           []string
	properties         map[string]*sure
	closed             bool  // no other members
	others             *sure // the schema of other members; nil for any, when othersFree
	othersFree         bool
	minProps, maxProps int // maxProps below 0 for none

	byKind map[string]*sure // alternatives of different types; nothing else counts when it is there
}

// sures compiles schemas, each once; nil stands for one that is beyond sure.
type sures struct {
	compiled map[*openapi3.Schema]*sure
	formats  map[string]func(string) bool
}

func (s *sures) of(ref *openapi3.SchemaRef) *sure {
	if ref == nil || ref.Value == nil {
		return nil
	}
	return s.compile(ref.Value)
}

func (s *sures) compile(schema *openapi3.Schema) *sure {
	if done, ok := s.compiled[schema]; ok {
		return done
	}
	s.compiled[schema] = nil // what refers to itself is left to kin-openapi
	made := s.make(schema)
	s.compiled[schema] = made
	return made
}

func (s *sures) make(schema *openapi3.Schema) *sure {
	if len(schema.AllOf) > 0 || len(schema.AnyOf) > 0 || schema.Not != nil || schema.Discriminator != nil || schema.UniqueItems ||
		schema.MultipleOf != nil || schema.ExclusiveMin.IsSet() || schema.ExclusiveMax.IsSet() {
		return nil
	}
	if len(schema.OneOf) > 0 {
		return s.alternatives(schema)
	}
	if !schema.Type.IsSingle() {
		return nil
	}
	made := &sure{
		kind: (*schema.Type)[0], nullable: schema.Nullable,
		minLength: int(schema.MinLength), maxLength: limitOf(schema.MaxLength),
		minimum: schema.Min, maximum: schema.Max,
		minItems: int(schema.MinItems), maxItems: limitOf(schema.MaxItems),
		minProps: int(schema.MinProps), maxProps: limitOf(schema.MaxProps),
		required: schema.Required,
	}
	switch made.kind {
	case openapi3.TypeString:
		return s.text(made, schema)
	case openapi3.TypeArray:
		made.items = s.of(schema.Items)
		if made.items == nil || len(schema.Enum) > 0 {
			return nil
		}
	case openapi3.TypeObject:
		made.properties = make(map[string]*sure, len(schema.Properties))
		for name, ref := range schema.Properties {
			made.properties[name] = s.of(ref) // nil is left to kin-openapi where the member is there
		}
		made.closed = schema.AdditionalProperties.Has != nil && !*schema.AdditionalProperties.Has
		made.others, made.othersFree = s.of(schema.AdditionalProperties.Schema), schema.AdditionalProperties.Schema == nil
		if len(schema.Enum) > 0 {
			return nil
		}
	case openapi3.TypeInteger, openapi3.TypeNumber:
		if len(schema.Enum) > 0 {
			return nil
		}
		switch schema.Format {
		case "", "float", "double":
		case "int64": // acceptsNumber takes none beyond 2^53 anyway
		case "int32":
			made.minimum, made.maximum = within(math.MinInt32, math.MaxInt32, schema.Min, schema.Max)
		default:
			return nil
		}
	case openapi3.TypeBoolean:
		if len(schema.Enum) > 0 {
			return nil
		}
	default:
		return nil
	}
	return made
}

func (s *sures) text(made *sure, schema *openapi3.Schema) *sure {
	for _, value := range schema.Enum {
		choice, ok := value.(string)
		if !ok {
			return nil
		}
		made.choices = append(made.choices, choice)
	}
	if schema.Pattern != "" {
		var err error
		// Patterns that Go and JSON Schema write differently do not compile here and are left to kin-openapi.
		if made.pattern, err = regexp.Compile(schema.Pattern); err != nil {
			return nil
		}
	}
	switch schema.Format {
	case "", "binary", "password":
	default:
		if made.format = s.formats[schema.Format]; made.format == nil {
			return nil
		}
	}
	return made
}

// alternatives compiles a oneOf whose alternatives are of different types, so that never two of them fit.
func (s *sures) alternatives(schema *openapi3.Schema) *sure {
	if !isMereChoice(schema) || schema.Type != nil || schema.Nullable || schema.Format != "" || schema.Items != nil || schema.MinItems != 0 ||
		schema.MinLength != 0 || schema.Min != nil || schema.Max != nil || schema.AdditionalProperties.Has != nil ||
		schema.AdditionalProperties.Schema != nil {
		return nil
	}
	made := &sure{byKind: map[string]*sure{}}
	for _, ref := range schema.OneOf {
		alternative := s.of(ref)
		if alternative == nil || alternative.nullable || alternative.byKind != nil {
			return nil
		}
		kind := alternative.kind
		if kind == openapi3.TypeInteger {
			kind = openapi3.TypeNumber
		}
		if made.byKind[kind] != nil {
			return nil
		}
		made.byKind[kind] = alternative
	}
	return made
}

// within narrows bounds, nil for none, to a range.
func within(low, high float64, minimum, maximum *float64) (*float64, *float64) {
	if minimum != nil {
		low = max(low, *minimum)
	}
	if maximum != nil {
		high = min(high, *maximum)
	}
	return &low, &high
}

func limitOf(limit *uint64) int {
	if limit == nil {
		return -1
	}
	return int(*limit)
}

// accepts tells whether the value surely follows the schema. A false says nothing.
func (s *sure) accepts(value any) bool {
	if s == nil {
		return false
	}
	if s.byKind != nil {
		return s.byKind[typeOf(value)].accepts(value)
	}
	switch value := value.(type) {
	case nil:
		return s.nullable
	case bool:
		return s.kind == openapi3.TypeBoolean
	case string:
		return s.kind == openapi3.TypeString && s.acceptsText(value)
	case float64:
		return s.acceptsNumber(value)
	case []any:
		return s.kind == openapi3.TypeArray && s.acceptsList(value)
	case map[string]any:
		return s.kind == openapi3.TypeObject && s.acceptsObject(value)
	}
	return false
}

func (s *sure) acceptsText(text string) bool {
	if s.minLength > 0 || s.maxLength >= 0 && len(text) > s.maxLength {
		length := utf8.RuneCountInString(text)
		if length < s.minLength || s.maxLength >= 0 && length > s.maxLength {
			return false
		}
	}
	return (s.choices == nil || slices.Contains(s.choices, text)) && (s.pattern == nil || s.pattern.MatchString(text)) &&
		(s.format == nil || s.format(text))
}

func (s *sure) acceptsNumber(number float64) bool {
	switch s.kind {
	case openapi3.TypeNumber:
	case openapi3.TypeInteger:
		// Beyond 2^53 a float64 has no fraction anyway, and the conversion may not fit.
		if number > 1<<53 || number < -1<<53 || number != float64(int64(number)) {
			return false
		}
	default:
		return false
	}
	return (s.minimum == nil || number >= *s.minimum) && (s.maximum == nil || number <= *s.maximum)
}

func (s *sure) acceptsList(items []any) bool {
	if len(items) < s.minItems || s.maxItems >= 0 && len(items) > s.maxItems {
		return false
	}
	for _, item := range items {
		if !s.items.accepts(item) {
			return false
		}
	}
	return true
}

func (s *sure) acceptsObject(members map[string]any) bool {
	if len(members) < s.minProps || s.maxProps >= 0 && len(members) > s.maxProps {
		return false
	}
	for _, name := range s.required {
		if _, there := members[name]; !there {
			return false
		}
	}
	for name, value := range members {
		schema, known := s.properties[name]
		switch {
		case known:
			if !schema.accepts(value) {
				return false
			}
		case s.closed:
			return false
		case !s.othersFree && !s.others.accepts(value):
			return false
		}
	}
	return true
}
