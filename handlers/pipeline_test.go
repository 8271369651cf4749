// A job from its submission to its end over a broker in memory, with lanes that
// do nothing: crashes of the handler between, and the log afterwards.

package handlers_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/handlers"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/internal/eventlog/eventlogtest"
)

const patience = time.Minute

// system is a log with lanes that succeed at once.
type system struct {
	t   *testing.T
	log *eventlog.Log
	cfg eventlog.Config
	ctx context.Context
}

func newSystem(t *testing.T) *system {
	_, cfg := eventlogtest.Fake(t)
	cfg.SessionTimeout = time.Second
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	s := &system{t: t, log: eventlogtest.Open(t, cfg), cfg: cfg, ctx: ctx}
	var lanes sync.WaitGroup
	t.Cleanup(func() { cancel(); lanes.Wait() })
	s.announce()
	var all []eventlog.LaneConfig
	for _, name := range events.Lanes() {
		all = append(all, eventlog.LaneConfig{Lane: name, Slots: 2, Grace: time.Second, Accept: s.accept, Run: s.succeed})
	}
	worker, err := s.log.NewLanes(all...)
	if err != nil {
		t.Fatal(err)
	}
	lanes.Go(func() {
		if err := worker.Run(ctx); err != nil {
			t.Errorf("the lanes: %v", err)
		}
	})
	return s
}

// announce says that a worker runs every task.
func (s *system) announce() {
	m := events.WorkerManifest{}
	for _, task := range aggregates.Tasks() {
		m.Tasks = append(m.Tasks, events.TaskCapability{Task: task.Name, Lane: task.Lane})
	}
	s.produce(events.TopicWorkers, events.Message{ID: "manifest", AggregateType: events.AggregateWorker, AggregateID: "w", OccurredAt: time.Now(), Data: m})
}

func (s *system) produce(topic string, m events.Message) {
	s.t.Helper()
	if err := s.log.Produce(s.ctx, s.record(topic, m)); err != nil {
		s.t.Error(err)
	}
}

func (s *system) record(topic string, m events.Message) eventlog.Record {
	value, err := events.Encode(m)
	if err != nil {
		s.t.Error(err)
	}
	return eventlog.Record{Topic: topic, Key: m.AggregateID, Value: value}
}

// answer is a worker's word about a command.
func answer(cmd eventlog.Record, p events.Payload) (events.Message, error) {
	m, err := events.Decode(cmd.Value)
	if err != nil {
		return m, fmt.Errorf("%w: %w", eventlog.ErrUndecodable, err)
	}
	m.CausationID, m.ID = m.ID, events.NameID(m.ID, p.EventType())
	m.OccurredAt, m.Data = time.Now(), p
	return m, nil
}

func (s *system) accept(cmd eventlog.Record) (eventlog.Acceptance, error) {
	m, err := answer(cmd, events.TaskAccepted{LeaseMS: 15_000})
	if err != nil {
		return eventlog.Acceptance{}, err
	}
	return eventlog.Acceptance{Record: s.record(events.TopicTaskEvents, m), Attempt: m.CausationID}, nil
}

func (s *system) succeed(_ context.Context, cmd eventlog.Record) ([]eventlog.Record, error) {
	m, err := answer(cmd, events.TaskSucceeded{Result: events.Result{Engine: "none", Fidelity: events.FidelityPreview}})
	if err != nil {
		return nil, err
	}
	return []eventlog.Record{s.record(events.TopicTaskEvents, m)}, nil
}

// handler runs a handler until the returned function stops it.
func (s *system) handler() (stop func()) {
	s.t.Helper()
	lanes := map[string]int{}
	for _, name := range events.Lanes() {
		lanes[name] = 2
	}
	h, err := handlers.New(handlers.Config{Log: s.log, Lanes: lanes, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(s.ctx)
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			s.t.Errorf("handler: %v", err)
		}
	}
}

func (s *system) submit(id string) {
	sealed := events.Sealed{Bytes: []byte("x"), Key: "k"}
	s.produce(events.TopicJobCommands, events.Message{ID: "submit-" + id, CommandID: "submit-" + id, AggregateType: events.AggregateJob, AggregateID: id,
		OccurredAt: time.Now(), Tenant: "default", Actor: "test", Data: events.JobSubmit{Request: events.Request{Variant: aggregates.VariantSadTalker,
			ProfileName: &sealed, Inputs: map[string]events.Value{"script": {Text: &sealed}, "portrait": {Artifacts: []events.Artifact{{ID: "p"}}}}}}})
}

// await folds jobs.events from the start until n jobs have ended.
func (s *system) await(n int) map[string]aggregates.Job {
	s.t.Helper()
	jobs, ended := map[string]aggregates.Job{}, 0
	enough := errors.New("enough")
	err := s.log.Tail(s.ctx, s.log.Whole(events.TopicJobEvents), func(b eventlog.Batch) error {
		for _, r := range b.Records {
			m, err := events.Decode(r.Value)
			if err != nil {
				return err
			}
			if jobs[r.Key].Terminal() {
				return fmt.Errorf("%s after the end of %s", m.Type(), r.Key)
			}
			if jobs[r.Key], err = jobs[r.Key].Apply(m); err != nil {
				return err
			}
			if jobs[r.Key].Terminal() {
				ended++
			}
		}
		if ended >= n {
			return enough
		}
		return nil
	}, nil)
	if !errors.Is(err, enough) {
		s.t.Fatalf("%d of %d jobs ended: %v", ended, n, err)
	}
	return jobs
}

func TestAJobFinishesOnTheLog(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	stop := s.handler()
	defer stop()
	s.submit("job-1")
	jobs := s.await(1)
	if jobs["job-1"].State != aggregates.JobSucceeded {
		t.Fatalf("the job ends as %s", jobs["job-1"].State)
	}
}

// Jobs outlive handlers: each of them ends once, whatever was in flight when a
// handler stopped.
func TestJobsOutliveHandlers(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	const n = 60
	stop := s.handler()
	for i := range n {
		s.submit(fmt.Sprint("job-", i))
		if i%20 == 10 {
			stop()
			stop = s.handler()
		}
		s.submit(fmt.Sprint("job-", i)) // a client that asks twice
	}
	defer func() { stop() }()
	for id, j := range s.await(n) {
		if j.State != aggregates.JobSucceeded {
			t.Errorf("%s ends as %s", id, j.State)
		}
	}
	s.awaitProfiles(n)
}

// awaitProfiles waits for the profiles that the jobs make, each created once.
func (s *system) awaitProfiles(n int) {
	s.t.Helper()
	created := map[string]int{}
	enough := errors.New("enough")
	err := s.log.Tail(s.ctx, s.log.Whole(events.TopicProfileEvents), func(b eventlog.Batch) error {
		for _, r := range b.Records {
			m, err := events.Decode(r.Value)
			if err != nil {
				return err
			}
			if m.Type() == "profile.created" {
				created[r.Key]++
			}
			if created[r.Key] > 1 {
				return fmt.Errorf("profile %s was created twice", r.Key)
			}
		}
		if len(created) == n {
			return enough
		}
		return nil
	}, nil)
	if !errors.Is(err, enough) {
		s.t.Fatalf("%d of %d profiles: %v", len(created), n, err)
	}
}
