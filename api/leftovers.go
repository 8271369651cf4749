// Leftovers: what a request put into the store whose command never reached the log,
// because the process died or the log was away: copies of uploads, and files of uploads
// without a record. They are deleted where it is proved that nothing can name them:
//
//  1. Only what was begun more than leftoverAge ago is looked at. By then its command is on
//     the log, or never will be: a request has minutes, and one that is repeated under its
//     Idempotency-Key after repeatAge is refused, because its content key is there.
//  2. The key object stays. It is 100 bytes that open nothing, and what it does is that.
//  3. An id is nobody's when it is in none of these: the tables; the facts behind the
//     tables; the commands since the time at which it was begun. Whatever cannot be read
//     ends the sweep.
//  4. Commands are kept for 30 days. What was begun before leftoverEnd stays, for it cannot
//     be decided.

package api

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/internal/objects"
	"github.com/myspinbot/myspinbot/projections"
)

const (
	repeatAge      = 24 * time.Hour
	leftoverAge    = 48 * time.Hour
	leftoverEnd    = 20 * 24 * time.Hour
	leftoversEvery = 6 * time.Hour
	leftoversBatch = 500
	// clocks is by how much the store's clock may be ahead of a writer's.
	clocks = time.Hour
)

// leftover may be one.
type leftover struct {
	folder objects.Folder
	begun  time.Time
}

func (l leftover) id() string { return path.Base(l.folder.Subject) }

// requestKey makes the content key of a job or profile that is asked for. It refuses a request
// that was given up so long ago that its files may be deleted at any time.
func (s *Server) requestKey(ctx context.Context, tenant, profile, id string) (keyID string, key []byte, err error) {
	keyID, key, err = s.keyring.CreateWithin(ctx, repeatAge, tenant, profile, id)
	if errors.Is(err, objects.ErrStale) {
		return "", nil, &refusal{code: codeKeyConflict, cause: err,
			detail: "this Idempotency-Key was used more than a day ago, and what was asked for then did not come to its end, or cannot be seen yet; look for " + id + ", and if it is not there, use a new key"}
	}
	return keyID, key, err
}

// contentKey makes the job's content key. Where the tables could not say whether the job is
// there, a key of long ago may well be that of a job.
func (sub *submitting) contentKey(ctx context.Context) (keyID string, key []byte, err error) {
	keyID, key, err = sub.server.requestKey(ctx, sub.who.tenant, sub.profile, sub.jobID)
	if sub.unseen != nil && errors.Is(err, objects.ErrStale) {
		err = sub.unseen
	}
	return keyID, key, err
}

// sweepLeftovers deletes the leftovers of all tenants.
func (s *Server) sweepLeftovers(ctx context.Context, now time.Time) error {
	tenants, err := s.cfg.Objects.Tenants(ctx)
	if err != nil {
		return err
	}
	var batch []leftover
	flush := func() error {
		err := s.sweepBatch(ctx, batch)
		batch = batch[:0]
		return err
	}
	for _, tenant := range tenants {
		for l, err := range s.suspects(ctx, tenant, now) {
			if err != nil {
				return err
			}
			if batch = append(batch, l); len(batch) == leftoversBatch {
				if err := flush(); err != nil {
					return err
				}
			}
		}
	}
	return flush()
}

// suspects gives what is of the age to be a leftover: folders that a content key names, and
// those of uploads without a record.
func (s *Server) suspects(ctx context.Context, tenant string, now time.Time) iter.Seq2[leftover, error] {
	ripe := func(at time.Time) bool { return now.Sub(at) > leftoverAge && now.Sub(at) < leftoverEnd }
	return func(yield func(leftover, error) bool) {
		for key, err := range s.keyring.List(ctx, tenant) {
			if err != nil {
				yield(leftover{}, err)
				return
			}
			if ripe(key.Made) && !yield(leftover{objects.Folder{Subject: key.Subject}, key.Made}, nil) {
				return
			}
		}
		for f, err := range s.cfg.Objects.Folders(ctx, tenant) {
			if err != nil {
				yield(leftover{}, err)
				return
			}
			begun, newest, record := now, time.Time{}, false
			for _, o := range f.Objects {
				record = record || strings.HasSuffix(o.URI, ".json")
				if o.Modified.Before(begun) {
					begun = o.Modified
				}
				if o.Modified.After(newest) {
					newest = o.Modified
				}
			}
			if !record && ripe(begun) && ripe(newest) && !yield(leftover{f, begun}, nil) {
				return
			}
		}
	}
}

// sweepBatch deletes those of the suspects that are leftovers.
func (s *Server) sweepBatch(ctx context.Context, batch []leftover) error {
	if len(batch) == 0 {
		return nil
	}
	ids := make([]string, len(batch))
	for i, l := range batch {
		ids[i] = l.id()
	}
	var known map[string]bool
	tables := eventlog.Offsets{}
	err := s.read(ctx, func(ctx context.Context, q *projections.Queries) (err error) {
		for _, topic := range []string{events.TopicJobEvents, events.TopicProfileEvents} {
			at, err := q.Checkpoints(ctx, topic)
			if err != nil {
				return err
			}
			for tp, next := range at {
				tables[tp] = next
			}
		}
		known, err = q.Known(ctx, ids)
		return err
	})
	if err != nil {
		return err
	}
	var suspects []leftover
	for _, l := range batch {
		if known[l.id()] {
			continue
		}
		if l.folder, err = s.cfg.Objects.Folder(ctx, l.folder.Subject); err != nil {
			return err
		}
		if len(l.folder.Objects) > 0 {
			suspects = append(suspects, l)
		}
	}
	if len(suspects) == 0 {
		return nil
	}
	if known, err = s.onLog(ctx, suspects, tables); err != nil {
		return err
	}
	return s.dropLeftovers(ctx, slices.DeleteFunc(suspects, func(l leftover) bool { return known[l.id()] }))
}

// onLog are the ids among the suspects of which there is a command since it was begun, or a
// fact behind the tables.
func (s *Server) onLog(ctx context.Context, suspects []leftover, tables eventlog.Offsets) (map[string]bool, error) {
	first, named := suspects[0].begun, map[string]bool{}
	for _, l := range suspects {
		if named[l.id()] = true; l.begun.Before(first) {
			first = l.begun
		}
	}
	from := eventlog.Offsets{}
	look := func(topic string, begin eventlog.Offsets) {
		for id := range named {
			at := eventlog.TopicPartition{Topic: topic, Partition: eventlog.PartitionFor(id, s.cfg.Log.Partitions(topic))}
			from[at] = begin[at]
		}
	}
	look(events.TopicJobEvents, tables)
	look(events.TopicProfileEvents, tables)
	for _, topic := range []string{events.TopicJobCommands, events.TopicProfileCommands} {
		since, err := s.cfg.Log.Since(ctx, topic, first.Add(-clocks))
		if err != nil {
			return nil, err
		}
		look(topic, since)
	}
	seen := map[string]bool{}
	_, err := s.cfg.Log.ReadBare(ctx, from, func(records []eventlog.Record) error {
		for _, r := range records {
			if named[r.Key] {
				seen[r.Key] = true
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("cannot look for what was asked for: %w", err)
	}
	return seen, nil
}

func (s *Server) dropLeftovers(ctx context.Context, leftovers []leftover) error {
	for _, l := range leftovers {
		n, err := s.cfg.Objects.EraseFolder(ctx, l.folder, "")
		s.metrics.swept.WithLabelValues("leftover").Add(float64(n))
		if err != nil {
			return err
		}
		s.log.Info("files of a request that never reached the log were deleted", "id", l.id(), "begun", l.begun, "objects", n)
	}
	return nil
}
