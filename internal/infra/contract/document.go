package contract

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"go.yaml.in/yaml/v3"
)

// maxDocumentDepth bounds the nesting of the document, aliases included.
const maxDocumentDepth = 200

// JSON renders a YAML document as JSON, in the order in which it is written. It refuses what JSON cannot say the same way: a member given
// twice, merge keys, numbers such as .inf, and tags of one's own. Days and times stay the texts that they are.
func JSON(spec []byte) ([]byte, error) {
	var document yaml.Node
	if err := yaml.Unmarshal(spec, &document); err != nil {
		return nil, fmt.Errorf("contract: the document is not YAML: %w", err)
	}
	if document.Kind != yaml.DocumentNode || len(document.Content) != 1 {
		return nil, errors.New("contract: the document is empty")
	}
	var out bytes.Buffer
	out.Grow(len(spec))
	if err := writeJSON(&out, document.Content[0], 0); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func writeJSON(out *bytes.Buffer, node *yaml.Node, depth int) error {
	if depth > maxDocumentDepth {
		return fmt.Errorf("contract: line %d: nested too deeply", node.Line)
	}
	switch node.Kind {
	case yaml.AliasNode:
		return writeJSON(out, node.Alias, depth+1)
	case yaml.SequenceNode:
		out.WriteByte('[')
		for i, item := range node.Content {
			if i > 0 {
				out.WriteByte(',')
			}
			if err := writeJSON(out, item, depth+1); err != nil {
				return err
			}
		}
		out.WriteByte(']')
		return nil
	case yaml.MappingNode:
		return writeObject(out, node, depth)
	case yaml.ScalarNode:
		return writeScalar(out, node)
	default:
		return fmt.Errorf("contract: line %d: not a value", node.Line)
	}
}

func writeObject(out *bytes.Buffer, node *yaml.Node, depth int) error {
	seen := make(map[string]bool, len(node.Content)/2)
	out.WriteByte('{')
	for i := 0; i < len(node.Content); i += 2 {
		name := node.Content[i]
		if name.Kind != yaml.ScalarNode || name.Tag == "!!merge" {
			return fmt.Errorf("contract: line %d: the name of a member is not a plain one", name.Line)
		}
		if seen[name.Value] {
			return fmt.Errorf("contract: line %d: the member %q is given twice", name.Line, name.Value)
		}
		seen[name.Value] = true
		if i > 0 {
			out.WriteByte(',')
		}
		if err := writeText(out, name.Value); err != nil {
			return err
		}
		out.WriteByte(':')
		if err := writeJSON(out, node.Content[i+1], depth+1); err != nil {
			return err
		}
	}
	out.WriteByte('}')
	return nil
}

func writeScalar(out *bytes.Buffer, node *yaml.Node) error {
	switch tag := node.ShortTag(); tag {
	case "!!str", "!!timestamp":
		return writeText(out, node.Value)
	case "!!null", "!!bool", "!!int", "!!float":
		var value any
		if err := node.Decode(&value); err != nil {
			return fmt.Errorf("contract: line %d: %w", node.Line, err)
		}
		// A number that is one in JSON keeps its spelling: 1.0 stays 1.0.
		if (tag == "!!int" || tag == "!!float") && json.Valid([]byte(node.Value)) {
			out.WriteString(node.Value)
			return nil
		}
		text, err := json.Marshal(value)
		if err != nil {
			return fmt.Errorf("contract: line %d: %w", node.Line, err)
		}
		out.Write(text)
		return nil
	default:
		return fmt.Errorf("contract: line %d: the tag %s has no counterpart in JSON", node.Line, tag)
	}
}

// writeText writes a JSON string without escaping <, > and &, which are plain characters outside HTML.
func writeText(out *bytes.Buffer, text string) error {
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(text); err != nil {
		return fmt.Errorf("contract: write the document: %w", err)
	}
	out.Truncate(out.Len() - 1) // the line end that Encode adds
	return nil
}

// Rendering30 renders the document as OpenAPI 3.0.3 in JSON, for readers that do not know 3.1. It says the same about every request and answer;
// what only 3.1 can say, such as webhooks, is left away. It is made once, and is not to be changed.
func (c *Contract) Rendering30() ([]byte, error) { return c.rendering30() }

func (c *Contract) render30() ([]byte, error) {
	text, err := json.Marshal(c.doc)
	if err != nil {
		return nil, fmt.Errorf("contract: render as OpenAPI 3.0.3: %w", err)
	}
	var document map[string]any
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	if err := decoder.Decode(&document); err != nil {
		return nil, fmt.Errorf("contract: render as OpenAPI 3.0.3: %w", err)
	}
	delete(document, "webhooks")
	delete(document, "jsonSchemaDialect")
	if info, ok := document["info"].(map[string]any); ok {
		delete(info, "summary")
		if license, ok := info["license"].(map[string]any); ok {
			delete(license, "identifier")
		}
	}
	if components, ok := document["components"].(map[string]any); ok {
		delete(components, "pathItems")
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out) // sorts the members of each object
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(document); err != nil {
		return nil, fmt.Errorf("contract: render as OpenAPI 3.0.3: %w", err)
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), nil
}
