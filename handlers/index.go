// jobs.index: how every ended job ended. It is a cache of jobs.events, compacted by
// job id, so that no old command starts a job again although recovery does not read
// that job's facts.

package handlers

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// statusArchived takes the place of a status that is forgotten.
const statusArchived = "archived"

// flushEntries is how many missing entries a decision writes beside its own records.
const flushEntries = 500

// ended is what memory keeps of an entry. It holds no pointer: there are very many.
type ended struct {
	endedMS int64
	first   int64    // offset of the first fact
	digest  [32]byte // of the body; see bodyDigest
	last    jobKey   // id of the last fact
	owner   uint64   // as events.OwnerOf spells it
	version int32
	status  endStatus
	clocked bool // the clock has asked to archive it
	bare    bool // there is no digest of the body
	partial bool // the digest or the id is spelled in no way that could be written back
}

// endStatus is a terminal state in a byte.
type endStatus uint8

var endStatuses = [...]string{"", aggregates.JobSucceeded, aggregates.JobFailed, aggregates.JobCancelled, aggregates.JobRejected}

func (s endStatus) String() string { return endStatuses[s] }

func endStatusOf(state string) endStatus {
	for i, s := range endStatuses {
		if s == state {
			return endStatus(i) //nolint:gosec // an index into five
		}
	}
	return 0
}

// short is what memory keeps of an entry.
func short(e events.IndexEntry) ended {
	out := ended{endedMS: e.EndedMS, first: e.FirstOffset, version: int32(e.Version), status: endStatusOf(e.Status), bare: e.BodyDigest == "", owner: ownerOf(e.Owner)} //nolint:gosec // versions are small
	spelt := parseUUID(e.LastEventID, &out.last)
	var whole bool
	out.digest, whole = bodyDigest(e.BodyDigest)
	out.partial = !spelt || !whole && !out.bare
	return out
}

// bodyDigest is a request's digest in bytes: those that it spells, or a hash where it spells none.
func bodyDigest(text string) (digest [32]byte, whole bool) {
	if b, err := hex.DecodeString(text); err == nil && len(b) == len(digest) {
		return [32]byte(b), true
	}
	return sha256.Sum256([]byte(text)), false
}

// entry is what short was made of, but for the last offset.
func (e ended) entry() events.IndexEntry {
	out := events.IndexEntry{Status: e.status.String(), Version: int64(e.version), LastEventID: e.last.String(), FirstOffset: e.first, EndedMS: e.endedMS, Owner: spellOwner(e.owner)}
	if !e.bare {
		out.BodyDigest = hex.EncodeToString(e.digest[:])
	}
	return out
}

// ownerOf reads what events.OwnerOf has spelt; 0 is events.DefaultTenant.
func ownerOf(spelt string) uint64 {
	b, err := hex.DecodeString(spelt)
	if err != nil || len(b) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}

func spellOwner(owner uint64) string {
	if owner == 0 {
		return ""
	}
	return hex.EncodeToString(binary.BigEndian.AppendUint64(nil, owner))
}

// unindexed is an entry that is missing on the log.
type unindexed struct {
	key   jobKey
	entry events.IndexEntry
	again bool // the job has an entry, which is of an earlier version
}

// entryOf is the entry of a job that has ended.
func entryOf(j aggregates.Job, last events.Message, first, lastOffset int64) events.IndexEntry {
	return events.IndexEntry{Status: j.State, Version: j.Chain.Version, LastEventID: j.Chain.LastID, BodyDigest: j.Request.BodyDigest,
		FirstOffset: first, LastOffset: lastOffset, EndedMS: last.OccurredAt.UnixMilli(), Labelled: j.Labelled, Owner: events.OwnerOf(j.Tenant)}
}

func indexRecord(id string, e events.IndexEntry) (eventlog.Record, error) {
	value, err := e.Encode()
	return eventlog.Record{Topic: events.TopicJobIndex, Key: id, Value: value}, err
}

// foldIndex takes records of jobs.index.
func (p *partition) foldIndex(records []eventlog.Record) error {
	for _, r := range records {
		k := keyOf(r.Key)
		if len(r.Value) == 0 { // nobody writes one, but a topic may hold anything
			delete(p.ended, k)
			delete(p.labelled, k)
			continue
		}
		e, err := events.DecodeIndexEntry(r.Value)
		if err != nil {
			return fmt.Errorf("cannot read the index entry at %s offset %d: %w", r.At(), r.Offset, err)
		}
		if e.Status == statusArchived {
			p.archive(k, ownerOf(e.Owner))
			continue
		}
		p.remember(k, r.Key)
		p.close(k, short(e), e.Labelled)
	}
	p.indexed = len(p.ended) + len(p.archived)
	return nil
}

// close notes how a job ended, and the commands that have changed its labels.
func (p *partition) close(k jobKey, e ended, labelled []string) {
	p.ended[k] = e
	if len(labelled) > 0 {
		p.labelled[k] = labelled
	}
}

func (p *partition) archive(k jobKey, owner uint64) {
	delete(p.ended, k)
	delete(p.labelled, k)
	delete(p.names, k)
	p.archived[k.hash()] = owner
}

// over says whether a job is known to have ended.
func (p *partition) over(k jobKey) bool {
	if _, known := p.ended[k]; known {
		return true
	}
	_, known := p.archived[k.hash()]
	return known
}

// foldEnd notes a job that ended among the facts that recovery has read, and is over
// since then.
func (p *partition) foldEnd(k jobKey, e events.IndexEntry) {
	p.close(k, short(e), e.Labelled)
	p.unindexed = append(p.unindexed, unindexed{key: k, entry: e})
}

// past is what is known of a job that has ended; ok is false for any other. What the open
// transaction has decided about it goes before what was committed.
func (p *partition) past(k jobKey) (e ended, archived, ok bool) {
	if o := p.open.jobs[k]; o != nil {
		return o.end, false, o.job.Terminal()
	}
	if e, ok = p.ended[k]; ok {
		return e, false, true
	}
	e.owner, archived = p.archived[k.hash()]
	return e, archived, archived
}

// flushIndex gives the next entries that are missing on the log.
func (p *partition) flushIndex() ([]eventlog.Record, error) {
	var out []eventlog.Record
	for _, u := range p.unindexed[p.open.flushed:] {
		if len(out) == flushEntries {
			break
		}
		r, err := indexRecord(p.id(u.key), u.entry)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
		if !u.again {
			p.open.entries++
		}
	}
	p.open.flushed += len(out)
	return out, nil
}

// decideArchive forgets how a job ended.
func (c *Core) decideArchive(p *partition, m events.Message, k jobKey) ([]eventlog.Record, error) {
	e, ok := p.ended[k]
	if !ok || p.open.isArchived(k) {
		c.metrics.ignored.Inc()
		return nil, nil
	}
	r, err := indexRecord(m.AggregateID, events.IndexEntry{Status: statusArchived, Owner: spellOwner(e.owner)})
	if err != nil {
		return nil, err
	}
	p.open.archived = append(p.open.archived, k)
	return []eventlog.Record{r}, nil
}

func (o *overlay) isArchived(k jobKey) bool {
	for _, a := range o.archived {
		if a == k {
			return true
		}
	}
	return false
}
