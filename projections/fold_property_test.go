// Tests of the fold: what holds for every history.

package projections

import (
	"maps"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestProgressNeverFallsAndEndsAtOne(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := drawJob(t, "j")
		f, before := newFold(), 0.0
		for _, x := range facts(s) {
			f.apply(&x)
			now := f.jobs["j"].row.Progress
			if now < before || now > 1 {
				t.Fatalf("progress went from %v to %v at %s", before, now, x.message.Type())
			}
			before = now
		}
		if f.jobs["j"].row.Status == JobSucceeded && before != 1 {
			t.Fatalf("a job succeeded with progress %v", before)
		}
	})
}

func foldInBatches(all []fact, size func() int) *Memory {
	m := NewMemory()
	for len(all) > 0 {
		n := min(len(all), max(1, size()))
		m.apply(all[:n])
		all = all[n:]
	}
	return m
}

func TestFoldInAnyBatchesIsTheSame(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		all := drawLog(t)
		once := foldInBatches(all, func() int { return len(all) })
		split := foldInBatches(all, func() int { return rapid.IntRange(1, 7).Draw(t, "batch") })
		if !reflect.DeepEqual(once, split) {
			t.Fatalf("at once:\n%s\nin batches:\n%s", asJSON(once), asJSON(split))
		}
		if once.counts.Rejected != 0 {
			t.Fatalf("%d facts rejected of a legal log", once.counts.Rejected)
		}
	})
}

func TestDuplicatesChangeNothing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		all := drawLog(t)
		seen := make(map[string]bool)
		clean := slices.DeleteFunc(slices.Clone(all), func(x fact) bool {
			twice := seen[x.message.ID]
			seen[x.message.ID] = true
			return twice
		})
		whole := func() int { return len(all) }
		with, without := foldInBatches(all, whole), foldInBatches(clean, whole)
		if with.counts.Duplicates != int64(len(all)-len(clean)) {
			t.Fatalf("%d duplicates counted, want %d", with.counts.Duplicates, len(all)-len(clean))
		}
		with.counts.Duplicates = 0
		if !reflect.DeepEqual(with, without) {
			t.Fatalf("with duplicates:\n%s\nwithout:\n%s", asJSON(with), asJSON(without))
		}
	})
}

func TestChangesHaveEachKeyOnce(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		f := newFold()
		for _, x := range drawLog(t) {
			f.apply(&x)
		}
		seen := make(map[string]bool)
		c := f.changes()
		once := func(key string) {
			if seen[key] {
				t.Fatalf("%s is written twice in one statement", key)
			}
			seen[key] = true
		}
		for _, j := range c.jobs {
			once("job " + j.ID)
		}
		for _, s := range c.stages {
			once("stage " + s.JobID + "/" + s.ID)
		}
		for _, a := range c.artifacts {
			once("artifact " + a.JobID + "/" + a.ID)
		}
		if len(c.jobs) != len(slices.Collect(maps.Keys(f.jobs))) {
			t.Fatalf("%d of %d jobs are written", len(c.jobs), len(f.jobs))
		}
	})
}
