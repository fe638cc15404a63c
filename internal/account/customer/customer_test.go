package customer

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/fusionspim/steward/internal/base/fault"
)

func TestSlugs(t *testing.T) {
	t.Parallel()
	for slug, ok := range map[string]bool{
		"a": true, "7": true, "acme": true, "acme-2": true, "a-b-c": true, strings.Repeat("a", 63): true,
		"": false, "-": false, "-acme": false, "acme-": false, "a--b": false, "Acme": false, "ac me": false, "acme.eu": false,
		"äcme": false, "acme\n": false, strings.Repeat("a", 64): false,
	} {
		if err := CheckSlug(slug); (err == nil) != ok || !ok && !fault.Is(err, fault.MalformedRequest) {
			t.Errorf("%q: %v", slug, err)
		}
	}
}

func TestParseDomains(t *testing.T) {
	t.Parallel()
	got, err := ParseDomains([]string{"b.example", "A.example", "b.example."}, "/domains")
	if err != nil || !slices.Equal(got, []string{"a.example", "b.example"}) {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := ParseDomains(nil, "/domains"); err != nil || got == nil || len(got) != 0 {
		t.Errorf("no domain: %v, %v", got, err)
	}
	_, err = ParseDomains([]string{"a.example", "b"}, "/domains")
	if at := pointerOf(err); at != "/domains/1" {
		t.Errorf("points to %q", at)
	}
}

func pointerOf(err error) string {
	var f *fault.Fault
	if !errors.As(err, &f) || len(f.Members) != 1 {
		return ""
	}
	return f.Members[0].Pointer
}

func TestParseNetworks(t *testing.T) {
	t.Parallel()
	got, err := ParseNetworks(
		[]string{"203.0.113.77/24", "2001:db8::1/32", "203.0.113.0/24", "192.0.2.1/32"},
		"/networks",
	)
	want := []netip.Prefix{
		netip.MustParsePrefix(
			"192.0.2.1/32",
		),
		netip.MustParsePrefix("2001:db8::/32"),
		netip.MustParsePrefix("203.0.113.0/24"),
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"", "203.0.113.0", "203.0.113.0/33", "203.0.113.0/024", "::ffff:203.0.113.0/120", "fe80::%eth0/64", "all"} {
		_, err := ParseNetworks([]string{"203.0.113.0/24", bad}, "/networks")
		if at := pointerOf(err); at != "/networks/1" {
			t.Errorf("%q: %v points to %q", bad, err, at)
		}
	}
}

func TestNetworksContain(t *testing.T) {
	t.Parallel()
	networks := Networks{Policy: Refuse, Networks: []netip.Prefix{
		netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("2001:db8::/32"),
	}}
	for address, want := range map[string]bool{
		"203.0.113.0": true, "203.0.113.255": true, "203.0.114.0": false, "203.0.112.255": false,
		"::ffff:203.0.113.7": true, "::ffff:192.0.2.1": false, "2001:db8:1::1": true, "2001:db9::1": false,
	} {
		if got := networks.Contains(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s is inside: %t", address, got)
		}
	}
	if !(Networks{Policy: Refuse}).Contains(netip.MustParseAddr("192.0.2.1")) {
		t.Error("a customer who names no network locks everyone out")
	}
}

func TestCleanName(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"Acme": "Acme", "  Acme Ltd \n": "Acme Ltd", "Cafe\u0301": "Caf\u00e9", strings.Repeat("é", 200): strings.Repeat("é", 200),
		"": "", " \t": "", "a\nb": "", "a\x00": "", strings.Repeat("a", 201): "",
	} {
		got, err := cleanName(text)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
}

func TestAPatchNamesWhatItChanges(t *testing.T) {
	t.Parallel()
	contact, none := new("privacy@acme.example"), (*string)(nil)
	domains := MailDomains{Policy: Flag, Domains: []string{"acme.example"}}
	networks := Networks{Policy: Refuse, Networks: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}}
	before := Customer{
		Slug: "acme", Name: "Acme", GuidanceText: "Read this.", PrivacyContact: contact, MailDomains: domains,
		Networks: networks, LoginRecordDays: 90, SecondFactor: NotRequired,
	}
	all := Patch{
		GuidanceText: new(
			"New.",
		),
		PrivacyContact: &none,
		MailDomains:    &MailDomains{Policy: Refuse, Domains: domains.Domains},
		Networks: &Networks{
			Policy: Refuse,
		},
		LoginRecordDays: new(int32(30)),
		SecondFactor:    new(Everybody),
		Name:            new("Acme Ltd"),
	}
	same := Patch{
		GuidanceText: new("Read this."), PrivacyContact: new(new("privacy@acme.example")), MailDomains: &domains,
		Networks: &networks, LoginRecordDays: new(int32(90)), SecondFactor: new(NotRequired), Name: new("Acme"),
	}
	names := []string{
		"guidance_text",
		"privacy_contact",
		"mail_domains",
		"networks",
		"login_record_days",
		"second_factor",
		"name",
	}
	for name, test := range map[string]struct {
		patch Patch
		want  []string
	}{
		"nothing":                   {Patch{}, nil},
		"the same":                  {same, nil},
		"everything":                {all, names},
		"a domain":                  {Patch{MailDomains: &MailDomains{Policy: Flag, Domains: []string{"acme.test"}}}, []string{"mail_domains"}},
		"a policy":                  {Patch{Networks: &Networks{Policy: Flag, Networks: networks.Networks}}, []string{"networks"}},
		"contact to another":        {Patch{PrivacyContact: new(new("dpo@acme.example"))}, []string{"privacy_contact"}},
		"no network to no network?": {Patch{Networks: &Networks{Policy: Refuse, Networks: []netip.Prefix{}}}, []string{"networks"}},
	} {
		after, changed := test.patch.apply(before)
		if !slices.Equal(changed, test.want) {
			t.Errorf("%s: changed %v", name, changed)
		}
		if again, changed := test.patch.apply(after); len(changed) > 0 || again.Name != after.Name {
			t.Errorf("%s: the second time it changes %v", name, changed)
		}
	}
	after, _ := all.apply(before)
	if after.GuidanceText != "New." || after.PrivacyContact != nil || after.MailDomains.Policy != Refuse || len(after.Networks.Networks) != 0 ||
		after.LoginRecordDays != 30 || after.SecondFactor != Everybody ||
		after.Name != "Acme Ltd" ||
		after.Slug != "acme" {
		t.Errorf("%+v", after)
	}
	if before.PrivacyContact != contact {
		t.Error("the customer before is changed")
	}
}

func TestTheEndOfTheContractEndsTheCaller(t *testing.T) {
	t.Parallel()
	if err := orEnded(fault.New(fault.ResourceNotFound, "x")); !fault.Is(err, fault.Unauthorized) {
		t.Errorf("not found: %v", err)
	}
	other := fault.New(fault.PreconditionFailed, "x")
	if err := orEnded(other); !errors.Is(err, other) {
		t.Errorf("another fault: %v", err)
	}
	if err := orEnded(nil); err != nil {
		t.Errorf("no fault: %v", err)
	}
}
