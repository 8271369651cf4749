// Tests of filling in bulk: what waits, what is written once, and what PostgreSQL refuses.

package projections

import (
	"fmt"
	"strings"
	"testing"
)

// TestARebuildWritesEveryJobOnce lets jobs run side by side over many batches of one transaction.
func TestARebuildWritesEveryJobOnce(t *testing.T) {
	t.Parallel()
	pool, l := database(t), newLog()
	n := tellInTurn(t, l, whole("job-0"), eventful("job-1"), whole("job-2"), whole("job-3"))
	rebuilt(t, projector(pool, l, 1), RebuildOptions{})
	wantProven(t, pool, l, n)
	pool.Reset() // connections that end tell what they have counted
	var rows, written, updated int64
	ok(t, pool.QueryRow(t.Context(), "SELECT (SELECT count(*) FROM gen_2.jobs) + (SELECT count(*) FROM gen_2.stages)").Scan(&rows))
	eventually(t, "PostgreSQL has counted the rows", func() bool {
		ok(t, pool.QueryRow(t.Context(), `SELECT coalesce(sum(n_tup_ins), 0)::bigint, coalesce(sum(n_tup_upd), 0)::bigint
			FROM pg_stat_user_tables WHERE schemaname = 'gen_2' AND relname IN ('jobs', 'stages')`).Scan(&written, &updated))
		return written >= rows
	})
	if written != rows || updated != 0 {
		t.Errorf("%d rows were written %d times and changed %d times", rows, written, updated)
	}
}

// TestAFileThatIsRegisteredAgainWhileItsJobWaits has the last word in the row.
func TestAFileThatIsRegisteredAgainWhileItsJobWaits(t *testing.T) {
	t.Parallel()
	pool, l := database(t), newLog()
	s := jobStory("job-0").submitted().planned().artifact("lipsync", "v.mp4")
	for range 3 * bulkFactor {
		s.carriedForward()
	}
	s.artifact("lipsync", "v.mp4")
	l.tell(t, s.messages...)
	rebuilt(t, projector(pool, l, 1), RebuildOptions{})
	wantProven(t, pool, l, len(s.messages))
}

// TestARebuildStopsAtWhatPostgreSQLRefuses has a fact without a tenant in the middle of
// a transaction: its partition is built up to it, and the others are whole.
func TestARebuildStopsAtWhatPostgreSQLRefuses(t *testing.T) {
	t.Parallel()
	pool, l := database(t), newLog()
	stories := make([]*story, 12)
	for i := range stories {
		stories[i] = whole(fmt.Sprintf("job-%d", i))
	}
	m := &stories[5].messages[10]
	m.Tenant = ""
	bad := fact{at: place(*m)}
	for i := range stories[0].messages {
		for _, s := range stories {
			if &s.messages[i] == m {
				bad.offset = int64(len(l.values[bad.at]))
			}
			l.tell(t, s.messages[i])
		}
	}
	_, err := rebuildAll(t.Context(), projector(pool, l, 2), RebuildOptions{})
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("PostgreSQL refuses the event at %s offset %d", bad.at, bad.offset)) {
		t.Errorf("the rebuild ended with %v", err)
	}
	reached, err := offsetsOf(t.Context(), pool, generation(t, pool))
	ok(t, err)
	n := 0
	for tp, values := range l.values {
		want := int64(len(values))
		if tp == bad.at {
			want = bad.offset
		}
		if reached[tp] < want-1 || reached[tp] > want { // a marker lies before the refused one
			t.Errorf("%s was read up to offset %d of %d", tp, reached[tp], want)
		}
		for _, v := range values[:want] {
			if v != nil {
				n++
			}
		}
	}
	wantProven(t, pool, l, n)
}
