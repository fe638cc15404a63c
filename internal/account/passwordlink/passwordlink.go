// Package passwordlink is the mailed links that set a password: invitations to an account that has
// none yet, and resets of one that was forgotten.
//
// Owns: the links, what is mailed about passwords and when, and setting a password by a link.
// Does not own: people (user), how a password is hashed and judged (password), the wording and
// sending of mails (mail), the queue (jobs).
//
// A link is made when its mail is sent and not before: the queue holds ids alone, the database the
// hash of what is mailed, and the link itself is nowhere but in the mail. It is good once, for a
// while, and *if* users.links_since is what it was: an amended address, a disabling, a redaction,
// or a password set by another link changes that, and so ends every link that there is.
//
// Mails go out at least once. The person is read under the lock that an erasure takes, and the link
// is stored with it, in a short transaction; the mail is sent after. An erasure within the seconds
// of sending therefore comes too late for the mail, but the link in it is good no more.
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

// Purpose is what a link is for. The set is closed.
type Purpose string

// The purposes.
const (
	Invitation Purpose = "invitation"
	Reset      Purpose = "password_reset"
)

// Lifetime is for how long a link is good.
func (p Purpose) Lifetime() time.Duration {
	if p == Invitation {
		return 7 * 24 * time.Hour
	}
	return time.Hour
}

// link is one mailed link.
type link struct {
	user       id.User
	linksSince time.Time
}

// mailing is one mail that is to be sent: its job's arguments.
type mailing struct {
	Customer id.Customer `json:"customer_id"`
	User     id.User     `json:"user_id"`
	About    subject     `json:"about"`
}

// Kind implements jobs.Arguments.
func (mailing) Kind() string { return "password_mail" }

// Policy says how jobs treat it.
func (mailing) Policy() jobs.Policy { return jobs.Policy{Queue: jobs.Mail} }

// subject is what a mail is about. The set is closed.
type subject string

const (
	aboutInvitation subject = "invitation"
	aboutReset      subject = "password_reset"
	aboutChange     subject = "password_changed"
)

// Page is where links lead to.
type Page struct{ template string }

// DefaultPage is the page that the service itself has.
const DefaultPage = "{public_url}/set-password"

// ParsePage reads where links lead to: a URL in which {public_url} stands for the service and
// {customer} for the customer's slug.
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

// link writes a link. The token stands in the fragment, which browsers send to nobody: it reaches
// no log.
func (p Page) link(slug, token string) string {
	return strings.ReplaceAll(p.template, "{customer}", slug) + "#token=" + token
}

func usedUp() error {
	return fault.New(fault.LinkUsedUp, "The link was used, is too old, or was replaced. Ask for a new one.")
}
