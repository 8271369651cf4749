// Tests of labels, and of lists by label and time.

package api

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// listed are the ids of a list's page.
func (w *world) listed(query string) []string {
	w.t.Helper()
	var list listOf[jobView]
	w.want(http.StatusOK, w.get("/api/jobs?"+query)).decode(w.t, &list)
	ids := []string{}
	for _, v := range list.Items {
		ids = append(ids, v.ID)
	}
	return ids
}

func TestJobsAreFoundByLabelAndTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	portrait := w.portrait()
	body := func(labels ...string) string {
		return jsonBody(t, map[string]any{"variant": "sadtalker", "script": canaryScript, "portrait": portrait, "labels": orEmpty(labels)})
	}
	one := w.submit(body("spring", "a.b-c_1", "spring"))
	if want := []string{"a.b-c_1", "spring"}; !slices.Equal(one.Labels, want) {
		t.Errorf("labels %q, want %q", one.Labels, want)
	}
	eventually(t, "the first job succeeds", func() bool { return w.shownJob(one.ID).Status == "succeeded" })
	two := w.submit(body("spring"))
	three := w.submit(body())
	for _, job := range []accepted{two, three} {
		eventually(t, "the job succeeds", func() bool { return w.shownJob(job.ID).Status == "succeeded" })
	}
	if got := w.shownJob(one.ID).Labels; !slices.Equal(got, one.Labels) {
		t.Errorf("the tables show the labels %q", got)
	}
	var child accepted
	w.want(http.StatusAccepted, w.post("/api/jobs/"+one.ID+"/retry", "")).decode(t, &child)
	var other accepted
	w.want(http.StatusAccepted, w.post("/api/jobs/"+one.ID+"/rerun", `{"labels":["autumn"]}`)).decode(t, &other)
	for _, job := range []accepted{child, other} {
		eventually(t, "the job succeeds", func() bool {
			a := w.get("/api/jobs/" + job.ID + "?position=" + job.Position)
			return a.status == http.StatusOK
		})
	}

	second := url.QueryEscape(w.shownJob(two.ID).CreatedAt.Format(time.RFC3339Nano))
	for query, want := range map[string][]string{
		"label=spring":                        {child.ID, two.ID, one.ID},
		"label=a.b-c_1&status=succeeded":      {child.ID, one.ID},
		"label=autumn":                        {other.ID},
		"label=winter":                        {},
		"created_to=" + second:                {one.ID},
		"created_from=" + second:              {other.ID, child.ID, three.ID, two.ID},
		"label=spring&created_from=" + second: {child.ID, two.ID},
	} {
		eventually(t, "the list by "+query, func() bool { return slices.Equal(w.listed(query), want) })
	}
	// Pages keep the filter.
	var page listOf[jobView]
	w.want(http.StatusOK, w.get("/api/jobs?label=spring&limit=2")).decode(t, &page)
	if got := w.listed("label=spring&limit=2&cursor=" + *page.Next); !slices.Equal(got, []string{one.ID}) {
		t.Errorf("the second page has %q", got)
	}
	for _, query := range []string{"label=A", "label=" + url.QueryEscape("a b"), "created_from=yesterday", "created_to=2026-13-01T00:00:00Z"} {
		w.want(http.StatusBadRequest, w.get("/api/jobs?"+query))
	}
	for _, bad := range [][]string{{"Ä"}, {""}, {"-a"}, slices.Repeat([]string{"a"}, 11)} {
		w.want(http.StatusUnprocessableEntity, w.post("/api/jobs", body(bad...)))
	}
}

// relabel gives a job other labels.
func (w *world) relabel(job string, labels ...string) accepted {
	w.t.Helper()
	var out accepted
	a := w.do(http.MethodPatch, "/api/jobs/"+job, map[string]string{"Content-Type": "application/json"}, strings.NewReader(jsonBody(w.t, map[string]any{"labels": orEmpty(labels)})))
	w.want(http.StatusOK, a).decode(w.t, &out)
	return out
}

// toItsEnd are the frames of a stream that the server ends.
func (c *client) toItsEnd() (frames []received) {
	c.w.t.Helper()
	late := time.After(15 * time.Second)
	for {
		select {
		case f, open := <-c.frames:
			if !open {
				return frames
			}
			frames = append(frames, f)
		case <-late:
			c.w.t.Fatalf("the stream does not end after %d frames", len(frames))
		}
	}
}

func TestLabelsChangeAlsoWhenTheJobHasEnded(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{manual: true})
	job := w.submit(jsonBody(t, map[string]any{"variant": "sadtalker", "script": canaryScript, "portrait": w.portrait(), "labels": []string{"spring"}}))
	if got := w.relabel(job.ID, "summer", "approved", "summer"); !slices.Equal(got.Labels, []string{"approved", "summer"}) || got.Position != job.ID+":4" {
		t.Errorf("relabelled %+v", got)
	}
	for query, want := range map[string][]string{"label=spring": {}, "label=summer": {job.ID}} {
		if got := w.listed(query); !slices.Equal(got, want) {
			t.Errorf("the list by %s: %q", query, got)
		}
	}
	stream := w.openStream(job.ID, "")
	w.ask(job.ID, "cancel", "")
	whole := stream.toItsEnd()
	last := whole[len(whole)-1].id
	ended := w.relabel(job.ID, "unwanted")
	if ended.Status != "cancelled" || !slices.Equal(ended.Labels, []string{"unwanted"}) || !slices.Equal(w.listed("label=unwanted&status=cancelled"), []string{job.ID}) {
		t.Errorf("labelled after its end %+v", ended)
	}
	if same := w.relabel(job.ID, "unwanted"); same.Version != ended.Version {
		t.Errorf("the same labels again made version %d of %d", same.Version, ended.Version)
	}
	// A stream that resumes behind the end gives what came then, and ends; so does one from the begin.
	for _, from := range []string{last, ""} {
		var types []string
		for _, f := range w.openStream(job.ID, from).toItsEnd() {
			types = append(types, f.event.Type)
		}
		if len(types) == 0 || types[len(types)-1] != labelled || from == last && len(types) != 1 {
			t.Errorf("the stream from %q gave %q", from, types)
		}
	}
	// A retry has the labels of today.
	var child accepted
	w.want(http.StatusAccepted, w.post("/api/jobs/"+job.ID+"/retry", "")).decode(t, &child)
	if !slices.Equal(child.Labels, []string{"unwanted"}) {
		t.Errorf("the retry has the labels %q", child.Labels)
	}
	for body, status := range map[string]int{`{}`: 422, `{"labels":["Ä"]}`: 422, `{"labels":["a"],"status":"succeeded"}`: 422, `{"labels":"a"}`: 422} {
		w.want(status, w.do(http.MethodPatch, "/api/jobs/"+job.ID, map[string]string{"Content-Type": "application/json"}, strings.NewReader(body)))
	}
	w.want(http.StatusNotFound, w.do(http.MethodPatch, "/api/jobs/"+exampleProfile, map[string]string{"Content-Type": "application/json"}, strings.NewReader(`{"labels":[]}`)))
}
