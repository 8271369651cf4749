// Tests of starting, watching and ending child processes.

package devstack

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func shell(script string) command {
	return command{name: "the script", path: "/bin/sh", args: []string{"-c", script}, stop: syscall.SIGTERM, grace: 30 * time.Second}
}

func TestAFailedChildShowsItsLastLines(t *testing.T) {
	t.Parallel()
	err := run(within(t, time.Minute), shell(`i=1; while [ $i -le 30 ]; do echo "line $i."; i=$((i+1)); done; printf 'half a line'; exit 3`))
	mustContain(t, err, "the script ended", "exit status 3", "line 12.", "line 30.", "half a line")
	if strings.Contains(err.Error(), "line 11.") {
		t.Errorf("more than %d lines are kept: %v", tailLines, err)
	}
}

func TestATailPassesEverythingOnAndShortensLongLines(t *testing.T) {
	t.Parallel()
	var all strings.Builder
	tail := newTail(&all)
	long := strings.Repeat("x", 2*tailWidth)
	for _, part := range []string{"one\ntw", "o\n", long, long + "\n", "three"} {
		fmt.Fprint(tail, part)
	}
	tail.flush()
	if want := "one\ntwo\n" + long + long + "\nthree"; all.String() != want {
		t.Errorf("passed on %d bytes, want %d", all.Len(), len(want))
	}
	if want := "; its last lines:\n  one\n  two\n  " + long[:tailWidth] + "\n  three"; tail.String() != want {
		t.Errorf("kept %q", tail.String())
	}
}

func TestShutdownIsCleanWhenTheChildObeys(t *testing.T) {
	t.Parallel()
	out, up := io.Pipe()
	c := shell(`trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done`)
	c.log = up
	p, err := start(c)
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	if _, err := lines.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, lines) }()
	if err := p.shutdown(within(t, time.Minute)); err != nil {
		t.Fatal(err)
	}
	if !p.tail.contains("bye") {
		t.Errorf("the child was not asked to end%s", p.tail)
	}
	if err := p.shutdown(within(t, time.Minute)); err != nil {
		t.Errorf("a second shutdown: %v", err)
	}
}

func TestShutdownKillsAChildThatDoesNotObey(t *testing.T) {
	t.Parallel()
	out, up := io.Pipe()
	c := shell(`trap '' TERM; echo up; exec sleep 600`)
	c.log, c.grace = up, 50*time.Millisecond
	p, err := start(c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	mustContain(t, p.shutdown(within(t, time.Minute)), "the script was killed", "did not end within 50ms")
	if alive(p.cmd.Process.Pid) {
		t.Error("it still runs")
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := run(ctx, shell(`exec sleep 600`)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestAwaitTellsWhyAServerIsNotReady(t *testing.T) {
	t.Parallel()
	no := func(context.Context) error { return errors.New("not yet") }
	for name, c := range map[string]struct {
		script string
		within time.Duration
		want   []string
	}{
		"it failed":        {`echo broken; exit 2`, time.Minute, []string{"exit status 2", "broken"}},
		"it ended":         {`echo done`, time.Minute, []string{"ended before it was ready", "done"}},
		"it takes forever": {`exec sleep 600`, 100 * time.Millisecond, []string{"is not ready", "not yet"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, err := start(shell(c.script))
			if err != nil {
				t.Fatal(err)
			}
			defer p.kill()
			mustContain(t, p.await(within(t, time.Minute), c.within, no), c.want...)
		})
	}
}

func TestAMissingProgramIsAnError(t *testing.T) {
	t.Parallel()
	_, err := start(command{name: "PostgreSQL", path: "/nowhere/postgres"})
	mustContain(t, err, "cannot start PostgreSQL", "/nowhere/postgres")
}

// TestChildrenEndWithAKilledParent kills a parent with SIGKILL, which it cannot react to. Its
// children must end by themselves, cleanly: nothing that they acknowledged may be lost.
func TestChildrenEndWithAKilledParent(t *testing.T) {
	t.Parallel()
	if _, err := HelperBin(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	ctx := within(t, 3*time.Minute)
	parent := exec.CommandContext(ctx, os.Args[0])
	parent.Env = append(os.Environ(), parentVariable+"="+dir)
	var log strings.Builder
	parent.Stderr, parent.WaitDelay = &log, 30*time.Second
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	var f family
	if err := json.NewDecoder(out).Decode(&f); err != nil {
		_ = parent.Process.Kill()
		_ = parent.Wait()
		t.Fatalf("the parent did not start its children: %v\n%s", err, log.String())
	}
	createTopic(t, ctx, f.Kafka, "kept")
	if err := produce(ctx, f.Kafka, "kept", "before the end"); err != nil {
		t.Fatal(err)
	}
	if !alive(f.PostgresPid) || !alive(f.HelperPid) {
		t.Fatal("a child is gone before its parent was killed")
	}

	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait() // its status is that of the signal
	eventually(t, 30*time.Second, func() error {
		if alive(f.PostgresPid) || alive(f.HelperPid) {
			return fmt.Errorf("still running: PostgreSQL %t, helper %t", alive(f.PostgresPid), alive(f.HelperPid))
		}
		return nil
	})

	// PostgreSQL removes this file at a clean end alone.
	if _, err := os.Stat(filepath.Join(dir, "postgres", "data", "postmaster.pid")); !os.IsNotExist(err) {
		t.Errorf("PostgreSQL did not end cleanly: postmaster.pid: %v", err)
	}
	helper, err := StartHelper(ctx, Helper{Dir: filepath.Join(dir, "helper"), NoS3: true})
	if err != nil {
		t.Fatal(err)
	}
	stopAtEnd(t, helper)
	if got := consume(t, ctx, helper.Kafka(), "kept", 1); got[0] != "before the end" {
		t.Errorf("read %q", got)
	}
}
