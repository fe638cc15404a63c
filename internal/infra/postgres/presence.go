package postgres

import (
	"context"
	"database/sql"
	"sync"
)

// presenceLock is the advisory lock that every replica at work shares. The number is arbitrary; it names the lock in the database.
const presenceLock = 7238160059

// Presence tells the other replicas that one is at work on this very database: a copy of it, such as one restored from a backup, has nobody. It ends with the process,
// however that ends.
type Presence struct {
	handle *sql.DB
	mu     sync.Mutex
	conn   *sql.Conn // nil: lost
}

// Attend is present until Close.
func (db *DB) Attend(ctx context.Context) (*Presence, error) {
	one, err := openPool(db.url, platformRole, 1, db.clock, db.log)
	if err != nil {
		return nil, err
	}
	p := &Presence{handle: one.sql}
	return p, p.Keep(ctx)
}

// Keep makes sure of being present still, and is present again when the connection was lost.
func (p *Presence) Keep(ctx context.Context) error {
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
	if _, err := conn.ExecContext(ctx, "select pg_advisory_lock_shared($1)", presenceLock); err != nil {
		_ = conn.Close() // of no use
		return translate(err)
	}
	p.conn = conn
	return nil
}

// Close is present no more.
func (p *Presence) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conn != nil {
		_ = p.conn.Close() // goes back to the pool, which is closed
		p.conn = nil
	}
	return p.handle.Close()
}

// Alone tells whether no replica is present, and keeps it so until the transaction ends.
func Alone(tx *Tx) (alone bool, err error) {
	err = tx.ORM().Raw("select pg_try_advisory_xact_lock(?)", presenceLock).Row().Scan(&alone)
	return alone, err
}
