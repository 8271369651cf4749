// How many jobs are open, so that no more are taken than can be worked off: what the
// tables hold, and what this process saw and accepted since.

package api

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/myspinbot/myspinbot/projections"
)

const (
	recount     = 10 * time.Second // between two looks into the tables
	recountSoon = time.Second      // after one that failed
	// tablesBehind is how long what was seen on the log counts beside the tables, which
	// may be behind. An end that they show later is seen with the next look.
	tablesBehind = 30 * time.Second
)

// backlog counts the tenant's open jobs. Without tables it knows what it saw since the
// start: jobs are accepted all the same.
type backlog struct {
	most  int // 0: no bound, and nothing is counted
	now   func() time.Time
	gauge prometheus.Gauge

	mu     sync.Mutex
	rows   map[string]bool // ids that the tables show as open
	lately map[string]sighting
	open   int
}

// sighting is what was last seen of a job.
type sighting struct {
	open bool
	at   time.Time
}

func newBacklog(most int, gauge prometheus.Gauge) *backlog {
	return &backlog{most: most, now: time.Now, gauge: gauge, rows: map[string]bool{}, lately: map[string]sighting{}}
}

// admit counts a job in that is about to be submitted; undo is for one that was not
// submitted after all. One that is open already may always come again.
func (b *backlog) admit(job string) (undo func(), full *refusal) {
	undo = func() {}
	if b.most == 0 {
		return undo, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.isOpen(job) {
		return undo, nil
	}
	if b.open >= b.most {
		return undo, refuse(codeQueueFull, "%d jobs are open, which is this server's limit; send the job again when some have ended", b.open)
	}
	b.see(job, true)
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.see(job, false)
	}, nil
}

// apply takes an event of a job in.
func (b *backlog) apply(e *eventView) {
	if b.most == 0 || e.tenant != tenant {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case e.ends():
		b.see(e.JobID, false)
	case e.Type == "job.submitted":
		b.see(e.JobID, true)
	}
}

func (b *backlog) isOpen(job string) bool {
	if s, ok := b.lately[job]; ok {
		return s.open
	}
	return b.rows[job]
}

// see notes what became of a job. The caller holds mu.
func (b *backlog) see(job string, open bool) {
	was := b.isOpen(job)
	b.lately[job] = sighting{open, b.now()}
	switch {
	case open && !was:
		b.open++
	case !open && was:
		b.open--
	}
	b.gauge.Set(float64(b.open))
}

// recounted takes in what the tables show. What was seen lately holds against them.
func (b *backlog) recounted(ids []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	old := b.now().Add(-tablesBehind)
	for job, s := range b.lately {
		if s.at.Before(old) {
			delete(b.lately, job)
		}
	}
	b.rows, b.open = make(map[string]bool, len(ids)), 0
	for _, id := range ids {
		b.rows[id] = true
		if b.isOpen(id) {
			b.open++
		}
	}
	for job, s := range b.lately {
		if s.open && !b.rows[job] {
			b.open++
		}
	}
	b.gauge.Set(float64(b.open))
}

// run looks into the tables until ctx ends.
func (b *backlog) run(ctx context.Context, tables *projections.Reader, log *slog.Logger) error {
	if b.most == 0 {
		return nil
	}
	for told := false; ; {
		next := recount
		ids, err := openJobs(ctx, tables, 2*b.most)
		switch {
		case err == nil:
			b.recounted(ids)
			told = false
		case ctx.Err() == nil:
			next = recountSoon
			if !told {
				log.Warn("the open jobs cannot be counted in the tables; those that this process saw count alone", "error", err)
				told = true
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(next):
		}
	}
}

func openJobs(ctx context.Context, tables *projections.Reader, most int) (ids []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	err = tables.Snapshot(ctx, func(q *projections.Queries) (err error) {
		ids, err = q.OpenJobs(ctx, tenant, most)
		return err
	})
	return ids, err
}
