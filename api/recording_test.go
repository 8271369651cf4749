// Jobs with a recording in place of a voice, from their upload to what is read of them.

package api

import (
	"net/http"
	"slices"
	"testing"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
)

// A job's recording is copied into its folder and read by its speech; the job says that it
// has one, and so do its retries and re-runs.
func TestARecordingIsHeardInPlaceOfAVoice(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{manual: true})
	parent := w.ended(`{"variant":"sadtalker","script":"` + canaryScript + `","portrait":"` + w.portrait() + `","audio":"` + w.uploaded(wavFile(2)) + `"}`)
	recording := w.commanded(parent.ID).Inputs["audio"].Artifacts
	if len(recording) != 1 || recording[0].Type != "audio" || recording[0].DurationMS != 2000 || recording[0].SHA256 == "" {
		t.Fatalf("the command has %+v", recording)
	}
	speaks := func(job string) {
		t.Helper()
		j := w.decider.state(job)
		i, found := j.Node("tts")
		if !found {
			t.Fatalf("job %s has no speech", job)
		}
		if in := j.Inputs(j.Graph.Nodes[i])[events.InputRecording].Artifacts; len(in) != 1 || in[0].URI != recording[0].URI {
			t.Errorf("the speech of job %s reads %+v", job, in)
		}
	}
	if speaks(parent.ID); !parent.Request.Audio {
		t.Errorf("the request is %+v", parent.Request)
	}
	for verb, body := range map[string]string{"retry": `{}`, "rerun": `{"options":{"captions":"burned"}}`} {
		got := w.goOn(parent.ID, verb, body)
		if speaks(got.ID); !got.Request.Audio {
			t.Errorf("the %s's request is %+v", verb, got.Request)
		}
	}
	w.want(http.StatusUnprocessableEntity, w.post("/api/jobs/"+parent.ID+"/rerun", `{"options":{"speed":1.5}}`))
}

// Who plays recordings is listed, and is no voice for jobs without one.
func TestARecorderIsNoVoice(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{noProjector: true, manual: true})
	portrait, audio := w.portrait(), w.uploaded(wavFile(1))
	spoken := `{"script":"a","variant":"sadtalker","portrait":"` + portrait + `"`
	w.announce(slices.DeleteFunc(allTasks(), func(name string) bool { return name == aggregates.TaskSpeech }))
	eventually(t, "nobody speaks", func() bool { return w.post("/api/jobs", spoken+`}`).status == http.StatusUnprocessableEntity })
	w.announceOnly("worker-2", recorder)
	eventually(t, "recordings are played", func() bool {
		return w.post("/api/jobs", spoken+`,"audio":"`+audio+`"}`).status == http.StatusAccepted
	})
	w.want(http.StatusUnprocessableEntity, w.post("/api/jobs", spoken+`}`))
	var list listOf[taskView]
	w.get("/api/capabilities").decode(t, &list)
	i := slices.IndexFunc(list.Items, func(v taskView) bool { return v.Task == aggregates.TaskSpeech })
	if v := list.Items[i]; v.Available || v.Real || len(v.Engines) != 1 || *v.Engines[0].Takes != events.InputRecording {
		t.Errorf("speech is %+v", v)
	}
}
