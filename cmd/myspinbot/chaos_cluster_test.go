// The cluster that chaos is let loose on: real services and a process per role, each
// started again whenever it ends, as a supervisor of services would.

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/myspinbot/myspinbot/internal/devstack"
)

// cluster is everything that runs.
type cluster struct {
	t        *testing.T
	dir      string
	cfg      Config
	kafka    *devstack.KafkaServer
	postgres *devstack.PostgresServer
	stops    []func(context.Context) error
	env      []string
	members  map[string]*member
	apis     []string // base URLs

	brokerKills int
}

// member is a place in the cluster that one process after the other fills.
type member struct {
	cluster *cluster
	name    string
	role    string
	args    []string

	mu       sync.Mutex
	p        *childProgram
	ended    chan struct{} // of p
	stopping bool
	pause    time.Duration // before the next start
	kills    int
	restarts int // after an end that nobody asked for, being fenced among them
}

// lease is short, so that minutes hold many of them.
const chaosLease = 2 * time.Second

func startCluster(t *testing.T) *cluster {
	t.Helper()
	cfg, _, err := loadConfig([]string{"--kafka-partitions", "4", "--kafka-session-timeout", "6s"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{t: t, cfg: cfg, members: map[string]*member{}}
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	t.Cleanup(c.stop)
	dir := t.TempDir()
	c.dir = dir
	if err := os.Chmod(dir, 0o755); err != nil { // PostgreSQL's own user passes through
		t.Fatal(err)
	}
	helper, err := devstack.StartHelper(ctx, devstack.Helper{Dir: filepath.Join(dir, "objects"), NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	c.stops = append(c.stops, helper.Stop)
	if c.kafka, err = devstack.StartKafka(ctx, devstack.Kafka{Dir: filepath.Join(dir, "kafka")}); err != nil {
		t.Fatal(err)
	}
	c.stops = append(c.stops, c.kafka.Stop)
	if c.postgres, err = devstack.StartPostgres(ctx, devstack.Postgres{Dir: filepath.Join(dir, "postgres")}); err != nil {
		t.Fatal(err)
	}
	c.stops = append(c.stops, c.postgres.Stop)
	key, err := masterKey(filepath.Join(dir, "master.key"))
	if err != nil {
		t.Fatal(err)
	}
	c.cfg.Secrets.MasterKey = Secret(key)
	c.cfg.Kafka.Brokers, c.cfg.Postgres.URL = []string{c.kafka.Addr()}, Secret(c.postgres.URL())
	c.env = []string{
		"MYSPINBOT_KAFKA_BROKERS=" + c.kafka.Addr(), "MYSPINBOT_KAFKA_PARTITIONS=4", "MYSPINBOT_KAFKA_SESSION_TIMEOUT=6s",
		"MYSPINBOT_POSTGRES_URL=" + c.postgres.URL(), "MYSPINBOT_S3_ENDPOINT=" + helper.S3(), "MYSPINBOT_S3_ACCESS_KEY=" + helper.AccessKey,
		"MYSPINBOT_S3_SECRET_KEY=" + helper.SecretKey, "MYSPINBOT_SECRETS_MASTER_KEY=" + key,
		"MYSPINBOT_ENGINES_NOOP=true", "MYSPINBOT_GPU_LEASE=" + chaosLease.String(),
		"MYSPINBOT_JOB_MAX_ATTEMPTS=20", "MYSPINBOT_JOB_BACK_OFF=200ms", "MYSPINBOT_LOG_LEVEL=warn",
		// A client that gave up in an outage leaves a gate that nobody decides.
		"MYSPINBOT_JOB_APPROVAL_EXPIRY=45s",
	}
	for _, lane := range []string{"SCRIPT", "TTS", "RENDER", "LIPSYNC"} {
		c.env = append(c.env, "MYSPINBOT_LANES_"+lane+"_PARTITIONS=4", "MYSPINBOT_LANES_"+lane+"_SLOTS=4")
	}
	// The tools read the same topics.
	for _, lane := range []*LaneConfig{&c.cfg.Lanes.Script, &c.cfg.Lanes.TTS, &c.cfg.Lanes.Render, &c.cfg.Lanes.Lipsync} {
		lane.Partitions, lane.Slots = 4, 4
	}
	for _, name := range []string{"handler-1", "handler-2", "projector-1", "api-1", "api-2", "gpu-1", "gpu-2"} {
		c.add(name)
	}
	return c
}

func (c *cluster) add(name string) {
	role, _, _ := strings.Cut(name, "-")
	m := &member{cluster: c, name: name, role: role, args: []string{"run", "--roles", role}}
	switch role {
	case roleAPI:
		addr := freeAddr(c.t)
		m.args = append(m.args, "--http-listen", addr)
		c.apis = append(c.apis, "http://"+addr)
	case roleGPU:
		m.args = append(m.args, "--lanes", "script,tts,render,lipsync")
	}
	c.members[name] = m
	m.start()
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// start fills the place, and fills it again when the process ends.
func (m *member) start() {
	p, ended := m.launch()
	m.mu.Lock()
	m.p, m.ended = p, ended
	m.mu.Unlock()
}

// launch starts a process and watches over it.
func (m *member) launch() (*childProgram, chan struct{}) {
	p := m.cluster.spawn(append(m.cluster.env, "MYSPINBOT_INSTANCE="+m.name), m.args...)
	ended := make(chan struct{})
	go func() {
		p.cmd.Wait() //nolint:errcheck // killed, fenced or asked to end: it starts again anyway
		close(ended)
		m.mu.Lock()
		again, pause := m.p == p && !m.stopping, 200*time.Millisecond+m.pause
		m.pause = 0
		m.mu.Unlock()
		if !again {
			return
		}
		<-time.After(pause)
		m.mu.Lock()
		m.restarts++
		again = m.p == p && !m.stopping
		m.mu.Unlock()
		if again {
			m.start()
		}
	}()
	return p, ended
}

// dumpStacks lets every process that decides or works say where it stands, and end: a
// job that is stuck is stuck in one of them.
func (c *cluster) dumpStacks() {
	for _, m := range c.members {
		if m.role != roleHandler && m.role != roleGPU {
			continue
		}
		m.mu.Lock()
		p, ended := m.p, m.ended
		m.mu.Unlock()
		before := len(p.printed())
		m.signal(syscall.SIGQUIT)
		<-ended
		c.t.Logf("%s stood here:\n%s", m.name, p.printed()[before:])
	}
}

// spawn starts the program. The cluster, not the test's cleaning up, ends it: that
// would kill processes one by one, and each would be started again.
func (c *cluster) spawn(env []string, args ...string) *childProgram {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	p := &childProgram{cmd: exec.Command(self, args...)}
	p.cmd.Env = append([]string{asProgram + "=1", "PATH=" + os.Getenv("PATH"), "HOME=" + c.dir, "TMPDIR=" + c.dir}, env...)
	p.cmd.Stdout, p.cmd.Stderr = p, p
	if err := p.cmd.Start(); err != nil {
		panic(err) // this very binary runs already
	}
	return p
}

func (m *member) signal(s syscall.Signal) *childProgram {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.p.cmd.Process.Signal(s) //nolint:errcheck // it may have ended by itself at this moment
	return m.p
}

// kill ends the process as a crash would; after the pause it starts again.
func (m *member) kill(pause time.Duration) {
	m.mu.Lock()
	m.kills++
	m.pause = pause
	m.mu.Unlock()
	m.signal(syscall.SIGKILL)
}

// freeze stops the process for a while: longer than its session and its leases.
func (m *member) freeze(d time.Duration) {
	p := m.signal(syscall.SIGSTOP)
	<-time.After(d)
	p.cmd.Process.Signal(syscall.SIGCONT) //nolint:errcheck // as above
}

// zombie freezes the process, lets another take its name, and wakes it: it has to
// notice that it is no longer wanted, and end.
func (m *member) zombie(d time.Duration) error {
	old := m.signal(syscall.SIGSTOP)
	m.mu.Lock()
	ended := m.ended
	m.mu.Unlock()
	m.start()
	<-time.After(d)
	old.cmd.Process.Signal(syscall.SIGCONT) //nolint:errcheck // as above
	select {
	case <-ended:
		return nil
	case <-time.After(time.Minute):
		old.cmd.Process.Kill() //nolint:errcheck // as above
		return fmt.Errorf("a zombie of %s goes on beside its successor", m.name)
	}
}

// stop ends everything, the services last.
func (c *cluster) stop() {
	var wait sync.WaitGroup
	for _, m := range c.members {
		wait.Go(func() {
			m.mu.Lock()
			m.stopping = true
			ended, p := m.ended, m.p
			m.mu.Unlock()
			defer func() {
				if c.t.Failed() {
					out := p.printed()
					c.t.Logf("%s printed:\n%s", m.name, out[max(0, len(out)-9000):])
				}
			}()
			m.signal(syscall.SIGCONT)
			m.signal(syscall.SIGTERM)
			select {
			case <-ended:
			case <-time.After(20 * time.Second):
				c.t.Errorf("%s does not end", m.name)
				m.signal(syscall.SIGKILL)
			}
		})
	}
	wait.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var faults []error
	for i := len(c.stops) - 1; i >= 0; i-- {
		faults = append(faults, c.stops[i](ctx))
	}
	if err := errors.Join(faults...); err != nil {
		c.t.Errorf("the services did not end cleanly: %v", err)
	}
}

// system is the cluster as the other tests' helpers know it.
func (c *cluster) system() *system {
	return &system{t: c.t, cfg: c.cfg, url: c.apis[0], services: &devServices{logger: slog.New(slog.DiscardHandler)}}
}
