package offboarding

import (
	"github.com/fusionspim/steward/internal/compliance/subjectrequest"
)

// Store is one table that holds something of a customer. A test compares the whole list, its order, its keys and what is withheld with the catalogue of the database, so that a
// table or a secret that is new is decided about before it can be forgotten.
type Store struct {
	Table    string
	Key      []string // of the primary key what comes behind the customer
	Withheld []withheld
}

// withheld is a column that is held and not handed over.
type withheld = subjectrequest.Withheld

// jobsStore is what the jobs of the customer are counted under. They lie in River's table.
const jobsStore = "jobs"

// customersTable is deleted from last: everything else hangs on it.
const customersTable = "customers"

// Stores lists every table, in an order in which they can be emptied: what points at another comes before it.
func Stores() []Store {
	with := func(all []withheld, why subjectrequest.Why, columns ...string) []withheld {
		for _, column := range columns {
			all = append(all, withheld{Column: column, Why: why})
		}
		return all
	}
	secret := func(columns ...string) []withheld { return with(nil, subjectrequest.Secret, columns...) }
	return []Store{
		{Table: "webhook_deliveries", Key: []string{"endpoint_id", "id"}},
		{Table: "webhook_endpoints", Key: []string{"id"}, Withheld: secret("sealed_secret", "sealed_previous_secret")},
		{Table: "events", Key: []string{"number"}},
		{Table: "alert_deliveries", Key: []string{"alert_id", "user_id"}},
		{Table: "alert_digests", Key: []string{"user_id", "hour"}},
		{Table: "alerts", Key: []string{"id"}},
		{Table: "user_import_rows", Key: []string{"import_id", "number"}},
		{Table: "user_imports", Key: []string{"id"}, Withheld: with(secret("key_hash"), subjectrequest.Derivative, "fingerprint")},
		{Table: "request_bundles", Key: []string{"request_id"}, Withheld: with(nil, subjectrequest.Container, "content")},
		{Table: "data_subject_requests", Key: []string{"id"}},
		{Table: "password_links", Key: []string{"hash"}, Withheld: secret("hash")},
		{Table: "recovery_codes", Key: []string{"user_id", "hash"}, Withheld: secret("hash")},
		{Table: "second_factors", Key: []string{"user_id"}, Withheld: secret("sealed_secret", "last_step")},
		{Table: "refresh_tokens", Key: []string{"session_id", "hash"}, Withheld: secret("hash")},
		{Table: "sessions", Key: []string{"id"}, Withheld: secret("cookie_hash")},
		{Table: "login_records", Key: []string{"id"}},
		{Table: "idempotency_answers", Key: []string{"credential_id", "key_hash"}, Withheld: with(secret("key_hash"), subjectrequest.Container, "fingerprint", "answer")},
		{Table: "suppressed_addresses", Key: []string{"hash"}, Withheld: with(nil, subjectrequest.Derivative, "hash")},
		{Table: "audit_checkpoints", Key: []string{"size"}},
		{Table: "audit_unsealed", Key: []string{"entry_id"}},
		{Table: "audit_leaves", Key: []string{"leaf_index"}},
		{Table: "audit_heads"},
		{Table: "erasure_receipts", Key: []string{"id"}},
		{Table: "audit_entries", Key: []string{"id"}},
		{Table: "api_keys", Key: []string{"id"}, Withheld: secret("secret_hash")},
		{Table: "users", Key: []string{"id"}, Withheld: with(secret("password_hash"), subjectrequest.Derivative, "first_name_key", "last_name_key", "email_key")},
		{Table: customersTable},
	}
}

// Staying lists the tables whose rows name a customer and outlive it, with the reason.
func Staying() map[string]string {
	return map[string]string{
		"offboardings":   "the record that the customer is gone; it holds ids, times, counts, and what the business was called",
		"ledger_applied": "which entries of the ledger are in this database; the rows are numbers and go by themselves once the ledger's position is past them",
	}
}

// customerColumn names whose row it is.
func (s Store) customerColumn() string {
	if s.Table == customersTable {
		return "id"
	}
	return "customer_id"
}
