// Who gets partitions.

package placement_test

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/myspinbot/myspinbot/internal/placement"
)

func TestSeats(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		able       [][]string
		partitions int
		want       []int
	}{
		"enough for all":                   {[][]string{{}, {"real"}, {}}, 3, []int{0, 1, 2}},
		"all alike":                        {[][]string{{"a"}, {"a"}, {"a"}}, 2, []int{0, 1}},
		"the last alone can do it":         {[][]string{{"a"}, {"a"}, {"a", "real"}}, 2, []int{0, 2}},
		"two halves":                       {[][]string{{"a"}, {"x"}, {"a"}, {"y"}}, 3, []int{0, 1, 3}},
		"one of whom everything":           {[][]string{{"a"}, {"x"}, {"a", "x", "y"}}, 1, []int{2}},
		"not everybody can be of use":      {[][]string{{"a"}, {"b"}, {"c"}}, 2, []int{0, 1}},
		"nobody":                           {nil, 2, []int{}},
		"nobody tells what they can":       {[][]string{nil, nil, nil}, 2, []int{0, 1}},
		"the useless fill up what is left": {[][]string{{}, {}, {"x"}}, 2, []int{0, 2}},
	} {
		if got := placement.Seats(c.able, c.partitions); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// Whatever members can do: as many get partitions as there are, and where one of them can
// do everything, everything can be done.
func TestSeatsLeaveNothingUndoneThatOneCanDo(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		skill := rapid.SampledFrom([]string{"a", "b", "c", "d"})
		able := rapid.SliceOfN(rapid.SliceOfDistinct(skill, rapid.ID[string]), 0, 8).Draw(t, "able")
		partitions := rapid.IntRange(1, 5).Draw(t, "partitions")
		got := placement.Seats(able, partitions)
		if len(got) != min(partitions, len(able)) || !slices.IsSorted(got) || len(slices.Compact(slices.Clone(got))) != len(got) {
			t.Fatalf("%v get partitions", got)
		}
		has, all := map[string]bool{}, map[string]bool{}
		master := false
		for i, skills := range able {
			for _, s := range skills {
				all[s] = true
				has[s] = has[s] || slices.Contains(got, i)
			}
		}
		for _, skills := range able {
			master = master || len(skills) == len(all)
		}
		for s := range all {
			if (master || len(all) <= partitions) && !has[s] {
				t.Fatalf("of %v those of %v get partitions, and nobody does %s", able, got, s)
			}
		}
	})
}
