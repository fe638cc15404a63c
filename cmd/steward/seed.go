package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"net/netip"

	"github.com/fusionspim/steward/internal/account/apikey"
	"github.com/fusionspim/steward/internal/account/customer"
	"github.com/fusionspim/steward/internal/account/user"
	"github.com/fusionspim/steward/internal/app"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/base/sensitive"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

// seedDocument holds the credentials of dev, kept beside its database so that the next run prints
// the same.
type seedDocument struct {
	Customers []devCustomer `json:"customers"`
	Operator  devPerson     `json:"operator"`
}

// seedPlan is a customer of dev with its first users. None is a real person.
type seedPlan struct {
	customer customer.New
	admin    user.New
	user     *user.New
}

func seedPlans() []seedPlan {
	contact := func(address string) *string { return &address }
	return []seedPlan{
		{
			customer: customer.New{
				Slug:         "acme",
				Name:         "Acme Tools",
				GuidanceText: "Ask the service desk on extension 4100 to amend your name or e-mail address.",
				PrivacyContact: contact(
					"privacy@acme.example",
				),
				MailDomains: customer.MailDomains{Policy: customer.Flag, Domains: []string{"acme.example"}},
			},
			admin: user.New{FirstName: "Ada", LastName: "Park", Email: "ada.park@acme.example"},
			user:  &user.New{FirstName: "Noor", LastName: "Haddad", Email: "noor.haddad@acme.example"},
		},
		{
			customer: customer.New{
				Slug:           "globex",
				Name:           "Globex Foods",
				PrivacyContact: contact("data@globex.example"),
			},
			admin: user.New{FirstName: "Bo", LastName: "Lindqvist", Email: "bo.lindqvist@globex.example"},
			user:  &user.New{FirstName: "Yuki", LastName: "Sato", Email: "yuki.sato@globex.example"},
		},
		{
			customer: customer.New{Slug: customer.OperatorsSlug, Name: "Fusions"},
			admin: user.New{
				FirstName: "Olu",
				LastName:  "Adeyemi",
				Email:     "olu.adeyemi@fusionspim.example",
				Role:      principal.Operator,
			},
		},
	}
}

// seed ensures that the customers, users and keys of dev exist, and that the printed credentials
// work, whatever earlier runs did to them.
func seed(ctx context.Context, service *app.App, file string) (seedDocument, error) {
	before := readSeed(file)
	known := make(map[string]devCustomer)
	for _, one := range before.Customers {
		known[one.Slug] = one
	}
	known[customer.OperatorsSlug] = devCustomer{Admin: before.Operator}
	var after seedDocument
	for _, plan := range seedPlans() {
		kept := known[plan.customer.Slug]
		made := devCustomer{Slug: plan.customer.Slug}
		if plan.admin.Role == "" {
			plan.admin.Role = principal.Administrator
		}
		var of id.Customer
		var err error
		if made.Admin, of, err = seedPerson(ctx, service, plan.customer, plan.admin, kept.Admin); err != nil {
			return seedDocument{}, err
		}
		if plan.user == nil {
			after.Operator = made.Admin
			continue
		}
		if made.User, _, err = seedPerson(ctx, service, plan.customer, *plan.user, kept.User); err != nil {
			return seedDocument{}, err
		}
		made.APIKey = kept.APIKey
		if _, err := service.APIKeys.Authenticate(ctx, kept.APIKey, netip.IPv6Loopback()); err != nil {
			if made.APIKey, err = seedAPIKey(ctx, service, of); err != nil {
				return seedDocument{}, err
			}
		}
		after.Customers = append(after.Customers, made)
	}
	content, err := json.MarshalIndent(after, "", "  ")
	if err != nil {
		return seedDocument{}, err
	}
	return after, writeWhole(file, content)
}

func seedPerson(
	ctx context.Context,
	service *app.App,
	plan customer.New,
	in user.New,
	kept devPerson,
) (devPerson, id.Customer, error) {
	person := devPerson{Email: in.Email, Password: kept.Password}
	if person.Password == "" {
		person.Password = rand.Text()
	}
	address, err := user.ParseAddress(in.Email, "/email")
	if err != nil {
		return devPerson{}, id.Customer{}, err
	}
	of, there, err := service.Customers.Find(ctx, plan.Slug)
	if err != nil {
		return devPerson{}, id.Customer{}, err
	}
	var account user.Credentials
	known := false
	if there {
		err = service.DB.InCustomer(ctx, of.ID, func(tx *postgres.Tx) error {
			account, known, err = user.CredentialsByEmailTx(tx, address.Key)
			return err
		})
		if err != nil {
			return devPerson{}, id.Customer{}, err
		}
	}
	if known {
		right, _, err := service.Hasher.Verify(ctx, account.PasswordHash, sensitive.New(person.Password))
		if err != nil || right {
			return person, of.ID, err
		}
	}
	if in.PasswordHash, err = service.Hasher.Hash(ctx, sensitive.New(person.Password)); err != nil {
		return devPerson{}, id.Customer{}, err
	}
	if known {
		err = service.DB.InCustomer(ctx, of.ID, func(tx *postgres.Tx) error {
			_, err := user.ReplacePasswordTx(tx, account.ID, account.PasswordHash, in.PasswordHash)
			return err
		})
		return person, of.ID, err
	}
	if _, err = ensurePerson(ctx, service.DB, plan, in); err != nil {
		return devPerson{}, id.Customer{}, err
	}
	of, _, err = service.Customers.Find(ctx, plan.Slug)
	return person, of.ID, err
}

func seedAPIKey(ctx context.Context, service *app.App, of id.Customer) (text string, err error) {
	err = service.DB.InCustomer(ctx, of, func(tx *postgres.Tx) error {
		made, err := apikey.CreateTx(
			tx,
			principal.Principal{Customer: of},
			apikey.New{Name: "dev", Scopes: principal.Scopes()},
		)
		text = made.Secret.Reveal()
		return err
	})
	return text, err
}
