// Package customer is the businesses that have a contract with Fusions: the controllers, and the
// tenants of the service.
//
// Owns: a customer's name and slug, the guidance that its users read, the mailbox that they may
// ask, and the mail domains and networks that it expects of them.
// Does not own: people. What a policy says is applied where people are created (user) and sign in
// (session).
package customer

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/idna"

	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/id"
)

// OperatorsSlug is the slug of Fusions itself, whose users are the operators.
const OperatorsSlug = "fusions"

// Policy is what happens to what lies outside a list. The set is closed.
type Policy string

// The policies.
const (
	Off    Policy = "off"    // let through
	Flag   Policy = "flag"   // let through and marked
	Refuse Policy = "refuse" // refused
)

// SecondFactorPolicy is of whom a second factor is required. The set is closed.
type SecondFactorPolicy string

// The policies for second factors.
const (
	NotRequired    SecondFactorPolicy = "off"
	Administrators SecondFactorPolicy = "administrators"
	Everybody      SecondFactorPolicy = "everybody"
)

// DefaultLoginRecordDays is how long login records are kept if the customer chooses nothing else.
const DefaultLoginRecordDays = 90

// Customer is one customer.
type Customer struct {
	ID              id.Customer
	Slug            string
	Name            string
	GuidanceText    string
	PrivacyContact  *string
	MailDomains     MailDomains
	Networks        Networks
	LoginRecordDays int32 // how many days login records are kept
	SecondFactor    SecondFactorPolicy
	Version         int64
	CreatedAt       time.Time
	UpdatedAt       time.Time
}

// MailDomains are the domains that users' addresses are expected to be of.
type MailDomains struct {
	Policy Policy
	// in ASCII form, lower case, sorted; each covers itself and not what is below it
	Domains []string
}

// Networks are where users are expected to sign in from.
type Networks struct {
	Policy   Policy
	Networks []netip.Prefix // masked and sorted
}

// Contains tells whether the address lies in one of the networks. With no network listed, every
// address does.
func (n Networks) Contains(address netip.Addr) bool {
	return len(n.Networks) == 0 ||
		slices.ContainsFunc(n.Networks, func(network netip.Prefix) bool { return network.Contains(address.Unmap()) })
}

// Patch changes settings; nil leaves one as it is.
type Patch struct {
	GuidanceText    *string
	PrivacyContact  **string // a pointer to nil removes it
	MailDomains     *MailDomains
	Networks        *Networks
	LoginRecordDays *int32
	SecondFactor    *SecondFactorPolicy
	Name            *string // an operator's to change
}

var slugForm = regexp.MustCompile(`^[a-z0-9](-?[a-z0-9])*$`)

// CheckSlug tells whether a text can be a slug: 1 to 63 of a-z, 0-9 and single inner hyphens, which
// is what a label of a host name takes.
func CheckSlug(slug string) error {
	if len(slug) > 63 || !slugForm.MatchString(slug) {
		return fault.New(fault.MalformedRequest, "The slug cannot be taken.").
			At("/slug", "must be 1 to 63 lower-case letters, digits and single inner hyphens")
	}
	return nil
}

// ParseDomain brings a mail domain to the form in which domains are compared: ASCII (RFC 5891),
// lower case, without a final dot.
func ParseDomain(text string) (domain string, ok bool) {
	domain, err := idna.Lookup.ToASCII(strings.ToLower(text))
	if err != nil {
		return "", false
	}
	// only now: idna reads other scripts' full stops as dots
	domain = strings.TrimSuffix(domain, ".")
	labels := strings.Split(domain, ".")
	// RFC 1035, section 2.3.4; Lookup lets both through
	badLabel := func(label string) bool { return label == "" || len(label) > 63 }
	if len(domain) > 253 || len(labels) < 2 || slices.ContainsFunc(labels, badLabel) {
		return "", false
	}
	return domain, !strings.ContainsAny(domain, " @/:[]_")
}

// ParseNetworks reads networks in CIDR notation; the pointer names the list in the request.
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

// ParseDomains reads mail domains; the pointer names the list in the request.
func ParseDomains(texts []string, pointer string) ([]string, error) {
	domains := make([]string, 0, len(texts))
	for i, text := range texts {
		domain, ok := ParseDomain(text)
		if !ok {
			return nil, fault.New(fault.MalformedRequest, "A mail domain cannot be taken.").
				At(pointer+"/"+decimal(i), "must be a domain, such as example.com")
		}
		domains = append(domains, domain)
	}
	slices.Sort(domains)
	return slices.Compact(domains), nil
}
