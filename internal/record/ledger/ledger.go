// Package ledger records, outside the database, the acts that must survive a restore of it.
//
// Owns: the entries and their hash chain, the segments in which they are stored, appending from
// many transactions and replicas concurrently, reading and verifying the ledger, and what the
// database records about it: which entries are applied.
// Does not own: what an entry means and how it is replayed (the features; package replay runs
// them), and where objects are stored (blob).
//
// An entry is durable before its transaction commits, and the transaction records the entry as
// applied. Whatever happens in between, an entry that is not recorded as applied has to be
// replayed: after a crash that is the act that was under way, after a restore everything since the
// backup.
//
// Entries are numbered from 1 without gaps, and each holds the hash of its predecessor. They are
// stored in segments, one object each, named by the number of the first entry. Objects are never
// overwritten, so when several replicas append at the same time one succeeds; the others read what
// it wrote and append after it. A segment carries an authentication code: an attacker who can write
// to the store but lacks the master key can remove entries, which is detected, but cannot forge
// any.
package ledger

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/fusionspim/steward/internal/base/id"
)

// Kind is the kind of act that an entry records. The set is closed.
type Kind string

// The kinds.
const (
	Redaction Kind = "redaction"
	Deletion  Kind = "deletion"
	AlertsSet Kind = "alerts_set"
	StatusSet Kind = "status_set"
	RoleSet   Kind = "role_set"
	// CredentialsChanged records that the password or the second factor was replaced: earlier ones
	// are no longer valid.
	CredentialsChanged Kind = "credentials_changed"
	// Correction records that a name or the address changed. The new value must not be known here.
	Correction      Kind = "correction"
	APIKeyRevoked   Kind = "api_key_revoked"
	APIKeyEnds      Kind = "api_key_ends"     // its expiry was brought forward
	BundleCollected Kind = "bundle_collected" // the one-time bundle of a data-subject request
	Offboarding     Kind = "offboarding"      // everything of the customer is deleted
	Void            Kind = "void"             // the act of an earlier entry did not happen
)

var kinds = []Kind{
	Redaction, Deletion, AlertsSet, StatusSet, RoleSet, CredentialsChanged, Correction,
	APIKeyRevoked, APIKeyEnds, BundleCollected, Offboarding, Void,
}

// Entry is one act. It holds ids, words of closed sets, numbers and times. The members after the
// first five are set where the kind needs them for a replay.
type Entry struct {
	Number       int64       `json:"number"`
	Kind         Kind        `json:"kind"`
	At           time.Time   `json:"at"`
	Customer     id.Customer `json:"customer"`
	Subject      uuid.UUID   `json:"subject"` // user, API key, data-subject request or offboarding
	Receipt      *id.Receipt `json:"receipt,omitempty"`
	Label        string      `json:"label,omitempty"` // random name of a redacted person
	Reason       string      `json:"reason,omitempty"`
	Authority    string      `json:"authority,omitempty"`
	OrderedBy    *id.User    `json:"ordered_by,omitempty"`
	ApprovedBy   *id.User    `json:"approved_by,omitempty"`
	OrderedByKey *id.APIKey  `json:"ordered_by_key,omitempty"`
	OptedIn      *bool       `json:"opted_in,omitempty"`
	Status       string      `json:"status,omitempty"`
	Role         string      `json:"role,omitempty"`
	Until        *time.Time  `json:"until,omitempty"`
	Of           int64       `json:"of,omitempty"` // number of the entry whose act did not happen
	Previous     Hash        `json:"previous"`     // hash of the preceding entry
}

// User returns the user that the entry is about, for the kinds that are about one.
func (e Entry) User() id.User { return id.User{UUID: e.Subject} }

// Offboarding returns the offboarding that the entry is about, for the kind that is about one.
func (e Entry) Offboarding() id.Offboarding { return id.Offboarding{UUID: e.Subject} }

// DataRequest returns the data-subject request that the entry is about, for the kind that is about
// one.
func (e Entry) DataRequest() id.DataRequest { return id.DataRequest{UUID: e.Subject} }

// APIKey returns the API key that the entry is about, for the kinds that are about one.
func (e Entry) APIKey() id.APIKey { return id.APIKey{UUID: e.Subject} }

// Details returns what the audit trail records about a replay of the entry.
func (e Entry) Details() map[string]any {
	return map[string]any{"ledger_entry": e.Number, "ordered_at": e.At}
}

// Outcome is the result of replaying an entry. The set is closed.
type Outcome string

// The outcomes.
const (
	Done            Outcome = "done"
	AlreadyDone     Outcome = "already"          // the database has that state
	Absent          Outcome = "absent"           // the subject does not exist
	RedactedInstead Outcome = "redacted_instead" // the audit trail prevents a deletion
	Superseded      Outcome = "superseded"       // a later entry on the same subject is applied
)

// needsReplay reports whether the entry has an act to replay.
func (e Entry) needsReplay() bool { return e.Kind != Void }

// replaces names the value that the entry sets, so that the newest entry with the same name
// supersedes the earlier ones. It is empty for acts that are final or cumulative.
func (e Entry) replaces() string {
	switch e.Kind {
	case AlertsSet, StatusSet, RoleSet:
		return string(e.Kind) + " " + e.Customer.String() + " " + e.Subject.String()
	case Redaction, Deletion, CredentialsChanged, Correction, APIKeyRevoked, APIKeyEnds,
		BundleCollected, Offboarding, Void:
	}
	return ""
}

var (
	closedWord = regexp.MustCompile(`^[a-z][a-z_]{0,31}$`)
	labelForm  = regexp.MustCompile(`^Redacted user [0-9A-HJKMNP-TV-Z]{4,32}$`)
)

// check returns an error if the entry holds anything that could be personal data.
func (e Entry) check() error {
	if !slices.Contains(kinds, e.Kind) {
		return fmt.Errorf("ledger: unknown kind of entry %q", e.Kind)
	}
	if e.Label != "" && !labelForm.MatchString(e.Label) {
		return errors.New("ledger: the label of an entry was not generated by the service")
	}
	for _, word := range []string{e.Reason, e.Authority, e.Status, e.Role} {
		if word != "" && !closedWord.MatchString(word) {
			return errors.New("ledger: an entry has free text where a word of a closed set belongs")
		}
	}
	return nil
}

// Hash is the SHA-256 of an encoded entry.
type Hash [sha256.Size]byte

// MarshalText implements encoding.TextMarshaler.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (h *Hash) UnmarshalText(text []byte) error {
	if len(text) != hex.EncodedLen(len(h)) {
		return errors.New("ledger: a hash has the wrong length")
	}
	_, err := hex.Decode(h[:], text)
	return err
}

// String returns the hash in hexadecimal.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// Position is a place in the chain: the number of an entry and its hash. Number 0 is the genesis.
type Position struct {
	Number int64
	Hash   Hash
}

// encode returns the one stored form of the entry, a line without its line feed.
func (e Entry) encode() ([]byte, error) { return json.Marshal(e) }

// parseEntry decodes a line. It refuses every line that encode does not produce.
func parseEntry(line []byte) (Entry, error) {
	var entry Entry
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&entry); err != nil {
		return Entry{}, errors.New("it is not readable")
	}
	if encoded, err := entry.encode(); err != nil || !bytes.Equal(encoded, line) {
		return Entry{}, errors.New("it is not in the canonical form")
	}
	if entry.check() != nil {
		return Entry{}, errors.New("it has a value that no entry may have")
	}
	return entry, nil
}

// Broken is the error for a ledger that was altered. It names the first place where that shows.
type Broken struct {
	Segment int64 // the number of its first entry, by which it is named
	Entry   int64 // 0: the segment as a whole
	Why     string
}

// Error implements error.
func (b *Broken) Error() string {
	if b.Entry == 0 {
		return fmt.Sprintf("ledger: segment %d (%s): %s", b.Segment, segmentName(b.Segment), b.Why)
	}
	return fmt.Sprintf("ledger: entry %d in segment %d (%s): %s", b.Entry, b.Segment, segmentName(b.Segment), b.Why)
}
