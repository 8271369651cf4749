// The state of one partition number, as committed, and over it what the open
// transaction has decided.

package handlers

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash/maphash"
	"time"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
)

// partition holds the live jobs, the ended ones in short, and all profiles.
type partition struct {
	jobs     map[jobKey]*liveJob
	ended    map[jobKey]ended    // so that no old command starts a job again
	labelled map[jobKey][]string // commands that have changed the labels of ended jobs
	archived map[uint64]uint64   // as ended, by jobKey.hash: whose they were
	names    map[jobKey]string   // of the keys above that do not spell a UUID
	profiles map[string]aggregates.Profile

	loads   loads    // its share of the lanes' queues
	order   jobList  // live jobs by where recovery of them starts
	due     dueQueue // live jobs by their next deadline
	given   map[jobKey]map[deadlineKey]int64
	sweepAt time.Time // when ended jobs are next looked through for old ones

	end       int64       // offset after the last own record in jobs.events
	lastAt    time.Time   // of the newest fact: occurred_at never decreases in a partition
	indexed   int         // jobs that have an entry in jobs.index
	unindexed []unindexed // ended jobs that should have one and have not
	recovered time.Time

	open overlay
}

// jobKey is a job's id in 16 bytes: those of its UUID, or a hash where it is none.
type jobKey [16]byte

func keyOf[T ~string | ~[]byte](id T) jobKey {
	var k jobKey
	if parseUUID(id, &k) {
		return k
	}
	sum := sha256.Sum256([]byte(id))
	copy(k[:], sum[:])
	return k
}

// uuidDigits are where the bytes of a UUID begin in its spelling.
var uuidDigits = [16]int{0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34}

// parseUUID reads the one spelling that String writes.
func parseUUID[T ~string | ~[]byte](s T, k *jobKey) bool {
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return false
	}
	for i, at := range uuidDigits {
		high, low := hexValues[s[at]], hexValues[s[at+1]]
		if high|low > 15 {
			return false
		}
		k[i] = high<<4 | low
	}
	return true
}

// hexValues are the values of lower-case hex digits, 16 for anything else.
var hexValues = func() (values [256]byte) {
	for i := range values {
		values[i] = 16
	}
	for i, c := range []byte("0123456789abcdef") {
		values[c] = byte(i)
	}
	return values
}()

// String is the UUID.
func (k jobKey) String() string {
	b := make([]byte, 36)
	hex.Encode(b, k[:4])
	hex.Encode(b[9:], k[4:6])
	hex.Encode(b[14:], k[6:8])
	hex.Encode(b[19:], k[8:10])
	hex.Encode(b[24:], k[10:])
	b[8], b[13], b[18], b[23] = '-', '-', '-', '-'
	return string(b)
}

// hash is what is left of an archived job.
func (k jobKey) hash() uint64 {
	return binary.BigEndian.Uint64(k[:8]) ^ binary.BigEndian.Uint64(k[8:])*0x9e3779b97f4a7c15
}

func (p *partition) remember(k jobKey, id string) {
	var spelt jobKey
	if !parseUUID(id, &spelt) {
		p.names[k] = id
	}
}

func (p *partition) id(k jobKey) string {
	if id, ok := p.names[k]; ok {
		return id
	}
	return k.String()
}

// digestSeed hashes what is only compared for equality within this process.
var digestSeed = maphash.MakeSeed()

func shortDigest(s string) uint64 { return maphash.String(digestSeed, s) }

// liveJob is a job that has not ended, with what the handler keeps beside its state.
type liveJob struct {
	key        jobKey
	prev, next *liveJob        // in partition.order
	first      int64           // offset of the fact that recovery of it starts at
	job        *aggregates.Job // nil while packed; see Core.state and Core.store
	packed     []byte
	input      uint64  // shortDigest of the input that was decided last
	dueMS      int64   // not later than its next deadline
	slot       int     // in partition.due
	carried    int64   // the version for which the clock has asked to carry it forward
	heard      []heard // its running attempts

	touched, queued, gone bool // see hot
}

// jobList is a doubly linked list of live jobs by rising first.
type jobList struct{ head, tail *liveJob }

func (l *jobList) push(j *liveJob) {
	j.prev, j.next = l.tail, nil
	if l.tail == nil {
		l.head = j
	} else {
		l.tail.next = j
	}
	l.tail = j
}

func (l *jobList) remove(j *liveJob) {
	if j.prev == nil {
		l.head = j.next
	} else {
		j.prev.next = j.next
	}
	if j.next == nil {
		l.tail = j.prev
	} else {
		j.next.prev = j.prev
	}
	j.prev, j.next = nil, nil
}

// overlay is what was decided since the last commit.
type overlay struct {
	jobs     map[jobKey]*openJob
	touched  []*openJob // the same, in the order in which they were first decided on
	profiles map[string]aggregates.Profile
	archived []jobKey
	lastAt   time.Time
	facts    int // on jobs.events
	entries  int // new ones in jobs.index
	flushed  int // of partition.unindexed
	told     []told
}

// openJob is a job that the open transaction has changed.
type openJob struct {
	key   jobKey
	live  *liveJob // nil: it starts in this transaction
	job   aggregates.Job
	input uint64
	end   ended // of a job that has ended
	// start counts the facts of the transaction before the one at which recovery of
	// the job can start from now on; -1: it starts where it did.
	start int
}

func newPartition(at time.Time) *partition {
	return &partition{
		jobs: map[jobKey]*liveJob{}, ended: map[jobKey]ended{}, labelled: map[jobKey][]string{}, archived: map[uint64]uint64{}, names: map[jobKey]string{},
		profiles: map[string]aggregates.Profile{}, given: map[jobKey]map[deadlineKey]int64{}, loads: loads{}, recovered: at,
	}
}

// job is the state of a job as of the open transaction; zero for one that does not live.
func (c *Core) job(p *partition, k jobKey) (j aggregates.Job, input uint64) {
	if o := p.open.jobs[k]; o != nil {
		return o.job, o.input
	}
	if l := p.jobs[k]; l != nil {
		return *c.state(l), l.input
	}
	return j, 0
}

// change notes a job's state in the open transaction. facts are those that led to it.
func (p *partition) change(k jobKey, j aggregates.Job, input uint64, facts []events.Message) *openJob {
	o := p.open.jobs[k]
	if o == nil {
		o = &openJob{key: k, live: p.jobs[k], start: -1}
		if p.open.jobs == nil {
			p.open.jobs = map[jobKey]*openJob{}
		}
		p.open.jobs[k] = o
		p.open.touched = append(p.open.touched, o)
	}
	for i, f := range facts {
		if _, carried := f.Data.(events.JobCarriedForward); carried || f.Version == 1 {
			o.start = p.open.facts + i
		}
	}
	o.job, o.input = j, input
	p.open.facts += len(facts)
	p.open.lastAt = facts[len(facts)-1].OccurredAt
	return o
}

func (p *partition) profile(id string) aggregates.Profile {
	if f, ok := p.open.profiles[id]; ok {
		return f
	}
	return p.profiles[id]
}

// latest is when the newest fact occurred.
func (p *partition) latest() time.Time {
	if p.open.lastAt.After(p.lastAt) {
		return p.open.lastAt
	}
	return p.lastAt
}

// at is the time of a decision: the command's own, but not before an earlier fact.
func (p *partition) at(m events.Message) time.Time {
	if last := p.latest(); m.OccurredAt.Before(last) {
		return last
	}
	return m.OccurredAt
}
