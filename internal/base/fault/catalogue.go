package fault

// catalogue describes every code. The renderer and the pages under /problems/ read it.
var catalogue = []Entry{
	{
		MalformedRequest, Malformed, "Malformed request",
		"A member, parameter or header is missing, unknown, repeated or invalid. Nothing was changed.",
		"See errors: each row points to the location and says what is expected there. The contract is at " +
			"/openapi.yaml.",
	},
	{
		MalformedCursor, Malformed, "Invalid cursor",
		"A cursor is opaque and valid only for the list, the filters and the customer that it was issued " +
			"for. This one was not issued by the service, or it was altered.",
		"Use next_cursor of the previous page unchanged and with the same filters, or start again without a cursor.",
	},
	{
		Unauthorized, Unauthenticated, "Authentication required",
		"The request has no credential, or an invalid one: it may be expired, revoked or mistyped.",
		"Sign in with POST /v1/sessions, refresh the session, or send a valid API key as Authorization: Bearer.",
	},
	{
		InvalidCredentials, Unauthenticated, "Invalid credentials",
		"The combination of customer, e-mail address and password is not valid. The answer is the same " +
			"whatever the reason.",
		"Check all three. A forgotten password can be reset by e-mail or by an administrator.",
	},
	{
		SecondFactorRequired, Unauthenticated, "One-time code required",
		"The password is correct, and the account has a second factor.",
		"Repeat the request with one_time_code: the authenticator's six digits, or a recovery code.",
	},
	{
		RoleNotAllowed, Forbidden, "Role not permitted",
		"The credential is valid, but the operation requires another role.",
		"Ask an administrator, or use a credential with the role that the contract names for this operation.",
	},
	{
		InsufficientScope, Forbidden, "Insufficient scope",
		"The API key is valid, but does not have the scope that this operation requires.",
		"Create a key with the scope. A key's scopes never change.",
	},
	{
		SecondFactorToSetUp, Forbidden, "Second factor set-up required",
		"This account must have a second factor and has none yet. Until it has one, no other operation is allowed.",
		"Set one up with POST /v1/me/second-factor and confirm it with POST /v1/me/second-factor/confirmation.",
	},
	{
		SecondOperatorNeeded, Forbidden, "Second operator required",
		"Offboarding takes two operators: one who requests it and another who approves it. Nothing was changed.",
		"Ask a colleague to approve it.",
	},
	{
		CrossOrigin, Forbidden, "Cross-origin request refused",
		"A browser sent this request from a page of another origin, with the session's cookie. Nothing was changed.",
		"Send it from the service's own origin, or ask for the frontend's origin to be trusted.",
	},
	{
		ResourceNotFound, NotFound, "Not found",
		"The resource does not exist for this caller. Another customer's resource gives the same answer as " +
			"one that never existed.",
		"Check the path and the id.",
	},
	{
		MethodNotAllowed, Method, "Method not allowed",
		"The path exists, but does not support this method.",
		"See the Allow header for supported methods.",
	},
	{
		NotAcceptableType, NotAcceptable, "Not acceptable",
		"The Accept header excludes every media type of this operation's answers.",
		"Accept application/json, or omit the header.",
	},
	{
		EmailTaken, Conflict, "E-mail address already in use",
		"Another user of this customer has that address. Addresses that differ only in letter case, Unicode " +
			"form or the spelling of an international domain are the same.",
		"Use another address, or correct or delete the account that has it.",
	},
	{
		AuditTrailIncomplete, Conflict, "User is referenced by the audit trail",
		"Entries of the audit trail name this user as their actor. Deleting the user would leave them without one.",
		"Redact the user instead: name, address and all other personal data are removed, and the id stays so " +
			"that the trail remains complete.",
	},
	{
		UserRedacted, Conflict, "User is redacted",
		"Redaction is final. A redacted user can be read, but neither changed nor used.",
		"Nothing more is needed; the receipt says what was removed. A new person with the same address is " +
			"created as a new user.",
	},
	{
		LastAdministrator, Conflict, "Last active administrator",
		"After this change the customer would have no administrator who can sign in.",
		"Make another user an administrator, let them sign in, then try again.",
	},
	{
		SecondFactorExists, Conflict, "Second factor already set up",
		"An account has at most one second factor.",
		"Remove the current one first, or ask an administrator to remove a lost one.",
	},
	{
		SecondFactorMissing, Conflict, "No second factor set up",
		"The account has no second factor, or has not confirmed it.",
		"Set one up with POST /v1/me/second-factor.",
	},
	{
		SecondFactorNeeded, Conflict, "Second factor is mandatory",
		"This account must have a second factor.",
		"To change to another authenticator, ask an administrator to remove the current one.",
	},
	{
		APIKeyRevoked, Conflict, "API key revoked or expired",
		"A revoked or expired key cannot be rotated.",
		"Create a new key.",
	},
	{
		JobNotRetryable, Conflict, "Job cannot be retried",
		"Only waiting and dead jobs can be retried. This one is running or completed.",
		"Check its state with GET /v1/operator/jobs.",
	},
	{
		WebhookLimit, Conflict, "Webhook endpoint limit reached",
		"A customer has at most 20 endpoints.",
		"Delete one that is no longer needed, or subscribe one endpoint to more event types.",
	},
	{
		WebhookPaused, Conflict, "Webhook endpoint is paused",
		"Nothing is sent or resent to a paused endpoint.",
		"Set the endpoint's status to active first.",
	},
	{
		RequestClosed, Conflict, "Data-subject request is closed",
		"The data-subject request was fulfilled, rejected or withdrawn. A closed request cannot change.",
		"Check the request's state. If more is needed, file a new request.",
	},
	{
		BundleNotReady, Conflict, "Bundle not ready",
		"There is no bundle yet: the data-subject request is open or was closed without being fulfilled, or " +
			"the offboarding's bundle is still being created.",
		"Wait until the request's state is fulfilled, or until the offboarding has a bundle.",
	},
	{
		OffboardingUnderWay, Conflict, "Offboarding already in progress",
		"The customer has an offboarding that is neither cancelled nor completed.",
		"See the existing one. To start over, cancel it first.",
	},
	{
		OffboardingState, Conflict, "Offboarding is in another state",
		"An offboarding can be approved while it is requested and cancelled until its deletion begins; its " +
			"bundle is available while it waits after the approval.",
		"Check the offboarding's state.",
	},
	{
		BundleTooLarge, Conflict, "Bundle too large",
		"The person's data exceeds the size of one bundle. Nothing was omitted silently: the request is still open.",
		"The data must be exported manually. Send the request's id to support.",
	},
	{
		SlugTaken, Conflict, "Slug already in use",
		"Another customer has that slug.",
		"Use another slug.",
	},
	{
		BackupUnderWay, Conflict, "Backup already in progress",
		"Only one backup of the database can run at a time, and one was requested before.",
		"See GET /v1/operator/backups; request another when it has completed or failed.",
	},
	{
		SourceIDReused, Conflict, "Source id already used",
		"An entry with that source_id exists with different content. Entries never change.",
		"Send the entry unchanged, or give the new one its own source_id.",
	},
	{
		EntryNotSealed, Conflict, "Entry not yet sequenced",
		"An entry is sequenced in the trail, which a proof requires, about a second after it is recorded.",
		"Retry after the time in Retry-After.",
	},
	{
		TrailShorter, Conflict, "Trail is shorter than requested",
		"The customer's trail has fewer entries than the size in the request, so that trail cannot be a " +
			"prefix of this one.",
		"Check that the size is from a checkpoint of this customer. If it is, entries were lost: keep the " +
			"checkpoint and contact support.",
	},
	{
		IdempotencyKeyInUse, Conflict, "Idempotency-Key in use",
		"The first request with the key is still running.",
		"Repeat the same request in a moment.",
	},
	{
		IdempotencyErased, Conflict, "Stored answer was erased",
		"The key was used before, and the person the answer was about has since been erased, so the answer " +
			"was erased too. Nothing was repeated.",
		"To create a new account, use a new key.",
	},
	{
		LinkUsedUp, Gone, "Link expired or already used",
		"A link sets a password once, before it expires. This one was used, has expired, or was invalidated " +
			"by a later change of the account. An unknown link gives the same answer.",
		"Request a new link with POST /v1/password-resets.",
	},
	{
		EventGone, Gone, "Event no longer available",
		"Events are kept for 90 days. The event to continue from is older or never existed, so events may " +
			"have been missed.",
		"Compare with GET /v1/users, then read the events from the beginning, without after and cursor.",
	},
	{
		BundleGone, Gone, "Bundle no longer available",
		"A bundle is kept for 14 days, and until its person is erased. One that is not encrypted to a " +
			"recipient can be downloaded once.",
		"File a new request. With a recipient, the bundle can be downloaded repeatedly while it is kept.",
	},
	{
		PreconditionFailed, Precondition, "Precondition failed",
		"The version in If-Match is not the current one. Nothing was changed.",
		"Fetch the resource again, review what changed, and repeat the request with the new ETag.",
	},
	{
		BodyTooLarge, TooLarge, "Request body too large",
		"The body exceeds the operation's limit.",
		"Send a smaller body. The contract gives each operation's limit as x-max-body-bytes.",
	},
	{
		UnsupportedMediaType, Unsupported, "Unsupported media type",
		"The operation does not support this Content-Type or Content-Encoding.",
		"Send JSON in UTF-8 without a content encoding.",
	},
	{
		IdempotencyKeyReused, Refused, "Idempotency-Key reused",
		"A key identifies one request. It was used before with another body or path.",
		"Use a new key for each new request.",
	},
	{
		InvalidWebhookURL, Refused, "Invalid webhook URL",
		"Webhook URLs must use https and a public address, be written in ASCII, and have neither user " +
			"information nor a fragment.",
		"Use the URL of a server that is reachable from the public Internet. Write an international domain " +
			"in its ASCII form.",
	},
	{
		OneTimeCodeWrong, Refused, "Invalid one-time code",
		"The code is not valid now, or was used before.",
		"Use the authenticator's next code, or an unused recovery code.",
	},
	{
		WeakPassword, Refused, "Password too weak",
		"The password is too short, too common, or too easily derived from the person's details.",
		"Choose a longer one: a few unrelated words work well. Any character is allowed, none is required.",
	},
	{
		CurrentPasswordWrong, Refused, "Current password incorrect",
		"The password was not changed, because the current one did not match.",
		"Enter the current password again, or request a reset.",
	},
	{
		InvalidRecipient, Refused, "Invalid recipient key",
		"A recipient is the public key of an age key pair: age1 and 58 more characters, of which the last " +
			"six are a checksum.",
		"Generate a key pair with age-keygen and send the value after \"Public key\". The private key stays with you.",
	},
	{
		InvalidName, Refused, "Invalid name",
		"A name is 1 to 100 characters of any script, without control characters.",
		"Correct the member that errors points to.",
	},
	{
		InvalidEmail, Refused, "Invalid e-mail address",
		"The address is not a single plain mailbox, such as user@example.com.",
		"Correct the member that errors points to.",
	},
	{
		ForeignMailDomain, Refused, "E-mail domain not allowed",
		"The customer allows addresses in its own mail domains only.",
		"Use an address in one of those domains, or ask an administrator to add the domain.",
	},
	{
		MalformedRow, Refused, "Malformed row",
		"A row of the import does not match the file's format, or a column has an invalid value. Other rows " +
			"are not affected.",
		"Correct the row and import the file again: rows that were imported before change nothing.",
	},
	{
		DuplicateRow, Refused, "Duplicate e-mail address in the file",
		"An earlier row of the same import has the same e-mail address. Letter case, Unicode form and the " +
			"spelling of an international domain are ignored.",
		"Keep one of the rows. The import cannot know which one is right.",
	},
	{
		UserDiffers, Refused, "User exists with different details",
		"A user of this customer has the row's address with another name or role. An import never overwrites.",
		"If the file is right, correct the user with PATCH /v1/users/{id}. If the user is right, correct the file.",
	},
	{
		AddressSuppressed, Refused, "E-mail address belongs to an erased person",
		"A person with that address was deleted or redacted. An import does not re-create erased people " +
			"unless told to.",
		"Remove the person from the source of the file. To create a new account deliberately, set " +
			"allow_erased in the row, or use POST /v1/users.",
	},
	{
		UnknownActor, Refused, "Unknown actor",
		"The actor's id belongs to no user of this customer: it was never issued, or the user was deleted.",
		"Send the id that POST /v1/users returned.",
	},
	{
		InvalidEntry, Refused, "Invalid entry",
		"The entry is well-formed but not valid, such as one with a time in the future.",
		"Correct the member that errors points to.",
	},
	{
		TooManyAttempts, TooMany, "Too many failed attempts",
		"Too many attempts failed for this account, from this address, or at this customer. Successful " +
			"attempts are not counted.",
		"Retry after the time in Retry-After.",
	},
	{
		InternalError, Internal, "Internal error",
		"The request failed because of a defect in the service. It was logged under request_id.",
		"Retry later; if it happens again, send the request_id to support.",
	},
	{
		ServiceUnavailable, Unavailable, "Service unavailable",
		"The database is unavailable or the service is overloaded. The change was made completely or not at " +
			"all; an Idempotency-Key makes a retry safe.",
		"Retry after the time in Retry-After.",
	},
	{
		ReplayingErasures, Unavailable, "Replaying erasures",
		"The database is older than the ledger of erasures, opt-outs and revocations that is kept outside " +
			"it, as after a restore from a backup. Until the missing ones are replayed, no request is served, " +
			"because erased people could be visible.",
		"Retry after the time in Retry-After. If the detail asks for manual review, the service's operators must act.",
	},
	{
		BackupsNotSetUp, Unavailable, "Backups are not configured",
		"The service lacks something that backups need: a store, recipients, a database user with full read " +
			"access, or PostgreSQL's pg_dump.",
		"The service logs what is missing when it starts. Configure it and retry.",
	},
}
