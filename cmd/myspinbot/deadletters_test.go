// Dead letters, from the record that cannot be handled to the operator's decision.

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/internal/eventlog/eventlogtest"
)

// graveyard is a log on which a runner and a lane give up what they are told to.
type graveyard struct {
	t    *testing.T
	log  *eventlog.Log
	args []string // that lead to the log
}

// logOf opens the log that a command with these arguments would.
func logOf(t *testing.T, args []string) *eventlog.Log {
	t.Helper()
	cfg, _, err := loadConfig(args, nil)
	if err != nil {
		t.Fatal(err)
	}
	log, err := openLog(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(log.Close)
	return log
}

func newGraveyard(t *testing.T) *graveyard {
	t.Helper()
	_, fake := eventlogtest.Fake(t)
	g := &graveyard{t: t, args: []string{"--kafka-brokers", fake.Brokers[0], "--kafka-partitions", "3"}}
	g.log = logOf(t, g.args)
	if err := g.log.EnsureTopics(t.Context()); err != nil {
		t.Fatal(err)
	}
	runner, err := g.log.NewRunner(eventlog.RunnerConfig{Group: "handler", Topics: []string{events.TopicJobCommands}, Decider: givesUp{}})
	if err != nil {
		t.Fatal(err)
	}
	lane, err := g.log.NewLanes(eventlog.LaneConfig{
		Lane: events.LaneTTS, Slots: 1, Run: func(context.Context, eventlog.Record) ([]eventlog.Record, error) { return nil, nil },
		Accept: func(eventlog.Record) (eventlog.Acceptance, error) {
			return eventlog.Acceptance{}, fmt.Errorf("%w: the lane cannot read it", eventlog.ErrUndecodable)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, run := range []func(context.Context) error{runner.Run, lane.Run} {
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- run(ctx) }()
		t.Cleanup(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
	return g
}

// givesUp decides nothing.
type givesUp struct{}

func (givesUp) Recover(context.Context, int32, string) error { return nil }
func (givesUp) Meta(int32, []eventlog.Record) string         { return "" }
func (givesUp) Committed(int32, []eventlog.Record)           {}
func (givesUp) Drop(int32)                                   {}

func (givesUp) Decide(context.Context, eventlog.Record) ([]eventlog.Record, error) {
	return nil, fmt.Errorf("%w: nobody knows what it means", eventlog.ErrUndecodable)
}

func (g *graveyard) produce(rs ...eventlog.Record) {
	g.t.Helper()
	if err := g.log.Produce(g.t.Context(), rs...); err != nil {
		g.t.Fatal(err)
	}
}

// call runs the command and returns its status and what it printed.
func (g *graveyard) call(words ...string) (status int, stdout, stderr string) {
	g.t.Helper()
	return run(g.t, func(ctx context.Context, args []string, out, errs *bytes.Buffer) int {
		return runDeadLetters(ctx, args, out, errs)
	}, append(words, g.args...)...)
}

// must is call for what has to succeed.
func (g *graveyard) must(words ...string) string {
	g.t.Helper()
	status, stdout, stderr := g.call(words...)
	if status != 0 {
		g.t.Fatalf("%v: status %d: %s", words, status, stderr)
	}
	return stdout
}

func (g *graveyard) list(words ...string) []letterDoc {
	g.t.Helper()
	var page struct {
		Items []letterDoc `json:"items"`
	}
	out := g.must(append([]string{"list", "--json"}, words...)...)
	if err := json.Unmarshal([]byte(out), &page); err != nil {
		g.t.Fatalf("%v in %s", err, out)
	}
	return page.Items
}

// await waits for n open letters.
func (g *graveyard) await(n int) []letterDoc {
	g.t.Helper()
	eventlogtest.Eventually(g.t, eventlogtest.Patience, fmt.Sprintf("%d dead letters", n), func() bool { return len(g.list()) == n })
	return g.list()
}

func (g *graveyard) records(topic string) (rs []eventlog.Record) {
	g.t.Helper()
	if _, err := g.log.Read(g.t.Context(), g.log.Whole(topic), func(b []eventlog.Record) error { rs = append(rs, b...); return nil }); err != nil {
		g.t.Fatal(err)
	}
	return rs
}

func TestDeadLettersKeepWhatCame(t *testing.T) {
	t.Parallel()
	g := newGraveyard(t)
	if out := g.must(); out != "no dead letters\n" {
		t.Errorf("an empty list is printed as %q", out)
	}
	topic := events.LaneTopic(events.LaneTTS)
	g.produce(eventlog.Record{
		Topic: topic, Partition: 1, Key: "job-1", Value: []byte(`{"text":{"sealed":"AA=="}}`),
		Headers: []eventlog.Header{{Key: "ce_type", Value: "task.run"}, {Key: "reason", Value: "its own"}, {Key: "src_topic", Value: "jobs.commands"}, {Key: "src_offset", Value: "7"}},
	})
	l := g.await(1)[0]
	if l.Topic != topic || l.Partition != 1 || l.Offset != 0 || l.Key != "job-1" || string(l.Value) != `{"text":{"sealed":"AA=="}}` ||
		l.Reason != "undecodable: the lane cannot read it" {
		t.Errorf("the letter is %+v", l)
	}
	if want := map[string]string{"ce_type": "task.run", "reason": "its own", "src_topic": "jobs.commands", "src_offset": "7"}; !maps.Equal(l.Headers, want) {
		t.Errorf("its headers are %v, want those that it came with: %v", l.Headers, want)
	}
	for _, words := range [][]string{{}, {"list"}} {
		if out := g.must(words...); !strings.Contains(out, l.ID+"  ") || !strings.Contains(out, "gpu.tts.commands/1 0") || !strings.Contains(out, "cannot read it") {
			t.Errorf("%v prints %s", words, out)
		}
	}
	if out := g.must("show", l.ID); !strings.Contains(out, "header  src_offset: 7\n") || !strings.Contains(out, "\n    \"sealed\": \"AA==\"\n") {
		t.Errorf("it is shown as %s", out)
	}
	g.produce(eventlog.Record{Topic: events.TopicJobCommands, Key: "job-2", Value: []byte("no \x1b JSON")})
	other := g.await(2)[1]
	if string(other.ValueBytes) != "no \x1b JSON" || other.Value != nil {
		t.Errorf("a value that is no JSON is given as %+v", other)
	}
	if out := g.must("show", other.ID); strings.Contains(out, "\x1b") || !strings.Contains(out, `not JSON: "no \x1b JSON"`) {
		t.Errorf("it is shown as %q", out)
	}
}

func TestDeadLettersAreReplayedOnce(t *testing.T) {
	t.Parallel()
	g := newGraveyard(t)
	topic := events.LaneBatchTopic(events.LaneTTS)
	sent := eventlog.Record{Topic: topic, Partition: 1, Key: "job-1", Value: []byte(`{}`), Headers: []eventlog.Header{{Key: "ce_type", Value: "task.run"}}}
	g.produce(sent)
	first := g.await(1)[0]
	if out := g.must("replay", first.ID); out != first.ID+" written back to "+topic+"\n" {
		t.Errorf("a replay prints %q", out)
	}
	// In vain: the record comes back as a new letter.
	eventlogtest.Eventually(t, eventlogtest.Patience, "the replayed record dies again", func() bool {
		open := g.list()
		return len(open) == 1 && open[0].ID != first.ID
	})
	second := g.list()[0]
	if second.Topic != topic || second.Partition != 1 || second.Offset <= first.Offset || second.Headers["replays"] != first.ID || second.Headers["ce_type"] != "task.run" {
		t.Errorf("the new letter is %+v", second)
	}
	status, _, stderr := g.call("replay", first.ID)
	if status != 1 || !strings.Contains(stderr, "resolved already: "+first.ID+" was replayed at 20") {
		t.Errorf("a second replay: status %d, %s", status, stderr)
	}
	if n := len(g.records(topic)); n != 2 {
		t.Errorf("%d records lie in the lane's topic, want the command and its replay", n)
	}
	if all := g.list("--all"); len(all) != 2 || all[0].Resolution != "replayed" || all[0].ResolvedAt == nil {
		t.Errorf("all letters are %+v", all)
	}

	if out := g.must("discard", second.ID); !strings.Contains(out, "discarded") {
		t.Errorf("a discard prints %q", out)
	}
	for _, verb := range []string{"replay", "discard"} {
		if status, _, stderr := g.call(verb, second.ID); status != 1 || !strings.Contains(stderr, "was discarded") {
			t.Errorf("%s after a discard: status %d, %s", verb, status, stderr)
		}
	}
	if out := g.must(); out != "no dead letters\n" {
		t.Errorf("all are resolved, and listed is %q", out)
	}
	if out := g.must("list", "--all"); strings.Count(out, "replayed") != 1 || strings.Count(out, "discarded") != 1 {
		t.Errorf("all are listed as %s", out)
	}
	for id, says := range map[string]string{"0:99": "no such dead letter: 0:99", "9:0": "no such dead letter: 9:0", "seven": "looks like 3:17"} {
		for _, verb := range []string{"show", "replay", "discard"} {
			if status, _, stderr := g.call(verb, id); status != 1 || !strings.Contains(stderr, says) {
				t.Errorf("%s %s: status %d, %s", verb, id, status, stderr)
			}
		}
	}
}

// Of several operators who replay the same letter at once, one does.
func TestDeadLettersAreReplayedByOne(t *testing.T) {
	t.Parallel()
	g := newGraveyard(t)
	g.produce(eventlog.Record{Topic: events.TopicJobCommands, Key: "job-1", Value: []byte(`{}`)})
	id := g.await(1)[0].ID
	const operators = 6
	outcomes := make(chan error, operators)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for range operators {
		go func() {
			_, err := g.log.ReplayDeadLetter(ctx, id)
			outcomes <- err
		}()
	}
	done := 0
	for range operators {
		if <-outcomes == nil {
			done++
		}
	}
	again := 0
	for _, r := range g.records(events.TopicJobCommands) {
		if r.Header(eventlog.HeaderReplays) == id {
			again++
		}
	}
	if done > 1 || again != done {
		t.Errorf("%d of %d replays succeeded, and %d records were written back", done, operators, again)
	}
	if done == 0 { // all were in one another's way
		g.must("replay", id)
	}
}
