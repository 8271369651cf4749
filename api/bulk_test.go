// Tests of one command to many jobs.

package api

import (
	"maps"
	"net/http"
	"testing"

	"github.com/myspinbot/myspinbot/events"
)

// bulk asks for something of many jobs.
func (w *world) bulk(body map[string]any) (out Bulk) {
	w.t.Helper()
	w.want(http.StatusOK, w.post("/api/jobs/bulk", jsonBody(w.t, body))).decode(w.t, &out)
	return out
}

// bulkAll goes through all pages of what a dry run confirmed.
func (w *world) bulkAll(dry Bulk) (done, pages int, refused []BulkRefusal) {
	w.t.Helper()
	body := map[string]any{"action": dry.Action, "filter": dry.Filter, "confirm": dry.Confirm}
	for pages = 1; ; pages++ {
		page := w.bulk(body)
		done, refused = done+page.Done, append(refused, page.Refused...)
		if page.NextCursor == nil {
			return done, pages, refused
		}
		body["cursor"] = *page.NextCursor
	}
}

func TestManyJobsAreCancelledAndRetriedAfterADryRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{manual: true})
	const many = bulkPage + 3
	for range many {
		w.submit(`{"mode":"diagnostic","labels":["load"]}`)
	}
	other := w.submit(`{"mode":"diagnostic"}`)
	filter := map[string]any{"label": "load"}
	eventually(t, "the tables have all jobs", func() bool {
		return w.bulk(map[string]any{"action": "cancel", "filter": filter}).Total == many
	})
	commands := len(w.records(events.TopicJobCommands))
	dry := w.bulk(map[string]any{"action": "cancel", "filter": filter})
	if !dry.DryRun || dry.Done != 0 || dry.Filter.CreatedTo == nil || len(w.records(events.TopicJobCommands)) != commands {
		t.Errorf("a dry run: %+v", dry)
	}
	later := w.submit(`{"mode":"diagnostic","labels":["load"]}`)
	if done, pages, refused := w.bulkAll(dry); done != many || pages != 2 || len(refused) != 0 {
		t.Errorf("%d jobs were cancelled in %d pages; %v", done, pages, refused)
	}
	eventually(t, "all of them are cancelled", func() bool {
		return w.bulk(map[string]any{"action": "retry", "filter": map[string]any{"label": "load", "status": []string{"cancelled"}}}).Total == many
	})
	for _, job := range []accepted{other, later} {
		if v := w.decider.state(job.ID); v.Terminal() || v.Cancelling {
			t.Errorf("job %s was met as well", job.ID)
		}
	}

	// One confirm makes one retry of each.
	again := w.bulk(map[string]any{"action": "retry", "filter": map[string]any{"label": "load", "status": []string{"cancelled"}}})
	for range 2 {
		if done, _, refused := w.bulkAll(again); done != many || len(refused) != 0 {
			t.Errorf("%d jobs were retried; %v", done, refused)
		}
	}
	eventually(t, "each has one retry", func() bool {
		return w.bulk(map[string]any{"action": "cancel", "filter": filter}).Total == many+1 // and the later one
	})

	body := map[string]any{"action": "cancel", "filter": again.Filter, "confirm": again.Confirm}
	for name, change := range map[string]map[string]any{
		"another action":      {},
		"another filter":      {"action": "retry", "filter": filter},
		"a status that ended": {"filter": map[string]any{"status": []string{"failed"}}, "confirm": ""},
		"no action":           {"action": "erase"},
		"a time that is none": {"filter": map[string]any{"created_to": "2026-13-01T00:00:00Z"}, "confirm": ""},
	} {
		wrong := maps.Clone(body)
		maps.Copy(wrong, change)
		if a := w.post("/api/jobs/bulk", jsonBody(t, wrong)); a.status != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
}

// Retries are new jobs, of which no more are taken than of others.
func TestManyRetriesKeepToTheLimitOfOpenJobs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{manual: true, config: func(c *Config) { c.MaxOpenJobs = 2 }})
	filter := map[string]any{"label": "load", "status": []string{"cancelled"}}
	for range 2 {
		job := w.submit(`{"mode":"diagnostic","labels":["load"]}`)
		w.want(http.StatusOK, w.post("/api/jobs/"+job.ID+"/cancel", ""))
	}
	eventually(t, "the tables have both as cancelled", func() bool {
		return w.bulk(map[string]any{"action": "retry", "filter": filter}).Total == 2
	})
	eventually(t, "there is room again", func() bool { return w.server.open.room() == 2 })
	w.submit(diagnostic)
	done, _, refused := w.bulkAll(w.bulk(map[string]any{"action": "retry", "filter": filter}))
	if done != 1 || len(refused) != 1 || refused[0].Code != codeQueueFull {
		t.Errorf("%d retries with room for one; %v", done, refused)
	}
}

// room is how many jobs may still come.
func (b *backlog) room() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.most - b.open
}
