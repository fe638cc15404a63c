package customer

import (
	"context"
	"net/netip"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/fusionspim/steward/internal/audit"
	"github.com/fusionspim/steward/internal/fault"
	"github.com/fusionspim/steward/internal/id"
	"github.com/fusionspim/steward/internal/postgres"
	"github.com/fusionspim/steward/internal/principal"
	"github.com/fusionspim/steward/internal/version"
)

func decimal(n int) string { return strconv.Itoa(n) }

// Service is customers as callers use them.
type Service struct{ db *postgres.DB }

// NewService makes the service.
func NewService(db *postgres.DB) *Service { return &Service{db: db} }

// Get returns the caller's own customer.
func (s *Service) Get(ctx context.Context, caller principal.Principal) (found Customer, err error) {
	err = s.db.EachInCustomer(ctx, caller.Customer, func(tx *postgres.Tx) error {
		found, err = get(tx, false)
		return err
	})
	return found, err
}

// Find looks a customer up by its slug, before anything is known of the caller. There may be none.
func (s *Service) Find(ctx context.Context, slug string) (found Found, ok bool, err error) {
	err = s.db.InPlatform(ctx, func(tx *postgres.Tx) error {
		found, ok, err = bySlug(tx, slug)
		return err
	})
	return found, ok, err
}

// Found is as much of a customer as signing in needs.
type Found struct {
	ID       id.Customer
	Name     string
	Networks Networks
}

// New is a customer that is to be made.
type New struct {
	Slug           string
	Name           string
	GuidanceText   string
	PrivacyContact *string
	MailDomains    MailDomains
	Networks       Networks
}

// Create makes a customer and calls then in the same transaction, so that its first administrator can be made with it.
// A slug that is in use gives the fault SlugTaken.
func (s *Service) Create(ctx context.Context, in New, then func(tx *postgres.Tx) error) (made Customer, err error) {
	if err := CheckSlug(in.Slug); err != nil {
		return Customer{}, err
	}
	in.Name = norm.NFC.String(strings.TrimSpace(in.Name))
	if in.Name == "" || utf8.RuneCountInString(in.Name) > 200 || strings.ContainsFunc(in.Name, unicode.IsControl) {
		return Customer{}, fault.New(fault.MalformedRequest, "The name cannot be taken.").At("/name", "must be 1 to 200 characters without control characters")
	}
	customer := id.New[id.Customer]()
	err = s.db.InCustomer(ctx, customer, func(tx *postgres.Tx) error {
		made = Customer{
			ID: customer, Slug: in.Slug, Name: in.Name, GuidanceText: in.GuidanceText, PrivacyContact: in.PrivacyContact,
			MailDomains: in.MailDomains, Networks: in.Networks, Version: 1, CreatedAt: tx.Now, UpdatedAt: tx.Now,
		}
		if err := insert(tx, made); err != nil {
			if postgres.Violates(err, "customers_slug_key") {
				return fault.New(fault.SlugTaken, "Another customer has this slug.").At("/slug", "is in use")
			}
			return err
		}
		if err := audit.AppendTx(tx, audit.Act{Action: audit.CustomerCreated, Target: audit.OnCustomer(customer)}); err != nil {
			return err
		}
		return then(tx)
	})
	return made, err
}

// Update changes the settings of the caller's own customer. Fault: PreconditionFailed.
func (s *Service) Update(ctx context.Context, caller principal.Principal, patch Patch, condition version.Condition) (after Customer, err error) {
	err = s.db.InCustomer(ctx, caller.Customer, func(tx *postgres.Tx) error {
		before, err := get(tx, true)
		if err != nil {
			return err
		}
		if !condition.MetBy(before.Version) {
			return fault.New(fault.PreconditionFailed, "The settings have changed. Fetch them again before you change them.")
		}
		var changed []string
		if after, changed = patch.apply(before); len(changed) == 0 {
			return nil
		}
		after.Version, after.UpdatedAt = before.Version+1, tx.Now
		if err := update(tx, after); err != nil {
			return err
		}
		return audit.AppendTx(tx, audit.Act{Caller: caller, Action: audit.CustomerChanged, Target: audit.OnCustomer(caller.Customer), Changed: changed})
	})
	return after, err
}

// apply returns the customer after the patch and the names of the members that differ.
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
	if p.MailDomains != nil && !(p.MailDomains.Policy == before.MailDomains.Policy && equal(p.MailDomains.Domains, before.MailDomains.Domains)) {
		after.MailDomains = *p.MailDomains
		changed = append(changed, "mail_domains")
	}
	if p.Networks != nil && !(p.Networks.Policy == before.Networks.Policy && equal(p.Networks.Networks, before.Networks.Networks)) {
		after.Networks = *p.Networks
		changed = append(changed, "networks")
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
