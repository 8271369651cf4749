// What a worker tells of its seats and skills, and what it hands back.

package gpu

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog/eventlogtest"
)

// What no engine of the worker can do is handed back for others, and nothing runs.
func TestWhatAWorkerCannotDoIsHandedBack(t *testing.T) {
	t.Parallel()
	ran := make(chan string, 10)
	run := func(_ context.Context, a *Attempt) (*Output, error) {
		ran <- a.Stage
		return &Output{Fidelity: events.FidelityFull}, nil
	}
	real := can("render_video")
	real.Fidelity = events.FidelityFull
	b := newBench(t, &heavyEngine{&testEngine{can: real, run: run}, 5000}, standIn())
	b.start()
	b.send("too large", events.TaskRun{Engines: events.EnginesReal})
	if f := b.failed("too large", events.ClassInvalidInput); !f.Misplaced {
		t.Errorf("what fits another card is not handed back: %+v", f)
	}
	b.send("another's", events.TaskRun{Engines: events.EnginesReal, Wants: "another"})
	if f := b.failed("another's", events.ClassEngineUnavailable); !f.Misplaced {
		t.Errorf("what another engine can do is not handed back: %+v", f)
	}
	b.sendTo("upscale_video", "no engine", 0, func(m *events.Message, _ *events.TaskRun) { m.Lane = events.LaneRender })
	if f := b.failed("no engine", events.ClassEngineUnavailable); !f.Misplaced {
		t.Errorf("a task of no engine is not handed back: %+v", f)
	}
	if len(ran) > 0 {
		t.Errorf("%s ran", <-ran)
	}
}

// A failure of the engine itself is nobody else's matter.
func TestAFailureOfTheEngineIsNotHandedBack(t *testing.T) {
	t.Parallel()
	b := newBench(t, engineOf(func(context.Context, *Attempt) (*Output, error) {
		return nil, &TaskError{Class: events.ClassEngineUnavailable, Message: "it broke"}
	}))
	b.start()
	b.send("broken", events.TaskRun{})
	if f := b.failed("broken", events.ClassEngineUnavailable); f.Misplaced {
		t.Errorf("handed back: %+v", f)
	}
}

func TestTheManifestTellsOfThePartitions(t *testing.T) {
	t.Parallel()
	b := newBench(t, engineOf(nil))
	b.start()
	eventlogtest.Eventually(t, patience, "both partitions are its", func() bool {
		return slices.Equal(lastManifest(b).Partitions[events.LaneRender], []int32{0, 1})
	})
}

// Skills are what jobs can ask for; engines that cannot work, and what does not fit the
// card, are none.
func TestSkills(t *testing.T) {
	t.Parallel()
	real, gone := can("render_video"), can("render_video")
	real.Fidelity, gone.Engine = events.FidelityFull, "gone"
	b := newBench(t, &heavyEngine{&testEngine{can: real}, 500}, standIn(), &testEngine{can: gone, gap: &events.TaskGap{Task: "render_video"}}, &testEngine{can: can("tts.synthesize")})
	needs, err := parseNeeds([]string{"render_video/test-render_video@1080p=2000"})
	if err != nil {
		t.Fatal(err)
	}
	b.worker.memory.needs = needs
	b.worker.memory.open(t.Context())
	t.Cleanup(func() { _ = b.worker.memory.close() })
	b.worker.roster.refresh(t.Context())
	want := []string{"render_video ", "render_video  real 576p", "render_video  real 720p", "render_video  test-render_video 576p", "render_video  test-render_video 720p"}
	if got := b.worker.roster.skills(events.LaneRender); !slices.Equal(got, want) {
		t.Errorf("skills are %q, want %q", got, want)
	}
}

// reseats counts how often the partitions were to be shared out anew.
type reseats int

func (r *reseats) Reseat() { *r++ }

func TestPartitionsAreSharedOutAnewWhenSkillsChange(t *testing.T) {
	t.Parallel()
	e := engineOf(nil)
	e.can.Fidelity = events.FidelityFull
	b := newBench(t, e)
	s, n := &b.worker.seats, reseats(0)
	b.worker.roster.refresh(t.Context())
	s.tell(events.LaneRender)
	s.renew() // there are no lanes yet
	s.serve(&n)
	s.renew()
	if n != 0 {
		t.Fatalf("asked %d times though nothing has changed", n)
	}
	e.gap = &events.TaskGap{Task: "render_video"}
	b.worker.roster.refresh(t.Context())
	s.renew()
	s.renew()
	if n != 1 {
		t.Fatalf("asked %d times after a change, want once until the pause is over", n)
	}
	s.last = time.Now().Add(-seatPause)
	s.renew()
	if n != 2 {
		t.Fatalf("asked %d times, and the others still believe the old", n)
	}
	s.tell(events.LaneRender)
	s.last = time.Time{}
	s.renew()
	if n != 2 {
		t.Fatalf("asked %d times, the last time although they know", n)
	}
}
