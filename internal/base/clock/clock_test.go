package clock_test

import (
	"sync"
	"testing"
	"time"

	"github.com/fusionspim/steward/internal/base/clock"
)

// A time must survive PostgreSQL, which keeps microseconds, unchanged.
func TestTimesAreUTCInMicroseconds(t *testing.T) {
	t.Parallel()
	elsewhere := time.Date(2026, time.March, 1, 14, 0, 0, 123_456_789, time.FixedZone("", 2*60*60))
	want := time.Date(2026, time.March, 1, 12, 0, 0, 123_456_000, time.UTC)
	if got := clock.NewManual(elsewhere).Now(); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	if now := clock.System()(); now.Location() != time.UTC || now.Nanosecond()%1000 != 0 {
		t.Errorf("the machine's clock gave %v", now)
	}
}

func TestAManualClockStandsUntilItIsMoved(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)
	manual := clock.NewManual(start)
	manual.Now()
	if manual.Now() != start {
		t.Error("the clock moved by itself")
	}
	var all sync.WaitGroup
	for range 100 {
		all.Go(func() { manual.Advance(time.Second) })
	}
	all.Wait()
	if got := manual.Now().Sub(start); got != 100*time.Second {
		t.Errorf("the clock moved by %v", got)
	}
}
