// Tests of labels, and of lists by label and time.

package api

import (
	"net/http"
	"net/url"
	"slices"
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
