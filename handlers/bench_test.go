// What a job costs the handler: CPU from its submission to its end, memory while it lives.

package handlers

import (
	"fmt"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// lifeOf are the inputs of a diagnostic job: its submission and every stage's two answers.
func lifeOf(b *testing.B, n int) []eventlog.Record {
	job := events.JobID("default", "/v1/jobs", fmt.Sprint("key-", n))
	command := events.NameID("submit", job)
	message := func(topic, id string, c events.Columns, p events.Payload) eventlog.Record {
		c.JobID, c.Variant = job, "noop"
		r, err := encode(topic, events.Message{ID: id, CommandID: command, CausationID: id, CorrelationID: command, AggregateType: events.AggregateJob,
			AggregateID: job, OccurredAt: start.Add(time.Duration(n) * time.Millisecond), Tenant: "default", Actor: "bench", Columns: c, Data: p})
		if err != nil {
			b.Fatal(err)
		}
		return r
	}
	submit := diagnostic()
	submit.Request.Workflow = "diagnostic_v1"
	submit.Request.BodyDigest = events.Digest([]byte("key"), job)
	submit.Request.KeyDigest = events.Digest([]byte("key"), command)
	inputs := []eventlog.Record{message(events.TopicJobCommands, command, events.Columns{}, submit)}
	for _, stage := range []string{events.LaneScript, events.LaneTTS, events.LaneRender, events.LaneLipsync} {
		c := events.Columns{Stage: stage, Task: "noop." + stage, Lane: stage, Attempt: 1, Worker: "worker-1", Model: "none"}
		id := events.AttemptID(job, stage, 1)
		inputs = append(inputs,
			message(events.TopicTaskEvents, events.EventID(start, id+"accepted", 0), c, events.TaskAccepted{LeaseMS: 15_000, GPU: "none"}),
			message(events.TopicTaskEvents, events.EventID(start, id+"succeeded", 0), c, events.TaskSucceeded{Result: events.Result{Fidelity: "simulated", Engine: "noop", Version: "1"}}))
	}
	return inputs
}

// bench is a memory that keeps nothing but the number of its records.
type bench struct {
	*memory
	offset int64
	bytes  int64
}

func newBench() *bench {
	m := &bench{memory: newMemory()}
	m.h.hot.most = mostHot
	return m
}

func (m *bench) transact(b *testing.B, inputs []eventlog.Record) {
	var out []eventlog.Record
	for _, in := range inputs {
		records, err := m.h.Decide(in)
		if err != nil {
			b.Fatal(err)
		}
		out = append(out, records...)
	}
	for i := range out {
		out[i].Offset = m.offset
		m.offset++
		m.bytes += int64(len(out[i].Value))
	}
	m.meta = m.h.Meta(0, out)
	m.h.Committed(0, out)
}

// BenchmarkJob reports the CPU of one four-stage job with 500 in flight, decided in
// transactions of up to 500 inputs.
func BenchmarkJob(b *testing.B) {
	m := newBench()
	const flight = 500
	var lives [][]eventlog.Record
	for n := range b.N {
		lives = append(lives, lifeOf(b, n))
	}
	b.ReportAllocs()
	b.ResetTimer()
	used := processor(b)
	for len(lives) > 0 {
		some := lives[:min(flight, len(lives))]
		lives = lives[len(some):]
		for step := range some[0] {
			inputs := make([]eventlog.Record, len(some))
			for i, life := range some {
				inputs[i] = life[step]
			}
			m.transact(b, inputs)
		}
	}
	b.StopTimer()
	b.ReportMetric(float64(processor(b)-used)/float64(b.N), "cpu-ns/job") // where others use the machine too
	if m.h.Live() != 0 {
		b.Fatalf("%d jobs live on", m.h.Live())
	}
	b.ReportMetric(float64(m.offset)/float64(b.N), "records/job")
	b.ReportMetric(float64(m.bytes)/float64(b.N), "B-written/job")
}

// BenchmarkLiveJob reports the memory of a job whose first stage runs.
func BenchmarkLiveJob(b *testing.B) {
	const jobs = 20_000
	for range b.N {
		m := newBench()
		before := heapInUse()
		m.h.hot.most = mostHot * jobs / 100_000 // as a hundred thousand would share it
		for n := range jobs {
			m.transact(b, lifeOf(b, n)[:2])
		}
		b.ReportMetric(float64(heapInUse()-before)/jobs, "B/job")
		runtime.KeepAlive(m)
	}
}

// BenchmarkEndedJob reports the memory of a job that has ended.
func BenchmarkEndedJob(b *testing.B) {
	const jobs = 20_000
	for range b.N {
		m := newBench()
		before := heapInUse()
		for n := range jobs {
			m.transact(b, lifeOf(b, n))
		}
		b.ReportMetric(float64(heapInUse()-before)/jobs, "B/job")
		runtime.KeepAlive(m)
	}
}

func heapInUse() uint64 {
	var s runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&s)
	return s.HeapAlloc
}

// processor is the time that this process has had, in nanoseconds.
func processor(b *testing.B) int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}
