// Package trail lets a customer hold Steward to its audit trail.
//
// Owns: the signed checkpoints of the tree over a customer's entries, the proofs that callers get,
// what is sent to customers every day, and checking a whole trail, in the database or in an export.
// Does not own: the entries, their order and the tree (audit), the forms that others verify too
// (pkg/trailproof), the keys (proofkey).
//
// The tree grows within a second of every entry, without a signature. A checkpoint is signed when
// somebody asks for one and the tree has grown, or when it is sent. What was signed is kept. The
// database can be rewritten by whoever owns it, tree and all; a checkpoint cannot be made without
// the master key, and those that customers were sent cannot be taken back.
package trail

import (
	"time"

	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/infra/jobs"
	"github.com/fusionspim/steward/pkg/trailproof"
)

const (
	// for so long the newest checkpoint is the latest, though the trail has grown
	fresh          = time.Second
	publishedEvery = 24 * time.Hour // at most
	lookEvery      = time.Hour      // whose checkpoint is to be sent
	// when to ask again for the proof of an entry that is not sealed
	soon = time.Second
)

// Checkpoint is a signed head of a customer's trail.
type Checkpoint struct {
	trailproof.Checkpoint
	Note        string // as it was signed
	CreatedAt   time.Time
	VerifierKey string // of the key that signed it
}

// Latest is the newest checkpoint, and how it follows from an earlier one.
type Latest struct {
	Checkpoint
	ConsistencyPath [][]byte // nil: not asked for
}

// Proof is that an entry stands in the trail.
type Proof struct {
	Index         int64
	Leaf          []byte
	InclusionPath [][]byte
	Checkpoint    Checkpoint
}

// publication asks to send the checkpoints of all customers that are due.
type publication struct{}

// Kind implements jobs.Arguments.
func (publication) Kind() string { return "trail_publication" }

// Policy says how the job is treated.
func (publication) Policy() jobs.Policy {
	return jobs.Policy{Queue: jobs.Upkeep, Attempts: 3, Unique: true}
}

// mailing is one checkpoint that is to be sent to one recipient: the user, or the customer's
// privacy contact where there is none.
type mailing struct {
	Customer id.Customer `json:"customer_id"`
	Size     int64       `json:"size"`
	User     *id.User    `json:"user_id,omitempty"`
}

// Kind implements jobs.Arguments.
func (mailing) Kind() string { return "trail_checkpoint_mail" }

// Policy says how the job is treated.
func (mailing) Policy() jobs.Policy { return jobs.Policy{Queue: jobs.Mail} }
