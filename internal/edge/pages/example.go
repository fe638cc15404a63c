package pages

import (
	"bytes"
	"encoding/json"

	"github.com/fusionspim/steward/internal/base/fault"
)

// Ids for examples: of version 7, and plainly invented.
const (
	exampleUser    = "019ab3c4-5d6e-7f80-9a1b-2c3d4e5f6071"
	exampleRequest = "019ab3c4-5d6e-7f80-9a1b-2c3d4e5f6072"
	exampleReceipt = "019ab3c4-5d6e-7f80-9a1b-2c3d4e5f6073"
)

// sample is a problem document with the contract's members, in the order in which the service
// writes them. A test checks it against the contract.
type sample struct {
	Type       string      `json:"type"`
	Title      string      `json:"title"`
	Status     int         `json:"status"`
	Detail     string      `json:"detail"`
	Instance   string      `json:"instance"`
	RequestID  string      `json:"request_id"`
	Errors     []member    `json:"errors,omitempty"`
	References []reference `json:"references,omitempty"`
	Redaction  string      `json:"redaction,omitempty"`
	Receipt    string      `json:"receipt,omitempty"`
}

type member struct {
	Pointer string `json:"pointer"`
	Detail  string `json:"detail"`
}

type reference struct {
	Source  string `json:"source"`
	Count   int    `json:"count"`
	FirstAt string `json:"first_at"`
	LastAt  string `json:"last_at"`
}

// example returns a problem document as the service may return it. A code without an example of its
// own gets a generic one, so a new code needs no change here.
func example(p problem) string {
	s := sample{
		Type: "/problems/" + string(
			p.Code,
		),
		Title:     p.Title,
		Status:    p.Status,
		Detail:    p.Means,
		Instance:  "/v1/users",
		RequestID: exampleRequest,
	}
	at := func(pointer, detail string) { s.Errors = []member{{pointer, detail}} }
	user := "/v1/users/" + exampleUser
	switch p.Code {
	case fault.MalformedRequest:
		s.Detail = "The request does not follow the contract. Nothing was changed; errors says what to correct."
		s.Errors = []member{{"/email", "is required"}, {"/nickname", "is not known here"}}
	case fault.MalformedCursor:
		s.Detail = "Take next_cursor as it is, with the same filters."
		at("?cursor", "is not a cursor of this list")
	case fault.Unauthorized:
		s.Detail, s.Instance = "The session has ended. Sign in again.", "/v1/me"
	case fault.InvalidCredentials:
		s.Instance = "/v1/sessions"
	case fault.RoleNotAllowed:
		s.Detail, s.Instance = "Your role may not do this.", "/v1/customer"
	case fault.InsufficientScope:
		s.Detail, s.Instance = "The API key needs the scope users:erase.", user+"/redaction"
	case fault.ResourceNotFound:
		s.Detail, s.Instance = "There is no such user.", user
	case fault.MethodNotAllowed:
		s.Detail = "The Allow header lists the methods that this path takes."
	case fault.NotAcceptableType:
		s.Detail = "The answer is application/json. Accept it, or leave the Accept header away."
	case fault.EmailTaken:
		s.Detail = "Another user of this customer has that address."
		at("/email", "is in use")
	case fault.AuditTrailIncomplete:
		s.Detail, s.Instance = "Entries of the audit trail name this user as their actor. Redact the user instead.", user
		s.References = []reference{{"integration", 3, "2026-01-05T08:00:00Z", "2026-02-01T17:12:00Z"}}
		s.Redaction = user + "/redaction"
	case fault.UserRedacted:
		s.Detail, s.Instance = "Redaction is final. The user can be looked up, but neither changed nor used.", user
		s.Receipt = "/v1/erasure-receipts/" + exampleReceipt
	case fault.LastAdministrator:
		s.Detail, s.Instance = "After this nobody could administer the customer's users. Make another administrator first.", user
	case fault.SlugTaken:
		s.Instance = "/v1/operator/customers"
		at("/slug", "is in use")
	case fault.PreconditionFailed:
		s.Detail, s.Instance = "The user has changed. Fetch it again before you change it.", user
	case fault.BodyTooLarge:
		s.Detail = "The body is longer than this operation takes; the contract names the limit as x-max-body-bytes."
	case fault.UnsupportedMediaType:
		s.Detail = "Send the body with one Content-Type out of: application/json."
	case fault.SourceIDReused:
		s.Instance = "/v1/audit-entries"
		at("/source_id", "stands for another entry")
	case fault.UnknownActor:
		s.Instance = "/v1/audit-entries"
		at("/actor_user_id", "is not the id of a living user")
	case fault.InvalidEntry:
		s.Instance = "/v1/audit-entries"
		at("/occurred_at", "lies in the future")
	case fault.WeakPassword:
		s.Detail, s.Instance = "The password is too common.", "/v1/me/password"
		at("/new_password", "is too common")
	case fault.CurrentPasswordWrong:
		s.Detail, s.Instance = "The current password is wrong. Nothing was changed.", "/v1/me/password"
		at("/current_password", "is wrong")
	case fault.InvalidName:
		s.Detail = "The name cannot be taken."
		at("/first_name", "must be 1 to 100 characters, without control characters")
	case fault.InvalidEmail:
		s.Detail = "The e-mail address cannot be taken."
		at("/email", "must be one plain mailbox, such as somebody@example.com")
	case fault.ForeignMailDomain:
		s.Detail = "The address is outside the customer's mail domains."
		at("/email", "must be of one of the customer's mail domains")
	case fault.TooManyAttempts:
		s.Detail, s.Instance = "Too many sign-ins are being worked on. Try again in a few seconds.", "/v1/sessions"
	case fault.InternalError:
		s.Detail = "The request was not carried out. Send the request_id to the support if it happens again."
	case fault.ServiceUnavailable:
		s.Detail = "The database is not available. Retry in a moment."
	case fault.IdempotencyKeyInUse, fault.IdempotencyKeyReused, fault.IdempotencyErased:
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false) // the template escapes
	encoder.SetIndent("", "  ")
	_ = encoder.Encode(s) // texts and numbers are always written
	return out.String()
}
