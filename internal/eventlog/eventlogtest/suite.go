// The conformance suite: its list of cases, and what they share.

package eventlogtest

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// Patience bounds every wait of the suite; a real broker starting its first
// transaction on a busy machine takes seconds.
const Patience = 60 * time.Second

// Conformance runs the suite on the broker that reach leads to. Each case has a
// prefix, and so topics and groups, of its own.
func Conformance(t *testing.T, reach func(t *testing.T) eventlog.Config) {
	cases := []struct {
		name string
		run  func(*testing.T, eventlog.Config)
	}{
		{"TopicsAreCreatedAndChecked", topicsAreCreatedAndChecked},
		{"KeysDecideThePartition", keysDecideThePartition},
		{"ReadsStopAtTheCommittedEnd", readsStopAtTheCommittedEnd},
		{"BareReadsLackHeadersAlone", bareReadsLackHeadersAlone},
		{"ReaderPauses", readerPauses},
		{"TailFollowsPastMarkers", tailFollowsPastMarkers},
		{"TailPassesWhatIsGone", tailPassesWhatIsGone},
		{"WatchKnowsWhenItIsCurrent", watchKnowsWhenItIsCurrent},
		{"ProduceAnswersInTime", produceAnswersInTime},
		{"ReaderReportsLoss", readerReportsLoss},
		{"RunnerDecidesOnce", runnerDecidesOnce},
		{"RunnerRecoversSideBySide", runnerRecoversSideBySide},
		{"RunnerSurvivesKills", runnerSurvivesKills},
		{"RunnerSharesPartitions", runnerSharesPartitions},
		{"RunnerSettlesUnknownOutcomes", runnerSettlesUnknownOutcomes},
		{"ZombieCannotCommit", zombieCannotCommit},
		{"DeadPeersAreFenced", deadPeersAreFenced},
		{"AbsenceIsNoticed", absenceIsNoticed},
		{"NothingIsKnownWithoutPartitions", nothingIsKnownWithoutPartitions},
		{"SuccessorsWaitForNothing", successorsWaitForNothing},
		{"UndecodableInputsAreSetAside", undecodableInputsAreSetAside},
		{"OversizedAnswersEndTheRunner", oversizedAnswersEndTheRunner},
		{"LostOffsetsAreFoundAgain", lostOffsetsAreFoundAgain},
		{"LaneBoundHolds", laneBoundHolds},
		{"LaneOutlivesRebalance", laneOutlivesRebalance},
		{"LaneSettlesUnknownOutcomes", laneSettlesUnknownOutcomes},
		{"LaneTakesInteractiveFirst", laneTakesInteractiveFirst},
		{"LaneHoldsBackWhatIsRefused", laneHoldsBackWhatIsRefused},
		{"LanePauses", lanePauses},
		{"LaneLetsPatientBatchThrough", laneLetsPatientBatchThrough},
		{"LaneWaitsForOthersAttempts", laneWaitsForOthersAttempts},
		{"LaneWaitsForItsPredecessors", laneWaitsForItsPredecessors},
		{"LaneKeepsItsWorkThroughRebalances", laneKeepsItsWorkThroughRebalances},
		{"LaneSurvivesItsFreezing", laneSurvivesItsFreezing},
		{"LaneSetsUndecodableAside", laneSetsUndecodableAside},
		{"LaneReportsWhatRan", laneReportsWhatRan},
		{"LaneReportsLater", laneReportsLater},
		{"LaneGivesUpImpossibleReports", laneGivesUpImpossibleReports},
		{"LanesShareAProcess", lanesShareAProcess},
		{"LanesChangeWithTheProcess", lanesChangeWithTheProcess},
		{"LaneSeatsGoByWhatMembersCan", laneSeatsGoByWhatMembersCan},
		{"LaneSeatsAreForOldMembersToo", laneSeatsAreForOldMembersToo},
		{"DeadLettersAreResolvedOnce", deadLettersAreResolvedOnce},
		{"RestoredRecordsLieWhereTheyLay", restoredRecordsLieWhereTheyLay},
		{"ConsumerRetriesInOrder", consumerRetriesInOrder},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			cfg := reach(t)
			cfg.Prefix = prefix()
			cfg.Instance = "a"
			cfg.Partitions = 3
			cfg.SessionTimeout = 6 * time.Second  // the least that Apache Kafka takes
			cfg.ProduceTimeout = 20 * time.Second // which a broker needs that serves every case at once
			cfg.LanePartitions = make(map[string]int)
			for _, lane := range events.Lanes() {
				cfg.LanePartitions[lane] = 1
			}
			cfg.LanePartitions[events.LaneTTS] = 2
			c.run(t, cfg)
		})
	}
}

var prefixes atomic.Int64

func prefix() string {
	return fmt.Sprintf("t%d-%d.", time.Now().UnixNano()%1e9, prefixes.Add(1))
}

// as is the configuration of another process.
func as(cfg eventlog.Config, instance string, network *Network) eventlog.Config {
	cfg.Instance = instance
	if network != nil {
		cfg.Dial = network.Dial
	}
	return cfg
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 2*Patience)
	t.Cleanup(cancel)
	return ctx
}

// start runs a runner or a lane until stop is called, which returns its error.
func start(run func(context.Context) error) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	return func() error {
		cancel()
		return <-done
	}
}

// submit writes commands n0 … n-1, keyed by their own names.
func submit(t *testing.T, l *eventlog.Log, from, to int) {
	t.Helper()
	var rs []eventlog.Record
	for i := from; i < to; i++ {
		id := fmt.Sprintf("n%d", i)
		rs = append(rs, eventlog.Record{Topic: events.TopicJobCommands, Key: id, Value: []byte(id)})
	}
	if err := l.Produce(within(t), rs...); err != nil {
		t.Fatal(err)
	}
}

// readAll reads what is committed in the topics.
func readAll(t *testing.T, l *eventlog.Log, topics ...string) []eventlog.Record {
	t.Helper()
	var all []eventlog.Record
	if _, err := l.Read(within(t), l.Whole(topics...), func(rs []eventlog.Record) error {
		all = append(all, rs...)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

// await reads the topic until it holds n records: a broker may answer a commit before
// its records can be read.
func await(t *testing.T, l *eventlog.Log, topic string, n int) []eventlog.Record {
	t.Helper()
	var rs []eventlog.Record
	Eventually(t, Patience, fmt.Sprintf("%d records in %s", n, topic), func() bool {
		rs = readAll(t, l, topic)
		return len(rs) >= n
	})
	return rs
}

// values counts the values of the records.
func values(rs []eventlog.Record) map[string]int {
	n := make(map[string]int)
	for _, r := range rs {
		n[string(r.Value)]++
	}
	return n
}

// wantOnce checks that n0 … n-1 lie in the records once each and nothing else does.
func wantOnce(t *testing.T, rs []eventlog.Record, n int) {
	t.Helper()
	got := values(rs)
	var faults []string
	for i := range n {
		if id := fmt.Sprintf("n%d", i); got[id] != 1 {
			faults = append(faults, fmt.Sprintf("%s ×%d", id, got[id]))
		}
	}
	if len(faults) > 0 || len(got) != n {
		t.Errorf("%d records with %d values, want each of %d once; wrong: %s", len(rs), len(got), n, strings.Join(faults, ", "))
	}
}
