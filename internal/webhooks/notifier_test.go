// The notifier against a broker in memory and receivers on this machine.

package webhooks

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog/eventlogtest"
	"github.com/myspinbot/myspinbot/internal/objects"
)

func TestEventsThatAreAskedForAreTold(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newReceiver(t)
	n, _ := w.notifier(nil, nil)
	without := w.job("")
	with := w.job(r.URL, "job.submitted", "job.succeeded")
	with.fact(events.JobPlanned{})
	without.fact(events.JobSucceeded{})
	last := with.fact(events.JobSucceeded{})
	with.await("job.submitted delivered: delivered", "job.succeeded delivered: delivered")
	all := r.messages()
	slices.SortFunc(all, func(a, b got) int { return len(a.Type) - len(b.Type) })
	want := []got{{events.NameID(with.id, "1"), "job.submitted", with.id, 0, true}, {last, "job.succeeded", with.id, 0, true}}
	if len(all) == 2 && all[0] != want[0] {
		slices.Reverse(all)
	}
	if !slices.Equal(all, want) {
		t.Errorf("received %+v, want %+v", all, want)
	}
	if tr := with.trail(); !tr.Closed || tr.Stopped || without.trail() != nil {
		t.Errorf("the trail is %+v", tr)
	}
	eventually(t, "nothing is kept of jobs that are told of", func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		return len(n.parts) == 2 && len(n.parts[0].jobs)+len(n.parts[1].jobs) == 0
	})
}

func TestFailuresAreTriedAgainUntilTheScheduleEnds(t *testing.T) {
	t.Parallel()
	w, r, dead := newWorld(t), newReceiver(t), newReceiver(t)
	r.answering(func(n int, w http.ResponseWriter, _ *http.Request) {
		if n < 3 {
			w.WriteHeader(503)
		}
	})
	dead.answering(status(500))
	w.notifier(nil, nil)
	better, never := w.job(r.URL, "job.failed"), w.job(dead.URL, "job.failed")
	better.fact(events.JobFailed{})
	never.fact(events.JobFailed{})
	better.await("job.failed delivered: retrying retrying delivered")
	never.await("job.failed failed: retrying retrying retrying failed")
	d := never.trail().Deliveries[0]
	for i, a := range d.List {
		if a.Number != i+1 || a.Status != 500 || a.Class != ClassStatus || a.Message == "" || a.Took <= 0 || a.Next.IsZero() != (i == 3) {
			t.Errorf("attempt %d is %+v", i+1, a)
		}
	}
	for _, g := range dead.messages() {
		if g != dead.messages()[0] || g.ID != d.DeliveryID {
			t.Errorf("received %+v", dead.messages())
		}
	}
}

func TestA410EndsAllThatIsForThatJob(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newReceiver(t)
	r.answering(status(410))
	w.notifier(nil, nil)
	s, other := w.job(r.URL, "job.planned", "job.succeeded"), w.job(r.URL, "job.planned")
	s.fact(events.JobPlanned{})
	s.await("job.planned stopped: gone")
	s.fact(events.JobSucceeded{})
	r.answering(nil)
	other.fact(events.JobPlanned{})
	other.await("job.planned delivered: delivered")
	if s.await("job.planned stopped: gone"); len(r.messages()) != 2 {
		t.Errorf("received %+v", r.messages())
	}
}

// Given the receiver has answered, when the process dies before that is written down,
// then the message comes again under its id, and is not lost.
func TestADeathBetweenAnswerAndRecordRepeatsTheMessage(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newReceiver(t)
	var net eventlogtest.Network
	r.answering(func(n int, _ http.ResponseWriter, _ *http.Request) {
		if n == 1 {
			net.Cut() // to the log this process is dead from now on
		}
	})
	_, stop := w.notifier(func(c *Config) { c.Instance = "first" }, &net)
	s := w.job(r.URL, "job.succeeded")
	id := s.fact(events.JobSucceeded{})
	eventually(t, "the first process has sent", func() bool { return len(r.messages()) == 1 })
	if have := s.outcomes(); !slices.Equal(have, []string{"job.succeeded pending:"}) {
		t.Fatalf("the log says %q", have)
	}
	go stop()
	w.notifier(nil, nil)
	s.await("job.succeeded delivered: delivered")
	if all := r.messages(); len(all) != 2 || all[0] != all[1] || all[0].ID != id {
		t.Errorf("received %+v, want %s twice", all, id)
	}
}

// Given deliveries that wait for their next attempt, when the process is started again,
// then they are made at their times, and what was delivered is not sent again.
func TestWhatIsPendingSurvivesARestart(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newReceiver(t)
	r.answering(func(_ int, w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/bad" {
			w.WriteHeader(500)
		}
	})
	slowly := func(c *Config) { c.Schedule = slices.Repeat(Schedule{time.Second}, 100) }
	_, stop := w.notifier(slowly, nil)
	good, bad := w.job(r.URL+"/good", "job.succeeded"), w.job(r.URL+"/bad", "job.planned", "job.succeeded")
	good.fact(events.JobSucceeded{})
	bad.fact(events.JobPlanned{})
	good.await("job.succeeded delivered: delivered")
	bad.tried("job.planned " + Pending)
	stop()
	bad.fact(events.JobSucceeded{}) // while nobody is there
	r.answering(nil)
	before := bad.trail().Deliveries[0].List
	w.notifier(slowly, nil)
	bad.tried("job.planned "+Delivered, "job.succeeded "+Delivered)
	after := bad.trail().Deliveries[0].List
	if last := before[len(before)-1]; len(after) != len(before)+1 || after[len(before)].At.Before(last.Next) || after[len(before)].Number != last.Number+1 {
		t.Errorf("tried %+v, and after the restart %+v", before, after)
	}
	if good.await("job.succeeded delivered: delivered"); len(r.messages()) != len(after)+2 {
		t.Errorf("received %+v", r.messages())
	}
}

func TestPartitionsMoveWithWhatIsPending(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newReceiver(t)
	r.answering(status(500))
	slowly := func(name string) func(*Config) {
		return func(c *Config) { c.Schedule, c.Instance = slices.Repeat(Schedule{time.Second}, 100), name }
	}
	w.cfg.Instance = "one"
	_, stop := w.notifier(slowly("one"), nil)
	var jobs []*story
	for range 6 {
		s := w.job(r.URL, "job.succeeded")
		s.fact(events.JobSucceeded{})
		jobs = append(jobs, s)
	}
	for _, s := range jobs {
		s.tried("job.succeeded " + Pending)
	}
	r.answering(nil)
	w.cfg.Instance = "two"
	w.notifier(slowly("two"), nil)
	stop()
	for _, s := range jobs {
		s.tried("job.succeeded " + Delivered)
	}
}

func TestRedelivery(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newReceiver(t)
	r.answering(status(410))
	w.notifier(nil, nil)
	s := w.job(r.URL, "job.planned", "job.succeeded")
	first := s.fact(events.JobPlanned{})
	s.await("job.planned stopped: gone")
	r.answering(nil)
	again := func(id string) ([]string, error) {
		return Redeliver(t.Context(), w.log, s.trail(), id, "api", time.Now())
	}
	if ids, err := again(""); err != nil || !slices.Equal(ids, []string{first}) {
		t.Fatalf("Redeliver = %v, %v", ids, err)
	}
	s.await("job.planned delivered: gone delivered")
	s.fact(events.JobSucceeded{}) // the receiver is back, and is told of what comes
	s.await("job.planned delivered: gone delivered", "job.succeeded delivered: delivered")
	if ids, err := again(""); err != nil || len(ids) != 0 {
		t.Errorf("when all is delivered: %v, %v", ids, err)
	}
	// One by its id, although it was delivered and the job is over and forgotten.
	if ids, err := again(first); err != nil || len(ids) != 1 {
		t.Fatalf("Redeliver = %v, %v", ids, err)
	}
	s.await("job.planned delivered: gone delivered delivered", "job.succeeded delivered: delivered")
	if _, err := again(uuid.NewString()); err == nil {
		t.Error("an id that is no delivery's is taken")
	}
}

// A tenant that writes a redelivery, a fact or a beat of another tenant's job to the log is
// heard by nobody: neither by that job's webhook nor by one that it names itself.
func TestNobodyIsToldOfAnotherTenantsJob(t *testing.T) {
	t.Parallel()
	w, r, own := newWorld(t), newReceiver(t), newReceiver(t)
	w.notifier(nil, nil)
	s := w.job(r.URL, "job.planned", "job.succeeded", events.WebhookProgress)
	s.fact(events.JobPlanned{})
	s.await("job.planned delivered: delivered")
	hook := events.Webhook{URL: open(own.URL), Secret: open(exampleSecret), Endpoint: own.URL, Events: []string{"job.planned", "job.succeeded", events.WebhookProgress}}
	forged := func(topic, job string, data events.Payload) {
		t.Helper()
		w.write(topic, message(job, "other", "them", uuid.NewString(), time.Now(), data))
	}
	forged(events.TopicWebhookCommands, s.id, events.WebhookRedeliver{Webhook: hook, Delivery: s.trail().Deliveries[0].Delivery})
	forged(events.TopicTaskProgress, s.id, events.TaskProgress{Percent: 7})
	// And of a job that tells nobody, so that the only webhook is the one that was written.
	quiet := w.job("")
	forged(events.TopicWebhookCommands, quiet.id, events.WebhookRedeliver{Webhook: hook, Delivery: events.Delivery{DeliveryID: uuid.NewString(), Event: "job.planned"}})
	eventually(t, "the other has a trail of its own", func() bool {
		all, err := Read(t.Context(), w.log, "other", quiet.id, time.Time{})
		return err == nil && len(all) == 1
	})
	quiet.fact(events.JobPlanned{})
	w.write(events.TopicTaskProgress, message(quiet.id, "default", "worker-1", uuid.NewString(), time.Now(), events.TaskProgress{Percent: 9}))
	quiet.fact(events.JobSucceeded{})
	s.fact(events.JobSucceeded{})
	s.await("job.planned delivered: delivered", "job.succeeded delivered: delivered")
	for _, m := range own.messages() {
		if m.Type != "job.planned" || m.Percent != 0 {
			t.Errorf("the other is told %+v", m)
		}
	}
	if all := r.messages(); len(all) != 2 {
		t.Errorf("the job's webhook is told %+v", all)
	}
}

func TestOldEventsAreNotTold(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newReceiver(t)
	s := w.job(r.URL, "job.planned", "job.succeeded")
	s.at = time.Now().Add(-grace - time.Minute)
	s.fact(events.JobPlanned{})
	s.at = time.Now()
	s.fact(events.JobSucceeded{})
	w.notifier(nil, nil) // which reads the log from its beginning
	s.await("job.succeeded delivered: delivered")
	if all := r.messages(); len(all) != 1 || all[0].Type != "job.succeeded" {
		t.Errorf("received %+v", all)
	}
}

func TestErasedContentAndKeysThatAreAway(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newReceiver(t)
	n, _ := w.notifier(nil, nil)
	w.keys.failing(objects.ErrErased)
	s := w.job(r.URL, "job.succeeded")
	s.fact(events.JobSucceeded{})
	s.await("job.succeeded failed: failed")
	if a := s.trail().Deliveries[0].List[0]; a.Class != ClassErased || a.Status != 0 {
		t.Errorf("the attempt is %+v", a)
	}
	w.keys.failing(objects.ErrUnavailable)
	s = w.job(r.URL, "job.succeeded")
	s.fact(events.JobSucceeded{})
	eventually(t, "the delivery waits", func() bool { count, _ := n.waiting(); return count == 1 })
	w.keys.failing(nil)
	s.await("job.succeeded delivered: delivered")
	if len(r.messages()) != 1 {
		t.Errorf("received %+v", r.messages())
	}
}

func TestProgressIsToldOnceInAWhile(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newReceiver(t)
	w.notifier(nil, nil)
	asks, other := w.job(r.URL, events.WebhookProgress, "job.planned"), w.job(r.URL, "job.planned")
	asks.fact(events.JobPlanned{})
	other.fact(events.JobPlanned{})
	asks.await("job.planned delivered: delivered")
	other.await("job.planned delivered: delivered")
	beats := 0.0
	beat := func(s *story) {
		beats++
		m := message(s.id, "default", "worker-1", uuid.NewString(), time.Now(), events.TaskProgress{Percent: beats})
		w.write(events.TopicTaskProgress, m)
	}
	told := func() (out []got) {
		return slices.DeleteFunc(r.messages(), func(g got) bool { return g.Type != events.WebhookProgress })
	}
	beat(other)
	eventually(t, "a beat is told", func() bool { beat(asks); return len(told()) == 1 })
	for range 20 {
		beat(asks)
	}
	end := asks.fact(events.JobSucceeded{})
	eventually(t, "the job is over", func() bool { return asks.trail().Closed })
	if all := told(); len(all) != 1 || all[0].Job != asks.id || all[0].Percent == 0 || !all[0].signed {
		t.Errorf("after %s: %+v", end, all)
	}
}
