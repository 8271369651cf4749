package main

// Tests of the driver that keeps jobs in flight, on systems that live in memory.

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"
)

// memoryFlow ends every job as soon as it is handed in, as change would have it.
type memoryFlow struct {
	out    chan ended
	err    chan error
	change func(id string) []string // the ends of a job; nil: one
	refuse error

	mu         sync.Mutex
	open, most int // jobs in flight, now and at the most
}

func newMemoryFlow() *memoryFlow {
	return &memoryFlow{out: make(chan ended, 1<<16), err: make(chan error, 1)}
}

func (f *memoryFlow) ends() <-chan ended   { return f.out }
func (f *memoryFlow) broken() <-chan error { return f.err }

func (f *memoryFlow) submit(_ context.Context, ids []string) error {
	if f.refuse != nil {
		return f.refuse
	}
	f.mu.Lock()
	f.open += len(ids)
	f.most = max(f.most, f.open)
	f.mu.Unlock()
	for _, id := range ids {
		names := []string{id}
		if f.change != nil {
			names = f.change(id)
		}
		f.mu.Lock()
		f.open--
		f.mu.Unlock()
		for _, name := range names {
			f.out <- ended{name, time.Now()}
		}
	}
	return nil
}

func TestALoadKeepsItsJobsInFlightAndCountsEachOnce(t *testing.T) {
	t.Parallel()
	for _, l := range []load{
		{inFlight: 1, jobs: 50},
		{inFlight: 7, warm: 20, jobs: 100},
		{inFlight: 600, warm: 600, jobs: 1, time: 20 * time.Millisecond},
	} {
		f := newMemoryFlow()
		got, err := drive(context.Background(), f, l)
		if err != nil {
			t.Fatal(err)
		}
		names := map[string]bool{}
		for _, id := range got.ids {
			names[id] = true
		}
		if f.most > l.inFlight || len(names) != len(got.ids) || len(got.took) < l.jobs || len(got.ids) < len(got.took)+l.warm || got.spent < l.time {
			t.Errorf("%+v: %d in flight, %d names of %d jobs, %d measured in %v", l, f.most, len(names), len(got.ids), len(got.took), got.spent)
		}
		if l.inFlight == 1 && len(got.ids) != l.jobs {
			t.Errorf("one at a time: %d jobs, want %d", len(got.ids), l.jobs)
		}
		if want := float64(len(got.took)) / got.spent.Seconds(); got.rate != want || got.quantile(.5) > got.quantile(.99) || got.took[0] < 0 {
			t.Errorf("%+v: %v a second, want %v; p50 %v", l, got.rate, want, got.quantile(.5))
		}
		if len(f.out) > 0 {
			t.Errorf("%+v: %d ends were not waited for", l, len(f.out))
		}
	}
}

func TestALoadIsUniqueByItsPrefix(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, prefix := range []string{"one", "two"} {
		got, err := drive(context.Background(), newMemoryFlow(), load{prefix: prefix, inFlight: 3, jobs: 30})
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range got.ids {
			if seen[id] {
				t.Fatalf("job %s was handed in before", id)
			}
			seen[id] = true
		}
	}
}

func TestALoadNoticesJobsThatDoNotEndOnce(t *testing.T) {
	t.Parallel()
	for sentence, prepare := range map[string]func(*memoryFlow){
		"ended twice":             func(f *memoryFlow) { f.change = func(id string) []string { return []string{id, id} } },
		"that nobody handed in":   func(f *memoryFlow) { f.change = func(string) []string { return []string{"stranger"} } },
		"cannot hand jobs in: no": func(f *memoryFlow) { f.refuse = errors.New("no") },
		"a worker died":           func(f *memoryFlow) { f.err <- errors.New("a worker died"); f.refuse = context.Canceled },
	} {
		f := newMemoryFlow()
		prepare(f)
		_, err := drive(context.Background(), f, load{inFlight: 2, jobs: 10})
		if errors.Is(f.refuse, context.Canceled) && err != nil {
			continue // either trouble may be seen first
		}
		if err == nil || !strings.Contains(err.Error(), sentence) {
			t.Errorf("got %v, want %q", err, sentence)
		}
	}
}

func TestALoadEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	f := newMemoryFlow()
	f.change = func(string) []string { cancel(); return nil }
	if _, err := drive(ctx, f, load{inFlight: 2, jobs: 10}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestQuantilesAreValuesThatOccurred(t *testing.T) {
	t.Parallel()
	var values []time.Duration
	for n := range 100 {
		values = append(values, time.Duration(n+1)*time.Millisecond)
	}
	for q, want := range map[float64]time.Duration{0: 1, .5: 51, .95: 96, .99: 100, 1: 100} {
		if got := quantile(values, q); got != want*time.Millisecond {
			t.Errorf("quantile %v is %v, want %d ms", q, got, want)
		}
	}
	if got := quantile(values[:1], .99); got != time.Millisecond {
		t.Errorf("of one value: %v", got)
	}
}

func TestSizesComeFromTheEnvironment(t *testing.T) {
	t.Setenv("BENCH_TEST_SIZE", "12")
	t.Setenv("BENCH_TEST_NONSENSE", "-3")
	if got := [...]int{size("TEST_SIZE", 5), size("TEST_NONSENSE", 5), size("TEST_MISSING", 5)}; got != [...]int{12, 5, 5} {
		t.Errorf("got %v", got)
	}
}
