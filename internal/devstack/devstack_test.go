// What the tests of this package share: waiting on conditions, and a parent that can be killed.

package devstack

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// parentVariable names a directory in which this test program, run again, starts servers instead
// of tests and then waits to be killed.
const parentVariable = "MYSPINBOT_DEVSTACK_TEST_PARENT"

func TestMain(m *testing.M) {
	if dir := os.Getenv(parentVariable); dir != "" {
		if err := beParent(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// family is what the parent tells about its children, in one line.
type family struct {
	PostgresPid, HelperPid int
	URL, Kafka             string
}

func beParent(dir string) error {
	ctx := context.Background()
	pg, err := StartPostgres(ctx, Postgres{Dir: filepath.Join(dir, "postgres"), Log: os.Stderr})
	if err != nil {
		return err
	}
	helper, err := StartHelper(ctx, Helper{Dir: filepath.Join(dir, "helper"), Log: os.Stderr})
	if err != nil {
		return err
	}
	err = json.NewEncoder(os.Stdout).Encode(family{PostgresPid: pg.Pid(), HelperPid: helper.Pid(), URL: pg.URL(), Kafka: helper.Kafka()})
	if err != nil {
		return err
	}
	return pg.Wait(ctx)
}

// within is a context for one test, long enough for a busy machine.
func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// eventually asks check until it answers nil, and fails the test with its last answer.
func eventually(t *testing.T, d time.Duration, check func() error) {
	t.Helper()
	again, late := time.NewTicker(10*time.Millisecond), time.NewTimer(d)
	defer again.Stop()
	defer late.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-again.C:
		case <-late.C:
			t.Fatalf("after %s: %v", d, err)
		}
	}
}

// stopAtEnd stops a server after the test, whose context has ended by then.
func stopAtEnd(t *testing.T, s interface{ Stop(context.Context) error }) {
	t.Helper()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
		defer cancel()
		if err := s.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
}

func mustContain(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one with %q", parts)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q does not contain %q", err, part)
		}
	}
}

// alive reports whether a process exists and is no zombie, which nobody may reap in a container.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, after, _ := bytes.Cut(stat, []byte(") "))
	return len(after) > 0 && after[0] != 'Z'
}

// ownerOf is the user id that a process runs as.
func ownerOf(t *testing.T, pid int) string {
	t.Helper()
	out, err := exec.Command("stat", "-c", "%u", fmt.Sprintf("/proc/%d", pid)).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// createTopic makes a topic with one partition.
func createTopic(t *testing.T, ctx context.Context, addr, topic string) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := kadm.NewClient(client).CreateTopic(ctx, 1, 1, nil, topic); err != nil {
		t.Fatalf("create topic %s: %v", topic, err)
	}
}

// produce writes one record and returns when it is acknowledged.
func produce(ctx context.Context, addr, topic, value string) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.MetadataMinAge(50*time.Millisecond), kgo.AllowAutoTopicCreation(),
		kgo.UnknownTopicRetries(1))
	if err != nil {
		return err
	}
	defer client.Close()
	return client.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte(value)}).FirstErr()
}

// consume reads a topic from its start until it has n values.
func consume(t *testing.T, ctx context.Context, addr, topic string, n int) []string {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.MetadataMinAge(50*time.Millisecond), kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	var values []string
	for len(values) < n {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("read %q of %s, want %d values: %v", values, topic, n, ctx.Err())
		}
		fetches.EachRecord(func(r *kgo.Record) { values = append(values, string(r.Value)) })
	}
	return values
}
