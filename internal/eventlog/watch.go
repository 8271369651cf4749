// Watching: what happens from now on, and whether nothing of it is missing yet.

package eventlog

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"
)

const (
	watchAsk = 200 * time.Millisecond // between two questions for the ends of the topics
	// watchTrust is how long after a question reading counts as current without the next
	// one answered and read up to. It is short, because who counts silence takes for a
	// silent peer what is a silent broker until then.
	watchTrust = time.Second
	// watchPatience is how long reading may stay behind before it begins anew, with new
	// connections.
	watchPatience = 5 * time.Second
)

// Watch hands on what is committed to the topics after the call. It calls
// current(true) when it has read up to the ends as they were when it began to read,
// and again when it has caught up after an interruption; current(false) when an
// interruption is noticed, before it tries again. An interruption is an error, or a
// second in which the ends could not be asked for or reached, as when a broker hangs.
// A process that was frozen learns of that only when it runs again: who counts the
// silence of others must look at gaps in its own clock as well.
//
// Fn and current are called from one goroutine. Watch ends with fn's error, with nil
// when ctx ends, and with ErrDataLoss where a topic that is kept for ever has lost
// records. In any other topic it goes on with the oldest that is left.
func (l *Log) Watch(ctx context.Context, topics []string, fn func(Batch) error, current func(bool)) error {
	w := watch{log: l, topics: topics, fn: fn, current: current}
	for delay := 50 * time.Millisecond; ; delay = min(2*delay, 2*time.Second) {
		began := time.Now()
		err := w.follow(ctx)
		if ctx.Err() != nil {
			return nil
		}
		w.tell(false)
		switch {
		case w.failed != nil:
			return w.failed
		case errors.Is(err, ErrDataLoss) && w.kept():
			return err
		case time.Since(began) > watchPatience:
			delay = 50 * time.Millisecond
		}
		l.cfg.Logger.Warn("watching the log was interrupted; trying again", "topics", topics, "error", err, "in", delay)
		if wait(ctx, delay) != nil {
			return nil
		}
	}
}

type watch struct {
	log     *Log
	topics  []string
	fn      func(Batch) error
	current func(bool)

	next   Offsets // nil until the ends are known for the first time
	told   bool
	failed error // fn's error
}

func (w *watch) tell(current bool) {
	if w.told != current && w.current != nil {
		w.current(current)
	}
	w.told = current
}

// kept tells whether a loss in the topics is one of what should be there for ever.
func (w *watch) kept() bool {
	for _, t := range w.topics {
		if w.log.specs[t].kept() {
			return true
		}
	}
	return false
}

// ends asks for the ends of what is committed.
func (w *watch) ends(ctx context.Context) (Offsets, error) {
	listed, err := w.log.admin.ListCommittedOffsets(ctx, w.log.names(w.topics)...)
	if err == nil {
		err = listed.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the ends of %v: %w", w.topics, unavailable(err))
	}
	out := make(Offsets)
	for topic, parts := range listed {
		for p, o := range parts {
			out[TopicPartition{topic[len(w.log.cfg.Prefix):], p}] = o.Offset
		}
	}
	return out, nil
}

// begin finds where to read from, and up to where reading is behind.
func (w *watch) begin(ctx context.Context) (ends Offsets, err error) {
	if w.next == nil {
		if ends, err = w.ends(ctx); err == nil {
			w.next = maps.Clone(ends)
		}
		return ends, err
	}
	ranges, err := w.log.Ranges(ctx, w.topics...)
	if err != nil {
		return nil, err
	}
	ends = make(Offsets)
	for tp, r := range ranges {
		ends[tp] = r.Stable
		if o := w.next[tp]; !w.kept() && (o < r.Start || o > r.End) {
			w.next[tp] = r.Start
		}
	}
	return ends, nil
}

// follow reads until something breaks.
func (w *watch) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	asked := time.Now()
	ends, err := w.begin(ctx)
	if err != nil {
		return err
	}
	r, err := w.log.NewReader(w.next)
	if err != nil {
		return err
	}
	defer r.Close()
	batches, broken, answers := make(chan Batch), make(chan error, 1), make(chan answer)
	go read(ctx, r, batches, broken)
	go w.ask(ctx, answers)
	doubt := time.NewTimer(watchTrust)
	defer doubt.Stop()
	for {
		if ends != nil && w.reached(ends) {
			ends = nil
			if left := watchTrust - time.Since(asked); left > 0 { // else they are old news, and the next are waited for
				doubt.Reset(left)
				w.tell(true)
			}
		}
		select {
		case b := <-batches:
			if w.failed = w.fn(b); w.failed != nil {
				return w.failed
			}
			maps.Copy(w.next, b.Next)
		case a := <-answers:
			if ends == nil { // otherwise it has yet to be shown that reading moves at all
				ends, asked = a.ends, a.asked
			}
		case <-doubt.C:
			w.tell(false)
			behind := time.Since(asked)
			if behind > watchPatience {
				return fmt.Errorf("%w: %v could not be read up to the end for %v", ErrUnavailable, w.topics, behind)
			}
			doubt.Reset(watchTrust)
		case err := <-broken:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (w *watch) reached(ends Offsets) bool {
	for tp, end := range ends {
		if w.next[tp] < end {
			return false
		}
	}
	return true
}

// read passes batches on until one cannot be read.
func read(ctx context.Context, r *Reader, batches chan<- Batch, broken chan<- error) {
	for {
		b, err := r.Poll(ctx, 0)
		if err != nil {
			broken <- err
			return
		}
		select {
		case batches <- b:
		case <-ctx.Done():
			return
		}
	}
}

// answer is where the topics ended at some time after the question.
type answer struct {
	ends  Offsets
	asked time.Time
}

func (w *watch) ask(ctx context.Context, answers chan<- answer) {
	for wait(ctx, watchAsk) == nil {
		a := answer{asked: time.Now()}
		asking, cancel := context.WithTimeout(ctx, watchTrust)
		var err error
		a.ends, err = w.ends(asking)
		cancel()
		if err != nil {
			continue // who waits for the answer loses patience by itself
		}
		select {
		case answers <- a:
		case <-ctx.Done():
			return
		}
	}
}
