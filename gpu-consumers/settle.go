// Whether an attempt that another process accepted is over: before that, its lane's
// partition takes no further command, so that the lane's bound holds while
// partitions move.

package gpu

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// lookBackMost bounds how many records are searched for the ends of past attempts. Of
// one that is not found, a silent lease tells as well, only later.
const lookBackMost = 200_000

// mark is what the lane's offset keeps of the attempt that was accepted last.
type mark struct {
	attempt, job string
	at           time.Time // when it was accepted, by the clock that stamps its worker's records
	lease        time.Duration
}

func (m mark) String() string {
	return m.attempt + " " + m.job + " " + strconv.FormatInt(m.at.UnixMilli(), 10) + " " + strconv.FormatInt(m.lease.Milliseconds(), 10)
}

// parseMark reads a mark; of one in another form only the first word is known, the attempt.
func parseMark(text string, usual time.Duration) mark {
	words := strings.Fields(text)
	if len(words) == 4 {
		at, err := strconv.ParseInt(words[2], 10, 64)
		lease, err2 := strconv.ParseInt(words[3], 10, 64)
		if err == nil && err2 == nil && lease > 0 {
			return mark{words[0], words[1], time.UnixMilli(at), time.Duration(lease) * time.Millisecond}
		}
	}
	return mark{attempt: strings.Join(words[:min(1, len(words))], ""), lease: usual}
}

// settler waits for the ends of other processes' attempts. While anybody waits, one
// reader follows gpu.events and gpu.progress for all.
type settler struct {
	log   *eventlog.Log
	warn  func(message string, more ...any)
	lease time.Duration // of a mark that names none

	mu      sync.Mutex
	waiting map[*awaited]bool
	stop    context.CancelFunc // of the reader; nil: there is none
	current bool               // the reader misses nothing
	look    chan struct{}      // holds one when somebody's past has to be read
}

// awaited is one attempt whose end is waited for.
type awaited struct {
	mark
	silent time.Duration // how long it was watched without a beat
	looked bool          // its past is known, or is not going to be
	ended  chan struct{}
	over   bool // ended is closed
}

// settled returns nil when the attempt is over: gpu.events holds its end, or it was
// watched for a whole lease without a beat.
func (s *settler) settled(ctx context.Context, last eventlog.Accepted) error {
	a := &awaited{mark: parseMark(last.Attempt, s.lease), ended: make(chan struct{})}
	s.join(a)
	defer s.leave(a)
	step := max(min(a.lease/20, 250*time.Millisecond), time.Millisecond)
	tick := time.NewTicker(step)
	defer tick.Stop()
	for before := time.Now(); ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-a.ended:
			return nil
		case <-tick.C:
		}
		now := time.Now()
		if s.wait(a, now.Sub(before), step) {
			return nil
		}
		before = now
	}
}

// wait counts passed time as silence and says when there was enough of it. Only time
// in which beats would have been seen counts: not while reading is behind, and not
// while this process itself stood still.
func (s *settler) wait(a *awaited, passed, step time.Duration) (enough bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.current || passed > max(4*step, time.Second) {
		a.silent = 0
		return false
	}
	a.silent += passed
	return a.silent >= a.lease
}

func (s *settler) join(a *awaited) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting == nil {
		s.waiting = make(map[*awaited]bool)
	}
	s.waiting[a] = true
	if s.stop != nil {
		signal(s.look)
		return
	}
	var ctx context.Context
	ctx, s.stop = context.WithCancel(context.Background())
	s.look = make(chan struct{}, 1)
	go s.lookBack(ctx, s.look)
	go s.follow(ctx)
}

// leave ends the reader with the last who waited.
func (s *settler) leave(a *awaited) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.waiting, a)
	if len(s.waiting) == 0 && s.stop != nil {
		s.stop()
		s.stop, s.current = nil, false
	}
}

func (s *settler) follow(ctx context.Context) {
	err := s.log.Watch(ctx, []string{events.TopicTaskEvents, events.TopicTaskProgress}, func(b eventlog.Batch) error {
		s.see(b.Records)
		return nil
	}, func(current bool) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if ctx.Err() == nil {
			s.current = current
			signal(s.look)
		}
	})
	if err != nil {
		s.warn("attempts of other workers cannot be watched", "error", err)
	}
}

// see takes ends and beats among the records; left is how many still wait for theirs.
func (s *settler) see(records []eventlog.Record) (left int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	jobs := make(map[string]bool)
	for a := range s.waiting {
		if !a.over {
			left++
			jobs[a.job] = true
		}
	}
	for _, r := range records {
		if !jobs[r.Key] && !jobs[""] {
			continue
		}
		m, err := events.Decode(r.Value)
		if err != nil {
			continue // the job handler deals with it
		}
		id := events.AttemptID(m.JobID, m.Stage, m.Attempt)
		for a := range s.waiting {
			if a.attempt != id {
				continue
			}
			switch m.Data.(type) {
			case events.TaskSucceeded, events.TaskFailed, events.TaskCancelled:
				if !a.over {
					a.over = true
					close(a.ended)
					left--
				}
			default: // the acceptance or a beat
				a.silent = 0
			}
		}
	}
	return left
}

var errSeenAll = errors.New("all that was looked for is found")

// lookBack searches what was written before the reader began, whenever somebody new waits.
func (s *settler) lookBack(ctx context.Context, look <-chan struct{}) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-look:
		}
		from, err := s.past(ctx)
		if err == nil && len(from) > 0 {
			read := 0
			_, err = s.log.Read(ctx, from, func(records []eventlog.Record) error {
				if read += len(records); s.see(records) == 0 || read > lookBackMost {
					return errSeenAll
				}
				return nil
			})
		}
		if err != nil && !errors.Is(err, errSeenAll) && ctx.Err() == nil {
			s.warn("the ends of other workers' attempts were not looked for; their leases will tell", "error", err)
		}
	}
}

// past is where the ends of those may lie whose past is not known. Only once the
// reader is current: then nothing falls between the past and what it reads.
func (s *settler) past(ctx context.Context) (eventlog.Offsets, error) {
	var fresh []mark
	s.mu.Lock()
	for a := range s.waiting {
		if s.current && !a.looked && a.job != "" {
			a.looked = true
			fresh = append(fresh, a.mark)
		}
	}
	s.mu.Unlock()
	from := make(eventlog.Offsets)
	found := make(map[int64]eventlog.Offsets) // by second
	for _, m := range fresh {
		at := m.at.Truncate(time.Second)
		if found[at.Unix()] == nil {
			offsets, err := s.log.Since(ctx, events.TopicTaskEvents, at)
			if err != nil {
				return nil, err
			}
			found[at.Unix()] = offsets
		}
		p := eventlog.PartitionFor(m.job, s.log.Partitions(events.TopicTaskEvents))
		tp := eventlog.TopicPartition{Topic: events.TopicTaskEvents, Partition: p}
		if o, known := from[tp]; !known || found[at.Unix()][tp] < o {
			from[tp] = found[at.Unix()][tp]
		}
	}
	return from, nil
}
