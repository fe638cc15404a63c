package customer

import (
	"database/sql"
	"errors"
	"net/netip"

	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

const columns = `id, slug, name, guidance_text, privacy_contact, mail_domain_policy, to_jsonb(mail_domains), network_policy, to_jsonb(networks::text[]),
	login_record_days, second_factor_policy, version, created_at, updated_at`

func get(tx *postgres.Tx, lock bool) (Customer, error) {
	statement := "select " + columns + " from customers where id = ?"
	if lock {
		statement += " for no key update"
	}
	c, err := scan(tx.ORM().Raw(statement, tx.Customer).Row())
	if errors.Is(err, sql.ErrNoRows) {
		return Customer{}, fault.New(fault.ResourceNotFound, "There is no such customer.")
	}
	return c, err
}

func scan(row interface{ Scan(into ...any) error }) (c Customer, err error) {
	var domains postgres.JSON[[]string]
	var networks postgres.JSON[[]netip.Prefix]
	err = row.Scan(&c.ID, &c.Slug, &c.Name, &c.GuidanceText, &c.PrivacyContact, &c.MailDomains.Policy, &domains,
		&c.Networks.Policy, &networks, &c.LoginRecordDays, &c.SecondFactor, &c.Version, &c.CreatedAt, &c.UpdatedAt)
	c.MailDomains.Domains, c.Networks.Networks = domains.Of, networks.Of
	return c, err
}

func list(tx *postgres.Tx, before id.Customer, limit int) (customers []Customer, err error) {
	statement, arguments := "select "+columns+" from customers where slug <> ?", []any{OperatorsSlug}
	if !before.IsZero() {
		statement, arguments = statement+" and id < ?", append(arguments, before)
	}
	rows, err := tx.Raw(statement+" order by id desc limit ?", append(arguments, limit)...).Rows()
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // read to its end or given up
	for rows.Next() {
		one, err := scan(rows)
		if err != nil {
			return nil, err
		}
		customers = append(customers, one)
	}
	return customers, rows.Err()
}

func bySlug(tx *postgres.Tx, slug string) (found Found, ok bool, err error) {
	var networks postgres.JSON[[]netip.Prefix]
	err = tx.ORM().
		Raw("select id, name, network_policy, to_jsonb(networks::text[]) from customers where slug = ?", slug).
		Row().
		Scan(&found.ID, &found.Name, &found.Networks.Policy, &networks)
	if errors.Is(err, sql.ErrNoRows) {
		return Found{}, false, nil
	}
	found.Networks.Networks = networks.Of
	return found, err == nil, err
}

func insert(tx *postgres.Tx, c Customer) error {
	return tx.ORM().Exec(`
		insert into customers (id, slug, name, guidance_text, privacy_contact, mail_domain_policy, mail_domains, network_policy, networks,
			login_record_days, second_factor_policy, version, created_at, updated_at)
		values (?, ?, ?, ?, ?, ?, ?::text[], ?, ?::text[]::cidr[], ?, ?, ?, ?, ?)`,
		c.ID, c.Slug, c.Name, c.GuidanceText, c.PrivacyContact, c.MailDomains.Policy, postgres.Strings(c.MailDomains.Domains),
		c.Networks.Policy, texts(c.Networks.Networks), c.LoginRecordDays, c.SecondFactor, c.Version, c.CreatedAt, c.UpdatedAt).
		Error
}

func update(tx *postgres.Tx, c Customer) error {
	return tx.ORM().Exec(`
		update customers set guidance_text = ?, privacy_contact = ?, mail_domain_policy = ?, mail_domains = ?::text[], network_policy = ?,
			networks = ?::text[]::cidr[], login_record_days = ?, second_factor_policy = ?, name = ?, version = ?, updated_at = ?
		where id = ?`,
		c.GuidanceText, c.PrivacyContact, c.MailDomains.Policy, postgres.Strings(c.MailDomains.Domains), c.Networks.Policy,
		texts(c.Networks.Networks), c.LoginRecordDays, c.SecondFactor, c.Name, c.Version, c.UpdatedAt, c.ID).
		Error
}

func orOff(policy Policy) Policy {
	if policy == "" {
		return Off
	}
	return policy
}

func texts(networks []netip.Prefix) postgres.Strings {
	all := make(postgres.Strings, len(networks))
	for i, network := range networks {
		all[i] = network.String()
	}
	return all
}

// LockTx holds the customer's row until the transaction ends. Whoever is about to take away an
// administrator takes this lock first, so that two who each see the other's administrator as the
// one that remains cannot both go on.
func LockTx(tx *postgres.Tx) error {
	return tx.ORM().Exec("select from customers where id = ? for no key update", tx.Customer).Error
}
