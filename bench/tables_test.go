package main

// Tests of what the measures of the tables and their peers are made of.

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/myspinbot/myspinbot/migrations"
)

func TestARateCountsPerSecond(t *testing.T) {
	t.Parallel()
	if got := perSecond(300, 1500*time.Millisecond); got != 200 {
		t.Errorf("300 in 1.5 s are %v a second", got)
	}
	if got := factsPerJob * time.Second / jobPace; got != lagRate {
		t.Errorf("a job's facts every %v are %d a second, not %d", jobPace, got, lagRate)
	}
}

// TestThePeerHasTheSameIndexesInItsOwnSchema takes the table's schema alone.
func TestThePeerHasTheSameIndexesInItsOwnSchema(t *testing.T) {
	t.Parallel()
	for definition, want := range map[string]string{
		"CREATE UNIQUE INDEX jobs_pkey ON gen_1.jobs USING btree (id)":                         "CREATE UNIQUE INDEX jobs_pkey ON peer.jobs USING btree (id)",
		"CREATE INDEX a ON gen_1.b USING btree (c) WHERE (c <> ' ON gen_1.'::text)":            "CREATE INDEX a ON peer.b USING btree (c) WHERE (c <> ' ON gen_1.'::text)",
		"CREATE INDEX jobs_page ON gen_12.jobs USING btree (tenant, created_at DESC, id DESC)": "CREATE INDEX jobs_page ON gen_12.jobs USING btree (tenant, created_at DESC, id DESC)",
	} {
		if got := inSchema(definition, "gen_1", peerSchema); got != want {
			t.Errorf("%s\nbecomes %s\nnot     %s", definition, got, want)
		}
	}
}

// TestThePeersTablesAreEmptyAndBare has every table once, without an index or a constraint beyond NOT NULL.
func TestThePeersTablesAreEmptyAndBare(t *testing.T) {
	t.Parallel()
	statements := emptyTables()
	if len(statements) != 2+len(migrations.Tables()) || !strings.HasPrefix(statements[0], "DROP SCHEMA IF EXISTS peer ") {
		t.Errorf("got %q", statements)
	}
	for i, name := range migrations.Tables() {
		if want := "CREATE TABLE peer." + name + " (LIKE myspinbot." + name + ")"; statements[2+i] != want {
			t.Errorf("got %q, want %q", statements[2+i], want)
		}
	}
}

// TestSharesOfRowsAreAllRowsOnce merges as mergeRows does.
func TestSharesOfRowsAreAllRowsOnce(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ rows, facts int }{{15_000, 15_000}, {1000, 15_000}, {4000, 15_000}, {7, 15_000}, {0, 15_000}, {40, 1}, {999, 1001}} {
		rows := make([]int, c.rows)
		for i := range rows {
			rows[i] = i
		}
		var merged []int
		for from := 0; from < c.facts; from += mergeBatch {
			merged = append(merged, shareOf(rows, from, min(from+mergeBatch, c.facts), c.facts)...)
		}
		if !slices.Equal(merged, rows) {
			t.Errorf("%d rows of %d facts: %d were merged", c.rows, c.facts, len(merged))
		}
	}
}

func TestTheMergeReplacesEveryColumn(t *testing.T) {
	t.Parallel()
	got := mergeFrom("new_stages", "peer.stages", keys["stages"], []string{"job_id", "id", "status"})
	want := "INSERT INTO peer.stages SELECT * FROM new_stages ON CONFLICT (job_id, id) DO UPDATE SET job_id = excluded.job_id, id = excluded.id, status = excluded.status"
	if got != want {
		t.Errorf("got %s", got)
	}
	for name := range keys {
		if !slices.Contains(migrations.Tables(), name) {
			t.Errorf("there is no table %s", name)
		}
	}
}
