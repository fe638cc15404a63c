package app_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/fusionspim/steward/internal/app"
	"github.com/fusionspim/steward/internal/app/apptest"
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
	if people := number(t, conn, "select count(*) from users"); people != 2 {
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
	if entries := number(t, conn, "select count(*) from audit_entries where action = 'user.created' and actor_type = 'api_key'"); entries != 2 {
		t.Errorf("%d entries tell of the creations", entries)
	}
	if entries := number(t, conn, "select count(*) from audit_entries where action = 'user_import.started' and actor_type = 'api_key'"); entries != 3 {
		t.Errorf("%d entries tell of the imports", entries)
	}
	eventually(t, "the invitations", func() bool {
		return len(s.Mailbox.To(t, "noor.haddad@acme.example")) == 1 && len(s.Mailbox.To(t, "zofie@acme.example")) == 1
	})
	settled(t, s)
	if mails := s.Mailbox.To(t, "user@acme.example"); len(mails) != 0 {
		t.Errorf("somebody who was there got %d mails", len(mails))
	}
}

// line is a row of NDJSON.
func line(t testing.TB, object members) string {
	t.Helper()
	return encodedIn(t, object)
}

func encodedIn(t testing.TB, value any) string {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
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
	key, conn := apptest.As(acme.APIKey), s.Database.Superuser(t)
	file := csvFile(manyRows(people, "acme")...)
	began := time.Now()
	first := importFile(t, s, "", key, file)
	t.Logf("%d people in %v", people, time.Since(began))
	if first.Created != people || first.Refused != 0 || len(first.Data) != 0 || first.NextCursor != nil {
		t.Fatalf("%s", first.counts())
	}
	for question, want := range map[string]int{
		"select count(*) from users": people + 2,
		"select count(distinct target_id) from audit_entries where action = 'user.created' and actor_type = 'api_key'": people,
		"select count(distinct args ->> 'user_id') from jobs.river_job where args ->> 'about' = 'invitation'":          people,
		"select count(*) from jobs.river_job where args::text like '%person%'":                                         0,
	} {
		if got := number(t, conn, question); got != want {
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
