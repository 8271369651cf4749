// Results of other jobs: when they stand in for work, and when they do not.

package gpu

import (
	"context"
	"encoding/json"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/objects"
)

const (
	otherJob = "7c9a3c52-1111-5d9e-8a50-2a0f5f7f3a22"
	sameWork = "00000000000000000000000000000000000000000000000000000000000000aa"
)

// sharing is a bench whose engine paints and counts.
type sharing struct {
	*bench
	painted atomic.Int32
	planned string // the engine that the commands name
	key     string // id of the other job's content key
}

func newSharing(t *testing.T) *sharing {
	t.Helper()
	s := &sharing{planned: benchTask.Engine + "/" + benchTask.Version + "/" + benchTask.Model}
	s.bench = newBench(t, engineOf(func(ctx context.Context, a *Attempt) (*Output, error) {
		s.painted.Add(1)
		return paint(ctx, a)
	}))
	var err error
	if s.key, _, err = s.ring.Create(t.Context(), "default", "", otherJob); err != nil {
		t.Fatal(err)
	}
	s.start()
	return s
}

// paint runs a stage of a job whose result may be shared, and returns its success.
func (s *sharing) paint(job, stage string) (events.Message, events.TaskSucceeded) {
	s.t.Helper()
	m := s.message(stage, events.TaskRun{
		Subject: "default/-/" + job, InputHash: sameWork, Share: true, Engine: s.planned,
		Inputs: map[string]events.Value{"scene": s.seal("a garden"), "portrait": s.upload("pixels")},
	})
	m.JobID, m.AggregateID = job, job
	s.sendMessage(m)
	done := s.await("task.succeeded", stage)
	return done, done.Data.(events.TaskSucceeded)
}

// spoil changes the manifest.
func (s *sharing) spoil(change func(*madeResult)) {
	s.t.Helper()
	text, err := s.store.Manifest(s.t.Context(), "default", sameWork)
	if err != nil {
		s.t.Fatal(err)
	}
	var made madeResult
	if err := json.Unmarshal(text, &made); err != nil {
		s.t.Fatal(err)
	}
	change(&made)
	if text, err = json.Marshal(made); err != nil {
		s.t.Fatal(err)
	}
	s.write(string(text))
}

func (s *sharing) write(manifest string) {
	s.t.Helper()
	if _, err := s.store.PutManifest(s.t.Context(), "default", sameWork, []byte(manifest), true); err != nil {
		s.t.Fatal(err)
	}
}

func TestAResultStandsInForTheSameWork(t *testing.T) {
	t.Parallel()
	s := newSharing(t)
	_, made := s.paint(otherJob, "first")
	if made.ReusedFrom != nil || s.painted.Load() != 1 {
		t.Fatalf("the first result is %+v, painted %d times", made, s.painted.Load())
	}
	m, reused := s.paint(benchJob, "second")
	if s.painted.Load() != 1 {
		t.Error("the same work was done twice")
	}
	if from := reused.ReusedFrom; from == nil || *from != (events.ReusedFrom{JobID: otherJob, Stage: "first", InputHash: sameWork}) {
		t.Errorf("reused from %+v", from)
	}
	if m.Model != "m1" || reused.Engine != "test" || reused.Fidelity != events.FidelityPreview || reused.Verdict == nil || len(reused.Notes) != 1 {
		t.Errorf("the result is %+v, model %q", reused.Result, m.Model)
	}
	clip, caption := reused.Outputs["clip"].Artifacts[0], reused.Outputs["caption"]
	if clip.ID != events.ArtifactID(benchJob, "second", 1, "clip.mp4") || !strings.Contains(clip.URI, "/default/-/"+benchJob+"/") ||
		clip.SHA256 != made.Outputs["clip"].Artifacts[0].SHA256 || clip.Width != 720 || m.ArtifactURI != clip.URI {
		t.Errorf("the clip is %+v", clip)
	}
	if caption.Text.Key != s.bench.key || caption.Digest != made.Outputs["caption"].Digest || caption.Digest != s.ring.Digest("default", "about a garden") {
		t.Errorf("the caption is under %s with digest %q", caption.Text.Key, caption.Digest)
	}
	// Nothing is shared: with the first job erased, the second keeps everything.
	if err := s.ring.Erase(t.Context(), s.key); err != nil {
		t.Fatal(err)
	}
	if err := s.store.Delete(t.Context(), made.Outputs["clip"].Artifacts[0].URI); err != nil {
		t.Fatal(err)
	}
	if err := s.store.Fetch(t.Context(), clip, filepath.Join(t.TempDir(), "clip")); err != nil {
		t.Error(err)
	}
	if text := s.unseal(caption.Text); text != "about a garden" {
		t.Errorf("the caption is %q", text)
	}
}

func TestWhatCannotBeReusedIsMadeAgain(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*sharing, events.TaskSucceeded){
		"malformed": func(s *sharing, _ events.TaskSucceeded) { s.write("{nope") },
		"empty":     func(s *sharing, _ events.TaskSucceeded) { s.write("") },
		"of other work": func(s *sharing, _ events.TaskSucceeded) {
			s.spoil(func(m *madeResult) { m.InputHash = strings.Repeat("b", 64) })
		},
		"object gone": func(s *sharing, made events.TaskSucceeded) {
			if err := s.store.Delete(s.t.Context(), made.Outputs["clip"].Artifacts[0].URI); err != nil {
				s.t.Error(err)
			}
		},
		"object of another size": func(s *sharing, _ events.TaskSucceeded) {
			s.spoil(func(m *madeResult) { m.Result.Outputs["clip"].Artifacts[0].Size++ })
		},
		"another tenant's object": func(s *sharing, _ events.TaskSucceeded) {
			a, err := s.store.Put(s.t.Context(), "rival/-/job", "mp4", "video/mp4", strings.NewReader("pixelsa garden"))
			if err != nil {
				s.t.Error(err)
			}
			s.spoil(func(m *madeResult) { m.Result.Outputs["clip"].Artifacts[0].URI = a.URI })
		},
		"another tenant's text": func(s *sharing, _ events.TaskSucceeded) {
			id, _, err := s.ring.Create(s.t.Context(), "rival", "", "job")
			if err != nil {
				s.t.Error(err)
			}
			text, err := s.ring.Seal(s.t.Context(), id, "about a garden")
			if err != nil {
				s.t.Error(err)
			}
			s.spoil(func(m *madeResult) { *m.Result.Outputs["caption"].Text = text })
		},
		"another text": func(s *sharing, _ events.TaskSucceeded) {
			text, err := s.ring.Seal(s.t.Context(), s.key, "about a desert")
			if err != nil {
				s.t.Error(err)
			}
			s.spoil(func(m *madeResult) { *m.Result.Outputs["caption"].Text = text })
		},
		"erased": func(s *sharing, _ events.TaskSucceeded) {
			if err := s.ring.Erase(s.t.Context(), s.key); err != nil {
				s.t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSharing(t)
			_, made := s.paint(otherJob, "first")
			spoil(s, made)
			if _, again := s.paint(benchJob, "second"); again.ReusedFrom != nil || s.painted.Load() != 2 || len(again.Outputs["clip"].Artifacts) != 1 {
				t.Errorf("painted %d times, the result is %+v", s.painted.Load(), again)
			}
			// What was made again has taken the place of what was of no use.
			if _, third := s.paint(benchJob, "third"); third.ReusedFrom == nil || third.ReusedFrom.Stage != "second" || s.painted.Load() != 2 {
				t.Errorf("painted %d times, reused from %+v", s.painted.Load(), third.ReusedFrom)
			}
		})
	}
}

func TestOnlyWhatIsSharedIsShared(t *testing.T) {
	t.Parallel()
	s := newSharing(t)
	inputs := map[string]events.Value{"scene": s.seal("a garden"), "portrait": s.upload("pixels")}
	s.send("alone", events.TaskRun{InputHash: sameWork, Inputs: inputs})
	s.await("task.succeeded", "alone")
	if _, err := s.store.Manifest(t.Context(), "default", sameWork); err == nil {
		t.Error("a result that is nobody else's was offered")
	}
	_, made := s.paint(otherJob, "first")
	before, err := s.store.Manifest(t.Context(), "default", sameWork)
	if err != nil {
		t.Fatal(err)
	}
	s.send("alone again", events.TaskRun{InputHash: sameWork, Inputs: inputs})
	if again := s.await("task.succeeded", "alone again").Data.(events.TaskSucceeded); again.ReusedFrom != nil || made.ReusedFrom != nil || s.painted.Load() != 3 {
		t.Errorf("painted %d times", s.painted.Load())
	}
	if after, err := s.store.Manifest(t.Context(), "default", sameWork); err != nil || string(after) != string(before) {
		t.Errorf("the manifest became %s, %v", after, err)
	}
	var kept madeResult
	if err := json.Unmarshal(before, &kept); err != nil || kept.JobID != otherJob || kept.Attempt != 1 || time.Since(kept.MadeAt) > time.Hour {
		t.Errorf("the manifest is %s, %v", before, err)
	}
	if strings.Contains(string(before), "garden") || !strings.Contains(string(before), objects.KeyID("default/-/"+otherJob)) {
		t.Errorf("a text lies open in the manifest: %s", before)
	}
}

// A result of another engine than the plan supposes would pass for what it is not.
func TestOnlyThePlannedEnginesResultIsOffered(t *testing.T) {
	t.Parallel()
	s := newSharing(t)
	s.planned = "a-larger-model/1/"
	s.paint(otherJob, "first")
	if _, err := s.store.Manifest(t.Context(), "default", sameWork); err == nil {
		t.Error("a result of the engine that stood in was offered under the planned one's name")
	}
}

func TestLessIsAskedForAfterRunningOutOfMemory(t *testing.T) {
	t.Parallel()
	for reduce, want := range []int{1080, 720, 576, 576} {
		w, h, note, err := (&Attempt{Reduce: reduce, Params: map[string]any{"resolution": "1080p", "aspect": "16:9"}}).frameSize()
		if err != nil || h != want || w != want*16/9 || (note == "") != (reduce == 0) {
			t.Errorf("reduced %d times: %dx%d, %q, %v", reduce, w, h, note, err)
		}
	}
	if _, _, _, err := (&Attempt{Params: map[string]any{"resolution": "4k"}}).frameSize(); err == nil {
		t.Error("an unknown resolution passed")
	}
}
