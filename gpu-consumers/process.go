// Running a child process: the one place of this package that starts programs.

package gpu

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/myspinbot/myspinbot/events"
)

const (
	stopGrace     = 3 * time.Second // between SIGTERM and SIGKILL
	outputLimit   = 4 << 20         // bytes of a child's standard output kept
	logTailLines  = 20
	logTailBytes  = 4 << 10
	logLineLimit  = 1 << 10
	childTimeout  = 30 * time.Minute // for a child whose caller sets no limit
	childMemory   = 8 << 30          // bytes that each process of a child may fill, unless its caller says otherwise
	childFile     = 16 << 30         // bytes of a file that it may write
	childPathless = "/usr/local/bin:/usr/bin:/bin"
)

// inheritedEnv are the only variables that a child gets from us: programs that
// read user files must not see our secrets.
var inheritedEnv = []string{"PATH", "TZ", "CUDA_VISIBLE_DEVICES"}

// child is one program to run. Arguments are handed over as they are: no shell
// ever reads them.
type child struct {
	name    string // what messages call it, e.g. "ffmpeg"
	path    string // absolute, or to be found on PATH
	args    []string
	dir     string // working directory, home and temporary folder; made by the caller, absolute
	install string // hint for people who lack the program
	timeout time.Duration
	// feed writes the child's standard input, which is closed afterwards; nil
	// gives an empty one. A child that stops reading is not feed's fault.
	feed func(io.Writer) error
	// lines gets each line of standard output as it comes; with nil the output
	// is collected and returned.
	lines func(string)
	// inherit names more variables that the child gets from us, and home and
	// temporary folder among them replace its own.
	inherit []string
	env     []string // NAME=value, beside what it inherits
	log     *logTail // gets standard error; nil: it is kept for errors alone
	// idle is the longest silence on both outputs; 0: any.
	idle time.Duration
	// memory and file are bytes that each of the child's processes may fill, and that a
	// file of its may have; 0: the usual, below 0: any.
	memory, file int64
}

// hostMemoryWords are how programs say that they were given no more memory.
var hostMemoryWords = []string{"cannot allocate memory", "can't allocate memory", "memory exhausted", "memoryerror"}

// errSilent ends a child that says nothing for longer than it may.
var errSilent = errors.New("nothing was heard of it")

// run starts the child, waits for it and returns its standard output. When ctx
// ends, the child's whole group gets SIGTERM and after 3 s SIGKILL; nothing of
// it is left when run returns. Errors are *TaskError of class timeout,
// stalled (silent for longer than idle), engine_unavailable (no such program), oom
// (killed by someone else) or engine_rejected (non-zero exit, or more output than
// there may be), with the end of standard error; a cancelled ctx gives an error that
// wraps ctx.Err().
func (c child) run(ctx context.Context) ([]byte, error) {
	path, err := c.find()
	if err != nil {
		return nil, err
	}
	limit := c.timeout
	if limit <= 0 {
		limit = childTimeout
	}
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	limited, silence := context.WithCancelCause(limited)
	defer silence(nil)
	bounds := limits{usually(c.memory, childMemory), usually(c.file, childFile)}
	path, args := bounds.command(path, c.args)
	cmd := exec.CommandContext(limited, path, args...)
	cmd.Dir, cmd.Env = c.dir, c.environment()
	cmd.SysProcAttr = childAttributes()
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = stopGrace
	log := c.log
	if log == nil {
		log = new(logTail)
	}
	var out capture
	cmd.Stderr = log
	cmd.Stdout = &out
	if c.lines != nil {
		cmd.Stdout = &lineWriter{to: c.lines}
	}
	if c.idle > 0 {
		watch := time.AfterFunc(c.idle, func() { silence(errSilent) })
		defer watch.Stop()
		heard := func() { watch.Reset(c.idle) }
		cmd.Stdout, cmd.Stderr = heeded{cmd.Stdout, heard}, heeded{cmd.Stderr, heard}
	}
	fed := make(chan error, 1)
	if c.feed == nil {
		fed <- nil
	} else if err := c.startFeeding(cmd, fed); err != nil {
		return nil, err
	}
	err = startAndWait(cmd, bounds)
	// The caller's ctx ends a feed that computes; the pipe's end stops one that writes.
	if feedErr := <-fed; err == nil && feedErr != nil {
		return nil, feedErr
	}
	return out.buf.Bytes(), c.explain(ctx, limited, err, log, out.cut)
}

// find resolves the program's path.
func (c child) find() (string, error) {
	path, err := exec.LookPath(c.path)
	if err == nil {
		return filepath.Abs(path)
	}
	return "", &TaskError{
		Class: events.ClassEngineUnavailable, Message: fmt.Sprintf("the program %s is not installed here", c.name),
		Hint: c.install, Err: err,
	}
}

// startFeeding prepares the child's standard input. The feeding goroutine ends
// when feed does, at the latest when the pipe is closed with the child.
func (c child) startFeeding(cmd *exec.Cmd, fed chan<- error) error {
	in, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("cannot prepare the input of %s: %w", c.name, err)
	}
	go func() {
		err := c.feed(in)
		if closeErr := in.Close(); err == nil {
			err = closeErr
		}
		// The child tells by its exit whether it minded the end of its input.
		if errors.Is(err, syscall.EPIPE) || errors.Is(err, fs.ErrClosed) {
			err = nil
		}
		fed <- err
	}()
	return nil
}

func usually(given, usual int64) int64 {
	if given == 0 {
		return usual
	}
	return given
}

// startAndWait keeps the thread for as long as the child lives, because Linux
// ties the parent-death signal to the thread that started the child
// (golang.org/issue/27505).
func startAndWait(cmd *exec.Cmd, bounds limits) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		return err
	}
	limitErr := bounds.set(cmd.Process.Pid) // what it starts inherits them
	if limitErr != nil {
		_ = cmd.Cancel()
	}
	err := cmd.Wait()
	if err == nil {
		err = limitErr
	}
	// Grandchildren that outlived the leader share its group.
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	return err
}

// explain turns the end of a child into the error that its caller reports.
func (c child) explain(ctx, limited context.Context, err error, log *logTail, cut bool) error {
	switch {
	case err == nil && !cut:
		return nil
	case err == nil:
		return &TaskError{Class: events.ClassEngineRejected, LogTail: log.String(),
			Message: fmt.Sprintf("%s printed more than %d bytes, which it never should", c.name, outputLimit)}
	case errors.Is(ctx.Err(), context.Canceled):
		return fmt.Errorf("%s was stopped: %w", c.name, ctx.Err())
	case errors.Is(context.Cause(limited), errSilent):
		return &TaskError{Class: events.ClassStalled, Message: fmt.Sprintf("nothing was heard of %s for %v, and it was stopped", c.name, c.idle),
			Hint: "the end of its log says where it hung; raise its idle time if it is only slow", LogTail: log.String(), Err: errSilent}
	case limited.Err() != nil:
		return &TaskError{Class: events.ClassTimeout, Message: c.name + " did not finish in time and was stopped",
			Hint: "use a shorter script or a smaller resolution, or raise the stage's time limit", LogTail: log.String(), Err: limited.Err()}
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) && !errors.Is(err, exec.ErrWaitDelay) {
		return &TaskError{Class: events.ClassEngineUnavailable, Message: c.name + " could not be started", Hint: c.install, LogTail: log.String(), Err: err}
	}
	status, _ := waitStatus(exit)
	switch {
	case status.Signaled() && status.Signal() == syscall.SIGXFSZ:
		return &TaskError{Class: events.ClassEngineRejected, Message: fmt.Sprintf("%s wrote a file of more than %d GiB, which it never should", c.name, usually(c.file, childFile)>>30),
			Hint: "the end of its log says why", LogTail: log.String(), Err: err}
	case status.Signaled() && status.Signal() == syscall.SIGKILL:
		return &TaskError{Class: events.ClassOOM, Message: c.name + " was killed from outside, most likely because memory ran out",
			Hint: "use a smaller resolution, or give the worker more memory", LogTail: log.String(), Err: err}
	}
	if tail := strings.ToLower(log.String()); slices.ContainsFunc(hostMemoryWords, func(w string) bool { return strings.Contains(tail, w) }) {
		return &TaskError{Class: events.ClassOOM, Message: c.name + " ran out of memory", Hint: "use a smaller resolution, or give the worker more memory", LogTail: log.String(), Err: err}
	}
	return &TaskError{Class: events.ClassEngineRejected, Message: c.name + " failed", Hint: "the end of its log says why", LogTail: log.String(), Err: err}
}

func waitStatus(exit *exec.ExitError) (syscall.WaitStatus, bool) {
	if exit == nil {
		return 0, false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	return status, ok
}

func (c child) environment() []string {
	env := append([]string{"LC_ALL=C.UTF-8", "HOME=" + c.dir, "TMPDIR=" + c.dir}, c.env...)
	for _, name := range slices.Concat(inheritedEnv, c.inherit) {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		} else if name == "PATH" {
			env = append(env, "PATH="+childPathless)
		}
	}
	return env
}

// capture keeps the first outputLimit bytes and swallows the rest, so that the
// child is never blocked by us.
type capture struct {
	buf bytes.Buffer
	cut bool
}

func (w *capture) Write(b []byte) (int, error) {
	room := outputLimit - w.buf.Len()
	if len(b) > room {
		w.cut = true
	}
	w.buf.Write(b[:min(len(b), max(0, room))])
	return len(b), nil
}

// heeded tells of every write.
type heeded struct {
	io.Writer
	heard func()
}

func (h heeded) Write(b []byte) (int, error) {
	h.heard()
	return h.Writer.Write(b)
}

// lineWriter cuts a stream into lines, each of at most logLineLimit bytes.
type lineWriter struct {
	partial []byte
	to      func(string)
}

func (w *lineWriter) Write(b []byte) (int, error) {
	for _, ch := range b {
		switch {
		case ch == '\n' || ch == '\r': // progress bars end their lines with a carriage return
			if len(w.partial) > 0 {
				w.to(string(w.partial))
			}
			w.partial = w.partial[:0]
		case len(w.partial) < logLineLimit:
			w.partial = append(w.partial, ch)
		}
	}
	return len(b), nil
}

// logTail keeps the last lines of a child's log.
type logTail struct {
	heard func(line string) // gets each line as it comes; may be nil

	mu    sync.Mutex
	lines []string
	split *lineWriter
}

// line takes a line of another stream.
func (t *logTail) line(line string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.keep(line)
}

func (t *logTail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.split == nil {
		t.split = &lineWriter{to: t.keep}
	}
	return t.split.Write(b)
}

func (t *logTail) keep(line string) {
	if t.heard != nil {
		t.heard(line)
	}
	t.lines = append(t.lines, line)
	if over := len(t.lines) - logTailLines; over > 0 {
		t.lines = append(t.lines[:0], t.lines[over:]...)
	}
}

// String is the last 20 lines, cut to their last 4 KiB, as valid UTF-8.
func (t *logTail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := t.lines
	if t.split != nil && len(t.split.partial) > 0 {
		lines = append(lines[max(0, len(lines)-logTailLines+1):len(lines):len(lines)], string(t.split.partial))
	}
	text := strings.Join(lines, "\n")
	return strings.ToValidUTF8(text[max(0, len(text)-logTailBytes):], "�")
}
