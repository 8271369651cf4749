// A part of the tables to prove: one job, or a sample of all aggregates.

package projections

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// Scope is a part of the tables. The zero value is everything.
type Scope struct {
	Job   string  // the rows of one job
	Share float64 // else the rows of this share of all jobs and profiles, above 0 and below 1
	Count int64   // else those of about so many
	seed  string  // of the sample; empty: another one every time
}

// ErrBadSample says that a text is no sample.
var ErrBadSample = errors.New("not a sample: give a share such as 5%, or a number of jobs and profiles such as 200")

// ParseSample reads "5%" or "200". It returns ErrBadSample otherwise.
func ParseSample(text string) (Scope, error) {
	if share, percent := strings.CutSuffix(text, "%"); percent {
		if f, err := strconv.ParseFloat(share, 64); err == nil && f > 0 && f <= 100 {
			return Scope{Share: f / 100}, nil
		}
	} else if n, err := strconv.ParseInt(text, 10, 64); err == nil && n > 0 {
		return Scope{Count: n}, nil
	}
	return Scope{}, fmt.Errorf("%q is %w", text, ErrBadSample)
}

// chooser says, of keys on the log and of rows alike, whether they belong to a scope.
type chooser struct {
	takes func(key string) bool    // nil: all
	only  *eventlog.TopicPartition // that holds them; nil: any
	sql   string                   // condition on the aggregate's id, %s; empty: all
	args  []any
}

// chooser makes the scope's, which for a number needs to know how many there are.
func (s Scope) chooser(ctx context.Context, tx pgx.Tx, log source) (chooser, error) {
	if s.Job != "" {
		tp, _, err := home(ctx, log, s.Job)
		return chooser{takes: func(key string) bool { return key == s.Job }, only: &tp, sql: "%s = $1", args: []any{s.Job}}, err
	}
	if s.Count > 0 {
		var all int64
		err := tx.QueryRow(ctx, "SELECT (SELECT count(*) FROM "+views+".jobs) + (SELECT count(*) FROM "+views+".profiles)").Scan(&all)
		if err != nil {
			return chooser{}, fmt.Errorf("cannot count jobs and profiles: %w", err)
		}
		s.Share = float64(s.Count) / float64(max(all, 1))
	}
	if s.Share <= 0 || s.Share >= 1 {
		return chooser{}, nil
	}
	if s.seed == "" {
		s.seed = rand.Text()
	}
	below := int64(math.Ceil(s.Share * (1 << 32)))
	return chooser{
		takes: func(key string) bool {
			sum := sha256.Sum256([]byte(s.seed + key))
			return int64(binary.BigEndian.Uint32(sum[:])) < below
		},
		sql:  "('x' || encode(substr(sha256(convert_to($1 || %s, 'UTF8')), 1, 4), 'hex'))::bit(32)::bigint < $2",
		args: []any{s.seed, below},
	}, nil
}

// selection is the part of the log that the rows come from.
func (c chooser) selection(end eventlog.Offsets) selection {
	if c.only != nil {
		end = eventlog.Offsets{*c.only: end[*c.only]}
	}
	return selection{end: end, takes: c.takes}
}

// where is the condition on the rows of a table.
func (c chooser) where(s shape) string {
	if c.sql == "" {
		return ""
	}
	id, ofJobs := jobTables()[s.name]
	if !ofJobs {
		id = "id"
	}
	if !ofJobs && c.only != nil { // not of a job; the parameters still have to be used
		return " WHERE false AND " + fmt.Sprintf(c.sql, id)
	}
	return " WHERE " + fmt.Sprintf(c.sql, id)
}

// jobTables are the tables that hold rows of jobs, with the column that names the job.
func jobTables() map[string]string {
	return map[string]string{jobs.name: "id", stages.name: "job_id", artifacts.name: "job_id", jobEvents.name: "job_id"}
}
