// Tests of the metrics.

package projections

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// TestRejectedFactsAreCountedByReader: one process may run several folds, and one registry takes them all.
func TestRejectedFactsAreCountedByReader(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	p := projector(nil, newLog(), 1)
	for _, c := range p.Collectors() {
		ok(t, registry.Register(c))
	}
	const name, help = "myspinbot_events_rejected_total", "Facts that did not continue their chain; stays 0."
	ok(t, registry.Register(prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: prometheus.Labels{"reader": "handler"}})))

	p.metrics.note(Counts{Rejected: 2}, 0)
	families, err := registry.Gather()
	ok(t, err)
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		got := make(map[string]float64)
		for _, m := range f.Metric {
			got[m.Label[0].GetName()+"="+m.Label[0].GetValue()] = m.Counter.GetValue()
		}
		equal(t, got, map[string]float64{"reader=projector": 2, "reader=handler": 0})
		return
	}
	t.Errorf("there is no %s", name)
}
