package ttlcache_test

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fusionspim/steward/internal/base/clock"
	"github.com/fusionspim/steward/internal/infra/ttlcache"
)

func TestValuesAreLoadedOncePerLifetime(t *testing.T) {
	t.Parallel()
	now := clock.NewManual(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	cache := ttlcache.New[string, int](100, time.Minute, now.Now)
	loads := 0
	get := func() int {
		value, err := cache.Get("key", func() (int, error) {
			loads++
			now.Advance(time.Second) // the lifetime counts from the beginning of the load
			return loads, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
	first := get()
	now.Advance(58 * time.Second)
	if second := get(); first != 1 || second != 1 {
		t.Errorf("within the lifetime: %d, then %d", first, second)
	}
	now.Advance(time.Second)
	if third := get(); third != 2 {
		t.Errorf("after the lifetime: %d", third)
	}
	cache.Forget("key")
	if fourth := get(); fourth != 3 {
		t.Errorf("after Forget: %d", fourth)
	}
}

func TestErrorsAreNotCached(t *testing.T) {
	t.Parallel()
	cache := ttlcache.New[string, int](100, time.Minute, clock.System())
	failure := errors.New("a failure")
	if _, err := cache.Get("key", func() (int, error) { return 0, failure }); !errors.Is(err, failure) {
		t.Errorf("the error is %v", err)
	}
	if value, err := cache.Get("key", func() (int, error) { return 7, nil }); value != 7 || err != nil {
		t.Errorf("after an error: %d, %v", value, err)
	}
}

func TestTheSizeIsBounded(t *testing.T) {
	t.Parallel()
	cache := ttlcache.New[int, int](160, time.Minute, clock.System())
	loads := 0
	load := func() (int, error) { loads++; return 0, nil }
	for range 2 {
		for key := range 10_000 {
			if _, err := cache.Get(key, load); err != nil {
				t.Fatal(err)
			}
		}
	}
	if loads < 2*10_000-2*160 {
		t.Errorf("%d loads of 10,000 keys, twice: more than 160 are kept", loads)
	}
}

func TestSimultaneousMissesShareOneLoad(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cache := ttlcache.New[string, int64](100, time.Minute, clock.System())
		var loads atomic.Int64
		release := make(chan struct{})
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				value, err := cache.Get("key", func() (int64, error) {
					<-release
					return loads.Add(1), nil
				})
				if value != 1 || err != nil {
					t.Errorf("got %d, %v", value, err)
				}
			})
		}
		synctest.Wait()
		close(release)
		all.Wait()
		if loads.Load() != 1 {
			t.Errorf("%d loads", loads.Load())
		}
	})
}

func TestALoadThatBeganBeforeForgetIsNeitherSharedNorCachedAfterIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cache := ttlcache.New[string, string](100, time.Minute, clock.System())
		release := make(chan struct{})
		var all sync.WaitGroup
		all.Go(func() {
			value, err := cache.Get("key", func() (string, error) {
				<-release
				return "old", nil
			})
			if value != "old" || err != nil {
				t.Errorf("the load got %q, %v", value, err)
			}
		})
		synctest.Wait()
		cache.Forget("key")
		get := func() string {
			value, err := cache.Get("key", func() (string, error) { return "new", nil })
			if err != nil {
				t.Error(err)
			}
			return value
		}
		if value := get(); value != "new" {
			t.Errorf("after Forget, during the old load: %q", value)
		}
		close(release)
		all.Wait()
		if value := get(); value != "new" {
			t.Errorf("after the old load: %q", value)
		}
	})
}

func TestAPanicEndsTheLoad(t *testing.T) {
	t.Parallel()
	cache := ttlcache.New[string, int](100, time.Minute, clock.System())
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		_, _ = cache.Get("key", func() (int, error) { panic("a bug") })
	}()
	if value, err := cache.Get("key", func() (int, error) { return 7, nil }); value != 7 || err != nil {
		t.Errorf("after a panic: %d, %v", value, err)
	}
}

func BenchmarkHit(b *testing.B) {
	cache := ttlcache.New[[16]byte, [8]int](65536, time.Hour, clock.System())
	load := func() ([8]int, error) { return [8]int{}, nil }
	var next atomic.Uint32
	b.RunParallel(func(p *testing.PB) {
		n := next.Add(1) * 7919
		for p.Next() {
			n++
			if _, err := cache.Get([16]byte{byte(n), byte(n >> 8 & 63)}, load); err != nil {
				b.Error(err)
			}
		}
	})
}
