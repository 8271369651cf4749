// The conformance suite on a broker in memory, and the parts of it that need no broker.

package eventlog_test

import (
	"strings"
	"testing"

	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/internal/eventlog/eventlogtest"
)

func TestConformanceInMemory(t *testing.T) {
	t.Parallel()
	eventlogtest.Conformance(t, func(t *testing.T) eventlog.Config {
		_, cfg := eventlogtest.Fake(t)
		return cfg
	})
}

func TestOpenReportsAllFaults(t *testing.T) {
	t.Parallel()
	_, err := eventlog.Open(eventlog.Config{
		Partitions: -1, Instance: "a b", BrokerVersion: "nine", LanePartitions: map[string]int{"nap": 1, "tts": -1},
	})
	for _, want := range []string{"brokers: none given", "partitions: -1", `instance: "a b"`, `no lane is called "nap"`, `-1 for "tts"`, `"nine" is not known`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
}
