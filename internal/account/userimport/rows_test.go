package userimport

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/fusionspim/steward/internal/account/user"
	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/principal"
)

// parse reads a file to its end. Its result has a line for each row.
func parse(format Format, body io.Reader) (rows []string, err error) {
	in, err := open(format, body)
	if err != nil {
		return nil, err
	}
	for {
		row, err := in.next()
		if errors.Is(err, io.EOF) {
			return rows, nil
		} else if err != nil {
			return rows, err
		}
		text := fmt.Sprintf("%d@%d ", row.Number, row.Line)
		if row.Status == Refused {
			text += strings.TrimSuffix(string(row.Reason)+" "+row.Pointer, " ")
		} else {
			text += strings.Join(
				[]string{row.person.FirstName, row.person.LastName, row.person.Email, string(row.person.Role)},
				"|",
			)
			if row.allowErased {
				text += "|allowed"
			}
		}
		rows = append(rows, text)
	}
}

const header = "first_name,last_name,email,role,allow_erased\n"

func TestCSVRows(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 60<<10)
	for name, test := range map[string]struct{ file, want string }{
		"plain":                  {header + "Ada,Lovelace,ada@x.example,user,true\n", "1@2 Ada|Lovelace|ada@x.example|user|allowed"},
		"needed columns alone":   {"email,last_name,first_name\nada@x.example,Lovelace,Ada\n", "1@2 Ada|Lovelace|ada@x.example|"},
		"byte order mark":        {"\ufeff" + header + "Ada,Lovelace,ada@x.example,user,\n", "1@2 Ada|Lovelace|ada@x.example|user"},
		"CR LF":                  {strings.ReplaceAll(header+"Ada,Lovelace,ada@x.example,customer,false\n", "\n", "\r\n"), "1@2 Ada|Lovelace|ada@x.example|customer"},
		"no line break at end":   {header + "Ada,Lovelace,ada@x.example,,", "1@2 Ada|Lovelace|ada@x.example|"},
		"blank lines":            {header + "\n\nAda,Lovelace,ada@x.example,,\n\n", "1@4 Ada|Lovelace|ada@x.example|"},
		"quotes":                 {header + "\"A\"\"d, a\",\"Love\nlace\",ada@x.example,,\nB,C,b@x.example,,\n", "1@2 A\"d, a|Love\nlace|ada@x.example| · 2@4 B|C|b@x.example|"},
		"spaces belong to it":    {header + " Ada ,Lovelace,ada@x.example,,\n", "1@2  Ada |Lovelace|ada@x.example|"},
		"formula is a name":      {header + "=HYPERLINK(1),+1,ada@x.example,,\n", "1@2 =HYPERLINK(1)|+1|ada@x.example|"},
		"NUL is left to user":    {header + "A\x00,B,ada@x.example,,\n", "1@2 A\x00|B|ada@x.example|"},
		"not UTF-8":              {header + "A\xff,B,ada@x.example,,\n", "1@2 not_utf8 /first_name"},
		"first of two faults":    {header + "A,B\xff,ada@x.example,boss,\n", "1@2 not_utf8 /last_name"},
		"too few fields":         {header + "Ada,Lovelace,ada@x.example\n", "1@2 wrong_field_count"},
		"too many fields":        {header + "Ada,Lovelace,ada@x.example,,,\n", "1@2 wrong_field_count"},
		"semicolons":             {header + "Ada;Lovelace;ada@x.example;;\n", "1@2 wrong_field_count"},
		"bare quote":             {header + "A\"d,B,ada@x.example,,\nB,C,b@x.example,,\n", "1@2 bad_quote · 2@3 B|C|b@x.example|"},
		"text behind a quote":    {header + "\"A\"d,B,ada@x.example,,\nB,C,b@x.example,,\n", "1@2 bad_quote · 2@3 B|C|b@x.example|"},
		"empty name":             {header + ",B,ada@x.example,,\n", "1@2 missing /first_name"},
		"empty last name":        {header + "A,,ada@x.example,,\n", "1@2 missing /last_name"},
		"empty address":          {header + "A,B,,,\n", "1@2 missing /email"},
		"operator is no role":    {header + "A,B,ada@x.example,operator,\n", "1@2 unknown_role /role"},
		"role in capitals":       {header + "A,B,ada@x.example,User,\n", "1@2 unknown_role /role"},
		"allow_erased in words":  {header + "A,B,ada@x.example,,yes\n", "1@2 wrong_type /allow_erased"},
		"long row within limits": {header + long + ",B,ada@x.example,,\n", "1@2 " + long + "|B|ada@x.example|"},
	} {
		for how, wrap := range map[string]func(io.Reader) io.Reader{
			"whole": func(r io.Reader) io.Reader { return r }, "byte by byte": iotest.OneByteReader, "with its error": iotest.DataErrReader,
		} {
			rows, err := parse(CSV, wrap(strings.NewReader(test.file)))
			if got := strings.Join(rows, " · "); err != nil || got != test.want {
				t.Errorf("%s, %s: %.200q, %v", name, how, got, err)
			}
		}
	}
}

func TestCSVFilesThatCannotBeRead(t *testing.T) {
	t.Parallel()
	row := "Ada,Lovelace,ada@x.example,,\n"
	for name, test := range map[string]struct {
		file string
		rows int // that can be read before
		at   string
	}{
		"empty":                   {"", 0, ""},
		"blank":                   {"\n\n", 0, ""},
		"no header":               {row, 0, "/0"},
		"column missing":          {"first_name,email\n" + row, 0, "/last_name"},
		"column twice":            {"first_name,last_name,email,email\n" + row, 0, "/3"},
		"unknown column":          {"first_name,last_name,email,password\n" + row, 0, "/3"},
		"name in capitals":        {"First_Name,last_name,email\n" + row, 0, "/0"},
		"space in the header":     {"first_name, last_name,email\n" + row, 0, "/1"},
		"semicolons":              {strings.ReplaceAll(header, ",", ";") + row, 0, "/0"},
		"UTF-16":                  {"\xff\xfef\x00i\x00r\x00s\x00t\x00", 0, "/0"},
		"quote not closed":        {header + row + "\"Ada,Lovelace,ada@x.example,,\n" + row, 1, ""},
		"row without an end":      {header + row + strings.Repeat("a", 200<<10), 1, ""},
		"row too long":            {header + row + strings.Repeat("a", 80<<10) + ",B,ada@x.example,,\n" + row, 1, ""},
		"header without an end":   {strings.Repeat("a", 200<<10), 0, ""},
		"quote that takes it all": {header + row + "\"" + strings.Repeat(row, 10_000), 1, ""},
	} {
		rows, err := parse(CSV, strings.NewReader(test.file))
		var f *fault.Fault
		if !errors.As(err, &f) || f.Code != fault.MalformedRequest || len(rows) != test.rows {
			t.Errorf("%s: %d rows, %v", name, len(rows), err)
			continue
		}
		if at := ""; test.at != "" {
			if len(f.Members) > 0 {
				at = f.Members[0].Pointer
			}
			if at != test.at {
				t.Errorf("%s: points to %q, want %q", name, at, test.at)
			}
		}
		if strings.Contains(f.Detail, "Ada") {
			t.Errorf("%s: the fault repeats the file: %s", name, f.Detail)
		}
	}
}

func TestNDJSONRows(t *testing.T) {
	t.Parallel()
	const ada = `{"first_name":"Ada","last_name":"Lovelace","email":"ada@x.example"}`
	for name, test := range map[string]struct{ file, want string }{
		"plain":                {`{"first_name":"Ada","last_name":"L","email":"a@x.example","role":"user","allow_erased":true}` + "\n", "1@1 Ada|L|a@x.example|user|allowed"},
		"needed members alone": {ada + "\n", "1@1 Ada|Lovelace|ada@x.example|"},
		"no line break at end": {ada, "1@1 Ada|Lovelace|ada@x.example|"},
		"byte order mark":      {"\ufeff" + ada, "1@1 Ada|Lovelace|ada@x.example|"},
		"CR LF, blank lines":   {"\r\n \n" + ada + "\r\n\r\n" + ada + "\r\n", "1@3 Ada|Lovelace|ada@x.example| · 2@5 Ada|Lovelace|ada@x.example|"},
		"escapes":              {`{"first_name":"\u0041d\u00e4","last_name":"L","email":"a@x.example"}`, "1@1 Adä|L|a@x.example|"},
		"not JSON":             {"{\n" + ada, "1@1 not_json · 2@2 Ada|Lovelace|ada@x.example|"},
		"array":                {"[]", "1@1 not_json"},
		"two on a line":        {ada + ada, "1@1 not_json"},
		"member twice":         {`{"first_name":"A","first_name":"B","last_name":"L","email":"a@x.example"}`, "1@1 not_json"},
		"NUL":                  {`{"first_name":"A\u0000","last_name":"L","email":"a@x.example"}`, "1@1 not_json"},
		"not UTF-8":            {"{\"first_name\":\"A\xff\",\"last_name\":\"L\",\"email\":\"a@x.example\"}", "1@1 not_json"},
		"null":                 {`{"first_name":null,"last_name":"L","email":"a@x.example"}`, "1@1 wrong_type /first_name"},
		"number":               {`{"first_name":"A","last_name":7,"email":"a@x.example"}`, "1@1 wrong_type /last_name"},
		"truth for a text":     {`{"first_name":"A","last_name":"L","email":true}`, "1@1 wrong_type /email"},
		"text for a truth":     {`{"first_name":"A","last_name":"L","email":"a@x.example","allow_erased":"true"}`, "1@1 wrong_type /allow_erased"},
		"unknown member":       {`{"first_name":"A","last_name":"L","email":"a@x.example","password":"x"}`, "1@1 unknown_member"},
		"member missing":       {`{"first_name":"A","email":"a@x.example"}`, "1@1 missing /last_name"},
		"operator is no role":  {`{"first_name":"A","last_name":"L","email":"a@x.example","role":"operator"}`, "1@1 unknown_role /role"},
		"long line":            {`{"first_name":"` + strings.Repeat("a", 100<<10) + "\"}\n" + ada, "1@1 too_long · 2@2 Ada|Lovelace|ada@x.example|"},
		"long line at the end": {ada + "\n" + strings.Repeat("a", 200<<10), "1@1 Ada|Lovelace|ada@x.example| · 2@2 too_long"},
		"long blank line":      {strings.Repeat(" ", 100<<10) + "\n" + ada, "1@1 too_long · 2@2 Ada|Lovelace|ada@x.example|"},
		"empty":                {"", ""},
		"blank":                {"\n \n\t", ""},
	} {
		for how, wrap := range map[string]func(io.Reader) io.Reader{
			"whole": func(r io.Reader) io.Reader { return r }, "byte by byte": iotest.OneByteReader, "with its error": iotest.DataErrReader,
		} {
			rows, err := parse(NDJSON, wrap(strings.NewReader(test.file)))
			if got := strings.Join(rows, " · "); err != nil || got != test.want {
				t.Errorf("%s, %s: %.200q, %v", name, how, got, err)
			}
		}
	}
}

func TestABodyThatIsCutOff(t *testing.T) {
	t.Parallel()
	tooLarge := fault.New(fault.BodyTooLarge, "x")
	for _, format := range []Format{CSV, NDJSON} {
		for cause, want := range map[error]fault.Code{io.ErrUnexpectedEOF: fault.MalformedRequest, tooLarge: fault.BodyTooLarge} {
			body := io.MultiReader(strings.NewReader(header), iotest.ErrReader(cause))
			if _, err := parse(format, body); !fault.Is(err, want) {
				t.Errorf("%s cut off by %v: %v", format, cause, err)
			}
		}
	}
}

func TestEveryReasonIsExplained(t *testing.T) {
	t.Parallel()
	_, unknown := Reason("made up").Explain()
	for _, reason := range []Reason{
		wrongFieldCount, badQuote, notUTF8, notJSON, tooLong, unknownMember, missing, wrongType, unknownRole,
		invalidName, invalidEmail, foreignMailDomain, duplicate, userDiffers, addressSuppressed,
	} {
		code, detail := reason.Explain()
		if _, described := fault.Describe(code); !described || detail == unknown {
			t.Errorf("%s: %s, %q", reason, code, detail)
		}
	}
	for code, want := range map[fault.Code]Reason{
		fault.InvalidName: invalidName, fault.InvalidEmail: invalidEmail, fault.ForeignMailDomain: foreignMailDomain,
		fault.UserDiffers: userDiffers, fault.AddressSuppressed: addressSuppressed,
	} {
		if got, _ := reasonOf(code); got != want {
			t.Errorf("%s: %s", code, got)
		}
	}
}

func TestVerdictsAreCounted(t *testing.T) {
	t.Parallel()
	var counts Counts
	for verdict, want := range map[user.Verdict]Status{
		{Status: user.Created}: Created, {Status: user.WouldCreate}: WouldCreate, {Status: user.Exists}: Existing,
		{Status: user.Rejected, Refusal: fault.UserDiffers}: Refused,
	} {
		row := read{Row: Row{Number: 3, Line: 7}, person: user.New{Role: principal.User}}
		row.settle(verdict)
		row.settle(verdict) // a transaction that is retried settles again
		if row.Status != want || row.Number != 3 || row.Line != 7 || (row.Reason != "") != (want == Refused) {
			t.Errorf("%+v: %+v", verdict, row.Row)
		}
		counts.add(row.Status)
	}
	if counts.Rows() != 4 || counts != (Counts{Created: 1, WouldCreate: 1, Existing: 1, Refused: 1}) {
		t.Errorf("%+v", counts)
	}
}

// No file makes the parser fail other than by a fault, or give a person to an unreadable row.
func FuzzRows(f *testing.F) {
	f.Add(header+"Ada,Lovelace,ada@x.example,user,true\n", true)
	f.Add(header+"\"A\"\"d\",\"B\nC\",a@x.example,,\n\"", true)
	f.Add("\ufeff{\"first_name\":\"Ada\",\"last_name\":\"L\",\"email\":\"a@x.example\"}\n[]", false)
	f.Fuzz(func(t *testing.T, file string, table bool) {
		format := NDJSON
		if table {
			format = CSV
		}
		whole, err := parse(format, strings.NewReader(file))
		var known *fault.Fault
		if err != nil && !errors.As(err, &known) {
			t.Errorf("%v", err)
		}
		slow, slowErr := parse(format, iotest.OneByteReader(strings.NewReader(file)))
		if strings.Join(whole, "\n") != strings.Join(slow, "\n") || (err == nil) != (slowErr == nil) {
			t.Errorf("read in one piece it gives %q, %v; byte by byte %q, %v", whole, err, slow, slowErr)
		}
	})
}
