package operator

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/fusionspim/steward/internal/account/customer"
	"github.com/fusionspim/steward/internal/account/user"
	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/base/version"
	"github.com/fusionspim/steward/internal/infra/idempotency"
	"github.com/fusionspim/steward/internal/infra/jobs"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

// Welcome follows the making of a person in the same transaction, such as with an invitation.
type Welcome func(tx *postgres.Tx, made user.User) error

// Service is what operators do, as callers use it. Safe for concurrent use.
type Service struct {
	db      *postgres.DB
	desk    *jobs.Admin
	welcome Welcome
}

// NewService makes the service.
func NewService(db *postgres.DB, desk *jobs.Admin, welcome Welcome) *Service {
	return &Service{db: db, desk: desk, welcome: welcome}
}

// ListCustomers returns the customers, newest first: at most limit of those made before the one
// named, or from the newest on.
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

// GetCustomer returns one customer. Fault: ResourceNotFound.
func (s *Service) GetCustomer(ctx context.Context, of id.Customer) (found customer.Customer, err error) {
	err = s.db.InCustomerAutocommit(ctx, of, func(tx *postgres.Tx) error {
		if found, err = customer.GetTx(tx); err != nil {
			return err
		}
		return isCustomer(found)
	})
	return found, err
}

// UpdateCustomer gives a customer another name. Faults: ResourceNotFound, PreconditionFailed,
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

// CreateCustomer makes a customer with its first administrator. Faults: SlugTaken,
// MalformedRequest, InvalidName, InvalidEmail.
//
// The answer to an Idempotency-Key is kept among the rows of the new customer, because it stands
// for a request that tells of the administrator and has to go with that person. What an operator's
// key stands for must be found before the customer is known, so the operators' rows keep which
// customer was made with the key, for which slug, and nothing of the person. Both are written in
// the one transaction that makes the customer.
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
		return made, person.ID, s.welcome(tx, person)
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
		// Its own record says whether the whole request is the same, and has the answer.
		return inside(of, func(*postgres.Tx) (customer.Customer, id.User, error) {
			return customer.Customer{}, id.User{}, fault.New(fault.SlugTaken, "Another customer has this slug.").
				At("/slug", "is in use")
		})
	})
	return made, err
}

// claim is what the operators' rows keep of a key: for which slug it was used, and which customer
// that made.
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

// atAdministrator lets a fault point to where the person stands in the request.
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
