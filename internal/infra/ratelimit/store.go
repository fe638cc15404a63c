package ratelimit

import (
	"time"

	"github.com/fusionspim/steward/internal/infra/postgres"
)

// read returns how far each counter has run ahead; the zero time for one that is empty.
func read(tx *postgres.Tx, keys [][]byte) ([]time.Time, error) {
	until := make([]time.Time, len(keys))
	for i, key := range keys {
		rows, err := tx.Raw("select until from attempt_limits where key = ?", key).Rows()
		if err != nil {
			return nil, err
		}
		for rows.Next() {
			if err := rows.Scan(&until[i]); err != nil {
				_ = rows.Close() // the scan's error is the one to tell
				return nil, err
			}
		}
		if err := rows.Close(); err != nil {
			return nil, err
		}
	}
	return until, nil
}

func count(tx *postgres.Tx, key []byte, every time.Duration) error {
	return tx.ORM().Exec(`
		insert into attempt_limits (until, key) values (?::timestamptz + ? * interval '1 microsecond', ?)
		on conflict (key) do update set until = greatest(attempt_limits.until, ?::timestamptz) + ? * interval '1 microsecond'`,
		tx.Now, every.Microseconds(), key, tx.Now, every.Microseconds()).Error
}

// take counts one in the same statement that looks whether there is room: the row is locked in between.
func take(tx *postgres.Tx, key []byte, limit Limit) (bool, error) {
	done := tx.ORM().Exec(`
		insert into attempt_limits (until, key) values (?::timestamptz + ? * interval '1 microsecond', ?)
		on conflict (key) do update set until = greatest(attempt_limits.until, ?::timestamptz) + ? * interval '1 microsecond'
		where attempt_limits.until <= ?::timestamptz`,
		tx.Now, limit.Every.Microseconds(), key, tx.Now, limit.Every.Microseconds(), tx.Now.Add(time.Duration(limit.Burst-1)*limit.Every))
	return done.RowsAffected == 1, done.Error
}

func expire(tx *postgres.Tx, now time.Time, limit int) (int64, error) {
	done := tx.ORM().Exec("delete from attempt_limits where key in (select key from attempt_limits where until < ? limit ?)", now, limit)
	return done.RowsAffected, done.Error
}
