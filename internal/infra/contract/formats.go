package contract

import (
	"errors"
	"net/netip"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/getkin/kin-openapi/openapi3"
)

// errFormat says that a text is not of its format. It carries nothing, because the words for the caller come from formatSentence.
var errFormat = errors.New("contract: not of its format")

// formatChecks returns the checks of the formats of texts.
func formatChecks() map[string]func(string) bool {
	return map[string]func(string) bool{
		"uuid":      isUUID,
		"email":     isEmail,
		"idn-email": isEmail,
		"date-time": isDateTime,
		"date":      isDate,
		"uri":       isURI,
		"ipv4":      func(s string) bool { a, err := netip.ParseAddr(s); return err == nil && a.Is4() },
		"ipv6":      func(s string) bool { a, err := netip.ParseAddr(s); return err == nil && a.Is6() && a.Zone() == "" },
		"ip":        func(s string) bool { a, err := netip.ParseAddr(s); return err == nil && a.Zone() == "" },
		"cidr":      func(s string) bool { _, err := netip.ParsePrefix(s); return err == nil },
	}
}

// validators makes the checks into what kin-openapi takes. They are handed to it with each value, because its own table is a global one, knows
// neither UUIDs of version 7 nor e-mail addresses, and takes times that Go cannot read.
func validators(checks map[string]func(string) bool) map[string]openapi3.StringFormatValidator {
	made := make(map[string]openapi3.StringFormatValidator, len(checks))
	for name, check := range checks {
		made[name] = openapi3.NewCallbackValidator(func(value string) error {
			if !check(value) {
				return errFormat
			}
			return nil
		})
	}
	return made
}

// knownFormat tells whether a format may stand in the document: it is checked, here or by kin-openapi, or it is a mere note.
func knownFormat(format string) bool {
	switch format {
	case "", "byte", "int32", "int64": // kin-openapi
		return true
	case "binary", "password", "float", "double": // notes for readers and generators
		return true
	}
	return formatSentence(format) != ""
}

// formatSentence says what a text of the format is. It knows each format of formatChecks.
func formatSentence(format string) string {
	switch format {
	case "uuid":
		return "must be a UUID of 36 characters with hyphens"
	case "email", "idn-email":
		return "must be one e-mail address"
	case "date-time":
		return "must be a time as in RFC 3339, such as 2026-01-31T13:45:00Z"
	case "date":
		return "must be a day as in RFC 3339, such as 2026-01-31"
	case "uri":
		return "must be an absolute URI"
	case "ipv4":
		return "must be an IPv4 address"
	case "ipv6":
		return "must be an IPv6 address"
	case "ip":
		return "must be an IP address"
	case "cidr":
		return "must be a network in CIDR form, such as 192.0.2.0/24"
	}
	return ""
}

// isUUID takes any version and either case, but only the canonical form, like package id: one thing has one address.
func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case i == 8 || i == 13 || i == 18 || i == 23:
			if c != '-' {
				return false
			}
		case c >= '0' && c <= '9', c >= 'a' && c <= 'f', c >= 'A' && c <= 'F':
		default:
			return false
		}
	}
	return true
}

// isEmail is loose on purpose: something, one @, something, and no blank or control character. The domain rules are the features'.
func isEmail(s string) bool {
	local, domain, found := strings.Cut(s, "@")
	if !found || local == "" || domain == "" || strings.Contains(domain, "@") {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] == 0x7f {
			return false
		}
	}
	return true
}

// isDateTime takes what RFC 3339, section 5.6, and Go both take: time.Parse alone lets through hours of one digit and a comma before the
// fraction, and refuses leap seconds.
func isDateTime(s string) bool {
	if len(s) < len("2006-01-02T15:04:05Z") || s[10] != 'T' || s[13] != ':' || strings.IndexByte(s, ',') >= 0 {
		return false
	}
	if last := len(s) - 1; s[last] != 'Z' {
		zone := s[last-5:]
		if zone[0] != '+' && zone[0] != '-' || zone[3] != ':' || zone[1:3] > "23" || zone[4:] > "59" {
			return false
		}
	}
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return false
	}
	// In UTC a zone can carry a time out of the years that JSON can write, and PostgreSQL knows no year 0.
	year := at.UTC().Year()
	return 1 <= year && year <= 9999
}

func isDate(s string) bool {
	_, err := time.Parse(time.DateOnly, s)
	return err == nil && len(s) == len(time.DateOnly)
}

// isURI takes absolute URIs without characters that would have to be escaped.
func isURI(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= utf8.RuneSelf || s[i] == 0x7f {
			return false
		}
	}
	parsed, err := url.Parse(s)
	return err == nil && parsed.Scheme != "" && (parsed.Host != "" || parsed.Opaque != "")
}
