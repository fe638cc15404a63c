package journeys

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fusionspim/steward/internal/account/apikey"
	"github.com/fusionspim/steward/internal/app"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/testkit/apptest"
	"github.com/fusionspim/steward/internal/testkit/journeys/steps"
)

// csvFile is a file of rows of first name, last name and address.
func csvFile(rows ...string) apptest.Option {
	return apptest.Raw("text/csv", "first_name,last_name,email\n"+strings.Join(rows, "\n")+"\n")
}

func jsonFile(rows ...string) apptest.Option {
	return apptest.Raw("application/x-ndjson", strings.Join(rows, "\n")+"\n")
}

// imported is an import as it is answered.
type imported struct {
	ID          string
	State       string
	StoppedBy   *string `json:"stopped_by"`
	FinishedAt  *string `json:"finished_at"`
	DryRun      bool    `json:"dry_run"`
	Rows        int
	Created     int
	WouldCreate int `json:"would_create"`
	Existing    int
	Refused     int
	Data        []importedRow
	NextCursor  *string `json:"next_cursor"`
}

type importedRow struct {
	Row, Line int
	Status    string
	UserID    string `json:"user_id"`
	Problem   *struct{ Type, Detail, Pointer string }
}

// why is the problem of a row in short.
func (r importedRow) why() string {
	if r.Problem == nil {
		return r.Status
	}
	return strings.TrimPrefix(r.Problem.Type, "/problems/") + " " + r.Problem.Pointer
}

func (i imported) counts() string {
	return fmt.Sprintf("%d created, %d would be, %d existing, %d refused", i.Created, i.WouldCreate, i.Existing, i.Refused)
}

// importFile sends a file and reads the answer.
func importFile(t testing.TB, s *apptest.Service, query string, options ...apptest.Option) (out imported) {
	t.Helper()
	answer := call(t, s, "POST", "/v1/user-imports"+query, options...).Want(t, 201)
	answer.Into(t, &out)
	if answer.Header.Get("Location") != "/v1/user-imports/"+out.ID || out.Rows != out.Created+out.WouldCreate+out.Existing+out.Refused {
		t.Errorf("the answer contradicts itself: %v %s", answer.Header, answer.Body)
	}
	return out
}

// allRows reads an import with all its rows, a page after the other.
func allRows(t testing.TB, s *apptest.Service, as apptest.Option, one, filter string) (out imported) {
	t.Helper()
	var rows []importedRow
	for cursor := ""; ; {
		out = imported{}
		call(t, s, "GET", "/v1/user-imports/"+one+"?limit=200"+filter+cursor, as).Want(t, 200).Into(t, &out)
		rows = append(rows, out.Data...)
		if out.NextCursor == nil {
			out.Data = rows
			return out
		}
		cursor = "&cursor=" + *out.NextCursor
	}
}

func TestImport(t *testing.T) {
	t.Parallel()
	s := apptest.Start(t)
	acme := s.Customer(t, "acme")
	key, conn := apptest.As(acme.APIKey), s.Database.Superuser(t)
	file := csvFile("Noor,Haddad,noor.haddad@acme.example", "Žofie,\"O'Neil, Jr.\",zofie@ACME.example", "First,user,USER@acme.example")
	rehearsed := importFile(t, s, "?dry_run=true", key, file)
	if got := rehearsed.counts(); got != "0 created, 2 would be, 1 existing, 0 refused" || rehearsed.State != "completed" || !rehearsed.DryRun {
		t.Errorf("the rehearsal: %s %+v", got, rehearsed)
	}
	if people := steps.Number(t, conn, "select count(*) from users"); people != 2 {
		t.Fatalf("after a rehearsal there are %d people", people)
	}
	first := importFile(t, s, "", key, file)
	if got := first.counts(); got != "2 created, 0 would be, 1 existing, 0 refused" || first.State != "completed" || first.FinishedAt == nil || first.StoppedBy != nil {
		t.Errorf("the import: %s %+v", got, first)
	}
	rows := allRows(t, s, key, first.ID, "").Data
	if len(rows) != 3 || rows[1].Row != 2 || rows[1].Line != 3 || rows[2].UserID != acme.User.ID.String() {
		t.Fatalf("the rows: %+v", rows)
	}
	var zofie struct {
		FirstName string `json:"first_name"`
		LastName  string `json:"last_name"`
		Email     string
		Role      string
	}
	call(t, s, "GET", "/v1/users/"+rows[1].UserID, key).Want(t, 200).Into(t, &zofie)
	if zofie.FirstName != "Žofie" || zofie.LastName != "O'Neil, Jr." || zofie.Email != "zofie@acme.example" || zofie.Role != "user" {
		t.Errorf("made was %+v", zofie)
	}
	again := importFile(t, s, "", key, file)
	if got := again.counts(); got != "0 created, 0 would be, 3 existing, 0 refused" {
		t.Errorf("again: %s", got)
	}
	if entries := steps.Number(t, conn, "select count(*) from audit_entries where action = 'user.created' and actor_type = 'api_key'"); entries != 2 {
		t.Errorf("%d entries tell of the creations", entries)
	}
	if entries := steps.Number(t, conn, "select count(*) from audit_entries where action = 'user_import.started' and actor_type = 'api_key'"); entries != 3 {
		t.Errorf("%d entries tell of the imports", entries)
	}
	steps.Eventually(t, "the invitations", func() bool {
		return len(s.Mailbox.To(t, "noor.haddad@acme.example")) == 1 && len(s.Mailbox.To(t, "zofie@acme.example")) == 1
	})
	steps.Settled(t, s)
	if mails := s.Mailbox.To(t, "user@acme.example"); len(mails) != 0 {
		t.Errorf("somebody who was there got %d mails", len(mails))
	}
}

// manyRows are rows of people nobody of whom is there.
func manyRows(count int, slug string) []string {
	rows := make([]string, count)
	for i := range rows {
		rows[i] = fmt.Sprintf("Givenname%d,Familyname,person%d@%s.example", i, i, slug)
	}
	return rows
}

// Ten thousand people come in and are invited; a second time nothing happens.
func TestImportOfManyPeople(t *testing.T) {
	t.Parallel()
	const people = 10_000
	s := apptest.StartWith(t, func(settings *app.Settings) { settings.Workers = 0 }) // the mails stay where they are
	acme := s.Customer(t, "acme")
	key, conn := apptest.As(s.SignIn(t, acme.Slug, acme.Admin)), s.Database.Superuser(t)
	file := csvFile(manyRows(people, "acme")...)
	began := time.Now()
	first := importFile(t, s, "", key, file)
	t.Logf("%d people in %v", people, time.Since(began))
	if first.Created != people || first.Refused != 0 || len(first.Data) != 0 || first.NextCursor != nil {
		t.Fatalf("%s", first.counts())
	}
	for question, want := range map[string]int{
		"select count(*) from users": people + 2,
		"select count(distinct target_id) from audit_entries where action = 'user.created' and actor_type = 'user'": people,
		"select count(distinct args ->> 'user_id') from jobs.river_job where args ->> 'about' = 'invitation'":       people,
		"select count(*) from jobs.river_job where args::text like '%person%'":                                      0,
	} {
		if got := steps.Number(t, conn, question); got != want {
			t.Errorf("%s: %d, want %d", question, got, want)
		}
	}
	rows := allRows(t, s, key, first.ID, "&status=created").Data
	if len(rows) != people {
		t.Fatalf("%d rows are shown", len(rows))
	}
	for i, row := range rows {
		if row.Row != i+1 || row.Line != i+2 || row.UserID == "" {
			t.Fatalf("row %d is shown as %+v", i+1, row)
		}
	}
	began = time.Now()
	if again := importFile(t, s, "?invite=false", key, file); again.Existing != people || again.Rows != people {
		t.Errorf("again: %s", again.counts())
	}
	t.Logf("again in %v", time.Since(began))
}

// Files that are none change nothing, not even the list of imports.
func TestBadFiles(t *testing.T) {
	t.Parallel()
	s := apptest.Start(t)
	acme := s.Customer(t, "acme")
	key, conn := apptest.As(acme.APIKey), s.Database.Superuser(t)
	const good = "Noor,Haddad," + marker + "@acme.example\n"
	for what, content := range map[string]string{
		"nothing": "", "a mark alone": "\ufeff", "blank lines": "\n\n\r\n", "a header alone": "first_name,last_name,email\n", "no header": good,
		"an unknown column": "first_name,last_name,email," + marker + "\n" + good, "a misspelt column": "first_name,last_name,e-mail\n" + good,
		"capital letters": "First_Name,last_name,email\n" + good, "blanks": "first_name, last_name, email\n" + good,
		"a column twice": "first_name,last_name,email,email\n" + good, "a missing column": "first_name,email\n" + good,
		"semicolons": "first_name;last_name;email\n" + strings.ReplaceAll(good, ",", ";"), "UTF-16": "\xff\xfef\x00i\x00r\x00s\x00t\x00",
		"a bare quote in the header": "first\"_name,last_name,email\n" + good, "an endless header": strings.Repeat("first_name,", 10_000),
		"an open quote in the header": "\"first_name,last_name,email\n" + good, "NUL": "\x00", "a picture": "\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR",
	} {
		answer := call(t, s, "POST", "/v1/user-imports", key, apptest.Raw("text/csv", content))
		if answer.Status != 400 || answer.Text(t, "type") != "/problems/malformed-request" || strings.Contains(string(answer.Body), marker) {
			t.Errorf("%s: %d %s", what, answer.Status, answer.Body)
		}
	}
	for _, content := range []string{"", "\n", "\ufeff\n \n"} {
		call(t, s, "POST", "/v1/user-imports", key, jsonFile(content)).WantProblem(t, 400, "malformed-request")
	}
	call(t, s, "POST", "/v1/user-imports", key).WantProblem(t, 400, "malformed-request")
	for _, kind := range []string{"application/json", "text/plain", "", "text/csv; charset=iso-8859-1", "multipart/form-data; boundary=x"} {
		call(t, s, "POST", "/v1/user-imports", key, apptest.Raw(kind, "first_name,last_name,email\n"+good)).WantProblem(t, 415, "unsupported-media-type")
	}
	call(t, s, "POST", "/v1/user-imports", key, csvFile(good), apptest.Header("Content-Encoding", "gzip")).WantProblem(t, 415, "unsupported-media-type")
	for _, query := range []string{"?dry_run=yes", "?dry_run=", "?invite=0", "?dryrun=true", "?dry_run=true&dry_run=true"} {
		call(t, s, "POST", "/v1/user-imports"+query, key, csvFile(good)).WantProblem(t, 400, "malformed-request")
	}
	call(t, s, "POST", "/v1/user-imports", key, apptest.Raw("text/csv", strings.Repeat("x", 64<<20+1))).WantProblem(t, 413, "body-too-large")
	if steps.Number(t, conn, "select count(*) from users") != 2 || steps.Number(t, conn, "select count(*) from user_imports") != 0 {
		t.Error("a file that was refused changed something")
	}
}

// Every row is judged by itself, and told with its number, its line and the column at fault.
func TestBadRows(t *testing.T) {
	t.Parallel()
	s := apptest.Start(t)
	acme := s.Customer(t, "acme")
	key, conn := apptest.As(acme.APIKey), s.Database.Superuser(t)
	type try struct{ row, want string }
	check := func(got imported, line int, tries []try) {
		t.Helper()
		if got.State != "completed" || len(got.Data) != len(tries) {
			t.Fatalf("%d rows of %d, %s", len(got.Data), len(tries), got.State)
		}
		for i, one := range tries {
			row := got.Data[i]
			if row.why() != one.want || row.Row != i+1 || row.Line != line {
				t.Errorf("%q: row %d on line %d is %s; want row %d on line %d, %s", one.row, row.Row, row.Line, row.why(), i+1, line, one.want)
			}
			if row.Problem != nil && (row.Problem.Detail == "" || strings.Contains(row.Problem.Detail, marker)) {
				t.Errorf("%q: %s", one.row, row.Problem.Detail)
			}
			line += 1 + strings.Count(one.row, "\n")
		}
	}
	tables := []try{
		{"Noor,Haddad,noor@acme.example,user,", "created"},
		{"Ngozi,Ọkonkwọ-Lind,ada@bücher.example,customer,", "created"},
		{"نور,حدّاد,نور@مثال.example,,false", "created"},
		{"李,小龍,xiaolong@acme.example,,", "created"},
		{"\"A \"\"B\"\" C\",\"D, E\",quoted@acme.example,,", "created"},
		{"  Padded  ,\tTab\t,padded@acme.example,,", "created"},
		{"=cmd|' /C calc'!A0,+1,formula@acme.example,,", "created"},
		{"Noor,Haddad,NOOR@ACME.example,,", "duplicate-row /email"},
		{"Noor,Haddad,ada@xn--bcher-kva.example,,", "duplicate-row /email"},
		{"First,user,user@acme.example,,", "existing"},
		{"First,user,user@acme.example,,", "duplicate-row /email"},
		{"Another,admin,admin@acme.example,,", "user-differs /email"},
		{marker + ",Haddad,x1@acme.example,", "malformed-row "},
		{marker + ",Haddad,x2@acme.example,,,", "malformed-row "},
		{marker, "malformed-row "},
		{",Haddad,x3@acme.example,,", "malformed-row /first_name"},
		{"Noor,,x4@acme.example,,", "malformed-row /last_name"},
		{"Noor,Haddad,,,", "malformed-row /email"},
		{",,,,", "malformed-row /first_name"},
		{" ,Haddad,x5@acme.example,,", "invalid-name /first_name"},
		{"Noor," + strings.Repeat("x", 101) + ",x6@acme.example,,", "invalid-name /last_name"},
		{"No\x00or,Haddad,x7@acme.example,,", "invalid-name /first_name"},
		{"Noor,\"Had\ndad\",x8@acme.example,,", "invalid-name /last_name"},
		{"Noor,Had\u202edad,x9@acme.example,,", "invalid-name /last_name"},
		{"Noor,Haddad," + marker + ",,", "invalid-email /email"},
		{"Noor,Haddad,Noor <x10@acme.example>,,", "invalid-email /email"},
		{"Noor,Haddad, x11@acme.example,,", "invalid-email /email"},
		{"Noor,Haddad," + longInASCII + ",,", "invalid-email /email"},
		{"Noor,Haddad,x12@acme.example,operator,", "malformed-row /role"},
		{"Noor,Haddad,x13@acme.example,User,", "malformed-row /role"},
		{"Noor,Haddad,x14@acme.example,,yes", "malformed-row /allow_erased"},
		{"No\xffor,Haddad,x15@acme.example,,", "malformed-row /first_name"},
		{"Noor,Haddad,x16@acme.exa\xc0\x80mple,,", "malformed-row /email"},
		{"No\"or,Haddad,x17@acme.example,,", "malformed-row "},
		{"\"Noor\"x,Haddad,x18@acme.example,,", "malformed-row "},
		{"Last,One,last@acme.example,,", "created"},
	}
	content := "\ufefffirst_name,last_name,email,role,allow_erased\r\n"
	for _, one := range tables {
		content += one.row + "\r\n"
	}
	answered := importFile(t, s, "", key, apptest.Raw("text/csv", content))
	check(allRows(t, s, key, answered.ID, ""), 2, tables)
	if got := answered.counts(); got != "8 created, 0 would be, 1 existing, 27 refused" || len(answered.Data) != 27 {
		t.Errorf("counted %s, shown are %d", got, len(answered.Data))
	}
	objects := []try{
		{`{"first_name":"Mina","last_name":"Rao","email":"mina@acme.example"}`, "created"},
		{` {"email":"ren\u00e9@acme.example","last_name":"D'Arc","first_name":"Ren\u00e9","role":"customer","allow_erased":false}` + "\r", "created"},
		{`{"first_name":"Mina","last_name":"Rao","email":"MINA@acme.example"}`, "duplicate-row /email"},
		{`{"first_name":"Noor","last_name":"Haddad","email":"noor@acme.example","role":"user"}`, "existing"},
		{`{"first_name":"Ngozi","last_name":"Ọkonkwọ-Lind","email":"ada@bücher.example","role":"user"}`, "user-differs /email"},
		{`{"first_name":"` + marker + `"`, "malformed-row "},
		{marker, "malformed-row "},
		{`["` + marker + `"]`, "malformed-row "},
		{`null`, "malformed-row "},
		{`{}`, "malformed-row /first_name"},
		{`{"first_name":"Noor","last_name":"Haddad"}`, "malformed-row /email"},
		{`{"first_name":"Noor","first_name":"Noor","last_name":"Haddad","email":"y1@acme.example"}`, "malformed-row "},
		{`{"first_name":"Noor","last_name":"Haddad","email":"y2@acme.example","` + marker + `":1}`, "malformed-row "},
		{`{"First_name":"Noor","last_name":"Haddad","email":"y3@acme.example"}`, "malformed-row "},
		{`{"first_name":1,"last_name":"Haddad","email":"y4@acme.example"}`, "malformed-row /first_name"},
		{`{"first_name":"Noor","last_name":null,"email":"y5@acme.example"}`, "malformed-row /last_name"},
		{`{"first_name":"Noor","last_name":"Haddad","email":["y6@acme.example"]}`, "malformed-row /email"},
		{`{"first_name":"Noor","last_name":"Haddad","email":"y7@acme.example","role":true}`, "malformed-row /role"},
		{`{"first_name":"Noor","last_name":"Haddad","email":"y8@acme.example","role":"operator"}`, "malformed-row /role"},
		{`{"first_name":"Noor","last_name":"Haddad","email":"y9@acme.example","allow_erased":"true"}`, "malformed-row /allow_erased"},
		{`{"first_name":"No\u0000or","last_name":"Haddad","email":"y10@acme.example"}`, "malformed-row "},
		{`{"first_name":"No\ud800or","last_name":"Haddad","email":"y11@acme.example"}`, "malformed-row "},
		{"{\"first_name\":\"No\xffor\",\"last_name\":\"Haddad\",\"email\":\"y12@acme.example\"}", "malformed-row "},
		{`{"first_name":"` + strings.Repeat("x", 70_000) + `"}`, "malformed-row "},
		{`{"first_name":"Last","last_name":"One","email":"last.one@acme.example"}`, "created"},
	}
	content = ""
	for _, one := range objects {
		content += one.row + "\n"
	}
	answered = importFile(t, s, "", key, apptest.Raw("application/x-ndjson; charset=utf-8", strings.TrimSuffix(content, "\n")))
	check(allRows(t, s, key, answered.ID, ""), 1, objects)
	if strings.Contains(s.Database.Log.String(), marker) || strings.Contains(s.Database.Log.String(), "noor@") {
		t.Error("the log repeats what stood in a file")
	}
	if got := steps.Number(t, conn, "select count(*) from users"); got != 2+8+3 {
		t.Errorf("%d people are there", got)
	}

	// Where it cannot be told how the file goes on, what came before stays.
	for what, rest := range map[string]string{
		"an open quote": "\"Noor,Haddad,z@acme.example\nNoor,Haddad,zz@acme.example\n", "an endless row": strings.Repeat("x", 80<<10),
		"an endless quote": "\"" + strings.Repeat("x\n", 80<<10),
	} {
		email := fresh("before") + "@acme.example"
		answer := call(t, s, "POST", "/v1/user-imports", key, csvFile("Before,It,"+email, rest)).WantProblem(t, 400, "malformed-request")
		stopped := allRows(t, s, key, strings.TrimPrefix(answer.Text(t, "import"), "/v1/user-imports/"), "")
		if stopped.State != "interrupted" || stopped.StoppedBy == nil || *stopped.StoppedBy != "malformed-request" || stopped.Created != 1 || stopped.FinishedAt == nil {
			t.Errorf("%s: %+v", what, stopped)
		}
	}
	tooMany := apptest.Raw("text/csv", "first_name,last_name,email\n"+strings.Repeat("x\n", 100_001))
	answer := call(t, s, "POST", "/v1/user-imports", key, tooMany).WantProblem(t, 413, "body-too-large")
	var stopped imported
	call(t, s, "GET", answer.Text(t, "import"), key).Want(t, 200).Into(t, &stopped)
	if stopped.State != "interrupted" || stopped.Refused != 100_000 {
		t.Errorf("too many rows: %s, %s", stopped.State, stopped.counts())
	}
}

// A customer's policy on mail domains holds for files too.
func TestImportAndMailDomains(t *testing.T) {
	t.Parallel()
	s := apptest.Start(t)
	acme := s.Customer(t, "acme")
	key, admin := apptest.As(acme.APIKey), apptest.As(s.SignIn(t, acme.Slug, acme.Admin))
	for policy, want := range map[string]string{"off": "created", "flag": "created", "refuse": "foreign-mail-domain /email"} {
		call(t, s, "PATCH", "/v1/customer", admin, apptest.JSON(members{"mail_domains": members{"policy": policy, "domains": []string{"bücher.example"}}})).Want(t, 200)
		rows := allRows(t, s, key, importFile(t, s, "?invite=false", key, csvFile(
			"In,Side,in."+policy+"@xn--bcher-kva.example", "Out,Side,out."+policy+"@acme.example", "Be,Low,low."+policy+"@x.bücher.example", "First,user,user@acme.example")).ID, "").Data
		if rows[0].why() != "created" || rows[1].why() != want || rows[2].why() != want || rows[3].why() != "existing" {
			t.Errorf("%s: %s, %s, %s, %s", policy, rows[0].why(), rows[1].why(), rows[2].why(), rows[3].why())
		}
	}
	steps.Settled(t, s)
	if mails := s.Mailbox.To(t, "in.off@xn--bcher-kva.example"); len(mails) != 0 {
		t.Errorf("%d mails to somebody who was not to be invited", len(mails))
	}
}

// An erased person does not come back with a file, unless that is meant.
func TestImportOfErasedPeople(t *testing.T) {
	t.Parallel()
	s := apptest.Start(t)
	acme, other := s.Customer(t, "acme"), s.Customer(t, "umbrella")
	key, conn := apptest.As(acme.APIKey), s.Database.Superuser(t)
	file := csvFile("De,Leted,de.leted@bücher.example", "Re,Dacted,re.dacted@acme.example", "Sta,Ying,sta.ying@acme.example")
	keyed := apptest.Header("Idempotency-Key", "the-first")
	first := importFile(t, s, "", key, keyed, file)
	people := allRows(t, s, key, first.ID, "").Data
	receipt := call(t, s, "DELETE", "/v1/users/"+people[0].UserID, key).Want(t, 200)
	if !strings.Contains(string(receipt.Body), `{"count":1,"store":"user_import_rows"}`) {
		t.Errorf("the receipt does not count the row: %s", receipt.Body)
	}
	call(t, s, "POST", "/v1/users/"+people[1].UserID+"/redaction", key).Want(t, 200)
	if left := allRows(t, s, key, first.ID, "").Data; left[0].UserID != "" || left[1].UserID != "" || left[2].UserID == "" || left[0].Status != "created" {
		t.Errorf("the rows of erased people: %+v", left)
	}
	call(t, s, "POST", "/v1/user-imports", key, keyed, file).WantProblem(t, 409, "idempotency-answer-erased")
	for _, query := range []string{"?dry_run=true", ""} {
		again := importFile(t, s, query, key, csvFile("Any,Name,DE.LETED@xn--bcher-kva.example", "Re,Dacted,re.dacted@acme.example", "Sta,Ying,sta.ying@acme.example"))
		if again.Refused != 2 || again.Existing != 1 || again.Data[0].why() != "address-suppressed /email" || again.Data[1].why() != "address-suppressed /email" {
			t.Errorf("%s: %s %+v", query, again.counts(), again.Data)
		}
	}
	// The mark is of one customer, and without the master key of nobody.
	if elsewhere := importFile(t, s, "", apptest.As(other.APIKey), file); elsewhere.Created != 3 {
		t.Errorf("at another customer: %s", elsewhere.counts())
	}
	meant := importFile(t, s, "", key, jsonFile(`{"first_name":"New","last_name":"Comer","email":"de.leted@bücher.example","allow_erased":true}`))
	if meant.Created != 1 || steps.Number(t, conn, "select count(*) from audit_entries where action = 'user.created_despite_erasure'") != 1 {
		t.Errorf("meant: %s", meant.counts())
	}
	// A single account is an act on purpose by itself.
	call(t, s, "POST", "/v1/users", key, apptest.JSON(members{"first_name": "Re", "last_name": "Turned", "email": "re.dacted@acme.example"})).Want(t, 201)
	if unneeded := importFile(t, s, "", key, jsonFile(`{"first_name":"Ne","last_name":"Ver","email":"ne.ver@acme.example","allow_erased":true}`)); unneeded.Created != 1 ||
		steps.Number(t, conn, "select count(*) from audit_entries where action = 'user.created_despite_erasure'") != 1 {
		t.Error("the trail tells of an erasure that never was")
	}
}

// A key stands for one file, for a day.
func TestImportWithKey(t *testing.T) {
	t.Parallel()
	s := apptest.Start(t)
	acme := s.Customer(t, "acme")
	key, admin, conn := apptest.As(acme.APIKey), apptest.As(s.SignIn(t, acme.Slug, acme.Admin)), s.Database.Superuser(t)
	file, keyed := csvFile("Noor,Haddad,noor@acme.example"), apptest.Header("Idempotency-Key", "once")
	first := importFile(t, s, "", key, keyed, file)
	again := call(t, s, "POST", "/v1/user-imports", key, keyed, file).Want(t, 201)
	if again.Header.Get("Idempotency-Replayed") != "true" || again.Text(t, "id") != first.ID || !strings.Contains(string(again.Body), `"created":1`) {
		t.Errorf("again: %v %s", again.Header, again.Body)
	}
	call(t, s, "POST", "/v1/user-imports", key, keyed, csvFile("Noor,Haddad,noor2@acme.example")).WantProblem(t, 422, "idempotency-key-reused")
	call(t, s, "POST", "/v1/user-imports?dry_run=true", key, keyed, file).WantProblem(t, 422, "idempotency-key-reused")
	call(t, s, "POST", "/v1/user-imports?invite=false", key, keyed, file).WantProblem(t, 422, "idempotency-key-reused")
	call(t, s, "POST", "/v1/user-imports", key, keyed, csvFile()).WantProblem(t, 400, "malformed-request")
	if theirs := importFile(t, s, "", admin, keyed, file); theirs.ID == first.ID || theirs.Existing != 1 {
		t.Errorf("by another: %+v", theirs)
	}
	if n := steps.Number(t, conn, "select count(*) from users"); n != 3 {
		t.Errorf("%d people", n)
	}
	// What was interrupted is carried out anew, whether that was written down or not; what runs is waited for.
	steps.Execute(t, conn, "update user_imports set state = 'interrupted', stopped_by = 'unauthorized', fingerprint = null where key_hash is not null")
	second := importFile(t, s, "", key, keyed, file)
	if second.ID == first.ID || second.Existing != 1 {
		t.Errorf("after an interruption: %+v", second)
	}
	steps.Execute(t, conn, "update user_imports set state = 'running', finished_at = null, fingerprint = null where id = $1", second.ID)
	if answer := call(t, s, "POST", "/v1/user-imports", key, keyed, file).WantProblem(t, 409, "idempotency-key-in-use"); answer.Header.Get("Retry-After") == "" {
		t.Error("nobody is told how long to wait")
	}
	s.Database.Clock.Advance(3 * time.Minute)
	if cut := allRows(t, s, key, second.ID, ""); cut.State != "interrupted" {
		t.Errorf("one that was cut off is %s", cut.State)
	}
	if third := importFile(t, s, "", key, keyed, file); third.ID == second.ID || third.Existing != 1 || third.State != "completed" {
		t.Errorf("after a crash: %+v", third)
	}
	s.Database.Clock.Advance(25 * time.Hour)
	if err := s.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := steps.Number(t, conn, "select count(*) from user_imports where key_hash is not null or fingerprint is not null"); n != 0 {
		t.Errorf("%d keys after their time", n)
	}
	if n := steps.Number(t, conn, "select count(*) from user_import_rows"); n == 0 {
		t.Error("the rows went before their time")
	}
	s.Database.Clock.Advance(30 * 24 * time.Hour)
	if err := s.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := steps.Number(t, conn, "select (select count(*) from user_imports) + (select count(*) from user_import_rows)"); n != 0 {
		t.Errorf("%d rows after their time", n)
	}
	call(t, s, "GET", "/v1/user-imports/"+first.ID, key).WantProblem(t, 404, "not-found")
}

// slowFile is a file that comes as the test sends it.
func slowFile() (to *io.PipeWriter, option apptest.Option) {
	from, to := io.Pipe()
	return to, func(r *http.Request) {
		r.Header.Set("Content-Type", "text/csv")
		r.Body, r.ContentLength = from, -1
	}
}

// halfWay sends the header and six hundred rows of a file that is said to go on, and waits until the first batch is done. It returns what is still to come.
func halfWay(t *testing.T, conn *pgx.Conn, to *io.PipeWriter, rows []string) (rest string) {
	t.Helper()
	if _, err := io.WriteString(to, "first_name,last_name,email\n"+strings.Join(rows[:600], "\n")+"\n"); err != nil {
		t.Fatal(err)
	}
	steps.Await(t, "the first batch", func() bool { return steps.Number(t, conn, "select count(*) from user_import_rows") >= 500 })
	return strings.Join(rows[600:], "\n")
}

// checkWhole makes sure that everybody who was imported is there whole: the person, the entry, the row, and the invitation unless no mail was sent at first.
func checkWhole(t *testing.T, conn *pgx.Conn, uninvited int) (people int) {
	t.Helper()
	people = steps.Number(t, conn, "select count(*) from users where email like 'person%'")
	if jobs := steps.Number(t, conn, "select count(*) from jobs.river_job where args ->> 'about' = 'invitation'"); jobs != people-uninvited {
		t.Errorf("%d of %d people are invited, all but %d should be", jobs, people, uninvited)
	}
	for _, question := range []string{
		"select count(*) from users u where email like 'person%' and exists (select from audit_entries where target_id = u.id::text and action = 'user.created')",
		"select count(*) from users u where email like 'person%' and exists (select from user_import_rows where user_id = u.id and status = 'created')",
		"select count(*) from user_import_rows where status = 'created'",
		"select coalesce(sum(created), 0)::int from user_imports",
		"select count(*) from audit_entries where action = 'user.created' and actor_type = 'api_key'",
	} {
		if got := steps.Number(t, conn, question); got != people {
			t.Errorf("%d people, but %d by %s", people, got, question)
		}
	}
	return people
}

// Whatever ends an import in the middle, what was done is whole, and the same file does the rest.
func TestImportsThatEndInTheMiddle(t *testing.T) {
	t.Parallel()
	const people = 1300
	rows := manyRows(people, "acme")
	start := func(t *testing.T) (*apptest.Service, apptest.Customer, *pgx.Conn) {
		t.Parallel()
		s := apptest.StartWith(t, func(settings *app.Settings) { settings.Workers = 0 })
		return s, s.Customer(t, "acme"), s.Database.Superuser(t)
	}
	finish := func(t *testing.T, s *apptest.Service, conn *pgx.Conn, as apptest.Option, mailed bool) {
		t.Helper()
		uninvited := 0
		if !mailed {
			uninvited = steps.Number(t, conn, "select count(*) from users where email like 'person%'")
		}
		before := checkWhole(t, conn, uninvited)
		if before < 500 || before >= people {
			t.Errorf("%d people after half an import", before)
		}
		again := importFile(t, s, "", as, csvFile(rows...))
		if again.Created != people-before || again.Existing != before {
			t.Errorf("the rest: %s after %d", again.counts(), before)
		}
		checkWhole(t, conn, uninvited)
	}
	stopped := func(t *testing.T, s *apptest.Service, as apptest.Option, conn *pgx.Conn) imported {
		t.Helper()
		var one string
		if err := conn.QueryRow(t.Context(), "select id::text from user_imports").Scan(&one); err != nil {
			t.Fatal(err)
		}
		return allRows(t, s, as, one, "&status=refused")
	}
	t.Run("the caller goes away", func(t *testing.T) {
		s, acme, conn := start(t)
		to, body := slowFile()
		ctx, leave := context.WithCancel(t.Context())
		answer := steps.Begin(func() error {
			_, err := s.Try(ctx, "POST", "/v1/user-imports", apptest.As(acme.APIKey), body)
			return err
		})
		halfWay(t, conn, to, rows)
		leave()
		_ = to.CloseWithError(io.ErrClosedPipe) // the client waits for its own body
		if err := <-answer; err == nil {
			t.Error("an answer to nobody")
		}
		steps.Await(t, "the end of the import", func() bool {
			return steps.Number(t, conn, "select count(*) from user_imports where state = 'running'") == 0
		})
		if one := stopped(t, s, apptest.As(acme.APIKey), conn); one.State != "interrupted" || *one.StoppedBy != "malformed-request" {
			t.Errorf("%+v", one)
		}
		finish(t, s, conn, apptest.As(acme.APIKey), true)
	})
	t.Run("the credential ends", func(t *testing.T) {
		s, acme, conn := start(t)
		spare := keyOf(t, s, acme, apikey.New{Name: "spare", Scopes: principal.Scopes()})
		to, body := slowFile()
		var got apptest.Answer
		answer := steps.Begin(func() (err error) {
			got, err = s.Try(t.Context(), "POST", "/v1/user-imports", apptest.As(spare.credential), body)
			return err
		})
		rest := halfWay(t, conn, to, rows)
		admin := apptest.As(s.SignIn(t, acme.Slug, acme.Admin))
		call(t, s, "DELETE", "/v1/api-keys/"+spare.id, admin).Want(t, 204)
		s.Database.Clock.Advance(time.Second)
		_, _ = io.WriteString(to, rest) // which nobody reads to its end
		_ = to.Close()
		if err := <-answer; err != nil {
			t.Fatal(err)
		}
		s.Check(t, "POST", "/v1/user-imports", got)
		path := got.WantProblem(t, 401, "unauthorized").Text(t, "import")
		var one imported
		call(t, s, "GET", path, apptest.As(acme.APIKey)).Want(t, 200).Into(t, &one)
		if one.State != "interrupted" || *one.StoppedBy != "unauthorized" {
			t.Errorf("%+v", one)
		}
		finish(t, s, conn, apptest.As(acme.APIKey), true)
	})
	t.Run("the service is stopped", func(t *testing.T) {
		s, acme, conn := start(t)
		to, body := slowFile()
		var got apptest.Answer
		answer := steps.Begin(func() (err error) {
			got, err = s.Try(t.Context(), "POST", "/v1/user-imports", apptest.As(acme.APIKey), body)
			return err
		})
		rest := halfWay(t, conn, to, rows)
		s.Imports.Close()
		_, _ = io.WriteString(to, rest)
		_ = to.Close()
		if err := <-answer; err != nil {
			t.Fatal(err)
		}
		s.Check(t, "POST", "/v1/user-imports", got)
		got.WantProblem(t, 503, "service-unavailable").Text(t, "import")
		call(t, s, "POST", "/v1/user-imports", apptest.As(acme.APIKey), csvFile(rows...)).WantProblem(t, 503, "service-unavailable")
		finish(t, apptest.ReplicaWith(t, s.Database, func(settings *app.Settings) { settings.Workers = 0 }), conn, apptest.As(acme.APIKey), true)
	})
	t.Run("the program is killed", func(t *testing.T) {
		program := steps.BuildSteward(t)
		s, acme, conn := start(t)
		process := steps.Serve(t, program, s)
		to, body := slowFile()
		answer := steps.Begin(func() error {
			request, err := http.NewRequestWithContext(t.Context(), "POST", process.URL+"/v1/user-imports", http.NoBody)
			if err != nil {
				return err
			}
			apptest.As(acme.APIKey)(request)
			body(request)
			response, err := http.DefaultClient.Do(request)
			if err == nil {
				_ = response.Body.Close() // an answer is what must not come
			}
			return err
		})
		halfWay(t, conn, to, rows)
		process.Kill(t)
		_ = to.CloseWithError(io.ErrClosedPipe)
		if err := <-answer; err == nil {
			t.Error("an import was answered that cannot have been done")
		}
		steps.AwaitNoticed(t, conn)
		s.Database.Clock.Advance(time.Since(s.Database.Clock.Now())) // the program's clock was the machine's
		if one := stopped(t, s, apptest.As(acme.APIKey), conn); one.State != "running" || one.FinishedAt != nil {
			t.Errorf("right after the crash: %+v", one)
		}
		s.Database.Clock.Advance(3 * time.Minute)
		if one := stopped(t, s, apptest.As(acme.APIKey), conn); one.State != "interrupted" || one.StoppedBy != nil || one.Created < 500 {
			t.Errorf("a while after the crash: %+v", one)
		}
		finish(t, s, conn, apptest.As(acme.APIKey), false)
	})
}

// The same people at once, by files and one by one, while others are erased: each is there once, and whole.
func TestImportsOfTheSamePeopleAtOnce(t *testing.T) {
	t.Parallel()
	const people = 700
	s := apptest.StartWith(t, func(settings *app.Settings) { settings.Workers = 0 })
	acme := s.Customer(t, "acme")
	key, conn := apptest.As(acme.APIKey), s.Database.Superuser(t)
	rows := manyRows(people, "acme")
	backwards := slices.Clone(rows)
	slices.Reverse(backwards)
	var created atomic.Int64
	steps.Spread(12, 12, func(i int) {
		if i >= 2 { // one by one, in the way of the files
			fields := strings.Split(rows[i*50], ",")
			answer := steps.At(t, s, "POST", "/v1/users", key, apptest.JSON(members{"first_name": fields[0], "last_name": fields[1], "email": fields[2]}))
			if answer.Status != 201 && answer.Status != 409 {
				t.Errorf("one by one: %d %s", answer.Status, answer.Body)
			}
			if answer.Status == 201 {
				created.Add(1)
			}
			return
		}
		answer := steps.At(t, s, "POST", "/v1/user-imports", key, csvFile([][]string{rows, backwards}[i]...))
		if answer.Status != 201 {
			t.Errorf("import: %d %s", answer.Status, answer.Body)
			return
		}
		var out imported
		answer.Into(t, &out)
		if out.Created+out.Existing != people {
			t.Errorf("import: %s", out.counts())
		}
	})
	// By the records of the imports: one that the database kept waiting was interrupted, and made again.
	imports := steps.Number(t, conn, "select sum(created) from user_imports")
	if n := steps.Number(t, conn, "select count(*) from users"); n != people+2 || created.Load()+int64(imports) != people {
		t.Errorf("%d people, of whom %d were made one by one and %d by imports", n, created.Load(), imports)
	}
	if n := steps.Number(t, conn, "select count(*) from audit_entries where action = 'user.created' and actor_type = 'api_key'"); n != people {
		t.Errorf("%d entries", n)
	}

	// Now they are erased while the file comes in again and again: nobody comes back, and no row names anybody who is gone.
	var ids []string
	if err := conn.QueryRow(t.Context(), "select array_agg(id::text) from users where email like 'person%'").Scan(&ids); err != nil {
		t.Fatal(err)
	}
	steps.Spread(5, 5, func(i int) {
		if i < 2 {
			for range 3 {
				answer := steps.At(t, s, "POST", "/v1/user-imports", key, csvFile(rows...))
				if answer.Status != 201 || !strings.Contains(string(answer.Body), `"created":0,`) {
					t.Errorf("import: %d %.300s", answer.Status, answer.Body)
				}
			}
			return
		}
		for _, one := range ids[(i-2)*60 : (i-1)*60] {
			if answer := steps.At(t, s, "DELETE", "/v1/users/"+one, key); answer.Status != 200 {
				t.Errorf("delete: %d %s", answer.Status, answer.Body)
			}
		}
	})
	if n := steps.Number(t, conn, "select count(*) from users"); n != people+2-180 {
		t.Errorf("%d people after 180 were erased", n)
	}
	if n := steps.Number(t, conn, "select count(*) from user_import_rows r where user_id is not null and not exists (select from users u where u.id = r.user_id)"); n != 0 {
		t.Errorf("%d rows name somebody who is gone", n)
	}
}

// A replica carries out a few imports at once, and two of one customer, so that nobody is kept from it by others.
func TestImportsUnderWayAreFew(t *testing.T) {
	t.Parallel()
	s := apptest.Start(t)
	acme, other := s.Customer(t, "acme"), s.Customer(t, "umbrella")
	conn := s.Database.Superuser(t)
	var ends []func()
	for range 2 {
		to, body := slowFile()
		answer := steps.Begin(func() error {
			got, err := s.Try(t.Context(), "POST", "/v1/user-imports", apptest.As(acme.APIKey), body)
			if err == nil && got.Status != 201 {
				err = fmt.Errorf("%d %s", got.Status, got.Body)
			}
			return err
		})
		if _, err := io.WriteString(to, "first_name,last_name,email\nNoor,Haddad,noor@acme.example\n"); err != nil {
			t.Fatal(err)
		}
		ends = append(ends, func() {
			_ = to.Close()
			if err := <-answer; err != nil {
				t.Error(err)
			}
		})
	}
	steps.Await(t, "two imports under way", func() bool { return steps.Number(t, conn, "select count(*) from user_imports") == 2 })
	call(t, s, "POST", "/v1/user-imports", apptest.As(acme.APIKey), csvFile("A,B,a.b@acme.example")).WantProblem(t, 503, "service-unavailable")
	importFile(t, s, "", apptest.As(other.APIKey), csvFile("A,B,a.b@acme.example"))
	for _, end := range ends {
		end()
	}
	importFile(t, s, "", apptest.As(acme.APIKey), csvFile("A,B,a.b@acme.example"))
}
