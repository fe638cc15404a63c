// Package ttlcache caches values for a fixed time.
//
// Owns: a bounded cache whose entries expire, and which loads each missing value once at a time.
// Does not own: what is cached, and whether it is safe to act on a value that is a moment old.
//
// It is written here rather than taken from hashicorp/golang-lru/v2/expirable with
// x/sync/singleflight because it counts a lifetime from the beginning of the load, runs on the
// service's clock, and never caches a load that began before Forget.
package ttlcache

import (
	"errors"
	"hash/maphash"
	"sync"
	"time"

	"github.com/fusionspim/steward/internal/base/clock"
)

const shards = 16

// Cache holds values by key for a fixed time, counted from the beginning of the load rather than
// its end: a value is never used later than its lifetime after the question was asked. Safe for
// concurrent use.
type Cache[K comparable, V any] struct {
	lifetime time.Duration
	perShard int
	now      clock.Clock
	seed     maphash.Seed
	parts    [shards]part[K, V]
}

type part[K comparable, V any] struct {
	mu      sync.Mutex
	entries map[K]entry[V]
	flights map[K]*flight[V] // loads under way
}

// flight is one load, which all who miss its key meanwhile wait for.
type flight[V any] struct {
	done  chan struct{} // closed at the end; value and err are not written afterwards
	value V
	err   error
}

// errPanicked is what those waiting for a load get when it panicked.
var errPanicked = errors.New("ttlcache: the load panicked")

type entry[V any] struct {
	value V
	until time.Time
}

// New returns a cache of at most about size entries.
func New[K comparable, V any](size int, lifetime time.Duration, now clock.Clock) *Cache[K, V] {
	c := &Cache[K, V]{lifetime: lifetime, perShard: max(1, size/shards), now: now, seed: maphash.MakeSeed()}
	for i := range c.parts {
		c.parts[i].entries = make(map[K]entry[V])
		c.parts[i].flights = make(map[K]*flight[V])
	}
	return c
}

// Get returns the cached value, or loads it and caches the result. Callers that miss at the same
// moment share one load. Errors are shared, but not cached.
func (c *Cache[K, V]) Get(key K, load func() (V, error)) (V, error) {
	part := c.partOf(key)
	now := c.now()
	part.mu.Lock()
	found, ok := part.entries[key]
	if ok && now.Before(found.until) {
		part.mu.Unlock()
		return found.value, nil
	}
	if current, loading := part.flights[key]; loading {
		part.mu.Unlock()
		<-current.done
		return current.value, current.err
	}
	mine := &flight[V]{done: make(chan struct{}), err: errPanicked}
	part.flights[key] = mine
	part.mu.Unlock()

	defer c.land(part, key, mine, now)
	mine.value, mine.err = load()
	return mine.value, mine.err
}

// land ends a load that began at a time, and caches its value. A value whose key was forgotten
// during the load is returned, but not cached: it may be older than what made the caller forget it.
func (c *Cache[K, V]) land(part *part[K, V], key K, mine *flight[V], began time.Time) {
	part.mu.Lock()
	defer part.mu.Unlock()
	defer close(mine.done)
	if part.flights[key] != mine {
		return
	}
	delete(part.flights, key)
	if mine.err != nil {
		delete(part.entries, key)
		return
	}
	if len(part.entries) >= c.perShard {
		part.makeRoom(began)
	}
	part.entries[key] = entry[V]{value: mine.value, until: began.Add(c.lifetime)}
}

// Forget drops the key's value. A load of it that is under way is not shared with later callers.
func (c *Cache[K, V]) Forget(key K) {
	part := c.partOf(key)
	part.mu.Lock()
	defer part.mu.Unlock()
	delete(part.entries, key)
	delete(part.flights, key)
}

// makeRoom drops the expired entries, or an arbitrary one if none has expired.
func (p *part[K, V]) makeRoom(now time.Time) {
	before := len(p.entries)
	for key, entry := range p.entries {
		if !now.Before(entry.until) {
			delete(p.entries, key)
		}
	}
	if len(p.entries) < before {
		return
	}
	for key := range p.entries {
		delete(p.entries, key)
		return
	}
}

func (c *Cache[K, V]) partOf(key K) *part[K, V] {
	return &c.parts[maphash.Comparable(c.seed, key)%shards]
}
