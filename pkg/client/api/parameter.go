package api

import (
	"fmt"
	"net/url"
	"reflect"
	"strconv"
	"time"
)

// How parameters are written (OpenAPI, style "simple" and style "form" of plain values, which is
// all that the contract has). oapi-codegen's runtime does more, and would bring its web frameworks
// into the module graph of every user.

// pathParameter writes a value as one segment of a path.
func pathParameter(value any) (string, error) {
	text, err := parameter(value)
	return url.PathEscape(text), err
}

// headerParameter writes a value as a header.
func headerParameter(value any) (string, error) { return parameter(value) }

// queryParameter writes a value as a parameter of a query.
func queryParameter(name string, value any) (string, error) {
	text, err := parameter(value)
	return url.QueryEscape(name) + "=" + url.QueryEscape(text), err
}

func parameter(value any) (string, error) {
	switch value := value.(type) {
	case time.Time:
		return value.Format(time.RFC3339Nano), nil
	case fmt.Stringer: // ids
		return value.String(), nil
	}
	switch plain := reflect.ValueOf(value); plain.Kind() {
	case reflect.String:
		return plain.String(), nil
	case reflect.Int, reflect.Int32, reflect.Int64:
		return strconv.FormatInt(plain.Int(), 10), nil
	case reflect.Bool:
		return strconv.FormatBool(plain.Bool()), nil
	}
	return "", fmt.Errorf("steward: a parameter cannot be a %T", value)
}
