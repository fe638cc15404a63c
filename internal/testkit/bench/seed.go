package bench

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/base/sensitive"
)

// Population is how many rows Seed makes for a customer.
type Population struct {
	Users   int
	Entries int // of the audit trail, by actors among the users
}

// firstNames and lastNames combine to people who do not exist. The number behind makes each
// one different.
var (
	firstNames = []string{
		"Ada",
		"Bo",
		"Chidi",
		"Dilnoza",
		"Eun-ji",
		"Fatima",
		"Gwen",
		"Hiro",
		"Ines",
		"Jörg",
		"Kwame",
		"Lena",
		"Mateo",
		"Noor",
		"Olu",
		"Priya",
	}
	lastNames = []string{
		"Adeyemi",
		"Bjørnsen",
		"Costa",
		"Dubois",
		"Eriksson",
		"Fischer",
		"García",
		"Haddad",
		"Ivanova",
		"Jansen",
		"Kowalski",
		"Lindqvist",
	}
	// actions are distributed unevenly, as in life: the first is that of half of the entries.
	actions = []string{
		"product.updated",
		"product.updated",
		"product.updated",
		"product.updated",
		"product.published",
		"product.created",
		"price.approved",
		"asset.uploaded",
	}
)

// Seed puts people and entries of the trail into a customer, past the service, and returns the ids
// of the people. The server's statistics are brought up to date. The connection must be a
// superuser's.
func Seed(
	ctx context.Context,
	superuser sensitive.String,
	customer id.Customer,
	population Population,
) (users []id.User, err error) {
	conn, err := pgx.Connect(ctx, superuser.Reveal())
	if err != nil {
		// the library's error repeats the string
		return nil, errors.New("bench: the superuser cannot connect")
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	// The rows are right by construction; the checks of half a million foreign keys would be most
	// of the time.
	if _, err := conn.Exec(ctx, "set session_replication_role = replica"); err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	began := time.Now().UTC().Truncate(time.Microsecond).Add(-time.Hour)
	people := make([][]any, population.Users)
	for i := range people {
		user := id.New[id.User]()
		users = append(users, user)
		first, last := firstNames[i%len(firstNames)], fmt.Sprint(lastNames[i/len(firstNames)%len(lastNames)], i)
		address := fmt.Sprintf("person%d@people.example", i)
		status, role := "active", "user"
		if i%50 == 0 {
			status = "disabled"
		}
		if i%100 == 1 {
			role = "customer"
		}
		people[i] = []any{
			customer.UUID,
			user.UUID,
			role,
			status,
			first,
			last,
			address,
			strings.ToLower(first),
			strings.ToLower(last),
			address,
			true,
			"creation",
			began,
			began,
			began,
			1,
			began,
			began,
		}
	}
	_, err = conn.CopyFrom(ctx, pgx.Identifier{"users"}, []string{
		"customer_id",
		"id",
		"role",
		"status",
		"first_name",
		"last_name",
		"email",
		"first_name_key",
		"last_name_key",
		"email_key",
		"alerts_opted_in",
		"alerts_set_by",
		"alerts_set_at",
		"sessions_since",
		"links_since",
		"version",
		"created_at",
		"updated_at",
	}, pgx.CopyFromRows(people))
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	if err := copyEntries(ctx, conn, customer, users, population.Entries, began); err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	_, err = conn.Exec(ctx, "vacuum (analyze) users, audit_entries")
	return users, err
}

// copyEntries takes the indexes away and makes them again from all rows at once, which is several
// times faster than row by row.
func copyEntries(
	ctx context.Context,
	conn *pgx.Conn,
	customer id.Customer,
	users []id.User,
	count int,
	began time.Time,
) error {
	rows, err := conn.Query(
		ctx,
		"select indexname, indexdef from pg_indexes where tablename = 'audit_entries' and indexname <> 'audit_entries_pkey'",
	)
	if err != nil {
		return err
	}
	indexes, err := pgx.CollectRows(rows, pgx.RowToStructByPos[struct{ Name, Definition string }])
	if err != nil {
		return err
	}
	for _, index := range indexes {
		if _, err := conn.Exec(ctx, "drop index "+pgx.Identifier{index.Name}.Sanitize()); err != nil {
			return err
		}
	}
	_, err = conn.CopyFrom(ctx, pgx.Identifier{"audit_entries"}, []string{
		"customer_id",
		"id",
		"source",
		"source_id",
		"actor_type",
		"actor_user_id",
		"action",
		"target_type",
		"target_id",
		"changed",
		"details",
		"occurred_at",
		"recorded_at",
	}, pgx.CopyFromSlice(count, func(i int) ([]any, error) {
		entry := id.New[id.Entry]()
		at := began.Add(time.Duration(i) * time.Millisecond)
		return []any{
			customer.UUID,
			entry.UUID,
			"integration",
			"seed-" + entry.String(),
			"user",
			users[i*7919%len(users)].UUID,
			actions[i%len(actions)],
			"product",
			fmt.Sprint(48000000 + i%5000),
			[]string{},
			`{"changed": ["price", "stock"], "revision": 7}`,
			at,
			at,
		}, nil
	}))
	for _, index := range indexes {
		if _, failed := conn.Exec(ctx, index.Definition); failed != nil {
			err = errors.Join(err, failed)
		}
	}
	return err
}
