package trailproof

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
)

// LeafVersion is the version of the form of a leaf. It stands in every leaf; another form would
// have another number.
const LeafVersion = 1

// The values of Entry.Source.
const (
	SourceSteward     = "steward"     // Steward itself recorded the act
	SourceIntegration = "integration" // a program of the customer's recorded it with an API key
)

// The values of Entry.ActorType. Of the four ids of actors, those that belong to the type are set.
const (
	ActorUser     = "user"     // ActorUserID: an administrator or another user
	ActorSelf     = "self"     // ActorUserID: the person whom the act is about
	ActorAPIKey   = "api_key"  // ActorAPIKeyID
	ActorOperator = "operator" // ActorOperatorCustomerID and ActorOperatorID
	ActorSystem   = "system"   // none: Steward acted by itself
)

// Entry is everything that is stored of an entry of the trail.
type Entry struct {
	CustomerID uuid.UUID
	ID         uuid.UUID
	Source     string  // SourceSteward or SourceIntegration
	SourceID   *string // the id that the integration gave the entry, if any
	// ActorUser, ActorSelf, ActorAPIKey, ActorOperator or ActorSystem
	ActorType               string
	ActorUserID             *uuid.UUID
	ActorAPIKeyID           *uuid.UUID
	ActorOperatorCustomerID *uuid.UUID
	ActorOperatorID         *uuid.UUID
	Action                  string // such as user.corrected; an integration has actions of its own
	TargetType              string // such as user; an integration has types of its own
	TargetID                string
	// names of the columns or fields that changed, never values
	Changed    []string
	Details    json.RawMessage // nil: none
	OccurredAt time.Time       // to the microsecond
	RecordedAt time.Time       // to the microsecond
}

// AppendLeaf appends the leaf of an entry, which is a JSON object (RFC 8259) in UTF-8 and in one
// form alone:
//
//   - no white space; the members in the order of their names' bytes, in the details too;
//   - every member is there, as null where there is nothing; only details are left out where there
//     are none;
//   - ids in the form of RFC 9562 in lower case; times as 2006-01-02T15:04:05.000000Z;
//   - texts with the escapes \" \\ \b \f \n \r \t, \u00xx in lower case for the other control
//     characters up to U+001F, and everything else as it is;
//   - numbers of the details with all their digits and without an exponent, as PostgreSQL writes
//     them.
//
// Two entries that differ in anything have different leaves. It is for programs that write a trail:
// who verifies one gets leaves from the service.
//
// The only error is [ErrLeaf], for what no entry can hold: text that is not UTF-8, details that are
// not JSON.
func AppendLeaf(leaf []byte, e *Entry) ([]byte, error) {
	leaf = append(leaf, `{"action":`...)
	leaf = appendText(leaf, e.Action)
	leaf = appendOptionalID(append(leaf, `,"actor_api_key_id":`...), e.ActorAPIKeyID)
	leaf = appendOptionalID(append(leaf, `,"actor_operator_customer_id":`...), e.ActorOperatorCustomerID)
	leaf = appendOptionalID(append(leaf, `,"actor_operator_id":`...), e.ActorOperatorID)
	leaf = appendText(append(leaf, `,"actor_type":`...), e.ActorType)
	leaf = appendOptionalID(append(leaf, `,"actor_user_id":`...), e.ActorUserID)
	leaf = append(leaf, `,"changed":[`...)
	for i, name := range e.Changed {
		if i > 0 {
			leaf = append(leaf, ',')
		}
		leaf = appendText(leaf, name)
	}
	leaf = appendID(append(leaf, `],"customer_id":`...), e.CustomerID)
	if e.Details != nil {
		var err error
		if leaf, err = appendCanonical(append(leaf, `,"details":`...), e.Details); err != nil {
			return nil, err
		}
	}
	leaf = appendID(append(leaf, `,"id":`...), e.ID)
	leaf = appendTime(append(leaf, `,"occurred_at":`...), e.OccurredAt)
	leaf = appendTime(append(leaf, `,"recorded_at":`...), e.RecordedAt)
	leaf = appendText(append(leaf, `,"source":`...), e.Source)
	leaf = append(leaf, `,"source_id":`...)
	if e.SourceID == nil {
		leaf = append(leaf, "null"...)
	} else {
		leaf = appendText(leaf, *e.SourceID)
	}
	leaf = appendText(append(leaf, `,"target_id":`...), e.TargetID)
	leaf = appendText(append(leaf, `,"target_type":`...), e.TargetType)
	leaf = strconv.AppendInt(append(leaf, `,"version":`...), LeafVersion, 10)
	leaf = append(leaf, '}')
	if !utf8.Valid(leaf) {
		return nil, fmt.Errorf("%w: it holds text that is not UTF-8", ErrLeaf)
	}
	return leaf, nil
}

// wireLeaf is a leaf as encoding/json reads it.
type wireLeaf struct {
	Action                  *string         `json:"action"`
	ActorAPIKeyID           *uuid.UUID      `json:"actor_api_key_id"`
	ActorOperatorCustomerID *uuid.UUID      `json:"actor_operator_customer_id"`
	ActorOperatorID         *uuid.UUID      `json:"actor_operator_id"`
	ActorType               string          `json:"actor_type"`
	ActorUserID             *uuid.UUID      `json:"actor_user_id"`
	Changed                 []string        `json:"changed"`
	CustomerID              uuid.UUID       `json:"customer_id"`
	Details                 json.RawMessage `json:"details"`
	ID                      uuid.UUID       `json:"id"`
	OccurredAt              time.Time       `json:"occurred_at"`
	RecordedAt              time.Time       `json:"recorded_at"`
	Source                  string          `json:"source"`
	SourceID                *string         `json:"source_id"`
	TargetID                string          `json:"target_id"`
	TargetType              string          `json:"target_type"`
	Version                 int             `json:"version"`
}

// ParseLeaf reads a leaf. Whatever is not exactly the leaf of an entry, byte for byte, is an
// [ErrLeaf].
func ParseLeaf(leaf []byte) (Entry, error) {
	var wire wireLeaf
	if err := json.Unmarshal(leaf, &wire); err != nil {
		return Entry{}, fmt.Errorf("%w: %w", ErrLeaf, err)
	}
	if wire.Version != LeafVersion {
		return Entry{}, fmt.Errorf("%w: its version is %d", ErrLeaf, wire.Version)
	}
	if wire.Action == nil {
		return Entry{}, fmt.Errorf("%w: it has no action", ErrLeaf)
	}
	entry := Entry{
		CustomerID: wire.CustomerID, ID: wire.ID, Source: wire.Source, SourceID: wire.SourceID, ActorType: wire.ActorType, ActorUserID: wire.ActorUserID,
		ActorAPIKeyID: wire.ActorAPIKeyID, ActorOperatorCustomerID: wire.ActorOperatorCustomerID, ActorOperatorID: wire.ActorOperatorID, Action: *wire.Action,
		TargetType: wire.TargetType, TargetID: wire.TargetID, Changed: wire.Changed, Details: wire.Details, OccurredAt: wire.OccurredAt, RecordedAt: wire.RecordedAt,
	}
	again, err := AppendLeaf(make([]byte, 0, len(leaf)), &entry)
	if err != nil {
		return Entry{}, err
	}
	if !bytes.Equal(again, leaf) {
		return Entry{}, fmt.Errorf("%w: it is not in its one form", ErrLeaf)
	}
	return entry, nil
}

func appendID(to []byte, one uuid.UUID) []byte {
	const digits = "0123456789abcdef"
	to = append(to, '"')
	for i, b := range one {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			to = append(to, '-')
		}
		to = append(to, digits[b>>4], digits[b&15])
	}
	return append(to, '"')
}

func appendOptionalID(to []byte, one *uuid.UUID) []byte {
	if one == nil {
		return append(to, "null"...)
	}
	return appendID(to, *one)
}

func appendTime(to []byte, at time.Time) []byte {
	to = append(to, '"')
	to = at.UTC().AppendFormat(to, "2006-01-02T15:04:05.000000Z")
	return append(to, '"')
}

func appendText(to []byte, text string) []byte {
	const digits = "0123456789abcdef"
	to = append(to, '"')
	from := 0
	for i := range len(text) {
		char := text[i]
		if char >= ' ' && char != '"' && char != '\\' {
			continue
		}
		to = append(to, text[from:i]...)
		from = i + 1
		switch char {
		case '"', '\\':
			to = append(to, '\\', char)
		case '\b':
			to = append(to, '\\', 'b')
		case '\f':
			to = append(to, '\\', 'f')
		case '\n':
			to = append(to, '\\', 'n')
		case '\r':
			to = append(to, '\\', 'r')
		case '\t':
			to = append(to, '\\', 't')
		default:
			to = append(to, '\\', 'u', '0', '0', digits[char>>4], digits[char&15])
		}
	}
	return append(append(to, text[from:]...), '"')
}

// appendCanonical appends a JSON text in its one form.
func appendCanonical(to []byte, text []byte) ([]byte, error) {
	if !json.Valid(text) || !utf8.Valid(text) {
		return nil, fmt.Errorf("%w: its details are not JSON in UTF-8", ErrLeaf)
	}
	reader := jsonReader{text: text}
	return reader.value(to)
}

// jsonReader goes through a JSON text that is known to be valid.
type jsonReader struct {
	text []byte
	at   int
}

func (r *jsonReader) blanks() {
	for r.at < len(r.text) && (r.text[r.at] == ' ' || r.text[r.at] == '\n' || r.text[r.at] == '\t' || r.text[r.at] == '\r') {
		r.at++
	}
}

func (r *jsonReader) value(to []byte) ([]byte, error) {
	r.blanks()
	switch r.text[r.at] {
	case '{':
		return r.object(to)
	case '[':
		return r.array(to)
	case '"':
		text, err := r.string()
		return appendText(to, text), err
	}
	from := r.at
	for r.at < len(r.text) && strings.IndexByte(",]} \n\t\r", r.text[r.at]) < 0 {
		r.at++
	}
	literal := r.text[from:r.at]
	if first := literal[0]; (first == '-' || first >= '0' && first <= '9') && bytes.ContainsAny(literal, "eE") {
		return nil, fmt.Errorf("%w: its details have a number with an exponent", ErrLeaf)
	}
	return append(to, literal...), nil
}

func (r *jsonReader) array(to []byte) ([]byte, error) {
	to = append(to, '[')
	r.at++
	for first := true; ; first = false {
		r.blanks()
		if r.text[r.at] == ']' {
			r.at++
			return append(to, ']'), nil
		}
		if !first {
			r.at++ // the comma
			to = append(to, ',')
		}
		var err error
		if to, err = r.value(to); err != nil {
			return nil, err
		}
	}
}

func (r *jsonReader) object(to []byte) ([]byte, error) {
	type member struct {
		name  string
		value []byte
	}
	var members []member
	r.at++
	for {
		r.blanks()
		switch r.text[r.at] {
		case ',':
			r.at++
			continue
		case '}':
			r.at++
			slices.SortFunc(members, func(a, b member) int { return strings.Compare(a.name, b.name) })
			to = append(to, '{')
			for i, one := range members {
				if i > 0 {
					if members[i-1].name == one.name {
						return nil, fmt.Errorf("%w: its details have a member twice", ErrLeaf)
					}
					to = append(to, ',')
				}
				to = append(append(appendText(to, one.name), ':'), one.value...)
			}
			return append(to, '}'), nil
		}
		name, err := r.string()
		if err != nil {
			return nil, err
		}
		r.blanks()
		r.at++ // the colon
		value, err := r.value(nil)
		if err != nil {
			return nil, err
		}
		members = append(members, member{name, value})
	}
}

func (r *jsonReader) string() (text string, err error) {
	from := r.at
	plain := true
	for r.at++; r.text[r.at] != '"'; r.at++ {
		if r.text[r.at] == '\\' {
			plain = false
			r.at++
		}
	}
	r.at++
	if plain {
		return string(r.text[from+1 : r.at-1]), nil
	}
	if surrogateAlone(r.text[from:r.at]) {
		return "", fmt.Errorf("%w: its details have half a character", ErrLeaf)
	}
	if err := json.Unmarshal(r.text[from:r.at], &text); err != nil {
		return "", fmt.Errorf("%w: %w", ErrLeaf, err)
	}
	return text, nil
}

// surrogateAlone reports whether a text has an escaped surrogate without its other half, which
// encoding/json would silently replace.
func surrogateAlone(quoted []byte) bool {
	escaped := func(at int) (unit uint64, ok bool) {
		if at+6 > len(quoted) || quoted[at] != '\\' || quoted[at+1] != 'u' {
			return 0, false
		}
		unit, err := strconv.ParseUint(string(quoted[at+2:at+6]), 16, 16)
		return unit, err == nil
	}
	for at := 0; at < len(quoted); at++ {
		if quoted[at] != '\\' {
			continue
		}
		unit, ok := escaped(at)
		switch {
		case !ok:
			at++
		case unit >= 0xd800 && unit < 0xdc00:
			if low, ok := escaped(at + 6); !ok || low < 0xdc00 || low > 0xdfff {
				return true
			}
			at += 11
		case unit >= 0xdc00 && unit <= 0xdfff:
			return true
		default:
			at += 5
		}
	}
	return false
}
