package client

import (
	"context"
	"iter"

	"github.com/fusionspim/steward/pkg/client/api"
)

// CreateUser creates a user: first and last name of 1 to 100 characters of any script, an e-mail
// address that no other living user of the customer has, and a role, which is [RoleUser] if left
// out. The user is opted in to alerts. It needs the scope users:write.
//
// Problems: [ProblemEmailTaken], [ProblemInvalidName], [ProblemInvalidEmail],
// [ProblemForeignMailDomain]; with an [IdempotencyKey] of one's own also
// [ProblemIdempotencyKeyReused] and [ProblemIdempotencyErased].
func (c *Client) CreateUser(ctx context.Context, user NewUser, options ...CallOption) (User, error) {
	call := gather(options)
	return into[User](call)(c.raw.CreateUser(ctx, &api.CreateUserParams{IdempotencyKey: call.idempotencyKey}, user))
}

// GetUser views a user. A redacted user is still there, with nothing personal: FirstName, LastName
// and Email are nil, and Label says what to call the user. It needs the scope users:read.
//
// Problems: [ProblemNotFound], for a deleted user and another customer's too.
func (c *Client) GetUser(ctx context.Context, id ID, options ...CallOption) (User, error) {
	return into[User](gather(options))(c.raw.GetUser(ctx, id))
}

// UserFilter chooses users. Its zero value chooses all; filters that are set are joined with "and".
type UserFilter struct {
	Email string // the whole address; letter case and Unicode form do not count
	// the beginning of a first name, a last name or an e-mail address; letter case does not count;
	// up to 100 characters
	Query         string
	Status        UserStatus // active, disabled or redacted
	Role          UserRole   // customer (an administrator) or user
	AlertsOptedIn *bool
	PageSize      int // how many users one request fetches: 1 to 200; 0 lets the service choose
}

// Users lists users, newest first, one request for each page as the loop gets there. After an error
// the loop ends. It needs the scope users:read.
//
//	for user, err := range steward.Users(ctx, client.UserFilter{Query: "had"}) {
//		if err != nil {
//			return err
//		}
//		...
//	}
func (c *Client) Users(ctx context.Context, filter UserFilter) iter.Seq2[User, error] {
	params := api.ListUsersParams{
		Email: optional(filter.Email), Q: optional(filter.Query), Status: optional(filter.Status), Role: optional(filter.Role),
		AlertsOptedIn: filter.AlertsOptedIn, Limit: optional(api.Limit(filter.PageSize)),
	}
	return paged(func(cursor *api.Cursor) ([]User, *api.NextCursor, error) {
		params := params // the same iterator may run more than once
		params.Cursor = cursor
		page, err := into[api.UserPage](&call{})(c.raw.ListUsers(ctx, &params))
		return page.Data, page.NextCursor, err
	})
}

// FindUser finds the living user who has an e-mail address. It is false when there is none. It
// needs the scope users:read.
func (c *Client) FindUser(ctx context.Context, email string) (User, bool, error) {
	for user, err := range c.Users(ctx, UserFilter{Email: email}) {
		return user, err == nil, err
	}
	return User{}, false, nil
}

// UpdateUser corrects a user; members of the patch that are nil stay as they are. Disabling a user
// ends the user's sessions. It needs the scope users:write.
//
//	patch := client.UserPatch{LastName: client.Ptr("Haddad-Lind")}
//	user, err := steward.UpdateUser(ctx, id, patch, client.IfMatch(etag))
//
// Problems: those of [Client.CreateUser], [ProblemNotFound], [ProblemUserRedacted],
// [ProblemLastAdministrator], and with [IfMatch] [ProblemPreconditionFailed].
func (c *Client) UpdateUser(ctx context.Context, id ID, patch UserPatch, options ...CallOption) (User, error) {
	call := gather(options)
	return into[User](call)(c.raw.UpdateUserWithApplicationMergePatchPlusJSONBody(ctx, id, &api.UpdateUserParams{IfMatch: call.ifMatch}, patch))
}

// ErasurePlan tells what deleting or redacting a user would do, and changes nothing. It needs the
// scope users:read.
//
// Problems: [ProblemNotFound], [ProblemUserRedacted].
func (c *Client) ErasurePlan(ctx context.Context, id ID) (ErasurePlan, error) {
	return into[ErasurePlan](&call{})(c.raw.GetErasurePlan(ctx, id))
}

// DeleteUser removes a person and everything of the account, provided that the audit trail stays
// complete. It needs the scope users:erase.
//
// Problems: [ProblemAuditTrailIncomplete], whose References count what refers to the user and after
// which [Client.RedactUser] is the way; [ProblemNotFound], also when the first answer was lost and
// the client asked again; [ProblemUserRedacted], [ProblemLastAdministrator], and with [IfMatch]
// [ProblemPreconditionFailed].
func (c *Client) DeleteUser(ctx context.Context, id ID, options ...CallOption) (ErasureReceipt, error) {
	call := gather(options)
	return into[ErasureReceipt](call)(c.raw.DeleteUser(ctx, id, &api.DeleteUserParams{IfMatch: call.ifMatch}))
}

// RedactUser removes everything personal of a user for good, and leaves the id and a label without
// meaning, so that the audit trail stays whole. An empty reason gives none. Redacting a redacted
// user answers the same receipt again. It needs the scope users:erase.
//
// Problems: [ProblemNotFound], [ProblemLastAdministrator], and with [IfMatch]
// [ProblemPreconditionFailed].
func (c *Client) RedactUser(ctx context.Context, id ID, reason RedactionReason, options ...CallOption) (ErasureReceipt, error) {
	call := gather(options)
	params := api.RedactUserParams{IfMatch: call.ifMatch, IdempotencyKey: call.idempotencyKey}
	return into[ErasureReceipt](call)(c.raw.RedactUser(ctx, id, &params, api.RedactionOrder{Reason: reason}))
}

// ErasureReceipt views the receipt of a deletion or redaction. It needs the scope users:read.
//
// Problems: [ProblemNotFound].
func (c *Client) ErasureReceipt(ctx context.Context, id ID) (ErasureReceipt, error) {
	return into[ErasureReceipt](&call{})(c.raw.GetErasureReceipt(ctx, id))
}

// UserAlerts reports whether a user gets e-mail alerts, and who set that when. It needs the scope
// users:read.
//
// Problems: [ProblemNotFound].
func (c *Client) UserAlerts(ctx context.Context, id ID, options ...CallOption) (Alerts, error) {
	return into[Alerts](gather(options))(c.raw.GetUserAlerts(ctx, id))
}

// SetUserAlerts opts a user in to or out of e-mail alerts. It needs the scope users:write.
//
// Problems: [ProblemNotFound], [ProblemUserRedacted], and with [IfMatch]
// [ProblemPreconditionFailed].
func (c *Client) SetUserAlerts(ctx context.Context, id ID, optedIn bool, options ...CallOption) (Alerts, error) {
	call := gather(options)
	return into[Alerts](call)(c.raw.SetUserAlerts(ctx, id, &api.SetUserAlertsParams{IfMatch: call.ifMatch}, api.AlertsChange{OptedIn: optedIn}))
}

// Me views the person who is signed in, with guidance on having details amended. It needs a
// session.
func (c *Client) Me(ctx context.Context, options ...CallOption) (Me, error) {
	return into[Me](gather(options))(c.raw.GetMe(ctx))
}

// MyAlerts reports whether the person who is signed in gets e-mail alerts. It needs a session of a
// customer's.
func (c *Client) MyAlerts(ctx context.Context, options ...CallOption) (Alerts, error) {
	return into[Alerts](gather(options))(c.raw.GetMyAlerts(ctx))
}

// SetMyAlerts opts the person who is signed in in to or out of e-mail alerts. It needs a session of
// a customer's.
//
// Problems: with [IfMatch] [ProblemPreconditionFailed].
func (c *Client) SetMyAlerts(ctx context.Context, optedIn bool, options ...CallOption) (Alerts, error) {
	call := gather(options)
	return into[Alerts](call)(c.raw.SetMyAlerts(ctx, &api.SetMyAlertsParams{IfMatch: call.ifMatch}, api.AlertsChange{OptedIn: optedIn}))
}

// ChangeMyPassword amends the password of the person who is signed in and ends the person's other
// sessions. A password has 15 to 128 characters of any kind. It needs a session, which goes on;
// should it end, this client signs in with the new password.
//
// Problems: [ProblemCurrentPasswordWrong], [ProblemWeakPassword].
func (c *Client) ChangeMyPassword(ctx context.Context, current, changed string) error {
	// Once it is changed, the current password is another one: sent again it would be refused
	// although it was done.
	response, err := c.raw.ChangeMyPassword(context.WithValue(ctx, onlyOnce{}, true), api.PasswordChange{CurrentPassword: current, NewPassword: changed})
	if _, err = (&call{}).read(response, err); err == nil && c.session != nil {
		c.session.passwordChanged(changed)
	}
	return err
}

// SignOut ends the session of [WithSession], if one is open, and with it all its tokens. The next
// call would sign in again.
func (c *Client) SignOut(ctx context.Context) error {
	if c.session == nil {
		return nil
	}
	return c.session.signOut(ctx)
}

// CreateAPIKey makes an API key. CreatedAPIKey.APIKey is the key itself, which is shown this once.
// It needs an administrator's session.
func (c *Client) CreateAPIKey(ctx context.Context, key NewAPIKey, options ...CallOption) (CreatedAPIKey, error) {
	call := gather(options)
	return into[CreatedAPIKey](call)(c.raw.CreateAPIKey(ctx, &api.CreateAPIKeyParams{IdempotencyKey: call.idempotencyKey}, key))
}

// APIKeys lists the customer's API keys, newest first, revoked and expired ones included. It needs
// an administrator's session.
func (c *Client) APIKeys(ctx context.Context) iter.Seq2[APIKey, error] {
	return paged(func(cursor *api.Cursor) ([]APIKey, *api.NextCursor, error) {
		page, err := into[api.APIKeyPage](&call{})(c.raw.ListAPIKeys(ctx, &api.ListAPIKeysParams{Cursor: cursor}))
		return page.Data, page.NextCursor, err
	})
}

// RevokeAPIKey revokes an API key. It stops working within a second; revoking it again changes
// nothing. It needs an administrator's session.
//
// Problems: [ProblemNotFound].
func (c *Client) RevokeAPIKey(ctx context.Context, id ID) error {
	_, err := (&call{}).read(c.raw.RevokeAPIKey(ctx, id))
	return err
}

// Customer views the customer's settings. It needs an administrator's session.
func (c *Client) Customer(ctx context.Context, options ...CallOption) (Customer, error) {
	return into[Customer](gather(options))(c.raw.GetCustomer(ctx))
}

// UpdateCustomer changes the customer's settings; members of the patch that are left out stay as
// they are, and lists are replaced as a whole. It needs an administrator's session.
//
// Problems: with [IfMatch] [ProblemPreconditionFailed].
func (c *Client) UpdateCustomer(ctx context.Context, patch CustomerPatch, options ...CallOption) (Customer, error) {
	call := gather(options)
	return into[Customer](call)(c.raw.UpdateCustomerWithApplicationMergePatchPlusJSONBody(ctx, &api.UpdateCustomerParams{IfMatch: call.ifMatch}, patch))
}

// RaiseAlert raises an alert: everybody who is active and opted in gets one mail. It returns before
// they are sent. An alert with the DedupeKey and severity of one that is less than an hour old is
// the same, raised again, and sends nothing. It needs the scope alerts:write.
//
// Problems: [ProblemMalformedRequest]; with an [IdempotencyKey] of one's own also
// [ProblemIdempotencyKeyReused].
func (c *Client) RaiseAlert(ctx context.Context, alert NewAlert, options ...CallOption) (Alert, error) {
	call := gather(options)
	return into[Alert](call)(c.raw.RaiseAlert(ctx, &api.RaiseAlertParams{IdempotencyKey: call.idempotencyKey}, alert))
}

// GetAlert views an alert and how many of its mails are in which state. It needs the scope
// alerts:write.
//
// Problems: [ProblemNotFound].
func (c *Client) GetAlert(ctx context.Context, id ID, options ...CallOption) (Alert, error) {
	return into[Alert](gather(options))(c.raw.GetAlert(ctx, id))
}

// Alerts lists the alerts of the last 90 days, newest first, one request for each page as the loop
// gets there. It needs the scope alerts:write.
func (c *Client) Alerts(ctx context.Context) iter.Seq2[Alert, error] {
	return paged(func(cursor *api.Cursor) ([]Alert, *api.NextCursor, error) {
		page, err := into[api.AlertPage](&call{})(c.raw.ListAlerts(ctx, &api.ListAlertsParams{Cursor: cursor}))
		return page.Data, page.NextCursor, err
	})
}

// Ready tells, by the absence of an error, that the service can take requests. It needs no
// credential.
func (c *Client) Ready(ctx context.Context) error {
	_, err := (&call{}).read(c.raw.GetReadiness(ctx))
	return err
}

// optional leaves out what is zero.
func optional[T comparable](value T) *T {
	var zero T
	if value == zero {
		return nil
	}
	return &value
}

// paged yields the rows of all pages.
func paged[T any](fetch func(*api.Cursor) ([]T, *api.NextCursor, error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for cursor := (*api.Cursor)(nil); ; {
			rows, next, err := fetch(cursor)
			if err != nil {
				var none T
				yield(none, err)
				return
			}
			for _, row := range rows {
				if !yield(row, nil) {
					return
				}
			}
			if next == nil {
				return
			}
			cursor = next
		}
	}
}
