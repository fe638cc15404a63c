// Package operator is what Fusions' staff does to customers.
//
// Owns: listing, making, viewing and renaming customers on an operator's order.
// Does not own: what a customer is (customer), people (user), and what an operator may see of a
// person, which here is nothing: no answer holds anything of one.
//
// An operator's session is of Fusions, and the customer that is acted on is another. The act is
// recorded in the trail of the customer that it concerns, with the operator as its actor.
package operator

import (
	"github.com/fusionspim/steward/internal/account/customer"
	"github.com/fusionspim/steward/internal/account/user"
	"github.com/fusionspim/steward/internal/base/fault"
)

// New is a customer that is to be made, with its first administrator.
type New struct {
	Slug          string
	Name          string
	Administrator user.New
}

// isCustomer gives the fault ResourceNotFound for Fusions itself, which operators are users of and
// is not theirs to administer.
func isCustomer(found customer.Customer) error {
	if found.Slug == customer.OperatorsSlug {
		return fault.New(fault.ResourceNotFound, "There is no such customer.")
	}
	return nil
}
