// Package secondfactor is the one-time code beside the password.
//
// Owns: authenticators (TOTP, RFC 6238) and recovery codes of people: setting up, confirming,
// using, replacing, giving up, and an administrator's taking a lost one off somebody. Whether
// somebody must have one.
// Does not own: what a code looks like (totp), and signing in (session), which asks here.
//
// An authenticator counts once a code of it was confirmed. Each code is good once: the time step of
// the newest one that was used is kept, and only later ones are taken.
package secondfactor

import (
	"context"
	"time"

	"github.com/fusionspim/steward/internal/account/customer"
	"github.com/fusionspim/steward/internal/account/user"
	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/base/sensitive"
	"github.com/fusionspim/steward/internal/infra/idempotency"
	"github.com/fusionspim/steward/internal/infra/password"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/infra/seal"
	"github.com/fusionspim/steward/internal/infra/totp"
	"github.com/fusionspim/steward/internal/record/audit"
	"github.com/fusionspim/steward/internal/record/ledger"
)

// issuer is what an authenticator shows above the account.
const issuer = "Steward"

// sealLabel keeps the boxes of authenticators' secrets apart from all others.
const sealLabel = "second factor"

// State is what a person sees of the own second factor.
type State struct {
	Enrolled          bool
	Required          bool
	ConfirmedAt       *time.Time
	RecoveryCodesLeft int32
}

// Enrolment is an authenticator that is not confirmed yet.
type Enrolment struct {
	Secret sensitive.String
	URI    sensitive.String
}

// Service is second factors as callers use them. Safe for concurrent use.
type Service struct {
	db        *postgres.DB
	box       *seal.Box
	hasher    *password.Hasher
	ledger    *ledger.Ledger
	operators bool // whether operators must have one
	endOthers func(tx *postgres.Tx, caller principal.Principal) error
}

// NewService makes the service. Confirming a second factor calls endOthers, which ends the caller's
// other sessions (package session has it).
func NewService(db *postgres.DB, box *seal.Box, hasher *password.Hasher, ledger *ledger.Ledger, operatorsMust bool,
	endOthers func(tx *postgres.Tx, caller principal.Principal) error,
) *Service {
	return &Service{db: db, box: box, hasher: hasher, ledger: ledger, operators: operatorsMust, endOthers: endOthers}
}

// OperatorsMust tells whether operators must have a second factor.
func (s *Service) OperatorsMust() bool { return s.operators }

func wrongCode() error {
	return fault.New(fault.OneTimeCodeWrong, "The code is wrong, or it was used before. Take the next one.").
		At("/one_time_code", "is wrong")
}

func none() error {
	return fault.New(fault.SecondFactorMissing, "There is no second factor. Set one up first.")
}

// Get returns the state of the caller's second factor.
func (s *Service) Get(ctx context.Context, caller principal.Principal) (state State, err error) {
	err = s.db.InCustomerAutocommit(ctx, caller.Customer, func(tx *postgres.Tx) error {
		state, err = read(tx, caller.User, s.operators)
		return err
	})
	return state, err
}

// Enrol makes a secret that counts once it is confirmed. It takes the password, so that somebody
// who found an open session cannot lock its owner out. Faults: CurrentPasswordWrong,
// SecondFactorExists.
func (s *Service) Enrol(
	ctx context.Context,
	caller principal.Principal,
	current sensitive.String,
	once *idempotency.Once[Enrolment],
) (out Enrolment, err error) {
	var account user.Credentials
	var label string
	err = s.db.InCustomer(ctx, caller.Customer, func(tx *postgres.Tx) error {
		var known bool
		if account, known, err = user.CredentialsTx(tx, caller.User); err == nil && !known {
			return fault.New(fault.Unauthorized, "The session has ended. Sign in again.")
		}
		if err != nil {
			return err
		}
		of, err := customer.GetTx(tx)
		// The label is kept by the authenticator, outside the reach of any erasure: it names the
		// customer and not the person.
		label = of.Slug
		return err
	})
	if err != nil {
		return Enrolment{}, err
	}
	right, _, err := s.hasher.Verify(ctx, account.PasswordHash, current)
	if err != nil {
		return Enrolment{}, err
	}
	if !right {
		return Enrolment{}, fault.New(fault.CurrentPasswordWrong, "The current password is wrong. Nothing was changed.").
			At("/current_password", "is wrong")
	}
	err = s.db.InCustomer(ctx, caller.Customer, func(tx *postgres.Tx) error {
		out, err = once.Do(tx, func() (Enrolment, id.User, error) {
			secret := totp.NewSecret()
			uri, err := totp.URI(secret, issuer, label)
			if err != nil {
				return Enrolment{}, id.User{}, err
			}
			begun, err := begin(tx, caller.User, s.box.Seal(sealLabel, []byte(secret.Reveal()), caller.User.UUID[:]))
			if err == nil && !begun {
				err = fault.New(
					fault.SecondFactorExists,
					"There is a second factor already. Give it up before you set up another.",
				)
			}
			return Enrolment{Secret: secret, URI: uri}, caller.User, err
		})
		return err
	})
	return out, err
}

// Confirm makes the authenticator count and returns the recovery codes. The caller's other
// sessions, which never showed a code, end. Faults: OneTimeCodeWrong, SecondFactorMissing,
// SecondFactorExists.
func (s *Service) Confirm(
	ctx context.Context,
	caller principal.Principal,
	code string,
	once *idempotency.Once[[]sensitive.String],
) (codes []sensitive.String, err error) {
	err = s.db.InCustomer(ctx, caller.Customer, func(tx *postgres.Tx) error {
		codes, err = once.Do(tx, func() ([]sensitive.String, id.User, error) {
			held, err := lock(tx, caller.User)
			switch {
			case err != nil:
				return nil, id.User{}, err
			case held == nil:
				return nil, id.User{}, none()
			case held.confirmed:
				return nil, id.User{}, fault.New(fault.SecondFactorExists, "The second factor is confirmed already.")
			}
			right, err := s.use(tx, held, caller.User, code)
			if err != nil {
				return nil, id.User{}, err
			}
			if !right {
				return nil, id.User{}, wrongCode()
			}
			if err := confirm(tx, caller.User); err != nil {
				return nil, id.User{}, err
			}
			fresh, err := s.newCodes(tx, caller.User)
			if err != nil {
				return nil, id.User{}, err
			}
			if err := s.endOthers(tx, caller); err != nil {
				return nil, id.User{}, err
			}
			return fresh, caller.User, s.record(tx, caller, caller.User, audit.SecondFactorAdded)
		})
		return err
	})
	return codes, err
}

// ReplaceCodes makes new recovery codes in place of the old ones. Faults: OneTimeCodeWrong,
// SecondFactorMissing.
func (s *Service) ReplaceCodes(
	ctx context.Context,
	caller principal.Principal,
	code string,
	once *idempotency.Once[[]sensitive.String],
) (codes []sensitive.String, err error) {
	err = s.db.InCustomer(ctx, caller.Customer, func(tx *postgres.Tx) error {
		codes, err = once.Do(tx, func() ([]sensitive.String, id.User, error) {
			if err := s.prove(tx, caller.User, code); err != nil {
				return nil, id.User{}, err
			}
			fresh, err := s.newCodes(tx, caller.User)
			if err != nil {
				return nil, id.User{}, err
			}
			return fresh, caller.User, s.record(tx, caller, caller.User, audit.RecoveryCodesReplaced)
		})
		return err
	})
	return codes, err
}

// Remove gives the caller's second factor up. Faults: OneTimeCodeWrong, SecondFactorMissing,
// SecondFactorNeeded.
func (s *Service) Remove(ctx context.Context, caller principal.Principal, code string) error {
	return s.db.InCustomer(ctx, caller.Customer, func(tx *postgres.Tx) error {
		state, err := read(tx, caller.User, s.operators)
		if err != nil {
			return err
		}
		if state.Enrolled && state.Required {
			return fault.New(
				fault.SecondFactorNeeded,
				"A second factor is required of you. It can be replaced with an administrator's help, not given up.",
			)
		}
		if err := s.prove(tx, caller.User, code); err != nil {
			return err
		}
		if _, err := remove(tx, caller.User); err != nil {
			return err
		}
		return s.record(tx, caller, caller.User, audit.SecondFactorRemoved)
	})
}

// Reset takes the second factor off a user who lost it. Faults: ResourceNotFound, UserRedacted.
func (s *Service) Reset(ctx context.Context, caller principal.Principal, person id.User) error {
	return s.db.InCustomer(ctx, caller.Customer, func(tx *postgres.Tx) error {
		if err := user.HoldLivingTx(tx, person); err != nil {
			return err
		}
		removed, err := remove(tx, person)
		if err != nil || !removed {
			return err
		}
		if err := user.EndSessionsTx(tx, person); err != nil {
			return err
		}
		return s.record(tx, caller, person, audit.SecondFactorRemoved)
	})
}

// RemoveTx takes the second factor and the recovery codes off somebody. It is for what a restore
// brought back; the caller records the act.
func RemoveTx(tx *postgres.Tx, person id.User) (removed bool, err error) { return remove(tx, person) }

// Verdict is what a sign-in learns of the second factor.
type Verdict int

// The verdicts.
const (
	NotEnrolled Verdict = iota // there is none, or none that counts
	CodeNeeded                 // there is one, and no code came
	CodeWrong
	CodeRight
)

// JudgeTx holds a code against a person's second factor and uses it up if it is right. It belongs
// into the transaction that lets the person in.
func (s *Service) JudgeTx(tx *postgres.Tx, person id.User, code string) (Verdict, error) {
	held, err := lock(tx, person)
	switch {
	case err != nil:
		return CodeWrong, err
	case held == nil || !held.confirmed:
		return NotEnrolled, nil
	case code == "":
		return CodeNeeded, nil
	}
	right, err := s.use(tx, held, person, code)
	if err != nil || !right {
		return CodeWrong, err
	}
	return CodeRight, nil
}

// EnrolledTx tells whether a person has a second factor that counts.
func EnrolledTx(tx *postgres.Tx, person id.User) (bool, error) { return enrolled(tx, person) }

// prove asks for a code of a confirmed authenticator, or a recovery code.
func (s *Service) prove(tx *postgres.Tx, person id.User, code string) error {
	verdict, err := s.JudgeTx(tx, person, code)
	switch {
	case err != nil:
		return err
	case verdict == NotEnrolled:
		return none()
	case verdict != CodeRight:
		return wrongCode()
	}
	return nil
}

// use tells whether a code is right and makes sure that it never is again. No text is both a
// one-time code and a recovery code.
func (s *Service) use(tx *postgres.Tx, held *authenticator, person id.User, code string) (bool, error) {
	secret, err := s.box.Open(sealLabel, held.sealed, person.UUID[:])
	if err != nil {
		return false, err
	}
	if step, right := totp.Verify(sensitive.New(string(secret)), code, tx.Now, held.lastStep); right {
		return true, advance(tx, person, step)
	}
	hash, err := totp.HashRecoveryCode(code)
	if err != nil || !held.confirmed {
		return false, nil //nolint:nilerr // what is no recovery code is a wrong code
	}
	return useRecoveryCode(tx, person, hash)
}

func (s *Service) newCodes(tx *postgres.Tx, person id.User) ([]sensitive.String, error) {
	codes, hashes := totp.NewRecoveryCodes(totp.RecoveryCodes)
	return codes, replaceRecoveryCodes(tx, person, hashes)
}

// record writes into the trail what was done, and into the ledger that a restore must not bring
// back what was there before.
func (s *Service) record(tx *postgres.Tx, caller principal.Principal, person id.User, action audit.Action) error {
	if err := s.ledger.AppendTx(tx, ledger.Entry{Kind: ledger.CredentialsChanged, Subject: person.UUID}); err != nil {
		return err
	}
	return audit.AppendTx(
		tx,
		audit.Act{Caller: caller, Action: action, Target: audit.OnUser(person), Changed: []string{"second_factor"}},
	)
}
