// Clients: they submit, repeat themselves, cancel, approve, deny, label and re-run, and
// are told what happened, or are not.

package simulation

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/internal/invariants"
)

const maxJobs = 6

// route names the submissions in job ids.
const route = "jobs"

type clients struct {
	w       *world
	calls   []invariants.Call
	waiting map[string]int // calls without an answer, by command
	answer  map[int32]int64
	asked   []*asked // submissions, one for each key
	ids     int
}

// asked is what was submitted under a key.
type asked struct {
	tenant, key, job string
	request          events.Request
	parent           *events.Parent
}

func newClients(w *world) *clients {
	return &clients{w: w, waiting: map[string]int{}, answer: map[int32]int64{}}
}

// record encodes a message for a topic.
func record(topic string, m events.Message) eventlog.Record {
	m.SchemaVersion = m.Data.SchemaVersion()
	value, err := events.Encode(m)
	if err != nil {
		panic(err) // it was made here
	}
	return eventlog.Record{Topic: topic, Key: m.AggregateID, Value: value}
}

// send puts a command on the log, or seems to, and notes the call.
func (c *clients) send(a *asked, kind, actor string, p events.Payload) {
	c.ids++
	id := events.NameID("command", fmt.Sprint(c.ids))
	call := invariants.Call{Kind: kind, JobID: a.job, CommandID: id, Outcome: invariants.Unknown, At: c.w.now}
	if d, ok := p.(events.JobSubmit); ok {
		call.Key, call.BodyDigest = a.tenant+"/"+a.key, d.Request.BodyDigest
	}
	r := record(events.TopicJobCommands, events.Message{
		ID: id, AggregateType: events.AggregateJob, AggregateID: a.job, OccurredAt: c.w.now.Add(time.Duration(c.w.between(-2000, 2000)) * time.Millisecond), CommandID: id, CausationID: id,
		CorrelationID: events.NameID("story", a.job), Tenant: a.tenant, Actor: actor, Columns: events.Columns{JobID: a.job}, Data: p,
	})
	lands, told := true, true
	if c.w.fault(c.w.chances.broker) {
		lands, told = c.w.chance(50), false
		c.w.saw(fmt.Sprintf("a command of unknown outcome lands: %v", lands))
	}
	if lands {
		c.w.log.write(r, nil)
	}
	if told {
		c.waiting[id] = len(c.calls)
	}
	c.calls = append(c.calls, call)
	c.w.saw(p.EventType())
	c.w.say("client: %s of %s (lands %v, told %v)", p.EventType(), short(a.job), lands, told)
}

// answers reads the replies; some clients have gone meanwhile.
func (c *clients) answers() bool {
	some := false
	for p := range int32(partitions) {
		records, next := c.w.log.read(place{Topic: events.TopicJobReplies, Partition: p}, c.answer[p], 100)
		c.answer[p] = next
		for _, r := range records {
			m, err := events.Decode(r.Value)
			d, ok := m.Data.(events.CommandReplied)
			if err != nil || !ok {
				c.w.wrong("T1", r.Key, "a reply cannot be read: %v", err)
				continue
			}
			i, waits := c.waiting[m.CommandID]
			if !waits {
				continue
			}
			delete(c.waiting, m.CommandID)
			some = true
			c.calls[i].Outcome = d.Outcome
			c.w.saw("reply: " + d.Outcome + " " + d.Code)
		}
	}
	return some
}

func (c *clients) submit() bool {
	if len(c.asked) >= maxJobs || c.w.calm {
		return false
	}
	tenant := pick(c.w, []string{"ten", "default"})
	key := fmt.Sprint("key-", canary, "-", len(c.asked))
	a := &asked{tenant: tenant, key: key, job: events.JobID(tenant, route, key), request: c.request(tenant)}
	c.stamp(a)
	c.asked = append(c.asked, a)
	c.send(a, invariants.Submit, "alice", events.JobSubmit{Request: a.request, Parent: a.parent})
	return true
}

// stamp gives the request its digests.
func (c *clients) stamp(a *asked) {
	a.request.KeyDigest = events.Digest([]byte(a.tenant), a.key)
	r := a.request
	sum := sha256.Sum256(record(events.TopicJobCommands, events.Message{AggregateID: "x", Data: events.JobSubmit{Request: r}}).Value)
	a.request.BodyDigest = hex.EncodeToString(sum[:])
}

// submitAgain repeats a key: with the same body, or with another one.
func (c *clients) submitAgain() bool {
	if len(c.asked) == 0 || c.w.calm {
		return false
	}
	a := *pick(c.w, c.asked)
	if c.w.chance(35) {
		c.w.saw("a key comes again with another body")
		a.request.BodyDigest = "another"
	} else {
		c.w.saw("a key comes again with the same body")
	}
	c.send(&a, invariants.Submit, "alice", events.JobSubmit{Request: a.request, Parent: a.parent})
	return true
}

// some is a job that was submitted, seldom as another tenant would name it, or one that never was.
func (c *clients) some() *asked {
	if len(c.asked) == 0 || c.w.chance(4) {
		c.w.saw("a command to a job that there never was")
		return &asked{tenant: "ten", job: events.NameID("nobody", fmt.Sprint(c.ids))}
	}
	a := pick(c.w, c.asked)
	if c.w.chance(8) {
		c.w.saw("a command to a job of another tenant")
		stranger := *a
		stranger.tenant = map[string]string{"ten": "default", "default": "ten"}[a.tenant]
		return &stranger
	}
	return a
}

func (c *clients) cancel() bool {
	if c.w.calm || c.w.chance(50) {
		return false
	}
	a := c.some()
	// Somebody who sees a stage fail gives up, while others of the job still run.
	if i := slices.IndexFunc(c.asked, func(a *asked) bool { return a.job == c.w.troubled }); i >= 0 && c.w.chance(50) {
		a = c.asked[i]
	}
	c.send(a, invariants.Cancel, "bob", events.JobCancel{})
	return true
}

// label changes the labels of a job, which may have ended.
func (c *clients) label() bool {
	if c.w.calm {
		return false
	}
	labels := []string{"blue", "green", "red"}
	c.send(c.some(), invariants.Label, "bob", events.JobLabel{Labels: labels[:c.w.rng.IntN(len(labels)+1)]})
	return true
}

// profiles changes a profile, mostly one that there is, or makes one.
func (c *clients) profiles() bool {
	if len(c.asked) == 0 || c.w.calm {
		return false
	}
	tenant, id := pick(c.w, c.asked).tenant, events.ProfileIDOfJob(pick(c.w, c.asked).job)
	if there := c.w.log.all(events.TopicProfileEvents); len(there) > 0 && c.w.chance(80) {
		id = pick(c.w, there).Key
	} else if c.w.chance(50) {
		id = events.NameID("profile", fmt.Sprint(c.ids)) // of no job
	}
	for range 1 + c.w.rng.IntN(4) {
		c.profile(tenant, id)
	}
	return true
}

// profile sends one command to a profile.
func (c *clients) profile(tenant, id string) {
	c.ids++
	command, name := events.NameID("command", fmt.Sprint(c.ids)), *c.w.text(tenant, fmt.Sprint("name ", c.ids)).Text
	consent := events.Consent{By: name, Statement: name}
	data := pick(c.w, []events.ProfileCommand{
		events.ProfileCreate{Name: name, Consent: &consent}, events.ProfileRename{Name: name}, events.ProfileRecordConsent{Consent: consent}, events.ProfileWithdrawConsent{},
		events.ProfileArchive{}, events.ProfileRestore{}, events.ProfileErase{}, events.ProfileCompleteErasure{},
	})
	if c.w.fault(c.w.chances.broker) && c.w.chance(50) {
		return // it is lost on its way
	}
	c.w.log.write(record(events.TopicProfileCommands, events.Message{
		ID: command, AggregateType: events.AggregateProfile, AggregateID: id, OccurredAt: c.w.now, CommandID: command, CausationID: command,
		CorrelationID: command, Tenant: tenant, Actor: "carol", Data: data,
	}), nil)
	c.w.saw(data.EventType())
	c.w.say("client: %s of %s", data.EventType(), short(id))
}

// giveUp is a job of which a stage has failed. Where another one runs, its owner may
// cancel it at once: one stage then waits for its back-off while another is stopped.
func (w *world) giveUp(job string) {
	w.troubled = job
	runs := slices.ContainsFunc(w.workers, func(k *worker) bool {
		return slices.ContainsFunc(k.runs, func(r *run) bool { return r.cmd.AggregateID == job })
	})
	i := slices.IndexFunc(w.clients.asked, func(a *asked) bool { return a.job == job })
	if !runs || i < 0 || !w.fault(70) {
		return
	}
	w.saw("a job is cancelled when one stage has failed and another runs")
	w.clients.send(w.clients.asked[i], invariants.Cancel, "bob", events.JobCancel{})
}

// approve approves, with or without an edit, or denies.
func (c *clients) approve() bool {
	a := c.some()
	if !a.request.Approval && c.w.chance(80) {
		return false
	}
	switch c.w.rng.IntN(5) {
	case 0:
		reason := c.w.text(a.tenant, "no").Text
		c.send(a, invariants.Deny, "bob", events.JobDeny{Reason: reason})
	case 1, 2:
		edit := c.w.text(a.tenant, fmt.Sprint("edited ", c.ids))
		c.send(a, invariants.Approve, "bob", events.JobApprove{Edit: &edit})
	default:
		c.send(a, invariants.Approve, "bob", events.JobApprove{})
	}
	return true
}

// rerun makes a job that goes on from another one's results.
func (c *clients) rerun() bool {
	if len(c.asked) == 0 || len(c.asked) >= maxJobs || c.w.calm {
		return false
	}
	old := pick(c.w, c.asked)
	var facts []events.Message
	for _, r := range c.w.log.all(events.TopicJobEvents) {
		if r.Key == old.job {
			if m, err := events.Decode(r.Value); err == nil {
				facts = append(facts, m)
			}
		}
	}
	if len(facts) == 0 {
		return false
	}
	from := ""
	if _, j, err := aggregates.ParentOf(facts, ""); err == nil && len(j.Graph.Nodes) > 0 && c.w.chance(50) {
		from = pick(c.w, j.Graph.Nodes).ID
	}
	parent, j, err := aggregates.ParentOf(facts, from)
	if err != nil || !j.Terminal() {
		return false
	}
	c.w.saw("a job is run again")
	key := fmt.Sprint("key-", canary, "-", len(c.asked))
	a := &asked{tenant: old.tenant, key: key, job: events.JobID(old.tenant, route, key), request: old.request, parent: &parent}
	a.request.ParentJobID, a.request.NotBeforeMS, a.request.Approval = old.job, 0, false
	if c.w.chance(30) {
		edit := c.w.text(a.tenant, fmt.Sprint("edit of a re-run ", c.ids))
		a.request.Edit = &edit
	}
	c.stamp(a)
	c.asked = append(c.asked, a)
	c.send(a, invariants.Submit, "alice", events.JobSubmit{Request: a.request, Parent: a.parent})
	return true
}

// jobsOf are the jobs whose facts lie in a partition.
func (c *clients) jobsOf(p int32) []string {
	var out []string
	for _, a := range c.asked {
		if eventlog.PartitionFor(a.job, partitions) == p && !slices.Contains(out, a.job) {
			out = append(out, a.job)
		}
	}
	return out
}

// probe are inputs for one job whose answers show what is known of it.
func (c *clients) probe(job string, at time.Time) []events.Message {
	i := slices.IndexFunc(c.asked, func(a *asked) bool { return a.job == job })
	a := c.asked[i]
	other := a.request
	other.BodyDigest = "a third"
	var out []events.Message
	add := func(p events.Payload, cols events.Columns) {
		cols.JobID = job
		id := events.NameID("probe", job, fmt.Sprint(len(out)))
		out = append(out, events.Message{ID: id, AggregateType: events.AggregateJob, AggregateID: job, OccurredAt: at, CommandID: id, CausationID: id,
			Tenant: a.tenant, Columns: cols, Data: p})
	}
	add(events.JobSubmit{Request: a.request, Parent: a.parent}, events.Columns{})
	add(events.JobSubmit{Request: other}, events.Columns{})
	for _, r := range c.w.reports[max(0, len(c.w.reports)-20):] {
		if r.m.AggregateID == job {
			add(r.m.Data, r.m.Columns)
		}
	}
	add(events.JobApprove{}, events.Columns{})
	add(events.JobCancel{}, events.Columns{})
	return out
}
