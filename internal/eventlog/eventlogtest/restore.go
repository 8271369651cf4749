// The case of records that are written to the offsets which they had elsewhere.

package eventlogtest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

func restoredRecordsLieWhereTheyLay(t *testing.T, cfg eventlog.Config) {
	log := Open(t, cfg)
	r, err := log.NewRestorer("test", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var want []string
	past := time.Now().Add(-1000 * time.Hour).Truncate(time.Millisecond).UTC()
	run := func(partition int32, gap int64, offsets ...int64) {
		t.Helper()
		var records []eventlog.Record
		for _, o := range offsets {
			rec := eventlog.Record{Topic: events.TopicJobEvents, Partition: partition, Offset: o, Key: "k", Value: []byte(fmt.Sprint(o)), Time: past.Add(time.Duration(o) * time.Second)}
			records = append(records, rec)
			if partition == 1 {
				want = append(want, fmt.Sprint(o, rec.Time))
			}
		}
		if err := r.Write(within(t), records, gap); err != nil {
			t.Fatal(err)
		}
	}
	run(1, 1, 0, 1, 2)
	run(2, 0, 5) // a gap before the first record
	run(1, 0, 4) // a record without a transaction
	run(1, 2, 5)
	run(1, 3, 8, 9)
	run(1, 1, 13)
	run(1, 50_000, 15, 16)
	run(1, 1, 50_017)
	Eventually(t, Patience, "the last write is committed", func() bool {
		ranges, err := log.Ranges(within(t), events.TopicJobEvents)
		return err == nil && ranges[eventlog.TopicPartition{Topic: events.TopicJobEvents, Partition: 1}].Stable == 50_019
	})
	var got []string
	end, err := log.Replay(within(t), eventlog.TopicPartition{Topic: events.TopicJobEvents, Partition: 1}, 0, func(rs []eventlog.Record) error {
		for _, rec := range rs {
			if string(rec.Value) != fmt.Sprint(rec.Offset) {
				t.Errorf("at %d lies %s", rec.Offset, rec.Value)
			}
			got = append(got, fmt.Sprint(rec.Offset, rec.Time.UTC()))
		}
		return nil
	})
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) || end != 50_019 {
		t.Errorf("read up to %d: %v, %v; want %v", end, got, err, want)
	}
	for _, o := range []int64{50_020, 3} { // one offset alone cannot be empty, and what is written stays
		err := r.Write(within(t), []eventlog.Record{{Topic: events.TopicJobEvents, Partition: 1, Offset: o, Key: "k"}}, 0)
		if !errors.Is(err, eventlog.ErrNotRestorable) {
			t.Errorf("offset %d: %v", o, err)
		}
	}
	if err := log.Produce(within(t), eventlog.Record{Topic: events.TopicProfileEvents, Key: "k", Value: []byte("somebody else")}); err != nil {
		t.Fatal(err)
	}
	p := eventlog.PartitionFor("k", 3)
	err = r.Write(within(t), []eventlog.Record{{Topic: events.TopicProfileEvents, Partition: p, Offset: 0, Key: "k"}}, 0)
	if !errors.Is(err, eventlog.ErrNotRestorable) {
		t.Errorf("beside another writer: %v", err)
	}
}
