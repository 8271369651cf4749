// The settings of the log and the one factory of clients.

package eventlog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/myspinbot/myspinbot/events"
)

// Config is how to reach and use the log. Open fills the defaults.
type Config struct {
	Brokers           []string       // seed addresses, host:port; at least one
	Prefix            string         // before every topic, group and transactional id; default "myspinbot."
	Partitions        int            // P, the partitions of jobs.*, profiles.*, gpu.events …; default 12; never changes in place
	LanePartitions    map[string]int // a lane's bound: how many of its commands run at once in the cluster; default 2
	ReplicationFactor int            // of created topics; default -1, the broker's own
	Instance          string         // this process among its peers, stable over restarts; default "local"

	ProduceTimeout     time.Duration // until Produce answers ErrUnavailable; default 3 s
	SessionTimeout     time.Duration // silence after which a group gives a member's partitions away; default 10 s
	TransactionTimeout time.Duration // after which the broker aborts an open transaction; default 20 s

	BrokerVersion string       // newest protocol to speak, such as "3.8"; empty: whatever the broker offers
	Logger        *slog.Logger // default slog.Default
	// Dial connects to a broker; default TCP with a time-out of 5 s.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

func (c *Config) fill() error {
	def(&c.Prefix, "myspinbot.")
	def(&c.Partitions, 12)
	def(&c.ReplicationFactor, -1)
	def(&c.Instance, "local")
	def(&c.ProduceTimeout, 3*time.Second)
	def(&c.SessionTimeout, 10*time.Second)
	def(&c.TransactionTimeout, 20*time.Second)
	def(&c.Logger, slog.Default())

	var faults []error
	if len(c.Brokers) == 0 {
		faults = append(faults, errors.New("brokers: none given; name at least one host:port"))
	}
	if strings.ContainsAny(c.Instance, " \t\n/") {
		faults = append(faults, fmt.Errorf("instance: %q; no spaces and no slashes", c.Instance))
	}
	if c.Partitions < 1 {
		faults = append(faults, fmt.Errorf("partitions: %d; at least 1", c.Partitions))
	}
	lanes := make(map[string]int)
	for _, lane := range events.Lanes() {
		lanes[lane] = 2
	}
	for lane, n := range c.LanePartitions {
		if lanes[lane] == 0 {
			faults = append(faults, fmt.Errorf("lane partitions: no lane is called %q; lanes are %v", lane, events.Lanes()))
		}
		if n < 1 {
			faults = append(faults, fmt.Errorf("lane partitions: %d for %q; at least 1", n, lane))
		}
		lanes[lane] = n
	}
	c.LanePartitions = lanes
	if c.BrokerVersion != "" && kversion.FromString(c.BrokerVersion) == nil {
		faults = append(faults, fmt.Errorf("broker version: %q is not known; use a form such as 3.8", c.BrokerVersion))
	}
	if err := errors.Join(faults...); err != nil {
		return fmt.Errorf("cannot use the log's configuration: %w", err)
	}
	return nil
}

func def[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// client makes every client of the program. The settings below hold for all;
// more adds a role's own.
func (l *Log) client(more ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(l.options(more...)...)
}

func (l *Log) options(more ...kgo.Opt) []kgo.Opt {
	opts := []kgo.Opt{
		kgo.SeedBrokers(l.cfg.Brokers...),
		kgo.ClientID("myspinbot-" + l.cfg.Instance),
		kgo.WithLogger(kgoLogger{l.cfg.Logger}),
		kgo.DisableClientMetrics(),
		// Without it the first record to a new topic waits up to 5 s for metadata.
		kgo.MetadataMinAge(50 * time.Millisecond),
		// The default of 20 ms gates back-to-back transactions of one id: the broker needs
		// about a millisecond to write down that the last one is over.
		kgo.ConcurrentTransactionsBackoff(250 * time.Microsecond),

		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.RecordPartitioner(kgo.BasicConsistentPartitioner(l.partitioner)),
		// Records batch by themselves while a request is under way. Waiting for more, the
		// default's 10 ms, costs a job that much in each of its steps and gains nothing
		// (BenchmarkProduce).
		kgo.ProducerLinger(0),
		kgo.ProducerBatchCompression(kgo.Lz4Compression(), kgo.NoCompression()),
		// kgo retries for ever by default; nothing here does.
		kgo.RecordDeliveryTimeout(max(l.cfg.ProduceTimeout, time.Second)),
		kgo.RetryTimeout(max(l.cfg.SessionTimeout, 5*time.Second)),
		kgo.Dialer(l.dialer.dial),

		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		// Markers show where topics end. And a client that drops one forgets its epoch: it
		// takes the marker of a later leader for a loss once the leader moves again
		// (franz-go 1.22.2). Who reads records leaves them out.
		kgo.KeepControlRecords(),
		kgo.FetchMaxPartitionBytes(4 << 20),
		// A partition that joins while a fetch is under way waits for its end.
		kgo.FetchMaxWait(500 * time.Millisecond),
		// A bare NoResetOffset starts at the end (franz-go 1.22.2). This one starts at
		// the start without a position and reports an impossible position as an error.
		kgo.ConsumeResetOffset(kgo.NoResetOffset().AtStart()),
	}
	if v := l.cfg.BrokerVersion; v != "" {
		opts = append(opts, kgo.MaxVersions(kversion.FromString(v)))
	}
	return append(opts, more...)
}

// dialPause lies between a failed dial and the next to the same address. The client
// has none of its own where AddPartitionsToTxn meets a broker that refuses
// connections, and would spin there (franz-go 1.22.2).
const dialPause = 100 * time.Millisecond

// dialer connects, at a bounded rate where it fails.
type dialer struct {
	connect func(ctx context.Context, network, address string) (net.Conn, error)

	mu     sync.Mutex
	failed map[string]time.Time // by address, when last
}

func newDialer(connect func(ctx context.Context, network, address string) (net.Conn, error)) *dialer {
	if connect == nil {
		connect = (&net.Dialer{Timeout: 5 * time.Second}).DialContext
	}
	return &dialer{connect: connect, failed: make(map[string]time.Time)}
}

func (d *dialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	d.mu.Lock()
	pause := dialPause - time.Since(d.failed[address])
	d.mu.Unlock()
	if pause > 0 {
		if err := wait(ctx, pause); err != nil {
			return nil, err
		}
	}
	conn, err := d.connect(ctx, network, address)
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil {
		d.failed[address] = time.Now()
	} else {
		delete(d.failed, address)
	}
	return conn, err
}

// member is what the transactional members of a group share: classic protocol,
// static membership, range assignment (so that topics with the same number of
// partitions are co-partitioned). The client itself requires stable offsets.
func (l *Log) member(group, instance string, topics []string) []kgo.Opt {
	return []kgo.Opt{
		kgo.ConsumerGroup(l.cfg.Prefix + group),
		kgo.InstanceID(instance),
		kgo.ConsumeTopics(l.names(topics)...),
		kgo.Balancers(kgo.RangeBalancer()),
		kgo.SessionTimeout(l.cfg.SessionTimeout),
		kgo.HeartbeatInterval(max(l.cfg.SessionTimeout/10, 50*time.Millisecond)),
		kgo.DisableAutoCommit(),
		kgo.TransactionalID(l.transactionalID(group, instance)),
		kgo.TransactionTimeout(l.cfg.TransactionTimeout),
		kgo.RecordDeliveryTimeout(max(l.cfg.TransactionTimeout, time.Second)),
		// The flush at the end of a transaction sends full batches.
		kgo.ProducerLinger(time.Second),
	}
}

func (l *Log) transactionalID(group, instance string) string {
	return l.transactionalPrefix(group) + instance
}

func (l *Log) transactionalPrefix(group string) string { return l.cfg.Prefix + group + "/" }

func (l *Log) names(topics []string) []string {
	out := make([]string, len(topics))
	for i, t := range topics {
		out[i] = l.cfg.Prefix + t
	}
	return out
}

// kgoLogger passes the client's warnings on; its lower levels tell of normal life.
type kgoLogger struct{ log *slog.Logger }

func (kgoLogger) Level() kgo.LogLevel { return kgo.LogLevelWarn }

func (k kgoLogger) Log(level kgo.LogLevel, msg string, kv ...any) {
	if level == kgo.LogLevelError {
		k.log.Warn("log client: "+msg, kv...)
		return
	}
	k.log.Debug("log client: "+msg, kv...)
}
