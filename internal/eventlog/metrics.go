// Counters of the log.

package eventlog

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	produced     *prometheus.CounterVec // by outcome: ok, failed, unavailable
	consumed     *prometheus.CounterVec // by topic
	transactions *prometheus.CounterVec // by group and outcome: committed, aborted, unknown
	deadLetters  *prometheus.CounterVec // by topic of the input
	fetchErrors  prometheus.Counter
}

func newMetrics() *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "myspinbot", Subsystem: "log", Name: name, Help: help}, labels)
	}
	return &metrics{
		produced:     counter("produced_total", "Records written outside of transactions.", "outcome"),
		consumed:     counter("consumed_total", "Records read.", "topic"),
		transactions: counter("transactions_total", "Transactions ended.", "group", "outcome"),
		deadLetters:  counter("dead_letters_total", "Records given up as undecodable.", "topic"),
		fetchErrors: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: "myspinbot", Subsystem: "log", Name: "fetch_errors_total", Help: "Errors among fetched records.",
		}),
	}
}

// Collectors are the log's metrics, for the caller's registry.
func (l *Log) Collectors() []prometheus.Collector {
	m := l.metrics
	return []prometheus.Collector{m.produced, m.consumed, m.transactions, m.deadLetters, m.fetchErrors}
}

func (m *metrics) consumedBatch(records []Record) {
	for i := 0; i < len(records); {
		n := i + 1
		for n < len(records) && records[n].Topic == records[i].Topic {
			n++
		}
		m.consumed.WithLabelValues(records[i].Topic).Add(float64(n - i))
		i = n
	}
}
