// Package ttlcache remembers answers for a moment.
//
// Owns: a bounded memory whose entries end by themselves.
// Does not own: what is remembered, and whether it is safe to act on an answer that is a moment old.
package ttlcache

import (
	"hash/maphash"
	"sync"
	"time"

	"github.com/fusionspim/steward/internal/base/clock"
)

const shards = 16

// Cache remembers values by key for a fixed time, counted from the moment at which they were asked for rather than the moment at which they
// arrived: an answer is never acted on later than its lifetime after the question. Safe for concurrent use.
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
}

type entry[V any] struct {
	value V
	until time.Time
}

// New returns a cache of at most about size entries.
func New[K comparable, V any](size int, lifetime time.Duration, now clock.Clock) *Cache[K, V] {
	c := &Cache[K, V]{lifetime: lifetime, perShard: max(1, size/shards), now: now, seed: maphash.MakeSeed()}
	for i := range c.parts {
		c.parts[i].entries = make(map[K]entry[V])
	}
	return c
}

// Get returns the remembered value, or asks and remembers the answer. Errors are not remembered. Two that miss at the same moment both ask.
func (c *Cache[K, V]) Get(key K, ask func() (V, error)) (V, error) {
	part := c.partOf(key)
	asked := c.now()
	part.mu.Lock()
	found, ok := part.entries[key]
	part.mu.Unlock()
	if ok && asked.Before(found.until) {
		return found.value, nil
	}
	value, err := ask()
	if err != nil {
		c.Forget(key)
		return value, err
	}
	part.mu.Lock()
	defer part.mu.Unlock()
	if len(part.entries) >= c.perShard {
		part.makeRoom(asked)
	}
	part.entries[key] = entry[V]{value: value, until: asked.Add(c.lifetime)}
	return value, nil
}

// Forget drops what is remembered for the key.
func (c *Cache[K, V]) Forget(key K) {
	part := c.partOf(key)
	part.mu.Lock()
	defer part.mu.Unlock()
	delete(part.entries, key)
}

// makeRoom drops what is past its time, and if that is nothing, whatever comes first.
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
