// Package session is how people prove who they are.
//
// Owns: sessions with their tokens, login records, the signing keys, and amending one's password.
// Does not own: people (user), how a password is hashed (password) and what a token looks like (token).
//
// A session is good *if* it has not ended or expired *and* its person is active and has the role that the token says: nothing is switched off when
// somebody is disabled or redacted, it simply no longer holds. Each replica remembers for half a second that a session was good, which is how
// long after its end an access token can be taken at most.
package session

import (
	"context"
	"net/netip"
	"time"

	"github.com/fusionspim/steward/internal/audit"
	"github.com/fusionspim/steward/internal/customer"
	"github.com/fusionspim/steward/internal/fault"
	"github.com/fusionspim/steward/internal/id"
	"github.com/fusionspim/steward/internal/idempotency"
	"github.com/fusionspim/steward/internal/password"
	"github.com/fusionspim/steward/internal/postgres"
	"github.com/fusionspim/steward/internal/principal"
	"github.com/fusionspim/steward/internal/recall"
	"github.com/fusionspim/steward/internal/sensitive"
	"github.com/fusionspim/steward/internal/token"
	"github.com/fusionspim/steward/internal/user"
)

// Remembered is for how long a session that was found good is taken for good without asking the database.
const Remembered = 500 * time.Millisecond

// How long a session lasts: without being refreshed, and at all.
const (
	IdleLifetime     = 7 * 24 * time.Hour
	AbsoluteLifetime = 30 * 24 * time.Hour
)

// Outcome is how an attempt to sign in ended. The set is closed.
type Outcome string

// The outcomes.
const (
	Succeeded      Outcome = "succeeded"
	WrongPassword  Outcome = "wrong_password"
	AccountOff     Outcome = "disabled"
	NoPassword     Outcome = "no_password"
	NetworkRefused Outcome = "network_refused"
)

// SignIn is an attempt to sign in.
type SignIn struct {
	CustomerSlug string
	Email        string
	Password     sensitive.String
	Address      netip.Addr // where it comes from
}

// Tokens are what a session is used with.
type Tokens struct {
	Access    string
	ExpiresIn time.Duration
	Refresh   sensitive.String
}

// Service is sessions as callers use them. Safe for concurrent use.
type Service struct {
	db        *postgres.DB
	customers *customer.Service
	hasher    *password.Hasher
	authority *token.Authority
	good      *recall.Memory[id.Session, standing]
}

// NewService makes the service.
func NewService(db *postgres.DB, customers *customer.Service, hasher *password.Hasher, authority *token.Authority) *Service {
	return &Service{
		db: db, customers: customers, hasher: hasher, authority: authority,
		good: recall.New[id.Session, standing](65536, Remembered, db.Now),
	}
}

// refused is the one answer to every failed sign-in.
func refused() error {
	return fault.New(fault.InvalidCredentials, "The customer, the address and the password do not belong together.")
}

func ended() error { return fault.New(fault.Unauthorized, "The session has ended. Sign in again.") }

// SignIn opens a session. Whatever is wrong, the caller gets the fault InvalidCredentials after the work of verifying one password.
func (s *Service) SignIn(ctx context.Context, in SignIn, once *idempotency.Once[Tokens]) (tokens Tokens, err error) {
	of, known, err := s.customers.Find(ctx, in.CustomerSlug)
	if err != nil {
		return Tokens{}, err
	}
	var account user.Credentials
	if address, wrong := user.ParseAddress(in.Email, "/email"); known && wrong == nil {
		err = s.db.EachInCustomer(ctx, of.ID, func(tx *postgres.Tx) error {
			account, known, err = user.CredentialsByEmailTx(tx, address.Key)
			return err
		})
		if err != nil {
			return Tokens{}, err
		}
	} else {
		known = false
	}
	if !known {
		if err := s.hasher.VerifyNothing(ctx, in.Password); err != nil {
			return Tokens{}, err
		}
		return Tokens{}, refused()
	}
	right, _, err := s.hasher.Verify(ctx, account.PasswordHash, in.Password)
	if err != nil {
		return Tokens{}, err
	}
	attempt := login{id: id.New[id.Login](), user: account.ID, address: in.Address.Unmap(), inside: of.Networks.Contains(in.Address)}
	switch {
	case account.Status != user.Active:
		attempt.outcome = AccountOff
	case account.PasswordHash == "":
		attempt.outcome = NoPassword
	case !right:
		attempt.outcome = WrongPassword
	case !attempt.inside && of.Networks.Policy == customer.Refuse:
		attempt.outcome = NetworkRefused
	default:
		attempt.outcome = Succeeded
	}
	if attempt.outcome != Succeeded {
		if err := s.db.EachInCustomer(ctx, of.ID, func(tx *postgres.Tx) error { return record(tx, attempt) }); err != nil {
			return Tokens{}, err
		}
		return Tokens{}, refused()
	}
	if once != nil {
		once.Credential = account.ID.UUID
	}
	err = s.db.InCustomer(ctx, of.ID, func(tx *postgres.Tx) error {
		tokens, err = once.Do(tx, func() (Tokens, id.User, error) {
			tokens, err := s.open(tx, account, attempt)
			return tokens, account.ID, err
		})
		return err
	})
	return tokens, err
}

func (s *Service) open(tx *postgres.Tx, account user.Credentials, attempt login) (Tokens, error) {
	role, still, err := user.HoldActiveTx(tx, account.ID, account.PasswordHash)
	if err != nil {
		return Tokens{}, err
	}
	if !still {
		return Tokens{}, refused()
	}
	session := id.New[id.Session]()
	if err := insert(tx, session, account.ID, tx.Now.Add(IdleLifetime)); err != nil {
		return Tokens{}, err
	}
	if err := record(tx, attempt); err != nil {
		return Tokens{}, err
	}
	return s.issue(tx, session, account.ID, role)
}

// issue makes the tokens of a session and stores the hash of the refresh token.
func (s *Service) issue(tx *postgres.Tx, session id.Session, account id.User, role principal.Role) (Tokens, error) {
	refresh, hash := token.NewRefresh(tx.Customer, session)
	if err := insertRefreshToken(tx, session, hash); err != nil {
		return Tokens{}, err
	}
	access, err := s.authority.Issue(token.Claims{Customer: tx.Customer, User: account, Session: session, Role: role})
	return Tokens{Access: access, ExpiresIn: s.authority.Lifetime(), Refresh: refresh}, err
}

// Refresh exchanges a refresh token for new tokens. A token that was exchanged before ends its session: of the two who have it, one stole it.
// Anything but a good token gives the fault Unauthorized.
func (s *Service) Refresh(ctx context.Context, text string, once *idempotency.Once[Tokens]) (tokens Tokens, err error) {
	of, session, hash, err := token.ParseRefresh(text)
	if err != nil {
		return Tokens{}, ended()
	}
	if once != nil {
		once.Credential = session.UUID
	}
	var refusal error
	err = s.db.InCustomer(ctx, of, func(tx *postgres.Tx) error {
		refusal = nil
		tokens, err = once.Do(tx, func() (Tokens, id.User, error) {
			found, err := lockRefreshable(tx, session, hash)
			if err != nil {
				return Tokens{}, id.User{}, err
			}
			if !found.live {
				return Tokens{}, id.User{}, ended()
			}
			if found.used {
				if err := end(tx, session); err != nil {
					return Tokens{}, id.User{}, err
				}
				refusal = ended() // an error, so that no answer is remembered
				return Tokens{}, id.User{}, refusal
			}
			until := found.createdAt.Add(AbsoluteLifetime)
			if idle := tx.Now.Add(IdleLifetime); idle.Before(until) {
				until = idle
			}
			if err := exchange(tx, session, hash, until); err != nil {
				return Tokens{}, id.User{}, err
			}
			tokens, err := s.issue(tx, session, found.user, found.role)
			return tokens, found.user, err
		})
		if refusal != nil {
			return nil // the end of the session is to be kept
		}
		return err
	})
	if err == nil && refusal != nil {
		s.good.Forget(session)
		return Tokens{}, refusal
	}
	return tokens, err
}

// End signs the caller out.
func (s *Service) End(ctx context.Context, caller principal.Principal) error {
	err := s.db.InCustomer(ctx, caller.Customer, func(tx *postgres.Tx) error { return end(tx, caller.Session) })
	s.good.Forget(caller.Session)
	return err
}

// standing is what is remembered of a session.
type standing struct {
	customer id.Customer
	user     id.User
	role     principal.Role
	live     bool
}

// Authenticate tells who calls with an access token. Anything but a token of a live session gives the fault Unauthorized.
func (s *Service) Authenticate(ctx context.Context, text string) (principal.Principal, error) {
	claims, err := s.authority.Verify(text)
	if err != nil {
		return principal.Principal{}, fault.Because(err, fault.Unauthorized, "The access token is not good. It may be misspelt or expired. Refresh it or sign in again.")
	}
	now, err := s.good.Get(claims.Session, func() (found standing, err error) {
		err = s.db.EachInCustomer(ctx, claims.Customer, func(tx *postgres.Tx) error {
			found, err = look(tx, claims.Session)
			return err
		})
		return found, err
	})
	if err != nil {
		return principal.Principal{}, err
	}
	if !now.live || now.customer != claims.Customer || now.user != claims.User || now.role != claims.Role {
		return principal.Principal{}, ended()
	}
	return principal.Principal{Customer: claims.Customer, User: claims.User, Session: claims.Session, Role: claims.Role}, nil
}

// ChangePassword amends the caller's password and ends the caller's other sessions. Faults: CurrentPasswordWrong, WeakPassword.
func (s *Service) ChangePassword(ctx context.Context, caller principal.Principal, current, next sensitive.String) error {
	var account user.Credentials
	var name customer.Customer
	err := s.db.EachInCustomer(ctx, caller.Customer, func(tx *postgres.Tx) (err error) {
		var known bool
		if account, known, err = user.CredentialsTx(tx, caller.User); err == nil && (!known || account.Status != user.Active) {
			return ended()
		}
		return err
	})
	if err != nil {
		return err
	}
	if name, err = s.customers.Get(ctx, caller); err != nil {
		return err
	}
	right, _, err := s.hasher.Verify(ctx, account.PasswordHash, current)
	if err != nil {
		return err
	}
	if !right {
		return wrongPassword()
	}
	about := password.Person{
		FirstName: account.FirstName, LastName: account.LastName, Email: account.Email, CustomerSlug: name.Slug, CustomerName: name.Name,
	}
	if err := password.Check(next, about, "/new_password"); err != nil {
		return err
	}
	hash, err := s.hasher.Hash(ctx, next)
	if err != nil {
		return err
	}
	return s.db.InCustomer(ctx, caller.Customer, func(tx *postgres.Tx) error {
		replaced, err := user.ReplacePasswordTx(tx, caller.User, account.PasswordHash, hash)
		if err != nil {
			return err
		}
		if !replaced {
			return wrongPassword() // amended or reset in the meantime
		}
		if err := endOthers(tx, caller.User, caller.Session); err != nil {
			return err
		}
		return audit.AppendTx(tx, audit.Act{
			Caller: caller, Action: audit.UserPasswordChanged, Target: audit.OnUser(caller.User), Changed: []string{"password"},
		})
	})
}

func wrongPassword() error {
	return fault.New(fault.CurrentPasswordWrong, "The current password is wrong. Nothing was changed.").At("/current_password", "is wrong")
}
