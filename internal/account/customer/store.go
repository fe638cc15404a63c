package customer

import (
	"database/sql"
	"errors"
	"net/netip"

	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

const columns = `id, slug, name, guidance_text, privacy_contact, mail_domain_policy, to_jsonb(mail_domains),
	network_policy, to_jsonb(networks::text[]), login_record_days, second_factor_policy, version, created_at,
	updated_at`

func get(tx *postgres.Tx, lock bool) (Customer, error) {
	statement := "select " + columns + " from customers where id = $1"
	if lock {
		statement += " for no key update"
	}
	c, err := scan(tx.QueryRow(statement, tx.Customer))
	if errors.Is(err, sql.ErrNoRows) {
		return Customer{}, fault.New(fault.ResourceNotFound, "There is no such customer.")
	}
	return c, err
}

func scan(row postgres.Row) (c Customer, err error) {
	var domains postgres.JSON[[]string]
	var networks postgres.JSON[[]netip.Prefix]
	err = row.Scan(&c.ID, &c.Slug, &c.Name, &c.GuidanceText, &c.PrivacyContact, &c.MailDomains.Policy, &domains,
		&c.Networks.Policy, &networks, &c.LoginRecordDays, &c.SecondFactor, &c.Version, &c.CreatedAt, &c.UpdatedAt)
	c.MailDomains.Domains, c.Networks.Networks = domains.Of, networks.Of
	return c, err
}

func list(tx *postgres.Tx, before id.Customer, limit int) ([]Customer, error) {
	statement := "select " + columns + " from customers where slug <> @operators"
	arguments := postgres.Args{"operators": OperatorsSlug, "limit": limit}
	if !before.IsZero() {
		statement += " and id < @before"
		arguments["before"] = before
	}
	return postgres.Collect(tx, scan, statement+" order by id desc limit @limit", arguments)
}

func bySlug(tx *postgres.Tx, slug string) (found Found, ok bool, err error) {
	var networks postgres.JSON[[]netip.Prefix]
	err = tx.QueryRow("select id, name, network_policy, to_jsonb(networks::text[]) from customers where slug = $1", slug).
		Scan(&found.ID, &found.Name, &found.Networks.Policy, &networks)
	if errors.Is(err, sql.ErrNoRows) {
		return Found{}, false, nil
	}
	found.Networks.Networks = networks.Of
	return found, err == nil, err
}

// settings are the arguments of the columns that can be changed.
func (c Customer) settings() postgres.Args {
	return postgres.Args{
		"id": c.ID, "name": c.Name, "guidance_text": c.GuidanceText, "privacy_contact": c.PrivacyContact,
		"mail_domain_policy": c.MailDomains.Policy, "mail_domains": nonNil(c.MailDomains.Domains),
		"network_policy": c.Networks.Policy, "networks": texts(c.Networks.Networks),
		"login_record_days": c.LoginRecordDays, "second_factor_policy": c.SecondFactor,
		"version": c.Version, "updated_at": c.UpdatedAt,
	}
}

func insert(tx *postgres.Tx, c Customer) error {
	arguments := c.settings()
	arguments["slug"], arguments["created_at"] = c.Slug, c.CreatedAt
	_, err := tx.Exec(`
		insert into customers (
			id, slug, name, guidance_text, privacy_contact, mail_domain_policy, mail_domains, network_policy,
			networks, login_record_days, second_factor_policy, version, created_at, updated_at
		) values (
			@id, @slug, @name, @guidance_text, @privacy_contact, @mail_domain_policy, @mail_domains::text[],
			@network_policy, @networks::text[]::cidr[], @login_record_days, @second_factor_policy, @version,
			@created_at, @updated_at
		)`, arguments)
	return err
}

func update(tx *postgres.Tx, c Customer) error {
	_, err := tx.Exec(`
		update customers set
			name = @name, guidance_text = @guidance_text, privacy_contact = @privacy_contact,
			mail_domain_policy = @mail_domain_policy, mail_domains = @mail_domains::text[],
			network_policy = @network_policy, networks = @networks::text[]::cidr[],
			login_record_days = @login_record_days, second_factor_policy = @second_factor_policy,
			version = @version, updated_at = @updated_at
		where id = @id`, c.settings())
	return err
}

func orOff(policy Policy) Policy {
	if policy == "" {
		return Off
	}
	return policy
}

// nonNil returns an empty list for nil, which PostgreSQL would take for null.
func nonNil(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

func texts(networks []netip.Prefix) []string {
	all := make([]string, len(networks))
	for i, network := range networks {
		all[i] = network.String()
	}
	return all
}

// LockTx locks the customer's row until the transaction ends. Removing an administrator takes this
// lock first: otherwise two transactions could each remove one in the belief that the other
// remains.
func LockTx(tx *postgres.Tx) error {
	_, err := tx.Exec("select from customers where id = $1 for no key update", tx.Customer)
	return err
}
