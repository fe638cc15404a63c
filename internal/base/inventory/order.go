package inventory

import (
	"cmp"
	"slices"
)

// ForErasure lists the stores from which an erasure removes something by itself, in an order in
// which it can: a table that points at another whose rows go comes before it. The rest keep
// their order.
func ForErasure[DB, Tx any](stores []Store[DB, Tx]) []Store[DB, Tx] {
	return childrenFirst(filter(stores, func(s Store[DB, Tx]) bool {
		return (s.Erase.How == Delete || s.Erase.How == Null) && s.Erase.With == ""
	}), func(s Store[DB, Tx]) bool { return s.Erase.How == Delete })
}

// ForPeople lists the stores that hold something of people, as a person's bundle shows them.
func ForPeople[DB, Tx any](stores []Store[DB, Tx]) []Store[DB, Tx] {
	return filter(stores, func(s Store[DB, Tx]) bool { return s.Table != "" && s.Whose == OfPeople })
}

// ForLeaving lists the tables from which the end of a customer deletes, in an order in which
// they can be emptied: what points at another comes before it.
func ForLeaving[DB, Tx any](stores []Store[DB, Tx]) []Store[DB, Tx] {
	ordered := childrenFirst(filter(stores, Store[DB, Tx].Deletes), func(Store[DB, Tx]) bool { return true })
	slices.SortStableFunc(ordered, func(a, b Store[DB, Tx]) int { return cmp.Compare(a.Leave.Order, b.Leave.Order) })
	return ordered
}

// ForSweeping lists the stores with sweeps, in an order in which they can run.
func ForSweeping[DB, Tx any](stores []Store[DB, Tx]) []Store[DB, Tx] {
	return childrenFirst(filter(stores, func(s Store[DB, Tx]) bool { return len(s.Keep.Sweeps) > 0 }),
		func(Store[DB, Tx]) bool { return true })
}

// ForDropping lists the stores of which a restore drops what the database came back with.
func ForDropping[DB, Tx any](stores []Store[DB, Tx]) []Store[DB, Tx] {
	return filter(stores, func(s Store[DB, Tx]) bool { return s.Restore.Dropped })
}

// Vacuumed lists the tables in which an erasure leaves dead rows of people: those with a personal
// column, and those from which it removes something.
func Vacuumed[DB, Tx any](stores []Store[DB, Tx]) []string {
	return tables(stores, func(s Store[DB, Tx]) bool {
		return s.IsPersonal() || s.Erase.How == Delete || s.Erase.How == Null || s.Erase.Vacuum
	})
}

// VacuumedAfterLeaving lists the tables in which the end of a customer leaves dead rows.
func VacuumedAfterLeaving[DB, Tx any](stores []Store[DB, Tx]) []string {
	return tables(stores, Store[DB, Tx].Deletes)
}

// Unsaved lists the tables whose rows are in no backup, with their schema.
func Unsaved[DB, Tx any](stores []Store[DB, Tx]) []string {
	return tables(stores, func(s Store[DB, Tx]) bool { return s.Restore.Unsaved })
}

// Find returns the store of a table. It panics where there is none: the names are constants.
func Find[DB, Tx any](stores []Store[DB, Tx], table string) Store[DB, Tx] {
	at := slices.IndexFunc(stores, func(s Store[DB, Tx]) bool { return s.Table == table })
	if at < 0 {
		panic("inventory: there is no store " + table)
	}
	return stores[at]
}

func filter[T any](all []T, keep func(T) bool) (some []T) {
	for _, element := range all {
		if keep(element) {
			some = append(some, element)
		}
	}
	return some
}

func tables[DB, Tx any](stores []Store[DB, Tx], has func(Store[DB, Tx]) bool) (names []string) {
	for _, store := range filter(stores, has) {
		if store.Table != "" {
			names = append(names, store.Table)
		}
	}
	slices.Sort(names)
	return names
}

// childrenFirst orders the stores so that what points at another comes before it, where the
// other counts as a parent. Otherwise it keeps their order. Foreign keys that go round in a
// circle would leave stores over; they keep their order behind all others, and the test of the
// catalogue fails.
func childrenFirst[DB, Tx any](stores []Store[DB, Tx], isParent func(Store[DB, Tx]) bool) (ordered []Store[DB, Tx]) {
	rest := slices.Clone(stores)
	for len(rest) > 0 {
		at := slices.IndexFunc(rest, func(parent Store[DB, Tx]) bool {
			return !isParent(parent) || !slices.ContainsFunc(rest, func(child Store[DB, Tx]) bool {
				return child.Table != parent.Table && slices.Contains(child.Refers, parent.Table)
			})
		})
		at = max(at, 0)
		ordered = append(ordered, rest[at])
		rest = slices.Delete(rest, at, at+1)
	}
	return ordered
}
