// Package operator implements what operators do to customers.
//
// Owns: listing, creating, viewing and renaming customers, and retrying jobs, by operators.
// Does not own: what a customer is (customer), users (user), and what operators may see of a user,
// which here is nothing.
//
// An operator's session belongs to Fusions, while the act concerns another customer. The act is
// recorded in the trail of that customer, with the operator as its actor.
package operator

import (
	"github.com/fusionspim/steward/internal/account/customer"
	"github.com/fusionspim/steward/internal/account/user"
	"github.com/fusionspim/steward/internal/base/fault"
)

// New is a customer to be created, with its first administrator.
type New struct {
	Slug          string
	Name          string
	Administrator user.New
}

// isCustomer gives ResourceNotFound for Fusions itself, which operators do not administer.
func isCustomer(found customer.Customer) error {
	if found.Slug == customer.OperatorsSlug {
		return fault.New(fault.ResourceNotFound, "There is no such customer.")
	}
	return nil
}
