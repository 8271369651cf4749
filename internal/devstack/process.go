// Package devstack starts the servers that MySpinBot talks to as child processes of one
// machine: PostgreSQL, a real Apache Kafka and the helper binary myspinbot-devstack (a log and
// an S3 store). `myspinbot dev` and the integration tests use it; a role in production never
// does. What belongs here: finding the binaries, starting, waiting until ready, stopping and
// killing. What may not: any client library (the package stands on the standard library), any
// downloading (deploy/deps/install.sh does that), topics, tables or buckets.
//
// Promises. A child ends with its parent, even when the parent is killed with SIGKILL (Linux).
// It listens on 127.0.0.1 alone. Stop and Start keep its address and its data. It is signalled
// through its own process handle only, never by name or by group.
package devstack

// This file holds the one way in which a child process is started, watched and ended.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// command says what to run and how to end it.
type command struct {
	name   string   // what people call it, at the start of error sentences
	path   string   // absolute path of the executable
	args   []string // without argv[0]
	dir    string
	env    []string            // nil: the environment of this process
	cred   *syscall.Credential // nil: the user of this process
	stop   syscall.Signal      // asks for a clean end; also sent by the kernel when the parent dies
	grace  time.Duration       // from that signal to SIGKILL
	log    io.Writer           // gets every line of stderr (and of stdout, unless stdout is set); nil: nobody
	stdout io.Writer
}

// process is one started child. It is over once ended is closed.
type process struct {
	command
	cmd   *exec.Cmd
	tail  *tail
	ended chan struct{}

	mu      sync.Mutex
	waitErr error // set before ended is closed
	asked   bool  // stop or kill was called, so that an end is no fault
}

// pipeDelay is how long a dead child's output pipe may be held open by children of its own.
const pipeDelay = 2 * time.Second

// start runs c and returns as soon as the child exists. The context of the caller does not end
// the child: stop and kill do, and the end of this process does.
func start(c command) (*process, error) {
	p := &process{command: c, tail: newTail(c.log), ended: make(chan struct{})}
	p.cmd = exec.Command(c.path, c.args...)
	p.cmd.Dir, p.cmd.Env = c.dir, c.env
	p.cmd.SysProcAttr = attributes(c.cred, c.stop)
	p.cmd.Stderr, p.cmd.Stdout = p.tail, p.tail
	if c.stdout != nil {
		p.cmd.Stdout = c.stdout
	}
	p.cmd.WaitDelay = pipeDelay

	started := make(chan error, 1)
	go func() {
		// Linux sends the parent-death signal when the thread that forked ends, not when the
		// process does (prctl(2), PR_SET_PDEATHSIG). So the thread is kept until the child is
		// gone, and never unlocked.
		runtime.LockOSThread()
		err := p.cmd.Start()
		started <- err
		if err != nil {
			return
		}
		err = p.cmd.Wait()
		p.tail.flush()
		p.mu.Lock()
		p.waitErr = err
		p.mu.Unlock()
		close(p.ended)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("cannot start %s: %w", c.name, err)
	}
	return p, nil
}

// run runs c to its end, for tools that do one thing. It ends the tool when ctx does.
func run(ctx context.Context, c command) error {
	p, err := start(c)
	if err != nil {
		return err
	}
	select {
	case <-p.ended:
		return p.err()
	case <-ctx.Done():
		p.kill()
		return fmt.Errorf("cannot wait for %s: %w", c.name, ctx.Err())
	}
}

// signal sends s; a child that has already ended is no error.
func (p *process) signal(s os.Signal) error {
	p.mu.Lock()
	p.asked = true
	p.mu.Unlock()
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("cannot signal %s: %w", p.name, err)
	}
	return nil
}

// shutdown asks for a clean end and returns when the child is gone. After the grace time, or when
// ctx ends, it sends SIGKILL and says so.
func (p *process) shutdown(ctx context.Context) error {
	if err := p.signal(p.stop); err != nil {
		return err
	}
	late := time.NewTimer(p.grace)
	defer late.Stop()
	var why error
	select {
	case <-p.ended:
		return nil
	case <-late.C:
		why = fmt.Errorf("it did not end within %s", p.grace)
	case <-ctx.Done():
		why = ctx.Err()
	}
	p.kill()
	return fmt.Errorf("%s was killed: %w%s", p.name, why, p.tail)
}

// kill ends the child with SIGKILL and returns when it is gone.
func (p *process) kill() {
	// The only possible failure is a child that already ended: it is ours, and SIGKILL needs
	// nothing of it.
	_ = p.signal(syscall.SIGKILL)
	<-p.ended
}

// err is nil while the child runs, after a clean exit and after an end that was asked for; else
// it tells how the child ended, with its last lines.
func (p *process) err() error {
	select {
	case <-p.ended:
	default:
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waitErr == nil || p.asked {
		return nil
	}
	return fmt.Errorf("%s ended: %w%s", p.name, p.waitErr, p.tail)
}

// pollEvery is the pause between two questions whether a child is ready.
const pollEvery = 20 * time.Millisecond

// await asks probe until it answers nil. It gives up when the child ends, when ctx ends, or after
// within. A probe's context ends with the child too, so that a connection that hangs (to whoever
// holds the child's port) is no reason to wait.
func (p *process) await(ctx context.Context, within time.Duration, probe func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	asking, stopAsking := context.WithCancel(ctx)
	defer stopAsking()
	go func() {
		select {
		case <-p.ended:
			stopAsking()
		case <-asking.Done():
		}
	}()

	again := time.NewTicker(pollEvery)
	defer again.Stop()
	last := errors.New("it has not been asked yet")
	for {
		one, done := context.WithTimeout(asking, 2*time.Second)
		err := probe(one)
		done()
		if err == nil {
			return nil
		}
		if asking.Err() == nil {
			last = err
		}
		select {
		case <-p.ended:
			if err := p.err(); err != nil {
				return err
			}
			return fmt.Errorf("%s ended before it was ready%s", p.name, p.tail)
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w (last answer: %w)%s", p.name, ctx.Err(), last, p.tail)
		case <-again.C:
		}
	}
}
