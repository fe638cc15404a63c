// Package passwordlink manages the mailed links that set a password: invitations to an account
// without a password, and resets of a forgotten one.
//
// Owns: the links, what is mailed about passwords and when, and setting a password by a link.
// Does not own: users (user), hashing and judging passwords (password), the wording and sending of
// mails (mail), the queue (jobs).
//
// A link is created only when its mail is sent: the queue holds ids, the database the hash of what
// is mailed, and the link itself exists in the mail alone. It works once, for a limited time, and
// *if* users.links_since is unchanged: a corrected address, disabling, redaction, or a password set
// by another link changes that value, and so ends every link of the user.
//
// Mails are sent at least once. A short transaction reads the user under the lock that an erasure
// takes, and stores the link; the mail is sent afterwards. An erasure within the seconds of sending
// comes too late for the mail, but its link no longer works.
package passwordlink

import (
	"errors"
	"net/url"
	"strings"
	"time"

	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/infra/jobs"
)

// Purpose is the purpose of a link. The set is closed.
type Purpose string

// The purposes.
const (
	Invitation Purpose = "invitation"
	Reset      Purpose = "password_reset"
)

// Lifetime returns how long a link is valid.
func (p Purpose) Lifetime() time.Duration {
	if p == Invitation {
		return 7 * 24 * time.Hour
	}
	return time.Hour
}

// link is a mailed link.
type link struct {
	user       id.User
	linksSince time.Time
}

// mailing holds the arguments of the job that sends a mail.
type mailing struct {
	Customer id.Customer `json:"customer_id"`
	User     id.User     `json:"user_id"`
	About    subject     `json:"about"`
}

// Kind implements jobs.Arguments.
func (mailing) Kind() string { return "password_mail" }

// Policy implements jobs' optional policy.
func (mailing) Policy() jobs.Policy { return jobs.Policy{Queue: jobs.Mail} }

// subject is the subject of a mail. The set is closed.
type subject string

const (
	aboutInvitation subject = "invitation"
	aboutReset      subject = "password_reset"
	aboutChange     subject = "password_changed"
)

// Page is the page that links lead to.
type Page struct{ template string }

// DefaultPage is the service's own page.
const DefaultPage = "{public_url}/set-password"

// ParsePage parses the page that links lead to: a URL in which {public_url} stands for the service
// and {customer} for the customer's slug.
func ParsePage(template, publicURL string) (Page, error) {
	if template == "" {
		template = DefaultPage
	}
	page := Page{template: strings.ReplaceAll(template, "{public_url}", strings.TrimRight(publicURL, "/"))}
	filled := strings.ReplaceAll(page.template, "{customer}", "customer")
	parsed, err := url.Parse(filled)
	if err != nil || (parsed.Scheme != "https" && parsed.Scheme != "http") || parsed.Host == "" || parsed.User != nil ||
		strings.ContainsAny(filled, "{}#") {
		return Page{}, errors.New(
			"the page that sets passwords must be a URL without a fragment, such as https://{customer}.example/set-password or " + DefaultPage,
		)
	}
	return page, nil
}

// link renders a link. The token is in the fragment, which browsers do not send, so it reaches no
// log.
func (p Page) link(slug, token string) string {
	return strings.ReplaceAll(p.template, "{customer}", slug) + "#token=" + token
}

func usedUp() error {
	return fault.New(fault.LinkUsedUp, "The link was used, is too old, or was replaced. Ask for a new one.")
}
