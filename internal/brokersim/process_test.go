//go:build synctests

// Processes: what runs under a name, one life after the other, as a supervisor
// would keep it.

package brokersim_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/myspinbot/myspinbot/handlers"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// process is a name under which something runs.
type process struct {
	world *world
	name  string
	run   func(ctx context.Context, l *life, log *eventlog.Log) error

	mu     sync.Mutex
	lives  []*life // the last is the one that is kept up
	wanted bool    // a life that ends by itself is followed by another
}

// life is a process from its start to its end.
type life struct {
	process *process
	link    *link
	stop    context.CancelFunc
	done    chan struct{}
	skew    time.Duration // of its clock
	dir     string        // a worker's own folder
	live    atomic.Pointer[handlers.Handler]
}

func (l *life) running() bool {
	select {
	case <-l.done:
		return false
	default:
		return true
	}
}

// start begins a life beside those that there are.
func (p *process) start() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wanted = true
	p.begin()
}

func (p *process) begin() {
	w := p.world
	ctx, stop := context.WithCancel(w.ctx)
	l := &life{
		process: p, link: w.newLink(), stop: stop, done: make(chan struct{}),
		skew: w.plan.skews[len(p.lives)%len(w.plan.skews)], dir: filepath.Join(w.dir, fmt.Sprint(p.name, "-", len(p.lives))),
	}
	p.lives = append(p.lives, l)
	cfg := w.cfg
	cfg.Instance, cfg.Dial = p.name, l.link.dial
	cfg.Logger = slog.New(slog.NewTextHandler(w.journal, &slog.HandlerOptions{Level: slog.LevelWarn})).With("process", p.name, "life", len(p.lives))
	w.lives.Go(func() {
		err := p.live(ctx, l, cfg)
		close(l.done)
		p.ended(l, err)
	})
}

func (p *process) live(ctx context.Context, l *life, cfg eventlog.Config) error {
	log, err := eventlog.Open(cfg)
	if err != nil {
		return err
	}
	defer log.Close()
	return p.run(ctx, l, log)
}

// ended notes how a life came to its end and, as a supervisor would, begins another.
func (p *process) ended(l *life, err error) {
	w := p.world
	if w.ctx.Err() == nil {
		w.note("%s ended: %v", p.name, err)
	}
	switch {
	case err == nil || errors.Is(err, context.Canceled):
	case errors.Is(err, eventlog.ErrFenced):
		w.count("fenced")
	default: // nothing that happens here is a reason
		w.fail("%s ended: %v", p.name, err)
	}
	p.again(l)
}

func (p *process) again(l *life) {
	pause := time.NewTimer(time.Second)
	defer pause.Stop()
	select {
	case <-pause.C:
	case <-p.world.ctx.Done():
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.wanted && p.lives[len(p.lives)-1] == l {
		p.begin()
	}
}

// end stops the newest life: well, or with nothing more to say.
func (p *process) end(kill, late bool) {
	p.mu.Lock()
	p.wanted = false
	l := p.lives[len(p.lives)-1]
	p.mu.Unlock()
	if kill {
		l.link.sever(late)
	}
	l.stop()
}

// newest is the life that is kept up.
func (p *process) newest() *life {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lives[len(p.lives)-1]
}

// others ends every life but the newest: what is still there after the faults is
// somebody who has not noticed yet.
func (p *process) others() {
	p.mu.Lock()
	lives := slices.Clone(p.lives[:len(p.lives)-1])
	p.mu.Unlock()
	for _, l := range lives {
		l.link.mend()
		l.stop()
	}
}

// journal keeps what happened in a run, to be printed if it fails. What is said again
// and again during an outage it keeps once.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) Write(b []byte) (int, error) {
	line := strings.TrimSpace(string(b))
	if !strings.Contains(line, `"log client:`) && !j.repeats(line) { // which tell of every try
		j.add(line)
	}
	return len(b), nil
}

// repeats says whether one of the newest lines differs in its time alone.
func (j *journal) repeats(line string) bool {
	_, said, _ := strings.Cut(line, " ")
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.ContainsFunc(j.lines[max(0, len(j.lines)-20):], func(before string) bool { return strings.HasSuffix(before, said) })
}

func (j *journal) add(line string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, line)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Join(j.lines[max(0, len(j.lines)-200):], "\n")
}
