// Cases of watching.

package eventlogtest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// diary is what a watch has told, in its order.
type diary struct {
	mu      sync.Mutex
	entries []string
}

func (d *diary) write(entry string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.entries = append(d.entries, entry)
}

func (d *diary) current(is bool) {
	if is {
		d.write("current")
	} else {
		d.write("interrupted")
	}
}

func (d *diary) batch(b eventlog.Batch) error {
	for _, r := range b.Records {
		d.write(string(r.Value))
	}
	return nil
}

func (d *diary) last() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.entries) == 0 {
		return ""
	}
	return d.entries[len(d.entries)-1]
}

// records are the entries without those about being current.
func (d *diary) records() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(d.entries), func(s string) bool { return s == "current" || s == "interrupted" })
}

func watchKnowsWhenItIsCurrent(t *testing.T, cfg eventlog.Config) {
	network := new(Network)
	l, other := Open(t, as(cfg, "watch", network)), Open(t, cfg)
	beat := func(topic, value string) {
		t.Helper()
		if err := other.Produce(within(t), eventlog.Record{Topic: topic, Key: value, Value: []byte(value)}); err != nil {
			t.Fatal(err)
		}
	}
	beat(events.TopicTaskProgress, "before")
	d := new(diary)
	stop := start(func(ctx context.Context) error {
		return l.Watch(ctx, []string{events.TopicTaskProgress, events.TopicTaskControl}, d.batch, d.current)
	})
	Eventually(t, Patience, "the watch is current, with nothing to read", func() bool { return d.last() == "current" })
	beat(events.TopicTaskProgress, "one")
	Eventually(t, Patience, "a record is handed on", func() bool { return slices.Contains(d.records(), "one") })
	beat(events.TopicTaskControl, "two")
	Eventually(t, Patience, "a record of the other topic is", func() bool { return slices.Contains(d.records(), "two") })

	// Nobody tells of an outage: connections break, or a broker just does not answer.
	for round, outage := range []func(){network.Cut, network.Hang} {
		lost := []string{"while it was away", "while it was silent"}[round]
		outage()
		Eventually(t, Patience, "the interruption is noticed", func() bool { return d.last() == "interrupted" })
		beat(events.TopicTaskProgress, lost)
		network.Mend()
		Eventually(t, Patience, "the watch is current again", func() bool { return d.last() == "current" })
		if got := d.records(); !slices.Contains(got, lost) {
			t.Errorf("current with %v, want %q among them", got, lost)
		}
	}
	if got, want := d.records(), []string{"one", "two", "while it was away", "while it was silent"}; !slices.Equal(got, want) {
		t.Errorf("watched %v, want %v", got, want)
	}
	if err := stop(); err != nil {
		t.Errorf("the watch ended with %v", err)
	}
	wrong := errors.New("wrong")
	ended := make(chan error, 1)
	ready := make(chan struct{})
	var once sync.Once
	go func() {
		ended <- l.Watch(within(t), []string{events.TopicTaskProgress}, func(eventlog.Batch) error { return wrong },
			func(bool) { once.Do(func() { close(ready) }) })
	}()
	<-ready
	beat(events.TopicTaskProgress, "three")
	if err := <-ended; !errors.Is(err, wrong) {
		t.Errorf("the watch ended with %v, want the callback's error", err)
	}
}
