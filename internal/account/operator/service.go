package operator

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/fusionspim/steward/internal/account/customer"
	"github.com/fusionspim/steward/internal/account/passwordlink"
	"github.com/fusionspim/steward/internal/account/user"
	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/base/version"
	"github.com/fusionspim/steward/internal/infra/idempotency"
	"github.com/fusionspim/steward/internal/infra/jobs"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

// Service implements the operators' use cases. Safe for concurrent use.
type Service struct {
	db    *postgres.DB
	desk  *jobs.Admin
	links *passwordlink.Service
}

// NewService returns the service.
func NewService(db *postgres.DB, desk *jobs.Admin, links *passwordlink.Service) *Service {
	return &Service{db: db, desk: desk, links: links}
}

// ListCustomers returns at most limit customers, newest first, from those before the given one;
// zero: from the newest on.
func (s *Service) ListCustomers(
	ctx context.Context,
	before id.Customer,
	limit int,
) (customers []customer.Customer, err error) {
	err = s.db.InPlatform(ctx, func(tx *postgres.Tx) error {
		customers, err = customer.ListTx(tx, before, limit)
		return err
	})
	return customers, err
}

// GetCustomer returns a customer. Fault: ResourceNotFound.
func (s *Service) GetCustomer(ctx context.Context, of id.Customer) (found customer.Customer, err error) {
	err = s.db.InCustomerAutocommit(ctx, of, func(tx *postgres.Tx) error {
		if found, err = customer.GetTx(tx); err != nil {
			return err
		}
		return isCustomer(found)
	})
	return found, err
}

// UpdateCustomer renames a customer. Faults: ResourceNotFound, PreconditionFailed,
// MalformedRequest.
func (s *Service) UpdateCustomer(
	ctx context.Context,
	caller principal.Principal,
	of id.Customer,
	name string,
	condition version.Condition,
) (after customer.Customer, err error) {
	err = s.db.InCustomer(ctx, of, func(tx *postgres.Tx) error {
		before, err := customer.GetTx(tx)
		if err != nil {
			return err
		}
		if err := isCustomer(before); err != nil {
			return err
		}
		after, err = customer.UpdateTx(tx, caller, customer.Patch{Name: &name}, condition)
		return err
	})
	return after, err
}

// CreateCustomer creates a customer with its first administrator. Faults: SlugTaken,
// MalformedRequest, InvalidName, InvalidEmail.
//
// The remembered answer to an Idempotency-Key belongs to the new customer, because it tells of the
// administrator and must be erased with that user. The key must be found before that customer is
// known, so the operators' rows remember which customer the key created and for which slug, and
// nothing of the administrator. One transaction writes both.
func (s *Service) CreateCustomer(
	ctx context.Context,
	caller principal.Principal,
	in New,
	once *idempotency.Once[customer.Customer],
) (made customer.Customer, err error) {
	create := func(tx *postgres.Tx) (customer.Customer, id.User, error) {
		made, err := customer.CreateTx(tx, caller, customer.New{Slug: in.Slug, Name: in.Name})
		if err != nil {
			return customer.Customer{}, id.User{}, err
		}
		administrator := in.Administrator
		administrator.Role = principal.Administrator
		person, err := user.CreateTx(tx, caller, administrator)
		if err != nil {
			return customer.Customer{}, id.User{}, atAdministrator(err)
		}
		return made, person.ID, s.links.InviteTx(tx, person.ID)
	}
	err = s.db.InCustomer(ctx, caller.Customer, func(tx *postgres.Tx) error {
		inside := func(of id.Customer, write func(tx *postgres.Tx) (customer.Customer, id.User, error)) error {
			return tx.AsCustomer(of, func(tx *postgres.Tx) error {
				made, err = once.Do(tx, func() (customer.Customer, id.User, error) { return write(tx) })
				return err
			})
		}
		of, err := claim(once, in.Slug).Do(tx, func() (id.Customer, id.User, error) {
			of := id.New[id.Customer]()
			return of, id.User{}, inside(of, create)
		})
		var before *idempotency.Replay
		if !errors.As(err, &before) {
			return err
		}
		if err := json.Unmarshal(before.Answer.Body, &of); err != nil {
			return err
		}
		// The customer's own record decides whether the request is the same, and has the answer.
		return inside(of, func(*postgres.Tx) (customer.Customer, id.User, error) {
			return customer.Customer{}, id.User{}, fault.New(fault.SlugTaken, "Another customer has this slug.").
				At("/slug", "is in use")
		})
	})
	return made, err
}

// claim is what the operators' rows remember of a key: the slug, and the customer it created.
func claim(once *idempotency.Once[customer.Customer], slug string) *idempotency.Once[id.Customer] {
	if once == nil {
		return nil
	}
	return &idempotency.Once[id.Customer]{
		Box: once.Box, Credential: once.Credential, Key: once.Key, Operation: once.Operation, Request: []byte(slug),
		Render: func(of id.Customer) (idempotency.Answer, error) {
			body, err := json.Marshal(of)
			return idempotency.Answer{Body: body}, err
		},
	}
}

// atAdministrator makes a fault point to the administrator in the request.
func atAdministrator(err error) error {
	var f *fault.Fault
	if !errors.As(err, &f) {
		return err
	}
	for i := range f.Members {
		f.Members[i].Pointer = "/administrator" + f.Members[i].Pointer
	}
	return err
}
