package trail

import (
	"context"
	"net/url"
	"strings"

	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/infra/blob"
	"github.com/fusionspim/steward/internal/infra/jobs"
	"github.com/fusionspim/steward/internal/infra/mailjob"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/infra/seal"
	"github.com/fusionspim/steward/internal/infra/token"
	"github.com/fusionspim/steward/internal/record/audit"
	"github.com/fusionspim/steward/internal/record/signingkey"
	"github.com/fusionspim/steward/pkg/trailproof"
)

// Service implements the use cases of checkpoints and proofs. Safe for concurrent use.
type Service struct {
	db      *postgres.DB
	queue   *jobs.Queue
	mailing mailjob.Mailing
	host    string // names the trails
	keys    *signingkey.Store
}

// NewService returns the service. Trails are named by the host of the public URL. Keys are also
// stored in the object store, if there is one.
func NewService(
	db *postgres.DB,
	box *seal.Box,
	queue *jobs.Queue,
	blobs blob.Store,
	publicURL string,
	mailing mailjob.Mailing,
) (*Service, error) {
	public, err := url.Parse(publicURL)
	if err != nil {
		return nil, err
	}
	return &Service{
		db:      db,
		queue:   queue,
		mailing: mailing,
		host:    strings.ToLower(public.Host),
		keys:    signingkey.NewStore(db, box, signingkey.Trail, blobs),
	}, nil
}

// Keys returns the public keys that have signed or will sign, newest first.
func (s *Service) Keys(ctx context.Context) ([]token.JWK, error) {
	all, err := s.keyring(ctx)
	if err != nil {
		return nil, err
	}
	return all.JWKs(), nil
}

// Latest returns the newest checkpoint, and signs one if the trail has grown. With a size it also
// proves that the trail of that size is a prefix of this one. Fault: TrailShorter.
func (s *Service) Latest(ctx context.Context, caller principal.Principal, since *int64) (latest Latest, err error) {
	keys, err := s.keyring(ctx)
	if err != nil {
		return Latest{}, err
	}
	err = s.db.InCustomer(ctx, caller.Customer, func(tx *postgres.Tx) error {
		newest, found, err := s.newest(tx, keys)
		if err != nil {
			return err
		}
		if !found || tx.Now.Sub(newest.CreatedAt) >= fresh || since != nil && uint64(*since) > newest.Size {
			if newest, err = s.makeTx(tx, keys); err != nil {
				return err
			}
		}
		latest = Latest{Checkpoint: newest}
		if since == nil {
			return nil
		}
		if uint64(*since) > newest.Size {
			return fault.New(fault.TrailShorter, "The trail has fewer entries than that.").
				At("?since_size", "is more than the trail has")
		}
		latest.ConsistencyPath, err = audit.ConsistencyTx(tx, *since, int64(newest.Size))
		return err
	})
	return latest, err
}

// Prove proves that an entry is in the trail. Fault: EntryNotSealed for one that is not sequenced
// yet.
func (s *Service) Prove(ctx context.Context, caller principal.Principal, entry id.Entry) (proof Proof, err error) {
	keys, err := s.keyring(ctx)
	if err != nil {
		return Proof{}, err
	}
	err = s.db.InCustomer(ctx, caller.Customer, func(tx *postgres.Tx) error {
		place, found, err := audit.PlaceTx(tx, entry)
		switch {
		case err != nil:
			return err
		case !found:
			return fault.New(fault.ResourceNotFound, "There is no such entry.")
		case place.Index < 0:
			f := fault.New(fault.EntryNotSealed, "The entry was recorded a moment ago. Ask again.")
			f.RetryAfter = soon
			return f
		}
		newest, found, err := s.newest(tx, keys)
		if err == nil && (!found || newest.Size <= uint64(place.Index)) {
			newest, err = s.makeTx(tx, keys)
		}
		if err != nil {
			return err
		}
		proof = Proof{Index: place.Index, Leaf: place.Leaf, Checkpoint: newest}
		proof.InclusionPath, err = audit.InclusionTx(tx, place.Index, int64(newest.Size))
		return err
	})
	return proof, err
}

// newest returns the newest existing checkpoint.
func (s *Service) newest(tx *postgres.Tx, keys ring) (Checkpoint, bool, error) {
	kept, found, err := newestCheckpoint(tx)
	if err != nil || !found {
		return Checkpoint{}, false, err
	}
	opened, err := keys.open(kept)
	return opened, err == nil, err
}

// makeTx returns a checkpoint of everything that is sequenced. Two concurrent calls for one size
// return the same checkpoint.
func (s *Service) makeTx(tx *postgres.Tx, keys ring) (Checkpoint, error) {
	head, err := audit.HeadTx(tx)
	if err != nil {
		return Checkpoint{}, err
	}
	kept, found, err := checkpointOf(tx, head.Size)
	if err == nil && !found {
		kept = storedCheckpoint{size: head.Size, createdAt: tx.Now}
		kept.note, err = keys.sign(
			trailproof.Checkpoint{
				Origin: trailproof.Origin(s.host, tx.Customer.UUID),
				Size:   uint64(head.Size),
				Root:   head.Root,
				At:     tx.Now,
			},
		)
		if err == nil {
			kept, err = insertCheckpoint(tx, kept)
		}
	}
	if err != nil {
		return Checkpoint{}, err
	}
	return keys.open(kept)
}
