// Progress: beats of running stages, told as far apart as is configured, once, and
// kept nowhere. The next one says more than the one that got lost.

package webhooks

import (
	"cmp"
	"context"
	"fmt"
	"strconv"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

func (n *Notifier) followProgress(ctx context.Context) error {
	err := n.log.Watch(ctx, []string{events.TopicTaskProgress}, func(b eventlog.Batch) error {
		for _, r := range b.Records {
			n.beat(r)
		}
		return nil
	}, nil)
	if err != nil {
		return fmt.Errorf("cannot follow the progress of jobs: %w", err)
	}
	return nil
}

// beat sends a message about a beat, if the job's webhook asks for it and it is time.
func (n *Notifier) beat(r eventlog.Record) {
	n.mu.Lock()
	defer n.mu.Unlock()
	own := n.parts[r.Partition]
	for _, t := range n.trails(own, r.Key) {
		n.beatTo(own, t, r)
	}
}

// beatTo is beat to one receiver. The caller holds mu.
func (n *Notifier) beatTo(own *part, t *Trail, r eventlog.Record) {
	now := n.cfg.Now()
	if !t.wants(events.WebhookProgress) || t.Closed || t.beating || now.Sub(t.beat) < cmp.Or(n.endpoints[t.Endpoint()].Progress, n.cfg.ProgressEvery) {
		return
	}
	m, err := events.Decode(r.Value)
	if _, ok := m.Data.(events.TaskProgress); err != nil || !ok || m.Tenant != t.Tenant {
		return // no fact, and the next one comes within seconds
	}
	t.beat, t.beating = now, true
	id := events.NameID("webhook progress", t.id(), strconv.FormatInt(r.Offset, 10))
	n.queue.add(&task{ctx: own.ctx, endpoint: t.Webhook.Endpoint, due: now, run: func(ctx context.Context) { n.sendBeat(ctx, t, id, m) }})
}

func (n *Notifier) sendBeat(ctx context.Context, t *Trail, id string, beat events.Message) {
	n.mu.Lock()
	hook, stale := t.Webhook, t.Closed || t.Stopped
	n.mu.Unlock()
	var a answer
	var err error
	if !stale {
		a, err = n.attempt(ctx, hook, id, func() ([]byte, error) { return n.cfg.Payloads.Progress(beat) })
	}
	n.mu.Lock()
	t.beating = false
	n.mu.Unlock()
	if !stale && ctx.Err() == nil && err == nil {
		n.metrics.beat(a)
	}
}
