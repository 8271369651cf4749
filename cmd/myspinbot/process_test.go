// The program as real processes: one per role, and dev's end by a signal.

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/myspinbot/myspinbot/internal/devstack"
)

// asProgram makes the test binary behave as the program itself.
const asProgram = "MYSPINBOT_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// childProgram is a running process of ours.
type childProgram struct {
	cmd *exec.Cmd
	mu  sync.Mutex
	out bytes.Buffer
}

func (p *childProgram) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.Write(b)
}

func (p *childProgram) printed() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

// startProgram runs myspinbot with args; env is added to an otherwise bare environment.
func startProgram(t *testing.T, env []string, args ...string) *childProgram {
	t.Helper()
	return programIn(t, "", env, args...)
}

// programIn is startProgram in another working directory.
func programIn(t *testing.T, dir string, env []string, args ...string) *childProgram {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &childProgram{cmd: exec.Command(self, args...)}
	p.cmd.Env = append([]string{asProgram + "=1", "PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "TMPDIR=" + os.TempDir()}, env...)
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = dir, p, p
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if p.cmd.ProcessState == nil {
			p.cmd.Process.Kill() //nolint:errcheck // it may have ended
			p.cmd.Wait()         //nolint:errcheck // killed
		}
		if t.Failed() {
			out := p.printed()
			t.Logf("%v printed:\n%s", args, out[max(0, len(out)-3000):])
		}
	})
	return p
}

// terminate asks for the end, which must come within 10 s with status 0.
func (p *childProgram) terminate(t *testing.T) {
	t.Helper()
	began := time.Now()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- p.cmd.Wait() }()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("%v ended with %v\n%s", p.cmd.Args[1:], err, p.printed())
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("%v took %v to end", p.cmd.Args[1:], took)
		}
	case <-time.After(20 * time.Second):
		t.Fatalf("%v does not end", p.cmd.Args[1:])
	}
}

var readyLine = regexp.MustCompile(`http://127\.0\.0\.1:\d+`)

// startServices starts a broker, PostgreSQL and a store, and gives the environment of
// programs that use them.
func startServices(t *testing.T) (*system, []string) {
	t.Helper()
	cfg, _, err := loadConfig([]string{"--kafka-partitions", "3"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	services := &devServices{dir: t.TempDir(), logger: slog.New(slog.DiscardHandler)}
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	t.Cleanup(cancel)
	t.Cleanup(func() {
		if err := services.stop(); err != nil {
			t.Error(err)
		}
	})
	if err := services.start(ctx, &cfg); err != nil {
		t.Fatal(err)
	}
	return &system{t: t, cfg: cfg, services: services}, []string{
		"MYSPINBOT_KAFKA_BROKERS=" + cfg.Kafka.Brokers[0], "MYSPINBOT_KAFKA_PARTITIONS=3", "MYSPINBOT_POSTGRES_URL=" + cfg.Postgres.URL.Reveal(),
		"MYSPINBOT_S3_ENDPOINT=" + cfg.S3.Endpoint, "MYSPINBOT_S3_ACCESS_KEY=" + cfg.S3.AccessKey.Reveal(), "MYSPINBOT_S3_SECRET_KEY=" + cfg.S3.SecretKey.Reveal(),
		"MYSPINBOT_SECRETS_MASTER_KEY=" + cfg.Secrets.MasterKey.Reveal(),
	}
}

// servedBy waits until the program has printed where its API listens.
func (s *system) servedBy(api *childProgram) {
	s.t.Helper()
	s.eventually(time.Minute, "the API's address", func() error {
		if s.url = readyLine.FindString(api.printed()); s.url == "" {
			return errors.New("not printed")
		}
		return nil
	})
}

// One process per role, on services of their own: the same job as in one process.
func TestEachRoleAlone(t *testing.T) {
	t.Parallel()
	s, env := startServices(t)
	weights, err := devstack.FaceWeights()
	if err != nil {
		t.Fatal(err)
	}
	env = append(env, "MYSPINBOT_ENGINES_FACE_WEIGHTS="+weights)
	role := func(instance string, args ...string) *childProgram {
		return startProgram(t, append(env, "MYSPINBOT_INSTANCE="+instance), append([]string{"run"}, args...)...)
	}
	api := role("api", "--roles", "api", "--http-listen", "127.0.0.1:0")
	gpu2 := func() *childProgram {
		return role("gpu-2", "--roles", "gpu", "--lanes", "lipsync,render,train,upscale")
	}
	handler := role("handler", "--roles", "handler", "--ops-listen", "127.0.0.1:0")
	all := []*childProgram{
		api, handler, role("projector", "--roles", "projector,notifier"),
		role("gpu-1", "--roles", "gpu", "--lanes", "script,tts,media"), gpu2(),
	}
	s.servedBy(api)
	s.ready()
	if status, printed := s.submit("--portrait", portraitFile, "--text", "Five processes made this.", "--variant", "sadtalker", "--out", t.TempDir()); status != 0 {
		t.Fatalf("status %d\n%s", status, printed)
	}
	s.caughtUp("succeeded")
	s.explained()
	ops := &system{t: t, url: readyLine.FindString(handler.printed())}
	if code, body := ops.get("/metrics"); code != http.StatusOK || !bytes.Contains(body, []byte(`myspinbot_jobs_total{outcome="succeeded",variant="sadtalker"} 1`)) {
		t.Errorf("the handler's metrics: %d %s", code, body)
	}
	t.Run("a killed worker", func(t *testing.T) { s.survivesAKill(t, all[4], func() { all[4] = gpu2() }) })
	for _, p := range all {
		p.terminate(t)
	}
}

// survivesAKill kills the lip-sync's worker in the middle and starts it again: the
// job goes on at once and not when the stage's half hour has passed.
func (s *system) survivesAKill(t *testing.T, worker *childProgram, again func()) {
	if status, printed := s.submit("--portrait", portraitFile, "--text", "You can stop me, but I start again. You can stop me, but I start again.", "--variant", "sadtalker", "--no-wait"); status != 0 {
		t.Fatalf("status %d\n%s", status, printed)
	}
	s.eventually(time.Minute, "the lip-sync runs", func() error {
		for _, stage := range s.newestJobWhole().Stages {
			if stage.ID == "lipsync" && stage.Status == "running" {
				return nil
			}
		}
		return errors.New("not yet")
	})
	if err := worker.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	worker.cmd.Wait() //nolint:errcheck // killed
	again()
	s.eventually(2*time.Minute, "the job ends well", func() error {
		if got := s.newestJob()["status"]; got != "succeeded" {
			return fmt.Errorf("it is %v", got)
		}
		return nil
	})
	s.explained()
}

// A signal ends dev with everything that it started, and the next start finds
// what the last one left.
func TestDevEndsCleanly(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	job := ""
	for range 2 {
		leftover := filepath.Join(data, "work", "of a killed process")
		if err := errors.Join(os.MkdirAll(filepath.Dir(leftover), 0o700), os.WriteFile(leftover, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
		p := startProgram(t, nil, "dev", "--data", data, "--http-listen", "127.0.0.1:0", "--kafka-partitions", "3")
		s := &system{t: t}
		s.eventually(2*time.Minute, "dev says where it is", func() error {
			if !strings.Contains(p.printed(), "Ctrl-C stops everything") {
				return errors.New("not yet")
			}
			return nil
		})
		s.url = readyLine.FindString(p.printed())
		s.ready()
		if job == "" {
			if status, printed := s.submit("--portrait", portraitFile, "--text", "Here today, here tomorrow.", "--variant", "sadtalker", "--out", t.TempDir()); status != 0 {
				t.Fatalf("status %d\n%s", status, printed)
			}
			s.caughtUp("succeeded")
			job = fmt.Sprint(s.newestJob()["id"])
		} else if got := fmt.Sprint(s.newestJob()["id"]); got != job {
			t.Errorf("after the restart the newest job is %s, was %s", got, job)
		}
		if _, err := os.Stat(leftover); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the work folder was not emptied: %v", err)
		}
		children := childrenOf(t, p.cmd.Process.Pid)
		if len(children) < 2 {
			t.Errorf("children of dev: %v; the services should be among them", children)
		}
		p.terminate(t)
		for _, pid := range children {
			if err := syscall.Kill(pid, 0); err == nil {
				t.Errorf("process %d outlived dev", pid)
			}
		}
	}
}

// The demo as a newcomer runs it, from an empty folder: both videos are what users
// are promised, the events are counted, and nothing is left running.
func TestDemo(t *testing.T) {
	t.Parallel()
	portrait, err := filepath.Abs(portraitFile)
	if err != nil {
		t.Fatal(err)
	}
	weights, err := devstack.FaceWeights()
	if err != nil {
		t.Fatal(err)
	}
	helper, err := devstack.HelperBin()
	if err != nil {
		t.Fatal(err)
	}
	const script = "Hello there. This little video was made from one photograph, on this computer."
	dir := t.TempDir()
	p := programIn(t, dir, []string{"PORTRAIT=" + portrait, "TEXT=" + script, "MYSPINBOT_ENGINES_FACE_WEIGHTS=" + weights, "MYSPINBOT_DEVSTACK_BIN=" + helper},
		"demo", "--kafka-partitions", "3")
	ended := make(chan error, 1)
	go func() { ended <- p.cmd.Wait() }()
	select {
	case err := <-ended:
		if err != nil {
			t.Fatalf("demo ended with %v\n%s", err, p.printed())
		}
	case <-time.After(5 * time.Minute):
		t.Fatalf("demo does not end:\n%s", p.printed())
	}
	if !regexp.MustCompile(`\n[1-9]\d+ events on the log`).MatchString(p.printed()) {
		t.Errorf("the events are not counted:\n%s", p.printed())
	}
	for _, variant := range []string{"sadtalker", "svd_wav2lip"} {
		checkTalkingVideo(t, onlyVideo(t, filepath.Join(dir, "demo-output", variant)), script)
	}
}

// childrenOf lists the children of a process.
func childrenOf(t *testing.T, pid int) []int {
	t.Helper()
	out, err := exec.Command("ps", "-o", "pid=", "--ppid", fmt.Sprint(pid)).Output()
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, f := range strings.Fields(string(out)) {
		var n int
		if _, err := fmt.Sscan(f, &n); err == nil {
			pids = append(pids, n)
		}
	}
	return pids
}
