package httpapi

import (
	"context"

	"github.com/fusionspim/steward/api"
	"github.com/fusionspim/steward/internal/account/customer"
	"github.com/fusionspim/steward/internal/account/user"
)

// GetCustomer implements GET /v1/customer.
func (h handlers) GetCustomer(
	ctx context.Context,
	_ api.GetCustomerRequestObject,
) (api.GetCustomerResponseObject, error) {
	found, err := h.features.Customers.Get(ctx, caller(ctx))
	if err != nil {
		return nil, err
	}
	return api.GetCustomer200JSONResponse{CustomerJSONResponse: customerAnswer(found)}, nil
}

// UpdateCustomer implements PATCH /v1/customer.
func (h handlers) UpdateCustomer(
	ctx context.Context,
	request api.UpdateCustomerRequestObject,
) (api.UpdateCustomerResponseObject, error) {
	body := request.JSONBody
	if body == nil {
		body = request.ApplicationMergePatchPlusJSONBody
	}
	patch := customer.Patch{GuidanceText: body.GuidanceText}
	if body.PrivacyContact.IsSpecified() {
		var contact *string
		if !body.PrivacyContact.IsNull() {
			address, err := user.ParseAddress(body.PrivacyContact.MustGet(), "/privacy_contact")
			if err != nil {
				return nil, err
			}
			contact = &address.Text
		}
		patch.PrivacyContact = &contact
	}
	if body.MailDomains != nil {
		domains, err := customer.ParseDomains(body.MailDomains.Domains, "/mail_domains/domains")
		if err != nil {
			return nil, err
		}
		patch.MailDomains = &customer.MailDomains{Policy: customer.Policy(body.MailDomains.Policy), Domains: domains}
	}
	if body.Networks != nil {
		networks, err := customer.ParseNetworks(body.Networks.Networks, "/networks/networks")
		if err != nil {
			return nil, err
		}
		patch.Networks = &customer.Networks{Policy: customer.Policy(body.Networks.Policy), Networks: networks}
	}
	patch.LoginRecordDays = body.LoginRecordDays
	if body.SecondFactor != nil {
		policy := customer.SecondFactorPolicy(*body.SecondFactor)
		patch.SecondFactor = &policy
	}
	after, err := h.features.Customers.Update(ctx, caller(ctx), patch, condition(request.Params.IfMatch))
	if err != nil {
		return nil, err
	}
	return api.UpdateCustomer200JSONResponse{CustomerJSONResponse: customerAnswer(after)}, nil
}

func customerAnswer(found customer.Customer) api.CustomerJSONResponse {
	return api.CustomerJSONResponse{
		Body:    toCustomer(found),
		Headers: api.CustomerResponseHeaders{ETag: etag(found.Version)},
	}
}

func toCustomer(found customer.Customer) api.Customer {
	domains := found.MailDomains.Domains
	if domains == nil {
		domains = []string{}
	}
	return api.Customer{
		ID:             found.ID.UUID,
		Slug:           found.Slug,
		Name:           found.Name,
		GuidanceText:   found.GuidanceText,
		PrivacyContact: found.PrivacyContact,
		MailDomains:    api.MailDomains{Policy: api.Policy(found.MailDomains.Policy), Domains: domains},
		Networks: api.Networks{
			Policy:   api.Policy(found.Networks.Policy),
			Networks: toNetworks(found.Networks.Networks),
		},
		LoginRecordDays: found.LoginRecordDays,
		SecondFactor:    api.SecondFactorPolicy(found.SecondFactor),
		CreatedAt:       found.CreatedAt.UTC(),
		UpdatedAt:       found.UpdatedAt.UTC(),
	}
}
