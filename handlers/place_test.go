// Where attempts go.

package handlers

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/placement"
)

func TestPlacement(t *testing.T) {
	t.Parallel()
	lane := events.LaneRender
	var own loads
	given := func(queued queues, models ...string) *places {
		ps := newPlaces(map[string]int{lane: len(queued)})
		copy(ps.lanes[lane].queued, queued)
		copy(ps.lanes[lane].model, models)
		own = loads{}
		return &ps
	}
	for name, c := range map[string]struct {
		places *places
		model  string
		batch  bool
		want   []int32 // any of them
	}{
		"the shortest":                        {given(queues{{3, 0}, {1, 0}, {2, 0}}), "", false, []int32{1}},
		"any of the shortest":                 {given(queues{{1, 0}, {3, 0}, {1, 0}}), "", false, []int32{0, 2}},
		"the right model":                     {given(queues{{1, 0}, {0, 0}}, "flux", "svd"), "flux", false, []int32{0}},
		"the right model, but too long":       {given(queues{{3, 0}, {0, 0}}, "flux", "svd"), "flux", false, []int32{1}},
		"the shorter of two with the model":   {given(queues{{2, 0}, {1, 0}, {0, 0}}, "flux", "flux", "svd"), "flux", false, []int32{1}},
		"batch does not hold up interactive":  {given(queues{{0, 9}, {1, 0}}), "", false, []int32{0}},
		"interactive and batch hold up batch": {given(queues{{0, 9}, {1, 0}}), "", true, []int32{1}},
	} {
		if got := c.places.place(lane, c.model, "attempt", c.batch, nil); !slices.Contains(c.want, got) {
			t.Errorf("%s: partition %d, want one of %v", name, got, c.want)
		}
	}
	if got := given(queues{{0, 0}}).place("no lane", "", "attempt", false, nil); got != 0 || len(own) != 0 {
		t.Errorf("an unknown lane: partition %d", got)
	}
}

// However the models come, no queue grows longer than the shortest by more than the bound.
func TestAffinityNeverStarves(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		ps := newPlaces(map[string]int{"lane": rapid.IntRange(1, 4).Draw(t, "partitions")})
		q := ps.lanes["lane"].queued
		for i := range rapid.IntRange(1, 60).Draw(t, "attempts") {
			ps.place("lane", rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "model"), fmt.Sprint(i), false, nil)
			least, most := q[0][0], q[0][0]
			for _, n := range q {
				least, most = min(least, n[0]), max(most, n[0])
			}
			if most > least+placement.Affinity+1 {
				t.Fatalf("the queues are %v", q)
			}
		}
		ps.settle()
		if slices.ContainsFunc(q, func(n [2]int) bool { return n != [2]int{} }) {
			t.Fatalf("settled, the queues are %v", q)
		}
	})
}

// The attempts of one decision are spread too, and batch work goes to its own topic.
func TestScheduledAttemptsNameTheirPartition(t *testing.T) {
	t.Parallel()
	m := newMemory()
	batch := diagnostic()
	batch.Request.Priority = events.PriorityBatch
	counts := map[int32]int{}
	for i := range 10 {
		out := m.must(t, m.command(fmt.Sprint("batch-", i), batch))
		run := out[len(out)-2]
		if run.Topic != events.LaneBatchTopic(events.LaneScript) {
			t.Fatalf("got %v", topicsOf(out))
		}
		fact := mustDecode(t, out[len(out)-3]).Data.(events.StageScheduled)
		if !fact.Batch || fact.Partition != run.Partition {
			t.Fatalf("the fact says %+v, the command went to %d", fact, run.Partition)
		}
		counts[run.Partition]++
	}
	if counts[0] < 4 || counts[1] < 4 {
		t.Errorf("ten attempts went to %v", counts)
	}
}
