// Package version says which versions of a resource a change is meant for.
//
// Owns: the condition that a caller puts on a change (If-Match, RFC 9110, section 13.1.1).
// Does not own: how versions are written in a header (httpapi) and where they are counted (the features).
package version

import (
	"slices"
	"strconv"
	"strings"
)

// Condition is the versions that a change is meant for. The zero Condition is met by every version.
type Condition struct{ only []int64 }

// OneOf is met by the versions given and by no other; by none, if none is given.
func OneOf(versions ...int64) Condition {
	if versions == nil {
		versions = []int64{}
	}
	return Condition{only: versions}
}

// MetBy tells whether a change to this version is meant.
func (c Condition) MetBy(version int64) bool {
	return c.only == nil || slices.Contains(c.only, version)
}

// Array is the condition as a bigint[] of PostgreSQL, or nil when every version meets it.
func (c Condition) Array() *string {
	if c.only == nil {
		return nil
	}
	texts := make([]string, len(c.only))
	for i, version := range c.only {
		texts[i] = strconv.FormatInt(version, 10)
	}
	array := "{" + strings.Join(texts, ",") + "}"
	return &array
}
