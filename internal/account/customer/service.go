package customer

import (
	"context"
	"net/netip"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/base/version"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/record/audit"
)

func decimal(n int) string { return strconv.Itoa(n) }

// Service implements the customer use cases. Safe for concurrent use.
type Service struct{ db *postgres.DB }

// NewService returns the service.
func NewService(db *postgres.DB) *Service { return &Service{db: db} }

// Get returns the caller's customer.
func (s *Service) Get(ctx context.Context, caller principal.Principal) (found Customer, err error) {
	err = s.db.InCustomerAutocommit(ctx, caller.Customer, func(tx *postgres.Tx) error {
		found, err = get(tx, false)
		return orEnded(err)
	})
	return found, err
}

// orEnded turns ResourceNotFound of the caller's own customer into Unauthorized: the customer was
// deleted.
func orEnded(err error) error {
	if fault.Is(err, fault.ResourceNotFound) {
		return fault.New(fault.Unauthorized, "The customer's contract has ended.")
	}
	return err
}

// GetTx is Get within the caller's transaction. Fault: ResourceNotFound.
func GetTx(tx *postgres.Tx) (Customer, error) { return get(tx, false) }

// Find looks a customer up by its slug, before the caller is known.
func (s *Service) Find(ctx context.Context, slug string) (found Found, ok bool, err error) {
	err = s.db.InPlatform(ctx, func(tx *postgres.Tx) error {
		found, ok, err = bySlug(tx, slug)
		return err
	})
	return found, ok, err
}

// Found is what signing in needs to know of a customer.
type Found struct {
	ID       id.Customer
	Name     string
	Networks Networks
}

// New is a customer to be created.
type New struct {
	Slug           string
	Name           string
	GuidanceText   string
	PrivacyContact *string
	MailDomains    MailDomains
	Networks       Networks
}

// Create creates a customer and calls then in the same transaction, to create its first
// administrator: a function because users are above customers. Fault: SlugTaken.
func (s *Service) Create(ctx context.Context, in New, then func(tx *postgres.Tx) error) (made Customer, err error) {
	err = s.db.InCustomer(ctx, id.New[id.Customer](), func(tx *postgres.Tx) error {
		if made, err = CreateTx(tx, principal.Principal{}, in); err != nil {
			return err
		}
		return then(tx)
	})
	return made, err
}

// CreateTx is Create within a transaction that acts as the customer to be created.
func CreateTx(tx *postgres.Tx, caller principal.Principal, in New) (Customer, error) {
	if err := CheckSlug(in.Slug); err != nil {
		return Customer{}, err
	}
	name, err := cleanName(in.Name)
	if err != nil {
		return Customer{}, err
	}
	made := Customer{
		ID:             tx.Customer,
		Slug:           in.Slug,
		Name:           name,
		GuidanceText:   in.GuidanceText,
		PrivacyContact: in.PrivacyContact,
		MailDomains: MailDomains{
			orOff(in.MailDomains.Policy),
			in.MailDomains.Domains,
		},
		Networks:        Networks{orOff(in.Networks.Policy), in.Networks.Networks},
		LoginRecordDays: DefaultLoginRecordDays,
		SecondFactor:    NotRequired,
		Version:         1,
		CreatedAt:       tx.Now,
		UpdatedAt:       tx.Now,
	}
	if err := insert(tx, made); err != nil {
		if postgres.Violates(err, "customers_slug_key") {
			return Customer{}, fault.New(fault.SlugTaken, "Another customer has this slug.").At("/slug", "is in use")
		}
		return Customer{}, err
	}
	return made, audit.AppendTx(
		tx,
		audit.Act{Caller: caller, Action: audit.CustomerCreated, Target: audit.OnCustomer(made.ID)},
	)
}

// cleanName normalises the name of a business.
func cleanName(name string) (string, error) {
	name = norm.NFC.String(strings.TrimSpace(name))
	if name == "" || utf8.RuneCountInString(name) > 200 || strings.ContainsFunc(name, unicode.IsControl) {
		return "", fault.New(fault.MalformedRequest, "The name cannot be taken.").
			At("/name", "must be 1 to 200 characters without control characters")
	}
	return name, nil
}

// ListTx returns at most limit customers, newest first, from those before the given one; zero: from
// the newest on. Fusions itself is not among them. It needs a transaction outside customers.
func ListTx(tx *postgres.Tx, before id.Customer, limit int) ([]Customer, error) {
	return list(tx, before, limit)
}

// Update changes the settings of the caller's customer. Fault: PreconditionFailed.
func (s *Service) Update(
	ctx context.Context,
	caller principal.Principal,
	patch Patch,
	condition version.Condition,
) (after Customer, err error) {
	err = s.db.InCustomer(ctx, caller.Customer, func(tx *postgres.Tx) error {
		after, err = UpdateTx(tx, caller, patch, condition)
		return orEnded(err)
	})
	return after, err
}

// UpdateTx is Update within a transaction of the customer.
func UpdateTx(
	tx *postgres.Tx,
	caller principal.Principal,
	patch Patch,
	condition version.Condition,
) (after Customer, err error) {
	if patch.Name != nil {
		name, err := cleanName(*patch.Name)
		if err != nil {
			return Customer{}, err
		}
		patch.Name = &name
	}
	before, err := get(tx, true)
	if err != nil {
		return Customer{}, err
	}
	if !condition.MetBy(before.Version) {
		return Customer{}, fault.New(
			fault.PreconditionFailed,
			"The settings have changed. Fetch them again before you change them.",
		)
	}
	var changed []string
	if after, changed = patch.apply(before); len(changed) == 0 {
		return after, nil
	}
	after.Version, after.UpdatedAt = before.Version+1, tx.Now
	if err := update(tx, after); err != nil {
		return Customer{}, err
	}
	return after, audit.AppendTx(
		tx,
		audit.Act{
			Caller:  caller,
			Action:  audit.CustomerChanged,
			Target:  audit.OnCustomer(tx.Customer),
			Changed: changed,
		},
	)
}

// apply returns the customer after the patch, and the names of the members that changed.
func (p Patch) apply(before Customer) (after Customer, changed []string) {
	after = before
	if p.GuidanceText != nil && *p.GuidanceText != before.GuidanceText {
		after.GuidanceText = *p.GuidanceText
		changed = append(changed, "guidance_text")
	}
	if p.PrivacyContact != nil && !same(*p.PrivacyContact, before.PrivacyContact) {
		after.PrivacyContact = *p.PrivacyContact
		changed = append(changed, "privacy_contact")
	}
	if p.MailDomains != nil &&
		!(p.MailDomains.Policy == before.MailDomains.Policy && equal(p.MailDomains.Domains, before.MailDomains.Domains)) {
		after.MailDomains = *p.MailDomains
		changed = append(changed, "mail_domains")
	}
	if p.Networks != nil &&
		!(p.Networks.Policy == before.Networks.Policy && equal(p.Networks.Networks, before.Networks.Networks)) {
		after.Networks = *p.Networks
		changed = append(changed, "networks")
	}
	if p.LoginRecordDays != nil && *p.LoginRecordDays != before.LoginRecordDays {
		after.LoginRecordDays = *p.LoginRecordDays
		changed = append(changed, "login_record_days")
	}
	if p.SecondFactor != nil && *p.SecondFactor != before.SecondFactor {
		after.SecondFactor = *p.SecondFactor
		changed = append(changed, "second_factor")
	}
	if p.Name != nil && *p.Name != before.Name {
		after.Name = *p.Name
		changed = append(changed, "name")
	}
	return after, changed
}

func same(a, b *string) bool { return (a == nil) == (b == nil) && (a == nil || *a == *b) }

func equal[T string | netip.Prefix](a, b []T) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}
