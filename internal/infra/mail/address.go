package mail

import (
	"errors"
	"net/mail"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// Limits of RFC 5321, 4.5.3.1, in octets.
const (
	longestLocal   = 64
	longestAddress = 254
)

// address is where one mail goes: a local part as it was written and a domain in ASCII.
type address struct {
	local  string
	domain string
}

func (a address) String() string { return a.local + "@" + a.domain }

// international tells whether the mail server must know SMTPUTF8 (RFC 6531). Only the local part asks for it: a domain has a form in ASCII.
func (a address) international() bool { return !isASCII(a.local) }

// parseAddress reads a bare address. The grammar is narrower than net/mail's, which takes display names, comments, groups and quoted local
// parts: none of these is an address that a person has, and each is a way to smuggle a second one. The error does not repeat the address.
func parseAddress(text string) (address, error) {
	refused := errors.New("not an e-mail address")
	local, domain, found := strings.Cut(text, "@")
	if !found || local == "" || len(local) > longestLocal || !utf8.ValidString(text) {
		return address{}, refused
	}
	if strings.HasPrefix(local, ".") || strings.HasSuffix(local, ".") || strings.Contains(local, "..") {
		return address{}, refused
	}
	for _, r := range local {
		if !isLocal(r) {
			return address{}, refused
		}
	}
	domain, err := idna.Lookup.ToASCII(strings.ToLower(domain))
	domain = strings.TrimSuffix(domain, ".")
	if err != nil || domain == "" || len(local)+1+len(domain) > longestAddress {
		return address{}, refused
	}
	for label := range strings.SplitSeq(domain, ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return address{}, refused
		}
	}
	return address{local: local, domain: domain}, nil
}

// isLocal tells whether a rune may stand in a local part: the atoms of RFC 5322, and in other scripts whatever can be seen.
func isLocal(r rune) bool {
	if r < utf8.RuneSelf {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(".!#$%&'*+-/=?^_`{|}~", r)
	}
	return unicode.IsPrint(r)
}

// sender is who mails come from: an address in ASCII and a name that is shown.
type sender struct {
	name    string
	address address
}

// parseSender reads "Name <address>" or a bare address.
func parseSender(text string) (sender, error) {
	if hasControl(text) {
		return sender{}, errors.New("holds a control character")
	}
	name, bare := "", strings.TrimSpace(text)
	if head, tail, found := strings.Cut(bare, "<"); found {
		inner, closed := strings.CutSuffix(tail, ">")
		if !closed {
			return sender{}, errors.New("is not of the form Name <address>")
		}
		name, bare = strings.Trim(strings.TrimSpace(head), `"`), inner
	}
	at, err := parseAddress(bare)
	if err != nil {
		return sender{}, err
	}
	if at.international() {
		return sender{}, errors.New("has a local part that is not ASCII, which not every mail server takes")
	}
	return sender{name: defused(name), address: at}, nil
}

func (s sender) header() *mail.Address {
	return &mail.Address{Name: s.name, Address: s.address.String()}
}

func isASCII(text string) bool {
	for i := range len(text) {
		if text[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// hasControl finds what must not be in a header or in one line of a text: CR, LF, NUL and the other control characters, line and paragraph
// separators, and bytes that are no UTF-8.
func hasControl(text string) bool {
	return !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' })
}
