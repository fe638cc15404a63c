package contract

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/getkin/kin-openapi/openapi3"
)

// lowering rewrites, in memory, what OpenAPI 3.1 writes differently from 3.0.3, and collects what 3.0.3 cannot say.
type lowering struct {
	seen     map[*openapi3.Schema]bool
	problems []error
}

// lower rewrites every schema of a document: a type list with "null" and an alternative of the type null become nullable, a numeric exclusive
// bound becomes a bound with a mark, the first of several examples becomes the example. It returns an error for all that would not be enforced
// afterwards. One difference to JSON Schema is kin-openapi's own, in 3.1 as well: a schema without a type does not take null.
func lower(doc *openapi3.T) error {
	l := &lowering{seen: map[*openapi3.Schema]bool{}}
	if components := doc.Components; components != nil {
		for _, name := range slices.Sorted(maps.Keys(components.Schemas)) {
			l.ref("#/components/schemas/"+name, components.Schemas[name])
		}
		for _, name := range slices.Sorted(maps.Keys(components.Parameters)) {
			l.parameter("#/components/parameters/"+name, components.Parameters[name].Value)
		}
		for _, name := range slices.Sorted(maps.Keys(components.Headers)) {
			l.parameter("#/components/headers/"+name, &components.Headers[name].Value.Parameter)
		}
		for _, name := range slices.Sorted(maps.Keys(components.RequestBodies)) {
			l.content("#/components/requestBodies/"+name, components.RequestBodies[name].Value.Content)
		}
		for _, name := range slices.Sorted(maps.Keys(components.Responses)) {
			l.response("#/components/responses/"+name, components.Responses[name].Value)
		}
	}
	if doc.Paths != nil {
		for _, path := range doc.Paths.Keys() {
			l.pathItem(path, doc.Paths.Value(path))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(doc.Webhooks)) {
		l.pathItem("webhook "+name, doc.Webhooks[name])
	}
	return errors.Join(l.problems...)
}

func (l *lowering) refuse(where, format string, arguments ...any) {
	l.problems = append(l.problems, fmt.Errorf("contract: %s: %s", where, fmt.Sprintf(format, arguments...)))
}

func (l *lowering) pathItem(where string, item *openapi3.PathItem) {
	for _, parameter := range item.Parameters {
		l.parameter(where, parameter.Value)
	}
	operations := item.Operations()
	for _, method := range slices.Sorted(maps.Keys(operations)) {
		op, at := operations[method], method+" "+where
		for _, parameter := range op.Parameters {
			l.parameter(at, parameter.Value)
		}
		if op.RequestBody != nil {
			l.content(at+" body", op.RequestBody.Value.Content)
		}
		if op.Responses == nil {
			continue
		}
		for _, status := range op.Responses.Keys() {
			l.response(at+" "+status, op.Responses.Value(status).Value)
		}
	}
}

func (l *lowering) parameter(where string, parameter *openapi3.Parameter) {
	if parameter.Schema != nil {
		l.ref(where+" "+parameter.Name, parameter.Schema)
	}
	l.content(where+" "+parameter.Name, parameter.Content)
}

func (l *lowering) content(where string, content openapi3.Content) {
	for _, name := range slices.Sorted(maps.Keys(content)) {
		if schema := content[name].Schema; schema != nil {
			l.ref(where+" "+name, schema)
		}
	}
}

func (l *lowering) response(where string, response *openapi3.Response) {
	for _, name := range slices.Sorted(maps.Keys(response.Headers)) {
		l.parameter(where+" header "+name, &response.Headers[name].Value.Parameter)
	}
	l.content(where, response.Content)
}

func (l *lowering) refs(where string, refs openapi3.SchemaRefs) {
	for i, ref := range refs {
		l.ref(fmt.Sprintf("%s/%d", where, i), ref)
	}
}

func (l *lowering) ref(where string, ref *openapi3.SchemaRef) {
	if ref == nil || ref.Value == nil || l.seen[ref.Value] {
		return
	}
	schema := ref.Value
	l.seen[schema] = true
	l.refuseUnenforced(where, schema)
	l.types(where, schema)
	schema.OneOf = l.withoutNull(schema, schema.OneOf)
	schema.AnyOf = l.withoutNull(schema, schema.AnyOf)
	l.bounds(where, schema)
	if len(schema.Examples) > 0 {
		if schema.Example == nil {
			schema.Example = schema.Examples[0]
		}
		schema.Examples = nil
	}
	schema.Comment = ""
	l.contentEncoding(schema)
	if !knownFormat(schema.Format) {
		l.refuse(where, "nothing checks the format %q", schema.Format)
	}

	l.refs(where+"/oneOf", schema.OneOf)
	l.refs(where+"/anyOf", schema.AnyOf)
	l.refs(where+"/allOf", schema.AllOf)
	l.ref(where+"/not", schema.Not)
	l.ref(where+"/items", schema.Items)
	l.ref(where+"/additionalProperties", schema.AdditionalProperties.Schema)
	for _, name := range slices.Sorted(maps.Keys(schema.Properties)) {
		l.ref(where+"/properties/"+name, schema.Properties[name])
	}
}

// refuseUnenforced names each keyword that kin-openapi leaves alone in a document of version 3.0.3.
func (l *lowering) refuseUnenforced(where string, schema *openapi3.Schema) {
	for _, keyword := range []struct {
		name string
		used bool
	}{
		{"const", schema.Const != nil},
		{"prefixItems", len(schema.PrefixItems) > 0},
		{"contains", schema.Contains != nil},
		{"minContains", schema.MinContains != nil},
		{"maxContains", schema.MaxContains != nil},
		{"patternProperties", len(schema.PatternProperties) > 0},
		{"dependentSchemas", len(schema.DependentSchemas) > 0},
		{"dependentRequired", len(schema.DependentRequired) > 0},
		{"propertyNames", schema.PropertyNames != nil},
		{"unevaluatedItems", schema.UnevaluatedItems.Has != nil || schema.UnevaluatedItems.Schema != nil},
		{"unevaluatedProperties", schema.UnevaluatedProperties.Has != nil || schema.UnevaluatedProperties.Schema != nil},
		{"if", schema.If != nil},
		{"then", schema.Then != nil},
		{"else", schema.Else != nil},
		{"true or false as a schema", schema.Always != nil},
		{"contentSchema", schema.ContentSchema != nil},
		{"$defs", len(schema.Defs) > 0},
		{"$id", schema.SchemaID != ""},
		{"$schema", schema.SchemaDialect != ""},
		{"$anchor", schema.Anchor != ""},
		{"$dynamicRef", schema.DynamicRef != ""},
		{"$dynamicAnchor", schema.DynamicAnchor != ""},
		// These mean nothing in 3.1, where they would be enforced after the swap all the same: two readers, two meanings.
		{"nullable", schema.Nullable},
		{"readOnly", schema.ReadOnly},
		{"writeOnly", schema.WriteOnly},
	} {
		if keyword.used {
			l.refuse(where, "the keyword %s is not enforced or not used here", keyword.name)
		}
	}
}

// types turns [string, "null"] into a nullable string. A schema of the type null alone is left to withoutNull.
func (l *lowering) types(where string, schema *openapi3.Schema) {
	if schema.Type == nil || len(*schema.Type) < 2 {
		return
	}
	rest := slices.DeleteFunc(slices.Clone(*schema.Type), func(name string) bool { return name == openapi3.TypeNull })
	if len(rest) != 1 {
		l.refuse(where, "a list of types may only be one type and null")
		return
	}
	schema.Nullable = len(rest) < len(*schema.Type)
	schema.Type = &openapi3.Types{rest[0]}
	// The enumeration needs no null any more, and a 3.0.3 reader stumbles over one.
	schema.Enum = slices.DeleteFunc(slices.Clone(schema.Enum), func(value any) bool { return value == nil })
}

// withoutNull takes the alternative of the type null out of a oneOf or anyOf, and makes the schema around it nullable instead.
func (l *lowering) withoutNull(schema *openapi3.Schema, refs openapi3.SchemaRefs) openapi3.SchemaRefs {
	isNull := func(ref *openapi3.SchemaRef) bool {
		return ref.Value != nil && ref.Value.Type.Is(openapi3.TypeNull)
	}
	if !slices.ContainsFunc(refs, isNull) {
		return refs
	}
	rest := slices.DeleteFunc(slices.Clone(refs), isNull)
	schema.Nullable = true
	// In 3.0.3 nullable counts only beside a type.
	if len(rest) == 1 && schema.Type == nil && rest[0].Value != nil && rest[0].Value.Type.IsSingle() {
		schema.Type = &openapi3.Types{(*rest[0].Value.Type)[0]}
	}
	return rest
}

// bounds turns a numeric exclusive bound into a bound and a mark.
func (l *lowering) bounds(where string, schema *openapi3.Schema) {
	mark := true
	for _, side := range []struct {
		exclusive *openapi3.ExclusiveBound
		inclusive **float64
	}{{&schema.ExclusiveMin, &schema.Min}, {&schema.ExclusiveMax, &schema.Max}} {
		switch {
		case side.exclusive.Bool != nil:
			l.refuse(where, "an exclusive bound is a number in OpenAPI 3.1")
		case side.exclusive.Value != nil && *side.inclusive != nil:
			l.refuse(where, "a bound and an exclusive bound on the same side")
		case side.exclusive.Value != nil:
			*side.inclusive = side.exclusive.Value
			*side.exclusive = openapi3.ExclusiveBound{Bool: &mark}
		}
	}
}

// contentEncoding says in 3.0.3's words what contentEncoding and contentMediaType say in 3.1's. Both are notes: nothing checks them.
func (l *lowering) contentEncoding(schema *openapi3.Schema) {
	if schema.Format == "" && schema.Type.Is(openapi3.TypeString) {
		switch {
		case schema.ContentEncoding != "":
			schema.Format = "byte"
		case schema.ContentMediaType != "":
			schema.Format = "binary"
		}
	}
	schema.ContentEncoding, schema.ContentMediaType = "", ""
}
