// The eraser: follows profiles.events, and sees to those that are erased.

package erasure

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

const (
	// firstPause lies before another try where the store or the log does not answer, and
	// doubles up to longestPause.
	firstPause   = 5 * time.Second
	longestPause = time.Minute
	// lookTime bounds one look at a profile.
	lookTime = 10 * time.Minute
	actor    = "eraser"
)

// Keys are the content keys of profiles, as objects.Keyring has them.
type Keys interface {
	Jobs(ctx context.Context, tenant, profile string) ([]string, error)
	EraseProfile(ctx context.Context, tenant, profile string) (int, error)
}

// Objects are the objects of profiles, as objects.Store has them.
type Objects interface {
	EraseProfile(ctx context.Context, tenant, profile string) (int, error)
}

// Config is what an eraser needs. Log, Keys and Objects are required.
type Config struct {
	Log     *eventlog.Log
	Keys    Keys
	Objects Objects

	// Quiet is how long after a look another one must find nothing for the erasure to be
	// complete: longer than a process remembers a key, and than a worker's lease. Default 45 s.
	Quiet time.Duration
	// Again is how often an erased profile is looked at afterwards, and Watch for how long,
	// from when the erasure was asked for. Default 10 minutes, for 7 days.
	Again, Watch time.Duration

	Now        func() time.Time      // default time.Now
	Registerer prometheus.Registerer // default: none
	Logger     *slog.Logger          // default slog.Default
}

func (c *Config) fill() error {
	if c.Log == nil || c.Keys == nil || c.Objects == nil {
		return errors.New("cannot make an eraser without a log, keys and objects")
	}
	c.Quiet = cmp.Or(c.Quiet, 45*time.Second)
	c.Again = cmp.Or(c.Again, 10*time.Minute)
	c.Watch = cmp.Or(c.Watch, 7*24*time.Hour)
	c.Logger = cmp.Or(c.Logger, slog.Default())
	if c.Now == nil {
		c.Now = time.Now
	}
	return nil
}

// Eraser deletes what is left of erased profiles.
type Eraser struct {
	cfg     Config
	metrics *metrics
	whole   chan struct{} // closed when everything written before the start is known
	news    chan struct{}

	mu       sync.Mutex
	profiles map[string]*erased
}

// erased is a profile that is looked at, at next. Only the loop of Run changes what
// comes of a look.
type erased struct {
	id, tenant string
	fact       string    // the id of its profile.erased
	at         time.Time // of that
	done       bool      // completed, as the log says

	next   time.Time
	looked bool // the last time without an error
	pause  time.Duration
}

// New makes an eraser. Run does the work.
func New(cfg Config) (*Eraser, error) {
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	e := &Eraser{cfg: cfg, whole: make(chan struct{}), news: make(chan struct{}, 1), profiles: map[string]*erased{}}
	e.metrics = newMetrics(e)
	if cfg.Registerer != nil {
		for _, c := range e.metrics.collectors() {
			if err := cfg.Registerer.Register(c); err != nil {
				return nil, fmt.Errorf("cannot register the eraser's metrics: %w", err)
			}
		}
	}
	return e, nil
}

// Run erases until ctx ends. Errors are those of eventlog.Log.Tail.
func (e *Eraser) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		return e.cfg.Log.Tail(ctx, e.cfg.Log.Whole(events.TopicProfileEvents), e.apply, func() { close(e.whole) })
	})
	g.Go(func() error {
		select {
		case <-e.whole:
			e.loop(ctx)
		case <-ctx.Done():
		}
		return nil
	})
	return g.Wait()
}

// apply notes who is erased, and who is done.
func (e *Eraser) apply(b eventlog.Batch) error {
	for _, r := range b.Records {
		switch r.Header(events.HeaderType) {
		case events.ProfileErased{}.EventType(), events.ProfileErasureCompleted{}.EventType(), "":
			e.note(r)
		}
	}
	return nil
}

func (e *Eraser) note(r eventlog.Record) {
	m, err := events.Decode(r.Value)
	if err != nil {
		e.cfg.Logger.Error("a fact of a profile cannot be read; if it is an erasure, a newer program must carry it out", "profileId", r.Key,
			"at", r.At().String(), "offset", r.Offset, "error", err)
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	p := e.profiles[m.AggregateID]
	switch m.Data.(type) { //nolint:gochecksumtype // the ends of profiles alone
	case events.ProfileErased:
		if p == nil {
			e.profiles[m.AggregateID] = &erased{id: m.AggregateID, tenant: m.Tenant, fact: m.ID, at: m.OccurredAt, next: e.cfg.Now()}
		}
	case events.ProfileErasureCompleted:
		if p == nil {
			return
		}
		if p.done = true; e.cfg.Now().Sub(p.at) > e.cfg.Watch {
			delete(e.profiles, m.AggregateID)
		}
	}
	select {
	case e.news <- struct{}{}:
	default: // the loop will look
	}
}

// loop looks at whoever is due, until ctx ends.
func (e *Eraser) loop(ctx context.Context) {
	for ctx.Err() == nil {
		p, wait := e.due()
		if p != nil {
			e.see(ctx, p)
			continue
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-e.news:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// due is the profile whose time has come first, or how long there is nothing to do.
func (e *Eraser) due() (*erased, time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.profiles) == 0 {
		return nil, e.cfg.Again
	}
	p := slices.MinFunc(slices.Collect(maps.Values(e.profiles)), func(a, b *erased) int { return cmp.Or(a.next.Compare(b.next), cmp.Compare(a.id, b.id)) })
	wait := p.next.Sub(e.cfg.Now())
	if wait > 0 {
		return nil, wait
	}
	return p, 0
}

// see looks at a profile once, and says when to look again.
func (e *Eraser) see(ctx context.Context, p *erased) {
	found, err := e.look(ctx, p)
	e.mu.Lock()
	quiet := err == nil && found == 0 && p.looked && !p.done
	e.mu.Unlock()
	if quiet {
		err = e.complete(ctx, p)
	}
	now := e.cfg.Now()
	e.mu.Lock()
	defer e.mu.Unlock()
	if err != nil {
		p.looked = false
		p.pause = min(max(2*p.pause, firstPause), longestPause)
		p.next = now.Add(min(p.pause, e.cfg.Again))
		if ctx.Err() == nil {
			e.metrics.failures.Inc()
			e.cfg.Logger.Warn("a profile cannot be erased now; it is tried again", "profileId", p.id, "in", p.pause, "error", err)
		}
		return
	}
	p.looked, p.pause = true, 0
	switch {
	case !p.done:
		p.next = now.Add(e.cfg.Quiet)
	case now.Sub(p.at) > e.cfg.Watch:
		delete(e.profiles, p.id)
	default:
		p.next = now.Add(e.cfg.Again)
	}
}

// look ends the jobs of a profile and deletes what there is of it. found counts it.
func (e *Eraser) look(ctx context.Context, p *erased) (found int, err error) {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	jobs, err := e.cfg.Keys.Jobs(ctx, p.tenant, p.id)
	if err != nil {
		return 0, err
	}
	if err := e.end(ctx, p, jobs); err != nil {
		return 0, err
	}
	keys, err := e.cfg.Keys.EraseProfile(ctx, p.tenant, p.id)
	if err != nil {
		return keys, err
	}
	files, err := e.cfg.Objects.EraseProfile(ctx, p.tenant, p.id)
	if found = keys + files; found > 0 {
		e.cfg.Logger.Info("content of an erased profile was deleted", "profileId", p.id, "keys", keys, "objects", files, "jobs", len(jobs))
		e.metrics.deleted.Add(float64(found))
	}
	return found, err
}

// end asks the profile's jobs to end. Those that have ended already refuse, and nothing comes of it.
func (e *Eraser) end(ctx context.Context, p *erased, jobs []string) error {
	var out []eventlog.Record
	for _, job := range jobs {
		if job == p.id {
			continue // the profile's own texts lie under its own id
		}
		m := e.message(p, events.NameID("erase", p.id, job), events.JobCancel{})
		m.AggregateType, m.AggregateID, m.JobID = events.AggregateJob, job, job
		r, err := record(events.TopicJobCommands, m)
		if err != nil {
			return err
		}
		out = append(out, r)
	}
	if len(out) == 0 {
		return nil
	}
	if err := e.cfg.Log.Produce(ctx, out...); err != nil {
		return fmt.Errorf("cannot ask the profile's jobs to end: %w", err)
	}
	return nil
}

// complete says that nothing is left.
func (e *Eraser) complete(ctx context.Context, p *erased) error {
	r, err := record(events.TopicProfileCommands, e.message(p, events.NameID("erased", p.id), events.ProfileCompleteErasure{}))
	if err != nil {
		return err
	}
	if err := e.cfg.Log.Produce(ctx, r); err != nil {
		return fmt.Errorf("cannot write down that the profile is erased: %w", err)
	}
	e.cfg.Logger.Info("a profile is erased", "profileId", p.id)
	return nil
}

// message is a command that follows from the erasure of a profile.
func (e *Eraser) message(p *erased, id string, data events.Payload) events.Message {
	return events.Message{
		ID: id, SchemaVersion: data.SchemaVersion(), AggregateType: events.AggregateProfile, AggregateID: p.id, OccurredAt: e.cfg.Now().UTC(),
		CommandID: id, CausationID: p.fact, CorrelationID: p.fact, Tenant: p.tenant, Actor: actor, Data: data,
	}
}

func record(topic string, m events.Message) (eventlog.Record, error) {
	value, err := events.Encode(m)
	if err != nil {
		return eventlog.Record{}, fmt.Errorf("cannot encode a command: %w", err)
	}
	r := eventlog.Record{Topic: topic, Key: m.AggregateID, Value: value}
	for _, h := range events.Headers(m) {
		r.Headers = append(r.Headers, eventlog.Header(h))
	}
	return r, nil
}
