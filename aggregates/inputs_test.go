// What reaches a stage: values of the profile and of earlier stages, and time for them.

package aggregates_test

import (
	"reflect"
	"testing"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
)

// A profile knows what is said in its voice; a request may know better.
func TestTheProfilesTranscriptReachesTheVoice(t *testing.T) {
	t.Parallel()
	said := &events.Sealed{Bytes: []byte("the profile's words"), Key: "k"}
	given := digested("the request's words")
	for _, variant := range aggregates.Variants() {
		for want, r := range map[*events.Sealed]events.Request{said: profileRequest(), given.Text: profileRequest()} {
			s := newScript(t)
			knows := *snapshot
			knows.Transcript = said
			s.env.Profile = &knows
			r.Variant = variant
			r.Inputs = map[string]events.Value{"script": digested("hello")}
			if want == given.Text {
				r.Inputs["voice_transcript"] = given
			}
			s.submit(r)
			s.said("script", 1, map[string]string{"narration": "hello", "scene": "sea"})
			s.said("safety", 1, map[string]string{"narration": "hello", "scene": "sea"})
			i, ok := s.job.Node("tts")
			if !ok {
				t.Fatalf("%s: the job is %s, refused with %q", variant, s.job.State, s.refusal)
			}
			n := s.job.Graph.Nodes[i]
			if got := s.job.Inputs(n)["voice_transcript"].Text; !reflect.DeepEqual(got, want) {
				t.Errorf("%s: tts hears of %v, want %v", variant, got, want)
			}
			if aggregates.InputHash(s.job, n, "e") == "" {
				t.Errorf("%s: speech of a profile with a transcript has no name", variant)
			}
		}
	}
}

// The description that the safety filter let pass is what is drawn, by whichever stage
// draws the person.
func TestTheSceneReachesWhoDrawsIt(t *testing.T) {
	t.Parallel()
	for variant, stage := range map[string]string{aggregates.VariantSVDWav2Lip: "render", aggregates.VariantSadTalker: "lipsync"} {
		for _, r := range []events.Request{trainRequest(), profileRequest()} {
			s := newScript(t)
			r.Variant = variant
			s.submit(r)
			s.said("script", 1, map[string]string{"narration": "hello", "scene": "draft"})
			s.said("safety", 1, map[string]string{"narration": "hello", "scene": "a clean kitchen"})
			i, _ := s.job.Node(stage)
			if got := s.job.Inputs(s.job.Graph.Nodes[i])["scene"].Digest; got == "" || got != digested("a clean kitchen").Digest {
				t.Errorf("%s of %s: %s draws another scene", r.Mode, variant, stage)
			}
		}
	}
}

// A minute of speech takes longer to be lip-synced than a second of it.
func TestALongSpeechGetsMoreTimeForItsLips(t *testing.T) {
	t.Parallel()
	limits := map[int64][2]int64{}
	for _, ms := range []int64{0, 8_000, 60_000, 3_600_000} {
		s := newScript(t)
		s.submit(talker())
		s.succeed("script", 1)
		s.succeed("safety", 1)
		sound := events.Value{Artifacts: []events.Artifact{{ID: "speech", URI: "s3://b/speech", SHA256: "d", DurationMS: ms}}}
		s.when(events.TaskSucceeded{Result: events.Result{Outputs: map[string]events.Value{"speech": sound}}}, events.Columns{Stage: "tts", Attempt: 1})
		scheduled := s.facts[len(s.facts)-1].Data.(events.StageScheduled)
		s.accept("lipsync", 1)
		started := s.facts[len(s.facts)-1]
		limits[ms] = [2]int64{scheduled.TimeoutMS, started.Data.(events.StageStarted).DeadlineMS - started.OccurredAt.UnixMilli() - s.env.Policy.StageGrace.Milliseconds()}
	}
	const minute = 60_000
	for ms, want := range map[int64]int64{0: 30 * minute, 8_000: 46 * minute, 60_000: 150 * minute, 3_600_000: 1230 * minute} {
		if limits[ms] != [2]int64{want, want} {
			t.Errorf("%d ms of speech: the worker stops after %d ms, the job after %d ms; want %d", ms, limits[ms][0], limits[ms][1], want)
		}
	}
}
