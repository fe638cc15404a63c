// Package apikey manages the credentials of integrations.
//
// Owns: creating, listing, rotating and revoking keys, and authenticating requests with them.
// Does not own: what a scope allows (the contract says so for each operation).
package apikey

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/base/sensitive"
	"github.com/fusionspim/steward/internal/infra/idempotency"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/infra/ratelimit"
	"github.com/fusionspim/steward/internal/infra/token"
	"github.com/fusionspim/steward/internal/infra/ttlcache"
	"github.com/fusionspim/steward/internal/record/audit"
	"github.com/fusionspim/steward/internal/record/ledger"
)

// Remembered is how long a valid key is cached: half of the second in which a revocation must reach
// every replica.
const Remembered = 500 * time.Millisecond

// Key is an API key without its secret.
type Key struct {
	ID              id.APIKey
	Name            string
	Scopes          []principal.Scope
	AllowedNetworks []netip.Prefix // empty: any network
	CreatedAt       time.Time
	ExpiresAt       *time.Time
	LastUsedAt      *time.Time // to the minute
	RevokedAt       *time.Time

	// lifetime at creation in seconds, which may exceed a Duration; zero: unlimited
	lifetime int64
}

// live reports whether the key is valid, whatever the network.
func (k Key) live(now time.Time) bool {
	return k.RevokedAt == nil && (k.ExpiresAt == nil || now.Before(*k.ExpiresAt))
}

// Made is a new key with its secret.
type Made struct {
	Key
	Secret sensitive.String
}

// New is a key to be created.
type New struct {
	Name            string
	Scopes          []principal.Scope
	ExpiresAt       *time.Time
	AllowedNetworks []netip.Prefix
}

// Service implements the API-key use cases. Safe for concurrent use.
type Service struct {
	db      *postgres.DB
	limiter *ratelimit.Limiter
	ledger  *ledger.Ledger
	good    *ttlcache.Cache[id.APIKey, stored]
}

// leaksPerNetwork limits the reports from one network of texts that are no valid key. Valid keys
// are not counted.
var leaksPerNetwork = ratelimit.Limit{Burst: 20, Every: 10 * time.Second}

// NewService returns the service.
func NewService(db *postgres.DB, limiter *ratelimit.Limiter, ledger *ledger.Ledger) *Service {
	return &Service{
		db:      db,
		limiter: limiter,
		ledger:  ledger,
		good:    ttlcache.New[id.APIKey, stored](16384, Remembered, db.Now),
	}
}

// Create creates a key of the caller's customer. Only this result holds the secret.
func (s *Service) Create(
	ctx context.Context,
	caller principal.Principal,
	in New,
	once *idempotency.Once[Made],
) (made Made, err error) {
	in.Name = norm.NFC.String(strings.TrimSpace(in.Name))
	if in.Name == "" || utf8.RuneCountInString(in.Name) > 100 || strings.ContainsFunc(in.Name, unicode.IsControl) {
		return Made{}, fault.New(fault.InvalidName, "The name of the key cannot be taken.").
			At("/name", "must be 1 to 100 characters without control characters")
	}
	if in.ExpiresAt != nil && !in.ExpiresAt.After(s.db.Now()) {
		return Made{}, fault.New(fault.InvalidEntry, "The key would be expired already.").
			At("/expires_at", "must lie in the future")
	}
	return idempotency.Write(ctx, s.db, caller.Customer, once, func(tx *postgres.Tx) (Made, error) {
		made, err := CreateTx(tx, caller, in)
		return made, err
	})
}

// CreateTx is Create within the caller's transaction, for validated input.
func CreateTx(tx *postgres.Tx, caller principal.Principal, in New) (Made, error) {
	key := Key{
		ID:              id.New[id.APIKey](),
		Name:            in.Name,
		Scopes:          in.Scopes,
		AllowedNetworks: in.AllowedNetworks,
		CreatedAt:       tx.Now,
		ExpiresAt:       in.ExpiresAt,
	}
	if in.ExpiresAt != nil {
		key.lifetime = max(1, in.ExpiresAt.Unix()-tx.Now.Unix())
	}
	secret, hash := token.NewAPIKey(key.ID)
	if err := insert(tx, key, hash); err != nil {
		return Made{}, err
	}
	err := audit.AppendTx(tx, audit.Act{Caller: caller, Action: audit.APIKeyCreated, Target: audit.OnAPIKey(key.ID)})
	return Made{Key: key, Secret: secret}, err
}

// List returns at most limit keys, newest first, from those before the given one; zero: from the
// newest on. With a number of days it returns only stale keys: valid, and neither created nor used
// in that many days.
func (s *Service) List(
	ctx context.Context,
	caller principal.Principal,
	unusedForDays int,
	before id.APIKey,
	limit int,
) (keys []Key, err error) {
	err = s.db.InCustomerAutocommit(ctx, caller.Customer, func(tx *postgres.Tx) error {
		keys, err = list(tx, unusedForDays, before, limit)
		return err
	})
	return keys, err
}

// DefaultOverlap is how long a rotated key stays valid beside its successor.
const DefaultOverlap = 24 * time.Hour

// Rotate creates the successor of a key, with the same name, scopes, networks and lifetime. The key
// itself stays valid for the overlap, unless it expires sooner. Faults: ResourceNotFound,
// APIKeyRevoked.
func (s *Service) Rotate(
	ctx context.Context,
	caller principal.Principal,
	key id.APIKey,
	overlap time.Duration,
	once *idempotency.Once[Made],
) (made Made, err error) {
	err = s.db.InCustomer(ctx, caller.Customer, func(tx *postgres.Tx) error {
		made, err = once.Do(tx, func() (Made, id.User, error) {
			made, err := s.rotate(tx, caller, key, overlap)
			return made, id.User{}, err
		})
		return err
	})
	s.good.Forget(key)
	return made, err
}

// lastTime is the latest time that RFC 3339 can express.
var lastTime = time.Date(9999, time.December, 31, 23, 59, 59, 0, time.UTC)

func (s *Service) rotate(
	tx *postgres.Tx,
	caller principal.Principal,
	key id.APIKey,
	overlap time.Duration,
) (Made, error) {
	old, there, err := lock(tx, key)
	switch {
	case err != nil:
		return Made{}, err
	case !there:
		return Made{}, notFound()
	case !old.live(tx.Now):
		return Made{}, fault.New(
			fault.APIKeyRevoked,
			"A key that is revoked or expired has no successor. Make a new key.",
		)
	}
	var changed []string
	if end := tx.Now.Add(overlap); old.ExpiresAt == nil || end.Before(*old.ExpiresAt) {
		changed = []string{"expires_at"}
		if err := expireAt(tx, key, end); err != nil {
			return Made{}, err
		}
		if err := s.ledger.AppendTx(
			tx,
			ledger.Entry{Kind: ledger.APIKeyEnds, Subject: key.UUID, Until: &end},
		); err != nil {
			return Made{}, err
		}
	}
	if err := audit.AppendTx(
		tx,
		audit.Act{Caller: caller, Action: audit.APIKeyRotated, Target: audit.OnAPIKey(key), Changed: changed},
	); err != nil {
		return Made{}, err
	}
	next := New{Name: old.Name, Scopes: old.Scopes, AllowedNetworks: old.AllowedNetworks}
	if old.lifetime > 0 {
		end := time.Unix(tx.Now.Unix()+old.lifetime, int64(tx.Now.Nanosecond())).UTC()
		if end.After(lastTime) {
			end = lastTime
		}
		next.ExpiresAt = &end
	}
	return CreateTx(tx, caller, next)
}

func notFound() error { return fault.New(fault.ResourceNotFound, "There is no such API key.") }

// Revoke revokes a key. It is idempotent. Fault: ResourceNotFound.
func (s *Service) Revoke(ctx context.Context, caller principal.Principal, key id.APIKey) error {
	err := s.db.InCustomer(ctx, caller.Customer, func(tx *postgres.Tx) error {
		there, revoked, err := revoke(tx, key)
		switch {
		case err != nil:
			return err
		case !there:
			return notFound()
		case !revoked:
			return nil
		}
		if err := s.ledger.AppendTx(tx, ledger.Entry{Kind: ledger.APIKeyRevoked, Subject: key.UUID}); err != nil {
			return err
		}
		return audit.AppendTx(tx, audit.Act{Caller: caller, Action: audit.APIKeyRevoked, Target: audit.OnAPIKey(key)})
	})
	s.good.Forget(key)
	return err
}

// ReplayTx replays what the ledger records of a key. It never extends a key.
func ReplayTx(tx *postgres.Tx, entry ledger.Entry) (ledger.Outcome, error) {
	var there, changed bool
	var err error
	act := audit.Act{Action: audit.APIKeyRevoked, Target: audit.OnAPIKey(entry.APIKey()), Details: entry.Details()}
	if entry.Kind == ledger.APIKeyRevoked {
		there, changed, err = revoke(tx, entry.APIKey())
	} else {
		act.Action, act.Changed = audit.APIKeyRotated, []string{"expires_at"}
		var found Key
		found, there, err = lock(tx, entry.APIKey())
		if changed = there && entry.Until != nil &&
			(found.ExpiresAt == nil || entry.Until.Before(*found.ExpiresAt)); err == nil &&
			changed {
			err = expireAt(tx, entry.APIKey(), *entry.Until)
		}
	}
	switch {
	case err != nil:
		return "", err
	case !there:
		return ledger.Absent, nil
	case !changed:
		return ledger.AlreadyDone, nil
	}
	return ledger.Done, audit.AppendTx(tx, act)
}

// ReportLeak revokes a valid key, whoever presents it. The result is the same for an invalid one,
// so that it reveals nothing. Fault: TooManyAttempts, after too many texts from one network that
// were no valid key.
func (s *Service) ReportLeak(ctx context.Context, text string, address netip.Addr) error {
	counter := ratelimit.NewCounter("leak", leaksPerNetwork, ratelimit.Network(address))
	if exhausted, wait, err := s.limiter.Exhausted(ctx, counter); err != nil {
		return err
	} else if len(exhausted) > 0 {
		return ratelimit.Refused(wait)
	}
	revoked, err := s.revokeLeaked(ctx, text)
	if err != nil || revoked {
		return err
	}
	return s.limiter.RecordFailure(ctx, counter)
}

func (s *Service) revokeLeaked(ctx context.Context, text string) (revoked bool, err error) {
	key, hash, err := token.ParseAPIKey(text)
	if err != nil {
		return false, nil // not a key
	}
	owner, err := s.ownerOf(ctx, key)
	if err != nil || owner.IsZero() {
		return false, err
	}
	err = s.db.InCustomer(ctx, owner, func(tx *postgres.Tx) error {
		found, err := read(tx, key)
		if err != nil || found.revoked || !token.SameHash(found.hash, hash) ||
			found.expiresAt != nil && !tx.Now.Before(*found.expiresAt) {
			return err
		}
		// Of two concurrent reports of one key, one revokes it.
		if _, revoked, err = revoke(tx, key); err != nil || !revoked {
			return err
		}
		if err := s.ledger.AppendTx(tx, ledger.Entry{Kind: ledger.APIKeyRevoked, Subject: key.UUID}); err != nil {
			return err
		}
		return audit.AppendTx(tx, audit.Act{Action: audit.APIKeyLeaked, Target: audit.OnAPIKey(key)})
	})
	s.good.Forget(key)
	return revoked, err
}

// Authenticate returns the caller with the key at the address. Fault: Unauthorized, alike for every
// reason.
func (s *Service) Authenticate(ctx context.Context, text string, address netip.Addr) (principal.Principal, error) {
	refused := fault.New(
		fault.Unauthorized,
		"The API key is not good. It may be misspelt, expired, revoked, or used from another network.",
	)
	keyID, hash, err := token.ParseAPIKey(text)
	if err != nil {
		return principal.Principal{}, refused
	}
	key, err := s.good.Get(keyID, func() (stored, error) { return s.look(ctx, keyID) })
	if err != nil {
		return principal.Principal{}, err
	}
	now := s.db.Now()
	switch {
	case !token.SameHash(key.hash, hash), // also for an unknown key, whose hash is empty
		key.revoked,
		key.expiresAt != nil && !now.Before(*key.expiresAt),
		len(key.networks) > 0 && !slices.ContainsFunc(key.networks, func(n netip.Prefix) bool { return n.Contains(address.Unmap()) }):
		return principal.Principal{}, refused
	}
	return principal.Principal{Customer: key.customer, APIKey: keyID, Scopes: key.scopes}, nil
}

// look reads a key and records its use, at most once a minute.
func (s *Service) look(ctx context.Context, keyID id.APIKey) (stored, error) {
	owner, err := s.ownerOf(ctx, keyID)
	if err != nil || owner.IsZero() {
		return stored{}, err
	}
	var key stored
	err = s.db.InCustomerAutocommit(ctx, owner, func(tx *postgres.Tx) (err error) {
		if key, err = read(tx, keyID); err != nil || key.revoked {
			return err
		}
		if key.usedAt == nil || tx.Now.Sub(*key.usedAt) >= time.Minute {
			return recordUse(tx, keyID)
		}
		return nil
	})
	return key, err
}

// ownerOf returns the customer of a key; zero: no such key.
func (s *Service) ownerOf(ctx context.Context, key id.APIKey) (owner id.Customer, err error) {
	err = s.db.InPlatform(ctx, func(tx *postgres.Tx) error {
		owner, err = ownerOf(tx, key)
		return err
	})
	return owner, err
}
