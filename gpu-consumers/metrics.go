// What Prometheus may know of the lanes.

package gpu

import (
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type taskMetrics struct {
	seconds *prometheus.HistogramVec
}

// newTaskMetrics registers with r, unless that is nil; a second worker of one
// process shares the first one's.
func newTaskMetrics(r prometheus.Registerer) (*taskMetrics, error) {
	h := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "myspinbot_task_seconds",
		Help:    "Time from the start of an attempt to its outcome, by task, engine and outcome (succeeded, reused, cancelled or the error class).",
		Buckets: prometheus.ExponentialBuckets(0.05, 2.5, 12), // 50 ms to 20 min
	}, []string{"task", "engine", "outcome"})
	if r == nil {
		return &taskMetrics{h}, nil
	}
	err := r.Register(h)
	var before prometheus.AlreadyRegisteredError
	if errors.As(err, &before) {
		if shared, same := before.ExistingCollector.(*prometheus.HistogramVec); same {
			return &taskMetrics{shared}, nil
		}
	}
	if err != nil {
		return nil, fmt.Errorf("cannot register the worker's metrics: %w", err)
	}
	return &taskMetrics{h}, nil
}

func (m *taskMetrics) observe(task, engine, outcome string, took time.Duration) {
	m.seconds.WithLabelValues(task, engine, outcome).Observe(took.Seconds())
}
