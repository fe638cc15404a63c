// Package receipt brings erasure receipts forward, as far as an erasure has come: until the database, and then the backups, have forgotten the person.
//
// Owns: when a receipt is live-complete and when it is final, and vacuuming what erasures leave behind, those of whole customers included.
// Does not own: the receipts themselves and their signatures (user), what lies in the store of backups (backup).
//
//	pending ──▶ live-complete ──▶ final
//
// A row that was deleted or changed stays in its table, dead, until a VACUUM takes it away, and a VACUUM leaves alone what some transaction may still see. So a receipt
// goes to live-complete when three things happened in this order: the transaction of the erasure ended; nothing was left in the database, or beside it, that could see what
// was before; all tables that hold something of people were vacuumed. The service's own roles own nothing and may not do that: it takes a connection of the owner.
//
// What this is not about: bytes in the free space of a page, which belong to no row and are overwritten when the page fills up; and the server's write-ahead log, copies of
// which outside the database's own are the business of whoever makes them.
package receipt

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/fusionspim/steward/internal/account/user"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/sensitive"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/record/backup"
)

const (
	page       = 1000             // receipts looked at together
	together   = 200              // signed in one transaction
	vacuumMost = 30 * time.Minute // one run over all tables
	rest       = 4                // times as long as a run took, nothing is vacuumed after it
	afterError = 30 * time.Second
)

// Leftover is an erasure of another kind than a person's, of which something may be left.
type Leftover struct {
	Customer id.Customer
	ID       uuid.UUID
	ErasedAt time.Time
	ErasedIn int64 // number of the transaction by which all rows had gone
}

// Others are erasures of another kind, which come as far as those that have receipts, by the same steps.
type Others interface {
	// Tables are the tables that the rows were in, with their schema where that is not the first one.
	Tables() []string
	// Unsettled lists at most limit erasures that are in a state, the earliest first.
	Unsettled(ctx context.Context, state user.ReceiptState, limit int) ([]Leftover, error)
	// Settle writes down that an erasure has come to its next state. It is written down once.
	Settle(ctx context.Context, one Leftover, next user.ReceiptState) error
}

// Service brings receipts forward. Safe for concurrent use.
type Service struct {
	db          *postgres.DB
	users       *user.Service
	backups     *backup.Service
	others      Others
	maintenance sensitive.String
	log         *slog.Logger

	mu    sync.Mutex
	pause time.Time // until when Tend does nothing
}

// NewService makes the service. Without a URL for maintenance, receipts stay pending.
func NewService(db *postgres.DB, users *user.Service, backups *backup.Service, others Others, maintenance sensitive.String, log *slog.Logger) *Service {
	return &Service{db: db, users: users, backups: backups, others: others, maintenance: maintenance, log: log}
}

// MissingConfig says what is missing for bringing receipts forward here; nil: nothing is.
func (s *Service) MissingConfig() error {
	if s.maintenance.IsEmpty() {
		return errors.New("STEWARD_MAINTENANCE_DATABASE_URL is not set")
	}
	return nil
}

// Tend is Advance, unless it is to rest from the last time: vacuuming takes a fifth of the time at most.
func (s *Service) Tend(ctx context.Context) error {
	if !s.mu.TryLock() { // one at a time is enough
		return nil
	}
	defer s.mu.Unlock()
	if time.Now().Before(s.pause) {
		return nil
	}
	began := time.Now()
	_, err := s.Advance(ctx)
	s.pause = time.Now().Add(rest * time.Since(began))
	if err != nil {
		s.pause = time.Now().Add(afterError)
	}
	return err
}

// Advance brings pending receipts to live-complete whose erasures nothing can look behind any more, all together after one VACUUM, and tells how many; with them the other
// erasures. One replica at a time does so. It also signs receipts that are from before there were signatures.
func (s *Service) Advance(ctx context.Context) (settled int64, err error) {
	if err := s.signOld(ctx); err != nil || s.maintenance.IsEmpty() {
		return 0, err
	}
	pending, err := s.users.Unsettled(ctx, user.Pending, page)
	if err != nil {
		return 0, err
	}
	others, err := s.others.Unsettled(ctx, user.Pending, page)
	if err != nil || len(pending)+len(others) == 0 {
		return 0, err
	}
	owner, err := connect(ctx, s.maintenance)
	if err != nil {
		return 0, err
	}
	defer owner.close()
	if taken, err := owner.lock(ctx); err != nil || !taken {
		return 0, err
	}
	if err := s.sameDatabase(ctx, owner); err != nil {
		return 0, err
	}
	seen, err := owner.horizon(ctx)
	if err != nil {
		return 0, err
	}
	ready := seen.behind(pending)
	others = slices.DeleteFunc(others, func(one Leftover) bool { return !seen.past(one.ErasedIn) })
	if len(ready)+len(others) == 0 {
		return 0, nil
	}
	tables := append(s.users.Tables(), postgres.QueueSchema+".river_job")
	if len(others) > 0 {
		tables = append(tables, s.others.Tables()...)
	}
	slices.Sort(tables)
	if err := owner.vacuum(ctx, slices.Compact(tables)); err != nil {
		return 0, err
	}
	for _, one := range others {
		if err := s.others.Settle(ctx, one, user.LiveComplete); err != nil {
			return 0, err
		}
	}
	for len(ready) > 0 {
		some, err := s.settle(ctx, ready, user.LiveComplete)
		seen.next = math.MaxInt64 // what is read from here on may have been erased after the look
		settled += some
		if err != nil {
			return settled, err
		}
		if pending, err = s.users.Unsettled(ctx, user.Pending, page); err != nil {
			return settled, err
		}
		if ready = seen.behind(pending); some == 0 {
			break // somebody else has settled them, and they were read before that
		}
	}
	return settled, nil
}

// settle brings receipts to their next state, customer by customer, and tells how many.
func (s *Service) settle(ctx context.Context, receipts []user.Unsettled, next user.ReceiptState) (settled int64, err error) {
	err = byCustomer(receipts, func(of id.Customer, some []id.Receipt) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		count, err := s.users.Settle(ctx, of, some, next)
		settled += count
		return err
	})
	return settled, err
}

// byCustomer hands receipts over, those of one customer together, in portions that fit in one transaction.
func byCustomer(receipts []user.Unsettled, do func(of id.Customer, some []id.Receipt) error) error {
	grouped := make(map[id.Customer][]id.Receipt)
	var order []id.Customer
	for _, one := range receipts {
		if grouped[one.Customer] == nil {
			order = append(order, one.Customer)
		}
		grouped[one.Customer] = append(grouped[one.Customer], one.ID)
	}
	for _, of := range order {
		for all := grouped[of]; len(all) > 0; {
			some := all[:min(together, len(all))]
			if err := do(of, some); err != nil {
				return err
			}
			all = all[len(some):]
		}
	}
	return nil
}

// signOld signs receipts that have no signature.
func (s *Service) signOld(ctx context.Context) error {
	for {
		unsigned, err := s.users.Unsigned(ctx, page)
		if err != nil || len(unsigned) == 0 {
			return err
		}
		if err := byCustomer(unsigned, func(of id.Customer, some []id.Receipt) error { return s.users.SignFirst(ctx, of, some) }); err != nil {
			return err
		}
		if len(unsigned) < page || ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// Finish brings receipts, and the other erasures, from live-complete to final that no backup is left for, and tells how many receipts. What counts is what lies in the store.
func (s *Service) Finish(ctx context.Context) (settled int64, err error) {
	if err := s.finishOthers(ctx); err != nil {
		return 0, err
	}
	for {
		waiting, err := s.users.Unsettled(ctx, user.LiveComplete, page)
		if err != nil || len(waiting) == 0 {
			return settled, err
		}
		earliest, err := s.backups.Earliest(ctx)
		if err != nil {
			return settled, err
		}
		var over []user.Unsettled
		for _, one := range waiting {
			if earliest == nil || !backup.MayHold(*earliest, one.ErasedAt) {
				over = append(over, one)
			}
		}
		some, err := s.settle(ctx, over, user.Final)
		if settled += some; err != nil || some == 0 || len(over) < page {
			return settled, err
		}
	}
}

func (s *Service) finishOthers(ctx context.Context) error {
	waiting, err := s.others.Unsettled(ctx, user.LiveComplete, page)
	if err != nil || len(waiting) == 0 {
		return err
	}
	earliest, err := s.backups.Earliest(ctx)
	if err != nil {
		return err
	}
	for _, one := range waiting {
		if earliest != nil && backup.MayHold(*earliest, one.ErasedAt) {
			break // those behind it were erased later
		}
		if err := s.others.Settle(ctx, one, user.Final); err != nil {
			return err
		}
	}
	return nil
}
