// Metrics of a projector.

package projections

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	events   *prometheus.CounterVec // by outcome
	rejected prometheus.Counter
	stopped  prometheus.Gauge
	delay    prometheus.Histogram
	commits  prometheus.Histogram
}

func newMetrics() *metrics {
	return &metrics{
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "myspinbot", Subsystem: "projection", Name: "events_total", Help: "Events read, by what became of them.",
		}, []string{"outcome"}),
		rejected: prometheus.NewCounter(prometheus.CounterOpts{
			// Every fold of a process counts under this name; one registry takes them all
			// only with the same help and the same constant label.
			Namespace: "myspinbot", Name: "events_rejected_total", ConstLabels: prometheus.Labels{"reader": "projector"},
			Help: "Facts that did not continue their chain; stays 0.",
		}),
		stopped: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: "myspinbot", Subsystem: "projection", Name: "stopped_partitions", Help: "Partitions that cannot be read any further.",
		}),
		delay: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "myspinbot", Subsystem: "projection", Name: "delay_seconds",
			Help:    "From an event's decision to its row being readable, for the last event of each batch.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 60, 600},
		}),
		commits: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "myspinbot", Subsystem: "projection", Name: "commit_events",
			Help:    "Events of one transaction of the live tables, of one partition or several.",
			Buckets: []float64{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000},
		}),
	}
}

// Collectors are the projector's metrics, for the caller's registry.
func (p *Projector) Collectors() []prometheus.Collector {
	m := p.metrics
	return []prometheus.Collector{m.events, m.rejected, m.stopped, m.delay, m.commits}
}

func (m *metrics) note(c Counts, stopped int) {
	m.events.WithLabelValues("applied").Add(float64(c.Applied))
	m.events.WithLabelValues("duplicate").Add(float64(c.Duplicates))
	m.rejected.Add(float64(c.Rejected))
	m.stopped.Set(float64(stopped))
}

func (m *metrics) committed(facts []fact, now time.Time) {
	m.commits.Observe(float64(len(facts)))
	m.delay.Observe(max(0, now.Sub(facts[len(facts)-1].message.OccurredAt).Seconds()))
}
