package ratelimit

import (
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fusionspim/steward/internal/base/fault"
	"github.com/fusionspim/steward/internal/infra/postgres"
	"github.com/fusionspim/steward/internal/infra/seal"
	"github.com/fusionspim/steward/internal/testkit/dbtest"
)

func TestNetwork(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"192.0.2.1": "192.0.2.1", "::ffff:192.0.2.1": "192.0.2.1", "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64",
		"2001:db8:1:2::": "2001:db8:1:2::/64", "::1": "::/64",
	} {
		if got := Network(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s: %s, want %s", address, got, want)
		}
	}
}

func TestRefusedSaysWhenToRetry(t *testing.T) {
	t.Parallel()
	for wait, want := range map[time.Duration]time.Duration{
		0: time.Second, time.Millisecond: time.Second, 1500 * time.Millisecond: 2 * time.Second, time.Minute: 61 * time.Second,
	} {
		var f *fault.Fault
		if err := Refused(wait); !errors.As(err, &f) || f.Code != fault.TooManyAttempts || f.RetryAfter != want {
			t.Errorf("after %s: %v, retry after %s", wait, err, f.RetryAfter)
		}
	}
}

func newLimiter(t *testing.T, db *postgres.DB) *Limiter {
	t.Helper()
	key := make([]byte, seal.MasterKeySize)
	for i := range key {
		key[i] = byte(i)
	}
	box, err := seal.New(key)
	if err != nil {
		t.Fatal(err)
	}
	return NewLimiter(db, box)
}

var threeThenOneAMinute = Limit{Burst: 3, Every: time.Minute}

func TestABurstIsFreeAndThenOneIsAllowedPerInterval(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	l := newLimiter(t, d.DB)
	ada := NewCounter("sign-in", threeThenOneAMinute, "acme", "ada")
	others := []Counter{
		NewCounter("sign-in", threeThenOneAMinute, "acme", "bob"),
		NewCounter("code", threeThenOneAMinute, "acme", "ada"),
		NewCounter("sign-in", threeThenOneAMinute, "acmeada"),
		NewCounter("sign-in", threeThenOneAMinute, "acme", "ada", ""),
	}
	exhausted := func() (yes bool, wait time.Duration) {
		t.Helper()
		found, wait, err := l.Exhausted(t.Context(), append(others, ada)...)
		if err != nil || len(found) > 1 || len(found) == 1 && found[0] != ada {
			t.Fatalf("exhausted are %v, %v", found, err)
		}
		return len(found) == 1, wait
	}
	for i := range 3 {
		if yes, _ := exhausted(); yes {
			t.Fatalf("exhausted after %d failures", i)
		}
		if err := l.RecordFailure(t.Context(), ada); err != nil {
			t.Fatal(err)
		}
	}
	if yes, wait := exhausted(); !yes || wait != time.Minute {
		t.Errorf("after three failures: exhausted %t, wait %s", yes, wait)
	}
	d.Clock.Advance(time.Minute - time.Microsecond)
	if yes, wait := exhausted(); !yes || wait != time.Microsecond {
		t.Errorf("just before a minute: exhausted %t, wait %s", yes, wait)
	}
	d.Clock.Advance(time.Microsecond)
	if yes, _ := exhausted(); yes {
		t.Error("still exhausted after a minute")
	}
	if err := l.RecordFailure(t.Context(), ada, ada); err != nil { // failures count although none is allowed
		t.Fatal(err)
	}
	if yes, wait := exhausted(); !yes || wait != 2*time.Minute {
		t.Errorf("after two more: exhausted %t, wait %s", yes, wait)
	}
	d.Clock.Advance(time.Hour) // what is not used does not add up
	for i := range 3 {
		if yes, _ := exhausted(); yes {
			t.Errorf("an hour later: exhausted after %d failures", i)
		}
		if err := l.RecordFailure(t.Context(), ada); err != nil {
			t.Fatal(err)
		}
	}
	if yes, _ := exhausted(); !yes {
		t.Error("more than a burst is free after an hour")
	}
}

func TestReplicasShareTheirCounters(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	replicas := []*Limiter{newLimiter(t, d.DB), newLimiter(t, d.Open(t))}
	counter := NewCounter("alert", Limit{Burst: 7, Every: time.Minute}, "acme")
	var allowed atomic.Int64
	var all sync.WaitGroup
	for i := range 40 {
		all.Go(func() {
			ok, wait, err := replicas[i%2].Allow(t.Context(), counter)
			if err != nil {
				t.Error(err)
			} else if ok {
				allowed.Add(1)
			} else if wait != time.Minute {
				t.Errorf("wait %s", wait)
			}
		})
	}
	all.Wait()
	if allowed.Load() != 7 {
		t.Errorf("%d of 40 at once were allowed", allowed.Load())
	}
	d.Clock.Advance(2 * time.Minute)
	for i := range 3 {
		if ok, _, err := replicas[0].Allow(t.Context(), counter); err != nil || ok != (i < 2) {
			t.Errorf("two minutes later, number %d is allowed: %t, %v", i+1, ok, err)
		}
	}
}

// The table holds nothing of whom it counts, and empties.
func TestCountersHoldNoNamesAndExpire(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t)
	l := newLimiter(t, d.DB)
	for _, name := range []string{"ada", "bob"} {
		if err := l.RecordFailure(t.Context(), NewCounter("sign-in", threeThenOneAMinute, name)); err != nil {
			t.Fatal(err)
		}
	}
	var n int
	if d.Peek(
		t,
		"select count(*) from attempt_limits where position('ada'::bytea in key) + position('sign-in'::bytea in key) > 0",
		&n,
	); n != 0 {
		t.Error("a counter holds whom it counts")
	}
	sweep := func() (expired int64) {
		err := d.DB.InPlatform(t.Context(), func(tx *postgres.Tx) (err error) {
			expired, err = expire(tx, tx.Now, 1)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return expired
	}
	if got := sweep(); got != 0 {
		t.Errorf("%d counters that count expired", got)
	}
	d.Clock.Advance(time.Minute + time.Second)
	if one, two, none := sweep(), sweep(), sweep(); one != 1 || two != 1 || none != 0 {
		t.Errorf("expired %d, %d, %d, one at a time", one, two, none)
	}
}
