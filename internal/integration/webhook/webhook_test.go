package webhook

import (
	"testing"
	"time"
)

// An endpoint of which every attempt failed is paused with its first delivery, so the last attempt must not come before the three days are over.
func TestAttemptsLastForThreeDays(t *testing.T) {
	t.Parallel()
	var least, most time.Duration
	for _, wait := range waits {
		least, most = least+wait, most+wait+wait/10
	}
	if len(waits) != 12 || least < failingFor || most > failingFor+10*time.Hour {
		t.Errorf("%d attempts in %s to %s", len(waits)+1, least, most)
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"": 0, "0": 0, "7": 7 * time.Second, "2147483647": 2147483647 * time.Second, "2147483648": 0, "-7": 0, "7.5": 0, "+7": 0, "soon": 0,
		"Sun, 01 Mar 2026 12:01:00 GMT": time.Minute, "Sun, 01 Mar 2026 11:59:00 GMT": 0,
	} {
		if got := retryAfter(text, now); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}
