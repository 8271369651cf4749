package main

// This file runs our roles as the processes that they are in production, and opens the log beside
// them as the API does.

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// noopLanes are the lanes of a diagnostic job, in its order.
var noopLanes = []string{events.LaneScript, events.LaneTTS, events.LaneRender, events.LaneLipsync}

// deployment is one system under one prefix on the log.
type deployment struct {
	services *services
	program  string
	prefix   string
	lane     int // partitions and slots of each of the noop lanes; the other lanes have one
	env      []string
}

// newDeployment is a system that has nothing running and no topics yet.
func (s *services) newDeployment(root, name string, lane int, env ...string) *deployment {
	d := &deployment{services: s, program: filepath.Join(root, "bin", "myspinbot"), prefix: "bench-" + name + ".", lane: lane}
	d.env = append(d.env, s.env...)
	d.env = append(d.env, "MYSPINBOT_KAFKA_PREFIX="+d.prefix, "MYSPINBOT_ENGINES_NOOP=true", "MYSPINBOT_LOG_LEVEL=warn",
		fmt.Sprintf("MYSPINBOT_KAFKA_PARTITIONS=%d", jobPartitions()))
	for name, n := range d.lanes() {
		upper := strings.ToUpper(name)
		d.env = append(d.env, fmt.Sprintf("MYSPINBOT_LANES_%s_PARTITIONS=%d", upper, n), fmt.Sprintf("MYSPINBOT_LANES_%s_SLOTS=%d", upper, min(n, 100)))
	}
	d.env = append(d.env, "MYSPINBOT_GPU_LANES="+strings.Join(noopLanes, ","))
	d.env = append(d.env, env...) // the last of a name counts
	return d
}

// jobPartitions is how many partitions the topics keyed by job have: one process of each
// role shares them with nobody, and every partition that a transaction touches costs.
func jobPartitions() int { return size("PARTITIONS", 3) }

func (d *deployment) lanes() map[string]int {
	lanes := map[string]int{}
	for _, lane := range events.Lanes() {
		lanes[lane] = 1
	}
	for _, lane := range noopLanes {
		lanes[lane] = d.lane
	}
	return lanes
}

// open opens the deployment's log with its topics.
func (d *deployment) open(ctx context.Context) (*eventlog.Log, error) {
	log, err := d.connect()
	if err != nil {
		return nil, err
	}
	if err := ensureTopics(ctx, log); err != nil {
		log.Close()
		return nil, err
	}
	return log, nil
}

// connect opens the log whose topics are there.
func (d *deployment) connect() (*eventlog.Log, error) {
	return eventlog.Open(eventlog.Config{Brokers: []string{d.services.broker}, Prefix: d.prefix, Partitions: jobPartitions(), LanePartitions: d.lanes(),
		Instance: "bench", ProduceTimeout: time.Minute})
}

// ensureTopics makes the topics. There are hundreds of partitions, which takes a broker that has just
// started longer than the log's own patience.
func ensureTopics(ctx context.Context, log *eventlog.Log) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	for {
		err := log.EnsureTopics(ctx)
		if !errors.Is(err, eventlog.ErrUnavailable) {
			return err
		}
		if late := wait(ctx, 500*time.Millisecond, nil); late != nil {
			return errors.Join(err, late)
		}
	}
}

// role is a running process of ours.
type role struct {
	name    string
	cmd     *exec.Cmd
	output  string // file with what it says
	metrics string // address of /metrics
	cancel  context.CancelFunc
	ended   chan struct{}
	err     error // how it ended, once it has
}

// start starts a process that plays the roles, known to its peers by its name.
func (d *deployment) start(ctx context.Context, name, roles string, env ...string) (*role, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	env = append(append(append([]string{}, d.env...), "MYSPINBOT_INSTANCE="+name, "MYSPINBOT_OPS_LISTEN="+addr), env...)
	r, err := d.spawn(ctx, name, env, d.program, "run", "--roles", roles)
	if err != nil {
		return nil, fmt.Errorf("%w; run `make build`", err)
	}
	r.metrics = addr
	return r, nil
}

// spawn starts a process beside the services.
func (d *deployment) spawn(ctx context.Context, name string, env []string, program string, args ...string) (*role, error) {
	r := &role{name: name, output: filepath.Join(d.services.dir, d.prefix+name+".log"), ended: make(chan struct{})}
	said, err := os.OpenFile(r.output, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot keep what %s says: %w", name, err)
	}
	ctx, r.cancel = context.WithCancel(ctx)
	r.cmd = exec.CommandContext(ctx, program, args...)
	r.cmd.Env = env
	r.cmd.Dir, r.cmd.Stdout, r.cmd.Stderr = d.services.dir, said, said
	r.cmd.Cancel = func() error { return r.cmd.Process.Signal(syscall.SIGTERM) }
	r.cmd.WaitDelay = 30 * time.Second
	if err := r.cmd.Start(); err != nil {
		r.cancel()
		return nil, errors.Join(fmt.Errorf("cannot start %s: %w", program, err), said.Close())
	}
	go func() {
		defer close(r.ended)
		r.err = errors.Join(r.cmd.Wait(), said.Close())
	}()
	return r, nil
}

// stop ends the process as a service manager does, and waits for it.
func (r *role) stop() error {
	select {
	case <-r.ended:
		return r.fault()
	default:
	}
	r.cancel()
	<-r.ended
	if r.cmd.ProcessState.ExitCode() != 0 {
		return r.fault()
	}
	return nil
}

// fault tells how a process ended that should not have.
func (r *role) fault() error {
	said := []byte(fileText(r.output))
	return fmt.Errorf("role %s ended: %w; its last words: %s", r.name, errors.Join(r.err, errors.New(r.cmd.ProcessState.String())), said[max(0, len(said)-1000):])
}

// stopRoles stops processes, the last first.
func stopRoles(roles []*role) error {
	var faults []error
	for i := len(roles) - 1; i >= 0; i-- {
		faults = append(faults, roles[i].stop())
	}
	return errors.Join(faults...)
}

// submission is the record by which the API hands in a diagnostic job.
func submission(id string, at time.Time) (eventlog.Record, error) {
	request := events.Request{Workflow: "diagnostic_v1", Mode: "diagnostic", Variant: "noop"}
	command := events.NameID("submit", id)
	return record(events.TopicJobCommands, events.Message{
		ID: command, AggregateType: events.AggregateJob, AggregateID: id, OccurredAt: at.UTC(), CommandID: command, CausationID: command,
		CorrelationID: command, Tenant: "default", Actor: "bench", Columns: events.Columns{JobID: id, Variant: request.Variant},
		Data: events.JobSubmit{Request: request},
	})
}

// record is a message as it is written on a topic.
func record(topic string, m events.Message) (eventlog.Record, error) {
	m.SchemaVersion = m.Data.SchemaVersion()
	value, err := events.Encode(m)
	if err != nil {
		return eventlog.Record{}, err
	}
	r := eventlog.Record{Topic: topic, Key: m.AggregateID, Value: value}
	for _, h := range events.Headers(m) {
		r.Headers = append(r.Headers, eventlog.Header{Key: h.Key, Value: h.Value})
	}
	return r, nil
}
