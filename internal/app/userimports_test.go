package app_test

import (
	"fmt"
	"strings"
	"testing"

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
