// The envelope that every record on every topic shares, and the ids in it.

package events

import (
	"crypto/sha1" //nolint:gosec // RFC 9562 defines version 5 UUIDs by SHA-1; nothing here is a secret.
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"time"
)

// Aggregate types: the value of aggregate_type.
const (
	AggregateJob     = "job"
	AggregateProfile = "profile"
	AggregateWorker  = "worker"
	AggregateLane    = "lane"
	AggregateAPIKey  = "api_key"
)

// Message is one record on the log: a fact, a command, or an answer of a worker.
// Facts carry Version and PrevID, which chain them; other kinds leave both zero.
type Message struct {
	ID            string    // event_id, see EventID
	SchemaVersion int       // version of Data's shape for its type
	AggregateType string    // one of the Aggregate constants
	AggregateID   string    // the stream, also the record's key
	Version       int64     // aggregate_version: position in the stream, from 1, without holes
	PrevID        string    // event_id of Version-1, empty at the start of a chain
	OccurredAt    time.Time // when it was decided, UTC, nanoseconds; never decreases within a partition
	CommandID     string    // the command that asked for it
	CausationID   string    // the record that led to it
	CorrelationID string    // the whole story; the job's first command
	Tenant        string    // whom it belongs to
	Actor         string    // who did it: an API key's name, a worker id, "clock"
	Columns
	Data Payload
}

// Columns are the common, nullable columns of the envelope, so that readers
// filter and group without opening data. The zero value of each is null on the wire.
type Columns struct {
	JobID          string
	Stage          string // the node's id in the job's graph
	Task           string // the registered task the node runs
	Attempt        int    // from 1
	State          string // the job's or stage's state after this record
	Variant        string
	Lane           string
	Worker         string
	Model          string
	DurationMS     int64
	ErrorClass     string
	ArtifactURI    string
	ArtifactSHA256 string
}

// Type is the record's wire name, such as "job.submitted"; empty without data.
func (m Message) Type() string {
	if m.Data == nil {
		return ""
	}
	return m.Data.EventType()
}

// EventID derives a fact's id from its command: UUIDv7 layout, the time from at
// (milliseconds), the other bits from SHA-256(commandID, index), so that a
// decision made twice makes the same ids.
func EventID(at time.Time, commandID string, index int) string {
	h := sha256.Sum256([]byte(commandID + "/" + strconv.Itoa(index)))
	var b [16]byte
	copy(b[6:], h[:10])
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(at.UnixMilli())) //nolint:gosec // times before 1970 do not occur
	copy(b[:6], ms[2:])
	return formatUUID(b, 7)
}

// namespace roots every name-based id of this program.
var namespace = [16]byte{0x6d, 0x79, 0x73, 0x70, 0x69, 0x6e, 0x42, 0x6f, 0x94, 0x1d, 0x2e, 0x7a, 0x51, 0x60, 0xc3, 0x0b}

// NameID is the version 5 UUID (RFC 9562) of the parts, which are length-prefixed
// so that no two lists of parts share a name.
func NameID(parts ...string) string {
	buf := append(make([]byte, 0, 256), namespace[:]...)
	for _, p := range parts {
		buf = strconv.AppendInt(buf, int64(len(p)), 10)
		buf = append(buf, ':')
		buf = append(buf, p...)
	}
	sum := sha1.Sum(buf) //nolint:gosec // see the import
	return formatUUID([16]byte(sum[:16]), 5)
}

// JobID is the id of the job that this tenant, route and idempotency key name.
func JobID(tenant, route, key string) string { return NameID("job", tenant, route, key) }

// AttemptID names one try of one stage of one job; ComfyUI takes it as prompt id.
func AttemptID(job, stage string, attempt int) string {
	return NameID("attempt", job, stage, strconv.Itoa(attempt))
}

// ArtifactID names a file that an attempt made.
func ArtifactID(job, stage string, attempt int, name string) string {
	return NameID("artifact", job, stage, strconv.Itoa(attempt), name)
}

// ProfileIDOfJob is the id of the profile that a job makes.
func ProfileIDOfJob(job string) string { return NameID("profile", job) }

func formatUUID(b [16]byte, version byte) string {
	b[6] = b[6]&0x0f | version<<4
	b[8] = b[8]&0x3f | 0x80
	var s [36]byte
	hex.Encode(s[:8], b[:4])
	hex.Encode(s[9:13], b[4:6])
	hex.Encode(s[14:18], b[6:8])
	hex.Encode(s[19:23], b[8:10])
	hex.Encode(s[24:], b[10:])
	s[8], s[13], s[18], s[23] = '-', '-', '-', '-'
	return string(s[:])
}
