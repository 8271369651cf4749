// What Prometheus may know of the lanes.

package gpu

import (
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/myspinbot/myspinbot/internal/vram"
)

type taskMetrics struct {
	seconds *prometheus.HistogramVec
	memory  *memoryMetrics
}

// memoryMetrics are about the card's memory.
type memoryMetrics struct {
	mib     *prometheus.GaugeVec
	waiting prometheus.Gauge
	peaks   *prometheus.GaugeVec
	unloads *prometheus.CounterVec
}

func newMemoryMetrics(r prometheus.Registerer) (*memoryMetrics, error) {
	m := &memoryMetrics{
		mib: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "myspinbot_vram_mib",
			Help: "Memory of the graphics card in MiB: the budget, what is set aside for running attempts, and models that stay loaded; of all workers on the card."}, []string{"what"}),
		waiting: prometheus.NewGauge(prometheus.GaugeOpts{Name: "myspinbot_vram_waiting", Help: "Commands of this worker that wait for memory of the graphics card."}),
		peaks: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "myspinbot_vram_peak_mib",
			Help: "Highest peak of an attempt that took more memory of the graphics card than was set aside, in MiB."}, []string{"task", "engine", "model", "resolution"}),
		unloads: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "myspinbot_vram_unloads_total",
			Help: "Models that were unloaded to make room, by outcome: done, failed."}, []string{"outcome"}),
	}
	return m, errors.Join(shared(r, &m.mib), shared(r, &m.waiting), shared(r, &m.peaks), shared(r, &m.unloads))
}

func (m *memoryMetrics) usage(u vram.Usage) {
	for what, mib := range map[string]int{"budget": u.Budget, "running": u.Running, "loaded": u.Loaded} {
		m.mib.WithLabelValues(what).Set(float64(mib))
	}
	m.waiting.Set(float64(u.Waiting))
}

func (m *memoryMetrics) peak(of peakOf, mib int) {
	m.peaks.WithLabelValues(of.task, of.engine, of.model, of.resolution).Set(float64(mib))
}

func (m *memoryMetrics) unloaded(done bool) {
	outcome := "done"
	if !done {
		outcome = "failed"
	}
	m.unloads.WithLabelValues(outcome).Inc()
}

// shared registers a collector with r, unless that is nil; a second worker of one
// process shares the first one's.
func shared[C prometheus.Collector](r prometheus.Registerer, c *C) error {
	if r == nil {
		return nil
	}
	err := r.Register(*c)
	var before prometheus.AlreadyRegisteredError
	if errors.As(err, &before) {
		if same, ok := before.ExistingCollector.(C); ok {
			*c = same
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("cannot register the worker's metrics: %w", err)
	}
	return nil
}

// newTaskMetrics registers with r, unless that is nil.
func newTaskMetrics(r prometheus.Registerer) (*taskMetrics, error) {
	h := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "myspinbot_task_seconds",
		Help:    "Time from the start of an attempt to its outcome, by task, engine and outcome (succeeded, reused, cancelled or the error class).",
		Buckets: prometheus.ExponentialBuckets(0.05, 2.5, 12), // 50 ms to 20 min
	}, []string{"task", "engine", "outcome"})
	if err := shared(r, &h); err != nil {
		return nil, err
	}
	memory, err := newMemoryMetrics(r)
	return &taskMetrics{h, memory}, err
}

func (m *taskMetrics) observe(task, engine, outcome string, took time.Duration) {
	m.seconds.WithLabelValues(task, engine, outcome).Observe(took.Seconds())
}
