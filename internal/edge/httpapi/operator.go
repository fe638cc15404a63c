package httpapi

import (
	"context"
	"net/http"

	"github.com/google/uuid"

	"github.com/fusionspim/steward/api"
	"github.com/fusionspim/steward/internal/account/customer"
	"github.com/fusionspim/steward/internal/account/operator"
	"github.com/fusionspim/steward/internal/account/user"
	"github.com/fusionspim/steward/internal/base/id"
)

// ListCustomers implements GET /v1/operator/customers.
func (h handlers) ListCustomers(
	ctx context.Context,
	request api.ListCustomersRequestObject,
) (api.ListCustomersResponseObject, error) {
	asked, err := h.pageOf(ctx, request.Params.Limit, request.Params.Cursor)
	if err != nil {
		return nil, err
	}
	customers, err := h.features.Operators.ListCustomers(ctx, id.Customer{UUID: asked.before}, asked.limit+1)
	if err != nil {
		return nil, err
	}
	customers, next, link := cut(asked, customers, func(one customer.Customer) uuid.UUID { return one.ID.UUID })
	data := make([]api.Customer, len(customers))
	for i, one := range customers {
		data[i] = toCustomer(one)
	}
	return api.ListCustomers200JSONResponse{
		Body:    api.CustomerPage{Data: data, NextCursor: next},
		Headers: api.ListCustomers200ResponseHeaders{Link: link},
	}, nil
}

// CreateCustomer implements POST /v1/operator/customers.
func (h handlers) CreateCustomer(
	ctx context.Context,
	request api.CreateCustomerRequestObject,
) (api.CreateCustomerResponseObject, error) {
	person := request.Body.Administrator
	in := operator.New{
		Slug: request.Body.Slug, Name: request.Body.Name,
		Administrator: user.New{FirstName: person.FirstName, LastName: person.LastName, Email: person.Email},
	}
	answer := func(made customer.Customer) api.CreateCustomer201JSONResponse {
		return api.CreateCustomer201JSONResponse{
			Body: toCustomer(made),
			Headers: api.CreateCustomer201ResponseHeaders{
				ETag:     etag(made.Version),
				Location: "/v1/operator/customers/" + made.ID.String(),
			},
		}
	}
	made, err := h.features.Operators.CreateCustomer(
		ctx,
		caller(ctx),
		in,
		once(ctx, h.Server, request.Params.IdempotencyKey, request.Body,
			func(made customer.Customer) func(http.ResponseWriter) error {
				return answer(made).VisitCreateCustomerResponse
			}),
	)
	if err != nil {
		return nil, err
	}
	return answer(made), nil
}

// GetCustomerAsOperator implements GET /v1/operator/customers/{id}.
func (h handlers) GetCustomerAsOperator(
	ctx context.Context,
	request api.GetCustomerAsOperatorRequestObject,
) (api.GetCustomerAsOperatorResponseObject, error) {
	found, err := h.features.Operators.GetCustomer(ctx, id.Customer{UUID: request.ID})
	if err != nil {
		return nil, err
	}
	return api.GetCustomerAsOperator200JSONResponse{CustomerJSONResponse: customerAnswer(found)}, nil
}

// UpdateCustomerAsOperator implements PATCH /v1/operator/customers/{id}.
func (h handlers) UpdateCustomerAsOperator(
	ctx context.Context,
	request api.UpdateCustomerAsOperatorRequestObject,
) (api.UpdateCustomerAsOperatorResponseObject, error) {
	body := request.JSONBody
	if body == nil {
		body = request.ApplicationMergePatchPlusJSONBody
	}
	after, err := h.features.Operators.UpdateCustomer(
		ctx,
		caller(ctx),
		id.Customer{UUID: request.ID},
		body.Name,
		condition(request.Params.IfMatch),
	)
	if err != nil {
		return nil, err
	}
	return api.UpdateCustomerAsOperator200JSONResponse{CustomerJSONResponse: customerAnswer(after)}, nil
}
