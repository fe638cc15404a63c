package operator

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/google/uuid"

	"github.com/fusionspim/steward/internal/account/customer"
	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/infra/idempotency"
)

func TestFusionsIsNoCustomerOfItsOwn(t *testing.T) {
	t.Parallel()
	if err := isCustomer(customer.Customer{Slug: customer.OperatorsSlug}); !fault.Is(err, fault.ResourceNotFound) {
		t.Errorf("Fusions: %v", err)
	}
	if err := isCustomer(customer.Customer{Slug: "acme"}); err != nil {
		t.Errorf("a customer: %v", err)
	}
}

func TestFaultsPointIntoTheAdministrator(t *testing.T) {
	t.Parallel()
	err := atAdministrator(fault.New(fault.InvalidName, "x").At("/first_name", "a").At("/last_name", "b"))
	var f *fault.Fault
	if !errors.As(err, &f) || len(f.Members) != 2 || f.Members[0].Pointer != "/administrator/first_name" ||
		f.Members[1].Pointer != "/administrator/last_name" {
		t.Errorf("%v: %+v", err, f)
	}
	other := errors.New("other")
	if err := atAdministrator(other); !errors.Is(err, other) {
		t.Errorf("another error: %v", err)
	}
}

// What the operators' rows remember of a key must hold nothing of the administrator.
func TestAClaimHoldsTheSlugAlone(t *testing.T) {
	t.Parallel()
	if claim(nil, "acme") != nil {
		t.Error("a request without a key claims one")
	}
	once := &idempotency.Once[customer.Customer]{
		Credential: uuid.New(),
		Key:        "key",
		Operation:  "POST /v1/operator/customers",
		Request:    []byte(`{"email":"ada@acme.example"}`),
	}
	claimed := claim(once, "acme")
	if claimed.Credential != once.Credential || claimed.Key != "key" || claimed.Operation != once.Operation {
		t.Errorf("another claim: %+v", claimed)
	}
	if string(claimed.Request) != "acme" {
		t.Errorf("it holds %s", claimed.Request)
	}
	of := id.New[id.Customer]()
	answer, err := claimed.Render(of)
	var back id.Customer
	if err != nil || json.Unmarshal(answer.Body, &back) != nil || back != of || len(answer.Header) > 0 {
		t.Errorf("the answer is %+v, %v", answer, err)
	}
}
