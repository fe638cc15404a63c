package httpapi

import (
	"strconv"
	"strings"

	"github.com/fusionspim/steward/internal/base/version"
)

// etag formats a version as a strong entity tag (RFC 9110, section 8.8.3).
func etag(number int64) string { return `"` + strconv.FormatInt(number, 10) + `"` }

// condition parses an If-Match header. A tag that is not ours, or is weak, matches no version.
func condition(header *string) version.Condition {
	if header == nil || strings.TrimSpace(*header) == "*" {
		return version.Condition{}
	}
	versions := []int64{}
	for tag := range strings.SplitSeq(*header, ",") {
		tag = strings.TrimSpace(tag)
		if len(tag) < 3 || tag[0] != '"' || tag[len(tag)-1] != '"' {
			continue
		}
		if number, err := strconv.ParseInt(tag[1:len(tag)-1], 10, 64); err == nil {
			versions = append(versions, number)
		}
	}
	return version.OneOf(versions...)
}
