package mail

import (
	"embed"
	"errors"
	"fmt"
	htmltemplate "html/template"
	"net/url"
	"strconv"
	"strings"
	"sync"
	texttemplate "text/template"
	"time"
	"unicode"

	"github.com/fusionspim/steward/internal/base/address"
)

// Invitation is what is said to somebody who has an account now and no password yet.
type Invitation struct {
	PersonName   string        // may be empty
	CustomerName string        // whose account it is
	Link         string        // absolute; leads to choosing a password
	ValidFor     time.Duration // of the link, from now; at least a minute
}

// PasswordReset is what is said to somebody who asked for another password, or for whom somebody
// did.
type PasswordReset struct {
	PersonName   string
	CustomerName string
	Link         string
	ValidFor     time.Duration
}

// PasswordChanged is what is said to somebody whose password is another now.
type PasswordChanged struct {
	PersonName   string
	CustomerName string
	At           time.Time
	// whom to tell if it was somebody else: an address or a few words; empty for the customer's
	// administrators
	Contact string
}

// Notice is what is said to a customer. The paragraphs are ours and name no user: they outlive an
// erasure in the customer's mailbox.
type Notice struct {
	CustomerName string // may be empty
	Title        string
	Paragraphs   []string // at least one
	Verbatim     string   // lines to be kept as they are, after the paragraphs; may be empty
	Link         string   // to more; may be empty
	LinkText     string   // what the link leads to; needed with Link
}

// Severity is how bad it is.
type Severity string

const (
	// SeverityError says that something failed.
	SeverityError Severity = "error"
	// SeverityCritical says that something is failing that cannot wait.
	SeverityCritical Severity = "critical"
)

// Alert is one alert to one person.
type Alert struct {
	Severity        Severity
	Subject         string
	Body            string // plain text; lines and indentation are kept
	CustomerName    string
	At              time.Time // when it was raised; may be zero
	UnsubscribeLink string    // absolute; GET shows a page, POST opts out (RFC 8058)
	Why             string    // why this person gets it; needed
}

// AlertDigest is several alerts in one mail, for the time in which a person has had enough single
// ones. Its kind is alert.
type AlertDigest struct {
	Alerts          []DigestEntry // at least one, in the order to show
	More            int           // how many others there were that are not listed
	CustomerName    string
	UnsubscribeLink string
	Why             string
}

// DigestEntry is one alert in a digest.
type DigestEntry struct {
	Severity Severity
	Subject  string
	At       time.Time
	Times    int // how often it was raised; 0 and 1 are not shown
}

// Longest values, in characters. What is longer is cut and ends in an ellipsis: a mail that is a
// little short is better than none.
const (
	longestName    = 120
	longestSubject = 200
	longestLine    = 2000
	longestBody    = 20_000
	longestLink    = 2000 // refused, not cut
	mostParagraphs = 50
	mostEntries    = 100
)

// MostDigestEntries is how many alerts a digest lists; how many more there were it says.
const MostDigestEntries = mostEntries

// NewInvitation words an invitation. It returns an error for an address, a link or a name that
// cannot be sent.
func NewInvitation(to string, data Invitation) (Message, error) {
	w := newWriter(to)
	person, customer := w.optional("PersonName", data.PersonName, longestName),
		w.line("CustomerName", data.CustomerName, longestName)
	return w.compose(KindInvitation, "Choose a password for your "+customer+" account", "invitation", fields{
		Person:   person,
		Customer: customer,
		Link:     w.link("Link", data.Link),
		ValidFor: w.duration("ValidFor", data.ValidFor),
	})
}

// NewPasswordReset words a reset. Its errors are those of NewInvitation.
func NewPasswordReset(to string, data PasswordReset) (Message, error) {
	w := newWriter(to)
	person, customer := w.optional("PersonName", data.PersonName, longestName),
		w.line("CustomerName", data.CustomerName, longestName)
	return w.compose(KindPasswordReset, "Choose a new password for your "+customer+" account", "password-reset", fields{
		Person:   person,
		Customer: customer,
		Link:     w.link("Link", data.Link),
		ValidFor: w.duration("ValidFor", data.ValidFor),
	})
}

// NewPasswordChanged words the news of another password.
func NewPasswordChanged(to string, data PasswordChanged) (Message, error) {
	w := newWriter(to)
	person, customer := w.optional("PersonName", data.PersonName, longestName),
		w.line("CustomerName", data.CustomerName, longestName)
	contact := w.optional("Contact", data.Contact, longestName)
	f := fields{Person: person, Customer: customer, At: w.moment("At", data.At), Contact: contact}
	if at, err := parseAddress(contact); err == nil {
		f.ContactLink = (&url.URL{Scheme: "mailto", Opaque: url.PathEscape(at.Local) + "@" + at.Domain}).String()
	}
	return w.compose(
		KindPasswordChanged,
		"The password of your "+customer+" account was changed",
		"password-changed",
		f,
	)
}

// NewNotice words a notice.
func NewNotice(to string, data Notice) (Message, error) {
	w := newWriter(to)
	title := w.line("Title", data.Title, longestSubject)
	f := fields{Customer: w.optional("CustomerName", data.CustomerName, longestName), Title: title}
	if len(data.Paragraphs) == 0 || len(data.Paragraphs) > mostParagraphs {
		w.fail("Paragraphs", fmt.Sprintf("must be 1 to %d", mostParagraphs))
	}
	for _, paragraph := range data.Paragraphs {
		f.Paragraphs = append(f.Paragraphs, w.line("Paragraphs", paragraph, longestLine))
	}
	if len(data.Verbatim) > longestBody {
		w.fail("Verbatim", "is too long")
	}
	f.Body = tidied(data.Verbatim)
	f.Blocks = blocks(f.Body)
	if data.Link != "" {
		f.Link, f.LinkText = w.link("Link", data.Link), w.line("LinkText", data.LinkText, longestName)
	}
	return w.compose(KindNotice, title, "notice", f)
}

// NewAlert words an alert. Whether the person wants alerts is the caller's to ask.
func NewAlert(to string, data Alert) (Message, error) {
	wording, err := WordAlert(data)
	if err != nil {
		return Message{}, err
	}
	return wording.To(to, data.UnsubscribeLink)
}

// Wording is an alert that is worded but for whom it is for. Safe for concurrent use.
type Wording struct {
	subject string
	fields  fields
}

// WordAlert words an alert that goes to many people: what is the same for all is done once. The
// UnsubscribeLink of the data is not used, for each person has another.
func WordAlert(data Alert) (*Wording, error) {
	w := &writer{}
	label := w.severity("Severity", data.Severity)
	subject := w.line("Subject", data.Subject, longestSubject)
	body := cut(tidied(data.Body), longestBody)
	f := fields{
		Severity: string(data.Severity), Label: label, Title: subject, Body: body, Blocks: blocks(body),
		Customer: w.line("CustomerName", data.CustomerName, longestName), Why: w.line("Why", data.Why, longestLine),
	}
	if !data.At.IsZero() {
		f.At = w.moment("At", data.At)
	}
	return &Wording{subject: label + ": " + subject, fields: f}, w.fault()
}

// To is the alert to one person.
func (a *Wording) To(to, unsubscribeLink string) (Message, error) {
	w := newWriter(to)
	f := a.fields
	f.Unsubscribe = w.link("UnsubscribeLink", unsubscribeLink)
	return w.compose(KindAlert, a.subject, "alert", f)
}

// NewAlertDigest words several alerts at once.
func NewAlertDigest(to string, data AlertDigest) (Message, error) {
	w := newWriter(to)
	if len(data.Alerts) == 0 || len(data.Alerts) > mostEntries || data.More < 0 {
		w.fail("Alerts", fmt.Sprintf("must be 1 to %d", mostEntries))
	}
	count := len(data.Alerts) + data.More
	f := fields{
		Customer: w.line("CustomerName", data.CustomerName, longestName), Why: w.line("Why", data.Why, longestLine),
		Unsubscribe: w.link("UnsubscribeLink", data.UnsubscribeLink), More: data.More,
	}
	for _, one := range data.Alerts {
		f.Entries = append(f.Entries, entry{
			Severity: string(one.Severity),
			Label:    w.severity("Alerts", one.Severity),
			Subject:  w.line("Alerts", one.Subject, longestSubject),
			At:       w.moment("Alerts", one.At),
			Times:    one.Times,
		})
	}
	f.Title = strconv.Itoa(count) + " more alerts at " + f.Customer
	if count == 1 {
		f.Title = "One more alert at " + f.Customer
	}
	return w.compose(KindAlert, f.Title, "alert-digest", f)
}

// fields is what the templates are given: checked, cut, and with nothing left to decide.
type fields struct {
	Subject, Title, Person, Customer string
	Link, LinkText, ValidFor         string
	At, Contact, ContactLink         string
	Severity, Label, Body, Why       string
	Unsubscribe                      string
	Paragraphs                       []string
	Blocks                           [][]string // the body: blocks of lines
	Entries                          []entry
	More                             int
}

type entry struct {
	Severity, Label, Subject, At string
	Times                        int
}

// writer gathers what is wrong with the facts of one mail, and words it if nothing is.
type writer struct {
	to     address.Address
	faults []error
}

func newWriter(to string) *writer {
	w := &writer{}
	at, err := parseAddress(to)
	if err != nil {
		w.fail("the recipient", err.Error())
	}
	w.to = at
	return w
}

// fail notes a fault by the name of the fact, never by its value.
func (w *writer) fail(name, reason string) { w.faults = append(w.faults, errors.New(name+" "+reason)) }

// optional checks one line of text that may be empty.
func (w *writer) optional(name, value string, longest int) string {
	if hasControl(value) {
		w.fail(name, "holds a control character")
		return ""
	}
	return cut(strings.Join(strings.Fields(defused(value)), " "), longest)
}

func (w *writer) line(name, value string, longest int) string {
	value = w.optional(name, value, longest)
	if value == "" {
		w.fail(name, "is empty")
	}
	return value
}

// link checks a link: absolute, of the web, in characters that stand in a header as they are.
// Whether it must be https is for whoever sets the public URL of the service, under development it
// is not.
func (w *writer) link(name, value string) string {
	at, err := url.Parse(value)
	odd := strings.ContainsFunc(
		value,
		func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`<>"\^{|}`+"`", r) },
	)
	if err != nil || odd || len(value) > longestLink || at.Host == "" || at.User != nil ||
		(at.Scheme != "https" && at.Scheme != "http") {
		w.fail(name, "is not an absolute http or https link")
		return ""
	}
	return value
}

func (w *writer) severity(name string, severity Severity) string {
	switch severity {
	case SeverityError:
		return "Error"
	case SeverityCritical:
		return "Critical"
	}
	w.fail(name, "has a severity that does not exist")
	return ""
}

func (w *writer) moment(name string, at time.Time) string {
	if at.IsZero() {
		w.fail(name, "has no time")
	}
	return at.UTC().Format("2 January 2006 at 15:04") + " UTC"
}

// duration says how long something lasts in the largest unit that needs no fraction, rounded down
// to the minute: a link must not be promised for longer than it works.
func (w *writer) duration(name string, d time.Duration) string {
	const day = 24 * time.Hour
	count, unit := int64(d/time.Minute), "minute"
	switch {
	case d < time.Minute:
		w.fail(name, "is less than a minute")
	case d >= 2*day && d%day == 0:
		count, unit = int64(d/day), "day"
	case d%time.Hour == 0:
		count, unit = int64(d/time.Hour), "hour"
	}
	if count != 1 {
		unit += "s"
	}
	return strconv.FormatInt(count, 10) + " " + unit
}

// fault is everything that is wrong with the facts, or nil.
func (w *writer) fault() error {
	if len(w.faults) == 0 {
		return nil
	}
	return &Error{step: stepMessage, permanent: true, detail: errors.Join(w.faults...).Error()}
}

// compose is the one place where a Message is made.
func (w *writer) compose(kind Kind, subject, template string, f fields) (Message, error) {
	if err := w.fault(); err != nil {
		return Message{}, err
	}
	f.Subject = subject
	var text, html strings.Builder
	err := errors.Join(
		layouts().text.ExecuteTemplate(&text, template+".txt", f),
		layouts().html.ExecuteTemplate(&html, template+".html", f),
	)
	if err != nil {
		// its text may hold what was filled in
		return Message{}, &Error{step: stepMessage, permanent: true, detail: "a template failed"}
	}
	return Message{
		kind:        kind,
		to:          w.to,
		subject:     subject,
		text:        text.String(),
		html:        html.String(),
		unsubscribe: f.Unsubscribe,
	}, nil
}

//go:embed templates
var templateFiles embed.FS

type sets struct {
	text *texttemplate.Template
	html *htmltemplate.Template
}

// layouts are the templates, read once when the first mail is worded and never changed. They are
// part of the program: one that cannot be read is a mistake of ours, which every test of this
// package shows.
var layouts = sync.OnceValue(func() sets {
	return sets{
		text: texttemplate.Must(
			texttemplate.New("").Option("missingkey=error").ParseFS(templateFiles, "templates/*.txt"),
		),
		html: htmltemplate.Must(
			htmltemplate.New("").Option("missingkey=error").ParseFS(templateFiles, "templates/*.html"),
		),
	}
})

// defused takes out the characters that turn round the text after them, with which a name can make
// a sentence of ours say something else. What they are meant for, a name in a script that runs the
// other way, works by itself, and HTML isolates names.
func defused(text string) string {
	return strings.Map(func(r rune) rune {
		if r >= '\u202A' && r <= '\u202E' || r >= '\u2066' && r <= '\u2069' || r == '\uFEFF' {
			return -1
		}
		return r
	}, text)
}

// tidied makes a text of several lines safe to show: one kind of line end, no other control
// characters than tabs, no trailing space.
func tidied(text string) string {
	text = strings.NewReplacer("\r\n", "\n", "\r", "\n", "\u2028", "\n", "\u2029", "\n").
		Replace(strings.ToValidUTF8(text, "\uFFFD"))
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			return '\uFFFD'
		}
		return r
	}, defused(text))
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = strings.TrimRightFunc(lines[i], unicode.IsSpace)
	}
	return strings.Trim(strings.Join(lines, "\n"), "\n")
}

// blocks splits a tidy text at its empty lines.
func blocks(text string) (all [][]string) {
	var block []string
	for line := range strings.SplitSeq(text+"\n", "\n") {
		if line != "" {
			block = append(block, line)
		} else if len(block) > 0 {
			all, block = append(all, block), nil
		}
	}
	return all
}

// cut shortens a text to a number of characters.
func cut(text string, longest int) string {
	if len(text) <= longest {
		return text
	}
	count := 0
	for i := range text {
		if count++; count == longest {
			if rest := []rune(text[i:]); len(rest) > 1 {
				return strings.TrimRightFunc(text[:i], unicode.IsSpace) + "…"
			}
		}
	}
	return text
}
