package receipt

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/base/sensitive"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/infra/token"
	"github.com/fusionspim/steward/internal/record/backup"
)

// Erasures are all erasures of one kind, people's or customers'. Both advance by the same steps. It
// is an interface because what records the end of a customer is above this package.
type Erasures interface {
	// Unsettled lists at most limit erasures that are in a state, the earliest first.
	Unsettled(ctx context.Context, state State, limit int) ([]Unsettled, error)
	// Settle brings erasures of one customer from the state before to the next, leaves alone those
	// that are in another by now, and returns how many it advanced.
	Settle(ctx context.Context, of id.Customer, erasures []uuid.UUID, next State) (int64, error)
}

// Dependencies of a Service.
type Dependencies struct {
	DB          *postgres.DB
	Issuer      *Issuer
	Backups     *backup.Service
	Maintenance sensitive.String // URL of a user that owns the tables; empty: receipts stay pending

	Customers Erasures // recorded as offboardings

	// The tables that are vacuumed, with their schema where that is not the first one: those that
	// hold something of people, after every erasure, and those that hold something of a customer,
	// when one has gone.
	PeopleTables   []string
	CustomerTables []string
}

// Service reads receipts and advances erasures. Safe for concurrent use.
type Service struct {
	Dependencies
	kinds []kind

	mu    sync.Mutex
	pause time.Time // until when Tend does nothing
}

// kind is one kind of erasures, with the tables that must be vacuumed after them.
type kind struct {
	Erasures
	tables []string
}

// NewService makes the service.
func NewService(from Dependencies) *Service {
	return &Service{Dependencies: from, kinds: []kind{
		{Erasures: from.Customers, tables: from.CustomerTables},
		{Erasures: people{from.DB, from.Issuer}},
	}}
}

// MissingConfig returns what is missing for advancing receipts here, or nil.
func (s *Service) MissingConfig() error {
	if s.Maintenance.IsEmpty() {
		return errors.New("STEWARD_MAINTENANCE_DATABASE_URL is not set")
	}
	return nil
}

// Get returns a receipt of the caller's customer. Fault: ResourceNotFound.
func (s *Service) Get(ctx context.Context, caller principal.Principal, receipt id.Receipt) (Receipt, error) {
	return postgres.Read(ctx, s.DB, caller.Customer, func(tx *postgres.Tx) (Receipt, error) {
		return s.Issuer.ByID(tx, receipt)
	})
}

// Keys returns the public keys that ever signed receipts or are about to, newest first.
func (s *Service) Keys(ctx context.Context) ([]token.JWK, error) { return s.Issuer.Keys(ctx) }

// LoadKeys reads the signing keys from the database.
func (s *Service) LoadKeys(ctx context.Context) error { return s.Issuer.LoadKeys(ctx) }

// CountPending returns how many receipts are pending, and since when the first of them is; nil:
// none is.
func (s *Service) CountPending(ctx context.Context) (count int64, since *time.Time, err error) {
	err = s.DB.InPlatform(ctx, func(tx *postgres.Tx) error {
		count, since, err = countPending(tx)
		return err
	})
	return count, since, err
}

// people are the erasures of people: those that have receipts.
type people struct {
	db     *postgres.DB
	issuer *Issuer
}

// Unsettled implements Erasures.
func (p people) Unsettled(ctx context.Context, state State, limit int) ([]Unsettled, error) {
	return postgres.Platform(ctx, p.db, func(tx *postgres.Tx) ([]Unsettled, error) {
		return unsettled(tx, state, limit)
	})
}

// Settle implements Erasures. The receipts are signed again.
func (p people) Settle(ctx context.Context, of id.Customer, receipts []uuid.UUID, next State) (int64, error) {
	before, err := next.before()
	if err != nil {
		return 0, err
	}
	return postgres.Write(ctx, p.db, of, func(tx *postgres.Tx) (int64, error) {
		found, err := lockInState(tx, receipts, before)
		if err != nil {
			return 0, err
		}
		for i := range found {
			if err := found[i].advance(next, tx.Now); err != nil {
				return 0, err
			}
			if err := p.issuer.sign(&found[i], tx.Now); err != nil {
				return 0, err
			}
		}
		return update(tx, found)
	})
}

// signFirst signs receipts of one customer that are older than signatures are.
func (p people) signFirst(ctx context.Context, of id.Customer, receipts []uuid.UUID) error {
	return p.db.InCustomer(ctx, of, func(tx *postgres.Tx) error {
		found, err := lockUnsigned(tx, receipts)
		if err != nil {
			return err
		}
		for i := range found {
			if err := p.issuer.sign(&found[i], tx.Now); err != nil {
				return err
			}
		}
		_, err = update(tx, found)
		return err
	})
}
