// The conformance suite on a real Apache Kafka, formatted to look like Redpanda:
// transactions version 1, classic groups.

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
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	kafka, err := devstack.StartKafka(ctx, devstack.Kafka{Dir: t.TempDir()})
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
	cfg := eventlog.Config{
		Brokers: []string{kafka.Addr()}, ReplicationFactor: 1,
		BrokerVersion: "3.8", // the newest whose transactions Redpanda has
		Logger:        slog.New(slog.DiscardHandler),
	}
	t.Run("HangingTransactions", func(t *testing.T) { hangingTransactions(t, cfg) })
	t.Run("HangingOffsets", func(t *testing.T) { hangingOffsets(t, cfg) })
	eventlogtest.Conformance(t, func(*testing.T) eventlog.Config { return cfg })
}
