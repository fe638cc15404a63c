package mail

import (
	"errors"
	"net/mail"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/fusionspim/steward/internal/base/address"
)

// parseAddress reads a bare address. The error does not repeat it.
func parseAddress(text string) (address.Address, error) {
	parsed, ok := address.Parse(text)
	if !ok {
		return address.Address{}, errors.New("not an e-mail address")
	}
	return parsed, nil
}

// sender is who mails come from: an address in ASCII and a name that is shown.
type sender struct {
	name    string
	address address.Address
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
	if at.International() {
		return sender{}, errors.New("has a local part that is not ASCII, which not every mail server takes")
	}
	return sender{name: defused(name), address: at}, nil
}

func (s sender) header() *mail.Address {
	return &mail.Address{Name: s.name, Address: s.address.ASCII()}
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
