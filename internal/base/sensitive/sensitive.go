// Package sensitive holds strings that must never be printed: passwords, keys, tokens, connection
// strings.
//
// Owns: the type, and the promise that no verb of fmt, no logger and no encoder reveals its
// content.
// Does not own: how a secret is stored or compared.
package sensitive

import (
	"fmt"
	"log/slog"
)

const mask = "***"

// String is a secret. Printing, logging or encoding it yields three asterisks; only Reveal returns
// the secret. The zero value is the empty secret. Secrets do not compare with ==.
type String struct {
	_ [0]func() // not comparable

	// Behind a pointer, because fmt calls no method of an unexported field, nor for %p and %w, but
	// does not follow a pointer to a string either.
	secret *string
}

// New wraps a secret.
func New(secret string) String { return String{secret: &secret} }

// Reveal returns the secret itself. Call it where the secret is used and nowhere else.
func (s String) Reveal() string {
	if s.secret == nil {
		return ""
	}
	return *s.secret
}

// IsEmpty reports whether the secret is empty.
func (s String) IsEmpty() bool { return s.Reveal() == "" }

// String implements fmt.Stringer.
func (String) String() string { return mask }

// GoString implements fmt.GoStringer.
func (String) GoString() string { return mask }

// Format implements fmt.Formatter, so that no verb reaches the field.
func (String) Format(state fmt.State, _ rune) { _, _ = state.Write([]byte(mask)) }

// LogValue implements slog.LogValuer.
func (String) LogValue() slog.Value { return slog.StringValue(mask) }

// MarshalText implements encoding.TextMarshaler, and thereby JSON.
func (String) MarshalText() ([]byte, error) { return []byte(mask), nil }

// UnmarshalText implements encoding.TextUnmarshaler, so that settings can be read into a secret.
func (s *String) UnmarshalText(text []byte) error {
	*s = New(string(text))
	return nil
}
