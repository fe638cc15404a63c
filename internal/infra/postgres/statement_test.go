package postgres_test

import (
	"database/sql"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/testkit/dbtest"
)

func TestArgumentsOfStatements(t *testing.T) {
	t.Parallel()
	db := dbtest.New(t).DB
	err := db.InCustomerAutocommit(t.Context(), id.New[id.Customer](), func(tx *postgres.Tx) error {
		var text string
		for range 2 { // the second time from memory
			err := tx.QueryRow("select @a::text || '@b' || @b::text || @a::text", postgres.Args{"a": "x", "b": "y"}).Scan(&text)
			if err != nil || text != "x@byx" {
				t.Errorf("named: %q, %v", text, err)
			}
		}
		if err := tx.QueryRow("select $2::text || $1::text", "x", "y").Scan(&text); err != nil || text != "yx" {
			t.Errorf("positional: %q, %v", text, err)
		}
		numbers, err := postgres.Column[int64](tx, "select n from unnest(@n::bigint[]) as n order by n", postgres.Replan,
			postgres.Args{"n": []int64{3, 1, 2}})
		if err != nil || !slices.Equal(numbers, []int64{1, 2, 3}) {
			t.Errorf("an array: %v, %v", numbers, err)
		}
		if none, err := postgres.Column[int64](tx, "select 1 where false"); err != nil || none != nil {
			t.Errorf("no rows: %v, %v", none, err)
		}
		if err := tx.QueryRow("select 1 where false").Scan(&text); !errors.Is(err, sql.ErrNoRows) {
			t.Errorf("no row: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestAStatementWithOtherArgumentsThanItNamesIsRefused(t *testing.T) {
	t.Parallel()
	db := dbtest.New(t).DB
	err := db.InCustomerAutocommit(t.Context(), id.New[id.Customer](), func(tx *postgres.Tx) error {
		for name, args := range map[string]postgres.Args{
			"one is missing":     {"a": 1},
			"one is too many":    {"a": 1, "b": 2, "c": 3},
			"one is another one": {"a": 1, "c": 3},
			"none is given":      {},
		} {
			for range 2 {
				var sum int64
				err := tx.QueryRow("select @a::bigint + @b::bigint", args).Scan(&sum)
				if err == nil || !strings.HasPrefix(err.Error(), "postgres: ") {
					t.Errorf("%s: %v", name, err)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
