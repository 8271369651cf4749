// Languages at the edge: which there are is shown, and a job in another is refused at once.

package api

import (
	"slices"
	"strings"
	"testing"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
)

func TestAJobInALanguageThatNobodySpeaksIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{noProjector: true, noWorker: true, manual: true})
	w.announceAs("worker-1", events.TaskCapability{Engine: "voice", Fidelity: events.FidelityFull, Languages: "de pt-BR"})
	eventually(t, "the worker is known", func() bool { return w.server.known.capabilities().alive > 0 })
	body := func(language string) string {
		return `{"script":"a","variant":"sadtalker","portrait":"` + w.portrait() + `","options":{"language":"` + language + `"}}`
	}
	for language, want := range map[string]string{"fr": "language_unavailable", "pt-PT": "language_unavailable", "xx": "option_invalid", "German": "option_invalid"} {
		var p problem
		w.want(422, w.post("/api/jobs", body(language))).decode(t, &p)
		if len(p.Errors) == 0 || p.Errors[0].Pointer != "/options/language" || p.Errors[0].Code != want || want == "language_unavailable" && !strings.Contains(p.Errors[0].Detail, "there are de, pt-BR") {
			t.Errorf("%s: %+v", language, p.Errors)
		}
	}
	if job := w.submit(body("DE-at")); w.request(job.ID).Options["language"] != "de-AT" {
		t.Errorf("the request is %+v", w.request(job.ID))
	}
	var list listOf[taskView]
	w.get("/api/capabilities").decode(t, &list)
	if !slices.ContainsFunc(list.Items, func(v taskView) bool {
		return v.Task == aggregates.TaskSpeech && len(v.Engines) == 1 && slices.Equal(v.Engines[0].Languages, []string{"de", "pt-BR"})
	}) {
		t.Errorf("the capabilities are %+v", list.Items)
	}
}
