// Package apikey is the credentials of integrations.
//
// Owns: making, listing and revoking keys, and telling on each request whether one is good.
// Does not own: what a scope allows (the contract says it for each operation).
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

	"github.com/fusionspim/steward/internal/audit"
	"github.com/fusionspim/steward/internal/fault"
	"github.com/fusionspim/steward/internal/id"
	"github.com/fusionspim/steward/internal/idempotency"
	"github.com/fusionspim/steward/internal/postgres"
	"github.com/fusionspim/steward/internal/principal"
	"github.com/fusionspim/steward/internal/recall"
	"github.com/fusionspim/steward/internal/sensitive"
	"github.com/fusionspim/steward/internal/token"
)

// Remembered is for how long a key that was found good is taken for good without asking the database: half of the second in which a revocation
// must reach every replica.
const Remembered = 500 * time.Millisecond

// Key is one API key, without its secret.
type Key struct {
	ID              id.APIKey
	Name            string
	Scopes          []principal.Scope
	AllowedNetworks []netip.Prefix // empty: anywhere
	CreatedAt       time.Time
	ExpiresAt       *time.Time
	LastUsedAt      *time.Time // to the minute
	RevokedAt       *time.Time
}

// Made is a key that was just made, with its secret.
type Made struct {
	Key
	Secret sensitive.String
}

// New is a key that is to be made.
type New struct {
	Name            string
	Scopes          []principal.Scope
	ExpiresAt       *time.Time
	AllowedNetworks []netip.Prefix
}

// Service is API keys as callers use them. Safe for concurrent use.
type Service struct {
	db   *postgres.DB
	good *recall.Memory[id.APIKey, stored]
}

// NewService makes the service.
func NewService(db *postgres.DB) *Service {
	return &Service{db: db, good: recall.New[id.APIKey, stored](16384, Remembered, db.Now)}
}

// Create makes a key of the caller's customer. The answer holds the secret; afterwards nobody can see it again.
func (s *Service) Create(ctx context.Context, caller principal.Principal, in New, once *idempotency.Once[Made]) (made Made, err error) {
	in.Name = norm.NFC.String(strings.TrimSpace(in.Name))
	if in.Name == "" || utf8.RuneCountInString(in.Name) > 100 || strings.ContainsFunc(in.Name, unicode.IsControl) {
		return Made{}, fault.New(fault.InvalidName, "The name of the key cannot be taken.").At("/name", "must be 1 to 100 characters without control characters")
	}
	if in.ExpiresAt != nil && !in.ExpiresAt.After(s.db.Now()) {
		return Made{}, fault.New(fault.InvalidEntry, "The key would be expired already.").At("/expires_at", "must lie in the future")
	}
	err = s.db.InCustomer(ctx, caller.Customer, func(tx *postgres.Tx) error {
		made, err = once.Do(tx, func() (Made, id.User, error) {
			made, err := CreateTx(tx, caller, in)
			return made, id.User{}, err
		})
		return err
	})
	return made, err
}

// CreateTx is Create within another's transaction, for what was checked before.
func CreateTx(tx *postgres.Tx, caller principal.Principal, in New) (Made, error) {
	key := Key{ID: id.New[id.APIKey](), Name: in.Name, Scopes: in.Scopes, AllowedNetworks: in.AllowedNetworks, CreatedAt: tx.Now, ExpiresAt: in.ExpiresAt}
	secret, hash := token.NewAPIKey(key.ID)
	if err := insert(tx, key, hash); err != nil {
		return Made{}, err
	}
	err := audit.AppendTx(tx, audit.Act{Caller: caller, Action: audit.APIKeyCreated, Target: audit.OnAPIKey(key.ID)})
	return Made{Key: key, Secret: secret}, err
}

// List returns the customer's keys, newest first: at most limit of those made before the key named, or from the newest on.
func (s *Service) List(ctx context.Context, caller principal.Principal, before id.APIKey, limit int) (keys []Key, err error) {
	err = s.db.EachInCustomer(ctx, caller.Customer, func(tx *postgres.Tx) error {
		keys, err = list(tx, before, limit)
		return err
	})
	return keys, err
}

// Revoke ends a key. Revoking a revoked key changes nothing. A key that is not there gives the fault ResourceNotFound.
func (s *Service) Revoke(ctx context.Context, caller principal.Principal, key id.APIKey) error {
	err := s.db.InCustomer(ctx, caller.Customer, func(tx *postgres.Tx) error {
		there, revoked, err := revoke(tx, key)
		switch {
		case err != nil:
			return err
		case !there:
			return fault.New(fault.ResourceNotFound, "There is no such API key.")
		case !revoked:
			return nil
		}
		return audit.AppendTx(tx, audit.Act{Caller: caller, Action: audit.APIKeyRevoked, Target: audit.OnAPIKey(key)})
	})
	s.good.Forget(key)
	return err
}

// Authenticate tells who calls with the key from the address. Anything but a good key gives the fault Unauthorized, the same for all reasons.
func (s *Service) Authenticate(ctx context.Context, text string, address netip.Addr) (principal.Principal, error) {
	refused := fault.New(fault.Unauthorized, "The API key is not good. It may be misspelt, expired, revoked, or used from another network.")
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
	case !token.SameHash(key.hash, hash), // also when there is no such key: nothing equals no hash
		key.revoked,
		key.expiresAt != nil && !now.Before(*key.expiresAt),
		len(key.networks) > 0 && !slices.ContainsFunc(key.networks, func(n netip.Prefix) bool { return n.Contains(address.Unmap()) }):
		return principal.Principal{}, refused
	}
	return principal.Principal{Customer: key.customer, APIKey: keyID, Scopes: key.scopes}, nil
}

// look reads a key and notes its use, at most once a minute.
func (s *Service) look(ctx context.Context, keyID id.APIKey) (stored, error) {
	var owner id.Customer
	err := s.db.InPlatform(ctx, func(tx *postgres.Tx) (err error) {
		owner, err = ownerOf(tx, keyID)
		return err
	})
	if err != nil || owner.IsZero() {
		return stored{}, err
	}
	var key stored
	err = s.db.EachInCustomer(ctx, owner, func(tx *postgres.Tx) (err error) {
		if key, err = read(tx, keyID); err != nil || key.revoked {
			return err
		}
		if key.usedAt == nil || tx.Now.Sub(*key.usedAt) >= time.Minute {
			return noteUse(tx, keyID)
		}
		return nil
	})
	return key, err
}
