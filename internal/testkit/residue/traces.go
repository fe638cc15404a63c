// Package residue finds what is left of somebody, wherever it may hide. It is for tests and drills
// only.
//
// Owns: the shapes in which a text can hide, and looking for them in a text and in everything that
// a database keeps.
// Does not own: whose texts they are, and what may be left.
package residue

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"golang.org/x/text/unicode/norm"

	"github.com/fusionspim/steward/internal/account/user"
)

// Marks are texts that must be gone. They know the shapes in which a text can hide.
type Marks struct {
	texts   []string
	needles map[string]string // shape → text, to be found as it is
	folded  map[string]string // shape in lower case → text, to be found whatever the case
}

// shortest is the length from which on a text is no accident.
const shortest = 8

// Add adds texts.
func (m *Marks) Add(texts ...string) {
	if m.needles == nil {
		m.needles, m.folded = make(map[string]string), make(map[string]string)
	}
	for _, text := range texts {
		if len(text) < shortest {
			panic("too short for a mark: " + text)
		}
		m.texts = append(m.texts, text)
		for _, form := range []string{text, strings.ToLower(text), strings.ToUpper(text), user.Key(text), norm.NFD.String(text)} {
			quoted := strconv.QuoteToASCII(form)
			reversed := []rune(form)
			slices.Reverse(reversed)
			for _, shape := range []string{
				form, string(reversed), url.QueryEscape(form), url.PathEscape(form), quoted[1 : len(quoted)-1], hex.EncodeToString([]byte(form)),
				url.QueryEscape(string(reversed)),
			} {
				m.folded[strings.ToLower(shape)] = text
			}
			// Base64 looks different at each of three positions in a longer text; what is common to
			// all neighbours is in the middle.
			for shift := range 3 {
				for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
					encoded := encoding.EncodeToString(append(make([]byte, shift), form...))
					m.needles[encoded[(shift*8+5)/6:len(encoded)-1]] = text
				}
			}
		}
	}
}

// AddBytes adds a value that is not text.
func (m *Marks) AddBytes(value []byte, name string) {
	if m.needles == nil {
		m.needles, m.folded = make(map[string]string), make(map[string]string)
	}
	m.needles[string(value)] = name
	m.needles[base64.RawStdEncoding.EncodeToString(value)] = name
	m.folded[hex.EncodeToString(value)] = name
}

// Shapes is how many shapes are looked for.
func (m *Marks) Shapes() int { return len(m.needles) + len(m.folded) }

// In returns the marks that content holds.
func (m *Marks) In(content []byte) []string {
	found := make(map[string]bool)
	for shape, text := range m.needles {
		if !found[text] && bytes.Contains(content, []byte(shape)) {
			found[text] = true
		}
	}
	lower := bytes.ToLower(content)
	for shape, text := range m.folded {
		if !found[text] && bytes.Contains(lower, []byte(shape)) {
			found[text] = true
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// Column is one column of one table.
type Column struct{ Schema, Table, Name, Kind string }

// String implements fmt.Stringer.
func (c Column) String() string { return c.Table + "." + c.Name }

// InDatabase looks for the marks in every column of every table of a database, whatever its schema,
// and in what PostgreSQL itself keeps of values. It returns where each mark was found. The
// connection must be a superuser's.
func (m *Marks) InDatabase(ctx context.Context, conn *pgx.Conn) (map[string][]string, error) {
	rows, err := conn.Query(ctx, `
		select table_schema, table_name, column_name, data_type from information_schema.columns join information_schema.tables t using (table_schema, table_name)
		where t.table_type in ('BASE TABLE', 'FOREIGN') and table_schema not in ('pg_catalog', 'information_schema')
		union all -- materialised views are not in the standard's view of things
		select n.nspname, r.relname, a.attname, format_type(a.atttypid, a.atttypmod) from pg_attribute a
		join pg_class r on r.oid = a.attrelid join pg_namespace n on n.oid = r.relnamespace where r.relkind = 'm' and a.attnum > 0 and not a.attisdropped
		union all
		values ('pg_catalog', 'pg_stats', 'most_common_vals', 'anyarray'), ('pg_catalog', 'pg_stats', 'histogram_bounds', 'anyarray'),
			('pg_catalog', 'pg_stats', 'most_common_elems', 'anyarray'), ('pg_catalog', 'pg_largeobject', 'data', 'bytea'),
			('pg_catalog', 'pg_stat_activity', 'query', 'text'), ('pg_catalog', 'pg_description', 'description', 'text')
		order by 1, 2, 3`)
	if err != nil {
		return nil, err
	}
	columns, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (one Column, err error) {
		return one, row.Scan(&one.Schema, &one.Table, &one.Name, &one.Kind)
	})
	if err != nil {
		return nil, err
	}
	found := make(map[string][]string)
	for _, one := range columns {
		value := pgx.Identifier{one.Name}.Sanitize()
		if one.Kind != "bytea" {
			value += "::text"
		}
		where := ""
		if one.Table == "pg_stat_activity" {
			where = " and datname = current_database()"
		}
		rows, err := conn.Query(
			ctx,
			"select "+value+" from "+pgx.Identifier{one.Schema, one.Table}.Sanitize()+" where "+
				pgx.Identifier{one.Name}.Sanitize()+" is not null"+where,
		)
		if err != nil {
			return nil, err
		}
		var content bytes.Buffer
		for rows.Next() {
			content.Write(rows.RawValues()[0])
			content.WriteByte('\n')
		}
		if rows.Err() != nil {
			return nil, fmt.Errorf("%v: %w", one, rows.Err())
		}
		if held := m.In(content.Bytes()); len(held) > 0 {
			found[one.String()] = held
		}
	}
	return found, nil
}
