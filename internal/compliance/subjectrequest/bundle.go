package subjectrequest

import (
	"archive/zip"
	"bufio"
	"bytes"
	"compress/flate"
	_ "embed" // for the page
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io"
	"strings"
	"time"

	"filippo.io/age"

	"github.com/fusionspim/steward/internal/account/customer"
	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/inventory"
	"github.com/fusionspim/steward/internal/infra/postgres"
)

// format names the form of a bundle. It changes when a program that reads bundles would have to.
const format = "steward-bundle/1"

// manifest says what is in a bundle, and what is not and why.
type manifest struct {
	Format    string           `json:"format"`
	RequestID string           `json:"request_id"`
	Kind      Kind             `json:"kind"`
	MadeAt    time.Time        `json:"made_at"`
	Person    string           `json:"user_id"`
	Customer  manifestCustomer `json:"customer"`
	Files     []string         `json:"files"`
	Stores    []manifestStore  `json:"stores"`
	Elsewhere []string         `json:"elsewhere"`
}

type manifestCustomer struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

type manifestStore struct {
	Store    string             `json:"store"`
	Title    string             `json:"title"`
	Purpose  string             `json:"purpose"`
	Kept     string             `json:"kept"`
	Rows     int                `json:"rows"`
	File     string             `json:"file"`
	Members  []string           `json:"members"`
	Withheld []manifestWithheld `json:"withheld"`
}

type manifestWithheld struct {
	Member      string        `json:"member"`
	Why         inventory.Why `json:"why"`
	Explanation string        `json:"explanation"`
}

// elsewhere says what is held where it cannot be told whose it is.
func (s *Service) elsewhere() (sentences []string) {
	for _, store := range s.stores {
		if store.Elsewhere != "" {
			sentences = append(sentences, store.Elsewhere)
		}
	}
	return append(sentences, "What the employer keeps about the person in its own systems is the employer's to tell.")
}

// store is a store as the bundle of a person shows it.
type store struct{ postgres.Store }

// columns are what the store shows, as a list of a statement.
func (s store) columns() string {
	var list []string
	for _, name := range s.ShownToPerson() {
		list = append(list, "t."+name)
	}
	for _, derived := range s.Derived {
		list = append(list, "("+derived.Expression+") as "+derived.Name)
	}
	return strings.Join(list, ", ")
}

// members are the names under which the store shows them, in their order.
func (s store) members() []string {
	names := s.ShownToPerson()
	for _, derived := range s.Derived {
		names = append(names, derived.Name)
	}
	return names
}

// held is what one store holds of the person.
type held struct {
	store
	rows []json.RawMessage
}

// gather reads everything that is held of a person, store by store.
func (s *Service) gather(tx *postgres.Tx, user id.User) ([]held, error) {
	var all []held
	for _, declared := range inventory.ForPeople(s.stores) {
		store := store{declared}
		rows, err := rowsOf(tx, store, user)
		if err != nil {
			return nil, err
		}
		if len(rows) > maxRowsOfOneStore {
			return nil, fault.Because(fmt.Errorf("subjectrequest: the store %s holds more than %d rows of one person", store.Table, maxRowsOfOneStore),
				fault.BundleTooLarge, "More is held of the person than one bundle takes.")
		}
		all = append(all, held{store, rows})
	}
	return all, nil
}

// assemble puts everything that is held of a person into a zip file.
func (s *Service) assemble(tx *postgres.Tx, of Request, user id.User) ([]byte, error) {
	employer, err := customer.GetTx(tx)
	if err != nil {
		return nil, err
	}
	all, err := s.gather(tx, user)
	if err != nil {
		return nil, err
	}
	about := manifest{
		Format: format, RequestID: of.ID.String(), Kind: of.Kind, MadeAt: tx.Now.UTC(), Person: user.String(),
		Customer: manifestCustomer{ID: employer.ID.String(), Name: employer.Name}, Files: []string{"index.html", "manifest.json", "data.json"}, Elsewhere: s.elsewhere(),
	}
	for _, one := range all {
		entry := manifestStore{
			Store: one.Table, Title: one.Title, Purpose: one.Purpose, Kept: one.Keep.Words, Rows: len(one.rows), File: "csv/" + one.Table + ".csv", Members: one.members(),
			Withheld: []manifestWithheld{},
		}
		for _, withheld := range one.WithheldFromPerson() {
			entry.Withheld = append(entry.Withheld, manifestWithheld{withheld.Column, withheld.Why, withheld.Why.Explained()})
		}
		about.Stores = append(about.Stores, entry)
		about.Files = append(about.Files, entry.File)
	}
	file := newArchive(tx.Now)
	file.add("index.html", func(w io.Writer) error { return writePage(w, about, all) })
	file.add("manifest.json", func(w io.Writer) error { return writeIndented(w, about) })
	file.add("data.json", func(w io.Writer) error { return writeData(w, about, all) })
	for _, one := range all {
		file.add("csv/"+one.Table+".csv", one.writeTable)
	}
	return file.close()
}

// archive is a zip file in the making. The first failure is the one that close tells.
type archive struct {
	content bytes.Buffer
	zip     *zip.Writer
	at      time.Time
	err     error
}

func newArchive(at time.Time) *archive {
	a := &archive{at: at.UTC()}
	a.zip = zip.NewWriter(&a.content)
	// The best that can be had fast: what takes the longest is compressing, and the transaction has a time.
	a.zip.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) { return flate.NewWriter(w, flate.BestSpeed) })
	return a
}

func (a *archive) add(name string, write func(io.Writer) error) {
	if a.err != nil {
		return
	}
	var w io.Writer
	if w, a.err = a.zip.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Deflate, Modified: a.at}); a.err == nil {
		a.err = write(w)
	}
	if a.err == nil && a.content.Len() > maxBundle {
		a.err = fault.New(fault.BundleTooLarge, "More is held of the person than one bundle takes.")
	}
}

func (a *archive) close() ([]byte, error) {
	if a.err != nil {
		return nil, a.err
	}
	if err := a.zip.Close(); err != nil {
		return nil, err
	}
	return a.content.Bytes(), nil
}

func writeIndented(w io.Writer, value any) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}

// writeData writes every row of every store as one JSON document, a row to a line. The rows are JSON as they come, and go out as they are.
func writeData(w io.Writer, about manifest, all []held) error {
	head, err := json.Marshal(struct {
		Format string    `json:"format"`
		Person string    `json:"user_id"`
		MadeAt time.Time `json:"made_at"`
	}{about.Format, about.Person, about.MadeAt})
	if err != nil {
		return err
	}
	out := bufio.NewWriter(w)
	_, _ = out.Write(head[:len(head)-1]) // the writer keeps its first failure for Flush
	_, _ = out.WriteString(`,"stores":{`)
	for i, one := range all {
		if i > 0 {
			_ = out.WriteByte(',')
		}
		_, _ = out.WriteString("\n\"" + one.Table + "\":[")
		for j, row := range one.rows {
			if j > 0 {
				_ = out.WriteByte(',')
			}
			_ = out.WriteByte('\n')
			_, _ = out.Write(row)
		}
		_ = out.WriteByte(']')
	}
	_, _ = out.WriteString("}}\n")
	return out.Flush()
}

// writeTable writes the rows of a store as CSV (RFC 4180).
func (h held) writeTable(w io.Writer) error {
	names := h.members()
	table := csv.NewWriter(w)
	if err := table.Write(names); err != nil {
		return err
	}
	for _, row := range h.rows {
		cells, err := cellsOf(row, names)
		if err != nil {
			return err
		}
		for i := range cells {
			cells[i] = inert(cells[i])
		}
		if err := table.Write(cells); err != nil {
			return err
		}
	}
	table.Flush()
	return table.Error()
}

// inert keeps a spreadsheet from taking a text for a formula, by an apostrophe before it. The JSON file has the text as it is.
func inert(cell string) string {
	if cell != "" && strings.ContainsRune("=+-@\t\r", rune(cell[0])) {
		return "'" + cell
	}
	return cell
}

// cellsOf writes the members of a row as texts; what is null is empty. A row comes from row_to_json: one object, its members in the order of the columns, without blanks
// between them. Reading it as that is many times faster than as any JSON, and there may be a great many rows.
func cellsOf(row json.RawMessage, names []string) ([]string, error) {
	cells := make([]string, len(names))
	rest := row
	for i, name := range names {
		before := byte(',')
		if i == 0 {
			before = '{'
		}
		if len(rest) < len(name)+5 || rest[0] != before || string(rest[1:len(name)+4]) != `"`+name+`":` {
			return nil, fmt.Errorf("request: a row lacks %s", name)
		}
		rest = rest[len(name)+4:]
		value := rest[:lengthOf(rest)]
		rest = rest[len(value):]
		switch {
		case string(value) == "null":
		case len(value) == 0 || value[0] != '"':
			cells[i] = string(value)
		case bytes.IndexByte(value, '\\') < 0:
			cells[i] = string(value[1 : len(value)-1])
		default:
			if err := json.Unmarshal(value, &cells[i]); err != nil {
				return nil, err
			}
		}
	}
	if string(rest) != "}" {
		return nil, errors.New("request: a row has more members than its store")
	}
	return cells, nil
}

// lengthOf measures the value at the beginning of a text: up to the comma or the brace that is in no text, list or object of the value's own.
func lengthOf(text []byte) int {
	depth, quoted := 0, false
	for i := 0; i < len(text); i++ {
		switch char := text[i]; {
		case quoted && char == '\\':
			i++
		case char == '"':
			quoted = !quoted
		case quoted:
		case char == '{' || char == '[':
			depth++
		case depth == 0 && (char == ',' || char == '}'):
			return i
		case char == '}' || char == ']':
			depth--
		}
	}
	return len(text)
}

//go:embed page.html
var pageText string

// pageStore is a store as the page for people shows it.
type pageStore struct {
	manifestStore
	Held   int         // rows
	Fields []pageField // of a store with one row
	Rows   [][]string  // of the others
	More   int         // rows that are in the files alone
}

type pageField struct{ Name, Value string }

// writePage writes what people read: one page that needs nothing from elsewhere.
func writePage(w io.Writer, about manifest, all []held) error {
	page, err := template.New("page").Funcs(template.FuncMap{
		"words":  func(name string) string { return strings.ReplaceAll(name, "_", " ") },
		"moment": func(at time.Time) string { return at.UTC().Format("2 January 2006, 15:04 UTC") },
	}).Parse(pageText)
	if err != nil {
		return err
	}
	stores := make([]pageStore, len(all))
	for i, one := range all {
		shown := pageStore{manifestStore: about.Stores[i], Held: len(one.rows)}
		rows := one.rows
		if len(rows) > maxRowsShownToPeople { // the newest ones: ids and times ascend
			shown.More = len(rows) - maxRowsShownToPeople
			rows = rows[shown.More:]
		}
		for _, row := range rows {
			cells, err := cellsOf(row, one.members())
			if err != nil {
				return err
			}
			shown.Rows = append(shown.Rows, cells)
		}
		if len(one.rows) == 1 {
			for j, name := range one.members() {
				shown.Fields = append(shown.Fields, pageField{name, shown.Rows[0][j]})
			}
		}
		stores[i] = shown
	}
	return page.Execute(w, struct {
		manifest
		Shown []pageStore
	}{about, stores})
}

// encryptTo makes an age file of the content.
func encryptTo(recipient string, content []byte) ([]byte, error) {
	to, err := ParseRecipient(recipient)
	if err != nil {
		return nil, err
	}
	var file bytes.Buffer
	w, err := age.Encrypt(&file, to)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(content); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return file.Bytes(), nil
}
