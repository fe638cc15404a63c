// Package backup keeps encrypted copies of the whole database for a while, and brings one back.
//
// Owns: making a backup with PostgreSQL's own programs, its encryption, its object and its entry in the catalogue, expiry, comparing the catalogue with what lies in the
// store, verifying and restoring, and by when the last backup forgets somebody.
// Does not own: the store of objects (blob), the ledger and the replay of erasures after a restore, when jobs run (jobs), who may ask (httpapi).
//
// A backup is two objects: backups/<id>.age holds the dump, encrypted with age, and backups/<id>.json the entry, with an authentication code under the master key. The
// service knows the recipients that it encrypts to and not the identities that decrypt, so what runs day and night cannot read its own backups. The table of backups
// follows the store, for it is lost with the database:
//
//	creating ──▶ available ──▶ expired   (its time has come; the object is gone, which was checked)
//	    │            ├───────▶ deleted   (an operator had it deleted before its time)
//	    │            ├──◀────▶ missing   (an alarm: the object or its entry is not there)
//	    │            └───────▶ damaged   (an alarm: the object has another size, or the entry is not authentic)
//	    └──────────▶ failed
//
// Sessions, tokens of links, remembered answers and waiting jobs are in no backup: they must not come back with one.
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

// State is what has become of a backup. The set is closed.
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
	ID             id.Backup  `json:"id"`
	State          State      `json:"state"`
	RequestedAt    time.Time  `json:"requested_at"`
	TakenAt        time.Time  `json:"taken_at"` // the moment before the snapshot; until there is one, when it was asked for
	ExpiresAt      time.Time  `json:"expires_at"`
	Size           *int64     `json:"size"` // of the encrypted object, as are the next
	SHA256         []byte     `json:"-"`
	Ledger         *Position  `json:"ledger"` // nil: there was no ledger
	ServerVersion  *string    `json:"server_version"`
	ProgramVersion *int       `json:"-"`
	SchemaVersion  *int64     `json:"-"`
	DeletedAt      *time.Time `json:"deleted_at"`
}

// Position is a place in the ledger of erasures.
type Position struct {
	Number int64  `json:"number"`
	Hash   string `json:"hash"`
}

// Ledger is what a backup must know of the ledger. A nil one means that there is none.
type Ledger interface {
	// Position is the end of the ledger.
	Position(ctx context.Context) (number int64, hash string, err error)
}

// Settings say how backups are made and how long they are kept.
type Settings struct {
	Kept        time.Duration    // from when one is taken until it is deleted
	Every       time.Duration    // how often one is made by itself; 0: never
	Recipients  []age.Recipient  // whom they are encrypted to; none: no backup can be made
	DatabaseURL sensitive.String // of a role that row security does not bind; empty: no backup can be made
	Programs    string           // the folder of pg_dump and pg_restore; empty: they are looked for
	Stores      []postgres.Store // all that there are: some are in no backup
}

const (
	// lead is how long before its time a backup is deleted, so that it is gone by then: the work is done every upkeepEvery.
	lead        = time.Hour
	upkeepEvery = 30 * time.Minute
	// slack covers an erasure that is not committed yet when a backup is taken, and clocks that differ.
	slack = time.Minute
	// abandoned is how long a backup may wait for somebody who makes it.
	abandoned = 15 * time.Minute
	// longest is how long making one may take.
	longest = 2 * time.Hour
)

// What a caller may want to tell apart.
var (
	ErrUnderWay = errors.New("another backup is under way")
	ErrUnknown  = errors.New("there is no such backup in the store")
	ErrIdentity = errors.New("none of the given identities opens the backup; it was encrypted to other recipients")
	ErrNotEmpty = errors.New("the database is not empty")
)

// ParseRecipients reads age recipients, age1…, as they stand in the settings.
func ParseRecipients(texts []string) ([]age.Recipient, error) {
	var recipients []age.Recipient
	for _, text := range texts {
		recipient, err := age.ParseX25519Recipient(strings.TrimSpace(text))
		if err != nil {
			return nil, fmt.Errorf("%q is no age recipient, such as age1…; steward backup keygen makes one", text)
		}
		recipients = append(recipients, recipient)
	}
	return recipients, nil
}

// Identities open backups.
type Identities []age.Identity

// ParseIdentities reads a file of age identities, AGE-SECRET-KEY-1….
func ParseIdentities(content string) (Identities, error) {
	identities, err := age.ParseIdentities(strings.NewReader(content))
	if err != nil {
		return nil, errors.New("the file holds no age identities, such as steward backup keygen makes") // the library's error may repeat a line
	}
	return identities, nil
}

// RecipientOf is the recipient that belongs to an identity.
func RecipientOf(identity string) (string, error) {
	read, err := age.ParseX25519Identity(strings.TrimSpace(identity))
	if err != nil {
		return "", errors.New("it is no age identity")
	}
	return read.Recipient().String(), nil
}

// NewKey makes a key pair: the recipient is for the service, the identity for whoever restores.
func NewKey() (recipient string, identity sensitive.String, err error) {
	made, err := age.GenerateX25519Identity()
	if err != nil {
		return "", sensitive.String{}, err
	}
	return made.Recipient().String(), sensitive.New(made.String()), nil
}

// Difference is something in the store that is not as the catalogue has it. Each is an alarm.
type Difference struct {
	Kind   DifferenceKind `json:"kind"`
	Object string         `json:"object"`
}

// DifferenceKind is what is wrong. The set is closed.
type DifferenceKind string

// The kinds of differences.
const (
	ObjectMissing DifferenceKind = "missing" // the catalogue has it and the store has not
	ObjectUnknown DifferenceKind = "unknown" // the store has it and the catalogue has not
	ObjectDamaged DifferenceKind = "damaged" // another size, or an entry that is not authentic
)

// DifferenceKinds lists every kind.
func DifferenceKinds() []DifferenceKind {
	return []DifferenceKind{ObjectMissing, ObjectUnknown, ObjectDamaged}
}
