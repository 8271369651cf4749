// A decider in place of the job handler and the workers: commands in, facts out.

package api

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

type decider struct {
	world  *world
	manual bool

	mute atomic.Bool // no replies: as when the job handler is behind

	mu       sync.Mutex
	jobs     map[string]aggregates.Job
	profiles map[string]aggregates.Profile
	last     time.Time
}

func (d *decider) run(ctx context.Context) {
	err := d.world.log.Tail(ctx, d.world.log.Whole(events.TopicJobCommands, events.TopicProfileCommands), func(b eventlog.Batch) error {
		for _, r := range b.Records {
			m, err := events.Decode(r.Value)
			if err != nil {
				return err
			}
			if m.AggregateType == events.AggregateProfile {
				d.takeProfile(m)
				continue
			}
			d.take(m)
		}
		return nil
	}, nil)
	if err != nil && ctx.Err() == nil {
		d.world.t.Error("the decider stopped:", err)
	}
}

// take decides one message and, unless the test does it, answers for the workers.
func (d *decider) take(m events.Message) {
	d.mu.Lock()
	facts := d.decide(m)
	d.mu.Unlock()
	if d.manual {
		return
	}
	for _, f := range facts {
		if _, ok := f.Data.(events.StageScheduled); ok {
			d.answer(f, events.TaskAccepted{LeaseMS: 15_000})
			d.answer(f, d.result(f))
		}
	}
}

func (d *decider) decide(m events.Message) []events.Message {
	at := time.Now().UTC()
	if !at.After(d.last) {
		at = d.last.Add(time.Microsecond)
	}
	d.last = at
	j := d.jobs[m.AggregateID]
	s := aggregates.Surroundings{At: at, Policy: aggregates.DefaultPolicy(), Place: func(string, string, string, bool, func(int32) aggregates.Suit) int32 { return 0 }}
	var caps []events.TaskCapability
	for _, t := range allTasks() {
		caps = append(caps, events.TaskCapability{Task: t, Engine: "test", Fidelity: events.FidelityPreview, Builtin: true})
	}
	s.Engines = aggregates.EnginesOf(append(caps, recorder)...)
	if c, ok := m.Data.(events.JobSubmit); ok {
		if p := d.profiles[c.Request.ProfileID]; p.Tenant == m.Tenant {
			s.Profile, s.Barred = p.Snapshot(), p.Barred(c.Request.Mode)
		}
	}
	facts, refusal := aggregates.Decide(j, m, s)
	for _, f := range facts {
		j = aggregates.Evolve(j, f)
	}
	d.jobs[m.AggregateID] = j
	records := make([]eventlog.Record, 0, len(facts)+1)
	for _, f := range facts {
		records = append(records, d.world.record(events.TopicJobEvents, f))
	}
	if answered(m) && !d.mute.Load() {
		if j.Foreign(m) != nil {
			j = aggregates.Job{}
		}
		records = append(records, d.world.record(events.TopicJobReplies, replyTo(m, j, len(facts), refusal)))
	}
	if len(records) > 0 {
		ok(d.world.t, d.world.log.Produce(context.Background(), records...))
	}
	return facts
}

// takeProfile decides a command to a profile.
func (d *decider) takeProfile(m events.Message) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.profiles[m.AggregateID]
	facts, refusal := aggregates.DecideProfile(p, m, time.Now().UTC())
	var records []eventlog.Record
	for _, f := range facts {
		p = aggregates.EvolveProfile(p, f)
		records = append(records, d.world.record(events.TopicProfileEvents, f))
	}
	d.profiles[m.AggregateID] = p
	if !d.mute.Load() {
		if p.Foreign(m) != nil {
			p = aggregates.Profile{}
		}
		records = append(records, d.world.record(events.TopicJobReplies, replyOf(m, p.Chain.Version, p.Status, len(facts), refusal)))
	}
	if len(records) > 0 {
		ok(d.world.t, d.world.log.Produce(context.Background(), records...))
	}
}

// answered says whether a client waits for what comes of the message.
func answered(m events.Message) bool {
	switch m.Data.(type) {
	case events.JobSubmit, events.JobCancel, events.JobApprove, events.JobDeny, events.JobLabel:
		return true
	}
	return false
}

// replyTo is what the job handler says about a client's command.
func replyTo(m events.Message, j aggregates.Job, facts int, refusal *events.Reason) events.Message {
	return replyOf(m, j.Chain.Version, j.State, facts, refusal)
}

func replyOf(m events.Message, version int64, status string, facts int, refusal *events.Reason) events.Message {
	r := events.CommandReplied{Outcome: events.OutcomeAccepted, Version: version, Status: status}
	switch {
	case refusal != nil:
		r.Outcome, r.Code, r.Detail = events.OutcomeRefused, refusal.Code, refusal.Detail
	case facts == 0:
		r.Outcome = events.OutcomeDuplicate
	}
	m.ID, m.CausationID, m.Actor, m.Data, m.SchemaVersion = events.NameID("reply", m.ID), m.ID, "handler", r, r.SchemaVersion()
	return m
}

// answer is what a worker says about the stage that a fact scheduled.
func (d *decider) answer(scheduled events.Message, data events.Payload) {
	m := scheduled
	m.ID = events.NameID(scheduled.ID, data.EventType())
	m.CommandID, m.Actor, m.Worker, m.Data = m.ID, "worker-1", "worker-1", data
	d.take(m)
}

// result makes up the outputs of a stage; its video is a real object.
func (d *decider) result(f events.Message) events.TaskSucceeded {
	d.mu.Lock()
	j := d.jobs[f.AggregateID]
	d.mu.Unlock()
	i, _ := j.Node(f.Stage)
	r := events.Result{Outputs: map[string]events.Value{}, Engine: "test", Fidelity: events.FidelityPreview}
	for name := range j.Graph.Nodes[i].Out {
		if same, ok := j.Inputs(j.Graph.Nodes[i])[name]; ok && same.Text != nil {
			r.Outputs[name] = same // the safety filter lets words through
			continue
		}
		if name == "narration" || name == "scene" {
			sealed, err := d.world.keyring.Seal(context.Background(), objectKey(j), canaryNarration)
			if err != nil {
				d.world.t.Error(err)
			}
			r.Outputs[name] = events.Value{Text: &sealed, Digest: d.world.keyring.Digest(j.Tenant, canaryNarration)}
			continue
		}
		a, err := d.world.objects.Put(context.Background(), j.Folder(), "mp4", "video/mp4", strings.NewReader(f.Stage+name+j.ID+strings.Repeat("0123456789", 2000)))
		if err != nil {
			d.world.t.Error(err)
		}
		a.ID, a.Name, a.Type = events.ArtifactID(j.ID, f.Stage, f.Attempt, name), name+".mp4", "video"
		r.Outputs[name] = events.Value{Artifacts: []events.Artifact{a}}
	}
	return events.TaskSucceeded{Result: r}
}

func objectKey(j aggregates.Job) string { return "keys/" + j.Folder() }

// state is where the job stands.
func (d *decider) state(job string) aggregates.Job {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.jobs[job]
}

// next answers the first stage of the job that waits for a worker, and says which it was.
func (d *decider) next(job string, data func(events.Message) events.Payload) string {
	j := d.state(job)
	for i, s := range j.Stages {
		if s.State == aggregates.StageQueued || s.State == aggregates.StageRunning {
			n := j.Graph.Nodes[i]
			m := events.Message{ID: events.AttemptID(job, n.ID, s.Attempt), SchemaVersion: 1, AggregateType: events.AggregateJob, AggregateID: job,
				CorrelationID: j.CorrelationID, CausationID: "x", Tenant: j.Tenant,
				Columns: events.Columns{JobID: job, Stage: n.ID, Task: n.Task, Lane: n.Lane, Attempt: s.Attempt}}
			d.answer(m, data(m))
			return n.ID
		}
	}
	return ""
}

// nextFailed fails the first stage of the job that runs on a worker.
func (d *decider) nextFailed(job, class string) {
	j := d.state(job)
	i := slices.IndexFunc(j.Stages, func(s events.StageState) bool { return s.State == aggregates.StageRunning })
	n := j.Graph.Nodes[i]
	d.answer(events.Message{ID: events.AttemptID(job, n.ID, 1), SchemaVersion: 1, AggregateType: events.AggregateJob, AggregateID: job,
		CorrelationID: j.CorrelationID, CausationID: "x", Tenant: j.Tenant,
		Columns: events.Columns{JobID: job, Stage: n.ID, Task: n.Task, Lane: n.Lane, Attempt: 1, ErrorClass: class}}, events.TaskFailed{Message: "no"})
}

// step lets the next stage of the job start and succeed.
func (d *decider) step(job string) string {
	d.next(job, func(events.Message) events.Payload { return events.TaskAccepted{LeaseMS: 15_000} })
	return d.next(job, func(m events.Message) events.Payload { return d.result(m) })
}

// makeProfile writes a profile with a portrait straight to the log.
func (w *world) makeProfile(id, owner, name string) {
	w.t.Helper()
	keyID, _, err := w.keyring.Create(context.Background(), owner, id, events.NameID("maker", id))
	ok(w.t, err)
	sealed, err := w.keyring.Seal(context.Background(), keyID, name)
	ok(w.t, err)
	a, err := w.objects.Put(context.Background(), owner+"/"+id+"/job", "png", "image/png", strings.NewReader(id))
	ok(w.t, err)
	a.ID, a.Name, a.Type = events.NameID("portrait", id), "portrait.png", "portrait"
	p := aggregates.Profile{}
	for i, c := range []events.Payload{events.ProfileCreate{Name: sealed}, events.ProfileAttachPortrait{Attachment: events.Attachment{Artifact: a}},
		events.ProfileRecordConsent{Consent: events.Consent{By: sealed, Statement: sealed}}} {
		m := events.Message{ID: events.NameID(id, c.EventType()), CommandID: "c", CausationID: "c", CorrelationID: "c", AggregateType: events.AggregateProfile,
			AggregateID: id, Tenant: owner, Actor: "test", Data: c}
		facts, _ := aggregates.DecideProfile(p, m, time.Now().UTC().Add(time.Duration(i)*time.Microsecond))
		for _, f := range facts {
			p = aggregates.EvolveProfile(p, f)
		}
		w.produce(events.TopicProfileEvents, facts...)
	}
	w.decider.mu.Lock()
	w.decider.profiles[id] = p
	w.decider.mu.Unlock()
	eventually(w.t, "the profile is known to the API", func() bool {
		w.server.known.mu.RLock()
		defer w.server.known.mu.RUnlock()
		return w.server.known.profiles[id].Chain.Version == p.Chain.Version
	})
}

const canaryNarration = "narration-canary"
