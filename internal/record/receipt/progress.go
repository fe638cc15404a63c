package receipt

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/record/backup"
)

const (
	page        = 1000             // erasures read at a time
	batch       = 200              // receipts signed in one transaction
	vacuumLimit = 30 * time.Minute // for one run over all tables
	pauseFactor = 4                // times as long as a run took, nothing is vacuumed after it
	afterError  = 30 * time.Second
)

// Tend is Advance, unless it pauses after the last time: vacuuming takes a fifth of the time at
// most.
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
	s.pause = time.Now().Add(pauseFactor * time.Since(began))
	if err != nil {
		s.pause = time.Now().Add(afterError)
	}
	return err
}

// ready are erasures of one kind that can become live-complete.
type ready struct {
	kind
	erasures []Unsettled
}

// Advance brings erasures from pending to live-complete that nothing can see behind any more, all
// of them after one VACUUM, and returns how many. One replica at a time does so. It also signs
// receipts that are older than signatures are.
func (s *Service) Advance(ctx context.Context) (settled int64, err error) {
	if err := s.signOld(ctx); err != nil || s.Maintenance.IsEmpty() {
		return 0, err
	}
	var pending []ready
	for _, kind := range s.kinds {
		found, err := kind.Unsettled(ctx, Pending, page)
		if err != nil {
			return 0, err
		}
		if len(found) > 0 {
			pending = append(pending, ready{kind, found})
		}
	}
	if len(pending) == 0 {
		return 0, nil
	}
	owner, err := connect(ctx, s.Maintenance)
	if err != nil {
		return 0, err
	}
	defer owner.close()
	if locked, err := owner.lock(ctx); err != nil || !locked {
		return 0, err
	}
	if err := s.sameDatabase(ctx, owner); err != nil {
		return 0, err
	}
	seen, err := owner.horizon(ctx)
	if err != nil {
		return 0, err
	}
	tables := slices.Clone(s.PeopleTables)
	pending = slices.DeleteFunc(pending, func(of ready) bool { return len(seen.behind(of.erasures)) == 0 })
	for _, of := range pending {
		tables = append(tables, of.tables...)
	}
	if len(pending) == 0 {
		return 0, nil
	}
	slices.Sort(tables)
	if err := owner.vacuum(ctx, slices.Compact(tables)); err != nil {
		return 0, err
	}
	for _, of := range pending {
		count, err := of.complete(ctx, seen)
		if settled += count; err != nil {
			return settled, err
		}
	}
	return settled, nil
}

// complete brings erasures to live-complete that were behind the horizon before the VACUUM, and
// returns how many.
func (r ready) complete(ctx context.Context, seen horizon) (settled int64, err error) {
	for behind := seen.behind(r.erasures); len(behind) > 0; {
		count, err := settle(ctx, r.kind, behind, LiveComplete)
		settled += count
		if err != nil {
			return settled, err
		}
		// what is read from here on may have been erased after the horizon was read
		seen.next = math.MaxInt64
		pending, err := r.Unsettled(ctx, Pending, page)
		if err != nil || count == 0 {
			// with none, another replica has settled them, and they were read before that
			return settled, err
		}
		behind = seen.behind(pending)
	}
	return settled, nil
}

// Finish brings erasures from live-complete to final that no backup is left for, and returns how
// many. What counts is what lies in the store of backups.
func (s *Service) Finish(ctx context.Context) (settled int64, err error) {
	for _, kind := range s.kinds {
		count, err := s.finish(ctx, kind)
		if settled += count; err != nil {
			return settled, err
		}
	}
	return settled, nil
}

func (s *Service) finish(ctx context.Context, kind kind) (settled int64, err error) {
	for {
		waiting, err := kind.Unsettled(ctx, LiveComplete, page)
		if err != nil || len(waiting) == 0 {
			return settled, err
		}
		earliest, err := s.Backups.Earliest(ctx)
		if err != nil {
			return settled, err
		}
		done := slices.DeleteFunc(waiting, func(e Unsettled) bool {
			return earliest != nil && backup.MayHold(*earliest, e.ErasedAt)
		})
		count, err := settle(ctx, kind, done, Final)
		if settled += count; err != nil || count == 0 || len(done) < page {
			return settled, err
		}
	}
}

// signOld signs receipts that have no signature.
func (s *Service) signOld(ctx context.Context) error {
	for {
		found, err := postgres.Platform(ctx, s.DB, func(tx *postgres.Tx) ([]Unsettled, error) {
			return unsigned(tx, page)
		})
		if err != nil || len(found) == 0 {
			return err
		}
		err = byCustomer(found, func(of id.Customer, some []uuid.UUID) error {
			return people{s.DB, s.Issuer}.signFirst(ctx, of, some)
		})
		if err != nil {
			return err
		}
		if len(found) < page || ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// settle brings erasures to their next state, customer by customer, and returns how many.
func settle(ctx context.Context, of Erasures, erasures []Unsettled, next State) (settled int64, err error) {
	err = byCustomer(erasures, func(customer id.Customer, some []uuid.UUID) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		count, err := of.Settle(ctx, customer, some, next)
		settled += count
		return err
	})
	return settled, err
}

// byCustomer hands erasures over, those of one customer together, in batches that fit in one
// transaction.
func byCustomer(erasures []Unsettled, do func(of id.Customer, some []uuid.UUID) error) error {
	grouped := make(map[id.Customer][]uuid.UUID)
	var order []id.Customer
	for _, e := range erasures {
		if grouped[e.Customer] == nil {
			order = append(order, e.Customer)
		}
		grouped[e.Customer] = append(grouped[e.Customer], e.ID)
	}
	for _, of := range order {
		for some := range slices.Chunk(grouped[of], batch) {
			if err := do(of, some); err != nil {
				return err
			}
		}
	}
	return nil
}
