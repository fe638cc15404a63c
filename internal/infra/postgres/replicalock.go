package postgres

import (
	"context"
	"database/sql"
	"sync"
)

// ReplicaLock tells the other replicas that one is at work on this very database: a copy of it, such as one restored from a backup, has nobody. It ends with the process,
// however that ends.
type ReplicaLock struct {
	handle *sql.DB
	mu     sync.Mutex
	conn   *sql.Conn // nil: lost
}

// HoldReplicaLock holds the lock of running replicas until Close.
func (db *DB) HoldReplicaLock(ctx context.Context) (*ReplicaLock, error) {
	one, err := openPool(db.url, platformRole, 1, db.clock, db.log)
	if err != nil {
		return nil, err
	}
	p := &ReplicaLock{handle: one.sql}
	return p, p.Keep(ctx)
}

// Keep makes sure of being present still, and is present again when the connection was lost.
func (p *ReplicaLock) Keep(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conn != nil {
		if p.conn.PingContext(ctx) == nil {
			return nil
		}
		_ = p.conn.Close() // broken
		p.conn = nil
	}
	conn, err := p.handle.Conn(ctx)
	if err != nil {
		return translate(err)
	}
	if _, err := conn.ExecContext(ctx, "select pg_advisory_lock_shared($1)", int64(LockReplicas)); err != nil {
		_ = conn.Close() // of no use
		return translate(err)
	}
	p.conn = conn
	return nil
}

// Close is present no more.
func (p *ReplicaLock) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conn != nil {
		_ = p.conn.Close() // goes back to the pool, which is closed
		p.conn = nil
	}
	return p.handle.Close()
}

// NoOtherReplica reports whether no replica runs on this database, and keeps it so until the transaction ends.
func NoOtherReplica(tx *Tx) (alone bool, err error) {
	return tx.TryAcquire(LockReplicas)
}
