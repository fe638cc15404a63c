// Package principal identifies the caller of a request.
//
// Owns: roles, scopes, and the caller of one request.
// Does not own: authentication (token, session, apikey) and what each caller may do (httpapi's
// contract).
package principal

import (
	"context"
	"slices"

	"github.com/fusionspim/steward/internal/base/id"
)

// Role is a person's role. The set is closed.
type Role string

const (
	// Operator is a member of Fusions' staff. Operators are users of the customer with the slug
	// "fusions".
	Operator Role = "operator"
	// Administrator is an administrator of one customer.
	Administrator Role = "customer"
	// User is an ordinary user of one customer.
	User Role = "user"
)

// Valid reports whether the role is one of the three.
func (r Role) Valid() bool { return r == Operator || r == Administrator || r == User }

// Scope is one permission of an API key. The set is closed.
type Scope string

// The scopes of API keys.
const (
	UsersRead      Scope = "users:read"
	UsersWrite     Scope = "users:write"
	UsersErase     Scope = "users:erase"
	AlertsWrite    Scope = "alerts:write"
	AuditRead      Scope = "audit:read"
	AuditWrite     Scope = "audit:write"
	RequestsRead   Scope = "requests:read"
	RequestsWrite  Scope = "requests:write"
	WebhooksManage Scope = "webhooks:manage"
	AnalyticsWrite Scope = "analytics:write"
)

// Scopes returns all scopes, in the order in which they are documented.
func Scopes() []Scope {
	return []Scope{
		UsersRead, UsersWrite, UsersErase, AlertsWrite, AuditRead, AuditWrite, RequestsRead, RequestsWrite,
		WebhooksManage, AnalyticsWrite,
	}
}

// Principal is the caller of one request: a person in a session, or an API key of a customer.
// Exactly one of User and APIKey is set.
type Principal struct {
	Customer id.Customer
	User     id.User    // zero for an API key
	Session  id.Session // zero for an API key
	APIKey   id.APIKey  // zero for a person
	Role     Role       // empty for an API key
	Scopes   []Scope    // empty for a person

	// MustEnrol is set while the person must have a second factor and has none: until then every
	// operation but its set-up is forbidden.
	MustEnrol bool
}

// IsAPIKey reports whether the caller is an API key rather than a person.
func (p Principal) IsAPIKey() bool { return !p.APIKey.IsZero() }

// Has reports whether an API key has the scope.
func (p Principal) Has(scope Scope) bool { return slices.Contains(p.Scopes, scope) }

// Authority returns on whose authority an act is done, as a closed word: "customer", "user",
// "operator", "api_key", or "system" for acts of the service itself.
func (p Principal) Authority() string {
	switch {
	case p.IsAPIKey():
		return "api_key"
	case p.User.IsZero():
		return "system"
	}
	return string(p.Role)
}

type contextKey struct{}

// NewContext returns a context that carries the caller.
func NewContext(ctx context.Context, caller Principal) context.Context {
	return context.WithValue(ctx, contextKey{}, caller)
}

// FromContext returns the caller of the request; ok is false for a public operation called without
// a credential.
func FromContext(ctx context.Context) (caller Principal, ok bool) {
	caller, ok = ctx.Value(contextKey{}).(Principal)
	return caller, ok
}
