// Package user manages user accounts and their erasure.
//
// Owns: names, e-mail addresses, password hashes, roles, statuses and alert settings, and the
// reading, correction, deletion and redaction of users. All personal data of accounts is here;
// other tables that hold data of a user take part in erasure as they declare in the inventory.
// Does not own: sessions and login records (session), the audit trail (audit), and the hashing of
// passwords (password).
//
// A user is active, disabled or redacted. Active and disabled users can become the other; redaction
// is final. A deleted user has no row.
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

// Status of a user. The set is closed.
type Status string

// The statuses.
const (
	Active   Status = "active"
	Disabled Status = "disabled"
	Redacted Status = "redacted"
)

// User is a user account. All personal fields of a redacted one are nil.
type User struct {
	ID           id.User
	Role         principal.Role
	Status       Status
	FirstName    *string
	LastName     *string
	Email        *string
	EmailFlagged bool // outside the customer's mail domains, whose policy is to flag
	PasswordSet  bool
	Alerts       Alerts
	Label        *string // the pseudonym of a redacted user
	RedactedAt   *time.Time
	ReceiptID    *id.Receipt

	CorrectionLostAt *time.Time // when a restore lost a correction; nil: none, or corrected since

	Version   int64
	CreatedAt time.Time
	UpdatedAt time.Time
}

// Alerts is a user's setting of e-mail alerts, and on whose authority it was last set.
type Alerts struct {
	OptedIn bool
	SetBy   string // creation, user, customer, api_key or operator
	SetAt   time.Time
	Version int64 // of the user
}

// Me is what users see of their own account.
type Me struct {
	User
	CustomerID      id.Customer
	CustomerSlug    string
	CustomerName    string
	CustomerVersion int64
	GuidanceText    string
	PrivacyContact  *string
}

// New is a user to create.
type New struct {
	FirstName    string
	LastName     string
	Email        string
	Role         principal.Role
	PasswordHash string // empty: the user sets a password later
}

// Patch changes a user; nil leaves a member unchanged.
type Patch struct {
	FirstName *string
	LastName  *string
	Email     *string
	Role      *principal.Role
	Status    *Status
}

// Filter selects users; zero members select all.
type Filter struct {
	Email         string // whole address
	Prefix        string // of a first name, a last name or an address
	Status        Status
	Role          principal.Role
	AlertsOptedIn *bool
}

// Plan is what an erasure of a user would do.
type Plan struct {
	CanDelete         bool
	CanRedact         bool
	LastAdministrator bool
	Blocking          []fault.Reference
	Removes           []receipt.Removed
	Keeps             []receipt.Kept
	BackupsExpireAt   *time.Time // of an erasure now
}

// RedactionPath is the path by which a user is redacted.
func RedactionPath(user id.User) string { return "/v1/users/" + user.String() + "/redaction" }

// maxName is the length limit of a name, in Unicode code points.
const maxName = 100

// CleanName normalises a name: NFC, without surrounding white space. It refuses control characters
// and the invisible characters that reverse the direction of a line or look like nothing. Fault:
// InvalidName at the pointer.
func CleanName(text, pointer string) (string, error) {
	name := norm.NFC.String(strings.TrimSpace(text))
	if name == "" || utf8.RuneCountInString(name) > maxName ||
		strings.ContainsFunc(name, forbiddenInNames) || !strings.ContainsFunc(name, visible) {
		return "", fault.New(fault.InvalidName, "The name cannot be taken.").
			At(pointer, "must be 1 to 100 characters, without control characters")
	}
	return name, nil
}

func forbiddenInNames(char rune) bool {
	switch {
	// joiners, which names in Persian, Hindi and others need
	case char == '\u200c' || char == '\u200d':
		return false
	case char == '\u2028' || char == '\u2029' || char == utf8.RuneError:
		return true
	}
	return unicode.In(char, unicode.Cc, unicode.Cf, unicode.Co, unicode.Cs)
}

func visible(char rune) bool { return unicode.IsGraphic(char) && !unicode.IsSpace(char) }

// Key folds a text to the key by which names and addresses are compared: NFKC, case folded.
func Key(text string) string { return norm.NFKC.String(cases.Fold().String(norm.NFKC.String(text))) }

// Address is an e-mail address as it is stored and as it is compared.
type Address struct {
	Text string // NFC; the domain as written, in lower case
	Key  string // local part folded, domain in ASCII form
}

// ParseAddress parses the address of a new or corrected account: what address.Parse accepts, and so
// what mail can be sent to. Fault: InvalidEmail at the pointer.
//
// Two addresses belong to the same account if their keys are equal: letter case, Unicode form and
// the spelling of an international domain are ignored. Dots and +tags are significant.
func ParseAddress(text, pointer string) (Address, error) {
	parsed, ok := address.Parse(text)
	return keyed(parsed, ok, pointer)
}

// LookupAddress parses the address by which an account is looked up. It also accepts the addresses
// of accounts that were created before ParseAddress limited the ASCII form. Fault: InvalidEmail at
// the pointer.
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
