// Logs that earlier releases wrote: each is read for ever, and gives the rows that it gave.
//
// A release adds one: a run of the demo, an approval with an edited script and a denied
// one, a re-run that reuses, a failed job, a failed attempt, a cancelled job with its
// retry, and a scheduled job that was cancelled, on Apache Kafka; then `myspinbot log
// export`, gzip, and the rows by `RECORD=1 go test ./projections -run TestRecordedLogs`.
// A log is never changed. Rows are only removed, and written anew, where a column has
// come to mean something else.

package projections

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/internal/eventlog/eventlogtest"
	"github.com/myspinbot/myspinbot/internal/logfile"
)

func unzipped(t testing.TB, path string) []byte {
	t.Helper()
	file, err := os.Open(path)
	ok(t, err)
	defer file.Close()
	z, err := gzip.NewReader(file)
	ok(t, err)
	text, err := io.ReadAll(z)
	ok(t, err)
	return text
}

// imported is a log that holds a history where it lay.
func imported(t testing.TB, history []byte) *eventlog.Log {
	t.Helper()
	_, cfg := eventlogtest.Fake(t)
	log := eventlogtest.Open(t, cfg)
	got, err := logfile.Import(t.Context(), log, bytes.NewReader(history), int64(len(history)), logfile.Options{})
	ok(t, err)
	if !got.Kept {
		t.Fatalf("the offsets are not kept: %s", got.Why)
	}
	return log
}

// played is that log, and tables that a projector has made of it.
func played(t testing.TB, history []byte) (*eventlog.Log, *pgxpool.Pool) {
	t.Helper()
	log, pool := imported(t, history), database(t)
	p := NewProjector(Config{Log: log, Pool: pool, Logger: slog.New(slog.DiscardHandler)})
	launch(t, p)
	ranges, err := log.Ranges(t.Context(), topics()...)
	ok(t, err)
	eventually(t, "the projector is at the end of the log", func() bool {
		at := p.Status()
		for _, s := range at.Partitions {
			if s.Stopped != "" {
				t.Fatal(s.Stopped)
			}
			if s.Next < ranges[eventlog.TopicPartition{Topic: s.Topic, Partition: s.Partition}].Stable {
				return false
			}
		}
		return len(at.Partitions) == len(ranges)
	})
	return log, pool
}

// jsonRows is every row, one JSON object a line behind its table's name, by table and key.
func jsonRows(t testing.TB, pool *pgxpool.Pool) string {
	t.Helper()
	conn, err := pool.Acquire(context.Background())
	ok(t, err)
	defer conn.Release()
	_, err = conn.Exec(context.Background(), "SET timezone = 'UTC'")
	ok(t, err)
	var b strings.Builder
	for _, s := range shapes() {
		rows, err := conn.Query(context.Background(), fmt.Sprintf("SELECT to_jsonb(t)::text FROM %s.%s t ORDER BY %s", views, s.name, strings.Join(s.columns[:s.key], ", ")))
		ok(t, err)
		for rows.Next() {
			var row string
			ok(t, rows.Scan(&row))
			fmt.Fprintf(&b, "%s %s\n", s.name, row)
		}
		ok(t, rows.Err())
	}
	return b.String()
}

func TestRecordedLogsGiveTheRowsThatTheyGave(t *testing.T) {
	t.Parallel()
	logs, err := filepath.Glob("testdata/recorded/*.jsonl.gz")
	ok(t, err)
	if len(logs) == 0 {
		t.Fatal("no log is recorded")
	}
	for _, path := range logs {
		t.Run(filepath.Base(path), func(t *testing.T) {
			t.Parallel()
			log, pool := played(t, unzipped(t, path))
			r, err := Verify(t.Context(), Config{Log: log, Pool: pool})
			ok(t, err)
			if len(r.Differences) > 0 || r.Rows == 0 {
				t.Errorf("%d rows, differences %v", r.Rows, r.Differences)
			}
			expected := strings.TrimSuffix(path, ".jsonl.gz") + ".rows.gz"
			if _, err := os.Stat(expected); os.IsNotExist(err) && os.Getenv("RECORD") != "" {
				var z bytes.Buffer
				w := gzip.NewWriter(&z)
				_, err := io.WriteString(w, jsonRows(t, pool))
				ok(t, err)
				ok(t, w.Close())
				ok(t, os.WriteFile(expected, z.Bytes(), 0o644))
			}
			wantRows(t, jsonRows(t, pool), string(unzipped(t, expected)))
		})
	}
}

// wantRows compares what was recorded: a column that has come since is free.
func wantRows(t *testing.T, got, want string) {
	t.Helper()
	have, recorded := strings.Split(got, "\n"), strings.Split(want, "\n")
	equal(t, len(have), len(recorded))
	for i := range min(len(have), len(recorded)) {
		if have[i] == recorded[i] {
			continue
		}
		table, text, _ := strings.Cut(have[i], " ")
		then, old, _ := strings.Cut(recorded[i], " ")
		var row, was map[string]any
		ok(t, json.Unmarshal([]byte(text), &row))
		ok(t, json.Unmarshal([]byte(old), &was))
		for column, value := range was {
			if table != then || !reflect.DeepEqual(row[column], value) {
				t.Errorf("%s, row %d: %s is %v, and was %v", table, i+1, column, row[column], value)
			}
		}
	}
}

// TestRecordedLogsTellOfEverything keeps a recording from being a dull one.
func TestRecordedLogsTellOfEverything(t *testing.T) {
	t.Parallel()
	told := map[string]bool{}
	log := imported(t, unzipped(t, "testdata/recorded/2026-11.jsonl.gz"))
	_, err := log.Read(t.Context(), log.Whole(logfile.Topics()...), func(records []eventlog.Record) error {
		for _, r := range records {
			m, err := events.Decode(r.Value)
			if err != nil {
				return fmt.Errorf("%v offset %d: %w", r.At(), r.Offset, err)
			}
			told[m.Type()] = true
			if g, granted := m.Data.(events.ApprovalGranted); granted && g.Edit != nil {
				told["an edit"] = true
			}
			if f, failed := m.Data.(events.StageFailed); failed && f.RetryAtMS != 0 {
				told["another attempt"] = true
			}
			if s, submitted := m.Data.(events.JobSubmitted); submitted && s.Request.ParentJobID != "" {
				told["a parent"] = true
			}
		}
		return nil
	})
	ok(t, err)
	for _, what := range []string{"an edit", "another attempt", "a parent", "job.succeeded", "job.failed", "job.rejected", "job.cancelled", "stage.reused", "stage.skipped",
		"stage.cancelled", "approval.denied", "artifact.registered", "profile.created", "profile.consent_recorded", "job.submit", "task.succeeded"} {
		if !told[what] {
			t.Errorf("the recording tells nothing of %s, but of %v", what, told)
		}
	}
}

// TestAHistoryCarriedElsewhereGivesTheSameTables exports one log and imports it into another.
func TestAHistoryCarriedElsewhereGivesTheSameTables(t *testing.T) {
	t.Parallel()
	log, pool := played(t, unzipped(t, "testdata/recorded/2026-11.jsonl.gz"))
	var carried bytes.Buffer
	_, err := logfile.Export(t.Context(), log, &carried, logfile.Selection{})
	ok(t, err)
	_, elsewhere := played(t, carried.Bytes())
	if dump(t, elsewhere) != dump(t, pool) {
		t.Error("the tables are not equal byte for byte")
	}
}
