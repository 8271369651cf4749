// The live feed: one tail of jobs.events and gpu.progress, a bounded ring of the
// last events, and a bounded queue a client.

package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

const (
	ringSize  = 4096 // events kept for clients that come back
	queueSize = 256  // frames that wait for a client of one job
)

// position is a place on jobs.events.
type position struct {
	partition int32
	offset    int64
}

func (p position) String() string { return fmt.Sprintf("%d:%d", p.partition, p.offset) }

// parsePosition reads the id of a streamed event.
func parsePosition(s string) (position, bool) {
	p, o, ok := strings.Cut(s, ":")
	partition, err := strconv.ParseInt(p, 10, 32)
	offset, err2 := strconv.ParseInt(o, 10, 64)
	return position{int32(partition), offset}, ok && err == nil && err2 == nil && partition >= 0 && offset >= 0
}

// eventView is one event as clients see it: its place, and the envelope of the log.
type eventView struct {
	Position       string          `json:"id"` // partition:offset on jobs.events
	EventID        string          `json:"event_id"`
	Type           string          `json:"type"`
	SchemaVersion  int             `json:"schema_version"`
	JobID          string          `json:"job_id"`
	Version        int64           `json:"version"`
	OccurredAt     time.Time       `json:"occurred_at"`
	CommandID      string          `json:"command_id"`
	CausationID    string          `json:"causation_id"`
	CorrelationID  string          `json:"correlation_id"`
	Actor          string          `json:"actor"`
	Stage          *string         `json:"stage"`
	Task           *string         `json:"task"`
	Attempt        *int            `json:"attempt"`
	State          *string         `json:"state"`
	Variant        *string         `json:"variant"`
	Lane           *string         `json:"lane"`
	Worker         *string         `json:"worker"`
	Model          *string         `json:"model"`
	DurationMS     *int64          `json:"duration_ms"`
	ErrorClass     *string         `json:"error_class"`
	ArtifactURI    *string         `json:"artifact_uri"`
	ArtifactSHA256 *string         `json:"artifact_sha256"`
	Data           json.RawMessage `json:"data"` // sealed texts opened, or null once erased

	tenant string
	at     position
	value  []byte // the record's, of an event that came from the log
}

// ends says whether the job is over with this event.
func (e *eventView) ends() bool { return events.EndsJob(e.Type) }

// readEvent takes the envelope from a record without knowing its type, so that a
// newer program's events are shown as well.
func readEvent(r eventlog.Record) (*eventView, error) {
	e := &eventView{}
	envelope := struct {
		*eventView
		Type      *string `json:"event_type"`
		Aggregate *string `json:"aggregate_id"`
		Version   *int64  `json:"aggregate_version"`
		Tenant    *string `json:"tenant"`
	}{eventView: e, Type: &e.Type, Aggregate: &e.JobID, Version: &e.Version, Tenant: &e.tenant}
	if err := json.Unmarshal(r.Value, &envelope); err != nil {
		return nil, err
	}
	e.at, e.value = position{r.Partition, r.Offset}, r.Value
	e.Position = e.at.String()
	return e, nil
}

// progressView is a beat of a running stage. It has no place on the log.
type progressView struct {
	JobID   string  `json:"job_id"`
	Stage   string  `json:"stage"`
	Attempt int     `json:"attempt"`
	Percent float64 `json:"percent"` // 0 to 100
	Step    int     `json:"step,omitempty"`
	Steps   int     `json:"steps,omitempty"`
	Message string  `json:"message,omitempty"`
	EtaMS   int64   `json:"eta_ms,omitempty"`

	tenant string
}

// frame is what a client's queue holds: one of the two.
type frame struct {
	event    *eventView
	progress *progressView
}

// job is the job that the frame is about.
func (x frame) job() string {
	if x.event != nil {
		return x.event.JobID
	}
	return x.progress.JobID
}

// tenant is whose frame it is.
func (x frame) tenant() string {
	if x.event != nil {
		return x.event.tenant
	}
	return x.progress.tenant
}

// subscriber is one client's queue. The feed closes it when the client is too slow.
type subscriber struct {
	jobs  map[string]struct{} // that it follows; the feed's mu guards it
	queue chan frame
}

func newSubscriber(size int) *subscriber {
	return &subscriber{jobs: map[string]struct{}{}, queue: make(chan frame, size)}
}

type feed struct {
	log    *eventlog.Log
	logger *slog.Logger
	seen   func(*eventView) // is told of every event

	mu       sync.Mutex
	begin    map[int32]int64 // by partition: the ring holds every event from here on; nil until the tail began
	from     map[int32]int64 // begin as it was first
	ring     []*eventView
	first    int                                 // of the ring, once it is full
	kept     int64                               // events that the ring has taken so far
	reached  map[int32]int64                     // by partition: the first offset that the tail has not come to
	subs     map[string]map[*subscriber]struct{} // by job
	all      map[*follower]struct{}
	progress map[string]map[string]progressView // by job and stage
}

func newFeed(cfg Config) *feed {
	return &feed{
		log: cfg.Log, logger: cfg.Logger, seen: func(*eventView) {},
		reached: map[int32]int64{}, subs: map[string]map[*subscriber]struct{}{}, all: map[*follower]struct{}{},
		progress: map[string]map[string]progressView{},
	}
}

// run follows the log from now on until ctx ends.
func (f *feed) run(ctx context.Context) error {
	from, err := f.start(ctx)
	if err != nil {
		return nil // ctx ended before the log answered
	}
	if err := f.log.Tail(ctx, from, f.apply, nil); err != nil {
		return fmt.Errorf("cannot follow the jobs: %w", err)
	}
	return nil
}

// start finds the end of the log, waiting for a broker that is not there yet.
func (f *feed) start(ctx context.Context) (eventlog.Offsets, error) {
	for told := false; ; {
		ranges, err := f.log.Ranges(ctx, events.TopicJobEvents, events.TopicTaskProgress)
		if err == nil {
			from, begin := eventlog.Offsets{}, map[int32]int64{}
			for tp, r := range ranges {
				from[tp] = r.Stable
				if tp.Topic == events.TopicJobEvents {
					begin[tp.Partition] = r.Stable
				}
			}
			f.mu.Lock()
			f.begin, f.from = begin, maps.Clone(begin)
			f.mu.Unlock()
			return from, nil
		}
		if !told && ctx.Err() == nil {
			f.logger.Warn("the log does not answer; live streams wait for it", "error", err)
			told = true
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(250 * time.Millisecond):
		}
	}
}

// began is where the tail began, by partition; nil until it did. The ring's own begin moves on.
func (f *feed) began() map[int32]int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.from)
}

func (f *feed) apply(b eventlog.Batch) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer f.wake()
	for tp, next := range b.Next {
		if tp.Topic == events.TopicJobEvents {
			f.reached[tp.Partition] = next
		}
	}
	for _, r := range b.Records {
		if r.Topic == events.TopicTaskProgress {
			f.applyProgress(r)
			continue
		}
		e, err := readEvent(r)
		if err != nil {
			f.logger.Error("an event of a job cannot be read and is not streamed", "partition", r.Partition, "offset", r.Offset, "error", err)
			continue
		}
		f.keep(e)
		f.seen(e)
		switch {
		case e.ends():
			delete(f.progress, e.JobID)
		case e.Stage != nil && e.Type != "artifact.registered":
			delete(f.progress[e.JobID], *e.Stage)
		}
		f.send(e.JobID, frame{event: e})
	}
	return nil
}

// viewProgress is a beat as clients see it; false for what is none.
func viewProgress(m events.Message) (progressView, bool) {
	beat, ok := m.Data.(events.TaskProgress)
	return progressView{JobID: m.JobID, Stage: m.Stage, Attempt: m.Attempt, Percent: beat.Percent, Step: beat.Step, Steps: beat.Steps,
		Message: beat.Message, EtaMS: beat.EtaMS, tenant: m.Tenant}, ok
}

// maxProgressJobs bounds the memory of jobs whose end was never seen.
const maxProgressJobs = 10_000

func (f *feed) applyProgress(r eventlog.Record) {
	m, err := events.Decode(r.Value)
	p, ok := viewProgress(m)
	if err != nil || !ok {
		return // a beat is no fact: the next one comes within seconds
	}
	if f.progress[p.JobID] == nil {
		if len(f.progress) >= maxProgressJobs {
			clear(f.progress)
		}
		f.progress[p.JobID] = map[string]progressView{}
	}
	f.progress[p.JobID][p.Stage] = p
	f.send(p.JobID, frame{progress: &p})
	f.offer(&p)
}

// keep puts an event into the ring; the oldest one makes room.
func (f *feed) keep(e *eventView) {
	f.kept++
	if len(f.ring) < ringSize {
		f.ring = append(f.ring, e)
		return
	}
	old := f.ring[f.first].at
	f.begin[old.partition] = max(f.begin[old.partition], old.offset+1)
	f.ring[f.first] = e
	f.first = (f.first + 1) % ringSize
}

// send never waits: a client that is behind loses progress first, then its stream.
func (f *feed) send(job string, x frame) {
	for sub := range f.subs[job] {
		if x.progress != nil && len(sub.queue) > cap(sub.queue)/2 {
			continue
		}
		select {
		case sub.queue <- x:
		default:
			f.drop(sub)
		}
	}
}

// drop ends the subscriber, whatever it follows. The caller holds mu.
func (f *feed) drop(sub *subscriber) {
	if sub.jobs == nil {
		return
	}
	for job := range sub.jobs {
		f.forget(sub, job)
	}
	sub.jobs = nil
	close(sub.queue)
}

func (f *feed) forget(sub *subscriber, job string) {
	delete(f.subs[job], sub)
	if len(f.subs[job]) == 0 {
		delete(f.subs, job)
	}
}

// subscribe begins to follow one job, as join has it.
func (f *feed) subscribe(job string, partition int32) (sub *subscriber, held []*eventView, begin int64, err error) {
	sub = newSubscriber(queueSize)
	held, begin, err = f.join(sub, job, partition)
	return sub, held, begin, err
}

// errCut says that the subscriber was too slow and is out.
var errCut = errors.New("the client was too slow")

// join adds a job to those that the subscriber follows and returns, as of the same
// moment, what the ring holds of the job and the offset in the partition from which on
// the ring is complete.
func (f *feed) join(sub *subscriber, job string, partition int32) (held []*eventView, begin int64, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.begin == nil:
		return nil, 0, fmt.Errorf("the live feed has not begun: %w", eventlog.ErrUnavailable)
	case sub.jobs == nil:
		return nil, 0, errCut
	}
	if f.subs[job] == nil {
		f.subs[job] = map[*subscriber]struct{}{}
	}
	f.subs[job][sub], sub.jobs[job] = struct{}{}, struct{}{}
	return f.ofJob(job), f.begin[partition], nil
}

// part takes a job from those that the subscriber follows.
func (f *feed) part(sub *subscriber, job string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, there := sub.jobs[job]; there {
		delete(sub.jobs, job)
		f.forget(sub, job)
	}
}

// follows says how many jobs the subscriber follows, and whether this one is among them.
func (f *feed) follows(sub *subscriber, job string) (n int, there bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, there = sub.jobs[job]
	return len(sub.jobs), there
}

// ofJob is what the ring holds of the job, oldest first. The caller holds mu.
func (f *feed) ofJob(job string) (held []*eventView) {
	for i := range f.ring {
		if e := f.ring[(f.first+i)%len(f.ring)]; e.JobID == job {
			held = append(held, e)
		}
	}
	return held
}

func (f *feed) unsubscribe(sub *subscriber) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.drop(sub)
}
