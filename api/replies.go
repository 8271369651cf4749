// Replies: what the job handler answers to commands, for those who wait for it. One
// tail of jobs.replies serves the whole process.

package api

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// replies hands every reply to those who expect one to its command.
type replies struct {
	log      *eventlog.Log
	logger   *slog.Logger
	accepted *recent // submissions whose reply came too late for their request

	mu      sync.Mutex
	current bool                            // whether replies come in now, as far as is known
	waiting map[string]map[*waiter]struct{} // by job
}

// waiter is one request that expects the reply to its command. Requests with the same
// command id share the reply.
type waiter struct {
	replies      *replies
	job, command string
	reply        chan events.CommandReplied
}

func newReplies(cfg Config, accepted *recent) *replies {
	return &replies{log: cfg.Log, logger: cfg.Logger, accepted: accepted, waiting: map[string]map[*waiter]struct{}{}}
}

// run follows the replies from now on until ctx ends.
func (r *replies) run(ctx context.Context) error {
	err := r.log.Watch(ctx, []string{events.TopicJobReplies}, r.apply, func(current bool) {
		r.mu.Lock()
		r.current = current
		r.mu.Unlock()
	})
	if err != nil {
		return fmt.Errorf("cannot follow the replies: %w", err)
	}
	return nil
}

func (r *replies) apply(b eventlog.Batch) error {
	for _, record := range b.Records {
		if !r.expected(record.Key) && !r.accepted.open(record.Key) {
			continue // another process's, most likely
		}
		m, err := events.Decode(record.Value)
		reply, ok := m.Data.(events.CommandReplied)
		if err != nil || !ok {
			// Whoever waits for it is told that the answer is not known.
			r.logger.Warn("a reply cannot be read and is left out", "jobId", record.Key, "partition", record.Partition, "offset", record.Offset, "error", err)
			continue
		}
		r.accepted.settle(m.AggregateID, m.CommandID, reply)
		r.deliver(m.AggregateID, m.CommandID, reply)
	}
	return nil
}

func (r *replies) expected(job string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.waiting[job] != nil
}

func (r *replies) deliver(job, command string, reply events.CommandReplied) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for w := range r.waiting[job] {
		if w.command != command {
			continue
		}
		select {
		case w.reply <- reply:
		default: // one is enough
		}
	}
}

// expect begins to wait, before the command is written. The caller must call forget.
func (r *replies) expect(job, command string) *waiter {
	w := &waiter{replies: r, job: job, command: command, reply: make(chan events.CommandReplied, 1)}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.waiting[job] == nil {
		r.waiting[job] = map[*waiter]struct{}{}
	}
	r.waiting[job][w] = struct{}{}
	return w
}

// forget ends the expectation, if there is one.
func (w *waiter) forget() {
	if w == nil {
		return
	}
	w.replies.mu.Lock()
	defer w.replies.mu.Unlock()
	delete(w.replies.waiting[w.job], w)
	if len(w.replies.waiting[w.job]) == 0 {
		delete(w.replies.waiting, w.job)
	}
}

// wait is the reply, unless none comes within d. That says nothing about the command:
// it lies on the log and will be handled.
func (w *waiter) wait(ctx context.Context, d time.Duration, stopping <-chan struct{}) (events.CommandReplied, bool) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case reply := <-w.reply:
		return reply, true
	case <-t.C:
	case <-ctx.Done():
	case <-stopping:
	}
	return events.CommandReplied{}, false
}
