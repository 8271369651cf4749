// What PostgreSQL, Kafka and the helper have in common: a server that can be stopped, killed and
// started again on the same address and data.

package devstack

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"time"
)

// server is one child that comes and goes. Its methods may be called from several goroutines;
// one change (start, stop, kill) happens at a time.
type server struct {
	begin  func() (*process, error)    // starts the child anew, always at the same address
	probe  func(context.Context) error // answers nil when it is ready for work
	within time.Duration               // the longest start

	reserved []net.PacketConn // see freePort

	mu   sync.Mutex
	proc *process
}

// Start starts the server again after Stop or Kill, at the same address and with the same data,
// and returns when it is ready. ctx bounds the start, not the life of the server.
func (s *server) Start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running() {
		return fmt.Errorf("%s is already running: stop it first", s.proc.name)
	}
	p, err := s.begin()
	if err != nil {
		return err
	}
	s.proc = p
	if err := p.await(ctx, s.within, s.probe); err != nil {
		p.kill()
		return err
	}
	return nil
}

// Stop ends the server cleanly and returns when it is gone. If that takes too long, or ctx ends
// first, it is killed and the error says so. Stopping a server that is not running does nothing.
func (s *server) Stop(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.running() {
		return nil
	}
	return s.proc.shutdown(ctx)
}

// Kill ends the server with SIGKILL, as a crash would, and returns when it is gone.
func (s *server) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running() {
		s.proc.kill()
	}
}

// Restart stops the server cleanly if it runs, and starts it.
func (s *server) Restart(ctx context.Context) error {
	if err := s.Stop(ctx); err != nil {
		return err
	}
	return s.Start(ctx)
}

// Wait returns when the running process has ended or ctx has: nil after Stop or Kill, an error
// with the last lines of its output when it ended by itself.
func (s *server) Wait(ctx context.Context) error {
	s.mu.Lock()
	p := s.proc
	s.mu.Unlock()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-p.ended:
	}
	p.mu.Lock()
	asked := p.asked
	p.mu.Unlock()
	if asked {
		return nil
	}
	if err := p.err(); err != nil {
		return err
	}
	return fmt.Errorf("%s ended by itself%s", p.name, p.tail)
}

// Pid is the process id of the child last started.
func (s *server) Pid() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.proc.cmd.Process.Pid
}

func (s *server) running() bool {
	if s.proc == nil {
		return false
	}
	select {
	case <-s.proc.ended:
		return false
	default:
		return true
	}
}

// lostPort reports whether the child ended because somebody else took its port between our
// choosing it and its binding it.
func (s *server) lostPort() bool {
	return !s.running() && s.proc != nil && s.proc.tail.contains("ddress already in use")
}

// startOnFreePort calls Start, and again with other ports when one was taken in between.
func (s *server) startOnFreePort(ctx context.Context, choose func() error) error {
	for attempt := 1; ; attempt++ {
		if err := choose(); err != nil {
			return err
		}
		err := s.Start(ctx)
		if err == nil || attempt == 3 || !s.lostPort() {
			return err
		}
	}
}

// Ports are chosen below the range that Linux gives to outgoing connections (32768-60999): in
// that range a stopped server's port can be taken by any client before the server is back.
const (
	lowestPort  = 20000
	highestPort = 32000
)

// freePort returns a port of 127.0.0.1 on which nobody listens at the moment, and reserves it for
// this server against every other program that chooses its ports here: two servers of parallel
// tests must never take each other for themselves. The mark of a reservation is the UDP port of
// the same number, held as long as the server is reachable or until this process ends.
func (s *server) freePort() (int, error) {
	for range 200 {
		port := lowestPort + rand.IntN(highestPort-lowestPort)
		mark, err := net.ListenPacket("udp", localAddr(port))
		if err != nil {
			continue
		}
		l, err := net.Listen("tcp", localAddr(port))
		if err == nil {
			err = l.Close()
		}
		if err != nil {
			_ = mark.Close() // nothing was sent over it
			continue
		}
		s.reserved = append(s.reserved, mark)
		return port, nil
	}
	return 0, fmt.Errorf("cannot find a free port on 127.0.0.1 between %d and %d", lowestPort, highestPort)
}

func localAddr(port int) string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}
