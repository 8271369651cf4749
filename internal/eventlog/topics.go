// The table of topics: what each must look like, how it is created, and how a
// wrong one is told.

package eventlog

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/myspinbot/myspinbot/events"
)

const topicDeadLetters = events.TopicDeadLetters

const day = 24 * time.Hour

// createMillis is how long the controller may take to create the topics.
const createMillis = 15_000

// forever is a retention without end.
const forever time.Duration = -1

type topicSpec struct {
	topic      string // without the prefix
	name       string // with it
	partitions int
	compacted  bool
	retention  time.Duration // forever, or how long; of no meaning when compacted
	lane       string        // the lane whose commands it holds, or ""
}

func topicSpecs(cfg Config) map[string]topicSpec {
	p := cfg.Partitions
	table := []topicSpec{
		{topic: events.TopicJobCommands, partitions: p, retention: 30 * day},
		{topic: events.TopicJobEvents, partitions: p, retention: forever},
		{topic: events.TopicJobReplies, partitions: p, retention: time.Hour},
		{topic: events.TopicJobIndex, partitions: p, compacted: true},
		{topic: events.TopicProfileCommands, partitions: p, retention: 30 * day},
		{topic: events.TopicProfileEvents, partitions: p, retention: forever},
		{topic: events.TopicTaskEvents, partitions: p, retention: 30 * day},
		{topic: events.TopicTaskProgress, partitions: p, retention: time.Hour},
		{topic: events.TopicTaskControl, partitions: 1, retention: day},
		{topic: events.TopicWorkers, partitions: 1, compacted: true},
		{topic: events.TopicSettings, partitions: 1, compacted: true},
		{topic: events.TopicDeadLetters, partitions: p, retention: forever},
		{topic: events.TopicWebhookCommands, partitions: p, retention: 30 * day},
		// A job may be scheduled 30 days ahead and live for 30 more; then come its deliveries.
		{topic: events.TopicWebhooks, partitions: p, retention: 90 * day},
	}
	for lane, n := range cfg.LanePartitions {
		for _, topic := range laneTopics(lane) {
			table = append(table, topicSpec{topic: topic, partitions: n, retention: 30 * day, lane: lane})
		}
	}
	specs := make(map[string]topicSpec, len(table))
	for _, s := range table {
		s.name = cfg.Prefix + s.topic
		specs[s.topic] = s
	}
	return specs
}

// kept tells whether its records should be there for ever, each of them.
func (s topicSpec) kept() bool { return s.retention == forever && !s.compacted }

// laneTopics are the two of a lane: commands that somebody waits for, and those that
// may wait themselves.
func laneTopics(lane string) []string {
	return []string{events.LaneTopic(lane), events.LaneBatchTopic(lane)}
}

// settings are the topic's configuration entries, all of which are checked.
func (s topicSpec) settings() map[string]string {
	if s.compacted {
		return map[string]string{"cleanup.policy": "compact"}
	}
	ms := "-1"
	if s.retention != forever {
		ms = strconv.FormatInt(s.retention.Milliseconds(), 10)
	}
	return map[string]string{"cleanup.policy": "delete", "retention.ms": ms, "retention.bytes": "-1"}
}

// EnsureTopics creates the topics that are missing and checks those that exist:
// partitions, clean-up policy, retention. Every fault is reported at once, with
// the command that mends it; none is mended here, because each loses something.
func (l *Log) EnsureTopics(ctx context.Context) error {
	if err := l.createTopics(ctx); err != nil {
		return err
	}
	return l.CheckTopics(ctx)
}

func (l *Log) createTopics(ctx context.Context) error {
	have, err := l.admin.ListTopics(ctx)
	if err != nil {
		return fmt.Errorf("cannot list the topics: %w", unavailable(err))
	}
	req := kmsg.NewPtrCreateTopicsRequest() // one for all: a controller handles each with a write of its own
	req.TimeoutMillis = createMillis
	for _, topic := range slices.Sorted(maps.Keys(l.specs)) {
		if spec := l.specs[topic]; !have.Has(spec.name) {
			req.Topics = append(req.Topics, l.newTopic(spec))
		}
	}
	if len(req.Topics) == 0 {
		return nil
	}
	resp, err := req.RequestWith(ctx, l.cl)
	if err != nil {
		return fmt.Errorf("cannot create topics: %w", unavailable(err))
	}
	for _, t := range resp.Topics {
		if err := kerr.ErrorForCode(t.ErrorCode); err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
			if t.ErrorMessage != nil {
				err = fmt.Errorf("%w: %s", err, *t.ErrorMessage)
			}
			return fmt.Errorf("cannot create topic %q: %w", t.Topic, unavailable(err))
		}
	}
	return nil
}

func (l *Log) newTopic(spec topicSpec) kmsg.CreateTopicsRequestTopic {
	t := kmsg.NewCreateTopicsRequestTopic()
	t.Topic, t.NumPartitions, t.ReplicationFactor = spec.name, int32(spec.partitions), int16(l.cfg.ReplicationFactor) //nolint:gosec // both are small
	for k, v := range spec.settings() {
		c := kmsg.NewCreateTopicsRequestTopicConfig()
		c.Name, c.Value = k, &v
		t.Configs = append(t.Configs, c)
	}
	return t
}

// CheckTopics is EnsureTopics for those who only read: it creates nothing.
func (l *Log) CheckTopics(ctx context.Context) error {
	names := l.names(slices.Sorted(maps.Keys(l.specs)))
	have, err := l.visibleTopics(ctx, names)
	if err != nil {
		return err
	}
	configs, err := l.admin.DescribeTopicConfigs(ctx, names...)
	if err != nil {
		return fmt.Errorf("cannot read the topics' settings: %w", unavailable(err))
	}
	var faults []error
	for topic, spec := range l.specs {
		name := l.cfg.Prefix + topic
		if n := len(have[name].Partitions); n != spec.partitions {
			faults = append(faults, partitionFault(name, spec, n))
		}
		rc, err := configs.On(name, nil)
		if err == nil {
			err = rc.Err
		}
		if err != nil {
			return fmt.Errorf("cannot read the settings of topic %q: %w", name, err)
		}
		found := make(map[string]string)
		for _, c := range rc.Configs {
			found[c.Key] = c.MaybeValue()
		}
		faults = append(faults, settingFaults(name, spec, found)...)
	}
	slices.SortFunc(faults, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	if err := errors.Join(faults...); err != nil {
		return fmt.Errorf("the log's topics are not as this program needs them:\n%w", err)
	}
	return nil
}

// visibleTopics waits until every topic is in the metadata: a created one appears late.
func (l *Log) visibleTopics(ctx context.Context, names []string) (kadm.TopicDetails, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		have, err := l.admin.ListTopics(ctx, names...)
		if err == nil {
			err = have.Error()
		}
		if err == nil {
			return have, nil
		}
		if wait(ctx, 20*time.Millisecond) != nil {
			return nil, fmt.Errorf("cannot list the topics: %w", unavailable(err))
		}
	}
}

func partitionFault(name string, spec topicSpec, found int) error {
	switch {
	case spec.lane != "" && found < spec.partitions:
		return fmt.Errorf("topic %q: %d partitions, must be %d, the bound of lane %s; mend it with: rpk topic add-partitions %s --num %d (Apache Kafka: kafka-topics.sh --alter --topic %s --partitions %d)",
			name, found, spec.partitions, spec.lane, name, spec.partitions-found, name, spec.partitions)
	case spec.lane != "":
		return fmt.Errorf("topic %q: %d partitions, must be %d, the bound of lane %s; set the lane's bound to %d, or drain the lane and delete the topic: rpk topic delete %s",
			name, found, spec.partitions, spec.lane, found, name)
	}
	return fmt.Errorf("topic %q: %d partitions, must be %d; the number never changes in place, because it decides where every key lies: set the log's partitions to %d (if the topic is new and empty: rpk topic delete %s)",
		name, found, spec.partitions, found, name)
}

func settingFaults(name string, spec topicSpec, found map[string]string) []error {
	var faults []error
	for key, want := range spec.settings() {
		if got := found[key]; got != want {
			faults = append(faults, fmt.Errorf("topic %q: %s is %q, must be %q; mend it with: rpk topic alter-config %s --set %s=%s (Apache Kafka: kafka-configs.sh --alter --entity-type topics --entity-name %s --add-config %s=%s)",
				name, key, got, want, name, key, want, name, key, want))
		}
	}
	return faults
}

// Whole is the position before everything in the given topics of the table.
func (l *Log) Whole(topics ...string) Offsets {
	from := make(Offsets)
	for _, t := range topics {
		for p := range l.specs[t].partitions {
			from[TopicPartition{t, int32(p)}] = 0 //nolint:gosec // partitions are few
		}
	}
	return from
}

// Partitions is how many partitions a topic of the table has, 0 for any other.
func (l *Log) Partitions(topic string) int { return l.specs[topic].partitions }
