package main

// This file checks that our jobs did each step once, by an own reading of their facts.

import (
	"fmt"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// onceCheck follows the facts of jobs.
type onceCheck struct {
	jobs map[string]*onceJob
	bad  error // the first fault
}

type onceJob struct {
	chain               events.Chain
	submitted, ended    int
	scheduled, finished map[string]int // by stage
}

func newOnceCheck(ids []string) *onceCheck {
	c := &onceCheck{jobs: make(map[string]*onceJob, len(ids))}
	for _, id := range ids {
		c.jobs[id] = &onceJob{scheduled: map[string]int{}, finished: map[string]int{}}
	}
	return c
}

// add takes the next facts. Those of other jobs (probes) are passed over.
func (c *onceCheck) add(records []eventlog.Record) error {
	for _, r := range records {
		j := c.jobs[r.Key]
		if j == nil {
			continue
		}
		m, err := events.Decode(r.Value)
		if err != nil {
			return err
		}
		if err := j.chain.Check(m); err != nil && c.bad == nil {
			c.bad = err
		}
		j.chain = j.chain.Next(m)
		switch m.Data.(type) {
		case events.JobSubmitted:
			j.submitted++
		case events.StageScheduled:
			j.scheduled[m.Stage]++
		case events.StageSucceeded:
			j.finished[m.Stage]++
		case events.JobSucceeded:
			j.ended++
		case events.JobFailed, events.JobRejected, events.JobCancelled, events.StageFailed, events.StageAttemptExpired:
			if c.bad == nil {
				c.bad = fmt.Errorf("job %s has a %s of stage %q", r.Key, m.Type(), m.Stage)
			}
		default: // no other fact tells how often something was done
		}
	}
	return nil
}

// verdict is the first job that did not do every step once.
func (c *onceCheck) verdict() error {
	if c.bad != nil {
		return c.bad
	}
	for id, j := range c.jobs {
		if j.submitted != 1 || j.ended != 1 {
			return fmt.Errorf("job %s was submitted %d times and succeeded %d times", id, j.submitted, j.ended)
		}
		for _, stage := range noopLanes {
			if j.scheduled[stage] != 1 || j.finished[stage] != 1 {
				return fmt.Errorf("stage %s of job %s was scheduled %d times and succeeded %d times", stage, id, j.scheduled[stage], j.finished[stage])
			}
		}
	}
	return nil
}
