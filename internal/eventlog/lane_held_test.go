// Which of the held commands is next.

package eventlog

import (
	"testing"
	"time"
)

func TestLaneChooses(t *testing.T) {
	t.Parallel()
	now := time.Now()
	cmd := func(age time.Duration) []Record { return []Record{{Time: now.Add(-age)}} }
	held := func(interactive, batch []Record, from, until int64) *heldCommands {
		return &heldCommands{topics: [2]heldTopic{{queue: interactive, seen: now}, {queue: batch, seen: now}}, from: from, until: until}
	}
	const patience = time.Minute
	for what, c := range map[string]struct {
		held     *heldCommands
		busy     bool
		settling *settling
		last     time.Time
		want     int // topic, or -1
	}{
		"nothing held":                             {held(nil, nil, 0, 0), false, nil, time.Time{}, -1},
		"interactive":                              {held(cmd(0), nil, 0, 9), false, nil, time.Time{}, laneInteractive},
		"interactive before batch":                 {held(cmd(0), cmd(0), 0, 9), false, nil, time.Time{}, laneInteractive},
		"batch alone":                              {held(nil, cmd(0), 9, 9), false, nil, time.Time{}, laneBatch},
		"batch, interactive not polled yet":        {held(nil, cmd(0), 8, 9), false, nil, time.Time{}, -1},
		"batch without patience":                   {held(cmd(0), cmd(patience), 0, 9), false, nil, time.Time{}, laneBatch},
		"batch that had a turn":                    {held(cmd(0), cmd(patience), 9, 9), false, nil, now, laneInteractive},
		"batch of a fast clock, seen just now":     {held(cmd(0), cmd(-time.Hour), 9, 9), false, nil, time.Time{}, laneInteractive},
		"busy":                                     {held(cmd(0), cmd(patience), 9, 9), true, nil, time.Time{}, -1},
		"an attempt elsewhere":                     {held(cmd(0), nil, 9, 9), false, &settling{}, time.Time{}, -1},
		"an attempt elsewhere that has ended":      {held(cmd(0), nil, 9, 9), false, &settling{done: true}, time.Time{}, laneInteractive},
		"an attempt elsewhere, and another's here": {held(cmd(0), nil, 9, 9), true, &settling{done: true}, time.Time{}, -1},
	} {
		l := &lane{
			cfg: LaneConfig{Slots: 2, BatchPatience: patience}, topics: laneTopics("tts"), held: map[int32]*heldCommands{0: c.held},
			busy: map[int32]string{}, settling: map[int32]*settling{0: c.settling}, lastBatch: map[int32]time.Time{0: c.last},
		}
		if c.busy {
			l.busy[0] = "x"
		}
		got := -1
		if chosen, _ := l.choose(); len(chosen) > 0 {
			got = chosen[0].topic
		}
		if got != c.want {
			t.Errorf("%s: chose topic %d, want %d", what, got, c.want)
		}
	}
}

// Slots are given to impatient batch commands, then to interactive ones, then to batch.
func TestLaneChoosesByRankAcrossPartitions(t *testing.T) {
	t.Parallel()
	old, young := []Record{{Time: time.Now().Add(-time.Hour)}}, []Record{{Time: time.Now()}}
	l := &lane{
		cfg: LaneConfig{BatchPatience: time.Minute}, topics: laneTopics("tts"), busy: map[int32]string{7: "x"},
		held: map[int32]*heldCommands{0: {}, 1: {}, 2: {}, 7: {}},
	}
	l.held[0].topics[laneBatch] = heldTopic{queue: young, seen: time.Now()}
	l.held[1].topics[laneInteractive].queue = young
	l.held[2].topics[laneBatch] = heldTopic{queue: old, seen: time.Now()}
	l.held[7].topics[laneInteractive].queue = young
	for slots, want := range map[int][]int32{0: nil, 1: nil, 2: {2}, 3: {2, 1}, 4: {2, 1, 0}, 9: {2, 1, 0}} {
		l.cfg.Slots = slots
		all, free := l.choose()
		got := all[:min(free, len(all))]
		if len(got) != len(want) {
			t.Errorf("%d slots: chose %v, want partitions %v", slots, got, want)
			continue
		}
		for i, c := range got {
			if c.partition != want[i] {
				t.Errorf("%d slots: chose %v, want partitions %v", slots, got, want)
			}
		}
	}
}
