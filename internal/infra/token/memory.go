package token

import (
	"crypto/sha256"
	"sync"
	"time"
)

const (
	memorySize = 65536 // tokens, some 20 MB
	shards     = 32
)

// fingerprint is the SHA-256 of a token's text: no token can be recovered from the cache.
type fingerprint = [sha256.Size]byte

// fingerprintOf returns the fingerprint of a token. A token of the usual length is copied to the
// stack, which saves the only allocation of a cache hit.
func fingerprintOf(token string) fingerprint {
	var usual [1024]byte
	if len(token) > len(usual) {
		return sha256.Sum256([]byte(token))
	}
	return sha256.Sum256(usual[:copy(usual[:], token)])
}

// memory is a cache of verified tokens, because verifying a signature costs a hundred times as much
// as a look-up. It holds valid tokens only, so that a client without one cannot fill it.
//
// It is bounded without tracking use: each shard has a young and an old half. When the young half
// is full, or as old as a token can get, it becomes the old half, and the old half is evicted as a
// whole. A token that was evicted early is verified again.
type memory struct {
	shards   [shards]shard
	half     int           // entries in one half of one shard
	lifetime time.Duration // of a token, at most
}

type shard struct {
	mu    sync.RWMutex
	young map[fingerprint]remembered
	old   map[fingerprint]remembered
	since time.Time // when the young half was begun
	_     [64]byte  // keeps the locks of two shards out of one cache line
}

type remembered struct {
	claims Claims
	key    *verificationKey
}

// newMemory makes a cache of at most size tokens; size is at least two for each shard.
func newMemory(size int, lifetime time.Duration) *memory {
	return &memory{half: max(1, size/shards/2), lifetime: lifetime}
}

// recall returns the claims of a cached token that is still valid.
func (m *memory) recall(token fingerprint, now time.Time) (Claims, bool) {
	part := m.shardOf(token)
	part.mu.RLock()
	known, ok := part.young[token]
	if !ok {
		known, ok = part.old[token]
	}
	part.mu.RUnlock()
	if !ok || !now.Before(known.claims.ExpiresAt) || known.key.withdrawn.Load() {
		return Claims{}, false
	}
	return known.claims, true
}

// remember caches the claims of a token that has just been verified with the key.
func (m *memory) remember(token fingerprint, claims Claims, key *verificationKey, now time.Time) {
	part := m.shardOf(token)
	part.mu.Lock()
	defer part.mu.Unlock()
	if part.young == nil || len(part.young) >= m.half || now.Sub(part.since) >= m.lifetime {
		part.old, part.young, part.since = part.young, make(map[fingerprint]remembered), now
	}
	part.young[token] = remembered{claims: claims, key: key}
}

// len returns the number of cached tokens, expired ones included.
func (m *memory) len() int {
	total := 0
	for i := range m.shards {
		part := &m.shards[i]
		part.mu.RLock()
		total += len(part.young) + len(part.old)
		part.mu.RUnlock()
	}
	return total
}

func (m *memory) shardOf(token fingerprint) *shard { return &m.shards[token[0]%shards] }
