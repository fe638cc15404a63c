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

// format is the version of a bundle's format. It changes when a program that reads bundles would
// have to.
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

// elsewhere returns what is stored where the rows of a person cannot be found.
func (s *Service) elsewhere() (sentences []string) {
	for _, store := range s.stores {
		if store.Elsewhere != "" {
			sentences = append(sentences, store.Elsewhere)
		}
	}
	return append(sentences, "What the employer keeps about the person in its own systems is the employer's to tell.")
}

// store is a declared table as the bundle of a person shows it.
type store struct{ postgres.Store }

// columns returns the columns that the bundle shows, as the list of a select statement.
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

// members returns the names of these columns, in the same order.
func (s store) members() []string {
	names := s.ShownToPerson()
	for _, derived := range s.Derived {
		names = append(names, derived.Name)
	}
	return names
}

// held are the rows of a person in one table.
type held struct {
	store
	rows []json.RawMessage
}

// gather reads all rows of a person, table by table.
func (s *Service) gather(tx *postgres.Tx, user id.User) ([]held, error) {
	var all []held
	for _, declared := range inventory.ForPeople(s.stores) {
		store := store{declared}
		rows, err := rowsOf(tx, store, user)
		if err != nil {
			return nil, err
		}
		if len(rows) > maxRowsOfOneStore {
			return nil, fault.Because(
				fmt.Errorf("subjectrequest: %s has more than %d rows of one person", store.Table, maxRowsOfOneStore),
				fault.BundleTooLarge, "More is held of the person than one bundle takes.")
		}
		all = append(all, held{store, rows})
	}
	return all, nil
}

// assemble returns a zip file with all rows of a person.
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
		Customer: manifestCustomer{ID: employer.ID.String(), Name: employer.Name},
		Files:    []string{"index.html", "manifest.json", "data.json"}, Elsewhere: s.elsewhere(),
	}
	for _, h := range all {
		entry := manifestStore{
			Store: h.Table, Title: h.Title, Purpose: h.Purpose, Kept: h.Keep.Words, Rows: len(h.rows),
			File: "csv/" + h.Table + ".csv", Members: h.members(), Withheld: []manifestWithheld{},
		}
		for _, w := range h.WithheldFromPerson() {
			entry.Withheld = append(entry.Withheld, manifestWithheld{w.Column, w.Why, w.Why.Explained()})
		}
		about.Stores = append(about.Stores, entry)
		about.Files = append(about.Files, entry.File)
	}
	file := newArchive(tx.Now)
	file.add("index.html", func(w io.Writer) error { return writePage(w, about, all) })
	file.add("manifest.json", func(w io.Writer) error { return writeIndented(w, about) })
	file.add("data.json", func(w io.Writer) error { return writeData(w, about, all) })
	for _, h := range all {
		file.add("csv/"+h.Table+".csv", h.writeTable)
	}
	return file.close()
}

// archive writes a zip file. close returns the first error.
type archive struct {
	content bytes.Buffer
	zip     *zip.Writer
	at      time.Time
	err     error
}

func newArchive(at time.Time) *archive {
	a := &archive{at: at.UTC()}
	a.zip = zip.NewWriter(&a.content)
	// Compressing takes the longest, and the time of the transaction is limited.
	a.zip.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) {
		return flate.NewWriter(w, flate.BestSpeed)
	})
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

// writeData writes every row of every table as one JSON document, a row per line. PostgreSQL has
// rendered the rows as JSON.
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
	_, _ = out.Write(head[:len(head)-1]) // Flush returns the writer's first error
	_, _ = out.WriteString(`,"stores":{`)
	for i, h := range all {
		if i > 0 {
			_ = out.WriteByte(',')
		}
		_, _ = out.WriteString("\n\"" + h.Table + "\":[")
		for j, row := range h.rows {
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

// writeTable writes the rows as CSV (RFC 4180).
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
			cells[i] = escapeFormula(cells[i])
		}
		if err := table.Write(cells); err != nil {
			return err
		}
	}
	table.Flush()
	return table.Error()
}

// escapeFormula keeps a spreadsheet from evaluating a text as a formula, by an apostrophe before
// it. The JSON file has the text as it is.
func escapeFormula(cell string) string {
	if cell != "" && strings.ContainsRune("=+-@\t\r", rune(cell[0])) {
		return "'" + cell
	}
	return cell
}

// cellsOf returns the members of a row as texts, null as an empty one. A row is from row_to_json:
// one object, its members in the order of the columns, without spaces between them. Parsing just
// that is many times faster than parsing any JSON, and there may be very many rows.
func cellsOf(row json.RawMessage, names []string) ([]string, error) {
	cells := make([]string, len(names))
	rest := row
	for i, name := range names {
		before := byte(',')
		if i == 0 {
			before = '{'
		}
		if len(rest) < len(name)+5 || rest[0] != before || string(rest[1:len(name)+4]) != `"`+name+`":` {
			return nil, fmt.Errorf("subjectrequest: a row lacks %s", name)
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
		return nil, errors.New("subjectrequest: a row has more members than its store")
	}
	return cells, nil
}

// lengthOf returns the length of the JSON value that a text begins with: up to the comma or brace
// that is outside the value's strings, arrays and objects.
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

// pageStore is a table as the page for people shows it.
type pageStore struct {
	manifestStore
	Held   int         // rows
	Fields []pageField // of a store with one row
	Rows   [][]string  // of a store with several
	More   int         // rows that only the files contain
}

type pageField struct{ Name, Value string }

// writePage writes the page that people read. It refers to no other resource.
func writePage(w io.Writer, about manifest, all []held) error {
	page, err := template.New("page").Funcs(template.FuncMap{
		"words":  func(name string) string { return strings.ReplaceAll(name, "_", " ") },
		"moment": func(at time.Time) string { return at.UTC().Format(timeFormat) },
	}).Parse(pageText)
	if err != nil {
		return err
	}
	stores := make([]pageStore, len(all))
	for i, h := range all {
		shown := pageStore{manifestStore: about.Stores[i], Held: len(h.rows)}
		rows := h.rows
		if len(rows) > maxRowsShownToPeople { // the newest ones: ids and times ascend
			shown.More = len(rows) - maxRowsShownToPeople
			rows = rows[shown.More:]
		}
		for _, row := range rows {
			cells, err := cellsOf(row, h.members())
			if err != nil {
				return err
			}
			shown.Rows = append(shown.Rows, cells)
		}
		if len(h.rows) == 1 {
			for j, name := range h.members() {
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

// encryptTo encrypts the content to the recipient, as an age file.
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
