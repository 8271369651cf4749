package main

// Tests of the small parts of the driver: medians, rows, the choice of measures.

import (
	"math"
	"strings"
	"testing"
)

func TestMedianIsTheMiddle(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		values []float64
		want   float64
	}{
		{[]float64{7}, 7},
		{[]float64{9, 1}, 5},
		{[]float64{9, 1, 2}, 2},
		{[]float64{4, 1, 100, 2}, 3},
	} {
		if got := median(c.values); got != c.want {
			t.Errorf("median(%v) = %v, want %v", c.values, got, c.want)
		}
	}
}

func TestMedianLeavesItsInputInOrder(t *testing.T) {
	t.Parallel()
	values := []float64{3, 1, 2}
	median(values)
	if values[0] != 3 || values[1] != 1 || values[2] != 2 {
		t.Errorf("the rounds were reordered: %v", values)
	}
}

func TestARowHoldsTheSpreadOfOursAndTheRatioOfMedians(t *testing.T) {
	t.Parallel()
	r := newResult("a", "x", []float64{6, 2, 3}).against("b", []float64{12, 5, 6})
	if r.Value != 3 || r.Min != 2 || r.Max != 6 || r.Rounds != 3 {
		t.Errorf("got %+v", r)
	}
	if r.Peer != "b" || *r.PeerValue != 6 || *r.Ratio != .5 {
		t.Errorf("peer %q, %v, ratio %v", r.Peer, *r.PeerValue, *r.Ratio)
	}
}

func TestChooseFindsMeasuresByID(t *testing.T) {
	t.Parallel()
	all := []measure{{id: "one"}, {id: "two"}, {id: "three"}}
	for list, want := range map[string]string{
		"": "one two three", " , ": "one two three", "two": "two", "three,one": "one three", "two, two": "two", "one three": "one three",
	} {
		chosen, err := choose(all, list)
		if err != nil {
			t.Errorf("%q: %v", list, err)
		}
		var ids []string
		for _, m := range chosen {
			ids = append(ids, m.id)
		}
		if got := strings.Join(ids, " "); got != want {
			t.Errorf("%q chose %q, want %q", list, got, want)
		}
	}
	if all[1].id != "two" {
		t.Error("choosing changed the list of all measures")
	}
}

func TestChooseRefusesAnUnknownIDAndListsTheKnown(t *testing.T) {
	t.Parallel()
	_, err := choose([]measure{{id: "one"}, {id: "two"}}, "two,tow")
	if err == nil || err.Error() != `there is no measure "tow"; choose from one, two` {
		t.Errorf("got %v", err)
	}
}

func TestEveryMeasureHasAnIDOfItsOwn(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, m := range measures() {
		if m.id == "" || m.run == nil || seen[m.id] || strings.ContainsAny(m.id, ", ") {
			t.Errorf("measure %q cannot be chosen", m.id)
		}
		seen[m.id] = true
	}
}

func TestTimedCountsBothClocks(t *testing.T) {
	t.Parallel()
	sum := 0.
	w, err := timed(func() error {
		for i := range 50_000_000 {
			sum += math.Sqrt(float64(i))
		}
		return nil
	})
	if err != nil || sum == 0 {
		t.Fatal(err, sum)
	}
	// Other tests of this process run meanwhile, so the processors may have spent more.
	if w.wall <= 0 || w.cpu <= 0 {
		t.Errorf("took %v s on the wall and %v s on the processors", w.wall, w.cpu)
	}
}
