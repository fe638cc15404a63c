package token

import (
	"crypto/sha256"
	"encoding/binary"
	"strings"
	"testing"
	"time"
)

func numbered(n int) fingerprint {
	return sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(n)))
}

func TestMemoryIsBounded(t *testing.T) {
	const size = 1024
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	memory, key := newMemory(size, 10*time.Minute), &verificationKey{}
	claims := Claims{ID: "x", ExpiresAt: now.Add(time.Minute)}
	for i := range 20 * size {
		memory.remember(numbered(i), claims, key, now)
		if got, ok := memory.recall(numbered(i), now); !ok || got != claims {
			t.Fatalf("token %d: %+v, %v", i, got, ok)
		}
	}
	if held := memory.len(); held > size || held < size/2 {
		t.Fatalf("%d tokens held", held)
	}
}

func TestMemoryForgetsTheExpiredAndTheWithdrawn(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	memory, key := newMemory(memorySize, 10*time.Minute), &verificationKey{}
	memory.remember(numbered(1), Claims{ExpiresAt: now.Add(time.Minute)}, key, now)
	if _, ok := memory.recall(numbered(2), now); ok {
		t.Fatal("recalled what was never there")
	}
	if _, ok := memory.recall(numbered(1), now.Add(time.Minute)); ok {
		t.Fatal("recalled an expired token")
	}
	if _, ok := memory.recall(numbered(1), now); !ok {
		t.Fatal("forgot a good token")
	}
	key.withdrawn.Store(true)
	if _, ok := memory.recall(numbered(1), now); ok {
		t.Fatal("recalled a token of a withdrawn key")
	}
}

// Expired tokens hold users' ids: a shard that is in use evicts them after two lifetimes at the
// latest.
func TestMemoryDropsOldTokens(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	memory, key := newMemory(memorySize, 10*time.Minute), &verificationKey{}
	for round := range 3 {
		at := now.Add(time.Duration(round) * 10 * time.Minute)
		for i := range 1000 {
			memory.remember(numbered(round*1000+i), Claims{ExpiresAt: at.Add(10 * time.Minute)}, key, at)
		}
	}
	if held := memory.len(); held != 2000 {
		t.Fatalf("%d tokens held", held)
	}
}

func TestFingerprintOfEveryLength(t *testing.T) {
	for _, length := range []int{0, 1, 1023, 1024, 1025, MaxLength} {
		token := strings.Repeat("x", length)
		if fingerprintOf(token) != sha256.Sum256([]byte(token)) {
			t.Errorf("%d bytes: another hash", length)
		}
	}
}
