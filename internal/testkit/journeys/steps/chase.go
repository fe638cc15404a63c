package steps

import (
	"math/rand/v2"
	"sync"
	"time"
)

// Chase makes two things meet. Whichever won the last time starts a little later the next time, so
// that the two stay at the moment at which either may win, on a fast machine as on a slow one.
type Chase struct {
	mutex sync.Mutex
	lead  time.Duration // how much later the second one starts; negative: how much earlier
}

// Run calls both at about the same moment, and returns when both have returned.
func (c *Chase) Run(first, second func()) {
	c.mutex.Lock()
	lead := c.lead + rand.N(300*time.Microsecond) - 150*time.Microsecond
	c.mutex.Unlock()
	var both sync.WaitGroup
	gate := make(chan struct{})
	both.Go(func() { <-gate; time.Sleep(-lead); first() })
	both.Go(func() { <-gate; time.Sleep(lead); second() })
	close(gate)
	both.Wait()
}

// FirstWon records which of the two won.
func (c *Chase) FirstWon(won bool) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	step := 60 * time.Microsecond
	if won {
		step = -step
	}
	c.lead = min(max(c.lead+step, -20*time.Millisecond), 20*time.Millisecond)
}
