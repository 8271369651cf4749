// A partition that is left out of what a reader brings, for a while.

package eventlogtest

import (
	"fmt"
	"slices"
	"testing"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// keyIn is a key whose records lie in a partition of a topic that has three.
func keyIn(partition int32) string {
	for i := 0; ; i++ {
		if key := fmt.Sprint("key-", i); eventlog.PartitionFor(key, 3) == partition {
			return key
		}
	}
}

func readerPauses(t *testing.T, cfg eventlog.Config) {
	l := Open(t, cfg)
	write := func(partition int32, texts ...string) {
		t.Helper()
		for _, text := range texts {
			if err := l.Produce(within(t), eventlog.Record{Topic: events.TopicJobEvents, Key: keyIn(partition), Value: []byte(text)}); err != nil {
				t.Fatal(err)
			}
		}
	}
	write(0, "a", "b", "c", "d", "e")
	r, err := l.NewReader(l.Whole(events.TopicJobEvents))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	read := func(max int, want ...string) {
		t.Helper()
		var got []string
		for len(got) < len(want) {
			b, err := r.Poll(within(t), max)
			if err != nil {
				t.Fatal(err)
			}
			for _, record := range b.Records {
				got = append(got, string(record.Value))
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("read %q, want %q", got, want)
		}
	}
	at := eventlog.TopicPartition{Topic: events.TopicJobEvents, Partition: 0}
	read(2, "a", "b")
	r.Pause(at) // with the rest fetched already
	write(0, "f")
	write(1, "other")
	read(1, "other")
	resumed := make(chan struct{})
	go func() { // beside a poll
		defer close(resumed)
		r.Resume(at)
	}()
	read(0, "c", "d", "e", "f")
	<-resumed
}
