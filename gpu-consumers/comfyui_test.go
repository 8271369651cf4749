// What an attempt makes of a ComfyUI server that plays recorded traffic.

package gpu

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/myspinbot/myspinbot/events"
)

func TestComfyUIMakesATalkingHead(t *testing.T) {
	t.Parallel()
	for name, jobs := range map[string]bool{"by history": false, "by the jobs API": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := serveComfy(t, plays("ws_success", "history_success"))
			f.jobs, f.key, f.result = jobs, "open-sesame", leakyFilm(t, "1.2")
			e := engineOn(t, f, "talk", func(c *ComfyUIConfig) { c.APIKey = "open-sesame" })
			a, percents := speaking(t, 2)
			out, err := e.Run(inTime(t), a)
			if err != nil {
				t.Fatal(err)
			}
			if out.Engine != "comfyui-talk" || out.Fidelity != events.FidelityFull || !strings.Contains(out.Version, "(ComfyUI 0.3.64)") || out.Model != "none" {
				t.Errorf("output = %+v", out)
			}
			talk := out.Files["talking"][0]
			info, err := testTool().probe(t.Context(), talk.Path)
			if err != nil {
				t.Fatal(err)
			}
			if v := info.Video; v.Codec != "h264" || v.Width != 576 || v.Height != 576 || v.FPS != 10 || v.Seconds < 1.3 || info.Audio == nil || info.Audio.Codec != "aac" {
				t.Errorf("video %+v, audio %+v", info.Video, info.Audio)
			}
			film, err := os.ReadFile(talk.Path)
			if err != nil || bytes.Contains(film, []byte("secret")) || !strings.Contains(info.Comment, "AI generated") {
				t.Errorf("the result tells of its graph, or not of its origin: %v, %q", err, info.Comment)
			}
			if got := left(t, a.Dir); !slices.Equal(got, []string{"comfyui-portrait.png", "talking.mp4"}) {
				t.Errorf("files left: %v", got)
			}
			if !slices.IsSorted(*percents) || len(*percents) < 20 || !slices.ContainsFunc(*percents, func(p float64) bool { return p > 30 && p < 80 }) {
				t.Errorf("progress = %v", *percents)
			}
			if len(f.posted) != 1 || f.posted[0].ID != a.ID || f.posted[0].Client != a.ID || !slices.Equal(f.forgot, []string{a.ID}) {
				t.Errorf("posted %+v, forgotten %v", f.posted, f.forgot)
			}
			wantGraph(t, f.posted[0].Graph, a)
		})
	}
}

// wantGraph compares the posted graph with the recorded one: nothing but the slots differs.
func wantGraph(t *testing.T, posted json.RawMessage, a *Attempt) {
	t.Helper()
	var history map[string]struct{ Prompt []json.RawMessage }
	if err := json.Unmarshal(comfyRecorded(t, "history_success").Response, &history); err != nil {
		t.Fatal(err)
	}
	var want, got comfyGraph
	if err := errors.Join(json.Unmarshal(history["11111111-1111-4111-8111-111111111111"].Prompt[2], &want), json.Unmarshal(posted, &got)); err != nil {
		t.Fatal(err)
	}
	folder := "myspinbot/" + a.JobID + "/"
	want["1"].Inputs["image"] = folder + "portrait (1).png" // the name that the server gave
	want["4"].Inputs["audio"] = folder + "speech (1).wav"
	want["2"].Inputs["width"], want["2"].Inputs["height"] = 336.0, 336.0 // as many pixels as 455×256
	want["3"].Inputs["frames"] = 17.0                                    // of 1.35 s at 12 a second
	want["6"].Inputs["filename_prefix"] = folder + "lipsync-2"
	if !reflect.DeepEqual(got, want) {
		t.Errorf("graph\n%v, want\n%v", got, want)
	}
}

func TestComfyUIFailuresHaveClasses(t *testing.T) {
	t.Parallel()
	// answers gives a recorded answer to every post of a graph, changed.
	answers := func(recorded string, edit ...string) func(*fakeComfy) {
		return func(f *fakeComfy) {
			r := comfyRecorded(f.t, recorded)
			f.intercept = func(w http.ResponseWriter, q *http.Request) bool {
				if q.URL.Path != "/prompt" {
					return false
				}
				var p comfyPosted
				_ = json.NewDecoder(q.Body).Decode(&p)
				text := strings.NewReplacer(append(edit, "d2f0b55c-8f36-4168-9f33-e1b6986cfbf8", p.ID)...).Replace(string(r.Response))
				if r.Status == http.StatusOK {
					f.accept(p)
				}
				w.WriteHeader(r.Status)
				_, _ = w.Write([]byte(text))
				return true
			}
		}
	}
	says := func(path, text string) func(*fakeComfy) {
		return func(f *fakeComfy) {
			f.intercept = func(w http.ResponseWriter, q *http.Request) bool {
				if !strings.HasPrefix(q.URL.Path, path) {
					return false
				}
				w.Header().Set("Content-Length", "4000")
				if !strings.HasSuffix(text, "…") {
					w.Header().Del("Content-Length")
				}
				_, _ = w.Write([]byte(text))
				return true
			}
		}
	}
	for name, c := range map[string]struct {
		play    func(*fakeComfy, string)
		prepare func(*fakeComfy)
		class   string
		message string
		hint    string
	}{
		"an absent file":             {prepare: answers("post_file_absent"), class: events.ClassEngineRejected, message: "node 1 (LoadImage): custom_validation_failed"},
		"an unknown node":            {prepare: answers("post_missing_class"), class: events.ClassEngineRejected, message: "invalid_prompt"},
		"a missing input":            {prepare: answers("post_missing_input"), class: events.ClassEngineRejected, message: "required_input_missing"},
		"no output":                  {prepare: answers("post_no_output"), class: events.ClassEngineRejected, message: "prompt_no_outputs"},
		"taken, our output left out": {prepare: answers("post_ckpt_absent", `"10"`, `"6"`), class: events.ClassEngineRejected, message: "value_not_in_list"},
		"a server in trouble":        {prepare: answers("post_bad_json"), class: events.ClassEngineUnavailable},
		"a node that throws":         {play: plays("ws_error", "history_error"), class: events.ClassEngineRejected, message: "node 4 (LoadAudio)"},
		"memory":                     {play: plays("ws_oom", "history_oom"), class: events.ClassOOM, message: "node 3 (SlowFrames)", hint: "smaller"},
		"interrupted by somebody":    {play: plays("ws_interrupted", "history_interrupted"), class: events.ClassEngineUnavailable, message: "interrupted"},
		"cached, the file deleted":   {play: plays("ws_cached", "history_success"), class: events.ClassEngineUnavailable, message: "no longer in its output folder"},
		"garbage":                    {prepare: says("/queue", "<html>"), class: events.ClassEngineRejected, hint: "another program"},
		"half an answer":             {prepare: says("/queue", `{"queue_running": […`), class: events.ClassEngineUnavailable},
		"a queue without lists":      {prepare: says("/queue", `{}`), class: events.ClassEngineRejected},
		"a key asked for":            {prepare: func(f *fakeComfy) { f.key = "x" }, class: events.ClassEngineUnavailable, hint: "api_key"},
		"no film in the result": {play: plays("ws_success", "history_success"), prepare: func(f *fakeComfy) { f.result = []byte("not a film at all, whatever it is called") },
			class: events.ClassEngineRejected, message: "no video"},
		"restarted in the middle": {play: func(f *fakeComfy, id string) {
			f.begin(id)
			f.say(id, "ws_before_drop")
			f.change(func() { f.running = nil })
		}, class: events.ClassEngineUnavailable, message: "no longer knows"},
		"gone in the middle": {play: func(f *fakeComfy, id string) {
			f.begin(id)
			f.vanish()
		}, class: events.ClassEngineUnavailable, message: "does not answer"},
		"silent": {play: func(f *fakeComfy, id string) { f.begin(id) }, class: events.ClassStalled, hint: "engines.comfyui.idle"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := serveComfy(t, c.play)
			e := engineOn(t, f, "talk", func(cfg *ComfyUIConfig) {
				if c.class == events.ClassStalled {
					cfg.Idle = 300 * time.Millisecond
				}
			})
			if c.prepare != nil {
				c.prepare(f)
			}
			a, percents := speaking(t, 1)
			_, err := e.Run(inTime(t), a)
			te := wantTaskError(t, err, c.class)
			if !strings.Contains(te.Message, c.message) || !strings.Contains(te.Hint, c.hint) || strings.Contains(te.Message+te.Hint, "<base>") {
				t.Errorf("message %q, hint %q", te.Message, te.Hint)
			}
			if name == "restarted in the middle" && !errors.Is(err, errLost) {
				t.Errorf("a lost prompt is %v", err)
			}
			f.mu.Lock()
			defer f.mu.Unlock()
			if name != "gone in the middle" && len(f.running)+len(f.pending) > 0 {
				t.Errorf("left on the queue: %v %v", f.running, f.pending)
			}
			if !slices.IsSorted(*percents) {
				t.Errorf("progress = %v", *percents)
			}
		})
	}
}

func TestErrorsOfOtherOutputsAreNotOurs(t *testing.T) {
	t.Parallel()
	r := comfyRecorded(t, "post_ckpt_absent")
	var answer struct {
		NodeErrors map[string]comfyNodeFault `json:"node_errors"`
	}
	if err := json.Unmarshal(r.Response, &answer); err != nil || len(answer.NodeErrors) == 0 {
		t.Fatal(err, answer)
	}
	if err := faultOfOutput(comfyPrompt{output: "6"}, answer.NodeErrors); err != nil {
		t.Errorf("an error that another output depends on: %v", err)
	}
	wantTaskError(t, faultOfOutput(comfyPrompt{output: "10"}, answer.NodeErrors), events.ClassEngineRejected)
}

func TestMessagesMayBreakOffAndBeOthers(t *testing.T) {
	t.Parallel()
	f := serveComfy(t, func(f *fakeComfy, id string) {
		f.begin(id)
		f.say(id, "ws_before_drop")
		f.send(id, []byte(`{"type":"progress","data":{"value":24,"max":24,"node":"3","prompt_id":"another"}}`))
		f.send(id, []byte(`{"type":"execution_success","data":{"prompt_id":"another"}}`))
		f.send(id, []byte(`not even JSON`))
		f.mu.Lock()
		first := f.conns[id]
		f.mu.Unlock()
		_ = first.CloseNow()
		f.await("a new connection under the same name", func() bool { return f.dials == 2 && f.conns[id] != nil && f.conns[id] != first })
		f.say(id, "ws_after_drop")
		f.end(id, "history_success")
	})
	f.result, f.late = leakyFilm(t, "1.2"), 3 // history lags behind the message of success
	a, percents := speaking(t, 1)
	if _, err := engineOn(t, f, "talk", nil).Run(inTime(t), a); err != nil {
		t.Fatal(err)
	}
	if !slices.IsSorted(*percents) || len(*percents) < 20 {
		t.Errorf("progress = %v", *percents)
	}
}

func TestProgressIsOfThePromptAlone(t *testing.T) {
	t.Parallel()
	graph := comfyGraph{"1": {Class: "KSampler"}, "2": {Class: "SaveVideo"}}
	var last float64
	w := &comfyWatch{id: "ours", graph: graph, report: func(p float64, _ string) { last = p }, ended: make(chan struct{}, 1), done: map[string]bool{}}
	for _, step := range []struct {
		message string
		want    float64
	}{
		{`{"type":"progress","data":{"value":10,"max":20,"node":"1","prompt_id":"ours"}}`, 100 * 10. / 21},
		{`{"type":"progress","data":{"value":20,"max":20,"node":"1","prompt_id":"another"}}`, 100 * 10. / 21},
		{`{"type":"executing","data":{"node":"1"}}`, 100 * 10. / 21}, // after a reconnection: of whom?
		{`{"type":"progress","data":{"value":2,"max":20,"node":"1","prompt_id":"ours"}}`, 100 * 10. / 21},
		{`{"type":"progress_state","data":{"nodes":{"1":{"state":"finished"}},"prompt_id":"ours"}}`, 100 * 20. / 21},
		{`{"type":"executed","data":{"node":"2","prompt_id":"ours","output":{}}}`, 100},
	} {
		if w.take([]byte(step.message)); last < step.want-0.01 || last > step.want+0.01 {
			t.Errorf("after %s: %g %%, want %g", step.message, last, step.want)
		}
	}
	if w.take([]byte(`{"type":"execution_success","data":{"prompt_id":"another"}}`)); len(w.ended) != 0 {
		t.Error("the end of another prompt was taken for ours")
	}
}

func TestACancelledAttemptLeavesNothing(t *testing.T) {
	t.Parallel()
	for name, runs := range map[string]bool{"while it waits": false, "while it runs": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(inTime(t))
			f := serveComfy(t, func(f *fakeComfy, id string) {
				if runs {
					f.begin(id)
				}
				cancel()
			})
			f.running = []string{"somebody's"}
			a, _ := speaking(t, 1)
			_, err := engineOn(t, f, "talk", nil).Run(ctx, a)
			if !errors.Is(err, context.Canceled) {
				t.Errorf("a cancelled run: %v", err)
			}
			f.mu.Lock()
			defer f.mu.Unlock()
			if !slices.Equal(f.running, []string{"somebody's"}) || len(f.pending) > 0 || slices.Contains(f.stopped, "somebody's") {
				t.Errorf("running %v, pending %v, interrupted %v", f.running, f.pending, f.stopped)
			}
			if got := left(t, a.Dir); !slices.Equal(got, []string{"comfyui-portrait.png"}) { // of the attempt's folder, which goes with it
				t.Errorf("files left: %v", got)
			}
			if len(f.conns) > 0 {
				f.mu.Unlock()
				f.await("the end of the messages", func() bool { return len(f.conns) == 0 })
				f.mu.Lock()
			}
		})
	}
}

func TestAPromptIsPostedOnce(t *testing.T) {
	t.Parallel()
	id := events.AttemptID(comfyJob, "lipsync", 2)
	for name, c := range map[string]struct {
		before func(*fakeComfy)
		posts  int
	}{
		"it runs already": {func(f *fakeComfy) {
			f.running = []string{id}
			go func() {
				f.await("a listener", func() bool { return f.conns[id] != nil })
				f.end(id, "history_success")
			}()
		}, 0},
		"it is done":          {func(f *fakeComfy) { f.end(id, "history_success") }, 0},
		"it was interrupted":  {func(f *fakeComfy) { f.end(id, "history_interrupted") }, 1},
		"it failed before":    {func(f *fakeComfy) { f.end(id, "history_oom") }, 1},
		"the answer was lost": {func(f *fakeComfy) { f.intercept = losesFirst(f) }, 1},
		"an earlier attempt still runs": {func(f *fakeComfy) {
			f.running, f.pending = []string{events.AttemptID(comfyJob, "lipsync", 1), "somebody's"}, []string{"another's"}
		}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := serveComfy(t, plays("ws_success", "history_success"))
			f.result, f.jobs = leakyFilm(t, "1.2"), strings.HasPrefix(name, "it") // as the newer servers, which look at the history first
			c.before(f)
			a, _ := speaking(t, 2)
			if _, err := engineOn(t, f, "talk", nil).Run(inTime(t), a); err != nil {
				t.Fatal(err)
			}
			f.mu.Lock()
			defer f.mu.Unlock()
			if len(f.posted) != c.posts {
				t.Errorf("%d posts, want %d", len(f.posted), c.posts)
			}
			if name == "an earlier attempt still runs" && (!slices.Equal(f.running, []string{"somebody's"}) || !slices.Equal(f.pending, []string{"another's"})) {
				t.Errorf("running %v, pending %v", f.running, f.pending)
			}
		})
	}
}

// losesFirst takes the first graph and breaks the connection before it answers.
func losesFirst(f *fakeComfy) func(http.ResponseWriter, *http.Request) bool {
	return func(_ http.ResponseWriter, r *http.Request) bool {
		f.mu.Lock()
		first := len(f.posted) == 0
		f.mu.Unlock()
		if r.URL.Path != "/prompt" || !first {
			return false
		}
		var p comfyPosted
		_ = json.NewDecoder(r.Body).Decode(&p)
		f.accept(p)
		panic(http.ErrAbortHandler)
	}
}

func TestMemoryIsFreedAfterItRanOut(t *testing.T) {
	t.Parallel()
	f := serveComfy(t, plays("ws_success", "history_success"))
	f.result = leakyFilm(t, "1.2")
	a, _ := speaking(t, 2)
	a.Reduce = 1
	if _, err := engineOn(t, f, "talk", nil).Run(inTime(t), a); err != nil {
		t.Fatal(err)
	}
	var graph comfyGraph
	if err := json.Unmarshal(f.posted[0].Graph, &graph); err != nil {
		t.Fatal(err)
	}
	if f.freed != 1 || graph["2"].Inputs["width"] != 240.0 {
		t.Errorf("freed %d times, width %v", f.freed, graph["2"].Inputs["width"])
	}
}
