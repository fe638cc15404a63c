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

// Concurrent imports of one replica, and of one customer on it.
const (
	maxAtOnce         = 8
	maxAtOnceCustomer = 2
)

// Service implements the import use cases. Safe for concurrent use.
type Service struct {
	db    *postgres.DB
	users *user.Service

	mutex   sync.Mutex
	running map[id.Customer]int
	all     int
	closed  bool
}

// NewService returns the service.
func NewService(db *postgres.DB, users *user.Service) *Service {
	return &Service{db: db, users: users, running: make(map[id.Customer]int)}
}

// Close ends running imports after their current batch, and starts no more.
func (s *Service) Close() {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.closed = true
}

// goOn fails once the service is closing.
func (s *Service) goOn() error {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if !s.closed {
		return nil
	}
	f := fault.New(
		fault.ServiceUnavailable,
		"This replica of the service is being stopped. Send the file again in a moment: what was done stays as it is.",
	)
	f.RetryAfter = 2 * time.Second
	return f
}

// Key is the stored part of an Idempotency-Key.
type Key struct {
	Hash        []byte
	Fingerprint func(sum []byte) []byte // of the request, from the hash of its body
}

// File is the input of an import.
type File struct {
	Body io.Reader
	// Attend is called before each batch. Its error interrupts the import.
	Attend func() error
	Key    *Key // nil: none
}

// Outcome is the result of Create.
type Outcome struct {
	Import   Import
	Refused  []Row // the first ones, and one more if there are more
	Replayed bool  // an earlier import with the same key
}

// Create runs an import, and returns it with the first of its refused rows.
//
// Faults before anything is done: MalformedRequest for a file that cannot be parsed,
// ServiceUnavailable when too many imports run, and those of the key. With any later fault, Import
// is set: what was committed before stays.
func (s *Service) Create(
	ctx context.Context,
	caller principal.Principal,
	order Order,
	file File,
	limit int,
) (Outcome, error) {
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
	err = s.db.InCustomerAutocommit(
		ctx,
		caller.Customer,
		func(tx *postgres.Tx) error { return complete(tx, begun.ID, fingerprint) },
	)
	if err != nil {
		return Outcome{}, s.interrupt(ctx, caller, begun, err)
	}
	return s.outcome(ctx, caller, begun.ID, limit)
}

// enter takes one of the slots of running imports.
func (s *Service) enter(of id.Customer) (leave func(), err error) {
	if err := s.goOn(); err != nil {
		return nil, err
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.all >= maxAtOnce || s.running[of] >= maxAtOnceCustomer {
		f := fault.New(
			fault.ServiceUnavailable,
			"As many imports are under way as are carried out at once. Try again when one is done.",
		)
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

// begin records that an import runs, or returns the earlier one with the same key.
func (s *Service) begin(
	ctx context.Context,
	caller principal.Principal,
	order Order,
	key *Key,
) (begun Import, before *kept, err error) {
	err = s.db.InCustomer(ctx, caller.Customer, func(tx *postgres.Tx) (err error) {
		begun, before, err = begin(tx, caller, order, key)
		return err
	})
	return begun, before, err
}

// replay returns the first import, as it is now, for a repeated request.
func (s *Service) replay(
	ctx context.Context,
	caller principal.Principal,
	before kept,
	file File,
	rows source,
	sum func() []byte,
	limit int,
) (Outcome, error) {
	if before.fingerprint == nil {
		return Outcome{}, fault.New(
			fault.IdempotencyErased,
			"Somebody whom the import with this key told of was erased. Use a new key for a new import.",
		)
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
func (s *Service) outcome(
	ctx context.Context,
	caller principal.Principal,
	one id.Import,
	limit int,
) (out Outcome, err error) {
	out.Import, out.Refused, err = s.Get(ctx, caller, one, Refused, 0, limit)
	return out, err
}

// carryOut processes the rows of a file, batch by batch.
func (s *Service) carryOut(
	ctx context.Context,
	caller principal.Principal,
	begun Import,
	file File,
	rows source,
	first read,
) error {
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
			end = fault.New(
				fault.BodyTooLarge,
				"The file has more than 100,000 rows. The rows up to there were carried out; send the others as another file.",
			)
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

// add creates the users of a batch in one transaction.
func (s *Service) add(
	ctx context.Context,
	caller principal.Principal,
	begun Import,
	batch []read,
	seen map[[16]byte]struct{},
) error {
	var candidates []user.Candidate
	var of []int // the row of each user
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
		verdicts, err := s.users.CreateManyTx(
			tx,
			caller,
			candidates,
			user.BatchOptions{DryRun: begun.DryRun, Invite: begun.Invite},
		)
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

// mark adds a key, and reports whether it was there.
func mark(seen map[[16]byte]struct{}, key [16]byte) bool {
	_, there := seen[key]
	seen[key] = struct{}{}
	return there
}

// settle records the outcome of a row's user. It runs again if the transaction is retried.
func (r *read) settle(verdict user.Verdict) {
	r.Row = Row{Number: r.Number, Line: r.Line}
	if !verdict.User.IsZero() {
		r.User = &verdict.User
	}
	switch verdict.Status {
	case user.Created:
		r.Status = Created
	case user.WouldCreate:
		r.Status = WouldCreate
	case user.Exists:
		r.Status = Existing
	case user.Rejected:
		r.refuse(reasonOf(verdict.Refusal))
	}
}

// interrupt records that an import ended early, if that can be recorded, and points the caller to
// what was done.
func (s *Service) interrupt(ctx context.Context, caller principal.Principal, begun Import, cause error) error {
	var known *fault.Fault
	code := fault.InternalError
	if errors.As(cause, &known) {
		code = known.Code
		told := *known
		told.Import = Path(begun.ID)
		cause = &told
	}
	// Without the database, the import's silence says the same after a while.
	_ = s.db.InCustomerAutocommit(ctx, caller.Customer, func(tx *postgres.Tx) error { return stop(tx, begun.ID, code) })
	return cause
}

// Get returns an import of the caller's customer, and at most limit of its rows after a number, of
// one status or, if it is empty, of all. Fault: ResourceNotFound.
func (s *Service) Get(
	ctx context.Context,
	caller principal.Principal,
	one id.Import,
	status Status,
	behind, limit int,
) (found Import, rows []Row, err error) {
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
