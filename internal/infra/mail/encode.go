package mail

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"net/mail"
	"strings"
	"time"

	gomail "github.com/wneessen/go-mail"

	"github.com/fusionspim/steward/internal/base/address"
)

// encoded writes a message as RFC 5322 has it. The same message, id and time give the same bytes,
// so a repetition is one to the byte.
func encoded(m Message, from sender, messageID string, now time.Time) ([]byte, error) {
	fail := func(detail string) ([]byte, error) {
		return nil, &Error{step: stepMessage, permanent: true, detail: detail}
	}
	if m.kind == "" {
		return fail("the message is empty")
	}
	if !isMessageID(messageID) {
		return fail("the message id must be of the form left@right")
	}
	for _, value := range []string{m.subject, m.to.ASCII(), from.name, from.address.ASCII(), m.unsubscribe} {
		// cannot be: the constructors refuse it. The last look before the wire
		if hasControl(value) {
			return fail("a header holds a control character")
		}
	}

	msg := gomail.NewMsg(gomail.WithNoDefaultUserAgent(), gomail.WithBoundary(boundary(m, messageID)))
	msg.FromMailAddress(from.header())
	msg.ToMailAddress(&mail.Address{Address: m.to.ASCII()})
	// "=?" begins an encoded word wherever it stands. A subject that holds one as text would be
	// decoded into something that nobody checked.
	msg.Subject(strings.ReplaceAll(m.subject, "=?", "= ?"))
	msg.SetMessageIDWithValue(messageID)
	msg.SetDateWithValue(now)
	msg.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834: no answer from a machine
	msg.SetGenHeader("X-Auto-Response-Suppress", "All")  // the same for Exchange
	if m.unsubscribe != "" {
		msg.SetGenHeader(gomail.HeaderListUnsubscribe, "<"+m.unsubscribe+">")
		msg.SetGenHeader(gomail.HeaderListUnsubscribePost, "List-Unsubscribe=One-Click")
	}
	msg.SetBodyString(gomail.TypeTextPlain, m.text)
	msg.AddAlternativeString(gomail.TypeTextHTML, m.html)
	var out bytes.Buffer
	if _, err := msg.WriteTo(&out); err != nil {
		return fail("it cannot be encoded")
	}
	return out.Bytes(), nil
}

// isMessageID reports whether a text is left@right, both of dots and atoms in ASCII (RFC 5322,
// section 3.6.4). Unlike the domain of an address, the right part may be a single label.
func isMessageID(text string) bool {
	left, right, found := strings.Cut(text, "@")
	if !found || len(text) > address.MaxLength {
		return false
	}
	isForeign := func(char rune) bool {
		return !('a' <= char && char <= 'z' || 'A' <= char && char <= 'Z' || '0' <= char && char <= '9') &&
			!strings.ContainsRune("!#$%&'*+-/=?^_`{|}~", char)
	}
	for _, part := range []string{left, right} {
		for atom := range strings.SplitSeq(part, ".") {
			if atom == "" || strings.ContainsFunc(atom, isForeign) {
				return false
			}
		}
	}
	return true
}

// boundary separates the parts. It is a hash of them, which none of them can hold.
func boundary(m Message, messageID string) string {
	sum := sha256.Sum256([]byte(messageID + "\x00" + m.text + "\x00" + m.html))
	return "steward-" + hex.EncodeToString(sum[:16])
}
