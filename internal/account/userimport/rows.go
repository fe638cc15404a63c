package userimport

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/fusionspim/steward/internal/account/user"
	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/base/principal"
	"github.com/fusionspim/steward/internal/infra/strictjson"
)

// The columns of a CSV file and the members of a line of NDJSON.
const (
	firstName   = "first_name"
	lastName    = "last_name"
	email       = "email"
	role        = "role"
	allowErased = "allow_erased"
)

// read is a row as it was parsed: a user, or the reason for refusing it.
type read struct {
	Row
	person      user.New
	allowErased bool
}

// source parses rows one after the other.
type source interface {
	// next returns the next row, io.EOF after the last one, or a fault if the rest cannot be
	// parsed.
	next() (read, error)
}

// open starts to parse a file. Fault: MalformedRequest.
func open(format Format, body io.Reader) (source, error) {
	if format == NDJSON {
		return &lines{in: bufio.NewReaderSize(withoutMark(body), maxRowBytes)}, nil
	}
	return newTable(body)
}

// withoutMark skips a byte order mark.
func withoutMark(body io.Reader) io.Reader {
	in := bufio.NewReaderSize(body, readAhead)
	if start, err := in.Peek(3); err == nil && string(start) == "\ufeff" {
		_, _ = in.Discard(3) // just peeked
	}
	return in
}

// unreadable is the fault of a file that was cut off. Faults of the operation, such as a body that
// is too large, pass unchanged.
func unreadable(err error) error {
	var known *fault.Fault
	if errors.As(err, &known) {
		return err
	}
	return fault.Because(err, fault.MalformedRequest, "The body could not be read to its end.")
}

// table is a CSV file.
type table struct {
	in      *csv.Reader
	bytes   *bounded
	columns []string
	number  int
}

func newTable(body io.Reader) (*table, error) {
	t := &table{bytes: &bounded{in: body, until: readAhead + maxRowBytes}}
	t.in = csv.NewReader(withoutMark(t.bytes))
	t.in.FieldsPerRecord, t.in.ReuseRecord = -1, true
	header, err := t.in.Read()
	switch {
	case errors.Is(err, io.EOF):
		return nil, fault.New(fault.MalformedRequest, "The file is empty. It begins with a row that names its columns.")
	case err != nil:
		return nil, t.fatal(err)
	}
	refused := fault.New(
		fault.MalformedRequest,
		"The first row does not name the columns: first_name, last_name and email, and if wanted role and allow_erased, with commas between them.",
	)
	for i, name := range header {
		at := "/" + strconv.Itoa(i)
		if !slices.Contains([]string{firstName, lastName, email, role, allowErased}, name) {
			refused.At(at, "is not the name of a column")
		} else if slices.Contains(header[:i], name) {
			refused.At(at, "is there twice")
		}
		if len(refused.Members) == 10 {
			return nil, refused
		}
	}
	for _, name := range []string{firstName, lastName, email} {
		if !slices.Contains(header, name) {
			refused.At("/"+name, "is missing")
		}
	}
	if len(refused.Members) > 0 {
		return nil, refused
	}
	t.columns = slices.Clone(header)
	return t, nil
}

// fatal returns the fault that ends parsing.
func (t *table) fatal(err error) error {
	var wrong *csv.ParseError
	switch {
	case errors.As(err, &wrong):
		return fault.New(
			fault.MalformedRequest,
			fmt.Sprintf("A quote on line %d is not closed, so it cannot be told where the row ends.", wrong.StartLine),
		)
	case errors.Is(err, errTooLong):
		return fault.New(
			fault.MalformedRequest,
			"A row is longer than 64 KiB, or a quote is not closed, so it cannot be told where the row ends.",
		)
	}
	return unreadable(err)
}

func (t *table) next() (read, error) {
	t.bytes.until = t.in.InputOffset() + readAhead + maxRowBytes
	fields, err := t.in.Read()
	if errors.Is(err, io.EOF) {
		return read{}, io.EOF
	}
	t.number++
	row := read{Row: Row{Number: t.number}}
	var wrong *csv.ParseError
	switch {
	case errors.As(err, &wrong) && wrong.StartLine == wrong.Line:
		row.Line = wrong.StartLine
		row.refuse(badQuote, "")
		return row, nil
	case err != nil:
		return read{}, t.fatal(err)
	}
	row.Line, _ = t.in.FieldPos(0)
	if len(fields) != len(t.columns) {
		row.refuse(wrongFieldCount, "")
		return row, nil
	}
	for i, name := range t.columns {
		row.set(name, fields[i])
	}
	row.complete()
	return row, nil
}

// set assigns a column. The first of several faults counts.
func (r *read) set(name, text string) {
	if !utf8.ValidString(text) {
		r.wrong(notUTF8, "/"+name)
		return
	}
	switch name {
	case firstName:
		r.person.FirstName = text
	case lastName:
		r.person.LastName = text
	case email:
		r.person.Email = text
	case role:
		r.person.Role = principal.Role(text)
		if text != "" && r.person.Role != principal.Administrator && r.person.Role != principal.User {
			r.wrong(unknownRole, "/role")
		}
	case allowErased:
		r.allowErased = text == "true"
		if text != "" && text != "true" && text != "false" {
			r.wrong(wrongType, "/allow_erased")
		}
	}
}

func (r *read) wrong(reason Reason, pointer string) {
	if r.Status != Refused {
		r.refuse(reason, pointer)
	}
}

// complete refuses a row that lacks a column.
func (r *read) complete() {
	for _, one := range []struct{ name, text string }{{firstName, r.person.FirstName}, {lastName, r.person.LastName}, {email, r.person.Email}} {
		if one.text == "" {
			r.wrong(missing, "/"+one.name)
		}
	}
}

// readAhead is the size of the read buffer in bytes.
const readAhead = 4 << 10

// bounded fails when a row would be too long, including what is buffered.
type bounded struct {
	in          io.Reader
	seen, until int64
}

var errTooLong = errors.New("userimport: a row is too long")

func (b *bounded) Read(p []byte) (int, error) {
	if b.seen >= b.until {
		return 0, errTooLong
	}
	n, err := b.in.Read(p[:min(int64(len(p)), b.until-b.seen)])
	b.seen += int64(n)
	return n, err
}

// lines is an NDJSON file.
type lines struct {
	in           *bufio.Reader
	number, line int
}

func (l *lines) next() (read, error) {
	for {
		text, err := l.in.ReadSlice('\n')
		l.line++
		long := errors.Is(err, bufio.ErrBufferFull)
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = l.in.ReadSlice('\n')
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return read{}, unreadable(err)
		}
		if blank := len(bytes.TrimSpace(text)) == 0 && !long; blank && err == nil {
			continue
		} else if blank {
			return read{}, io.EOF
		}
		l.number++
		row := read{Row: Row{Number: l.number, Line: l.line}}
		if long {
			row.refuse(tooLong, "")
		} else {
			row.decode(text)
		}
		return row, nil
	}
}

func (r *read) decode(text []byte) {
	document, violation := strictjson.Decode(bytes.TrimSpace(text))
	members, isObject := document.Value.(map[string]any)
	if violation != nil || !isObject {
		r.refuse(notJSON, "")
		return
	}
	known := 0
	for _, name := range []string{firstName, lastName, email, role, allowErased} {
		member, given := members[name]
		if !given {
			continue
		}
		known++
		switch value := member.(type) {
		case bool:
			if name != allowErased {
				r.wrong(wrongType, "/"+name)
			}
			r.allowErased = value
		case string:
			if name == allowErased {
				r.wrong(wrongType, "/"+name)
			} else {
				r.set(name, value)
			}
		default:
			r.wrong(wrongType, "/"+name)
		}
	}
	if known < len(members) {
		r.refuse(unknownMember, "")
	}
	r.complete()
}
