// Cases of several lanes in one process.

package eventlogtest

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// laneConfig is a lane that accepts everything and whose commands are done by works.
func laneConfig(lane string, w *works) eventlog.LaneConfig {
	return eventlog.LaneConfig{
		Lane: lane, Slots: 2, Run: w.run, Grace: 200 * time.Millisecond,
		Accept: func(cmd eventlog.Record) (eventlog.Acceptance, error) {
			return eventlog.Acceptance{Record: eventlog.Record{Topic: events.TopicTaskEvents, Key: cmd.Key, Value: cmd.Value}, Attempt: "attempt of " + string(cmd.Value)}, nil
		},
	}
}

// commandLane writes commands n<from> … to the lane.
func commandLane(t *testing.T, l *eventlog.Log, lane string, from, to int) {
	t.Helper()
	topic := events.LaneTopic(lane)
	for i := from; i < to; i++ {
		send(t, l, topic, int32(i%l.Partitions(topic)), fmt.Sprintf("n%d", i)) //nolint:gosec // 0 or 1
	}
}

// A process takes part for the lanes that it hosts, and takes in more while it runs.
func lanesShareAProcess(t *testing.T, cfg eventlog.Config) {
	l := Open(t, cfg)
	script, tts, render := newWorks(), newWorks(), newWorks()
	lanes, err := l.NewLanes(laneConfig(events.LaneScript, script), laneConfig(events.LaneTTS, tts))
	if err != nil {
		t.Fatal(err)
	}
	if err := lanes.Add(laneConfig(events.LaneTTS, tts)); err == nil {
		t.Error("a lane was added twice")
	}
	stop := start(lanes.Run)
	for i, lane := range []string{events.LaneScript, events.LaneTTS, events.LaneRender} {
		commandLane(t, l, lane, 10*i, 10*i+10)
	}
	Eventually(t, Patience, "the first two lanes run", func() bool { return script.count() == 10 && tts.count() == 10 })
	if n := render.count(); n != 0 {
		t.Errorf("%d commands of a lane that is not hosted have run", n)
	}
	if err := lanes.Add(laneConfig(events.LaneRender, render)); err != nil {
		t.Fatal(err)
	}
	Eventually(t, Patience, "the added lane runs", func() bool { return render.count() == 10 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	wantOnce(t, await(t, l, events.TopicTaskEvents, 30), 30)
}

// A process that comes back under its name for more lanes gets those too, also where
// another process leads the group.
func lanesChangeWithTheProcess(t *testing.T, cfg eventlog.Config) {
	network := new(Network)
	leader, killed, l := Open(t, as(cfg, "b", nil)), Open(t, as(cfg, "a", network)), Open(t, cfg)
	media, script, again, tts := newWorks(), newWorks(), newWorks(), newWorks()
	host := func(l *eventlog.Log, lanes ...eventlog.LaneConfig) func() error {
		hosted, err := l.NewLanes(lanes...)
		if err != nil {
			t.Fatal(err)
		}
		return start(hosted.Run)
	}
	stopLeader := host(leader, laneConfig(events.LaneMedia, media))
	commandLane(t, l, events.LaneMedia, 0, 1)
	Eventually(t, Patience, "the leader runs", func() bool { return media.count() == 1 })
	host(killed, laneConfig(events.LaneScript, script))
	commandLane(t, l, events.LaneScript, 1, 5)
	Eventually(t, Patience, "the first process runs", func() bool { return script.count() == 4 })
	network.Cut()
	stop := host(l, laneConfig(events.LaneScript, again), laneConfig(events.LaneTTS, tts))
	commandLane(t, l, events.LaneScript, 5, 9)
	commandLane(t, l, events.LaneTTS, 9, 13)
	Eventually(t, Patience, "its successor runs both lanes", func() bool { return again.count() == 4 && tts.count() == 4 })
	for _, stop := range []func() error{stop, stopLeader} {
		if err := stop(); err != nil {
			t.Fatal(err)
		}
	}
	wantOnce(t, await(t, l, events.TopicTaskEvents, 13), 13)
}

// reporting makes a lane report "done <command>" for each command.
func reporting(w *works) func(*eventlog.LaneConfig) {
	return func(c *eventlog.LaneConfig) {
		c.Run = func(ctx context.Context, cmd eventlog.Record) ([]eventlog.Record, error) {
			_, err := w.run(ctx, cmd)
			return []eventlog.Record{{Topic: events.TopicTaskEvents, Key: cmd.Key, Value: []byte("done " + string(cmd.Value))}}, err
		}
	}
}

// reports waits for n records of both kinds and counts the reports by command.
func reports(t *testing.T, l *eventlog.Log, n int) map[string]int {
	t.Helper()
	got := make(map[string]int)
	for _, r := range await(t, l, events.TopicTaskEvents, 2*n) {
		if name, done := strings.CutPrefix(string(r.Value), "done "); done {
			got[name]++
		}
	}
	return got
}

// What commands return is written once, with the next acceptance or alone, and until
// then the partition takes no other command.
func laneReportsWhatRan(t *testing.T, cfg eventlog.Config) {
	l := Open(t, cfg)
	w := newWorks()
	stop := start(newLanes(t, l, 5, w, reporting(w)).Run)
	command(t, l, 0, 100)
	got := reports(t, l, 100)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		if name := fmt.Sprintf("n%d", i); got[name] != 1 {
			t.Errorf("%s was reported %d times", name, got[name])
		}
	}
	if w.most[0] != 1 || w.most[1] != 1 {
		t.Errorf("at once ran %v by partition, want 1 each", w.most)
	}
}

// A worker without the broker reports later; nothing that ran goes unreported.
func laneReportsLater(t *testing.T, cfg eventlog.Config) {
	network := new(Network)
	cfg.ProduceTimeout = time.Second
	away, l := Open(t, as(cfg, "a", network)), Open(t, cfg)
	w := newWorks()
	w.hold = make(chan struct{})
	stop := start(newLanes(t, away, 5, w, reporting(w)).Run)
	command(t, l, 0, 6)
	Eventually(t, Patience, "one command of each partition runs", func() bool { return w.count() == 2 })
	network.Cut()
	close(w.hold) // both end while the broker is away
	<-time.After(1500 * time.Millisecond)
	network.Mend()
	got := reports(t, l, 6)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	for i := range 6 {
		if name := fmt.Sprintf("n%d", i); got[name] < 1 {
			t.Errorf("%s was never reported; reported are %v", name, got)
		}
	}
}

// A report that the broker refuses is given up with its command, and disturbs no other.
func laneGivesUpImpossibleReports(t *testing.T, cfg eventlog.Config) {
	l := Open(t, cfg)
	w := newWorks()
	stop := start(newLanes(t, l, 5, w, func(c *eventlog.LaneConfig) {
		c.Run = func(ctx context.Context, cmd eventlog.Record) ([]eventlog.Record, error) {
			_, err := w.run(ctx, cmd)
			value := []byte("done " + string(cmd.Value))
			if string(cmd.Value) == "n0" {
				value = make([]byte, 3<<20)
			}
			return []eventlog.Record{{Topic: events.TopicTaskEvents, Key: cmd.Key, Value: value}}, err
		}
	}).Run)
	command(t, l, 0, 10)
	Eventually(t, Patience, "all commands run", func() bool { return w.count() == 10 })
	await(t, l, events.TopicTaskEvents, 19)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}
