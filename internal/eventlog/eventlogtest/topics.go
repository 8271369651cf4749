// Cases of topics, producing and reading.

package eventlogtest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// admin speaks to the broker beside the log, as an operator would.
func admin(t *testing.T, cfg eventlog.Config, opts ...kgo.Opt) (*kadm.Client, *kgo.Client) {
	t.Helper()
	cl, err := kgo.NewClient(append(opts, kgo.SeedBrokers(cfg.Brokers...), kgo.MetadataMinAge(10*time.Millisecond))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return kadm.NewClient(cl), cl
}

func topicsAreCreatedAndChecked(t *testing.T, cfg eventlog.Config) {
	cfg.LanePartitions = map[string]int{events.LaneRender: 3}
	l := Open(t, cfg)
	ctx := within(t)
	if err := l.EnsureTopics(ctx); err != nil {
		t.Fatalf("topics that were just created are refused: %v", err)
	}
	adm, _ := admin(t, cfg)
	set := func(topic, key, value string) {
		t.Helper()
		rs, err := adm.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Name: key, Value: &value}}, cfg.Prefix+topic)
		if err == nil {
			err = rs[0].Err
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ topic, key, wrong, right string }{
		{events.TopicJobEvents, "retention.ms", "604800000", "-1"},
		{events.TopicJobEvents, "retention.bytes", "1000000", "-1"},
		{events.TopicJobEvents, "cleanup.policy", "compact", "delete"},
		{events.TopicJobIndex, "cleanup.policy", "delete", "compact"},
		{events.TopicTaskProgress, "retention.ms", "-1", "3600000"},
		{events.TopicJobReplies, "retention.ms", "-1", "3600000"},
		{events.TopicTaskControl, "retention.ms", "-1", "86400000"},
	} {
		set(c.topic, c.key, c.wrong)
		Eventually(t, Patience, c.topic+" with "+c.key+"="+c.wrong+" is refused", func() bool {
			err := l.EnsureTopics(ctx)
			return err != nil && containsAll(err.Error(), cfg.Prefix+c.topic, c.key, c.wrong, c.right,
				fmt.Sprintf("rpk topic alter-config %s%s --set %s=%s", cfg.Prefix, c.topic, c.key, c.right))
		})
		set(c.topic, c.key, c.right)
		Eventually(t, Patience, "the mended topic is taken", func() bool { return l.EnsureTopics(ctx) == nil })
	}

	other := cfg
	other.Partitions = 5
	other.LanePartitions = map[string]int{events.LaneRender: 4, events.LaneScript: 1}
	wrong, err := eventlog.Open(other)
	if err != nil {
		t.Fatal(err)
	}
	defer wrong.Close()
	if err := wrong.EnsureTopics(ctx); err == nil || !containsAll(err.Error(), "3 partitions, must be 5", "set the log's partitions to 3",
		"rpk topic add-partitions "+cfg.Prefix+"gpu.render.commands --num 1", "rpk topic add-partitions "+cfg.Prefix+"gpu.render.batch.commands --num 1",
		"set the lane's bound to 2") {
		t.Errorf("other partition counts: %v", err)
	}
}

func containsAll(s string, parts ...string) bool {
	for _, p := range parts {
		if !strings.Contains(s, p) {
			return false
		}
	}
	return true
}

func keysDecideThePartition(t *testing.T, cfg eventlog.Config) {
	l := Open(t, cfg)
	submit(t, l, 0, 100)
	if err := l.Produce(within(t),
		eventlog.Record{Topic: events.LaneTopic(events.LaneTTS), Partition: 1, Key: "n0", Value: []byte("cmd")},
		eventlog.Record{Topic: events.LaneBatchTopic(events.LaneTTS), Partition: 1, Key: "n0", Value: []byte("cmd")},
	); err != nil {
		t.Fatal(err)
	}
	used := make(map[int32]bool)
	for _, r := range readAll(t, l, events.TopicJobCommands) {
		if want := eventlog.PartitionFor(r.Key, 3); r.Partition != want {
			t.Errorf("%s lies in partition %d, want %d", r.Key, r.Partition, want)
		}
		used[r.Partition] = true
	}
	if len(used) != 3 {
		t.Errorf("a hundred keys use %d partitions of 3", len(used))
	}
	for _, topic := range []string{events.LaneTopic(events.LaneTTS), events.LaneBatchTopic(events.LaneTTS)} {
		if rs := readAll(t, l, topic); len(rs) != 1 || rs[0].Partition != 1 {
			t.Errorf("the lane's command lies at %+v, want partition 1", rs)
		}
	}
	if err := l.Produce(within(t), eventlog.Record{Topic: events.TopicJobIndex, Key: "n0"}); err != nil {
		t.Errorf("a record without a value, which ends a key: %v", err)
	}
	if rs := readAll(t, l, events.TopicJobIndex); len(rs) != 1 || rs[0].Value != nil {
		t.Errorf("a record without a value is read as %+v", rs)
	}
	for what, bad := range map[string]eventlog.Record{
		"has no key":                 {Topic: events.TopicJobEvents, Value: []byte("x")},
		"partition 2 is not among":   {Topic: events.LaneBatchTopic(events.LaneTTS), Partition: 2, Key: "k"},
		"partition -1 is not among ": {Topic: events.LaneTopic(events.LaneTTS), Partition: -1, Key: "k"},
	} {
		if err := l.Produce(within(t), bad); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("a record that %s: %v", what, err)
		}
	}
}

// transaction writes values to jobs.events in one transaction and returns how to end it.
func transaction(t *testing.T, cfg eventlog.Config, id string, values ...string) (end func(kgo.TransactionEndTry)) {
	t.Helper()
	_, cl := admin(t, cfg, kgo.TransactionalID(cfg.Prefix+id), kgo.TransactionTimeout(50*time.Second))
	if err := cl.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	ctx := within(t)
	for _, v := range values {
		r := &kgo.Record{Topic: cfg.Prefix + events.TopicJobEvents, Key: []byte("k"), Value: []byte(v)}
		if err := cl.ProduceSync(ctx, r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	return func(how kgo.TransactionEndTry) {
		if err := cl.EndTransaction(ctx, how); err != nil {
			t.Fatal(err)
		}
	}
}

func readsStopAtTheCommittedEnd(t *testing.T, cfg eventlog.Config) {
	l := Open(t, cfg)
	transaction(t, cfg, "one", "aborted")(kgo.TryAbort)
	transaction(t, cfg, "two", "seen")(kgo.TryCommit)
	end := transaction(t, cfg, "three", "open")

	at := eventlog.TopicPartition{Topic: events.TopicJobEvents, Partition: eventlog.PartitionFor("k", 3)}
	Eventually(t, Patience, "the second transaction is read", func() bool { return len(readAll(t, l, at.Topic)) == 1 })
	if got := values(readAll(t, l, at.Topic)); got["seen"] != 1 || len(got) != 1 {
		t.Fatalf("read %v, want seen alone", got)
	}
	ranges, err := l.Ranges(within(t), at.Topic)
	if err != nil {
		t.Fatal(err)
	}
	if r := ranges[at]; r.Start != 0 || r.Stable != 4 || r.End != 5 {
		t.Errorf("the partition holds %+v, want 0, 4 stable, 5", r)
	}

	// A replay waits for the open transaction, because a successor must not miss it.
	replayed := make(chan []eventlog.Record, 1)
	go func() {
		var rs []eventlog.Record
		next, err := l.Replay(within(t), at, 0, func(b []eventlog.Record) error { rs = append(rs, b...); return nil })
		if err != nil || next != 5 {
			t.Errorf("the replay reached %d (%v), want 5", next, err)
		}
		replayed <- rs
	}()
	select {
	case rs := <-replayed:
		t.Fatalf("the replay did not wait: %v", values(rs))
	case <-time.After(200 * time.Millisecond):
	}
	end(kgo.TryCommit)
	if got := values(<-replayed); got["seen"] != 1 || got["open"] != 1 || len(got) != 2 {
		t.Errorf("replayed %v, want seen and open", got)
	}
}

func bareReadsLackHeadersAlone(t *testing.T, cfg eventlog.Config) {
	l := Open(t, cfg)
	r := eventlog.Record{Topic: events.TopicJobEvents, Key: "k", Value: []byte("v"), Headers: []eventlog.Header{{Key: "a", Value: "b"}}}
	if err := l.Produce(within(t), r); err != nil {
		t.Fatal(err)
	}
	whole := await(t, l, r.Topic, 1)
	var bare []eventlog.Record
	keep := func(rs []eventlog.Record) error { bare = append(bare, rs...); return nil }
	_, err := l.ReadBare(within(t), l.Whole(r.Topic), keep)
	if err == nil {
		_, err = l.ReplayBare(within(t), whole[0].At(), 0, keep)
	}
	if err != nil || whole[0].Header("a") != "b" {
		t.Fatalf("read %+v: %v", whole, err)
	}
	whole[0].Headers = nil
	if want := []eventlog.Record{whole[0], whole[0]}; !reflect.DeepEqual(bare, want) {
		t.Errorf("read\n%+v\nwant\n%+v", bare, want)
	}
}

func tailFollowsPastMarkers(t *testing.T, cfg eventlog.Config) {
	network := new(Network)
	l := Open(t, as(cfg, "tail", network))
	transaction(t, cfg, "one", "a")(kgo.TryCommit)
	transaction(t, cfg, "two", "b")(kgo.TryAbort) // the topic ends with a marker
	var mu sync.Mutex
	var got []string
	caught := make(chan []string, 1)
	stop := start(func(ctx context.Context) error {
		return l.Tail(ctx, l.Whole(events.TopicJobEvents), func(b eventlog.Batch) error {
			mu.Lock()
			defer mu.Unlock()
			for _, r := range b.Records {
				got = append(got, string(r.Value))
			}
			return nil
		}, func() {
			mu.Lock()
			defer mu.Unlock()
			caught <- append([]string(nil), got...)
		})
	})
	select {
	case seen := <-caught:
		if fmt.Sprint(seen) != "[a]" {
			t.Errorf("caught up with %v, want [a]", seen)
		}
	case <-time.After(Patience):
		t.Fatal("not caught up, though everything committed is read")
	}
	is := func(want string) func() bool {
		return func() bool {
			mu.Lock()
			defer mu.Unlock()
			return fmt.Sprint(got) == want
		}
	}
	transaction(t, cfg, "three", "c")(kgo.TryCommit)
	Eventually(t, Patience, "the tail follows", is("[a c]"))
	network.Cut()
	transaction(t, cfg, "four", "d")(kgo.TryCommit)
	network.Mend()
	Eventually(t, Patience, "the tail goes on after an outage", is("[a c d]"))
	if err := stop(); err != nil {
		t.Errorf("the tail ended with %v", err)
	}
	wrong := errors.New("wrong")
	if err := l.Tail(within(t), l.Whole(events.TopicJobEvents), func(eventlog.Batch) error { return wrong }, nil); !errors.Is(err, wrong) {
		t.Errorf("the tail ended with %v, want the callback's error", err)
	}
}

// tailPassesWhatIsGone lets records go while a tail cannot read them: of a topic that
// loses them with time that is no loss, of one that is kept for ever it is.
func tailPassesWhatIsGone(t *testing.T, cfg eventlog.Config) {
	network := new(Network)
	l, other := Open(t, as(cfg, "tail", network)), Open(t, cfg)
	adm, _ := admin(t, cfg)
	for _, topic := range []string{events.TopicTaskControl, events.TopicJobEvents} {
		write := func(value string) {
			t.Helper()
			if err := other.Produce(within(t), eventlog.Record{Topic: topic, Key: "k", Value: []byte(value)}); err != nil {
				t.Fatal(err)
			}
		}
		write("read")
		got := make(chan string, 10)
		ended := make(chan error, 1)
		ctx, cancel := context.WithCancel(within(t))
		defer cancel()
		go func() {
			ended <- l.Tail(ctx, l.Whole(topic), func(b eventlog.Batch) error {
				for _, r := range b.Records {
					got <- string(r.Value)
				}
				return nil
			}, nil)
		}()
		if v := <-got; v != "read" {
			t.Fatalf("the tail of %s begins with %q", topic, v)
		}
		network.Cut()
		write("gone")
		write("left")
		at := kadm.Offset{Topic: cfg.Prefix + topic, Partition: eventlog.PartitionFor("k", l.Partitions(topic)), At: 2}
		before := make(kadm.Offsets)
		before.Add(at)
		if rs, err := adm.DeleteRecords(within(t), before); err != nil || rs.Error() != nil {
			t.Fatal(err, rs.Error())
		}
		network.Mend()
		select {
		case v := <-got:
			if v != "left" || topic == events.TopicJobEvents {
				t.Errorf("the tail of %s goes on with %q", topic, v)
			}
		case err := <-ended:
			if topic != events.TopicJobEvents || !errors.Is(err, eventlog.ErrDataLoss) {
				t.Errorf("the tail of %s ended with %v", topic, err)
			}
		case <-time.After(Patience):
			t.Errorf("the tail of %s neither goes on nor ends", topic)
		}
	}
	beyond := eventlog.Offsets{{Topic: events.TopicTaskControl}: 1000}
	if err := l.Tail(within(t), beyond, func(eventlog.Batch) error { return nil }, nil); !errors.Is(err, eventlog.ErrDataLoss) {
		t.Errorf("a position beyond the end: %v, want ErrDataLoss", err)
	}
}

func produceAnswersInTime(t *testing.T, cfg eventlog.Config) {
	network := new(Network)
	cfg = as(cfg, "p", network)
	cfg.ProduceTimeout = 500 * time.Millisecond
	l := Open(t, cfg)
	r := eventlog.Record{Topic: events.TopicJobCommands, Key: "k", Value: []byte("v")}
	Eventually(t, Patience, "a record is written", func() bool { return l.Produce(within(t), r) == nil })
	if err := l.Ping(within(t)); err != nil {
		t.Errorf("a broker that runs is not ready: %v", err)
	}
	network.Cut()
	began := time.Now()
	err := l.Produce(within(t), r)
	if !errors.Is(err, eventlog.ErrUnavailable) {
		t.Errorf("without a broker: %v, want ErrUnavailable", err)
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("the answer took %v, want 0.5 s", took)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
	defer cancel()
	if err := l.Ping(ctx); !errors.Is(err, eventlog.ErrUnavailable) {
		t.Errorf("ping without a broker: %v, want ErrUnavailable", err)
	}
	network.Mend()
	Eventually(t, Patience, "writing goes on when the broker is back", func() bool { return l.Produce(within(t), r) == nil })
}

func readerReportsLoss(t *testing.T, cfg eventlog.Config) {
	l := Open(t, cfg)
	submit(t, l, 0, 10)
	adm, _ := admin(t, cfg)
	transaction(t, cfg, "one", "gone")(kgo.TryCommit)
	p := eventlog.PartitionFor("k", 3)
	for _, topic := range []string{events.TopicJobEvents, events.TopicJobCommands} {
		ends, err := adm.ListEndOffsets(within(t), cfg.Prefix+topic)
		if err != nil {
			t.Fatal(err)
		}
		before := make(kadm.Offsets)
		before.AddOffset(cfg.Prefix+topic, p, ends.Offsets()[cfg.Prefix+topic][p].At, -1)
		if rs, err := adm.DeleteRecords(within(t), before); err != nil || rs.Error() != nil {
			t.Fatal(err, rs.Error())
		}
	}
	poll := func(from eventlog.Offsets) error {
		r, err := l.NewReader(from)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		ctx, cancel := context.WithTimeout(within(t), Patience)
		defer cancel()
		_, err = r.Poll(ctx, 0)
		return err
	}
	kept := eventlog.TopicPartition{Topic: events.TopicJobEvents, Partition: p}
	if err := poll(eventlog.Offsets{kept: 0}); !errors.Is(err, eventlog.ErrDataLoss) {
		t.Errorf("the first records of a topic kept for ever are gone: %v, want ErrDataLoss", err)
	}
	if err := poll(eventlog.Offsets{kept: 1000}); !errors.Is(err, eventlog.ErrDataLoss) {
		t.Errorf("a position beyond the end: %v, want ErrDataLoss", err)
	}
	if err := poll(l.Whole(events.TopicJobCommands)); err != nil {
		t.Errorf("a topic with limited retention that has lost its first records: %v", err)
	}
}
