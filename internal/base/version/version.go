// Package version holds the condition under which a change applies.
//
// Owns: the caller's precondition on a resource's version (If-Match, RFC 9110, section 13.1.1).
// Does not own: how versions are written in a header (httpapi) and where they are counted (the
// features).
package version

import (
	"slices"
	"strconv"
	"strings"
)

// Condition is the set of versions to which a change applies. The zero Condition is met by every
// version.
type Condition struct{ only []int64 }

// OneOf returns the condition met by the given versions only, and by none if none is given.
func OneOf(versions ...int64) Condition {
	if versions == nil {
		versions = []int64{}
	}
	return Condition{only: versions}
}

// MetBy reports whether the version meets the condition.
func (c Condition) MetBy(version int64) bool {
	return c.only == nil || slices.Contains(c.only, version)
}

// Array returns the condition as the text of a PostgreSQL bigint[], or nil when every version meets
// it.
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
