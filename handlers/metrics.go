// Counters of decisions, and the log lines at a node's start and finish.

package handlers

import (
	"context"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
)

type metrics struct {
	jobs     *prometheus.CounterVec // by variant and outcome
	facts    *prometheus.CounterVec // by type
	byType   map[string]prometheus.Counter
	rejected prometheus.Counter
	ignored  prometheus.Counter
	stale    prometheus.Counter
}

func newMetrics() *metrics {
	m := &metrics{
		jobs: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "myspinbot_jobs_total",
			Help: "Jobs ended, by variant and outcome."}, []string{"variant", "outcome"}),
		facts: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "myspinbot_handler_facts_total", Help: "Facts decided, by type."}, []string{"type"}),
		rejected: prometheus.NewCounter(prometheus.CounterOpts{Name: "myspinbot_events_rejected_total", ConstLabels: prometheus.Labels{"reader": "handler"},
			Help: "Facts that did not continue their chain; stays 0."}),
		ignored: prometheus.NewCounter(prometheus.CounterOpts{Name: "myspinbot_handler_inputs_ignored_total",
			Help: "Inputs that changed nothing: duplicates and news of the past."}),
		stale: prometheus.NewCounter(prometheus.CounterOpts{Name: "myspinbot_handler_results_stale_total",
			Help: "Results of attempts that were not the current ones."}),
		byType: map[string]prometheus.Counter{},
	}
	for _, t := range events.Types() {
		if p, err := events.Zero(t); err == nil {
			if _, fact := p.(events.JobFact); fact {
				m.byType[t] = m.facts.WithLabelValues(t)
			}
		}
	}
	return m
}

func (m *metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.jobs, m.facts, m.rejected, m.ignored, m.stale}
}

// told is what a fact gives to count and to log once it is committed.
type told struct {
	fact, job, workflow, stage, task, plane, variant, text, class string
}

// note keeps what observe needs.
func (o *overlay) note(j *aggregates.Job, f events.Message) {
	t := told{fact: f.Type()}
	switch d := f.Data.(type) {
	case events.StageSucceeded:
		if f.Lane == "" {
			t.fill(j, f, d.Engine)
		}
	case events.StageSkipped:
		t.fill(j, f, d.Reason)
	case events.JobSucceeded, events.JobFailed, events.JobRejected, events.JobCancelled:
		t.fill(j, f, j.State)
	default: // the rest is counted, and told by the workers
	}
	o.told = append(o.told, t)
}

func (t *told) fill(j *aggregates.Job, f events.Message, text string) {
	t.job, t.workflow, t.stage, t.task, t.variant, t.class, t.text = j.ID, j.Graph.Workflow, f.Stage, f.Task, f.Variant, f.ErrorClass, text
	t.plane = events.PlaneControl
	if i, ok := j.Node(f.Stage); ok {
		t.plane = j.Graph.Nodes[i].Plane
	}
}

// observe counts a fact and logs the nodes that are decided here.
func (c *Core) observe(t told) {
	c.metrics.byType[t.fact].Inc()
	if t.job == "" {
		return
	}
	logs := c.cfg.Logger.Enabled(context.Background(), slog.LevelInfo)
	node := []any{"jobId", t.job, "workflowId", t.workflow, "nodeId", t.stage, "plane", t.plane}
	switch t.fact {
	case events.StageSucceeded{}.EventType():
		if logs {
			c.cfg.Logger.Info("node started", append(node, "task", t.task)...)
			c.cfg.Logger.Info("node finished", append(node, "task", t.task, "engine", t.text, "outcome", aggregates.StageSucceeded)...)
		}
	case events.StageSkipped{}.EventType():
		if logs {
			c.cfg.Logger.Info("node skipped", append(node, "reason", t.text)...)
		}
	default:
		c.metrics.jobs.WithLabelValues(t.variant, t.text).Inc()
		if logs {
			c.cfg.Logger.Info("job ended", "jobId", t.job, "workflowId", t.workflow, "outcome", t.text, "stage", t.stage, "class", t.class)
		}
	}
}
