// Counters of decisions, and the log lines at a node's start and finish.

package handlers

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
)

type metrics struct {
	jobs     *prometheus.CounterVec // by variant and outcome
	facts    *prometheus.CounterVec // by type
	rejected prometheus.Counter
	ignored  prometheus.Counter
}

func newMetrics() *metrics {
	return &metrics{
		jobs: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "myspinbot_jobs_total",
			Help: "Jobs ended, by variant and outcome."}, []string{"variant", "outcome"}),
		facts: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "myspinbot_handler_facts_total", Help: "Facts decided, by type."}, []string{"type"}),
		rejected: prometheus.NewCounter(prometheus.CounterOpts{Name: "myspinbot_handler_events_rejected_total",
			Help: "Facts that did not continue their chain; stays 0."}),
		ignored: prometheus.NewCounter(prometheus.CounterOpts{Name: "myspinbot_handler_inputs_ignored_total",
			Help: "Inputs that changed nothing: duplicates and news of the past."}),
	}
}

func (m *metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.jobs, m.facts, m.rejected, m.ignored}
}

// observe counts a fact and logs the nodes that are decided here.
func (h *Handler) observe(j aggregates.Job, f events.Message) {
	h.metrics.facts.WithLabelValues(f.Type()).Inc()
	plane := events.PlaneControl
	if i, ok := j.Node(f.Stage); ok {
		plane = j.Graph.Nodes[i].Plane
	}
	switch d := f.Data.(type) {
	case events.StageSucceeded:
		if f.Lane == "" {
			log := h.cfg.Logger.With("jobId", j.ID, "workflowId", j.Graph.Workflow, "nodeId", f.Stage, "plane", plane, "task", f.Task)
			log.Info("node started")
			log.Info("node finished", "engine", d.Engine, "outcome", aggregates.StageSucceeded)
		}
	case events.StageSkipped:
		h.cfg.Logger.Info("node skipped", "jobId", j.ID, "workflowId", j.Graph.Workflow, "nodeId", f.Stage, "plane", plane, "reason", d.Reason)
	case events.JobSucceeded, events.JobFailed, events.JobRejected:
		h.metrics.jobs.WithLabelValues(f.Variant, j.State).Inc()
		h.cfg.Logger.Info("job ended", "jobId", j.ID, "workflowId", j.Graph.Workflow, "outcome", j.State, "stage", f.Stage, "class", f.ErrorClass)
	default: // the rest is counted, and told by the workers
	}
}
