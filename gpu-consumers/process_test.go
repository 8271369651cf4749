// What children may do, and that nothing of them stays behind.

package gpu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/myspinbot/myspinbot/events"
)

// shellChild is a child that runs a fixed shell script: tests alone use a shell.
func shellChild(t *testing.T, body string) child {
	t.Helper()
	return child{name: "script", path: "/bin/sh", args: []string{"-c", body}, dir: t.TempDir(), install: "install a shell"}
}

// wantTaskError requires err to be a *TaskError of the class.
func wantTaskError(t *testing.T, err error, class string) TaskError {
	t.Helper()
	var te *TaskError
	if !errors.As(err, &te) {
		t.Fatalf("got error %v, want a *TaskError of class %s", err, class)
	}
	if te.Class != class {
		t.Fatalf("got class %s (%v), want %s", te.Class, err, class)
	}
	return *te
}

func TestChildOutputInputAndEnvironment(t *testing.T) {
	t.Setenv("MYSPINBOT_SECRET", "canary")
	c := shellChild(t, `cat; env; pwd`)
	c.feed = func(w io.Writer) error { _, err := io.WriteString(w, "fed\n"); return err }
	out, err := c.run(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	text := string(out)
	if !strings.HasPrefix(text, "fed\n") || !strings.Contains(text, "HOME="+c.dir+"\n") || !strings.HasSuffix(text, c.dir+"\n") {
		t.Errorf("the child printed %q", text)
	}
	if strings.Contains(text, "canary") {
		t.Error("a secret of the parent's environment reached the child")
	}
}

func TestChildFailuresHaveClassesAndLogTail(t *testing.T) {
	t.Parallel()
	c := shellChild(t, `i=0; while [ $i -lt 50 ]; do echo "line $i" >&2; i=$((i+1)); done; printf 'the end' >&2; exit 3`)
	_, err := c.run(context.Background())
	te := wantTaskError(t, err, events.ClassEngineRejected)
	lines := strings.Split(te.LogTail, "\n")
	if len(lines) != logTailLines || lines[0] != "line 31" || lines[len(lines)-1] != "the end" {
		t.Errorf("log tail has %d lines: %q", len(lines), te.LogTail)
	}

	c = child{name: "nosuch", path: "myspinbot-no-such-program", dir: t.TempDir(), install: "apt-get install nosuch"}
	_, err = c.run(context.Background())
	if te = wantTaskError(t, err, events.ClassEngineUnavailable); te.Hint != "apt-get install nosuch" {
		t.Errorf("hint %q", te.Hint)
	}

	c = shellChild(t, `kill -KILL $$`)
	_, err = c.run(context.Background())
	wantTaskError(t, err, events.ClassOOM)

	c = shellChild(t, `exec sleep 60`)
	c.timeout = 50 * time.Millisecond
	_, err = c.run(context.Background())
	wantTaskError(t, err, events.ClassTimeout)

	c = shellChild(t, `head -c 5000000 /dev/zero`)
	_, err = c.run(context.Background())
	wantTaskError(t, err, events.ClassEngineRejected)

	c = shellChild(t, `exit 0`)
	c.feed = func(io.Writer) error { return io.ErrUnexpectedEOF }
	if _, err = c.run(context.Background()); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a failing feed gave %v", err)
	}
}

// TestChildrenAreBounded has each limit reached by a child of the child.
func TestChildrenAreBounded(t *testing.T) {
	t.Parallel()
	c := shellChild(t, `sh -c 'head -c 3000000 /dev/zero > big'; exit 0`)
	c.file = 1 << 20
	if _, err := c.run(context.Background()); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(filepath.Join(c.dir, "big")); err != nil || info.Size() > 1<<20 {
		t.Errorf("the file is %v, %v", info, err)
	}
	c = shellChild(t, `exec head -c 3000000 /dev/zero > big`)
	c.file = 1 << 20
	_, err := c.run(context.Background())
	wantTaskError(t, err, events.ClassEngineRejected)

	c = shellChild(t, `exec tail -c 60000000`) // keeps as much of what it reads
	c.lines = func(string) {}
	c.feed = func(w io.Writer) error { _, err := w.Write(make([]byte, 60_000_000)); return err }
	if _, err := c.run(context.Background()); err != nil {
		t.Fatal(err)
	}
	c.memory = 32 << 20
	_, err = c.run(context.Background())
	if te := wantTaskError(t, err, events.ClassOOM); !strings.Contains(te.LogTail, "memory exhausted") {
		t.Errorf("log %q", te.LogTail)
	}

	c = shellChild(t, `ulimit -c; ulimit -d; ulimit -f`)
	c.memory, c.file = -1, -1
	out, err := c.run(context.Background())
	if err != nil || !strings.HasPrefix(string(out), "0\n") {
		t.Errorf("limits %q, error %v", out, err)
	}

	// Where the program for it is not installed.
	late := exec.Command("sleep", "60")
	if err := late.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = late.Process.Kill(), late.Wait() })
	if err := (limits{123 << 20, 1 << 20}).set(late.Process.Pid); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", late.Process.Pid)); err != nil || !strings.Contains(string(text), "128974848") || !strings.Contains(string(text), "1048576") {
		t.Errorf("limits %s, error %v", text, err)
	}
}

// TestASilentChildIsStopped has one that talks for longer than its silence may last, and
// one that falls silent.
func TestASilentChildIsStopped(t *testing.T) {
	t.Parallel()
	c := shellChild(t, `for i in 1 2 3 4 5 6 7 8; do echo $i >&2; sleep 0.25; done; echo well`)
	c.idle = 2 * time.Second
	if out, err := c.run(context.Background()); err != nil || string(out) != "well\n" {
		t.Errorf("a child that talks: %q, %v", out, err)
	}
	c = shellChild(t, `echo hello >&2; exec sleep 60`)
	c.idle = 100 * time.Millisecond
	_, err := c.run(context.Background())
	if te := wantTaskError(t, err, events.ClassStalled); te.LogTail != "hello" || te.Hint == "" {
		t.Errorf("log %q, hint %q", te.LogTail, te.Hint)
	}
}

func TestChildLinesAreCutAtBothEndings(t *testing.T) {
	t.Parallel()
	var got []string
	c := shellChild(t, `printf 'a=1\nb=2\r\rc=3\n'`)
	c.lines = func(s string) { got = append(got, s) }
	if _, err := c.run(context.Background()); err != nil {
		t.Fatal(err)
	}
	if strings.Join(got, "|") != "a=1|b=2|c=3" {
		t.Errorf("lines %q", got)
	}
}

// TestCancelLeavesNoProcess has a child that ignores SIGTERM in spirit: its
// grandchild lives in the same group and would go on for a minute.
func TestCancelLeavesNoProcess(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{
		"obeys SIGTERM":   `sleep 60 & echo $! > pids; echo $$ >> pids; touch ready; wait`,
		"ignores SIGTERM": `trap '' TERM; sleep 60 & echo $! > pids; echo $$ >> pids; touch ready; wait; wait`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := shellChild(t, body)
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			done := make(chan error, 1)
			go func() { _, err := c.run(ctx); done <- err }()
			pollUntil(t, 10*time.Second, func() bool { _, err := os.Stat(filepath.Join(c.dir, "ready")); return err == nil })
			cancel()
			select {
			case err := <-done:
				if !errors.Is(err, context.Canceled) {
					t.Fatalf("got %v, want an error that wraps context.Canceled", err)
				}
			case <-time.After(stopGrace + 10*time.Second):
				t.Fatal("run did not return after the cancel")
			}
			pids, err := os.ReadFile(filepath.Join(c.dir, "pids"))
			if err != nil {
				t.Fatal(err)
			}
			for _, field := range strings.Fields(string(pids)) {
				pid, err := strconv.Atoi(field)
				if err != nil {
					t.Fatal(err)
				}
				pollUntil(t, 5*time.Second, func() bool { return gone(pid) })
			}
		})
	}
}

// gone says whether a process has ended; a zombie that only its new parent can
// reap has.
func gone(pid int) bool {
	if err := syscall.Kill(pid, 0); errors.Is(err, syscall.ESRCH) {
		return true
	}
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return errors.Is(err, os.ErrNotExist)
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	return strings.HasPrefix(after, "Z")
}

// pollUntil polls until the condition holds or the deadline passes.
func pollUntil(t *testing.T, limit time.Duration, holds func() bool) {
	t.Helper()
	deadline := time.After(limit)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-deadline:
			t.Fatalf("the condition did not hold within %s", limit)
		case <-tick.C:
		}
	}
}
