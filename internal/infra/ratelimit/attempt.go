// Package ratelimit slows guessers down.
//
// Owns: counters of failed attempts that all replicas share, and when the next attempt is let through.
// Does not own: what counts as a failure, and what is counted (session says both).
//
// Each counter is a generic cell rate algorithm (GCRA, as in ITU-T I.371): a burst is free, afterwards one more failure is let through each interval. A counter knows what it
// counts only as a keyed hash, so it holds nothing of an account or an address. Successes are not counted: whoever knows the password is never slowed down by using it.
package ratelimit

import (
	"context"
	"net/netip"
	"strings"
	"time"

	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/infra/seal"
)

// Limit is how much is let through.
type Limit struct {
	Burst int           // failures that are free
	Every time.Duration // one more is let through each
}

// Counter is one thing whose failures are counted.
type Counter struct {
	limit Limit
	what  string
	of    string
}

// Count makes a counter. What is a word of the caller's for the kind; of says which one.
func Count(what string, limit Limit, of ...string) Counter {
	return Counter{limit: limit, what: what, of: strings.Join(of, "\x00")}
}

// Network is the part of an address that one party can be expected to have: an IPv4 address, or the /64 of an IPv6 address.
func Network(address netip.Addr) string {
	address = address.Unmap()
	if address.Is6() {
		if network, err := address.Prefix(64); err == nil {
			return network.String()
		}
	}
	return address.String()
}

// Limiter keeps the counters. Safe for concurrent use.
type Limiter struct {
	db  *postgres.DB
	box *seal.Box
}

// NewLimiter makes a limiter.
func NewLimiter(db *postgres.DB, box *seal.Box) *Limiter { return &Limiter{db: db, box: box} }

func (l *Limiter) key(counter Counter) []byte {
	return l.box.MAC("attempt", []byte(counter.what), []byte(counter.of))
}

// Exhausted tells which of the counters let nothing through now, and how long to wait for the last of them.
func (l *Limiter) Exhausted(ctx context.Context, counters ...Counter) (exhausted []Counter, wait time.Duration, err error) {
	keys := make([][]byte, len(counters))
	for i, counter := range counters {
		keys[i] = l.key(counter)
	}
	var until []time.Time
	var now time.Time
	err = l.db.InPlatform(ctx, func(tx *postgres.Tx) error {
		now = tx.Now
		until, err = read(tx, keys)
		return err
	})
	if err != nil {
		return nil, 0, err
	}
	for i, counter := range counters {
		free := time.Duration(counter.limit.Burst) * counter.limit.Every
		if ahead := until[i].Sub(now); ahead > free-counter.limit.Every {
			exhausted = append(exhausted, counter)
			wait = max(wait, ahead-free+counter.limit.Every)
		}
	}
	return exhausted, wait, nil
}

// Refused is the fault of an attempt that is not let through.
func Refused(wait time.Duration) error {
	f := fault.New(fault.TooManyAttempts, "Too many attempts failed. Wait as long as Retry-After says.")
	f.RetryAfter = wait.Truncate(time.Second) + time.Second
	return f
}

// Failed counts a failure for each of the counters.
func (l *Limiter) Failed(ctx context.Context, counters ...Counter) error {
	return l.db.InPlatform(ctx, func(tx *postgres.Tx) error {
		for _, counter := range counters {
			if err := count(tx, l.key(counter), counter.limit.Every); err != nil {
				return err
			}
		}
		return nil
	})
}

// Take counts one for a counter, if it lets one through now. Of many at once no more get through than the limit says. Otherwise it counts nothing and tells how long
// to wait.
func (l *Limiter) Take(ctx context.Context, counter Counter) (taken bool, wait time.Duration, err error) {
	key := l.key(counter)
	err = l.db.InPlatform(ctx, func(tx *postgres.Tx) error {
		if taken, err = take(tx, key, counter.limit); err != nil || taken {
			return err
		}
		until, err := read(tx, [][]byte{key})
		if err != nil {
			return err
		}
		wait = max(until[0].Sub(tx.Now)-time.Duration(counter.limit.Burst-1)*counter.limit.Every, 0)
		return nil
	})
	return taken, wait, err
}

// Expire drops at most limit counters that are empty, and tells how many.
func Expire(tx *postgres.Tx, now time.Time, limit int) (int64, error) { return expire(tx, now, limit) }
