// The operator's tools on the recorded history of an earlier run.

package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/handlers"
	"github.com/myspinbot/myspinbot/internal/devstack/devstacktest"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/internal/eventlog/eventlogtest"
	"github.com/myspinbot/myspinbot/projections"
)

const recordedJob = "b4155189-a6b7-523c-9e0a-2456d44746ba" // whose script was edited on its approval

// archive is a log in memory, with the recorded history as a file beside it.
type archive struct {
	t    *testing.T
	file string
	log  *eventlog.Log
	args []string
}

func newArchive(t *testing.T, partitions string, more ...string) *archive {
	t.Helper()
	zipped, err := os.Open("../../projections/testdata/recorded/2026-11.jsonl.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer zipped.Close()
	z, err := gzip.NewReader(zipped)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	_, fake := eventlogtest.Fake(t)
	a := &archive{t: t, file: filepath.Join(t.TempDir(), "history.jsonl"), args: append([]string{"--kafka-brokers", fake.Brokers[0], "--kafka-partitions", partitions}, more...)}
	if err := os.WriteFile(a.file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	a.log = logOf(t, a.args)
	return a
}

// does runs a command and expects its status and some of its words.
func (a *archive) does(status int, says string, command ...string) string {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var stdout, stderr bytes.Buffer
	got := dispatch(ctx, append(command, a.args...), &stdout, &stderr)
	if out := stdout.String() + stderr.String(); got != status || !strings.Contains(out, says) {
		a.t.Errorf("%q: status %d, %s; want %d with %q", command, got, out, status, says)
	}
	return stdout.String()
}

// inBackground runs a role until the test ends.
func inBackground(t *testing.T, run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestReplayTools(t *testing.T) {
	t.Parallel()
	postgres, err := devstacktest.StartPostgres(t.Context(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := postgres.Close(); err != nil {
			t.Error(err)
		}
	})
	a := newArchive(t, "3", "--postgres-url", postgres.DatabaseURL(postgres.Create(t)))
	a.does(0, "273 records are where they were, partition and offset", "log", "import", a.file)
	a.does(1, "the tables are unavailable", "replay", "verify")
	a.does(1, "the tables are unavailable", "replay", "status")
	pool, err := pgxpool.New(t.Context(), a.args[len(a.args)-1])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	projector := projections.NewProjector(projections.Config{Log: a.log, Pool: pool, Logger: slog.New(slog.DiscardHandler)})
	inBackground(t, projector.Run)
	eventlogtest.Eventually(t, time.Minute, "the tables are filled", func() bool {
		var n int
		err := pool.QueryRow(t.Context(), "SELECT (SELECT count(*) FROM myspinbot.job_events) + (SELECT sum(version) FROM myspinbot.profiles)").Scan(&n)
		return err == nil && n == 178
	})

	a.does(0, "270 rows equal the fold of the log (178 events)", "replay", "verify")
	a.does(0, "59 rows equal the fold of the log (38 events)", "replay", "verify", "--job", recordedJob)
	a.does(0, "rows of a sample of 40% equal the fold of the log", "replay", "verify", "--sample", "40%")
	a.does(0, "270 rows of a sample of 50 equal", "replay", "verify", "--sample", "50")
	a.does(1, "neither the log nor the tables know job nobody", "replay", "verify", "--job", "nobody")
	a.does(2, "not a sample", "replay", "verify", "--sample", "some")
	a.does(2, "give --sample or --job", "replay", "verify", "--sample", "5%", "--job", "x")

	a.does(0, "nothing was written", "replay", "job", recordedJob)
	if _, err := pool.Exec(t.Context(), "UPDATE myspinbot.jobs SET status = 'lost' WHERE id = $1", recordedJob); err != nil {
		t.Fatal(err)
	}
	a.does(1, `jobs `+recordedJob+`: status is "lost", the log says "succeeded"`, "replay", "verify")
	a.does(1, "1 differences between the tables and the log; `myspinbot replay job ID` mends one job", "replay", "verify", "--job", recordedJob)
	a.does(0, "has been made anew: 59 rows from 38 events, 1 differences mended", "replay", "job", recordedJob)
	a.does(0, "270 rows equal", "replay", "verify")
	a.does(1, "neither the log nor the tables know job nobody", "replay", "job", "nobody")
	a.does(2, "name the job", "replay", "job")

	a.does(0, "0 events behind, 0.0 s", "replay", "status", "--watch", "10ms")
	var s projections.TablesStatus
	if err := json.Unmarshal([]byte(a.does(0, "", "replay", "status", "--json", "--watch", "0s")), &s); err != nil || !s.OwnShape || len(s.Partitions) != 6 {
		t.Errorf("status in JSON: %+v, %v", s, err)
	}

	a.does(0, "DROP SCHEMA half_way CASCADE", "replay", "--until", "2026-11-26T04:13:00Z", "--schema", "half_way")
	var jobs int
	if err := pool.QueryRow(t.Context(), "SELECT count(*) FROM half_way.jobs").Scan(&jobs); err != nil || jobs != 2 {
		t.Errorf("%d jobs were there half-way, %v; want 2", jobs, err)
	}
	a.does(1, "half_way exists", "replay", "--until", "17", "--schema", "half_way")
	a.does(1, `"gen_2" belongs to the live tables`, "replay", "--until", "17", "--schema", "gen_2")
	a.does(1, "there is no event at 0:99999", "replay", "--until", "0:99999", "--schema", "never")
	a.does(2, "is not a moment", "replay", "--until", "yesterday", "--schema", "never")
	a.does(2, "--until and --schema belong together", "replay", "--until", "17")
}

func TestHistoriesGoOutAndIn(t *testing.T) {
	t.Parallel()
	a := newArchive(t, "3")
	a.does(1, "no regular file", "log", "import", filepath.Dir(a.file))
	a.does(1, "no such file", "log", "import", a.file+"x")
	a.does(2, "name the file", "log", "import")
	a.does(0, "273 records", "log", "import", a.file)
	a.does(1, "the log is not empty", "log", "import", a.file)
	out := a.file + ".out"
	a.does(0, "273 records in "+out, "log", "export", "--out", out)
	want, err := os.ReadFile(a.file)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(out); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the history comes out as something else, %v", err)
	}
	a.does(1, "exists", "log", "export", "--out", out)
	a.does(2, "--out names the file", "log", "export")
	a.does(1, `no topic "jobs"`, "log", "export", "--out", "-", "--topics", "jobs")
	a.does(1, "give a time such as", "log", "export", "--out", "-", "--since", "yesterday")
	one := a.does(0, `{"end":true,"records":38}`, "log", "export", "--out", "-", "--job", recordedJob, "--topics", "jobs.events")
	if strings.Count(one, recordedJob) < 38 {
		t.Errorf("one job's history: %s", one)
	}
	if text := a.does(0, `"end":true`, "log", "export", "--out", "-", "--since", "2026-11-26T04:13:10Z", "--until", "2026-11-26T04:13:11Z"); strings.Contains(text, `"time":"2026-11-26T04:12`) {
		t.Error("a range holds what lies outside of it")
	}
	entries, err := os.ReadDir(filepath.Dir(a.file))
	if err != nil || len(entries) != 2 {
		t.Errorf("something is left over: %v, %v", entries, err)
	}

	five := newArchive(t, "5")
	five.does(0, "273 records have new offsets, for profiles.events has 3 partitions in the file and 5 here", "log", "import", five.file)
	broken := newArchive(t, "3")
	if err := os.WriteFile(broken.file, bytes.Replace(want, []byte(`"partition":2`), []byte(`"partition":1`), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	broken.does(1, "the file cannot be imported: line ", "log", "import", broken.file)
}

// TestAHandlerGoesOnFromAnImportedHistory repeats a recorded command: the job exists, and nothing of the past is decided again.
func TestAHandlerGoesOnFromAnImportedHistory(t *testing.T) {
	t.Parallel()
	a := newArchive(t, "3")
	a.does(0, "273 records", "log", "import", a.file)
	read := func(topic string) (all []eventlog.Record) {
		t.Helper()
		if _, err := a.log.Read(t.Context(), a.log.Whole(topic), func(rs []eventlog.Record) error { all = append(all, rs...); return nil }); err != nil {
			t.Fatal(err)
		}
		return all
	}
	before, again := read(events.TopicJobEvents), read(events.TopicJobCommands)[0]
	cfg, _, err := loadConfig(a.args, nil)
	if err != nil {
		t.Fatal(err)
	}
	h, err := handlers.New(handlers.Config{Log: a.log, Policy: aggregates.DefaultPolicy(), Lanes: cfg.Lanes.Partitions(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	inBackground(t, h.Run)
	if err := a.log.Produce(t.Context(), eventlog.Record{Topic: again.Topic, Key: again.Key, Value: again.Value, Headers: again.Headers}); err != nil {
		t.Fatal(err)
	}
	var replies []eventlog.Record
	eventlogtest.Eventually(t, time.Minute, "the repeated command is answered", func() bool { replies = read(events.TopicJobReplies); return len(replies) > 0 })
	m, err := events.Decode(replies[0].Value)
	if err != nil {
		t.Fatal(err)
	}
	if r, replied := m.Data.(events.CommandReplied); len(replies) != 1 || !replied || r.Outcome != events.OutcomeDuplicate || m.AggregateID != again.Key {
		t.Errorf("the replies are %+v", replies)
	}
	if after := read(events.TopicJobEvents); len(after) != len(before) {
		t.Errorf("%d facts were added", len(after)-len(before))
	}
}
