// Tests with a real Apache Kafka.

package devstack

import (
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// features are the finalized feature levels that the broker announces.
func features(t *testing.T, addr string) map[string]int16 {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	request := kmsg.NewPtrApiVersionsRequest()
	request.ClientSoftwareName, request.ClientSoftwareVersion = "myspinbot-test", "1"
	answer, err := request.RequestWith(within(t, time.Minute), client)
	if err != nil {
		t.Fatal(err)
	}
	levels := map[string]int16{}
	for _, f := range answer.FinalizedFeatures {
		levels[f.Name] = f.MaxVersionLevel
	}
	return levels
}

func TestKafkaKeepsAddressAndRecordsOverKill(t *testing.T) {
	t.Parallel()
	ctx := within(t, 6*time.Minute)
	dir := filepath.Join(t.TempDir(), "kafka")
	k, err := StartKafka(ctx, Kafka{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	stopAtEnd(t, k)
	addr := k.Addr()
	if levels := features(t, addr); levels["transaction.version"] != 0 || levels["group.version"] != 0 {
		t.Errorf("features %v: want the transactions and groups that Redpanda has", levels)
	}
	if err := produce(ctx, addr, "never-made", "x"); err == nil {
		t.Error("a topic was made by writing to it")
	}
	createTopic(t, ctx, addr, "events")
	if err := produce(ctx, addr, "events", "before"); err != nil {
		t.Fatal(err)
	}

	k.Kill()
	if err := k.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if k.Addr() != addr {
		t.Errorf("the address changed from %s to %s", addr, k.Addr())
	}
	if err := produce(ctx, addr, "events", "after"); err != nil {
		t.Fatal(err)
	}
	if got := consume(t, ctx, addr, "events", 2); !slices.Equal(got, []string{"before", "after"}) {
		t.Errorf("read %q", got)
	}

	// Another program, later, on the same directory: other ports, the same log.
	if err := k.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	again, err := StartKafka(ctx, Kafka{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	stopAtEnd(t, again)
	if got := consume(t, ctx, again.Addr(), "events", 2); !slices.Equal(got, []string{"before", "after"}) {
		t.Errorf("read %q", got)
	}
}

func TestKafkaCanHaveItsOwnFeatures(t *testing.T) {
	t.Parallel()
	k, err := StartKafka(within(t, 4*time.Minute), Kafka{Dir: t.TempDir(), OwnFeatures: true})
	if err != nil {
		t.Fatal(err)
	}
	stopAtEnd(t, k)
	if levels := features(t, k.Addr()); levels["transaction.version"] < 2 {
		t.Errorf("features %v: want transaction.version 2", levels)
	}
}

func TestKafkaSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	_, err := StartKafka(t.Context(), Kafka{})
	mustContain(t, err, "no directory")
	empty := t.TempDir()
	_, err = StartKafka(t.Context(), Kafka{Dir: t.TempDir(), LibsDir: empty})
	mustContain(t, err, empty, "make deps-test")
}

func TestKafkaReadyWaitsForAnAnswer(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ answer, want string }{
		"another one": {"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak Kafka's protocol"},
		"nothing":     {"", "EOF"},
		"an error":    {"\x00\x00\x00\x06MSB1\x00\x23", "error code 35"},
		"ready":       {"\x00\x00\x00\x06MSB1\x00\x00", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := kafkaReady(within(t, time.Minute), answering(t, c.answer))
			if c.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			mustContain(t, err, c.want)
		})
	}
}

func TestAMeasuredKafkaHasAllCompilers(t *testing.T) {
	t.Parallel()
	for measured, want := range map[bool]bool{true: false, false: true} {
		c := Kafka{Dir: t.TempDir(), LibsDir: t.TempDir(), Measured: measured}
		if args := c.broker("java", "jars").args; slices.Contains(args, "-XX:TieredStopAtLevel=1") != want || slices.Contains(args, "-Xmx1g") == want {
			t.Errorf("measured %v: %v", measured, args)
		}
	}
}
