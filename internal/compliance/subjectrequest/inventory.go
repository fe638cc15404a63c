package subjectrequest

import (
	"fmt"
	"strings"
)

// Store is one table that holds something of a person: what of it goes into a bundle, and what does not and why. A test compares the whole list with the catalogue of
// the database, so that a column that is new is decided about before it can be forgotten.
type Store struct {
	Table    string
	Title    string // for people
	Purpose  string // what it is for
	Kept     string // for how long
	Where    string // which rows are the person's: of the table t, with asked.person
	Columns  []string
	Derived  []Derived
	Withheld []Withheld
}

// Derived is a member that is worked out of columns which are not handed over themselves.
type Derived struct {
	Name       string
	Expression string
}

// Withheld is a column that is held and not handed over.
type Withheld struct {
	Column string
	Why    Why
}

// Why is the reason for which something is not handed over. The set is closed.
type Why string

// The reasons.
const (
	Secret     Why = "secret"     // would let whoever has it sign in, or guess a password
	Derivative Why = "derivative" // another form of what is handed over
	Others     Why = "others"     // names other people or systems
	Container  Why = "container"  // the copy of an answer or of a bundle: what it tells of the person is handed over from where it comes from
	Customer   Why = "customer"   // the employer, named once for the whole bundle
)

// Explained says a reason in a sentence.
func (w Why) Explained() string {
	switch w {
	case Secret:
		return "A credential in protected form. It is held so that it can be checked, and left out because it would help whoever finds this file to break in."
	case Derivative:
		return "Another form of something that is in this bundle, for looking it up."
	case Others:
		return "Names other people or systems, whose rights come in too."
	case Container:
		return "A sealed copy of an answer or of a bundle. What it tells is in this bundle from where it comes from."
	case Customer:
		return "The employer, who is named once for the whole bundle."
	}
	return ""
}

// Inventory lists every store.
func Inventory() []Store {
	const account = "as long as the account"
	employer := Withheld{"customer_id", Customer}
	return []Store{
		{
			Table: "users", Title: "The account", Purpose: "So that the person can use the software, and be written to about it.", Kept: account,
			Where: "t.id = asked.person",
			Columns: []string{
				"id", "role", "status", "first_name", "last_name", "email", "alerts_opted_in", "alerts_set_by", "alerts_set_at", "label", "redacted_at",
				"receipt_id", "correction_lost_at", "sessions_since", "links_since", "version", "created_at", "updated_at",
			},
			Derived: []Derived{{"password_set", "t.password_hash is not null"}},
			Withheld: []Withheld{
				employer, {"first_name_key", Derivative}, {"last_name_key", Derivative}, {"email_key", Derivative}, {"password_hash", Secret},
			},
		},
		{
			Table: "login_records", Title: "Attempts to sign in", Purpose: "So that misuse of the account shows.", Kept: "as many days as the employer chose, 400 at most",
			Where: "t.user_id = asked.person", Columns: []string{"id", "user_id", "occurred_at", "address", "outcome", "inside_networks"}, Withheld: []Withheld{employer},
		},
		{
			Table: "sessions", Title: "Sessions", Purpose: "So that the person stays signed in.", Kept: "until they have ended, 30 days at most",
			Where:   "t.user_id = asked.person",
			Columns: []string{"id", "user_id", "created_at", "refreshed_at", "expires_at", "ended_at", "transport"}, Withheld: []Withheld{employer, {"cookie_hash", Secret}},
		},
		{
			Table: "refresh_tokens", Title: "Tokens of the sessions", Purpose: "So that a stolen session shows.", Kept: "as long as the session",
			Where:   "exists (select from sessions s where s.customer_id = t.customer_id and s.id = t.session_id and s.user_id = asked.person)",
			Columns: []string{"session_id", "created_at", "used_at"}, Withheld: []Withheld{employer, {"hash", Secret}},
		},
		{
			Table: "second_factors", Title: "The authenticator", Purpose: "So that a password alone does not sign in.", Kept: "until it is given up, or " + account,
			Where: "t.user_id = asked.person", Columns: []string{"user_id", "created_at", "confirmed_at"},
			Withheld: []Withheld{employer, {"sealed_secret", Secret}, {"last_step", Secret}},
		},
		{
			Table: "recovery_codes", Title: "Recovery codes", Purpose: "So that the person can sign in without the authenticator.", Kept: "until they are replaced, or " + account,
			Where: "t.user_id = asked.person", Columns: []string{"user_id", "created_at", "used_at"}, Withheld: []Withheld{employer, {"hash", Secret}},
		},
		{
			Table: "password_links", Title: "Mailed links that set a password", Purpose: "So that the person can choose a password.", Kept: "until they are past their time, a week at most",
			Where: "t.user_id = asked.person", Columns: []string{"user_id", "purpose", "created_at", "expires_at", "used_at", "links_since"},
			Withheld: []Withheld{employer, {"hash", Secret}},
		},
		{
			Table: "audit_entries", Title: "The audit trail: what the person did, and what was done to the account",
			Purpose: "So that it can be told who did what, and when.", Kept: "for good; it holds ids, closed words, numbers and times",
			Where: "t.actor_user_id = asked.person or t.actor_operator_id = asked.person or t.target_type = 'user' and t.target_id = asked.person::text",
			Columns: []string{
				"id", "source", "source_id", "actor_type", "action", "target_type", "target_id", "changed", "details", "occurred_at", "recorded_at",
			},
			Derived: []Derived{{"done_by_the_person", "coalesce(t.actor_user_id = asked.person, false) or coalesce(t.actor_operator_id = asked.person, false) or t.actor_type = 'self'"}},
			Withheld: []Withheld{
				employer, {"actor_user_id", Others}, {"actor_api_key_id", Others}, {"actor_operator_customer_id", Others}, {"actor_operator_id", Others},
			},
		},
		{
			Table: "erasure_receipts", Title: "Receipts of erasures that the person ordered", Purpose: "So that an erasure can be proved.", Kept: "for good; they hold ids, counts and times",
			Where: "t.user_id = asked.person or t.ordered_by_user_id = asked.person",
			Columns: []string{
				"id", "kind", "reason", "authority", "completed_at", "removed", "kept", "backups_expire_at", "state", "erased_at", "erased_in", "live_complete_at", "final_at", "signed_at",
			},
			Withheld: []Withheld{
				employer, {"user_id", Others}, {"label", Others}, {"ordered_by_user_id", Others}, {"ordered_by_api_key_id", Others}, {"jws", Others},
			},
		},
		{
			Table: "data_subject_requests", Title: "Requests like this one", Purpose: "So that they are answered in time.", Kept: "90 days after they are closed",
			Where: "t.user_id = asked.person",
			Columns: []string{
				"id", "user_id", "kind", "state", "reason", "first_name", "last_name", "email", "recipient", "receipt_id", "received_at", "acknowledged_at", "due_at",
				"closed_at", "bundle_expires_at", "bundle_collected_at", "reminders", "version", "updated_at",
			},
			Withheld: []Withheld{employer},
		},
		{
			Table: "request_bundles", Title: "Bundles like this one", Purpose: "So that they can be collected.", Kept: "14 days, or until they are collected",
			Where: "t.user_id = asked.person", Columns: []string{"request_id", "user_id", "created_at", "expires_at"}, Withheld: []Withheld{employer, {"content", Container}},
		},
		{
			Table: "alert_deliveries", Title: "Alerts by e-mail", Purpose: "So that the person hears of trouble in the employer's software.", Kept: "90 days",
			Where: "t.user_id = asked.person", Columns: []string{"alert_id", "user_id", "state", "reason", "capped", "attempts", "created_at", "due_at", "settled_at"},
			Withheld: []Withheld{employer},
		},
		{
			Table: "alert_digests", Title: "Alerts gathered in one e-mail", Purpose: "So that many alerts are not as many mails.", Kept: "90 days",
			Where: "t.user_id = asked.person", Columns: []string{"user_id", "hour", "state", "attempts", "created_at", "due_at"}, Withheld: []Withheld{employer},
		},
		{
			Table: "user_imports", Title: "Imports of people that the person ordered", Purpose: "So that an import can be followed and repeated.", Kept: "as long as the import is listed",
			Where: "t.ordered_by_user_id = asked.person",
			Columns: []string{
				"id", "state", "format", "dry_run", "invite", "authority", "created", "would_create", "existing", "refused", "stopped_by", "started_at",
				"progressed_at", "finished_at",
			},
			Withheld: []Withheld{
				employer, {"ordered_by_user_id", Derivative}, {"ordered_by_api_key_id", Others}, {"key_hash", Secret}, {"fingerprint", Others},
			},
		},
		{
			Table: "user_import_rows", Title: "Rows of imports that the person came with", Purpose: "So that an import can be checked.", Kept: "as long as the import is listed",
			Where: "t.user_id = asked.person", Columns: []string{"import_id", "number", "line", "status", "user_id", "reason", "pointer"}, Withheld: []Withheld{employer},
		},
		{
			Table: "suppressed_addresses", Title: "Addresses of people who were erased", Purpose: "So that an import brings nobody back unnoticed.",
			Kept:  "as long as the employer is a customer; it takes the master key to find out whose one is",
			Where: "false", Columns: []string{"erased_at"}, Withheld: []Withheld{employer, {"hash", Others}},
		},
		{
			Table: "idempotency_answers", Title: "Answers that can be asked for again", Purpose: "So that a repeated request is not carried out twice.", Kept: "24 hours",
			Where: "t.subject_user_id = asked.person", Columns: []string{"created_at"}, Derived: []Derived{{"erased", "t.answer is null"}},
			Withheld: []Withheld{
				employer, {"credential_id", Others}, {"key_hash", Secret}, {"fingerprint", Container}, {"answer", Container}, {"subject_user_id", Derivative},
			},
		},
	}
}

// columns are what a store hands over, as a list of a statement.
func (s Store) columns() string {
	var list []string
	for _, name := range s.Columns {
		list = append(list, "t."+name)
	}
	for _, derived := range s.Derived {
		list = append(list, "("+derived.Expression+") as "+derived.Name)
	}
	return strings.Join(list, ", ")
}

// members are the names under which a store hands over, in their order.
func (s Store) members() []string {
	names := append([]string{}, s.Columns...)
	for _, derived := range s.Derived {
		names = append(names, derived.Name)
	}
	return names
}

func tooManyRows(of Store) error {
	return fmt.Errorf("request: the store %s holds more than %d rows of one person", of.Table, maxRowsOfOneStore)
}
