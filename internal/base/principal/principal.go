// Package principal says who is calling.
//
// Owns: the words for callers: roles, scopes, and the caller of one request.
// Does not own: how a caller proves who it is (token, session, apikey) and what each may do (httpapi's contract).
package principal

import (
	"context"
	"slices"

	"github.com/fusionspim/steward/internal/base/id"
)

// Role is what a person may do. The set is closed.
type Role string

const (
	// Operator is a member of Fusions' staff. Operators are users of the customer with the slug "fusions".
	Operator Role = "operator"
	// Administrator is an administrator of one customer.
	Administrator Role = "customer"
	// User is an ordinary user of one customer.
	User Role = "user"
)

// Valid tells whether the role is one of the three.
func (r Role) Valid() bool { return r == Operator || r == Administrator || r == User }

// Scope is one thing that an API key may do. The set is closed.
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
	return []Scope{UsersRead, UsersWrite, UsersErase, AlertsWrite, AuditRead, AuditWrite, RequestsRead, RequestsWrite, WebhooksManage, AnalyticsWrite}
}

// Principal is the caller of one request: a person in a session, or an API key of a customer. Exactly one of User and APIKey is set.
type Principal struct {
	Customer id.Customer
	User     id.User    // zero for an API key
	Session  id.Session // zero for an API key
	APIKey   id.APIKey  // zero for a person
	Role     Role       // empty for an API key
	Scopes   []Scope    // empty for a person

	// MustEnrol is set while a second factor is required of the person and there is none yet: until then nothing can be done but to set one up.
	MustEnrol bool
}

// IsAPIKey tells whether an integration is calling rather than a person.
func (p Principal) IsAPIKey() bool { return !p.APIKey.IsZero() }

// Has tells whether an API key carries the scope.
func (p Principal) Has(scope Scope) bool { return slices.Contains(p.Scopes, scope) }

// Authority is on whose authority an act was done, in one closed word: "customer", "user", "operator", "api_key", or "system" where nobody ordered it.
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

// FromContext returns the caller of the request; ok is false for a public operation called without a credential.
func FromContext(ctx context.Context) (caller Principal, ok bool) {
	caller, ok = ctx.Value(contextKey{}).(Principal)
	return caller, ok
}
