// Package ratelimit limits the rate of failed attempts.
//
// Owns: counters that all replicas share, and when the next attempt is allowed.
// Does not own: what counts as a failure, and what is counted (the callers say both).
//
// Each counter is a generic cell rate algorithm (GCRA, as in ITU-T I.371): a burst is free,
// afterwards one more failure is allowed per interval. What a counter counts is stored as a keyed
// hash only, so it reveals no account and no address. Successes are not counted: signing in with
// the right password never slows its owner down.
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

// Limit is how many events a counter allows.
type Limit struct {
	Burst int           // events that are free
	Every time.Duration // afterwards one more is allowed in each interval of this length
}

// Counter is one thing whose events are counted.
type Counter struct {
	limit Limit
	kind  string
	of    string
}

// NewCounter returns the counter of a kind, such as "login", for one subject; of names the subject.
func NewCounter(kind string, limit Limit, of ...string) Counter {
	return Counter{limit: limit, kind: kind, of: strings.Join(of, "\x00")}
}

// Network returns the part of an address that one party can be expected to control: an IPv4
// address, or the /64 of an IPv6 address.
func Network(address netip.Addr) string {
	address = address.Unmap()
	if address.Is6() {
		if network, err := address.Prefix(64); err == nil {
			return network.String()
		}
	}
	return address.String()
}

// Limiter reads and updates counters. Safe for concurrent use.
type Limiter struct {
	db  *postgres.DB
	box *seal.Box
}

// NewLimiter returns a limiter whose keys are hashed with the box.
func NewLimiter(db *postgres.DB, box *seal.Box) *Limiter { return &Limiter{db: db, box: box} }

func (l *Limiter) key(counter Counter) []byte {
	return l.box.MAC("attempt", []byte(counter.kind), []byte(counter.of))
}

// Exhausted returns those of the counters that allow nothing now, and how long to wait for the last
// of them.
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

// Refused returns the fault TooManyAttempts, with the wait rounded up to a second.
func Refused(wait time.Duration) error {
	f := fault.New(fault.TooManyAttempts, "Too many attempts failed. Wait as long as Retry-After says.")
	f.RetryAfter = wait.Truncate(time.Second) + time.Second
	return f
}

// RecordFailure counts a failure for each of the counters, whether or not they allow one.
func (l *Limiter) RecordFailure(ctx context.Context, counters ...Counter) error {
	return l.db.InPlatform(ctx, func(tx *postgres.Tx) error {
		for _, counter := range counters {
			if err := count(tx, l.key(counter), counter.limit.Every); err != nil {
				return err
			}
		}
		return nil
	})
}

// Allow counts one event if the counter allows one now. Of many simultaneous calls no more are
// allowed than the limit permits. Otherwise it counts nothing, and wait is when to retry.
func (l *Limiter) Allow(ctx context.Context, counter Counter) (allowed bool, wait time.Duration, err error) {
	key := l.key(counter)
	err = l.db.InPlatform(ctx, func(tx *postgres.Tx) error {
		if allowed, err = acquire(tx, key, counter.limit); err != nil || allowed {
			return err
		}
		until, err := read(tx, [][]byte{key})
		if err != nil {
			return err
		}
		wait = max(until[0].Sub(tx.Now)-time.Duration(counter.limit.Burst-1)*counter.limit.Every, 0)
		return nil
	})
	return allowed, wait, err
}
