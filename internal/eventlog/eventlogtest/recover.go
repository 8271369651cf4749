// How the transaction runner recovers what it is assigned.

package eventlogtest

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// together is an echo whose recoveries wait for one another, and that nothing else may
// be asked of meanwhile.
type together struct {
	*echo
	running atomic.Int32
	begun   atomic.Int32
	both    chan struct{} // closed when a second recovery has begun
	fails   error         // of the second, if any
}

func (d *together) Recover(ctx context.Context, p int32, meta string) error {
	d.running.Add(1)
	defer d.running.Add(-1)
	if d.begun.Add(1) == 2 {
		close(d.both)
		if d.fails != nil {
			return d.fails
		}
	}
	select {
	case <-d.both:
	case <-within(d.t).Done():
		d.t.Errorf("the recovery of partition %d runs alone", p)
	}
	if d.fails != nil {
		<-ctx.Done()
		return ctx.Err()
	}
	return d.echo.Recover(ctx, p, meta)
}

func (d *together) alone(call string) {
	if n := d.running.Load(); n != 0 {
		d.t.Errorf("%s is called beside %d recoveries", call, n)
	}
}

func (d *together) Decide(ctx context.Context, in eventlog.Record) ([]eventlog.Record, error) {
	d.alone("Decide")
	return d.echo.Decide(ctx, in)
}

func (d *together) Committed(p int32, out []eventlog.Record) {
	d.alone("Committed")
	d.echo.Committed(p, out)
}

func (d *together) Drop(p int32) {
	d.alone("Drop")
	d.echo.Drop(p)
}

func runnerRecoversSideBySide(t *testing.T, cfg eventlog.Config) {
	l := Open(t, cfg)
	submit(t, l, 0, 30)
	d := &together{echo: newEcho(t, l), both: make(chan struct{})}
	stop := start(newRunner(t, l, d).Run)
	awaitAnswers(t, l, 30)
	if err := stop(); err != nil {
		t.Fatalf("the runner ended with %v", err)
	}
	if n := d.partitions(); n != 0 {
		t.Errorf("%d partitions are held after the end", n)
	}

	// One that fails ends the others, and the runner.
	broken := errors.New("it is broken")
	d = &together{echo: newEcho(t, l), both: make(chan struct{}), fails: broken}
	if err := newRunner(t, l, d).Run(within(t)); !errors.Is(err, broken) || !strings.Contains(err.Error(), "cannot recover partition") {
		t.Errorf("the runner ended with %v", err)
	}
}
