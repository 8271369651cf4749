// A real Apache Kafka as one child process: broker and controller in one Java machine (KRaft),
// run from jars alone, small and quick to start. It is the stand-in for Redpanda where a broker
// must survive being killed.

package devstack

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Kafka says how to run Apache Kafka. Only Dir is required.
type Kafka struct {
	// Dir keeps the log between runs and is made when missing.
	Dir string
	// LibsDir holds Kafka's jars; a class-data archive kafka.jsa beside it (made by
	// deploy/deps/install.sh) halves the start. Default: what KafkaLibs finds.
	LibsDir string
	// OwnFeatures formats a new Dir with Kafka 4's own transactions and groups (KIP-890, KIP-848).
	// The default is what Redpanda offers: neither.
	OwnFeatures bool
	// Measured runs it with the heap and the compilers that Kafka's own start script gives it, for
	// measuring: it takes more memory, and minutes until it is as fast as it gets.
	Measured bool
	// Log gets the output; nil: nobody, but errors still carry its end.
	Log io.Writer
}

// KafkaServer is a running Kafka. What it acknowledged survives Kill.
type KafkaServer struct {
	server
	client, controller int // ports
}

const (
	// kafkaWithin: a start takes 2-4 s alone, but has been seen to take 53 s on two busy cores,
	// and after a kill the old registration has to expire first.
	kafkaWithin  = 120 * time.Second
	kafkaGrace   = 60 * time.Second
	formatWithin = 90 * time.Second
)

// StartKafka formats the directory if that has not been done and starts Kafka on it. ctx bounds
// the start. The caller owns the result and must Stop it.
func StartKafka(ctx context.Context, c Kafka) (*KafkaServer, error) {
	if c.Dir == "" {
		return nil, errors.New("cannot start Kafka: no directory is given for its log")
	}
	var err error
	if c.LibsDir == "" {
		if c.LibsDir, err = KafkaLibs(); err != nil {
			return nil, err
		}
	}
	if c.Dir, err = filepath.Abs(c.Dir); err != nil {
		return nil, fmt.Errorf("cannot start Kafka in %s: %w", c.Dir, err)
	}
	if c.LibsDir, err = filepath.Abs(c.LibsDir); err != nil {
		return nil, fmt.Errorf("cannot use the jars of Kafka: %w", err)
	}
	java, err := javaBin()
	if err != nil {
		return nil, err
	}
	classPath, err := c.classPath()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("cannot make the directory of Kafka: %w", err)
	}

	s := &KafkaServer{}
	s.within = kafkaWithin
	s.begin = func() (*process, error) { return start(c.broker(java, classPath)) }
	s.probe = func(ctx context.Context) error { return kafkaReady(ctx, s.Addr()) }
	err = s.startOnFreePort(ctx, func() (err error) {
		if s.client, err = s.freePort(); err != nil {
			return err
		}
		for s.controller = s.client; s.controller == s.client; {
			if s.controller, err = s.freePort(); err != nil {
				return err
			}
		}
		if err := c.configure(s.client, s.controller); err != nil {
			return err
		}
		return c.format(ctx, java, classPath)
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Addr is the bootstrap address as host:port. It stays the same over Stop, Kill and Start.
func (s *KafkaServer) Addr() string { return localAddr(s.client) }

// classPath lists the jars in order of their names: the class-data archive is valid only for the
// very list it was made with.
func (c Kafka) classPath() (string, error) {
	jars, err := filepath.Glob(filepath.Join(c.LibsDir, "*.jar"))
	if err != nil || !slices.ContainsFunc(jars, func(p string) bool { return strings.HasPrefix(filepath.Base(p), "kafka_2.13-") }) {
		return "", fmt.Errorf("cannot run Kafka: %s does not hold its jars; run `make deps-test`", c.LibsDir)
	}
	slices.Sort(jars)
	return strings.Join(jars, string(filepath.ListSeparator)), nil
}

func (c Kafka) properties() string { return filepath.Join(c.Dir, "server.properties") }
func (c Kafka) logDir() string     { return filepath.Join(c.Dir, "data") }

// configure writes server.properties for the two ports.
func (c Kafka) configure(client, controller int) error {
	text := fmt.Sprintf(kafkaProperties, localAddr(client), localAddr(controller), c.logDir())
	if err := os.WriteFile(c.properties(), []byte(text), 0o644); err != nil {
		return fmt.Errorf("cannot write the configuration of Kafka: %w", err)
	}
	return nil
}

// kafkaProperties has three places: client address, controller address, log directory.
const kafkaProperties = `process.roles=broker,controller
node.id=1
controller.quorum.voters=1@%[2]s
listeners=PLAINTEXT://%[1]s,CONTROLLER://%[2]s
advertised.listeners=PLAINTEXT://%[1]s
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=%[3]s
num.partitions=6
# One broker: nothing can be replicated, and few partitions of its own topics start faster.
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
num.network.threads=2
num.io.threads=4
log.cleaner.dedupe.buffer.size=16777216
# A start after a kill waits until the old registration has expired, 9 s by default. At 1500 ms a
# live broker on a busy machine was fenced.
broker.session.timeout.ms=4000
broker.heartbeat.interval.ms=500
controller.quorum.election.timeout.ms=500
controller.quorum.fetch.timeout.ms=1000
# Transactions that follow one another at once otherwise wait 20 ms each.
add.partitions.to.txn.retry.backoff.ms=1
`

// format gives a new log directory its cluster id and feature levels.
func (c Kafka) format(ctx context.Context, java, classPath string) error {
	if isFile(filepath.Join(c.logDir(), "meta.properties")) {
		return nil
	}
	args := []string{"-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto",
		"-cp", classPath, "kafka.tools.StorageTool", "format", "-t", clusterID(), "-c", c.properties()}
	if !c.OwnFeatures {
		args = append(args, "--feature", "transaction.version=0", "--feature", "group.version=0")
	}
	ctx, cancel := context.WithTimeout(ctx, formatWithin)
	defer cancel()
	err := run(ctx, command{
		name: "Kafka's StorageTool", path: java, args: args, dir: c.Dir, env: javaEnv(), stop: syscall.SIGTERM, log: c.Log,
	})
	if err != nil {
		return fmt.Errorf("cannot format the log directory of Kafka: %w", err)
	}
	return nil
}

// clusterID is 16 random bytes in the form that Kafka uses for its ids.
func clusterID() string {
	id := make([]byte, 16)
	_, _ = rand.Read(id) // never fails: see crypto/rand
	id[0] &= 0x3f        // so that the text never begins with '-', which StorageTool takes for a flag
	return base64.RawURLEncoding.EncodeToString(id)
}

// broker is the command of the broker: a small heap, the collector with the least overhead, and
// the quick compiler alone, since it rarely lives for more than minutes. One that is measured gets
// the heap of Kafka's start script and all compilers.
func (c Kafka) broker(java, classPath string) command {
	args := []string{"-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"}
	if c.Measured {
		args = []string{"-Xms1g", "-Xmx1g", "-XX:+UseSerialGC"}
	}
	if archive := filepath.Join(filepath.Dir(c.LibsDir), "kafka.jsa"); isFile(archive) {
		// A stale archive costs a warning and the time it would have saved, nothing else.
		args = append(args, "-XX:SharedArchiveFile="+archive, "-Xshare:auto")
	}
	return command{
		name: "Kafka", path: java, args: append(args, "-cp", classPath, "kafka.Kafka", c.properties()),
		dir: c.Dir, env: javaEnv(), stop: syscall.SIGTERM, grace: kafkaGrace, log: c.Log,
	}
}

// javaEnv keeps options meant for other Java programs away.
func javaEnv() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "JAVA_TOOL_OPTIONS=") || strings.HasPrefix(v, "JDK_JAVA_OPTIONS=") || strings.HasPrefix(v, "_JAVA_OPTIONS=") || strings.HasPrefix(v, "CLASSPATH=")
	})
}
