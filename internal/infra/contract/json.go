package contract

// ReadJSON reads a text of exactly one JSON value by the rules that hold for bodies: nothing twice, no bad UTF-8, no NUL, no lone surrogates, no deep nesting. The
// value is nil, a bool, a float64, a string, a []any or a map[string]any.
func ReadJSON(text string) (value any, ok bool) {
	read, bad := decodeJSON(text)
	return read.value, bad == nil
}
