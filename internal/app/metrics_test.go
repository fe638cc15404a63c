package app

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fusionspim/steward/internal/compliance/replay"
	"github.com/fusionspim/steward/internal/integration/webhook"
	"github.com/fusionspim/steward/internal/record/ledger"
)

// gathered returns the figures of a registry: a counter's value, a histogram's number of samples.
func gathered(t *testing.T, registry *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	figures := make(map[string]float64)
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			name := family.GetName()
			for _, label := range metric.GetLabel() {
				name += " " + label.GetName() + "=" + label.GetValue()
			}
			figures[name] = metric.GetCounter().GetValue() + float64(metric.GetHistogram().GetSampleCount())
		}
	}
	return figures
}

func TestReplaysAreCountedByCauseAndOutcome(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	metrics, err := newReplayMetrics(registry)
	if err != nil {
		t.Fatal(err)
	}
	outcomes := map[ledger.Kind]map[ledger.Outcome]int{
		ledger.Redaction: {ledger.Done: 3, ledger.AlreadyDone: 1}, ledger.Correction: {ledger.Absent: 2},
	}
	metrics.count(replay.Replay{Outcomes: outcomes, Restored: true, FinishedAt: new(time.Unix(0, 0))})
	metrics.count(replay.Replay{Outcomes: outcomes})
	got := gathered(t, registry)
	for name, want := range map[string]float64{
		"steward_ledger_replays_total cause=restore finished=true":             1,
		"steward_ledger_replays_total cause=crash finished=false":              1,
		"steward_ledger_replayed_entries_total kind=redaction outcome=done":    6,
		"steward_ledger_replayed_entries_total kind=redaction outcome=already": 2,
		"steward_ledger_replayed_entries_total kind=correction outcome=absent": 4,
	} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
	if len(got) != 5 {
		t.Errorf("%v", got)
	}
	if _, err := newReplayMetrics(registry); err == nil {
		t.Error("the metrics are registered twice")
	}
}

func TestWebhookAttemptsAreMeasuredByOutcomeAlone(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	metrics, err := newWebhookMetrics(registry)
	if err != nil {
		t.Fatal(err)
	}
	metrics.observe(webhook.Outcome("some_outcome"), time.Second)
	metrics.observe(webhook.Outcome("some_outcome"), time.Minute)
	got := gathered(t, registry)
	if len(got) != 1 || got["steward_webhook_attempt_duration_seconds outcome=some_outcome"] != 2 {
		t.Errorf("%v", got)
	}
}

func TestMailsNameTheHostOfTheService(t *testing.T) {
	t.Parallel()
	if _, err := newMailing(
		Settings{PublicURL: "https://steward.example", PasswordPage: "no address at all"},
	); err == nil {
		t.Error("a page for passwords that is no URL is taken")
	}
	mailing, err := newMailing(Settings{PublicURL: "https://steward.example"})
	if err != nil || mailing.Sender != nil || mailing.Domain != "" {
		t.Errorf("without a mail server: %+v, %v", mailing.Domain, err)
	}
}

func TestTheContractIsReadOnce(t *testing.T) {
	t.Parallel()
	first, err := Contract()
	second, again := Contract()
	if err != nil || again != nil || first != second || len(first.Operations()) == 0 {
		t.Errorf("%p, %v and %p, %v", first, err, second, again)
	}
}
