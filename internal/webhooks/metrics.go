// What a notifier counts.

package webhooks

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/myspinbot/myspinbot/events"
)

type metrics struct {
	attempts        *prometheus.CounterVec // by outcome
	seconds         prometheus.Histogram
	progress        *prometheus.CounterVec // by outcome
	pending, oldest prometheus.GaugeFunc
}

func newMetrics(n *Notifier) *metrics {
	return &metrics{
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "myspinbot_webhook_attempts_total",
			Help: "Attempts to deliver a message to a webhook, by outcome: delivered, retrying, failed, gone."}, []string{"outcome"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "myspinbot_webhook_attempt_seconds",
			Help: "How long attempts took.", Buckets: []float64{0.01, 0.05, 0.1, 0.5, 1, 5, 15}}),
		progress: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "myspinbot_webhook_progress_total",
			Help: "Messages about progress, by outcome: delivered, failed."}, []string{"outcome"}),
		pending: prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "myspinbot_webhook_pending",
			Help: "Deliveries of this process's partitions that are not settled."}, func() float64 { count, _ := n.waiting(); return float64(count) }),
		oldest: prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "myspinbot_webhook_oldest_seconds",
			Help: "How long the oldest delivery that is not settled has waited."}, func() float64 { _, age := n.waiting(); return age.Seconds() }),
	}
}

func (m *metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.attempts, m.seconds, m.progress, m.pending, m.oldest}
}

func (m *metrics) attempted(record events.Message) {
	m.attempts.WithLabelValues(record.State).Inc()
	m.seconds.Observe(float64(record.DurationMS) / 1000)
}

func (m *metrics) beat(a answer) {
	outcome := events.WebhookDelivered
	if a.class != "" {
		outcome = events.WebhookFailed
	}
	m.progress.WithLabelValues(outcome).Inc()
}

// waiting counts the deliveries that are not settled, and says how long the oldest waits.
func (n *Notifier) waiting() (count int, oldest time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, own := range n.parts {
		for _, t := range own.jobs {
			for _, d := range t.pending() {
				count++
				oldest = max(oldest, n.cfg.Now().Sub(d.QueuedAt))
			}
		}
	}
	return count, oldest
}
