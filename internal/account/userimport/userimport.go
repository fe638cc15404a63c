// Package userimport creates many users from a file.
//
// Owns: parsing the two formats of such a file as a stream, the outcome of each row, and the
// progress of each import.
// Does not own: which users are created (user). Nothing of a file's content is stored here.
//
// A file is processed in batches. The users of a batch, their entries in the trail, their
// invitations, and the outcomes of the rows are one transaction, so an import that ends early
// leaves complete batches, all recorded. Sending the same file again does the rest, because
// existing users are left as they are.
//
//	running ──▶ completed
//	   └──────▶ interrupted   (also without progress for a while: its replica died)
package userimport

import (
	"time"

	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/id"
)

// Limits of an import.
const (
	MaxRows     = 100_000
	maxRowBytes = 64 << 10
	batchRows   = 500
)

// Lifetime is how long an import is kept.
const Lifetime = 30 * 24 * time.Hour

// silence is the time without progress after which an import counts as interrupted.
const silence = 2 * time.Minute

// Format is the format of a file. The set is closed.
type Format string

// The formats.
const (
	CSV    Format = "csv"
	NDJSON Format = "ndjson"
)

// State is the progress of an import. The set is closed.
type State string

// The states.
const (
	Running     State = "running"
	Completed   State = "completed"
	Interrupted State = "interrupted"
)

// Order is what to do with a file.
type Order struct {
	Format Format
	DryRun bool // judge every row, and create no user
	Invite bool // invite the created users
}

// Import is an import without its rows.
type Import struct {
	Order
	ID              id.Import
	State           State
	Authority       string
	OrderedByUser   *id.User
	OrderedByAPIKey *id.APIKey
	Counts
	StoppedBy  *fault.Code
	StartedAt  time.Time
	FinishedAt *time.Time
}

// Counts are the numbers of rows by status.
type Counts struct {
	Created     int `json:"created"`
	WouldCreate int `json:"would_create"`
	Existing    int `json:"existing"`
	Refused     int `json:"refused"`
}

// Rows returns the number of rows of any status.
func (c Counts) Rows() int { return c.Created + c.WouldCreate + c.Existing + c.Refused }

func (c *Counts) add(status Status) {
	switch status {
	case Created:
		c.Created++
	case WouldCreate:
		c.WouldCreate++
	case Existing:
		c.Existing++
	case Refused:
		c.Refused++
	}
}

// Path returns the path of an import.
func Path(one id.Import) string { return "/v1/user-imports/" + one.String() }

// Status is the outcome of a row. The set is closed.
type Status string

// The statuses.
const (
	Created     Status = "created"
	WouldCreate Status = "would_create"
	Existing    Status = "existing"
	Refused     Status = "refused"
)

// Row is the outcome of one row.
type Row struct {
	Number  int      `json:"number"` // from 1, without the header and blank lines
	Line    int      `json:"line"`   // where the row starts in the file
	Status  Status   `json:"status"`
	User    *id.User `json:"user_id"`           // who was created or existed; nil once erased
	Reason  Reason   `json:"reason,omitempty"`  // why the row was refused
	Pointer string   `json:"pointer,omitempty"` // the column at fault
}

func (r *Row) refuse(reason Reason, pointer string) {
	r.Status, r.Reason, r.Pointer = Refused, reason, pointer
}

// Reason is why a row was refused. The set is closed.
type Reason string

// The reasons.
const (
	wrongFieldCount   Reason = "wrong_field_count"
	badQuote          Reason = "bad_quote"
	notUTF8           Reason = "not_utf8"
	notJSON           Reason = "not_json"
	tooLong           Reason = "too_long"
	unknownMember     Reason = "unknown_member"
	missing           Reason = "missing"
	wrongType         Reason = "wrong_type"
	unknownRole       Reason = "unknown_role"
	invalidName       Reason = "invalid_name"
	invalidEmail      Reason = "invalid_email"
	foreignMailDomain Reason = "foreign_mail_domain"
	duplicate         Reason = "duplicate"
	userDiffers       Reason = "user_differs"
	addressSuppressed Reason = "address_suppressed"
)

// Explain returns the kind of problem and the sentence for a reason.
func (r Reason) Explain() (code fault.Code, detail string) {
	switch r {
	case wrongFieldCount:
		return fault.MalformedRow, "The row has more or fewer fields than the header."
	case badQuote:
		return fault.MalformedRow, "A quote stands where none may, or is not closed. A field that holds quotes is put in quotes, with each of its own doubled."
	case notUTF8:
		return fault.MalformedRow, "The column is not UTF-8."
	case notJSON:
		return fault.MalformedRow, "The line is not one JSON object in UTF-8, or gives a member twice, or holds the character NUL."
	case tooLong:
		return fault.MalformedRow, "The row is longer than 64 KiB."
	case unknownMember:
		return fault.MalformedRow, "The object has a member that is none of first_name, last_name, email, role and allow_erased."
	case missing:
		return fault.MalformedRow, "The column is empty."
	case wrongType:
		return fault.MalformedRow, "The column holds something of another type: names, address and role are texts, allow_erased is true or false."
	case unknownRole:
		return fault.MalformedRow, "The role is neither customer nor user."
	case invalidName:
		return fault.InvalidName, "The name cannot be taken. It must be 1 to 100 characters, without control characters."
	case invalidEmail:
		return fault.InvalidEmail, "The e-mail address cannot be taken. It must be one plain mailbox, such as somebody@example.com."
	case foreignMailDomain:
		return fault.ForeignMailDomain, "The address is outside the customer's mail domains."
	case duplicate:
		return fault.DuplicateRow, "An earlier row has the same address."
	case userDiffers:
		return fault.UserDiffers, "A user with this address has another name or another role."
	case addressSuppressed:
		return fault.AddressSuppressed, "A person with this address was erased. If a new account is meant, say so with allow_erased."
	}
	return fault.MalformedRow, "The row cannot be taken."
}

// reasonOf converts the refusals of package user to a reason and the column at fault.
func reasonOf(code fault.Code) (reason Reason, pointer string) {
	switch code {
	case fault.InvalidName:
		return invalidName, "/first_name"
	case fault.ForeignMailDomain:
		return foreignMailDomain, "/email"
	case fault.UserDiffers:
		return userDiffers, "/email"
	case fault.AddressSuppressed:
		return addressSuppressed, "/email"
	default:
		return invalidEmail, "/email"
	}
}
