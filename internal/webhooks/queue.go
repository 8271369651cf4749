// What is due when, and how much of it runs at once.

package webhooks

import (
	"container/heap"
	"context"
	"sync"
	"time"
)

const (
	// perEndpoint bounds how many messages are on their way to one server at once, of
	// those that this process sends.
	perEndpoint = 4
	// atOnce bounds them all: each holds a connection and a body for 15 s at most.
	atOnce = 512
)

// task is one message that is due.
type task struct {
	ctx      context.Context //nolint:containedctx // ends when its partition is taken away
	endpoint string
	due      time.Time
	run      func(ctx context.Context)
}

// queue starts tasks when they are due, as many at once for each endpoint as is
// allowed, and in the order of their times.
type queue struct {
	mu      sync.Mutex
	waiting byTime             // not due yet
	ready   map[string][]*task // due, by endpoint
	turn    []string           // endpoints with ready tasks; the first is next
	running map[string]int     // by endpoint
	total   int
	timer   *time.Timer // of the first that waits
	work    sync.WaitGroup
	closed  bool
	now     func() time.Time
}

func newQueue(now func() time.Time) *queue {
	return &queue{ready: map[string][]*task{}, running: map[string]int{}, now: now}
}

// add takes a task, which is dropped where its context has ended when it could start.
func (q *queue) add(t *task) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return
	}
	heap.Push(&q.waiting, t)
	q.advance()
}

// advance starts what can start, and sets the timer. The caller holds mu.
func (q *queue) advance() {
	now := q.now()
	for len(q.waiting) > 0 && !q.waiting[0].due.After(now) {
		t := heap.Pop(&q.waiting).(*task)
		if t.ctx.Err() != nil {
			continue
		}
		if len(q.ready[t.endpoint]) == 0 {
			q.turn = append(q.turn, t.endpoint)
		}
		q.ready[t.endpoint] = append(q.ready[t.endpoint], t)
	}
	q.start()
	if q.timer != nil {
		q.timer.Stop()
	}
	if len(q.waiting) > 0 && !q.closed {
		q.timer = time.AfterFunc(q.waiting[0].due.Sub(now), func() {
			q.mu.Lock()
			defer q.mu.Unlock()
			q.advance()
		})
	}
}

// start lets each endpoint in its turn begin one task, until none may.
func (q *queue) start() {
	for held := 0; held < len(q.turn) && q.total < atOnce && !q.closed; {
		endpoint := q.turn[0]
		q.turn = q.turn[1:]
		if q.running[endpoint] >= perEndpoint {
			q.turn = append(q.turn, endpoint)
			held++
			continue
		}
		held = 0
		t := q.ready[endpoint][0]
		if q.ready[endpoint] = q.ready[endpoint][1:]; len(q.ready[endpoint]) > 0 {
			q.turn = append(q.turn, endpoint)
		} else {
			delete(q.ready, endpoint)
		}
		if t.ctx.Err() != nil {
			continue
		}
		q.running[endpoint]++
		q.total++
		q.work.Go(func() {
			defer q.done(endpoint)
			t.run(t.ctx)
		})
	}
}

func (q *queue) done(endpoint string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.total--
	if q.running[endpoint]--; q.running[endpoint] == 0 {
		delete(q.running, endpoint)
	}
	q.advance()
}

// halt starts nothing any more, and waits so long for what runs.
func (q *queue) halt(patience time.Duration) {
	q.mu.Lock()
	q.closed = true
	if q.timer != nil {
		q.timer.Stop()
	}
	q.mu.Unlock()
	idle := make(chan struct{})
	go func() { q.work.Wait(); close(idle) }()
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case <-idle:
	case <-t.C:
	}
}

// byTime is a heap of tasks.
type byTime []*task

func (h byTime) Len() int           { return len(h) }
func (h byTime) Less(i, j int) bool { return h[i].due.Before(h[j].due) }
func (h byTime) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push implements heap.Interface.
func (h *byTime) Push(x any) { *h = append(*h, x.(*task)) }

// Pop implements heap.Interface.
func (h *byTime) Pop() any {
	last := len(*h) - 1
	t := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return t
}
