// Package trail lets a customer hold Steward to its audit trail.
//
// Owns: the signed checkpoints of the tree over a customer's entries, proofs, the daily publication
// of checkpoints, and the verification of a whole trail, in the database or in an export.
// Does not own: entries, their order and the tree (audit), the formats that others verify too
// (pkg/trailproof), keys (signingkey).
//
// The tree grows within a second of every entry, without a signature. A checkpoint is signed when
// it is requested and the tree has grown, or when it is published; signed checkpoints are kept.
// Whoever owns the database can rewrite it, tree and all; but no checkpoint can be signed without
// the master key, and those that customers received cannot be taken back.
package trail

import (
	"time"

	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/infra/jobs"
	"github.com/fusionspim/steward/pkg/trailproof"
)

const (
	// how long the newest checkpoint counts as the latest although the trail has grown
	fresh          = time.Second
	publishedEvery = 24 * time.Hour // minimum interval for one customer
	lookEvery      = time.Hour      // interval of the search for customers whose checkpoint is due
	// when to ask again for the proof of an entry that is not sequenced
	soon = time.Second
)

// Checkpoint is a signed head of a customer's trail.
type Checkpoint struct {
	trailproof.Checkpoint
	Note        string // as signed
	CreatedAt   time.Time
	VerifierKey string // of the signing key
}

// Latest is the newest checkpoint and its consistency with an earlier one.
type Latest struct {
	Checkpoint
	ConsistencyPath [][]byte // nil: not requested
}

// Proof proves that an entry is in the trail.
type Proof struct {
	Index         int64
	Leaf          []byte
	InclusionPath [][]byte
	Checkpoint    Checkpoint
}

// publication is the job that publishes the checkpoints that are due, of all customers.
type publication struct{}

// Kind implements jobs.Arguments.
func (publication) Kind() string { return "trail_publication" }

// Policy implements jobs' optional policy.
func (publication) Policy() jobs.Policy {
	return jobs.Policy{Queue: jobs.Upkeep, Attempts: 3, Unique: true}
}

// mailing is the job that mails a checkpoint to a recipient: the user, or the customer's privacy
// contact without one.
type mailing struct {
	Customer id.Customer `json:"customer_id"`
	Size     int64       `json:"size"`
	User     *id.User    `json:"user_id,omitempty"`
}

// Kind implements jobs.Arguments.
func (mailing) Kind() string { return "trail_checkpoint_mail" }

// Policy implements jobs' optional policy.
func (mailing) Policy() jobs.Policy { return jobs.Policy{Queue: jobs.Mail} }
