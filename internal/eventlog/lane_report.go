// What came of accepted commands, on its way to the log: in the transaction that
// accepts the next commands, or by itself where nothing is to be accepted.

package eventlog

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// reportPause lies between two tries to write a report.
	reportPause = 200 * time.Millisecond
	// smallReport is the most bytes that a report may have to ride along: a record that
	// the broker refuses must not take a transaction with it.
	smallReport = 64 << 10
)

// report is what a command's run has returned. Until it is written the command keeps
// its slot, so that no more reports wait than the lane has slots.
type report struct {
	lane    *lane
	cmd     Record
	attempt string
	records []Record
	sent    []*kgo.Record // the same, for a transaction
	written chan struct{}
}

// fits makes the report ready for a transaction, if it can be.
func (r *report) fits() bool {
	size := 0
	for _, rec := range r.records {
		size += len(rec.Value)
		k, err := r.lane.all.log.outgoing(rec, &r.cmd)
		if err != nil || size > smallReport {
			return false
		}
		r.sent = append(r.sent, k)
	}
	return true
}

// publish writes what a run has returned, and returns when it is written or given up.
// It calls queued when the report has nothing to do any more but to wait.
func (s *Lanes) publish(r *report, queued func()) {
	if len(r.records) == 0 {
		queued()
		return
	}
	fits := r.fits()
	s.mu.Lock()
	rides := fits && s.accepting
	if rides {
		s.reports = append(s.reports, r)
		r.lane.setEnding(r.cmd.Partition, true)
	}
	s.mu.Unlock()
	queued()
	if !rides {
		s.write(r)
		return
	}
	s.waker.wake()
	<-r.written
}

// burst is what one transaction has started.
type burst struct {
	running atomic.Int64
	over    chan struct{} // closed when none of it runs any more
}

func (b *burst) ended() {
	if b != nil && b.running.Add(-1) == 0 {
		close(b.over)
	}
}

// quick is how long the lanes wait for what they have just started before they accept
// again: the reports of quick commands then go together, and so do the next commands.
// Otherwise the first to end makes a transaction for itself alone.
const quick = time.Millisecond

func (b *burst) await() {
	t := time.NewTimer(quick)
	defer t.Stop()
	select {
	case <-b.over:
	case <-t.C:
	}
}

// riders are the records of reports that go with a transaction.
func riders(reports []*report) (out []*kgo.Record) {
	for _, r := range reports {
		out = append(out, r.sent...)
	}
	return out
}

// takeReports takes those that wait for the session.
func (s *Lanes) takeReports() []*report {
	s.mu.Lock()
	defer s.mu.Unlock()
	taken := s.reports
	s.reports = nil
	return taken
}

// writeAside writes reports outside of any transaction, without waiting for it.
func (s *Lanes) writeAside(reports []*report) {
	byLane := make(map[*lane][]*report)
	for _, r := range reports {
		r.lane.setEnding(r.cmd.Partition, false)
		byLane[r.lane] = append(byLane[r.lane], r)
	}
	for _, some := range byLane {
		go func() {
			s.write(some...)
			for _, r := range some {
				close(r.written)
			}
		}()
	}
}

// write writes reports of one lane until it succeeds, so that a worker without a broker
// reports later; once the lane has ended it tries a last time.
func (s *Lanes) write(reports ...*report) {
	var records []Record
	for _, r := range reports {
		records = append(records, r.records...)
	}
	ctx := reports[0].lane.ctx
	for {
		last := ctx.Err() != nil
		err := s.log.Produce(context.WithoutCancel(ctx), records...)
		switch {
		case err == nil:
			return
		case !errors.Is(err, ErrUnavailable) && len(reports) > 1: // one of them spoils the others
			for _, r := range reports {
				s.write(r)
			}
			return
		case last || !errors.Is(err, ErrUnavailable):
			s.log.cfg.Logger.Error("what came of a command cannot be reported", "at", reports[0].cmd.At().String(), "offset", reports[0].cmd.Offset, "error", err)
			return
		}
		_ = wait(ctx, reportPause) // cut short for the last try
	}
}

// setEnding notes whether the partition's command waits for nothing but the next
// transaction: then that one may accept the partition's next command too.
func (n *lane) setEnding(p int32, ending bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if ending {
		n.ending[p] = true
	} else {
		delete(n.ending, p)
	}
}

// over notes that the partition's command has ended and is reported. The next one may
// have begun by then.
func (n *lane) over(p int32, attempt string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.busy[p] == attempt {
		delete(n.busy, p)
		delete(n.ending, p)
		n.ended[p] = attempt
	}
}
