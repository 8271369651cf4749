// What reading a record costs, by the kinds of facts that a job has.

package events

import (
	"strings"
	"testing"
	"time"
)

// factsOfAJob are a diagnostic job's kinds of facts as the handler writes them.
func factsOfAJob(b *testing.B) map[string][]byte {
	job := NameID("job")
	lanes := []string{LaneScript, LaneTTS, LaneRender, LaneLipsync}
	plan := JobPlanned{Graph: Graph{Workflow: "diagnostic_v1", Variant: "noop", Mode: "diagnostic", Edges: []Edge{}}, DeadlineMS: 1_790_000_000_000, Tasks: []string{"noop.script", "noop.tts"}}
	for i, lane := range lanes {
		plan.Graph.Nodes = append(plan.Graph.Nodes, Node{ID: lane, Task: "noop." + lane, Plane: PlaneGPU, Lane: lane, Params: map[string]any{"work_ms": 0.0},
			Out: map[string]string{"result": lane}, Weight: 0.25, TimeoutMS: 600_000})
		if i > 0 {
			plan.Graph.Edges = append(plan.Graph.Edges, Edge{From: lanes[i-1], To: lane})
		}
	}
	values := map[string][]byte{}
	for _, p := range []Payload{
		JobSubmitted{Request: Request{Workflow: "diagnostic_v1", Mode: "diagnostic", Variant: "noop", KeyDigest: Digest(nil, "k"), BodyDigest: Digest(nil, "b")}},
		plan,
		StageScheduled{Partition: 1, InputHash: Digest(nil, "x"), TimeoutMS: 600_000},
		StageStarted{DeadlineMS: 1_790_000_000_000, LeaseMS: 15_000},
		StageSucceeded{Result: Result{Fidelity: FidelitySimulated, Engine: "noop", Version: "1"}},
		JobFailed{Message: "the job did not end before its deadline", Hint: "look at the lanes: is a worker running?"},
		JobSucceeded{},
	} {
		m := Message{ID: EventID(time.Unix(1, 0), job, 0), AggregateType: AggregateJob, AggregateID: job, Version: 5, PrevID: NameID("b"), OccurredAt: time.Unix(1_790_000_000, 123_456_789),
			CommandID: NameID("c"), CausationID: NameID("c"), CorrelationID: NameID("d"), Tenant: "default", Actor: "worker-1",
			Columns: Columns{JobID: job, Variant: "noop"}, Data: p}
		if strings.HasPrefix(p.EventType(), "stage.") {
			m.Stage, m.Task, m.Attempt, m.State, m.Lane = LaneScript, "noop.script", 1, "running", LaneScript
		}
		value, err := Encode(m)
		if err != nil {
			b.Fatal(err)
		}
		values[p.EventType()] = value
	}
	return values
}

func BenchmarkDecode(b *testing.B) {
	no := func([]byte) bool { return false }
	for name, value := range factsOfAJob(b) {
		for how, do := range map[string]func() error{
			"": func() error { _, err := Decode(value); return err }, "/unwanted": func() error { _, _, err := DecodeOf(value, no); return err },
			"/plain": func() error { _, err := decode(value); return err },
		} {
			b.Run(name+how, func(b *testing.B) {
				b.SetBytes(int64(len(value)))
				b.ReportAllocs()
				for b.Loop() {
					if err := do(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
