// The value of a record of jobs.index, which is no event: how a job ended.

package events

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
)

// IndexEntry says how a job ended, and where its facts lie in its partition of
// jobs.events. FirstOffset is where a fold of the job may start, LastOffset that of its
// last fact. Where the fact was written in the entry's own transaction it may lie a
// little behind that offset, because the markers of transactions take offsets too. An
// archived job has a status and an owner and nothing else: a deleted entry would let an old command
// start the job again.
type IndexEntry struct {
	Status      string `json:"status"`
	Version     int64  `json:"version,omitempty"`
	LastEventID string `json:"last_event_id,omitempty"`
	BodyDigest  string `json:"body_digest,omitempty"`
	FirstOffset int64  `json:"first_offset,omitempty"`
	LastOffset  int64  `json:"last_offset,omitempty"`
	EndedMS     int64  `json:"ended_ms,omitempty"` // Unix milliseconds
	// Owner is of the job's tenant, as OwnerOf has it.
	Owner string `json:"owner,omitempty"`
	// Labelled are the ids of the commands that changed the labels: each is heeded once.
	Labelled []string `json:"labelled,omitempty"`
}

// OwnerOf names a tenant in the index: the first eight bytes of its SHA-256, in hex. Empty
// is DefaultTenant, whose all jobs were before entries had an owner.
func OwnerOf(tenant string) string {
	if tenant == DefaultTenant {
		return ""
	}
	sum := sha256.Sum256([]byte(tenant))
	return hex.EncodeToString(sum[:8])
}

// Encode gives the record's value.
func (e IndexEntry) Encode() ([]byte, error) { return json.Marshal(e) }

// DecodeIndexEntry reads a record's value. It returns ErrMalformed, wrapped, for one
// that is none.
func DecodeIndexEntry(value []byte) (IndexEntry, error) {
	if e, ok := scanIndexEntry(value); ok {
		return e, nil
	}
	var e IndexEntry
	if err := json.Unmarshal(value, &e); err != nil {
		return IndexEntry{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return e, nil
}

func scanIndexEntry(value []byte) (e IndexEntry, ok bool) {
	s := scanner{b: value}
	s.fields(member{"status", &e.Status}, member{"version", &e.Version}, member{"last_event_id", &e.LastEventID}, member{"body_digest", &e.BodyDigest},
		member{"first_offset", &e.FirstOffset}, member{"last_offset", &e.LastOffset}, member{"ended_ms", &e.EndedMS}, member{"owner", &e.Owner}, member{"labelled", &e.Labelled})
	return e, !s.bad && s.i == len(value)
}
