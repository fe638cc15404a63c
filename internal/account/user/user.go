// Package user is the people: the user accounts that customers keep with Fusions.
//
// Owns: names, e-mail addresses, password hashes, roles, states and alert settings, and with them viewing, correcting, deleting and redacting
// a person. It is the one home of the personal data of accounts; what else holds something of a person takes part in erasure as its declaration in the inventory says.
// Does not own: sessions and login records (session), the trail (audit), and how passwords are hashed (password).
//
// A user is active, disabled or redacted. Active and disabled change into each other; redacted is final. A deleted user is gone.
package user

import (
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"

	"github.com/fusionspim/steward/internal/base/address"
	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/record/receipt"
)

// Status is the state of a user. The set is closed.
type Status string

// The states.
const (
	Active   Status = "active"
	Disabled Status = "disabled"
	Redacted Status = "redacted"
)

// User is one user. Of a redacted one, everything personal is nil.
type User struct {
	ID           id.User
	Role         principal.Role
	Status       Status
	FirstName    *string
	LastName     *string
	Email        *string
	EmailFlagged bool // lies outside the customer's mail domains, where their policy is to flag
	PasswordSet  bool
	Alerts       Alerts
	Label        *string // what a redacted user is called
	RedactedAt   *time.Time
	ReceiptID    *id.Receipt

	CorrectionLostAt *time.Time // when a restore of the database lost a correction; nil: none, or corrected since

	Version   int64
	CreatedAt time.Time
	UpdatedAt time.Time
}

// Alerts is whether a person gets e-mail alerts, and on whose authority that was last set.
type Alerts struct {
	OptedIn bool
	SetBy   string // creation, user, customer, api_key or operator
	SetAt   time.Time
	Version int64 // of the user
}

// Me is what a person sees of the own account.
type Me struct {
	User
	CustomerID      id.Customer
	CustomerSlug    string
	CustomerName    string
	CustomerVersion int64
	GuidanceText    string
	PrivacyContact  *string
}

// New is a person who is to get an account.
type New struct {
	FirstName    string
	LastName     string
	Email        string
	Role         principal.Role
	PasswordHash string // empty: the person sets a password later
}

// Patch corrects a user; nil leaves a member as it is.
type Patch struct {
	FirstName *string
	LastName  *string
	Email     *string
	Role      *principal.Role
	Status    *Status
}

// Filter chooses users; zero members choose all.
type Filter struct {
	Email         string // whole address
	Prefix        string // of a first name, a last name or an address
	Status        Status
	Role          principal.Role
	AlertsOptedIn *bool
}

// Plan is what erasing a person would do.
type Plan struct {
	CanDelete         bool
	CanRedact         bool
	LastAdministrator bool
	Blocking          []fault.Reference
	Removes           []receipt.Removed
	Keeps             []receipt.Kept
	BackupsExpireAt   *time.Time // if it were done now
}

// RedactionPath is where a user is redacted.
func RedactionPath(user id.User) string { return "/v1/users/" + user.String() + "/redaction" }

// maxName is the longest name, in Unicode code points.
const maxName = 100

// CleanName brings a name to the form in which it is kept: NFC, without white space around it. It refuses what no name holds: control
// characters, and the invisible characters that turn the direction of a line or pretend to be nothing.
func CleanName(text, pointer string) (string, error) {
	name := norm.NFC.String(strings.TrimSpace(text))
	if name == "" || utf8.RuneCountInString(name) > maxName || strings.ContainsFunc(name, forbiddenInNames) || !strings.ContainsFunc(name, visible) {
		return "", fault.New(fault.InvalidName, "The name cannot be taken.").At(pointer, "must be 1 to 100 characters, without control characters")
	}
	return name, nil
}

func forbiddenInNames(char rune) bool {
	switch {
	case char == '\u200c' || char == '\u200d': // the joiners that Persian, Hindi and others write names with
		return false
	case char == '\u2028' || char == '\u2029' || char == utf8.RuneError:
		return true
	}
	return unicode.In(char, unicode.Cc, unicode.Cf, unicode.Co, unicode.Cs)
}

func visible(char rune) bool { return unicode.IsGraphic(char) && !unicode.IsSpace(char) }

// Key folds a text to the form in which names and addresses are compared: NFKC, letter case folded.
func Key(text string) string { return norm.NFKC.String(cases.Fold().String(norm.NFKC.String(text))) }

// Address is an e-mail address in the form in which it is kept and the form in which it is compared.
type Address struct {
	Text string // NFC; the domain as it was written, in lower case
	Key  string // local part folded, domain in ASCII form
}

// ParseAddress reads the address of a new or corrected account: what address.Parse accepts, and so
// what mail can be sent to. Fault: InvalidEmail at the pointer.
//
// Two addresses are the same person's address when their keys are equal: letter case and Unicode
// form do not count, and neither does the spelling of an international domain. Dots and +tags do.
func ParseAddress(text, pointer string) (Address, error) {
	parsed, ok := address.Parse(text)
	return keyed(parsed, ok, pointer)
}

// LookupAddress reads the address by which an account is sought. It also finds the accounts that
// were created before ParseAddress counted the ASCII form of an address. Fault: InvalidEmail at the
// pointer.
func LookupAddress(text, pointer string) (Address, error) {
	parsed, ok := address.ParseStored(text)
	return keyed(parsed, ok, pointer)
}

func keyed(parsed address.Address, ok bool, pointer string) (Address, error) {
	key := Key(parsed.Local) + "@" + parsed.Domain
	if !ok || len(key) > maxAddressKey {
		return Address{}, fault.New(fault.InvalidEmail, "The e-mail address cannot be taken.").
			At(pointer, "must be one plain mailbox, such as somebody@example.com")
	}
	return Address{Text: parsed.Text(), Key: key}, nil
}

// maxAddressKey is in octets. Folding makes some letters longer.
const maxAddressKey = 2 * address.MaxLength
