package user

import (
	"github.com/fusionspim/steward/internal/account/customer"
	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/record/audit"
)

// Candidate is one of many people who are to get accounts, checked and brought to the form in which people are kept.
type Candidate struct {
	person
	roleGiven   bool
	allowErased bool
}

// NewCandidate checks somebody. With allowErased the person gets an account although somebody with the address was erased.
// Faults: InvalidName, InvalidEmail.
func NewCandidate(in New, allowErased bool) (Candidate, error) {
	person, err := in.clean()
	return Candidate{person: person, roleGiven: in.Role != "", allowErased: allowErased}, err
}

// AddressKey is the form of the address in which addresses are compared.
func (c Candidate) AddressKey() string { return c.address.Key }

// Verdict is what became of a candidate.
type Verdict struct {
	Status  VerdictStatus
	User    id.User // who was made or was there; zero otherwise
	Despite bool    // made although somebody with the address was erased
	Refusal fault.Code
}

// VerdictStatus is the kind of a verdict. The set is closed.
type VerdictStatus string

// The kinds of verdicts.
const (
	Made      VerdictStatus = "made"
	WouldMake VerdictStatus = "would_make" // were this not a rehearsal
	There     VerdictStatus = "there"      // there already, the same
	NotTaken  VerdictStatus = "not_taken"  // Refusal is ForeignMailDomain, UserDiffers or AddressSuppressed
)

// Manner says how candidates become users.
type Manner struct {
	Rehearse bool // judge, and change nothing
	Invite   bool // invite those who are made
}

// CreateManyTx makes users of candidates, no two of whom have the same address, and tells of each in order what became of it. Who is not taken does not stand in the
// way of the others. It takes a few round trips, however many there are.
//
// It holds the customer's lock, as an erasure does. So of a person who is being erased at this moment either the account is seen or the mark of it, and two
// who import the same people do so in turn.
func (s *Service) CreateManyTx(tx *postgres.Tx, caller principal.Principal, candidates []Candidate, manner Manner) ([]Verdict, error) {
	if err := customer.LockTx(tx); err != nil {
		return nil, err
	}
	if err := lookUpByKeys(tx); err != nil {
		return nil, err
	}
	verdicts := make([]Verdict, len(candidates))
	open := make([]int, len(candidates))
	for i := range open {
		open[i] = i
	}
	// Somebody who is created one by one at this moment stands in the way without being seen. The next look, which is a statement of its own, sees who it is.
	for range 3 {
		if len(open) == 0 {
			break
		}
		var err error
		if open, err = s.insertMany(tx, candidates, open, verdicts, manner.Rehearse); err != nil {
			return nil, err
		}
	}
	if len(open) > 0 {
		return nil, fault.New(fault.ServiceUnavailable, "Others are changing the same users at this moment. Try again.")
	}
	var made []id.User
	var targets, returned []audit.Target
	for _, verdict := range verdicts {
		if verdict.Status != Made {
			continue
		}
		made, targets = append(made, verdict.User), append(targets, audit.OnUser(verdict.User))
		if verdict.Despite {
			returned = append(returned, audit.OnUser(verdict.User))
		}
	}
	if err := audit.AppendEachTx(tx, audit.Act{Caller: caller, Action: audit.UserCreated}, targets); err != nil {
		return nil, err
	}
	if err := audit.AppendEachTx(tx, audit.Act{Caller: caller, Action: audit.UserRecreated}, returned); err != nil {
		return nil, err
	}
	if !manner.Invite || len(made) == 0 {
		return verdicts, nil
	}
	return verdicts, s.invite(tx, made...)
}
