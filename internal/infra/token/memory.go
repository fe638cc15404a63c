package token

import (
	"crypto/sha256"
	"sync"
	"time"
)

const (
	memorySize = 65536 // verified tokens remembered at most, some 20 MB
	shards     = 32
)

// fingerprint is the SHA-256 of a token's text: what is remembered cannot be turned back into a
// token.
type fingerprint = [sha256.Size]byte

// fingerprintOf takes the fingerprint of a token. A token of the usual length is copied to the
// stack, which saves the only allocation on the way of a remembered token.
func fingerprintOf(token string) fingerprint {
	var usual [1024]byte
	if len(token) > len(usual) {
		return sha256.Sum256([]byte(token))
	}
	return sha256.Sum256(usual[:copy(usual[:], token)])
}

// memory remembers tokens that were verified in full, because checking a signature costs a hundred
// times what a look-up does. Only good tokens are ever remembered, so nobody without one can fill
// it.
//
// It is bounded without a list of uses: each shard has a young and an old half. When the young half
// is full, or as old as a token gets, it becomes the old half, and what was the old half is dropped
// as a whole. A token that was dropped too early is verified again.
type memory struct {
	shards   [shards]shard
	half     int           // entries in one half of one shard
	lifetime time.Duration // no token counts for longer
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

// newMemory makes a memory of at most size tokens; size is at least two for each shard.
func newMemory(size int, lifetime time.Duration) *memory {
	return &memory{half: max(1, size/shards/2), lifetime: lifetime}
}

// recall returns the claims of a token that was verified before and still counts.
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

// remember keeps the claims of a token that has just been verified with the key.
func (m *memory) remember(token fingerprint, claims Claims, key *verificationKey, now time.Time) {
	part := m.shardOf(token)
	part.mu.Lock()
	defer part.mu.Unlock()
	if part.young == nil || len(part.young) >= m.half || now.Sub(part.since) >= m.lifetime {
		part.old, part.young, part.since = part.young, make(map[fingerprint]remembered), now
	}
	part.young[token] = remembered{claims: claims, key: key}
}

// len counts what is remembered, whether it still counts or not.
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
