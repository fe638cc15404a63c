// Package api is the generated part of the SDK of Steward: the types of the contract and every
// operation as it is, by the names of the contract. Programs use package client, which has
// credentials, retries, paging and typed problems, and come here for the operations that it has no
// method for:
//
//	parameters := &api.ListWebhookEndpointsParams{}
//	answer, err := steward.Raw().ListWebhookEndpointsWithResponse(ctx, parameters)
//
// # Stability
//
// The package follows the contract: what the contract adds appears here, also as new values of
// closed sets. Names come from a generator and may change in a minor version until v1, and the
// changelog says how.
package api
