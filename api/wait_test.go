// Tests of Prefer: wait.

package api

import (
	"net/http"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/myspinbot/myspinbot/projections"
)

// subscribed is a job that somebody follows.
func (w *world) subscribed() (job string) {
	w.server.feed.mu.Lock()
	defer w.server.feed.mu.Unlock()
	for job = range w.server.feed.subs {
		break
	}
	return job
}

func TestWhoWaitsForAJobDoesNotAskTheTablesMeanwhile(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{manual: true})
	var pool *pgxpool.Pool
	other := w.another(func(c *Config) {
		pool = database(t, w)
		c.Tables = projections.NewReader(pool)
	})
	body := `{"variant":"sadtalker","script":"hello","portrait":"` + w.portrait() + `"}`
	answers := make(chan answer, 1)
	go func() { answers <- other.post("/api/jobs", body, "Prefer", "wait=30") }()
	eventually(t, "the answer waits for the job", func() bool { return other.subscribed() != "" })
	job := other.subscribed()
	w.planned(job)
	<-time.After(300 * time.Millisecond) // the first look is over
	before := pool.Stat().AcquireCount()
	<-time.After(time.Second)
	if asked := pool.Stat().AcquireCount() - before; asked > 1 {
		t.Errorf("the tables were asked %d times within a second", asked)
	}
	w.finish(job)
	var view jobView
	w.want(http.StatusOK, <-answers).decode(t, &view)
	if view.Status != "succeeded" || view.ID != job {
		t.Errorf("job %s is %s, want %s", view.ID, view.Status, job)
	}
}
