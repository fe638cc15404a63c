package inventory_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/fusionspim/steward/internal/base/inventory"
)

type store = inventory.Store[any, any]

func table(name string, how inventory.How, refers ...string) store {
	return store{
		Table: name, Whose: inventory.OfPeople, Refers: refers, Erase: inventory.Erasure[any]{How: how},
	}
}

func namesOf(stores []store) string {
	var names []string
	for _, s := range stores {
		names = append(names, s.Name())
	}
	return strings.Join(names, " ")
}

func TestStoresAreOrderedByTheirForeignKeys(t *testing.T) {
	t.Parallel()
	stores := []store{
		table("customers", inventory.Untouched),
		table("users", inventory.Null, "customers"),
		table("sessions", inventory.Delete, "users"),
		table("tokens", inventory.Delete, "sessions"),
		table("trail", inventory.Kept, "users"),
		{Table: "jobs", Whose: inventory.OfCustomers, Leave: inventory.Leaving{Order: -1}},
		{Table: "ledger", Whose: inventory.OfCustomers, Leave: inventory.Leaving{Stays: "proof"}},
		{Table: "keys", Whose: inventory.OfService},
		{Objects: "backups/", Whose: inventory.OfService},
	}
	stores[0].Leave.Order = 1
	if got, want := namesOf(inventory.ForLeaving(stores)), "jobs tokens sessions trail users customers"; got != want {
		t.Errorf("at the end of a customer: %s, not %s", got, want)
	}
	// Users stay as rows, so what points at them need not go first.
	if got, want := namesOf(inventory.ForErasure(stores)), "users tokens sessions"; got != want {
		t.Errorf("at an erasure: %s, not %s", got, want)
	}
	if got, want := namesOf(inventory.ForPeople(stores)), "customers users sessions tokens trail"; got != want {
		t.Errorf("in a bundle: %s, not %s", got, want)
	}
	if got, want := inventory.Vacuumed(stores), []string{"sessions", "tokens", "users"}; !slices.Equal(got, want) {
		t.Errorf("vacuumed: %q, not %q", got, want)
	}
}

func TestColumnsAreShownUnlessWithheld(t *testing.T) {
	t.Parallel()
	s := store{Table: "users", Columns: []inventory.Columns{
		inventory.ID("customer_id").WithholdFromPerson(inventory.Employer),
		inventory.Personal("email"),
		inventory.Secret("hash").Withhold(inventory.Credential),
	}}
	if got := strings.Join(s.ShownToPerson(), " "); got != "email" {
		t.Errorf("a person is shown %q", got)
	}
	if got := strings.Join(s.ShownToCustomer(), " "); got != "customer_id email" {
		t.Errorf("a customer is shown %q", got)
	}
	if got := s.WithheldFromPerson(); len(got) != 2 || got[1] != (inventory.Withheld{Column: "hash", Why: inventory.Credential}) {
		t.Errorf("withheld from a person: %v", got)
	}
	for _, why := range []inventory.Why{
		inventory.Credential, inventory.Derivative, inventory.Others, inventory.Container, inventory.Employer,
	} {
		if why.Explained() == "" {
			t.Errorf("nothing explains %q", why)
		}
	}
	if !s.IsPersonal() || s.CustomerColumn() != "customer_id" {
		t.Error("a personal column is overlooked, or the customer's column")
	}
}
