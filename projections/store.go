// Between the fold and PostgreSQL: loading what a batch builds on, writing what it changed.

package projections

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/myspinbot/myspinbot/events"
)

// queueLoad adds the statements that read the rows which the facts build on, as they
// stand in schema, unless the fold holds them already.
func (f *fold) queueLoad(b *pgx.Batch, schema string, facts []fact) {
	jobIDs, profileIDs := subjects(facts)
	jobIDs = slices.DeleteFunc(jobIDs, func(id string) bool { return f.jobs[id] != nil })
	profileIDs = slices.DeleteFunc(profileIDs, func(id string) bool { return f.profiles[id] != nil })
	if len(jobIDs) > 0 {
		b.Queue(jobs.small().query(schema, "WHERE id = ANY($1)"), jobIDs).Query(func(rows pgx.Rows) error {
			found, err := jobs.small().collect(rows, nil)
			for _, j := range found {
				f.jobs[j.ID] = &foldedJob{row: *j, stored: true}
			}
			return err
		})
		b.Queue(stages.query(schema, "WHERE job_id = ANY($1) ORDER BY job_id, position"), jobIDs).Query(func(rows pgx.Rows) error {
			found, err := stages.collect(rows, nil)
			for _, s := range found {
				if j := f.jobs[s.JobID]; j != nil {
					j.stages = append(j.stages, s)
				}
			}
			return err
		})
	}
	if len(profileIDs) > 0 {
		b.Queue(profiles.query(schema, "WHERE id = ANY($1)"), profileIDs).Query(func(rows pgx.Rows) error {
			found, err := profiles.collect(rows, nil)
			for _, p := range found {
				f.profiles[p.ID] = &foldedProfile{row: *p}
			}
			return err
		})
	}
}

// subjects are the aggregates that facts are about, each once.
func subjects(facts []fact) (jobIDs, profileIDs []string) {
	seenJobs, seenProfiles := make(map[string]bool), make(map[string]bool)
	for i := range facts {
		id, seen, list := facts[i].message.AggregateID, seenJobs, &jobIDs
		if facts[i].at.Topic == events.TopicProfileEvents {
			seen, list = seenProfiles, &profileIDs
		}
		if !seen[id] {
			seen[id] = true
			*list = append(*list, id)
		}
	}
	return jobIDs, profileIDs
}

// queue adds the statements that write the changed rows to schema.
func (c changes) queue(b *pgx.Batch, schema string) error {
	if err := jobs.put(b, schema, c.jobs); err != nil {
		return err
	}
	if err := stages.put(b, schema, c.stages); err != nil {
		return err
	}
	if err := artifacts.put(b, schema, c.artifacts); err != nil {
		return err
	}
	if err := profiles.put(b, schema, c.profiles); err != nil {
		return err
	}
	told, err := auditTrail(c.events)
	if err != nil {
		return err
	}
	return jobEvents.put(b, schema, told)
}

// write folds the facts over what queueLoad has read and sends what changed, followed by more.
func (f *fold) write(ctx context.Context, tx pgx.Tx, schema string, facts []fact, more func(*pgx.Batch)) error {
	f.applyAll(facts)
	return f.put(ctx, tx, schema, f.copies || len(facts) >= copyLeast, more)
}

// put sends what changed, new rows by COPY or not, followed by more.
func (f *fold) put(ctx context.Context, tx pgx.Tx, schema string, copies bool, more func(*pgx.Batch)) error {
	c := f.changes()
	if copies {
		var err error
		if c, err = f.copyNew(ctx, tx, schema, c); err != nil {
			return err
		}
	}
	b := &pgx.Batch{}
	if err := c.queue(b, schema); err != nil {
		return err
	}
	more(b)
	if err := tx.SendBatch(ctx, b).Close(); err != nil {
		return fmt.Errorf("cannot write a batch: %w", err)
	}
	return nil
}
