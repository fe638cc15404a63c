package request

import (
	"strings"
	"testing"
	"time"

	"github.com/fusionspim/steward/internal/fault"
)

func TestDueOneMonthOn(t *testing.T) {
	t.Parallel()
	for received, want := range map[string]string{
		"2026-01-15T09:30:00Z": "2026-02-15T09:30:00Z", "2026-01-31T23:59:59Z": "2026-02-28T23:59:59Z", "2028-01-31T00:00:00Z": "2028-02-29T00:00:00Z",
		"2026-01-29T12:00:00Z": "2026-02-28T12:00:00Z", "2026-03-31T12:00:00Z": "2026-04-30T12:00:00Z", "2026-04-30T12:00:00Z": "2026-05-30T12:00:00Z",
		"2026-12-31T12:00:00Z": "2027-01-31T12:00:00Z", "2100-01-30T12:00:00Z": "2100-02-28T12:00:00Z", "2026-02-01T00:30:00+01:00": "2026-02-28T23:30:00Z",
		"2026-11-30T08:00:00.123456Z": "2026-12-30T08:00:00.123456Z",
	} {
		at, err := time.Parse(time.RFC3339Nano, received)
		if err != nil {
			t.Fatal(err)
		}
		if got := dueAfter(at).Format(time.RFC3339Nano); got != want {
			t.Errorf("received at %s it is due at %s, want %s", received, got, want)
		}
	}
	// Whenever it comes, it is due in the next month of the calendar and never later than 31 days on.
	for day := range 366 * 4 {
		at := time.Date(2026, 1, 1+day, 13, 0, 0, 0, time.UTC)
		due := dueAfter(at)
		months := int(due.Month()) - int(at.Month()) + 12*(due.Year()-at.Year())
		if span := due.Sub(at); months != 1 || span < 28*24*time.Hour || span > 31*24*time.Hour {
			t.Fatalf("received on %s it is due on %s", at, due)
		}
	}
}

func TestWhatGoesTogether(t *testing.T) {
	t.Parallel()
	key, wrong := "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p", "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8q"
	name, bad, address := " Noor ", "No\u202eor", "noor@acme.example"
	for what, in := range map[string]struct {
		New
		code fault.Code
	}{
		"access":                          {New{Kind: Access}, ""},
		"access to a recipient":           {New{Kind: Access, Recipient: &key}, ""},
		"access to a misspelt recipient":  {New{Kind: Access, Recipient: &wrong}, fault.InvalidRecipient},
		"erasure to a recipient":          {New{Kind: Erasure, Recipient: &key}, fault.MalformedRequest},
		"rectification":                   {New{Kind: Rectification, Corrections: Corrections{FirstName: &name, Email: &address}}, ""},
		"rectification of nothing":        {New{Kind: Rectification}, fault.MalformedRequest},
		"objection with corrections":      {New{Kind: Objection, Corrections: Corrections{FirstName: &name}}, fault.MalformedRequest},
		"rectification to what is none":   {New{Kind: Rectification, Corrections: Corrections{LastName: &bad}}, fault.InvalidName},
		"rectification to another's mail": {New{Kind: Rectification, Corrections: Corrections{Email: &bad}}, fault.InvalidEmail},
	} {
		cleaned, err := in.clean()
		if in.code == "" && err != nil || in.code != "" && !fault.Is(err, in.code) {
			t.Errorf("%s: %v", what, err)
		}
		if what == "rectification" && *cleaned.Corrections.FirstName != "Noor" {
			t.Errorf("the name is kept as %q", *cleaned.Corrections.FirstName)
		}
	}
}

func TestCellsAreTextAndNoFormulas(t *testing.T) {
	t.Parallel()
	one := held{Store: Store{Columns: []string{"name", "number", "none", "list", "object"}}}
	one.rows = append(one.rows, []byte(`{"name":"=1+1, \"x\"\nÅsa","number":-7,"none":null,"list":["a"],"object":{"k":1}}`))
	var out strings.Builder
	if err := one.writeTable(&out); err != nil {
		t.Fatal(err)
	}
	want := "name,number,none,list,object\n\"'=1+1, \"\"x\"\"\nÅsa\",'-7,,\"[\"\"a\"\"]\",\"{\"\"k\"\":1}\"\n"
	if out.String() != want {
		t.Errorf("got %q\nwant %q", out.String(), want)
	}
	one.Columns = append(one.Columns, "missing")
	if err := one.writeTable(&out); err == nil {
		t.Error("a row without one of its members is taken")
	}
}
