package user

import (
	"context"
	"errors"
	"slices"

	"github.com/fusionspim/steward/internal/account/customer"
	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/inventory"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/base/version"
	"github.com/fusionspim/steward/internal/infra/idempotency"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/infra/seal"
	"github.com/fusionspim/steward/internal/record/audit"
	"github.com/fusionspim/steward/internal/record/backup"
	"github.com/fusionspim/steward/internal/record/ledger"
	"github.com/fusionspim/steward/internal/record/receipt"
)

// Service implements the use cases of accounts. Safe for concurrent use.
type Service struct {
	db       *postgres.DB
	ledger   *ledger.Ledger
	box      *seal.Box
	backups  *backup.Service
	receipts *receipt.Issuer
	invite   Invite
	stores   []postgres.Store // all that there are
	erased   []postgres.Store // those from which an erasure removes something, but the accounts themselves
}

// Invite invites people who got accounts without a password to choose one, within the transaction that
// creates the accounts. It is a function because links are above accounts (passwordlink).
type Invite func(tx *postgres.Tx, made ...id.User) error

// Dependencies of a Service.
type Dependencies struct {
	DB       *postgres.DB
	Ledger   *ledger.Ledger  // of what must outlive a restore of the database
	Box      *seal.Box       // for hashes of the addresses of people who were erased
	Backups  *backup.Service // for when the last backup of an erased person expires
	Receipts *receipt.Issuer // whose keys are loaded
	Invite   Invite
	Stores   []postgres.Store // all that there are; erasures do to them what their declarations say
}

// NewService makes the service. Where nobody is created or erased, the database and the ledger will do.
func NewService(from Dependencies) *Service {
	return &Service{
		db: from.DB, ledger: from.Ledger, box: from.Box, backups: from.Backups, receipts: from.Receipts,
		invite: from.Invite, stores: from.Stores,
		erased: slices.DeleteFunc(inventory.ForErasure(from.Stores), func(store postgres.Store) bool { return store.Table == accounts }),
	}
}

// suppressionHash is what is kept of an address, by its key, when its owner is erased, so that an import
// brings nobody back unnoticed: it takes the master key to find out whose it is.
func (s *Service) suppressionHash(of id.Customer, addressKey string) []byte {
	return s.box.MAC("suppressed address", of.UUID[:], []byte(addressKey))
}

func notFound() error { return fault.New(fault.ResourceNotFound, "There is no such user.") }

func stale() error {
	return fault.New(fault.PreconditionFailed, "The user has changed. Fetch it again before you change it.")
}

func redacted(proof *id.Receipt) error {
	f := fault.New(fault.UserRedacted, "Redaction is final. The user can be looked up, but neither changed nor used.")
	if proof != nil {
		f.Receipt = receipt.Path(*proof)
	}
	return f
}

func emailTaken() error {
	return fault.New(fault.EmailTaken, "Another user of this customer has that address.").At("/email", "is in use")
}

// Create gives a person an account. Role defaults to an ordinary user. Faults: InvalidName, InvalidEmail, ForeignMailDomain, EmailTaken.
func (s *Service) Create(ctx context.Context, caller principal.Principal, in New, once *idempotency.Once[User]) (made User, err error) {
	person, err := in.clean()
	if err != nil {
		return User{}, err
	}
	err = s.db.InCustomer(ctx, caller.Customer, func(tx *postgres.Tx) error {
		made, err = once.Do(tx, func() (User, id.User, error) {
			made, err := s.create(tx, caller, person)
			return made, made.ID, err
		})
		return err
	})
	return made, asKnown(err)
}

// create makes somebody, who is invited if there is no password yet.
func (s *Service) create(tx *postgres.Tx, caller principal.Principal, in person) (User, error) {
	made, err := create(tx, caller, in)
	if err != nil || made.PasswordSet {
		return made, err
	}
	return made, s.invite(tx, made.ID)
}

// CreateTx is Create within another's transaction, also for roles that no caller of the API can give. It invites nobody: the caller does, or brings a password.
func CreateTx(tx *postgres.Tx, caller principal.Principal, in New) (User, error) {
	person, err := in.clean()
	if err != nil {
		return User{}, err
	}
	made, err := create(tx, caller, person)
	return made, asKnown(err)
}

func create(tx *postgres.Tx, caller principal.Principal, in person) (User, error) {
	made, foreign, err := insert(tx, in)
	if err != nil {
		return User{}, err
	}
	if foreign {
		return User{}, foreignDomain()
	}
	return made, audit.AppendTx(tx, audit.Act{Caller: caller, Action: audit.UserCreated, Target: audit.OnUser(made.ID)})
}

func foreignDomain() error {
	return fault.New(fault.ForeignMailDomain, "The address is outside the customer's mail domains.").At("/email", "must be of one of the customer's mail domains")
}

// asKnown gives the constraints of the schema their meaning.
func asKnown(err error) error {
	switch {
	case postgres.Violates(err, "users_email"):
		return emailTaken()
	case postgres.Violates(err, "audit_entries_actor_user"):
		// The caller was deleted a moment ago.
		return fault.Because(err, fault.Unauthorized, "The session has ended. Sign in again.")
	}
	return err
}

// person is a New whose members were checked and brought to the form in which they are kept.
type person struct {
	id           id.User
	firstName    string
	lastName     string
	address      Address
	role         principal.Role
	passwordHash *string
}

func (in New) clean() (person, error) {
	var first, last, mail error
	out := person{id: id.New[id.User](), role: in.Role}
	if out.role == "" {
		out.role = principal.User
	}
	out.firstName, first = CleanName(in.FirstName, "/first_name")
	out.lastName, last = CleanName(in.LastName, "/last_name")
	out.address, mail = ParseAddress(in.Email, "/email")
	if in.PasswordHash != "" {
		out.passwordHash = &in.PasswordHash
	}
	return out, firstFault(first, last, mail)
}

// firstFault returns the first fault, with the members of those of the same code that follow.
func firstFault(faults ...error) error {
	var first *fault.Fault
	for _, err := range faults {
		var next *fault.Fault
		switch {
		case err == nil:
		case !errors.As(err, &next):
			return err
		case first == nil:
			first = next
		default:
			first.Members = append(first.Members, next.Members...)
		}
	}
	if first == nil {
		return nil
	}
	return first
}

// Get returns a user of the caller's customer. Fault: ResourceNotFound.
func (s *Service) Get(ctx context.Context, caller principal.Principal, user id.User) (found User, err error) {
	err = s.db.InCustomerAutocommit(ctx, caller.Customer, func(tx *postgres.Tx) error {
		found, err = get(tx, user)
		return err
	})
	return found, err
}

// Me returns what the caller sees of the own account.
func (s *Service) Me(ctx context.Context, caller principal.Principal) (found Me, err error) {
	err = s.db.InCustomerAutocommit(ctx, caller.Customer, func(tx *postgres.Tx) error {
		found, err = me(tx, caller.User)
		return err
	})
	if fault.Is(err, fault.ResourceNotFound) || (err == nil && found.Status != Active) {
		return Me{}, fault.New(fault.Unauthorized, "The session has ended. Sign in again.")
	}
	return found, err
}

// List returns users, newest first: at most limit of those made before the one named, or from the newest on.
func (s *Service) List(ctx context.Context, caller principal.Principal, filter Filter, before id.User, limit int) (users []User, err error) {
	if filter.Email != "" {
		address, err := LookupAddress(filter.Email, "?email")
		if err != nil {
			return nil, nil // what is no address is nobody's
		}
		filter.Email = address.Key
	}
	err = s.db.InCustomerAutocommit(ctx, caller.Customer, func(tx *postgres.Tx) error {
		users, err = list(tx, filter, before, limit)
		return err
	})
	return users, err
}

// Update corrects a user. Faults: ResourceNotFound, UserRedacted, PreconditionFailed, LastAdministrator, and those of Create.
func (s *Service) Update(ctx context.Context, caller principal.Principal, user id.User, patch Patch, condition version.Condition) (after User, err error) {
	change, err := patch.clean()
	if err != nil {
		return User{}, err
	}
	if patch.Role == nil && patch.Status == nil {
		return s.correctOnly(ctx, caller, user, change, condition)
	}
	err = s.db.InCustomer(ctx, caller.Customer, func(tx *postgres.Tx) error {
		after, err = s.update(tx, caller, user, change, condition)
		return err
	})
	return after, asKnown(err)
}

// correctOnly corrects names and address: one statement does everything, and is a transaction by itself. That it happens is in the ledger before, for afterwards it would be
// too late; where it does not happen, the ledger is told.
func (s *Service) correctOnly(ctx context.Context, caller principal.Principal, user id.User, change change, condition version.Condition) (after User, err error) {
	marker := ledger.Entry{Kind: ledger.Correction, At: s.db.Now(), Customer: caller.Customer, Subject: user.UUID}
	marked, err := s.ledger.Append(ctx, marker)
	if err != nil {
		return User{}, err
	}
	var done corrected
	err = s.db.InCustomerAutocommit(ctx, caller.Customer, func(tx *postgres.Tx) (err error) {
		done, err = correct(tx, caller, audit.UserCorrected, user, change, condition, &marked[0])
		return err
	})
	if err == nil {
		after, err = done.judge(condition)
	}
	if (err != nil || after.Version == done.versionBefore) && !fault.Is(err, fault.ServiceUnavailable) { // or else nobody knows whether it happened
		s.ledger.AppendLater(ledger.Entry{Kind: ledger.Void, At: marker.At, Customer: marker.Customer, Subject: marker.Subject, Of: marked[0].Number})
	}
	return after, asKnown(err)
}

// recordChange writes into the ledger what a change was about.
func (s *Service) recordChange(tx *postgres.Tx, before, after User) error {
	entry := ledger.Entry{Subject: after.ID.UUID}
	if *before.FirstName != *after.FirstName || *before.LastName != *after.LastName || *before.Email != *after.Email {
		entry.Kind = ledger.Correction
		if err := s.ledger.AppendTx(tx, entry); err != nil {
			return err
		}
	}
	if before.Role != after.Role {
		entry.Kind, entry.Role = ledger.RoleSet, string(after.Role)
		if err := s.ledger.AppendTx(tx, entry); err != nil {
			return err
		}
	}
	if before.Status != after.Status {
		entry.Kind, entry.Role, entry.Status = ledger.StatusSet, "", string(after.Status)
		return s.ledger.AppendTx(tx, entry)
	}
	return nil
}

// UpdateTx is Update within another's transaction.
func (s *Service) UpdateTx(tx *postgres.Tx, caller principal.Principal, user id.User, patch Patch) (User, error) {
	change, err := patch.clean()
	if err != nil {
		return User{}, err
	}
	after, err := s.update(tx, caller, user, change, version.Condition{})
	return after, asKnown(err)
}

// update applies a change that may take away the last administrator.
func (s *Service) update(tx *postgres.Tx, caller principal.Principal, user id.User, change change, condition version.Condition) (User, error) {
	if err := customer.LockTx(tx); err != nil {
		return User{}, err
	}
	before, err := lock(tx, user)
	if err != nil {
		return User{}, err
	}
	if before.Status != Redacted && !condition.MetBy(before.Version) {
		return User{}, stale()
	}
	if before.Status != Redacted && change.endsAdministration(before) {
		last, err := isLastAdministrator(tx, before)
		if err != nil {
			return User{}, err
		}
		if last {
			return User{}, lastAdministrator()
		}
	}
	after, err := s.correct(tx, caller, change.action(before), user, change, condition)
	if err != nil || after.Version == before.Version {
		return after, err
	}
	return after, s.recordChange(tx, before, after)
}

// correct applies a change together with its entry in the trail, in one statement.
func (s *Service) correct(tx *postgres.Tx, caller principal.Principal, action audit.Action, user id.User, change change, condition version.Condition) (User, error) {
	result, err := correct(tx, caller, action, user, change, condition, nil)
	if err != nil {
		return User{}, err
	}
	return result.judge(condition)
}

// judge returns the user after a correction, or why there was none.
func (result corrected) judge(condition version.Condition) (User, error) {
	switch {
	case result.user.Status == Redacted:
		return User{}, redacted(result.user.ReceiptID)
	case !condition.MetBy(result.versionBefore):
		return User{}, stale()
	case result.foreign:
		return User{}, foreignDomain()
	}
	return result.user, nil
}

func lastAdministrator() error {
	return fault.New(fault.LastAdministrator, "After this nobody could administer the customer's users. Make another administrator first.")
}

// change is a Patch whose members were checked.
type change struct {
	firstName *string
	lastName  *string
	address   *Address
	role      *principal.Role
	status    *Status
}

func (p Patch) clean() (out change, err error) {
	var first, last, mail error
	if p.FirstName != nil {
		name, err := CleanName(*p.FirstName, "/first_name")
		out.firstName, first = &name, err
	}
	if p.LastName != nil {
		name, err := CleanName(*p.LastName, "/last_name")
		out.lastName, last = &name, err
	}
	if p.Email != nil {
		address, err := ParseAddress(*p.Email, "/email")
		out.address, mail = &address, err
	}
	out.role, out.status = p.Role, p.Status
	return out, firstFault(first, last, mail)
}

// action is what a change of somebody is called in the trail. A change of the status gives the name, whatever else changes with it; the entry names all of it.
func (c change) action(before User) audit.Action {
	switch {
	case c.status == nil || *c.status == before.Status:
		return audit.UserCorrected
	case *c.status == Disabled:
		return audit.UserDisabled
	default:
		return audit.UserEnabled
	}
}

// endsAdministration tells whether the change takes an administrator who can sign in away from the customer.
func (c change) endsAdministration(before User) bool {
	return administers(before) && (c.role != nil && *c.role != principal.Administrator || c.status != nil && *c.status != Active)
}

func administers(user User) bool {
	return user.Role == principal.Administrator && user.Status == Active && user.PasswordSet
}

// Alerts returns the alert setting of a user. Fault: ResourceNotFound.
func (s *Service) Alerts(ctx context.Context, caller principal.Principal, user id.User) (Alerts, error) {
	found, err := s.Get(ctx, caller, user)
	return found.Alerts, ofOwn(caller, user, err)
}

// ofOwn turns what is said of somebody who is gone into what is said to that person: erased a moment ago, the caller is not signed in any more.
func ofOwn(caller principal.Principal, user id.User, err error) error {
	if caller.User == user && (fault.Is(err, fault.ResourceNotFound) || fault.Is(err, fault.UserRedacted)) {
		return fault.Because(err, fault.Unauthorized, "The session has ended. Sign in again.")
	}
	return err
}

// SetAlerts opts a user in or out. Setting what is set already changes nothing but who set it. Faults: ResourceNotFound, UserRedacted,
// PreconditionFailed.
func (s *Service) SetAlerts(ctx context.Context, caller principal.Principal, user id.User, optedIn bool, condition version.Condition) (after Alerts, err error) {
	err = s.db.InCustomer(ctx, caller.Customer, func(tx *postgres.Tx) error {
		after, err = s.setAlerts(tx, caller, user, optedIn, condition)
		return err
	})
	return after, ofOwn(caller, user, asKnown(err))
}

// SetAlertsTx is SetAlerts within another's transaction.
func (s *Service) SetAlertsTx(tx *postgres.Tx, caller principal.Principal, user id.User, optedIn bool) (Alerts, error) {
	return s.setAlerts(tx, caller, user, optedIn, version.Condition{})
}

func (s *Service) setAlerts(tx *postgres.Tx, caller principal.Principal, user id.User, optedIn bool, condition version.Condition) (Alerts, error) {
	before, err := lock(tx, user)
	switch {
	case err != nil:
		return Alerts{}, err
	case before.Status == Redacted:
		return Alerts{}, redacted(before.ReceiptID)
	case !condition.MetBy(before.Version):
		return Alerts{}, stale()
	}
	by := caller.Authority()
	if caller.User == user {
		by = string(principal.User)
	}
	after, err := setAlerts(tx, user, optedIn, by)
	if err != nil {
		return Alerts{}, err
	}
	changed := []string{}
	if before.Alerts.OptedIn != optedIn {
		changed = []string{"alerts.opted_in"}
		if err := s.ledger.AppendTx(tx, ledger.Entry{Kind: ledger.AlertsSet, Subject: user.UUID, OptedIn: &optedIn, Authority: by}); err != nil {
			return Alerts{}, err
		}
	}
	return after.Alerts, audit.AppendTx(tx, audit.Act{Caller: caller, Action: audit.UserAlertsChanged, Target: audit.OnUser(user), Changed: changed})
}

// AlertsTx returns the alert setting of somebody who is not redacted. It tells false when there is nobody.
func AlertsTx(tx *postgres.Tx, user id.User) (alerts Alerts, there bool, err error) {
	found, err := get(tx, user)
	if fault.Is(err, fault.ResourceNotFound) || (err == nil && found.Status == Redacted) {
		return Alerts{}, false, nil
	}
	return found.Alerts, err == nil, err
}

// OptOutTx opts somebody out of alerts on the person's own order. It tells false when there is nobody, and changes nothing where it is so already.
func OptOutTx(tx *postgres.Tx, book *ledger.Ledger, user id.User) (there bool, err error) {
	before, err := lock(tx, user)
	switch {
	case fault.Is(err, fault.ResourceNotFound) || (err == nil && before.Status == Redacted):
		return false, nil
	case err != nil:
		return false, err
	case !before.Alerts.OptedIn:
		return true, nil
	}
	if _, err := setAlerts(tx, user, false, string(principal.User)); err != nil {
		return false, err
	}
	out := false
	if err := book.AppendTx(tx, ledger.Entry{Kind: ledger.AlertsSet, Subject: user.UUID, OptedIn: &out, Authority: string(principal.User)}); err != nil {
		return false, err
	}
	return true, audit.AppendTx(tx, audit.Act{
		Caller: principal.Principal{Customer: tx.Customer, User: user}, Action: audit.UserAlertsChanged, Target: audit.OnUser(user), Changed: []string{"alerts.opted_in"},
	})
}
