package subjectrequest

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/inventory"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

func TestDueOneMonthOn(t *testing.T) {
	t.Parallel()
	for received, want := range map[string]string{
		"2026-01-15T09:30:00Z":        "2026-02-15T09:30:00Z",
		"2026-01-31T23:59:59Z":        "2026-02-28T23:59:59Z",
		"2028-01-31T00:00:00Z":        "2028-02-29T00:00:00Z",
		"2026-01-29T12:00:00Z":        "2026-02-28T12:00:00Z",
		"2026-03-31T12:00:00Z":        "2026-04-30T12:00:00Z",
		"2026-04-30T12:00:00Z":        "2026-05-30T12:00:00Z",
		"2026-12-31T12:00:00Z":        "2027-01-31T12:00:00Z",
		"2100-01-30T12:00:00Z":        "2100-02-28T12:00:00Z",
		"2026-02-01T00:30:00+01:00":   "2026-02-28T23:30:00Z",
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
	// Whenever it comes, it is due in the next month of the calendar and never later than 31 days
	// on.
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
	key, wrong := "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p",
		"age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8q"
	name, bad, address := " Noor ", "No\u202eor", "noor@acme.example"
	for what, in := range map[string]struct {
		New
		code fault.Code
	}{
		"access":                         {New{Kind: Access}, ""},
		"access to a recipient":          {New{Kind: Access, Recipient: &key}, ""},
		"access to a misspelt recipient": {New{Kind: Access, Recipient: &wrong}, fault.InvalidRecipient},
		"erasure to a recipient":         {New{Kind: Erasure, Recipient: &key}, fault.MalformedRequest},
		"rectification": {
			New{Kind: Rectification, Corrections: Corrections{FirstName: &name, Email: &address}}, "",
		},
		"rectification of nothing": {New{Kind: Rectification}, fault.MalformedRequest},
		"objection with corrections": {
			New{Kind: Objection, Corrections: Corrections{FirstName: &name}}, fault.MalformedRequest,
		},
		"rectification to what is none": {
			New{Kind: Rectification, Corrections: Corrections{LastName: &bad}}, fault.InvalidName,
		},
		"rectification to another's mail": {
			New{Kind: Rectification, Corrections: Corrections{Email: &bad}}, fault.InvalidEmail,
		},
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
	with := func(names ...string) store {
		return store{postgres.Store{Columns: []inventory.Columns{inventory.State(names...)}}}
	}
	row := held{store: with("name", "number", "none", "list", "object")}
	row.rows = append(
		row.rows,
		[]byte(`{"name":"=1+1, \"x\"\nÅsa","number":-7,"none":null,"list":["a"],"object":{"k":1}}`),
	)
	var out strings.Builder
	if err := row.writeTable(&out); err != nil {
		t.Fatal(err)
	}
	want := "name,number,none,list,object\n\"'=1+1, \"\"x\"\"\nÅsa\",'-7,,\"[\"\"a\"\"]\",\"{\"\"k\"\":1}\"\n"
	if out.String() != want {
		t.Errorf("got %q\nwant %q", out.String(), want)
	}
	for _, wrong := range [][]string{
		{"name", "number", "none", "list", "object", "missing"},
		{"name", "number", "none", "list"},
		{"number", "name", "none", "list", "object"},
	} {
		row.store = with(wrong...)
		if err := row.writeTable(&out); err == nil {
			t.Errorf("a row is taken that does not have the members %q", wrong)
		}
	}
}

// Whatever a row holds, it is read as any reader of JSON reads it.
func TestRowsAreReadAsJSON(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		texts := rapid.OneOf(
			rapid.String(),
			rapid.SampledFrom([]string{`"`, `\`, `\"`, "},{", `{"a":[`, "a,b", "\x00", "null", ""}),
		)
		values := map[string]any{
			"first":  texts.Draw(r, "first"),
			"second": rapid.SliceOfN(texts, 0, 3).Draw(r, "second"),
			"third": map[string]any{
				"key": texts.Draw(r, "third"),
			},
			"fourth": rapid.SampledFrom([]any{nil, true, -7, 1.5}).Draw(r, "fourth"),
		}
		names := []string{"first", "second", "third", "fourth"}
		row := []byte("{")
		var want []string
		for i, name := range names {
			value, err := json.Marshal(values[name])
			if err != nil {
				r.Fatal(err)
			}
			if i > 0 {
				row = append(row, ',')
			}
			row = append(append(row, `"`+name+`":`...), value...)
			switch text, isText := values[name].(string); {
			case isText: // as it comes back: what is no UTF-8 is replaced on the way
				if err := json.Unmarshal(value, &text); err != nil {
					r.Fatal(err)
				}
				want = append(want, text)
			case values[name] == nil:
				want = append(want, "")
			default:
				want = append(want, string(value))
			}
		}
		if got, err := cellsOf(append(row, '}'), names); err != nil || !slices.Equal(got, want) {
			r.Fatalf("%s is read as %q (%v), want %q", row, got, err, want)
		}
	})
}
