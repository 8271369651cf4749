//go:build synctests

// Faults at work.

package brokersim_test

import (
	"context"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// inject brings the planned faults, and mends all when their time is over.
func (w *world) inject(ctx context.Context) {
	var open sync.WaitGroup
	for _, f := range w.plan.faults {
		if !w.until(ctx, f.at) {
			break
		}
		w.note("fault: %v", f)
		w.count("fault " + f.kind)
		open.Go(func() { w.bring(ctx, f) })
	}
	open.Wait()
	w.heal()
}

// heal ends what faults have left: from here on everybody who is wanted is there.
func (w *world) heal() {
	w.note("the faults are over")
	w.mu.Lock()
	handles := w.handles
	w.handles = nil
	w.mu.Unlock()
	for kind, hs := range handles {
		for _, h := range hs {
			for range h.Hits() {
				w.count("met " + kind)
			}
			h.Remove()
		}
	}
	for _, p := range w.all() {
		p.others()
		p.newest().link.mend()
	}
	w.client.mend()
}

func (w *world) bring(ctx context.Context, f fault) {
	switch f.kind {
	case faultAnswer:
		h := w.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{f.key}, Err: f.err, Count: f.n})
		w.mu.Lock()
		w.handles[f.key.Name()+" "+f.err.Message] = append(w.handles[f.key.Name()+" "+f.err.Message], h)
		w.mu.Unlock()
	case faultLeaders:
		w.cluster.ShufflePartitionLeaders()
	case faultMove:
		w.cluster.RehashCoordinators()
	case faultBroker:
		w.bounceBroker(ctx, f.length)
	case faultOutage:
		w.outage(ctx, f.length)
	default:
		if f.target == targetClient {
			w.troubleNetwork(ctx, f, w.client)
			return
		}
		w.trouble(ctx, f, w.process(f.target))
	}
}

func (w *world) trouble(ctx context.Context, f fault, p *process) {
	link := p.newest().link
	switch f.kind {
	default:
		w.troubleNetwork(ctx, f, link)
	case faultStop, faultKill:
		p.end(f.kind == faultKill, f.flag)
		pauseFor(ctx, f.length)
		p.start()
	case faultJoin:
		more := w.process(f.target + "x")
		more.start()
		pauseFor(ctx, f.length)
		more.end(f.flag, false)
	case faultTwin:
		p.start() // and the first finds out
		pauseFor(ctx, f.length)
	case faultZombie:
		link.freeze()
		pauseFor(ctx, f.length/2)
		p.start()
		pauseFor(ctx, f.length/2)
		link.mend()
	}
}

func (w *world) troubleNetwork(ctx context.Context, f fault, link *link) {
	switch f.kind {
	case faultFreeze:
		link.freeze()
		pauseFor(ctx, f.length)
		link.mend()
	case faultCut:
		link.sever(f.flag)
		pauseFor(ctx, f.length)
		link.mend()
	case faultReset:
		link.reset()
	case faultSlow:
		link.slow(time.Duration(f.n) * time.Millisecond)
		pauseFor(ctx, f.length)
		link.slow(0)
	case faultLose:
		link.loseAnswer(int16(f.key), f.n)
	}
}

// bounceBroker takes the newest broker away and brings it back. With one broker it
// breaks every connection instead.
func (w *world) bounceBroker(ctx context.Context, length time.Duration) {
	node := int32(w.plan.brokers - 1) //nolint:gosec // up to 2
	if node > 0 && w.cluster.RemoveNode(node) == nil {
		defer func() {
			if _, _, err := w.cluster.AddNode(node, int(node)+1); err != nil {
				w.note("broker %d does not come back: %v", node, err)
			}
		}()
	}
	for _, l := range w.allLinks() {
		l.reset()
	}
	pauseFor(ctx, length)
}

func (w *world) outage(ctx context.Context, length time.Duration) {
	var links []*link
	for _, p := range w.all() {
		l := p.newest().link
		l.sever(false)
		links = append(links, l)
	}
	pauseFor(ctx, length)
	for _, l := range links {
		l.mend()
	}
}
