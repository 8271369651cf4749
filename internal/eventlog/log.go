// The handle on the log: opening, producing, readiness.

package eventlog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Errors that callers tell apart.
var (
	// ErrUnavailable: the broker did not answer in time. Of a write it is not known
	// whether it happened: ask for a retry with the same idempotency key.
	ErrUnavailable = errors.New("the log is unavailable")
	// ErrFenced: another process runs under this one's name. The process must exit;
	// trying again would throw the other one out.
	ErrFenced = errors.New("another process has taken this one's place in its group")
	// ErrDataLoss: records that should lie at a position are gone.
	ErrDataLoss = errors.New("records are missing from the log")
	// ErrUndecodable marks an input that can never be handled: wrap it, and the
	// record goes to the dead letters with the error's text as its reason.
	ErrUndecodable = errors.New("undecodable")
)

// Log is an open connection to the log, safe for concurrent use.
type Log struct {
	cfg     Config
	specs   map[string]topicSpec
	cl      *kgo.Client // produces, and asks the broker for what is not fetching
	admin   *kadm.Client
	dialer  *dialer
	metrics *metrics
}

// Open checks the configuration and makes the handle. It does not dial, so that
// a process starts, and says that it is not ready, without a broker.
func Open(cfg Config) (*Log, error) {
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	l := &Log{cfg: cfg, specs: topicSpecs(cfg), dialer: newDialer(cfg.Dial), metrics: newMetrics()}
	cl, err := l.client()
	if err != nil {
		return nil, fmt.Errorf("cannot open the log: %w", err)
	}
	l.cl, l.admin = cl, kadm.NewClient(cl)
	return l, nil
}

// Close lets go of the connections. Runners, lanes and readers end by their own means.
func (l *Log) Close() { l.cl.Close() }

// Ping says whether a broker answers.
func (l *Log) Ping(ctx context.Context) error {
	if err := l.cl.Ping(ctx); err != nil {
		return unavailable(err)
	}
	return nil
}

// Produce writes records, acknowledged by all replicas, and returns when all are
// written. It answers within the configured time-out even where the client is
// stuck; the error then is ErrUnavailable and records may still land. Records of
// one call are no transaction: an error may leave some of them written.
func (l *Log) Produce(ctx context.Context, records ...Record) error {
	out := make([]*kgo.Record, len(records))
	for i, r := range records {
		var err error
		if out[i], err = l.outgoing(r, nil); err != nil {
			return err
		}
	}
	late := time.NewTimer(l.cfg.ProduceTimeout)
	defer late.Stop()
	results := make(chan error, len(out))
	for _, r := range out {
		// Not under the caller's context: the client fails what waits behind a cancelled
		// record of the same partition. The delivery time-out bounds it as well.
		l.cl.TryProduce(context.Background(), r, func(_ *kgo.Record, err error) { results <- err })
	}
	var failed error
	for range out {
		select {
		case err := <-results:
			failed = cmp.Or(failed, err)
		// A blocked produce does not heed its context once a request is on its way.
		case <-ctx.Done():
			return l.unheard(len(out))
		case <-late.C:
			return l.unheard(len(out))
		}
	}
	if failed != nil {
		l.metrics.produced.WithLabelValues("failed").Add(float64(len(out)))
		return fmt.Errorf("cannot write to %s: %w", records[0].Topic, unavailable(failed))
	}
	l.metrics.produced.WithLabelValues("ok").Add(float64(len(out)))
	return nil
}

// unheard is what is known of records that nobody has acknowledged in time.
func (l *Log) unheard(records int) error {
	l.metrics.produced.WithLabelValues("unavailable").Add(float64(records))
	return fmt.Errorf("%w: no acknowledgement within %v; the records may or may not be written", ErrUnavailable, l.cfg.ProduceTimeout)
}

// Range is what a partition holds.
type Range struct {
	Start  int64 // the oldest offset kept
	Stable int64 // readers of committed records see everything before it
	End    int64 // the next offset to be written; beyond Stable lie open transactions
}

// Ranges reads what every partition of the topics holds now. End is read before
// Stable: when Stable has reached End, nothing that was open at the call still is.
func (l *Log) Ranges(ctx context.Context, topics ...string) (map[TopicPartition]Range, error) {
	out := make(map[TopicPartition]Range)
	names := l.names(topics)
	lists := []struct {
		list func(context.Context, ...string) (kadm.ListedOffsets, error)
		set  func(*Range, int64)
	}{
		{l.admin.ListStartOffsets, func(r *Range, o int64) { r.Start = o }},
		{l.admin.ListEndOffsets, func(r *Range, o int64) { r.End = o }},
		{l.admin.ListCommittedOffsets, func(r *Range, o int64) { r.Stable = o }},
	}
	for _, step := range lists {
		listed, err := step.list(ctx, names...)
		if err == nil {
			err = listed.Error()
		}
		if err != nil {
			return nil, fmt.Errorf("cannot read the ends of %v: %w", topics, unavailable(err))
		}
		listed.Each(func(o kadm.ListedOffset) {
			tp := TopicPartition{o.Topic[len(l.cfg.Prefix):], o.Partition}
			r := out[tp]
			step.set(&r, o.Offset)
			out[tp] = r
		})
	}
	return out, nil
}

// unavailable marks the errors that say nothing about the request itself.
func unavailable(err error) error {
	var network net.Error
	switch {
	case err == nil, errors.Is(err, ErrUnavailable):
		return err
	case kerr.IsRetriable(err), kgo.IsRetryableBrokerErr(err), errors.As(err, &network), errors.Is(err, context.DeadlineExceeded),
		errors.Is(err, kgo.ErrRecordTimeout), errors.Is(err, kgo.ErrRecordRetries), errors.Is(err, kgo.ErrMaxBuffered),
		errors.Is(err, net.ErrClosed), errors.Is(err, kgo.ErrClientClosed):
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return err
}

// fenced tells whether the broker has given our name to somebody else.
func fenced(err error) bool {
	return errors.Is(err, kerr.FencedInstanceID) || errors.Is(err, kerr.ProducerFenced) || errors.Is(err, kerr.InvalidProducerEpoch)
}

// wait sleeps for d, or until ctx ends, whose error it then returns.
func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
