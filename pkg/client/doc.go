// Package client calls Steward, the service that keeps a customer's user accounts.
//
//	steward, err := client.New("https://steward.example", client.WithAPIKey(os.Getenv("STEWARD_API_KEY")))
//	if err != nil {
//		return err
//	}
//	user, err := steward.CreateUser(ctx, client.NewUser{
//		FirstName: "Noor", LastName: "Haddad", Email: "noor.haddad@acme.example",
//	})
//
// The package's example shows the main job from start to end.
//
// # Credentials
//
// A program uses an API key ([WithAPIKey]); what the key may do is in its scopes. A person's tool
// uses a session ([WithSession]): it signs in with the first request, refreshes the access token
// shortly before it expires, and signs in again when the session has ended. A [Client] without
// either reaches the public operations only.
//
// # Errors
//
// Whatever the service refuses comes back as a [*Problem], the problem document of RFC 9457 that it
// answered. Ask [IsProblem] for a kind, or use errors.As to read what the service says of it:
//
//	receipt, err := steward.DeleteUser(ctx, id)
//	if client.IsProblem(err, client.ProblemAuditTrailIncomplete) {
//		receipt, err = steward.RedactUser(ctx, id, client.ReasonLeftEmployment)
//	}
//
// The text of a Problem never holds what was sent, so it can be logged. Any other error means that
// no answer was had: the connection failed, or the context ended.
//
// # Retries
//
// A request is tried again, up to four times in all, when the connection fails, and when the answer
// is 429, 502, 503 or 504; see [Retries]. The waits double from a fifth of a second and are at
// least as long as the service asks for. Repeating does no harm: GET, PUT and DELETE are
// idempotent, and every POST carries an Idempotency-Key, one of the caller's ([IdempotencyKey]) or
// one that the client makes, so the service carries it out once at most. PATCH and a change of
// password are tried again only where the service has surely not seen them. A DELETE whose first
// answer was lost answers 404 the second time.
//
// # Erasure receipts
//
// A receipt is signed. [VerifyReceipt] checks one, years later too and without asking anybody, with
// keys that were kept from [Client.SigningKeys]. How far the erasure has come by now says the
// receipt that [Client.ErasureReceipt] views.
//
// # Everything else
//
// [Client.Raw] has every operation of the contract as it is, with the same credential and retries.
// Package api has their types.
//
// # Stability
//
// The module follows semantic versioning. Until v1, a minor version may change the API, and the
// changelog says how. What the contract adds under /v1 appears in minor versions; treat unknown
// values of statuses, kinds and codes as such, and ignore members that are new.
//
// The module needs Go 1.23, and two modules besides itself: uuid and nullable.
package client
