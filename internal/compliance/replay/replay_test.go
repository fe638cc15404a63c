package replay

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fusionspim/steward/internal/base/id"
	"github.com/fusionspim/steward/internal/record/ledger"
)

func numbered(number int64, subject uuid.UUID) ledger.NumberedEntry {
	return ledger.NumberedEntry{Entry: ledger.Entry{Number: number, Subject: subject, Kind: ledger.RoleSet}}
}

// Entries on one subject keep their order; a wave has at most one on each.
func TestWavesKeepTheOrderOfEachSubject(t *testing.T) {
	t.Parallel()
	ada, bob, eve := uuid.New(), uuid.New(), uuid.New()
	parts := waves([]ledger.NumberedEntry{
		numbered(1, ada), numbered(2, bob), numbered(3, ada), numbered(4, eve), numbered(5, ada), numbered(6, bob),
	})
	var got [][]int64
	for _, part := range parts {
		var numbers []int64
		seen := map[uuid.UUID]bool{}
		for _, entry := range part {
			if seen[entry.Subject] {
				t.Errorf("a wave has two entries on one subject")
			}
			seen[entry.Subject] = true
			numbers = append(numbers, entry.Number)
		}
		got = append(got, numbers)
	}
	want := [][]int64{{1, 2, 4}, {3, 6}, {5}}
	if len(got) != len(want) {
		t.Fatalf("%v, want %v", got, want)
	}
	for i := range want {
		if len(got[i]) != len(want[i]) {
			t.Fatalf("%v, want %v", got, want)
		}
		for j := range want[i] {
			if got[i][j] != want[i][j] {
				t.Errorf("%v, want %v", got, want)
			}
		}
	}
	if waves(nil) != nil {
		t.Error("nothing gives waves")
	}
}

func TestOutcomesAreCounted(t *testing.T) {
	t.Parallel()
	made := Replay{
		ID:       id.New[id.Replay](),
		Outcomes: make(outcomes),
		Dropped:  map[string]int64{"sessions": 7},
		Restored: true,
	}
	made.add([]outcome{
		{ledger.Redaction, ledger.Done}, {ledger.Redaction, ledger.Done}, {ledger.Redaction, ledger.AlreadyDone},
		{ledger.Correction, ledger.Done}, {ledger.Correction, ledger.Absent},
	})
	made.add([]outcome{{ledger.Deletion, ledger.RedactedInstead}})
	if made.Entries() != 6 || made.LostCorrections() != 1 || made.Outcomes[ledger.Redaction][ledger.Done] != 2 {
		t.Errorf("%d entries, %d corrections lost, %v", made.Entries(), made.LostCorrections(), made.Outcomes)
	}
	made.FinishedAt = new(made.StartedAt.Add(90 * time.Second))
	var out bytes.Buffer
	slog.New(slog.NewTextHandler(&out, nil)).Info("replayed", "replay", made)
	for _, want := range []string{
		"replay.entries=6", "replay.restored=true", "replay.seconds=90", "replay.redaction.done=2",
		"replay.dropped.sessions=7",
		"replay.deletion.redacted_instead=1",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the log lacks %s: %s", want, out.String())
		}
	}
}
