package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/fusionspim/steward/internal/account/customer"
	"github.com/fusionspim/steward/internal/account/user"
	"github.com/fusionspim/steward/internal/base/clock"
	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/base/sensitive"
	"github.com/fusionspim/steward/internal/infra/password"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

// personSettings describe a user to be created from the command line.
type personSettings struct {
	Email        string           `name:"email" required:"" help:"E-mail address to sign in with."`
	FirstName    string           `name:"first-name" required:"" help:"First name."`
	LastName     string           `name:"last-name" required:"" help:"Last name."`
	Password     sensitive.String `name:"password" env:"STEWARD_NEW_PASSWORD" placeholder:"PASSWORD" help:"Password; generated and printed if omitted. Prefer the variable: other users may see flags."`
	PasswordFile string           `name:"password-file" env:"STEWARD_NEW_PASSWORD_FILE" placeholder:"FILE" help:"File with the password."`
}

// newPerson validates the settings and hashes the password. The password is returned only if it was
// generated here.
func (p personSettings) newPerson(
	ctx context.Context,
	role principal.Role,
	of customer.New,
) (in user.New, made sensitive.String, err error) {
	chosen := p.Password
	if chosen.IsEmpty() && p.PasswordFile == "" {
		made = sensitive.New(rand.Text())
		chosen = made
	} else if chosen, err = secret("STEWARD_NEW_PASSWORD", p.Password, p.PasswordFile); err != nil {
		return user.New{}, made, err
	}
	about := password.Person{
		FirstName:    p.FirstName,
		LastName:     p.LastName,
		Email:        p.Email,
		CustomerSlug: of.Slug,
		CustomerName: of.Name,
	}
	if err := password.Check(chosen, about, "password"); err != nil {
		return user.New{}, made, err
	}
	hasher, err := password.NewHasher(password.DefaultParameters(), password.Options{})
	if err != nil {
		return user.New{}, made, err
	}
	hash, err := hasher.Hash(ctx, chosen)
	return user.New{
		FirstName:    p.FirstName,
		LastName:     p.LastName,
		Email:        p.Email,
		Role:         role,
		PasswordHash: hash,
	}, made, err
}

// operatorCommand manages operators.
type operatorCommand struct {
	Create operatorCreate `cmd:"" help:"Create an operator account."`
}

type operatorCreate struct {
	databaseSettings `embed:""`
	logSettings      `embed:""`
	personSettings   `embed:""`
	JSON             bool `name:"json" help:"Print one JSON document."`
}

// Run creates an operator, and the customer "fusions" if this is the first one.
func (c operatorCreate) Run(s surroundings) error {
	fusions := customer.New{Slug: customer.OperatorsSlug, Name: "Fusions"}
	return onDatabase(s, c.databaseSettings, c.logSettings, func(db *postgres.DB) error {
		in, made, err := c.newPerson(s.context, principal.Operator, fusions)
		if err != nil {
			return plain(err)
		}
		created, err := ensurePerson(s.context, db, fusions, in)
		if err != nil {
			return plain(err)
		}
		return report(s, c.JSON, customer.OperatorsSlug, created, made)
	})
}

// customerCommand manages customers.
type customerCommand struct {
	Create customerCreate `cmd:"" help:"Create a customer with its first administrator."`
}

type customerCreate struct {
	databaseSettings `embed:""`
	logSettings      `embed:""`
	personSettings   `embed:"" prefix:"admin-"`
	Slug             string `name:"slug" required:"" help:"Short name to sign in with: lower-case letters, digits and inner hyphens."`
	Name             string `name:"name" required:"" help:"Name of the business."`
	JSON             bool   `name:"json" help:"Print one JSON document."`
}

// Run creates a customer.
func (c customerCreate) Run(s surroundings) error {
	of := customer.New{Slug: c.Slug, Name: c.Name}
	return onDatabase(s, c.databaseSettings, c.logSettings, func(db *postgres.DB) error {
		in, made, err := c.newPerson(s.context, principal.Administrator, of)
		if err != nil {
			return plain(err)
		}
		var created user.User
		_, err = customer.NewService(db).Create(s.context, of, func(tx *postgres.Tx) error {
			created, err = user.CreateTx(tx, principal.Principal{Customer: tx.Customer}, in)
			return err
		})
		if err != nil {
			return plain(err)
		}
		return report(s, c.JSON, c.Slug, created, made)
	})
}

// onDatabase opens the database for one command.
func onDatabase(s surroundings, database databaseSettings, logs logSettings, work func(db *postgres.DB) error) error {
	url, err := database.url()
	if err != nil {
		return err
	}
	db, err := postgres.Open(
		postgres.Settings{URL: url, MaxConnections: 1, PlatformConnections: 1},
		clock.System(),
		logs.logger(s.err),
	)
	if err != nil {
		return err
	}
	defer db.Close()
	if err := db.CheckSchema(s.context); err != nil {
		return err
	}
	return work(db)
}

// ensurePerson creates a user in a customer, which is created first if it is missing.
func ensurePerson(ctx context.Context, db *postgres.DB, of customer.New, in user.New) (created user.User, err error) {
	customers := customer.NewService(db)
	create := func(tx *postgres.Tx) error {
		created, err = user.CreateTx(tx, principal.Principal{Customer: tx.Customer}, in)
		return err
	}
	found, ok, err := customers.Find(ctx, of.Slug)
	if err != nil {
		return user.User{}, err
	}
	if ok {
		return created, db.InCustomer(ctx, found.ID, create)
	}
	_, err = customers.Create(ctx, of, create)
	return created, err
}

func report(s surroundings, asJSON bool, slug string, created user.User, made sensitive.String) error {
	if asJSON {
		document := map[string]string{"customer": slug, "id": created.ID.String(), "email": *created.Email}
		if !made.IsEmpty() {
			document["password"] = made.Reveal()
		}
		return s.print(document)
	}
	fmt.Fprintf(s.out, "created %s, who signs in at customer %q\n", *created.Email, slug)
	if !made.IsEmpty() {
		fmt.Fprintf(s.out, "password, shown this once: %s\n", made.Reveal())
	}
	return nil
}

// plain formats a fault for a terminal.
func plain(err error) error {
	var f *fault.Fault
	if !errors.As(err, &f) || f.Code == fault.InternalError {
		return err
	}
	text := f.Detail
	for _, member := range f.Members {
		text += " (" + member.Pointer + " " + member.Detail + ")"
	}
	return errors.New(text)
}
