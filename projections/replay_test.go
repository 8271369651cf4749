// Tests of making one job's rows anew.

package projections

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/myspinbot/myspinbot/migrations"
)

func TestReplayOfOneJobMendsItsRowsAndNoOthers(t *testing.T) {
	t.Parallel()
	pool, memory := database(t), newLog()
	l := keyed{memory}
	tellInTurn(t, memory, eventful("a"), stopped("b"), whole("c"), person("p"))
	p := projector(pool, memory, 50)
	stop := launch(t, p)
	caughtUp(t, memory, p)
	stop()
	before := dump(t, pool)
	again := func(id string) Replayed {
		t.Helper()
		r, err := replayJob(t.Context(), projector(pool, l, 50), id)
		ok(t, err)
		return r
	}
	if r := again("a"); len(r.Differences) > 0 || r.Events == 0 || r.Rows == 0 {
		t.Errorf("nothing was wrong, but %+v", r)
	}
	for _, damage := range []string{
		"UPDATE gen_1.jobs SET status = 'lost', graph = NULL, last_offset = 0 WHERE id = 'a'",
		"DELETE FROM gen_1.jobs WHERE id = 'a'; DELETE FROM gen_1.stages WHERE job_id = 'a'; DELETE FROM gen_1.artifacts WHERE job_id = 'a'; DELETE FROM gen_1.job_events WHERE job_id = 'a'",
		"UPDATE gen_1.stages SET id = id || 'x', attempt = 99 WHERE job_id = 'a'; UPDATE gen_1.job_events SET log_offset = log_offset + 100000 WHERE job_id = 'a'",
	} {
		exec(t, pool, damage)
		if r := again("a"); len(r.Differences) == 0 {
			t.Errorf("%s was not noticed", damage)
		}
		equal(t, dump(t, pool), before)
	}
	exec(t, pool, "UPDATE gen_1.jobs SET status = 'lost' WHERE id IN ('a', 'b')")
	again("a")
	if r := proven(t, pool, memory); len(r.Differences) != 1 || r.Differences[0].Key != "b" {
		t.Errorf("after job a alone: %v", r.Differences)
	}
	again("b")
	// A job that no event explains goes; one that nobody knows is said to be unknown.
	exec(t, pool, `INSERT INTO gen_1.jobs SELECT (jsonb_populate_record(j, '{"id": "ghost"}')).* FROM gen_1.jobs j WHERE id = 'c'`)
	if r := again("ghost"); r.Rows != 0 || len(r.Differences) != 1 {
		t.Errorf("the ghost: %+v", r)
	}
	equal(t, dump(t, pool), before)
	if _, err := replayJob(t.Context(), projector(pool, l, 50), "ghost"); !errors.Is(err, ErrNotFound) {
		t.Errorf("an unknown job: %v", err)
	}
	exec(t, pool, "UPDATE myspinbot.generations SET shape = 'older'")
	if _, err := replayJob(t.Context(), projector(pool, l, 50), "a"); !errors.Is(err, migrations.ErrOtherShape) {
		t.Errorf("other tables: %v", err)
	}
}

// TestReplayOfOneJobBesideARunningProjector damages and mends a job while its events, and others', come in.
func TestReplayOfOneJobBesideARunningProjector(t *testing.T) {
	t.Parallel()
	pool, memory := database(t), newLog()
	l := keyed{memory}
	p := projector(pool, memory, 3)
	launch(t, p)
	eventually(t, "the projector has begun", func() bool { return len(p.Status().Partitions) > 0 })
	job := whole("job")
	var others sync.WaitGroup
	others.Go(func() {
		for i := range 10 {
			memory.tell(t, whole(fmt.Sprintf("other-%d", i)).messages...)
		}
	})
	for _, m := range job.messages {
		memory.tell(t, m)
		exec(t, pool, "UPDATE gen_1.jobs SET tenant = 'nobody', progress = 0.123 WHERE id = 'job'")
		if _, err := replayJob(t.Context(), projector(pool, l, 5), "job"); err != nil && !errors.Is(err, ErrNotFound) {
			t.Fatal(err)
		}
	}
	others.Wait()
	caughtUp(t, memory, p)
	if _, err := replayJob(t.Context(), projector(pool, l, 5), "job"); err != nil {
		t.Fatal(err)
	}
	wantProven(t, pool, memory, 11*19)
}
