// Package secondfactor manages second factors: one-time codes beside the password.
//
// Owns: users' authenticators (TOTP, RFC 6238) and recovery codes: enrolling, confirming, using,
// replacing and removing them, an administrator's reset of a lost one, and who must have one.
// Does not own: the format of codes (totp), and signing in (session), which asks here.
//
// An authenticator counts once one of its codes has confirmed it. Each code works once: the time
// step of the newest code that was used is stored, and only later ones are accepted.
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

// issuer is what an authenticator app shows above the account.
const issuer = "Steward"

// sealLabel separates these sealed secrets from all other sealed values.
const sealLabel = "second factor"

// State is a second factor as its user sees it.
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

// Service implements the second-factor use cases. Safe for concurrent use.
type Service struct {
	db        *postgres.DB
	box       *seal.Box
	hasher    *password.Hasher
	ledger    *ledger.Ledger
	operators bool // whether operators must have one
	endOthers func(tx *postgres.Tx, caller principal.Principal) error
}

// NewService returns the service. Confirming a second factor calls endOthers, which ends the
// caller's other sessions (package session, above this one, has it).
func NewService(db *postgres.DB, box *seal.Box, hasher *password.Hasher, ledger *ledger.Ledger, operatorsMust bool,
	endOthers func(tx *postgres.Tx, caller principal.Principal) error,
) *Service {
	return &Service{db: db, box: box, hasher: hasher, ledger: ledger, operators: operatorsMust, endOthers: endOthers}
}

// OperatorsMust reports whether operators must have a second factor.
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

// Enrol creates a secret that counts once it is confirmed. It requires the password, so that a
// stolen session cannot lock its owner out. Faults: CurrentPasswordWrong, SecondFactorExists.
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
		// The authenticator app keeps the label, beyond the reach of any erasure: it names the
		// customer and not the user.
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
	return idempotency.WriteAbout(ctx, s.db, caller.Customer, once, func(tx *postgres.Tx) (Enrolment, id.User, error) {
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
}

// Confirm confirms the authenticator and returns the recovery codes. The caller's other sessions,
// which never proved a code, end. Faults: OneTimeCodeWrong, SecondFactorMissing,
// SecondFactorExists.
func (s *Service) Confirm(
	ctx context.Context,
	caller principal.Principal,
	code string,
	once *idempotency.Once[[]sensitive.String],
) (codes []sensitive.String, err error) {
	return idempotency.WriteAbout(
		ctx,
		s.db,
		caller.Customer,
		once,
		func(tx *postgres.Tx) ([]sensitive.String, id.User, error) {
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
		},
	)
}

// ReplaceCodes replaces the recovery codes. Faults: OneTimeCodeWrong, SecondFactorMissing.
func (s *Service) ReplaceCodes(
	ctx context.Context,
	caller principal.Principal,
	code string,
	once *idempotency.Once[[]sensitive.String],
) (codes []sensitive.String, err error) {
	return idempotency.WriteAbout(
		ctx,
		s.db,
		caller.Customer,
		once,
		func(tx *postgres.Tx) ([]sensitive.String, id.User, error) {
			if err := s.prove(tx, caller.User, code); err != nil {
				return nil, id.User{}, err
			}
			fresh, err := s.newCodes(tx, caller.User)
			if err != nil {
				return nil, id.User{}, err
			}
			return fresh, caller.User, s.record(tx, caller, caller.User, audit.RecoveryCodesReplaced)
		},
	)
}

// Remove removes the caller's second factor. Faults: OneTimeCodeWrong, SecondFactorMissing,
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

// Reset removes the second factor of a user who lost it. Faults: ResourceNotFound, UserRedacted.
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

// RemoveTx removes a user's second factor and recovery codes that a restore brought back. The
// caller records the act.
func RemoveTx(tx *postgres.Tx, person id.User) (removed bool, err error) { return remove(tx, person) }

// Verdict is the result of checking a second factor at sign-in.
type Verdict int

// The verdicts.
const (
	NotEnrolled Verdict = iota // there is none, or none that is confirmed
	CodeNeeded                 // there is one, and no code was sent
	CodeWrong
	CodeRight
)

// JudgeTx checks a code against a user's second factor and uses it up if it is right. Call it in
// the transaction that opens the session.
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

// EnrolledTx reports whether a user has a confirmed second factor.
func EnrolledTx(tx *postgres.Tx, person id.User) (bool, error) { return enrolled(tx, person) }

// prove requires a code of a confirmed authenticator, or a recovery code.
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

// use reports whether a code is right, and uses it up. No text is both a one-time code and a
// recovery code.
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

// record appends an entry to the trail, and one to the ledger, so that a restore does not bring the
// earlier state back.
func (s *Service) record(tx *postgres.Tx, caller principal.Principal, person id.User, action audit.Action) error {
	if err := s.ledger.AppendTx(tx, ledger.Entry{Kind: ledger.CredentialsChanged, Subject: person.UUID}); err != nil {
		return err
	}
	return audit.AppendTx(
		tx,
		audit.Act{Caller: caller, Action: action, Target: audit.OnUser(person), Changed: []string{"second_factor"}},
	)
}
