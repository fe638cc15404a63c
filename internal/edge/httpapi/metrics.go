package httpapi

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics measures requests by method, route and status. No label can hold personal data.
type metrics struct{ duration *prometheus.HistogramVec }

func newMetrics(registry prometheus.Registerer) (*metrics, error) {
	m := &metrics{duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "steward_http_request_duration_seconds", Help: "How long requests took, by method, route and status.",
		Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
	}, []string{"method", "route", "status"})}
	return m, registry.Register(m.duration)
}

func (m *metrics) observe(method, path string, status int, took time.Duration) {
	if path == "none" {
		method = "any" // else callers could create series at will
	}
	m.duration.WithLabelValues(method, path, strconv.Itoa(status)).Observe(took.Seconds())
}
