package postgres

import (
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5/pgtype"
)

// Strings is a text[] as an argument of ORM, which would spread a plain slice into a list.
type Strings []string

// Value implements driver.Valuer.
func (s Strings) Value() (driver.Value, error) {
	var literal strings.Builder
	literal.WriteByte('{')
	for i, element := range s {
		if i > 0 {
			literal.WriteByte(',')
		}
		literal.WriteByte('"')
		for _, char := range []byte(element) {
			if char == '"' || char == '\\' {
				literal.WriteByte('\\')
			}
			literal.WriteByte(char)
		}
		literal.WriteByte('"')
	}
	literal.WriteByte('}')
	return literal.String(), nil
}

// JSON is a json or jsonb column. Arrays are read through it too, by to_jsonb in the statement.
type JSON[T any] struct{ Of T }

// Scan implements sql.Scanner.
func (j *JSON[T]) Scan(source any) error {
	switch text := source.(type) {
	case nil:
		return nil
	case []byte:
		return json.Unmarshal(text, &j.Of)
	case string:
		return json.Unmarshal([]byte(text), &j.Of)
	}
	return errors.New("postgres: a JSON column came as neither text nor bytes")
}

// Value implements driver.Valuer.
func (j JSON[T]) Value() (driver.Value, error) {
	text, err := json.Marshal(j.Of)
	return string(text), err
}

// Counts reads rows of a key and a count, and adds up the counts of each key.
func Counts[K comparable](rows *sql.Rows, err error) (map[K]int64, error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	counts := make(map[K]int64)
	for rows.Next() {
		var of K
		var count int64
		if err := rows.Scan(&of, &count); err != nil {
			return nil, err
		}
		counts[of] += count
	}
	return counts, errors.Join(rows.Err(), rows.Close())
}

// identifier is implemented by every id.ID and by a bare UUID.
type identifier interface {
	MarshalBinary() ([]byte, error)
	URN() string
}

// wrapID sends identifiers to the server as their 16 bytes. They are driver.Valuers as well, and as
// such would be formatted as text and parsed again for every argument of every statement.
func wrapID(value any) (pgtype.WrappedEncodePlanNextSetter, any, bool) {
	one, ok := value.(identifier)
	if !ok {
		return nil, nil, false
	}
	return &encodeID{}, binaryID{one}, true
}

type encodeID struct{ next pgtype.EncodePlan }

// SetNext implements pgtype.WrappedEncodePlanNextSetter.
func (e *encodeID) SetNext(next pgtype.EncodePlan) { e.next = next }

// Encode implements pgtype.EncodePlan.
func (e *encodeID) Encode(value any, buf []byte) ([]byte, error) {
	return e.next.Encode(binaryID{value.(identifier)}, buf)
}

type binaryID struct{ identifier }

// UUIDValue implements pgtype.UUIDValuer.
func (b binaryID) UUIDValue() (out pgtype.UUID, err error) {
	bytes, err := b.MarshalBinary()
	copy(out.Bytes[:], bytes)
	out.Valid = err == nil
	return out, err
}
