// Tests of the fold: each Apply as given, when, then.

package projections

import (
	"encoding/json"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/myspinbot/myspinbot/events"
)

func at(seconds int) time.Time {
	return micro(start.Add(time.Duration(seconds) * (time.Second + 321*time.Nanosecond)))
}

func jobAfter(t *testing.T, s *story) (Job, map[string]*Stage) {
	t.Helper()
	f := foldAll(facts(s))
	if f.counts.Rejected != 0 {
		t.Fatalf("the history is not legal: %v", f.rejected)
	}
	byID := make(map[string]*Stage)
	for _, st := range f.jobs[s.id].stages {
		byID[st.ID] = st
	}
	return f.jobs[s.id].row, byID
}

func TestJobApply(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name  string
		story *story
		want  func(*Job)
	}{
		{"submitted", jobStory("j").submitted(), func(j *Job) {}},
		{"planned", jobStory("j").submitted().planned(), func(j *Job) {
			j.Graph, j.ProfileID = &testGraph, "p1"
		}},
		{"a stage waits on its lane", jobStory("j").submitted().planned().scheduled("script", 1), func(j *Job) {
			j.Graph, j.ProfileID = &testGraph, "p1"
		}},
		{"a stage runs", jobStory("j").submitted().planned().scheduled("script", 1).started("script", 1), func(j *Job) {
			j.Graph, j.ProfileID, j.Status, j.StartedAt = &testGraph, "p1", JobRunning, at(4)
		}},
		{"stages ended", jobStory("j").submitted().planned().scheduled("script", 1).started("script", 1).succeeded("script", 1).succeeded("profile", 0), func(j *Job) {
			j.Graph, j.ProfileID, j.Status, j.StartedAt, j.Progress = &testGraph, "p1", JobRunning, at(4), 0.2
		}},
		{"succeeded", jobStory("j").submitted().planned().jobSucceeded(), func(j *Job) {
			j.Graph, j.ProfileID, j.Status, j.FinishedAt, j.Progress = &testGraph, "p1", JobSucceeded, at(3), 1
			j.Outputs = map[string]events.Value{"video": {Artifacts: []events.Artifact{{ID: "a", Name: "v.mp4"}}}}
		}},
		{"failed", jobStory("j").submitted().planned().jobFailed("tts"), func(j *Job) {
			j.Graph, j.ProfileID, j.Status, j.FinishedAt = &testGraph, "p1", JobFailed, at(3)
			j.Error = &Failure{Stage: "tts", Class: events.ClassStalled, Message: "it broke", Hint: "mend it", LogTail: ptr(sealed("tail"))}
		}},
		{"rejected", jobStory("j").submitted().rejected(), func(j *Job) {
			j.Status, j.FinishedAt = JobRejected, at(2)
			reasons := []events.Reason{{Code: "missing", Field: "/prompt", Detail: "a prompt is missing"}, {Code: "range", Detail: "too long"}}
			j.Error = &Failure{Class: events.ClassInvalidInput, Message: "a prompt is missing; too long", Reasons: reasons}
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, _ := jobAfter(t, c.story)
			last := c.story.messages[len(c.story.messages)-1]
			request := c.story.messages[0].Data.(events.JobSubmitted).Request
			want := Job{
				ID: "j", Tenant: "default", Version: last.Version, LastEventID: last.ID, Status: JobQueued, Priority: events.PriorityInteractive,
				Pipeline: "train_and_generate_v1", Variant: "sadtalker", Mode: "train_and_generate",
				CreatedAt: at(1), Request: &request, Partition: place(last).Partition, LastOffset: last.Version - 1,
			}
			c.want(&want)
			equal(t, got, want)
		})
	}
}

func TestStageApply(t *testing.T) {
	t.Parallel()
	begun := func() *story { return jobStory("j").submitted().planned() }
	tts := func(change func(*Stage)) Stage {
		s := Stage{
			JobID: "j", ID: "tts", Tenant: "default", Position: 2, Task: "tts.synthesize", Plane: events.PlaneGPU,
			Lane: events.LaneTTS, Weight: 0.3, Status: StagePending,
		}
		change(&s)
		if s.Attempt > 0 {
			s.InputHash, s.Batch = "hash-tts", s.Attempt > 1
		}
		return s
	}
	lost := &Failure{Class: events.ClassStalled, Message: "the worker was silent for 15 s"}
	broken := &Failure{Class: events.ClassStalled, Message: "it broke", Hint: "mend it", LogTail: ptr(sealed("tail"))}
	made := &events.ReusedFrom{JobID: "parent", Stage: "tts", InputHash: "hash-tts"}
	cases := []struct {
		name  string
		story *story
		want  Stage
	}{
		{"planned", begun(), tts(func(s *Stage) {})},
		{"scheduled", begun().scheduled("tts", 1), tts(func(s *Stage) {
			s.Status, s.Attempt, s.ScheduledAt = StageQueued, 1, at(3)
		})},
		{"started", begun().scheduled("tts", 1).started("tts", 1), tts(func(s *Stage) {
			s.Status, s.Attempt, s.ScheduledAt, s.StartedAt, s.Worker = StageRunning, 1, at(3), at(4), "worker-1"
		})},
		{"succeeded", begun().scheduled("tts", 1).started("tts", 1).succeeded("tts", 1), tts(func(s *Stage) {
			s.Status, s.Attempt, s.ScheduledAt, s.StartedAt, s.FinishedAt, s.Worker = StageSucceeded, 1, at(3), at(4), at(5), "worker-1"
			s.Engine, s.Model, s.Fidelity, s.DurationMS, s.Notes = "flite", "model-7", events.FidelityPreview, 1234, []string{"a note"}
		})},
		{"failed, another try follows", begun().scheduled("tts", 1).started("tts", 1).failed("tts", 1, 9), tts(func(s *Stage) {
			s.Status, s.Attempt, s.ScheduledAt, s.StartedAt, s.FinishedAt, s.Worker = StagePending, 1, at(3), at(4), at(5), "worker-1"
			s.DurationMS, s.Error = 77, broken
		})},
		{"scheduled again keeps the reason", begun().scheduled("tts", 1).started("tts", 1).failed("tts", 1, 9).scheduled("tts", 2), tts(func(s *Stage) {
			s.Status, s.Attempt, s.ScheduledAt, s.Error = StageQueued, 2, at(6), broken
		})},
		{"the second try succeeds", begun().scheduled("tts", 1).failed("tts", 1, 9).scheduled("tts", 2).started("tts", 2).succeeded("tts", 2), tts(func(s *Stage) {
			s.Status, s.Attempt, s.ScheduledAt, s.StartedAt, s.FinishedAt, s.Worker = StageSucceeded, 2, at(5), at(6), at(7), "worker-1"
			s.Engine, s.Model, s.Fidelity, s.DurationMS, s.Notes = "flite", "model-7", events.FidelityPreview, 1234, []string{"a note"}
		})},
		{"failed for good", begun().scheduled("tts", 1).failed("tts", 1, 0), tts(func(s *Stage) {
			s.Status, s.Attempt, s.ScheduledAt, s.FinishedAt, s.DurationMS, s.Error = StageFailed, 1, at(3), at(4), 77, broken
		})},
		{"skipped", begun().skipped("tts"), tts(func(s *Stage) {
			s.Status, s.FinishedAt, s.Notes = StageSkipped, at(3), []string{"factor 1"}
		})},
		{"reused without work", begun().reused("tts", 0), tts(func(s *Stage) {
			s.Status, s.FinishedAt, s.InputHash, s.ReusedFrom = StageReused, at(3), "hash-tts", made
			s.Engine, s.Model, s.Fidelity, s.Notes = "flite", "model-7", events.FidelityFull, []string{"made before"}
		})},
		{"the worker found a result", begun().scheduled("tts", 1).started("tts", 1).reused("tts", 1), tts(func(s *Stage) {
			s.Status, s.Attempt, s.ScheduledAt, s.StartedAt, s.FinishedAt, s.Worker = StageReused, 1, at(3), at(4), at(5), "worker-1"
			s.Engine, s.Model, s.Fidelity, s.Notes, s.ReusedFrom = "flite", "model-7", events.FidelityFull, []string{"made before"}, made
		})},
		{"the worker was lost", begun().scheduled("tts", 1).started("tts", 1).expired("tts", 1, 9), tts(func(s *Stage) {
			s.Status, s.Attempt, s.ScheduledAt, s.StartedAt, s.FinishedAt, s.Worker = StagePending, 1, at(3), at(4), at(5), "worker-1"
			s.DurationMS, s.Error = 15_000, lost
		})},
		{"the worker was lost once too often", begun().scheduled("tts", 1).started("tts", 1).expired("tts", 1, 0), tts(func(s *Stage) {
			s.Status, s.Attempt, s.ScheduledAt, s.StartedAt, s.FinishedAt, s.Worker = StageFailed, 1, at(3), at(4), at(5), "worker-1"
			s.DurationMS, s.Error = 15_000, lost
		})},
		{"a lost worker's result comes late", begun().scheduled("tts", 1).started("tts", 1).expired("tts", 1, 9).succeeded("tts", 1), tts(func(s *Stage) {
			s.Status, s.Attempt, s.ScheduledAt, s.StartedAt, s.FinishedAt, s.Worker = StageSucceeded, 1, at(3), at(4), at(6), "worker-1"
			s.Engine, s.Model, s.Fidelity, s.DurationMS, s.Notes = "flite", "model-7", events.FidelityPreview, 1234, []string{"a note"}
		})},
		{"stopped", begun().scheduled("tts", 1).started("tts", 1).cancelRequested().stageCancelled("tts", 1), tts(func(s *Stage) {
			s.Status, s.Attempt, s.ScheduledAt, s.StartedAt, s.FinishedAt, s.Worker = StageCancelled, 1, at(3), at(4), at(6), "worker-1"
			s.DurationMS = 55
		})},
		{"on its lane when the job was cancelled", begun().scheduled("tts", 1).cancelRequested().jobCancelled(), tts(func(s *Stage) {
			s.Status, s.Attempt, s.ScheduledAt = StageCancelled, 1, at(3)
		})},
		{"done when the job was cancelled", begun().reused("tts", 0).cancelRequested().jobCancelled(), tts(func(s *Stage) {
			s.Status, s.FinishedAt, s.InputHash, s.ReusedFrom = StageReused, at(3), "hash-tts", made
			s.Engine, s.Model, s.Fidelity, s.Notes = "flite", "model-7", events.FidelityFull, []string{"made before"}
		})},
		{"running when the job was asked to end", begun().scheduled("tts", 1).started("tts", 1).cancelRequested().carriedForward(), tts(func(s *Stage) {
			s.Status, s.Attempt, s.ScheduledAt, s.StartedAt, s.Worker = StageRunning, 1, at(3), at(4), "worker-1"
		})},
		{"running when the job failed", begun().scheduled("tts", 1).started("tts", 1).jobFailed("script"), tts(func(s *Stage) {
			s.Status, s.Attempt, s.ScheduledAt, s.StartedAt, s.FinishedAt, s.Worker = StageCancelled, 1, at(3), at(4), at(5), "worker-1"
		})},
		{"not yet run when the job failed", begun().jobFailed("script"), tts(func(s *Stage) { s.Status = StageCancelled })},
		{"another stage's event", begun().scheduled("script", 1), tts(func(s *Stage) {})},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, got := jobAfter(t, c.story)
			equal(t, *got["tts"], c.want)
		})
	}
}

func TestArtifactApply(t *testing.T) {
	t.Parallel()
	s := jobStory("j").submitted().planned().artifact("lipsync", "v.mp4")
	f := foldAll(facts(s))
	id := events.ArtifactID("j", "lipsync", 1, "v.mp4")
	equal(t, *f.artifacts[[2]string{"j", id}], Artifact{
		JobID: "j", ID: id, Tenant: "default", Stage: "lipsync", Attempt: 1, Output: "video", Name: "v.mp4", Type: "video",
		MediaType: "video/mp4", URI: "s3://b/v.mp4", SHA256: "abc", Size: 99, Width: 720, Height: 480, DurationMS: 4000,
		Engine: "ffmpeg", Fidelity: events.FidelityFull, CreatedAt: at(3),
	})
	var other Artifact
	other.Apply(&s.messages[0])
	equal(t, other, Artifact{})
}

func TestProfileApply(t *testing.T) {
	t.Parallel()
	s := person("p")
	last := s.messages[4]
	full := Profile{
		ID: "p", Tenant: "default", Version: 5, LastEventID: last.ID, Status: events.ProfileStatusActive, Name: ptr(sealed("Ada")),
		Consent:  &events.Consent{By: sealed("Ada"), Statement: sealed("yes")},
		Portrait: ptr(attachment("portrait")), Voice: ptr(attachment("voice")), Lora: ptr(attachment("lora")),
		Transcript: ptr(sealed("hello")), CreatedAt: at(1), UpdatedAt: at(5),
	}
	equal(t, foldAll(facts(s)).profiles["p"].row, full)

	s.add(events.ProfileVoiceAttached{Attachment: attachment("voice2")}, events.Columns{})
	full.Version, full.LastEventID, full.UpdatedAt = 6, s.messages[5].ID, at(6)
	full.Voice, full.Transcript = ptr(attachment("voice2")), nil // the old words do not belong to the new voice
	equal(t, foldAll(facts(s)).profiles["p"].row, full)
}

// TestProfileLife follows a profile's row through everything that can become of it.
func TestProfileLife(t *testing.T) {
	t.Parallel()
	s := person("p")
	want := foldAll(facts(s)).profiles["p"].row
	for _, step := range []struct {
		fact events.Payload
		then func(*Profile, time.Time)
	}{
		{events.ProfileRenamed{Name: sealed("Grace")}, func(p *Profile, _ time.Time) { p.Name = ptr(sealed("Grace")) }},
		{events.ProfileConsentWithdrawn{}, func(p *Profile, at time.Time) { p.Consent, p.ConsentWithdrawnAt = nil, at }},
		{events.ProfileConsentRecorded{Consent: events.Consent{By: sealed("G"), Statement: sealed("again")}}, func(p *Profile, _ time.Time) {
			p.Consent, p.ConsentWithdrawnAt = &events.Consent{By: sealed("G"), Statement: sealed("again")}, time.Time{}
		}},
		{events.ProfileArchived{}, func(p *Profile, at time.Time) { p.Status, p.ArchivedAt = "archived", at }},
		{events.ProfileRestored{}, func(p *Profile, _ time.Time) { p.Status, p.ArchivedAt = "active", time.Time{} }},
		{events.ProfileConsentWithdrawn{}, func(p *Profile, at time.Time) { p.Consent, p.ConsentWithdrawnAt = nil, at }},
		{events.ProfileErased{}, func(p *Profile, at time.Time) {
			*p = Profile{ID: "p", Tenant: "default", Status: "erasing", CreatedAt: p.CreatedAt, ConsentWithdrawnAt: p.ConsentWithdrawnAt, ErasedAt: at}
		}},
		{events.ProfileErasureCompleted{}, func(p *Profile, at time.Time) { p.Status, p.ErasureCompletedAt = "erased", at }},
	} {
		s.add(step.fact, events.Columns{})
		m := s.messages[len(s.messages)-1]
		step.then(&want, micro(m.OccurredAt))
		want.Version, want.LastEventID, want.UpdatedAt = m.Version, m.ID, micro(m.OccurredAt)
		equal(t, foldAll(facts(s)).profiles["p"].row, want)
	}
}

func TestJobEventKeepsTheWholeMessage(t *testing.T) {
	t.Parallel()
	s := whole("j")
	f := foldAll(facts(s))
	if len(f.events) != len(s.messages) {
		t.Fatalf("%d events in the audit trail, want %d", len(f.events), len(s.messages))
	}
	told, err := auditTrail(f.events)
	ok(t, err)
	for i, e := range told {
		got, err := e.Message()
		if err != nil {
			t.Fatal(err)
		}
		equal(t, encoded(t, got), encoded(t, s.messages[i]))
	}
}

func TestFoldRejectsWhatDoesNotContinueTheChain(t *testing.T) {
	t.Parallel()
	change := func(i int, change func(*events.Message)) *story {
		s := whole("j")
		change(&s.messages[i])
		s.messages = s.messages[:i+1]
		return s
	}
	command := jobStory("c").add(events.JobSubmit{}, events.Columns{})
	command.messages[0].Version = 0
	cases := []struct {
		name  string
		story *story
		want  Counts
	}{
		{"all is well", whole("j"), Counts{Applied: 19}},
		{"all is well in an eventful life", eventful("j"), Counts{Applied: 22}},
		{"a hole", change(4, func(m *events.Message) { m.Version++ }), Counts{Applied: 4, Rejected: 1}},
		{"another predecessor", change(4, func(m *events.Message) { m.PrevID = "x" }), Counts{Applied: 4, Rejected: 1}},
		{"a second truth of the last version", change(4, func(m *events.Message) { m.Version--; m.ID = "x" }), Counts{Applied: 4, Rejected: 1}},
		{"the last one again", change(4, func(m *events.Message) { *m = whole("j").messages[3] }), Counts{Applied: 4, Duplicates: 1}},
		{"an old one again", change(4, func(m *events.Message) { *m = whole("j").messages[1] }), Counts{Applied: 4, Duplicates: 1}},
		{"a profile's fact among jobs", change(4, func(m *events.Message) { m.AggregateType = events.AggregateProfile }), Counts{Applied: 4, Rejected: 1}},
		{"a command", command, Counts{Rejected: 1}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			all := facts(c.story)
			for i := range all {
				all[i].at.Topic = events.TopicJobEvents
			}
			f := foldAll(all)
			equal(t, f.counts, c.want)
			if len(f.rejected) != int(c.want.Rejected) || len(f.events) != int(c.want.Applied) {
				t.Errorf("%d reasons and %d rows for %+v", len(f.rejected), len(f.events), c.want)
			}
		})
	}
}

func TestCleanText(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`"plain"`: `"plain"`, `"a\u0000b"`: `"a\ufffdb"`, `"a\\u0000b"`: `"a\\u0000b"`, `"\\\u0000"`: `"\\\ufffd"`, `"\u0000\u0000"`: `"\ufffd\ufffd"`,
	} {
		if got := string(cleanJSON([]byte(in))); got != want {
			t.Errorf("cleanJSON(%s) = %s, want %s", in, got, want)
		}
	}
	equal(t, clean("a\x00b"), "a\uFFFDb")
}

func equal(t *testing.T, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%s\nwant\n%s", asJSON(got), asJSON(want))
	}
}

func asJSON(v any) string {
	b, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return fmt.Sprintf("%+v", v)
	}
	return string(b)
}

func encoded(t *testing.T, m events.Message) string {
	t.Helper()
	b, err := events.Encode(m)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
