// Package session authenticates users.
//
// Owns: sessions with their tokens, login records, the keys that sign access tokens, and changing
// one's own password.
// Does not own: users (user), password hashing (password), the format of tokens (token), one-time
// codes (secondfactor) and mailed links (passwordlink).
//
// A session is valid *if* it has neither ended nor expired *and* its user is active with the role
// in the token: disabling or redacting a user changes no session, which is merely no longer valid.
// Each replica caches for half a second that a session is valid, which bounds how long an access
// token works after its session has ended.
package session

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/fusionspim/steward/internal/account/customer"
	"github.com/fusionspim/steward/internal/account/secondfactor"
	"github.com/fusionspim/steward/internal/account/user"
	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/base/sensitive"
	"github.com/fusionspim/steward/internal/infra/idempotency"
	"github.com/fusionspim/steward/internal/infra/password"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/infra/ratelimit"
	"github.com/fusionspim/steward/internal/infra/token"
	"github.com/fusionspim/steward/internal/infra/ttlcache"
	"github.com/fusionspim/steward/internal/record/audit"
)

// Remembered is how long a session that was valid is taken for valid without asking the database.
const Remembered = 500 * time.Millisecond

// Lifetimes of a session: without being refreshed, and in total.
const (
	IdleLifetime     = 7 * 24 * time.Hour
	AbsoluteLifetime = 30 * 24 * time.Hour
)

// Outcome is the result of an attempt to sign in. The set is closed.
type Outcome string

// The outcomes.
const (
	Succeeded      Outcome = "succeeded"
	WrongPassword  Outcome = "wrong_password"
	WrongCode      Outcome = "wrong_code"
	CodeRequired   Outcome = "code_required"
	AccountOff     Outcome = "disabled"
	NoPassword     Outcome = "no_password"
	NetworkRefused Outcome = "network_refused"
)

// Transport is what carries a session's credential. The set is closed.
type Transport string

// The transports.
const (
	ByToken  Transport = "token"
	ByCookie Transport = "cookie"
)

// SignIn is an attempt to sign in.
type SignIn struct {
	CustomerSlug string
	Email        string
	Password     sensitive.String
	OneTimeCode  string // empty: none was sent
	Transport    Transport
	Address      netip.Addr // the client's address
}

// Tokens are the credentials of a session: a cookie, or an access token and a refresh token.
type Tokens struct {
	Cookie    sensitive.String
	Access    string
	Refresh   sensitive.String
	ExpiresIn time.Duration // of the access token; of the cookie until it is used again
}

// Session is a session as its user sees it.
type Session struct {
	ID          id.Session
	Transport   Transport
	CreatedAt   time.Time
	RefreshedAt time.Time
	ExpiresAt   time.Time
}

// Login is a recorded attempt to sign in.
type Login struct {
	ID             id.Login
	OccurredAt     time.Time
	Address        netip.Addr
	Outcome        Outcome
	InsideNetworks bool
}

// Failed sign-ins that are allowed. A failure counts for the account from one network, for the
// account, for the network, and for the customer; the first exhausted counter refuses. If only the
// account's own counter is exhausted, a user who signed in from the same address before may still
// try, so that strangers cannot lock the owner out.
var (
	perAccountAndNetwork = ratelimit.Limit{Burst: 10, Every: 30 * time.Second}
	perAccount           = ratelimit.Limit{Burst: 100, Every: 10 * time.Second}
	perNetwork           = ratelimit.Limit{Burst: 200, Every: time.Second}
	perCustomer          = ratelimit.Limit{Burst: 2000, Every: 100 * time.Millisecond}
	perAccountCodes      = ratelimit.Limit{Burst: 5, Every: time.Minute}
)

// Service implements the session use cases. Safe for concurrent use.
type Service struct {
	db            *postgres.DB
	customers     *customer.Service
	secondFactors *secondfactor.Service
	hasher        *password.Hasher
	authority     *token.Authority
	limiter       *ratelimit.Limiter
	changed       Changed
	good          *ttlcache.Cache[id.Session, standing]
	log           *slog.Logger
	slots         chan struct{} // bounds the recording in the background
	recording     sync.WaitGroup
}

// Changed notifies a user of a changed password when the transaction commits. It is passwordlink's,
// which stands beside session.
type Changed func(tx *postgres.Tx, person id.User) error

// NewService returns the service. Close it before its database.
func NewService(
	db *postgres.DB,
	customers *customer.Service,
	secondFactors *secondfactor.Service,
	hasher *password.Hasher,
	authority *token.Authority,
	limiter *ratelimit.Limiter,
	changed Changed,
	log *slog.Logger,
) *Service {
	return &Service{
		db:            db,
		customers:     customers,
		secondFactors: secondFactors,
		hasher:        hasher,
		authority:     authority,
		limiter:       limiter,
		changed:       changed,
		log:           log,
		good:          ttlcache.New[id.Session, standing](65536, Remembered, db.Now),
		slots:         make(chan struct{}, 32),
	}
}

// Close waits for the recording in the background.
func (s *Service) Close() { s.recording.Wait() }

// refused is the single answer to every failed sign-in.
func refused() error {
	return fault.New(fault.InvalidCredentials, "The customer, the address and the password do not belong together.")
}

func ended() error { return fault.New(fault.Unauthorized, "The session has ended. Sign in again.") }

// SignIn opens a session. Whatever is wrong, the caller gets InvalidCredentials after the work of
// verifying one password; with the right password, SecondFactorRequired if a code is missing or
// wrong. TooManyAttempts precedes all of it.
func (s *Service) SignIn(ctx context.Context, in SignIn, once *idempotency.Once[Tokens]) (tokens Tokens, err error) {
	address, wrong := user.LookupAddress(in.Email, "/email")
	named := []string{in.CustomerSlug, address.Key}
	if wrong != nil {
		named[1] = in.Email
	}
	counters := []ratelimit.Counter{
		ratelimit.NewCounter("account and network", perAccountAndNetwork, append(named, ratelimit.Network(in.Address))...),
		ratelimit.NewCounter("network", perNetwork, ratelimit.Network(in.Address)),
		ratelimit.NewCounter("customer", perCustomer, in.CustomerSlug),
		ratelimit.NewCounter("account", perAccount, named...),
	}
	exhausted, wait, err := s.limiter.Exhausted(ctx, counters...)
	if err != nil {
		return Tokens{}, err
	}
	besieged := len(exhausted) == 1 && exhausted[0] == counters[3]
	if len(exhausted) > 0 && !besieged {
		return Tokens{}, ratelimit.Refused(wait)
	}
	of, known, err := s.customers.Find(ctx, in.CustomerSlug)
	if err != nil {
		return Tokens{}, err
	}
	known = known && wrong == nil
	var account user.Credentials
	var familiar bool
	if known {
		err = s.db.InCustomerAutocommit(ctx, of.ID, func(tx *postgres.Tx) error {
			account, known, err = user.CredentialsByEmailTx(tx, address.Key)
			if err == nil && known && besieged {
				familiar, err = knowsAddress(tx, account.ID, in.Address)
			}
			return err
		})
		if err != nil {
			return Tokens{}, err
		}
	}
	if besieged && !familiar {
		return Tokens{}, ratelimit.Refused(wait)
	}
	if !known {
		if err := s.hasher.VerifyNothing(ctx, in.Password); err != nil {
			return Tokens{}, err
		}
		return Tokens{}, s.failed(ctx, counters)
	}
	right, rehash, err := s.hasher.Verify(ctx, account.PasswordHash, in.Password)
	if err != nil {
		return Tokens{}, err
	}
	trial := login{
		id:      id.New[id.Login](),
		user:    account.ID,
		address: in.Address.Unmap(),
		inside:  of.Networks.Contains(in.Address),
	}
	switch {
	case account.Status != user.Active:
		trial.outcome = AccountOff
	case account.PasswordHash == "":
		trial.outcome = NoPassword
	case !right:
		trial.outcome = WrongPassword
	case !trial.inside && of.Networks.Policy == customer.Refuse:
		trial.outcome = NetworkRefused
	default:
		trial.outcome = Succeeded
		return s.enter(ctx, of.ID, account, trial, in, rehash, once)
	}
	s.recordLater(of.ID, trial)
	return Tokens{}, s.failed(ctx, counters)
}

// failed counts a failed sign-in and returns the single answer.
func (s *Service) failed(ctx context.Context, counters []ratelimit.Counter) error {
	if err := s.limiter.RecordFailure(ctx, counters...); err != nil {
		return err
	}
	return refused()
}

// enter opens the session of a user whose password is right, if there is no second factor or its
// code is right too.
func (s *Service) enter(
	ctx context.Context,
	of id.Customer,
	account user.Credentials,
	trial login,
	in SignIn,
	rehash bool,
	once *idempotency.Once[Tokens],
) (tokens Tokens, err error) {
	codes := ratelimit.NewCounter("code", perAccountCodes, of.String(), account.ID.String())
	if in.OneTimeCode != "" {
		if exhausted, wait, err := s.limiter.Exhausted(ctx, codes); err != nil || len(exhausted) > 0 {
			if err == nil {
				err = ratelimit.Refused(wait)
			}
			return Tokens{}, err
		}
	}
	var stronger string
	if rehash {
		// The parameters were raised, and only now is the password at hand.
		if stronger, err = s.hasher.Hash(ctx, in.Password); err != nil {
			return Tokens{}, err
		}
	}
	if once != nil {
		once.Credential = account.ID.UUID
	}
	verdict := secondfactor.NotEnrolled
	tokens, err = idempotency.WriteAbout(ctx, s.db, of, once, func(tx *postgres.Tx) (t Tokens, _ id.User, err error) {
		role, still, err := user.HoldActiveTx(tx, account.ID, account.PasswordHash)
		if err == nil && !still {
			err = refused()
		}
		if err != nil {
			return t, id.User{}, err
		}
		if verdict, err = s.secondFactors.JudgeTx(tx, account.ID, in.OneTimeCode); err != nil {
			return t, id.User{}, err
		}
		if verdict == secondfactor.CodeNeeded || verdict == secondfactor.CodeWrong {
			return t, id.User{}, codeWanted(verdict)
		}
		if rehash {
			if err := user.RehashPasswordTx(tx, account.ID, account.PasswordHash, stronger); err != nil {
				return t, id.User{}, err
			}
		}
		if err := record(tx, trial); err != nil {
			return t, id.User{}, err
		}
		t, err = s.open(tx, account.ID, role, in.Transport)
		return t, account.ID, err
	})
	if fault.Is(err, fault.SecondFactorRequired) {
		trial.outcome = CodeRequired
		if verdict == secondfactor.CodeWrong {
			trial.outcome = WrongCode
			if failed := s.limiter.RecordFailure(ctx, codes); failed != nil {
				return Tokens{}, failed
			}
		}
		s.recordLater(of, trial)
	}
	return tokens, err
}

func codeWanted(verdict secondfactor.Verdict) error {
	if verdict == secondfactor.CodeWrong {
		return fault.New(fault.SecondFactorRequired, "The one-time code is wrong, or it was used before. Send the next one.").
			At("/one_time_code", "is wrong")
	}
	return fault.New(fault.SecondFactorRequired, "Send the request again with one_time_code.").
		At("/one_time_code", "is required")
}

// recordLater records a failed attempt in the background, so that the response takes as long as one
// for an account that does not exist.
func (s *Service) recordLater(of id.Customer, trial login) {
	recordNow := func() {
		err := s.db.InCustomerAutocommit(context.Background(), of, func(tx *postgres.Tx) error {
			return record(tx, trial)
		})
		if err != nil {
			s.log.Error("an attempt to sign in was not recorded", "customer_id", of.String(), "error", err)
		}
	}
	select {
	case s.slots <- struct{}{}:
		s.recording.Go(func() {
			defer func() { <-s.slots }()
			recordNow()
		})
	default:
		recordNow() // too many at once: the responses wait
	}
}

// open creates a session and its credentials.
func (s *Service) open(tx *postgres.Tx, account id.User, role principal.Role, transport Transport) (Tokens, error) {
	session := id.New[id.Session]()
	if transport == ByCookie {
		cookie, hash := token.NewCookie(tx.Customer, session)
		opened := row{session, account, ByCookie, hash, tx.Now.Add(IdleLifetime)}
		return Tokens{Cookie: cookie, ExpiresIn: IdleLifetime}, insert(tx, opened)
	}
	if err := insert(tx, row{session, account, ByToken, nil, tx.Now.Add(IdleLifetime)}); err != nil {
		return Tokens{}, err
	}
	return s.issue(tx, session, account, role)
}

// issue creates the tokens of a session and stores the hash of the refresh token.
func (s *Service) issue(tx *postgres.Tx, session id.Session, account id.User, role principal.Role) (Tokens, error) {
	refresh, hash := token.NewRefresh(tx.Customer, session)
	if err := insertRefreshToken(tx, session, hash); err != nil {
		return Tokens{}, err
	}
	access, err := s.authority.Issue(token.Claims{Customer: tx.Customer, User: account, Session: session, Role: role})
	return Tokens{Access: access, ExpiresIn: s.authority.Lifetime(), Refresh: refresh}, err
}

// Refresh exchanges a refresh token for new tokens. A token that was exchanged before ends its
// session: one of its two holders stole it. Fault: Unauthorized for every token that is not valid.
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
			if err := exchange(tx, session, hash, until(found.createdAt, tx.Now)); err != nil {
				return Tokens{}, id.User{}, err
			}
			tokens, err := s.issue(tx, session, found.user, found.role)
			return tokens, found.user, err
		})
		if refusal != nil {
			return nil // commit the end of the session
		}
		return err
	})
	if err == nil && refusal != nil {
		s.good.Forget(session)
		return Tokens{}, refusal
	}
	return tokens, err
}

// Forget drops the cached standing of a session, so that this replica sees a change at once.
func (s *Service) Forget(session id.Session) { s.good.Forget(session) }

// End signs the caller out.
func (s *Service) End(ctx context.Context, caller principal.Principal) error {
	err := s.db.InCustomer(ctx, caller.Customer, func(tx *postgres.Tx) error { return end(tx, caller.Session) })
	s.good.Forget(caller.Session)
	return err
}

// standing is what is cached of a session.
type standing struct {
	customer    id.Customer
	user        id.User
	role        principal.Role
	cookieHash  []byte
	createdAt   time.Time
	refreshedAt time.Time
	live        bool
	mustEnrol   bool
}

// Authenticate returns the caller with an access token. Fault: Unauthorized unless its session is
// valid.
func (s *Service) Authenticate(ctx context.Context, text string) (principal.Principal, error) {
	claims, err := s.authority.Verify(text)
	if err != nil {
		return principal.Principal{}, fault.Because(
			err,
			fault.Unauthorized,
			"The access token is not good. It may be misspelt or expired. Refresh it or sign in again.",
		)
	}
	now, err := s.standing(ctx, claims.Customer, claims.Session)
	if err != nil {
		return principal.Principal{}, err
	}
	if !now.live || now.customer != claims.Customer || now.user != claims.User || now.role != claims.Role {
		return principal.Principal{}, ended()
	}
	return now.principal(claims.Session), nil
}

// AuthenticateCookie returns the caller with a session cookie. Fault: Unauthorized unless its
// session is valid.
func (s *Service) AuthenticateCookie(ctx context.Context, text string) (principal.Principal, error) {
	of, session, hash, err := token.ParseCookie(text)
	if err != nil {
		return principal.Principal{}, ended()
	}
	now, err := s.standing(ctx, of, session)
	if err != nil {
		return principal.Principal{}, err
	}
	if !now.live || !token.SameHash(now.cookieHash, hash) {
		return principal.Principal{}, ended()
	}
	return now.principal(session), nil
}

func (now standing) principal(session id.Session) principal.Principal {
	return principal.Principal{
		Customer:  now.customer,
		User:      now.user,
		Session:   session,
		Role:      now.role,
		MustEnrol: now.mustEnrol,
	}
}

// touchEvery is the precision with which the last use of a cookie is recorded.
const touchEvery = time.Minute

// standing reads the standing of a session, from the cache for as long as Remembered. Using a
// cookie extends its session.
func (s *Service) standing(ctx context.Context, of id.Customer, session id.Session) (standing, error) {
	return s.good.Get(session, func() (found standing, err error) {
		err = s.db.InCustomerAutocommit(ctx, of, func(tx *postgres.Tx) error {
			found, err = find(tx, session, s.secondFactors.OperatorsMust())
			if err != nil || !found.live || found.cookieHash == nil {
				return err
			}
			if tx.Now.Sub(found.refreshedAt) < touchEvery {
				return nil
			}
			return extend(tx, session, until(found.createdAt, tx.Now))
		})
		return found, err
	})
}

// until returns when a session expires that is used now.
func until(createdAt, now time.Time) time.Time {
	if end := createdAt.Add(AbsoluteLifetime); end.Before(now.Add(IdleLifetime)) {
		return end
	}
	return now.Add(IdleLifetime)
}

// List returns at most limit of the caller's valid sessions, newest first, from those before the
// given one; zero: from the newest on.
func (s *Service) List(
	ctx context.Context,
	caller principal.Principal,
	before id.Session,
	limit int,
) ([]Session, error) {
	return postgres.Read(ctx, s.db, caller.Customer, func(tx *postgres.Tx) ([]Session, error) {
		return list(tx, caller.User, before, limit)
	})
}

// EndOne ends one of the caller's sessions. Fault: ResourceNotFound.
func (s *Service) EndOne(ctx context.Context, caller principal.Principal, session id.Session) error {
	err := s.db.InCustomer(ctx, caller.Customer, func(tx *postgres.Tx) error {
		ended, err := endOf(tx, caller.User, session)
		if err == nil && !ended {
			err = fault.New(fault.ResourceNotFound, "There is no such session.")
		}
		return err
	})
	s.good.Forget(session)
	return err
}

// Logins returns at most limit attempts to sign in to an account, newest first, from those before
// the given one; zero: from the newest on. Fault: ResourceNotFound.
func (s *Service) Logins(
	ctx context.Context,
	caller principal.Principal,
	person id.User,
	before id.Login,
	limit int,
) ([]Login, error) {
	return postgres.Read(ctx, s.db, caller.Customer, func(tx *postgres.Tx) ([]Login, error) {
		if person != caller.User {
			if err := user.ExistsTx(tx, person); err != nil {
				return nil, err
			}
		}
		return listLogins(tx, person, before, limit)
	})
}

// EndOthersTx ends every session of the caller but the current one.
func EndOthersTx(tx *postgres.Tx, caller principal.Principal) error {
	return endOthers(tx, caller.User, caller.Session)
}

// ChangePassword changes the caller's password and ends the caller's other sessions. Faults:
// CurrentPasswordWrong, WeakPassword.
func (s *Service) ChangePassword(
	ctx context.Context,
	caller principal.Principal,
	current, next sensitive.String,
) error {
	var account user.Credentials
	var name customer.Customer
	rules := password.Rules{MinLength: password.MinLength}
	err := s.db.InCustomerAutocommit(ctx, caller.Customer, func(tx *postgres.Tx) (err error) {
		var known bool
		if account, known, err = user.CredentialsTx(tx, caller.User); err != nil {
			return err
		}
		if !known || account.Status != user.Active {
			return ended()
		}
		enrolled, err := secondfactor.EnrolledTx(tx, caller.User)
		if enrolled {
			rules.MinLength = password.MinLengthWithSecondFactor
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
		FirstName:    account.FirstName,
		LastName:     account.LastName,
		Email:        account.Email,
		CustomerSlug: name.Slug,
		CustomerName: name.Name,
	}
	if err := password.CheckWith(next, about, "/new_password", rules); err != nil {
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
			return wrongPassword() // changed or reset in the meantime
		}
		if err := endOthers(tx, caller.User, caller.Session); err != nil {
			return err
		}
		err = audit.AppendTx(tx, audit.Act{
			Caller:  caller,
			Action:  audit.UserPasswordChanged,
			Target:  audit.OnUser(caller.User),
			Changed: []string{"password"},
		})
		if err != nil {
			return err
		}
		return s.changed(tx, caller.User)
	})
}

func wrongPassword() error {
	return fault.New(fault.CurrentPasswordWrong, "The current password is wrong. Nothing was changed.").
		At("/current_password", "is wrong")
}
