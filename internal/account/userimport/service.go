package userimport

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/fusionspim/steward/internal/account/user"
	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/infra/idempotency"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

// How many imports a replica carries out at once, and of one customer.
const (
	maxAtOnce         = 8
	maxAtOnceCustomer = 2
)

// Service is imports as callers use them. Safe for concurrent use.
type Service struct {
	db    *postgres.DB
	users *user.Service

	mutex   sync.Mutex
	running map[id.Customer]int
	all     int
	closed  bool
}

// NewService makes the service.
func NewService(db *postgres.DB, users *user.Service) *Service {
	return &Service{db: db, users: users, running: make(map[id.Customer]int)}
}

// Close has imports under way end behind their present batch, and begins no more.
func (s *Service) Close() {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.closed = true
}

// goOn tells whether the service is to end.
func (s *Service) goOn() error {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if !s.closed {
		return nil
	}
	f := fault.New(fault.ServiceUnavailable, "This replica of the service is being stopped. Send the file again in a moment: what was done stays as it is.")
	f.RetryAfter = 2 * time.Second
	return f
}

// Key is an Idempotency-Key as far as it is kept.
type Key struct {
	Hash        []byte
	Fingerprint func(sum []byte) []byte // of the request, from the sum of its body
}

// File is what an import is made of.
type File struct {
	Body io.Reader
	// Attend is called before each batch. Its error ends the import.
	Attend func() error
	Key    *Key // nil: none
}

// Outcome is what became of an order.
type Outcome struct {
	Import   Import
	Refused  []Row // the first ones, one more than was asked for if there are more
	Replayed bool  // it was done before, for the same key
}

// Create carries out an import, and returns it with the first of its refused rows.
//
// Faults before anything is done: MalformedRequest for a file that is none, ServiceUnavailable when too many are under way, and those of a key. Any fault that
// comes later has Import set: what was done before it is kept.
func (s *Service) Create(ctx context.Context, caller principal.Principal, order Order, file File, limit int) (Outcome, error) {
	done, err := s.enter(caller.Customer)
	if err != nil {
		return Outcome{}, err
	}
	defer done()
	if err := file.Attend(); err != nil {
		return Outcome{}, err
	}
	sum := sha256.New()
	rows, err := open(order.Format, io.TeeReader(file.Body, sum))
	if err != nil {
		return Outcome{}, err
	}
	first, err := rows.next()
	if errors.Is(err, io.EOF) {
		return Outcome{}, fault.New(fault.MalformedRequest, "The file has no rows.")
	} else if err != nil {
		return Outcome{}, err
	}
	begun, before, err := s.begin(ctx, caller, order, file.Key)
	if err != nil {
		return Outcome{}, err
	}
	if before != nil {
		return s.replay(ctx, caller, *before, file, rows, func() []byte { return sum.Sum(nil) }, limit)
	}
	if err := s.carryOut(ctx, caller, begun, file, rows, first); err != nil {
		return Outcome{}, s.interrupt(ctx, caller, begun, err)
	}
	var fingerprint []byte
	if file.Key != nil {
		fingerprint = file.Key.Fingerprint(sum.Sum(nil))
	}
	err = s.db.InCustomerAutocommit(ctx, caller.Customer, func(tx *postgres.Tx) error { return complete(tx, begun.ID, fingerprint) })
	if err != nil {
		return Outcome{}, s.interrupt(ctx, caller, begun, err)
	}
	return s.outcome(ctx, caller, begun.ID, limit)
}

// enter takes one of the places of imports under way.
func (s *Service) enter(of id.Customer) (leave func(), err error) {
	if err := s.goOn(); err != nil {
		return nil, err
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.all >= maxAtOnce || s.running[of] >= maxAtOnceCustomer {
		f := fault.New(fault.ServiceUnavailable, "As many imports are under way as are carried out at once. Try again when one is done.")
		f.RetryAfter = 5 * time.Second
		return nil, f
	}
	s.all++
	s.running[of]++
	return func() {
		s.mutex.Lock()
		defer s.mutex.Unlock()
		s.all--
		if s.running[of]--; s.running[of] == 0 {
			delete(s.running, of)
		}
	}, nil
}

// begin writes down that an import is under way, or finds the one that was done for the same key.
func (s *Service) begin(ctx context.Context, caller principal.Principal, order Order, key *Key) (begun Import, before *kept, err error) {
	err = s.db.InCustomer(ctx, caller.Customer, func(tx *postgres.Tx) (err error) {
		begun, before, err = begin(tx, caller, order, key)
		return err
	})
	return begun, before, err
}

// replay answers a repetition with the first import as it is now.
func (s *Service) replay(ctx context.Context, caller principal.Principal, before kept, file File, rows source, sum func() []byte, limit int) (Outcome, error) {
	if before.fingerprint == nil {
		return Outcome{}, fault.New(fault.IdempotencyErased, "Somebody whom the import with this key told of was erased. Use a new key for a new import.")
	}
	for at := 0; ; at++ {
		if at%batchRows == 0 {
			if err := file.Attend(); err != nil {
				return Outcome{}, err
			}
		}
		if _, err := rows.next(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return Outcome{}, err
		}
	}
	if !bytes.Equal(before.fingerprint, file.Key.Fingerprint(sum())) {
		return Outcome{}, fault.New(fault.IdempotencyKeyReused, "Another import was made with this key. Make a new key for each new one.").
			At("header Idempotency-Key", "stands for another request")
	}
	outcome, err := s.outcome(ctx, caller, before.id, limit)
	outcome.Replayed = true
	return outcome, err
}

// outcome reads an import with the first of its refused rows.
func (s *Service) outcome(ctx context.Context, caller principal.Principal, one id.Import, limit int) (out Outcome, err error) {
	out.Import, out.Refused, err = s.Get(ctx, caller, one, Refused, 0, limit)
	return out, err
}

// carryOut goes through the rows of a file, batch by batch.
func (s *Service) carryOut(ctx context.Context, caller principal.Principal, begun Import, file File, rows source, first read) error {
	seen := make(map[[16]byte]struct{})
	batch := make([]read, 0, batchRows)
	batch = append(batch, first)
	for {
		var end error
		for len(batch) < batchRows && end == nil {
			var row read
			if row, end = rows.next(); end == nil {
				batch = append(batch, row)
			}
		}
		if last := len(batch) - 1; last >= 0 && batch[last].Number > MaxRows {
			batch = batch[:last-(batch[last].Number-MaxRows)+1]
			end = fault.New(fault.BodyTooLarge, "The file has more than 100,000 rows. The rows up to there were carried out; send the others as another file.")
		}
		if len(batch) > 0 {
			if err := s.add(ctx, caller, begun, batch, seen); err != nil {
				return err
			}
		}
		if errors.Is(end, io.EOF) {
			return nil
		} else if end != nil {
			return end
		}
		if err := errors.Join(s.goOn(), file.Attend()); err != nil {
			return err
		}
		batch = batch[:0]
	}
}

// add judges the rows of a batch and carries the good ones out, in one transaction.
func (s *Service) add(ctx context.Context, caller principal.Principal, begun Import, batch []read, seen map[[16]byte]struct{}) error {
	var candidates []user.Candidate
	var of []int // which row each is of
	for i := range batch {
		row := &batch[i]
		if row.Status == Refused {
			continue
		}
		candidate, err := user.NewCandidate(row.person, row.allowErased)
		var wrong *fault.Fault
		if errors.As(err, &wrong) {
			reason, pointer := reasonOf(wrong.Code)
			if len(wrong.Members) > 0 {
				pointer = wrong.Members[0].Pointer
			}
			row.refuse(reason, pointer)
			continue
		} else if err != nil {
			return err
		}
		sum := sha256.Sum256([]byte(candidate.AddressKey()))
		if key := [16]byte(sum[:]); mark(seen, key) {
			row.refuse(duplicate, "/email")
			continue
		}
		candidates, of = append(candidates, candidate), append(of, i)
	}
	return s.db.InCustomer(ctx, caller.Customer, func(tx *postgres.Tx) error {
		verdicts, err := s.users.CreateManyTx(tx, caller, candidates, user.Manner{Rehearse: begun.DryRun, Invite: begun.Invite})
		if err != nil {
			return err
		}
		for i, verdict := range verdicts {
			batch[of[i]].settle(verdict)
		}
		outcomes := make([]Row, len(batch))
		var counts Counts
		for i, row := range batch {
			outcomes[i] = row.Row
			counts.add(row.Status)
		}
		return record(tx, begun.ID, outcomes, counts)
	})
}

// mark adds a key, and tells whether it was there.
func mark(seen map[[16]byte]struct{}, key [16]byte) bool {
	_, there := seen[key]
	seen[key] = struct{}{}
	return there
}

// settle takes over what became of the row's person. It is done anew when the transaction is.
func (r *read) settle(verdict user.Verdict) {
	r.Row = Row{Number: r.Number, Line: r.Line}
	if !verdict.User.IsZero() {
		r.User = &verdict.User
	}
	switch verdict.Status {
	case user.Made:
		r.Status = Created
	case user.WouldMake:
		r.Status = WouldCreate
	case user.There:
		r.Status = Existing
	case user.NotTaken:
		r.refuse(reasonOf(verdict.Refusal))
	}
}

// interrupt writes down that an import has ended early, as far as that can be written, and says where what was done can be seen.
func (s *Service) interrupt(ctx context.Context, caller principal.Principal, begun Import, cause error) error {
	var known *fault.Fault
	code := fault.InternalError
	if errors.As(cause, &known) {
		code = known.Code
		told := *known
		told.Import = Path(begun.ID)
		cause = &told
	}
	// Where the database is away, the silence of the import says the same after a while.
	_ = s.db.InCustomerAutocommit(ctx, caller.Customer, func(tx *postgres.Tx) error { return stop(tx, begun.ID, code) })
	return cause
}

// Get returns an import of the caller's customer and its rows in their order: those behind a number, at most limit, and of one status unless that is empty.
// Fault: ResourceNotFound.
func (s *Service) Get(ctx context.Context, caller principal.Principal, one id.Import, status Status, behind, limit int) (found Import, rows []Row, err error) {
	err = s.db.InCustomerAutocommit(ctx, caller.Customer, func(tx *postgres.Tx) error {
		if found, err = get(tx, one); err != nil {
			return err
		}
		rows, err = list(tx, one, status, behind, limit)
		return err
	})
	return found, rows, err
}

// keyLifetime is how long a key stands for its import.
const keyLifetime = idempotency.Lifetime
