package inventory

import (
	"fmt"
	"io"
	"strings"
)

const preface = `# Data inventory

Where data is stored, and how it leaves. ` + "`steward inventory`" + ` prints this page from the
declarations that erasure, bundles, the end of a contract, the sweep, backups and restores work
by; ` + "`make generate`" + ` writes it, and a test compares the declarations with the database. Change
a declaration, not this page.

The personal columns are those whose comment in the database begins with ` + "`personal`" + `. "Person"
is what an erasure of a person does, "customer" what the end of a customer's contract does.
`

// Markdown writes the page that people read about the stores.
func Markdown[DB, Tx any](w io.Writer, stores []Store[DB, Tx]) error {
	var page strings.Builder
	page.WriteString(preface)
	for _, part := range []struct {
		whose Whose
		title string
	}{
		{OfPeople, "Stores that hold something of people"},
		{OfCustomers, "Other stores of customers"},
		{OfService, "Stores of the service itself"},
	} {
		fmt.Fprintf(&page, "\n## %s\n\n| store | what | personal columns | kept | person | customer | backups | owner |\n"+
			"| --- | --- | --- | --- | --- | --- | --- | --- |\n", part.title)
		for _, store := range stores {
			if store.Whose != part.whose {
				continue
			}
			fmt.Fprintf(&page, "| `%s` | %s. %s | %s | %s | %s | %s | %s | %s |\n", store.Name(), store.Title, store.Purpose,
				store.personalWords(), store.Keep.Words, store.eraseWords(), store.leaveWords(), store.restoreWords(), store.Owner)
		}
	}
	_, err := io.WriteString(w, page.String())
	return err
}

func (s Store[DB, Tx]) personalWords() string {
	var names []string
	for _, columns := range s.Columns {
		if columns.Class == ClassPersonal {
			names = append(names, columns.Names...)
		}
	}
	return strings.Join(names, ", ")
}

func (s Store[DB, Tx]) eraseWords() string {
	switch s.Erase.How {
	case Delete:
		return "deleted"
	case Null:
		return "emptied of the person"
	case Kept:
		return "kept: " + s.Erase.Why
	}
	return ""
}

func (s Store[DB, Tx]) leaveWords() string {
	switch {
	case s.Whose == OfService:
		return ""
	case s.Leave.Stays != "":
		return "stays: " + s.Leave.Stays
	}
	return "deleted"
}

func (s Store[DB, Tx]) restoreWords() string {
	var words []string
	switch {
	case s.Restore.Unsaved:
		words = append(words, "left out")
	case s.Table != "":
		words = append(words, "saved")
	}
	if s.Restore.Dropped {
		words = append(words, "dropped after a restore")
	}
	return strings.Join(words, ", ")
}
