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
	stores   []postgres.Store // all
	erased   []postgres.Store // those from which an erasure removes rows, but for the accounts
}

// Invite invites users without a password to choose one, in the transaction that creates them. It
// is a function because package passwordlink depends on this one.
type Invite func(tx *postgres.Tx, created ...id.User) error

// Dependencies of a Service.
type Dependencies struct {
	DB       *postgres.DB
	Ledger   *ledger.Ledger  // for acts that must survive a restore of the database
	Box      *seal.Box       // for the hashes of addresses of erased users
	Backups  *backup.Service // for when the last backup of an erased user expires
	Receipts *receipt.Issuer // whose keys are loaded
	Invite   Invite
	Stores   []postgres.Store // all; erasures follow their declarations
}

// NewService makes the service. To neither create nor erase users, DB and Ledger suffice.
func NewService(from Dependencies) *Service {
	return &Service{
		db: from.DB, ledger: from.Ledger, box: from.Box, backups: from.Backups, receipts: from.Receipts,
		invite: from.Invite, stores: from.Stores,
		erased: slices.DeleteFunc(inventory.ForErasure(from.Stores), func(store postgres.Store) bool {
			return store.Table == accounts
		}),
	}
}

// suppressionHash is the hash, by the address key, that is kept when the owner of an address is
// erased, so that no import recreates them unnoticed. It cannot be computed without the master key.
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

// Create creates a user, and invites them if they have no password. Role defaults to an ordinary
// user. Faults: InvalidName, InvalidEmail, ForeignMailDomain, EmailTaken.
func (s *Service) Create(
	ctx context.Context, caller principal.Principal, in New, once *idempotency.Once[User],
) (User, error) {
	person, err := in.clean()
	if err != nil {
		return User{}, err
	}
	created, err := idempotency.WriteAbout(ctx, s.db, caller.Customer, once,
		func(tx *postgres.Tx) (User, id.User, error) {
			created, err := s.create(tx, caller, person)
			return created, created.ID, err
		})
	return created, constraintFault(err)
}

func (s *Service) create(tx *postgres.Tx, caller principal.Principal, in person) (User, error) {
	created, err := create(tx, caller, in)
	if err != nil || created.PasswordSet {
		return created, err
	}
	return created, s.invite(tx, created.ID)
}

// CreateTx is Create in the caller's transaction, also for roles that the API cannot assign. It
// does not invite the user: the caller does, or passes a password.
func CreateTx(tx *postgres.Tx, caller principal.Principal, in New) (User, error) {
	person, err := in.clean()
	if err != nil {
		return User{}, err
	}
	created, err := create(tx, caller, person)
	return created, constraintFault(err)
}

func create(tx *postgres.Tx, caller principal.Principal, in person) (User, error) {
	created, foreign, err := insert(tx, in)
	if err != nil {
		return User{}, err
	}
	if foreign {
		return User{}, foreignDomain()
	}
	return created, audit.AppendTx(tx,
		audit.Act{Caller: caller, Action: audit.UserCreated, Target: audit.OnUser(created.ID)})
}

func foreignDomain() error {
	return fault.New(fault.ForeignMailDomain, "The address is outside the customer's mail domains.").
		At("/email", "must be of one of the customer's mail domains")
}

// constraintFault turns a violation of a constraint of the schema into its fault.
func constraintFault(err error) error {
	switch {
	case postgres.Violates(err, "users_email"):
		return emailTaken()
	case postgres.Violates(err, "audit_entries_actor_user"):
		// The caller has just been deleted.
		return fault.Because(err, fault.Unauthorized, "The session has ended. Sign in again.")
	}
	return err
}

// person is a New whose members are checked and normalised.
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

// firstFault returns the first fault, with the members of the later ones added, or an error that is
// no fault.
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
func (s *Service) Get(ctx context.Context, caller principal.Principal, user id.User) (User, error) {
	return postgres.Read(ctx, s.db, caller.Customer, func(tx *postgres.Tx) (User, error) { return get(tx, user) })
}

// Me returns what the caller sees of their own account. Fault: Unauthorized, if it is not active.
func (s *Service) Me(ctx context.Context, caller principal.Principal) (Me, error) {
	found, err := postgres.Read(ctx, s.db, caller.Customer, func(tx *postgres.Tx) (Me, error) {
		return me(tx, caller.User)
	})
	if fault.Is(err, fault.ResourceNotFound) || (err == nil && found.Status != Active) {
		return Me{}, fault.New(fault.Unauthorized, "The session has ended. Sign in again.")
	}
	return found, err
}

// List returns at most limit users, newest first: those created before the given one, or the newest
// ones if it is zero.
func (s *Service) List(
	ctx context.Context, caller principal.Principal, filter Filter, before id.User, limit int,
) ([]User, error) {
	if filter.Email != "" {
		address, err := LookupAddress(filter.Email, "?email")
		if err != nil {
			return nil, nil // no user has it
		}
		filter.Email = address.Key
	}
	return postgres.Read(ctx, s.db, caller.Customer, func(tx *postgres.Tx) ([]User, error) {
		return list(tx, filter, before, limit)
	})
}

// Update changes a user. Faults: ResourceNotFound, UserRedacted, PreconditionFailed,
// LastAdministrator, and those of Create.
//
// A change of role or status is a transaction like any other act: its ledger entry is written just
// before the commit, because a refused change must not be in the ledger, from which it would be
// replayed. A correction of names and address alone, the most frequent write, is one statement, so
// its entry comes first: that entry holds no values, and one without a correction at most marks a
// user after a restore. In a transaction it has about half the throughput (decision 0030).
func (s *Service) Update(
	ctx context.Context, caller principal.Principal, user id.User, patch Patch, condition version.Condition,
) (User, error) {
	change, err := patch.clean()
	if err != nil {
		return User{}, err
	}
	var after User
	if patch.Role == nil && patch.Status == nil {
		after, err = s.correctAlone(ctx, caller, user, change, condition)
	} else {
		after, err = postgres.Write(ctx, s.db, caller.Customer, func(tx *postgres.Tx) (User, error) {
			return s.update(tx, caller, user, change, condition)
		})
	}
	return after, constraintFault(err)
}

// UpdateTx is Update in the caller's transaction.
func (s *Service) UpdateTx(tx *postgres.Tx, caller principal.Principal, user id.User, patch Patch) (User, error) {
	change, err := patch.clean()
	if err != nil {
		return User{}, err
	}
	after, err := s.update(tx, caller, user, change, version.Condition{})
	return after, constraintFault(err)
}

// correctAlone corrects names and address by one statement, which is its own transaction. The entry
// in the ledger precedes it; if the correction fails, it is voided.
func (s *Service) correctAlone(
	ctx context.Context, caller principal.Principal, user id.User, change change, condition version.Condition,
) (User, error) {
	entry := ledger.Entry{Kind: ledger.Correction, At: s.db.Now(), Customer: caller.Customer, Subject: user.UUID}
	positions, err := s.ledger.Append(ctx, entry)
	if err != nil {
		return User{}, err
	}
	void := func() {
		s.ledger.AppendLater(ledger.Entry{
			Kind: ledger.Void, At: entry.At, Customer: entry.Customer, Subject: entry.Subject, Of: positions[0].Number,
		})
	}
	var result corrected
	err = s.db.InCustomerAutocommit(ctx, caller.Customer, func(tx *postgres.Tx) (err error) {
		result, err = correct(tx, caller, audit.UserCorrected, user, change, condition, &positions[0])
		return err
	})
	if err == nil {
		err = result.judge(condition)
	}
	switch {
	case fault.Is(err, fault.ServiceUnavailable):
		return User{}, err // the correction may have been committed
	case err != nil:
		void()
		return User{}, err
	case len(result.changed) == 0:
		void()
	}
	return result.user, nil
}

// update changes a user. It locks the customer first, as an erasure does, because the change may
// take away the last administrator.
func (s *Service) update(
	tx *postgres.Tx, caller principal.Principal, user id.User, change change, condition version.Condition,
) (User, error) {
	if err := customer.LockTx(tx); err != nil {
		return User{}, err
	}
	before, err := lock(tx, user)
	switch {
	case err != nil:
		return User{}, err
	case before.Status == Redacted:
		return User{}, redacted(before.ReceiptID)
	case !condition.MetBy(before.Version):
		return User{}, stale()
	}
	if change.endsAdministration(before) {
		last, err := isLastAdministrator(tx, before)
		if err != nil {
			return User{}, err
		}
		if last {
			return User{}, lastAdministrator()
		}
	}
	result, err := correct(tx, caller, change.action(before), user, change, condition, nil)
	if err != nil {
		return User{}, err
	}
	if err := result.judge(condition); err != nil {
		return User{}, err
	}
	for _, entry := range result.entries() {
		if err := s.ledger.AppendTx(tx, entry); err != nil {
			return User{}, err
		}
	}
	return result.user, nil
}

// entries returns the ledger entries of a change.
func (result corrected) entries() (entries []ledger.Entry) {
	correction := func(member string) bool { return member != "role" && member != "status" }
	subject := result.user.ID.UUID
	if slices.ContainsFunc(result.changed, correction) {
		entries = append(entries, ledger.Entry{Kind: ledger.Correction, Subject: subject})
	}
	if slices.Contains(result.changed, "role") {
		entries = append(entries, ledger.Entry{Kind: ledger.RoleSet, Subject: subject, Role: string(result.user.Role)})
	}
	if slices.Contains(result.changed, "status") {
		entries = append(entries,
			ledger.Entry{Kind: ledger.StatusSet, Subject: subject, Status: string(result.user.Status)})
	}
	return entries
}

// judge returns the fault for which the statement changed nothing, if any.
func (result corrected) judge(condition version.Condition) error {
	switch {
	case result.user.Status == Redacted:
		return redacted(result.user.ReceiptID)
	case !condition.MetBy(result.versionBefore):
		return stale()
	case result.foreign:
		return foreignDomain()
	}
	return nil
}

func lastAdministrator() error {
	return fault.New(fault.LastAdministrator,
		"After this nobody could administer the customer's users. Make another administrator first.")
}

// change is a Patch whose members are checked.
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

// action is the audit action of a change of a user. It names a change of status, whatever else
// changes; the entry lists all changed members.
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

// endsAdministration reports whether the customer loses an administrator who can sign in.
func (c change) endsAdministration(before User) bool {
	return administers(before) &&
		(c.role != nil && *c.role != principal.Administrator || c.status != nil && *c.status != Active)
}

func administers(user User) bool {
	return user.Role == principal.Administrator && user.Status == Active && user.PasswordSet
}

// Alerts returns the alert setting of a user. Fault: ResourceNotFound.
func (s *Service) Alerts(ctx context.Context, caller principal.Principal, user id.User) (Alerts, error) {
	found, err := s.Get(ctx, caller, user)
	return found.Alerts, sessionFault(caller, user, err)
}

// sessionFault replaces the fault for an erased user if that is the caller, whose session has
// ended.
func sessionFault(caller principal.Principal, user id.User, err error) error {
	if caller.User == user && (fault.Is(err, fault.ResourceNotFound) || fault.Is(err, fault.UserRedacted)) {
		return fault.Because(err, fault.Unauthorized, "The session has ended. Sign in again.")
	}
	return err
}

// SetAlerts opts a user in or out. Setting the present value changes only who set it. Faults:
// ResourceNotFound, UserRedacted, PreconditionFailed.
func (s *Service) SetAlerts(
	ctx context.Context, caller principal.Principal, user id.User, optedIn bool, condition version.Condition,
) (Alerts, error) {
	after, err := postgres.Write(ctx, s.db, caller.Customer, func(tx *postgres.Tx) (Alerts, error) {
		return s.setAlerts(tx, caller, user, optedIn, condition)
	})
	return after, sessionFault(caller, user, constraintFault(err))
}

// SetAlertsTx is SetAlerts in the caller's transaction, without a condition.
func (s *Service) SetAlertsTx(tx *postgres.Tx, caller principal.Principal, user id.User, optedIn bool) (Alerts, error) {
	return s.setAlerts(tx, caller, user, optedIn, version.Condition{})
}

func (s *Service) setAlerts(
	tx *postgres.Tx, caller principal.Principal, user id.User, optedIn bool, condition version.Condition,
) (Alerts, error) {
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
		entry := ledger.Entry{Kind: ledger.AlertsSet, Subject: user.UUID, OptedIn: &optedIn, Authority: by}
		if err := s.ledger.AppendTx(tx, entry); err != nil {
			return Alerts{}, err
		}
	}
	return after.Alerts, audit.AppendTx(tx, audit.Act{
		Caller: caller, Action: audit.UserAlertsChanged, Target: audit.OnUser(user), Changed: changed,
	})
}

// AlertsTx returns the alert setting of a user; exists is false if there is no such user or they
// are redacted.
func AlertsTx(tx *postgres.Tx, user id.User) (alerts Alerts, exists bool, err error) {
	found, err := get(tx, user)
	if fault.Is(err, fault.ResourceNotFound) || (err == nil && found.Status == Redacted) {
		return Alerts{}, false, nil
	}
	return found.Alerts, err == nil, err
}

// OptOutTx opts a user out of alerts at their own request; exists is false if there is no such user
// or they are redacted. It changes nothing if they are opted out.
func OptOutTx(tx *postgres.Tx, book *ledger.Ledger, user id.User) (exists bool, err error) {
	before, err := lock(tx, user)
	switch {
	case fault.Is(err, fault.ResourceNotFound) || (err == nil && before.Status == Redacted):
		return false, nil
	case err != nil:
		return false, err
	case !before.Alerts.OptedIn:
		return true, nil
	}
	by, optedIn := string(principal.User), false
	if _, err := setAlerts(tx, user, optedIn, by); err != nil {
		return false, err
	}
	entry := ledger.Entry{Kind: ledger.AlertsSet, Subject: user.UUID, OptedIn: &optedIn, Authority: by}
	if err := book.AppendTx(tx, entry); err != nil {
		return false, err
	}
	return true, audit.AppendTx(tx, audit.Act{
		Caller: principal.Principal{Customer: tx.Customer, User: user}, Action: audit.UserAlertsChanged,
		Target: audit.OnUser(user), Changed: []string{"alerts.opted_in"},
	})
}
