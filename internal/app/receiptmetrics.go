package app

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fusionspim/steward/internal/base/clock"
	"github.com/fusionspim/steward/internal/record/receipt"
)

// receiptMetrics are metrics of erasures that are pending. Each scrape queries the database, so every
// replica reports the same.
type receiptMetrics struct {
	receipts *receipt.Service
	now      clock.Clock
}

// Describe implements prometheus.Collector.
func (m receiptMetrics) Describe(descriptions chan<- *prometheus.Desc) {
	descriptions <- m.pending()
	descriptions <- m.oldest()
}

// Collect implements prometheus.Collector.
func (m receiptMetrics) Collect(metrics chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), queuePatience)
	defer cancel()
	count, since, err := m.receipts.CountPending(ctx)
	if err != nil {
		return // without a database there is no value; other metrics report that
	}
	age := 0.0
	if since != nil {
		age = max(0, m.now().Sub(*since).Seconds())
	}
	metrics <- prometheus.MustNewConstMetric(m.pending(), prometheus.GaugeValue, float64(count))
	metrics <- prometheus.MustNewConstMetric(m.oldest(), prometheus.GaugeValue, age)
}

func (receiptMetrics) pending() *prometheus.Desc {
	return prometheus.NewDesc("steward_receipts_pending", "Erasure receipts whose dead rows the database still holds.", nil, nil)
}

func (receiptMetrics) oldest() *prometheus.Desc {
	return prometheus.NewDesc("steward_receipts_pending_oldest_seconds", "For how long the oldest of them has been pending.", nil, nil)
}
