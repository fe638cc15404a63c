package customer

import (
	"database/sql"
	"errors"
	"net/netip"

	"github.com/fusionspim/steward/internal/postgres"
)

const columns = `id, slug, name, guidance_text, privacy_contact, mail_domain_policy, to_jsonb(mail_domains), network_policy, to_jsonb(networks::text[]),
	version, created_at, updated_at`

func get(tx *postgres.Tx, lock bool) (Customer, error) {
	statement := "select " + columns + " from customers where id = ?"
	if lock {
		statement += " for no key update"
	}
	var c Customer
	var domains postgres.JSON[[]string]
	var networks postgres.JSON[[]netip.Prefix]
	err := tx.ORM().Raw(statement, tx.Customer).Row().Scan(&c.ID, &c.Slug, &c.Name, &c.GuidanceText, &c.PrivacyContact, &c.MailDomains.Policy, &domains,
		&c.Networks.Policy, &networks, &c.Version, &c.CreatedAt, &c.UpdatedAt)
	c.MailDomains.Domains, c.Networks.Networks = domains.Of, networks.Of
	return c, err
}

func bySlug(tx *postgres.Tx, slug string) (found Found, ok bool, err error) {
	var networks postgres.JSON[[]netip.Prefix]
	err = tx.ORM().Raw("select id, name, network_policy, to_jsonb(networks::text[]) from customers where slug = ?", slug).Row().
		Scan(&found.ID, &found.Name, &found.Networks.Policy, &networks)
	if errors.Is(err, sql.ErrNoRows) {
		return Found{}, false, nil
	}
	found.Networks.Networks = networks.Of
	return found, err == nil, err
}

func insert(tx *postgres.Tx, c Customer) error {
	return tx.ORM().Exec(`
		insert into customers (id, slug, name, guidance_text, privacy_contact, mail_domain_policy, mail_domains, network_policy, networks, version,
			created_at, updated_at)
		values (?, ?, ?, ?, ?, ?, ?::text[], ?, ?::text[]::cidr[], ?, ?, ?)`,
		c.ID, c.Slug, c.Name, c.GuidanceText, c.PrivacyContact, orOff(c.MailDomains.Policy), postgres.Strings(c.MailDomains.Domains),
		orOff(c.Networks.Policy), texts(c.Networks.Networks), c.Version, c.CreatedAt, c.UpdatedAt).Error
}

func update(tx *postgres.Tx, c Customer) error {
	return tx.ORM().Exec(`
		update customers set guidance_text = ?, privacy_contact = ?, mail_domain_policy = ?, mail_domains = ?::text[], network_policy = ?,
			networks = ?::text[]::cidr[], version = ?, updated_at = ?
		where id = ?`,
		c.GuidanceText, c.PrivacyContact, c.MailDomains.Policy, postgres.Strings(c.MailDomains.Domains), c.Networks.Policy,
		texts(c.Networks.Networks), c.Version, c.UpdatedAt, c.ID).Error
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

// LockTx holds the customer's row until the transaction ends. Whoever is about to take away an administrator takes this lock first, so that two
// who each see the other's administrator as the one that remains cannot both go on.
func LockTx(tx *postgres.Tx) error {
	return tx.ORM().Exec("select from customers where id = ? for no key update", tx.Customer).Error
}
