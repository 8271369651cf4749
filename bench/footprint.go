package main

// This file measures what the API process costs by itself: memory at rest, size of the program,
// and the time from its start until it can serve, against a real Apache Kafka, PostgreSQL and S3
// store that run already.

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/myspinbot/myspinbot/internal/devstack"
)

const (
	restFor    = 10 * time.Second // after ready, without a request, before the memory is read
	readyEvery = 2 * time.Millisecond
	readyLimit = time.Minute
)

func measureFootprint(ctx context.Context, s setting) (found []Result, err error) {
	program := filepath.Join(s.root, "bin", "myspinbot")
	info, err := os.Stat(program)
	if err != nil {
		return nil, fmt.Errorf("cannot find the program; run `make build`: %w", err)
	}
	services := &services{}
	defer func() { err = errors.Join(err, services.stop()) }()
	if err := services.start(ctx, s.dir); err != nil {
		return nil, err
	}
	// The first start makes topics, bucket and tables, which a system that runs has already.
	if _, err := services.oneStart(ctx, program, "api,projector", 0); err != nil {
		return nil, err
	}
	var ready, memory []float64
	for i := range s.rounds {
		r, err := services.oneStart(ctx, program, "api", restFor)
		if err != nil {
			return nil, err
		}
		ready, memory = append(ready, r.ready.Seconds()), append(memory, float64(r.resident)/1e6)
		fmt.Fprintf(s.progress, "  round %d: ready after %.0f ms, %.1f MB at rest\n", i+1, r.ready.Seconds()*1000, float64(r.resident)/1e6)
	}
	return []Result{
		newResult("footprint.memory", "MB", memory),
		newResult("footprint.binary", "MB", []float64{float64(info.Size()) / 1e6}),
		newResult("footprint.start", "s", ready),
	}, nil
}

// services are what the API needs, as children of this process.
type services struct {
	env      []string // of the program
	dir      string   // where the program runs, so that it finds no configuration by chance
	broker   string   // address of the log
	postgres string   // URL of the tables, and of the peer's
	stops    []func(context.Context) error
}

func (s *services) start(ctx context.Context, dir string) error {
	s.dir = dir
	helper, err := devstack.StartHelper(ctx, devstack.Helper{Dir: filepath.Join(dir, "objects"), NoLog: true})
	if err != nil {
		return err
	}
	s.stops = append(s.stops, helper.Stop)
	broker, err := devstack.StartKafka(ctx, devstack.Kafka{Dir: filepath.Join(dir, "kafka"), Measured: true})
	if err != nil {
		return err
	}
	s.stops = append(s.stops, broker.Stop)
	postgres, err := devstack.StartPostgres(ctx, devstack.Postgres{Dir: filepath.Join(dir, "postgres")})
	if err != nil {
		return err
	}
	s.stops = append(s.stops, postgres.Stop)
	s.broker, s.postgres = broker.Addr(), postgres.URL()
	var key [32]byte
	if _, err := rand.Read(key[:]); err != nil {
		return fmt.Errorf("cannot draw a master key: %w", err)
	}
	s.env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + dir,
		"MYSPINBOT_KAFKA_BROKERS=" + s.broker, "MYSPINBOT_POSTGRES_URL=" + s.postgres,
		"MYSPINBOT_S3_ENDPOINT=" + strings.TrimPrefix(helper.S3(), "http://"), "MYSPINBOT_S3_ACCESS_KEY=" + helper.AccessKey, "MYSPINBOT_S3_SECRET_KEY=" + helper.SecretKey,
		"MYSPINBOT_SECRETS_MASTER_KEY=" + base64.StdEncoding.EncodeToString(key[:]),
	}
	return nil
}

// stop stops the services, the last first.
func (s *services) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var faults []error
	for i := len(s.stops) - 1; i >= 0; i-- {
		faults = append(faults, s.stops[i](ctx))
	}
	return errors.Join(faults...)
}

// startRound is what one start of the program took.
type startRound struct {
	ready    time.Duration // from its start until /ready names log, tables and objects as ok
	resident int64         // bytes of memory at rest
}

// oneStart runs the program with the roles until it is ready and has rested, and ends it.
func (s *services) oneStart(ctx context.Context, program, roles string, rest time.Duration) (r startRound, err error) {
	r.ready, err = s.whileReady(ctx, program, roles, func(p running) (err error) {
		if err = wait(ctx, rest, p.ended); err == nil {
			r.resident, err = residentBytes(p.pid)
		}
		return err
	})
	return r, err
}

// running is the program while it is ready.
type running struct {
	addr  string // of its API
	pid   int
	ended <-chan struct{} // closed when it has ended by itself
}

// whileReady runs the program with the roles, and use once it is ready, which took as long as it says.
func (s *services) whileReady(ctx context.Context, program, roles string, use func(running) error) (ready time.Duration, err error) {
	addr, err := freeAddr()
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var said bytes.Buffer // read only after the program has ended
	cmd := exec.CommandContext(ctx, program, "run", "--roles", roles)
	cmd.Env, cmd.Dir, cmd.Stderr = append(s.env, "MYSPINBOT_HTTP_LISTEN="+addr), s.dir, &said
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 30 * time.Second
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("cannot start %s: %w", program, err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // what matters is below: whether it became ready
	}()
	err = awaitReady(ctx, addr, ended)
	ready = time.Since(began)
	if err == nil {
		err = use(running{addr, cmd.Process.Pid, ended})
	}
	cancel()
	<-ended
	if err != nil {
		return 0, fmt.Errorf("%w; its last words: %s", err, said.Bytes()[max(0, said.Len()-1000):])
	}
	return ready, nil
}

// awaitReady asks until the program can serve.
func awaitReady(ctx context.Context, addr string, ended <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	for {
		last, ok := askReady(ctx, "http://"+addr+"/ready")
		if ok {
			return nil
		}
		if err := wait(ctx, readyEvery, ended); err != nil {
			return fmt.Errorf("the program did not become ready: %w: %s", err, last)
		}
	}
}

// askReady tells whether log, tables and objects are ok, and what the answer was otherwise. No
// workers need run: the API serves without them.
func askReady(ctx context.Context, url string) (answer string, ok bool) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err.Error(), false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err.Error(), false
	}
	defer resp.Body.Close()
	var body struct {
		Dependencies map[string]string `json:"dependencies"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&body); err != nil {
		return err.Error(), false
	}
	d := body.Dependencies
	return fmt.Sprint(d), resp.StatusCode == http.StatusOK && d["log"] == "ok" && d["tables"] == "ok" && d["objects"] == "ok"
}

// wait waits for a time, unless the context or the program ends first.
func wait(ctx context.Context, d time.Duration, ended <-chan struct{}) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-ended:
		return errors.New("it ended by itself")
	}
}

// residentBytes is the memory of a process that is in RAM, program text included.
func residentBytes(pid int) (int64, error) { return memoryBytes(pid, "VmRSS") }

// peakBytes is the most that residentBytes has ever been.
func peakBytes(pid int) (int64, error) { return memoryBytes(pid, "VmHWM") }

func memoryBytes(pid int, line string) (int64, error) {
	return parseMemory(fileText(fmt.Sprintf("/proc/%d/status", pid)), line)
}

func parseMemory(status, line string) (int64, error) {
	m := regexp.MustCompile(`(?m)^` + line + `:\s*(\d+) kB$`).FindStringSubmatch(status)
	if m == nil {
		return 0, fmt.Errorf("cannot tell the program's memory: this system has no /proc/PID/status with %s; measure on Linux", line)
	}
	kib, err := strconv.ParseInt(m[1], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("cannot tell the program's memory: %w", err)
	}
	return kib * 1024, nil
}

// freeAddr is an address on which nobody listens at the moment.
func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("cannot find a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().String(), nil
}
