// Package inventory has the one type in which each store of data is declared: what it holds of
// whom, for how long, and how it goes.
//
// Owns: the type, the closed words in it, the order in which stores can be emptied, and the
// table that people read (docs/data-inventory.md).
// Does not own: the declarations (each stands beside the owner of its store, in a file
// inventory.go) and what is done with them (user, subjectrequest, offboarding, replay, backup,
// receipt, app).
//
// A table, a prefix of the object store, or any other place where the service keeps something is
// declared once. Erasure, its plan and its receipt, the bundle of a person and of a customer,
// the end of a contract, the sweep of what is past its time, backups, restores, the vacuum and
// the documentation all read the collected list (app.Stores) and have none of their own. A test
// compares the list with the database's catalogue in both directions: tables, columns and their
// classes, keys, policies and grants.
//
// A new table with a personal column takes:
//
//  1. One migration: the table with a comment, each column with its class as the first word of
//     its comment, row security with the policies of its kind, the grants, and "set statistics
//     0" on what is personal. The test of the catalogue names whatever is missing.
//  2. One declaration: a Store in the owner's Stores. Where the owner is a new package, its
//     Stores stand in app.Stores. Then "make generate" writes docs/data-inventory.md.
//  3. The contract, if a path shows it, and a mention in openapi.yaml if plans and receipts name
//     it.
//
// Statements in declarations take the arguments @customer, a uuid, and @people, an array of
// them; the rows of the table are called t. See PersonIn for the usual case.
package inventory

import (
	"context"
	"slices"
	"time"

	"github.com/fusionspim/steward/internal/base/id"
)

// Store is one place where data is kept. Exactly one of Table, Objects and Other names it. DB
// and Tx are the database and a transaction of it; postgres.Store is this type with both.
type Store[DB, Tx any] struct {
	Owner string // the package, below internal/, that declares it; From sets it

	Table   string // its name, with its schema where that is not public
	Objects string // the prefix of the names of objects; it may end with EachCustomer
	Other   string // a place that is neither, in a word or two

	Title   string // what it is, for people
	Purpose string // what it is for, in a sentence
	Whose   Whose

	Person  Person    // which rows are a person's; only where Whose is Person
	Columns []Columns // all of them, in the order in which bundles show them
	Derived []Derived // what a person's bundle shows beside columns
	Key     []string  // of the primary key, what follows the customer
	Refers  []string  // the tables that its foreign keys point at
	Access  Access

	// Elsewhere is for a place where it cannot be told what is whose: a sentence about it for the
	// bundle of a person.
	Elsewhere string

	Keep    Retention[Tx]
	Erase   Erasure[Tx]
	Leave   Leaving
	Restore Restore[DB]
}

// EachCustomer stands at the end of Objects where each customer has a folder: the end of the
// customer deletes it.
const EachCustomer = "{customer}/"

// Whose says whose rows a store holds. The set is closed.
type Whose string

// The kinds of stores. A person's rows are also rows of the person's customer.
const (
	OfPeople    Whose = "people"
	OfCustomers Whose = "customers"
	OfService   Whose = "service" // of nobody; or of all customers and sealed, as backups are
)

// Person says which rows of a table are a person's.
type Person struct {
	Where string // a condition on t; empty: it cannot be told which rows are whose
	Owner string // an expression on t that gives the person's id; needed to delete rows
}

// PersonIn is the usual Person: a column of the table has the person's id.
func PersonIn(column string) Person {
	return Person{Where: "t." + column + " = any (@people)", Owner: "t." + column}
}

// Class says what a column holds. It is the first word of the column's comment in the database.
type Class string

// The classes. The first migration says what each means.
const (
	ClassID       Class = "id"
	ClassState    Class = "state"
	ClassTime     Class = "time"
	ClassSetting  Class = "setting"
	ClassPersonal Class = "personal"
	ClassSecret   Class = "secret"
)

// Classes lists every class.
func Classes() []Class {
	return []Class{ClassID, ClassState, ClassTime, ClassSetting, ClassPersonal, ClassSecret}
}

// Columns are columns of one class that are shown, or withheld, alike.
type Columns struct {
	Class        Class
	Names        []string
	FromPerson   Why // why a person's bundle withholds them; empty: it shows them
	FromCustomer Why // the same for the bundle that a customer gets at the end
}

// ID declares identifiers.
func ID(names ...string) Columns { return Columns{Class: ClassID, Names: names} }

// State declares closed words, numbers, versions and flags.
func State(names ...string) Columns { return Columns{Class: ClassState, Names: names} }

// Time declares moments.
func Time(names ...string) Columns { return Columns{Class: ClassTime, Names: names} }

// Setting declares what a customer chose.
func Setting(names ...string) Columns { return Columns{Class: ClassSetting, Names: names} }

// Personal declares what is about a person.
func Personal(names ...string) Columns { return Columns{Class: ClassPersonal, Names: names} }

// Secret declares keys and hashes of keys that are not about a person.
func Secret(names ...string) Columns { return Columns{Class: ClassSecret, Names: names} }

// Withhold returns the columns as ones that no bundle shows.
func (c Columns) Withhold(why Why) Columns {
	c.FromPerson, c.FromCustomer = why, why
	return c
}

// WithholdFromPerson returns the columns as ones that a person's bundle does not show.
func (c Columns) WithholdFromPerson(why Why) Columns {
	c.FromPerson = why
	return c
}

// WithholdFromCustomer returns the columns as ones that a customer's bundle does not show.
func (c Columns) WithholdFromCustomer(why Why) Columns {
	c.FromCustomer = why
	return c
}

// Withheld is a column that is held and not shown.
type Withheld struct {
	Column string
	Why    Why
}

// Derived is a member of a person's bundle that is computed from columns which are withheld.
type Derived struct {
	Name       string
	Expression string // on t, with @people
}

// Access is what the roles of the service may do with a table: verbs of SQL with a blank between
// them, in the order select, insert, update, delete. A right on some columns counts.
type Access struct {
	App        string // steward_app, inside a customer
	Platform   string // steward_platform, outside customers
	Worker     string // steward_worker, which works jobs
	Offboarder string // steward_offboarder; empty: select and delete where the end of a customer deletes
}

// Retention is how long a store keeps what it holds. The class of retention (the basis in law,
// and when the period was last reviewed) is to be declared here too, once there are such
// classes.
type Retention[Tx any] struct {
	After time.Duration // 0: no fixed period
	From  string        // the moment from which After counts, or a column
	Words string        // for people: how long in all

	Sweeps []Sweep[Tx] // what removes what is past its time, in this order
}

// Sweep removes at most limit rows that are past their time, for all customers, in a transaction
// outside customers. It returns how many; fewer than limit means that nothing is left.
type Sweep[Tx any] func(tx Tx, now time.Time, limit int) (int64, error)

// How says what an erasure does to a store. The set is closed.
type How string

// The ways of an erasure.
const (
	Untouched How = ""       // holds nothing of a person
	Delete    How = "delete" // the person's rows go
	Null      How = "null"   // the rows stay and lose what is about the person
	Kept      How = "keep"   // the rows stay as they are, for the reason given
)

// Erasure is what an erasure of a person does to a store.
type Erasure[Tx any] struct {
	How  How
	As   string // the store's name in plans and receipts; empty: the table's
	Why  string // it is kept: a word for plans and receipts
	With string // the table whose Remove does it too; it has no line of its own in plans and receipts

	Vacuum bool // its dead rows may say something of the person, though nothing here removes them

	// Count counts what is held of the person; nil: the rows that Person finds.
	Count func(tx Tx, person id.User) (int64, error)
	// Remove removes it, of all these people, and returns how much there was of each; nil: it
	// deletes the rows that Person finds.
	Remove func(tx Tx, people []id.User) (map[id.User]int64, error)
}

// Leaving is what the end of a customer does to a store that is not the service's own.
type Leaving struct {
	Stays  string // why the rows outlive the customer; empty: they are deleted
	As     string // the store's name in the count of what was deleted; empty: the table's
	Where  string // which rows are the customer's; empty: those with the customer's id. It needs Key
	Order  int    // deleted before those with a higher number; 0: where foreign keys put it
	NoCopy bool   // the bundle for the customer has no copy of it
}

// Restore is what the restore of a backup does to a store.
type Restore[DB any] struct {
	Unsaved bool   // backups leave the rows out, and a restore empties the table
	Dropped bool   // what a database came back with is dropped before the service opens
	As      string // the store's name in the list of what was dropped; empty: the table's
	// Drop does that and returns how much it was; nil: the sweeps, as if everything were past
	// its time.
	Drop func(ctx context.Context, db DB) (int64, error)
}

// From returns the stores as the owner's.
func From[DB, Tx any](owner string, stores []Store[DB, Tx]) []Store[DB, Tx] {
	owned := slices.Clone(stores)
	for i := range owned {
		owned[i].Owner = owner
	}
	return owned
}

// Name is what tells the store apart from all others.
func (s Store[DB, Tx]) Name() string {
	switch {
	case s.Table != "":
		return s.Table
	case s.Objects != "":
		return s.Objects
	}
	return s.Other
}

// ErasedAs is the store's name in plans and receipts.
func (s Store[DB, Tx]) ErasedAs() string { return or(s.Erase.As, s.Table) }

// LeftAs is the store's name in the count of what the end of a customer deleted.
func (s Store[DB, Tx]) LeftAs() string { return or(s.Leave.As, s.Table) }

// DroppedAs is the store's name in the list of what a restore dropped.
func (s Store[DB, Tx]) DroppedAs() string { return or(s.Restore.As, s.Table) }

// CustomerColumn is the column with the id of the customer whose row it is.
func (s Store[DB, Tx]) CustomerColumn() string {
	if s.Table == "customers" {
		return "id"
	}
	return "customer_id"
}

// IsPersonal reports whether the store has a personal column.
func (s Store[DB, Tx]) IsPersonal() bool {
	return slices.ContainsFunc(s.Columns, func(c Columns) bool { return c.Class == ClassPersonal })
}

// Deletes reports whether the end of a customer deletes rows of the store.
func (s Store[DB, Tx]) Deletes() bool {
	return s.Table != "" && s.Whose != OfService && s.Leave.Stays == ""
}

// ShownToPerson lists the columns that a person's bundle shows.
func (s Store[DB, Tx]) ShownToPerson() []string {
	return s.shown(func(c Columns) Why { return c.FromPerson })
}

// ShownToCustomer lists the columns that a customer's bundle shows.
func (s Store[DB, Tx]) ShownToCustomer() []string {
	return s.shown(func(c Columns) Why { return c.FromCustomer })
}

// WithheldFromPerson lists the columns that a person's bundle withholds.
func (s Store[DB, Tx]) WithheldFromPerson() []Withheld {
	return s.withheld(func(c Columns) Why { return c.FromPerson })
}

// WithheldFromCustomer lists the columns that a customer's bundle withholds.
func (s Store[DB, Tx]) WithheldFromCustomer() []Withheld {
	return s.withheld(func(c Columns) Why { return c.FromCustomer })
}

func (s Store[DB, Tx]) shown(why func(Columns) Why) (names []string) {
	for _, columns := range s.Columns {
		if why(columns) == "" {
			names = append(names, columns.Names...)
		}
	}
	return names
}

func (s Store[DB, Tx]) withheld(why func(Columns) Why) (all []Withheld) {
	for _, columns := range s.Columns {
		if why(columns) == "" {
			continue
		}
		for _, name := range columns.Names {
			all = append(all, Withheld{name, why(columns)})
		}
	}
	return all
}

func or(name, otherwise string) string {
	if name != "" {
		return name
	}
	return otherwise
}
