// Package backup makes encrypted backups of the whole database, and restores them.
//
// Owns: making a backup with PostgreSQL's own programs, its encryption, its objects and its row in
// the catalogue, expiry, comparing the catalogue with the store, verifying and restoring, and when
// the last backup expires that may contain an erased person.
// Does not own: the store of objects (blob), the ledger and the replay of erasures after a restore
// (ledger, replay), when jobs run (jobs), who may order a backup (httpapi).
//
// A backup is two objects: backups/<id>.age has the dump, encrypted with age, and backups/<id>.json
// the entry, with an authentication code under the master key. The service knows the recipients
// that it encrypts to but not the identities that decrypt, so it cannot read its own backups. The
// table of backups is the catalogue. It follows the store, because it is lost with the database:
//
//	creating ──▶ available ──▶ expired   (deleted, which was checked, when its time was over)
//	    │            ├───────▶ deleted   (by an operator, before it expired)
//	    │            ├──◀────▶ missing   (an alarm: the dump or the entry is missing)
//	    │            └───────▶ damaged   (an alarm: of another size, or the entry is not authentic)
//	    └──────────▶ failed
//
// Sessions, tokens of links, idempotency answers and unfinished jobs are in no backup: they must
// not be restored.
package backup

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"filippo.io/age"

	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/sensitive"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

// State is the state of a backup. The set is closed.
type State string

// The states.
const (
	Creating  State = "creating"
	Available State = "available"
	Expired   State = "expired"
	Deleted   State = "deleted"
	Missing   State = "missing"
	Damaged   State = "damaged"
	Failed    State = "failed"
)

// States lists every state.
func States() []State {
	return []State{Creating, Available, Expired, Deleted, Missing, Damaged, Failed}
}

// Backup is one backup in the catalogue.
type Backup struct {
	ID          id.Backup `json:"id"`
	State       State     `json:"state"`
	RequestedAt time.Time `json:"requested_at"`
	// just before the snapshot; until then, when it was requested
	TakenAt        time.Time  `json:"taken_at"`
	ExpiresAt      time.Time  `json:"expires_at"`
	Size           *int64     `json:"size"` // of the encrypted object in bytes, as is the next
	SHA256         []byte     `json:"-"`
	Ledger         *Position  `json:"ledger"` // nil: there was no ledger
	ServerVersion  *string    `json:"server_version"`
	ProgramVersion *int       `json:"-"`
	SchemaVersion  *int64     `json:"-"`
	DeletedAt      *time.Time `json:"deleted_at"`
}

// Position is a position in the ledger.
type Position struct {
	Number int64  `json:"number"`
	Hash   string `json:"hash"`
}

// Ledger returns the position that a backup records. Nil: there is no ledger.
type Ledger interface {
	// Position returns the end of the ledger.
	Position(ctx context.Context) (number int64, hash string, err error)
}

// Settings say how backups are made and how long they are kept.
type Settings struct {
	Kept       time.Duration   // from when one is taken until it is deleted
	Every      time.Duration   // between two that Upkeep makes; 0: it makes none
	Recipients []age.Recipient // what they are encrypted to; none: no backup can be made
	// of a role that bypasses row security; empty: no backup can be made
	DatabaseURL sensitive.String
	// the folder of pg_dump and pg_restore; empty: they are searched for
	Programs string
	Stores   []postgres.Store // of the whole service: some are in no backup
}

const (
	// lead is how long before it expires a backup is deleted, so that it is gone by then: Upkeep
	// runs every upkeepEvery.
	lead        = time.Hour
	upkeepEvery = 30 * time.Minute
	// slack allows for an erasure that is not committed yet when a backup is taken, and for clocks
	// that differ.
	slack = time.Minute
	// abandoned is how long after its request a backup that no process is making counts as failed.
	abandoned = 15 * time.Minute
	// longest is the limit for making one.
	longest = 2 * time.Hour
)

// Errors that callers distinguish.
var (
	ErrUnderWay = errors.New("another backup is under way")
	ErrUnknown  = errors.New("there is no such backup in the store")
	ErrIdentity = errors.New("none of the given identities opens the backup; it was encrypted to other recipients")
	ErrNotEmpty = errors.New("the database is not empty")
)

// ParseRecipients parses age recipients, age1….
func ParseRecipients(texts []string) ([]age.Recipient, error) {
	var recipients []age.Recipient
	for _, text := range texts {
		recipient, err := age.ParseX25519Recipient(strings.TrimSpace(text))
		if err != nil {
			return nil, fmt.Errorf("%q is not an age recipient, such as age1…; steward backup keygen makes one", text)
		}
		recipients = append(recipients, recipient)
	}
	return recipients, nil
}

// Identities decrypt backups.
type Identities []age.Identity

// ParseIdentities parses a file of age identities, AGE-SECRET-KEY-1….
func ParseIdentities(content string) (Identities, error) {
	identities, err := age.ParseIdentities(strings.NewReader(content))
	if err != nil {
		// The library's error may repeat a line.
		return nil, errors.New("the file has no age identities, such as steward backup keygen makes")
	}
	return identities, nil
}

// RecipientOf returns the recipient that belongs to an identity.
func RecipientOf(identity string) (string, error) {
	read, err := age.ParseX25519Identity(strings.TrimSpace(identity))
	if err != nil {
		return "", errors.New("it is not an age identity")
	}
	return read.Recipient().String(), nil
}

// NewKey returns a new key pair: the recipient is for the service, the identity for the person who
// restores.
func NewKey() (recipient string, identity sensitive.String, err error) {
	made, err := age.GenerateX25519Identity()
	if err != nil {
		return "", sensitive.String{}, err
	}
	return made.Recipient().String(), sensitive.New(made.String()), nil
}

// Difference is an object in the store that differs from the catalogue. Each is an alarm.
type Difference struct {
	Kind   DifferenceKind `json:"kind"`
	Object string         `json:"object"`
}

// DifferenceKind is what is wrong. The set is closed.
type DifferenceKind string

// The kinds of differences.
const (
	ObjectMissing DifferenceKind = "missing" // the catalogue has it and the store does not
	ObjectUnknown DifferenceKind = "unknown" // the store has it and the catalogue does not
	ObjectDamaged DifferenceKind = "damaged" // another size, or an entry that is not authentic
)

// DifferenceKinds lists every kind.
func DifferenceKinds() []DifferenceKind {
	return []DifferenceKind{ObjectMissing, ObjectUnknown, ObjectDamaged}
}
