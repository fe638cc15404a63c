package mail

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"log/slog"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/fusionspim/steward/internal/base/address"
)

var update = flag.Bool("update", false, "write the golden files anew")

// must takes a constructor's two results.
func must(t *testing.T) func(Message, error) Message {
	return func(m Message, err error) Message {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
}

const (
	link  = "https://pim.example/welcome?lang=en&next=%2F#token=0198f5d21c5e7c3a9c1e_7Qm1f0V9uYk3o2b8"
	off   = "https://steward.example/alerts/off?token=0198f5d21c5e7c3a9c1e_7Qm1f0V9uYk3o2b8"
	why   = "You get this because alerts are switched on for your account at Acme Tools."
	turn  = "\u202Emoc.live\u202C" // with overrides that turn the text round
	nasty = `<script>alert(1)</script>"'&{{.Link}}` + turn
)

// samples are the mails that the golden files hold.
func samples(t *testing.T) map[string]Message {
	t.Helper()
	is, to := must(t), "ada@acme.example"
	return map[string]Message{
		"invitation":     is(NewInvitation(to, Invitation{PersonName: "Ada Lovelace", CustomerName: "Acme Tools", Link: link, ValidFor: 72 * time.Hour})),
		"password-reset": is(NewPasswordReset(to, PasswordReset{PersonName: "Ada Lovelace", CustomerName: "Acme Tools", Link: link, ValidFor: 30 * time.Minute})),
		"password-changed": is(NewPasswordChanged(to, PasswordChanged{
			PersonName: "Ada Lovelace", CustomerName: "Acme Tools", At: noon, Contact: "it@acme.example",
		})),
		"password-changed-bare": is(NewPasswordChanged(to, PasswordChanged{CustomerName: "Acme Tools", At: noon})),
		"notice": is(NewNotice(to, Notice{
			CustomerName: "Acme Tools", Title: "A new subprocessor from 24 December 2026",
			Paragraphs: []string{"Example Hosting B.V. in Amsterdam will keep encrypted backups from 24 December 2026.", "You may object until 17 December 2026."},
			Link:       "https://steward.example/subprocessors", LinkText: "Read about it and object",
		})),
		"notice-verbatim": is(NewNotice(to, Notice{
			CustomerName: "Acme Tools", Title: "Checkpoint of your audit trail: 3 entries", Paragraphs: []string{"Please keep this mail."},
			Verbatim: "steward.example/trail\n3\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n— steward.example/trail Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=",
		})),
		"notice-bare": is(NewNotice(to, Notice{Title: "Planned work", Paragraphs: []string{"Steward is away on Sunday from 06:00 to 06:10 UTC."}})),
		"alert-error": is(NewAlert(to, Alert{
			Severity: SeverityError, Subject: "Nightly import stopped at row 17", CustomerName: "Acme Tools", At: noon, UnsubscribeLink: off, Why: why,
			Body: "The supplier's file has a price without a currency.\nNothing after this row was imported.\n\n" +
				"  row 17: 4012345678901; \"Drill\"; 99.00;\n  row 18: not read\n\n\nMend the file and start the import again.\r\n",
		})),
		"alert-critical": is(NewAlert(to, Alert{
			Severity: SeverityCritical, Subject: "Orders do not reach the shop", CustomerName: "Acme Tools", At: noon, UnsubscribeLink: off, Why: why,
			Body: "No order was passed on since 11:42 UTC.",
		})),
		"alert-digest": is(NewAlertDigest(to, AlertDigest{
			CustomerName: "Acme Tools", UnsubscribeLink: off, Why: why, More: 12,
			Alerts: []DigestEntry{
				{SeverityCritical, "Orders do not reach the shop", noon, 1}, {SeverityError, "Nightly import stopped at row 17", noon.Add(-time.Hour), 40},
			},
		})),
		"hostile": is(NewInvitation(to, Invitation{
			PersonName: nasty, CustomerName: "עמית & " + strings.Repeat("Wolfeschlegelsteinhausen", 8), Link: link, ValidFor: time.Hour,
		})),
		"hostile-alert": is(NewAlert(to, Alert{
			Severity: SeverityError, Subject: nasty + " فشل الاستيراد", CustomerName: nasty, UnsubscribeLink: off, Why: why,
			Body: nasty + "\n\x1b[31mred\x1b[0m\x00\rnext\u2028line\n" + strings.Repeat("x", 300) + "\n\n</div></body>فشل الاستيراد\n\t\ttabs",
		})),
	}
}

func TestGolden(t *testing.T) {
	t.Parallel()
	for name, m := range samples(t) {
		for extension, got := range map[string]string{".txt": "Subject: " + m.Subject() + "\n\n" + m.Text(), ".html": m.HTML()} {
			golden(t, name+extension, got)
		}
	}
	content, err := encoded(samples(t)["alert-critical"], sender{"Stéward", address.Address{Local: "no-reply", Domain: "steward.example"}}, messageID, noon)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "alert-critical.eml", strings.ReplaceAll(string(content), "\r\n", "\n"))
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (go test ./internal/infra/mail -update writes it)", err)
	}
	if got != string(want) {
		t.Errorf("%s is not what it was:\n%s", name, got)
	}
}

func TestMailsNeedNothingFromElsewhere(t *testing.T) {
	t.Parallel()
	source := regexp.MustCompile(`(?i)<(script|img|iframe|object|embed|form|input|link|base|video|audio|svg)\b|\bsrc=|\bon\w+=|url\(|@import|style="`)
	href := regexp.MustCompile(`href="([^"]*)"`)
	for name, m := range samples(t) {
		if found := source.FindString(m.HTML()); found != "" {
			t.Errorf("%s holds %q", name, found)
		}
		for _, found := range href.FindAllStringSubmatch(m.HTML(), -1) {
			if !strings.HasPrefix(found[1], "https://") && found[1] != "mailto:it@acme.example" {
				t.Errorf("%s leads to %q", name, found[1])
			}
		}
		for _, want := range []string{`<html lang="en">`, `<meta charset="utf-8">`, "<title>", "<h1", `dir="ltr"`} {
			if !strings.Contains(m.HTML(), want) {
				t.Errorf("%s lacks %s", name, want)
			}
		}
		for _, text := range []string{m.Text(), m.HTML(), m.Subject()} {
			if strings.ContainsAny(text, "\r\x00\x1b\u202e\u202c\u2028") || strings.Contains(text, "ZgotmplZ") || !utf8.ValidString(text) {
				t.Errorf("%s holds what it must not: %q", name, text)
			}
		}
	}
}

func TestUnsubscribingIsExplainedInBothForms(t *testing.T) {
	t.Parallel()
	for name, m := range samples(t) {
		isAlert := m.Kind() == KindAlert
		for form, text := range map[string]string{"text": m.Text(), "html": m.HTML()} {
			if strings.Contains(text, "alerts/off?token=") != isAlert || strings.Contains(text, why) != isAlert {
				t.Errorf("%s as %s", name, form)
			}
		}
	}
}

// The kinds are closed: nothing outside this package can make a Message, and in it one function
// does, with one of the five kinds, for constructors that take no kind.
func TestNoOtherKindCanBeSent(t *testing.T) {
	t.Parallel()
	message := reflect.TypeFor[Message]()
	for i := range message.NumField() {
		if message.Field(i).IsExported() {
			t.Errorf("Message.%s can be set from outside", message.Field(i).Name)
		}
	}
	constants := map[string]string{}
	composed := map[string]string{}
	var made []string
	visit(t, func(file *ast.File, function *ast.FuncDecl, node ast.Node) {
		switch node := node.(type) {
		case *ast.ValueSpec:
			if kind, ok := node.Type.(*ast.Ident); ok && kind.Name == "Kind" {
				constants[node.Names[0].Name] = strings.Trim(node.Values[0].(*ast.BasicLit).Value, `"`)
			}
		case *ast.CompositeLit:
			if of, ok := node.Type.(*ast.Ident); ok && of.Name == "Message" && len(node.Elts) > 0 {
				made = append(made, function.Name.Name)
			}
		case *ast.AssignStmt:
			for _, target := range node.Lhs {
				if selector, ok := target.(*ast.SelectorExpr); ok && selector.Sel.Name == "kind" {
					t.Errorf("%s sets a kind", function.Name.Name)
				}
			}
		case *ast.CallExpr:
			if selector, ok := node.Fun.(*ast.SelectorExpr); ok && selector.Sel.Name == "compose" {
				kind, ok := node.Args[0].(*ast.Ident)
				if !ok || function == nil {
					t.Fatal("compose is given a kind that is not a constant")
				}
				composed[function.Name.Name] = kind.Name
			}
		case *ast.FuncDecl:
			if !node.Name.IsExported() || node.Recv != nil {
				break
			}
			for _, parameter := range node.Type.Params.List {
				if of, ok := parameter.Type.(*ast.Ident); ok && of.Name == "Kind" {
					t.Errorf("%s takes a kind", node.Name.Name)
				}
			}
		}
	})
	var kinds []string
	for _, kind := range Kinds() {
		kinds = append(kinds, string(kind))
	}
	if want := []string{"alert", "invitation", "password-reset", "password-changed", "notice"}; !slices.Equal(kinds, want) || len(constants) != len(want) {
		t.Errorf("the kinds are %v", kinds)
	}
	if !slices.Equal(made, []string{"compose"}) {
		t.Errorf("messages are made in %v", made)
	}
	want := map[string]string{
		"To": "KindAlert", "NewAlertDigest": "KindAlert", "NewInvitation": "KindInvitation", "NewPasswordReset": "KindPasswordReset",
		"NewPasswordChanged": "KindPasswordChanged", "NewNotice": "KindNotice",
	}
	if !reflect.DeepEqual(composed, want) {
		t.Errorf("composed by %v", composed)
	}
}

// visit calls back for every node of the package's own files, with the function that it stands in.
func visit(t *testing.T, call func(file *ast.File, function *ast.FuncDecl, node ast.Node)) {
	t.Helper()
	paths, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, declaration := range file.Decls {
			function, _ := declaration.(*ast.FuncDecl)
			ast.Inspect(declaration, func(node ast.Node) bool {
				if node != nil {
					call(file, function, node)
				}
				return true
			})
		}
	}
}

func TestHeadersCannotBeAdded(t *testing.T) {
	t.Parallel()
	good := Invitation{PersonName: "Ada", CustomerName: "Acme", Link: link, ValidFor: time.Hour}
	for _, evil := range []string{"\r\nBcc: eve@evil.example", "\nX: y", "\rX: y", "\x00", "\u2028", "\x7f", "\xff"} {
		for name, err := range map[string]error{
			"recipient": second(NewInvitation("ada@acme.example"+evil, good)),
			"local":     second(NewInvitation("ada"+evil+"@acme.example", good)),
			"person":    second(NewInvitation("ada@acme.example", with(good, func(i *Invitation) { i.PersonName += evil }))),
			"customer":  second(NewInvitation("ada@acme.example", with(good, func(i *Invitation) { i.CustomerName += evil }))),
			"link":      second(NewInvitation("ada@acme.example", with(good, func(i *Invitation) { i.Link += evil }))),
			"title":     second(NewNotice("ada@acme.example", Notice{Title: "T" + evil, Paragraphs: []string{"p"}})),
			"subject":   second(NewAlert("ada@acme.example", Alert{Severity: SeverityError, Subject: "S" + evil, CustomerName: "A", UnsubscribeLink: off, Why: "w"})),
			"unsubscribe": second(NewAlert("ada@acme.example", Alert{
				Severity: SeverityError, Subject: "S", CustomerName: "A", UnsubscribeLink: off + evil, Why: "w",
			})),
		} {
			if !Permanent(err) || strings.Contains(err.Error(), "evil") || strings.Contains(err.Error(), "acme") {
				t.Errorf("%s with %q: %v", name, evil, err)
			}
		}
	}
}

func second(_ Message, err error) error { return err }

func with(i Invitation, change func(*Invitation)) Invitation {
	change(&i)
	return i
}

func TestRefusedFacts(t *testing.T) {
	t.Parallel()
	good := Invitation{PersonName: "Ada", CustomerName: "Acme", Link: link, ValidFor: time.Hour}
	for _, to := range []string{
		"", "ada", "@acme.example", "ada@", "Ada <ada@acme.example>", "ada@acme.example, eve@evil.example", "ada@acme.example(c)", `"a b"@acme.example`,
		"a..b@acme.example", ".a@acme.example", "ada@acme..example", "ada@[127.0.0.1]", "ada@acme .example", "a@b@c.example", "a\u200bb@acme.example",
		"ada@acme.example>", "<ada@acme.example", strings.Repeat("a", 65) + "@acme.example", "ada@" + strings.Repeat("a", 64) + ".example",
	} {
		if err := second(NewInvitation(to, good)); !Permanent(err) {
			t.Errorf("%q was taken: %v", to, err)
		}
	}
	for _, link := range []string{
		"", "/relative", "javascript:alert(1)", "ftp://a.example", "https://", "https://a:b@c.example", "https://a.example/ä",
		"https://a.example/<", "https://a.example/" + strings.Repeat("a", 2000),
	} {
		if err := second(NewInvitation("ada@acme.example", with(good, func(i *Invitation) { i.Link = link }))); !Permanent(err) {
			t.Errorf("%q was taken", link)
		}
	}
	for name, err := range map[string]error{
		"no customer":     second(NewInvitation("ada@acme.example", with(good, func(i *Invitation) { i.CustomerName = " " }))),
		"no time":         second(NewInvitation("ada@acme.example", with(good, func(i *Invitation) { i.ValidFor = time.Second }))),
		"no paragraphs":   second(NewNotice("ada@acme.example", Notice{Title: "T"})),
		"no link text":    second(NewNotice("ada@acme.example", Notice{Title: "T", Paragraphs: []string{"p"}, Link: link})),
		"no severity":     second(NewAlert("ada@acme.example", Alert{Severity: "info", Subject: "S", CustomerName: "A", UnsubscribeLink: off, Why: "w"})),
		"no reason":       second(NewAlert("ada@acme.example", Alert{Severity: SeverityError, Subject: "S", CustomerName: "A", UnsubscribeLink: off})),
		"no unsubscribe":  second(NewAlert("ada@acme.example", Alert{Severity: SeverityError, Subject: "S", CustomerName: "A", Why: "w"})),
		"no alerts":       second(NewAlertDigest("ada@acme.example", AlertDigest{CustomerName: "A", UnsubscribeLink: off, Why: "w"})),
		"never changed":   second(NewPasswordChanged("ada@acme.example", PasswordChanged{CustomerName: "A"})),
		"several at once": second(NewPasswordChanged("", PasswordChanged{})),
	} {
		if !Permanent(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDurations(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		time.Minute: "1 minute", 30*time.Minute + 59*time.Second: "30 minutes", time.Hour: "1 hour", 90 * time.Minute: "90 minutes", 24 * time.Hour: "24 hours",
		25 * time.Hour: "25 hours", 48 * time.Hour: "2 days", 7 * 24 * time.Hour: "7 days",
	} {
		if got := new(writer).duration("", d); got != want {
			t.Errorf("%v is %q", d, got)
		}
	}
}

// Whatever stands in the facts, a mail either cannot be worded or is one well-formed message to one
// recipient that says the same in both parts.
func TestAnyMailIsWellFormed(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.StringMatching(`[ -~]{0,300}`), rapid.StringMatching(`(=\?utf-8\?[qb]\?[A-Za-z=0-9]*\?= ?){0,4}`))
		data := Alert{
			Severity: SeverityError, Subject: text.Draw(t, "subject"), Body: text.Draw(t, "body"), CustomerName: text.Draw(t, "customer"),
			UnsubscribeLink: off, Why: why,
		}
		m, err := NewAlert("ada@acme.example", data)
		if err != nil {
			if !Permanent(err) {
				t.Fatal(err)
			}
			return
		}
		content, err := encoded(m, sender{"Steward", address.Address{Local: "no-reply", Domain: "steward.example"}}, messageID, noon)
		if err != nil {
			t.Fatal(err)
		}
		again, _ := encoded(m, sender{"Steward", address.Address{Local: "no-reply", Domain: "steward.example"}}, messageID, noon)
		if !bytes.Equal(content, again) {
			t.Fatal("the same mail has other bytes at another attempt")
		}
		read, err := mail.ReadMessage(bytes.NewReader(content))
		if err != nil {
			t.Fatal(err)
		}
		if len(read.Header) != 11 {
			t.Fatalf("%d headers: %v", len(read.Header), read.Header)
		}
		for line := range strings.SplitSeq(string(content), "\r\n") {
			if len(line) > 998 || strings.ContainsAny(line, "\r\n\x00") || !isASCII(line) {
				t.Fatalf("a line that mail servers refuse: %q", line)
			}
		}
		subject, err := new(mime.WordDecoder).DecodeHeader(read.Header.Get("Subject"))
		if want := strings.ReplaceAll(m.Subject(), "=?", "= ?"); err != nil || subject != want {
			t.Fatalf("the subject became %q, not %q: %v", subject, want, err)
		}
		parts := partsOf(t, read)
		if parts["text/plain"] != m.Text() || parts["text/html"] != m.HTML() {
			t.Fatal("a part is not what was written")
		}
	})
}

func partsOf(t *rapid.T, m *mail.Message) map[string]string {
	_, parameters, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for reader := multipart.NewReader(m.Body, parameters["boundary"]); ; {
		part, err := reader.NextRawPart()
		if errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		kind, _, _ := mime.ParseMediaType(part.Header.Get("Content-Type"))
		content, err := io.ReadAll(quotedprintable.NewReader(part))
		if err != nil {
			t.Fatal(err)
		}
		all[kind] = strings.ReplaceAll(string(content), "\r\n", "\n")
	}
}

func TestMessagesDoNotPrintThemselves(t *testing.T) {
	t.Parallel()
	m := invitation(t, "ada@acme.example")
	var out bytes.Buffer
	slog.New(slog.NewTextHandler(&out, nil)).Info("sending", "mail", m)
	_, _ = fmt.Fprintf(&out, "%v %+v %#v %s %q %d %x %v", m, m, m, m, m, m, m, &m)
	if strings.Contains(strings.ToLower(out.String()), "ada") || strings.Contains(out.String(), "token") {
		t.Fatal(out.String())
	}
}
