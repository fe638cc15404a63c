// Package customer manages the businesses that have a contract with Fusions: the controllers, and
// the tenants of the service.
//
// Owns: a customer's name and slug, the guidance that its users read, its privacy contact, and the
// mail domains and networks that it expects of its users.
// Does not own: users. Policies are applied where users are created (user) and sign in (session).
package customer

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/fusionspim/steward/internal/base/address"
	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/id"
)

// OperatorsSlug is the slug of Fusions itself, whose users are the operators.
const OperatorsSlug = "fusions"

// Policy says what happens to a value outside a list. The set is closed.
type Policy string

// The policies.
const (
	Off    Policy = "off"    // accepted
	Flag   Policy = "flag"   // accepted and flagged
	Refuse Policy = "refuse" // refused
)

// SecondFactorPolicy says who must have a second factor. The set is closed.
type SecondFactorPolicy string

// The policies for second factors.
const (
	NotRequired    SecondFactorPolicy = "off"
	Administrators SecondFactorPolicy = "administrators"
	Everybody      SecondFactorPolicy = "everybody"
)

// DefaultLoginRecordDays is how long login records are kept by default.
const DefaultLoginRecordDays = 90

// Customer is a customer's settings.
type Customer struct {
	ID              id.Customer
	Slug            string
	Name            string
	GuidanceText    string
	PrivacyContact  *string
	MailDomains     MailDomains
	Networks        Networks
	LoginRecordDays int32 // retention of login records in days
	SecondFactor    SecondFactorPolicy
	Version         int64
	CreatedAt       time.Time
	UpdatedAt       time.Time
}

// MailDomains are the expected domains of users' addresses.
type MailDomains struct {
	Policy Policy
	// in ASCII form, lower case, sorted; subdomains are not included
	Domains []string
}

// Networks are where users are expected to sign in from.
type Networks struct {
	Policy   Policy
	Networks []netip.Prefix // masked and sorted
}

// Contains reports whether the address is in one of the networks. An empty list contains every
// address.
func (n Networks) Contains(address netip.Addr) bool {
	return len(n.Networks) == 0 ||
		slices.ContainsFunc(n.Networks, func(network netip.Prefix) bool { return network.Contains(address.Unmap()) })
}

// Patch changes settings; nil leaves one unchanged.
type Patch struct {
	GuidanceText    *string
	PrivacyContact  **string // a pointer to nil removes it
	MailDomains     *MailDomains
	Networks        *Networks
	LoginRecordDays *int32
	SecondFactor    *SecondFactorPolicy
	Name            *string // for operators only
}

var slugForm = regexp.MustCompile(`^[a-z0-9](-?[a-z0-9])*$`)

// CheckSlug reports whether a text is a slug: 1 to 63 of a-z, 0-9 and single inner hyphens, as in a
// host name.
func CheckSlug(slug string) error {
	if len(slug) > 63 || !slugForm.MatchString(slug) {
		return fault.New(fault.MalformedRequest, "The slug cannot be taken.").
			At("/slug", "must be 1 to 63 lower-case letters, digits and single inner hyphens")
	}
	return nil
}

// ParseNetworks parses networks in CIDR notation; the pointer names the list in the request.
func ParseNetworks(texts []string, pointer string) ([]netip.Prefix, error) {
	networks := make([]netip.Prefix, 0, len(texts))
	for i, text := range texts {
		network, err := netip.ParsePrefix(text)
		if err != nil || network.Addr().Is4In6() {
			return nil, fault.New(fault.MalformedRequest, "A network cannot be taken.").
				At(pointer+"/"+decimal(i), "must be a network in CIDR notation, such as 203.0.113.0/24 or 2001:db8::/32")
		}
		networks = append(networks, network.Masked())
	}
	slices.SortFunc(networks, func(a, b netip.Prefix) int { return strings.Compare(a.String(), b.String()) })
	return slices.Compact(networks), nil
}

// ParseDomains parses mail domains; the pointer names the list in the request.
func ParseDomains(texts []string, pointer string) ([]string, error) {
	domains := make([]string, 0, len(texts))
	for i, text := range texts {
		domain, ok := address.ParseDomain(text)
		if !ok {
			return nil, fault.New(fault.MalformedRequest, "A mail domain cannot be taken.").
				At(pointer+"/"+decimal(i), "must be a domain, such as example.com")
		}
		domains = append(domains, domain)
	}
	slices.Sort(domains)
	return slices.Compact(domains), nil
}
