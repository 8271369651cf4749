// What an eraser counts.

package erasure

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	failures, deleted prometheus.Counter
	pending, oldest   prometheus.GaugeFunc
}

func newMetrics(e *Eraser) *metrics {
	return &metrics{
		failures: prometheus.NewCounter(prometheus.CounterOpts{Name: "myspinbot_erasure_failures_total",
			Help: "Looks at an erased profile that failed; they are repeated."}),
		deleted: prometheus.NewCounter(prometheus.CounterOpts{Name: "myspinbot_erasure_deleted_total",
			Help: "Keys and objects of erased profiles that this process deleted."}),
		pending: prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "myspinbot_erasures_pending",
			Help: "Profiles that are erased and of which something may be left."}, func() float64 { n, _ := e.waiting(); return float64(n) }),
		oldest: prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "myspinbot_erasure_oldest_seconds",
			Help: "How long ago the oldest of them was asked for."}, func() float64 { _, age := e.waiting(); return age.Seconds() }),
	}
}

func (m *metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.failures, m.deleted, m.pending, m.oldest}
}

// waiting counts the erasures that are not complete, and says how old the oldest is.
func (e *Eraser) waiting() (count int, oldest time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, p := range e.profiles {
		if !p.done {
			count++
			oldest = max(oldest, e.cfg.Now().Sub(p.at))
		}
	}
	return count, oldest
}
