// Package ledger writes down, outside the database, what must outlive a restore of it.
//
// Owns: the entries and their chain, the segments in which they are kept, appending from many transactions and replicas at once, reading and checking what is there,
// and what the database remembers of it: which entries are applied.
// Does not own: what an entry means and how it is carried out once more (the features; package replay conducts them), and where objects are kept (blob).
//
// An entry is durable before the transaction that it tells of is committed, and the transaction remembers it as applied. So whatever happens in between, an entry that is
// not remembered tells that its act has to be carried out once more: after a crash that is the act under way, after a restore everything since the backup.
//
// Entries are numbered from 1 on without gaps, and each holds the hash of the one before it. They lie in segments, an object each, named by the number of the first
// entry. Objects are never written over, so of several replicas that append at once one succeeds; the others read what it wrote and append behind it. A segment
// carries an authentication code: who can write to the store and does not have the master key can take entries away, which shows, but make none.
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

// Kind is what an entry tells of. The set is closed.
type Kind string

// The kinds.
const (
	Redaction          Kind = "redaction"
	Deletion           Kind = "deletion"
	AlertsSet          Kind = "alerts_set"
	StatusSet          Kind = "status_set"
	RoleSet            Kind = "role_set"
	CredentialsChanged Kind = "credentials_changed" // the password or the second factor is another: the ones of before are good no more
	Correction         Kind = "correction"          // a name or the address is another; which, is nobody's to know here
	APIKeyRevoked      Kind = "api_key_revoked"
	APIKeyEnds         Kind = "api_key_ends"     // its end was brought forward
	BundleCollected    Kind = "bundle_collected" // the bundle of a data-subject request that is handed over once was
	Offboarding        Kind = "offboarding"      // everything of the customer is deleted
	Void               Kind = "void"             // the act of an earlier entry did not happen
)

var kinds = []Kind{Redaction, Deletion, AlertsSet, StatusSet, RoleSet, CredentialsChanged, Correction, APIKeyRevoked, APIKeyEnds, BundleCollected, Offboarding, Void}

// Entry is one act. It holds ids, closed words, numbers and times; the members beyond the first five are there where the kind needs them to be carried out once more.
type Entry struct {
	Number       int64       `json:"number"`
	Kind         Kind        `json:"kind"`
	At           time.Time   `json:"at"`
	Customer     id.Customer `json:"customer"`
	Subject      uuid.UUID   `json:"subject"` // the user, the API key, the data-subject request or the offboarding
	Receipt      *id.Receipt `json:"receipt,omitempty"`
	Label        string      `json:"label,omitempty"` // what a redacted person is called; random
	Reason       string      `json:"reason,omitempty"`
	Authority    string      `json:"authority,omitempty"`
	OrderedBy    *id.User    `json:"ordered_by,omitempty"`
	ApprovedBy   *id.User    `json:"approved_by,omitempty"`
	OrderedByKey *id.APIKey  `json:"ordered_by_key,omitempty"`
	OptedIn      *bool       `json:"opted_in,omitempty"`
	Status       string      `json:"status,omitempty"`
	Role         string      `json:"role,omitempty"`
	Until        *time.Time  `json:"until,omitempty"`
	Of           int64       `json:"of,omitempty"` // the entry whose act did not happen
	Previous     Hash        `json:"previous"`     // of the entry before
}

// User is the person whom the entry is about, where it is about one.
func (e Entry) User() id.User { return id.User{UUID: e.Subject} }

// Offboarding is the offboarding that the entry is about, where it is about one.
func (e Entry) Offboarding() id.Offboarding { return id.Offboarding{UUID: e.Subject} }

// DataRequest is the data-subject request that the entry is about, where it is about one.
func (e Entry) DataRequest() id.DataRequest { return id.DataRequest{UUID: e.Subject} }

// APIKey is the key that the entry is about, where it is about one.
func (e Entry) APIKey() id.APIKey { return id.APIKey{UUID: e.Subject} }

// Details are what the trail says of an entry that is carried out once more.
func (e Entry) Details() map[string]any {
	return map[string]any{"ledger_entry": e.Number, "ordered_at": e.At}
}

// Outcome is what became of an entry that was to be carried out once more. The set is closed.
type Outcome string

// The outcomes.
const (
	Done      Outcome = "done"
	Already   Outcome = "already"          // everything was so
	Absent    Outcome = "absent"           // there is nobody, or nothing, of that id
	Instead   Outcome = "redacted_instead" // a deletion that the trail stands in the way of
	Overtaken Outcome = "superseded"       // a later entry on the same is applied
)

// hasEffect tells whether there is anything to carry out.
func (e Entry) hasEffect() bool { return e.Kind != Void }

// settles names what the entry gives its newest value, so that an earlier entry on the same has nothing to say any more; empty for what is final or adds up.
func (e Entry) settles() string {
	switch e.Kind {
	case AlertsSet, StatusSet, RoleSet:
		return string(e.Kind) + " " + e.Customer.String() + " " + e.Subject.String()
	case Redaction, Deletion, CredentialsChanged, Correction, APIKeyRevoked, APIKeyEnds, BundleCollected, Offboarding, Void:
	}
	return ""
}

var (
	closedWord = regexp.MustCompile(`^[a-z][a-z_]{0,31}$`)
	labelForm  = regexp.MustCompile(`^Redacted user [0-9A-HJKMNP-TV-Z]{4,32}$`)
)

// check makes sure that an entry holds nothing that could be anything of a person.
func (e Entry) check() error {
	if !slices.Contains(kinds, e.Kind) {
		return fmt.Errorf("ledger: no kind of entry is %q", e.Kind)
	}
	if e.Label != "" && !labelForm.MatchString(e.Label) {
		return errors.New("ledger: the label of an entry is none that the service makes")
	}
	for _, word := range []string{e.Reason, e.Authority, e.Status, e.Role} {
		if word != "" && !closedWord.MatchString(word) {
			return errors.New("ledger: an entry has something else where a closed word belongs")
		}
	}
	return nil
}

// Hash is the SHA-256 of an entry as it is kept.
type Hash [sha256.Size]byte

// MarshalText implements encoding.TextMarshaler.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (h *Hash) UnmarshalText(text []byte) error {
	if len(text) != hex.EncodedLen(len(h)) {
		return errors.New("ledger: a hash has another length")
	}
	_, err := hex.Decode(h[:], text)
	return err
}

// String implements fmt.Stringer.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// Position is a place in the chain: an entry and its hash. Number 0 stands for the beginning.
type Position struct {
	Number int64
	Hash   Hash
}

// line is an entry as it is kept, without the end of the line. An entry has one line and no other.
func (e Entry) line() ([]byte, error) { return json.Marshal(e) }

// parseEntry reads a line, and refuses whatever is not exactly how the entry is written.
func parseEntry(line []byte) (Entry, error) {
	var entry Entry
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&entry); err != nil {
		return Entry{}, errors.New("it is not readable")
	}
	if again, err := entry.line(); err != nil || !bytes.Equal(again, line) {
		return Entry{}, errors.New("it is not written as entries are")
	}
	if entry.check() != nil {
		return Entry{}, errors.New("it holds what no entry holds")
	}
	return entry, nil
}

// Broken is a ledger that is not as it was written. It names the first place where that shows.
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
