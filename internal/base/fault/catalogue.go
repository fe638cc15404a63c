package fault

// catalogue is written once here and read by the renderer and by the pages under /problems/.
var catalogue = []Entry{
	{
		MalformedRequest, Malformed, "The request does not follow the contract",
		"A member, parameter or header is missing, unknown, repeated or of the wrong form. Nothing was changed.",
		"Look at errors: each row points to the place and says what is expected there. The contract is at /openapi.yaml.",
	},
	{
		MalformedCursor, Malformed, "The cursor is not one of ours",
		"A cursor is opaque and only good for the list, the filters and the customer that it was made for. This one was made up, cut or changed.",
		"Take next_cursor from the previous page as it is, with the same filters, or start again without a cursor.",
	},
	{
		Unauthorized, Unauthenticated, "A valid credential is needed",
		"The request carried no credential, or one that does not count: it may be expired, ended, revoked or misspelt.",
		"Sign in with POST /v1/sessions, refresh the session, or send a live API key as Authorization: Bearer.",
	},
	{
		InvalidCredentials, Unauthenticated, "These credentials do not sign anybody in",
		"The customer, the e-mail address and the password do not belong together. The answer is the same whatever the reason.",
		"Check all three. A forgotten password is set anew by an administrator's help or a reset.",
	},
	{
		SecondFactorRequired, Unauthenticated, "A one-time code is needed",
		"The password is right, and the account has a second factor.",
		"Send the request again with one_time_code: six digits of the authenticator, or a recovery code.",
	},
	{
		RoleNotAllowed, Forbidden, "This role may not do that",
		"The credential is known, but the operation is for another role.",
		"Ask an administrator, or use a credential of the role that the contract names for this operation.",
	},
	{
		InsufficientScope, Forbidden, "The API key lacks the scope",
		"The API key is known, but it was not given the scope that this operation asks for.",
		"Make a key that has the scope. A key's scopes never change.",
	},
	{
		SecondFactorToSetUp, Forbidden, "A second factor must be set up first",
		"A second factor is required of this account, and there is none yet. Until there is, nothing else can be done.",
		"Set one up with POST /v1/me/second-factor and confirm it with POST /v1/me/second-factor/confirmation.",
	},
	{
		SecondOperatorNeeded, Forbidden, "Another operator has to do this",
		"The end of a contract takes two operators: one who begins it and another one who approves it. Nothing was changed.",
		"Ask a colleague to approve it.",
	},
	{
		CrossOrigin, Forbidden, "The request comes from another site",
		"A browser sent this request for a page of another origin, together with the session's cookie. Such requests change nothing here.",
		"Send it from the service's own origin, or have the frontend's origin added to the trusted ones.",
	},
	{
		ResourceNotFound, NotFound, "There is no such thing here",
		"Nothing with that address exists for this caller. What belongs to another customer answers exactly like what was never there.",
		"Check the path and the id.",
	},
	{
		MethodNotAllowed, Method, "The path does not take this method",
		"The path exists, but not with this method.",
		"The Allow header lists the methods that there are.",
	},
	{
		NotAcceptableType, NotAcceptable, "The answer cannot be given in that form",
		"The Accept header leaves out every media type in which this operation answers.",
		"Accept application/json, or leave the header away.",
	},
	{
		EmailTaken, Conflict, "The e-mail address is in use",
		"Another living user of this customer has that address. Addresses that differ only in letter case, Unicode form or the spelling of an international domain count as one.",
		"Choose another address, or correct or remove the account that has it.",
	},
	{
		AuditTrailIncomplete, Conflict, "Deleting would leave the audit trail incomplete",
		"Entries of the audit trail name this user as their actor. Deleting the user would make them say that nobody did it.",
		"Redact the user instead: name, address and everything else personal go, the id stays so that the trail remains whole.",
	},
	{
		UserRedacted, Conflict, "The user is redacted",
		"Redaction is final. A redacted user can be looked up, but neither changed nor used.",
		"Nothing more is needed; the receipt says what was removed. A new person with the same address is registered as a new user.",
	},
	{
		LastAdministrator, Conflict, "This is the last administrator who can sign in",
		"After this change nobody could administer the customer's users any more.",
		"Make another user an administrator, let that person sign in, then try again.",
	},
	{
		SecondFactorExists, Conflict, "There is a second factor already",
		"An account has one second factor.",
		"Give the present one up first, or have an administrator take a lost one off the account.",
	},
	{
		SecondFactorMissing, Conflict, "There is no second factor",
		"The account has no second factor, or none that was confirmed.",
		"Set one up with POST /v1/me/second-factor.",
	},
	{
		SecondFactorNeeded, Conflict, "The second factor cannot be given up",
		"A second factor is required of this account.",
		"To change to another authenticator, have an administrator take the present one off the account.",
	},
	{
		APIKeyRevoked, Conflict, "The API key is revoked or expired",
		"A key that is not good any more cannot be replaced.",
		"Make a new key.",
	},
	{
		JobNotRetryable, Conflict, "The job cannot be tried again now",
		"A job is tried again when it is dead or waits. This one is being done at this moment, or is done.",
		"Look at its state with GET /v1/operator/jobs.",
	},
	{
		WebhookLimit, Conflict, "There are as many webhook endpoints as there may be",
		"A customer has at most 20 endpoints.",
		"Delete one that is not needed any more, or let one endpoint take more types of events.",
	},
	{
		WebhookPaused, Conflict, "The webhook endpoint is paused",
		"Nothing is sent to an endpoint that is paused, so nothing can be sent to it again.",
		"Set the status of the endpoint to active first.",
	},
	{
		RequestClosed, Conflict, "The request is closed",
		"The data-subject request was fulfilled, rejected or withdrawn before. What is closed stays as it is.",
		"Look at the request's state. If there is more to ask, file a new request.",
	},
	{
		BundleNotReady, Conflict, "There is no bundle yet",
		"Nothing was put together yet: the data-subject request is open or was closed without being fulfilled, or the bundle of an offboarding is still being made.",
		"Wait until the request's state is fulfilled, or until the offboarding has a bundle.",
	},
	{
		OffboardingUnderWay, Conflict, "An offboarding is under way",
		"The customer's offboarding was begun before and is neither cancelled nor done.",
		"Look at the one that there is. To begin anew, cancel it first.",
	},
	{
		OffboardingState, Conflict, "The offboarding is in another state",
		"An offboarding is approved while it is requested, cancelled until its deletion begins, and its bundle is there while it waits after the approval.",
		"Look at the offboarding's state.",
	},
	{
		BundleTooLarge, Conflict, "More is held than one bundle takes",
		"What is held of the person does not fit into one bundle. Nothing was left out in silence: the request is open as before.",
		"The person's data has to be put together by hand. Send the request's id to the support.",
	},
	{
		SlugTaken, Conflict, "The slug is in use",
		"Another customer has that slug.",
		"Choose another slug.",
	},
	{
		BackupUnderWay, Conflict, "A backup is under way",
		"Backups of the database are made one at a time, and one was asked for before.",
		"Look for it in GET /v1/operator/backups; when it is done or has failed, ask again.",
	},
	{
		SourceIDReused, Conflict, "The source id belongs to another entry",
		"An entry with that source_id was stored before, and it says something else. Entries never change.",
		"Send the entry as it was sent first, or give the new one a source_id of its own.",
	},
	{
		EntryNotSealed, Conflict, "The entry has no place in the trail yet",
		"An entry gets its place in the trail, which a proof is about, within about a second after it was recorded.",
		"Try again after the time that Retry-After names.",
	},
	{
		TrailShorter, Conflict, "The trail has fewer entries",
		"The trail of the customer has fewer entries than the size that was named, so that trail cannot be the beginning of this one.",
		"Look whether the size is that of a checkpoint of this customer. If it is, something was lost: keep the checkpoint, and write to the support.",
	},
	{
		IdempotencyKeyInUse, Conflict, "A request with this Idempotency-Key is under way",
		"The first request with the key has not finished.",
		"Wait for a moment and send the same request again.",
	},
	{
		IdempotencyErased, Conflict, "The answer to this Idempotency-Key was erased",
		"The key was used before, and the person whom the answer told of was deleted or redacted since, so the answer is gone as well. Nothing was done again.",
		"If a new account is meant, use a new key.",
	},
	{
		LinkUsedUp, Gone, "The link is good no more",
		"A link sets a password once, within its time. This one was used, is too old, or was replaced by what happened to the account since. A link that never was answers the same.",
		"Ask for a new link with POST /v1/password-resets.",
	},
	{
		EventGone, Gone, "The event is not there any more",
		"Events are kept for 90 days. The one to go on from is older, or never was, so events may have been missed.",
		"Compare with GET /v1/users, then read the events from the beginning, without after and cursor.",
	},
	{
		BundleGone, Gone, "The bundle is gone",
		"A bundle is kept for 14 days. One that was not encrypted to a recipient is given out once. It also goes when its person is erased.",
		"File a new request. With a recipient, the bundle can be collected as often as needed while it is kept.",
	},
	{
		PreconditionFailed, Precondition, "The resource has changed",
		"The version named by If-Match is not the current one. Nothing was changed.",
		"Fetch the resource again, look at what changed, and repeat the change with the new ETag.",
	},
	{
		BodyTooLarge, TooLarge, "The body is too large",
		"The body is longer than the operation takes.",
		"Send less at once. The contract names the limit of each operation as x-max-body-bytes.",
	},
	{
		UnsupportedMediaType, Unsupported, "The body is in a form that is not taken",
		"The Content-Type or Content-Encoding is not one that this operation takes.",
		"Send JSON in UTF-8 without a content coding.",
	},
	{
		IdempotencyKeyReused, Refused, "The Idempotency-Key was used for another request",
		"A key stands for one request. It was used before with another body or another path.",
		"Make a new key for each new request.",
	},
	{
		InvalidWebhookURL, Refused, "The URL cannot be a webhook endpoint",
		"Webhooks go to https URLs at public addresses, written in ASCII, without user information and without a fragment.",
		"Give the URL of a server that the public Internet reaches. Write an international domain in its ASCII form.",
	},
	{
		OneTimeCodeWrong, Refused, "The one-time code is wrong",
		"The code does not belong to this moment, or it was used before.",
		"Take the next code of the authenticator, or a recovery code that was not used yet.",
	},
	{
		WeakPassword, Refused, "The password is too weak",
		"The password is too short, too common, or too easily made from what is known of the person.",
		"Take a longer one: a few unrelated words do well. Any character is fine, none is required.",
	},
	{
		CurrentPasswordWrong, Refused, "The current password is wrong",
		"The password was left as it is, because the current one did not match.",
		"Type the current password again, or ask for a reset.",
	},
	{
		InvalidRecipient, Refused, "The recipient is not a public key that bundles can be encrypted to",
		"A recipient is the public key of an age key pair: age1 and 58 more characters, of which the last six are a checksum.",
		"Make a key pair with age-keygen and send the line behind \"Public key\". The private key stays with you.",
	},
	{
		InvalidName, Refused, "The name cannot be taken",
		"A name is 1 to 100 characters of any script, without control characters.",
		"Correct the member that errors points to.",
	},
	{
		InvalidEmail, Refused, "The e-mail address cannot be taken",
		"The address is not one plain mailbox, such as somebody@example.com.",
		"Correct the member that errors points to.",
	},
	{
		ForeignMailDomain, Refused, "The e-mail address is outside the customer's mail domains",
		"The customer takes addresses of its own mail domains only.",
		"Use an address of the customer's, or let an administrator add the domain.",
	},
	{
		MalformedRow, Refused, "The row cannot be read",
		"A row of an import is not of the form of its file, or a column of it holds what it cannot hold. The other rows are not affected.",
		"Correct the row and send the file again: rows that were carried out before change nothing.",
	},
	{
		DuplicateRow, Refused, "The address stands in the file twice",
		"An earlier row of the same import has the same e-mail address. Letter case, Unicode form and the spelling of an international domain do not count.",
		"Keep one of the rows. Which one is right, an import cannot know.",
	},
	{
		UserDiffers, Refused, "A user with that address is somebody else or has changed",
		"A living user of this customer has the address of the row, with another name or another role. An import never overwrites.",
		"If the file is right, correct the user with PATCH /v1/users/{id}. If the user is right, correct the file.",
	},
	{
		AddressSuppressed, Refused, "The person was erased",
		"A person with that address was deleted or redacted. An import does not bring erased people back unless that is meant.",
		"Take the person off the list that the file was made of. If a new account is meant, say so in the row with allow_erased, or create the user with POST /v1/users.",
	},
	{
		UnknownActor, Refused, "The actor is not a user of this customer",
		"An entry of the audit trail names somebody who did something. The id belongs to no living user of this customer: it was never given, or the user is deleted.",
		"Send the id that POST /v1/users answered with.",
	},
	{
		InvalidEntry, Refused, "The entry cannot be taken",
		"The entry follows the contract's form but not its sense, such as a time that lies in the future.",
		"Correct the member that errors points to.",
	},
	{
		TooManyAttempts, TooMany, "Too many attempts failed",
		"More attempts failed than are let through in a while, for this account, from this address, or at this customer. Right attempts are not counted.",
		"Wait as long as Retry-After says.",
	},
	{
		InternalError, Internal, "Something went wrong on our side",
		"The request was not carried out because of a mistake in the service. It was logged under request_id.",
		"Try again later; if it happens again, send the request_id to the support.",
	},
	{
		ServiceUnavailable, Unavailable, "The service cannot answer just now",
		"The database is away or the service has more to do than it can. Nothing was changed, or the change is whole; an Idempotency-Key makes repeating safe.",
		"Try again after the time that Retry-After names.",
	},
	{
		ReplayingErasures, Unavailable, "The service is closed until erasures are carried out again",
		"The database is of an earlier time than the record of erasures, opt-outs and revocations that is kept outside it, as after a restore from a backup. Until what is missing is carried out once more, nobody is let in, for people could be seen who were erased.",
		"Wait as long as Retry-After says. If the detail asks for a person, the service's operators have to look at it.",
	},
	{
		BackupsNotSetUp, Unavailable, "Backups are not set up",
		"The service was started without what making a backup takes: a store, recipients, a database user that may read everything, or PostgreSQL's pg_dump.",
		"The log of the service says at its start what is missing. Have it set, and ask again.",
	},
}
