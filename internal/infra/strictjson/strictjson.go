// Package strictjson decodes JSON from outside and refuses what other readers would interpret
// differently or not at all.
//
// Owns: which JSON texts the service accepts, and the words of a refusal. The grammar, UTF-8 and
// surrogates are jsontext's; duplicate names, NUL, depth and numbers are decided here.
// Does not own: the size of a text and what it has to hold (contract, userimport).
package strictjson

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// MaxDepth is how many objects and arrays may be nested, the outermost counted.
const MaxDepth = 32

const (
	maxNumberLength = 30 // characters: more than any float64 or int64 needs
	whitespace      = " \t\r\n"
)

// The words of a refusal.
const (
	endsTooEarly  = "is not JSON: it ends too early"
	notJSON       = "is not JSON"
	trailingData  = "holds more than one JSON value"
	controlChar   = "is not JSON: it holds a control character that is not escaped"
	notUTF8       = "is not UTF-8"
	loneSurrogate = "holds half of a surrogate pair"
	holdsNUL      = "holds the character NUL, which is not taken"
	duplicateName = "is given twice"
	tooLarge      = "is a number too large to be taken"
)

// Violation is the first breach of the rules in a text. It never repeats a value.
type Violation struct {
	Path   []string // names and positions from the root to the place; empty for the root
	Detail string   // a predicate such as "is given twice"
}

// within returns the violation as seen from the container of the value with this name or position.
// Paths grow from the inside outwards; Decode turns them round.
func (v *Violation) within(name string) *Violation {
	v.Path = append(v.Path, name)
	return v
}

// Document is the content of a JSON text.
type Document struct {
	Value any // nil, bool, float64, string, []any or map[string]any
	// Plain is the text with each whole number that was written with a fraction or an exponent,
	// such as 1.0 or 1e3, written plainly. JSON Schema counts them as integers, encoding/json does
	// not decode them into one. Nearly always there is none, and Plain is the text itself. It holds
	// the digits of all other numbers as they were written.
	Plain string
}

// Decode reads a text of exactly one JSON value. It refuses duplicate names, bad UTF-8, NUL and
// lone surrogates (which PostgreSQL refuses), numbers that no float64 or int64 holds, more than
// MaxDepth levels, and trailing data. It does not retain the text.
//
// Its memory is proportional to the length of the text, which the caller has to limit.
func Decode(text []byte) (Document, *Violation) {
	// One copy: strings without an escape share its memory, and so does Plain. Duplicate names are
	// found by the maps that are built anyway, which spares the library a record of all names.
	d := decoder{
		text:   string(text),
		tokens: jsontext.NewDecoder(bytes.NewBuffer(text), jsontext.AllowDuplicateNames(true)),
	}
	value, violation := d.value()
	if violation == nil && strings.Trim(d.remainder(), whitespace) != "" {
		violation = &Violation{Detail: trailingData}
	}
	if violation != nil {
		slices.Reverse(violation.Path)
		return Document{}, violation
	}
	return Document{Value: value, Plain: d.plain()}, nil
}

// Number reads a text that is exactly one JSON number, by the same rules, with no white space
// around it. It reports whether it is one.
func Number(text string) (value float64, ok bool) {
	isDigit := func(c byte) bool { return c >= '0' && c <= '9' }
	// A valid value that begins like a number and ends with a digit is a number and nothing else.
	if text == "" || text[0] != '-' && !isDigit(text[0]) || !isDigit(text[len(text)-1]) ||
		len(text) > maxNumberLength || !jsontext.Value(text).IsValid() {
		return 0, false
	}
	value, _, violation := number(text)
	return value, violation == nil
}

type decoder struct {
	text     string
	tokens   *jsontext.Decoder
	rewrites []rewrite
	unquoted []byte // scratch space for strings with escapes
}

// rewrite says that text[from:to] is a whole number to be written as plain.
type rewrite struct {
	from, to int
	plain    int64
}

// remainder is the text behind the last token that was read.
func (d *decoder) remainder() string { return d.text[d.tokens.InputOffset():] }

func (d *decoder) value() (any, *Violation) {
	kind := d.tokens.PeekKind()
	switch kind {
	case '{', '[':
		if d.tokens.StackDepth() == MaxDepth {
			return nil, &Violation{
				Detail: "is nested too deeply: at most " + strconv.Itoa(MaxDepth) + " levels are taken",
			}
		}
		if violation := d.delimiter(); violation != nil {
			return nil, violation
		}
		if kind == '{' {
			return d.object()
		}
		return d.array()
	case '"':
		return d.str()
	}
	raw, err := d.tokens.ReadValue()
	switch {
	case err != nil && (kind == 't' || kind == 'f' || kind == 'n'):
		return nil, &Violation{Detail: notJSON} // such as nul: it is misspelt rather than cut off
	case err != nil:
		return nil, d.violation(err)
	}
	switch kind {
	case 't':
		return true, nil
	case 'f':
		return false, nil
	case 'n':
		return nil, nil
	}
	to := int(d.tokens.InputOffset())
	from := to - len(raw)
	value, rewritten, violation := number(d.text[from:to])
	if violation != nil {
		return nil, violation
	}
	if rewritten {
		d.rewrites = append(d.rewrites, rewrite{from, to, int64(value)})
	}
	return value, nil
}

// delimiter reads the beginning or the end of an object or an array.
func (d *decoder) delimiter() *Violation {
	if _, err := d.tokens.ReadToken(); err != nil {
		return d.violation(err)
	}
	return nil
}

// object reads on in an object, after its beginning.
func (d *decoder) object() (any, *Violation) {
	members := map[string]any{}
	for d.tokens.PeekKind() == '"' {
		name, violation := d.str()
		if violation != nil {
			return nil, violation
		}
		value, violation := d.value()
		if violation != nil {
			return nil, violation.within(name)
		}
		before := len(members)
		if members[name] = value; len(members) == before {
			return nil, (&Violation{Detail: duplicateName}).within(name)
		}
	}
	if violation := d.delimiter(); violation != nil {
		return nil, violation
	}
	return members, nil
}

// array reads on in an array, after its beginning.
func (d *decoder) array() (any, *Violation) {
	items := []any{}
	for d.tokens.PeekKind() != ']' {
		before := d.remainder()
		value, violation := d.value()
		if violation == nil {
			items = append(items, value)
			continue
		}
		if len(items) > 0 && !strings.HasPrefix(strings.TrimLeft(before, whitespace), ",") {
			return nil, violation // the comma or the end is missing, which is the array's own fault
		}
		return nil, violation.within(strconv.Itoa(len(items)))
	}
	if violation := d.delimiter(); violation != nil {
		return nil, violation
	}
	return items, nil
}

// str reads a string or the name of a member.
func (d *decoder) str() (string, *Violation) {
	raw, err := d.tokens.ReadValue()
	if err != nil {
		return "", d.violation(err)
	}
	if bytes.IndexByte(raw, '\\') < 0 {
		to := int(d.tokens.InputOffset())
		return d.text[to-len(raw)+1 : to-1], nil
	}
	if d.unquoted, err = jsontext.AppendUnquote(d.unquoted[:0], raw); err != nil {
		return "", d.violation(err)
	}
	if bytes.IndexByte(d.unquoted, 0) >= 0 {
		return "", &Violation{Detail: holdsNUL}
	}
	return string(d.unquoted), nil
}

// number converts a number that follows the grammar. It reports whether it is a whole number that
// is not written as one.
func number(text string) (value float64, rewritten bool, violation *Violation) {
	if len(text) > maxNumberLength {
		return 0, false, &Violation{
			Detail: "is a number of more than " + strconv.Itoa(maxNumberLength) + " characters",
		}
	}
	if !strings.ContainsAny(text, ".eE") {
		whole, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return 0, false, &Violation{Detail: tooLarge}
		}
		return float64(whole), false, nil
	}
	const limit = 1 << 63 // exactly a float64, one more than the largest int64
	value, err := strconv.ParseFloat(text, 64)
	if err != nil || value >= limit || value < -limit {
		return 0, false, &Violation{Detail: tooLarge}
	}
	return value, value == float64(int64(value)), nil
}

// violation puts an error of the library into our words: its own may change, and may repeat a
// value.
func (d *decoder) violation(err error) *Violation {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return &Violation{Detail: endsTooEarly}
	}
	syntax, ok := errors.AsType[*jsontext.SyntacticError](err)
	if !ok || syntax.ByteOffset < 0 || syntax.ByteOffset >= int64(len(d.text)) {
		return &Violation{Detail: notJSON}
	}
	// In a string, the bytes at the place of the error say what is wrong.
	pending := strings.TrimLeft(d.remainder(), whitespace+",:")
	at := d.text[syntax.ByteOffset:]
	if !strings.HasPrefix(pending, `"`) || len(at) >= len(pending) {
		return &Violation{Detail: notJSON}
	}
	if char, size := utf8.DecodeRuneInString(at); char == utf8.RuneError && size == 1 {
		return &Violation{Detail: notUTF8}
	}
	if at[0] < ' ' {
		return &Violation{Detail: controlChar}
	}
	if strings.HasPrefix(at, `\u`) && len(at) >= 6 {
		if _, err := strconv.ParseUint(at[2:6], 16, 16); err == nil {
			return &Violation{Detail: loneSurrogate} // the escape itself is right
		}
	}
	return &Violation{Detail: notJSON}
}

// plain returns the text with the rewrites applied.
func (d *decoder) plain() string {
	if len(d.rewrites) == 0 {
		return d.text
	}
	plain, from := make([]byte, 0, len(d.text)), 0
	for _, r := range d.rewrites {
		plain = append(plain, d.text[from:r.from]...)
		plain = strconv.AppendInt(plain, r.plain, 10)
		from = r.to
	}
	return string(append(plain, d.text[from:]...))
}
