package passwordlink

import (
	"context"
	"net/netip"
	"time"

	"github.com/fusionspim/steward/internal/account/customer"
	"github.com/fusionspim/steward/internal/account/secondfactor"
	"github.com/fusionspim/steward/internal/account/user"
	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/base/sensitive"
	"github.com/fusionspim/steward/internal/infra/idempotency"
	"github.com/fusionspim/steward/internal/infra/jobs"
	"github.com/fusionspim/steward/internal/infra/mailjob"
	"github.com/fusionspim/steward/internal/infra/password"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/infra/ratelimit"
	"github.com/fusionspim/steward/internal/infra/token"
	"github.com/fusionspim/steward/internal/record/audit"
	"github.com/fusionspim/steward/internal/record/ledger"
)

// Rate limits of resets: for one account, and from one network for all accounts.
var (
	perAccount = ratelimit.Limit{Burst: 3, Every: 20 * time.Minute}
	perNetwork = ratelimit.Limit{Burst: 20, Every: time.Minute}
)

// Mailing is how mails are sent.
type Mailing struct {
	mailjob.Mailing
	Page Page // where links lead
}

// Service implements the use cases of password links. Safe for concurrent use.
type Service struct {
	db        *postgres.DB
	customers *customer.Service
	hasher    *password.Hasher
	limiter   *ratelimit.Limiter
	queue     *jobs.Queue
	ledger    *ledger.Ledger
	mailing   Mailing
}

// NewService returns the service.
func NewService(
	db *postgres.DB,
	customers *customer.Service,
	hasher *password.Hasher,
	limiter *ratelimit.Limiter,
	queue *jobs.Queue,
	ledger *ledger.Ledger,
	mailing Mailing,
) *Service {
	return &Service{
		db:        db,
		customers: customers,
		hasher:    hasher,
		limiter:   limiter,
		queue:     queue,
		ledger:    ledger,
		mailing:   mailing,
	}
}

// InviteTx invites users by mail to choose a first password, when the transaction commits.
func (s *Service) InviteTx(tx *postgres.Tx, people ...id.User) error {
	if s.mailing.Off() {
		return nil
	}
	all := make([]jobs.Arguments, len(people))
	for i, person := range people {
		all[i] = mailing{Customer: tx.Customer, User: person, About: aboutInvitation}
	}
	return s.queue.EnqueueManyTx(tx, all)
}

// ChangedTx notifies a user of a changed password when the transaction commits, and appends to the
// ledger that the earlier one is no longer valid.
func (s *Service) ChangedTx(tx *postgres.Tx, person id.User) error {
	if err := s.ledger.AppendTx(tx, ledger.Entry{Kind: ledger.CredentialsChanged, Subject: person.UUID}); err != nil {
		return err
	}
	return s.enqueue(tx, person, aboutChange)
}

// ResetTx mails a reset link that the user did not request, when the transaction commits.
func (s *Service) ResetTx(tx *postgres.Tx, person id.User) error {
	return s.enqueue(tx, person, aboutReset)
}

func (s *Service) enqueue(tx *postgres.Tx, person id.User, about subject) error {
	if s.mailing.Off() {
		return nil
	}
	return s.queue.EnqueueTx(tx, mailing{Customer: tx.Customer, User: person, About: about})
}

// Request mails a reset link to the user with the address. Its effects, result and duration are the
// same whether or not the account exists: for an unknown one, the same statements enqueue a job
// that finds no user. Fault: TooManyAttempts from one network.
func (s *Service) Request(ctx context.Context, slug, email string, from netip.Addr) error {
	address, wrong := user.LookupAddress(email, "/email")
	if wrong != nil {
		address.Key = email
	}
	taken, wait, err := s.limiter.Allow(ctx, ratelimit.NewCounter("reset network", perNetwork, ratelimit.Network(from)))
	if err != nil {
		return err
	}
	if !taken {
		f := fault.New(
			fault.TooManyAttempts,
			"Too many links were asked for from your network. Wait as long as Retry-After says.",
		)
		f.RetryAfter = wait.Truncate(time.Second) + time.Second
		return f
	}
	taken, _, err = s.limiter.Allow(ctx, ratelimit.NewCounter("reset account", perAccount, slug, address.Key))
	if err != nil {
		return err
	}
	found, known, err := s.customers.Find(ctx, slug)
	if err != nil {
		return err
	}
	of := found.ID
	if !known {
		of = id.New[id.Customer]()
	}
	return s.db.InCustomer(ctx, of, func(tx *postgres.Tx) error {
		account, known, err := user.CredentialsByEmailTx(tx, address.Key)
		if err != nil {
			return err
		}
		if !known || !taken {
			account.ID = id.New[id.User]()
		}
		return s.enqueue(tx, account.ID, aboutReset)
	})
}

// Confirm sets a password by a link, and uses the link up. Faults: LinkUsedUp for every link that
// is not valid, WeakPassword.
func (s *Service) Confirm(ctx context.Context, text, next sensitive.String, once *idempotency.Once[struct{}]) error {
	of, person, hash, err := token.ParseLink(text.Reveal())
	if err != nil {
		return usedUp()
	}
	var found link
	var valid bool
	var about password.Person
	rules := password.Rules{MinLength: password.MinLength}
	err = s.db.InCustomerAutocommit(ctx, of, func(tx *postgres.Tx) error {
		if found, valid, err = find(tx, person, hash); err != nil || !valid {
			return err
		}
		about, rules, err = judgedBy(tx, person)
		return err
	})
	if err != nil || (!valid && once == nil) {
		return orUsedUp(err)
	}
	var hashed string
	if valid { // else only a repetition can succeed, and it needs no hash
		if err := password.CheckWith(next, about, "/new_password", rules); err != nil {
			return err
		}
		if hashed, err = s.hasher.Hash(ctx, next); err != nil {
			return err
		}
	}
	if once != nil {
		once.Credential = person.UUID
	}
	write := func(tx *postgres.Tx) (struct{}, id.User, error) {
		if !valid {
			return struct{}{}, id.User{}, usedUp()
		}
		return struct{}{}, person, s.set(tx, found, hash, hashed)
	}
	_, err = idempotency.WriteAbout(ctx, s.db, of, once, write)
	return err
}

func orUsedUp(err error) error {
	if err != nil {
		return err
	}
	return usedUp()
}

// judgedBy returns what a new password of the user is judged by.
func judgedBy(tx *postgres.Tx, person id.User) (about password.Person, rules password.Rules, err error) {
	account, _, err := user.CredentialsTx(tx, person)
	if err != nil {
		return about, rules, err
	}
	of, err := customer.GetTx(tx)
	if err != nil {
		return about, rules, err
	}
	enrolled, err := secondfactor.EnrolledTx(tx, person)
	rules.MinLength = password.MinLength
	if enrolled {
		rules.MinLength = password.MinLengthWithSecondFactor
	}
	return password.Person{
		FirstName:    account.FirstName,
		LastName:     account.LastName,
		Email:        account.Email,
		CustomerSlug: of.Slug,
		CustomerName: of.Name,
	}, rules, err
}

// set stores the password with all that follows from it. Of two concurrent calls, the second finds
// the links ended.
func (s *Service) set(tx *postgres.Tx, found link, hash []byte, hashed string) error {
	done, err := user.SetPasswordTx(tx, found.user, hashed, found.linksSince)
	if err == nil && done {
		done, err = use(tx, hash)
	}
	if err != nil || !done {
		return orUsedUp(err)
	}
	err = audit.AppendTx(tx, audit.Act{
		Caller: principal.Principal{
			Customer: tx.Customer,
			User:     found.user,
		},
		Action:  audit.UserPasswordChanged,
		Target:  audit.OnUser(found.user),
		Changed: []string{"password"},
	})
	if err != nil {
		return err
	}
	return s.ChangedTx(tx, found.user)
}
