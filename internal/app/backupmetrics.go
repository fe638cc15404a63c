package app

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fusionspim/steward/internal/record/backup"
)

// backupMetrics tells the monitoring of the backups. The catalogue is asked when the monitoring asks, so every replica tells the same of it.
type backupMetrics struct{ backups *backup.Service }

const backupMetricsTimeout = 2 * time.Second

// Describe implements prometheus.Collector.
func (m backupMetrics) Describe(descriptions chan<- *prometheus.Desc) {
	descriptions <- m.states()
	descriptions <- m.differences()
}

// Collect implements prometheus.Collector.
func (m backupMetrics) Collect(metrics chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), backupMetricsTimeout)
	defer cancel()
	if counts, err := m.backups.Counts(ctx); err == nil { // a database that is away tells nothing, and the other metrics say so
		for _, state := range backup.States() {
			metrics <- prometheus.MustNewConstMetric(m.states(), prometheus.GaugeValue, float64(counts[state]), string(state))
		}
	}
	found := make(map[backup.DifferenceKind]int)
	for _, one := range m.backups.Differences() {
		found[one.Kind]++
	}
	for _, kind := range backup.DifferenceKinds() {
		metrics <- prometheus.MustNewConstMetric(m.differences(), prometheus.GaugeValue, float64(found[kind]), string(kind))
	}
}

func (backupMetrics) states() *prometheus.Desc {
	return prometheus.NewDesc("steward_backups", "Backups of the database in the catalogue, by their state.", []string{"state"}, nil)
}

func (backupMetrics) differences() *prometheus.Desc {
	return prometheus.NewDesc("steward_backup_differences", "What this replica found in the store of backups that was not as in the catalogue, when it looked last.", []string{"kind"}, nil)
}
