// The conformance suite on a real Apache Kafka: formatted to look like Redpanda
// (transactions version 1, classic groups), and as it comes.

package eventlog_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/myspinbot/myspinbot/internal/devstack"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/internal/eventlog/eventlogtest"
)

func TestConformanceOnKafka(t *testing.T) {
	t.Parallel()
	cfg := startKafka(t, devstack.Kafka{})
	cfg.BrokerVersion = "3.8" // the newest whose transactions Redpanda has
	t.Run("HangingTransactions", func(t *testing.T) { hangingTransactions(t, cfg) })
	t.Run("HangingOffsets", func(t *testing.T) { hangingOffsets(t, cfg) })
	eventlogtest.Conformance(t, func(*testing.T) eventlog.Config { return cfg })
}

// Not beside the other one: two brokers at once are slow to answer on a small machine.
func TestConformanceOnKafkaAsItComes(t *testing.T) {
	cfg := startKafka(t, devstack.Kafka{OwnFeatures: true})
	eventlogtest.Conformance(t, func(*testing.T) eventlog.Config { return cfg })
}

func startKafka(t *testing.T, k devstack.Kafka) eventlog.Config {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	k.Dir = t.TempDir()
	kafka, err := devstack.StartKafka(ctx, k)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := kafka.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return eventlog.Config{Brokers: []string{kafka.Addr()}, ReplicationFactor: 1, Logger: slog.New(slog.DiscardHandler)}
}
