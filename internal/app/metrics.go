package app

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fusionspim/steward/internal/compliance/replay"
	"github.com/fusionspim/steward/internal/infra/jobs"
	"github.com/fusionspim/steward/internal/integration/webhook"
)

// queueMetrics tells the monitoring how much waits in the background. It asks the database when it is asked itself.
type queueMetrics struct {
	desk          *jobs.Admin
	log           *slog.Logger
	count, oldest *prometheus.Desc
}

// queuePatience is how long the monitoring is made to wait for the database.
const queuePatience = 5 * time.Second

func newQueueMetrics(desk *jobs.Admin, log *slog.Logger) *queueMetrics {
	labels := []string{"queue", "state"}
	return &queueMetrics{
		desk: desk, log: log,
		count:  prometheus.NewDesc("steward_jobs", "How many jobs there are that are not done, by queue and state.", labels, nil),
		oldest: prometheus.NewDesc("steward_jobs_oldest_seconds", "For how long the oldest of them has been due, by queue and state.", labels, nil),
	}
}

// Describe implements prometheus.Collector.
func (m *queueMetrics) Describe(to chan<- *prometheus.Desc) {
	to <- m.count
	to <- m.oldest
}

// Collect implements prometheus.Collector. While the database is away there are no figures, and the rest of the metrics is there nevertheless.
func (m *queueMetrics) Collect(to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), queuePatience)
	defer cancel()
	depths, err := m.desk.Depths(ctx)
	if err != nil {
		m.log.Warn("the jobs cannot be counted", "error", err)
		return
	}
	for _, depth := range depths {
		to <- prometheus.MustNewConstMetric(m.count, prometheus.GaugeValue, float64(depth.Count), depth.Queue, string(depth.State))
		to <- prometheus.MustNewConstMetric(m.oldest, prometheus.GaugeValue, depth.Oldest.Seconds(), depth.Queue, string(depth.State))
	}
}

// webhookMetrics measure attempts to send webhooks, by what came of them. No label tells of an endpoint or a customer.
type webhookMetrics struct{ duration *prometheus.HistogramVec }

func newWebhookMetrics(registry prometheus.Registerer) (*webhookMetrics, error) {
	m := &webhookMetrics{duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "steward_webhook_attempt_duration_seconds", Help: "How long attempts to send a webhook took, by what came of them.",
		Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
	}, []string{"outcome"})}
	return m, registry.Register(m.duration)
}

func (m *webhookMetrics) observe(outcome webhook.Outcome, took time.Duration) {
	m.duration.WithLabelValues(string(outcome)).Observe(took.Seconds())
}

// replayMetrics count what this replica carried out again of the ledger.
type replayMetrics struct{ runs, entries *prometheus.CounterVec }

func newReplayMetrics(registry prometheus.Registerer) (*replayMetrics, error) {
	m := &replayMetrics{
		runs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "steward_ledger_replays_total", Help: "How often entries of the ledger were carried out again, by why and whether it came to its end.",
		}, []string{"cause", "finished"}),
		entries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "steward_ledger_replayed_entries_total", Help: "Entries of the ledger that were carried out again, by kind and what became of them.",
		}, []string{"kind", "outcome"}),
	}
	return m, errors.Join(registry.Register(m.runs), registry.Register(m.entries))
}

func (m *replayMetrics) count(made replay.Replay) {
	cause := "crash"
	if made.Restored {
		cause = "restore"
	}
	m.runs.WithLabelValues(cause, strconv.FormatBool(made.FinishedAt != nil)).Inc()
	for kind, outcomes := range made.Outcomes {
		for outcome, count := range outcomes {
			m.entries.WithLabelValues(string(kind), string(outcome)).Add(float64(count))
		}
	}
}
