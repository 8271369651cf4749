// Tests of what all servers have in common.

package devstack

import (
	"context"
	"net"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

func TestAChosenPortIsReserved(t *testing.T) {
	t.Parallel()
	var s server
	port, err := s.freePort()
	if err != nil {
		t.Fatal(err)
	}
	if port < lowestPort || port >= highestPort {
		t.Errorf("port %d is outside %d-%d", port, lowestPort, highestPort)
	}
	l, err := net.Listen("tcp", localAddr(port))
	if err != nil {
		t.Fatalf("the server itself cannot listen there: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if mark, err := net.ListenPacket("udp", localAddr(port)); err == nil {
		_ = mark.Close()
		t.Errorf("port %d carries no mark", port)
	}
	if len(s.reserved) != 1 {
		t.Errorf("%d reservations, want 1", len(s.reserved))
	}
}

func TestWaitTellsAFaultFromAStop(t *testing.T) {
	t.Parallel()
	ready := func(context.Context) error { return nil }
	var script atomic.Value
	script.Store(`exec sleep 600`)
	s := &server{within: time.Minute, probe: ready, begin: func() (*process, error) { return start(shell(script.Load().(string))) }}
	ctx := within(t, time.Minute)
	if err := s.Start(ctx); err != nil {
		t.Fatal(err)
	}
	mustContain(t, s.Start(ctx), "already running")
	s.Kill()
	if err := s.Wait(ctx); err != nil {
		t.Errorf("after Kill: %v", err)
	}
	script.Store(`read line; echo lost; exit 7`)
	if err := s.Start(ctx); err != nil {
		// The script reads nothing and ends at once; await may notice that first.
		mustContain(t, err, "exit status 7", "lost")
		return
	}
	mustContain(t, s.Wait(ctx), "exit status 7", "lost")
}

func TestAPortTakenInBetweenIsReplaced(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	bin, err := PostgresBin()
	if err != nil {
		t.Fatal(err)
	}
	c := Postgres{Dir: filepath.Join(t.TempDir(), "pg"), BinDir: bin}
	cred, err := c.prepare()
	if err != nil {
		t.Fatal(err)
	}
	ctx := within(t, 2*time.Minute)
	if err := c.initdb(ctx, cred); err != nil {
		t.Fatal(err)
	}
	var ports []int
	last := func() int { return ports[len(ports)-1] }
	s := &server{within: time.Minute,
		begin: func() (*process, error) { return start(c.server(last(), cred)) },
		probe: func(ctx context.Context) error { return postgresReady(ctx, localAddr(last()), postgresUser) },
	}
	stopAtEnd(t, s)
	err = s.startOnFreePort(ctx, func() error {
		port := taken.Addr().(*net.TCPAddr).Port
		if len(ports) > 0 {
			if port, err = s.freePort(); err != nil {
				return err
			}
		}
		ports = append(ports, port)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(ports) != 2 {
		t.Errorf("tried the ports %v, want two tries", ports)
	}
}
