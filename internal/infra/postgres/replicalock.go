package postgres

import (
	"context"
	"database/sql"
	"sync"
)

// ReplicaLock shows other replicas that this one runs on this very database: a copy, such as one
// restored from a backup, has no replicas. It ends with the process, however that ends.
type ReplicaLock struct {
	handle *sql.DB
	mu     sync.Mutex
	conn   *sql.Conn // nil: lost
}

// HoldReplicaLock holds the lock of running replicas until Close.
func (db *DB) HoldReplicaLock(ctx context.Context) (*ReplicaLock, error) {
	pool, err := openPool(db.url, platformRole, 1, nil, db.clock, db.log)
	if err != nil {
		return nil, err
	}
	l := &ReplicaLock{handle: pool.sql}
	return l, l.Keep(ctx)
}

// Keep checks that the lock is held, and acquires it again when its connection was lost.
func (l *ReplicaLock) Keep(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn != nil {
		if l.conn.PingContext(ctx) == nil {
			return nil
		}
		_ = l.conn.Close() // broken
		l.conn = nil
	}
	conn, err := l.handle.Conn(ctx)
	if err != nil {
		return translate(err)
	}
	if _, err := conn.ExecContext(ctx, "select pg_advisory_lock_shared($1)", int64(LockReplicas)); err != nil {
		_ = conn.Close() // of no use
		return translate(err)
	}
	l.conn = conn
	return nil
}

// Close releases the lock.
func (l *ReplicaLock) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn != nil {
		_ = l.conn.Close() // goes back to the pool, which is closed
		l.conn = nil
	}
	return l.handle.Close()
}

// NoOtherReplica reports whether no replica runs on this database, and keeps it so until the
// transaction ends.
func NoOtherReplica(tx *Tx) (alone bool, err error) {
	return tx.TryAcquire(LockReplicas)
}
