// Tests of places in the queue, forecasts, and the forecasts' error.

package api

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/http"
	"regexp"
	"slices"
	"testing"
	"time"
)

func (w *world) shownJob(id string) (v jobView) {
	w.t.Helper()
	w.want(http.StatusOK, w.get("/api/jobs/"+id)).decode(w.t, &v)
	return v
}

// places are the queue positions that the list shows, 0 for null.
func (w *world) places(jobs []accepted) []int {
	w.t.Helper()
	var list listOf[jobView]
	w.want(http.StatusOK, w.get("/api/jobs")).decode(w.t, &list)
	out := make([]int, len(jobs))
	for i, job := range jobs {
		at := slices.IndexFunc(list.Items, func(v jobView) bool { return v.ID == job.ID })
		if at >= 0 && list.Items[at].QueuePosition != nil {
			out[i] = *list.Items[at].QueuePosition
		}
	}
	return out
}

func TestJobsKnowTheirPlaceAndWhenTheyWillBeDone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{manual: true})
	portrait := w.portrait()
	var jobs []accepted
	for i := range 4 {
		priority := "interactive"
		if i == 1 {
			priority = "batch"
		}
		jobs = append(jobs, w.submit(jsonBody(t, map[string]any{"variant": "sadtalker", "script": canaryScript, "portrait": portrait, "priority": priority})))
	}
	eventually(t, "batch work stands last", func() bool { return slices.Equal(w.places(jobs), []int{1, 4, 2, 3}) })
	if v := w.shownJob(jobs[0].ID); v.EtaSeconds != nil {
		t.Errorf("%d s are predicted, with nothing to go by", *v.EtaSeconds)
	}
	for w.decider.step(jobs[0].ID) != "" {
	}
	eventually(t, "the others move up", func() bool { return slices.Equal(w.places(jobs), []int{0, 3, 1, 2}) })
	last := w.submit(jsonBody(t, map[string]any{"variant": "sadtalker", "script": canaryScript, "portrait": portrait}))
	eventually(t, "the time of each is known", func() bool { return w.shownJob(last.ID).EtaSeconds != nil })
	if v := w.shownJob(jobs[0].ID); v.EtaSeconds != nil || v.QueuePosition != nil {
		t.Errorf("a job that has ended: %v, %v", v.QueuePosition, v.EtaSeconds)
	}

	// Another process knows it from the tables.
	other := w.another()
	eventually(t, "a process that starts later tells the same places", func() bool { return slices.Equal(other.places(jobs), []int{0, 4, 1, 2}) })
	eventually(t, "and times", func() bool { return other.shownJob(last.ID).EtaSeconds != nil })

	for w.decider.step(last.ID) != "" {
	}
	eventually(t, "the prediction is held against what came of it", func() bool {
		return regexp.MustCompile(`(?m)^myspinbot_api_eta_ratio_count 1$`).Match(w.get("/metrics").body)
	})
}

func TestALineupKeepsItsOrder(t *testing.T) {
	t.Parallel()
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // a seed that the failure names
		var l lineup
		var naive []waiting
		for range 400 {
			x := waiting{int64(r.IntN(40)), fmt.Sprint(r.IntN(5))}
			at := slices.Index(naive, x)
			if r.IntN(2) == 0 && at < 0 {
				l.join(x)
				naive = append(naive, x)
			} else if at >= 0 {
				l.leave(x)
				naive = slices.Delete(naive, at, at+1)
			}
			slices.SortFunc(naive, func(a, b waiting) int { return cmp.Or(cmp.Compare(a.since, b.since), cmp.Compare(a.stage, b.stage)) })
			if !slices.Equal(l, naive) {
				t.Fatalf("seed %d: %v, want %v", seed, l, naive)
			}
		}
	}
}

// timed is a queue with jobs of two stages each: tts 10 s, then render 30 s.
func timed(now time.Time, slots map[string]int) *queue {
	q := newQueue(nil, newMetrics().forecast, func() map[string]int { return slots })
	q.now, q.loaded = func() time.Time { return now }, true
	q.pace.note("tts", "e", 10*time.Second)
	q.pace.note("render", "e", 30*time.Second)
	return q
}

func (q *queue) tell(job, kind, stage string, version int64, at time.Time, data string) {
	q.tellOf(tenant, job, kind, stage, version, at, data)
}

func (q *queue) tellOf(tenant, job, kind, stage string, version int64, at time.Time, data string) {
	e := &eventView{JobID: job, Type: kind, Version: version, OccurredAt: at, tenant: tenant, Data: []byte(data)}
	if stage != "" {
		e.Stage = &stage
	}
	q.apply(e)
}

func TestAForecastCountsWhatIsLeftAndWhatIsAhead(t *testing.T) {
	t.Parallel()
	const plan = `{"graph":{"nodes":[{"id":"a","task":"tts","lane":"tts"},{"id":"b","task":"render","lane":"render"}],"edges":[{"from":"a","to":"b"}]}}`
	now := time.Unix(1_700_000_000, 0)
	q := timed(now, map[string]int{"tts": 1, "render": 1})
	for i := range 3 {
		id := fmt.Sprint(i)
		q.tell(id, "job.planned", "", 2, now, plan)
		q.tell(id, "stage.scheduled", "a", 3, now.Add(time.Duration(i)), `{}`)
	}
	check := func(job string, place int, seconds int64, beats map[string]progressView) {
		t.Helper()
		f := q.of(job, time.Time{}, beats)
		if got := valueOr(f.position, 0); got != place {
			t.Errorf("job %s has place %d, want %d", job, got, place)
		}
		if got := valueOr(f.seconds, -1); got != seconds {
			t.Errorf("job %s takes %d s, want %d", job, got, seconds)
		}
	}
	check("0", 1, 40, nil)
	check("1", 2, 70, nil) // the renderer is the narrow lane: 30 s later
	check("2", 3, 100, nil)
	q.tell("0", "stage.started", "a", 4, now.Add(-4*time.Second), `{}`)
	check("0", 0, 36, nil)                                         // 6 s of the voice are left
	check("0", 0, 32, map[string]progressView{"a": {EtaMS: 2000}}) // or 2 s, as its engine says
	check("1", 1, 45, nil)                                         // half of a run before it
	q.tell("0", "stage.succeeded", "a", 5, now, `{"engine":"e"}`)  // 4 s
	q.tell("0", "stage.succeeded", "a", 5, now, `{"engine":"e"}`)  // a repeat
	q.tell("0", "approval.requested", "b", 6, now, `{}`)           // a person's time is nobody's guess
	check("0", 0, -1, nil)
	q.tell("1", "job.cancelled", "", 9, now, `{}`)
	check("1", 0, -1, nil)
	check("2", 1, 40, nil)
	if f := q.of("2", now.Add(time.Hour), nil); valueOr(f.seconds, 0) != 3640 {
		t.Errorf("a job that may not start before an hour takes %v", f.seconds)
	}
	if n := len(q.jobs); n != 2 {
		t.Errorf("%d jobs are kept", n)
	}
}

// TestAPlaceIsAmongOnesOwn has two tenants wait on one lane: the time until a job is done
// counts all of them, and its place tells of nobody else's jobs.
func TestAPlaceIsAmongOnesOwn(t *testing.T) {
	t.Parallel()
	const plan = `{"graph":{"nodes":[{"id":"a","task":"tts","lane":"tts"}],"edges":[]}}`
	now := time.Unix(1_700_000_000, 0)
	q := timed(now, map[string]int{"tts": 1})
	jobs := []string{"x0", "y0", "x1", "y1", "y2"} // in their order, each of the tenant that it begins with
	for i, id := range jobs {
		data := `{}`
		if id == "y0" {
			data = `{"batch":true}`
		}
		q.tellOf(id[:1], id, "job.planned", "", 2, now, plan)
		q.tellOf(id[:1], id, "stage.scheduled", "a", 3, now.Add(time.Duration(i)), data)
	}
	check := func(places, seconds string) {
		t.Helper()
		var gotPlaces []int
		var gotSeconds []int64
		for _, id := range jobs {
			f := q.of(id, time.Time{}, nil)
			gotPlaces, gotSeconds = append(gotPlaces, valueOr(f.position, 0)), append(gotSeconds, valueOr(f.seconds, -1))
		}
		if fmt.Sprint(gotPlaces) != places || fmt.Sprint(gotSeconds) != seconds {
			t.Errorf("places %v in %v s, want %s in %s", gotPlaces, gotSeconds, places, seconds)
		}
	}
	check("[1 3 2 1 2]", "[10 50 20 30 40]") // batch work goes last, also among one's own
	q.tellOf("x", "x0", "job.cancelled", "", 4, now, `{}`)
	check("[0 3 1 1 2]", "[-1 40 10 20 30]")
	for _, id := range []string{"x1", "y1"} {
		q.tellOf(id[:1], id, "job.cancelled", "", 4, now, `{}`)
	}
	check("[0 2 0 0 1]", "[-1 20 -1 -1 10]")
	if l := q.lanes["tts"]; len(l.own) != 1 {
		t.Errorf("the lane keeps %d tenants, of which one waits", len(l.own))
	}
}

func valueOr[T any](p *T, or T) T {
	if p == nil {
		return or
	}
	return *p
}
