// Legal histories for tests: chains of facts as the handlers write them.

package projections

import (
	"fmt"
	"time"

	"pgregory.net/rapid"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC)

// story tells the facts of one aggregate, each continuing the chain.
type story struct {
	kind, id, tenant string
	chain            events.Chain
	now              time.Time
	messages         []events.Message
}

func jobStory(id string) *story {
	return &story{kind: events.AggregateJob, id: id, tenant: "default", now: start}
}

func profileStory(id string) *story {
	return &story{kind: events.AggregateProfile, id: id, tenant: "default", now: start}
}

// add appends a fact one second (and a bit) after the last one.
func (s *story) add(data events.Payload, c events.Columns) *story {
	s.now = s.now.Add(time.Second + 321*time.Nanosecond)
	if s.kind == events.AggregateJob {
		c.JobID = s.id
	}
	m := events.Message{
		ID: events.EventID(s.now, s.id, int(s.chain.Version)), SchemaVersion: data.SchemaVersion(),
		AggregateType: s.kind, AggregateID: s.id, Version: s.chain.Version + 1, PrevID: s.chain.LastID,
		OccurredAt: s.now, CommandID: "c-" + s.id, CausationID: "cause", CorrelationID: "story", Tenant: s.tenant, Actor: "tester",
		Columns: c, Data: data,
	}
	s.chain = s.chain.Next(m)
	s.messages = append(s.messages, m)
	return s
}

func sealed(text string) events.Sealed { return events.Sealed{Bytes: []byte(text), Key: "k1"} }

func ptr[T any](v T) *T { return &v }

var testGraph = events.Graph{
	Workflow: "train_and_generate_v1", Variant: "sadtalker", Mode: "train_and_generate", ProfileID: "p1",
	Options: map[string]any{"fps": 25.0, "resolution": "720p"},
	Nodes: []events.Node{
		{ID: "script", Task: "script.generate_script", Plane: events.PlaneControl, Lane: events.LaneScript, Weight: 0.1},
		{ID: "profile", Task: "profiles.resolve_or_create", Plane: events.PlaneControl, Weight: 0.1},
		{ID: "tts", Task: "tts.synthesize", Plane: events.PlaneGPU, Lane: events.LaneTTS, Weight: 0.3},
		{ID: "lipsync", Task: "lipsync.apply", Plane: events.PlaneGPU, Lane: events.LaneLipsync, Weight: 0.4},
		{ID: "upscale", Task: "upscale_video", Plane: events.PlaneGPU, Lane: events.LaneUpscale, Weight: 0.1},
	},
	Edges: []events.Edge{{From: "script", To: "profile"}, {From: "profile", To: "tts"}, {From: "tts", To: "lipsync"}, {From: "lipsync", To: "upscale"}},
}

func (s *story) submitted() *story { return s.submittedWith(func(*events.Request) {}) }

func (s *story) submittedWith(change func(*events.Request)) *story {
	r := events.Request{
		Workflow: "train_and_generate_v1", Mode: "train_and_generate", Variant: "sadtalker",
		Inputs:     map[string]events.Value{"prompt": {Text: ptr(sealed("prompt"))}},
		BodyDigest: "d",
	}
	change(&r)
	return s.add(events.JobSubmitted{Request: r}, events.Columns{State: JobQueued, Variant: "sadtalker"})
}

func (s *story) planned() *story { return s.plannedAs(testGraph) }

func (s *story) plannedAs(g events.Graph) *story {
	return s.add(events.JobPlanned{Graph: g, DeadlineMS: 9}, events.Columns{State: JobQueued, Variant: "sadtalker"})
}

func of(stage string, attempt int) events.Columns {
	for _, n := range gatedGraph().Nodes {
		if n.ID == stage {
			return events.Columns{Stage: stage, Task: n.Task, Lane: n.Lane, Attempt: attempt}
		}
	}
	return events.Columns{Stage: stage, Attempt: attempt}
}

func (s *story) scheduled(stage string, attempt int) *story {
	return s.add(events.StageScheduled{Partition: 1, InputHash: "hash-" + stage, TimeoutMS: 5000, Batch: attempt > 1}, of(stage, attempt))
}

func (s *story) started(stage string, attempt int) *story {
	c := of(stage, attempt)
	c.Worker = "worker-1"
	return s.add(events.StageStarted{GPU: "H"}, c)
}

func (s *story) succeeded(stage string, attempt int) *story {
	c := of(stage, attempt)
	c.Worker, c.Model, c.DurationMS = "worker-1", "model-7", 1234
	return s.add(events.StageSucceeded{Result: events.Result{Engine: "flite", Fidelity: events.FidelityPreview, Notes: []string{"a note"}}}, c)
}

func (s *story) failed(stage string, attempt int, retryAt int64) *story {
	c := of(stage, attempt)
	c.ErrorClass, c.DurationMS = events.ClassStalled, 77
	return s.add(events.StageFailed{Message: "it broke", Hint: "mend it", LogTail: ptr(sealed("tail")), RetryAtMS: retryAt}, c)
}

func (s *story) skipped(stage string) *story {
	return s.add(events.StageSkipped{Reason: "factor 1"}, of(stage, 0))
}

func (s *story) artifact(stage, name string) *story {
	a := events.Artifact{
		ID: events.ArtifactID(s.id, stage, 1, name), Name: name, Type: "video", MediaType: "video/mp4",
		URI: "s3://b/" + name, SHA256: "abc", Size: 99, Width: 720, Height: 480, DurationMS: 4000,
	}
	c := of(stage, 1)
	c.ArtifactURI, c.ArtifactSHA256 = a.URI, a.SHA256
	return s.add(events.ArtifactRegistered{Artifact: a, Output: "video", Fidelity: events.FidelityFull, Engine: "ffmpeg"}, c)
}

func (s *story) jobSucceeded() *story {
	return s.add(events.JobSucceeded{Outputs: map[string]events.Value{"video": {Artifacts: []events.Artifact{{ID: "a", Name: "v.mp4"}}}}},
		events.Columns{State: JobSucceeded, DurationMS: 5000})
}

func (s *story) jobFailed(stage string) *story {
	return s.add(events.JobFailed{Message: "it broke", Hint: "mend it", LogTail: ptr(sealed("tail"))},
		events.Columns{State: JobFailed, Stage: stage, ErrorClass: events.ClassStalled})
}

func (s *story) rejected() *story {
	return s.add(events.JobRejected{Reasons: []events.Reason{{Code: "missing", Field: "/prompt", Detail: "a prompt is missing"}, {Code: "range", Detail: "too long"}}},
		events.Columns{State: JobRejected, ErrorClass: events.ClassInvalidInput})
}

// whole is a job from its submission to its video, with one retry and one skipped stage.
func whole(id string) *story {
	return jobStory(id).submitted().planned().
		scheduled("script", 1).started("script", 1).succeeded("script", 1).succeeded("profile", 0).
		scheduled("tts", 1).started("tts", 1).failed("tts", 1, 99).scheduled("tts", 2).started("tts", 2).succeeded("tts", 2).artifact("tts", "a.wav").
		scheduled("lipsync", 1).started("lipsync", 1).succeeded("lipsync", 1).artifact("lipsync", "v.mp4").
		skipped("upscale").jobSucceeded()
}

func attachment(name string) events.Attachment {
	return events.Attachment{Artifact: events.Artifact{ID: name, Name: name + ".png", URI: "s3://b/" + name}, Fidelity: events.FidelityPrepared, Engine: "ffmpeg", FromJob: "j1"}
}

// person is a profile with everything attached.
func person(id string) *story {
	return profileStory(id).
		add(events.ProfileCreated{Name: sealed("Ada")}, events.Columns{}).
		add(events.ProfileConsentRecorded{Consent: events.Consent{By: sealed("Ada"), Statement: sealed("yes")}}, events.Columns{}).
		add(events.ProfilePortraitAttached{Attachment: attachment("portrait")}, events.Columns{}).
		add(events.ProfileVoiceAttached{Attachment: attachment("voice"), Transcript: ptr(sealed("hello"))}, events.Columns{}).
		add(events.ProfileLoraAttached{Attachment: attachment("lora")}, events.Columns{})
}

// lived adds the first facts of a profile's life up to its erasure.
func (s *story) lived(facts int) *story {
	life := []events.Payload{events.ProfileRenamed{Name: sealed("Grace")}, events.ProfileConsentWithdrawn{}, events.ProfileArchived{}, events.ProfileRestored{},
		events.ProfileConsentRecorded{Consent: events.Consent{By: sealed("G"), Statement: sealed("again")}}, events.ProfileArchived{}, events.ProfileErased{}, events.ProfileErasureCompleted{}}
	for _, fact := range life[:facts] {
		s.add(fact, events.Columns{})
	}
	return s
}

// drawLog lays random jobs and profiles onto the log, interleaved, some facts twice.
func drawLog(t *rapid.T) []fact {
	var stories []*story
	for i := range rapid.IntRange(1, 5).Draw(t, "jobs") {
		stories = append(stories, drawJob(t, fmt.Sprintf("job-%d", i)))
	}
	for i := range rapid.IntRange(0, 2).Draw(t, "profiles") {
		stories = append(stories, person(fmt.Sprintf("profile-%d", i)).lived(rapid.IntRange(0, 8).Draw(t, "years")))
	}
	told := make([]int, len(stories))
	ends := make(eventlog.Offsets)
	var out []fact
	lay := func(m events.Message) {
		tp := place(m)
		out = append(out, fact{at: tp, offset: ends[tp], message: m})
		ends[tp] += rapid.Int64Range(1, 3).Draw(t, "gap") // markers take offsets
	}
	for {
		var open []int
		for i, s := range stories {
			if told[i] < len(s.messages) {
				open = append(open, i)
			}
		}
		if len(open) == 0 {
			return out
		}
		i := rapid.SampledFrom(open).Draw(t, "next")
		m := stories[i].messages[told[i]]
		told[i]++
		lay(m)
		if rapid.IntRange(0, 9).Draw(t, "again") == 0 {
			lay(stories[i].messages[rapid.IntRange(0, told[i]-1).Draw(t, "which")])
		}
	}
}

const testPartitions = 3

// place is where a fact lies on the log of the tests.
func place(m events.Message) eventlog.TopicPartition {
	topic := events.TopicJobEvents
	if m.AggregateType == events.AggregateProfile {
		topic = events.TopicProfileEvents
	}
	return eventlog.TopicPartition{Topic: topic, Partition: eventlog.PartitionFor(m.AggregateID, testPartitions)}
}

// facts lays stories onto the log one after another.
func facts(stories ...*story) []fact {
	ends := make(eventlog.Offsets)
	var out []fact
	for _, s := range stories {
		for _, m := range s.messages {
			tp := place(m)
			out = append(out, fact{at: tp, offset: ends[tp], message: m})
			ends[tp]++
		}
	}
	return out
}

// foldAll is the fold of facts in memory.
func foldAll(all []fact) *fold {
	f := newFold()
	f.applyAll(all)
	return f
}
