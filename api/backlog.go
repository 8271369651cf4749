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

// backlog counts the open jobs, those of all tenants and those of each. Without tables it
// knows what it saw since the start: jobs are accepted all the same.
type backlog struct {
	most      int // of all tenants; 0: no bound
	perTenant int // 0: no bound
	now       func() time.Time
	gauge     prometheus.Gauge

	mu     sync.Mutex
	rows   map[string]string // tenants by the ids that the tables show as open
	lately map[string]sighting
	open   int
	of     map[string]int // of each tenant that has some
}

// sighting is what was last seen of a job.
type sighting struct {
	tenant string
	open   bool
	at     time.Time
}

func newBacklog(most, perTenant int, gauge prometheus.Gauge) *backlog {
	return &backlog{most: most, perTenant: perTenant, now: time.Now, gauge: gauge, rows: map[string]string{}, lately: map[string]sighting{}, of: map[string]int{}}
}

// counts says whether there is a bound; otherwise nothing is counted.
func (b *backlog) counts() bool { return b.most > 0 || b.perTenant > 0 }

// admit counts a tenant's job in that is about to be submitted; undo is for one that was not
// submitted after all. One that is open already may always come again.
func (b *backlog) admit(tenant, job string) (undo func(), full *refusal) {
	undo = func() {}
	if !b.counts() {
		return undo, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.isOpen(job) {
		return undo, nil
	}
	switch {
	case b.perTenant > 0 && b.of[tenant] >= b.perTenant:
		return undo, refuse(codeQueueFull, "%d of your jobs are open, which is the limit for each tenant; send the job again when some have ended", b.of[tenant])
	case b.most > 0 && b.open >= b.most: // how many of them are others' is nobody's business
		return undo, refuse(codeQueueFull, "as many jobs are open as this server takes; send the job again when some have ended")
	}
	b.see(tenant, job, true)
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.see(tenant, job, false)
	}, nil
}

// apply takes an event of a job in.
func (b *backlog) apply(e *eventView) {
	if !b.counts() {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case e.ends():
		b.see(e.tenant, e.JobID, false)
	case e.Type == "job.submitted":
		b.see(e.tenant, e.JobID, true)
	}
}

func (b *backlog) isOpen(job string) bool {
	if s, ok := b.lately[job]; ok {
		return s.open
	}
	_, open := b.rows[job]
	return open
}

// see notes what became of a job. The caller holds mu.
func (b *backlog) see(tenant, job string, open bool) {
	was := b.isOpen(job)
	b.lately[job] = sighting{tenant, open, b.now()}
	switch {
	case open && !was:
		b.count(tenant, 1)
	case !open && was:
		b.count(tenant, -1)
	}
	b.gauge.Set(float64(b.open))
}

func (b *backlog) count(tenant string, n int) {
	b.open += n
	if b.of[tenant] += n; b.of[tenant] == 0 {
		delete(b.of, tenant)
	}
}

// recounted takes in what the tables show: tenants by the ids of their jobs. What was seen
// lately holds against them.
func (b *backlog) recounted(rows map[string]string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	old := b.now().Add(-tablesBehind)
	for job, s := range b.lately {
		if s.at.Before(old) {
			delete(b.lately, job)
		}
	}
	b.rows, b.open = rows, 0
	clear(b.of)
	for id, tenant := range rows {
		if b.isOpen(id) {
			b.count(tenant, 1)
		}
	}
	for job, s := range b.lately {
		if _, shown := rows[job]; s.open && !shown {
			b.count(s.tenant, 1)
		}
	}
	b.gauge.Set(float64(b.open))
}

// run looks into the tables until ctx ends.
func (b *backlog) run(ctx context.Context, tables *projections.Reader, log *slog.Logger) error {
	if !b.counts() {
		return nil
	}
	for told := false; ; {
		next := recount
		rows, err := openJobs(ctx, tables, 2*max(b.most, b.perTenant))
		switch {
		case err == nil:
			b.recounted(rows)
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

// openJobs are tenants by the ids of their open jobs, at most so many of each tenant.
func openJobs(ctx context.Context, tables *projections.Reader, most int) (rows map[string]string, err error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	err = tables.Snapshot(ctx, func(q *projections.Queries) (err error) {
		rows, err = q.OpenJobs(ctx, most)
		return err
	})
	return rows, err
}
