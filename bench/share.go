package main

// This file measures the job handler with all its inputs at hand against a loop that reads the same
// inputs and writes the very same records in transactions of the same kind, without deciding anything.

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/handlers"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

const peerLoop = "consume-transform-produce loop"

// story is what jobs that were lived through put into the handler: first their commands, then what
// the lanes said, in order within each partition.
type story struct{ commands, answers []*kgo.Record }

// position is one input.
type position struct {
	topic     string // without the prefix
	partition int32
	offset    int64
}

// outcomes are the records that the handler wrote for each input.
type outcomes map[position][]*kgo.Record

func measureShare(ctx context.Context, s setting) (_ []Result, err error) {
	services := &services{}
	defer func() { err = errors.Join(err, services.stop()) }()
	if err := services.start(ctx, s.dir); err != nil {
		return nil, err
	}
	told, err := liveThrough(ctx, services, s.root, size("SHARE_JOBS", 5000))
	if err != nil {
		return nil, err
	}
	var ours, loop []float64
	for i := range s.rounds {
		mine, written, err := told.handler(ctx, services, s.root, i)
		if err != nil {
			return nil, err
		}
		theirs, err := told.loop(ctx, services, s.root, i, written)
		if err != nil {
			return nil, err
		}
		ours, loop = append(ours, mine), append(loop, theirs)
		fmt.Fprintf(s.progress, "  round %d: the handler wrote %.0f records/s for %d inputs, the loop %.0f\n",
			i+1, mine, len(told.commands)+len(told.answers), theirs)
	}
	return []Result{newResult("handler_share", "records/s", ours).against(peerLoop, loop)}, nil
}

// liveThrough runs jobs from end to end and keeps what the handler read meanwhile.
func liveThrough(ctx context.Context, services *services, root string, jobs int) (told *story, err error) {
	d := services.newDeployment(root, "story", jobLanes())
	log, err := d.open(ctx)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	s := ourSystem(d, log, false)
	found, err := s.round(ctx, []load{{prefix: "story", inFlight: min(500, jobs), jobs: jobs}})
	if err != nil {
		return nil, err
	}
	ours := map[string]bool{}
	for _, id := range found[0].ids {
		ours[id] = true
	}
	told = &story{}
	err = scan(ctx, d, log, func(r *kgo.Record) {
		switch {
		case !ours[string(r.Key)]: // probes
		case d.topicOf(r) == events.TopicJobCommands:
			told.commands = append(told.commands, r)
		default:
			told.answers = append(told.answers, r)
		}
	}, events.TopicJobCommands, events.TopicTaskEvents)
	return told, err
}

// phases are the inputs in the two parts in which they are given: the order between the topics is
// nobody's promise, and an answer must not come before its job.
func (s *story) phases() []phase {
	return []phase{{events.TopicJobCommands, s.commands}, {events.TopicTaskEvents, s.answers}}
}

type phase struct {
	topic  string
	inputs []*kgo.Record
}

// give writes the phase's inputs into a deployment's log.
func (p phase) give(ctx context.Context, d *deployment) error {
	cl, err := rawWriter(d)
	if err != nil {
		return err
	}
	defer cl.Close()
	records := make([]*kgo.Record, len(p.inputs))
	for i, r := range p.inputs {
		records[i] = &kgo.Record{Topic: d.prefix + p.topic, Partition: r.Partition, Key: r.Key, Value: r.Value, Headers: r.Headers}
	}
	return writeAll(ctx, cl, records)
}

// pace is how quickly a group consumed inputs that lay ready.
type pace struct {
	inputs int64 // consumed after the first commit that was seen
	spent  time.Duration
}

// committed is what the handlers' group has committed; nothing where there is no such group yet.
func committed(ctx context.Context, log *eventlog.Log) (eventlog.Offsets, error) {
	offsets, _, err := log.FetchCommitted(ctx, handlers.Group)
	if errors.Is(err, kerr.GroupIDNotFound) {
		return nil, nil
	}
	return offsets, err
}

// watchGroup follows the group's commits on a topic until all inputs are consumed.
func watchGroup(ctx context.Context, log *eventlog.Log, topic string, all int64, ended <-chan struct{}) (p pace, err error) {
	var first int64
	var began time.Time
	for {
		offsets, err := committed(ctx, log)
		if err != nil {
			return p, err
		}
		var sum int64
		for at, offset := range offsets {
			if at.Topic == topic {
				sum += max(0, offset)
			}
		}
		now := time.Now()
		switch {
		case sum > 0 && began.IsZero() && sum < all:
			first, began = sum, now
		case sum > all:
			return p, fmt.Errorf("the group consumed %d inputs of %s, more than the %d that were given", sum, topic, all)
		case sum == all && began.IsZero():
			return p, nil // between two looks: this part says nothing about the pace
		case sum == all:
			return pace{all - first, now.Sub(began)}, nil
		}
		if err := wait(ctx, 5*time.Millisecond, ended); err != nil {
			return p, fmt.Errorf("the inputs of %s were not all consumed, only %d of %d: %w", topic, sum, all, err)
		}
	}
}

const shareWithin = 5 * time.Minute

// handler gives the inputs to a handler and returns the records it wrote per second, and which.
func (s *story) handler(ctx context.Context, services *services, root string, round int) (_ float64, written outcomes, err error) {
	ctx, cancel := context.WithTimeout(ctx, shareWithin)
	defer cancel()
	d := services.newDeployment(root, "share-ours-"+strconv.Itoa(round), jobLanes())
	log, err := d.open(ctx)
	if err != nil {
		return 0, nil, err
	}
	defer log.Close()
	if err := announceWorker(ctx, log); err != nil {
		return 0, nil, err
	}
	var paces []pace
	for _, p := range s.phases() {
		if err := p.give(ctx, d); err != nil {
			return 0, nil, err
		}
		r, err := d.start(ctx, "handler", "handler")
		if err != nil {
			return 0, nil, err
		}
		got, err := watchGroup(ctx, log, p.topic, int64(len(p.inputs)), r.ended)
		if err := errors.Join(err, r.stop()); err != nil {
			return 0, nil, err
		}
		paces = append(paces, got)
	}
	written, err = writtenBy(ctx, d, log)
	if err != nil {
		return 0, nil, err
	}
	rate, err := s.rate(paces, written)
	return rate, written, err
}

// writtenBy finds what was written for each input by its source headers.
func writtenBy(ctx context.Context, d *deployment, log *eventlog.Log) (outcomes, error) {
	topics := []string{events.TopicJobEvents, events.TopicJobIndex, events.TopicJobReplies, events.TopicTaskControl}
	for _, lane := range noopLanes {
		topics = append(topics, events.LaneTopic(lane))
	}
	found, ended := outcomes{}, 0
	err := scan(ctx, d, log, func(r *kgo.Record) {
		var from position
		for _, h := range r.Headers {
			switch h.Key {
			case eventlog.HeaderSourceTopic:
				from.topic = string(h.Value)
			case eventlog.HeaderSourcePartition:
				n, _ := strconv.ParseInt(string(h.Value), 10, 32) // the handler writes numbers
				from.partition = int32(n)
			case eventlog.HeaderSourceOffset:
				from.offset, _ = strconv.ParseInt(string(h.Value), 10, 64)
			}
		}
		if typeOf(r) == (events.JobSucceeded{}).EventType() {
			ended++
		}
		r.Topic = d.topicOf(r)
		found[from] = append(found[from], r)
	}, topics...)
	if err == nil && ended == 0 {
		err = errors.New("no job of the story ended in the handler")
	}
	return found, err
}

// rate is records written per second over both phases.
func (s *story) rate(paces []pace, written outcomes) (float64, error) {
	counts := map[string]int64{} // records by the topic of their input
	for from, records := range written {
		counts[from.topic] += int64(len(records))
	}
	var records float64
	var spent time.Duration
	for i, p := range s.phases() {
		records += float64(counts[p.topic]) * float64(paces[i].inputs) / float64(len(p.inputs))
		spent += paces[i].spent
	}
	if spent <= 0 {
		return 0, errors.New("all inputs were consumed between two looks; raise BENCH_SHARE_JOBS")
	}
	if jobs := len(s.commands); counts[events.TopicTaskEvents] < int64(4*jobs) {
		return 0, fmt.Errorf("%d jobs led to %d records after their first: the story was not followed to its end", jobs, counts[events.TopicTaskEvents])
	}
	return records / spent.Seconds(), nil
}
