package alert

import (
	"context"
	"testing"
	"time"

	"github.com/fusionspim/steward/internal/base/id"
)

func TestBackoff(t *testing.T) {
	t.Parallel()
	for attempts, middle := range map[int16]time.Duration{
		1: 30 * time.Second, 2: time.Minute, 8: 64 * time.Minute, 9: 2 * time.Hour, 1000: 2 * time.Hour,
	} {
		for range 100 {
			if wait := backoff(attempts); wait < middle*3/4 || wait > middle*5/4 {
				t.Errorf("wait after %d attempts: got %v, want %v plus or minus a quarter", attempts, wait, middle)
			}
		}
	}
}

func TestEvaluate(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)
	fresh := outgoing{user: id.New[id.User](), created: now.Add(-time.Minute), attempts: 1}
	old := fresh
	old.created = now.Add(-tryFor)
	skipped := fresh
	skipped.skip = optedOut
	for name, test := range map[string]struct {
		mail     outgoing
		result   error
		state    string
		reason   reason
		released bool
		retryNow bool
	}{
		"accepted":             {mail: fresh, state: "sent"},
		"opted out":            {mail: skipped, state: "skipped", reason: optedOut},
		"not started":          {mail: fresh, result: errMore, state: "pending", released: true, retryNow: true},
		"replica stops":        {mail: fresh, result: context.Canceled, state: "pending", retryNow: true},
		"no reply":             {mail: fresh, result: errSilent, state: "pending"},
		"no reply for long":    {mail: old, result: errSilent, state: "failed", reason: expired},
		"not started for long": {mail: old, result: errMore, state: "pending", released: true, retryNow: true},
	} {
		got := evaluate(test.mail, test.result, now)
		if got.State != test.state || got.Back != test.released || (got.Reason == nil) != (test.reason == "") ||
			got.Reason != nil && *got.Reason != test.reason {
			t.Errorf("%s: got %+v", name, got)
		}
		if pending := got.State == "pending"; pending != (got.DueAt != nil) {
			t.Errorf("%s: due at %v in state %s", name, got.DueAt, got.State)
		} else if pending && got.DueAt.Equal(now) != test.retryNow {
			t.Errorf("%s: due at %v, now is %v", name, got.DueAt, now)
		}
	}
}

func TestCleanRefusesWhatCannotBeRead(t *testing.T) {
	t.Parallel()
	good := New{Severity: Error, Subject: "  Import \t failed ", Body: "Line 3"}
	if cleaned, err := good.clean(); err != nil || cleaned.Subject != "Import failed" {
		t.Errorf("got %q, %v", cleaned.Subject, err)
	}
	for name, bad := range map[string]New{
		"control character": {Subject: "a\x00b", Body: "x"}, "direction": {Subject: "a\u202Eb", Body: "x"},
		"empty subject": {Subject: " ", Body: "x"}, "empty body": {Subject: "x", Body: " \n"},
	} {
		if _, err := bad.clean(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
