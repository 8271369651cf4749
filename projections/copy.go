// Many new rows at once: COPY in PostgreSQL's binary format, written without a detour
// (https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format").

package projections

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// copyLeast is from how many facts on COPY pays for its round trips.
	copyLeast = 100

	jsonbVersion = 1 // the first byte of a jsonb value
)

// epoch is PostgreSQL's, in microseconds of Unix.
var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()

func fieldSize(b []byte, n int) []byte {
	return binary.BigEndian.AppendUint32(b, uint32(n)) //nolint:gosec // values are far below 2 GiB
}

func fieldNull(b []byte) []byte { return append(b, 0xff, 0xff, 0xff, 0xff) }

func fieldNumber[N int32 | int64 | float64 | bool](b []byte, n N) []byte {
	switch v := any(n).(type) {
	case int32:
		return binary.BigEndian.AppendUint32(fieldSize(b, 4), uint32(v)) //nolint:gosec // the same bits
	case int64:
		return binary.BigEndian.AppendUint64(fieldSize(b, 8), uint64(v)) //nolint:gosec // the same bits
	case float64:
		return binary.BigEndian.AppendUint64(fieldSize(b, 8), math.Float64bits(v))
	case bool:
		if v {
			return append(fieldSize(b, 1), 1)
		}
	}
	return append(fieldSize(b, 1), 0)
}

// copyIn writes rows that are not in the table yet. It returns buf, grown, for the next time.
func (t table[T]) copyIn(ctx context.Context, tx pgx.Tx, schema string, rows []*T, buf []byte) ([]byte, error) {
	return t.copyEach(ctx, tx, schema, len(rows), func(i int) (*T, error) { return rows[i], nil }, buf)
}

// copyEach is copyIn of n rows, each of which is made when it is written.
func (t table[T]) copyEach(ctx context.Context, tx pgx.Tx, schema string, n int, row func(i int) (*T, error), buf []byte) ([]byte, error) {
	if n == 0 {
		return buf, nil
	}
	buf = append(buf[:0], "PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00"...) // signature, no flags, no extension
	names := make([]string, len(t.columns))
	for i, c := range t.columns {
		names[i] = c.name
	}
	for i := range n {
		r, err := row(i)
		if err != nil {
			return buf, err
		}
		buf = binary.BigEndian.AppendUint16(buf, uint16(len(t.columns))) //nolint:gosec // columns are few
		for _, c := range t.columns {
			if buf, err = c.binary(buf, r); err != nil {
				return buf, err
			}
		}
	}
	buf = append(buf, 0xff, 0xff) // the end
	_, err := tx.Conn().PgConn().CopyFrom(ctx, bytes.NewReader(buf),
		"COPY "+schema+"."+t.name+" ("+strings.Join(names, ", ")+") FROM STDIN (FORMAT binary)")
	if err != nil {
		return buf, fmt.Errorf("cannot copy rows into %s: %w", t.name, err)
	}
	return buf, nil
}

// copyNew writes the rows of jobs that PostgreSQL does not have yet, and returns the rest of the changes.
func (f *fold) copyNew(ctx context.Context, tx pgx.Tx, schema string, all changes) (rest changes, err error) {
	isNew := func(id string) bool { return !f.jobs[id].stored }
	newJobs, oldJobs := split(all.jobs, func(j *Job) bool { return isNew(j.ID) })
	newStages, oldStages := split(all.stages, func(s *Stage) bool { return isNew(s.JobID) })
	newFiles, oldFiles := split(all.artifacts, func(a *Artifact) bool { return !f.taken.artifacts && isNew(a.JobID) })
	if f.buf, err = jobs.copyIn(ctx, tx, schema, newJobs, f.buf); err != nil {
		return rest, err
	}
	if f.buf, err = stages.copyIn(ctx, tx, schema, newStages, f.buf); err != nil {
		return rest, err
	}
	if f.buf, err = artifacts.copyIn(ctx, tx, schema, newFiles, f.buf); err != nil {
		return rest, err
	}
	var e JobEvent // one after the other
	f.buf, err = jobEvents.copyEach(ctx, tx, schema, len(all.events), func(i int) (*JobEvent, error) {
		x := all.events[i]
		return &e, e.Apply(&x.message, x.at.Partition, x.offset)
	}, f.buf)
	return changes{jobs: oldJobs, stages: oldStages, artifacts: oldFiles, profiles: all.profiles}, err
}

func split[T any](rows []*T, first func(*T) bool) (yes, no []*T) {
	for _, r := range rows {
		if first(r) {
			yes = append(yes, r)
		} else {
			no = append(no, r)
		}
	}
	return yes, no
}
