// Package clock provides the time.
//
// Owns: the one way to ask for the time, and a clock that tests set.
// Does not own: time zones (everything is UTC) and timers.
package clock

import (
	"sync"
	"time"
)

// Clock returns the current time in UTC, truncated to microseconds, PostgreSQL's precision, so that
// a time reads back as it was written.
type Clock func() time.Time

// System returns the machine's clock.
func System() Clock {
	return func() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }
}

// Manual is a clock for tests. It stands still until it is advanced. Safe for concurrent use.
type Manual struct {
	mu  sync.Mutex
	now time.Time
}

// NewManual returns a clock set to the given time.
func NewManual(now time.Time) *Manual {
	return &Manual{now: now.UTC().Truncate(time.Microsecond)}
}

// Now implements Clock.
func (m *Manual) Now() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.now
}

// Advance moves the clock forward.
func (m *Manual) Advance(by time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now = m.now.Add(by)
}
