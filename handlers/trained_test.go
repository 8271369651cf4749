// A voice that was trained, from the job that trained it to another that speaks with it.

package handlers

import (
	"slices"
	"testing"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// decoded are the messages of a topic among records.
func decoded(t *testing.T, records []eventlog.Record, topic string) []events.Message {
	t.Helper()
	var all []events.Message
	for _, r := range records {
		if r.Topic != topic {
			continue
		}
		m, err := events.Decode(r.Value)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, m)
	}
	return all
}

// Given a job that trained a voice, when its profile has heard of it, then a job that only
// generates has the weights at its voice; and when the voice is replaced by one that nobody
// trained, no longer.
func TestATrainedVoiceSpeaksForItsProfile(t *testing.T) {
	t.Parallel()
	m := newMemory()
	// settle decides what goes to the profile, and lets everybody learn of it.
	settle := func(out []eventlog.Record) {
		t.Helper()
		commands := slices.DeleteFunc(slices.Clone(out), func(r eventlog.Record) bool { return r.Topic != events.TopicProfileCommands })
		if len(commands) == 0 {
			return
		}
		facts, err := m.transact(commands...)
		if err != nil {
			t.Fatal(err)
		}
		m.h.Learn(facts)
	}
	train := func(id string, outputs map[string]events.Value) {
		t.Helper()
		settle(m.must(t, m.command(id, events.JobSubmit{Request: request()})))
		for _, stage := range []string{"script", "safety", "train_voice"} {
			d := events.TaskSucceeded{}
			if stage == "train_voice" {
				d.Outputs = outputs
			}
			settle(m.must(t, m.answer(id, stage, 1, d)))
		}
	}
	// spoken are the inputs of the voice in a job that only generates.
	spoken := func(id string) map[string]events.Value {
		t.Helper()
		sealed := events.Sealed{Bytes: []byte("x"), Key: "k"}
		r := events.Request{Mode: aggregates.ModeGenerateFromProfile, Variant: aggregates.VariantSadTalker, ProfileID: "prof", Inputs: map[string]events.Value{"script": {Text: &sealed}}}
		out := m.must(t, m.command(id, events.JobSubmit{Request: r}))
		for _, stage := range []string{"script", "safety"} {
			out = m.must(t, m.answer(id, stage, 1, events.TaskSucceeded{}))
		}
		runs := decoded(t, out, events.LaneTopic(events.LaneTTS))
		if len(runs) != 1 {
			t.Fatalf("the job goes on with %v", topicsOf(out))
		}
		return runs[0].Data.(events.TaskRun).Inputs
	}
	file := func(id string) events.Artifact { return events.Artifact{ID: id, Name: id, SHA256: id} }
	weights := []events.Artifact{file("voice-gpt.ckpt"), file("voice-sovits.pth")}
	train("trained", map[string]events.Value{"voice_reference": {Artifacts: []events.Artifact{file("one")}}, "voice_weights": {Artifacts: weights}})
	in := spoken("with")
	if !slices.Equal(in["voice_weights"].Artifacts, weights) || in["voice_reference"].Artifacts[0].ID != "one" {
		t.Errorf("the voice gets %+v", in)
	}
	train("imitated", map[string]events.Value{"voice_reference": {Artifacts: []events.Artifact{file("two")}}})
	if in := spoken("without"); in["voice_weights"].Present() || in["voice_reference"].Artifacts[0].ID != "two" {
		t.Errorf("after another voice it gets %+v", in)
	}
}
