// Package address holds the one grammar of e-mail addresses: an address that an account may have is
// an address that mail can be sent to.
//
// Owns: what an e-mail address and a mail domain are, and their ASCII forms.
// Does not own: which addresses count as one person's (account/user), and senders' display names
// (infra/mail).
package address

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"golang.org/x/text/unicode/norm"
)

// Limits in octets.
const (
	MaxLength = 254 // of an address; RFC 5321, section 4.5.3.1.3, less the angle brackets
	MaxLocal  = 64  // of a local part; RFC 5321, section 4.5.3.1.1
	maxDomain = 253 // of a domain without its final dot; RFC 1035, section 2.3.4
	maxLabel  = 63  // of a label; RFC 1035, section 2.3.4
)

// Address is one plain mailbox.
type Address struct {
	Local  string // NFC, in the letter case in which it was written
	Host   string // the domain as it was written, in NFC and lower case, without a final dot
	Domain string // the domain in ASCII (RFC 5891), in lower case, without a final dot
}

// Text returns the address as people read it.
func (a Address) Text() string { return a.Local + "@" + a.Host }

// ASCII returns the address with its domain in ASCII, as it is sent to a mail server. Its local
// part is ASCII unless International reports true.
func (a Address) ASCII() string { return a.Local + "@" + a.Domain }

// International reports whether the mail server must support SMTPUTF8 (RFC 6531). Only the local
// part requires it: every domain has an ASCII form.
func (a Address) International() bool {
	return strings.ContainsFunc(a.Local, func(char rune) bool { return char >= utf8.RuneSelf })
}

// Parse reads one plain mailbox: a dot-atom (RFC 5322, section 3.2.3; RFC 6531 adds the letters of
// all scripts), an @, and a domain of at least two labels. The address has at most MaxLength
// octets, both as it is written and with its domain in ASCII.
//
// Display names, comments, quoted local parts and address literals are refused: no employee's
// address needs them, and each has been used to make one address look like another.
func Parse(text string) (Address, bool) {
	a, ok := ParseStored(text)
	return a, ok && len(a.ASCII()) <= MaxLength
}

// ParseStored is Parse without the limit on the ASCII form. Accounts that were created before that
// limit are found by it; no mail can be sent to them.
func ParseStored(text string) (Address, bool) {
	if !utf8.ValidString(text) {
		return Address{}, false
	}
	text = norm.NFC.String(text)
	local, host, found := strings.Cut(text, "@")
	if !found || len(text) > MaxLength || len(local) > MaxLocal || strings.Contains(host, "@") {
		return Address{}, false
	}
	for atom := range strings.SplitSeq(local, ".") {
		if atom == "" || strings.ContainsFunc(atom, func(char rune) bool { return !isAtomText(char) }) {
			return Address{}, false
		}
	}
	// Some letters are compatible with a blank and a mark. Where addresses are compared, such a local
	// part would hold a blank.
	if strings.ContainsAny(norm.NFKC.String(local), "@ ") {
		return Address{}, false
	}
	domain, ok := ParseDomain(host)
	if !ok {
		return Address{}, false
	}
	return Address{Local: local, Host: strings.ToLower(strings.TrimSuffix(host, ".")), Domain: domain}, true
}

// ParseDomain normalizes a mail domain: ASCII (RFC 5891), lower case, without a final dot, of at
// least two labels.
func ParseDomain(text string) (domain string, ok bool) {
	domain, err := idna.Lookup.ToASCII(strings.ToLower(text))
	if err != nil {
		return "", false
	}
	// After ToASCII, because idna converts the full stops of other scripts to dots.
	domain = strings.TrimSuffix(domain, ".")
	labels := strings.Split(domain, ".")
	if len(domain) > maxDomain || len(labels) < 2 || slices.ContainsFunc(labels, isBadLabel) {
		return "", false
	}
	return domain, true
}

// isBadLabel checks what idna's Lookup does not enforce.
func isBadLabel(label string) bool {
	return label == "" || len(label) > maxLabel ||
		strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-") != ""
}

// isAtomText reports whether a character may stand in an atom of a local part.
func isAtomText(char rune) bool {
	if char < utf8.RuneSelf {
		return 'a' <= char && char <= 'z' || 'A' <= char && char <= 'Z' || '0' <= char && char <= '9' ||
			strings.ContainsRune("!#$%&'*+-/=?^_`{|}~", char)
	}
	// Letters, marks and digits of all scripts: nothing invisible, nothing blank.
	return unicode.In(char, unicode.L, unicode.M, unicode.N)
}
