package main

// journeys are the tests over HTTP.
const journeys = "internal/testkit/journeys/..."

// mutations are the broken rules.
var mutations = []mutation{
	// Access: who may call what.
	{
		"a role may call what its operation allows",
		"internal/edge/httpapi/middleware.go",
		"if principal.Role(role) == caller.Role {", "if true {",
		"TestEveryOperationAnswersEachCallerByItsRole", journeys,
	},
	{
		"a key needs the scope of the operation",
		"internal/edge/httpapi/middleware.go",
		"if !caller.Has(principal.Scope(operation.Scope)) {", "if false {",
		"TestEveryOperationAnswersEachCallerByItsRole", journeys,
	},
	{
		"a key may not call what has no scope",
		"internal/edge/httpapi/middleware.go",
		`if operation.Scope == "" {`, "if false {",
		"TestEveryOperationAnswersEachCallerByItsRole", journeys,
	},
	{
		"a required second factor comes first",
		"internal/edge/httpapi/middleware.go",
		"if caller.MustEnrol && operation.Tag", "if false && operation.Tag",
		"TestSecondFactor", journeys,
	},
	{
		"pages of other origins change nothing",
		"internal/edge/httpapi/middleware.go",
		"if err := s.origins.Check(c.Request()); err != nil {", "if err := s.origins.Check(c.Request()); false {",
		"TestSessionAsACookie", journeys,
	},
	{
		"a key authenticates by its secret",
		"internal/account/apikey/apikey.go",
		"case !token.SameHash(key.hash, hash),", "case false,",
		"TestAPIKeys", journeys,
	},
	{
		"a revoked key authenticates no caller",
		"internal/account/apikey/apikey.go",
		"\t\tkey.revoked,\n", "\t\tfalse,\n",
		"TestAPIKeys|TestLeakedAPIKey", journeys,
	},
	{
		"an expired key authenticates no caller",
		"internal/account/apikey/apikey.go",
		"!now.Before(*key.expiresAt),", "now.Before(*key.expiresAt) && false,",
		"TestAPIKeys|TestRotateAPIKey", journeys,
	},
	{
		"a key is bound to its networks",
		"internal/account/apikey/apikey.go",
		"len(key.networks) > 0 &&", "len(key.networks) < 0 &&",
		"TestAPIKeys", journeys,
	},
	{
		"a session ends with its user's account",
		"internal/account/session/store.go",
		"and u.status = 'active' and s.created_at", "and s.created_at",
		"TestRolesAndStatusReachSessions", journeys,
	},
	{
		"a reset password ends the sessions before it",
		"internal/account/session/store.go",
		"s.created_at >= u.sessions_since", "true",
		"TestPasswordReset", journeys,
	},
	{
		"a session has the role of its token",
		"internal/account/session/session.go",
		" || now.role != claims.Role {", " {",
		"TestRolesAndStatusReachSessions", journeys,
	},
	{
		"a refresh token works once",
		"internal/account/session/session.go",
		"if found.used {", "if false {",
		"TestSessions|TestRefreshing", journeys,
	},
	{
		"a cookie authenticates by its secret",
		"internal/account/session/session.go",
		"!token.SameHash(now.cookieHash, hash)", "false",
		"TestSessionAsACookie|TestCredentialsAreReadStrictly", journeys,
	},
	{
		"guesses are counted",
		"internal/account/session/session.go",
		"if len(exhausted) > 0 && !besieged {", "if false {",
		"TestGuessersAreSlowedDown", journeys,
	},
	{
		"a sign-in with a second factor needs its code",
		"internal/account/session/session.go",
		"if verdict == secondfactor.CodeNeeded || verdict == secondfactor.CodeWrong {", "if false {",
		"TestSecondFactor", journeys,
	},
	{
		"a code works once",
		"internal/infra/totp/totp.go",
		" && candidate > lastStep {", " {",
		".", "internal/infra/totp",
	},
	{
		"a password link works once",
		"internal/account/passwordlink/store.go",
		"where customer_id = $2 and hash = $3 and used_at is null", "where customer_id = $2 and hash = $3",
		"TestPasswordReset|TestConfirmAtOnce|TestInvitation", journeys,
	},
	{
		"a password link expires",
		"internal/account/passwordlink/store.go",
		"l.expires_at > @now", "@now::timestamptz is not null",
		"TestLinksExpire", journeys,
	},
	{
		"a changed address ends the links mailed before",
		"internal/account/passwordlink/store.go",
		" and l.links_since = u.links_since", "",
		"TestWhatEndsLinks", journeys,
	},

	// Tenancy: a customer sees its own.
	{
		"a connection sees the customer that it was opened for",
		"internal/infra/postgres/postgres.go",
		"if raw.CustomData()[currentCustomer] == customer {", "if raw.CustomData()[currentCustomer] != nil {",
		".", "internal/testkit/dbtest",
	},
	{
		"row security shows a customer's rows alone",
		"internal/infra/postgres/migrations/00001_foundation.sql",
		"on %I to steward_app using (customer_id = current_customer())", "on %I to steward_app using (true)",
		".", "internal/testkit/dbtest",
	},
	{
		"a cursor is one customer's",
		"internal/edge/httpapi/cursor.go",
		"caller.Customer.UUID[:], []byte(operation)", "[]byte(operation)",
		"TestCursorsCannotBeMadeUp|Cursor", "internal/...",
	},
	{
		"a cursor is authentic",
		"internal/edge/httpapi/cursor.go",
		"if subtle.ConstantTimeCompare(asked.seal(asked.before), raw[len(uuid.UUID{}):]) != 1 {", "if false {",
		"TestCursorsCannotBeMadeUp|Cursor", "internal/...",
	},
	{
		"an idempotency key is one caller's",
		"internal/infra/idempotency/idempotency.go",
		`"idempotency key", o.Credential[:], []byte(o.Key))`, `"idempotency key", []byte(o.Key))`,
		"TestIdempotency|Idempotency|Once", "internal/...",
	},
	{
		"an idempotency key stands for one request",
		"internal/infra/idempotency/idempotency.go",
		"!bytes.Equal(kept.fingerprint, fingerprint)", "false",
		"TestIdempotency|Idempotency|Once", "internal/...",
	},

	// Proofs: what was signed or chained cannot be altered.
	{
		"a proof leads to the checkpoint's root",
		"pkg/trailproof/trailproof.go",
		"hash, p.InclusionPath, checkpoint.Root[:]); err != nil {",
		"hash, p.InclusionPath, checkpoint.Root[:]); false {",
		".",
		"internal/testkit/publictest",
	},
	{
		"a checkpoint extends an earlier one",
		"pkg/trailproof/trailproof.go",
		"path, older.Root[:], newer.Root[:]); err != nil {", "path, older.Root[:], newer.Root[:]); false {",
		".", "internal/testkit/publictest",
	},
}
