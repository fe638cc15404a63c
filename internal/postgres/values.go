package postgres

import (
	"database/sql/driver"
	"encoding/json"
	"errors"
	"strings"
)

// Strings is a text[] as an argument of a statement. (GORM would spread a plain slice into a list.)
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
