package user

import (
	"github.com/fusionspim/steward/internal/account/customer"
	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/record/audit"
)

// Candidate is a person to create an account for, with many others; checked and normalised.
type Candidate struct {
	person
	roleGiven   bool
	allowErased bool
}

// NewCandidate checks and normalises a person. With allowErased, the account is created even if a
// user with the same address was erased. Faults: InvalidName, InvalidEmail.
func NewCandidate(in New, allowErased bool) (Candidate, error) {
	person, err := in.clean()
	return Candidate{person: person, roleGiven: in.Role != "", allowErased: allowErased}, err
}

// AddressKey is the key by which the address is compared.
func (c Candidate) AddressKey() string { return c.address.Key }

// Verdict is the result of a candidate.
type Verdict struct {
	Status    VerdictStatus
	User      id.User // created or existing; zero otherwise
	WasErased bool    // created although a user with the same address was erased
	Refusal   fault.Code
}

// VerdictStatus is the kind of a verdict. The set is closed.
type VerdictStatus string

// The kinds of verdicts.
const (
	Created     VerdictStatus = "created"
	WouldCreate VerdictStatus = "would_create" // in a dry run
	Exists      VerdictStatus = "exists"       // with the same names and, if given, role
	// Refusal is ForeignMailDomain, UserDiffers or AddressSuppressed
	Rejected VerdictStatus = "rejected"
)

// BatchOptions are those of CreateManyTx.
type BatchOptions struct {
	DryRun bool // return verdicts and change nothing
	Invite bool // invite the users who are created
}

// CreateManyTx creates users from candidates, whose addresses must be distinct, and returns the
// verdict on each, in order. A rejected candidate does not affect the others. The number of round
// trips does not depend on the number of candidates. Fault: ServiceUnavailable, if other
// transactions keep creating the same users.
//
// It locks the customer, as an erasure does. So it sees either the account of a user who is being
// erased or the suppressed address, and two imports of the same people run one after the other.
func (s *Service) CreateManyTx(
	tx *postgres.Tx,
	caller principal.Principal,
	candidates []Candidate,
	options BatchOptions,
) ([]Verdict, error) {
	if err := customer.LockTx(tx); err != nil {
		return nil, err
	}
	if err := preferIndexes(tx); err != nil {
		return nil, err
	}
	verdicts := make([]Verdict, len(candidates))
	open := make([]int, len(candidates))
	for i := range open {
		open[i] = i
	}
	// A user whom another transaction creates meanwhile conflicts before this statement can see the
	// row. The next statement sees it.
	for range 3 {
		if len(open) == 0 {
			break
		}
		var err error
		if open, err = s.insertMany(tx, candidates, open, verdicts, options.DryRun); err != nil {
			return nil, err
		}
	}
	if len(open) > 0 {
		return nil, fault.New(fault.ServiceUnavailable, "Others are changing the same users at this moment. Try again.")
	}
	var created []id.User
	var targets, recreated []audit.Target
	for _, verdict := range verdicts {
		if verdict.Status != Created {
			continue
		}
		created, targets = append(created, verdict.User), append(targets, audit.OnUser(verdict.User))
		if verdict.WasErased {
			recreated = append(recreated, audit.OnUser(verdict.User))
		}
	}
	if err := audit.AppendEachTx(tx, audit.Act{Caller: caller, Action: audit.UserCreated}, targets); err != nil {
		return nil, err
	}
	if err := audit.AppendEachTx(tx, audit.Act{Caller: caller, Action: audit.UserRecreated}, recreated); err != nil {
		return nil, err
	}
	if !options.Invite || len(created) == 0 {
		return verdicts, nil
	}
	return verdicts, s.invite(tx, created...)
}
