package aggregates

import (
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"github.com/myspinbot/myspinbot/events"
)

// A graph that is given from its shape is the one that would be built anew, for any job.
func TestShapesGiveWhatBuildingGives(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		pipe := rapid.SampledFrom(pipelines).Draw(rt, "pipeline")
		if rapid.Bool().Draw(rt, "ungated") {
			pipe = pipe.ungated()
		}
		required, optional := pipe.Inputs()
		given := map[string]bool{}
		for _, k := range required {
			given[k] = true
		}
		for _, k := range optional {
			if rapid.Bool().Draw(rt, k) {
				given[k] = true
			}
		}
		job := rapid.StringMatching(`[a-z0-9]{8}`).Draw(rt, "job")
		var anew, first, again events.Graph
		anew.Nodes, _ = buildNodes(pipe, nil, given, job)
		anew.Edges = buildEdges(pipe)
		scaleWeights(anew.Nodes)
		other := build(&first, pipe, nil, given, "another") // which leaves the shape
		reasons := build(&again, pipe, nil, given, job)
		if len(reasons) > 0 || len(other) > 0 {
			rt.Fatalf("refused: %v, %v", reasons, other)
		}
		if !reflect.DeepEqual(again, anew) {
			rt.Fatalf("given:\n%+v\nbuilt:\n%+v", again, anew)
		}
		again.Nodes[0].ID = "changed"
		again.Edges = append(again.Edges, events.Edge{})
		if build(&first, pipe, nil, given, job); !reflect.DeepEqual(first, anew) {
			rt.Fatalf("what one job does with its graph shows in another's: %+v", first)
		}
	})
}
