// Tests of one job as it was.

package projections

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/internal/eventlog/eventlogtest"
)

// keyed is a log whose records carry keys, as the handlers' do.
type keyed struct{ source }

func (k keyed) reader(from eventlog.Offsets) (cursor, error) {
	c, err := k.source.reader(from)
	return keyedCursor{c}, err
}

type keyedCursor struct{ cursor }

func (k keyedCursor) Poll(ctx context.Context, most int) (eventlog.Batch, error) {
	b, err := k.cursor.Poll(ctx, most)
	for i, r := range b.Records {
		m, err := events.Decode(r.Value)
		if err != nil {
			continue
		}
		b.Records[i].Key = m.AggregateID
	}
	return b, err
}

// asText is a job with everything, to compare; documents as PostgreSQL writes them.
func asText(t testing.TB, p *PastJob) any {
	t.Helper()
	text, err := json.Marshal(PastJob{p.Job, append([]*Stage{}, p.Stages...), append([]*Artifact{}, p.Artifacts...), p.Events})
	ok(t, err)
	var v any
	ok(t, json.Unmarshal(text, &v))
	return v
}

// TestThePastIsWhatTheTablesShowed follows jobs event by event in the real tables.
func TestThePastIsWhatTheTablesShowed(t *testing.T) {
	t.Parallel()
	pool, l := database(t), newLog()
	r := NewReader(pool)
	launch(t, projector(pool, l, 1))
	shown := map[string][]*PastJob{} // by job, after each of its events
	for _, s := range []*story{eventful("a"), stopped("b"), whole("c"), jobStory("d").submitted().rejected()} {
		for _, m := range s.messages {
			l.tell(t, m)
			ok(t, r.waitLong(t, "default", s.id, m.Version))
			now := &PastJob{}
			ok(t, r.Snapshot(t.Context(), func(q *Queries) (err error) {
				if now.Job, err = q.Job(t.Context(), "default", s.id); err != nil {
					return err
				}
				byJob, err := q.Stages(t.Context(), "default", s.id)
				if err != nil {
					return err
				}
				now.Stages = byJob[s.id]
				if now.Artifacts, err = q.JobArtifacts(t.Context(), "default", s.id); err != nil {
					return err
				}
				now.Events, err = q.JobEvents(t.Context(), "default", s.id, 0, 1000)
				return err
			}))
			shown[s.id] = append(shown[s.id], now)
		}
	}
	for name, h := range map[string]*History{"by the tables' hint": {keyed{l}, r}, "without": {log: keyed{l}}} {
		for id, versions := range shown {
			for i, want := range versions {
				got, err := h.Job(t.Context(), "default", id, Moment{Number: int64(i + 1)})
				ok(t, err)
				if g, w := asText(t, got), asText(t, want); !reflect.DeepEqual(g, w) {
					t.Errorf("%s, %s version %d:\ngot  %v\nwant %v", name, id, i+1, g, w)
				}
			}
		}
	}
	// Rows that say something else about where a job begins mislead nobody.
	exec(t, pool, "UPDATE gen_1.jobs SET first_offset = 5")
	for id, versions := range shown {
		got, err := (&History{keyed{l}, r}).Job(t.Context(), "default", id, Moment{Number: int64(len(versions))})
		ok(t, err)
		equal(t, got.Job.Version, int64(len(versions)))
	}
}

// TestEveryMomentOfRandomHistories holds all three forms of a moment against the fold of the facts up to it.
func TestEveryMomentOfRandomHistories(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		l, h := newLog(), &History{}
		h.log = keyed{l}
		byJob := map[string][]fact{}
		last := map[eventlog.TopicPartition]time.Time{} // time does not go back in a partition
		for _, x := range drawLog(t) {
			if next := last[x.at].Add(time.Microsecond); x.message.OccurredAt.Before(next) {
				x.message.OccurredAt = next
			}
			last[x.at] = x.message.OccurredAt
			text, err := events.Encode(x.message)
			if err != nil {
				t.Fatal(err)
			}
			l.add(x.at, text)
			x.offset = int64(len(l.values[x.at]) - 1)
			l.add(x.at, nil)
			if id := x.message.AggregateID; x.at.Topic == events.TopicJobEvents && x.message.Version == int64(len(byJob[id])+1) {
				byJob[id] = append(byJob[id], x)
			}
		}
		for id, all := range byJob {
			tenant := all[0].message.Tenant
			for i, x := range all {
				f := foldAll(all[:i+1])
				for _, at := range []Moment{{Number: x.message.Version}, {Place: &Place{x.at.Partition, x.offset}}, {Time: micro(x.message.OccurredAt)}} {
					got, err := h.Job(context.Background(), tenant, id, at)
					if err != nil {
						t.Fatalf("%s at %v: %v", id, at, err)
					}
					if !reflect.DeepEqual(*got.Job, f.jobs[id].row) || !reflect.DeepEqual(got.Stages, f.jobs[id].stages) || len(got.Artifacts) != len(f.artifacts) || len(got.Events) != i+1 {
						t.Fatalf("%s at %v is version %d, want %d", id, at, got.Job.Version, x.message.Version)
					}
				}
			}
			if _, err := h.Job(context.Background(), "nobody", id, Moment{Number: 1}); !errors.Is(err, ErrNotFound) {
				t.Fatalf("another tenant gets %v", err)
			}
		}
	})
}

func TestMomentsBeforeBehindAndElsewhere(t *testing.T) {
	t.Parallel()
	l := newLog()
	h := &History{log: keyed{l}}
	early, late := whole("job-a"), whole("job-b")
	for late.tp() != early.tp() {
		late = whole(late.id + "b")
	}
	l.tell(t, early.messages...)
	l.tell(t, late.messages...)
	began := late.messages[0].OccurredAt.Format(time.RFC3339Nano)
	for _, c := range []struct {
		at   Moment
		want error
		says string
	}{
		{Moment{Time: start}, ErrNoSuchMoment, "began at " + began},
		{Moment{Place: &Place{late.tp().Partition, 3}}, ErrNoSuchMoment, fmt.Sprintf("began at %s, with the event at %d:%d", began, late.tp().Partition, 2*len(early.messages))},
		{Moment{Place: &Place{late.tp().Partition, 1000}}, ErrNoSuchMoment, "ends before offset 1000"},
		{Moment{Number: 20}, ErrNoSuchMoment, "has come to version 19, not to 20"},
		{Moment{Place: &Place{late.tp().Partition + 1, 3}}, ErrOtherPartition, fmt.Sprintf("lies in partition %d", late.tp().Partition)},
	} {
		_, err := h.Job(t.Context(), "default", late.id, c.at)
		wantError(t, err, c.want, c.says)
	}
	for _, at := range []Moment{{Number: 1}, {Time: start.Add(time.Hour)}, {Place: &Place{late.tp().Partition, 3}}} {
		_, err := h.Job(t.Context(), "another", late.id, at)
		wantError(t, err, ErrNotFound, "")
	}
	// The log may be longer than what lies before the moment: nothing behind it is read.
	l.add(late.tp(), []byte("hello"))
	if _, err := h.Job(t.Context(), "default", late.id, Moment{Time: late.messages[3].OccurredAt}); err != nil {
		t.Error(err)
	}
}

// TestALookBackEndsWithTheFirstLaterFact has a broken record of the job behind another job's fact of a later time.
func TestALookBackEndsWithTheFirstLaterFact(t *testing.T) {
	t.Parallel()
	_, cfg := eventlogtest.Fake(t)
	cfg.Partitions = 1
	log := eventlogtest.Open(t, cfg)
	records := func(messages ...events.Message) (out []eventlog.Record) {
		for _, m := range messages {
			out = append(out, eventlog.Record{Topic: events.TopicJobEvents, Key: m.AggregateID, Value: []byte(encoded(t, m))})
		}
		return out
	}
	job, later := whole("job"), jobStory("later")
	later.now = job.now
	ok(t, log.Produce(t.Context(), records(job.messages...)...))
	ok(t, log.Produce(t.Context(), records(later.submitted().messages...)...))
	ok(t, log.Produce(t.Context(), eventlog.Record{Topic: events.TopicJobEvents, Key: job.id, Value: []byte("hello")}))
	h := NewHistory(log, nil)
	for _, at := range []Moment{{Time: job.now}, {Number: 18}, {Place: &Place{0, 18}}} {
		if _, err := h.Job(t.Context(), "default", job.id, at); err != nil {
			t.Errorf("at %v: %v", at, err)
		}
	}
	if _, err := h.Job(t.Context(), "default", job.id, Moment{Time: later.now}); err == nil || !strings.Contains(err.Error(), "jobs.events/0 offset 20") {
		t.Errorf("behind the broken record: %v", err)
	}
}

func (s *story) tp() eventlog.TopicPartition { return place(s.messages[0]) }

func wantError(t testing.TB, err, want error, says string) {
	t.Helper()
	if !errors.Is(err, want) || !containsText(err, says) {
		t.Errorf("the error is %q, want %q with %q", fmt.Sprint(err), want, says)
	}
}

func TestMomentsAreReadAsWritten(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"2026-03-01T12:00:00.123456789Z", "0", "17", "3:1042"} {
		m, err := ParseMoment(text)
		ok(t, err)
		equal(t, m.String(), text)
	}
	for _, text := range []string{"", "x", "-1", "3:", ":4", "-3:4", "3:-4", "3:4:5", "4294967296:1", "9223372036854775807", "2026-03-01", "0000-01-01T00:00:00Z", "1e3"} {
		if m, err := ParseMoment(text); !errors.Is(err, ErrBadMoment) {
			t.Errorf("%q is %v, %v", text, m, err)
		}
	}
}

func containsText(err error, text string) bool { return strings.Contains(fmt.Sprint(err), text) }
