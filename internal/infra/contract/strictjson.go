package contract

import (
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

const (
	maxDepth        = 32 // of objects and lists in a body, the outermost counted
	maxNumberLength = 30 // characters: more than any float64 or int64 needs
)

// violation is one breach of the rules of strict JSON: where, and in which words.
type violation struct {
	path   []string
	detail string
}

// decoded is what a text of JSON holds.
type decoded struct {
	value any // nil, bool, float64, string, []any or map[string]any
	// plain is the text with each whole number that was written with a fraction or an exponent, such as 1.0 or 1e3, written plainly. JSON Schema
	// counts them as integers, encoding/json does not read them into one. It is the text itself where there is none, which is nearly always.
	plain string
}

// decodeJSON reads a text of exactly one JSON value and refuses what other readers would take differently or not at all: a member given
// twice, bad UTF-8, NUL and lone surrogates (which PostgreSQL refuses), numbers that no float64 or int64 holds, deep nesting, trailing data.
// Strings without an escape share the memory of the text.
func decodeJSON(text string) (decoded, *violation) {
	d := decoder{text: text}
	value, bad := d.document()
	if bad != nil {
		return decoded{}, bad
	}
	return decoded{value: value, plain: d.plain()}, nil
}

// decoder is the state of one reading.
type decoder struct {
	text     string
	at       int // the next byte
	depth    int
	path     []string // names and positions from the root to where the reading is
	rewrites []rewrite
	scratch  []byte // for strings with escapes
}

// rewrite says that text[from:to] is a whole number that is written as plain from now on.
type rewrite struct {
	from, to int
	plain    int64
}

func (d *decoder) document() (any, *violation) {
	d.blank()
	value, bad := d.value()
	if bad != nil {
		return nil, bad
	}
	d.blank()
	if d.at < len(d.text) {
		return nil, &violation{detail: "holds more than one JSON value"}
	}
	return value, nil
}

// bad makes a violation at the present place.
func (d *decoder) bad(detail string) *violation { return &violation{path: d.path, detail: detail} }

func (d *decoder) syntax() *violation {
	if d.at >= len(d.text) {
		return d.bad("is not JSON: it ends too early")
	}
	return d.bad("is not JSON")
}

// blank skips the white space of JSON.
func (d *decoder) blank() {
	for d.at < len(d.text) {
		switch d.text[d.at] {
		case ' ', '\t', '\n', '\r':
			d.at++
		default:
			return
		}
	}
}

// next is the next byte, or 0 at the end: no token starts with NUL.
func (d *decoder) next() byte {
	if d.at < len(d.text) {
		return d.text[d.at]
	}
	return 0
}

func (d *decoder) value() (any, *violation) {
	switch c := d.next(); {
	case c == '"':
		d.at++
		return d.str()
	case c == '{':
		d.at++
		return d.object()
	case c == '[':
		d.at++
		return d.list()
	case c == '-' || c >= '0' && c <= '9':
		return d.number()
	}
	for _, word := range [...]struct {
		text  string
		value any
	}{{"true", true}, {"false", false}, {"null", nil}} {
		if strings.HasPrefix(d.text[d.at:], word.text) {
			d.at += len(word.text)
			return word.value, nil
		}
	}
	return nil, d.syntax()
}

// enter counts one more level.
func (d *decoder) enter() *violation {
	if d.depth++; d.depth > maxDepth {
		return d.bad("is nested too deeply: at most " + strconv.Itoa(maxDepth) + " levels are taken")
	}
	return nil
}

func (d *decoder) object() (any, *violation) {
	if bad := d.enter(); bad != nil {
		return nil, bad
	}
	members := map[string]any{}
	d.blank()
	if d.next() == '}' {
		d.at++
		d.depth--
		return members, nil
	}
	for {
		if d.next() != '"' {
			return nil, d.syntax()
		}
		d.at++
		name, bad := d.str()
		if bad != nil {
			return nil, bad
		}
		d.path = append(d.path, name)
		d.blank()
		if d.next() != ':' {
			return nil, d.syntax()
		}
		d.at++
		d.blank()
		value, bad := d.value()
		if bad != nil {
			return nil, bad
		}
		before := len(members)
		if members[name] = value; len(members) == before {
			return nil, d.bad("is given twice")
		}
		d.path = d.path[:len(d.path)-1]
		d.blank()
		switch d.next() {
		case ',':
			d.at++
			d.blank()
		case '}':
			d.at++
			d.depth--
			return members, nil
		default:
			return nil, d.syntax()
		}
	}
}

func (d *decoder) list() (any, *violation) {
	if bad := d.enter(); bad != nil {
		return nil, bad
	}
	items := []any{}
	d.blank()
	if d.next() == ']' {
		d.at++
		d.depth--
		return items, nil
	}
	for {
		d.path = append(d.path, strconv.Itoa(len(items)))
		value, bad := d.value()
		if bad != nil {
			return nil, bad
		}
		items = append(items, value)
		d.path = d.path[:len(d.path)-1]
		d.blank()
		switch d.next() {
		case ',':
			d.at++
			d.blank()
		case ']':
			d.at++
			d.depth--
			return items, nil
		default:
			return nil, d.syntax()
		}
	}
}

// str reads the rest of a string after its opening quote. What is said of bytes below 0x80 holds for UTF-8, where no other character has them.
func (d *decoder) str() (string, *violation) {
	start, ascii := d.at, true
	for i := start; i < len(d.text); i++ {
		switch c := d.text[i]; {
		case c == '"':
			d.at = i + 1
			text := d.text[start:i]
			if !ascii && !utf8.ValidString(text) {
				return "", d.bad("is not UTF-8")
			}
			return text, nil
		case c == '\\':
			d.at = i
			return d.escaped(start)
		case c < ' ':
			d.at = i
			return "", d.bad("is not JSON: it holds a control character that is not escaped")
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	d.at = len(d.text)
	return "", d.syntax()
}

// escaped reads on in a string that started at start and has its first escape here.
func (d *decoder) escaped(start int) (string, *violation) {
	buffer := append(d.scratch[:0], d.text[start:d.at]...)
	for d.at < len(d.text) {
		c := d.text[d.at]
		d.at++
		switch {
		case c == '"':
			d.scratch = buffer
			if !utf8.Valid(buffer) {
				return "", d.bad("is not UTF-8")
			}
			return string(buffer), nil
		case c < ' ':
			return "", d.bad("is not JSON: it holds a control character that is not escaped")
		case c != '\\':
			buffer = append(buffer, c)
			continue
		}
		switch c := d.next(); c {
		case '"', '\\', '/':
			buffer = append(buffer, c)
		case 'b':
			buffer = append(buffer, '\b')
		case 'f':
			buffer = append(buffer, '\f')
		case 'n':
			buffer = append(buffer, '\n')
		case 'r':
			buffer = append(buffer, '\r')
		case 't':
			buffer = append(buffer, '\t')
		case 'u':
			d.at++
			char, bad := d.hex()
			if bad != nil {
				return "", bad
			}
			buffer = utf8.AppendRune(buffer, char)
			continue
		default:
			return "", d.syntax()
		}
		d.at++
	}
	return "", d.syntax()
}

// hex reads the character of an escape after its \u, both halves of it where it is a pair.
func (d *decoder) hex() (rune, *violation) {
	first, ok := d.fourDigits()
	if !ok {
		return 0, d.syntax()
	}
	if first == 0 {
		return 0, d.bad("holds the character NUL, which is not taken")
	}
	if !utf16.IsSurrogate(first) {
		return first, nil
	}
	if strings.HasPrefix(d.text[d.at:], `\u`) {
		d.at += 2
		if second, ok := d.fourDigits(); ok {
			if char := utf16.DecodeRune(first, second); char != utf8.RuneError {
				return char, nil
			}
		}
	}
	return 0, d.bad("holds half of a surrogate pair")
}

func (d *decoder) fourDigits() (rune, bool) {
	if len(d.text)-d.at < 4 {
		return 0, false
	}
	var char rune
	for _, c := range []byte(d.text[d.at : d.at+4]) {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		char = char<<4 | rune(c)
	}
	d.at += 4
	return char, true
}

// digits skips decimal digits and tells whether there was one.
func (d *decoder) digits() bool {
	start := d.at
	for c := d.next(); c >= '0' && c <= '9'; c = d.next() {
		d.at++
	}
	return d.at > start
}

func (d *decoder) number() (any, *violation) {
	start, whole := d.at, true
	if d.next() == '-' {
		d.at++
	}
	if d.next() == '0' {
		d.at++
	} else if !d.digits() {
		return nil, d.syntax()
	}
	if d.next() == '.' {
		d.at++
		if whole = false; !d.digits() {
			return nil, d.syntax()
		}
	}
	if c := d.next(); c == 'e' || c == 'E' {
		d.at++
		if c := d.next(); c == '+' || c == '-' {
			d.at++
		}
		if whole = false; !d.digits() {
			return nil, d.syntax()
		}
	}
	text := d.text[start:d.at]
	if len(text) > maxNumberLength {
		return nil, d.bad("is a number of more than " + strconv.Itoa(maxNumberLength) + " characters")
	}
	if whole {
		value, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, d.bad(tooLarge)
		}
		return float64(value), nil
	}
	value, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return nil, d.bad(tooLarge)
	}
	const limit = 1 << 63 // exactly a float64, one more than the largest int64
	if value == float64(int64(value)) || value >= limit || value <= -limit {
		if value >= limit || value < -limit {
			return nil, d.bad(tooLarge)
		}
		d.rewrites = append(d.rewrites, rewrite{start, d.at, int64(value)})
	}
	return value, nil
}

const tooLarge = "is a number too large to be taken"

// plain returns the text with the rewrites applied.
func (d *decoder) plain() string {
	if len(d.rewrites) == 0 {
		return d.text
	}
	out, from := make([]byte, 0, len(d.text)), 0
	for _, r := range d.rewrites {
		out = append(out, d.text[from:r.from]...)
		out = strconv.AppendInt(out, r.plain, 10)
		from = r.to
	}
	return string(append(out, d.text[from:]...))
}
