package publictest_test

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fusionspim/steward/internal/testkit/apptest"
	"github.com/fusionspim/steward/pkg/client"
	"github.com/fusionspim/steward/pkg/client/api"
)

// These tests call the real service.

const noID = "00000000-0000-7000-8000-000000000000"

func withKey(t *testing.T, service *apptest.Service, of apptest.Customer) *client.Client {
	t.Helper()
	made, err := client.New(service.URL, client.WithAPIKey(string(of.APIKey)))
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func withSession(t *testing.T, service *apptest.Service, of apptest.Customer, person apptest.Person) *client.Client {
	t.Helper()
	made, err := client.New(
		service.URL,
		client.WithSession(client.Login{Customer: of.Slug, Email: person.Email, Password: apptest.Password}),
	)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func must[T any](t *testing.T) func(T, error) T {
	t.Helper()
	return func(value T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

func wantProblem(t *testing.T, err error, code client.ProblemCode) *client.Problem {
	t.Helper()
	var found *client.Problem
	if !errors.As(err, &found) || found.Code() != code {
		t.Fatalf("got %v, want the problem %s", err, code)
	}
	return found
}

func TestMainJob(t *testing.T) {
	t.Parallel()
	service := apptest.Start(t)
	acme := service.Customer(t, "acme")
	c, ctx := withKey(t, service, acme), t.Context()
	if err := c.Ready(ctx); err != nil {
		t.Fatal(err)
	}

	var etag string
	noor := must[client.User](
		t,
	)(
		c.CreateUser(
			ctx,
			client.NewUser{FirstName: "Noor", LastName: "Haddad", Email: "noor@acme.example"},
			client.StoreETag(&etag),
			client.IdempotencyKey("import-1"),
		),
	)
	again := must[client.User](
		t,
	)(
		c.CreateUser(
			ctx,
			client.NewUser{FirstName: "Noor", LastName: "Haddad", Email: "noor@acme.example"},
			client.IdempotencyKey("import-1"),
		),
	)
	if again.ID != noor.ID || etag == "" || noor.Role != client.RoleUser || noor.Status != client.UserActive {
		t.Errorf("got %+v with ETag %q, then %v", noor, etag, again.ID)
	}
	_, err := c.CreateUser(ctx, client.NewUser{FirstName: "Other", LastName: "Person", Email: "NOOR@acme.example"})
	wantProblem(t, err, client.ProblemEmailTaken)
	_, err = c.CreateUser(ctx, client.NewUser{FirstName: "", LastName: "Person", Email: "x@acme.example"})
	if found := wantProblem(
		t,
		err,
		client.ProblemMalformedRequest,
	); len(found.Errors) != 1 || found.Errors[0].Pointer != "/first_name" ||
		found.RequestID == "" {
		t.Errorf("got %+v", found)
	}
	if found, ok, err := c.FindUser(ctx, "NOOR@ACME.example"); err != nil || !ok || found.ID != noor.ID {
		t.Errorf("got %v, %t, %v", found.ID, ok, err)
	}
	if _, ok, err := c.FindUser(ctx, "nobody@acme.example"); err != nil || ok {
		t.Errorf("got %t, %v", ok, err)
	}

	seen := etag
	changed := must[client.User](
		t,
	)(
		c.UpdateUser(
			ctx,
			noor.ID,
			client.UserPatch{LastName: new("Haddad-Lind")},
			client.IfMatch(etag),
			client.StoreETag(&etag),
		),
	)
	if *changed.LastName != "Haddad-Lind" || *changed.FirstName != "Noor" || etag == seen {
		t.Errorf("got %+v with ETag %q", changed, etag)
	}
	_, err = c.UpdateUser(ctx, noor.ID, client.UserPatch{LastName: new("Late")}, client.IfMatch(seen))
	wantProblem(t, err, client.ProblemPreconditionFailed)
	if alerts := must[client.Alerts](
		t,
	)(
		c.SetUserAlerts(ctx, noor.ID, false),
	); alerts.OptedIn ||
		alerts.SetBy != api.AlertsSetByAPIKey {
		t.Errorf("got %+v", alerts)
	}
	if alerts := must[client.Alerts](t)(c.UserAlerts(ctx, noor.ID)); alerts.OptedIn {
		t.Errorf("got %+v", alerts)
	}

	if plan := must[client.ErasurePlan](
		t,
	)(
		c.ErasurePlan(ctx, noor.ID),
	); !plan.CanDelete ||
		plan.Recommended != api.ErasurePlanRecommendedDelete {
		t.Errorf("got %+v", plan)
	}
	occurred := service.Database.Clock.Now().Add(-time.Hour).UTC()
	results := must[client.AuditEntryResults](t)(c.RecordAuditEntries(ctx, []client.NewAuditEntry{
		{
			ActorUserID: noor.ID,
			Action:      "product.updated",
			Target:      client.AuditTarget{Type: "product", ID: "17"},
			OccurredAt:  occurred,
			SourceID:    "pim-1",
			Details:     map[string]any{"changed": []string{"price"}, "revision": 7},
		},
	}))
	if results.Created != 1 || results.Data[0].Status != api.AuditEntryResultStatusCreated ||
		results.Data[0].SourceID != "pim-1" {
		t.Errorf("got %+v", results)
	}
	_, err = c.DeleteUser(ctx, noor.ID)
	if found := wantProblem(
		t,
		err,
		client.ProblemAuditTrailIncomplete,
	); len(found.References) != 1 || found.References[0].Count != 1 ||
		!found.References[0].FirstAt.Equal(occurred) ||
		found.Redaction != "/v1/users/"+noor.ID.String()+"/redaction" {
		t.Errorf("got %+v", found)
	}
	receipt := must[client.ErasureReceipt](t)(c.RedactUser(ctx, noor.ID, client.ReasonLeftEmployment))
	if receipt.Kind != api.ErasureReceiptKindRedaction || receipt.UserID != noor.ID ||
		*receipt.Reason != "left_employment" {
		t.Errorf("got %+v", receipt)
	}
	if same := must[client.ErasureReceipt](t)(c.RedactUser(ctx, noor.ID, "")); same.ID != receipt.ID {
		t.Errorf("got %v, first %v", same.ID, receipt.ID)
	}
	if same := must[client.ErasureReceipt](
		t,
	)(
		c.ErasureReceipt(ctx, receipt.ID),
	); same.ID != receipt.ID ||
		same.UserID != noor.ID {
		t.Errorf("got %+v", same)
	}
	_, err = c.UpdateUser(ctx, noor.ID, client.UserPatch{FirstName: new("Noor")})
	if found := wantProblem(
		t,
		err,
		client.ProblemUserRedacted,
	); found.Receipt != "/v1/erasure-receipts/"+receipt.ID.String() {
		t.Errorf("got %+v", found)
	}
	if gone := must[client.User](
		t,
	)(
		c.GetUser(ctx, noor.ID),
	); gone.FirstName != nil || gone.Email != nil || gone.Label == nil ||
		gone.Status != client.UserRedacted {
		t.Errorf("got %+v", gone)
	}
	for entry, err := range c.AuditEntries(ctx, client.AuditFilter{ActorUserID: noor.ID}) {
		if err != nil {
			t.Fatal(err)
		}
		if !entry.Actor.Redacted || entry.Action != "product.updated" || entry.Details["revision"] != 7.0 ||
			!entry.OccurredAt.Equal(occurred) {
			t.Errorf("got %+v", entry)
		}
	}

	bo := must[client.User](
		t,
	)(
		c.CreateUser(ctx, client.NewUser{FirstName: "Bo", LastName: "Li", Email: "noor@acme.example"}),
	)
	if receipt := must[client.ErasureReceipt](
		t,
	)(
		c.DeleteUser(ctx, bo.ID),
	); receipt.Kind != api.ErasureReceiptKindDeletion {
		t.Errorf("got %+v", receipt)
	}
	_, err = c.GetUser(ctx, bo.ID)
	wantProblem(t, err, client.ProblemNotFound)
	_, err = c.Me(ctx)
	wantProblem(t, err, client.ProblemRoleNotAllowed)
	_, err = withKey(t, service, service.Customer(t, "globex")).GetUser(ctx, noor.ID)
	wantProblem(t, err, client.ProblemNotFound)
}

func TestIteratorsGoOverAllPages(t *testing.T) {
	t.Parallel()
	service := apptest.Start(t)
	acme := service.Customer(t, "acme")
	c, ctx := withKey(t, service, acme), t.Context()
	var want []uuid.UUID
	for _, name := range []string{"Ada", "Adam", "Adele", "Adil", "Adnan"} {
		made := must[client.User](
			t,
		)(
			c.CreateUser(ctx, client.NewUser{FirstName: name, LastName: "Q", Email: name + "@acme.example"}),
		)
		want = append([]uuid.UUID{made.ID}, want...)
	}
	must[client.Alerts](t)(c.SetUserAlerts(ctx, want[0], false))
	list := func(filter client.UserFilter) (got []uuid.UUID) {
		t.Helper()
		for user, err := range c.Users(ctx, filter) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, user.ID)
		}
		return got
	}
	users := client.UserFilter{Query: "ad", Role: client.RoleUser, PageSize: 2}
	if got := list(users); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := list(client.UserFilter{AlertsOptedIn: new(false)}); !slices.Equal(got, want[:1]) {
		t.Errorf("got %v, want %v", got, want[:1])
	}
	if got := list(client.UserFilter{Status: client.UserDisabled}); len(got) != 0 {
		t.Errorf("got %v, want none", got)
	}
	some := 0
	for range c.Users(ctx, users) { // a loop may stop early, and run again
		if some++; some == 3 {
			break
		}
	}
	// the administrator too
	if got := list(client.UserFilter{Query: "ad", PageSize: 200}); some != 3 || len(got) != 6 {
		t.Errorf("%d, %d", some, len(got))
	}
	rows := 0
	for _, err := range c.Users(ctx, client.UserFilter{PageSize: 999}) {
		rows++
		wantProblem(t, err, client.ProblemMalformedRequest)
	}
	if rows != 1 {
		t.Errorf("%d rows after an error", rows)
	}
}

func TestAuditEntriesGoInBatches(t *testing.T) {
	t.Parallel()
	service := apptest.Start(t)
	acme := service.Customer(t, "acme")
	c, ctx := withKey(t, service, acme), t.Context()
	occurred := service.Database.Clock.Now().Add(-time.Hour)
	entries := make([]client.NewAuditEntry, 2500)
	for i := range entries {
		entries[i] = client.NewAuditEntry{
			ActorUserID: acme.User.ID.UUID,
			Action:      "product.viewed",
			Target:      client.AuditTarget{Type: "product", ID: "17"},
			OccurredAt:  occurred,
			SourceID:    "s-" + uuid.NewString(),
		}
	}
	entries[1700].ActorUserID = uuid.MustParse(noID)
	entries[2400].SourceID = entries[3].SourceID
	results := must[client.AuditEntryResults](t)(c.RecordAuditEntries(ctx, entries))
	if results.Created != 2498 || results.Existing != 1 || results.Refused != 1 || len(results.Data) != 2500 {
		t.Fatalf("got %d, %d, %d in %d rows", results.Created, results.Existing, results.Refused, len(results.Data))
	}
	if row := results.Data[1700]; row.Problem == nil || row.Problem.Code() != client.ProblemUnknownActor ||
		row.Problem.Pointer != "/1700/actor_user_id" {
		t.Errorf("got %+v", row.Problem)
	}
	if row := results.Data[2400]; row.Status != api.AuditEntryResultStatusExisting || *row.ID != *results.Data[3].ID {
		t.Errorf("got %+v", row)
	}

	entries[1200].Action = "Not A Closed Word"
	partly, err := c.RecordAuditEntries(ctx, entries)
	if found := wantProblem(
		t,
		err,
		client.ProblemMalformedRequest,
	); len(found.Errors) == 0 ||
		found.Errors[0].Pointer != "/1200/action" {
		t.Errorf("got %+v", found)
	}
	if len(partly.Data) != 1000 || partly.Existing != 1000 {
		t.Errorf("got %d rows, %d there already", len(partly.Data), partly.Existing)
	}
	if nothing := must[client.AuditEntryResults](t)(c.RecordAuditEntries(ctx, nil)); len(nothing.Data) != 0 {
		t.Errorf("got %+v", nothing)
	}

	// Entries as large as can be: fewer than 1,000 fill a request.
	words := make([]string, 50)
	for i := range words {
		words[i] = "w" + uuid.NewString() + "-and-more-and-more-and-more"
	}
	details := map[string]any{}
	for i := range 20 {
		details["list_"+string(rune('a'+i))] = words
	}
	large := make([]client.NewAuditEntry, 60)
	for i := range large {
		large[i] = client.NewAuditEntry{
			ActorUserID: acme.User.ID.UUID,
			Action:      "product.viewed",
			Target:      client.AuditTarget{Type: "product", ID: "17"},
			OccurredAt:  occurred,
			Details:     details,
		}
	}
	if results, err = c.RecordAuditEntries(
		ctx,
		large,
	); err != nil ||
		int(results.Created+results.Refused) != len(large) {
		t.Errorf("%+v, %v", results, err)
	}
	if results.Refused > 0 {
		t.Logf("refused: %+v", results.Data[0].Problem)
	}

	count := 0
	for entry, err := range c.AuditEntries(ctx, client.AuditFilter{
		ActorUserID: acme.User.ID.UUID, Action: "product.viewed", TargetType: "product", TargetID: "17", From: occurred, To: occurred.Add(time.Second), PageSize: 200,
	}) {
		if err != nil {
			t.Fatal(err)
		}
		if len(entry.Details) == 0 {
			count++
		}
	}
	if count != 2498 {
		t.Errorf("%d entries listed, want 2498", count)
	}
}

func TestSessionWithTheService(t *testing.T) {
	t.Parallel()
	service := apptest.Start(t)
	acme := service.Customer(t, "acme")
	ctx := t.Context()
	admin, person := withSession(t, service, acme, acme.Admin), withSession(t, service, acme, acme.User)

	me := must[client.Me](t)(person.Me(ctx))
	if me.ID != acme.User.ID.UUID || me.Customer.Slug != "acme" || me.Role != client.RoleUser {
		t.Errorf("got %+v", me)
	}
	for range 3 { // the access token expires on the service's clock, the session goes on
		service.Database.Clock.Advance(11 * time.Minute)
		must[client.Me](t)(person.Me(ctx))
	}
	service.Database.Clock.Advance(8 * 24 * time.Hour) // the session ends, another begins
	must[client.Me](t)(person.Me(ctx))

	if alerts := must[client.Alerts](
		t,
	)(
		person.SetMyAlerts(ctx, false),
	); alerts.OptedIn ||
		alerts.SetBy != api.AlertsSetByUser {
		t.Errorf("got %+v", alerts)
	}
	if alerts := must[client.Alerts](t)(person.MyAlerts(ctx)); alerts.OptedIn {
		t.Errorf("got %+v", alerts)
	}
	wantProblem(
		t,
		person.ChangeMyPassword(ctx, "not that one", "seven violet umbrellas hum at dusk"),
		client.ProblemCurrentPasswordWrong,
	)
	wantProblem(t, person.ChangeMyPassword(ctx, apptest.Password, "password"), client.ProblemWeakPassword)
	if err := person.ChangeMyPassword(ctx, apptest.Password, "seven violet umbrellas hum at dusk"); err != nil {
		t.Fatal(err)
	}
	if err := person.SignOut(ctx); err != nil {
		t.Fatal(err)
	}
	must[client.Me](t)(person.Me(ctx)) // signs in with the new password
	_, err := withSession(t, service, acme, acme.User).Me(ctx)
	wantProblem(t, err, client.ProblemInvalidCredentials)
	for _, err := range person.Users(ctx, client.UserFilter{}) {
		wantProblem(t, err, client.ProblemRoleNotAllowed)
	}

	var etag string
	must[client.Customer](t)(admin.Customer(ctx, client.StoreETag(&etag)))
	changed := must[client.Customer](
		t,
	)(
		admin.UpdateCustomer(ctx, client.CustomerPatch{GuidanceText: new("Ask extension 4100.")}, client.IfMatch(etag)),
	)
	if changed.GuidanceText != "Ask extension 4100." {
		t.Errorf("got %+v", changed)
	}
	key := must[client.CreatedAPIKey](
		t,
	)(
		admin.CreateAPIKey(ctx, client.NewAPIKey{Name: "read", Scopes: []api.Scope{api.ScopeUsersRead}}),
	)
	reader, err := client.New(service.URL, client.WithAPIKey(key.APIKey))
	if err != nil {
		t.Fatal(err)
	}
	must[client.User](t)(reader.GetUser(ctx, acme.User.ID.UUID))
	_, err = reader.DeleteUser(ctx, acme.User.ID.UUID)
	wantProblem(t, err, client.ProblemInsufficientScope)
	found := false
	for one, err := range admin.APIKeys(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		found = found || one.ID == key.ID
	}
	if !found {
		t.Error("the key is not listed")
	}
	for range 2 {
		if err := admin.RevokeAPIKey(ctx, key.ID); err != nil {
			t.Fatal(err)
		}
	}
	service.Database.Clock.Advance(2 * time.Second)
	_, err = reader.GetUser(ctx, acme.User.ID.UUID)
	wantProblem(t, err, client.ProblemUnauthorized)
}

func TestPeopleAreImported(t *testing.T) {
	t.Parallel()
	service := apptest.Start(t)
	acme := service.Customer(t, "acme")
	c, ctx := withKey(t, service, acme), t.Context()
	const file = "first_name,last_name,email\nNoor,Haddad,noor@acme.example\nNoor,,nobody@acme.example\nMina,Rao,mina@acme.example\n"
	rehearsed := must[client.UserImport](
		t,
	)(
		c.ImportUsers(ctx, client.ImportCSV, strings.NewReader(file), client.ImportOptions{DryRun: true}),
	)
	if rehearsed.WouldCreate != 2 || rehearsed.Created != 0 || rehearsed.Refused != 1 || !rehearsed.DryRun ||
		!rehearsed.Invite {
		t.Errorf("got %+v", rehearsed)
	}
	made := must[client.UserImport](
		t,
	)(
		c.ImportUsers(
			ctx,
			client.ImportCSV,
			io.MultiReader(strings.NewReader(file)),
			client.ImportOptions{WithoutMail: true},
			client.IdempotencyKey("people"),
		),
	)
	if made.Created != 2 || made.Refused != 1 || made.Invite || len(made.Data) != 1 || made.Data[0].Row != 2 ||
		made.Data[0].Problem.Pointer != "/last_name" {
		t.Errorf("got %+v", made)
	}
	if again := must[client.UserImport](
		t,
	)(
		c.ImportUsers(
			ctx,
			client.ImportCSV,
			strings.NewReader(file),
			client.ImportOptions{WithoutMail: true},
			client.IdempotencyKey("people"),
		),
	); again.ID != made.ID {
		t.Errorf("got %+v, then %+v", made, again)
	}
	var statuses []string
	for row, err := range c.UserImportRows(ctx, made.ID, "") {
		if err != nil {
			t.Fatal(err)
		}
		statuses = append(statuses, string(row.Status))
	}
	if !slices.Equal(statuses, []string{"created", "refused", "created"}) {
		t.Errorf("got %q", statuses)
	}
	if found := must[client.UserImport](
		t,
	)(
		c.UserImport(ctx, made.ID),
	); found.State != api.UserImportStateCompleted ||
		found.Rows != 3 {
		t.Errorf("got %+v", found)
	}
	_, err := c.ImportUsers(ctx, client.ImportNDJSON, strings.NewReader(""), client.ImportOptions{})
	wantProblem(t, err, client.ProblemMalformedRequest)
	endless := io.MultiReader(
		strings.NewReader(file),
		strings.NewReader("\""),
		strings.NewReader(strings.Repeat("x", 80<<10)),
	)
	_, err = c.ImportUsers(ctx, client.ImportCSV, endless, client.ImportOptions{})
	if found := wantProblem(
		t,
		err,
		client.ProblemMalformedRequest,
	); !strings.HasPrefix(
		found.Import,
		"/v1/user-imports/",
	) {
		t.Errorf("got %+v", found)
	}
}
