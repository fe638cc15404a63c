package ratelimit

import (
	"time"

	"github.com/fusionspim/steward/internal/infra/postgres"
)

// read returns the time until which each counter has run ahead; the zero time for an empty one.
func read(tx *postgres.Tx, keys [][]byte) ([]time.Time, error) {
	until := make([]time.Time, len(keys))
	for i, key := range keys {
		// A statement per key: each is found in the primary key, and its plan is cached.
		found, err := postgres.Column[time.Time](tx, "select until from attempt_limits where key = $1", key)
		if err != nil {
			return nil, err
		}
		if len(found) == 1 {
			until[i] = found[0]
		}
	}
	return until, nil
}

func count(tx *postgres.Tx, key []byte, every time.Duration) error {
	_, err := tx.Exec(`
		insert into attempt_limits (until, key)
		values (@now::timestamptz + @every::bigint * interval '1 microsecond', @key)
		on conflict (key) do update set
			until = greatest(attempt_limits.until, @now::timestamptz) + @every::bigint * interval '1 microsecond'`,
		postgres.Args{"now": tx.Now, "every": every.Microseconds(), "key": key})
	return err
}

// acquire counts one event in the same statement that checks for room: the row is locked in
// between.
func acquire(tx *postgres.Tx, key []byte, limit Limit) (bool, error) {
	affected, err := tx.Exec(`
		insert into attempt_limits (until, key)
		values (@now::timestamptz + @every::bigint * interval '1 microsecond', @key)
		on conflict (key) do update set
			until = greatest(attempt_limits.until, @now::timestamptz) + @every::bigint * interval '1 microsecond'
		where attempt_limits.until <= @latest::timestamptz`,
		postgres.Args{
			"now": tx.Now, "every": limit.Every.Microseconds(), "key": key,
			"latest": tx.Now.Add(time.Duration(limit.Burst-1) * limit.Every),
		})
	return affected == 1, err
}

// expire deletes counters that are empty.
func expire(tx *postgres.Tx, now time.Time, limit int) (int64, error) {
	return tx.Exec(`
		delete from attempt_limits
		where key in (select key from attempt_limits where until < $1 limit $2)`, now, limit)
}
